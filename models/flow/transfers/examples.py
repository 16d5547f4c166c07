"""A small problem of bulk transfers: prices by the hour, a relay that keeps data, and one copy that serves two sites."""

from __future__ import annotations

from models.flow.schema import Direction, Horizon, Link, Node, Problem, Transfer, Use

NIGHT, DAY = 0.002, 0.008  # USD for one Gbit


def transfers() -> Problem:
    """Checkpoints from Dallas to two sites in Europe, a data set to Tokyo, and logs worth something if they get through; twelve hours."""
    east = (DAY,) * 4 + (NIGHT,) * 8  # night begins in hour 4
    west = (NIGHT,) * 3 + (DAY,) * 9  # and ends in hour 3
    links = (
        ("dallas-ashburn", "dallas", "ashburn", 20.0, east),
        ("ashburn-london", "ashburn", "london", 10.0, east),
        ("london-paris", "london", "paris", 20.0, (NIGHT,)),
        ("dallas-tokyo", "dallas", "tokyo", 10.0, west),
        ("ashburn-paris", "ashburn", "paris", 5.0, (DAY,)),
    )
    return Problem(
        use=Use.transfer,
        horizon=Horizon(steps=12, step_s=3600.0),
        nodes=(Node(id="dallas"), Node(id="ashburn", storage_gbit=40_000.0), Node(id="london"), Node(id="paris"), Node(id="tokyo")),
        links=tuple(
            Link(id=name, source=source, target=target, capacity_gbps=capacity, direction=Direction.each, usd_per_gbit=usd)
            for name, source, target, capacity, usd in links
        ),
        transfers=(
            Transfer(id="checkpoints", source="dallas", targets=("london", "paris"), size_gbit=200_000.0),
            Transfer(id="data-set", source="dallas", targets=("tokyo",), size_gbit=120_000.0, deadline=8),
            Transfer(id="logs", source="tokyo", targets=("ashburn",), size_gbit=60_000.0, release=2, deadline=6, value=10.0),
        ),
    )

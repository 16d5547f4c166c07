"""A network to be built: examples of use design."""

from __future__ import annotations

from models.flow.schema import Demand, Design, Direction, FailureMode, Failures, Link, Module, Node, Problem, Use


def design() -> Problem:
    """Five sites whose traffic grows by half: which links get which modules, the fibre between two of them yet to be lit."""
    return Problem(use=Use.design, nodes=_nodes(), links=_links(), demands=_demands(), design=Design(growth=1.5))


def design_survives() -> Problem:
    """The same, but everything must still be carried when any one link fails."""
    survive = Failures(mode=FailureMode.protect, any_links=1)
    return Problem(use=Use.design, nodes=_nodes(), links=_links(), demands=_demands(), design=Design(growth=1.5, survive=survive))


def _nodes() -> tuple[Node, ...]:
    return tuple(Node(id=name) for name in ("ber", "ham", "kol", "mun", "sta"))


def _links() -> tuple[Link, ...]:
    ends = (
        ("ber", "ham", 100.0, 0.0, 1.0),
        ("ber", "mun", 100.0, 0.0, 2.0),
        ("ham", "kol", 100.0, 0.0, 1.5),
        ("kol", "sta", 100.0, 0.0, 1.0),
        ("mun", "sta", 100.0, 0.0, 1.0),
        ("kol", "mun", 0.0, 900.0, 1.5),
    )
    modules = (Module(id="100G", capacity_gbps=100.0, cost=700.0), Module(id="400G", capacity_gbps=400.0, cost=1900.0))
    return tuple(
        Link(
            id=f"{source}-{target}",
            source=source,
            target=target,
            capacity_gbps=capacity,
            cost=cost,
            direction=Direction.each,
            modules=modules,
            setup_cost=setup,
        )
        for source, target, capacity, setup, cost in ends
    )


def _demands() -> tuple[Demand, ...]:
    streams = (("ber", "sta", 60.0), ("ham", "mun", 50.0), ("kol", "ber", 40.0), ("sta", "ham", 45.0), ("mun", "kol", 70.0))
    return tuple(Demand(id=f"{source}-{target}", source=source, target=target, size_gbps=size) for source, target, size in streams)

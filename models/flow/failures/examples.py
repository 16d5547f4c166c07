"""Small examples of failures: traffic that survives them, least loss in the worst of them, and a sweep over all of them."""

from __future__ import annotations

from models.flow.schema import Demand, Direction, FailureMode, Failures, Link, Node, Objective, Problem, Scenario

_ENDS = (
    # id, capacity in Gbit/s, latency in ms, and the duct it lies in
    ("dub-lon", 40.0, 5.0, "irish-sea"),
    ("dub-par", 20.0, 9.0, "irish-sea"),
    ("lon-par", 60.0, 4.0, "channel"),
    ("lon-bru", 40.0, 4.0, "channel"),
    ("bru-par", 60.0, 3.0, ""),
    ("bru-fra", 60.0, 4.0, ""),
    ("fra-par", 40.0, 6.0, ""),
    ("dub-fra", 20.0, 16.0, ""),
)


def protected() -> Problem:
    """What can be granted so that it survives the failure of any link and of any duct; serving goes before copying."""
    failures = Failures(mode=FailureMode.protect, any_links=1, any_risk_groups=1)
    return _five_sites(Objective.max_throughput, failures)


def risky() -> Problem:
    """Reservations that lose least in the worst 5% of cases, for links that fail with known probabilities."""
    chances = {
        "irish": (0.01, ("dub-lon", "dub-par")),
        "tunnel": (0.02, ("lon-par", "lon-bru")),
        "fra": (0.04, ("fra-par",)),
        "bru": (0.03, ("bru-par",)),
    }
    scenarios = tuple(Scenario(id=name, links=links, probability=chance) for name, (chance, links) in chances.items())
    return _five_sites(Objective.max_throughput, Failures(mode=FailureMode.cvar, beta=0.95, scenarios=scenarios))


def swept() -> Problem:
    """The routing with the least busy links, and what the failure of each link, and of each duct, does to it."""
    return _five_sites(Objective.min_max_utilisation, Failures(mode=FailureMode.sweep, any_links=1, any_risk_groups=1))


def _five_sites(objective: Objective, failures: Failures) -> Problem:
    links = tuple(
        Link(
            id=name,
            source=name[:3],
            target=name[4:],
            capacity_gbps=capacity,
            latency_ms=latency,
            cost=latency,
            direction=Direction.each,
            risk_groups=(duct,) if duct else (),
        )
        for name, capacity, latency, duct in _ENDS
    )
    demands = (
        Demand(id="serve-dub-fra", source="dub", target="fra", size_gbps=15.0, priority=1),
        Demand(id="serve-lon-fra", source="lon", target="fra", size_gbps=20.0, priority=1),
        Demand(id="copy-par-dub", source="par", target="dub", size_gbps=30.0),
        Demand(id="copy-bru-lon", source="bru", target="lon", size_gbps=25.0),
        Demand(id="copy-fra-par", source="fra", target="par", size_gbps=30.0),
    )
    return Problem(
        objective=objective,
        nodes=tuple(Node(id=name) for name in ("bru", "dub", "fra", "lon", "par")),
        links=links,
        demands=demands,
        failures=failures,
    )

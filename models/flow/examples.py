"""Small networks to start from: they are printed by ``quartermaster example flow NAME``."""

from __future__ import annotations

from models.flow.design.examples import design, design_survives
from models.flow.failures.examples import protected, risky, swept
from models.flow.schema import Demand, Direction, Link, Node, Objective, Problem
from models.flow.transfers.examples import transfers


def examples() -> dict[str, Problem]:
    """Every example by name; the first is the usual one."""
    return {
        "wan": wan(),
        "classes": classes(),
        "fair": fair(),
        "supplies": supplies(),
        "protected": protected(),
        "risky": risky(),
        "swept": swept(),
        "design": design(),
        "design_survives": design_survives(),
        "transfers": transfers(),
    }


def wan() -> Problem:
    """Six sites: what to carry when not everything fits, by the worth of each stream, with a latency limit on one."""
    return Problem(objective=Objective.max_throughput, nodes=_sites(), links=_wan_links(), demands=_wan_demands())


def classes() -> Problem:
    """The same, but serving users comes before copying data, whatever that is worth."""
    demands = tuple(one.model_copy(update={"priority": int(one.id.startswith("serve"))}) for one in _wan_demands())
    return Problem(objective=Objective.max_throughput, nodes=_sites(), links=_wan_links(), demands=demands)


def fair() -> Problem:
    """The same traffic without limits: everybody gets the same for each unit of weight, as long as a link allows."""
    demands = tuple(one.model_copy(update={"latency_limit_ms": None}) for one in _wan_demands())
    return Problem(objective=Objective.max_min_fair, nodes=_sites(), links=_wan_links(), demands=demands)


def supplies() -> Problem:
    """One good from two sites to three others at least cost: a transshipment, with a lower bound on one link."""
    nodes = (
        Node(id="lagos", supply_gbps=40.0),
        Node(id="nairobi", supply_gbps=30.0),
        Node(id="cairo"),
        Node(id="milan", supply_gbps=-25.0),
        Node(id="paris", supply_gbps=-20.0),
        Node(id="oslo", supply_gbps=-25.0),
    )
    ends = (
        ("lagos", "cairo", 30.0, 4.0, 0.0),
        ("lagos", "paris", 25.0, 6.5, 0.0),
        ("nairobi", "cairo", 35.0, 2.5, 5.0),
        ("cairo", "milan", 45.0, 3.0, 0.0),
        ("milan", "paris", 20.0, 1.0, 0.0),
        ("milan", "oslo", 30.0, 2.0, 0.0),
        ("paris", "oslo", 15.0, 1.5, 0.0),
    )
    links = tuple(
        Link(id=f"{source}-{target}", source=source, target=target, capacity_gbps=capacity, cost=cost, lower_gbps=lower)
        for source, target, capacity, cost, lower in ends
    )
    return Problem(objective=Objective.min_cost, nodes=nodes, links=links)


def _sites() -> tuple[Node, ...]:
    return tuple(Node(id=name) for name in ("ams", "fra", "lon", "mad", "mil", "par"))


def _wan_links() -> tuple[Link, ...]:
    ends = (
        ("ams-fra", 100.0, 4.0, 1.0),
        ("ams-lon", 100.0, 5.0, 2.0),
        ("fra-mil", 60.0, 6.0, 2.0),
        ("fra-par", 80.0, 5.0, 1.0),
        ("lon-par", 60.0, 4.0, 2.0),
        ("mad-mil", 40.0, 12.0, 3.0),
        ("mad-par", 60.0, 10.0, 2.0),
        ("mil-par", 40.0, 7.0, 2.0),
    )
    return tuple(
        Link(
            id=name,
            source=name[:3],
            target=name[4:],
            capacity_gbps=capacity,
            latency_ms=latency,
            cost=cost,
            direction=Direction.each,
        )
        for name, capacity, latency, cost in ends
    )


def _wan_demands() -> tuple[Demand, ...]:
    return (
        Demand(id="serve-lon-mad", source="lon", target="mad", size_gbps=50.0, value=3.0, latency_limit_ms=15.0),
        Demand(id="serve-ams-mil", source="ams", target="mil", size_gbps=40.0, value=2.0),
        Demand(id="copy-ams-mad", source="ams", target="mad", size_gbps=60.0, weight=2.0),
        Demand(id="copy-fra-mad", source="fra", target="mad", size_gbps=30.0),
        Demand(id="copy-fra-lon", source="fra", target="lon", size_gbps=90.0, value=0.5),
        Demand(id="copy-mil-lon", source="mil", target="lon", size_gbps=50.0),
    )

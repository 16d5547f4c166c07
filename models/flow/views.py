"""Other ways to look at a plan: paths of each demand, loads of the links, and split ratios at the nodes. Plain JSON documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.flow.network.arrays import network_of, traffic_of
from models.flow.network.tally import tally_of
from models.flow.paths.route_columns import listed_routes
from models.flow.schema import Use

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.flow.network.arrays import Network
    from models.flow.schema import Plan, Problem, Route
    from models.program import Floats

    Document = dict[str, Any]

LEAST_SHARE = 1e-9  # of the traffic of a node to a target: less is what rounding leaves


def paths(problem: Problem, plan: Plan) -> Document:
    """For each demand what it is granted or carried, and its paths with their Gbit/s, the largest first.

    A hop is a link, or a bundle of which ``one_of`` links is taken: traffic is spread evenly over them. Nothing for node supplies.
    ``scenarios`` has the paths of a design that survives failures, for demands that then leave their usual ones.
    """
    traffic, network = traffic_of(problem), network_of(problem)
    carried = tally_of(problem, plan).carried.tolist()
    granted = {one.demand: one.gbps for one in plan.granted}
    bundles = {bundle.id: bundle.links for bundle in plan.bundles}
    usual = _by_demand(network, listed_routes(plan), bundles)
    scenarios = [
        {
            "scenario": one.scenario,
            "demands": [{"demand": name, "paths": there} for name, there in _by_demand(network, one.routes, bundles).items()],
        }
        for one in plan.scenario_routes
    ]
    return {
        "demands": [
            {
                "demand": name,
                "source": network.node_ids[traffic.source[place]],
                "target": network.node_ids[traffic.target[place]],
                "size_gbps": float(traffic.size[place]),
                "carried_gbps": granted.get(name, carried[place]),
                "paths": usual.get(name, []),
            }
            for place, name in enumerate(traffic.ids)
        ],
        **({"scenarios": scenarios} if scenarios else {}),
    }


def _by_demand(network: Network, routes: Sequence[Route], bundles: dict[str, tuple[str, ...]]) -> dict[str, list[Document]]:
    """The paths of each demand that has any; a bundle is as slow as the slowest of its links."""
    found: dict[str, list[Document]] = {}
    for route in sorted(routes, key=lambda one: -one.gbps):
        latency = sum(max(network.link_latency[network.link_at[link]] for link in bundles.get(hop, (hop,))) for hop in route.hops)
        path = {"gbps": route.gbps, "latency_ms": float(latency), "hops": [_hop(hop, bundles) for hop in route.hops]}
        found.setdefault(route.demand, []).append(path)
    return found


def _hop(name: str, bundles: dict[str, tuple[str, ...]]) -> Document:
    links = bundles.get(name)
    return {"link": name} if links is None else {"bundle": name, "one_of": len(links), "links": list(links)}


def loads(problem: Problem, plan: Plan) -> Document:
    """For each link and way its Gbit/s, capacity and utilisation, in the order of the links; a shared link has one entry for both ways.

    Utilisation is null where something flows and the capacity is 0. The capacity of a design counts the modules that it adds. Of transfers:
    for each step the Gbit on each link that carries something.
    """
    network = network_of(problem)
    if problem.use is Use.transfer:
        return {"steps": _steps(problem, plan, network)}
    capacity = _capacity(problem, plan, network)[network.channel_link]
    load = tally_of(problem, plan).channel_load(network)
    shared = np.bincount(network.arc_channel, minlength=len(load)) > 1
    rows = zip(network.channel_link.tolist(), network.channel_back.tolist(), shared.tolist(), load.tolist(), capacity.tolist(), strict=True)
    return {"links": [_load(network, *row) for row in rows]}


def _load(network: Network, link: int, back: bool, shared: bool, gbps: float, capacity: float) -> Document:  # noqa: FBT001  (a row)
    ends = [network.node_ids[network.link_tail[link]], network.node_ids[network.link_head[link]]]
    return {
        "link": network.link_ids[link],
        "way": "both" if shared else "back" if back else "forth",
        "from": ends[back],
        "to": ends[not back],
        "gbps": gbps,
        "capacity_gbps": capacity if np.isfinite(capacity) else None,
        "utilisation": gbps / capacity if capacity > 0 else None if gbps > 0 else 0.0,
    }


def _capacity(problem: Problem, plan: Plan, network: Network) -> Floats:
    """Gbit/s of each link with the modules that the plan adds, shape (links,)."""
    capacity = network.link_capacity.copy()
    sizes = {(link.id, module.id): module.capacity_gbps for link in problem.links for module in link.modules}
    for upgrade in plan.upgrades:
        capacity[network.link_at[upgrade.link]] += upgrade.count * sizes[upgrade.link, upgrade.module]
    return capacity


def _steps(problem: Problem, plan: Plan, network: Network) -> list[Document]:
    """What each step puts on links."""
    assert problem.horizon is not None  # noqa: S101  (every problem of transfers has one)
    together: dict[tuple[int, int, bool], float] = {}
    for shipment in plan.shipments:
        for leg in shipment.legs:
            key = (leg.step, network.link_at[leg.link], leg.back)
            together[key] = together.get(key, 0.0) + shipment.gbit
    return [
        {
            "step": step,
            "link": network.link_ids[link],
            "way": "back" if back else "forth",
            "gbit": gbit,
            "gbps": gbit / problem.horizon.step_s,
        }
        for (step, link, back), gbit in sorted(together.items())
    ]


def splits(problem: Problem, plan: Plan) -> Document:
    """At each node, for each target of the traffic that leaves it, the share of each link; a null target is that of node supplies.

    All demands with one target are taken together: a node that sends by these shares, whatever came from where, loads every link as the
    plan does. Shares of a node and target sum to 1; a share below 1e-9 of the traffic is left out.
    """
    network, tally = network_of(problem), tally_of(problem, plan)
    sound = tally.route_demand >= 0
    targets = np.where(sound, traffic_of(problem).target[tally.route_demand], -1) if len(sound) else tally.route_demand
    if len(sound):
        target, arc, gbps = targets[tally.entry_route], tally.arcs, tally.entry_flow
    else:
        arc = np.flatnonzero(tally.arc_flow)
        target, gbps = np.full(len(arc), -1), tally.arc_flow[arc]
    pairs, at = np.unique(np.column_stack((network.arc_tail[arc], target, arc)), axis=0, return_inverse=True)
    flow = np.bincount(at.ravel(), gbps, len(pairs))
    found: dict[int, dict[int, list[tuple[int, float]]]] = {}
    for (node, end, way), amount in zip(pairs.tolist(), flow.tolist(), strict=True):
        found.setdefault(node, {}).setdefault(end, []).append((way, amount))
    return {
        "nodes": [
            {"node": network.node_ids[node], "targets": [_shares(network, end, ways) for end, ways in ends.items()]}
            for node, ends in found.items()
        ]
    }


def _shares(network: Network, target: int, ways: list[tuple[int, float]]) -> Document:
    """The traffic to one target that leaves a node, and how it is divided."""
    total = sum(gbps for _, gbps in ways)
    kept = [(arc, gbps) for arc, gbps in ways if gbps > LEAST_SHARE * total]
    divided = sum(gbps for _, gbps in kept)
    return {
        "target": network.node_ids[target] if target >= 0 else None,
        "gbps": total,
        "links": [
            {
                "link": network.link_ids[network.arc_link[arc]],
                "way": "back" if network.arc_back[arc] else "forth",
                "to": network.node_ids[network.arc_head[arc]],
                "share": gbps / divided,
            }
            for arc, gbps in kept
        ],
    }


VIEWS: dict[str, Callable[[Problem, Plan], Any]] = {"splits": splits, "loads": loads, "paths": paths}

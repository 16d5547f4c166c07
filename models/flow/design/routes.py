"""From flows to the routes of a plan, and back: shared by the program, the search and the first plan of a design."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from models.flow.paths.route_columns import listed_routes
from models.flow.schema import Plan, Route, ScenarioRoutes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from models.flow.design.works import Works
    from models.flow.network.tally import Tally
    from models.program import Floats

NOTHING = 1e-9  # relative to what a root sends: less is noise of the solver


def settled(works: Works, counts: Floats, sent: Floats, again: Mapping[int, Floats] | None = None) -> Plan:
    """The plan of whole counts, (modules,), and flows, (commodities, arcs); ``again`` has those of failures by position.

    A failure without flows of its own is one that leaves every route whole.
    """
    return Plan(
        routes=tuple(routes_of(works, sent)),
        upgrades=works.upgrades(counts),
        scenario_routes=tuple(
            ScenarioRoutes(scenario=works.failures[place].id, routes=tuple(routes_of(works, flows)))
            for place, flows in sorted((again or {}).items())
        ),
    )


def routes_of(works: Works, sent: Floats) -> list[Route]:
    """Every root's flow taken apart into routes that bring each demand exactly its size.

    What flows in circles is left out, so that the routes carry no more on any arc than the flow, up to what the flow lacks by rounding.
    """
    commodities, traffic = works.commodities, works.traffic
    found: list[Route] = []
    for commodity, root in enumerate(commodities.root.tolist()):
        left = sent[commodity].copy()
        left[left < NOTHING * commodities.total[commodity]] = 0.0
        by_node: dict[int, list[list[float]]] = {}
        for demand in commodities.demands[commodity]:
            by_node.setdefault(commodities.sink(traffic, demand), []).append([demand, traffic.size[demand]])
        for node, waiting in by_node.items():
            parts = _paths(works, left, root, node, sum(size for _, size in waiting))
            found.extend(
                Route(demand=traffic.ids[demand], gbps=gbps, hops=_hops(works, arcs, back=bool(commodities.flipped[demand])))
                for demand, gbps, arcs in _dealt(waiting, parts)
            )
    return found


def _hops(works: Works, arcs: Sequence[int], *, back: bool) -> tuple[str, ...]:
    links = [works.network.link_ids[works.network.arc_link[arc]] for arc in arcs]
    return tuple(reversed(links)) if back else tuple(links)


def _paths(works: Works, left: Floats, root: int, node: int, size: float) -> list[tuple[float, list[int]]]:
    """Paths from root to node along what is left of a flow, which they use up, scaled to carry ``size`` together."""
    parts: list[tuple[float, list[int]]] = []
    missing = size
    while missing > NOTHING * size:
        path = _path(works, left, root, node)
        if not path:
            break
        gbps = min(missing, float(left[path].min()))
        left[path] -= gbps
        left[path] = np.where(left[path] < NOTHING * size, 0.0, left[path])
        parts.append((gbps, path))
        missing -= gbps
    carried = sum(gbps for gbps, _ in parts)
    return [(gbps * size / carried, path) for gbps, path in parts] if carried > 0 else []


def _path(works: Works, left: Floats, root: int, node: int) -> list[int]:
    """The arcs of a path with the fewest hops along what is left; empty when there is none."""
    starts, arcs = works.network.out_arcs
    came = {root: -1}
    waiting = deque((root,))
    while waiting and node not in came:
        here = waiting.popleft()
        for arc in arcs[starts[here] : starts[here + 1]].tolist():
            there = int(works.network.arc_head[arc])
            if left[arc] > 0.0 and there not in came:
                came[there] = arc
                waiting.append(there)
    path: list[int] = []
    while node in came and came[node] >= 0:
        path.append(came[node])
        node = int(works.network.arc_tail[came[node]])
    return path[::-1]


def _dealt(waiting: list[list[float]], parts: Iterable[tuple[float, list[int]]]) -> Iterable[tuple[int, float, list[int]]]:
    """Demands of the same ends share the paths, one after another."""
    at = 0
    for gbps, arcs in parts:
        rest = gbps
        while rest > 0.0:
            demand, size = waiting[at]
            part = rest if at == len(waiting) - 1 else min(rest, size)
            if part > 0.0:
                yield int(demand), part, arcs
            rest -= part
            waiting[at][1] -= part
            if waiting[at][1] <= 0.0 and at < len(waiting) - 1:
                at += 1


def arc_flows(works: Works, tally: Tally) -> Floats:
    """Flows of a plan's routes by root, shape (commodities, arcs)."""
    network, commodities = works.network, works.commodities
    at = np.full(works.traffic.count + 1, -1, dtype=np.int64)  # the last: of a route that is broken
    for commodity, demands in enumerate(commodities.demands):
        at[list(demands)] = commodity
    demand = tally.route_demand[tally.entry_route]
    # A demand that is routed from its target uses every link the other way.
    turned = np.where(network.arc_back, network.forward_arc[network.arc_link], network.backward_arc[network.arc_link])
    arcs = np.where(commodities.flipped[demand], turned[tally.arcs], tally.arcs) if len(demand) else tally.arcs
    flows = np.zeros((commodities.count, network.arcs))
    np.add.at(flows, (at[demand], arcs), tally.entry_flow)
    return flows


def plans_after(works: Works, plan: Plan) -> list[Plan]:
    """What is routed in each failure: the routes given for it, and of other demands those that they always have."""
    given = {one.scenario: one.routes for one in plan.scenario_routes}
    usual = listed_routes(plan)
    after: list[Plan] = []
    for failure in works.failures:
        routes = given.get(failure.id, ())
        changed = {route.demand for route in routes}
        after.append(Plan(bundles=plan.bundles, routes=(*routes, *(route for route in usual if route.demand not in changed))))
    return after

"""From column values to a plan and back: for the exact program of a routing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.flow.goals import goal_class, goal_names, plain_name
from models.flow.network.tally import tally_of
from models.flow.paths.decompose import peeled
from models.flow.routing.formulation_setting import setting_of
from models.flow.routing.verify import demand_goals, supply_goals
from models.flow.schema import FlowTable, LinkFlow, Plan, Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.flow.network.arrays import Network
    from models.flow.network.tally import Tally
    from models.flow.routing.formulation_setting import Setting, Stream
    from models.flow.schema import Problem
    from models.program import Floats

MOST_FLOWS = 10_000  # links with flow up to which they are listed one by one
LEAST = 1e-9  # Gbit/s relative to the largest size: less is what a solver leaves behind


def extract_routes(problem: Problem, values: Mapping[str, Mapping[tuple[Any, ...], float]]) -> Plan:
    """The routes of demands, or the flows of supplies."""
    setting = setting_of(problem)
    if setting.supplied:
        return plan_of_flows(setting.network, np.fromiter(values["flow"].values(), np.float64, setting.network.arcs).clip(0.0))
    served = np.fromiter(values["serve"].values(), np.float64, setting.traffic.count).clip(0.0)
    least = LEAST * max(1.0, float(setting.traffic.size.max(initial=0.0)))
    sent = np.fromiter((values.get("send") or {}).values(), np.float64)
    found: list[tuple[int, float, tuple[int, ...]]] = []
    begin = 0
    for stream in setting.streams:
        flow = np.zeros(setting.network.arcs)
        arcs = setting.arcs_of(stream)
        flow[arcs] = sent[begin : begin + len(arcs)]
        begin += len(arcs)
        found += _stream_routes(setting, stream, flow, served)
    amounts = iter((values.get("route") or {}).values())
    for demand, paths in (setting.paths or {}).items():
        found += [(demand, amount, path) for path, amount in zip(paths, amounts, strict=False)]
    return plan_of_routes(setting.network, setting.traffic.ids, [one for one in sorted(found, key=lambda one: one[0]) if one[1] > least])


def _stream_routes(setting: Setting, stream: Stream, flow: Floats, served: Floats) -> list[tuple[int, float, tuple[int, ...]]]:
    demands = stream.demands.tolist()
    wants = [(int(setting.traffic.target[one]), float(served[one])) for one in demands]
    return [(demands[number], amount, path) for number, amount, path in peeled(setting.network, flow, stream.source, wants)]


def plan_of_routes(network: Network, demand_ids: tuple[str, ...], routes: list[tuple[int, float, tuple[int, ...]]]) -> Plan:
    """The plan of routes, each as (demand, Gbit/s, arcs)."""
    link, names = network.arc_link, network.link_ids
    return Plan(
        routes=tuple(
            Route(demand=demand_ids[demand], gbps=amount, hops=tuple(names[link[arc]] for arc in path)) for demand, amount, path in routes
        )
    )


def plan_of_flows(network: Network, arc_flow: Floats) -> Plan:
    """The plan of a flow of supplies, shape (arcs,); as a table where it is on many links."""
    forth = arc_flow[network.forward_arc]
    both = network.backward_arc >= 0
    back = np.where(both, arc_flow[network.backward_arc], 0.0)
    used = np.flatnonzero((forth > 0) | (back > 0))
    names = [network.link_ids[link] for link in used.tolist()]
    ahead, behind = forth[used].tolist(), back[used].tolist()
    if len(used) <= MOST_FLOWS:
        columns = zip(names, ahead, behind, strict=True)
        return Plan(flows=tuple(LinkFlow(link=name, gbps=there, back_gbps=again) for name, there, again in columns))
    return Plan(flow_table=FlowTable(link=tuple(names), gbps=tuple(ahead), back_gbps=tuple(behind) if any(behind) else None))


def start_routes(problem: Problem, plan: Plan) -> dict[str, dict[tuple[Any, ...], float]]:
    """The values of a plan by column."""
    from models.broken import Broken

    setting, tally = setting_of(problem), tally_of(problem, plan)
    if setting.supplied:
        goals = supply_goals(problem, tally)
        flows = {setting.arc_ids(arc): amount for arc, amount in enumerate(tally.arc_flow.tolist())}
        return {"flow": flows, **_stretched(problem, goals)}
    goals = demand_goals(problem, plan, tally, Broken())
    return {
        "serve": {(name,): amount for name, amount in zip(setting.traffic.ids, tally.carried.tolist(), strict=True)},
        "send": _sent(setting, tally),
        "route": _routed(setting, tally),
        **_stretched(problem, goals),
    }


def _stretched(problem: Problem, goals: Mapping[str, float]) -> dict[str, dict[tuple[Any, ...], float]]:
    """Shares, rates and utilisations by class."""
    families = {"concurrent": "concurrent", "fair_rate": "rate", "max_utilisation": "utilisation"}
    found: dict[str, dict[tuple[Any, ...], float]] = {}
    for name in goal_names(problem):
        if plain_name(name) in families:
            found.setdefault(families[plain_name(name)], {})[(str(goal_class(problem, name)),)] = goals[name]
    return found


def _sent(setting: Setting, tally: Tally) -> dict[tuple[Any, ...], float]:
    """The flow of each stream on each of its arcs."""
    found: dict[tuple[Any, ...], float] = {}
    flow_of, route_of = tally.entry_flow, tally.entry_route
    for stream in setting.streams:
        own = np.isin(tally.route_demand, stream.demands)[route_of]
        flow = np.bincount(tally.arcs[own], weights=flow_of[own], minlength=setting.network.arcs)
        found |= {(*setting.stream_ids(stream), *setting.arc_ids(arc)): float(flow[arc]) for arc in setting.arcs_of(stream).tolist()}
    return found


def _routed(setting: Setting, tally: Tally) -> dict[tuple[Any, ...], float]:
    """What each listed path carries."""
    found: dict[tuple[Any, ...], float] = {}
    at: dict[tuple[int, tuple[int, ...]], tuple[str, str]] = {}
    for demand, paths in (setting.paths or {}).items():
        for number, path in enumerate(paths):
            at.setdefault((demand, path), (setting.traffic.ids[demand], str(number)))
            found[setting.traffic.ids[demand], str(number)] = 0.0
    for route, demand in enumerate(tally.route_demand.tolist()):
        name = at.get((demand, tuple(tally.arcs[tally.starts[route] : tally.starts[route + 1]].tolist())))
        if name is not None:
            found[name] += float(tally.route_gbps[route])
    return found

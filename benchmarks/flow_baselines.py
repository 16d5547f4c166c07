"""Flows as one would write them down today: the edge form in Pyomo and in cvxpy, both solved by HiGHS, and networkx.

All read the same arrays. The multi-commodity ones have one flow for each source of demands, which is the best known of the
straight forms. They refuse, with a ValueError, what they cannot state; a plan comes back as routes, so that it is verified like ours.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.flow.network.arrays import Network, Traffic, network_of, traffic_of
from models.flow.schema import FlowTable, Objective, PathChoice, Plan, Route, Use

if TYPE_CHECKING:
    from models.flow.schema import Problem
    from models.program import Floats, Ints

SMALLEST = 1e-9  # of a demand's size: what is less is rounding
STATED = {Objective.min_cost, Objective.max_throughput, Objective.max_concurrent, Objective.min_max_utilisation}


@dataclass(frozen=True)
class _Form:
    """What the edge form is made of: ``sources`` (s,), ``supply`` (s, nodes) of Gbit/s asked for, by demand's source."""

    network: Network
    traffic: Traffic
    sources: Ints
    asked: Floats


def _form(problem: Problem) -> _Form:
    traffic = traffic_of(problem)
    if problem.use is not Use.route or problem.failures is not None or problem.paths.choice is not PathChoice.all:
        raise ValueError("the edge form knows routes over all paths only")
    if problem.objective not in STATED or len(traffic.classes) != 1 or np.isfinite(traffic.latency_limit).any():
        raise ValueError("the edge form knows no fairness, no classes and no latency limits")
    network = network_of(problem)
    sources = np.unique(traffic.source)
    asked = np.zeros((len(sources), network.nodes))
    np.add.at(asked, (np.searchsorted(sources, traffic.source), traffic.target), traffic.size)
    return _Form(network, traffic, sources, asked)


# ---------------------------------------------------------------- Pyomo


def pyomo_highs(problem: Problem, seconds: float) -> Plan | None:
    """The edge form in Pyomo, solved through Pyomo's own HiGHS interface."""
    import pyomo.environ as pyo

    form = _form(problem) if problem.demands or problem.demand_table else None
    return _single(problem, _pyomo_single, seconds) if form is None else _planned(form, _pyomo_flows(pyo, form, problem, seconds))


def _pyomo_flows(pyo: Any, form: _Form, problem: Problem, seconds: float) -> Floats | None:  # noqa: ANN401  (Pyomo has no types)
    network, traffic = form.network, form.traffic
    model = pyo.ConcreteModel()
    model.sources, model.arcs = pyo.RangeSet(0, len(form.sources) - 1), pyo.RangeSet(0, network.arcs - 1)
    model.flow = pyo.Var(model.sources, model.arcs, within=pyo.NonNegativeReals)
    model.scale = pyo.Var(within=pyo.NonNegativeReals)
    served: dict[tuple[int, int], list[Any]] = {}
    if problem.objective is Objective.max_throughput:
        model.served = pyo.Var(range(traffic.count), within=pyo.NonNegativeReals)
        for demand in range(traffic.count):
            model.served[demand].setub(float(traffic.size[demand]))
        for demand in range(traffic.count):
            key = (int(np.searchsorted(form.sources, traffic.source[demand])), int(traffic.target[demand]))
            served.setdefault(key, []).append(model.served[demand])
    leaving: list[list[int]] = [[] for _ in range(network.nodes)]
    entering: list[list[int]] = [[] for _ in range(network.nodes)]
    for arc in range(network.arcs):
        leaving[network.arc_tail[arc]].append(arc)
        entering[network.arc_head[arc]].append(arc)

    def wanted(source: int, node: int) -> Any:  # noqa: ANN401
        if problem.objective is Objective.max_throughput:
            return sum(served.get((source, node), []))
        amount = float(form.asked[source, node])
        return amount * model.scale if problem.objective is Objective.max_concurrent else amount

    model.balance = pyo.ConstraintList()
    for source in model.sources:
        for node in range(network.nodes):
            if node == form.sources[source]:
                continue
            arriving = sum(model.flow[source, arc] for arc in entering[node]) - sum(model.flow[source, arc] for arc in leaving[node])
            model.balance.add(arriving == wanted(source, node))
    model.capacity = pyo.ConstraintList()
    for channel, capacity in enumerate(network.channel_capacity.tolist()):
        if np.isfinite(capacity):
            load = sum(
                model.flow[source, arc] for arc in np.flatnonzero(network.arc_channel == channel).tolist() for source in model.sources
            )
            relaxed = problem.objective is Objective.min_max_utilisation
            model.capacity.add(load <= (capacity * model.scale if relaxed else capacity))
    _pyomo_goal(pyo, model, form, problem)
    return _pyomo_solved(model, seconds, lambda: np.array([[model.flow[s, a].value for a in model.arcs] for s in model.sources]))


def _pyomo_goal(pyo: Any, model: Any, form: _Form, problem: Problem) -> None:  # noqa: ANN401
    match problem.objective:
        case Objective.max_throughput:
            value = form.traffic.value
            model.goal = pyo.Objective(expr=sum(value[d] * model.served[d] for d in range(form.traffic.count)), sense=pyo.maximize)
        case Objective.max_concurrent:
            model.goal = pyo.Objective(expr=model.scale, sense=pyo.maximize)
        case Objective.min_max_utilisation:
            model.goal = pyo.Objective(expr=model.scale)
        case _:
            cost = form.network.arc_cost
            model.goal = pyo.Objective(expr=sum(float(cost[a]) * model.flow[s, a] for s in model.sources for a in model.arcs))


def _pyomo_solved(model: Any, seconds: float, values: Callable[[], Floats]) -> Floats | None:  # noqa: ANN401
    from pyomo.contrib.appsi.solvers.highs import Highs

    solver = Highs()
    solver.config.time_limit = seconds
    solver.config.load_solution = False
    result = solver.solve(model)
    if result.termination_condition.name != "optimal":
        return None
    result.solution_loader.load_vars()
    return values()


def _pyomo_single(network: Network, seconds: float) -> Floats | None:
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.flow = pyo.Var(range(network.arcs), within=pyo.NonNegativeReals)
    out: list[list[Any]] = [[] for _ in range(network.nodes)]
    for arc in range(network.arcs):
        model.flow[arc].setlb(float(network.link_lower[network.arc_link[arc]]))
        capacity = float(network.link_capacity[network.arc_link[arc]])
        if np.isfinite(capacity):
            model.flow[arc].setub(capacity)
        out[network.arc_tail[arc]].append(model.flow[arc])
        out[network.arc_head[arc]].append(-model.flow[arc])
    model.balance = pyo.ConstraintList()
    for node in range(network.nodes):
        if out[node]:
            model.balance.add(sum(out[node]) == float(network.supply[node]))
    model.goal = pyo.Objective(expr=sum(float(network.arc_cost[arc]) * model.flow[arc] for arc in range(network.arcs)))
    return _pyomo_solved(model, seconds, lambda: np.array([model.flow[arc].value for arc in range(network.arcs)]))


# ---------------------------------------------------------------- cvxpy


def cvxpy_highs(problem: Problem, seconds: float) -> Plan | None:
    """The edge form in cvxpy as matrices, solved by HiGHS."""
    cp = _cvxpy()
    from scipy import sparse

    if not (problem.demands or problem.demand_table):
        return _single(problem, _cvxpy_single, seconds)
    form = _form(problem)
    network, traffic = form.network, form.traffic
    ends = (np.concatenate((network.arc_head, network.arc_tail)), np.tile(np.arange(network.arcs), 2))
    balance = sparse.csr_matrix((np.repeat([1.0, -1.0], network.arcs), ends), (network.nodes, network.arcs))
    flow = cp.Variable((network.arcs, len(form.sources)), nonneg=True)
    scale = cp.Variable(nonneg=True)
    at = np.searchsorted(form.sources, traffic.source)
    if problem.objective is Objective.max_throughput:
        served = cp.Variable(traffic.count, nonneg=True)
        cells = np.arange(traffic.count)
        gather = sparse.csr_matrix((np.ones(traffic.count), (at * network.nodes + traffic.target, cells)))
        gather.resize((len(form.sources) * network.nodes, traffic.count))
        wanted: Any = cp.reshape(gather @ served, (network.nodes, len(form.sources)), order="F")
        rules = [served <= traffic.size]
    else:
        wanted = form.asked.T * scale if problem.objective is Objective.max_concurrent else form.asked.T
        rules = []
    elsewhere = np.ones((network.nodes, len(form.sources)))
    elsewhere[form.sources, np.arange(len(form.sources))] = 0.0
    rules.append(cp.multiply(elsewhere, balance @ flow - wanted) == 0)
    limited = np.flatnonzero(np.isfinite(network.channel_capacity))
    shape = (len(network.channel_capacity), network.arcs)
    load = sparse.csr_matrix((np.ones(network.arcs), (network.arc_channel, np.arange(network.arcs))), shape)[limited] @ cp.sum(flow, axis=1)
    capacity = network.channel_capacity[limited]
    rules.append(load <= (capacity * scale if problem.objective is Objective.min_max_utilisation else capacity))
    goals = {
        Objective.max_throughput: lambda: cp.Maximize(traffic.value @ served),
        Objective.max_concurrent: lambda: cp.Maximize(scale),
        Objective.min_max_utilisation: lambda: cp.Minimize(scale),
        Objective.min_cost: lambda: cp.Minimize(cp.sum(network.arc_cost @ flow)),
    }
    found = cp.Problem(goals[problem.objective](), rules)
    found.solve(solver=cp.HIGHS, time_limit=seconds)
    return _planned(form, None if found.status != cp.OPTIMAL else flow.value.T)


def _cvxpy() -> Any:  # noqa: ANN401  (it comes with the extra `bench` only, and types are missing)
    try:
        return importlib.import_module("cvxpy")
    except ModuleNotFoundError:
        raise ValueError("cvxpy is not installed: pip install -c constraints.txt -e '.[bench]'") from None


def _cvxpy_single(network: Network, seconds: float) -> Floats | None:
    cp = _cvxpy()
    from scipy import sparse

    ends = (np.concatenate((network.arc_tail, network.arc_head)), np.tile(np.arange(network.arcs), 2))
    balance = sparse.csr_matrix((np.repeat([1.0, -1.0], network.arcs), ends), (network.nodes, network.arcs))
    flow = cp.Variable(network.arcs)
    limited = np.flatnonzero(np.isfinite(network.link_capacity[network.arc_link]))
    rules = [balance @ flow == network.supply, flow >= network.link_lower[network.arc_link]]
    rules.append(flow[limited] <= network.link_capacity[network.arc_link][limited])
    found = cp.Problem(cp.Minimize(network.arc_cost @ flow), rules)
    found.solve(solver=cp.HIGHS, time_limit=seconds)
    return None if found.status != cp.OPTIMAL else np.asarray(flow.value)


# ---------------------------------------------------------------- networkx


def networkx_simplex(problem: Problem, seconds: float) -> Plan | None:
    """``networkx``: its network simplex for supplies, its maximum flow for one demand. It knows whole numbers and no time limit."""
    if problem.demands or problem.demand_table:
        return _networkx_flow(problem)
    if problem.objective is Objective.max_throughput:
        return _table(network_of(problem), _networkx_shipped(network_of(problem), seconds))
    return _single(problem, _networkx_single, seconds)


def _networkx_single(network: Network, _seconds: float) -> Floats | None:
    import networkx as nx

    graph = nx.MultiDiGraph()
    for node, supply in enumerate(network.supply.tolist()):
        graph.add_node(node, demand=-_whole(supply))
    for arc in range(network.arcs):
        link = network.arc_link[arc]
        limit = {} if np.isinf(network.link_capacity[link]) else {"capacity": _whole(float(network.link_capacity[link]))}
        graph.add_edge(
            int(network.arc_tail[arc]), int(network.arc_head[arc]), key=arc, weight=_whole(float(network.arc_cost[arc])), **limit
        )
    _, flows = nx.network_simplex(graph)
    found = np.zeros(network.arcs)
    for heads in flows.values():
        for by_arc in heads.values():
            for arc, amount in by_arc.items():
                found[arc] = amount
    return found


def _networkx_maximum(network: Network, source: int, target: int) -> Floats:
    """A maximum flow by arcs; parallel arcs, which networkx's solver has not, are merged and parted again."""
    import networkx as nx

    graph: Any = nx.DiGraph()
    graph.add_nodes_from((source, target))
    capacities = network.link_capacity[network.arc_link]
    for arc in range(network.arcs):
        tail, head = int(network.arc_tail[arc]), int(network.arc_head[arc])
        known = graph.get_edge_data(tail, head, {"capacity": 0.0})["capacity"]
        graph.add_edge(tail, head, capacity=known + float(capacities[arc]))
    _, flows = nx.maximum_flow(graph, source, target)
    left = {(tail, head): amount for tail, heads in flows.items() for head, amount in heads.items()}
    found = np.zeros(network.arcs)
    for arc in range(network.arcs):
        ends = (int(network.arc_tail[arc]), int(network.arc_head[arc]))
        found[arc] = min(left[ends], float(capacities[arc]))
        left[ends] -= found[arc]
    return found


def _networkx_flow(problem: Problem) -> Plan | None:
    form = _form(problem)
    if form.traffic.count != 1 or problem.objective is not Objective.max_throughput:
        raise ValueError("networkx has no flow of several demands")
    return _planned(form, _networkx_maximum(form.network, int(form.traffic.source[0]), int(form.traffic.target[0]))[None])


def _networkx_shipped(network: Network, _seconds: float) -> Floats | None:
    sources, targets = np.flatnonzero(network.supply > 0), np.flatnonzero(network.supply < 0)
    if len(sources) != 1 or len(targets) != 1:
        raise ValueError("networkx's maximum flow has one source and one target")
    return _networkx_maximum(network, int(sources[0]), int(targets[0]))


def _whole(number: float) -> int:
    if number != round(number):
        raise ValueError("networkx's network simplex is right for whole numbers only")
    return round(number)


# ---------------------------------------------------------------- from flows to plans


def _single(problem: Problem, solve: Callable[[Network, float], Floats | None], seconds: float) -> Plan | None:
    network = network_of(problem)
    if problem.objective is not Objective.min_cost or network.arc_back.any():
        raise ValueError("of supplies this baseline states the least cost over directed links only")
    return _table(network, solve(network, seconds))


def _table(network: Network, flow: Floats | None) -> Plan | None:
    if flow is None:
        return None
    used = np.flatnonzero(flow > SMALLEST)
    return Plan(flow_table=FlowTable(link=tuple(network.link_ids[arc] for arc in used.tolist()), gbps=tuple(flow[used].tolist())))


def _planned(form: _Form, flows: Floats | None) -> Plan | None:
    """Routes for the flows of each source, shape (sources, arcs), by taking one path after another away."""
    if flows is None:
        return None
    routes: list[Route] = []
    traffic = form.traffic
    for place, source in enumerate(form.sources.tolist()):
        left = np.maximum(flows[place], 0.0)
        for demand in np.flatnonzero(traffic.source == source).tolist():
            target = int(traffic.target[demand])
            share = float(traffic.size[demand]) / float(form.asked[place, target])  # of what arrives for all demands of this pair
            routes += _stripped(form, left, demand, share * _arriving(form.network, flows[place], target))
    return Plan(routes=tuple(routes))


def _arriving(network: Network, flow: Floats, node: int) -> float:
    return float(flow[network.arc_head == node].sum() - flow[network.arc_tail == node].sum())


def _stripped(form: _Form, left: Floats, demand: int, want: float) -> list[Route]:
    network, traffic = form.network, form.traffic
    routes: list[Route] = []
    smallest = SMALLEST * max(1.0, float(traffic.size[demand]))
    while want > smallest:
        path = _path(network, left, int(traffic.source[demand]), int(traffic.target[demand]), smallest)
        if path is None:
            break
        amount = min(want, float(left[path].min()))
        left[path] -= amount
        want -= amount
        routes.append(Route(demand=traffic.ids[demand], gbps=amount, hops=tuple(network.link_ids[network.arc_link[arc]] for arc in path)))
    return routes


def _path(network: Network, left: Floats, source: int, target: int, smallest: float) -> list[int] | None:
    """A path of arcs that still carry something, by breadth."""
    starts, arcs = network.out_arcs
    came = {source: -1}
    open_ends = [source]
    for node in open_ends:
        if node == target:
            break
        for arc in arcs[starts[node] : starts[node + 1]].tolist():
            head = int(network.arc_head[arc])
            if left[arc] > smallest and head not in came:
                came[head] = arc
                open_ends.append(head)
    if target not in came:
        return None
    path = []
    while target != source:
        path.append(came[target])
        target = int(network.arc_tail[came[target]])
    return path[::-1]


BASELINES = {"pyomo_highs": pyomo_highs, "cvxpy_highs": cvxpy_highs, "networkx": networkx_simplex}

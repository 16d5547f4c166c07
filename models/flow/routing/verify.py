"""The rules and goals of a routing: loads of links, what demands and supplies get, latency, the choice of paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Violation
from models.flow.goals import goal_class, goal_names, plain_name
from models.flow.network.arrays import is_supplied, network_of, traffic_of
from models.flow.network.sums import sums
from models.flow.schema import Objective, Rule

if TYPE_CHECKING:
    from models.broken import Broken
    from models.flow.network.arrays import Network
    from models.flow.network.tally import Tally
    from models.flow.schema import Plan, Problem
    from models.program import Floats, Ints

THROUGH = 1e-3  # of what flows through a node, that counts with its supply as the side of a balance
_IN_FULL = frozenset({Objective.min_cost, Objective.min_max_utilisation})
_UP_TO_SIZE = frozenset({Objective.min_cost, Objective.min_max_utilisation, Objective.max_throughput, Objective.max_min_fair})


def link_rules(problem: Problem, plan: Plan, tally: Tally, broken: Broken) -> None:
    """No channel carries more than its capacity, no link less than its lower bound, and a routing builds and ships nothing."""
    network = network_of(problem)
    load, capacity = tally.channel_load(network), network.channel_capacity
    risked = problem.failures is not None and problem.failures.mode == "cvar"  # reservations, which capacity holds whatever the objective
    stretched = problem.objective is Objective.min_max_utilisation and problem.use == "route" and not risked
    excess = np.where(np.isfinite(capacity), load - capacity, 0.0)
    if stretched:
        excess[capacity > 0] = 0.0

    def overloaded(channel: int) -> tuple[tuple[str, ...], str]:
        name = network.link_ids[network.channel_link[channel]]
        way = " on its way back" if network.channel_back[channel] else ""
        return (name,), f"link '{name}' carries {load[channel]:.12g} Gbit/s{way}, and its capacity is {capacity[channel]:.12g}"

    broken.where(Rule.link_capacity, excess, capacity, "Gbit/s", overloaded)
    if network.link_lower.any():
        forth = tally.arc_flow[network.forward_arc]

        def starved(link: int) -> tuple[tuple[str, ...], str]:
            name = network.link_ids[link]
            return (name,), f"link '{name}' carries {forth[link]:.12g} Gbit/s, and it must carry at least {network.link_lower[link]:.12g}"

        broken.where(Rule.link_lower, network.link_lower - forth, network.link_lower, "Gbit/s", starved)
    _nothing_else(problem, plan, broken)


def _nothing_else(problem: Problem, plan: Plan, broken: Broken) -> None:
    """The plan has no parts that belong to other problems."""
    fair, failing = problem.objective is Objective.max_min_fair, problem.failures is not None
    for given, rule, what in (
        (plan.upgrades, Rule.module_limit, "upgrades"),
        (plan.scenario_routes, Rule.module_limit, "routes after failures"),
        (plan.shipments, Rule.transfer_window, "shipments"),
        (() if failing else plan.granted, Rule.protection, "granted rates"),
        (() if failing else plan.aftermaths, Rule.protection, "aftermaths of failures"),
        (() if fair else plan.levels, Rule.fairness_proof, "levels of fairness"),
    ):
        if given:
            broken.add(Violation(rule, (), float(len(given)), what, f"the plan has {what}, which this problem does not ask for"))


# ---------------------------------------------------------------- demands


def served(problem: Problem, plan: Plan, tally: Tally) -> Floats:
    """Gbit/s that each demand gets: what its routes carry, or what it is granted where routes only reserve. Shape (demands,)."""
    if problem.failures is None or problem.failures.mode != "protect":
        return tally.carried
    at = traffic_of(problem).at
    granted = np.zeros(traffic_of(problem).count)
    for one in plan.granted:
        if one.demand in at:
            granted[at[one.demand]] = one.gbps
    return granted


def demand_rules(problem: Problem, plan: Plan, tally: Tally, broken: Broken) -> None:
    """Demands get what they must and may get, over routes that they may use."""
    traffic = traffic_of(problem)
    got, size, names = served(problem, plan, tally), traffic.size, traffic.ids
    if problem.failures is not None and problem.failures.mode == "cvar":
        full, capped = False, False  # loss is what this is about, and routes may reserve more than they will carry
    else:
        full, capped = problem.objective in _IN_FULL, problem.objective in _UP_TO_SIZE
    if full:
        text = "demand '{}' gets {:.12g} of {:.12g} Gbit/s"
        broken.where(
            Rule.demand_served, size - got, size, "Gbit/s", lambda one: ((names[one],), text.format(names[one], got[one], size[one]))
        )
    if capped:
        more = "demand '{}' gets {:.12g} Gbit/s, and its size is {:.12g}"
        broken.where(
            Rule.demand_size, got - size, size, "Gbit/s", lambda one: ((names[one],), more.format(names[one], got[one], size[one]))
        )
    used = (tally.route_demand >= 0) & (tally.route_gbps > TOLERANCE * np.minimum(1.0, np.append(size, 1.0)[tally.route_demand]))
    limit = np.append(traffic.latency_limit, np.inf)[tally.route_demand]
    late = np.where(used & np.isfinite(limit), tally.route_latency - limit, 0.0)

    def slow(route: int) -> tuple[tuple[str, ...], str]:
        name = names[tally.route_demand[route]]
        return (
            name,
        ), f"route {route}, of demand '{name}', takes {tally.route_latency[route]:.12g} ms, and the limit is {limit[route]:.12g}"

    broken.where(Rule.latency_limit, late, limit, "ms", slow)
    if problem.paths.choice != "all":
        _path_choice(problem, tally, np.flatnonzero(used), broken)
    if plan.flows or plan.flow_table is not None:
        broken.add(Violation(Rule.node_supply, (), 1.0, "", "the plan has flows of supplies, and no node has a supply"))


def _path_choice(problem: Problem, tally: Tally, used: Ints, broken: Broken) -> None:
    """Every route is one of the paths that its demand may use, and none is spread over a bundle of several links."""
    from models.flow.paths.admissible import admissible

    # Where no route is used, the paths, which take seconds to list for very many demands, are not asked for.
    allowed = admissible(problem) if len(used) else None
    if allowed is None:
        return
    traffic = traffic_of(problem)
    arcs, paths, starts = allowed.arcs.tolist(), allowed.path_starts.tolist(), allowed.starts.tolist()
    may: dict[int, set[tuple[int, ...]]] = {}
    own = tally.arcs.tolist()
    ends = tally.starts.tolist()
    for route in used.tolist():
        demand = int(tally.route_demand[route])
        if demand not in may:
            may[demand] = {tuple(arcs[paths[one] : paths[one + 1]]) for one in range(starts[demand], starts[demand + 1])}
        taken = tuple(own[ends[route] : ends[route + 1]])
        if taken not in may[demand] or (tally.shares[ends[route] : ends[route + 1]] != 1.0).any():
            name = traffic.ids[demand]
            text = f"route {route}, of demand '{name}', is none of the paths that the choice '{problem.paths.choice.value}' allows"
            broken.add(Violation(Rule.path_choice, (name,), float(tally.route_gbps[route]), "Gbit/s", text))


def demand_goals(problem: Problem, plan: Plan, tally: Tally, broken: Broken) -> dict[str, float]:
    """The value of each goal of a problem with demands."""
    network, traffic = network_of(problem), traffic_of(problem)
    got = served(problem, plan, tally)
    if problem.failures is not None and problem.failures.mode == "cvar":
        return {}
    if problem.objective is Objective.max_min_fair:
        from models.flow.fairness.verify import fair_goals

        return fair_goals(problem, plan, got, broken)
    values: dict[str, float] = {}
    for name in goal_names(problem):
        own = traffic.priority == goal_class(problem, name)
        match plain_name(name):
            case "cost":
                weights = tally.route_gbps * tally.route_sum(network.arc_cost)
                values[name] = float(weights[np.append(own, False)[tally.route_demand]].sum())
            case "throughput":
                values[name] = float((traffic.value * np.minimum(got, traffic.size))[own].sum())
            case "concurrent":
                values[name] = float((got / traffic.size)[own].min(initial=np.inf)) if own.any() else 0.0
            case _:
                above = traffic.priority >= goal_class(problem, name)
                values[name] = largest_utilisation(network, tally.load_of(network, above))
    return values


def largest_utilisation(network: Network, load: Floats) -> float:
    """The largest load / capacity of a channel; one without limit counts as 0, one without capacity is a rule, not a ratio."""
    capacity = network.channel_capacity
    counted = np.isfinite(capacity) & (capacity > 0)
    return float((load[counted] / capacity[counted]).max(initial=0.0))


# ---------------------------------------------------------------- supplies


def net_outflow(network: Network, arc_flow: Floats) -> Floats:
    """Gbit/s that leave each node less those that enter it, shape (nodes,)."""
    out = sums(network.arc_tail, arc_flow, network.nodes)
    return out - sums(network.arc_head, arc_flow, network.nodes)


def supply_rules(problem: Problem, plan: Plan, tally: Tally, broken: Broken) -> None:
    """What enters and leaves the network at each node is its supply, or a part of it where the goal is about that part."""
    network = network_of(problem)
    supply, names = network.supply, network.node_ids
    net = net_outflow(network, tally.arc_flow)
    # What adding up the flows of a node may lose grows with them, not with its supply; but no circling flow may hide what is missing.
    sides = np.abs(supply) + THROUGH * sums(network.arc_tail, tally.arc_flow, network.nodes)
    if problem.objective is Objective.max_throughput:
        low, high = np.minimum(supply, 0.0), np.maximum(supply, 0.0)
    elif problem.objective is Objective.max_concurrent:
        low = high = supply * _shipped_share(network, net)
    else:
        low = high = supply
    excess = np.maximum(low - net, net - high)
    wrong = {
        Rule.flow_conservation: ("at node '{}' {:.12g} Gbit/s more leave than enter, and it has no supply", supply == 0),
        Rule.node_supply: ("node '{}' sends {:.12g} Gbit/s more than it receives, and its supply is {:.12g}", supply != 0),
    }
    for rule, (text, mask) in wrong.items():
        broken.where(
            rule,
            np.where(mask, excess, 0.0),
            sides,
            "Gbit/s",
            lambda node, text=text: ((names[node],), text.format(names[node], net[node], supply[node])),  # type: ignore[misc]
        )
    if plan.routes or plan.route_table is not None:
        count = len(plan.routes) + len(plan.route_table.demand if plan.route_table is not None else ())
        broken.add(Violation(Rule.flow_conservation, (), float(count), "routes", "the plan has routes, and there are no demands"))


def _shipped_share(network: Network, net: Floats) -> float:
    total = float(network.supply.clip(0.0).sum())
    return max(0.0, float(net[network.supply > 0].sum()) / total) if total > 0 else 0.0


def supply_goals(problem: Problem, tally: Tally) -> dict[str, float]:
    """The value of the one goal of a problem with supplies."""
    network = network_of(problem)
    net = net_outflow(network, tally.arc_flow)
    (name,) = goal_names(problem)
    match problem.objective:
        case Objective.min_cost:
            return {name: float(network.arc_cost @ tally.arc_flow)}
        case Objective.max_throughput:
            return {name: float(np.minimum(net, network.supply)[network.supply > 0].sum())}
        case Objective.max_concurrent:
            return {name: _shipped_share(network, net)}
        case _:
            return {name: largest_utilisation(network, tally.channel_load(network))}


def metrics(problem: Problem, plan: Plan, tally: Tally) -> dict[str, float]:
    """Plain facts about a routing, whatever its goal."""
    network, traffic = network_of(problem), traffic_of(problem)
    got = served(problem, plan, tally)
    if problem.failures is not None and problem.failures.mode == "cvar":
        got = np.minimum(got, traffic.size)
    supplied = is_supplied(problem)
    net = net_outflow(network, tally.arc_flow)
    shipped = float(net[network.supply > 0].sum())
    return {
        "max_utilisation": largest_utilisation(network, tally.channel_load(network)),
        "throughput": shipped if supplied else float(got.sum()),
        "concurrent": _shipped_share(network, net) if supplied else float((got / traffic.size).min()) if traffic.count else 0.0,
        "cost": float(network.arc_cost @ tally.arc_flow),
        "demands": traffic.count,
        "links": network.links,
        "routes": tally.routes,
    }

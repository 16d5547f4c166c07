"""Mistakes in what goes together: supplies or demands, the fields of each use, choices of paths, failures, transfers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.contract import Warned
from models.flow.checks import places, pointer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.flow.network.arrays import Network
    from models.flow.schema import Failures, Horizon, ListedPath, Problem, Transfer

MOST_SURVIVED = 2_000  # failures of a design
MOST_COPIES = 1_000_000_000  # of a module: a plan counts no further
MOST_OVER_TIME = 10_000_000  # steps times arcs of a network over time that fits in memory
BALANCE = 1e-9  # relative: what the supplies of a balanced problem may sum to


def use_errors(problem: Problem) -> Iterator[Warned]:
    """What the chosen use, objective and choices need and do not get, or get and cannot use."""
    yield from _parts(problem)
    if problem.use == "route":
        yield from _supplies(problem)
    elif problem.use == "transfer":
        yield from _transfers(problem)
    else:
        yield from _designed(problem)
    yield from _unsigned(problem)
    yield from _bounds_below(problem)
    yield from _paths(problem)
    yield from _failures(problem)


def _parts(problem: Problem) -> Iterator[Warned]:
    """The parts of a problem that belong to one use only."""
    use = problem.use
    for name, owner, given in (
        ("design", "design", problem.design is not None),
        ("transfers", "transfer", bool(problem.transfers)),
        ("horizon", "transfer", problem.horizon is not None),
    ):
        if given and use != owner:
            yield Warned(f"/{name}", f"{name}_unused", f"{name} is for use {owner}, and use is {use}; leave it out or set use to {owner}")
        elif not given and use == owner:
            yield Warned(f"/{name}", f"{name}_missing", f"use {use} needs {name}; add it, or set use to route")
    demands = bool(problem.demands) or problem.demand_table is not None
    supplies = _has_supplies(problem)
    part = _supply_part(problem)
    if use == "transfer":
        if demands or supplies:
            at = "/demands" if problem.demands else "/demand_table" if demands else part
            yield Warned(at, "demands_unused", "use transfer carries transfers only; leave demands and supplies out, or set use to route")
    elif demands and supplies:
        detail = "demands and node supplies do not go together; give every stream as a demand, or leave the demands out"
        yield Warned(part, "demands_and_supplies", detail)
    elif supplies and use == "design":
        yield Warned(part, "supplies_unused", "use design carries demands, not node supplies; give every stream as a demand")
    elif not (demands or supplies):
        yield Warned("/demands", "nothing_to_carry", "there is nothing to carry; give demands, or supply_gbps of nodes")


def _has_supplies(problem: Problem) -> bool:
    from models.flow.network.arrays import network_of

    network = network_of(problem)
    return bool(network.supply.any()) or (_circulates(problem) and bool((network.link_cost < 0).any() or (network.link_lower > 0).any()))


def _circulates(problem: Problem) -> bool:
    """Whether it is about a flow that goes around: nothing comes from anywhere, and there are no demands."""
    demands = bool(problem.demands) or problem.demand_table is not None
    return problem.use == "route" and problem.objective == "min_cost" and not demands


def _supply_part(problem: Problem) -> str:
    return "/nodes" if problem.node_table is None else "/node_table/supply_gbps"


def _supplies(problem: Problem) -> Iterator[Warned]:
    from models.flow.network.arrays import network_of

    if not _has_supplies(problem):
        return
    supply = network_of(problem).supply
    part = _supply_part(problem)
    if problem.objective == "max_min_fair":
        detail = "max_min_fair shares capacity among demands, and there are only node supplies; give every stream as a demand"
        yield Warned("/objective", "fair_needs_demands", detail)
    excess = float(supply.sum())
    if problem.objective != "max_throughput" and abs(excess) > BALANCE * float(np.abs(supply).sum()):
        said = f"exceed the needs by {excess:.12g}" if excess > 0 else f"fall short of the needs by {-excess:.12g}"
        detail = f"the supplies {said} Gbit/s, and {problem.objective} carries all of both; balance them, or choose max_throughput"
        yield Warned(part, "supplies_unbalanced", detail)


def _designed(problem: Problem) -> Iterator[Warned]:
    from models.flow.network.arrays import traffic_of

    traffic = traffic_of(problem)
    for place in places(np.isfinite(traffic.latency_limit)):
        detail = f"demand '{traffic.ids[place]}' has a latency limit, which use design does not keep; leave it out, or set use to route"
        yield Warned(pointer(problem, "demands", place, "latency_limit_ms"), "latency_not_supported", detail)
    total = float(traffic.size.sum())
    at_most_one = problem.design is not None and problem.design.modules_per_link == "one"
    for place, link in enumerate(() if at_most_one else problem.links):
        for number, module in enumerate(link.modules):
            if module.most is None and total > MOST_COPIES * module.capacity_gbps:
                detail = (
                    f"module '{module.id}' of link '{link.id}' has {module.capacity_gbps:.6g} Gbit/s, of which all demands, {total:.6g} "
                    f"Gbit/s, would take more than {MOST_COPIES:,}; give a larger module, or the most that may be added"
                )
                yield Warned(f"/links/{place}/modules/{number}/capacity_gbps", "module_too_small", detail)


def _unsigned(problem: Problem) -> Iterator[Warned]:
    """Demands use paths without loops: with negative costs the cheapest of them is a hard problem of its own, so it is refused."""
    from models.flow.network.arrays import network_of

    counted = problem.use == "design" or (problem.use == "route" and (problem.objective == "min_cost" or problem.paths.by == "cost"))
    if _has_supplies(problem) or not counted:
        return
    network = network_of(problem)
    for place in places(network.link_cost < 0):
        detail = (
            f"link '{network.link_ids[place]}' has the cost {network.link_cost[place]:.12g}, "
            "and routes of demands take costs of 0 or more; raise it to 0, or give the traffic as node supplies"
        )
        yield Warned(pointer(problem, "links", place, "cost"), "negative_cost", detail)


def _bounds_below(problem: Problem) -> Iterator[Warned]:
    from models.flow.network.arrays import network_of

    network = network_of(problem)
    if problem.use == "route" and _has_supplies(problem):
        return
    for place in places(network.link_lower > 0):
        detail = (
            f"link '{network.link_ids[place]}' has a lower bound, which only the flow of node supplies can keep; "
            "leave lower_gbps out, or give the traffic as supply_gbps of nodes"
        )
        yield Warned(pointer(problem, "links", place, "lower_gbps"), "lower_needs_supplies", detail)


# ---------------------------------------------------------------- paths


def _paths(problem: Problem) -> Iterator[Warned]:
    paths = problem.paths
    counted = paths.choice in {"shortest", "edge_disjoint"}
    if counted and paths.k is None:
        yield Warned("/paths/k", "k_missing", f"paths {paths.choice} needs k, the number of paths for each demand; add it")
    elif not counted and paths.k is not None:
        detail = f"k is for the choices shortest and edge_disjoint, and the choice is {paths.choice}; leave it out"
        yield Warned("/paths/k", "k_unused", detail)
    if paths.listed and paths.choice != "listed":
        detail = f"paths are listed and the choice is {paths.choice}; set the choice to listed or leave them out"
        yield Warned("/paths/listed", "listed_unused", detail)
    elif not paths.listed and paths.choice == "listed":
        yield Warned("/paths/listed", "listed_missing", "the choice is listed and no path is; list paths or choose another way")
    if paths.choice == "all":
        return
    if problem.use != "route":
        detail = f"use {problem.use} takes the choice all only; leave paths out"
        yield Warned("/paths/choice", "paths_not_supported", detail)
    elif _has_supplies(problem):
        yield Warned("/paths/choice", "paths_need_demands", "node supplies have no paths of their own; leave paths out or give demands")
    else:
        for place, one in enumerate(paths.listed):
            yield from _listed(problem, place, one)


def _listed(problem: Problem, place: int, path: ListedPath) -> Iterator[Warned]:
    from models.flow.network.arrays import network_of, traffic_of

    network, traffic = network_of(problem), traffic_of(problem)
    demand = traffic.at.get(path.demand)
    if demand is None:
        yield Warned(f"/paths/listed/{place}/demand", "unknown_demand", f"there is no demand '{path.demand}'; correct the name")
        return
    node, target = int(traffic.source[demand]), int(traffic.target[demand])
    seen = {node}
    for number, name in enumerate(path.links):
        at = f"/paths/listed/{place}/links/{number}"
        link = network.link_at.get(name)
        if link is None:
            yield Warned(at, "unknown_link", f"there is no link '{name}'; correct the name")
            return
        following = _across(network, link, node)
        if following is None:
            detail = f"link '{name}' does not start at '{network.node_ids[node]}'; list the links in order from its source"
            yield Warned(at, "path_broken", detail)
            return
        node = following
        if node in seen:
            detail = f"the path of '{path.demand}' comes to '{network.node_ids[node]}' twice; cut the loop out"
            yield Warned(at, "path_loops", detail)
            return
        seen.add(node)
    if node != target:
        ends = (network.node_ids[node], network.node_ids[target])
        detail = f"the path ends at '{ends[0]}', and demand '{path.demand}' goes to '{ends[1]}'; add the rest of it"
        yield Warned(f"/paths/listed/{place}/links/{len(path.links) - 1}", "path_broken", detail)


def _across(network: Network, link: int, node: int) -> int | None:
    """The other end of a link, when one can go over it from ``node``."""
    tail, head = int(network.link_tail[link]), int(network.link_head[link])
    if node == tail:
        return head
    return tail if node == head and network.backward_arc[link] >= 0 else None


# ---------------------------------------------------------------- failures


def _failures(problem: Problem) -> Iterator[Warned]:
    failures = problem.failures
    if failures is not None:
        if problem.use != "route":
            instead = "; use design.survive" if problem.use == "design" else "; leave failures out"
            yield Warned("/failures", "failures_unused", f"failures are for use route, and use is {problem.use}{instead}")
        elif _has_supplies(problem):
            yield Warned("/failures", "failures_need_demands", "failures are about demands; give the traffic as demands, not as supplies")
        yield from _failing(problem, failures, "/failures")
    if problem.design is not None and problem.design.survive is not None:
        survive = problem.design.survive
        if survive.mode == "cvar":
            detail = "what a design survives it carries in full, so that there is no loss to take the mean of; set mode to sweep"
            yield Warned("/design/survive/mode", "mode_not_supported", detail)
        yield from _failing(problem, survive, "/design/survive")
        yield from _survivable(problem, survive)


def _survivable(problem: Problem, survive: Failures) -> Iterator[Warned]:
    """Each failure of a design is looked at by itself."""
    from math import comb

    groups = {group for link in problem.links for group in link.risk_groups}
    families = ((len(problem.links), survive.any_links), (len(groups), survive.any_risk_groups))
    count = len(survive.scenarios) + sum(comb(of, taken) for of, most in families for taken in range(1, min(of, most) + 1))
    if count > MOST_SURVIVED:
        detail = f"a design is checked against each failure by itself, and these are {count:,}; give at most {MOST_SURVIVED:,}"
        yield Warned("/design/survive", "too_many_scenarios", detail)


def _failing(problem: Problem, failures: Failures, at: str) -> Iterator[Warned]:
    from models.flow.network.arrays import network_of

    links = network_of(problem).link_at
    groups = {group for link in problem.links for group in link.risk_groups}
    if not (failures.scenarios or failures.any_links or failures.any_risk_groups):
        yield Warned(at, "no_failures", "nothing fails; list scenarios, or set any_links or any_risk_groups to 1 or more")
    if failures.any_risk_groups and not groups:
        yield Warned(f"{at}/any_risk_groups", "no_risk_groups", "no link has a risk group; give links risk_groups or leave this out")
    for place, scenario in enumerate(failures.scenarios):
        for column, names, known, what in (
            ("links", scenario.links, links, "link"),
            ("risk_groups", scenario.risk_groups, groups, "risk group"),
        ):
            for number, name in enumerate(names):
                if name not in known:
                    where = f"{at}/scenarios/{place}/{column}/{number}"
                    yield Warned(where, f"unknown_{column[:-1]}", f"no {what} is called '{name}'; correct the name")
    if failures.mode == "cvar":
        yield from _probabilities(failures, at)


def _probabilities(failures: Failures, at: str) -> Iterator[Warned]:
    if failures.any_links or failures.any_risk_groups:
        detail = "cvar needs the probability of every scenario, and those of any_links and any_risk_groups have none; list the scenarios"
        yield Warned(f"{at}/{'any_links' if failures.any_links else 'any_risk_groups'}", "probability_missing", detail)
    for place, scenario in enumerate(failures.scenarios):
        if scenario.probability is None:
            detail = f"cvar needs the probability of scenario '{scenario.id}'; add it"
            yield Warned(f"{at}/scenarios/{place}/probability", "probability_missing", detail)
    if failures.beta == 1.0:
        yield Warned(f"{at}/beta", "nothing_looked_at", "a beta of 1 leaves no scenario to look at; use a smaller one, such as 0.95")
    total = sum(one.probability or 0.0 for one in failures.scenarios)
    if total > 1 + 1e-9:  # what adding up may lose
        detail = f"the probabilities add up to {total:.12g}; they may add up to 1 at most, what is missing is that nothing fails"
        yield Warned(f"{at}/scenarios", "probabilities_exceed_1", detail)


# ---------------------------------------------------------------- transfers


def _transfers(problem: Problem) -> Iterator[Warned]:
    from models.flow.network.arrays import network_of

    horizon = problem.horizon
    if horizon is None:
        return  # told already
    arcs = network_of(problem).arcs
    if horizon.steps * max(arcs, 1) > MOST_OVER_TIME:
        detail = f"{horizon.steps:,} steps of {arcs:,} ways over links are more than fit in memory; take fewer, longer ones"
        yield Warned("/horizon/steps", "too_large", detail)
        return
    for place, transfer in enumerate(problem.transfers):
        yield from _window(place, transfer, horizon)
    for place, link in enumerate(problem.links):
        if len(link.usd_per_gbit) not in {0, 1, horizon.steps}:
            detail = f"link '{link.id}' has {len(link.usd_per_gbit)} prices for {horizon.steps} steps; give one price, or one for each step"
            yield Warned(f"/links/{place}/usd_per_gbit", "wrong_length", detail)


def _window(place: int, transfer: Transfer, horizon: Horizon) -> Iterator[Warned]:
    deadline = horizon.steps if transfer.deadline is None else transfer.deadline
    at = f"/transfers/{place}/{'release' if transfer.deadline is None else 'deadline'}"
    if deadline > horizon.steps:
        detail = (
            f"the deadline of transfer '{transfer.id}', {deadline}, is beyond the horizon of {horizon.steps} steps; lower it or add steps"
        )
        yield Warned(at, "deadline_beyond_horizon", detail)
    if transfer.release >= deadline:
        detail = (
            f"transfer '{transfer.id}' may start in step {transfer.release} and must end before step {deadline}; give it at least one step"
        )
        yield Warned(at, "empty_window", detail)

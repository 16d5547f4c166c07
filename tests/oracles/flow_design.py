"""The cheapest design of a tiny network by brute force: every count of every module, and scipy says whether all demands fit.

Flows are written down for each demand on its own; nothing is aggregated, turned round or cut. Only the problem itself is read.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linprog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.flow.schema import Link, Problem


def best_cost(problem: Problem, copies: int = 2) -> float | None:
    """The least cost over all designs with at most ``copies`` of each module; None when none carries everything."""
    return min((cost for _, cost in designs(problem, copies)), default=None)


def designs(problem: Problem, copies: int = 2) -> Iterator[tuple[dict[tuple[str, str], int], float]]:
    """Every design that carries everything, with what it costs when it is routed at least cost."""
    design = problem.design
    assert design is not None
    offered = [(link, module) for link in problem.links for module in link.modules]
    most = [min(copies, copies if module.most is None else module.most) for _, module in offered]
    for counts in product(*(range(one + 1) for one in most)):
        chosen = {(link.id, module.id): count for (link, module), count in zip(offered, counts, strict=True) if count}
        used = [sum(count for (name, _), count in chosen.items() if name == link.id) for link in problem.links]
        if design.modules_per_link == "one" and max(used, default=0) > 1:
            continue
        capacity = {
            link.id: None
            if link.capacity_gbps is None
            else link.capacity_gbps + sum(chosen.get((link.id, module.id), 0) * module.capacity_gbps for module in link.modules)
            for link in problem.links
        }
        routing = routing_cost(problem, capacity, frozenset())
        if routing is None or any(routing_cost(problem, capacity, down) is None for down in failures(problem)):
            continue
        building = sum(count * module.cost for (_, module), count in zip(offered, counts, strict=True))
        setup = sum(link.setup_cost for link, count in zip(problem.links, used, strict=True) if count)
        yield chosen, building + setup + routing + design.installed_cost


def failures(problem: Problem) -> list[frozenset[str]]:
    """The links that fail together, for single links, single risk groups and listed scenarios."""
    assert problem.design is not None
    survive = problem.design.survive
    if survive is None:
        return []
    groups = sorted({group for link in problem.links for group in link.risk_groups})
    members = {group: frozenset(link.id for link in problem.links if group in link.risk_groups) for group in groups}
    found = [frozenset(one.links).union(*(members[group] for group in one.risk_groups)) for one in survive.scenarios]
    found += [frozenset((link.id,)) for link in problem.links] if survive.any_links else []
    return found + (list(members.values()) if survive.any_risk_groups else [])


def routing_cost(problem: Problem, capacity: dict[str, float | None], down: frozenset[str]) -> float | None:
    """What routing everything costs at least; None when it does not fit."""
    arcs = [(link, way) for link in problem.links if link.id not in down for way in _ways(link)]
    nodes = [node.id for node in problem.nodes]
    charged = [link for link in problem.links if problem.design and problem.design.charge == "larger" and link.direction == "each"]
    growth = problem.design.growth if problem.design else 1.0
    flows, columns = len(arcs), len(arcs) * len(problem.demands) + len(charged)
    cost = np.zeros(columns)
    balance, wanted = np.zeros((len(nodes) * len(problem.demands), columns)), np.zeros(len(nodes) * len(problem.demands))
    room: list[tuple[np.ndarray, float]] = []
    for number, demand in enumerate(problem.demands):
        for place, (link, (tail, head)) in enumerate(arcs):
            column = number * flows + place
            cost[column] = 0.0 if link in charged else link.cost
            balance[number * len(nodes) + nodes.index(tail), column] -= 1
            balance[number * len(nodes) + nodes.index(head), column] += 1
        wanted[number * len(nodes) + nodes.index(demand.source)] -= demand.size_gbps * growth
        wanted[number * len(nodes) + nodes.index(demand.target)] += demand.size_gbps * growth
    for link in problem.links:
        ways = [place for place, (other, _) in enumerate(arcs) if other is link]
        for together in [ways] if link.direction == "shared" else [[one] for one in ways]:
            row = np.zeros(columns)
            row[[number * flows + place for number in range(len(problem.demands)) for place in together]] = 1
            limit = capacity[link.id]
            if limit is not None:
                room.append((row, limit + 1e-9))
            if link in charged:
                larger = row.copy()
                larger[len(arcs) * len(problem.demands) + charged.index(link)] = -1
                room.append((larger, 0.0))
    for place, link in enumerate(charged):
        cost[len(arcs) * len(problem.demands) + place] = link.cost
    if not columns:
        return 0.0 if not wanted.any() else None
    upper = (np.array([row for row, _ in room]), np.array([side for _, side in room])) if room else (None, None)
    found = linprog(cost, A_ub=upper[0], b_ub=upper[1], A_eq=balance, b_eq=wanted, method="highs")
    return float(found.fun) if found.status == 0 else None


def _ways(link: Link) -> list[tuple[str, str]]:
    forth = (link.source, link.target)
    return [forth] if link.direction == "directed" else [forth, (link.target, link.source)]

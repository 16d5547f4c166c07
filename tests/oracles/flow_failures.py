"""Failures worked out the long way: every loopless path, every scenario, one program with all rows, solved by scipy."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linprog

if TYPE_CHECKING:
    from models.flow.schema import Demand, Problem

Path = tuple[tuple[str, bool], ...]


def all_paths(problem: Problem, demand: Demand) -> list[Path]:
    """Every loopless path over links with capacity, within the latency limit, or those that are listed: (link, backwards)."""
    if problem.paths.choice == "listed":
        return [_walked(problem, demand, one.links) for one in problem.paths.listed if one.demand == demand.id]
    found: list[Path] = []
    limit = demand.latency_limit_ms if demand.latency_limit_ms is not None else float("inf")

    def extend(node: str, seen: tuple[str, ...], taken: Path, latency: float) -> None:
        if node == demand.target:
            found.append(taken)
            return
        for link in problem.links:
            for back in (False, True) if link.direction != "directed" else (False,):
                start, end = (link.target, link.source) if back else (link.source, link.target)
                later = latency + link.latency_ms
                if start == node and end not in seen and link.capacity_gbps != 0 and later <= limit + 1e-9:
                    extend(end, (*seen, end), (*taken, (link.id, back)), later)

    extend(demand.source, (demand.source,), (), 0.0)
    return found


def _walked(problem: Problem, demand: Demand, links: tuple[str, ...]) -> Path:
    node, taken = demand.source, list[tuple[str, bool]]()
    for name in links:
        link = next(one for one in problem.links if one.id == name)
        back = link.source != node
        node = link.source if back else link.target
        taken.append((name, back))
    return tuple(taken)


def scenarios(problem: Problem) -> list[frozenset[str]]:
    """Every different set of links that may be down, the empty one first."""
    failures = problem.failures
    assert failures is not None
    groups: dict[str, set[str]] = {}
    for link in problem.links:
        for group in link.risk_groups:
            groups.setdefault(group, set()).add(link.id)
    found = [frozenset[str]()]
    found += [frozenset(one.links).union(*(groups[group] for group in one.risk_groups)) for one in failures.scenarios]
    for size in range(1, failures.any_links + 1):
        found += [frozenset(link.id for link in some) for some in combinations(problem.links, size)]
    for size in range(1, failures.any_risk_groups + 1):
        found += [frozenset().union(*(groups[name] for name in some)) for some in combinations(groups, size)]
    return list(dict.fromkeys(found))


def channels(problem: Problem) -> dict[tuple[str, bool], float]:
    """The capacity of each channel; both ways of a shared link are one."""
    found = {}
    for link in problem.links:
        found[link.id, False] = float("inf") if link.capacity_gbps is None else link.capacity_gbps
        if link.direction == "each":
            found[link.id, True] = found[link.id, False]
    return found


def channel(problem: Problem, hop: tuple[str, bool]) -> tuple[str, bool]:
    """The channel that a hop uses."""
    return hop if (hop in channels(problem)) else (hop[0], False)


class Program:
    """Rows over named variables, all at least 0; minimised."""

    def __init__(self) -> None:
        self.place: dict[object, int] = {}
        self.rows: list[tuple[dict[object, float], float]] = []  # sum <= side

    def at_most(self, terms: dict[object, float], side: float) -> None:
        """One row."""
        for name in terms:
            self.place.setdefault(name, len(self.place))
        self.rows.append((terms, side))

    def least(self, cost: dict[object, float]) -> float | None:
        """The optimum, None where there is none."""
        for name in cost:
            self.place.setdefault(name, len(self.place))
        rows, vector = np.zeros((len(self.rows), len(self.place))), np.zeros(len(self.place))
        for number, (terms, _) in enumerate(self.rows):
            for name, value in terms.items():
                rows[number, self.place[name]] += value
        for name, value in cost.items():
            vector[self.place[name]] += value
        found = linprog(vector, rows, [side for _, side in self.rows], method="highs")
        return float(found.fun) if found.status == 0 else None


def _load(problem: Problem, demands: tuple[Demand, ...]) -> dict[tuple[str, bool], dict[object, float]]:
    load: dict[tuple[str, bool], dict[object, float]] = {one: {} for one in channels(problem)}
    for demand in demands:
        for number, path in enumerate(all_paths(problem, demand)):
            for hop in path:
                terms = load[channel(problem, hop)]
                terms["a", demand.id, number] = terms.get(("a", demand.id, number), 0.0) + 1.0
    return load


def protected(problem: Problem) -> list[float] | None:
    """The goals of protection, most important class first; None when it is impossible."""
    program = Program()
    for demand in problem.demands:
        _grant(problem, demand, program)
    if problem.objective != "min_max_utilisation":
        _full(problem, program)
    goals = []
    for priority in sorted({demand.priority for demand in problem.demands}, reverse=True):
        goal: object = ("goal", priority)
        sign = -1.0 if problem.objective.startswith("max") else 1.0
        _aim(problem, priority, goal, program)
        best = program.least({goal: sign})
        if best is None:
            return None
        goals.append(sign * best)
        program.at_most({goal: sign}, best + 1e-9 * max(1.0, abs(best)))
    return goals


def _grant(problem: Problem, demand: Demand, program: Program) -> None:
    for down in scenarios(problem):
        terms: dict[object, float] = {("b", demand.id): 1.0}
        for number, path in enumerate(all_paths(problem, demand)):
            if not down & {hop[0] for hop in path}:
                terms["a", demand.id, number] = -1.0
        program.at_most(terms, 0.0)
    if problem.objective != "max_concurrent":
        program.at_most({("b", demand.id): 1.0}, demand.size_gbps)
    if problem.objective in {"min_cost", "min_max_utilisation"}:
        program.at_most({("b", demand.id): -1.0}, -demand.size_gbps)


def _full(problem: Problem, program: Program) -> None:
    for one, load in _load(problem, problem.demands).items():
        if np.isfinite(channels(problem)[one]) and load:
            program.at_most(load, channels(problem)[one])


def _aim(problem: Problem, priority: int, goal: object, program: Program) -> None:
    own = tuple(demand for demand in problem.demands if demand.priority == priority)
    if problem.objective == "max_throughput":
        terms: dict[object, float] = {goal: 1.0}
        program.at_most(terms | {("b", demand.id): -demand.value for demand in own}, 0.0)
    elif problem.objective == "max_concurrent":
        for demand in own:
            program.at_most({goal: demand.size_gbps, ("b", demand.id): -1.0}, 0.0)
    elif problem.objective == "min_cost":
        cost_of = {link.id: link.cost for link in problem.links}
        terms = {goal: -1.0}
        for demand in own:
            for number, path in enumerate(all_paths(problem, demand)):
                terms["a", demand.id, number] = sum(cost_of[hop[0]] for hop in path)
        program.at_most(terms, 0.0)
    else:
        above = tuple(demand for demand in problem.demands if demand.priority >= priority)
        for one, load in _load(problem, above).items():
            if np.isfinite(channels(problem)[one]) and load:
                program.at_most({**load, goal: -channels(problem)[one]}, 0.0)


def tail_loss(problem: Problem) -> float:
    """The least CVaR of the largest loss."""
    failures = problem.failures
    assert failures is not None
    program = Program()
    chance: dict[frozenset[str], float] = {}
    groups = {
        group: {link.id for link in problem.links if group in link.risk_groups} for link in problem.links for group in link.risk_groups
    }
    for one in failures.scenarios:
        down = frozenset(one.links).union(*(groups[group] for group in one.risk_groups))
        chance[down] = chance.get(down, 0.0) + (one.probability or 0.0)
    chance[frozenset()] = chance.get(frozenset(), 0.0) + max(0.0, 1.0 - sum(chance.values()))
    _full(problem, program)
    for down in chance:
        for demand in problem.demands:
            terms: dict[object, float] = {("loss", down): -1.0}
            for number, path in enumerate(all_paths(problem, demand)):
                if not down & {hop[0] for hop in path}:
                    terms["a", demand.id, number] = -1.0 / demand.size_gbps
            program.at_most(terms, -1.0)
        program.at_most({("loss", down): 1.0, "at risk": -1.0, ("beyond", down): -1.0}, 0.0)
    tail = 1.0 - failures.beta
    best = program.least({"at risk": 1.0, **{("beyond", down): share / tail for down, share in chance.items()}})
    assert best is not None
    return best


def aftermath(problem: Problem, down: frozenset[str]) -> tuple[float, set[str]]:
    """The least utilisation of the busiest link with some links down, and the demands without a path."""
    cut = set()
    served: list[tuple[Demand, list[tuple[int, Path]]]] = []
    for demand in problem.demands:
        paths = [(number, path) for number, path in enumerate(all_paths(problem, demand)) if not down & {hop[0] for hop in path}]
        if paths:
            served.append((demand, paths))
        else:
            cut.add(demand.id)
    program = Program()
    load: dict[tuple[str, bool], dict[object, float]] = {}
    for demand, paths in served:
        program.at_most({("x", demand.id, number): -1.0 for number, _ in paths}, -demand.size_gbps)
        for number, path in paths:
            for hop in path:
                load.setdefault(channel(problem, hop), {})["x", demand.id, number] = 1.0
    for one, terms in load.items():
        if np.isfinite(channels(problem)[one]):
            program.at_most({**terms, "u": -channels(problem)[one]}, 0.0)
    best = program.least({"u": 1.0})
    assert best is not None
    return best, cut

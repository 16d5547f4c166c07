"""The optimum of a small routing by brute force: every simple path of every demand is a column, and scipy solves the rest.

Nothing here is shared with the kind but the arrays of the problem: paths are found by trying every arc, goals are written down once
more, and max-min fairness asks for each demand on its own whether it can have more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linprog

from models.flow.network.arrays import network_of, traffic_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.flow.network.arrays import Network
    from models.flow.schema import Problem

SAME = 1e-7  # what linprog's answers are exact to
Path = tuple[int, ...]


@dataclass(frozen=True)
class Optimum:
    """The value of each goal in order, and what each demand gets (of a fair allocation, where it is unique)."""

    values: dict[str, float]
    rates: dict[str, float]


def simple_paths(network: Network, source: int, target: int) -> Iterator[Path]:
    """Every path without loops, as arcs."""
    if source == target:
        yield ()
        return

    def onwards(node: int, path: Path, seen: frozenset[int]) -> Iterator[Path]:
        for arc in range(network.arcs):
            if network.arc_tail[arc] == node and int(network.arc_head[arc]) not in seen:
                head = int(network.arc_head[arc])
                if head == target:
                    yield (*path, arc)
                else:
                    yield from onwards(head, (*path, arc), seen | {head})

    yield from onwards(source, (), frozenset((source,)))


def paths_of(problem: Problem) -> dict[int, list[Path]]:
    """The paths of each demand within its latency limit; only those listed where they are."""
    network, traffic = network_of(problem), traffic_of(problem)
    found: dict[int, list[Path]] = {}
    for demand in range(traffic.count):
        limit = traffic.latency_limit[demand] + 1e-9
        every = simple_paths(network, int(traffic.source[demand]), int(traffic.target[demand]))
        found[demand] = [path for path in every if sum(network.arc_latency[arc] for arc in path) <= limit]
    if problem.paths.choice == "listed":
        listed = {(one.demand, one.links) for one in problem.paths.listed}
        for demand, paths in found.items():
            names = [tuple(network.link_ids[network.arc_link[arc]] for arc in path) for path in paths]
            found[demand] = [path for path, links in zip(paths, names, strict=True) if (traffic.ids[demand], links) in listed]
    return found


def best(problem: Problem, paths: dict[int, list[Path]] | None = None) -> Optimum | None:
    """The lexicographic optimum; None when no plan exists. Raises ValueError when a goal has no limit."""
    network = network_of(problem)
    if network.supply.any():
        return _best_supplies(problem)
    return _Demands(problem, paths_of(problem) if paths is None else paths).best()


class _Program:
    """Rows collected one by one, solved by linprog. Columns are 0 or more."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.below: list[tuple[np.ndarray[Any, Any], float]] = []
        self.equal: list[tuple[np.ndarray[Any, Any], float]] = []

    def copy(self) -> _Program:
        other = _Program(self.columns)
        other.below, other.equal = list(self.below), list(self.equal)
        return other

    def largest(self, goal: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]] | None:
        """The largest value of a goal and where it is attained."""
        arguments: dict[str, Any] = {}
        if self.below:
            arguments |= {"A_ub": np.array([row for row, _ in self.below]), "b_ub": np.array([side for _, side in self.below])}
        if self.equal:
            arguments |= {"A_eq": np.array([row for row, _ in self.equal]), "b_eq": np.array([side for _, side in self.equal])}
        found = linprog(-goal, bounds=(0, None), method="highs", **arguments)
        if found.status == 2:
            return None
        if found.status != 0:
            raise ValueError(f"no optimum: {found.message}")
        return -found.fun, found.x


class _Demands:
    def __init__(self, problem: Problem, paths: dict[int, list[Path]]) -> None:
        self.problem, self.network, self.traffic = problem, network_of(problem), traffic_of(problem)
        self.routes = [(demand, path) for demand, own in paths.items() for path in own]
        self.extra = len(self.traffic.classes)  # one more column for each class: a share, a rate or a utilisation
        self.columns = len(self.routes) + self.extra

    def served(self, demand: int) -> np.ndarray[Any, Any]:
        return np.array([float(own == demand) for own, _ in self.routes] + [0.0] * self.extra)

    def load(self, channel: int, least: int = -(10**6)) -> np.ndarray[Any, Any]:
        return np.array(
            [
                float(sum(self.network.arc_channel[arc] == channel for arc in path)) * (self.traffic.priority[demand] >= least)
                for demand, path in self.routes
            ]
            + [0.0] * self.extra
        )

    def unit(self, number: int) -> np.ndarray[Any, Any]:
        row = np.zeros(self.columns)
        row[len(self.routes) + number] = 1.0
        return row

    def program(self) -> _Program:
        found, objective = _Program(self.columns), self.problem.objective
        for channel, capacity in enumerate(self.network.channel_capacity):
            if not np.isfinite(capacity):
                continue
            if objective != "min_max_utilisation" or capacity == 0:
                found.below.append((self.load(channel), capacity))
                continue
            for number, priority in enumerate(self.traffic.classes):
                found.below.append((self.load(channel, priority) - capacity * self.unit(number), 0.0))
        for demand in range(self.traffic.count):
            served, size = self.served(demand), self.traffic.size[demand]
            number = self.traffic.classes.index(int(self.traffic.priority[demand]))
            if objective in {"min_cost", "min_max_utilisation"}:
                found.equal.append((served, size))
            elif objective == "max_concurrent":
                found.below.append((size * self.unit(number) - served, 0.0))
            else:
                found.below.append((served, size))
        return found

    def goal(self, number: int, priority: int) -> tuple[str, float, np.ndarray[Any, Any]]:
        own = [self.traffic.priority[demand] == priority for demand, _ in self.routes]
        nothing = [0.0] * self.extra
        match self.problem.objective:
            case "min_cost":
                costs = [sum(self.network.arc_cost[arc] for arc in path) for _, path in self.routes]
                return "cost", -1.0, np.array([cost * mine for cost, mine in zip(costs, own, strict=True)] + nothing)
            case "max_throughput":
                values = [self.traffic.value[demand] * mine for (demand, _), mine in zip(self.routes, own, strict=True)]
                return "throughput", 1.0, np.array(values + nothing)
            case "max_concurrent":
                return "concurrent", 1.0, self.unit(number)
            case _:
                return "max_utilisation", -1.0, self.unit(number)

    def best(self) -> Optimum | None:
        program = self.program()
        several = len(self.traffic.classes) > 1
        if self.problem.objective == "max_min_fair":
            return self.fair(program)
        values: dict[str, float] = {}
        attained = np.zeros(self.columns)
        for number, priority in enumerate(self.traffic.classes):
            name, sign, goal = self.goal(number, priority)
            found = program.largest(sign * goal)
            if found is None:
                return None
            value, attained = sign * found[0], found[1]
            values[f"{name}[{priority}]" if several else name] = value
            program.below.append((-sign * goal, -sign * value + SAME * max(1.0, abs(value)) / 100))
        rates = {self.traffic.ids[one]: float(self.served(one) @ attained) for one in range(self.traffic.count)}
        return Optimum(values, rates)

    def fair(self, program: _Program) -> Optimum:
        """Raise all together as far as it goes, ask each whether it can have more, and hold those that cannot."""
        several = len(self.traffic.classes) > 1
        values: dict[str, float] = {}
        held: dict[int, float] = {}
        for number, priority in enumerate(self.traffic.classes):
            active = [one for one in range(self.traffic.count) if self.traffic.priority[one] == priority]
            own = list(active)
            while active:
                together = self.holding(program, held)
                for one in active:
                    together.below.append((self.traffic.weight[one] * self.unit(number) - self.served(one), 0.0))
                level = together.largest(self.unit(number))
                assert level is not None
                stuck = [one for one in active if not self.can_rise(program, held, active, one, level[0])]
                assert stuck
                held |= {one: level[0] * self.traffic.weight[one] for one in stuck}
                active = [one for one in active if one not in held]
            suffix = f"[{priority}]" if several else ""
            values[f"fair_rate{suffix}"] = min(held[one] / self.traffic.weight[one] for one in own)
            values[f"fair_slack{suffix}"] = 0.0
        return Optimum(values, {self.traffic.ids[one]: rate for one, rate in held.items()})

    def holding(self, program: _Program, held: dict[int, float]) -> _Program:
        found = program.copy()
        found.below += [(-self.served(one), -rate + 1e-9) for one, rate in held.items()]
        return found

    def can_rise(self, program: _Program, held: dict[int, float], active: list[int], demand: int, level: float) -> bool:
        alone = self.holding(program, held)
        for one in active:
            alone.below.append((-self.served(one), -level * self.traffic.weight[one] + 1e-9))
        found = alone.largest(self.served(demand))
        assert found is not None
        return bool(found[0] > self.traffic.weight[demand] * level + 1e-5)


def _best_supplies(problem: Problem) -> Optimum | None:
    """Flows on arcs; the last column is the share or the utilisation."""
    network = network_of(problem)
    program = _Program(network.arcs + 1)
    last = np.zeros(network.arcs + 1)
    last[-1] = 1.0

    def on(arcs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.append(arcs.astype(float), 0.0)

    for channel, capacity in enumerate(network.channel_capacity):
        load = on(network.arc_channel == channel)
        if np.isfinite(capacity):
            stretched = problem.objective == "min_max_utilisation" and capacity > 0
            program.below.append((load - capacity * last, 0.0) if stretched else (load, capacity))
    for link in np.flatnonzero(network.link_lower > 0):
        program.below.append((-on((network.arc_link == link) & ~network.arc_back), -network.link_lower[link]))
    leaving = np.zeros(network.arcs + 1)
    for node, supply in enumerate(network.supply):
        net = on(network.arc_tail == node) - on(network.arc_head == node)
        if problem.objective == "max_throughput":
            program.below += [(net, max(0.0, supply)), (-net, max(0.0, -supply))]
            leaving += net * (supply > 0)
        else:
            program.equal.append((net - supply * last, 0.0) if problem.objective == "max_concurrent" else (net, supply))
    name, sign, goal = {
        "min_cost": ("cost", -1.0, np.append(network.arc_cost, 0.0)),
        "max_throughput": ("throughput", 1.0, leaving),
        "max_concurrent": ("concurrent", 1.0, last),
        "min_max_utilisation": ("max_utilisation", -1.0, last),
    }[problem.objective.value]
    found = program.largest(sign * goal)
    return None if found is None else Optimum({name: sign * found[0]}, {})

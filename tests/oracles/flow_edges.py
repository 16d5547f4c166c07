"""Routing optima by the plain edge form: one variable for each demand and arc, solved by scipy. Slow, and obviously right.

Latency limits and choices of paths are met by listing every loopless path instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linprog

from models.flow.network.arrays import network_of, traffic_of
from models.flow.schema import Problem

Row = tuple[dict[int, float], float]


@dataclass
class Rows:
    """A program in the making: minimise ``cost`` subject to ``less`` (<=) and ``equal``."""

    columns: int = 0
    less: list[Row] = field(default_factory=list)
    equal: list[Row] = field(default_factory=list)

    def solved(self, cost: dict[int, float]) -> tuple[float, Any] | None:
        """Optimum and values, None when nothing is feasible."""

        def matrix(rows: Sequence[Row]) -> tuple[Any, Any]:
            dense = np.zeros((len(rows), self.columns))
            for at, (entries, _) in enumerate(rows):
                for column, value in entries.items():
                    dense[at, column] += value
            return (dense, [side for _, side in rows]) if len(rows) else (None, None)

        objective = np.zeros(self.columns)
        for column, value in cost.items():
            objective[column] += value
        upper, equal = matrix(self.less), matrix(self.equal)
        found = linprog(objective, A_ub=upper[0], b_ub=upper[1], A_eq=equal[0], b_eq=equal[1], bounds=(0, None), method="highs")
        return (float(found.fun), found.x) if found.status == 0 else None


def loopless(problem: Problem, demand: int) -> list[tuple[int, ...]]:
    """Every loopless path of a demand within its latency limit, over arcs with capacity."""
    network, traffic = network_of(problem), traffic_of(problem)
    found: list[tuple[int, ...]] = []

    def go(node: int, arcs: tuple[int, ...], seen: frozenset[int], latency: float) -> None:
        if latency > traffic.latency_limit[demand] + 1e-9:
            return
        if node == traffic.target[demand]:
            found.append(arcs)
            return
        for arc in range(network.arcs):
            head = int(network.arc_head[arc])
            if network.arc_tail[arc] == node and head not in seen and network.channel_capacity[network.arc_channel[arc]] > 0:
                go(head, (*arcs, arc), seen | {head}, latency + float(network.arc_latency[arc]))

    source = int(traffic.source[demand])
    go(source, (), frozenset((source,)), 0.0)
    return found


class Oracle:
    """The optimum of each goal in order, by every path of every demand."""

    def __init__(self, problem: Problem, paths: list[list[tuple[int, ...]]] | None = None) -> None:
        self.problem, self.network, self.traffic = problem, network_of(problem), traffic_of(problem)
        listed = [loopless(problem, demand) for demand in range(self.traffic.count)] if paths is None else paths
        self.columns = [(demand, path) for demand, own in enumerate(listed) for path in own]

    def total(self, demand: int, factor: float = 1.0) -> dict[int, float]:
        return {1 + at: factor for at, (owner, _) in enumerate(self.columns) if owner == demand}

    def load(self, channel: int, least_priority: int = -10_000) -> dict[int, float]:
        entries: dict[int, float] = {}
        for at, (owner, path) in enumerate(self.columns):
            times = sum(1 for arc in path if self.network.arc_channel[arc] == channel)
            if times and self.traffic.priority[owner] >= least_priority:
                entries[1 + at] = float(times)
        return entries

    def rows(self, *, capacity: bool) -> Rows:
        rows = Rows(1 + len(self.columns))
        if capacity:
            for channel, limit in enumerate(self.network.channel_capacity.tolist()):
                if np.isfinite(limit):
                    rows.less.append((self.load(channel), limit))
        return rows

    def cost_of(self, priority: int) -> dict[int, float]:
        return {
            1 + at: float(sum(self.network.arc_cost[arc] for arc in path))
            for at, (owner, path) in enumerate(self.columns)
            if self.traffic.priority[owner] == priority
        }

    def optima(self) -> list[float] | None:
        """One value for each class; None where nothing is feasible. Fairness: the sorted rates of each class in one list."""
        return {
            "min_cost": self._cost,
            "max_throughput": self._throughput,
            "max_concurrent": self._concurrent,
            "min_max_utilisation": self._utilisation,
            "max_min_fair": self._fair,
        }[self.problem.objective.value]()

    def _full(self, rows: Rows) -> None:
        for demand in range(self.traffic.count):
            rows.equal.append((self.total(demand), float(self.traffic.size[demand])))

    def _cost(self) -> list[float] | None:
        rows, values = self.rows(capacity=True), list[float]()
        self._full(rows)
        for priority in self.traffic.classes:
            cost = self.cost_of(priority)
            found = rows.solved(cost)
            if found is None:
                return None
            values.append(found[0])
            rows.less.append((cost, found[0] + 1e-9))
        return values

    def _throughput(self) -> list[float] | None:
        rows, values = self.rows(capacity=True), list[float]()
        for demand in range(self.traffic.count):
            rows.less.append((self.total(demand), float(self.traffic.size[demand])))
        for priority in self.traffic.classes:
            gain: dict[int, float] = {}
            for demand in np.flatnonzero(self.traffic.priority == priority).tolist():
                gain |= self.total(demand, -float(self.traffic.value[demand]))
            found = rows.solved(gain)
            assert found is not None
            values.append(-found[0])
            rows.less.append((gain, found[0] + 1e-9))
        return values

    def _concurrent(self) -> list[float] | None:
        rows, values = self.rows(capacity=True), list[float]()
        for priority in self.traffic.classes:
            own = np.flatnonzero(self.traffic.priority == priority).tolist()
            stage = Rows(rows.columns, list(rows.less), list(rows.equal))
            for demand in own:
                stage.less.append((self.total(demand, -1.0) | {0: float(self.traffic.size[demand])}, 0.0))
            found = stage.solved({0: -1.0})
            if found is None:  # always feasible, so without limit
                return [*values, np.inf]
            values.append(-found[0])
            for demand in own:
                rows.less.append((self.total(demand, -1.0), found[0] * float(self.traffic.size[demand]) + 1e-9))
        return values

    def _utilisation(self) -> list[float] | None:
        rows, values = self.rows(capacity=False), list[float]()
        self._full(rows)
        for priority in self.traffic.classes:
            stage = Rows(rows.columns, list(rows.less), list(rows.equal))
            limited = [
                (channel, limit) for channel, limit in enumerate(self.network.channel_capacity.tolist()) if np.isfinite(limit) and limit > 0
            ]
            for channel, limit in limited:
                stage.less.append((self.load(channel, priority) | {0: -limit}, 0.0))
            found = stage.solved({0: 1.0})
            if found is None:
                return None
            values.append(found[0])
            for channel, limit in limited:
                rows.less.append((self.load(channel, priority), found[0] * limit + 1e-9))
        return values

    def _fair(self) -> list[float] | None:
        """Rates by demand: raise all, then find by a program of its own which demands can rise no more."""
        traffic = self.traffic
        rates = np.zeros(traffic.count)
        fixed = np.zeros(traffic.count, dtype=bool)
        for priority in traffic.classes:
            while ((traffic.priority == priority) & ~fixed).any():
                open_ = np.flatnonzero((traffic.priority == priority) & ~fixed).tolist()

                def stage(open_: list[int] = open_) -> Rows:
                    rows = self.rows(capacity=True)
                    for demand in range(traffic.count):
                        rows.less.append((self.total(demand), float(traffic.size[demand])))
                        if fixed[demand]:
                            rows.less.append((self.total(demand, -1.0), -rates[demand] + 1e-10))
                    for demand in open_:
                        rows.less.append((self.total(demand, -1.0) | {0: float(traffic.weight[demand])}, 0.0))
                    return rows

                found = stage().solved({0: -1.0})
                assert found is not None
                level = -found[0]
                for demand in open_:
                    rows = stage()
                    rows.less.append(({0: -1.0}, -level + 1e-9))
                    most = rows.solved(self.total(demand, -1.0))
                    assert most is not None
                    if -most[0] <= level * traffic.weight[demand] + 1e-6:
                        rates[demand], fixed[demand] = level * traffic.weight[demand], True
        return [float(rate) for rate in rates]

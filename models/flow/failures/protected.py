"""Protection as a program: what is granted survives every scenario on the routes that are left.

Liu et al., "Traffic engineering with forward fault correction", SIGCOMM 2014. There the scenarios of "any k" are encoded by sorting
networks, which is exact only where tunnels of a demand share no links; here each broken scenario adds its row when it is found, which
is exact always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.flow.failures.program import ReservationProgram, Stage
from models.flow.failures.protection import least_left, worst_losses
from models.flow.failures.scenarios import families
from models.flow.goals import goal_names
from models.flow.schema import Granted, Objective, Plan
from models.program_builder import ProductIds, ProgramBuilder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.flow.schema import Problem
    from models.program import Floats, Ints

MISSED = 2e-8  # of the program's unit: what a scenario row may be broken by
AT_ONCE = 8  # rows of one family that a demand gets in one round
SHORT = 5e-7  # relative: what a demand that must be granted in full may lack
_IN_FULL = frozenset({Objective.min_cost, Objective.min_max_utilisation})


class Protected(ReservationProgram):
    """Columns: what each demand is granted, the goal of each class, the share granted in all, and the sum of all reservations."""

    def __init__(self, problem: Problem) -> None:
        self.objective = problem.objective
        self.in_full = problem.objective in _IN_FULL
        self._families = families(problem)
        self._endless = np.inf
        super().__init__(problem)
        self._goals = goal_names(problem)
        demands, classes = self.traffic.count, len(self._goals)
        self._goal, self._full, self._lean = demands, demands + classes, demands + classes + 1
        self._own_first = self._lean_first = 0

    def _most_granted(self, most: Floats) -> Floats:
        if self.objective is not Objective.max_concurrent:
            return self.size
        # A demand that some scenario sends over links with a limit gets less than all limits together: a share beyond that is endless.
        together = float(self.capacity[self.limited].sum())
        self._endless = 1.0 + 2.0 * together / float(self.size.min(initial=np.inf))
        return np.minimum(most, self._endless * self.size)

    def _cut(self) -> Floats:
        stretched = self.objective is Objective.min_max_utilisation  # capacity is no limit then
        return np.full(self.traffic.count, np.inf) if stretched else super()._cut()

    def head(self, builder: ProgramBuilder) -> None:
        """See ``ReservationProgram``."""
        names = [(name,) for name in self.traffic.ids]
        builder.add_columns("grant", names, upper=self.most_granted)
        builder.add_columns("reach", [(name,) for name in self._goals], upper=self._goal_limits())
        builder.add_columns("grant_in_full", [()], upper=float(len(names)))
        builder.add_columns("reserve_in_all", [()])

    def _goal_limits(self) -> Floats:
        if self.objective is Objective.max_throughput:
            return np.bincount(self.ranks, weights=self.traffic.value * self.size, minlength=len(self._goals)).astype(np.float64)
        return np.full(len(self._goals), self._endless)

    def goal_rows(self, builder: ProgramBuilder) -> None:
        """See ``ReservationProgram``."""
        demands = np.arange(self.traffic.count)
        classes = [(name,) for name in self._goals]
        if self.objective is not Objective.min_max_utilisation:
            self.capacity_rows(builder)
        match self.objective:
            case Objective.max_throughput:
                rows = np.concatenate((self.ranks, np.arange(len(classes))))
                columns = np.concatenate((demands, self._goal + np.arange(len(classes))))
                values = np.concatenate((self.traffic.value, np.full(len(classes), -1.0)))
                builder.add_rows("throughput", classes, lower=0.0, row_index=rows, column_index=columns, coefficient=values)
            case Objective.max_concurrent:
                rows, columns = np.tile(demands, 2), np.concatenate((demands, self._goal + self.ranks))
                values = np.concatenate((np.ones(len(demands)), -self.size))
                names = [(name,) for name in self.traffic.ids]
                builder.add_rows("concurrent", names, lower=0.0, row_index=rows, column_index=columns, coefficient=values)
            case Objective.min_cost:
                own = np.arange(len(classes))
                self._own_first = builder.add_rows("cost", classes, lower=0.0, row_index=own, column_index=self._goal + own).start
            case _:
                limited = np.flatnonzero(self.limited)
                channels = ProductIds(self._goals, limited.tolist())
                goal = np.repeat(self._goal + np.arange(len(classes)), len(limited))
                sides = -np.tile(self.capacity[limited], len(classes))
                self._own_first = builder.add_rows(
                    "utilisation", channels, upper=0.0, row_index=np.arange(len(channels)), column_index=goal, coefficient=sides
                ).start
        full = np.append(demands, self._full)
        shares = np.append(1.0 / self.size, -1.0)
        builder.add_rows("in_full", [()], lower=0.0, row_index=np.zeros(len(full)), column_index=full, coefficient=shares)
        self._lean_first = builder.add_rows("in_all", [()], lower=0.0, row_index=0, column_index=self._lean).start

    def arc_terms(self, rank: int) -> Iterator[tuple[int, Ints, Ints, Floats]]:
        """See ``ReservationProgram``."""
        arcs = np.arange(self.network.arcs)
        zeros = np.zeros(len(arcs), dtype=np.int64)
        if self.objective is Objective.min_max_utilisation:
            for following in range(rank, len(self._goals)):
                yield self.loads(self._own_first + following * int(self.limited.sum()))
        else:
            yield self.loads(self.capacity_first)
        if self.objective is Objective.min_cost:
            yield self._own_first + rank, zeros, arcs, -self.network.arc_cost
        yield self._lean_first, zeros, arcs, np.full(len(arcs), -1.0)

    def scenario_row(self, demand: int, links: tuple[int, ...]) -> tuple[list[int], list[float], float, float]:
        """See ``ReservationProgram``: what is left covers what is granted."""
        del links
        return [demand], [-1.0], 1.0, 0.0

    def stages(self) -> Sequence[Stage]:
        """See ``ReservationProgram``."""
        sign = -1.0 if self.objective in {Objective.max_throughput, Objective.max_concurrent} else 1.0
        unit = self.unit if self.objective in {Objective.max_throughput, Objective.min_cost} else 1.0
        first = [Stage(None, self._full, -1.0, 1.0)] if self.in_full else []
        goals = [Stage(name, self._goal + place, sign, unit) for place, name in enumerate(self._goals)]
        return [*first, *goals, Stage(None, self._lean, 1.0, 1.0, proves=False)]

    def kept(self, done: Stage) -> tuple[Ints, Floats, Floats]:
        """See ``ReservationProgram``: once all demands can be granted in full they are."""
        if done.column != self._full:
            return super().kept(done)
        return np.arange(self.traffic.count), self.size, self.size

    def impossible(self, stage: Stage, bound: float) -> bool:
        """Whether the bound of the first stage proves that some demand cannot be granted in full."""
        return stage.column == self._full and bound < self.traffic.count - 2 * SHORT

    def endless(self, stage: Stage, value: float) -> bool:
        """Whether the goal of a stage reaches what only a goal without limit can reach."""
        return stage.goal is not None and value > 0.75 * self._endless

    def violated(self, values: Floats) -> list[tuple[int, tuple[int, ...]]]:
        """See ``ReservationProgram``: of each family the scenarios that take most from each demand."""
        demands = self.traffic.count
        granted, taken = values[:demands], self.taken(values)
        whole = np.bincount(self.routes.demand, weights=taken, minlength=demands)
        return [
            (loss.demand, family.together(loss.events))
            for family in self._families
            for loss in worst_losses(self.routes, taken, family, demands, AT_ONCE)
            if granted[loss.demand] - (whole[loss.demand] - loss.lost) > MISSED
        ]

    def plan(self, values: Floats) -> Plan | None:
        """See ``ReservationProgram``: what is granted is what is left after the worst scenario, counted exactly."""
        taken = self.reserved(values)
        if self.objective is not Objective.min_max_utilisation:
            taken = self.within_capacity(taken)
        size = self.traffic.size
        granted = least_left(self.routes, taken, self._families, self.traffic.count)
        if self.objective is not Objective.max_concurrent:
            granted = np.minimum(granted, size)
        if self.in_full and bool((size - granted > SHORT * np.maximum(1.0, size)).any()):
            return None
        told = tuple(Granted(demand=name, gbps=gbps) for name, gbps in zip(self.traffic.ids, granted.tolist(), strict=True) if gbps > 0.0)
        return Plan(routes=self.routes_of(taken), granted=told)

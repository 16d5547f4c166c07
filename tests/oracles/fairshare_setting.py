"""What the oracle of ``fairshare`` reckons with: one copy of a job at a time, and what it makes of each gang that may run.

What a copy attains is the least of a few sums of columns (``Copy.rows``): one in plain problems, one for each set of speeds that may fall
(budgeted uncertainty, all sets are listed), one for each scenario.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.fairshare.schema import Problem

Vector = np.ndarray[Any, np.dtype[np.float64]]


@dataclass
class Column:
    """A gang that may run: on which accelerator, how far apart, and who makes how many steps per second in it."""

    accelerator: int
    spread: bool
    gpus: int
    speeds: dict[int, float]  # copy -> steps per second
    slow: dict[int, float]


@dataclass
class Copy:
    """One copy of a job."""

    entry: int  # the job in the file
    priority: int
    weight: float
    equal: float
    par: float
    best: float
    rows: list[Vector] = field(default_factory=list)


class Setting:
    """The copies of a problem's jobs, the gangs that may run, and what limits them."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.jobs = problem.jobs
        workloads = {one.id: one for one in problem.workloads}
        self.workload = [workloads[job.workload] for job in self.jobs]
        self.at = {one.id: place for place, one in enumerate(problem.accelerators)}
        self.total = sum(job.count for job in self.jobs)
        self.copies = [self._copy(entry) for entry, job in enumerate(self.jobs) for _ in range(job.count)]
        self.columns = list(self._columns())
        for number, copy in enumerate(self.copies):
            copy.rows = list(self._rows(number))
        self.limits = self._limits()

    def _copy(self, entry: int) -> Copy:
        job, workload = self.jobs[entry], self.workload[entry]
        alone = {place: max(speeds) for place, speeds in self._alone(entry).items()}
        usual = {place: speeds[0] for place, speeds in self._alone(entry).items()}
        share = {place: self.problem.accelerators[place].count / (self.total * workload.gpus) for place in usual}
        scale = max(1.0, sum(share.values()))
        equal = sum(speed * share[place] / scale for place, speed in usual.items())
        par = equal * max(1.0, self.total / sum(one.count for one in self.problem.accelerators))
        return Copy(entry, job.priority, job.weight, equal, par, max(alone.values()))

    def _alone(self, entry: int) -> dict[int, list[float]]:
        """By accelerator, the speeds at which a job can run there alone: consolidated first, where whole blocks are large enough."""
        found: dict[int, list[float]] = {}
        for speed in self.workload[entry].speeds:
            place = self.at[speed.accelerator]
            together, apart = self._fits(self.workload[entry].gpus, place)
            own = [speed.steps_per_s] if together else []
            own += [speed.spread_steps_per_s] if apart and speed.spread_steps_per_s is not None else []
            if own:
                found[place] = own
        return found

    def _fits(self, gpus: int, place: int) -> tuple[bool, bool]:
        """Whether a gang fits an accelerator consolidated, and spread."""
        accelerator = self.problem.accelerators[place]
        packed = accelerator.count if accelerator.packed_gpus is None else accelerator.packed_gpus
        return gpus <= accelerator.count and (gpus == 1 or gpus <= packed), 1 < gpus <= accelerator.count

    def _columns(self) -> Iterator[Column]:
        for number, copy in enumerate(self.copies):
            workload = self.workload[copy.entry]
            for speed in workload.speeds:
                place = self.at[speed.accelerator]
                together, apart = self._fits(workload.gpus, place)
                fall = self._fall(copy.entry, speed.accelerator)
                given = [(speed.steps_per_s, False)] if together else []
                given += [(speed.spread_steps_per_s, True)] if apart and speed.spread_steps_per_s is not None else []
                for rate, spread in given:
                    yield Column(place, spread, workload.gpus, {number: rate}, {number: rate * fall})
        if self.problem.share_gpus:
            yield from self._pairs()

    def _pairs(self) -> Iterator[Column]:
        for pair in self.problem.pairs:
            for one, other in itertools.permutations(range(len(self.copies)), 2):
                first, second = self.copies[one].entry, self.copies[other].entry
                if (self.workload[first].id, self.workload[second].id) != (pair.first, pair.second):
                    continue
                if not self._fits(self.workload[first].gpus, self.at[pair.accelerator])[0]:
                    continue
                speeds = {one: pair.first_steps_per_s, other: pair.second_steps_per_s}
                slow = {number: speed * self._fall(self.copies[number].entry, pair.accelerator) for number, speed in speeds.items()}
                yield Column(self.at[pair.accelerator], False, self.workload[first].gpus, speeds, slow)

    def _fall(self, entry: int, accelerator: str) -> float:
        """By what all speeds of a job on an accelerator are multiplied when it goes badly."""
        for speed in self.workload[entry].speeds:
            if speed.accelerator == accelerator and speed.slow_steps_per_s is not None:
                return speed.slow_steps_per_s / speed.steps_per_s
        return 1.0

    def _rows(self, number: int) -> Iterator[Vector]:
        """What the copy makes of an allocation, for every way in which its speeds may turn out."""
        plain = np.array([column.speeds.get(number, 0.0) for column in self.columns])
        robust = self.problem.robust
        if robust is None:
            yield plain
            return
        if getattr(robust, "scenarios", None):
            for scenario in robust.scenarios:
                yield plain * np.array([self._factor(scenario, number, column) for column in self.columns])
            return
        drop = plain - np.array([column.slow.get(number, 0.0) for column in self.columns])
        yield from self._fallen(plain, drop, float(robust.budget or 0.0))

    def _fallen(self, plain: Vector, drop: Vector, budget: float) -> Iterator[Vector]:
        """Each set of accelerators whose speeds fall, and one more whose speeds fall by the fraction left of the budget."""
        where = np.array([column.accelerator for column in self.columns])
        places = range(len(self.problem.accelerators))
        whole = min(math.floor(budget), len(places))
        for fallen in itertools.combinations(places, whole):
            row = plain - np.where(np.isin(where, fallen), drop, 0.0)
            rest = [place for place in places if place not in fallen]
            yield from (row - np.where(where == place, drop, 0.0) * (budget - whole) for place in rest) if rest else (row,)

    def _factor(self, scenario: Any, number: int, column: Column) -> float:
        factor = 1.0
        for one in scenario.factors:
            for_workload = one.workload is None or one.workload == self.workload[self.copies[number].entry].id
            if for_workload and (one.accelerator is None or self.at[one.accelerator] == column.accelerator):
                factor *= one.factor
        return factor

    def _limits(self) -> list[tuple[Vector, float]]:
        """Sums that stay at most a value: GPUs, packed GPUs, time, money."""
        found = []
        for place, accelerator in enumerate(self.problem.accelerators):
            on = np.array([column.gpus * (column.accelerator == place) for column in self.columns], dtype=np.float64)
            found.append((on, float(accelerator.count)))
            if accelerator.packed_gpus is not None:
                packed = np.array([not column.spread and column.gpus > 1 for column in self.columns])
                found.append((on * packed, float(accelerator.packed_gpus)))
        for number, copy in enumerate(self.copies):
            runs = np.array([1.0 if number in column.speeds else 0.0 for column in self.columns])
            found.append((runs, 1.0))
            budget = self.jobs[copy.entry].budget_usd_per_hour
            if budget is not None:
                part = np.array([1.0 / len(column.speeds) for column in self.columns])
                found.append((runs * self._prices * part, float(budget)))
        return found

    @cached_property
    def _prices(self) -> Vector:
        """USD per hour of a gang in each column."""
        return np.array([self.problem.accelerators[column.accelerator].usd_per_hour * column.gpus for column in self.columns])

"""What the exact program is made of: the units that may run, what each job makes of them, and how far speeds may fall.

A unit is a gang that may run on an accelerator: of one job alone, consolidated (family ``run``) or not (``spread``), or of two jobs on the
same GPUs (``pair``). Nothing is modelled here, so that the start of a program and the plan of its values know the same units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.market import market_of
from models.fairshare.plans.division import share_columns
from models.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from models.fairshare.market import Market
    from models.fairshare.schema import Plan, Problem
    from models.program import Bools, Floats

FAMILIES = ("run", "spread", "pair")


@dataclass(frozen=True, slots=True)
class Unit:
    """One gang that may run: ``speeds`` and ``falls`` (steps/s that are lost when it goes badly) are those of ``jobs``, in their order.

    ``packed``: whether it needs GPUs that stand together.
    """

    family: str
    jobs: tuple[int, ...]
    accelerator: int
    gpus: int
    packed: bool
    speeds: tuple[float, ...]
    falls: tuple[float, ...]

    def gangs_of(self, job: int) -> int:
        """How many gangs of a job run in it: 2 where two copies of it share GPUs."""
        return self.jobs.count(job)

    def speed_of(self, job: int) -> float:
        """Steps/s that a job makes in it, of all its copies together."""
        return math.fsum(speed for one, speed in zip(self.jobs, self.speeds, strict=True) if one == job)

    def fall_of(self, job: int) -> float:
        """Steps/s of them that are lost when it goes badly."""
        return math.fsum(fall for one, fall in zip(self.jobs, self.falls, strict=True) if one == job)


class Setting:
    """The units of a problem, and what they bring."""

    def __init__(self, problem: Problem) -> None:
        self.market: Market = market_of(problem)
        self.units = tuple(self._units())

    def _units(self) -> Iterator[Unit]:
        """Every way with every job, or two, that may run so; two copies of one job where there are two."""
        market, ways = self.market, self.market.ways
        of_workload = [np.flatnonzero(market.jobs.workload == workload).tolist() for workload in range(market.workloads.count)]
        kept = 1.0 - market.workloads.slow_factor
        for way in range(ways.count):
            first, second, place = int(ways.first[way]), int(ways.second[way]), int(ways.accelerator[way])
            speed, beside = float(ways.first_speed[way]), float(ways.second_speed[way])
            family = "spread" if ways.spread[way] else "run" if second < 0 else "pair"
            common = (place, int(ways.gpus[way]), bool(ways.packed[way]))
            lost = speed * float(kept[first, place])
            if second < 0:
                yield from (Unit(family, (job,), *common, (speed,), (lost,)) for job in of_workload[first])
                continue
            lose = beside * float(kept[second, place])
            for job in of_workload[first]:
                for other in of_workload[second]:
                    if first != second or job < other or (job == other and market.jobs.copies[job] > 1):
                        yield Unit(family, (job, other), *common, (speed, beside), (lost, lose))

    # ------------------------------------------------------------ names

    def ids(self, unit: Unit) -> tuple[str, ...]:
        """The ids of its column: its jobs and the accelerator."""
        return (*(self.market.jobs.ids[job] for job in unit.jobs), self.market.accelerators.ids[unit.accelerator])

    @cached_property
    def at(self) -> dict[tuple[str, tuple[str, ...]], int]:
        """Position of each unit by family and ids; pairs are known either way round."""
        found: dict[tuple[str, tuple[str, ...]], int] = {}
        for place, unit in enumerate(self.units):
            ids = self.ids(unit)
            found[unit.family, ids] = place
            if unit.family == "pair":
                found.setdefault((unit.family, (ids[1], ids[0], ids[2])), place)
        return found

    @cached_property
    def of_job(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the units in which each job runs."""
        found: list[list[int]] = [[] for _ in range(self.market.jobs.count)]
        for place, unit in enumerate(self.units):
            for job in set(unit.jobs):
                found[job].append(place)
        return tuple(tuple(own) for own in found)

    # ------------------------------------------------------------ what units bring

    def gangs(self, plan: Plan) -> Floats:
        """Gangs of each unit in a plan, shape (units,). Shares of what cannot run are left out: ``verify`` tells of them."""
        found = np.zeros(len(self.units))
        for first, second, accelerator, spread, amount in zip(*share_columns(plan), strict=True):
            family = "pair" if second is not None else "spread" if spread else "run"
            place = self.at.get((family, (first, accelerator) if second is None else (first, second, accelerator)))
            if place is not None:
                found[place] += amount
        return found

    def speed(self, scenario: int, unit: Unit, job: int) -> float:
        """Steps/s that a job makes in a unit in a scenario, of all its copies together."""
        return unit.speed_of(job) * float(self.market.factors[scenario, self.market.jobs.workload[job], unit.accelerator])

    def falls(self, job: int) -> dict[int, list[tuple[float, int]]]:
        """By accelerator, the units whose speed may fall, each with the steps/s that a job then loses in it."""
        found: dict[int, list[tuple[float, int]]] = {}
        for place in self.of_job[job]:
            fall = self.units[place].fall_of(job)
            if fall > 0:
                found.setdefault(self.units[place].accelerator, []).append((fall, place))
        return found

    def protection(self, job: int, gangs: Floats) -> tuple[float, dict[int, float]]:
        """What a job loses at worst under a budget, as its dual columns: the price of the budget, and what each accelerator adds to it.

        The losses sorted, the largest fall whole as far as the budget goes; the loss at which it ends is its price.
        """
        losses = {place: math.fsum(fall * gangs[unit] for fall, unit in own) for place, own in self.falls(job).items()}
        ranked = sorted(losses.values(), reverse=True)
        whole = math.floor(self.market.budget or 0.0)
        price = ranked[whole] if whole < len(ranked) else 0.0
        return price, {place: max(0.0, loss - price) for place, loss in losses.items()}

    def speeds(self, gangs: Floats) -> Floats:
        """Steps/s of one copy of each job that units running ``gangs`` bring for certain, shape (jobs,)."""
        return np.array([self._speed(job, gangs) for job in range(len(self.of_job))])

    def throughput(self, gangs: Floats, members: Bools) -> float:
        """Jobs at full speed among ``members`` (jobs,), in the worst scenario."""
        jobs = self.market.jobs
        return min(
            math.fsum(
                self.speed(scenario, unit, job) * float(jobs.weight[job] / jobs.best[job]) * amount
                for unit, amount in zip(self.units, gangs.tolist(), strict=True)
                for job in set(unit.jobs)
                if members[job]
            )
            for scenario in range(len(self.market.factors))
        )

    def _speed(self, job: int, gangs: Floats) -> float:
        each = [
            math.fsum(self.speed(scenario, self.units[one], job) * gangs[one] for one in self.of_job[job])
            for scenario in range(len(self.market.factors))
        ]
        lost = 0.0
        if self.market.budget is not None:
            price, more = self.protection(job, gangs)
            lost = self.market.budget * price + math.fsum(more.values())
        return (min(each) - lost) / float(self.market.jobs.copies[job])


def gangs_by_place(setting: Setting, values: Mapping[str, Mapping[tuple[str, ...], float]]) -> Floats:
    """Gangs of each unit from column values by family and ids, shape (units,)."""
    return np.array([values.get(unit.family, {}).get(setting.ids(unit), 0.0) for unit in setting.units])


_SETTINGS: Kept[Problem, Setting] = Kept(Setting)


def setting_of(problem: Problem) -> Setting:
    """The setting of a problem, worked out once."""
    return _SETTINGS.of(problem)

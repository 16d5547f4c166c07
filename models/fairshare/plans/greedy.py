"""Gangs dealt out one job after another: to the most worth for a GPU, at the lowest price, or what is left. All of it feasible."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.market import market_of
from models.fairshare.plans.division import Division

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.fairshare.market import Market
    from models.fairshare.schema import Problem
    from models.program import Floats

NOTHING = 1e-9  # gangs or steps/s that are not worth dealing out, relative


class _Room:
    """What is left of GPUs, of whole blocks, of each job's time and money while gangs are dealt out."""

    def __init__(self, market: Market, division: Division | None = None) -> None:
        ways, jobs = market.ways, market.jobs
        self.market = market
        self.gpus, self.whole = market.accelerators.count_gpus.copy(), market.accelerators.packed_gpus.copy()
        self.time, self.money = jobs.copies.copy(), jobs.budget * jobs.copies
        if division is not None:
            self.gpus = np.maximum(0.0, self.gpus - division.gpus_used)
            self.whole = np.maximum(0.0, self.whole - division.packed_used)
            self.time = np.maximum(0.0, self.time - division.time)
            self.money = np.maximum(0.0, self.money - division.spending * jobs.copies)
        self.dealt: list[tuple[int, int, float]] = []
        self._place, self._size = ways.accelerator.tolist(), ways.gpus.tolist()
        self._packed = ways.packed.tolist()
        self.rate = (market.accelerators.usd_per_hour[ways.accelerator] * ways.gpus).tolist()

    def most(self, job: int, way: int) -> float:
        """How many more gangs of a job may run so."""
        place, size = self._place[way], self._size[way]
        gangs = min(self.time[job], self.gpus[place] / size)
        if self._packed[way]:
            gangs = min(gangs, self.whole[place] / size)
        if self.rate[way] > 0.0:
            gangs = min(gangs, self.money[job] / self.rate[way])
        return float(gangs)

    def deal(self, job: int, way: int, gangs: float) -> None:
        """Run so many more gangs; at most ``most``."""
        place, used = self._place[way], gangs * self._size[way]
        self.gpus[place] = max(0.0, self.gpus[place] - used)
        if self._packed[way]:
            self.whole[place] = max(0.0, self.whole[place] - used)
        self.time[job] = max(0.0, self.time[job] - gangs)
        if np.isfinite(self.money[job]):
            self.money[job] = max(0.0, self.money[job] - gangs * self.rate[way])
        self.dealt.append((job, way, gangs))

    def division(self, before: Division | None = None) -> Division:
        """All that was dealt out, after what there was ``before``."""
        job, way = (np.array([one[part] for one in self.dealt], dtype=np.int64) for part in (0, 1))
        gangs = np.array([one[2] for one in self.dealt], dtype=np.float64)
        none = np.full(len(job), -1, dtype=np.int64)
        if before is None:
            return Division(self.market, job, none, way, gangs)
        columns = ((before.first, job), (before.second, none), (before.way, way))
        first, second, ways = (np.concatenate(pair) for pair in columns)
        return _merged(Division(self.market, first, second, ways, np.concatenate((before.gangs, gangs))))


def _merged(division: Division) -> Division:
    """The same with every job's gangs of one way told once; of jobs alone only."""
    key, place = np.unique(division.first * max(1, division.market.ways.count) + division.way, return_inverse=True)
    gangs = np.bincount(place, weights=division.gangs, minlength=len(key)).astype(np.float64)
    first, way = np.divmod(key, max(1, division.market.ways.count))
    return Division(division.market, first, np.full(len(key), -1, dtype=np.int64), way, gangs)


def _ways_of(market: Market, job: int) -> range:
    workload = int(market.jobs.workload[job])
    starts = market.ways.alone_starts
    return range(int(starts[workload]), int(starts[workload + 1]))


def _sure_speed(market: Market) -> Floats:
    """Steps/s of each way alone in its worst scenario: no division gets less out of it; shape (ways alone,)."""
    ways = market.ways
    first, place = ways.first[: ways.alone], ways.accelerator[: ways.alone]
    speed: Floats = ways.first_speed[: ways.alone] * market.factors[:, first, place].min(axis=0)
    return speed


def topped_up(division: Division, order: Iterable[int]) -> Division:
    """A division of jobs alone, with what it leaves given to the jobs in ``order``, each its fastest first."""
    market = division.market
    room = _Room(market, division)
    speed = _sure_speed(market)
    for job in order:
        if room.time[job] <= NOTHING:
            continue
        for way in sorted(_ways_of(market, job), key=lambda one: -speed[one]):
            gangs = room.most(job, way)
            if gangs > NOTHING:
                room.deal(job, way, gangs)
    return room.division(division) if room.dealt else division


def by_worth(problem: Problem) -> Division:
    """Gangs in the order of what a GPU in them is worth: weight times speed, relative to the job's best, for each GPU."""
    market = market_of(problem)
    jobs, ways = market.jobs, market.ways
    counts = np.diff(ways.alone_starts)[jobs.workload]
    job = np.repeat(np.arange(jobs.count), counts)
    way = np.repeat(ways.alone_starts[jobs.workload], counts) + np.arange(len(job)) - np.repeat(np.cumsum(counts) - counts, counts)
    worth = jobs.weight[job] / jobs.best[job] * _sure_speed(market)[way] / ways.gpus[way]
    room = _Room(market)
    for at in np.lexsort((way, job, -worth, -jobs.priority[job])).tolist():
        gangs = room.most(int(job[at]), int(way[at]))
        if gangs > NOTHING:
            room.deal(int(job[at]), int(way[at]), gangs)
    return room.division()


def by_price(problem: Problem) -> Division | None:
    """Every promised speed at the lowest price that is left, the jobs with the least choice first; None where one finds no room."""
    market = market_of(problem)
    jobs = market.jobs
    promised = np.maximum(jobs.due_speed, np.where(np.isinf(jobs.deadline_s), problem.least_share * jobs.equal, 0.0))
    speed = _sure_speed(market).tolist()
    room = _Room(market)
    for job in np.lexsort((np.arange(jobs.count), -promised / jobs.best)).tolist():
        if promised[job] > 0.0 and not _serve(room, job, float(promised[job] * jobs.copies[job]), speed):
            return None
    return room.division()


def _serve(room: _Room, job: int, wanted: float, speed: Sequence[float]) -> bool:
    """Give all copies of a job together ``wanted`` steps/s: the cheapest one or two ways that have room, else the fastest that are left."""
    ways = list(_ways_of(room.market, job))
    price, left = room.rate, float(room.time[job])
    most = {way: room.most(job, way) for way in ways}
    choices: list[tuple[float, tuple[tuple[int, float], ...]]] = [
        (price[way] * wanted / speed[way], ((way, wanted / speed[way]),))
        for way in ways
        if wanted / speed[way] <= most[way] * (1.0 + NOTHING)
    ]
    for slow, fast in permutations(ways, 2):
        gained = speed[fast] - speed[slow]
        if gained <= 0.0:
            continue
        gangs = (wanted - speed[slow] * left) / gained
        rest = left - gangs
        affordable = gangs * price[fast] + rest * price[slow] <= room.money[job]
        if affordable and 0.0 <= gangs <= most[fast] and 0.0 <= rest <= most[slow]:
            choices.append((gangs * price[fast] + rest * price[slow], ((fast, gangs), (slow, rest))))
    if choices:
        for way, gangs in min(choices)[1]:
            room.deal(job, way, min(gangs, room.time[job]))
        return True
    for way in sorted(ways, key=lambda one: -speed[one]):
        gangs = min(room.most(job, way), wanted / speed[way])
        room.deal(job, way, gangs)
        wanted -= gangs * speed[way]
    return wanted <= NOTHING

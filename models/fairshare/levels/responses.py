"""What each class does at given prices of GPUs: its cheapest way to what it needs, all classes at once.

A class that needs a mean speed runs at most two ways, beside each other on the lower hull of speeds and costs; one of the two may be to be
idle. As long as its time does not bind it takes the way with the cheapest step alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.fairshare.columns.classes import Classes
    from models.program import Floats, Ints


ALIKE = 1e-15  # relative: costs that differ by no more are equal


def alike_in_nothing(classes: Classes) -> bool:
    """Whether every class has all of its columns to itself, and nothing but GPUs and its time to keep to."""
    market = classes.market
    return not (
        classes.robust
        or classes.mixed.any()
        or classes.links.count
        or np.isfinite(classes.budget).any()
        or (market.ways.second[classes.way] >= 0).any()
        or market.accelerators.limits_packing.any()
    )


def _mixed(cost: Floats, speed: Floats, mean: Floats, one: int, other: int) -> tuple[Floats, Floats]:
    """What ways ``one`` and ``other`` cost for a mean speed between theirs, inf where it is not, and the cost of one more step/s."""
    fits = (speed[one] >= mean) & (speed[other] < mean) & np.isfinite(cost[one]) & np.isfinite(cost[other])
    low = np.where(fits, cost[other], 0.0)
    rise = (np.where(fits, cost[one], 0.0) - low) / np.where(fits, speed[one] - speed[other], 1.0)
    return np.where(fits, low + rise * (mean - speed[other]), np.inf), rise


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """What classes do, each of shape (classes,): the way ``fast`` for a part of the time and ``slow`` for the rest of it.

    Both are positions among the ways of a class, and one beyond the last is to be idle. ``cost`` is that of all copies, ``worth`` its
    slope with what they need.
    """

    fast: Ints
    slow: Ints
    cost: Floats
    worth: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Ways of classes side by side.

    ``speed`` (0 where there is none), ``place``, ``size`` (GPUs of a gang), ``column``: (ways + 1, classes), the last way is to be idle.
    ``gpus``: (accelerators,). ``copies``, ``gangs`` (the most GPUs of a copy): (classes,).
    """

    speed: Floats
    place: Ints
    size: Floats
    column: Ints
    gpus: Floats
    copies: Floats
    gangs: Floats
    columns: int

    @classmethod
    def of(cls, classes: Classes) -> Table:
        """The table of these classes."""
        market, count = classes.market, classes.count
        most = int(np.diff(classes.starts).max(initial=0))
        at = np.arange(len(classes.entry_class)) - classes.starts[classes.entry_class], classes.entry_class
        speed, size = np.zeros((most + 1, count)), np.zeros((most + 1, count))
        place, column = np.zeros((most + 1, count), dtype=np.int64), np.full((most + 1, count), -1, dtype=np.int64)
        speed[at], size[at] = classes.entry_speed, market.ways.gpus[classes.entry_way]
        place[at], column[at] = market.ways.accelerator[classes.entry_way], classes.entry_column
        gpus = market.accelerators.count_gpus
        return cls(speed, place, size, column, gpus, classes.size, size.max(axis=0, initial=0.0), classes.columns)

    @property
    def classes(self) -> int:
        """How many."""
        return len(self.copies)

    @property
    def idle(self) -> int:
        """The position of the way that is none."""
        return len(self.speed) - 1

    @property
    def most_codes(self) -> int:
        """Codes are below it."""
        return len(self.speed) ** 2

    def code(self, response: Response) -> Ints:
        """What each class does as one number."""
        found: Ints = response.fast * len(self.speed) + response.slow
        return found

    def costs(self, worth: Floats) -> Floats:
        """What each way costs for all the time of a copy, shape (ways + 1, classes); inf where it is none, 0 to be idle."""
        price = np.where(self.gpus > 0.0, worth / np.where(self.gpus > 0.0, self.gpus, 1.0), np.inf)
        cost = np.where(self.speed > 0.0, self.size * price[self.place], np.inf)
        cost[-1] = 0.0
        return cost

    def response(self, worth: Floats, mean: Floats) -> Response:
        """What each class does that needs ``mean`` steps/s of a copy, shape (classes,), where GPUs are worth ``worth`` (accelerators,)."""
        cost, every = self.costs(worth), np.arange(self.classes)
        per_step = self._per_step(cost)
        fast, slow = per_step.argmin(axis=0), np.full(self.classes, self.idle)
        tight = np.flatnonzero(self.speed[fast, every] < mean)
        if len(tight):
            fast[tight], slow[tight] = self._two(cost[:, tight], self.speed[:, tight], mean[tight])
        between = self.speed[fast, every] - self.speed[slow, every]
        rise = np.where(between > 0.0, (cost[fast, every] - cost[slow, every]) / np.where(between > 0.0, between, 1.0), 0.0)
        each = cost[slow, every] + rise * (mean - self.speed[slow, every])
        return Response(fast, slow, each * self.copies, rise)

    def seconds(self, worth: Floats, mean: Floats, margin: float) -> Ints:
        """The code of what each class would rather do next, where that costs at most ``margin`` (relative) more; else -1."""
        cost = self.costs(worth)
        best, second = np.full(self.classes, np.inf), np.full(self.classes, np.inf)
        best_code, code = np.full(self.classes, -1), np.full(self.classes, -1)
        for one in range(self.idle):
            for other in range(self.idle + 1):
                total, _ = _mixed(cost, self.speed, mean, one, other)
                better, next_better = total < best, total < second
                second = np.where(better, best, np.where(next_better, total, second))
                code = np.where(better, best_code, np.where(next_better, one * len(self.speed) + other, code))
                best = np.where(better, total, best)
                best_code = np.where(better, one * len(self.speed) + other, best_code)
        return np.where(np.isfinite(second) & (second <= best * (1.0 + margin)), code, -1)

    def _per_step(self, cost: Floats) -> Floats:
        speed = self.speed[:-1]
        found: Floats = np.where(speed > 0.0, cost[:-1] / np.where(speed > 0.0, speed, 1.0), np.inf)
        return found

    def _two(self, cost: Floats, speed: Floats, mean: Floats) -> tuple[Ints, Ints]:
        """The cheapest two ways of classes whose time binds; each (classes,).

        Who needs just the speed of a way may have any other beside it: of these the steepest, or its worth of a step would be no slope of
        the hull.
        """
        count, ways = len(mean), len(speed)
        best, steep = np.full(count, np.inf), np.full(count, -np.inf)
        fast, slow = speed.argmax(axis=0), np.full(count, ways - 1)
        for one in range(ways - 1):
            for other in range(ways):
                total, rise = _mixed(cost, speed, mean, one, other)
                known = np.where(np.isfinite(best), best, 0.0)
                alike = np.isfinite(best) & (np.abs(total - known) <= ALIKE * known)
                better = np.where(alike, rise > steep, total < best)
                best, steep = np.where(better, total, best), np.where(better, rise, steep)
                fast, slow = np.where(better, one, fast), np.where(better, other, slow)
        return fast, slow

    def times(self, of: Ints, code: Ints, mean: Floats) -> tuple[Ints, Floats]:
        """Ways and their times, all copies together, of these classes: both (2, items)."""
        fast, slow = np.divmod(code, len(self.speed))
        speed = self.speed[fast, of], self.speed[slow, of]
        between = speed[0] - speed[1]
        part = np.clip(np.where(between > 0.0, (mean[of] - speed[1]) / np.where(between > 0.0, between, 1.0), 1.0), 0.0, 1.0)
        return np.stack((fast, slow)), np.stack((part, np.where(slow == self.idle, 0.0, 1.0 - part))) * self.copies[of]

    def uses(self, of: Ints, code: Ints, mean: Floats) -> tuple[Ints, Floats]:
        """Accelerators and GPUs of them that are used, both (2, items)."""
        way, time = self.times(of, code, mean)
        return self.place[way, of], time * self.size[way, of]

    def used(self, worth: Floats, mean: Floats) -> tuple[float, Floats]:
        """What all needs cost, and which part of its GPUs each accelerator would run, shape (accelerators,)."""
        response = self.response(worth, mean)
        place, gpus = self.uses(np.arange(self.classes), self.code(response), mean)
        used = np.bincount(place.ravel(), weights=gpus.ravel(), minlength=len(self.gpus))
        return float(response.cost.sum()), np.where(self.gpus > 0.0, used / np.where(self.gpus > 0.0, self.gpus, 1.0), 0.0)

    def amounts(self, of: Ints, code: Ints, mean: Floats, weight: Floats) -> Floats:
        """The columns when these classes do this for so much of their time, shape (columns,)."""
        way, time = self.times(of, code, mean)
        column, gangs = self.column[way, of], time * weight
        there = column >= 0
        return np.bincount(column[there], weights=gangs[there], minlength=self.columns).astype(np.float64)

    def gpus_of(self, values: Floats) -> Floats:
        """GPUs in use of each accelerator."""
        there = self.column >= 0
        used = values[self.column[there]] * self.size[there]
        return np.bincount(self.place[there], weights=used, minlength=len(self.gpus)).astype(np.float64)

    def time_price(self, price: Floats, slope: Floats) -> Floats:
        """The least price of a copy's time at which no way is worth more than it costs, shape (classes,); ``price`` is of one GPU."""
        cost = np.where(self.speed > 0.0, self.size * price[self.place], np.inf)
        found: Floats = np.maximum((slope * self.speed - cost).max(axis=0), 0.0)
        return found

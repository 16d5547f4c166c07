"""What a round's prices prove, made valid whatever they are: the derivation is in the README.md of the kind.

A proof gives every job of some group the same convex worth ``phi`` with ``phi(0) = 0``. By Jensen's inequality a job that runs with speeds
s_u for parts x_u of its time has ``phi(T) <= sum_u x_u phi(s_u)``. So if every way u that two groups G and H can run satisfies

    phi_G(s_u) + phi_H(s'_u) <= gpus_u (y + q) + c_G + c_H + money,

then ``sum_j count_j phi_j(T_j) <= sum_a y_a count_a + q_a packed_a + sum_j count_j (c_j + b_j budget_j)`` for every division of time.
Prices of time that are too low are raised here until all of these hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.market import market_of

if TYPE_CHECKING:
    from models.fairshare.market import Market
    from models.fairshare.proofs.schema import Bad, Round
    from models.fairshare.schema import Problem
    from models.program import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class Proof:
    """Groups of jobs with a worth, and what all of it can be at most.

    ``group``: (jobs,), -1 for jobs without a worth. A group has the pieces ``starts[g]:starts[g + 1]`` of ``threshold`` and ``slope``, by
    rising threshold; ``total_slope`` and ``total_offset`` add them up to and including each piece. ``most`` is the right side.
    """

    group: Ints
    starts: Ints
    threshold: Floats
    total_slope: Floats
    total_offset: Floats
    most: float

    def worth(self, group: Ints, speed: Floats) -> tuple[Floats, Floats]:
        """``phi`` of each group at each speed, and its slope to the right; both shape (items,). Group -1 is worth nothing."""
        piece = self._piece(group, speed)
        valued = piece >= 0
        at = np.maximum(piece, 0)
        if not len(self.threshold):
            return np.zeros(len(group)), np.zeros(len(group))
        finite = np.where(np.isfinite(speed), speed, 0.0)
        value = np.where(valued, self.total_slope[at] * finite - self.total_offset[at], 0.0)
        slope = np.where(valued, self.total_slope[at], 0.0)
        return np.where(np.isfinite(speed) | (slope == 0.0), np.maximum(value, 0.0), np.inf), slope

    def _piece(self, group: Ints, speed: Floats) -> Ints:
        """The last piece whose threshold each speed reaches, -1 where there is none."""
        count = np.diff(self.starts)
        at = np.maximum(group, 0)
        if not len(count):
            return np.full(len(group), -1, dtype=np.int64)
        single = (group >= 0) & (count[at] == 1)
        found = np.where(single & (speed >= self.threshold[np.minimum(self.starts[at], len(self.threshold) - 1)]), self.starts[at], -1)
        for each in np.unique(group[(group >= 0) & ~single]).tolist():
            members = np.flatnonzero(group == each)
            begin, end = int(self.starts[each]), int(self.starts[each + 1])
            place = np.searchsorted(self.threshold[begin:end], speed[members], side="right")
            found[members] = np.where(place > 0, begin + place - 1, -1)
        return found.astype(np.int64)


def proof_of(problem: Problem, level: Round) -> Proof | str:
    """The proof that a round carries, its time prices raised as far as they must be; or what is wrong with it."""
    market = market_of(problem)
    named = _named(market, level)
    if isinstance(named, str):
        return named
    own_prices, worths = named
    jobs = market.jobs
    group = _groups_of(market, worths)
    starts, threshold, slope = _pieces(worths)
    total_slope, total_offset = _totals(starts, slope), _totals(starts, slope * threshold)
    bare = Proof(group, starts, threshold, total_slope, total_offset, 0.0)
    members = group >= 0
    copies = np.bincount(group[members], weights=jobs.copies[members], minlength=len(worths)).astype(np.float64)
    poorest = np.full(len(worths), np.inf)
    np.minimum.at(poorest, group[members], jobs.budget[members])
    money = np.where(np.isfinite(poorest), [worth.budget for worth in worths], 0.0)
    if market.scenario_ids or market.budget is not None:
        speeds = np.array([_factors(market, worth) for worth in worths]).reshape(-1, market.accelerators.count)
    else:
        speeds = np.ones((len(worths), market.accelerators.count))
    columns = _Columns(market, bare, own_prices, money, speeds, np.array([worth.workload for worth in worths], dtype=np.int64), copies)
    time = columns.raised(np.array([worth.time for worth in worths], dtype=np.float64))
    supply = own_prices[0] @ market.accelerators.count_gpus + own_prices[1] @ market.accelerators.packed_gpus
    budgets = money[group[members]] * np.where(np.isfinite(jobs.budget), jobs.budget, 0.0)[members] * jobs.copies[members]
    return Proof(group, starts, threshold, total_slope, total_offset, float(supply + time @ copies + budgets.sum()))


@dataclass(frozen=True, slots=True)
class _Worth:
    """A worth by positions; ``job`` is -1 for those of a workload."""

    job: int
    workload: int
    pieces: tuple[tuple[float, float], ...]
    time: float
    budget: float
    bad: tuple[Bad, ...] = ()


def _named(market: Market, level: Round) -> tuple[Floats, list[_Worth]] | str:
    """Prices (2, accelerators) and worths of a round, or what it names that is not there."""
    prices = np.zeros((2, market.accelerators.count))
    for price in level.prices:
        place = market.accelerators.at.get(price.accelerator)
        if place is None:
            return f"prices '{price.accelerator}', which is no accelerator of the problem"
        prices[:, place] += (price.price, price.packed_price)
    found = []
    for worth in level.worths:
        job = -1 if worth.job is None else market.jobs.at.get(worth.job)
        if job is None:
            return f"values '{worth.job}', which is no job of the problem"
        workload = int(market.jobs.workload[job]) if worth.job is not None else market.workloads.at.get(worth.workload or "")
        if workload is None:
            return f"values '{worth.workload}', which is no workload of the problem"
        pieces = tuple((piece.threshold_steps_per_s, piece.slope) for piece in worth.pieces)
        found.append(_Worth(job, workload, pieces, worth.time_price, worth.budget_price, worth.bad))
    table = level.slopes
    if table is not None:
        times = table.time_price if table.time_price is not None else (0.0,) * len(table.job)
        for name, slope, time in zip(table.job, table.slope, times, strict=True):
            job = market.jobs.at.get(name)
            if job is None:
                return f"values '{name}', which is no job of the problem"
            found.append(_Worth(job, int(market.jobs.workload[job]), ((0.0, slope),), time, 0.0))
    if len({(worth.job, worth.workload) for worth in found}) < len(found):
        return "values a job or a workload twice"
    return prices, found


def _groups_of(market: Market, worths: list[_Worth]) -> Ints:
    """The group of each job, of any class: its own worth, else that of its workload; -1 for those without; shape (jobs,)."""
    by_workload = np.full(market.workloads.count, -1, dtype=np.int64)
    own = np.full(market.jobs.count, -1, dtype=np.int64)
    for place, worth in enumerate(worths):
        if worth.job < 0:
            by_workload[worth.workload] = place
        else:
            own[worth.job] = place
    return np.where(own >= 0, own, by_workload[market.jobs.workload])


def _pieces(worths: list[_Worth]) -> tuple[Ints, Floats, Floats]:
    starts = np.concatenate(([0], np.cumsum([len(worth.pieces) for worth in worths]))).astype(np.int64)
    flat = np.array([piece for worth in worths for piece in sorted(worth.pieces)], dtype=np.float64).reshape(-1, 2)
    return starts, flat[:, 0].copy(), flat[:, 1].copy()


def _totals(starts: Ints, values: Floats) -> Floats:
    """Sums from the first piece of a group up to each piece."""
    running = np.cumsum(values)
    before = np.concatenate(([0.0], running))[starts[:-1]]
    totals: Floats = running - np.repeat(before, np.diff(starts))
    return totals


def _factors(market: Market, worth: _Worth) -> Floats:
    """What a group's speeds on each accelerator are multiplied by, shape (accelerators,): some point of the robust set."""
    told = {one.id: one.weight for one in worth.bad}
    if market.scenario_ids:
        weights = np.array([told.get(name, 0.0) for name in market.scenario_ids])
        if weights.sum() <= 0.0:
            weights[0] = 1.0
        mixed: Floats = (weights / weights.sum()) @ market.factors[:, worth.workload]
        return mixed
    assert market.budget is not None  # noqa: S101  (the caller looked)
    slow = np.array([told.get(name, 0.0) for name in market.accelerators.ids])
    slow = slow * min(1.0, market.budget / max(float(slow.sum()), 1e-300))
    factors: Floats = 1.0 - slow * (1.0 - market.workloads.slow_factor[worth.workload])
    return factors


@dataclass(frozen=True, eq=False)
class _Columns:
    """All ways of all groups, to see what a proof leaves uncovered; ``workload``, ``copies``, ``money``: (groups,)."""

    market: Market
    proof: Proof
    prices: Floats
    money: Floats
    factors: Floats
    workload: Ints
    copies: Floats

    def raised(self, time: Floats) -> Floats:
        """Time prices (groups,) that are no lower than ``time``, and high enough for every way."""
        if not len(time):
            return time
        time = np.maximum(time, self._alone())
        sides = self._sides()
        if not len(sides[0]):
            return time
        return time + self._pair_excess(sides, time)

    def _way_cost(self, ways: slice) -> Floats:
        table = self.market.ways
        place = table.accelerator[ways]
        cost: Floats = table.gpus[ways] * (self.prices[0][place] + np.where(table.packed[ways], self.prices[1][place], 0.0))
        return cost

    def _members(self) -> tuple[Ints, Ints]:
        """CSR of the groups of each workload that have jobs: ``starts`` (workloads + 1,), and the groups in that order."""
        order = np.argsort(self.workload, kind="stable")
        order = order[self.copies[order] > 0.0]
        return np.searchsorted(self.workload[order], np.arange(self.market.workloads.count + 1)), order

    def _value(self, group: Ints, way: Ints, speed: Floats, halves: float) -> Floats:
        """What a group's worth in a way exceeds the money that it takes."""
        ways = self.market.ways
        place = ways.accelerator[way]
        paid = self.money[group] * self.market.accelerators.usd_per_hour[place] * ways.gpus[way] * halves
        value: Floats = self.proof.worth(group, speed * self.factors[group, place])[0] - paid
        return value

    def _alone(self) -> Floats:
        """The least time price that covers each group's ways alone, shape (groups,)."""
        ways = self.market.ways
        starts, order = self._members()
        way, group = _crossed(ways.first[: ways.alone], starts, order)
        excess = self._value(group, way, ways.first_speed[way], 1.0) - self._way_cost(slice(0, ways.alone))[way]
        least = np.zeros(len(self.workload))
        np.maximum.at(least, group, excess)
        return least

    def _sides(self) -> tuple[Ints, Ints, Ints, Floats]:
        """Each group in each way of two in which it may be: pair (counted from the first), side, group and its value there."""
        ways = self.market.ways
        starts, order = self._members()
        found: list[tuple[Ints, Ints, Ints, Floats]] = []
        for side, (workload, speed) in enumerate(((ways.first, ways.first_speed), (ways.second, ways.second_speed))):
            pair, group = _crossed(workload[ways.alone :], starts, order)
            twins = ways.first[ways.alone :][pair] == ways.second[ways.alone :][pair]
            keep = ~twins if side else np.ones(len(pair), dtype=np.bool_)
            pair, group = pair[keep], group[keep]
            way = pair + ways.alone
            found.append((pair, np.full(len(pair), side, dtype=np.int64), group, self._value(group, way, speed[way], 0.5)))
        pairs, sides, groups, values = zip(*found, strict=True)
        return np.concatenate(pairs), np.concatenate(sides), np.concatenate(groups), np.concatenate(values)

    def _has_worthless(self) -> Bools:
        """Whether some job of each workload is in no group, shape (workloads,)."""
        jobs = self.market.jobs
        without = jobs.workload[self.proof.group < 0]
        found: Bools = np.bincount(without, minlength=self.market.workloads.count) > 0
        return found

    def _pair_excess(self, sides: tuple[Ints, Ints, Ints, Floats], time: Floats) -> Floats:
        """By how much each time price must rise for the ways of two, shape (groups,)."""
        pair, side, group, value = sides
        ways = self.market.ways
        pairs = ways.count - ways.alone
        net = value - time[group]
        twins = (ways.first == ways.second)[ways.alone :]
        cost = self._way_cost(slice(ways.alone, ways.count))
        best, owner, next_best = _two_best(pair * 2 + side, net, group, pairs * 2)
        other = np.where(twins[pair], pair * 2, pair * 2 + 1 - side)
        is_best = twins[pair] & (owner[other] == group) & (self.copies[group] < 2.0)  # noqa: PLR2004  (one job makes no pair)
        partner = np.where(is_best, next_best[other], best[other])
        beside = net + partner - cost[pair]  # shared between two groups that both have a price
        workload = np.where(side == 0, ways.second[ways.alone :][pair], ways.first[ways.alone :][pair])
        plain = np.where(self._has_worthless()[workload], net - cost[pair], -np.inf)  # beside a job without any worth
        rise = np.maximum(beside / 2.0, plain)
        excess = np.zeros(len(time))
        np.maximum.at(excess, group, rise)
        return np.maximum(excess, 0.0)


def _crossed(workload: Ints, starts: Ints, order: Ints) -> tuple[Ints, Ints]:
    """Every way with every group of its workload: positions in ``workload`` (ways,), and groups."""
    begin, count = starts[workload], starts[workload + 1] - starts[workload]
    way = np.repeat(np.arange(len(workload)), count)
    offset = np.arange(len(way)) - np.repeat(np.cumsum(count) - count, count)
    return way, order[np.repeat(begin, count) + offset]


def _two_best(key: Ints, value: Floats, group: Ints, size: int) -> tuple[Floats, Ints, Floats]:
    """For each key the largest value, whose it is, and the next largest; -inf and -1 where there is none."""
    order = np.lexsort((-value, key))
    key, value, group = key[order], value[order], group[order]
    first = np.concatenate(([True], key[1:] != key[:-1])) if len(key) else np.zeros(0, dtype=np.bool_)
    best, owner, following = np.full(size, -np.inf), np.full(size, -1, dtype=np.int64), np.full(size, -np.inf)
    best[key[first]], owner[key[first]] = value[first], group[first]
    second = np.concatenate(([False], first[:-1])) & ~first if len(key) else first
    following[key[second]] = value[second]
    return best, owner, following

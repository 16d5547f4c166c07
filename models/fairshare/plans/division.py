"""What a plan gives each job, as arrays: time, speed on each accelerator, money. It is read from the plan alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from models.fairshare.market import market_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.fairshare.market import Market
    from models.fairshare.schema import Plan, Problem
    from models.program import Floats, Ints


@dataclass(frozen=True, eq=False)
class Division:
    """Shares by position: ``first``, ``second`` (jobs, -1 for none), ``way``, ``gangs``, each of shape (shares,).

    A pair stands in the order of its way. ``odd`` are shares of the plan that are not among these, each with what is wrong with it.
    """

    market: Market
    first: Ints
    second: Ints
    way: Ints
    gangs: Floats
    odd: tuple[tuple[tuple[str, ...], str], ...] = ()

    @cached_property
    def time(self) -> Floats:
        """Gangs that run for each job, all its copies together, shape (jobs,)."""
        jobs, paired = self.market.jobs.count, self.second >= 0
        found = np.bincount(self.first, weights=self.gangs, minlength=jobs)
        return (found + np.bincount(self.second[paired], weights=self.gangs[paired], minlength=jobs)).astype(np.float64)

    @cached_property
    def work(self) -> Floats:
        """Steps/s of one copy on each accelerator, if speeds are as usual; shape (jobs, accelerators)."""
        ways, places = self.market.ways, self.market.accelerators.count
        size = self.market.jobs.count * places
        accelerator, paired = ways.accelerator[self.way], self.second >= 0
        found = np.bincount(self.first * places + accelerator, weights=self.gangs * ways.first_speed[self.way], minlength=size)
        way, gangs = self.way[paired], self.gangs[paired]
        key = self.second[paired] * places + accelerator[paired]
        found = found + np.bincount(key, weights=gangs * ways.second_speed[way], minlength=size)
        work: Floats = found.reshape(-1, places) / self.market.jobs.copies[:, None]
        return work

    @cached_property
    def speed(self) -> Floats:
        """Steps/s of one copy, if speeds are as usual; shape (jobs,)."""
        found: Floats = self.work.sum(axis=1)
        return found

    @cached_property
    def judged(self) -> Floats:
        """Steps/s of one copy that the policy counts: the worst where the problem is robust; shape (jobs,)."""
        return judged_speed(self.market, self.work)

    @cached_property
    def gpus_used(self) -> Floats:
        """GPUs in use of each accelerator, shape (accelerators,)."""
        return self._by_accelerator(np.ones(self.market.ways.count))

    @cached_property
    def packed_used(self) -> Floats:
        """GPUs in use by consolidated gangs of several GPUs, shape (accelerators,)."""
        return self._by_accelerator(self.market.ways.packed.astype(np.float64))

    @cached_property
    def gpu_time(self) -> Floats:
        """GPUs that one copy holds of each accelerator, half of those that it shares; shape (jobs, accelerators)."""
        ways, places = self.market.ways, self.market.accelerators.count
        held = self.gangs * ways.gpus[self.way] * np.where(self.second >= 0, 0.5, 1.0)
        found = np.zeros(self.market.jobs.count * places)
        for job in (self.first, self.second):
            there = job >= 0
            key = job[there] * places + ways.accelerator[self.way[there]]
            found += np.bincount(key, weights=held[there], minlength=len(found))
        time: Floats = found.reshape(-1, places) / self.market.jobs.copies[:, None]
        return time

    @cached_property
    def spending(self) -> Floats:
        """USD per hour of one copy, shape (jobs,)."""
        found: Floats = self.gpu_time @ self.market.accelerators.usd_per_hour
        return found

    def _by_accelerator(self, counted: Floats) -> Floats:
        ways = self.market.ways
        used = self.gangs * ways.gpus[self.way] * counted[self.way]
        return np.bincount(ways.accelerator[self.way], weights=used, minlength=self.market.accelerators.count).astype(np.float64)


def judged_speed(market: Market, work: Floats) -> Floats:
    """The speed that counts for each job, of its steps/s on each accelerator, ``work`` (jobs, accelerators)."""
    if market.scenario_ids:
        worst: Floats = scenario_speeds(market, work).min(axis=0)
        return worst
    usual: Floats = work.sum(axis=1)
    if market.budget is None:
        return usual
    loss = -np.sort(-work * (1.0 - market.workloads.slow_factor[market.jobs.workload]), axis=1)  # the largest first
    slow = np.clip(market.budget - np.arange(loss.shape[1]), 0.0, 1.0)
    judged: Floats = usual - loss @ slow
    return judged


def scenario_speeds(market: Market, work: Floats) -> Floats:
    """Steps/s of one copy in each scenario, shape (scenarios, jobs); without scenarios there is one row, with speeds as usual."""
    return np.stack([(work * factor[market.jobs.workload]).sum(axis=1) for factor in market.factors])


def division_of(problem: Problem, plan: Plan) -> Division:
    """What ``plan`` gives. Shares that name what is not there, or what cannot run so, are odd."""
    market = market_of(problem)
    columns = share_columns(plan)
    jobs, accelerators = market.jobs.at, market.accelerators.at
    first, second = _places(columns[0], jobs), _places(columns[1], jobs)
    accelerator = _places(columns[2], accelerators)
    spread, gangs = np.array(columns[3], dtype=np.bool_), np.array(columns[4], dtype=np.float64)
    known = (first >= 0) & (second > _UNKNOWN) & (accelerator >= 0)
    way = np.full(len(gangs), -1, dtype=np.int64)
    turned = np.zeros(len(gangs), dtype=np.bool_)
    if known.any():
        at, paired = np.flatnonzero(known), second >= 0
        work = market.jobs.workload
        one, other = work[first[at]], np.where(paired[at], work[second[at]], -1)
        way[at] = market.ways.find(one, other, accelerator[at], spread[at])
        again = at[(way[at] < 0) & paired[at]]
        way[again] = market.ways.find(work[second[again]], work[first[again]], accelerator[again], spread[again])
        turned[again] = True
    single = known & (first == second) & (market.jobs.copies[np.maximum(first, 0)] < 2.0)  # noqa: PLR2004  (a pair is of two)
    good = known & (way >= 0) & ~single
    odd = tuple(_odd(columns, place, known=bool(known[place]), single=bool(single[place])) for place in np.flatnonzero(~good).tolist())
    return Division(
        market=market,
        first=np.where(turned, second, first)[good],
        second=np.where(turned, first, second)[good],
        way=way[good],
        gangs=gangs[good],
        odd=odd,
    )


_UNKNOWN = -2


def share_columns(plan: Plan) -> tuple[Sequence[str], Sequence[str | None], Sequence[str], Sequence[bool], Sequence[float]]:
    """First job, second job, accelerator, spread and gangs of each share, whichever way they are given."""
    table = plan.share_table
    if table is None:
        shares = plan.shares
        second = [share.jobs[1] if len(share.jobs) > 1 else None for share in shares]
        return (
            [share.jobs[0] for share in shares],
            second,
            [share.accelerator for share in shares],
            [share.spread for share in shares],
            [share.gangs for share in shares],
        )
    count = len(table.first)
    return (
        table.first,
        table.second if table.second is not None else [None] * count,
        table.accelerator,
        table.spread if table.spread is not None else [False] * count,
        table.gangs,
    )


def _places(names: Sequence[str | None], at: dict[str, int]) -> Ints:
    """Positions of names, -1 for None, ``_UNKNOWN`` for those that are not there."""
    found: dict[Any, int] = {**at, None: -1}
    return np.fromiter((found.get(name, _UNKNOWN) for name in names), np.int64, len(names))


def _odd(columns: tuple[Sequence[Any], ...], place: int, *, known: bool, single: bool) -> tuple[tuple[str, ...], str]:
    first, second, accelerator = (column[place] for column in columns[:3])
    ids = (first, accelerator) if second is None else (first, second, accelerator)
    who = f"'{first}'" if second is None else f"'{first}' with '{second}'"
    if not known:
        return ids, f"{who} on '{accelerator}': no such job or accelerator is in the problem"
    if single:
        return ids, f"'{first}' is one job and cannot share GPUs with itself"
    how = "spread " if columns[3][place] else ""
    return ids, f"{who} cannot run {how}on '{accelerator}': no speed is known, or the gang is too large"

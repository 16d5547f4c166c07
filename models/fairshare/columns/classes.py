"""Jobs that may share columns, and the columns: what the searches of the kind work on.

Jobs of one workload differ only in what they need; what they get together decides whether all needs can be met (``thresholds``). So they
are one class with one set of columns. A budget, or speeds that may turn out badly, hold for each job by itself: there only jobs that are
alike in everything share a class. Everything here is positions and arrays of the ``Market``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.fairshare.market import Market
    from models.program import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class Classes:
    """Classes of jobs, their entries and the columns of the shared program.

    ``of``: (jobs,) the class of each job; ``workload``, ``size`` (copies), ``budget`` (USD/h of one copy), ``mixed`` (jobs of unlike
    needs): (classes,). A **column** is a way and, alone, a class: ``way`` (columns,). An **entry** is one class's part in a column: its
    time is ``part * x[column]`` with ``part`` 2 where both gangs of a pair are of the class. Where a workload has several classes each
    has a column of its own for its side of a pair (way of the pair, ``side`` true), and the sides add up to the pair's column.
    """

    market: Market
    of: Ints
    workload: Ints
    size: Floats
    budget: Floats
    mixed: Bools
    way: Ints
    side: Bools
    entry_class: Ints
    entry_column: Ints
    entry_part: Floats
    entry_speed: Floats
    links: Links

    @property
    def count(self) -> int:
        """How many classes."""
        return len(self.workload)

    @property
    def robust(self) -> bool:
        """Whether speeds may turn out otherwise: each class is then of jobs that are alike in all."""
        return is_robust(self.market)

    @property
    def columns(self) -> int:
        """How many columns."""
        return len(self.way)

    @cached_property
    def entry_way(self) -> Ints:
        """The way of each entry."""
        return self.way[self.entry_column]

    @cached_property
    def entry_usd(self) -> Floats:
        """USD/h of one unit of each entry's time; a pair splits the price of its GPUs half and half."""
        ways, accelerators = self.market.ways, self.market.accelerators
        way = self.entry_way
        halves = np.where(ways.second[way] >= 0, 0.5, 1.0)
        return halves * ways.gpus[way] * accelerators.usd_per_hour[ways.accelerator[way]]

    @cached_property
    def payable(self) -> Bools:
        """Which columns no budget of nothing forbids, shape (columns,)."""
        found = np.ones(self.columns, dtype=np.bool_)
        found[self.entry_column[(self.budget[self.entry_class] == 0.0) & (self.entry_usd > 0.0)]] = False
        return found

    @cached_property
    def starts(self) -> Ints:
        """Class k has the entries ``starts[k]:starts[k + 1]``."""
        return np.searchsorted(self.entry_class, np.arange(self.count + 1)).astype(np.int64)

    @cached_property
    def members(self) -> list[Ints]:
        """The jobs of each class."""
        order = np.argsort(self.of, kind="stable")
        bounds = np.searchsorted(self.of[order], np.arange(self.count + 1))
        return [order[begin:end] for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]

    @cached_property
    def most_members(self) -> int:
        """Of how many jobs the largest class is."""
        return max(map(len, self.members), default=0)

    @cached_property
    def top(self) -> Floats:
        """The largest speed a copy of each class can have, in a pair or alone; 0 for who can pay for nothing; shape (classes,)."""
        found = np.zeros(self.count)
        np.maximum.at(found, self.entry_class, np.where(self.payable[self.entry_column], self.entry_speed, 0.0))
        return found

    @cached_property
    def unit(self) -> Floats:
        """What rows of needs are divided by: their entries are then about 1, whatever a step is; shape (classes,)."""
        return np.where(self.top > 0.0, self.top, 1.0)

    @cached_property
    def ladders(self) -> dict[int, Floats]:
        """The speeds above 0 below the largest, growing, of each mixed class: the thresholds that may bind."""
        return {
            k: np.unique(self.entry_speed[self.starts[k] : self.starts[k + 1]])[:-1]
            for k in np.flatnonzero(self.mixed).tolist()
            if self.starts[k + 1] > self.starts[k]
        }

    def amounts(self, values: Floats) -> Floats:
        """The time of each entry at these values of the columns, shape (entries,)."""
        return self.entry_part * np.maximum(values[self.entry_column], 0.0)


@dataclass(frozen=True, eq=False)
class Links:
    """Rows that join sides to pairs: row r has ``column`` with ``coefficient`` (entries of all rows, sorted by ``row``).

    The first ``equal`` rows are equal to 0; the others at most 0 (no copy shares GPUs with itself).
    """

    row: Ints
    column: Ints
    coefficient: Floats
    equal: int
    count: int


@dataclass(slots=True)
class _Columns:
    """Columns and entries as they are collected."""

    way: list[Ints] = field(default_factory=list)
    side: list[Bools] = field(default_factory=list)
    entries: list[tuple[Ints, Ints, Floats, Floats]] = field(default_factory=list)
    count: int = 0

    def add(self, way: Ints, *, side: bool = False) -> Ints:
        """New columns for these ways; their positions."""
        self.way.append(way)
        self.side.append(np.full(len(way), side))
        self.count += len(way)
        return np.arange(self.count - len(way), self.count, dtype=np.int64)

    def enter(self, classes: Ints, columns: Ints, part: Floats, speed: Floats) -> None:
        """New entries."""
        self.entries.append((classes, columns, part, speed))


def classes_of(
    market: Market, jobs: Bools, alike: tuple[Floats, ...] = (), *, apart: Bools | None = None, split: Ints | None = None
) -> Classes:
    """Classes of ``jobs`` (a mask), by workload, budget and ``split`` (jobs,); each job of ``apart`` is alone in its class.

    Jobs whose budget may bind, and all of a robust problem, share a class only where ``alike`` (arrays (jobs,)) agree too; ``of`` is -1 for
    jobs that do not take part.
    """
    at = np.flatnonzero(jobs)
    table, budget = market.jobs, _binding_budget(market)
    single = np.isfinite(budget) | is_robust(market)
    own = np.zeros(len(jobs), dtype=np.bool_) if apart is None else apart
    keys = [table.workload[at].astype(np.float64), np.where(np.isfinite(budget), budget, -1.0)[at]]
    keys += [np.where(single, np.nan_to_num(one, nan=-1.0), 0.0)[at] for one in alike]
    keys += [] if split is None else [split[at].astype(np.float64)]
    keys.append(np.where(own, 1.0 + np.arange(len(jobs)), 0.0)[at])
    _, first, inverse = np.unique(np.stack(keys, axis=1), axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    of = np.full(len(jobs), -1, dtype=np.int64)
    of[at] = inverse
    head = at[first]
    size = np.bincount(inverse, weights=table.copies[at], minlength=len(head)).astype(np.float64)
    mixed = (np.bincount(inverse, minlength=len(head)) > 1) & ~single[head]
    return _with_columns(market, of, table.workload[head], size, np.where(np.isfinite(budget[head]), budget[head], np.inf), mixed)


def is_robust(market: Market) -> bool:
    """Whether the plan is judged by speeds other than the usual ones."""
    return market.budget is not None or len(market.factors) > 1 or bool((market.factors != 1.0).any())


def _binding_budget(market: Market) -> Floats:
    """Budgets of the jobs, infinite where all its time anywhere costs no more."""
    ways, workload = market.ways, market.jobs.workload
    dearest = np.zeros(market.workloads.count)
    usd = ways.gpus * market.accelerators.usd_per_hour[ways.accelerator]
    np.maximum.at(dearest, ways.first, np.where(ways.second >= 0, 0.5, 1.0) * usd)
    shared = ways.second >= 0
    np.maximum.at(dearest, ways.second[shared], 0.5 * usd[shared])
    budget: Floats = np.where(market.jobs.budget < dearest[workload], market.jobs.budget, np.inf)
    return budget


def _with_columns(market: Market, of: Ints, workload: Ints, size: Floats, budget: Floats, mixed: Bools) -> Classes:
    ways, made = market.ways, _Columns()
    classes_by = np.bincount(workload, minlength=market.workloads.count)
    copies_by = np.bincount(workload, weights=size, minlength=market.workloads.count)
    order = np.argsort(workload, kind="stable")
    begin = np.concatenate(([0], np.cumsum(classes_by)))
    # Alone: a column for each class and each way of its workload.
    repeats = classes_by[ways.first[: ways.alone]]
    way = np.repeat(np.arange(ways.alone, dtype=np.int64), repeats)
    offset = np.arange(len(way)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    classes = order[begin[ways.first[way]] + offset]
    made.enter(classes, made.add(way), np.ones(len(way)), ways.first_speed[way])
    # Pairs: one column, and sides where a workload has several classes.
    shared = np.arange(ways.alone, ways.count, dtype=np.int64)
    same = ways.first[shared] == ways.second[shared]
    held = (classes_by[ways.first[shared]] > 0) & (classes_by[ways.second[shared]] > 0)
    shared = shared[held & (~same | (copies_by[ways.first[shared]] > 1.0))]
    column = made.add(shared)
    rows: list[tuple[Ints, Ints, Floats]] = []
    halves: list[tuple[Ints, Ints]] = []
    for number, (far, speed) in enumerate(((ways.first, ways.first_speed), (ways.second, ways.second_speed))):
        twice = ways.first[shared] == ways.second[shared]
        mine = np.flatnonzero(~twice) if number else np.arange(len(shared))
        part = np.where(twice, 2.0, 1.0)
        one = mine[classes_by[far[shared[mine]]] == 1]
        made.enter(order[begin[far[shared[one]]]], column[one], part[one], speed[shared[one]])
        for which in mine[classes_by[far[shared[mine]]] > 1].tolist():
            way_at, work = shared[which], far[shared[which]]
            sharing = order[begin[work] : begin[work + 1]]
            sides = made.add(np.full(len(sharing), way_at), side=True)
            made.enter(sharing, sides, np.ones(len(sides)), np.full(len(sides), speed[way_at]))
            rows.append((sides, column[which : which + 1], part[which : which + 1]))
            if twice[which]:
                halves.append((sides[size[sharing] == 1.0], column[which : which + 1]))
    return _joined(market, of, workload, size, budget, mixed, made, _links(rows, halves))


def _links(rows: list[tuple[Ints, Ints, Floats]], halves: list[tuple[Ints, Ints]]) -> Links:
    row, column, coefficient, count = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)], 0
    for sides, pair, part in rows:
        row.append(np.full(len(sides) + 1, count))
        column += [sides, pair]
        coefficient += [np.ones(len(sides)), -part]
        count += 1
    equal = count
    for sides, pair in halves:
        for side in sides.tolist():
            row.append(np.full(2, count))
            column += [np.array([side]), pair]
            coefficient.append(np.array([1.0, -1.0]))
            count += 1
    return Links(np.concatenate(row).astype(np.int64), np.concatenate(column), np.concatenate(coefficient), equal, count)


def _joined(market: Market, of: Ints, workload: Ints, size: Floats, budget: Floats, mixed: Bools, made: _Columns, links: Links) -> Classes:
    classes, columns, part, speed = (np.concatenate([entry[place] for entry in made.entries]) for place in range(4))
    order = np.argsort(classes, kind="stable")
    return Classes(
        market=market,
        of=of,
        workload=workload,
        size=size,
        budget=budget,
        mixed=mixed,
        way=np.concatenate(made.way),
        side=np.concatenate(made.side),
        entry_class=classes[order],
        entry_column=columns[order],
        entry_part=part[order],
        entry_speed=speed[order],
        links=links,
    )

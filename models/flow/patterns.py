"""Commodities that have the same choice, as one: by what their paths take of the watched channels and what these cost.

Two commodities whose sets of patterns are equal may be exchanged in the master program without changing it, so one group with the
sum of their sizes is exact (symmetry of linear programs). Patterns are told apart by random 64-bit sums; were two ever
confused, the plan's check and the bound, which know nothing of groups, would show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from models.flow.master import Master
    from models.program import Bools, Floats, Ints

Codes = npt.NDArray[np.uint64]
SEED = 20_240_229
EXACT, MOST, TIED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Grouped:
    """Groups, and their columns: one for each pattern.

    Group arrays (groups,): ``rank``, ``form``, ``size``, ``has_row``. Column arrays (columns,): ``column_group``, ``unit`` (cost above what
    is known), ``is_column`` (False: the whole group goes over its only pattern). ``entries``: column, place in ``watched``, times.
    ``member_starts`` and ``members``: the commodities of each group. ``paths`` (choices,) are paths of the store, by commodity and in it by
    pattern, from ``first_path[commodity]`` on. ``known_cost`` (ranks,) is what commodities cost at the least.
    """

    rank: Ints
    form: Ints
    size: Floats
    has_row: Bools
    column_starts: Ints
    column_group: Ints
    unit: Floats
    is_column: Bools
    entries: tuple[Ints, Ints, Floats]
    member_starts: Ints
    members: Ints
    member_size: Floats
    first_path: Ints
    paths: Ints
    known_cost: Floats

    @property
    def count(self) -> int:
        """How many groups."""
        return len(self.size)

    def spread(self, values: Floats, paths: int) -> Floats:
        """Flow of each path of the store, from the values of the program's columns (the stretch first)."""
        at = np.cumsum(self.is_column) * self.is_column
        target = np.where(self.form == TIED, self.size * values[0], self.size)
        amount = np.where(self.is_column, np.maximum(0.0, values[at]), target[self.column_group])
        flow = np.zeros(paths)
        lone = np.diff(self.column_starts) == 1
        share = np.zeros(self.count)
        share[lone] = amount[self.column_starts[:-1][lone]] / self.size[lone]
        group_of = np.repeat(np.arange(self.count), np.diff(self.member_starts))
        simple = lone[group_of]
        flow[self.paths[self.first_path[self.members[simple]]]] = (self.member_size * share[group_of])[simple]
        for group in np.flatnonzero(~lone).tolist():
            amounts = amount[self.column_starts[group] : self.column_starts[group + 1]]
            given, wanted = float(amounts.sum()), float(target[group])
            if given <= 0.0 or wanted <= 0.0:
                continue
            if self.form[group] != MOST or given > wanted:
                amounts = amounts * (wanted / given)  # what the solver rounded
            inside = slice(self.member_starts[group], self.member_starts[group + 1])
            sizes = self.member_size[inside] * (wanted / self.size[group])
            part, member, pattern = matched(sizes.tolist(), amounts.tolist())
            flow[self.paths[self.first_path[self.members[inside][member]] + pattern]] = part
        return flow


def matched(first: list[float], second: list[float]) -> tuple[Floats, Ints, Ints]:
    """Two rows of amounts laid side by side: the parts where an item of each meet, and which items they are.

    Where the first row is longer by rounding only, the rest goes to the last item of the second.
    """
    amounts: list[float] = []
    left: list[int] = []
    right: list[int] = []
    one, other = 0, 0
    here, there = first[0], second[0]
    short = 1e-9 * sum(first) >= sum(first) - sum(second)
    while one < len(first):
        if other == len(second):
            if not short:
                break
            other, there = other - 1, np.inf
        part = min(here, there)
        if part > 0.0 and left and (left[-1], right[-1]) == (one, other):
            amounts[-1] += part
        elif part > 0.0:
            amounts.append(part)
            left.append(one)
            right.append(other)
        here, there = here - part, there - part
        if here <= 0.0:
            one += 1
            here = first[one] if one < len(first) else 0.0
        if there <= 0.0:
            other += 1
            there = second[other] if other < len(second) else 0.0
    return np.array(amounts), np.array(left, dtype=np.int64), np.array(right, dtype=np.int64)


def grouped(master: Master, units: Floats) -> Grouped:
    """The groups of a master's commodities at the paths of its store and the channels it watches."""
    store, stage, commodities = master.store, master.stage, master.commodities
    table = store.table
    path, channel, times = store.entries(master.fabric)
    slot_of = np.full(master.fabric.channels, -1, dtype=np.int64)
    slot_of[master.watched] = np.arange(len(master.watched))
    seen = slot_of[channel] >= 0
    path, slot, times = path[seen], slot_of[channel[seen]], times[seen]
    alive = stage.size[table.commodity] > 0
    least = store.cheapest(units, commodities.count)
    priced = commodities.rank <= (stage.rank if not stage.stretched else -1)
    extra = np.where(priced[table.commodity], units - np.where(np.isfinite(least), least, 0.0)[table.commodity], 0.0)
    scale = 1e-10 * max(1e-300, float(np.abs(units).max(initial=0.0)))
    extra = np.round(extra / scale) * scale
    code = _sums(path, slot, times, table.count, len(master.watched)) ^ _mixed(extra.view(np.uint64) + np.uint64(1))
    empty = _mixed(np.zeros(1).view(np.uint64) + np.uint64(1))[0]
    free = np.zeros(commodities.count, dtype=np.bool_)
    free[table.commodity[code == empty]] = True  # a path that takes nothing and costs least: no other is needed
    chosen = np.flatnonzero(alive & (~free[table.commodity] | (code == empty)))
    order = chosen[np.lexsort((chosen, code[chosen], table.commodity[chosen]))]
    kept = order[_new(table.commodity[order], code[order])]
    return _joined_groups(master, units, extra, code, kept, (path, slot, times), least)


def _joined_groups(
    master: Master, units: Floats, extra: Floats, code: Codes, kept: Ints, entries: tuple[Ints, Ints, Floats], least: Floats
) -> Grouped:
    stage, commodities, table = master.stage, master.commodities, master.store.table
    owner = table.commodity[kept]
    first_path = np.searchsorted(owner, np.arange(commodities.count))
    choices = np.bincount(owner, minlength=commodities.count)
    with np.errstate(over="ignore"):
        sums = np.zeros(commodities.count, dtype=np.uint64)
        np.add.at(sums, owner, _mixed(code[kept]))
    least = np.where(np.isfinite(least), least, 0.0)
    worth = np.where(stage.form == MOST, least, 0.0)  # of those that need not be carried, what carrying them is worth tells
    which = np.flatnonzero(choices > 0)
    keys = (worth[which], sums[which], choices[which], stage.form[which], commodities.rank[which])
    ordered = which[np.lexsort((which, *keys))]
    opens = _new(*(key[np.lexsort((which, *keys))] for key in keys)) if len(which) else np.zeros(0, dtype=np.bool_)
    member_starts = np.append(np.flatnonzero(opens), len(ordered))
    head = ordered[member_starts[:-1]]
    size = np.add.reduceat(stage.size[ordered], member_starts[:-1]) if len(head) else np.zeros(0)
    lengths = choices[head]
    column_starts = np.concatenate(([0], np.cumsum(lengths)))
    column_group = np.repeat(np.arange(len(head)), lengths)
    column_path = kept[np.repeat(first_path[head], lengths) + np.arange(column_starts[-1]) - np.repeat(column_starts[:-1], lengths)]
    form = stage.form[head]
    is_column = (form[column_group] != EXACT) | (lengths[column_group] > 1)
    path, slot, times = entries
    column_of = np.full(table.count, -1, dtype=np.int64)
    column_of[column_path] = np.arange(len(column_path))
    used = column_of[path] >= 0
    exact = stage.form == EXACT
    base = np.where(exact & (choices > 0), least * stage.size, 0.0)
    return Grouped(
        rank=commodities.rank[head],
        form=form,
        size=size,
        has_row=(form == TIED) | (lengths > 1),
        column_starts=column_starts,
        column_group=column_group,
        unit=np.where(form[column_group] == EXACT, extra[column_path], units[column_path]),
        is_column=is_column,
        entries=(column_of[path[used]], slot[used], times[used]),
        member_starts=member_starts,
        members=ordered,
        member_size=stage.size[ordered],
        first_path=first_path,
        paths=kept,
        known_cost=np.bincount(commodities.rank, weights=base, minlength=commodities.ranks).astype(np.float64),
    )


def _new(*keys: npt.NDArray[np.generic]) -> Bools:
    """Where any of the sorted keys differs from the one before it."""
    fresh = np.zeros(len(keys[0]), dtype=np.bool_)
    fresh[:1] = True
    for key in keys:
        fresh[1:] |= key[1:] != key[:-1]
    return fresh


def _sums(path: Ints, slot: Ints, times: Floats, paths: int, slots: int) -> Codes:
    """A random code for what each path takes of the watched channels; 0 for nothing."""
    codes = np.random.default_rng(SEED).integers(1, 2**63, size=slots, dtype=np.uint64)
    totals = np.zeros(paths, dtype=np.uint64)
    with np.errstate(over="ignore"):
        np.add.at(totals, path, codes[slot] * times.astype(np.uint64))
    return totals


def _mixed(codes: Codes) -> Codes:
    """Each code scrambled, so that sums of them tell sets apart (the finaliser of SplitMix64: Steele, Lea and Flood, 2014)."""
    with np.errstate(over="ignore"):
        codes = (codes ^ (codes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        codes = (codes ^ (codes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return codes ^ (codes >> np.uint64(31))

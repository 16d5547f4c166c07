"""Commodities that have the same choice, as one: by what their paths take of the watched channels and what these cost.

Two commodities whose sets of patterns are equal may be exchanged in the master program without changing it, so one group with the
sum of their sizes is exact (symmetry of linear programs). Patterns are told apart by random 64-bit sums; were two ever
confused, the plan's check and the bound, which know nothing of groups, would show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.flow.columns.codes import mixed

if TYPE_CHECKING:
    import numpy.typing as npt

    from models.flow.columns.codes import Codes
    from models.flow.columns.master import Master
    from models.program import Bools, Floats, Ints

SEED = 20_240_229
EXACT, MOST, TIED = 0, 1, 2
ROUNDED = 1e-9  # of a group: what its patterns lack of it by no more is rounding


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
        self._deal(np.flatnonzero(~lone), amount, target, flow)
        return flow

    def _deal(self, groups: Ints, amount: Floats, target: Floats, flow: Floats) -> None:
        """Fill the members of each group one after another from its patterns; ``target`` (groups,) is what each may get, in place."""
        columns, of_column = spans(self.column_starts, groups)
        given = np.bincount(of_column, weights=amount[columns], minlength=len(groups))
        live = (given > 0.0) & (target[groups] > 0.0)
        if not live.all():
            groups, given = groups[live], given[live]
            columns, of_column = spans(self.column_starts, groups)
        wanted = target[groups]
        # What the solver rounded; those that need not be carried in full may get less.
        scale = np.where((self.form[groups] != MOST) | (given > wanted), wanted / given, 1.0)
        members, of_member = spans(self.member_starts, groups)
        sizes = self.member_size[members] * (wanted / self.size[groups])[of_member]
        part, member, column = dealt(sizes, of_member, amount[columns] * scale[of_column], of_column, wanted)
        pattern = columns[column] - self.column_starts[groups[of_column[column]]]
        flow[self.paths[self.first_path[self.members[members[member]]] + pattern]] = part


def spans(starts: Ints, which: Ints) -> tuple[Ints, Ints]:
    """The numbers in ``starts[k]:starts[k + 1]`` for each k of ``which``, one after another, and the place of each one's k in ``which``."""
    lengths = starts[which + 1] - starts[which]
    ends = np.cumsum(lengths)
    owner = np.repeat(np.arange(len(which)), lengths)
    return np.arange(len(owner)) + (starts[which] - ends + lengths)[owner], owner


def dealt(first: Floats, first_group: Ints, second: Floats, second_group: Ints, totals: Floats) -> tuple[Floats, Ints, Ints]:
    """``matched`` for many groups at once: amounts of both rows by group, which is sorted; ``totals`` (groups,) is what the first come to.

    Every group has items of both rows. What an item of the first gets is exact where the second row is as long as the first.
    """
    count = len(totals)
    here, there = _ends(first, first_group, totals), _ends(second, second_group, totals)
    last = np.cumsum(np.bincount(second_group, minlength=count)) - 1
    full = there[last] >= 1.0 - ROUNDED
    there[last[full]] = 2.0  # beyond all of the first: the rest is rounding
    from_first = np.arange(len(here) + len(there)) < len(here)
    end, group = np.concatenate((here, there)), np.concatenate((first_group, second_group))
    order = np.lexsort((~from_first, end, group))
    from_first, end, group = from_first[order], end[order], group[order]
    before = np.where(np.diff(group, prepend=-1) != 0, 0.0, np.concatenate(([0.0], end[:-1])))
    # Of each part, the item of either row that is not over yet: there is none where the other row is longer.
    one: Ints = np.cumsum(from_first) - from_first
    other: Ints = np.cumsum(~from_first) - ~from_first
    inside: Bools = (one < len(first)) & (other < len(second))
    inside[inside] = (first_group[one[inside]] == group[inside]) & (second_group[other[inside]] == group[inside])
    part, one, other = (end - before)[inside], one[inside], other[inside]
    got = np.bincount(one, weights=part, minlength=len(first))
    part = np.where(got[one] > 0.0, part, 1.0)  # an item too small to show beside its group: it has one part, without width
    kept = (part > 0.0) & (from_first[inside] | (got[one] > 0.0))
    part, one, other = part[kept], one[kept], other[kept]
    share = first / np.maximum(totals[first_group], 1e-300)
    exact = full[first_group] | (got > share) | (got == 0.0)
    got = np.where(got > 0.0, got, 1.0)
    return part * np.where(exact, first / got, totals[first_group])[one], one, other


def _ends(amounts: Floats, group: Ints, totals: Floats) -> Floats:
    """Where each amount ends in its group, whose total is 1."""
    ends = np.cumsum(amounts / totals[group])
    starts = np.searchsorted(group, np.arange(len(totals)))
    begin = np.concatenate(([0.0], ends))[starts]
    return ends - begin[group]


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
    seen = np.flatnonzero((slot_of >= 0)[channel])
    path, slot, times = path[seen], slot_of[channel[seen]], times[seen]
    alive = stage.size[table.commodity] > 0
    least = store.cheapest(units, commodities.count)
    priced = commodities.rank <= (stage.rank if not stage.stretched else -1)
    extra = np.where(priced[table.commodity], units - np.where(np.isfinite(least), least, 0.0)[table.commodity], 0.0)
    scale = 1e-10 * max(1e-300, float(np.abs(units).max(initial=0.0)))
    extra = np.round(extra / scale) * scale
    code = _sums(path, slot, times, table.count, len(master.watched)) ^ mixed(extra.view(np.uint64) + np.uint64(1))
    empty = mixed(np.zeros(1).view(np.uint64) + np.uint64(1))[0]
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
        np.add.at(sums, owner, mixed(code[kept]))
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

"""Which leases a slot gives out: the choice of the largest total weight that fits, without a solver.

A *candidate* is one unit (a job alone, or two jobs on the same GPUs) on one accelerator; its weight says how urgent it is. A choice fits
when no job is in two candidates and the gangs on each accelerator need no more GPUs than there are. Gangs of one GPU without pairs make an
assignment problem, which successive shortest paths over the accelerators solve exactly (R. Ahuja, T. Magnanti, J. Orlin, "Network Flows",
1993, chapter 9.7). Gangs of several sizes make a knapsack of each accelerator: dynamic programming solves one exactly while the others
stand still, in turns, until no turn gains; that is exact for one accelerator without pairs, and an exchange heuristic for several.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints

MOST_TURNS = 8  # of exchange; two or three are usual
MOST_STEPS = 40_000  # of forced entries: candidates tried times candidates looked at
GAIN = 1e-9  # less is rounding
ALONE = -1  # the second job of a unit that has one


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Leases that may be given, in parallel arrays of shape (C,); ``room`` (A,) is how many GPUs there are.

    ``packed`` says which gangs need whole blocks; together they get no more than ``packed_room`` (A,).
    """

    first: Ints
    second: Ints
    accelerator: Ints
    gpus: Ints
    packed: Bools
    weight: Floats
    room: Ints
    packed_room: Ints
    jobs: int

    @property
    def count(self) -> int:
        """How many candidates."""
        return len(self.first)

    def fits(self, chosen: Bools) -> bool:
        """Whether the chosen candidates may run together."""
        members = np.concatenate([self.first[chosen], self.second[chosen]])
        members = members[members >= 0]
        used = np.bincount(self.accelerator[chosen], weights=self.gpus[chosen], minlength=len(self.room))
        blocks = chosen & self.packed
        packed = np.bincount(self.accelerator[blocks], weights=self.gpus[blocks], minlength=len(self.room))
        return len(np.unique(members)) == len(members) and bool((used <= self.room).all() and (packed <= self.packed_room).all())


def choose(candidates: Candidates) -> Bools:
    """The candidates to lease, shape (C,): of the largest total weight, or close to it where the module's text says so.

    Candidates without positive weight are never chosen.
    """
    if not candidates.count:
        return np.zeros(0, dtype=bool)
    single = bool((candidates.second < 0).all() and (candidates.gpus == 1).all())
    return _assigned(candidates) if single else _exchanged(candidates)


# ---------------------------------------------------------------- gangs of one GPU


def _assigned(candidates: Candidates) -> Bools:
    """The assignment of the largest weight: one augmenting path over accelerators after another, the best first.

    A path takes a job that waits, and moves one job from each accelerator to the next until one has room. The weights of paths only
    fall, so the first without gain ends it.
    """
    count = len(candidates.room)
    weight = np.full((candidates.jobs, count), -np.inf)
    which = np.full((candidates.jobs, count), ALONE)
    for candidate in np.argsort(candidates.weight, kind="stable").tolist():  # of two alike the heavier is kept
        at = candidates.first[candidate], candidates.accelerator[candidate]
        weight[at], which[at] = candidates.weight[candidate], candidate
    weight[weight <= 0] = -np.inf
    place = np.full(candidates.jobs, ALONE)
    room = candidates.room.astype(np.int64).copy()
    while True:
        enter, who, move, mover = _arcs(weight, place)
        gain, before = _longest(enter, move)
        gain = np.where(room > 0, gain, -np.inf)
        end = int(np.argmax(gain))
        if not gain[end] > GAIN:
            break
        room[end] -= 1
        while before[end] >= 0:
            start = before[end]
            place[mover[start, end]] = end
            end = start
        place[who[end]] = end
    chosen = np.zeros(candidates.count, dtype=bool)
    given = np.flatnonzero(place >= 0)
    chosen[which[given, place[given]]] = True
    return chosen


def _arcs(weight: Floats, place: Ints) -> tuple[Floats, Ints, Floats, Ints]:
    """Best gain of a waiting job that enters each accelerator, and of a job that moves between two; and who they are."""
    count = weight.shape[1]
    waiting = np.where((place < 0)[:, None], weight, -np.inf)
    who = waiting.argmax(axis=0)
    enter = waiting[who, np.arange(count)]
    move, mover = np.full((count, count), -np.inf), np.full((count, count), ALONE)
    for start in range(count):
        here = np.flatnonzero(place == start)
        if len(here):
            gains = weight[here] - weight[here, start][:, None]
            best = gains.argmax(axis=0)
            move[start], mover[start] = gains[best, np.arange(count)], here[best]
            move[start, start] = -np.inf
    return enter, who, move, mover


def _longest(enter: Floats, move: Floats) -> tuple[Floats, list[int]]:
    """Bellman and Ford: the best gain of a path that ends at each accelerator, and the accelerator before; -1: none.

    There is no cycle with a gain: the assignment is the best of its size (invariant of successive shortest paths).
    """
    gain, before = enter.copy(), [ALONE] * len(enter)
    for _ in range(len(enter)):
        through = gain[:, None] + move
        best = through.argmax(axis=0)
        better = through[best, np.arange(len(gain))] > gain + GAIN
        if not better.any():
            break
        for end in np.flatnonzero(better).tolist():
            gain[end], before[end] = through[best[end], end], int(best[end])
    return gain, before


# ---------------------------------------------------------------- gangs of several sizes, and pairs


def _exchanged(candidates: Candidates) -> Bools:
    """Largest weight per GPU first; then knapsacks and forced entries in turn, as long as the total weight rises."""
    chosen = _knapsacks(candidates, in_order(candidates, _by_density(candidates)))
    if not (candidates.second >= 0).any():
        return chosen
    for _ in range(MOST_TURNS):
        better = _knapsacks(candidates, _entered(candidates, chosen))
        if candidates.weight[better].sum() <= candidates.weight[chosen].sum() + GAIN:
            break
        chosen = better
    return chosen


def _by_density(candidates: Candidates) -> Ints:
    return np.lexsort((-candidates.gpus, -candidates.weight / candidates.gpus))


def _knapsacks(candidates: Candidates, chosen: Bools) -> Bools:
    """Each accelerator packed anew in turn, until none gains."""
    idle = 0
    for turn in range(MOST_TURNS * len(candidates.room)):
        better = _repacked(candidates, chosen, turn % len(candidates.room))
        gain = candidates.weight[better].sum() - candidates.weight[chosen].sum()
        chosen, idle = (better, 0) if gain > GAIN else (chosen, idle + 1)
        if idle >= len(candidates.room):
            break
    return chosen


def _entered(candidates: Candidates, chosen: Bools) -> Bools:
    """Every candidate left out is let in once, before all others: whoever is in its way goes, and what then fits comes."""
    order = _by_density(candidates)
    total = candidates.weight[chosen].sum()
    waiting = order[~chosen[order] & (candidates.weight[order] > 0)]
    for one in waiting[: max(1, MOST_STEPS // candidates.count)].tolist():
        if chosen[one]:
            continue
        sequence = np.concatenate([[one], order[chosen[order]], order[~chosen[order]]])
        better = in_order(candidates, sequence)
        gained = candidates.weight[better].sum()
        if gained > total + GAIN:
            chosen, total = better, gained
    return chosen


def in_order(candidates: Candidates, order: Ints) -> Bools:
    """One candidate after another in the given order, each that still fits and has a positive weight."""
    chosen, taken = np.zeros(candidates.count, dtype=bool), [False] * (candidates.jobs + 1)
    room, packed_room = candidates.room.tolist(), candidates.packed_room.tolist()
    order = order[candidates.weight[order] > 0]
    columns = (candidates.first, candidates.second, candidates.accelerator, candidates.gpus, candidates.packed)
    let_in = []
    for one, first, second, at, gpus, packed in zip(order.tolist(), *(column[order].tolist() for column in columns), strict=True):
        # Of a job alone the second is the spare place at the end, which is never taken.
        if taken[first] or taken[second] or room[at] < gpus or (packed and packed_room[at] < gpus):
            continue
        let_in.append(one)
        taken[first] = True
        taken[second] = second >= 0
        room[at] -= gpus
        packed_room[at] -= gpus if packed else 0
    chosen[let_in] = True
    return chosen


def _repacked(candidates: Candidates, chosen: Bools, accelerator: int) -> Bools:
    """The best choice on one accelerator; a job leased elsewhere may come over, at the weight that it leaves behind."""
    holder = np.full(candidates.jobs + 1, ALONE)
    away = np.flatnonzero(chosen & (candidates.accelerator != accelerator))
    holder[candidates.first[away]] = away
    holder[candidates.second[away]] = away  # of a job alone: the spare place at the end, which is emptied below
    holder[-1] = ALONE
    here = np.flatnonzero(candidates.accelerator == accelerator)
    lost, also = holder[candidates.first[here]], holder[candidates.second[here]]
    left = np.where(lost >= 0, candidates.weight[lost], 0.0) + np.where((also >= 0) & (also != lost), candidates.weight[also], 0.0)
    value = candidates.weight[here] - left
    stays = chosen[here] & (candidates.second >= 0).any()  # beside pairs a conflict is decided for what is there, else for the heavier
    order = np.lexsort((-value / candidates.gpus[here], ~stays))
    kept, seen = [], set[int]()
    for place in order[value[order] > 0].tolist():
        members = {int(candidates.first[here[place]]), int(candidates.second[here[place]])} - {ALONE}
        leases = {int(holder[member]) + candidates.jobs + 1 for member in members if holder[member] >= 0}  # no lease is left twice
        if not seen & (members | leases):
            kept.append(place)
            seen |= members | leases
    return _taken_over(candidates, chosen, here, _knapsack(candidates, accelerator, here, value, kept), holder)


def _taken_over(candidates: Candidates, chosen: Bools, here: Ints, picked: list[int], holder: Ints) -> Bools:
    """The choice with ``picked`` of ``here`` in place of what was chosen there, and without the leases they leave."""
    better = chosen.copy()
    better[here] = False
    for place in picked:
        better[here[place]] = True
        for member in (int(candidates.first[here[place]]), int(candidates.second[here[place]])):
            if member >= 0 and holder[member] >= 0:
                better[holder[member]] = False
    return better


def _knapsack(candidates: Candidates, accelerator: int, here: Ints, value: Floats, items: list[int]) -> list[int]:
    """The items of the largest total value that fit on the accelerator, by dynamic programming over its GPUs (Bellman, 1957).

    Gangs that need whole blocks are packed first, into the blocks; where blocks are scarce this is a heuristic.
    """
    room, blocks = int(candidates.room[accelerator]), int(candidates.packed_room[accelerator])
    scarce = blocks < room
    items = sorted(items, key=lambda place: not candidates.packed[here[place]]) if scarce else items
    best = np.zeros(room + 1)
    took = np.zeros((len(items), room + 1), dtype=bool)
    for number, place in enumerate(items):
        gpus = int(candidates.gpus[here[place]])
        if gpus > room:
            continue
        extended = best[: room + 1 - gpus] + value[place]
        took[number, gpus:] = extended > best[gpus:] + GAIN
        if scarce and candidates.packed[here[place]]:
            took[number, blocks + 1 :] = False
        best[gpus:] = np.where(took[number, gpus:], extended, best[gpus:])
    picked, left = [], room
    for number in range(len(items) - 1, -1, -1):
        if took[number, left]:
            picked.append(items[number])
            left -= int(candidates.gpus[here[items[number]]])
    return picked

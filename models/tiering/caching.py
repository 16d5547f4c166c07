"""Caches on top of a draft: copies beyond the replicas, added in rounds for the largest gain for each GiB while there is room."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from models.tiering import access, money
from models.tiering.copies import Served, held_from, plan_from
from models.tiering.draft import admissible_slots, opening
from models.tiering.schema import GoalName
from models.tiering.settling import used

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints
    from models.tiering.draft import Draft
    from models.tiering.schema import Plan, Problem

MOST_ROUNDS = 100
LEAST_GAIN = 1e-12


def with_caches(problem: Problem, draft: Draft, deadline: float) -> Plan | None:
    """The draft's plan with caches that the first goal gains by; None where there are none to add.

    Bandwidths are not refunded what a cache takes over. Budgets and the migration are not looked at: whoever asks verifies the plan.
    """
    store, slots = draft.store, (draft.tier, draft.packed)
    starts, order = store.read_starts
    spare = store.objects.copies_max - np.bincount(draft.object, minlength=store.objects.count)
    objects = np.flatnonzero((spare > 0) & (np.diff(starts) > 0))
    if problem.goals[0] is GoalName.moved_gib or not len(objects):
        return None
    count = np.diff(starts)[objects]
    first = np.cumsum(count) - count
    reads = order[np.repeat(starts[objects] - first, count) + np.arange(int(count.sum()))]
    able = np.stack([access.servable(store, reads, tier, bool(form)) for tier, form in zip(*slots, strict=True)], axis=1)
    keep, serve = opening(store, objects, reads, slots, problem.goals[0])
    serve = np.where(able, serve, np.inf)
    taken = np.zeros((store.objects.count, store.tiers.count), dtype=np.bool_)
    taken[draft.object, draft.tier[draft.slot]] = True
    free = admissible_slots(store, slots)[objects] & ~taken[objects][:, draft.tier]
    server = draft.slot[draft.read_unit]
    rooms = _Rooms(draft, objects, reads, first)
    made: list[tuple[Ints, Ints]] = []
    spare = spare[objects]
    for _ in range(MOST_ROUNDS):
        gains = np.maximum(serve[np.arange(len(reads)), server[reads]][:, None] - serve, 0.0)
        gain = np.where(free & (spare > 0)[:, None], np.add.reduceat(gains, first, axis=0) - keep, 0.0)
        at, slot = rooms.taken_by(gain, gains > 0)
        if not len(at) or time.monotonic() > deadline:
            break
        made.append((objects[at], slot))
        free[at] &= draft.tier != draft.tier[slot][:, None]
        spare[at] -= 1
        new = np.full(len(objects), -1)
        new[at] = slot
        mine = np.repeat(new, count)
        won = (mine >= 0) & (gains[np.arange(len(reads)), mine] > 0)
        server[reads[won]] = mine[won]
    return _plan(problem, draft, server, made) if made else None


def _plan(problem: Problem, draft: Draft, server: Ints, made: list[tuple[Ints, Ints]]) -> Plan:
    store = draft.store
    owner = np.concatenate((draft.object, *(objects for objects, _ in made)))
    slot = np.concatenate((draft.slot, *(slots for _, slots in made)))
    held = held_from(store, owner, draft.tier[slot], draft.packed[slot])
    reads = np.arange(store.reads.count)
    copy = held.copies_at(store.reads.object, draft.tier[server], store.tiers.count)
    return plan_from(problem, held, Served(reads, copy, np.ones(len(reads))))


class _Rooms:
    """What is left of the limits of tiers and site links."""

    def __init__(self, draft: Draft, objects: Ints, reads: Ints, first: Ints) -> None:
        store, on = draft.store, draft.store.tiers
        self._tier, self._first = draft.tier, first
        shape = len(objects), len(draft.tier)
        self._gib, self._write, self._load = np.empty(shape), np.empty(shape), np.empty((len(reads), shape[1]))
        for slot, form in enumerate(draft.packed.tolist()):
            self._gib[:, slot] = money.stored_gib(store, objects, form)
            self._write[:, slot] = money.write_load_gbps(store, objects, form)
            self._load[:, slot] = money.read_load_gbps(store, reads, form)
        self._link = store.ways.link[store.reads.way[reads]][:, draft.tier]
        left = {limit.name: limit.most - used(draft, limit) for limit in draft.limits}
        tiers = range(on.count)
        self._left = [np.array([left.get((kind, tier), np.inf) for tier in tiers]) for kind in ("gib", "read", "write")]
        self._links = {number: room for (kind, number), room in left.items() if kind == "link"}

    def taken_by(self, gain: Floats, moves: Bools) -> tuple[Ints, Ints]:
        """The caches of one round, at most one for each object, by positions of objects and slots; they are booked."""
        loads = np.add.reduceat(np.where(moves, self._load, 0.0), self._first, axis=0)
        over = {link: np.add.reduceat(np.where(moves & (self._link == link), self._load, 0.0), self._first, axis=0) for link in self._links}
        tables = list(zip(self._left, (self._gib, loads, self._write), strict=True))
        fits = gain > LEAST_GAIN
        for left, table in tables:
            fits &= table <= left[self._tier]
        for link, table in over.items():
            fits &= table <= self._links[link]
        density = np.where(fits, gain / self._gib, 0.0)
        slot = density.argmax(axis=1)
        every = np.arange(len(slot))
        order = np.argsort(-density[every, slot], kind="stable")
        order = order[density[order, slot[order]] > 0]
        fine = np.ones(len(order), dtype=np.bool_)
        for left, table in tables:
            for tier in range(len(left)):
                here = np.flatnonzero(self._tier[slot[order]] == tier)
                more = table[order[here], slot[order[here]]]
                fine[here] &= (np.cumsum(more) <= left[tier]) | (more == 0)
        for link, table in over.items():
            more = table[order, slot[order]]
            fine &= (np.cumsum(more) <= self._links[link]) | (more == 0)
        at = order[fine]
        for left, table in tables:
            np.subtract.at(left, self._tier[slot[at]], table[at, slot[at]])
        for link, table in over.items():
            self._links[link] -= float(table[at, slot[at]].sum())
        return at, slot[at]

"""A plan as arrays: its copies, and which of them serves each read.

What a plan does not say about a read is decided here, for everybody alike: all of it comes from the one copy that is best by the problem's
goals in their order, then by what is left of cost and access time, then by the order of the tiers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from models.tiering.access import read_time, servable
from models.tiering.money import read_usd
from models.tiering.schema import Copies, GoalName, Plan, Serving
from models.tiering.store import OWN, position, store_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Bools, Floats, Ints
    from models.tiering.schema import Problem, TierPrice
    from models.tiering.store import Store


@dataclass(frozen=True, eq=False)
class Held:
    """The copies of a plan, sorted by object, then tier; no two alike. Arrays of shape (copies,)."""

    object: Ints
    tier: Ints
    packed: Bools
    starts: Ints  # (objects + 1,): the copies of object o are starts[o]:starts[o + 1]

    @property
    def count(self) -> int:
        """How many copies."""
        return len(self.object)

    def copies_at(self, objects: Ints, tiers: Ints, tier_count: int) -> Ints:
        """Which copy an object has on a tier, -1 for none; shapes (n,)."""
        return position(objects * tier_count + tiers, self.object * tier_count + self.tier, np.arange(self.count))


@dataclass(frozen=True, eq=False)
class Served:
    """Which copies serve which reads, by what share; arrays of shape (servings,)."""

    read: Ints
    copy: Ints
    share: Floats


NOBODY = Served(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))


def held_from(store: Store, objects: Ints, tiers: Ints, packed: Bools) -> Held:
    """Copies in any order, no two of an object on one tier."""
    order = np.argsort(objects * store.tiers.count + tiers, kind="stable")
    objects, tiers, packed = objects[order], tiers[order], packed[order]
    starts = np.concatenate(([0], np.cumsum(np.bincount(objects, minlength=store.objects.count)))).astype(np.int64)
    return Held(objects, tiers, packed, starts)


def served_by_default(store: Store, held: Held, goals: Sequence[GoalName], reads: Ints) -> Served:
    """The best copy for each of ``reads``; none for a read that no copy can serve."""
    count = np.diff(held.starts)[store.reads.object[reads]]
    first = held.starts[store.reads.object[reads]]
    alone = count == 1
    alone[alone] = servable(store, reads[alone], held.tier[first[alone]], held.packed[first[alone]])
    several = count > 1
    read = np.repeat(reads[several], count[several])
    within = np.arange(len(read)) - np.repeat(np.cumsum(count[several]) - count[several], count[several])
    copy = np.repeat(first[several], count[several]) + within
    can = servable(store, read, held.tier[copy], held.packed[copy])
    read, copy = read[can], copy[can]
    tier, packed = held.tier[copy], held.packed[copy]
    worth = {GoalName.cost: read_usd, GoalName.access_time: read_time}
    wanted = dict.fromkeys((*(goal for goal in goals if goal in worth), *worth))
    order = np.lexsort((tier, *(worth[goal](store, read, tier, packed) for goal in reversed(wanted)), read))
    read, copy = read[order], copy[order]
    best = np.concatenate(([True], read[1:] != read[:-1])) if len(read) else np.zeros(0, dtype=np.bool_)
    found = np.concatenate((reads[alone], read[best])), np.concatenate((first[alone], copy[best]))
    return Served(*found, np.ones(len(found[0])))


def served_by(store: Store, held: Held, goals: Sequence[GoalName], told: Served = NOBODY) -> Served:
    """All servings: those told, and the default for the reads that they do not mention."""
    silent = np.ones(store.reads.count, dtype=np.bool_)
    silent[told.read] = False
    rest = served_by_default(store, held, goals, np.flatnonzero(silent))
    if not len(told.read):
        return rest
    join = np.concatenate
    return Served(join((told.read, rest.read)), join((told.copy, rest.copy)), join((told.share, rest.share)))


def plan_from(problem: Problem, held: Held, told: Served = NOBODY, prices: tuple[TierPrice, ...] = ()) -> Plan:
    """The plan of copies and servings; of the servings, those are left out that go without saying."""
    store = store_of(problem)
    ids, tiers = store.id_array, np.array(store.tiers.ids, dtype=object)
    copies = Copies(
        object=tuple(ids[held.object].tolist()),
        tier=tuple(tiers[held.tier].tolist()),
        compressed=tuple(held.packed.tolist()) if held.packed.any() else None,
    )
    told = _worth_telling(store, held, problem.goals, told)
    names = np.array((*store.reader_ids, ""), dtype=object)  # OWN is the last
    serving = Serving(
        reader=tuple(names[store.reads.reader[told.read]].tolist()),
        object=tuple(ids[store.reads.object[told.read]].tolist()),
        tier=tuple(tiers[held.tier[told.copy]].tolist()),
        share=tuple(told.share.tolist()),
    )
    return Plan(copies=copies, serving=serving, prices=prices)


def _worth_telling(store: Store, held: Held, goals: Sequence[GoalName], told: Served) -> Served:
    if not len(told.read):
        return told
    plain = np.full(store.reads.count, -1, dtype=np.int64)
    rest = served_by_default(store, held, goals, np.unique(told.read))
    plain[rest.read] = rest.copy
    said = plain[told.read] == told.copy
    said &= told.share == 1.0
    order = np.flatnonzero(~said)
    order = order[np.lexsort((told.copy[order], told.read[order]))]
    return Served(told.read[order], told.copy[order], told.share[order])


# ---------------------------------------------------------------- reading what a plan says


@dataclass(frozen=True, eq=False)
class Reading:
    """What a plan says, as far as it makes sense; and what makes none: ids, and why."""

    held: Held
    told: Served
    odd_copies: tuple[tuple[tuple[str, ...], str], ...] = ()
    odd_servings: tuple[tuple[tuple[str, ...], str], ...] = ()


def reading_of(problem: Problem, plan: Plan) -> Reading:
    """The arrays of a plan; never raises an error, whatever the plan says."""
    store = store_of(problem)
    copies = plan.copies
    objects = _positions(store.objects.ids, store, copies.object)
    at = store.tiers.at
    tiers = _looked_up(at, copies.tier)
    packed = np.zeros(len(objects), dtype=np.bool_) if copies.compressed is None else np.array(copies.compressed, dtype=np.bool_)
    odd = [
        ((copies.object[place], copies.tier[place]), f"there is no {'object' if objects[place] < 0 else 'tier'} of that name")
        for place in np.flatnonzero((objects < 0) | (tiers < 0))
    ]
    known = (objects >= 0) & (tiers >= 0)
    keys = np.where(known, objects * store.tiers.count + tiers, -1)
    order = np.argsort(keys, kind="stable")
    again = np.zeros(len(keys), dtype=np.bool_)
    again[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    again &= known
    odd += [((copies.object[place], copies.tier[place]), "it has a copy on that tier already") for place in np.flatnonzero(again)]
    use = known & ~again
    held = held_from(store, objects[use], tiers[use], packed[use])
    told, odd_servings = _told(store, held, plan.serving)
    return Reading(held, told, tuple(odd), odd_servings)


def _positions(ids: Sequence[str], store: Store, names: Sequence[str]) -> Ints:
    if names is ids or (len(names) == len(ids) and names == ids):  # the usual plan of very many objects: one copy of each, in their order
        return np.arange(len(ids))
    return _looked_up(store.objects.at, names)


def _looked_up(at: dict[str, int], names: Sequence[str]) -> Ints:
    return np.array(list(map(at.get, names, repeat(-1))), dtype=np.int64)


def _told(store: Store, held: Held, serving: Serving) -> tuple[Served, tuple[tuple[tuple[str, ...], str], ...]]:
    if not serving.reader:
        return NOBODY, ()
    missing = OWN - 1
    readers = np.fromiter((store.reader_at.get(name, missing) for name in serving.reader), np.int64)
    objects = _positions(store.objects.ids, store, serving.object)
    tiers = _looked_up(store.tiers.at, serving.tier)
    named = (readers != missing) & (objects >= 0)
    read = np.where(named, store.reads_of(readers, np.maximum(objects, 0)), -1)
    kept = (objects >= 0) & (tiers >= 0)
    copy = np.where(kept, held.copies_at(np.maximum(objects, 0), np.maximum(tiers, 0), store.tiers.count), -1)
    odd = []
    for place in np.flatnonzero((read < 0) | (copy < 0)):
        why = "is not read by it" if read[place] < 0 else f"has no copy on tier '{serving.tier[place]}'"
        odd.append(((serving.reader[place], serving.object[place]), f"object '{serving.object[place]}' {why}"))
    use = (read >= 0) & (copy >= 0)
    return Served(read[use], copy[use], np.array(serving.share, dtype=np.float64)[use]), tuple(odd)

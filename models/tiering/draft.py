"""A plan in the making: units, each of which is one copy with the reads that it serves, and the limits that they share.

A **slot** is a tier and a form, plain or compressed. Every object has as many units as it wants replicas, and more only where its reads are
shared out among more copies. All tables have a row for each unit and a column for each slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.tiering import access, money
from models.tiering.copies import Served, held_from, plan_from
from models.tiering.schema import GoalName
from models.tiering.store import OWN, store_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.program import Bools, Floats, Ints
    from models.tiering.schema import Plan, Problem
    from models.tiering.store import Store

SECOND = 1e-6  # what a later goal counts beside the one before it, both measured by what all units together could make of them


Units = tuple["Ints", "Ints", "Bools", "Bools"]  # object of each unit, unit of each read, slots of each unit, which units are spread


@dataclass(frozen=True, eq=False)
class Limit:
    """One shared limit, by sort and number: ``use(units, slots)``, which broadcasts, is what units take of it; ``tier`` -1: of none."""

    name: tuple[str, int]
    most: float
    use: Callable[[Ints, Ints], Floats]
    tier: int = -1


@dataclass(eq=False)
class Draft:
    """Units and where they are.

    ``object`` and ``slot`` have shape (units,), ``score`` (units, slots): how bad a slot is, by the goals; +inf where it is not allowed.
    ``spread`` (units,) tells which units must be in failure domains of their own, ``read_unit`` (reads,) which unit serves each read.
    """

    store: Store
    tier: Ints
    packed: Bools
    object: Ints
    slot: Ints
    spread: Bools
    score: Floats
    read_unit: Ints
    limits: tuple[Limit, ...]

    @property
    def several(self) -> bool:
        """Whether any object has more than one unit."""
        return len(self.object) > self.store.objects.count

    def crowded(self, units: Ints) -> Bools:
        """Which slots collide with another unit of the same object: the same tier, or the failure domain; shape (n, slots)."""
        store = self.store
        domain = store.tiers.domain
        tiers = np.zeros((store.objects.count, store.tiers.count), dtype=np.int32)
        domains = np.zeros((store.objects.count, len(store.tiers.domain_names)), dtype=np.int32)
        placed = np.flatnonzero(self.slot >= 0)
        at = self.tier[self.slot[placed]]
        np.add.at(tiers, (self.object[placed], at), 1)
        apart = self.spread[placed]
        np.add.at(domains, (self.object[placed][apart], domain[at[apart]]), 1)
        mine = self.object[units]
        own = np.where(self.slot[units] >= 0, self.tier[self.slot[units]], -1)
        same_tier = tiers[mine][:, self.tier] - (own[:, None] == self.tier)
        own_domain = np.where((own >= 0) & self.spread[units], domain[own], -1)
        same_domain = domains[mine][:, domain[self.tier]] - (own_domain[:, None] == domain[self.tier])
        crowded: Bools = (same_tier > 0) | ((same_domain > 0) & self.spread[units, None])
        return crowded

    def plan(self, problem: Problem) -> Plan:
        """The plan of the units as they stand."""
        tiers = self.tier[self.slot]
        held = held_from(self.store, self.object, tiers, self.packed[self.slot])
        reads = np.arange(self.store.reads.count)
        unit = self.read_unit
        copy = held.copies_at(self.object[unit], tiers[unit], self.store.tiers.count)
        return plan_from(problem, held, Served(reads, copy, np.ones(len(reads))) if self.several else Served(*_NONE))


_NONE = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))


def draft_of(problem: Problem, goals: Sequence[GoalName], sharing: GoalName) -> Draft | None:
    """The units, judged by ``goals``, and nowhere yet; None where the copies allowed cannot serve the readers.

    Reads that several copies may serve are shared out as is best for the goal ``sharing``.
    """
    store = store_of(problem)
    forms = (False, True) if bool((~np.isnan(store.objects.share)).any()) else (False,)
    tier = np.repeat(np.arange(store.tiers.count), len(forms))
    packed = np.tile(np.array(forms, dtype=np.bool_), store.tiers.count)
    units = _units(store, tier, packed, sharing)
    if units is None:
        return None
    owner, read_unit, allowed, spread = units
    draft = Draft(store, tier, packed, owner, np.full(len(owner), -1), spread, np.zeros(0), read_unit, ())
    tables = {goal: _table(draft, goal) for goal in dict.fromkeys((*goals, *((GoalName.cost,) if problem.budget_usd is not None else ())))}
    draft.score = np.where(allowed, _score(goals, tables, allowed), np.inf)
    draft.limits = _limits(problem, draft, tables)
    return draft


def seated(draft: Draft, *, at_home: bool) -> bool:
    """Put every unit on the slot that is best for it alone, or ``at_home``, where it is now; False where one has no slot."""
    draft.slot = np.full(len(draft.object), -1)
    if at_home:
        _leave(draft)
    _seat(draft)
    return bool((draft.slot >= 0).all())


def _ranks(draft: Draft) -> Ints:
    """Which of its object's units each unit is, from 0, shape (units,)."""
    order = np.argsort(draft.object, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    owner = draft.object[order]
    rank[order] = np.arange(len(order)) - np.searchsorted(owner, owner)
    return rank


def _leave(draft: Draft) -> None:
    """Put units where their objects have copies now, as far as that is allowed."""
    now = draft.store.currents
    form_at = {pair: slot for slot, pair in enumerate(zip(draft.tier.tolist(), draft.packed.tolist(), strict=True))}
    slot = np.array([form_at.get(pair, -1) for pair in zip(now.tier.tolist(), now.packed.tolist(), strict=True)], dtype=np.int64)
    number = np.arange(now.count) - np.searchsorted(now.object, now.object)
    rank = _ranks(draft)
    width = int(max(rank.max(initial=0), number.max(initial=0))) + 1
    unit_at = np.full((draft.store.objects.count, width), -1, dtype=np.int64)
    unit_at[draft.object, rank] = np.arange(len(rank))
    unit = unit_at[now.object, number]
    fine = (unit >= 0) & (slot >= 0)
    fine[fine] = np.isfinite(draft.score[unit[fine], slot[fine]])
    draft.slot[unit[fine]] = slot[fine]
    if draft.several:
        placed = np.flatnonzero(draft.slot >= 0)
        clash = draft.crowded(placed)[np.arange(len(placed)), draft.slot[placed]]
        draft.slot[placed[clash & (rank[placed] > 0)]] = -1


def _seat(draft: Draft) -> None:
    """Give every unit that has none its best slot, the first units of all objects first."""
    if not draft.several:
        seats = np.flatnonzero(draft.slot < 0)
        best = draft.score[seats].argmin(axis=1)
        draft.slot[seats] = np.where(np.isfinite(draft.score[seats, best]), best, -1)
        return
    rank = _ranks(draft)
    for level in range(int(rank.max(initial=-1)) + 1):
        units = np.flatnonzero((rank == level) & (draft.slot < 0))
        open_to = np.where(draft.crowded(units), np.inf, draft.score[units])
        best = open_to.argmin(axis=1)
        draft.slot[units] = np.where(np.isfinite(open_to[np.arange(len(units)), best]), best, -1)


# ---------------------------------------------------------------- units


def _units(store: Store, tier: Ints, packed: Bools, goal: GoalName) -> Units | None:
    """The object of each unit, the unit of each read, the slots of each unit, and which units must be spread."""
    of, now = store.objects, store.currents
    objects = np.arange(of.count)
    allowed = admissible_slots(store, (tier, packed))
    serves = np.ones((store.reads.count, len(tier)), dtype=np.bool_)
    if store.reader_ids or np.isfinite(of.latency_limit).any():
        reads = np.arange(store.reads.count)
        for slot, (t, form) in enumerate(zip(tier, packed, strict=True)):
            serves[:, slot] = access.servable(store, reads, np.asarray(t), bool(form))
    fully = allowed.copy()
    np.logical_and.at(fully, store.reads.object, serves)
    bound = np.flatnonzero(store.must_stay)
    fixed = np.bincount(now.object[bound], minlength=of.count)
    count = np.maximum(of.replicas, fixed)
    owner = np.repeat(objects, count)
    first = np.concatenate(([0], np.cumsum(count)))[:-1]
    rows = allowed[owner]
    stays = now.object[bound]  # in the order of the objects; the first units of an object are those that stay
    unit = first[stays] + np.arange(len(bound)) - np.searchsorted(stays, stays)
    rows[unit] &= (tier == now.tier[bound][:, None]) & (packed == now.packed[bound][:, None])
    could = np.zeros(of.count, dtype=np.bool_)
    could[store.reads.object[store.reads.reader != OWN]] = True
    could &= of.copies_max > 1
    split = np.flatnonzero(could)
    together = np.ones(of.count, dtype=np.bool_)
    together[split] = False
    rows[first[together]] &= fully[together]
    spread = np.arange(len(owner)) - first[owner] < of.replicas[owner]
    read_unit = first[store.reads.object]
    found = owner, read_unit, rows, spread
    if not len(split):
        return found
    bound_at = np.full((of.count, len(tier)), -1)
    for at in range(len(tier)):
        here = (now.tier[bound] == tier[at]) & (now.packed[bound] == packed[at])
        bound_at[stays[here], at] = unit[here]
    return _shared_out(store, split, (tier, packed), serves, found, bound_at, goal)


def admissible_slots(store: Store, slots: tuple[Ints, Bools]) -> Bools:
    """Which slots the rules allow each object, shape (objects, slots)."""
    objects = np.arange(store.objects.count)
    return np.stack([access.admissible(store, objects, tier, bool(form)) for tier, form in zip(*slots, strict=True)], axis=1)


def _shared_out(
    store: Store, split: Ints, slots: tuple[Ints, Bools], serves: Bools, units: Units, bound: Ints, goal: GoalName
) -> Units | None:
    """The units of objects whose reads are shared out among several of them; None where the copies allowed do not reach all readers.

    ``bound`` (objects, slots) has the unit that must stay in a slot, -1 for none.
    """
    owner, read_unit, rows, spread = units
    allowed = admissible_slots(store, slots)
    starts, order = store.read_starts
    count = np.diff(starts)[split]
    reads = order[np.repeat(starts[split] - np.cumsum(count) + count, count) + np.arange(int(count.sum()))]
    able = serves[reads] & allowed[store.reads.object[reads]]
    server = _servers(store, split, reads, slots, able, bound[split] >= 0, goal)
    if server is None:
        return None
    width = allowed.shape[1]
    distinct, number = np.unique(store.reads.object[reads] * width + server, return_inverse=True)
    one = distinct // width
    stays = bound[one, distinct % width]
    free = np.concatenate(([0], np.cumsum(stays < 0)))  # a copy that stays has its unit; the others take the units after those
    rank = free[:-1] - free[np.searchsorted(one, one)] + (bound[one] >= 0).sum(axis=1)
    extra = (stays < 0) & (rank >= np.bincount(owner, minlength=store.objects.count)[one])
    place = np.where(extra, len(owner) + np.cumsum(extra) - 1, np.where(stays >= 0, stays, np.searchsorted(owner, one) + rank))
    reach = allowed[one].copy()
    np.logical_and.at(reach, number, able)
    rows[place[~extra]] &= reach[~extra]
    read_unit[reads] = place[number]
    more = int(extra.sum())
    spread = np.concatenate((spread, np.zeros(more, dtype=np.bool_)))
    return np.concatenate((owner, one[extra])), read_unit, np.concatenate((rows, reach[extra])), spread


def _servers(store: Store, split: Ints, reads: Ints, slots: tuple[Ints, Bools], able: Bools, opened: Bools, goal: GoalName) -> Ints | None:
    """The slot for each of the ``reads``, which are sorted by object: objects open slots one by one while the goal gains.

    ``opened`` (split, slots) are those where a copy must stay.
    """
    tier = slots[0]
    owner = np.searchsorted(split, store.reads.object[reads])
    starts = np.searchsorted(owner, np.arange(len(split)))
    keep, serve = opening(store, split, reads, slots, goal)
    serve = np.where(able, serve, np.inf)
    at_once = np.where(opened[owner], serve, np.inf)
    best, server = at_once.min(axis=1), at_once.argmin(axis=1)
    server[np.isinf(best)] = -1
    spent, taken = np.where(opened, keep, 0.0).sum(axis=1), np.zeros((len(split), store.tiers.count), dtype=np.bool_)
    for at in range(len(tier)):
        taken[opened[:, at], tier[at]] = True
    active = np.ones(len(split), dtype=np.bool_)
    every = np.arange(len(split))
    for step in range(int(store.objects.copies_max[split].max())):
        after = np.minimum(best[:, None], serve)
        lost = np.add.reduceat(np.isinf(after).astype(np.int64), starts, axis=0)
        total = spent[:, None] + keep + np.add.reduceat(np.where(np.isinf(after), 0.0, after), starts, axis=0)
        lost = np.where(taken[:, tier], len(reads) + 1, lost)
        slot = np.where(lost == lost.min(axis=1)[:, None], total, np.inf).argmin(axis=1)
        still = np.add.reduceat(np.isinf(best).astype(np.int64), starts)
        stands = spent + np.add.reduceat(np.where(np.isinf(best), 0.0, best), starts)
        then = lost[every, slot]
        gains = (then < still) | ((then == still) & (total[every, slot] < stands))
        active &= (step + opened.sum(axis=1) < store.objects.copies_max[split]) & gains
        value = serve[np.arange(len(reads)), slot[owner]]
        better = active[owner] & (value < best)
        best, server = np.where(better, value, best), np.where(better, slot[owner], server)
        spent += np.where(active, keep[every, slot], 0.0)
        taken[every[active], tier[slot[active]]] = True
    return server if (server >= 0).all() else None


def opening(store: Store, split: Ints, reads: Ints, slots: tuple[Ints, Bools], goal: GoalName) -> tuple[Floats, Floats]:
    """What a copy of each object and serving each read add to the goal, by slot; 0 for forms that cannot be."""
    tier, packed = slots
    keep, serve = np.zeros((len(split), len(tier))), np.zeros((len(reads), len(tier)))
    if goal is GoalName.cost:
        keep = money.copy_usd(store, split[:, None], tier, packed, money.source_usd(store), money.leaving_usd(store))
        serve = money.read_usd(store, reads[:, None], tier, packed)
    elif goal is GoalName.access_time:
        serve = access.read_time(store, reads[:, None], tier, packed)
    else:
        keep = money.moved_gib(store, split[:, None], tier, packed)
    return np.nan_to_num(keep), np.nan_to_num(serve)


# ---------------------------------------------------------------- what units take


def _table(draft: Draft, goal: GoalName) -> Floats:
    """What each unit adds to a goal in each slot."""
    store, units = draft.store, draft.object
    found = np.zeros((len(units), len(draft.tier)))
    source, leaving = money.source_usd(store), money.leaving_usd(store)
    reads, unit = np.arange(store.reads.count), draft.read_unit
    alone = int(np.bincount(unit, minlength=1).max()) <= 1
    for slot, (tier, form) in enumerate(zip(draft.tier, draft.packed.tolist(), strict=True)):
        at = np.asarray(tier)
        if goal is GoalName.moved_gib:
            found[:, slot] = money.moved_gib(store, units, at, form)
            continue
        if goal is GoalName.cost:
            found[:, slot] = money.copy_usd(store, units, at, form, source, leaving)
        served = money.read_usd(store, reads, at, form) if goal is GoalName.cost else access.read_time(store, reads, at, form)
        if alone:
            found[unit, slot] += served
        else:
            found[:, slot] += np.bincount(unit, weights=served, minlength=len(units))
    return found


def _score(goals: Sequence[GoalName], tables: dict[GoalName, Floats], allowed: Bools) -> Floats:
    """The goals in one number: the first counts, the others settle ties."""
    score = np.zeros(allowed.shape)
    weight = 1.0
    for goal in goals:
        table = tables[goal]
        largest = float(np.abs(np.where(allowed, table, 0.0)).max(initial=0.0))
        score += table * (weight / largest if largest > 0 else 0.0)
        weight *= SECOND
    return score


def _limits(problem: Problem, draft: Draft, tables: dict[GoalName, Floats]) -> tuple[Limit, ...]:
    store, on = draft.store, draft.store.tiers
    forms = sorted(set(draft.packed.tolist()))
    unit, count = draft.read_unit, len(draft.object)
    gib = np.stack([money.stored_gib(store, draft.object, form) for form in forms])
    write = np.stack([money.write_load_gbps(store, draft.object, form) for form in forms])
    reads = np.arange(store.reads.count)
    read = np.stack([np.bincount(unit, weights=money.read_load_gbps(store, reads, form), minlength=count) for form in forms])
    found: list[Limit] = []
    kinds: tuple[tuple[str, Floats, Floats], ...] = (
        ("gib", on.capacity, gib),
        ("read", on.read_gbps, np.asarray(read, dtype=np.float64)),
        ("write", on.write_gbps, write),
    )
    for sort, most, amount in kinds:
        limited = np.flatnonzero(np.isfinite(most)).tolist()
        found += [Limit((sort, tier), float(most[tier]), _on_tier(draft, amount, tier), tier) for tier in limited]
    links = np.flatnonzero(np.isfinite(store.link_gbps)).tolist()
    found += [Limit(("link", link), float(store.link_gbps[link]), _in_table(_link_table(draft, link))) for link in links]
    left = float(money.leaving_usd(store).sum())
    if problem.migration.gib is not None:
        found.append(Limit(("moved_gib", 0), problem.migration.gib, _in_table(_table(draft, GoalName.moved_gib))))
    if problem.migration.usd is not None:
        source, leaving = money.source_usd(store), money.leaving_usd(store)
        table = money.migration_usd(store, draft.object[:, None], draft.tier, draft.packed, source, leaving)
        found.append(Limit(("moved_usd", 0), problem.migration.usd - left, _in_table(table)))
    if problem.budget_usd is not None:
        found.append(Limit(("budget", 0), problem.budget_usd - left, _in_table(tables[GoalName.cost])))
    return tuple(found)


def _on_tier(draft: Draft, amount: Floats, tier: int) -> Callable[[Ints, Ints], Floats]:
    """What units take in a slot of the tier: ``amount`` (forms, units); nothing in others."""

    def use(units: Ints, slots: Ints) -> Floats:
        return np.where(draft.tier[slots] == tier, amount[draft.packed[slots].astype(np.int64), units], 0.0)

    return use


def _in_table(table: Floats) -> Callable[[Ints, Ints], Floats]:
    def use(units: Ints, slots: Ints) -> Floats:
        taken: Floats = table[units, slots]
        return taken

    return use


def _link_table(draft: Draft, link: int) -> Floats:
    store, reads = draft.store, np.arange(draft.store.reads.count)
    found = np.zeros((len(draft.object), len(draft.tier)))
    for slot, (tier, form) in enumerate(zip(draft.tier.tolist(), draft.packed.tolist(), strict=True)):
        over = store.ways.link[store.reads.way, tier] == link
        found[:, slot] = np.bincount(
            draft.read_unit, weights=np.where(over, money.read_load_gbps(store, reads, form), 0.0), minlength=len(draft.object)
        )
    return found

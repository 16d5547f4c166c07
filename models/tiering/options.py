"""A tiering as a choice for each object under few shared limits: what the search by prices works on.

A **slot** is a tier and a form, plain or packed. An object's **option** is a set of slots, one for each replica in failure domains
of their own, and the one of them that serves its own reads. The objects share only the **rows**: a few limits for each tier and a few for
all. So at given prices of the rows each object's best option is known in closed form (``models.tiering.prices``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.tiering import access, money
from models.tiering.schema import GoalName, Rule
from models.tiering.store import OWN, store_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.program import Bools, Floats, Ints
    from models.tiering.schema import Problem
    from models.tiering.store import Store

MOST_SLOTS = 62  # sets of slots are bits of one number
MIX = np.uint64(0x9E3779B97F4A7C15)  # an odd number with well spread bits, for hashing


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One shared limit; ``ids`` as the exact program names its row, ``limit`` in the unit of the uses."""

    rule: str
    ids: tuple[str, ...]
    limit: float


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """What each object takes of a row, shape (objects,), when it has a copy in the slot (``served`` False) or when that copy serves it."""

    row: int
    slot: int
    served: bool
    amount: Floats


@dataclass(frozen=True, eq=False)
class Options:
    """Slots as rows and objects as columns of ``keep`` and ``serve``: what a copy and serving add to the goal, +inf where not allowed.

    ``tier``, ``packed`` and ``domain`` have shape (slots,), ``replicas`` (objects,). ``constant`` is what every plan pays.
    """

    store: Store
    tier: Ints
    packed: Bools
    domain: Ints
    keep: Floats
    serve: Floats
    replicas: Ints
    rows: tuple[Row, ...]
    uses: tuple[Use, ...]
    constant: float

    @property
    def count(self) -> int:
        """How many objects."""
        return int(self.keep.shape[1])

    @property
    def slots(self) -> int:
        """How many slots."""
        return len(self.tier)

    @cached_property
    def limits(self) -> Floats:
        """The limit of each row."""
        return np.array([row.limit for row in self.rows], dtype=np.float64)

    @cached_property
    def several(self) -> Bools:
        """Which objects want more than one copy, shape (objects,)."""
        wanted: Bools = self.replicas > 1
        return wanted

    @cached_property
    def worths(self) -> Floats:
        """What each object costs in its cheapest slot, and what the next cheapest adds: a measure of the goal's size; shape (objects,)."""
        each = self.keep + self.serve
        if self.slots > 1:
            each = np.partition(each, 1, axis=0)
            first = each[0]
            second = np.where(np.isfinite(each[1]), each[1], first) - np.where(np.isfinite(first), first, 0.0)
        else:
            first, second = each[0], np.zeros_like(each[0])
        found: Floats = np.where(np.isfinite(first), np.abs(first) + second, 0.0) * self.replicas
        return found

    @cached_property
    def worth(self) -> float:
        """The sum of ``worths``, positive."""
        return max(float(self.worths.sum()), 1e-9)

    def loosened(self, share: float, seed: int) -> Options:
        """The same with every slot cheaper by a random amount up to ``share`` of the object's worth: whoever had ties has none.

        Its bounds hold for the original, for no plan costs more in it.
        """
        random = np.random.default_rng(seed).random(self.keep.shape)
        random *= self.worths * (-share)
        random += self.keep
        return self._with(replace(self, keep=random))

    @cached_property
    def dearest(self) -> float:
        """More than any plan adds to ``constant``."""
        dear = np.where(np.isfinite(self.keep), np.abs(self.keep), 0.0).max(axis=0, initial=0.0) * self.replicas
        served = np.where(np.isfinite(self.serve), np.abs(self.serve), 0.0).max(axis=0, initial=0.0)
        return float((dear + served).sum()) * (1 + 1e-9)

    @cached_property
    def reach(self) -> Floats:
        """What each object would pay at the prices of ``price_scale`` if it took the most it can of every row; shape (objects,)."""
        most: list[Floats | None] = [None] * len(self.rows)
        for use in self.uses:
            known, taken = most[use.row], np.abs(use.amount)
            most[use.row] = taken if known is None else np.maximum(known, taken)
        paid = np.full(self.count, 1e-300)
        for row, largest in zip(self.rows, most, strict=True):
            if largest is not None:
                paid += (self.worth / max(abs(row.limit), 1e-9)) * self.replicas * largest
        return paid

    def likeness(self, objects: Ints) -> Ints:
        """Objects with the same number are alike in everything the search looks at; shape of ``objects``."""
        columns = [*self.keep[:, objects], *self.serve[:, objects], self.replicas[objects], *(use.amount[objects] for use in self.uses)]
        return _alike(columns)

    def with_limit(self, row: int, limit: float) -> Options:
        """The same with another limit of one row."""
        rows = list(self.rows)
        rows[row] = replace(rows[row], limit=limit)
        return self._with(replace(self, rows=tuple(rows)))

    def _with(self, made: Options) -> Options:
        """``made`` with what is known already and changes little."""
        made.__dict__.update({name: self.__dict__[name] for name in ("worths", "worth", "dearest", "several") if name in self.__dict__})
        return made

    def part(self, objects: Ints, weights: Floats) -> Options:
        """Some of the objects, each counted ``weights`` times, under the limits of all."""
        uses = tuple(replace(use, amount=use.amount[objects] * weights) for use in self.uses)
        keep, serve = self.keep[:, objects] * weights, self.serve[:, objects] * weights
        return replace(self, keep=keep, serve=serve, replicas=self.replicas[objects], uses=uses)

    def totals(self, sets: Ints, server: Ints) -> Floats:
        """What the objects together take of each row when object i has the slots of bits ``sets[i]`` and slot ``server[i]`` serves."""
        taken = np.zeros(len(self.rows))
        inside = [(sets >> slot & 1).astype(bool) for slot in range(self.slots)]
        for use in self.uses:
            chosen = server == use.slot if use.served else inside[use.slot]
            taken[use.row] += use.amount[chosen].sum()
        return taken

    def goal(self, sets: Ints, server: Ints) -> float:
        """The goal's value of such a choice."""
        total = self.constant + float(self.serve[server, np.arange(self.count)].sum())
        for slot in range(self.slots):
            total += float(self.keep[slot, (sets >> slot & 1).astype(bool)].sum())
        return total


def plain(store: Store) -> bool:
    """Whether every object's best option is known in closed form: no readers, no copies beyond the replicas, and few enough slots.

    A copy that must stay leaves an object with one replica no choice; with more the closed form does not hold.
    """
    of = store.objects
    if store.reader_ids or (of.copies_max != of.replicas).any() or 2 * store.tiers.count > MOST_SLOTS:
        return False
    bound = store.currents.object[store.must_stay]
    return not (of.replicas[bound] > 1).any() and not (np.bincount(bound, minlength=of.count) > 1).any()


def options_of(problem: Problem, goal: GoalName, floors: Mapping[GoalName, float] | None = None) -> Options:
    """The options of a problem that is ``plain``, for one goal while the goals in ``floors`` stay at most at those values."""
    store = store_of(problem)
    packable = bool((~np.isnan(store.objects.share)).any())
    forms = (False, True) if packable else (False,)
    tier = np.array([at for at in range(store.tiers.count) for _ in forms], dtype=np.int64)
    packed = np.array([form for _ in range(store.tiers.count) for form in forms], dtype=np.bool_)
    amounts = _Amounts(store, tier, packed)
    allowed = amounts.allowed()
    keep, serve, constant = amounts.of_goal(goal)
    rows, uses = _limited(problem, amounts, floors or {})
    keep = np.where(allowed, keep, np.inf)
    rows, uses = _closed(rows, uses, keep, serve)
    return Options(
        store=store,
        tier=tier,
        packed=packed,
        domain=store.tiers.domain[tier],
        keep=keep,
        serve=serve,
        replicas=store.objects.replicas,
        rows=tuple(rows),
        uses=tuple(uses),
        constant=constant,
    )


class _Amounts:
    """What a copy in each slot, and serving from it, add to goals and rows."""

    def __init__(self, store: Store, tier: Ints, packed: Bools) -> None:
        self.store, self.tier, self.packed = store, tier, packed
        self.objects = np.arange(store.objects.count)
        self.source, self.leaving = money.source_usd(store), money.leaving_usd(store)
        own = store.reads.reader == OWN
        self.own = np.flatnonzero(own)
        self.owner = store.reads.object[own]

    def allowed(self) -> Bools:
        """Which slots each object may use, shape (slots, objects)."""
        store = self.store
        found = np.stack([access.admissible(store, self.objects, tier, bool(form)) for tier, form in self._slots()])
        bound = np.flatnonzero(store.must_stay)
        now = store.currents
        for slot, (tier, form) in enumerate(self._slots()):
            found[slot, now.object[bound]] &= (now.tier[bound] == tier) & (now.packed[bound] == form)
        return found

    def of_goal(self, goal: GoalName) -> tuple[Floats, Floats, float]:
        """What a copy and serving add to a goal, each (slots, objects), and what every plan has of it."""
        nothing = np.zeros((len(self.tier), self.store.objects.count))
        if goal is GoalName.cost:
            return self.copies(money.copy_usd), self.served(money.read_usd), float(self.leaving.sum())
        if goal is GoalName.access_time:
            return nothing, self.served(access.read_time), 0.0
        return self.copies(money.moved_gib), nothing, 0.0

    def copies(self, amount: object) -> Floats:
        """One of the functions of ``money`` about copies for each slot and object."""
        more = () if amount is money.moved_gib else (self.source, self.leaving)
        found = np.empty((len(self.tier), self.store.objects.count))
        for slot, (tier, form) in enumerate(self._slots()):
            found[slot] = np.nan_to_num(amount(self.store, self.objects, tier, form, *more))  # type: ignore[operator]
        return found

    def served(self, amount: object) -> Floats:
        """One of the functions about reads for each slot and object; 0 for an object without own reads."""
        found = np.zeros((len(self.tier), self.store.objects.count))
        for slot, (tier, form) in enumerate(self._slots()):
            found[slot, self.owner] = np.nan_to_num(amount(self.store, self.own, tier, form))  # type: ignore[operator]
        return found

    def loads(self) -> tuple[dict[bool, Floats], dict[bool, Floats], dict[bool, Floats]]:
        """GiB, write Gbit/s and read Gbit/s of a copy in each form, each shape (objects,)."""
        forms = sorted(set(self.packed.tolist()))
        gib = {form: np.nan_to_num(money.stored_gib(self.store, self.objects, form)) for form in forms}
        written = {form: np.nan_to_num(money.write_load_gbps(self.store, self.objects, form)) for form in forms}
        read = {form: np.zeros(self.store.objects.count) for form in forms}
        for form in forms:
            read[form][self.owner] = np.nan_to_num(money.read_load_gbps(self.store, self.own, form))
        return gib, written, read

    def _slots(self) -> list[tuple[Ints, bool]]:
        return [(tier, bool(form)) for tier, form in zip(self.tier, self.packed, strict=True)]


def _limited(problem: Problem, amounts: _Amounts, floors: Mapping[GoalName, float]) -> tuple[list[Row], list[Use]]:
    rows: list[Row] = []
    uses: list[Use] = []
    tiers = amounts.store.tiers
    gib, written, read = amounts.loads()
    kinds = (
        (Rule.tier_capacity, tiers.capacity, gib, False),
        (Rule.read_bandwidth, tiers.read_gbps, read, True),
        (Rule.write_bandwidth, tiers.write_gbps, written, False),
    )
    for rule, limits, amount, served in kinds:
        most = float(np.max(np.stack(list(amount.values())), axis=0).sum())
        for tier in np.flatnonzero(limits < most):  # a limit above all there is binds nobody
            slots = np.flatnonzero(amounts.tier == tier)
            uses += [Use(len(rows), int(slot), served, amount[bool(amounts.packed[slot])]) for slot in slots]
            rows.append(Row(rule.value, (tiers.ids[tier],), float(limits[tier])))
    left = float(amounts.leaving.sum())
    for rule, limit in ((Rule.migration_volume, problem.migration.gib), (Rule.migration_budget, problem.migration.usd)):
        if limit is not None:
            by_volume = rule is Rule.migration_volume
            taken = amounts.copies(money.moved_gib if by_volume else money.migration_usd)
            uses += _uses(len(rows), taken, served=False)
            rows.append(Row(rule.value, (), limit if by_volume else limit - left))
    if problem.budget_usd is not None:
        _hold(rows, uses, Rule.cost_budget.value, amounts, (GoalName.cost, problem.budget_usd))
    for goal, value in floors.items():
        _hold(rows, uses, goal.value, amounts, (goal, value))
    return rows, uses


def _closed(rows: list[Row], uses: list[Use], keep: Floats, serve: Floats) -> tuple[list[Row], list[Use]]:
    """Rows and uses without the rows that have no room: what takes of these is forbidden in ``keep`` and ``serve`` instead.

    A price for nothing has no scale.
    """
    taken = {row: [use for use in uses if use.row == row] for row in range(len(rows))}
    shut = [row for row, found in taken.items() if rows[row].limit == 0 and all((use.amount >= 0).all() for use in found)]
    for row in shut:
        for use in taken[row]:
            (serve if use.served else keep)[use.slot, use.amount > 0] = np.inf
    number = {row: place for place, row in enumerate(row for row in range(len(rows)) if row not in shut)}
    return [rows[row] for row in number], [replace(use, row=number[use.row]) for use in uses if use.row in number]


def _hold(rows: list[Row], uses: list[Use], name: str, amounts: _Amounts, held: tuple[GoalName, float]) -> None:
    """A row that keeps a goal's value at most at a number."""
    keep, serve, constant = amounts.of_goal(held[0])
    uses += _uses(len(rows), keep, served=False)
    uses += _uses(len(rows), serve, served=True)
    rows.append(Row(name, (), held[1] - constant))


def _uses(row: int, taken: Floats, *, served: bool) -> list[Use]:
    return [Use(row, slot, served, amount) for slot, amount in enumerate(taken) if amount.any()]


def _alike(columns: list[Floats | Ints]) -> Ints:
    """Numbers that are equal exactly where all columns are; by a hash that is then checked."""
    count = len(columns[0])
    mixed = np.zeros(count, dtype=np.uint64)
    for column in columns:
        bits = np.ascontiguousarray(column, dtype=np.float64).view(np.uint64)
        mixed = (mixed ^ (bits ^ bits >> np.uint64(29))) * MIX
        mixed ^= mixed >> np.uint64(32)
    _, first, number = np.unique(mixed, return_index=True, return_inverse=True)
    leader = first[number]
    if len(first) < count and not all(np.array_equal(column, column[leader]) for column in columns):
        return np.arange(count)  # two different objects share a hash: nobody is merged
    return number.astype(np.int64)

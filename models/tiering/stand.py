"""How a plan stands: what is used of every limit, and what would change if one copy moved with the reads it serves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.tiering import access, money
from models.tiering.copies import reading_of, served_by
from models.tiering.schema import GoalName, Rule
from models.tiering.store import store_of

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints
    from models.tiering.copies import Held, Served
    from models.tiering.schema import Plan, Problem
    from models.tiering.store import Packed, Store

SAME = 1e-9  # relative: changes of a goal this small are rounding


@dataclass(frozen=True, slots=True, eq=False)
class Elsewhere:
    """What moving one copy to each slot would mean, arrays of shape (slots,).

    ``better``: by the goals in their order. ``change`` is that of each goal. ``forbidden`` has the rule that forbids the slot to the copy,
    ``blocked`` the limit that leaves no room, with what is needed and what is left; None where nothing does.
    """

    tier: Ints
    packed: Bools
    better: Bools
    change: dict[GoalName, Floats]
    forbidden: tuple[Rule | None, ...]
    blocked: tuple[tuple[Rule, tuple[str, ...], float, float] | None, ...]


class Stand:
    """A right plan in its problem."""

    def __init__(self, problem: Problem, plan: Plan) -> None:
        self.problem, self.plan = problem, plan
        self.store: Store = store_of(problem)
        reading = reading_of(problem, plan)
        self.held: Held = reading.held
        self.served: Served = served_by(self.store, self.held, problem.goals, reading.told)

    @cached_property
    def source(self) -> Floats:
        """What reading each object's cheapest current copy costs."""
        return money.source_usd(self.store)

    @cached_property
    def leaving(self) -> Floats:
        """What each current copy pays for leaving."""
        return money.leaving_usd(self.store)

    @cached_property
    def used(self) -> dict[Rule, Floats]:
        """What is used of each tier's limits, and of each site link's, by rule."""
        store, held, served = self.store, self.held, self.served
        tiers = store.tiers.count
        load = served.share * money.read_load_gbps(store, served.read, held.packed[served.copy])
        link = store.ways.link[store.reads.way[served.read], held.tier[served.copy]]
        by_tier = {
            Rule.tier_capacity: (held.tier, money.stored_gib(store, held.object, held.packed)),
            Rule.read_bandwidth: (held.tier[served.copy], load),
            Rule.write_bandwidth: (held.tier, money.write_load_gbps(store, held.object, held.packed)),
        }
        found = {rule: np.bincount(at, weights=amount, minlength=tiers).astype(np.float64) for rule, (at, amount) in by_tier.items()}
        over = link >= 0
        found[Rule.site_bandwidth] = np.bincount(link[over], weights=load[over], minlength=len(store.link_gbps)).astype(np.float64)
        return found

    @cached_property
    def limits(self) -> dict[Rule, Floats]:
        """The limits of ``used``, inf for none."""
        on = self.store.tiers
        return {
            Rule.tier_capacity: on.capacity,
            Rule.read_bandwidth: on.read_gbps,
            Rule.write_bandwidth: on.write_gbps,
            Rule.site_bandwidth: self.store.link_gbps,
        }

    @cached_property
    def wholes(self) -> dict[Rule, tuple[float, float]]:
        """What is used of migration and budgets, and their limits; only those that are given."""
        store, held, served, problem = self.store, self.held, self.served, self.problem
        at = held.object, held.tier, held.packed
        left = float(self.leaving.sum())
        found: dict[Rule, tuple[float, float]] = {}
        if problem.migration.gib is not None:
            found[Rule.migration_volume] = float(money.moved_gib(store, *at).sum()), problem.migration.gib
        if problem.migration.usd is not None:
            usd = float(money.migration_usd(store, *at, self.source, self.leaving).sum()) + left
            found[Rule.migration_budget] = usd, problem.migration.usd
        if problem.budget_usd is not None:
            read = money.read_usd(store, served.read, held.tier[served.copy], held.packed[served.copy])
            usd = float(money.copy_usd(store, *at, self.source, self.leaving).sum()) + left + float(served.share @ read)
            found[Rule.cost_budget] = usd, problem.budget_usd
        return found

    @cached_property
    def moved(self) -> Bools:
        """Which copies are not there now in this form, of objects that have copies now."""
        store, held = self.store, self.held
        found: Bools = store.is_stored[held.object] & ~money.stays(store, held.object, held.tier, held.packed)
        return found

    @cached_property
    def left(self) -> Ints:
        """The current copies that the plan gives up."""
        now = self.store.currents
        copy = self.held.copies_at(now.object, now.tier, self.store.tiers.count)
        kept = (copy >= 0) & (self.held.packed[copy] == now.packed) if self.held.count else np.zeros(now.count, dtype=np.bool_)
        return np.flatnonzero(~kept)

    def copies_of(self, place: int) -> range:
        """The copies of one object."""
        return range(int(self.held.starts[place]), int(self.held.starts[place + 1]))

    def elsewhere(self, copy: int) -> Elsewhere:
        """What moving one copy, with the reads it serves, would mean; all else as it is."""
        store, held = self.store, self.held
        tiers, forms = np.repeat(np.arange(store.tiers.count), 2), np.tile([False, True], store.tiers.count)
        one = held.object[copy]
        possible = access.may_pack(store, np.full(len(tiers), one), forms)
        tiers, packed = tiers[possible], forms[possible]
        mine = np.flatnonzero(self.served.copy == copy)
        reads, share = self.served.read[mine][:, None], self.served.share[mine][:, None]
        change = {
            goal: self._change(goal, copy, tiers, packed, (reads, share)) for goal in dict.fromkeys((*self.problem.goals, GoalName.cost))
        }
        forbidden = tuple(self._forbidden(copy, int(slot), bool(form), reads[:, 0]) for slot, form in zip(tiers, packed, strict=True))
        blocked = tuple(
            self._blocked(copy, int(slot), bool(form), mine, at, change) for at, (slot, form) in enumerate(zip(tiers, packed, strict=True))
        )
        return Elsewhere(tiers, packed, self._better(change), change, forbidden, blocked)

    def _value(self, goal: GoalName, one: Ints, tiers: Ints, packed: Bools, reads: tuple[Ints, Floats]) -> Floats:
        store = self.store
        if goal is GoalName.moved_gib:
            return money.moved_gib(store, one, tiers, packed)
        if goal is GoalName.access_time:
            return np.asarray((reads[1] * access.read_time(store, reads[0], tiers, packed)).sum(axis=0))
        kept = money.copy_usd(store, one, tiers, packed, self.source, self.leaving)
        return np.asarray(kept + (reads[1] * money.read_usd(store, reads[0], tiers, packed)).sum(axis=0))

    def _change(self, goal: GoalName, copy: int, tiers: Ints, packed: Bools, reads: tuple[Ints, Floats]) -> Floats:
        held = self.held
        one = np.full(len(tiers), held.object[copy])
        now = self._value(goal, one[:1], held.tier[copy : copy + 1], held.packed[copy : copy + 1], reads)
        return self._value(goal, one, tiers, packed, reads) - now

    def _better(self, change: dict[GoalName, Floats]) -> Bools:
        """Lexicographically: the first goal that changes falls."""
        undecided: Bools = np.ones(len(next(iter(change.values()))), dtype=np.bool_)
        better = np.zeros(len(undecided), dtype=np.bool_)
        for goal in self.problem.goals:
            scale = SAME * max(1.0, float(np.abs(change[goal]).max(initial=0.0)))
            better |= undecided & (change[goal] < -scale)
            undecided &= np.abs(change[goal]) <= scale
        return better

    def _forbidden(self, copy: int, tier: int, packed: bool, reads: Ints) -> Rule | None:  # noqa: FBT001 (a form)
        store, held = self.store, self.held
        of, one, at = store.objects, held.object[copy : copy + 1], np.array([tier])
        others = [other for other in self.copies_of(int(one[0])) if other != copy]
        now = store.current_at[one[0], held.tier[copy]]
        stays = now >= 0 and bool(store.must_stay[now]) and store.currents.packed[now] == held.packed[copy]
        domains = {int(store.tiers.domain[held.tier[other]]) for other in others}
        tests = (
            (Rule.minimum_stay, not stays or (tier == held.tier[copy] and packed == held.packed[copy])),
            (Rule.residency, store.resident[of.region[one], at].all()),
            (Rule.protection, store.guarded[of.guard[one], at].all()),
            (Rule.latency_limit, access.in_time(access.copy_latency_ms(store, at, packed), of.latency_limit[one]).all()),
            (Rule.reader_served, store.ways.reach[store.reads.way[reads], tier].all()),
            (Rule.latency_limit, access.servable(store, reads, at, packed).all()),
            (Rule.replica_count, tier not in held.tier[others].tolist()),
            (Rule.failure_domain, len(domains | {int(store.tiers.domain[tier])}) >= of.replicas[one[0]]),
        )
        return next((rule for rule, fine in tests if not fine), None)

    def _blocked(
        self,
        copy: int,
        tier: int,
        packed: bool,  # noqa: FBT001 (a form)
        mine: Ints,
        slot: int,
        change: dict[GoalName, Floats],
    ) -> tuple[Rule, tuple[str, ...], float, float] | None:
        """The first limit without room for the copy, with what it needs more and what is left."""
        store, held, served = self.store, self.held, self.served
        one = held.object[copy : copy + 1]
        here = tier == held.tier[copy]

        def load(form: Packed) -> Floats:
            return served.share[mine] * money.read_load_gbps(store, served.read[mine], form)

        now = held.packed[copy : copy + 1]
        needs = {
            Rule.tier_capacity: (money.stored_gib(store, one, packed)[0], money.stored_gib(store, one, now)[0]),
            Rule.read_bandwidth: (load(packed).sum(), load(now).sum()),
            Rule.write_bandwidth: (money.write_load_gbps(store, one, packed)[0], money.write_load_gbps(store, one, now)[0]),
        }
        for rule, (then, before) in needs.items():
            more, room = float(then - before * here), float(self.limits[rule][tier] - self.used[rule][tier])
            if _too_much(more, room, float(self.limits[rule][tier])):
                return rule, (store.tiers.ids[tier],), more, room
        ways = store.reads.way[served.read[mine]]
        for link in range(len(store.link_gbps)):
            then = load(packed)[store.ways.link[ways, tier] == link].sum()
            before = load(now)[store.ways.link[ways, held.tier[copy]] == link].sum()
            more, room = float(then - before), float(store.link_gbps[link] - self.used[Rule.site_bandwidth][link])
            if _too_much(more, room, float(store.link_gbps[link])):
                return Rule.site_bandwidth, store.link_names[link], more, room
        at = one, np.array([tier]), packed
        was = one, held.tier[copy : copy + 1], now
        wholes = {
            Rule.migration_volume: float((money.moved_gib(store, *at) - money.moved_gib(store, *was))[0]),
            Rule.migration_budget: float(
                (money.migration_usd(store, *at, self.source, self.leaving) - money.migration_usd(store, *was, self.source, self.leaving))[
                    0
                ]
            ),
            Rule.cost_budget: float(change[GoalName.cost][slot]),
        }
        for rule, (used, limit) in self.wholes.items():
            if _too_much(wholes[rule], limit - used, limit):
                return rule, (), wholes[rule], limit - used
        return None


def _too_much(more: float, room: float, limit: float) -> bool:
    return more > 0 and more > room + 1e-6 * max(1.0, limit if np.isfinite(limit) else 1.0)

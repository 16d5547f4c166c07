"""Whether a plan is right, and how good: recomputed in plain numpy from Problem and Plan alone.

A limit may be exceeded by TOLERANCE times ``max(1, |limit|)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.contract import MAX_VIOLATIONS, TOLERANCE, Goal, Sense, Verdict, Violation
from models.tiering import access, money
from models.tiering.copies import reading_of, served_by
from models.tiering.schema import GoalName, Rule
from models.tiering.store import OWN, store_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from models.program import Bools, Floats, Ints
    from models.tiering.copies import Held, Reading, Served
    from models.tiering.schema import Plan, Problem

__all__ = ["UNITS", "goals", "verify"]

UNITS = {GoalName.cost: "USD", GoalName.access_time: "s/s", GoalName.moved_gib: "GiB"}


def goals(problem: Problem) -> tuple[Goal, ...]:
    """The problem's goals in its order; all are minimised."""
    return tuple(Goal(goal.value, Sense.minimise, UNITS[goal]) for goal in problem.goals)


def verify(problem: Problem, plan: Plan) -> Verdict:
    """Every broken rule, the goals and plain facts; never raises an error, whatever the plan says."""
    check = _Check(problem, reading_of(problem, plan))
    check.sense()
    check.copies()
    check.stay()
    check.tiers()
    check.serving()
    check.sites()
    check.money()
    objectives = {goal.value: check.values[goal] for goal in problem.goals}
    return Verdict(objectives, tuple(check.violations), check.count, check.metrics())


class _Check:
    """Collects what is broken, the first MAX_VIOLATIONS in words."""

    def __init__(self, problem: Problem, reading: Reading) -> None:
        store = store_of(problem)
        self._problem, self._store, self._reading = problem, store, reading
        self._held: Held = reading.held
        self._served: Served = served_by(store, self._held, problem.goals, reading.told)
        self._can_pack: Bools = access.may_pack(store, self._held.object, self._held.packed)
        # A copy that is compressed and must not be is counted with its full size.
        self._packed: Bools = self._held.packed & self._can_pack
        self.violations: list[Violation] = []
        self.count = 0
        self.values: dict[GoalName, float] = {}
        self._costs: dict[str, float] = {}

    # ------------------------------------------------------------ words

    def _break(self, rule: Rule, where: Ints, amounts: Floats, unit: str, say: Callable[[int], tuple[tuple[str, ...], str]]) -> None:
        """Note the items at ``where``, with ``amounts`` of the same shape; ``say`` gives ids and words of one."""
        self.count += len(where)
        room = MAX_VIOLATIONS - len(self.violations)
        for place, amount in zip(where[:room].tolist(), amounts[:room].tolist(), strict=True):
            ids, text = say(place)
            self.violations.append(Violation(rule, ids, amount, unit, text))

    def _odd(self, rule: Rule, found: Iterable[tuple[tuple[str, ...], str]], what: str) -> None:
        for ids, why in found:
            self.count += 1
            if len(self.violations) < MAX_VIOLATIONS:
                self.violations.append(Violation(rule, ids, 1.0, "", f"{what} of '{ids[0]}', '{ids[1]}': {why}"))

    def _object(self, place: int) -> str:
        return self._store.objects.ids[place]

    def _now(self, current: int) -> tuple[str, str]:
        now = self._store.currents
        return self._object(int(now.object[current])), self._store.tiers.ids[int(now.tier[current])]

    def _pair(self, copy: int) -> tuple[str, str]:
        return self._object(int(self._held.object[copy])), self._store.tiers.ids[int(self._held.tier[copy])]

    # ------------------------------------------------------------ rules

    def sense(self) -> None:
        """Every name exists, and an object has one copy on a tier."""
        self._odd(Rule.replica_count, self._reading.odd_copies, "the copy")
        self._odd(Rule.reader_served, self._reading.odd_servings, "the serving")

    def copies(self) -> None:
        """How many copies, in which failure domains, and where they may be."""
        store, held = self._store, self._held
        of, on = store.objects, store.tiers
        copies = np.diff(held.starts)
        for wrong, say in (((of.replicas - copies), "too few"), ((copies - of.copies_max), "too many")):
            where = np.flatnonzero(wrong > 0)
            self._break(
                Rule.replica_count,
                where,
                wrong[where].astype(np.float64),
                "copies",
                lambda o, say=say, wrong=wrong: (
                    (self._object(o),),
                    f"object '{self._object(o)}' has {wrong[o]} {'copy' if wrong[o] == 1 else 'copies'} {say}",
                ),  # type: ignore[misc]
            )
        several = np.flatnonzero(of.replicas[held.object] > 1)
        pairs = np.sort(held.object[several] * len(on.domain_names) + on.domain[held.tier[several]])
        first = np.concatenate(([True], pairs[1:] != pairs[:-1])) if len(pairs) else np.zeros(0, dtype=np.bool_)
        spread = np.maximum(np.bincount(pairs[first] // len(on.domain_names), minlength=of.count), np.minimum(copies, 1))
        where = np.flatnonzero((spread < of.replicas) & (copies >= of.replicas))
        self._break(
            Rule.failure_domain,
            where,
            (of.replicas - spread)[where].astype(np.float64),
            "domains",
            lambda o: (
                (self._object(o),),
                f"the copies of object '{self._object(o)}' are in {spread[o]} failure domains, not in {of.replicas[o]}",
            ),
        )
        self._places()

    def _places(self) -> None:
        store, held = self._store, self._held
        of = store.objects
        for rule, fine, text in (
            (Rule.residency, store.resident[of.region[held.object], held.tier], "is outside the regions of its object"),
            (Rule.protection, store.guarded[of.guard[held.object], held.tier], "lacks protections that its object needs"),
            (Rule.compression, self._can_pack, "is compressed, and nothing says to what share"),
        ):
            where = np.flatnonzero(~fine)
            self._break(
                rule,
                where,
                np.ones(len(where)),
                "copies",
                lambda k, text=text: (self._pair(k), f"the copy of {_on(self._pair(k))} {text}"),  # type: ignore[misc]
            )
        latency, limit = access.copy_latency_ms(store, held.tier, self._packed), of.latency_limit[held.object]
        where = np.flatnonzero(~access.in_time(latency, limit))
        self._break(
            Rule.latency_limit,
            where,
            (latency - limit)[where],
            "ms",
            lambda k: (self._pair(k), f"the copy of {_on(self._pair(k))} answers after {latency[k]:g} ms, later than {limit[k]:g} ms"),
        )

    def stay(self) -> None:
        """What has not been on its tier for long enough is there still, in the same form."""
        store, now = self._store, self._store.currents
        self._kept = self._kept_now()
        where = np.flatnonzero(store.must_stay & ~self._kept)
        short = store.objects.stay_days[now.object] - now.days
        self._break(
            Rule.minimum_stay,
            where,
            short[where],
            "days",
            lambda k: (self._now(k), f"the copy of {_on(self._now(k))} leaves {short[k]:g} days too early"),
        )

    def _kept_now(self) -> Bools:
        """Which current copies the plan keeps as they are, shape (currents,)."""
        now = self._store.currents
        copy = self._held.copies_at(now.object, now.tier, self._store.tiers.count)
        if not self._held.count:
            return np.zeros(now.count, dtype=np.bool_)
        kept: Bools = (copy >= 0) & (self._held.packed[copy] == now.packed)
        return kept

    def _limit(self, rule: Rule, used: Floats, limit: Floats, names: Sequence[tuple[str, ...]], unit: str) -> None:
        """Each of ``used`` within its ``limit``, both of the shape of ``names``."""
        over = used - limit
        where = np.flatnonzero(over > TOLERANCE * np.maximum(1.0, np.where(np.isinf(limit), 1.0, limit)))
        self._break(
            rule,
            where,
            over[where],
            unit,
            lambda k: (names[k], f"{rule.value} of {' to '.join(names[k]) or 'the plan'}: {used[k]:g} of {limit[k]:g} {unit} are used"),
        )

    def tiers(self) -> None:
        """Capacity and write bandwidth of each tier."""
        store, held, tiers = self._store, self._held, self._store.tiers
        names = [(name,) for name in tiers.ids]
        self._used = self._by_tier(money.stored_gib(store, held.object, self._packed))
        self._limit(Rule.tier_capacity, self._used, tiers.capacity, names, "GiB")
        written = self._by_tier(money.write_load_gbps(store, held.object, self._packed))
        self._limit(Rule.write_bandwidth, written, tiers.write_gbps, names, "Gbit/s")

    def _by_tier(self, amounts: Floats) -> Floats:
        return np.bincount(self._held.tier, weights=amounts, minlength=self._store.tiers.count).astype(np.float64)

    def serving(self) -> None:
        """Each read is served in full, by copies that it reaches in time."""
        store, held, served = self._store, self._held, self._served
        tier, packed = held.tier[served.copy], self._packed[served.copy]
        total = np.bincount(served.read, weights=served.share, minlength=store.reads.count)
        missing = np.diff(held.starts)[store.reads.object] == 0  # an object without copies has broken replica_count
        where = np.flatnonzero((np.abs(total - 1.0) > TOLERANCE) & ~missing)
        self._break(Rule.reader_served, where, np.abs(total - 1.0)[where], "of its reads", lambda d: self._unserved(d, float(total[d])))
        where = np.flatnonzero(~store.ways.reach[store.reads.way[served.read], tier])
        self._break(
            Rule.reader_served,
            where,
            served.share[where],
            "of its reads",
            lambda k: (self._read_ids(k), f"{_read_by(self._read_ids(k))}: there is no way to tier '{store.tiers.ids[int(tier[k])]}'"),
        )
        limit = store.objects.latency_limit[store.reads.object[served.read]]
        latency = access.read_latency_ms(store, served.read, tier, packed)
        own = store.reads.reader[served.read] == OWN  # judged with the copies
        where = np.flatnonzero(~own & ~access.in_time(latency, limit))
        self._break(
            Rule.latency_limit,
            where,
            (latency - limit)[where],
            "ms",
            lambda k: (
                (*self._read_ids(k), store.tiers.ids[int(tier[k])]),
                f"{_read_by(self._read_ids(k))} from '{store.tiers.ids[int(tier[k])]}' after {latency[k]:g} ms, later than {limit[k]:g} ms",
            ),
        )

    def _read_ids(self, serving: int) -> tuple[str, ...]:
        return self._ids_of(int(self._served.read[serving]))

    def _ids_of(self, read: int) -> tuple[str, ...]:
        reads = self._store.reads
        names = (self._object(int(reads.object[read])),)
        return names if reads.reader[read] == OWN else (self._store.reader_ids[int(reads.reader[read])], *names)

    def _unserved(self, read: int, total: float) -> tuple[tuple[str, ...], str]:
        ids = self._ids_of(read)
        return ids, f"{_read_by(ids)}: {'no copy can serve it' if total == 0.0 else f'a share of {total:g} is served, not 1'}"

    def sites(self) -> None:
        """Read bandwidth of each tier, and the bandwidth of each site link."""
        store, held, served = self._store, self._held, self._served
        tier = held.tier[served.copy]
        load = served.share * money.read_load_gbps(store, served.read, self._packed[served.copy])
        read = np.bincount(tier, weights=load, minlength=store.tiers.count).astype(np.float64)
        self._limit(Rule.read_bandwidth, read, store.tiers.read_gbps, [(name,) for name in store.tiers.ids], "Gbit/s")
        self._busiest = _largest_ratio(read, store.tiers.read_gbps)
        link = store.ways.link[store.reads.way[served.read], tier]
        used = np.bincount(link[link >= 0], weights=load[link >= 0], minlength=len(store.link_gbps)).astype(np.float64)
        self._limit(Rule.site_bandwidth, used, store.link_gbps, [tuple(pair) for pair in store.link_names], "Gbit/s")

    # ------------------------------------------------------------ goals

    def money(self) -> None:
        """The goals, and the limits of money and of what may move."""
        store, held, served = self._store, self._held, self._served
        at = held.object, held.tier, self._packed
        read, tier, packed, share = served.read, held.tier[served.copy], self._packed[served.copy], served.share
        source = money.source_usd(store)
        leaving = money.leaving_usd(store)
        left = float(leaving[~self._kept].sum()) if len(leaving) else 0.0
        arrival = money.arrival_usd(store, *at, source)
        moves = store.is_stored[held.object]
        moved_usd = float(arrival[moves].sum()) + left
        moved_gib = float(money.moved_gib(store, *at).sum())
        self._costs = {
            "cost_storage": float(money.storage_usd(store, *at).sum()),
            "cost_requests": float(money.write_requests_usd(store, held.object, held.tier).sum())
            + float(share @ money.read_requests_usd(store, read, tier)),
            "cost_transfer": float(money.rewrite_usd(store, *at).sum())
            + float(arrival[~moves].sum())
            + float(share @ money.transfer_usd(store, read, tier, packed)),
            "cost_moves": moved_usd,
        }
        self.values = {
            GoalName.cost: sum(self._costs.values()),
            GoalName.access_time: float(share @ access.read_time(store, read, tier, packed)),
            GoalName.moved_gib: moved_gib,
        }
        migration = self._problem.migration
        for rule, used, limit, unit in (
            (Rule.migration_volume, moved_gib, migration.gib, "GiB"),
            (Rule.migration_budget, moved_usd, migration.usd, "USD"),
            (Rule.cost_budget, self.values[GoalName.cost], self._problem.budget_usd, "USD"),
        ):
            if limit is not None:
                self._limit(rule, np.array([used]), np.array([limit]), [()], unit)

    def metrics(self) -> dict[str, float]:
        """Plain facts about the plan."""
        of, held = self._store.objects, self._held
        return {
            **{goal.value: value for goal, value in self.values.items()},
            **self._costs,
            "objects": of.count,
            "copies": held.count,
            "caches": int(np.maximum(np.diff(held.starts) - of.replicas, 0).sum()),
            "compressed": int(np.count_nonzero(self._packed)),
            "stored_gib": float(self._used.sum()),
            "fullest_tier": _largest_ratio(self._used, self._store.tiers.capacity),
            "busiest_tier": self._busiest,
        }


def _on(pair: tuple[str, str]) -> str:
    return f"object '{pair[0]}' on tier '{pair[1]}'"


def _read_by(ids: tuple[str, ...]) -> str:
    return f"object '{ids[-1]}' is read by '{ids[0]}'" if len(ids) > 1 else f"object '{ids[-1]}' is read"


def _largest_ratio(used: Floats, limit: Floats) -> float:
    """The largest of ``used / limit``; what has a limit of 0 is left out."""
    counts = limit > 0
    return float((used[counts] / limit[counts]).max(initial=0.0))

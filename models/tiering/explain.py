"""Why a plan of a tiering is as it is: which limits bind and what they are worth, what moves, and why data is not where it would rather be.

What is said about one object holds with everything else as it is in the plan, and is counted, so it is proved. Prices come from the
relaxation that proves the bound; as the worth of one more unit they are exact only while objects may be split, so they count as heuristic.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np

from models.contract import Reason
from models.tiering import access, money
from models.tiering.explain_words import (
    CUT_COLUMNS,
    FIRM_RULES,
    amount,
    at_least,
    change_text,
    goal_text,
    listed,
    many,
    price_text,
    repair_in,
    repair_text,
    rule_units,
    shadow_price_text,
)
from models.tiering.schema import GoalName, Rule
from models.tiering.stand import Stand
from models.tiering.store import MONTH_DAYS, OWN
from models.tiering.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.contract import Verdict
    from models.tiering.schema import Plan, Problem
    from models.tiering.stand import Elsewhere

__all__ = ["CUT_COLUMNS", "FIRM_RULES", "explain", "repair_in", "repair_text", "rule_units", "subjects"]

MOST_MOVES = 20  # told with the whole plan, the largest first
MOST_WISHES = 3  # better places of one copy that are told
ASKED = 200  # copies that are asked whether they would rather be on a tier
FULL = 0.999  # of a limit: so much used is told as full, whoever would want more
_ROOM = {
    Rule.tier_capacity: ("full", "GiB"),
    Rule.read_bandwidth: ("read as fast as it can be", "Gbit/s"),
    Rule.write_bandwidth: ("written as fast as it can be", "Gbit/s"),
}
_FULL_UNTIL = {
    Rule.tier_capacity: "is full until {} leave it",
    Rule.read_bandwidth: "cannot serve its reads until {} of others leave it",
    Rule.write_bandwidth: "cannot take its writes until {} of others leave it",
}
_FORBIDDEN = {
    Rule.residency: "it is outside the object's regions",
    Rule.protection: "it lacks a protection that the object needs",
    Rule.latency_limit: "it would answer later than the object's latency limit",
    Rule.reader_served: "a reader that this copy serves has no way to it",
    Rule.replica_count: "it has another copy of the object",
    Rule.failure_domain: "the replicas would no longer be in different failure domains",
    Rule.minimum_stay: "the copy has not been where it is for its minimum stay",
}


def explain(problem: Problem, plan: Plan, subject: str | None = None, seconds: float = math.inf) -> tuple[Reason, ...]:
    """The reasons for a plan, or all that can be told about one ``subject``: an object, a tier or a reader.

    After about ``seconds`` further copies are no longer asked where they would rather be. Raises KeyError for a name that nothing has.
    """
    deadline = time.monotonic() + seconds
    stand = Stand(problem, plan)
    store = stand.store
    known = subject is None or subject in store.tiers.at or subject in store.objects.at or subject in store.reader_at
    if not known or subject == "":
        raise KeyError(f"'{subject}' is no object, no tier and no reader of this problem")
    verdict = verify(problem, plan)
    if not verdict.ok:
        first = verdict.violations[0]
        text = f"The plan breaks rules ({verdict.violation_count:,} times), first of all: {first.message}. It is not explained further."
        return (Reason(subject or "", "summary", first.rule, first.ids, text, "proved"),)
    told = _Told(stand)
    if subject is None:
        return (told.summary(verdict), *told.limits(), *told.moves(deadline))
    reasons: list[Reason] = []
    if subject in store.tiers.at:
        reasons += told.tier(subject, deadline)
    if subject in store.objects.at:
        reasons += told.object(subject)
    if subject in store.reader_at:
        reasons += told.reader(subject)
    return tuple(reasons)


def subjects(problem: Problem, plan: Plan) -> tuple[str, ...]:
    """The names one may ask about: those of tiers, readers and objects."""
    store = Stand(problem, plan).store
    return tuple(dict.fromkeys((*store.tiers.ids, *store.reader_ids, *store.objects.ids)))


class _Told:
    """The sentences about one right plan."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._store = stand.store
        self._goals = stand.problem.goals
        self._prices: dict[tuple[str, str], float] = {(price.rule.value, price.tier): price.price for price in stand.plan.prices}

    # ------------------------------------------------------------ the whole

    def summary(self, verdict: Verdict) -> Reason:
        """The goals, and how much there is."""
        facts = verdict.metrics
        text = f"{many(facts['objects'], 'object')} in {many(facts['copies'], 'copy')} on {many(self._store.tiers.count, 'tier')}: "
        text += ", ".join(goal_text(goal, verdict.objectives[goal.value]) for goal in self._goals) + ". "
        text += f"{amount(facts['moved_gib'])} GiB move; the cost of {amount(facts['cost'])} USD is {amount(facts['cost_storage'])} "
        text += f"for storage, {amount(facts['cost_requests'])} for requests, {amount(facts['cost_transfer'])} for transfers "
        text += f"and {amount(facts['cost_moves'])} for moves."
        return Reason("", "summary", self._goals[0].value, (), text, "proved")

    def limits(self) -> Iterator[Reason]:
        """Limits that are used up, and the prices that the plan brings."""
        stand = self._stand
        for rule in _ROOM:
            for tier in range(self._store.tiers.count):
                yield from self._limit(rule, tier, "")
        for link, pair in enumerate(self._store.link_names):
            used, limit = float(stand.used[Rule.site_bandwidth][link]), float(self._store.link_gbps[link])
            if math.isfinite(limit) and used >= FULL * limit > 0:
                text = f"The site link from '{pair[0]}' to '{pair[1]}' is full: {amount(used)} of {amount(limit)} Gbit/s."
                yield Reason("", "binding", Rule.site_bandwidth.value, pair, text, "proved")
        for rule, (used, limit) in stand.wholes.items():
            if used >= FULL * limit:
                text = f"{amount(used)} of {amount(limit)} {rule_units()[rule.value]} are used of the {rule.value.replace('_', ' ')}."
                yield Reason("", "binding", rule.value, (), text, "proved")

    def _limit(self, rule: Rule, tier: int, subject: str) -> Iterator[Reason]:
        name = self._store.tiers.ids[tier]
        used, limit = float(self._stand.used[rule][tier]), float(self._stand.limits[rule][tier])
        price = self._prices.get((rule.value, name), 0.0)
        state, unit = _ROOM[rule]
        if math.isfinite(limit) and used >= FULL * limit > 0:
            text = f"Tier '{name}' is {state}: {amount(used)} of {amount(limit)} {unit} are used."
            yield Reason(subject, "binding", rule.value, (name,), text, "proved")
        if price > 0:
            worth = price_text(rule, price, self._goals[0], self._store.period_days / MONTH_DAYS)
            text = f"On tier '{name}', with {amount(used)} of {amount(limit)} {unit} used, {worth}, by the prices of the relaxation."
            yield Reason(subject, "binding", rule.value, (name,), text, "heuristic")

    def moves(self, deadline: float) -> Iterator[Reason]:
        """The largest moves, and how many more there are."""
        stand = self._stand
        moved = np.flatnonzero(stand.moved)
        gib = money.stored_gib(self._store, stand.held.object[moved], stand.held.packed[moved])
        order = np.argsort(-gib, kind="stable")
        for copy in moved[order[:MOST_MOVES]].tolist():
            yield self._move(copy, "", ask=time.monotonic() < deadline)
        if len(moved) > MOST_MOVES:
            text = f"{len(moved) - MOST_MOVES:,} further copies move, each no larger; ask for an object by its name."
            yield Reason("", "summary", GoalName.cost.value, (), text, "proved")

    def _move(self, copy: int, subject: str, *, ask: bool = True) -> Reason:
        stand, store = self._stand, self._store
        place = int(stand.held.object[copy])
        name, tier = store.objects.ids[place], store.tiers.ids[int(stand.held.tier[copy])]
        now = np.flatnonzero(store.currents.object == place)
        gone = [k for k in now.tolist() if k in stand.left]
        gib = float(money.stored_gib(store, np.array([place]), stand.held.packed[copy : copy + 1])[0])
        form = " compressed" if stand.held.packed[copy] else ""
        origin = listed([f"'{store.tiers.ids[int(store.currents.tier[k])]}'" for k in (gone or now.tolist())])
        verb = "moves" if gone else "is copied"
        text = f"Object '{name}' {verb} from {origin} to '{tier}'{form}, {amount(gib)} GiB."
        if ask and len(gone) == 1:
            text += self._gain(copy, gone[0])
        ids = (name, *(store.tiers.ids[int(store.currents.tier[k])] for k in gone), tier)
        return Reason(subject, "moved", self._goals[0].value, tuple(dict.fromkeys(ids)), text, "proved")

    def _gain(self, copy: int, current: int) -> str:
        """What staying would change."""
        now = self._store.currents
        found = self._stand.elsewhere(copy)
        at = np.flatnonzero((found.tier == now.tier[current]) & (found.packed == now.packed[current]))
        if not len(at):
            return ""
        if found.forbidden[int(at[0])] is not None:
            return f" It cannot stay: {_FORBIDDEN[found.forbidden[int(at[0])] or Rule.residency]}."
        changes = [(goal, float(found.change[goal][at[0]])) for goal in self._goals]
        blocked = found.blocked[int(at[0])]
        if blocked is not None and found.better[at[0]]:
            return f" Staying would be better ({_changes(changes)}), but {self._blocker(blocked)}."
        return f" Staying would mean {_changes(changes)}."

    # ------------------------------------------------------------ one tier

    def tier(self, name: str, deadline: float) -> Iterator[Reason]:
        """How full it is, what that is worth, and who would rather be there."""
        stand, tier = self._stand, self._store.tiers.at[name]
        here = stand.held.tier == tier
        capacity = float(self._store.tiers.capacity[tier])
        text = f"It holds {many(int(here.sum()), 'copy')}, {amount(float(stand.used[Rule.tier_capacity][tier]))} GiB"
        text += f" of {amount(capacity)}." if math.isfinite(capacity) else "; its capacity has no limit."
        text += f" It is read at {amount(float(stand.used[Rule.read_bandwidth][tier]))} Gbit/s."
        yield Reason(name, "summary", Rule.tier_capacity.value, (name,), text, "proved")
        for rule in _ROOM:
            yield from self._limit(rule, tier, name)
        wanting: list[str] = []
        others = np.flatnonzero(~here)
        order = np.argsort(-self._store.objects.size[stand.held.object[others]], kind="stable")
        for copy in others[order[:ASKED]].tolist():
            if time.monotonic() > deadline:
                break
            found = stand.elsewhere(copy)
            better = (found.tier == tier) & found.better
            if any(better[at] and found.forbidden[at] is None and found.blocked[at] is not None for at in range(len(better))):
                wanting.append(self._store.objects.ids[int(stand.held.object[copy])])
        if wanting:
            names = tuple(dict.fromkeys(wanting))
            among = f"Of the {ASKED} largest copies elsewhere, those of " if len(others) > ASKED else ""
            text = f"{among}{many(len(names), 'object')} would rather be here and {'finds' if len(names) == 1 else 'find'} no room: "
            text += listed([f"'{one}'" for one in names]) + "."
            yield Reason(name, "why_not", Rule.tier_capacity.value, (name, *names), text, "proved")

    # ------------------------------------------------------------ one object

    def object(self, name: str) -> Iterator[Reason]:
        """Where its copies are, what moved, and why they are nowhere better."""
        stand, store = self._stand, self._store
        place = store.objects.at[name]
        copies = stand.copies_of(place)
        where = listed([self._where(copy) for copy in copies])
        yield Reason(name, "summary", Rule.replica_count.value, (name,), f"It has {many(len(copies), 'copy')}: {where}.", "proved")
        for copy in copies:
            if stand.moved[copy]:
                yield self._move(copy, name)
            yield from self._wishes(copy, name)

    def _where(self, copy: int) -> str:
        held = self._stand.held
        gib = float(money.stored_gib(self._store, held.object[copy : copy + 1], held.packed[copy : copy + 1])[0])
        return f"{amount(gib)} GiB on '{self._store.tiers.ids[int(held.tier[copy])]}'{' (compressed)' if held.packed[copy] else ''}"

    def _wishes(self, copy: int, name: str) -> Iterator[Reason]:
        """Better places, the best first, and what keeps the copy from them."""
        found = self._stand.elsewhere(copy)
        here = self._store.tiers.ids[int(self._stand.held.tier[copy])]
        keys = [np.round(found.change[goal], 12) for goal in reversed(self._goals)]
        order = [at for at in np.lexsort(keys).tolist() if found.better[at]]
        if not order:
            text = f"No other tier is better for the copy on '{here}' by the goals, all else as it is."
            yield Reason(name, "summary", self._goals[0].value, (name, here), text, "proved")
        for at in order[:MOST_WISHES]:
            yield self._wish(found, at, name, here)

    def _wish(self, found: Elsewhere, at: int, name: str, here: str) -> Reason:
        tier = self._store.tiers.ids[int(found.tier[at])]
        form = " compressed" if found.packed[at] else ""
        changes = _changes([(goal, float(found.change[goal][at])) for goal in self._goals])
        forbidden, blocked = found.forbidden[at], found.blocked[at]
        wish = f"The copy on '{here}' would be better on '{tier}'{form} ({changes})"
        if forbidden is not None:
            return Reason(name, "why_not", forbidden.value, (name, tier), f"{wish}, but {_FORBIDDEN[forbidden]}.", "proved")
        if blocked is not None:
            rule, ids, _, _ = blocked
            way = f"leave '{here}' for '{tier}'{form}" if tier != here else f"be {form.strip() or 'uncompressed'} on '{here}'"
            text = f"Object '{name}' cannot {way} ({changes}): {self._blocker(blocked)}"
            price = self._prices.get((rule.value, ids[0])) if len(ids) == 1 else None
            if price:
                text += f"; {shadow_price_text(rule, ids[0], price, self._goals[0], self._store.period_days / MONTH_DAYS)}"
            text += "."
            return Reason(name, "why_not", rule.value, (name, *ids), text, "heuristic" if price else "proved")
        text = f"{wish}, and nothing keeps it away: this plan is not the best."
        return Reason(name, "would_place", self._goals[0].value, (name, tier), text, "proved")

    def _blocker(self, blocked: tuple[Rule, tuple[str, ...], float, float]) -> str:
        """``'nvme' is full until 60 GiB leave it: 10 of 100 GiB are left, and 70 GiB more are needed``."""
        rule, ids, more, room = blocked
        unit, left = rule_units()[rule.value], max(room, 0.0)
        if len(ids) == 1:
            limit = float(self._stand.limits[rule][self._store.tiers.at[ids[0]]])
            full = _FULL_UNTIL[rule].format(f"{at_least(more - left)} {unit}")
            return f"'{ids[0]}' {full}: {amount(left)} of {amount(limit)} {unit} are left, and {amount(more)} {unit} more are needed"
        what = f"the site link from '{ids[0]}' to '{ids[1]}'" if ids else f"the {rule.value.replace('_', ' ')}"
        return f"{what} has {amount(left)} {unit} left, and {amount(more)} {unit} more are needed"

    # ------------------------------------------------------------ one reader

    def reader(self, name: str) -> Iterator[Reason]:
        """Which copies it reads, and how long that takes."""
        stand, store = self._stand, self._store
        number = store.reader_at[name]
        if number == OWN:
            return
        mine = np.flatnonzero(store.reads.reader[stand.served.read] == number)
        for at in mine.tolist():
            read, copy = stand.served.read[at : at + 1], stand.served.copy[at : at + 1]
            tier, packed = stand.held.tier[copy], stand.held.packed[copy]
            one, where = store.objects.ids[int(store.reads.object[read][0])], store.tiers.ids[int(tier[0])]
            share = float(stand.served.share[at])
            part = "all its reads" if share == 1.0 else f"a share of {amount(share)} of its reads"
            busy = share * float(access.read_time(store, read, tier, packed)[0])
            latency = amount(float(access.read_latency_ms(store, read, tier, packed)[0]))
            text = f"It reads object '{one}' from tier '{where}' ({part}), after {latency} ms; "
            text += f"{amount(busy)} seconds of reading in each second."
            yield Reason(name, "summary", Rule.reader_served.value, (name, one, where), text, "proved")


def _changes(changes: list[tuple[GoalName, float]]) -> str:
    said = [change_text(goal, change) for goal, change in changes if abs(change) > 1e-12]  # noqa: PLR2004 (rounding)
    return listed(said) if said else "no change"

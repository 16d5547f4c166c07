"""How a tiering is solved: by the prices of its few shared limits where there are very many objects, by the exact program otherwise.

All of it is pure: the drivers in ``optimizer`` do the solving. The page says how the parts fit together.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.conversation import Impossible, Offered, Proved
from models.tiering import exact, verify
from models.tiering.again import SHARE, recalled, remember
from models.tiering.copies import Served, held_from, plan_from
from models.tiering.duals import FIRST_SHARE, METHOD, NoPlanError, duals, ladder
from models.tiering.options import options_of, plain
from models.tiering.prices import priced
from models.tiering.repair import balanced, improved, keeps_limits
from models.tiering.schema import Rule, TierPrice
from models.tiering.sifting import State
from models.tiering.store import OWN, store_of

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from models.conversation import Conversation
    from models.program import Floats
    from models.tiering.options import Options
    from models.tiering.prices import Priced
    from models.tiering.schema import GoalName, Plan, Problem

__all__ = ["METHOD", "applies", "carried", "converse"]

REMEMBERS = True  # a conversation may begin with the prices of the one before

EXACT_COLUMNS = 20_000  # up to here the exact program is fast enough
EXACT_INSTEAD = 300_000  # up to here it is asked where prices lead to no plan: there may be none
LOOSE_FROM, LOOSE = 20_000, 3e-5  # objects from which ties are broken, and by how much of an object's worth
TOLERANCE_SHARE = 0.25  # of the wanted gap: what the prices may leave open
LARGEST_TOLERANCE = 1e-4  # prices worse than that may leave no plan near
FIRST_REPAIR = 20  # objects near a tie between each two servers in the first integer program
REPAIR_WIDER = 3  # times as many in the next
REPAIR_SHARE = 0.4  # of the time left
REPAIR_BELOW = 0.5  # of the wanted gap: a plan that is so close is not improved further
AGAIN_BELOW = 0.9  # the same for one of many problems
MOST_REPAIR = 600
PRICED = "prices"
REPAIRED = "repair"
TIER_RULES = (Rule.tier_capacity, Rule.read_bandwidth, Rule.write_bandwidth)


def applies(problem: Problem) -> bool:
    """Every problem is searched here."""
    del problem
    return True


def by_prices(problem: Problem) -> bool:
    """Whether there are too many objects for the exact program, and their options are known in closed form."""
    return _columns(problem) > EXACT_COLUMNS and plain(store_of(problem))


def _columns(problem: Problem) -> int:
    store = store_of(problem)
    return store.objects.count * store.tiers.count * 2


def carried(problem: Problem, plan: Plan, seconds: float) -> Plan:
    """A plan of another problem without that problem's prices."""
    del problem, seconds
    return plan.model_copy(update={"prices": ()})


def converse(
    problem: Problem, plan: Plan | None, seed: int, seconds: float, gap: float, memory: dict[str, Any] | None = None
) -> Conversation:
    """The search by prices, or by the exact program.

    ``memory`` has what the conversation before left, and takes what this one leaves. Where prices were left, nothing else is tried.
    """
    if by_prices(problem):
        yield from _priced(problem, plan, seed, time.monotonic() + seconds, gap, memory)
    else:
        yield from exact.converse(problem, plan)


def _priced(problem: Problem, plan: Plan | None, seed: int, deadline: float, gap: float, memory: dict[str, Any] | None) -> Conversation:
    """Goal after goal: prices and their bound, a plan from them, then integer programs around it while they gain."""
    known = verify.verify(problem, plan).objectives if plan is not None and len(problem.goals) > 1 else {}
    floors: dict[GoalName, float] = {}
    prices: dict[tuple[str, tuple[str, ...]], float] = {}
    state: State | None = None
    told: tuple[TierPrice, ...] = ()
    again = False
    for number, goal in enumerate(problem.goals):
        options = options_of(problem, goal, floors)
        if state is not None and not keeps_limits(options, state):  # the plan that was known is ahead of it
            state = None
        before = recalled(memory, goal, options)
        again = again or before is not None
        start = before if before is not None else ladder(options, prices) if floors else None
        try:
            at, closed = yield from _bounded(options, goal, gap, seed, deadline, start, FIRST_SHARE if before is None else SHARE)
        except NoPlanError:
            if not floors:
                yield Impossible()
            return
        remember(memory, goal, options, at.prices)
        if closed and again:
            return
        prices |= {(row.rule, row.ids): float(price) for row, price in zip(options.rows, at.prices, strict=True)}
        told = told or tier_prices(options, at.prices)
        part = 1 / (len(problem.goals) - number)  # of the time left: the goals after this one want some too
        state = yield from _planned(problem, options, at, state, (AGAIN_BELOW if again else REPAIR_BELOW) * gap, (deadline, part), told)
        found = math.inf if state is None else options.goal(state.sets, state.server)
        floors[goal] = min(found, known.get(goal.value, math.inf))
        if known and floors[goal] < known[goal.value]:  # what it attains in later goals is attained by no plan that is as good in this one
            known = {}
        if math.isinf(floors[goal]):
            if not (number or again) and plan is None and _columns(problem) <= EXACT_INSTEAD and time.monotonic() < deadline:
                yield from exact.converse(problem, None)
            return


def _bounded(
    options: Options, goal: GoalName, gap: float, seed: int, deadline: float, start: Floats | None, share: float
) -> Generator[Any, Any, tuple[Priced, bool]]:
    """The prices with the best bound, which is proved of the goal; and whether it closes every goal to the plan that is known."""
    loose = options.loosened(LOOSE, seed) if options.count > LOOSE_FROM else options
    at = yield from duals(loose, goal.value, min(TOLERANCE_SHARE * gap, LARGEST_TOLERANCE), seed, deadline, start, share)
    if loose is not options:
        # Of the original, whose bound is a little better, and with the broken ties for what follows.
        bound = priced(options, at.prices).bound
        at = replace(at, bound=max(bound, at.bound))
    closed = math.isfinite(at.bound) and (yield Proved(goal.value, at.bound, METHOD))
    return at, bool(closed)


def _planned(
    problem: Problem,
    options: Options,
    at: Priced,
    state: State | None,
    gap: float,
    time_left: tuple[float, float],
    told: tuple[TierPrice, ...],
) -> Generator[Any, Any, State | None]:
    """The best state found, offered on the way; None when there is none.

    ``state`` is that of the goal before; ``time_left`` is the deadline, and the part of the time until then for this goal.
    """
    deadline, part = time_left
    until = time.monotonic() + part * (deadline - time.monotonic())
    found = yield from balanced(options, at, deadline)
    if found is not None and keeps_limits(options, found):
        state = found if state is None else min(state, found, key=lambda one: options.goal(one.sets, one.server))
    if state is None:
        return None
    yield Offered(plan_of(problem, options, state, told), PRICED)
    near = FIRST_REPAIR
    while time.monotonic() < until and _gap(options, state, at) > gap:
        better = yield from improved(options, at, state, near, gap, REPAIR_SHARE * part)
        if better is not None:
            state = better
            yield Offered(plan_of(problem, options, state, told), REPAIRED)
        if near >= options.count or near >= MOST_REPAIR:
            break
        near *= REPAIR_WIDER
    return state


def _gap(options: Options, state: State, at: Priced) -> float:
    value = options.goal(state.sets, state.server)
    return (value - at.bound) / max(abs(value), 1e-12)


def plan_of(problem: Problem, options: Options, state: State, prices: tuple[TierPrice, ...] = ()) -> Plan:
    """The plan of a state, with the servings that do not go without saying."""
    store = options.store
    objects, slots = [], []
    for slot in range(options.slots):
        here = np.flatnonzero(state.sets >> slot & 1)
        objects.append(here)
        slots.append(np.full(len(here), slot))
    at = np.concatenate(slots)
    held = held_from(store, np.concatenate(objects), options.tier[at], options.packed[at])
    own = np.flatnonzero((store.reads.reader == OWN) & options.several[store.reads.object])
    if not len(own):
        return plan_from(problem, held, prices=prices)
    reads = store.reads.object[own]
    copies = held.copies_at(reads, options.tier[state.server[reads]], store.tiers.count)
    return plan_from(problem, held, Served(own, copies, np.ones(len(own))), prices)


def tier_prices(options: Options, prices: Floats) -> tuple[TierPrice, ...]:
    """What one more unit of each tier's limits is worth to the goal, for those that are worth anything."""
    return tuple(
        TierPrice(rule=Rule(row.rule), tier=row.ids[0], price=float(price))  # type: ignore[arg-type]
        for row, price in zip(options.rows, prices, strict=True)
        if row.rule in TIER_RULES and price > 0
    )

"""A feasible plan at once: every copy where it is best, then what is too full is trimmed by least regret. And bounds by objects alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from models.tiering import access, money
from models.tiering.caching import with_caches
from models.tiering.draft import draft_of, seated
from models.tiering.schema import GoalName
from models.tiering.settling import fill, settle
from models.tiering.store import store_of
from models.tiering.verify import verify

if TYPE_CHECKING:
    from models.program import Floats, Ints
    from models.tiering.draft import Draft
    from models.tiering.schema import Plan, Problem
    from models.tiering.store import Packed, Store

BLOCK = 1 << 17  # objects looked at together


def heuristic(problem: Problem, seed: int = 0, seconds: float = 1.0) -> Plan | None:
    """A right plan, or None where trimming finds none, which proves nothing. No randomness.

    The first attempt takes a few seconds for a million copies and eight tiers; ``seconds`` limits further ones, and improvements.
    """
    del seed
    deadline = time.monotonic() + seconds
    goals, cheap = problem.goals, (GoalName.cost,)
    # What is best by the goals may leave no room in a budget or move too much: then what is cheapest, or moves least, is worth a try.
    attempts = (
        (goals, goals[0], False),
        (goals, goals[0], True),
        (goals, GoalName.cost, False),
        (cheap, GoalName.cost, False),
        (cheap, GoalName.cost, True),
    )
    known: dict[tuple[tuple[GoalName, ...], GoalName], Draft | None] = {}
    for by, sharing, at_home in dict.fromkeys(attempts):
        if known and time.monotonic() > deadline:
            return None
        if (by, sharing) not in known:
            known.clear()
            known[by, sharing] = draft_of(problem, by, sharing)
        draft = known[by, sharing]
        if draft is None or not seated(draft, at_home=at_home) or not settle(draft):
            continue
        fill(draft, deadline)
        cached = with_caches(problem, draft, deadline)
        for plan in (draft.plan(problem),) if cached is None else (cached, draft.plan(problem)):
            if verify(problem, plan).ok:
                return plan
    return None


def simple_bounds(problem: Problem) -> dict[str, float]:
    """Every object's best copies and every read's best tier, as if each were alone; nothing where an object or a read has none."""
    store = store_of(problem)
    found = {}
    fees = money.source_usd(store), money.leaving_usd(store)
    for goal in problem.goals:
        constant = float(fees[1].sum()) if goal is GoalName.cost else 0.0
        bound = constant + sum(
            _best_alone(store, goal, np.arange(start, min(start + BLOCK, store.objects.count)), fees)
            for start in range(0, store.objects.count, BLOCK)
        )
        if np.isfinite(bound):
            found[goal.value] = bound
    return found


def _best_alone(store: Store, goal: GoalName, objects: Ints, fees: tuple[Floats, Floats]) -> float:
    """The least that the objects, consecutive ones, add to a goal; +inf where one cannot be kept or read."""
    of, on = store.objects, store.tiers
    starts, order = store.read_starts
    reads = order[starts[objects[0]] : starts[objects[-1] + 1]]
    owner = store.reads.object[reads] - objects[0]
    tiers = np.arange(on.count)
    forms = (False, True) if bool((~np.isnan(of.share[objects])).any()) else (False,)
    keeps, serves = [], []
    for form in forms:
        allowed = access.admissible(store, objects[:, None], tiers, form)
        can = access.servable(store, reads[:, None], tiers, form) & allowed[owner]
        keeps.append(np.where(allowed, _of_copies(store, goal, objects, form, fees), np.inf))
        serves.append(np.where(can, _of_reads(store, goal, reads, form), np.inf))
    single = of.copies_max[objects] == 1
    together = np.stack(keeps, axis=2)
    for at in range(len(forms)):
        mine = single[owner]
        np.add.at(together[:, :, at], owner[mine], serves[at][mine])
    least = np.sort(together.min(axis=2), axis=1)  # one copy on each tier, the cheapest tiers first
    rank = np.arange(on.count)
    wanted = rank < of.replicas[objects][:, None]
    extra = ~wanted & (rank < of.copies_max[objects][:, None]) & (least < 0)
    kept = float(least[wanted].sum()) + float(least[extra].sum())
    if (of.replicas[objects] > on.count).any():
        return np.inf
    return kept + float(np.stack(serves).min(axis=(0, 2), initial=np.inf)[~single[owner]].sum())


def _of_copies(store: Store, goal: GoalName, objects: Ints, form: Packed, fees: tuple[Floats, Floats]) -> Floats:
    tiers = np.arange(store.tiers.count)
    if goal is GoalName.cost:
        return money.copy_usd(store, objects[:, None], tiers, form, *fees)
    if goal is GoalName.moved_gib:
        return money.moved_gib(store, objects[:, None], tiers, form)
    return np.zeros((len(objects), store.tiers.count))


def _of_reads(store: Store, goal: GoalName, reads: Ints, form: Packed) -> Floats:
    tiers = np.arange(store.tiers.count)
    if goal is GoalName.cost:
        return money.read_usd(store, reads[:, None], tiers, form)
    if goal is GoalName.access_time:
        return access.read_time(store, reads[:, None], tiers, form)
    return np.zeros((len(reads), store.tiers.count))

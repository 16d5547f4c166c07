"""The search for the policies that add up over jobs: most throughput, least cost with deadlines, and the largest geometric mean.

One program over classes, with threshold rows where they are broken. Jobs of one class that weigh differently have a speed each as a column
of its own; a threshold row then says that a set S of them gets no more than the class has: ``sum_u Y_u max(s_u - s, 0) >= sum_S (T_j -
s)``, which holds for any S and any s. Logarithms are replaced by tangents from above, which are added where the answer lies until the gap
is closed (J. E. Kelley, "The cutting-plane method for solving convex programs", 1960; E. Eisenberg, D. Gale, "Consensus of subjective
probabilities", 1959).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.conversation import Impossible, Offered, Proved
from models.fairshare.columns.classes import classes_of
from models.fairshare.columns.dealt import dealt
from models.fairshare.goals import goal_names
from models.fairshare.market import market_of
from models.fairshare.plans.offering import right_of
from models.fairshare.proofs.schema import Price
from models.fairshare.schema import Plan, Policy
from models.fairshare.sums.cost import cheapest
from models.fairshare.sums.speeds import largest
from models.fairshare.sums.worst import largest_worst
from models.vocabulary import LARGEST_QUANTITY

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Conversation, Step
    from models.fairshare.columns.classes import Classes
    from models.fairshare.market import Market
    from models.fairshare.schema import Problem
    from models.fairshare.sums.speeds import Best
    from models.program import Bools, Floats

PHASES = {Policy.throughput: "throughput", Policy.least_cost: "least cost", Policy.proportional_fair: "tangents of logarithms"}


def converse(problem: Problem, gap: float, method: str) -> Conversation:
    """The best sum of each priority in turn, and the plan."""
    market = market_of(problem)
    if not market.jobs.count:
        return
    apart = np.zeros(market.jobs.count, dtype=np.bool_)
    while True:
        lacking = yield from _once(problem, market, apart, gap, method)
        if lacking is None or not lacking.any():
            return
        apart |= lacking


def _once(problem: Problem, market: Market, apart: Bools, gap: float, method: str) -> Generator[Step, object, Bools | None]:
    """One pass over all priorities, with the jobs of ``apart`` each a class of its own.

    Returns the jobs that must be taken apart, too, as their pairs could not be dealt out; None where the search is over.
    """
    jobs, names = market.jobs, goal_names(problem)
    phase = PHASES[problem.policy]
    attained: list[float] = []
    fixed = np.zeros(jobs.count)
    prices: tuple[Price, ...] = ()
    lacking, starved = np.zeros(jobs.count, dtype=np.bool_), np.zeros(jobs.count, dtype=np.bool_)
    # What a class attains may change a little when others are taken apart: then nothing is told of any before all can be dealt out.
    twins = (market.ways.first == market.ways.second).any()
    sure = len(jobs.classes) == 1 or not twins
    kept: list[tuple[Proved | None, Offered | None]] = []
    for rank, priority in enumerate(jobs.classes):
        classes, best = yield from _best(problem, market, apart, attained, fixed, gap, f"{phase} {priority}")
        if best is None:
            return None
        if best.refuted:
            yield Impossible()
            return None
        attained.append(best.value)
        older, fixed = fixed, np.where(jobs.priority == priority, best.speeds, fixed)
        if not rank:
            prices = _told(classes, best)
        shares = dealt(classes, best.values, best.speeds)
        lacking |= shares.lacking(classes) & ~apart
        if starved.any():  # a mean is 0 whatever these have, so that plans as good may take it from them
            rest = np.where(starved, 0.0, older)
            _, free = yield from _best(problem, market, apart, attained[:-1], rest, gap, f"{phase} {priority} without the starved")
            best.bound = np.inf if free is None else free.bound
        bound = Proved(names[rank], best.bound, f"{phase}: {method}") if np.isfinite(best.bound) else None
        starved |= (jobs.priority == priority) & best.starved
        last = rank == len(jobs.classes) - 1
        plan = right_of(problem, Plan(share_table=shares.table(classes), prices=prices))
        kept.append((bound, None if plan is None else Offered(plan, phase, says_more=True)))
        if sure or (last and not lacking.any()):
            yield from _told_of(kept, names[0])
            kept = []
    return lacking


def _told_of(kept: list[tuple[Proved | None, Offered | None]], first: str) -> Generator[Step, Any, None]:
    """Tell of plans and bounds. Those of less important jobs hold for what the plan gives to the others, so it must be the best."""
    for bound, offered in kept:
        taken = offered is not None and (yield offered)
        if bound is not None and (taken or bound.goal == first):
            yield bound


def _best(
    problem: Problem, market: Market, apart: Bools, attained: list[float], fixed: Floats, gap: float, name: str
) -> Generator[Step, object, tuple[Classes, Best | None]]:
    jobs = market.jobs
    everyone = np.ones(jobs.count, dtype=np.bool_)  # less important jobs are company for the others at least
    if problem.policy is Policy.least_cost:
        least = np.where(np.isinf(jobs.deadline_s), problem.least_share, 0.0) * jobs.equal
        needs = np.maximum(jobs.due_speed, least)
        classes = classes_of(market, everyone, (needs,), apart=apart, split=jobs.priority)
        return classes, (yield from cheapest(classes, needs, attained, name))
    worth = jobs.weight / (jobs.best if problem.policy is Policy.throughput else 1.0)
    classes = classes_of(market, everyone, (worth,), apart=apart, split=jobs.priority)
    if len(market.factors) > 1:
        return classes, (yield from largest_worst(classes, worth, attained, name))
    logarithms = problem.policy is Policy.proportional_fair
    return classes, (yield from largest(classes, worth, attained, fixed, gap, name, logarithms=logarithms))


def _told(classes: Classes, best: Best) -> tuple[Price, ...]:
    return tuple(
        Price(accelerator=name, price=min(float(price), LARGEST_QUANTITY), packed_price=min(float(packed), LARGEST_QUANTITY))
        for name, price, packed in zip(classes.market.accelerators.ids, best.prices.gpu, best.prices.packed, strict=True)
    )

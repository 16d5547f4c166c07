"""The search for the policies that raise all jobs together: priority by priority, level by level, then dealt out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.contract import Sense
from models.conversation import Offered, Proved
from models.fairshare.columns.classes import classes_of
from models.fairshare.columns.dealt import dealt
from models.fairshare.goals import goal_names, plain_name, sense_of
from models.fairshare.levels.gauge import Gauge
from models.fairshare.levels.hierarchy import climbed, stretch
from models.fairshare.levels.rising import rising_of, told
from models.fairshare.levels.sifting import Sifting, prices_in, sifts
from models.fairshare.levels.water_filling import filled
from models.fairshare.market import market_of
from models.fairshare.plans.division import division_of
from models.fairshare.plans.measures import value_of
from models.fairshare.plans.offering import right_of
from models.fairshare.proofs.rounds import joined, rounds_of
from models.fairshare.proofs.schema import Price
from models.fairshare.schema import Plan, Policy
from models.vocabulary import LARGEST_QUANTITY

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Conversation, Solved, Step
    from models.fairshare.columns.classes import Classes
    from models.fairshare.levels.gauge import Gauged, Gauging
    from models.fairshare.levels.rising import Rising
    from models.fairshare.levels.water_filling import Filled
    from models.fairshare.market import Market
    from models.fairshare.proofs.schema import Round
    from models.fairshare.schema import Problem
    from models.program import Bools

PHASE = "water filling"
METHOD_SLACK = "no level can be more than settled"


def converse(problem: Problem, plan: Plan | None, method: str) -> Conversation:
    """Settle all levels, and offer the plan with their proofs; prices of ``plan``, if it has any, are where the search begins."""
    market = market_of(problem)
    if not market.jobs.count:
        return
    apart = np.zeros(market.jobs.count, dtype=np.bool_)
    while True:
        lacking = yield from _once(problem, plan, market, apart, method)
        if lacking is None or not lacking.any():
            return
        apart |= lacking


def _once(problem: Problem, known: Plan | None, market: Market, apart: Bools, method: str) -> Generator[Step, Solved, Bools | None]:
    """One pass over all priorities, with the jobs of ``apart`` each a class of its own.

    Returns the jobs that must be taken apart, too, as their pairs could not be dealt out; None where a program found no answer.
    """
    jobs, names = market.jobs, goal_names(problem)
    everyone = np.ones(jobs.count, dtype=np.bool_)  # less important jobs are company for the others at least
    alike = (jobs.priority.astype(np.float64), jobs.weight * jobs.par, jobs.remaining, jobs.total, jobs.elapsed_s)
    classes = classes_of(market, everyone, alike, apart=apart)
    cap = classes.top[classes.of] * max(1.0, float(market.factors.max()))
    gauge: Gauging = Sifting(classes, prices_in(classes, known)) if sifts(classes) else Gauge(classes, "levels")
    speeds = np.zeros(jobs.count)
    rounds: list[Round] = []
    settled: list[Filled] = []
    prices: tuple[Price, ...] = ()
    for rank, priority in enumerate(jobs.classes):
        own = jobs.priority == priority
        bounded = Bounded(problem, gauge, "" if rank else names[0], f"{PHASE}: {method}")
        rising = rising_of(market, problem.policy, own, speeds, cap)
        if problem.policy is Policy.hierarchical:
            start = stretch(problem, jobs.par, 0.0, speeds, own, np.zeros(0, dtype=np.int64))
            done = yield from climbed(gauge, problem, start, cap, jobs.par, bounded)
        else:
            guess = _first_guess(market, rising)
            if isinstance(gauge, Sifting) and guess > 0.0:
                guess = gauge.likely(rising.speeds, guess, rising.highest)
            done = yield from filled(gauge, rising, 0.0, guess, bounded)
        if done is None or done.first is None:
            return None
        speeds = done.speeds
        settled.append(done)
        own_rounds = done.rounds if problem.policy is Policy.hierarchical else joined(classes, done.rounds)
        levels = [told(problem.policy, one.level) for one in own_rounds]
        rounds += rounds_of(classes, own_rounds, priority, levels, speeds)
        if not rank:
            prices = _worth_of_gpus(problem, classes, rising, done.rounds[0].level, done.rounds[0].proof)
    found = yield from gauge.of_needs(speeds)
    if found is None:
        return None
    shares = dealt(classes, found.values, speeds)
    lacking = shares.lacking(classes) & ~apart
    proofs = () if lacking.any() else tuple(rounds)  # not everyone stands where the rounds say
    bare = Plan(share_table=shares.table(classes), prices=prices)
    plan = right_of(problem, *([bare.model_copy(update={"rounds": proofs})] if proofs else []), bare)
    taken = plan is not None and (yield Offered(plan, PHASE, says_more=True))
    kept = plan if taken else None
    for rank, done in enumerate(settled if kept is not None else settled[:1]):
        yield Proved(names[2 * rank], _claim(problem, kept, classes, done, rank), f"{PHASE}: {method}")
        yield Proved(names[2 * rank + 1], 0.0, METHOD_SLACK)
    return lacking


def _claim(problem: Problem, plan: Plan | None, classes: Classes, done: Filled, rank: int) -> float:
    """The bound of a class's first goal, told in its unit: for less important jobs, that of plans as good as ``plan`` for the others.

    Rows are kept to within rounding, and where next to nothing is left for a class that may be much to it: a plan that has no more
    than that beyond what is proved stands at its bound.
    """
    jobs = classes.market.jobs
    if not rank or plan is None:
        return told(problem.policy, done.bound(classes, np.zeros(jobs.count, dtype=np.bool_), done.speeds))
    above, own = jobs.priority > jobs.classes[rank], jobs.priority == jobs.classes[rank]
    division = division_of(problem, plan)
    bound = told(problem.policy, done.bound(classes, above, division.judged))
    goal = goal_names(problem)[2 * rank]
    attained = value_of(problem, division, plain_name(goal), own)
    weaker = max(bound, attained) if sense_of(goal) is Sense.maximise else min(bound, attained)
    return weaker if done.seen.explains(classes, np.where(above | own, division.judged, 0.0)) else bound


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    """Tells of a first level as soon as it is known: its bound, and a plan that attains it, before the others rise further.

    ``goal`` is empty for less important jobs: their bounds hold for what the others have in the end, and are told with the plan.
    """

    problem: Problem
    gauge: Gauging
    goal: str
    method: str

    def bound(self, done: Filled) -> Generator[Step, Any, None]:
        """Tell of what the first round proved."""
        if self.goal:
            none = np.zeros(len(done.speeds), dtype=np.bool_)
            yield Proved(self.goal, told(self.problem.policy, done.bound(self.gauge.classes, none, done.speeds)), self.method)

    def first(self, done: Filled) -> Generator[Step, Any, None]:
        """Tell of what everyone has after the first rounds."""
        if not self.goal:
            return
        found = yield from self.gauge.of_needs(done.speeds)
        if found is not None:
            shares = dealt(self.gauge.classes, found.values, done.speeds)
            plan = None if shares.short.any() else right_of(self.problem, Plan(share_table=shares.table(self.gauge.classes)))
            if plan is not None:
                yield Offered(plan, "first level")


def _first_guess(market: Market, rising: Rising) -> float:
    """Half again what equal split attains."""
    at = rising.of(market.jobs.equal)[rising.rising]
    return 1.5 * float(at.min(initial=np.inf)) if len(at) else 0.0


def _worth_of_gpus(problem: Problem, classes: Classes, rising: Rising, level: float, proof: Gauged | None) -> tuple[Price, ...]:
    """By how much the first goal gains with one more GPU of each accelerator, by the duals of its level."""
    if proof is None or level <= 0.0:
        return ()
    step = 1e-6 * level
    steep = (proof.proves(classes, rising.speeds(level)) - proof.proves(classes, rising.speeds(level - step))) / step
    if steep <= 0.0:
        return ()
    scale = 1.0 / steep
    if told(problem.policy, 2.0) != 2.0:  # noqa: PLR2004  (told as one over it: its change is that of the level over its square)
        scale /= level * level
    return tuple(
        Price(
            accelerator=name, price=min(float(price * scale), LARGEST_QUANTITY), packed_price=min(float(packed * scale), LARGEST_QUANTITY)
        )
        for name, price, packed in zip(classes.market.accelerators.ids, proof.prices.gpu, proof.prices.packed, strict=True)
    )

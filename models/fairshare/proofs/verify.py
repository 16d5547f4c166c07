"""How far the levels of a plan could still rise, recomputed from its rounds' proofs.

For the jobs that a round settles, with level l: let every other job of the class keep what it has or what l needs, whichever is less, and
jobs of more important classes keep what they have. What the proof says of the worth of all speeds then bounds the level to which the
settled jobs could rise together. Every quantity but the prices is recomputed, and whatever the prices are, the bound is valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Violation
from models.fairshare.levels.scales import Levels, job_levels
from models.fairshare.levels.tenants import rising_rates
from models.fairshare.market import market_of
from models.fairshare.proofs.prices import Proof, proof_of
from models.fairshare.schema import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.broken import Broken
    from models.fairshare.market import Market
    from models.fairshare.proofs.schema import Round
    from models.fairshare.schema import Plan, Problem
    from models.program import Floats, Ints

LOWEST = 0.01  # levels are compared with at least this part of what equal split attains: near 0 nothing is relative
WORTHLESS = 1e-9  # a job whose part in a proof is below this part of the largest one is not proved by it
STEPS = 3  # of Newton's method, each from one valid bound to a better one


@dataclass(frozen=True, eq=False)
class Slack:
    """By how much each job's level could rise, relative to itself; both of shape (jobs,).

    ``together``: if all that its round settles rise alike. ``alone``: if all the rest of what the proof leaves open went to this job.
    """

    together: Floats
    alone: Floats


def proved_slack(problem: Problem, plan: Plan, speed: Floats, broken: Broken) -> Slack:
    """The slack of every job at its ``speed`` (jobs,), by what the rounds of ``plan`` prove; notes rounds that are malformed.

    A job that no round proves may rise to what it could be if it were alone in the cluster.
    """
    market = market_of(problem)
    simple = _simple_slack(problem, market, speed)
    slack = Slack(simple.copy(), simple.copy())
    hierarchical = problem.policy == "hierarchical"
    for number, one in enumerate(plan.rounds):
        if one.priority not in market.jobs.classes:
            broken.add(Violation(Rule.fairness_proof, (), 1.0, "", f"round {number} is about priority {one.priority}, which no job has"))
    for priority in market.jobs.classes:
        rounds = [(number, one) for number, one in enumerate(plan.rounds) if one.priority == priority]
        _Climb(problem, priority, speed, slack, hierarchical=hierarchical).all_rounds(rounds, broken)
    return slack


def highest_speed(market: Market) -> Floats:
    """The most steps/s that one copy could count with, if it had a cluster of its own, company included; shape (jobs,)."""
    ways = market.ways
    most = np.zeros((market.workloads.count, market.accelerators.count))
    np.maximum.at(most, (ways.first, ways.accelerator), ways.first_speed)
    paired = ways.second >= 0
    np.maximum.at(most, (ways.second[paired], ways.accelerator[paired]), ways.second_speed[paired])
    top: Floats = (most * market.factors).max(axis=2).min(axis=0)
    if market.budget is not None:
        top = np.minimum(top, hedged_speed(most, market.workloads.slow_factor, market.budget))
    return top[market.jobs.workload]


def hedged_speed(speed: Floats, slow_factor: Floats, budget: float) -> Floats:
    """The most that a job's worst speed can be, however it spreads its time over accelerators; shape (workloads,).

    ``speed``, ``slow_factor``: (workloads, accelerators). By the minimax theorem it is the least t such that slowing every accelerator
    down to t, as far as that is possible, stays within the budget: ``sum_a max(1 - t / speed_a, 0) / (1 - slow_factor_a) <= budget``.
    """
    low, high = (speed * slow_factor).max(axis=1), speed.max(axis=1)
    depth = np.where(slow_factor < 1.0, 1.0 - slow_factor, 1.0)
    safe = np.where(speed > 0.0, speed, 1.0)
    for _ in range(60):
        middle = (low + high) / 2.0
        spent = (np.maximum(1.0 - middle[:, None] / safe, 0.0) * (speed > 0.0) / depth).sum(axis=1)
        low, high = np.where(spent <= budget, low, middle), np.where(spent <= budget, middle, high)
    found: Floats = high
    return found


def _simple_slack(problem: Problem, market: Market, speed: Floats) -> Floats:
    levels = job_levels(problem.policy, market.jobs)
    return _relative(levels, market, levels.of(highest_speed(market)), speed)


def _relative(levels: Levels, market: Market, highest: Floats, speed: Floats) -> Floats:
    """How far ``highest`` (jobs,), a level, is above what ``speed`` attains, relative to that."""
    attained = levels.of(speed)
    usual = np.maximum(attained, LOWEST * levels.of(market.jobs.equal))
    return np.maximum(0.0, highest - attained) / usual


class _Climb:
    """The rounds of one class, one after another."""

    def __init__(self, problem: Problem, priority: int, speed: Floats, slack: Slack, *, hierarchical: bool) -> None:
        self._problem, self._market = problem, market_of(problem)
        self._speed, self._slack, self._hierarchical = speed, slack, hierarchical
        self._levels = job_levels(problem.policy, self._market.jobs)
        self._own = self._market.jobs.priority == priority
        self._above = self._market.jobs.priority > priority
        self._settled = np.zeros(self._market.jobs.count, dtype=np.bool_)
        self._reached = np.zeros(self._market.jobs.count)  # hierarchical: speed that is needed at the level before this round
        self._last = 0.0

    def all_rounds(self, rounds: list[tuple[int, Round]], broken: Broken) -> None:
        for number, one in rounds:
            fault = self._round(one)
            if fault is not None:
                broken.add(Violation(Rule.fairness_proof, one.settled[:3], 1.0, "", f"round {number} {fault}"))
                return

    def _round(self, one: Round) -> str | None:
        """Take in one round; what is wrong with it, if anything."""
        members = self._members(one)
        if isinstance(members, str):
            return members
        proof = proof_of(self._problem, one)
        if isinstance(proof, str):
            return proof
        fault = self._climb(one, members, proof) if self._hierarchical else self._rise(one, members, proof)
        self._settled[members] = True
        return fault

    def _members(self, one: Round) -> Ints | str:
        at = self._market.jobs.at
        for name in one.settled:
            if name not in at:
                return f"settles '{name}', which is no job of the problem"
            if not self._own[at[name]] or self._settled[at[name]]:
                return f"settles '{name}', which is of another class or was settled before"
        if not one.settled or len(set(one.settled)) < len(one.settled):
            return "settles no job, or one of them twice"
        return np.fromiter((at[name] for name in one.settled), np.int64, len(one.settled))

    def _rise(self, one: Round, members: Ints, proof: Proof) -> str | None:
        """A round of a policy whose jobs each have a level."""
        attained = float(self._levels.of(self._speed)[members].min())
        claimed = self._levels.meant(one.level)
        if claimed > attained + TOLERANCE * max(attained, LOWEST * float(self._levels.of(self._market.jobs.equal)[members].min())):
            return f"tells the level {one.level:g}, and a job that it settles has {self._levels.told(attained):g}"
        level = min(claimed, attained)
        floors = np.where(self._own, np.minimum(self._speed, self._levels.need(level)), np.where(self._above, self._speed, 0.0))
        highest = self._bounds(proof, members, floors, level, self._levels.need, self._levels.steepness)
        for found, bound in zip((self._slack.together, self._slack.alone), highest, strict=True):
            proved = np.full(len(floors), np.inf)
            proved[members] = bound
            found[members] = np.minimum(found, _relative(self._levels, self._market, proved, self._speed))[members]
        return None

    def _climb(self, one: Round, members: Ints, proof: Proof) -> str | None:
        """A round of ``hierarchical``: from where the jobs are, each rises at its rate."""
        jobs = self._market.jobs
        rising = self._own & ~self._settled
        steep = rising_rates(self._problem, rising) * jobs.par
        begin, reached = self._last, self._reached
        level = max(one.level, begin)

        def need(at: float) -> Floats:
            return reached + steep * (at - begin)

        short = rising & (self._speed < need(level) * (1.0 - TOLERANCE) - TOLERANCE * LOWEST * jobs.equal)
        if short.any():
            return f"tells the level {one.level:g}, which job '{jobs.ids[int(np.flatnonzero(short)[0])]}' has not reached"
        floors = np.where(rising, np.minimum(self._speed, need(level)), np.where(self._own | self._above, self._speed, 0.0))
        highest = self._bounds(proof, members, floors, level, need, lambda at: steep)  # noqa: ARG005  (needs rise evenly)
        usual = np.maximum(self._speed, LOWEST * jobs.equal)[members]
        for found, bound in zip((self._slack.together, self._slack.alone), highest, strict=True):
            most = reached[members] + steep[members] * (bound - begin)
            most = np.where(steep[members] > 0.0, most, np.inf)
            found[members] = np.minimum(found[members], np.maximum(0.0, most - self._speed[members]) / usual)
        self._reached, self._last = np.where(rising, need(level), reached), level
        return None

    def _bounds(
        self, proof: Proof, members: Ints, floors: Floats, level: float, need: Callable[[float], Floats], steep: Callable[[float], Floats]
    ) -> tuple[Floats, Floats]:
        """The highest level of each member, when all rise together and when it alone does; both shape (members,)."""
        copies, group = self._market.jobs.copies, proof.group
        others = np.ones(len(floors), dtype=np.bool_)
        others[members] = False
        held = float((copies * proof.worth(group, floors)[0])[others].sum())
        room = proof.most - held

        def worth_at(at: float) -> tuple[Floats, Floats]:
            value, slope = proof.worth(group[members], need(at)[members])
            rate = np.where(slope > 0.0, slope * steep(at)[members], 0.0)
            return copies[members] * value, copies[members] * rate

        values, rates = worth_at(level)
        gap = max(0.0, room - float(values.sum()))
        proved = rates > WORTHLESS * rates.max(initial=0.0)
        alone = np.where(proved, level + gap / np.where(proved, rates, 1.0), np.inf)
        together = _newton(worth_at, room, level)
        return np.where(proved, together, np.inf), alone


def _newton(worth_at: Callable[[float], tuple[Floats, Floats]], room: float, level: float) -> float:
    """A level above which the convex worth of all members exceeds ``room``: every step of Newton's method is one."""
    best = np.inf
    for _ in range(STEPS):
        values, rates = worth_at(level)
        rate, rest = float(rates.sum()), room - float(values.sum())
        if not np.isfinite(rest) or not np.isfinite(rate):  # beyond what any job can need: no better bound from here
            return best
        if rate <= 0.0:
            return best
        level = max(level, level + rest / rate) if np.isinf(best) else level + min(0.0, rest / rate)
        best = min(best, level)
    return best

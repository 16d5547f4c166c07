"""What a plan is worth and which rules it breaks, recomputed from Problem and Plan alone."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.broken import Broken
from models.contract import Verdict, Violation
from models.fairshare.goals import goal_class, goal_names, goals, plain_name
from models.fairshare.plans.division import division_of
from models.fairshare.plans.measures import measures, value_of
from models.fairshare.proofs.verify import Slack, proved_slack
from models.fairshare.schema import Rule
from models.kept import Kept

if TYPE_CHECKING:
    from models.fairshare.plans.division import Division
    from models.fairshare.schema import Plan, Problem

__all__ = ["goals", "prepare", "verify"]


MOST_KNOWN = 4  # verdicts of a problem's plans


def verify(problem: Problem, plan: Plan) -> Verdict:
    """Every rule, every goal and the facts worth showing.

    Neither a problem nor a plan ever changes, so that the verdict of the very same two, if it was asked for lately, is told again.
    """
    known = _verdicts.of(problem)
    for one, verdict in known:
        if one() is plan:
            return replace(verdict, objectives=dict(verdict.objectives), metrics=dict(verdict.metrics))
    verdict = _verdict(problem, plan)
    known[:] = [(weakref.ref(plan), verdict), *known][:MOST_KNOWN]
    return replace(verdict, objectives=dict(verdict.objectives), metrics=dict(verdict.metrics))


def _none_known(_: Problem) -> list[tuple[weakref.ref[Plan], Verdict]]:
    return []


_verdicts = Kept(_none_known)


def _verdict(problem: Problem, plan: Plan) -> Verdict:
    division = division_of(problem, plan)
    broken = Broken()
    _rules(problem, division, broken)
    names = goal_names(problem)
    slack = proved_slack(problem, plan, division.judged, broken) if "fair_slack" in map(plain_name, names) else None
    objectives = {name: _value(problem, division, slack, name) for name in names}
    metrics = measures(problem, division)
    if slack is not None:
        metrics["rise_alone"] = float(slack.alone.max())
    metrics["shares"] = float(len(division.gangs))
    return Verdict(objectives, broken.told, broken.count, metrics)


def prepare(problem: Problem) -> None:
    """Make the arrays that ``verify`` will ask for."""
    from models.fairshare.market import market_of

    market_of(problem)


def _value(problem: Problem, division: Division, slack: Slack | None, name: str) -> float:
    own = division.market.jobs.priority == goal_class(problem, name)
    if slack is not None and plain_name(name) == "fair_slack":
        return float(slack.together[own].max())
    return value_of(problem, division, plain_name(name), own)


def _rules(problem: Problem, division: Division, broken: Broken) -> None:
    market = division.market
    jobs, accelerators = market.jobs, market.accelerators
    for ids, text in division.odd:
        broken.add(Violation(Rule.runnable, ids, 1.0, "gangs", text))

    def time(job: int) -> tuple[tuple[str, ...], str]:
        return (jobs.ids[job],), f"job '{jobs.ids[job]}' runs {division.time[job]:g} gangs on average, and there are {jobs.copies[job]:g}"

    broken.where(Rule.job_time, division.time - jobs.copies, jobs.copies, "gangs", time)

    def capacity(place: int) -> tuple[tuple[str, ...], str]:
        name = accelerators.ids[place]
        return (name,), f"{division.gpus_used[place]:g} GPUs of '{name}' are in use, and there are {accelerators.count_gpus[place]:g}"

    broken.where(Rule.accelerator_capacity, division.gpus_used - accelerators.count_gpus, accelerators.count_gpus, "GPUs", capacity)

    def packed(place: int) -> tuple[tuple[str, ...], str]:
        name, room = accelerators.ids[place], accelerators.packed_gpus[place]
        return (name,), f"consolidated gangs use {division.packed_used[place]:g} GPUs of '{name}', and {room:g} stand in whole blocks"

    excess = np.where(accelerators.limits_packing, division.packed_used - accelerators.packed_gpus, 0.0)
    broken.where(Rule.packed_capacity, excess, accelerators.packed_gpus, "GPUs", packed)

    def budget(job: int) -> tuple[tuple[str, ...], str]:
        said = f"one '{jobs.ids[job]}' costs {division.spending[job]:g} USD/h, and its budget is {jobs.budget[job]:g}"
        return (jobs.ids[job],), said

    broken.where(Rule.job_budget, division.spending - jobs.budget, jobs.budget, "USD/h", budget)
    if problem.policy == "least_cost":
        _promises(problem, division, broken)


def _promises(problem: Problem, division: Division, broken: Broken) -> None:
    """Deadlines and least shares; what is missing is told relative to what must be, as speeds have every size."""
    jobs, speed = division.market.jobs, division.judged
    due = jobs.due_speed
    missing = np.where(due > 0.0, 1.0 - speed / np.where(due > 0.0, due, 1.0), 0.0)

    def late(job: int) -> tuple[tuple[str, ...], str]:
        name = jobs.ids[job]
        return (name,), f"job '{name}' gets {speed[job]:g} steps/s, and needs {due[job]:g} to be done by {jobs.deadline_s[job]:g} s"

    broken.where(Rule.deadline, missing, 1.0, "of the speed it needs", late)
    least = np.where(np.isinf(jobs.deadline_s), problem.least_share, 0.0) * jobs.equal
    missing = np.where(least > 0.0, 1.0 - speed / np.where(least > 0.0, least, 1.0), 0.0)

    def poor(job: int) -> tuple[tuple[str, ...], str]:
        name = jobs.ids[job]
        return (name,), f"job '{name}' gets {speed[job]:g} steps/s, and {problem.least_share:g} of its equal split are {least[job]:g}"

    broken.where(Rule.least_share, missing, 1.0, "of its least share", poor)

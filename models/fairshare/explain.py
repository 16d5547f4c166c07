"""Why GPU time is shared as it is: which accelerator binds and what one more GPU is worth, and why a job has the share it has.

What is full, spent or used up is counted. That nobody can rise is proved by the prices of the plan's rounds, worked out again here as
``verify`` does. All else is told as heuristic.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from models.contract import Reason
from models.fairshare.explain_shares import Told
from models.fairshare.explain_words import CUT_COLUMNS, FIRM_RULES, repair_in, repair_text, rule_units
from models.fairshare.market import market_of
from models.fairshare.verify import verify

if TYPE_CHECKING:
    from models.fairshare.schema import Plan, Problem

__all__ = ["CUT_COLUMNS", "FIRM_RULES", "LEFT_OUT", "alike", "explain", "repair_in", "repair_text", "rule_units", "subjects"]

LEFT_OUT = "Less than under equal split, or late"


def explain(problem: Problem, plan: Plan, subject: str | None = None, seconds: float = math.inf) -> tuple[Reason, ...]:
    """The reasons for a plan, or all that can be told about one ``subject``: an accelerator, a job or a tenant by its id.

    Raises KeyError for an id that none of them has.
    """
    if subject is not None and subject not in subjects(problem, plan):
        raise KeyError(f"'{subject}' is no accelerator, job or tenant of this problem")
    verdict = verify(problem, plan)
    if not verdict.ok:
        first = verdict.violations[0]
        text = f"The plan breaks rules ({verdict.violation_count:,} times), first of all: {first.message}. It is not explained further."
        return (Reason(subject or "", "summary", str(first.rule), first.ids, text, "proved"),)
    told = Told(problem, plan, verdict, seconds)
    return tuple(told.everything() if subject is None else told.about(subject))


def subjects(problem: Problem, plan: Plan) -> tuple[str, ...]:
    """The ids one may ask about: accelerators, jobs, tenants."""
    del plan
    market = market_of(problem)
    return tuple(dict.fromkeys((*market.accelerators.ids, *market.jobs.ids, *(one.id for one in problem.tenants))))


def alike(problem: Problem, plan: Plan) -> tuple[tuple[str, ...], ...]:
    """Jobs of one workload and class that get less than under equal split, in groups: they have the same reasons for it."""
    from models.fairshare.plans.division import division_of
    from models.fairshare.plans.measures import JUST

    jobs = market_of(problem).jobs
    short = division_of(problem, plan).judged < JUST * jobs.equal
    groups: dict[tuple[int, int], list[str]] = {}
    for place in short.nonzero()[0].tolist():
        groups.setdefault((int(jobs.workload[place]), int(jobs.priority[place])), []).append(jobs.ids[place])
    return tuple(tuple(group) for group in groups.values())

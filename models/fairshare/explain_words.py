"""The words of conflicts and repairs: what gives way, in the problem's own numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from models.fairshare.market import market_of
from models.fairshare.schema import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.fairshare.schema import Problem

HOUR_S, DAY_S = 3600.0, 86_400.0
FIRM_RULES = frozenset({Rule.job_time.value})  # a job has no more than all of its time: nobody can give way there
CUT_COLUMNS: frozenset[str] = frozenset()  # no bound of a column repeats a row

_UNITS = {
    Rule.job_time: "gangs",
    Rule.accelerator_capacity: "GPUs",
    Rule.packed_capacity: "GPUs",
    Rule.job_budget: "USD/h",
    Rule.deadline: "steps/s",
    Rule.least_share: "steps/s",
    Rule.runnable: "gangs",
    Rule.fairness_proof: "",
}
_PLAIN = {
    Rule.job_time: "job '{}': it would have to run {} gangs more than there are",
    Rule.accelerator_capacity: "accelerator '{}': {} more GPUs",
    Rule.packed_capacity: "accelerator '{}': {} more GPUs in whole blocks",
    Rule.job_budget: "job '{}': {} USD/h more of budget, all its copies together",
    Rule.deadline: "job '{}': {} steps/s less than its deadline asks for",
    Rule.least_share: "job '{}': {} steps/s less than its least share",
}


def rule_units() -> dict[str, str]:
    """The unit in which the exact program counts each rule."""
    return {rule.value: unit for rule, unit in _UNITS.items()}


def repair_text(rule: str, ids: Sequence[str], excess: float) -> str:
    """``accelerator 'v100': 2 more GPUs``."""
    text = _PLAIN.get(Rule(rule)) if rule in {one.value for one in Rule} else None
    return text.format(ids[0], rounded_up(excess)) if text is not None and ids else f"{rule}: {rounded_up(excess)} short"


def repair_in(problem: Problem, rule: str, ids: Sequence[str], excess: float, *, too_few: bool) -> str:
    """The same with the problem's numbers: ``job 'j7': a deadline 3 h later``."""
    del too_few  # each rule gives way in one direction only
    market = market_of(problem)
    name = ids[0] if ids else ""
    if rule == Rule.accelerator_capacity and name in market.accelerators.at:
        count = int(market.accelerators.count_gpus[market.accelerators.at[name]])
        return f"accelerator '{name}': {math.ceil(excess - 1e-9)} more GPUs, it has {count} ({rounded_up(excess)} are missing on average)"
    if rule == Rule.packed_capacity and name in market.accelerators.at:
        count = int(market.accelerators.packed_gpus[market.accelerators.at[name]])
        return f"accelerator '{name}': {math.ceil(excess - 1e-9)} more GPUs in whole blocks, where {count} stand so"
    if name in market.jobs.at and rule in {Rule.deadline, Rule.least_share, Rule.job_budget}:
        return _for_job(problem, rule, market.jobs.at[name], excess)
    return repair_text(rule, ids, excess)


def _for_job(problem: Problem, rule: str, job: int, excess: float) -> str:
    """What a job can do without, or must have more."""
    jobs = market_of(problem).jobs
    name = jobs.ids[job]
    if rule == Rule.deadline:
        return _later(problem, job, excess)
    if rule == Rule.least_share:
        kept = max(0.0, problem.least_share - excess / float(jobs.equal[job]))
        return f"least_share: at most {math.floor(kept * 1e6) / 1e6:.6g} in place of {problem.least_share:g}, for job '{name}'"
    each, budget = excess / float(jobs.copies[job]), float(jobs.budget[job])
    return f"job '{name}': raise its budget from {budget:.6g} by {rounded_up(each)} USD/h"


def _later(problem: Problem, job: int, short: float) -> str:
    """By how much a deadline would have to move so that ``short`` steps/s less are enough."""
    jobs = market_of(problem).jobs
    name, left = jobs.ids[job], float(jobs.due_speed[job]) - short
    if left <= 1e-9 * float(jobs.due_speed[job]):
        return f"job '{name}': no deadline, it gets nothing otherwise"
    late = float(jobs.remaining[job]) / left - (float(jobs.deadline_s[job]) - problem.now_s)
    return f"job '{name}': a deadline {duration(late, up=True)} later"


def duration(seconds: float, *, up: bool = False) -> str:
    """``3 h``: in the unit that suits it; rounded up where less would not do."""
    unit, size = ("s", 1.0) if seconds < HOUR_S else ("h", HOUR_S) if seconds < 3 * DAY_S else ("days", DAY_S)
    return f"{rounded_up(seconds / size, 4) if up else format(seconds / size, '.4g')} {unit}"


def rounded_up(amount: float, digits: int = 6) -> str:
    """An amount with six digits at most, rounded up: a repair told too small would not do."""
    if amount <= 0 or not math.isfinite(amount):
        return f"{amount:g}"
    unit = 10.0 ** (math.floor(math.log10(amount)) - digits + 1)
    return f"{math.ceil(amount / unit - 1e-3) * unit:.12g}"

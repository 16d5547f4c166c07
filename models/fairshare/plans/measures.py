"""What a division is worth: the value of every goal, and the facts that a verdict shows beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.goals import goal_names, plain_name
from models.fairshare.levels.scales import NEVER, job_levels
from models.fairshare.levels.tenants import starting_rates
from models.fairshare.plans.division import judged_speed, scenario_speeds
from models.fairshare.plans.envy import envious_jobs
from models.fairshare.plans.equal_split import equal_cost, equal_work

if TYPE_CHECKING:
    from models.fairshare.market import Jobs, Market
    from models.fairshare.plans.division import Division
    from models.fairshare.schema import Problem
    from models.program import Bools, Floats

JUST = 1.0 - 1e-6  # a speed that is less than this of another is less than it


def value_of(problem: Problem, division: Division, name: str, own: Bools) -> float:
    """The value of a goal, called without its class, over the jobs of ``own`` (jobs,)."""
    if name == "cost":
        return _cost(division.market.jobs, division.spending, own)
    return _value(problem, division.market, division.work, name, own)


def _cost(jobs: Jobs, spending: Floats, own: Bools) -> float:
    return float((jobs.copies * spending)[own].sum())


def _value(problem: Problem, market: Market, work: Floats, name: str, own: Bools) -> float:
    """The value of a goal at ``work`` (jobs, accelerators), the steps/s of each job on each accelerator."""
    jobs = market.jobs
    if name == "throughput":
        worth = (jobs.copies * jobs.weight / jobs.best)[own]
        return float((scenario_speeds(market, work)[:, own] @ worth).min())
    speed = judged_speed(market, work)[own]
    if name == "geometric_mean":
        counted = market.affordable[own]
        return geometric_mean((speed / jobs.par[own])[counted], (jobs.copies * jobs.weight)[own][counted])
    if problem.policy == "hierarchical":
        rates = starting_rates(problem)[own]
        rising = rates > 0.0
        return float((speed[rising] / (rates * jobs.par[own])[rising]).min())
    levels = job_levels(problem.policy, jobs)
    return levels.told(float((levels.scale[own] * speed / (levels.remaining[own] + levels.elapsed[own] * speed)).min()))


def geometric_mean(values: Floats, weights: Floats) -> float:
    """``exp(sum w ln v / sum w)``, 0 where a value is, or where there is none."""
    if not len(values) or (values <= 0.0).any():
        return 0.0
    return float(np.exp(weights @ np.log(values) / weights.sum()))


def measures(problem: Problem, division: Division) -> dict[str, float]:
    """The facts of a verdict, in plain numbers."""
    market, jobs = division.market, division.market.jobs
    speed, every = division.judged, np.ones(jobs.count, dtype=np.bool_)
    found = {
        "smallest_share": float((speed / jobs.par).min()),
        "throughput": _value(problem, market, division.work, "throughput", every),
        "cost_usd_per_hour": _cost(jobs, division.spending, every),
        "gpus_busy": float(division.gpus_used.sum()),
        "below_equal_split": float(jobs.copies[speed < JUST * jobs.equal].sum()),
        "jobs": market.copies,
    }
    if not np.isnan(jobs.remaining).any():
        slowest = float((speed / jobs.remaining).min())
        found["makespan_s"] = NEVER if slowest <= 1.0 / NEVER else 1.0 / slowest
    found["envious"] = float(jobs.copies[envious_jobs(division)].sum())
    first = plain_name(goal_names(problem)[0])
    split = equal_work(market)
    if first == "cost":
        found["equal_split_cost"] = _cost(jobs, equal_cost(market), every)
    else:
        found[f"equal_split_{first}"] = _value(problem, market, split, first, every)
    return found

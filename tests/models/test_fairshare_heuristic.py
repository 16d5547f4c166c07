"""The plan at once: always right, equal split where nothing better is obvious, and no better than the simple bounds."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from models.fairshare.heuristic import heuristic, plan_of, simple_bounds
from models.fairshare.market import market_of
from models.fairshare.plans.division import division_of
from models.fairshare.plans.equal_split import equal_division, equal_work
from models.fairshare.schema import Job, Plan, Policy, Problem
from models.fairshare.verify import goals, verify
from tests.models.fairshare_problems import POLICIES, halves, random_problem, two_by_two


@pytest.mark.parametrize("seed", range(150))
def test_it_is_right_and_no_better_than_the_bounds(seed: int) -> None:
    problem = random_problem(seed)
    plan = heuristic(problem)
    if plan is None:
        assert problem.policy == "least_cost"
        return
    verdict = verify(problem, plan)
    assert verdict.ok, verdict.violations
    bounds = simple_bounds(problem)
    assert list(bounds) == list(verdict.objectives)
    assert not [goal.name for goal in goals(problem) if goal.better(verdict.objectives[goal.name], bounds[goal.name])]
    assert heuristic(problem, seed=7) == plan


@pytest.mark.parametrize("seed", range(40))
def test_equal_split_is_always_feasible(seed: int) -> None:
    """It gives every job its equal speed, but where whole blocks or budgets are too small."""
    problem = random_problem(seed, Policy.max_min_fair)
    division = equal_division(problem)
    assert verify(problem, plan_of(division)).ok
    market = market_of(problem)
    assert (division.work <= equal_work(market) * (1 + 1e-9)).all()
    if not market.accelerators.limits_packing.any() and np.isinf(market.jobs.budget).all():
        assert division.speed == pytest.approx(market.jobs.equal)


@pytest.mark.parametrize("policy", POLICIES)
def test_by_hand(policy: Policy) -> None:
    """Equal split of the two by two problem leaves nothing; throughput gives each the GPU where it is worth most."""
    plan = heuristic(two_by_two(policy))
    assert plan is not None
    found = {(share.jobs[0], share.accelerator): share.gangs for share in plan.shares}
    if policy is Policy.throughput:
        assert found == {("a", "fast"): 1.0, ("b", "slow"): 1.0}
    elif policy is Policy.least_cost:
        assert found == {}  # nothing is promised
    else:
        assert found == {(share.jobs[0], share.accelerator): share.gangs for share in halves().shares}


def due(steps: float, deadline_s: float) -> Problem:
    problem = two_by_two(Policy.least_cost)
    job = problem.jobs[0].model_copy(update={"remaining_steps": steps, "deadline_s": deadline_s})
    return Problem.model_validate(problem.model_copy(update={"jobs": (job,)}).model_dump())


def test_a_deadline_is_met_where_a_step_is_cheapest() -> None:
    """Job a does a step for 3/4 on the fast GPU and for 1 on the slow one, per h of 1 step/s."""
    plan = heuristic(due(100.0, 50.0))
    assert plan is not None
    verdict = verify(due(100.0, 50.0), plan)
    assert verdict.ok
    assert verdict.objectives["cost"] == pytest.approx(3.0 * 2.0 / 4.0)
    assert simple_bounds(due(100.0, 50.0))["cost"] == pytest.approx(1.5)


def test_no_plan_where_a_deadline_is_too_near() -> None:
    assert heuristic(due(500.0, 100.0)) is None


def test_very_many_shares_come_as_a_table() -> None:
    problem = two_by_two()
    jobs = tuple(Job(id=f"j{number}", workload="ab"[number % 2], remaining_steps=1.0) for number in range(1500))
    problem = Problem.model_validate(problem.model_copy(update={"jobs": jobs}).model_dump())
    plan = heuristic(problem)
    assert plan is not None
    assert plan.shares == ()
    assert plan.share_table is not None
    assert len(plan.share_table.first) == 3000
    assert verify(problem, plan).ok
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert division_of(problem, plan).speed == pytest.approx(market_of(problem).jobs.equal)


def of_every_size(seed: int) -> Problem:
    """A random problem whose numbers are at both ends of what the schema takes."""
    draw, content = random.Random(seed), random_problem(seed).model_dump()
    for workload in content["workloads"]:
        for speed in workload["speeds"]:
            factor = draw.choice((1e-12, 1e-6, 1.0, 1e6, 1e11))
            speed |= {name: value * factor for name, value in speed.items() if isinstance(value, float)}
    for accelerator in content["accelerators"]:
        accelerator |= {"count": max(accelerator["count"], draw.choice((8, 10**9))), "usd_per_hour": draw.choice((0.0, 1e-9, 1e12))}
    for job in content["jobs"]:
        job |= {"weight": draw.choice((1e-9, 1.0, 1e12)), "count": draw.choice((1, 2, 10**9)), "total_steps": None}
        job |= {"remaining_steps": draw.choice((1e-9, 1.0, 1e12)), "arrival_s": draw.choice((-1e12, 100.0))}
        if job["budget_usd_per_hour"] is not None:
            job["budget_usd_per_hour"] = draw.choice((0.0, 1e-9, 1e12))
        if job["deadline_s"] is not None:
            job["deadline_s"] = draw.choice((100.0000001, 1e12))
    return Problem.model_validate(content)


@pytest.mark.parametrize("seed", range(120))
def test_numbers_of_every_size_are_finite_in_the_end(seed: int) -> None:
    problem = of_every_size(seed)
    assert all(math.isfinite(bound) for bound in simple_bounds(problem).values())
    for plan in (heuristic(problem), Plan()):
        if plan is not None:
            verdict = verify(problem, plan)
            assert all(math.isfinite(value) for value in (*verdict.objectives.values(), *verdict.metrics.values()))
            assert verdict.ok or plan == Plan()

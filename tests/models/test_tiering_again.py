"""Tierings one after another: prices that one leaves to the next change where the search begins, not what it finds."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from benchmarks.objects import objects
from models.tiering import scale
from models.tiering.again import MEMORY, recalled, remember
from models.tiering.options import options_of
from models.tiering.schema import GoalName, Plan, Problem, Rule, TierPrice
from optimizer.limits import Limits
from optimizer.result import Outcome
from optimizer.solve import solve
from optimizer.study.executors.hot import HotSolver
from tests.models.test_tiering_scale import plain_problem

LIMITS = Limits(time_limit_s=5.0, gap=1e-3)


def varied(problem: Problem, seed: int, least: float = 0.8, most: float = 1.2) -> Problem:
    """The problem with other capacities."""
    draw = random.Random(seed)
    tiers = tuple(
        tier if tier.capacity_gib is None else tier.model_copy(update={"capacity_gib": tier.capacity_gib * draw.uniform(least, most)})
        for tier in problem.tiers
    )
    return problem.model_copy(update={"tiers": tiers})


def test_bounds_and_plans_hold_for_each_other() -> None:
    """By prices: the bound of one way never passes the plan of the other."""
    base = objects(2_100, 5, 1)
    limits = Limits(time_limit_s=5.0, gap=1e-2)
    hot = HotSolver(base, limits)
    for seed in range(3):
        problem = varied(base, seed)
        one, other = hot.solve(problem), solve(problem, limits, isolate=False)
        assert one.certificate is not None
        assert other.certificate is not None
        assert one.failure is None
        assert one.certificate.bound <= other.certificate.objective * (1 + 1e-9)
        assert other.certificate.bound <= one.certificate.objective * (1 + 1e-9)
        assert one.certificate.bound == pytest.approx(other.certificate.bound, rel=1e-3)
    assert MEMORY in hot.kept.memory


@pytest.mark.parametrize("seed", range(12))
def test_small_problems_by_prices(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those without a plan, and those where the prices that were left lead to none."""
    monkeypatch.setattr(scale, "EXACT_COLUMNS", 0)
    base = plain_problem(seed)
    hot = HotSolver(base, LIMITS)
    for number in range(4):
        problem = varied(base, number, 0.2, 1.5)
        one, other = hot.solve(problem), solve(problem, LIMITS, isolate=False)
        assert one.failure is None
        assert (one.outcome is Outcome.infeasible) == (other.outcome is Outcome.infeasible)
        assert (one.plan is None) == (other.plan is None)
        if one.certificate is not None and other.certificate is not None:
            slack = 1e-9 * max(1.0, abs(other.certificate.objective))
            assert one.certificate.bound <= other.certificate.objective + slack
            assert other.certificate.bound <= one.certificate.objective + slack


def test_what_is_remembered_goes_by_names() -> None:
    """A row that was not there has price 0; another goal has nothing."""
    problem = objects(200, 5, 0)
    options = options_of(problem, GoalName.cost)
    memory: dict[str, Any] = {}
    assert recalled(None, GoalName.cost, options) is None
    assert recalled(memory, GoalName.cost, options) is None
    remember(None, GoalName.cost, options, np.zeros(len(options.rows)))
    remember(memory, GoalName.cost, options, np.arange(1.0, len(options.rows) + 1))
    known = recalled(memory, GoalName.cost, options)
    assert known is not None
    assert known.tolist() == list(range(1, len(options.rows) + 1))
    del memory[MEMORY][GoalName.cost][options.rows[0].rule, options.rows[0].ids]
    fewer = recalled(memory, GoalName.cost, options)
    assert fewer is not None
    assert fewer[0] == 0.0
    assert recalled(memory, GoalName.access_time, options) is None


def test_a_carried_plan_leaves_its_prices_behind() -> None:
    """They are those of another problem."""
    told = Plan(prices=(TierPrice(rule=Rule.tier_capacity, tier="ssd", price=3.0),))
    assert scale.carried(objects(10, 5, 0), told, 1.0).prices == ()

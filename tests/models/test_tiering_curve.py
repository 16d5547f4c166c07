"""One tier's capacity at many values: every point's bound and plan against the exact program, and the laws of a capacity curve."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.hashcode import DATA, ME_AT_THE_ZOO, read
from benchmarks.objects import objects
from models.tiering.curve import CurvePoint, converse_curve, plan_at
from models.tiering.schema import GoalName, ObjectTable, Problem, Tier
from models.tiering.verify import verify
from optimizer.conversation import answered
from optimizer.limits import Limits
from optimizer.solve import solve
from tests.models.tiering_problems import exact, random_problem

LIMITS = Limits(time_limit_s=10)


def curve(problem: Problem, tier: str, capacities: list[float], gap: float = 1e-3) -> list[CurvePoint]:
    """What a caller does."""
    return answered(converse_curve(problem, tier, capacities, gap=gap), LIMITS)


def hdd(problem: Problem) -> float:
    return next(tier.capacity_gib for tier in problem.tiers if tier.id == "hdd") or 0.0


def test_every_point_has_a_bound_and_a_plan_that_keeps_the_limits() -> None:
    problem = objects(4_000, 5, 0)
    capacities = [float(hdd(problem) * factor) for factor in np.linspace(0.5, 1.8, 14)]
    points = curve(problem, "hdd", capacities, gap=5e-3)
    assert [point.capacity_gib for point in points] == capacities
    for point in points:
        told = plan_at(problem, point, "hdd")
        assert told is not None
        verdict = verify(*told)
        assert verdict.ok, verdict.violations
        assert verdict.objectives["cost"] == pytest.approx(point.value)
        assert point.bound <= verdict.objectives["cost"]
        assert point.gap <= 5e-3


def test_more_capacity_costs_less_and_each_gib_is_worth_less() -> None:
    problem = objects(3_000, 5, 4)
    points = curve(problem, "hdd", [float(hdd(problem) * factor) for factor in np.linspace(0.4, 2.5, 12)])
    bounds, prices = [point.bound for point in points], [point.price for point in points]
    slack = 1e-6 * abs(bounds[0])
    assert all(one >= other - slack for one, other in pairwise(bounds))
    steps = np.diff([point.capacity_gib for point in points])
    falls = -np.diff(bounds) / steps
    # Convex: between two capacities the bound falls by no more for a GiB than the price at the first, no less than that at the second.
    for fall, before, after in zip(falls, prices[:-1], prices[1:], strict=True):
        assert after * (1 - 0.05) - 1e-4 <= fall <= before * (1 + 0.05) + 1e-4


def test_points_enclose_the_exact_optimum() -> None:
    problem = objects(60, 5, 3)
    for point in curve(problem, "hdd", [0.5 * hdd(problem), hdd(problem)]):
        tiers = tuple(tier.model_copy(update={"capacity_gib": point.capacity_gib}) if tier.id == "hdd" else tier for tier in problem.tiers)
        truth = exact(problem.model_copy(update={"tiers": tiers}))
        if truth is None:
            assert point.value is None
            continue
        assert point.bound <= truth[1][0] * (1 + 1e-6)
        assert point.value is None or point.value >= truth[1][0] * (1 - 1e-6)


def test_too_little_room_is_proved_and_plenty_is_free() -> None:
    tiers = (Tier(id="a", capacity_gib=10.0, usd_per_gib_month=0.02), Tier(id="b", capacity_gib=10.0, usd_per_gib_month=0.1))
    problem = Problem(tiers=tiers, object_table=ObjectTable(size_gib=(1.0,) * 25))
    points = curve(problem, "a", [5.0, 15.0, 30.0, 1e6])
    assert points[0].bound == math.inf
    assert [point.value for point in points[1:]] == pytest.approx([15 * 0.02 + 10 * 0.1, 25 * 0.02, 25 * 0.02])
    assert [round(point.price, 9) for point in points[2:]] == [0.0, 0.0]


def test_what_makes_no_sense_is_refused() -> None:
    problem = objects(50, 5, 0)
    with pytest.raises(KeyError):
        curve(problem, "tape", [1.0])
    with pytest.raises(ValueError, match="at least 0"):
        curve(problem, "hdd", [-1.0])
    readers = next(one for one in map(random_problem, range(50)) if one.readers)
    with pytest.raises(ValueError, match="without readers"):
        curve(readers, "t0", [1.0])


def test_me_at_the_zoo_is_what_others_proved() -> None:
    path = DATA / ME_AT_THE_ZOO
    if not path.exists():
        pytest.skip("shared/data/hashcode is not here: its licence does not say that it may be copied")
    streaming = read(path)
    assert streaming.problem.goals == (GoalName.access_time,)
    result = solve(streaming.problem, Limits(time_limit_s=0.8), isolate=False)
    assert result.certificate is not None
    goal = result.certificate.goals[0]
    assert streaming.score(goal.objective) <= 516557.94 <= streaming.score(goal.bound) + 0.01


@pytest.mark.long
def test_me_at_the_zoo_is_proved() -> None:
    path = DATA / ME_AT_THE_ZOO
    if not path.exists():
        pytest.skip("shared/data/hashcode is not here: its licence does not say that it may be copied")
    streaming = read(path)
    result = solve(streaming.problem, Limits(time_limit_s=120, gap=1e-9))
    assert result.certificate is not None
    goal = result.certificate.goals[0]
    assert streaming.score(goal.objective) == pytest.approx(516557.93, abs=0.01)
    assert streaming.score(goal.bound) == pytest.approx(516557.93, abs=0.01)

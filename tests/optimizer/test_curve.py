"""One quantity at many values: every point against a solve of its own, whether the kind knows a short way or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.objects import objects
from models.catalogue import kinds
from models.tiering import curve as short_way
from models.tiering.examples import examples
from optimizer import curve as driver
from optimizer.curve import NoCurveError, WrongPointError, curve
from optimizer.limits import Limits
from optimizer.result import Outcome
from optimizer.solve import solve

if TYPE_CHECKING:
    from models.tiering.schema import Plan, Problem

LIMITS = Limits(time_limit_s=60.0, gap=1e-3)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Solves in this process: what a child adds is tested where it lives."""
    monkeypatch.setattr(driver, "solve", lambda problem, limits: solve(problem, limits, isolate=False))


def held(problem: Problem, tier: str) -> float:
    return next(one.capacity_gib or 0.0 for one in problem.tiers if one.id == tier)


@pytest.mark.parametrize("count", [40, 300])
def test_every_point_agrees_with_a_solve_of_its_own(count: int) -> None:
    problem = objects(count, 5, 1)
    values = [held(problem, "hdd") * factor for factor in (1.4, 0.7, 1.0)]
    points = curve(problem, "hdd", values, LIMITS)
    assert [point.value for point in points] == values
    for point in points:
        alone = solve(short_way.varied(problem, "hdd", point.value), LIMITS, isolate=False)
        assert alone.certificate is not None
        assert point.objective is not None
        assert point.bound is not None
        assert point.gap is not None
        assert point.gap <= LIMITS.gap
        assert point.bound <= alone.certificate.objective * (1 + 1e-9)
        assert alone.certificate.bound <= point.objective * (1 + 1e-9)


def test_a_problem_without_a_short_way_is_solved_value_by_value() -> None:
    problem = next(iter(examples().values()))
    assert not short_way.quick(problem)
    points = curve(problem, "nvme-north", [0.0, 40_000.0], LIMITS)
    for point in points:
        alone = solve(short_way.varied(problem, "nvme-north", point.value), LIMITS, isolate=False)
        assert alone.certificate is not None
        assert point.objective == pytest.approx(alone.certificate.objective, rel=LIMITS.gap)
    assert (points[1].objective or 0.0) < (points[0].objective or 0.0)


def test_too_little_is_proved_to_be_too_little() -> None:
    full = objects(60, 5, 1)
    problem = full.model_copy(update={"tiers": tuple(one.model_copy(update={"capacity_gib": 50.0}) for one in full.tiers)})
    assert solve(short_way.varied(problem, "hdd", 0.0), LIMITS, isolate=False).outcome is Outcome.infeasible
    for point in curve(problem, "hdd", [0.0, 1.0], LIMITS):
        assert point.no_plan
        assert point.objective is None


def test_what_cannot_be_varied_is_refused_before_anything_is_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "solve", lambda *_: pytest.fail("solved"))
    with pytest.raises(KeyError):
        curve(objects(10, 5, 1), "tape", [1.0], LIMITS)
    other = kinds()["placement"].part("schema").example()
    with pytest.raises(NoCurveError, match="placement has no curve"):
        curve(other, "x", [1.0], LIMITS)


def test_a_plan_that_does_not_stand_up_ends_the_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, real = objects(200, 5, 1), short_way.plan_at
    larger = 3 * held(problem, "hdd")
    assert curve(problem, "hdd", [larger], LIMITS)[0].objective is not None

    def in_the_original(given: Problem, point: short_way.CurvePoint, tier: str) -> tuple[Problem, Plan] | None:
        made = real(given, point, tier)
        return None if made is None else (given, made[1])

    monkeypatch.setattr(short_way, "plan_at", in_the_original)
    with pytest.raises(WrongPointError, match="tier_capacity of hdd"):
        curve(problem, "hdd", [larger], LIMITS)


def test_no_time_leaves_points_that_know_nothing() -> None:
    problem = next(iter(examples().values()))
    (point,) = curve(problem, "nvme-north", [1.0], Limits(time_limit_s=1e-3))
    assert (point.objective, point.bound, point.no_plan) == (None, None, False)

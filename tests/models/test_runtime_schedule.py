"""Whole jobs on devices: the program against brute force, its start, the robust form, and the simple rules on examples done by hand."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import catalogue
from models.runtime.schedules.makespan import Jobs, assigned, loads, makespan, program, started
from models.runtime.schedules.rules import (
    exact,
    expected_even,
    expected_random,
    first_in,
    improved,
    listed,
    longest_first,
    random_assignment,
    round_robin,
)
from optimizer.limits import Limits
from optimizer.solve import solve

if TYPE_CHECKING:
    from models.program import Floats, Ints

NAMES = ("a", "b", "c")
HAND = np.array([[3.0, 3.0], [1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])


def solved(jobs: Jobs) -> tuple[Ints, float, float]:
    kind = catalogue.kinds()["program"]
    problem = kind.problem.model_validate(program(jobs))
    result = solve(problem, Limits(time_limit_s=20.0, gap=1e-9), isolate=False)
    assert result.plan is not None
    assert result.certificate is not None
    return assigned(jobs, result.plan.values), result.certificate.objective, result.certificate.bound  # type: ignore[attr-defined]


def brute(jobs: Jobs) -> float:
    """Least worst makespan over every schedule that runs each job where it can."""
    count, devices = jobs.times.shape
    every = (np.array(one) for one in product(range(devices), repeat=count))
    return min(float(jobs.worst_loads(one).max()) for one in every if np.isfinite(jobs.times[np.arange(count), one]).all())


def worst_case(jobs: Jobs, assignment: Ints) -> float:
    """The makespan under the worst set of late jobs, by trying all whole sets (whole budgets only)."""
    spans = []
    for late in product((0, 1), repeat=len(jobs.times)):
        chosen = np.array(late)
        if all(chosen[assignment == device].sum() <= jobs.budget for device in range(len(jobs.devices))):
            spans.append(makespan(jobs.times + chosen[:, None] * jobs.late, assignment))
    return max(spans)


def random_times(rng: np.random.Generator, count: int, devices: int, *, alike: bool) -> Floats:
    times = np.round(rng.uniform(0.5, 4.0, (count, 1 if alike else devices)), 2)
    return np.repeat(times, devices, axis=1) if alike else times


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("devices", [2, 3])
def test_the_program_finds_what_brute_force_finds(devices: int, alike: bool) -> None:
    rng = np.random.default_rng(devices + 10 * alike)
    for count in (1, 4, 6):
        jobs = Jobs(random_times(rng, count, devices, alike=alike), NAMES[:devices])
        found, objective, bound = solved(jobs)
        assert objective == pytest.approx(brute(jobs), rel=1e-6)
        assert makespan(jobs.times, found) == pytest.approx(objective, rel=1e-6)
        assert bound <= objective * (1 + 1e-6)
        best = exact(jobs.times)
        assert best is not None
        assert makespan(jobs.times, best) == pytest.approx(objective, rel=1e-6)


def test_two_alike_and_one_of_its_own_kind() -> None:
    rng = np.random.default_rng(3)
    times = np.hstack([random_times(rng, 5, 2, alike=True), random_times(rng, 5, 1, alike=False)])
    times[1, 2] = np.inf
    jobs = Jobs(times, NAMES)
    assert jobs.twins == ((0, 1), (2,))
    found, objective, _ = solved(jobs)
    assert objective == pytest.approx(brute(jobs), rel=1e-6)
    assert found[1] != 2


@pytest.mark.parametrize("budget", [0.0, 1.0, 1.5, 6.0])
@pytest.mark.parametrize("alike", [True, False])
def test_robust_schedules_against_brute_force(budget: float, alike: bool) -> None:
    rng = np.random.default_rng(7)
    times = random_times(rng, 5, 2, alike=alike)
    jobs = Jobs(times, NAMES[:2], np.round(times * rng.uniform(0, 0.8, times.shape[:1])[:, None], 2), budget)
    found, objective, _ = solved(jobs)
    assert objective == pytest.approx(brute(jobs), rel=1e-6)
    assert float(jobs.worst_loads(found).max()) == pytest.approx(objective, rel=1e-6)
    if budget == int(budget):
        assert worst_case(jobs, found) == pytest.approx(objective, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 3), st.booleans(), st.sampled_from([0.0, 0.5, 2.0]))
def test_a_start_obeys_the_program(seed: int, count: int, devices: int, alike: bool, budget: float) -> None:
    rng = np.random.default_rng(seed)
    times = random_times(rng, count, devices, alike=alike)
    jobs = Jobs(times, NAMES[:devices], times * 0.3, budget)
    assignment = rng.integers(devices, size=count)
    kind = catalogue.kinds()["program"]
    problem = kind.problem.model_validate(program(jobs))
    values = started(jobs, assignment)
    verdict = kind.verify(problem, kind.plan.model_validate({"values": values}))
    assert verdict.ok, verdict.violations
    assert verdict.objectives["objective"] == pytest.approx(float(jobs.worst_loads(assignment).max()))
    again = assigned(jobs, values)
    assert sorted(loads(times, again)) == pytest.approx(sorted(loads(times, assignment)))


def test_the_rules_by_hand() -> None:
    assert longest_first(HAND) == (3, 0, 2, 1)
    assert listed(HAND, longest_first(HAND)).tolist() == [1, 0, 1, 0]
    assert makespan(HAND, listed(HAND, longest_first(HAND))) == 5.0
    assert listed(HAND, first_in(4)).tolist() == [0, 1, 1, 0]
    assert makespan(HAND, listed(HAND, first_in(4))) == 7.0
    assert round_robin(HAND).tolist() == [0, 1, 0, 1]
    assert loads(HAND, round_robin(HAND)).tolist() == [5.0, 5.0]
    best = exact(HAND)
    assert best is not None
    assert makespan(HAND, best) == 5.0


def test_rules_keep_to_devices_that_can_run_a_job() -> None:
    times = np.array([[np.inf, 2.0], [1.0, np.inf], [np.inf, 3.0], [1.0, 1.0]])
    for found in (listed(times, first_in(4)), round_robin(times), random_assignment(times, 3), improved(times, np.array([1, 0, 1, 1]))):
        assert np.isfinite(times[np.arange(4), found]).all()
    assert makespan(times, listed(times, first_in(4))) == 5.0
    assert np.isfinite(expected_random(times))


def test_random_schedules_have_the_mean_of_all_of_them() -> None:
    assert expected_random(np.ones((2, 2))) == pytest.approx(1.5)
    assert expected_random(np.ones((12, 2))) == pytest.approx(6 * (1 + 924 / 4096))  # half of |2 B - 12| for 12 fair coins
    every = [makespan(HAND, np.array(one)) for one in product(range(2), repeat=4)]
    assert expected_random(HAND) == pytest.approx(float(np.mean(every)))
    assert expected_even(np.ones((4, 2))) == pytest.approx(2.0)
    forced = np.array([[1.0, np.inf], [1.0, 1.0]])
    assert expected_random(forced) == pytest.approx(1.5, abs=0.02)  # the second job joins the first half of the time
    many = np.ones((40, 3))
    assert exact(many) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 3))
def test_laws(seed: int, count: int, devices: int) -> None:
    times = random_times(np.random.default_rng(seed), count, devices, alike=False)
    start = listed(times, longest_first(times))
    better, best = makespan(times, improved(times, start)), exact(times)
    assert best is not None
    span = makespan(times, best)
    assert span <= better + 1e-9
    assert better <= makespan(times, start) + 1e-9
    assert span <= expected_random(times) + 1e-9
    assert makespan(2 * times, best) == pytest.approx(2 * span)
    more = exact(np.hstack([times, np.full((count, 1), 1e6)]))
    assert more is not None
    assert makespan(np.hstack([times, np.full((count, 1), 1e6)]), more) <= span + 1e-9


@pytest.mark.parametrize(
    ("times", "late", "budget", "names", "says"),
    [
        (np.zeros((1, 2)), None, 0.0, NAMES[:2], "positive"),
        (np.full((1, 2), np.nan), None, 0.0, NAMES[:2], "positive"),
        (np.full((1, 2), np.inf), None, 0.0, NAMES[:2], "no device"),
        (np.ones((1, 2)), None, 0.0, NAMES, "shape"),
        (np.ones((0, 2)), None, 0.0, NAMES[:2], "shape"),
        (np.ones((1, 2)), None, 0.0, ("a", "a"), "names"),
        (np.ones((1, 2)), -np.ones((1, 2)), 1.0, NAMES[:2], "deviations"),
        (np.ones((1, 2)), np.ones((2, 2)), 1.0, NAMES[:2], "deviations"),
        (np.ones((1, 2)), np.ones((1, 2)), -1.0, NAMES[:2], "budget"),
    ],
)
def test_what_has_no_meaning_is_refused(times: Floats, late: Floats | None, budget: float, names: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Jobs(times, names, late, budget)
    with pytest.raises(ValueError, match="no device in these values"):
        assigned(Jobs(np.ones((2, 2)), NAMES[:2]), [0.0] * 4)

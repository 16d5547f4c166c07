"""Bounds that arithmetic cannot carry are not claimed: checked in exact arithmetic, and on problems where they once were."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.contract import Sense
from models.conversation import Again, Solve
from models.fairshare.columns.classes import Classes, classes_of
from models.fairshare.columns.rows import short_cost
from models.fairshare.goals import sense_of
from models.fairshare.levels.gauge import Gauge, Gauged
from models.fairshare.market import market_of
from models.fairshare.proofs.claims import OUTWARD, highest_unrefuted
from models.fairshare.schema import Problem
from models.fairshare.verify import verify
from models.program import LinearProgram
from optimizer.conversation import Solvers
from optimizer.limits import Deadline, Limits
from optimizer.result import Outcome
from optimizer.solve import solve
from tests.models.fairshare_extreme import ONCE_WRONG, extreme, once_wrong
from tests.models.fairshare_random import changed, goals_of, plan_of, problem, solved

Vector = np.ndarray[Any, np.dtype[np.float64]]
LIMITS = Limits(time_limit_s=20, gap=1e-6)
NOTHING_OPEN = ("left_by_a_million_gpus", "tenant_at_nothing", "gang_at_nothing", "mean_of_nothing")


def never_beaten(given: Problem) -> None:
    """No plan that the search finds is beyond a bound that it tells."""
    result = solve(given, LIMITS, isolate=False)
    assert result.failure is None, result.failure
    assert result.certificate is not None
    attained = verify(given, plan_of(result))
    assert attained.ok
    for goal in result.certificate.goals:
        if goal.bound is not None:
            value = attained.objectives[goal.name]
            over = value - goal.bound if sense_of(goal.name) is Sense.maximise else goal.bound - value
            assert over <= 1e-9 * max(1.0, abs(goal.bound)), goal


@pytest.mark.parametrize("name", ONCE_WRONG)
def test_bounds_that_were_once_wrong_are_right(name: str) -> None:
    never_beaten(once_wrong(name))


@pytest.mark.parametrize("name", NOTHING_OPEN)
def test_what_was_once_left_unproved_is_proved(name: str) -> None:
    assert solve(once_wrong(name), LIMITS, isolate=False).outcome is Outcome.optimal


@pytest.mark.parametrize("seed", range(30))
def test_no_plan_beats_a_bound_however_unlike_the_numbers_are(seed: int) -> None:
    never_beaten(extreme(seed))


# ---------------------------------------------------------------- exact arithmetic


def gauged(given: Problem, speeds: Vector) -> tuple[Classes, list[tuple[Gauged, LinearProgram, Vector]]]:
    """Every answer of the gauge for these needs, with the program and the duals that it was read from."""
    market = market_of(given)
    classes = classes_of(market, np.ones(market.jobs.count, dtype=np.bool_))
    gauge = Gauge(classes, "levels")
    solvers = Solvers(LIMITS, Deadline.after(20.0), None)
    found: list[tuple[Gauged, LinearProgram, Vector]] = []
    steps = gauge.of_needs(speeds)
    answer: Any = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration:
            return classes, found
        assert isinstance(step, Solve | Again)
        answer = solvers.solve(step) if isinstance(step, Solve) else solvers.again(step)
        if answer.row_duals is None or answer.values is None:  # more than all time: the search never asks for it
            return classes, found
        assert gauge.program is not None
        found.append((gauge._read(answer, speeds), gauge.program, answer.row_duals))  # noqa: SLF001  (with the duals it is read from)


def exactly_short(classes: Classes, found: Gauged, program: LinearProgram, duals: Vector, row: Vector, speeds: Vector) -> Fraction:
    """The least shortfall up to 0 that these duals prove for other needs, in rational numbers: Lagrange's bound over a box."""
    sides: dict[int, Fraction] = {}
    jobs = classes.market.jobs
    for at, of, threshold in zip(row.astype(int).tolist(), found.of.tolist(), found.at.tolist(), strict=True):
        need = sum(
            (
                Fraction(float(jobs.copies[job])) * max(Fraction(float(speeds[job])) - Fraction(threshold), Fraction(0))
                for job in classes.members[of].tolist()
            ),
            Fraction(0),
        )
        sides[at] = need / Fraction(float(classes.unit[of]))
    total = Fraction(0)
    reduced = [Fraction(float(cost)) for cost in program.cost]
    for at in range(program.rows):
        dual = Fraction(float(duals[at]))
        lower, upper = float(program.row_lower[at]), float(program.row_upper[at])
        if dual == 0 or not math.isfinite(lower if dual > 0 else upper):
            continue
        total += dual * sides.get(at, Fraction(lower if dual > 0 else upper))
        for entry in range(int(program.starts[at]), int(program.starts[at + 1])):
            reduced[int(program.indices[entry])] -= dual * Fraction(float(program.coefficients[entry]))
    ways = classes.market.ways
    gangs = (
        classes.market.accelerators.count_gpus[ways.accelerator[classes.way]] / ways.gpus[classes.way] * np.where(classes.side, 2.0, 1.0)
    )
    for column, slope in enumerate(reduced):
        upper = float(program.column_upper[column])
        upper = min(upper, float(gangs[column])) if column < classes.columns else upper
        side = float(program.column_lower[column]) if slope > 0 else (upper if math.isfinite(upper) else 0.0)
        total += slope * Fraction(side)
    return total / Fraction(short_cost(classes))


@pytest.mark.parametrize("seed", range(25))
def test_what_is_refuted_is_refuted_in_exact_arithmetic(seed: int) -> None:
    given = extreme(100 + seed)
    jobs = market_of(given).jobs
    rng = np.random.default_rng(seed)
    speeds = jobs.equal * 10.0 ** rng.uniform(-6.0, 1.0, jobs.count)
    classes, answers = gauged(given, speeds)
    loose = [0.0]
    for found, program, duals in answers:
        at = np.flatnonzero(np.isposinf(program.row_upper))[: len(found.of)].astype(np.float64)
        for factor in (0.0, 1e-9, 0.5, 1.0, 1.0 + 1e-12, 3.0, 1e6):
            other = speeds * factor * 10.0 ** rng.uniform(-1e-9, 1e-9, jobs.count)
            told, exact = found.refutes(classes, other), exactly_short(classes, found, program, duals, at, other)
            assert Fraction(told) <= exact
            loose.append((float(exact) - told) / max(1.0, abs(float(exact))))
    assert min(loose) >= 0.0
    assert np.median(loose) < 1e-9  # and not by giving up


# ---------------------------------------------------------------- the search for a level


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-9, 1e9), st.floats(1.0, 4.0), st.floats(0.0, 0.999), st.floats(1e-3, 10.0))
def test_every_level_above_the_highest_unrefuted_is_refuted(root: float, power: float, flat: float, near: float) -> None:
    def refuted(level: float) -> float:
        return max(level - flat * root, 0.0) ** power - ((1.0 - flat) * root) ** power if level > 0.0 else -1.0

    most = 1e3 * root
    found = highest_unrefuted(refuted, most, near * root)
    assert refuted(found) > 0.0
    assert root * (1.0 - 1e-9) <= found <= root * (1.0 + 1e-9)
    assert highest_unrefuted(refuted, most, most) == pytest.approx(found, rel=1e-9)


def test_a_level_that_nothing_refutes_is_the_most() -> None:
    assert highest_unrefuted(lambda _: -1.0, 7.0, 3.0) == 7.0
    assert highest_unrefuted(lambda level: level - 7.0, 7.0, 3.0) == 7.0
    assert highest_unrefuted(lambda _: 1.0, 0.0, 3.0) == 0.0


def test_a_jump_is_found_from_above() -> None:
    found = highest_unrefuted(lambda level: math.inf if level > 2.0 else -1.0, 9.0, 1.0)
    assert 2.0 < found <= 2.0 * (1.0 + 2.0 * OUTWARD)


@pytest.mark.parametrize("policy", ["max_min_fair", "makespan", "finish_time_fair"])
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_budget_of_nothing_is_as_good_as_none(policy: str, seed: int) -> None:
    hedged = problem(seed, policy, robust="budget")
    without, hedged_for_nothing = goals_of(changed(hedged, robust=None)), goals_of(changed(hedged, robust={"budget": 0.0}))
    assert hedged_for_nothing == pytest.approx(without, rel=1e-6, abs=1e-7)


def test_a_class_that_is_left_nothing_is_told_so() -> None:
    doc: dict[str, Any] = {
        "policy": "makespan",
        "accelerators": [{"id": "a", "count": 3}],
        "workloads": [{"id": "w", "speeds": [{"accelerator": "a", "steps_per_s": 7.0}]}],
        "jobs": [
            {"id": "first", "workload": "w", "count": 7, "priority": 1, "remaining_steps": 11.0},
            {"id": "last", "workload": "w", "remaining_steps": 13.0},
        ],
    }
    result = solved(Problem.model_validate(doc))
    assert result.outcome is Outcome.optimal
    assert result.verdict is not None
    assert result.verdict.objectives["makespan[0]"] == pytest.approx(1e12)
    # one more GPU in a thousand million is not nothing
    doc["accelerators"][0]["count"] = 8
    assert goals_of(Problem.model_validate(doc))["makespan[0]"] == pytest.approx(13.0 / 7.0)

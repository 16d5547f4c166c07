"""Exact sweeps against dense grids solved by another solver, known textbook functions, and bands from rows."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import kind
from models.contract import Goal, Sense
from optimizer.limits import Limits
from optimizer.solve import solve
from optimizer.study.rows import Row
from optimizer.study.sweeps import parametric
from optimizer.study.sweeps.band import band
from optimizer.study.sweeps.moving import NotPiecewiseLinearError, moving
from optimizer.study.sweeps.parametric import Sweep, sweep
from optimizer.study.sweeps.parametric_kind import sweep_kind
from optimizer.study.sweeps.programs import TooLargeProgramError
from tests.optimizer.study.moving_programs import FINITE, INFEASIBLE, UNBOUNDED, RandomMoving, dense, optimum, wan_at, wyndor
from tests.optimizer.study.told_rows import told_row

if TYPE_CHECKING:
    from models.program import LinearProgram

LIMITS = Limits(time_limit_s=60.0)
NEAR = 1e-5
FREE = np.array([-np.inf])


def agrees(found: Sweep, value: float, program: LinearProgram) -> None:
    """The sweep says at one value what scipy says."""
    status, truth = optimum(program)
    told, interval = found.value(value), found.interval(value)
    if status != FINITE:
        assert {INFEASIBLE: "infeasible", UNBOUNDED: "unbounded"}.get(status, found.outside) == found.outside
        assert told is None or found.domain is not None
        assert told is None or min(abs(value - end) for end in found.domain or ()) <= NEAR
        return
    assert told is not None
    assert interval is not None
    slack = NEAR * max(1.0, abs(truth))
    assert told == pytest.approx(truth, abs=slack)
    assert interval[0] - slack <= truth <= interval[1] + slack


@pytest.mark.parametrize("costs", [False, True])
def test_a_sweep_is_what_a_dense_grid_says(costs: bool) -> None:
    swept = partial = several = 0
    for seed in range(40):
        drawn = RandomMoving(seed, costs)
        found = sweep(drawn.at, 0.0, 3.0, LIMITS)
        for value in np.linspace(0.0, 3.0, 19).tolist():
            agrees(found, value, drawn.at(value))
        if found.pieces:
            assert found.exact
            assert found.solves <= 2 * len(found.pieces) + 1 + (4 if found.outside else 0)
            joints = list(itertools.pairwise(found.pieces))
            assert all((one.end, one.end_value) == (other.start, other.start_value) for one, other in joints)
            swept, several, partial = swept + 1, several + (len(found.pieces) > 1), partial + (found.outside != "")
    assert swept > 20
    assert several > 5
    assert partial > 0


def told(found: Sweep) -> list[tuple[float, ...]]:
    return [(round(one.start, 9), round(one.end, 9), round(one.start_value, 9), round(one.slope, 9)) for one in found.pieces]


def test_hours_of_a_plant() -> None:
    found = sweep(lambda hours: wyndor(plant_2=hours), 0.0, 24.0, LIMITS)
    assert told(found) == [(0.0, 6.0, 12.0, 2.5), (6.0, 18.0, 27.0, 1.5), (18.0, 24.0, 45.0, 0.0)]
    assert found.solves <= 7
    assert found.attained
    assert found.outside == ""
    assert found.breakpoints == pytest.approx((6.0, 18.0))
    assert found.value(12.0) == pytest.approx(36.0)
    assert found.value(25.0) is None


def test_profit_of_a_product() -> None:
    found = sweep(lambda profit: wyndor(doors=profit), 0.0, 10.0, LIMITS)
    assert told(found) == [(0.0, 7.5, 30.0, 2.0), (7.5, 10.0, 45.0, 4.0)]
    assert not found.attained


def test_one_piece_takes_two_solves() -> None:
    assert sweep(lambda hours: wyndor(plant_2=hours), 7.0, 17.0, LIMITS).solves == 2
    assert sweep(lambda _: wyndor(), 0.0, 1.0, LIMITS).solves == 2


def test_the_domain_ends_where_no_plan_exists() -> None:
    found = sweep(lambda least: dense(np.ones(1), np.ones((1, 1)), np.array([least]), np.array([3.0])), 0.0, 2.9, LIMITS)
    assert found.domain == (0.0, 2.9)
    two_rows = np.ones((2, 1))
    found = sweep(lambda least: dense(np.ones(1), two_rows, np.array([least, -np.inf]), np.array([np.inf, 3.0])), 0.0, 5.0, LIMITS)
    assert found.domain == pytest.approx((0.0, 3.0))
    assert found.denied == pytest.approx((0.0, 3.0))
    assert found.outside == "infeasible"
    assert found.exact
    assert found.value(2.0) == pytest.approx(2.0)
    assert found.value(3.1) is None


def test_the_domain_may_be_one_value() -> None:
    matrix = np.array([[1.0], [1.0]])
    found = sweep(lambda t: dense(np.ones(1), matrix, np.array([t, -np.inf]), np.array([np.inf, 4.0 - t])), 2.0, 6.0, LIMITS)
    assert found.domain == pytest.approx((2.0, 2.0))
    assert found.value(2.0) == pytest.approx(2.0)


def test_the_domain_ends_where_the_goal_has_no_end() -> None:
    found = sweep(lambda price: dense(np.array([price - 2.0]), np.ones((1, 1)), np.array([1.0]), np.array([np.inf])), 0.0, 5.0, LIMITS)
    assert found.domain == pytest.approx((2.0, 5.0))
    assert found.outside == "unbounded"
    assert found.value(4.0) == pytest.approx(2.0)


def test_nothing_to_sweep_is_said() -> None:
    never = sweep(lambda t: dense(np.ones(1), np.ones((1, 1)), np.array([5.0 + t]), np.array([np.inf]), upper=np.ones(1)), 0.0, 1.0, LIMITS)
    assert (never.pieces, never.outside, never.exact) == ((), "infeasible", False)
    endless = sweep(lambda t: dense(-np.ones(1), np.ones((1, 1)), np.array([t]), np.array([np.inf])), 0.0, 1.0, LIMITS)
    assert (endless.pieces, endless.outside) == ((), "unbounded")
    assert "no end anywhere" in endless.message


@pytest.mark.parametrize(
    ("program_at", "words"),
    [
        (lambda t: dense(np.ones(1), np.array([[1.0 + t]]), np.ones(1), np.full(1, 9.0)), "the coefficient of column 0 in row 0 moves"),
        (lambda t: dense(np.array([t]), np.ones((1, 1)), np.array([t]), np.full(1, 9.0)), "limits and costs both move"),
        (lambda t: dense(np.ones(1), np.ones((1, 1)), np.array([max(0.4, t)]), np.full(1, 9.0)), "row_lower of row 0 is 0.4 at"),
        (
            lambda t: dense(np.ones(1), np.ones((1, 1)), np.ones(1), np.array([9.0 if t else np.inf])),
            "the limit of row 0 appears or disappears",
        ),
        (lambda t: dense(np.ones(1 + int(t)), np.ones((1, 1 + int(t))), np.ones(1), np.full(1, 9.0)), "changes its structure"),
    ],
)
def test_what_is_not_piecewise_linear_is_refused(program_at: Any, words: str) -> None:
    with pytest.raises(NotPiecewiseLinearError, match=f"use values.*{words}"):
        sweep(program_at, 0.0, 1.0, LIMITS)


def test_whole_numbers_and_empty_ranges_are_refused() -> None:
    tiers = kind("tiering").part("examples").examples()["two_tier"]
    with pytest.raises(NotPiecewiseLinearError, match="use values: the goal is not a linear program here"):
        sweep_kind(lambda _: tiers, 0.0, 1.0, LIMITS)
    with pytest.raises(ValueError, match="must be below"):
        moving(lambda _: wyndor(), 1.0, 1.0)


def test_a_sweep_that_is_cut_short_still_holds_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parametric, "MOST_SOLVES", 2)
    found = sweep(lambda hours: wyndor(plant_2=hours), 0.0, 24.0, LIMITS)
    assert not found.exact
    assert "the limits did not suffice" in found.message
    for hours in np.linspace(0.0, 24.0, 13).tolist():
        interval = found.interval(hours)
        assert interval is not None
        assert interval[0] - 1e-9 <= optimum(wyndor(plant_2=hours))[1] <= interval[1] + 1e-9


def test_a_link_of_a_network() -> None:
    found = sweep_kind(wan_at, 0.0, 120.0, LIMITS)
    assert told(found) == [(0.0, 30.0, 255.0, 2.5), (30.0, 50.0, 330.0, 1.5), (50.0, 80.0, 360.0, 0.5), (80.0, 120.0, 375.0, 0.0)]
    for capacity in (10.0, 65.0, 100.0):
        certificate = solve(wan_at(capacity), LIMITS, isolate=False).certificate
        assert certificate is not None
        assert found.value(capacity) == pytest.approx(certificate.objective)


def test_a_kind_whose_data_bends_unseen_is_refused() -> None:
    with pytest.raises(NotPiecewiseLinearError, match="does not move along a line"):
        sweep_kind(lambda t: wan_at(t + 30.0 * (0.6 < t / 120.0 < 0.9)), 0.0, 120.0, LIMITS)


def test_programs_too_large_to_write_down_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind("flow").part("formulation"), "size", lambda _: 10**7)
    with pytest.raises(TooLargeProgramError, match="use values"):
        sweep_kind(wan_at, 0.0, 120.0, LIMITS)


# ---------------------------------------------------------------- bands


def rows_of(truths: list[float], below: list[float], above: list[float], *, maximise: bool = True) -> list[Row]:
    made = []
    for truth, low, high in zip(truths, below, above, strict=True):
        objective, bound = (truth - low, truth + high) if maximise else (truth + high, truth - low)
        made.append(told_row({"gain": (objective, bound)}, maximise=maximise))
    return made


@given(st.data(), st.booleans(), st.sampled_from(["more", "less"]))
@settings(max_examples=150, deadline=None)
def test_a_band_holds_the_truth(data: st.DataObject, maximise: bool, allows: Any) -> None:
    count = data.draw(st.integers(1, 9))
    numbers = st.floats(0.0, 3.0)
    steps = data.draw(st.lists(numbers, min_size=count, max_size=count))
    gaps = [data.draw(st.lists(numbers, min_size=count, max_size=count)) for _ in range(2)]
    truth = np.cumsum(steps) * (1.0 if (allows == "more") == maximise else -1.0)
    rows = rows_of(truth.tolist(), *gaps, maximise=maximise)
    goal = Goal("gain", Sense.maximise if maximise else Sense.minimise, "")
    found = band([float(value) for value in range(count)], rows, goal, allows=allows)
    assert found.ordered
    for point, one in zip(found.points, truth.tolist(), strict=True):
        assert point.low - 1e-9 <= one <= point.high + 1e-9
    for between in np.linspace(-0.5, count - 0.5, 17).tolist():
        low, high = found.between(between)
        for place in (math.floor(between), math.ceil(between)):  # the truth between lies between its neighbours
            if math.floor(between) >= 0 and math.ceil(between) < count:
                assert low <= max(truth[math.floor(between)], truth[math.ceil(between)]) + 1e-9
                assert high >= min(truth[math.floor(between)], truth[math.ceil(between)]) - 1e-9
                assert 0 <= place < count


def test_a_band_that_is_contradicted_says_nothing_between() -> None:
    goal = Goal("gain", Sense.maximise, "")
    rows = rows_of([5.0, 3.0], [0.0, 0.0], [0.0, 0.0])
    found = band([1.0, 2.0], rows, goal, allows="more")
    assert not found.ordered
    assert "contradicts" in found.message
    assert found.between(1.5) == (-math.inf, math.inf)
    assert found.between(2.0) == (3.0, 3.0)
    gone = band([1.0, 2.0], [rows[0], told_row({}, outcome="infeasible")], goal, allows="more")
    assert not gone.ordered
    assert gone.points[1].no_plan
    with pytest.raises(ValueError, match="each value once"):
        band([1.0, 1.0], rows, goal)

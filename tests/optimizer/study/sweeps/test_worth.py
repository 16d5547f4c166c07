"""What is told without a solve, held against the solve that it saves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.catalogue import kind
from optimizer.limits import Limits
from optimizer.solve import solve
from optimizer.study.sweeps.moving import moving
from optimizer.study.sweeps.parametric import sweep
from optimizer.study.sweeps.worth import predictor, stretch, tabulated
from tests.optimizer.study.moving_programs import FINITE, RandomMoving, dense, optimum, wan_at, wyndor

if TYPE_CHECKING:
    from models.vocabulary import Document

LIMITS = Limits(time_limit_s=30.0)


@pytest.mark.parametrize("costs", [False, True])
def test_a_stretch_is_the_whole_piece_and_nothing_else(costs: bool) -> None:
    found = 0
    for seed in range(40):
        drawn = RandomMoving(seed, costs)
        swept = sweep(drawn.at, 0.0, 3.0, LIMITS)
        line = stretch(moving(drawn.at, 0.0, 3.0), 1.1, LIMITS)
        piece = next((piece for piece in swept.pieces if piece.start + 1e-6 < 1.1 < piece.end - 1e-6), None)
        if piece is None:
            assert line is None or not swept.pieces or min(abs(1.1 - end) for end in swept.domain or ()) < 1e-5
            continue
        assert line is not None
        found += 1
        assert line.slope == pytest.approx(piece.slope, abs=1e-6 * max(1.0, abs(piece.slope)))
        assert (line.start, line.end) == pytest.approx((piece.start, piece.end), abs=1e-5)
        for at in np.linspace(line.start, line.end, 5).tolist():
            status, truth = optimum(drawn.at(at))
            if status == FINITE:
                program = drawn.at(at)
                assert program.relative_violation(line.values(at)) <= 1e-6
                assert program.objective(line.values(at)) == pytest.approx(truth, abs=1e-6 * max(1.0, abs(truth)))
                assert line.proved(at) == pytest.approx(truth, abs=1e-6 * max(1.0, abs(truth)))
    assert found > 15


def test_a_degenerate_optimum_has_its_whole_stretch() -> None:
    # Three rows meet in the optimum; the range of one basis may be a single value.
    matrix = np.array([[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]])

    def at(size: float) -> Any:
        return dense(np.ones(2), matrix, np.full(3, -np.inf), size * np.array([1.0, 1.0, 2.0]), maximise=True)

    line = stretch(moving(at, 1.0, 5.0), 2.0, LIMITS)
    assert line is not None
    assert (line.start, line.end) == pytest.approx((1.0, 5.0))
    assert line.slope == pytest.approx(1.0)


def test_a_value_outside_the_range_is_refused() -> None:
    with pytest.raises(ValueError, match="is not between"):
        stretch(moving(lambda t: wyndor(plant_2=t), 0.0, 24.0), 25.0, LIMITS)
    nothing = stretch(
        moving(lambda t: dense(np.ones(1), np.ones((1, 1)), np.array([t]), np.array([9.0]), upper=np.ones(1)), 2.0, 3.0), 2.5, LIMITS
    )
    assert nothing is None


def program_at(hours: float) -> Document:
    linear = kind("program").part("schema")
    problem: Document = linear.Problem(
        sense="maximise",
        columns=linear.Columns(cost=(3.0, 5.0)),
        rows=linear.Rows(upper=(4.0, hours, 18.0)),
        entries=linear.Entries(rows=(0, 1, 2, 2), columns=(0, 1, 0, 1), values=(1.0, 2.0, 3.0, 2.0)),
    )
    return problem


def test_a_table_of_limits_and_what_their_change_is_worth() -> None:
    result = solve(program_at(12.0), LIMITS, isolate=False)
    assert result.plan is not None
    rows, answer = tabulated(program_at(12.0), result.plan, LIMITS)
    assert answer.message == ""
    hours = next(row for row in rows if row.ids == ("r1",))
    assert (hours.limit, hours.worth, hours.low, hours.high) == pytest.approx((12.0, 1.5, 6.0, 18.0))
    assert hours.status == "proved"
    for to in (6.0, 9.5, 18.0):
        again = solve(program_at(to), LIMITS, isolate=False).certificate
        assert again is not None
        assert 36.0 + (hours.change(to) or 0.0) == pytest.approx(again.objective)
    assert hours.change(19.0) is None


@pytest.mark.parametrize(("problem_at", "least", "most", "start"), [(program_at, 0.0, 24.0, 12.0), (wan_at, 0.0, 120.0, 40.0)])
def test_predicted_rows_are_those_of_a_solve(problem_at: Any, least: float, most: float, start: float) -> None:
    made = predictor(problem_at, least, most, LIMITS)
    assert made.predicted(start) is None
    known = made.learn(start)
    assert known is not None
    assert made.learn(start) is known
    assert made.predicted(least if known.start > least else most) is None
    for at in np.linspace(known.start, known.end, 5).tolist():
        row, result = made.predicted(at, "key"), solve(problem_at(at), LIMITS, isolate=False)
        assert row is not None
        assert result.certificate is not None
        assert row.verified
        assert row.key == "key"
        assert row.goals[0].gap <= 1e-6
        assert row.goals[0].name == result.certificate.goals[0].name
        assert row.goals[0].objective == pytest.approx(result.certificate.objective)
        assert row.goals[0].bound == pytest.approx(result.certificate.objective)


def test_a_plan_that_is_worth_something_else_is_not_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = predictor(program_at, 0.0, 24.0, LIMITS)
    assert made.learn(12.0) is not None
    verify = kind("program").part("verify")
    honest = verify.verify
    assert made.predicted(11.0) is not None
    monkeypatch.setattr(verify, "verify", lambda _problem, plan: honest(program_at(0.0), plan))
    assert made.predicted(11.0) is None

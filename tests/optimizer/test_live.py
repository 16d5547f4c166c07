"""Programs edited and solved again in place, and ranging."""

from dataclasses import replace

import numpy as np
import pytest

from models.program_builder import ProgramBuilder
from optimizer.backend import ProgramStatus, SolverError
from optimizer.highs import HighsBackend, Options
from optimizer.limits import Limits
from optimizer.live import LiveProgram, ranging
from tests.optimizer.test_highs import diet, knapsacks


def edited(live: LiveProgram) -> float:
    """Solve hot; the answer must be that of a fresh solve of the same program."""
    hot, cold = live.solve(), HighsBackend().solve(live.program, Limits())
    assert hot.status is cold.status is ProgramStatus.optimal
    assert hot.objective == pytest.approx(cold.objective)
    assert hot.objective is not None
    return hot.objective


def test_live_program_edits() -> None:
    live = LiveProgram(diet(), Limits())
    assert edited(live) == pytest.approx(9.0)
    live.change_cost([0], [10.0])
    assert edited(live) == pytest.approx(12.0)
    live.change_row_bounds([1], [15.0], [np.inf])
    assert edited(live) == pytest.approx(15.0)
    live.change_column_bounds([1], [0.0], [3.0])
    assert edited(live) == pytest.approx(69.0)
    where = live.add_columns(np.array([1.0]), np.zeros(1), np.full(1, np.inf), np.array([0, 2]), np.array([0, 1]), np.array([1.0, 1.0]))
    assert where == slice(2, 3)
    assert edited(live) == pytest.approx(15.0)
    assert live.add_rows(np.full(1, -np.inf), np.array([5.0]), np.array([0, 1]), np.array([2]), np.ones(1)) == slice(2, 3)
    assert edited(live) == pytest.approx(24.0)
    live.add_columns(np.zeros(2), np.zeros(2), np.full(2, 1.5), np.array([0, 1, 2]), np.array([1, 1]), np.ones(2), integer=[True, False])
    assert live.program.integer.tolist() == [False, False, False, True, False]
    assert edited(live) == pytest.approx(12.5)


def test_live_program_solves_again_from_its_basis() -> None:
    rng = np.random.default_rng(5)
    program = knapsacks(300, 60).relaxed()
    live = LiveProgram(program, Limits(), Options(method="ipm"))
    first = live.solve()
    assert first.iterations > 5
    live.change_cost(np.arange(3), program.cost[:3] * (1 + 1e-6 * rng.random(3)))
    assert live.solve().iterations <= 3


def test_each_solve_has_its_own_time_limit() -> None:
    rng = np.random.default_rng(6)
    program = knapsacks(300, 60).relaxed()
    live = LiveProgram(program, Limits(time_limit_s=0.5))
    spent = 0.0
    while spent < 0.6:  # HiGHS alone would stop by then: it counts all runs together
        live.change_cost(np.arange(program.columns), program.cost * (0.5 + rng.random(program.columns)))
        result = live.solve()
        assert result.status is ProgramStatus.optimal
        spent += result.seconds


def test_live_program_refuses_nonsense_and_stays_whole() -> None:
    live = LiveProgram(diet(), Limits())
    with pytest.raises(ValueError, match="positions"):
        live.change_cost([2], [1.0])
    with pytest.raises(ValueError, match="twice"):
        live.change_cost([1, 1], [1.0, 2.0])
    with pytest.raises(ValueError, match="no number lies between"):
        live.change_row_bounds([0], [5.0], [4.0])
    assert live.program.cost.tolist() == [2.0, 3.0]
    assert edited(live) == pytest.approx(9.0)


def test_live_program_from_nothing() -> None:
    live = LiveProgram(ProgramBuilder().build(), Limits())
    assert live.solve().objective == 0.0
    live.add_rows(np.array([2.0]), np.array([np.inf]), np.array([0, 0]), np.zeros(0, dtype=np.int64), np.zeros(0))
    assert live.solve().status is ProgramStatus.infeasible
    live.add_columns(np.array([3.0]), np.zeros(1), np.full(1, np.inf), np.array([0, 1]), np.array([0]), np.ones(1))
    assert edited(live) == 6.0


def test_ranging_tells_where_the_optimum_stays_and_where_duals_change() -> None:
    program = diet()
    found = ranging(program, Limits())
    assert found.result.values is not None
    np.testing.assert_allclose(found.result.values, [3.0, 1.0])
    np.testing.assert_allclose(found.cost_low, [1.0, 2.0])
    np.testing.assert_allclose(found.cost_high, [3.0, 6.0])
    np.testing.assert_allclose(found.side_low, [2.0, 4.0])
    np.testing.assert_allclose(found.side_high, [6.0, 12.0])
    np.testing.assert_allclose(found.side_high_objective, [12.0, 12.0])
    np.testing.assert_allclose(found.side_low_objective, [6.0, 8.0])


def test_ranging_needs_a_solved_linear_program() -> None:
    with pytest.raises(ValueError, match="linear program"):
        ranging(knapsacks(5, 1), Limits())
    endless = replace(diet(), maximise=True)
    with pytest.raises(SolverError, match="unbounded"):
        ranging(endless, Limits())

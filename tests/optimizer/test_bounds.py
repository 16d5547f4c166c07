import numpy as np
import pytest

from models.program_builder import ProgramBuilder
from optimizer.backend import ProgramStatus
from optimizer.bounds import dual_bound, implied_box
from optimizer.highs import HighsBackend, Options
from optimizer.limits import Limits
from tests.optimizer.oracle import from_dense, random_program, truth

SIMPLEX = HighsBackend(Options(method="simplex"))


def test_bound_equals_the_optimum_at_optimal_duals_and_never_crosses_it() -> None:
    solved = 0
    for seed in range(300):
        rng = np.random.default_rng([7, seed])
        program = random_program(rng, integers=0, continuous=int(rng.integers(1, 4)))
        result = SIMPLEX.solve(program, Limits())
        if result.status is not ProgramStatus.optimal:
            continue
        solved += 1
        optimum = truth(program).objective
        assert optimum is not None
        assert result.row_duals is not None
        assert dual_bound(program, result.row_duals) == pytest.approx(optimum, abs=1e-6)
        sign = -1.0 if program.maximise else 1.0
        for _ in range(20):
            guess = rng.normal(size=program.rows) * 10.0 ** rng.integers(-3, 4)
            assert sign * dual_bound(program, guess) <= sign * optimum + 1e-6
            near = result.row_duals + guess * 1e-3
            assert sign * dual_bound(program, near) <= sign * optimum + 1e-6
    assert solved > 100


def test_large_programs_are_bounded_too() -> None:
    rng = np.random.default_rng(3)
    matrix = rng.random((40, 120)) * (rng.random((40, 120)) < 0.3)
    program = from_dense(
        matrix,
        (np.full(40, -np.inf), rng.random(40) * 10 + 1),
        (np.zeros(120), np.full(120, np.inf)),
        rng.random(120) - 0.2,
        np.zeros(120, dtype=np.bool_),
        maximise=True,
    )
    used = np.flatnonzero((matrix != 0).any(axis=0))
    assert len(used) == 120
    for method in (Options(method="simplex"), Options(method="ipm"), Options(method="ipm", crossover=False)):
        result = HighsBackend(method).solve(program, Limits(gap=1e-6))
        assert result.status is ProgramStatus.optimal
        assert result.objective is not None
        assert result.bound is not None
        assert result.bound == pytest.approx(result.objective, rel=1e-6)
        assert result.bound >= result.objective


def test_duals_against_an_infinite_side_count_as_nothing() -> None:
    program = from_dense(
        np.array([[1.0, 1.0]]),
        (np.array([2.0]), np.array([np.inf])),
        (np.zeros(2), np.full(2, 5.0)),
        np.ones(2),
        np.zeros(2, dtype=np.bool_),
    )
    assert dual_bound(program, np.array([1.0])) == 2.0
    assert dual_bound(program, np.array([-4.0])) == 0.0
    assert dual_bound(program, np.array([np.nan])) == 0.0
    with pytest.raises(ValueError, match="row duals"):
        dual_bound(program, np.zeros(2))


def test_infinite_columns() -> None:
    free = ProgramBuilder()
    free.add_columns("x", [()], cost=1.0, lower=-np.inf)
    assert dual_bound(free.build(), np.zeros(0)) == -np.inf
    tiny = ProgramBuilder(maximise=True, offset=3.0)
    tiny.add_columns("x", [()], cost=1e-12)
    assert dual_bound(tiny.build(), np.zeros(0), tolerance=0.0) == np.inf
    assert dual_bound(tiny.build(), np.zeros(0)) == 3.0


def test_rows_imply_the_bounds_a_column_lacks() -> None:
    builder = ProgramBuilder(maximise=True)
    builder.add_columns("x", [("a",), ("b",)], cost=[1e-3, 0.0])
    builder.add_rows("total", [()], upper=10.0, row_index=0, column_index=[0, 1], coefficient=[2.0, 1.0])
    program = builder.build()
    lower, upper = implied_box(program)
    np.testing.assert_allclose(upper, [5.0, 10.0])
    np.testing.assert_array_equal(lower, [0.0, 0.0])
    assert dual_bound(program, np.zeros(1), tolerance=0.0) == pytest.approx(5e-3)


def test_implied_box_never_cuts_a_feasible_point() -> None:
    for seed in range(200):
        rng = np.random.default_rng([8, seed])
        program = random_program(rng, integers=1, continuous=3)
        lower, upper = implied_box(program)
        points = rng.uniform(-4, 4, (200, 4))
        points[:, 0] = np.round(points[:, 0])
        for point in points:
            if program.largest_violation(point) == 0.0:
                assert ((lower <= point) & (point <= upper)).all()

"""Nearly feasible points and nearly payable duals, made so; needs no torch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.program import LinearProgram
from optimizer.backend import ProgramStatus
from optimizer.batch.answers import judged
from optimizer.batch.shapes import Shape, by_shape
from optimizer.batch.shrinking import feasible_near, payable_near
from optimizer.bounds import dual_bound
from tests.optimizer.oracle import dense, from_dense


def chain() -> LinearProgram:
    """Capacity, speed, level: x <= 1, speed <= 2 x, level <= speed; most level."""
    matrix = np.array([[1.0, 0.0, 0.0], [2.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
    sides = np.array([-np.inf, 0.0, 0.0]), np.array([1.0, np.inf, np.inf])
    return from_dense(matrix, sides, (np.zeros(3), np.full(3, np.inf)), np.array([0.0, 0.0, 1.0]), np.zeros(3, np.bool_), maximise=True)


def test_a_chain_of_rows_is_followed() -> None:
    found = feasible_near(chain(), np.array([1.1, 2.3, 2.31]))
    assert found == pytest.approx([1.0, 2.0, 2.0])
    assert chain().largest_violation(found) <= 1e-9


def test_what_is_feasible_stays_as_it_is() -> None:
    values = np.array([0.5, 0.9, 0.3])
    assert feasible_near(chain(), values).tolist() == values.tolist()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_where_nothing_is_feasible_so_is_what_is_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(1, 8, 2)
    matrix = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < 0.6)
    sides = -rng.uniform(0.0, 2.0, rows) * rng.integers(0, 2, rows), rng.uniform(0.0, 2.0, rows) * rng.integers(0, 2, rows)
    box = -rng.uniform(0.0, 2.0, columns), rng.uniform(0.0, 2.0, columns)
    program = from_dense(matrix, sides, box, rng.normal(size=columns), np.zeros(columns, np.bool_))
    values = np.clip(rng.normal(size=columns), *box)
    found = feasible_near(program, values)
    assert ((found >= box[0]) & (found <= box[1])).all()
    if not (found == values).all():  # it was moved, so it is feasible
        assert program.relative_violation(found) <= 1e-8
        assert (np.abs(found) <= np.abs(values) + 1e-12).all()


def test_no_feasible_anchor_changes_nothing() -> None:
    program = from_dense(np.ones((1, 2)), (np.ones(1), np.full(1, np.inf)), (np.zeros(2), np.ones(2)), np.ones(2), np.zeros(2, np.bool_))
    assert feasible_near(program, np.array([0.2, 0.3])).tolist() == [0.2, 0.3]


def test_duals_that_overpay_an_endless_column_are_lowered() -> None:
    """Least cost of covering 1 with columns of cost 2: a dual of 2.2 proves nothing, one of 2 proves the optimum."""
    program = from_dense(
        np.array([[1.0, 1.0], [1.0, -1.0]]),
        (np.array([1.0, -np.inf]), np.full(2, np.inf)),
        (np.zeros(2), np.full(2, np.inf)),
        np.array([2.0, 3.0]),
        np.zeros(2, np.bool_),
    )
    duals = np.array([2.2, 0.0])
    assert dual_bound(program, duals) == -np.inf
    assert dual_bound(program, payable_near(program, duals)) == pytest.approx(2.0)
    found = judged(program, np.array([1.0, 0.0]), duals, 1e-4)
    assert (found.status, found.objective) == (ProgramStatus.optimal, 2.0)
    assert found.bound == pytest.approx(2.0)


def test_points_that_are_no_numbers_claim_nothing() -> None:
    found = judged(chain(), np.full(3, np.nan), np.full(3, np.inf), 1e-4)
    assert (found.status, found.values) == (ProgramStatus.no_solution, None)


def test_the_scaled_matrix_has_a_norm_of_at_most_one() -> None:
    rng = np.random.default_rng(1)
    for own in (False, True):
        matrix = rng.normal(size=(9, 14)) * 10.0 ** rng.integers(-3, 4, (9, 14)) * (rng.random((9, 14)) < 0.5)
        sides, box = (np.full(9, -np.inf), np.ones(9)), (np.zeros(14), np.ones(14))
        programs = [
            from_dense(matrix * (1.0 + own * rng.random((9, 14))), sides, box, np.ones(14), np.zeros(14, np.bool_)) for _ in range(3)
        ]
        part = Shape(programs).part([0, 1, 2])
        columns = part.coefficients[:, None] if part.coefficients.ndim == 1 else part.coefficients
        for entries in columns.T:
            scaled = np.zeros((9, 14))
            scaled[programs[0].entry_rows, programs[0].indices] = entries
            assert np.linalg.norm(scaled, 2) <= 1.0 + 1e-9


def test_shapes() -> None:
    first = chain()
    other = from_dense(dense(first)[:2], (np.zeros(2), np.ones(2)), (np.zeros(3), np.ones(3)), np.ones(3), np.zeros(3, np.bool_))
    assert by_shape([first, other, first, other]) == [[0, 2], [1, 3]]

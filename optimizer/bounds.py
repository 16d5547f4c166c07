"""A bound on any linear or mixed-integer program, recomputed in numpy from row duals.

For every vector y and every x in the column box, ``c'x = y'(Ax) + (c - A'y)'x``. Taking for each row the side that y
pushes against, and for each column the bound that its reduced cost ``c - A'y`` pushes against, gives a number that no
feasible x can beat. No optimality of y is needed, so the result does not depend on the solver that produced y: a poor y gives
a weak bound, never a wrong one. (Lagrangian relaxation; Bertsimas & Tsitsiklis, Introduction to Linear Optimization, ch. 4.)
"""

from __future__ import annotations

import numpy as np

from models.program import Floats, LinearProgram

ROUNDING = 1e-13  # relative error of a reduced cost that is a difference of large terms


def dual_bound(program: LinearProgram, row_duals: Floats, *, tolerance: float = 1e-9) -> float:
    """A lower bound on the optimum (an upper bound when maximising), valid for the MIP as for its relaxation.

    ``row_duals``, shape (rows,), are signed as ``ProgramResult.row_duals``; entries that push against an infinite side, or
    are not finite, are taken as 0. The result is -inf (+inf when maximising) when a reduced cost pushes a column towards
    infinity and the rows imply no finite bound for it either.

    Rigorous up to floating-point rounding, with one exception: on a column whose bound is infinite (and not implied
    by the rows) a reduced cost of at most ``tolerance * max(1, |cost|)`` counts as 0, because no solver returns exact
    zeros. With ``tolerance=0`` there is no exception but rounding noise.

    Raises ValueError when ``row_duals`` has the wrong shape.
    """
    sign = -1.0 if program.maximise else 1.0
    duals = sign * usable_duals(program, row_duals)
    side = np.where(duals > 0, program.row_lower, program.row_upper)
    from_rows = float(np.sum(np.where(duals == 0.0, 0.0, duals * np.where(duals == 0.0, 0.0, side))))
    reduced = sign * program.cost - program.pulled_back(duals)
    from_columns = _box_minimum(program, reduced, duals, tolerance)
    return sign * (from_rows + from_columns) + program.offset


def usable_duals(program: LinearProgram, row_duals: Floats) -> Floats:
    """The row duals that ``dual_bound`` reckons with: 0 for those that push against an infinite side or are not finite.

    Raises ValueError when ``row_duals`` has the wrong shape.
    """
    given = np.asarray(row_duals, dtype=np.float64)
    if given.shape != (program.rows,):
        raise ValueError(f"expected {program.rows} row duals, got shape {given.shape}")
    sign = -1.0 if program.maximise else 1.0
    return sign * _projected(program, sign * given)


def implied_box(program: LinearProgram, *, passes: int = 3) -> tuple[Floats, Floats]:
    """Column bounds tightened by what each row implies when all its other columns stand at their bounds.

    Returns (lower, upper), each shape (columns,), still valid for every feasible x and loosened by a hair against
    rounding. Empty (lower > upper) entries mean that the program is infeasible.
    """
    lower, upper = program.column_lower.copy(), program.column_upper.copy()
    entries = program.coefficients != 0.0
    row, column, value = program.entry_rows[entries], program.indices[entries], program.coefficients[entries]
    for _ in range(passes):
        before = lower.copy(), upper.copy()
        at_lower, at_upper = value * lower[column], value * upper[column]
        smallest, largest = np.minimum(at_lower, at_upper), np.maximum(at_lower, at_upper)
        most = program.row_upper[row] - _others(smallest, row, program.rows)  # of value * x
        least = program.row_lower[row] + _others(-largest, row, program.rows)
        ceiling, floor = np.where(value > 0, most, least) / value, np.where(value > 0, least, most) / value
        # A row whose other columns are unbounded says nothing: inf - inf.
        np.minimum.at(upper, column, np.where(np.isnan(ceiling), np.inf, _loosened(ceiling, 1.0)))
        np.maximum.at(lower, column, np.where(np.isnan(floor), -np.inf, _loosened(floor, -1.0)))
        if np.array_equal(before[0], lower) and np.array_equal(before[1], upper):
            break
    return lower, upper


def _projected(program: LinearProgram, duals: Floats) -> Floats:
    """Minimising: a positive dual prices the lower side, a negative one the upper; without that side it must be 0."""
    useless = ~np.isfinite(duals) | ((duals > 0) & np.isinf(program.row_lower)) | ((duals < 0) & np.isinf(program.row_upper))
    return np.where(useless, 0.0, duals)


def _box_minimum(program: LinearProgram, reduced: Floats, duals: Floats, tolerance: float) -> float:
    bound = np.where(reduced > 0, program.column_lower, program.column_upper)
    endless = np.isinf(bound) & (reduced != 0.0)
    if endless.any():
        lower, upper = implied_box(program)
        bound = np.where(endless, np.where(reduced > 0, lower, upper), bound)
        terms = np.abs(program.coefficients) * np.abs(np.repeat(duals, np.diff(program.starts)))
        size = np.abs(program.cost) + np.bincount(program.indices, weights=terms, minlength=program.columns)
        noise = tolerance * np.maximum(1.0, np.abs(program.cost)) + ROUNDING * size
        reduced = np.where(np.isinf(bound) & (np.abs(reduced) <= noise), 0.0, reduced)
    return float(np.sum(np.where(reduced == 0.0, 0.0, reduced * np.where(reduced == 0.0, 0.0, bound))))


def _others(terms: Floats, row: np.ndarray[tuple[int], np.dtype[np.int64]], rows: int) -> Floats:
    """For each entry the sum of its row's other terms; -inf terms are counted, not added."""
    endless = np.isneginf(terms)
    finite = np.where(endless, 0.0, terms)
    total = np.bincount(row, weights=finite, minlength=rows)[row]
    size = np.bincount(row, weights=np.abs(finite), minlength=rows)[row]
    others_endless = np.bincount(row, weights=endless, minlength=rows)[row] - endless
    # Lowered by what the subtraction may have lost.
    return np.where(others_endless > 0, -np.inf, total - finite - ROUNDING * size)


def _loosened(values: Floats, direction: float) -> Floats:
    return values + direction * 1e-12 * np.maximum(1.0, np.abs(values))

"""Small random programs, and their true answers by enumeration: slow, obviously right, no solver."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from models.program import Floats, LinearProgram

FAR = 1e5  # the data below is so small that every vertex lies well within this box
CLOSE = 1e-6


@dataclass(frozen=True)
class Truth:
    """``status`` is optimal, infeasible or unbounded; ``objective`` is present for optimal."""

    status: str
    objective: float | None = None


def dense(program: LinearProgram) -> Floats:
    """The matrix written out, shape (rows, columns)."""
    matrix = np.zeros((program.rows, program.columns))
    for row in range(program.rows):
        for entry in range(program.starts[row], program.starts[row + 1]):
            matrix[row, program.indices[entry]] += program.coefficients[entry]
    return matrix


def from_dense(
    matrix: Floats,
    rows: tuple[Floats, Floats],
    columns: tuple[Floats, Floats],
    cost: Floats,
    integer: np.ndarray[tuple[int], np.dtype[np.bool_]],
    *,
    maximise: bool = False,
    offset: float = 0.0,
) -> LinearProgram:
    """A program from a written-out matrix."""
    row, column = np.nonzero(matrix)
    return LinearProgram(
        maximise=maximise,
        cost=cost,
        column_lower=columns[0],
        column_upper=columns[1],
        integer=integer,
        row_lower=rows[0],
        row_upper=rows[1],
        starts=np.concatenate(([0], np.cumsum(np.bincount(row, minlength=len(matrix))))),
        indices=column,
        coefficients=matrix[row, column],
        offset=offset,
    )


def truth(program: LinearProgram) -> Truth:
    """The answer: integer columns are enumerated, what is left is solved by visiting every vertex."""
    if program.integer.all():
        return _best_point(program)
    sign = -1.0 if program.maximise else 1.0
    best: float | None = None
    whole = np.flatnonzero(program.integer)
    for point in _grid(program, whole):
        found = _best_vertex(program, whole, point)
        if found.status == "unbounded":
            return found
        if found.objective is not None and (best is None or sign * found.objective < sign * best):
            best = found.objective
    return Truth("infeasible") if best is None else Truth("optimal", best)


def _grid(program: LinearProgram, whole: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Floats:
    ranges = [np.arange(np.ceil(program.column_lower[one]), np.floor(program.column_upper[one]) + 1) for one in whole]
    points = list(itertools.product(*ranges))  # one empty point when no column is integer
    return np.array(points, dtype=np.float64).reshape(len(points), len(whole))


def _best_point(program: LinearProgram) -> Truth:
    points = _grid(program, np.arange(program.columns))
    activity = points @ dense(program).T
    fits = ((activity >= program.row_lower - CLOSE) & (activity <= program.row_upper + CLOSE)).all(axis=1)
    if not fits.any():
        return Truth("infeasible")
    objectives = points[fits] @ program.cost + program.offset
    return Truth("optimal", float(objectives.max() if program.maximise else objectives.min()))


def _best_vertex(program: LinearProgram, whole: np.ndarray[tuple[int], np.dtype[np.int64]], point: Floats) -> Truth:
    free = np.setdiff1d(np.arange(program.columns), whole)
    matrix = dense(program)
    taken = matrix[:, whole] @ point
    paid = float(program.cost[whole] @ point) + program.offset
    normals = np.vstack((matrix[:, free], np.eye(len(free))))
    lower = np.concatenate((program.row_lower - taken, program.column_lower[free]))
    upper = np.concatenate((program.row_upper - taken, program.column_upper[free]))
    answers = []
    for box in (FAR, 2 * FAR):
        bounded_lower, bounded_upper = lower.copy(), upper.copy()
        bounded_lower[program.rows :] = np.maximum(lower[program.rows :], -box)
        bounded_upper[program.rows :] = np.minimum(upper[program.rows :], box)
        vertices = _vertices(normals, bounded_lower, bounded_upper)
        if not len(vertices):
            return Truth("infeasible")
        objectives = vertices @ program.cost[free] + paid
        answers.append(float(objectives.max() if program.maximise else objectives.min()))
    # An optimum that moves with an artificial box has no end.
    return Truth("optimal", answers[0]) if abs(answers[0] - answers[1]) < 1.0 else Truth("unbounded")


def _vertices(normals: Floats, lower: Floats, upper: Floats) -> Floats:
    sides = [(normal, side) for normal, low, high in zip(normals, lower, upper, strict=True) for side in {low, high} if np.isfinite(side)]
    picked = np.array(list(itertools.combinations(range(len(sides)), normals.shape[1])))
    if not len(picked):
        return np.zeros((0, normals.shape[1]))
    planes = np.array([normal for normal, _ in sides])[picked]
    values = np.array([side for _, side in sides])[picked]
    solid = np.abs(np.linalg.det(planes)) > CLOSE
    points = np.linalg.solve(planes[solid], values[solid][..., None])[..., 0]
    activity = points @ normals.T
    fits = (activity >= lower - CLOSE) & (activity <= upper + CLOSE)
    return np.asarray(points[fits.all(axis=1)])


def random_program(rng: np.random.Generator, *, integers: int, continuous: int) -> LinearProgram:
    """A program with every kind of row and column; integer columns are boxed, others may be free, fixed or unbounded."""
    columns, rows = integers + continuous, int(rng.integers(0, 5))
    integer = np.arange(columns) < integers
    lower, upper = _column_box(rng, integer)
    matrix = rng.integers(-5, 6, (rows, columns)).astype(np.float64) * (rng.random((rows, columns)) < 0.7)
    if rng.random() < 0.2:
        matrix = matrix / 2.0
    inside = np.clip(rng.integers(-3, 4, columns), np.where(np.isinf(lower), -3, lower), np.where(np.isinf(upper), 3, upper))
    # Mostly around a point that fits, so that most programs are feasible, and some are not.
    middle: Floats = matrix @ inside + rng.integers(-2, 3, rows) * (rng.random() < 0.5)
    sides = _row_sides(rng, middle)
    program = from_dense(
        matrix,
        sides,
        (lower, upper),
        rng.integers(-5, 6, columns).astype(np.float64),
        integer,
        maximise=bool(rng.random() < 0.5),
        offset=float(rng.integers(-3, 4)),
    )
    return replace(program, cost=program.cost * 0.1) if rng.random() < 0.2 else program


def _column_box(rng: np.random.Generator, integer: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[Floats, Floats]:
    lower = rng.integers(-3, 2, len(integer)).astype(np.float64)
    upper = lower + rng.integers(0, 4, len(integer))
    lower[~integer & (rng.random(len(integer)) < 0.3)] = -np.inf
    upper[~integer & (rng.random(len(integer)) < 0.3)] = np.inf
    fractional = rng.random() < 0.1
    return lower - 0.5 * fractional, upper + 0.5 * fractional


def _row_sides(rng: np.random.Generator, middle: Floats) -> tuple[Floats, Floats]:
    lower, upper = np.full(len(middle), -np.inf), np.full(len(middle), np.inf)
    kind = rng.integers(0, 9, len(middle))  # 8: a row without sides
    at_least, at_most, equal, between = kind < 3, (kind >= 3) & (kind < 6), kind == 6, kind == 7
    lower[at_least | equal] = middle[at_least | equal]
    upper[at_most | equal] = middle[at_most | equal]
    lower[between], upper[between] = middle[between] - 1, middle[between] + 2
    return lower, upper

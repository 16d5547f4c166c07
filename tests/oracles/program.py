"""Raw programs in their slowest form: a problem from a random program, and a problem written out to be enumerated."""

from __future__ import annotations

import math

import numpy as np

from models.contract import Sense
from models.linear.schema import Columns, Entries, Problem, Rows
from models.program import LinearProgram
from tests.optimizer.oracle import Truth, dense, from_dense, random_program, truth


def problem_of(program: LinearProgram, *, named: bool = True) -> Problem:
    """The problem that says what ``program`` says."""
    matrix = dense(program)
    row, column = np.nonzero(matrix)
    return Problem(
        sense=Sense.maximise if program.maximise else Sense.minimise,
        offset=program.offset,
        columns=Columns(
            names=tuple(f"col{place}" for place in range(program.columns)) if named else None,
            cost=tuple(program.cost.tolist()),
            lower=tuple(map(side, program.column_lower.tolist())),
            upper=tuple(map(side, program.column_upper.tolist())),
            integer=tuple(program.integer.tolist()),
        ),
        rows=Rows(
            names=tuple(f"row{place}" for place in range(program.rows)) if named else None,
            lower=tuple(map(side, program.row_lower.tolist())),
            upper=tuple(map(side, program.row_upper.tolist())),
        ),
        entries=Entries(rows=tuple(row.tolist()), columns=tuple(column.tolist()), values=tuple(matrix[row, column].tolist())),
    )


def side(value: float) -> float | None:
    return value if math.isfinite(value) else None


def random_problem(seed: int) -> Problem:
    """Up to four columns and four rows of every kind: feasible, infeasible or unbounded."""
    rng = np.random.default_rng(seed)
    integers, continuous = ((0, 2), (0, 3), (3, 0), (1, 2), (2, 1))[int(rng.integers(5))]
    return problem_of(random_program(rng, integers=integers, continuous=continuous))


def enumerated(problem: Problem) -> Truth:
    """The answer by enumeration, from the problem's lists alone."""
    columns, rows, entries = problem.columns, problem.rows, problem.entries
    width = len(columns.cost)
    matrix = np.zeros((rows.count, width))
    for row, column, value in zip(entries.rows, entries.columns, entries.values, strict=True):
        matrix[row, column] = value
    lower = [0.0] * width if columns.lower is None else [-math.inf if one is None else one for one in columns.lower]
    upper = [math.inf] * width if columns.upper is None else [math.inf if one is None else one for one in columns.upper]
    row_lower = [-math.inf if one is None else one for one in rows.lower or [None] * rows.count]
    row_upper = [math.inf if one is None else one for one in rows.upper or [None] * rows.count]
    program = from_dense(
        matrix,
        (np.array(row_lower, dtype=np.float64), np.array(row_upper, dtype=np.float64)),
        (np.array(lower), np.array(upper)),
        np.array(columns.cost),
        np.array(columns.integer or [False] * width),
        maximise=problem.sense is Sense.maximise,
        offset=problem.offset,
    )
    return truth(program)

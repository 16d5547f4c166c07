"""Chains of programs and problems that are much alike: each is the one before with a few changes, now and then with another structure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from models.contract import Sense
from models.linear.schema import Columns, Entries, Problem, Rows
from tests.optimizer.oracle import random_program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.program import Floats, LinearProgram


def programs(seed: int, length: int, *, integers: int, continuous: int) -> Iterator[LinearProgram]:
    """A random program, then ``length`` changed ones, each made from the one before; some of them have no solution."""
    rng = np.random.default_rng(seed)
    first = program = random_program(rng, integers=integers, continuous=continuous)
    yield program
    for _ in range(length):
        for _ in range(rng.integers(1, 4)):
            program = _changed(rng, program)
        if rng.random() < 0.15:
            program = first
        yield program


def _changed(rng: np.random.Generator, program: LinearProgram) -> LinearProgram:
    """One change, of one number or of many."""
    return CHANGES[int(rng.integers(0, len(CHANGES)))](rng, program)


def _some(rng: np.random.Generator, count: int, most: int) -> Floats:
    """Whole numbers from ``-most`` to ``most``, 0 for all or for many."""
    return np.where(rng.random(count) < rng.choice([0.3, 1.0]), rng.integers(-most, most + 1, count), 0).astype(np.float64)


def _cost(rng: np.random.Generator, program: LinearProgram) -> LinearProgram:
    return replace(program, cost=program.cost + _some(rng, program.columns, 3))


def _both_sides(rng: np.random.Generator, program: LinearProgram) -> LinearProgram:
    shift = _some(rng, program.rows, 3)
    return replace(program, row_lower=program.row_lower + shift, row_upper=program.row_upper + shift)


def _upper_sides(rng: np.random.Generator, program: LinearProgram) -> LinearProgram:
    return replace(program, row_upper=np.maximum(program.row_upper + _some(rng, program.rows, 2), program.row_lower))


def _upper_bounds(rng: np.random.Generator, program: LinearProgram) -> LinearProgram:
    return replace(program, column_upper=np.maximum(program.column_upper + _some(rng, program.columns, 2), program.column_lower))


def _coefficients(rng: np.random.Generator, program: LinearProgram) -> LinearProgram:
    values = program.coefficients + 0.5 * _some(rng, len(program.coefficients), 4)
    return replace(program, coefficients=np.where(values == 0, program.coefficients, values))


def _offset(_: np.random.Generator, program: LinearProgram) -> LinearProgram:
    return replace(program, offset=program.offset + 1.5)


def _one_row_less(rng: np.random.Generator, program: LinearProgram) -> LinearProgram:
    if program.rows < 2 or rng.random() < 0.5:
        return program
    entries = program.starts[-2]
    return replace(
        program,
        row_lower=program.row_lower[:-1],
        row_upper=program.row_upper[:-1],
        starts=program.starts[:-1],
        indices=program.indices[:entries],
        coefficients=program.coefficients[:entries],
        row_blocks=(),
    )


def _other_sense(rng: np.random.Generator, program: LinearProgram) -> LinearProgram:
    return replace(program, maximise=not program.maximise) if rng.random() < 0.3 else program


CHANGES = (_cost, _both_sides, _upper_sides, _upper_bounds, _coefficients, _offset, _one_row_less, _other_sense)


def as_problem(program: LinearProgram) -> Problem:
    """The program as a problem of the kind ``program``."""

    def limits(numbers: Any) -> tuple[float | None, ...]:
        return tuple(None if np.isinf(one) else one for one in numbers.tolist())

    return Problem(
        sense=Sense.maximise if program.maximise else Sense.minimise,
        offset=program.offset,
        columns=Columns(
            cost=tuple(program.cost.tolist()),
            lower=limits(program.column_lower),
            upper=limits(program.column_upper),
            integer=tuple(program.integer.tolist()),
        ),
        rows=Rows(lower=limits(program.row_lower), upper=limits(program.row_upper)),
        entries=Entries(
            rows=tuple(program.entry_rows.tolist()), columns=tuple(program.indices.tolist()), values=tuple(program.coefficients.tolist())
        ),
    )

"""The exact program: the data is one already, so ``build`` returns a LinearProgram and no Pyomo model.

``build(..., hasten=False)`` states the bounds of columns as rows named ``bound``, so that a conflict can cite them, a repair
can move them, and sensitivity can price them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from models.linear.arrays import arrays_of, column_names, row_names
from models.linear.duals import cleaned, reduced_costs
from models.linear.schema import Plan, Rule
from models.linear.verify import verify
from models.program import Block, LinearProgram, row_starts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.linear.arrays import Arrays
    from models.linear.schema import GoalName, Problem
    from models.program import Bools, Floats

COLUMN = "value"  # the one family of columns


def build(
    problem: Problem, goal: GoalName | None = None, floors: Mapping[GoalName, float] | None = None, *, hasten: bool = True
) -> LinearProgram:
    """The program in the order of the problem's columns and rows; with ``hasten=False`` bounds are rows too.

    The bounds 0 and 1 of an integer column are part of what it decides (yes or no) and stay bounds.
    """
    del goal, floors  # there is one goal
    arrays = arrays_of(problem)
    order = np.lexsort((arrays.entry_column, arrays.entry_row))
    program = LinearProgram(
        maximise=arrays.maximise,
        cost=arrays.cost,
        column_lower=arrays.column_lower,
        column_upper=arrays.column_upper,
        integer=arrays.integer,
        row_lower=arrays.row_lower,
        row_upper=arrays.row_upper,
        starts=row_starts(arrays.entry_row, arrays.rows),
        indices=arrays.entry_column[order],
        coefficients=arrays.entry_value[order],
        offset=arrays.offset,
        row_blocks=(Block(Rule.row.value, 0, _ids(tuple(row_names(problem)))),) if arrays.rows else (),
        column_blocks=(Block(COLUMN, 0, _ids(tuple(column_names(problem)))),),
    )
    return program if hasten else _with_bounds_as_rows(problem, arrays, program)


@lru_cache(maxsize=4)
def _ids(names: tuple[str, ...]) -> tuple[tuple[str], ...]:
    """Names as id tuples, for programs of the same names one after another."""
    return tuple((name,) for name in names)


def extract(problem: Problem, values: Mapping[str, Mapping[tuple[Any, ...], float]]) -> Plan:
    """The plan of column values; they come in the order of the columns."""
    del problem
    return Plan(values=tuple(values[COLUMN].values()))


def start(problem: Problem, plan: Plan) -> Mapping[str, Mapping[tuple[Any, ...], float]]:
    """The values of a plan by column."""
    return {COLUMN: {(name,): value for name, value in zip(column_names(problem), plan.values, strict=True)}}


def size(problem: Problem) -> int:
    """How many columns."""
    return len(problem.columns.cost)


def priced(problem: Problem, plan: Plan, row_duals: Floats, _reduced_costs: Floats) -> Plan:
    """The plan with the prices that prove it best; unchanged when these, recomputed, do not."""
    arrays = arrays_of(problem)
    duals = cleaned(arrays, row_duals)
    reduced = reduced_costs(arrays, duals) + 0.0
    told = Plan(values=plan.values, row_duals=tuple(duals.tolist()), reduced_costs=tuple(reduced.tolist()))
    return told if verify(problem, told).ok else plan


def _with_bounds_as_rows(problem: Problem, arrays: Arrays, program: LinearProgram) -> LinearProgram:
    lower, upper = program.column_lower, program.column_upper
    yes_or_no: Bools = arrays.integer & (lower == 0.0) & (upper == 1.0)
    stated = np.flatnonzero((np.isfinite(lower) | np.isfinite(upper)) & ~yes_or_no)
    if not len(stated):
        return program
    names = column_names(problem)
    block = Block(Rule.bound.value, program.rows, tuple((names[place],) for place in stated.tolist()))
    return LinearProgram(
        maximise=program.maximise,
        cost=program.cost,
        column_lower=np.where(yes_or_no, lower, -np.inf),
        column_upper=np.where(yes_or_no, upper, np.inf),
        integer=program.integer,
        row_lower=np.concatenate((program.row_lower, lower[stated])),
        row_upper=np.concatenate((program.row_upper, upper[stated])),
        starts=np.concatenate((program.starts, program.starts[-1] + 1 + np.arange(len(stated)))),
        indices=np.concatenate((program.indices, stated)),
        coefficients=np.concatenate((program.coefficients, np.ones(len(stated)))),
        offset=program.offset,
        row_blocks=(*program.row_blocks, block),
        column_blocks=program.column_blocks,
    )

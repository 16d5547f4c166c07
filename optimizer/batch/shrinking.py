"""From nearly feasible to feasible: each column is drawn towards a feasible point by as little as its rows ask for.

A first-order method ends near the feasible set, not in it. Told from a feasible point, the anchor, every column stands a step away. The
steps that push a row across a side are shortened in proportion, until what is left fits: that side then holds. It may cost another row,
whose steps are shortened next. Steps only ever become shorter, and none at all is feasible, so this ends; where rows follow from each
other (capacity, then speed, then level) it takes one sweep for each link of the chain.

The same repairs duals: "no infinite side is paid for" is a set of linear rows over the duals, with no payment at all as an anchor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.program import Floats, Ints, LinearProgram

MOST_SWEEPS = 30
FITS = 1e-10  # relative to the larger of 1 and the side: an excess of no more is rounding


def feasible_near(program: LinearProgram, values: Floats) -> Floats:
    """``values`` (columns,), moved into every row and bound where that can be done; otherwise only into their bounds.

    The anchor is the point of the box that is nearest to 0.
    """
    inside = np.clip(values, program.column_lower, program.column_upper)
    anchor = np.clip(0.0, program.column_lower, program.column_upper)
    activity = program.activity(anchor)
    rooms = program.row_upper - activity, activity - program.row_lower
    steps = _shortened(program.entry_rows, program.indices, program.coefficients, rooms, inside - anchor)
    return inside if steps is None else np.clip(anchor + steps, program.column_lower, program.column_upper)


def payable_near(program: LinearProgram, row_duals: Floats) -> Floats:
    """Row duals with which no reduced cost pushes a column towards an infinite bound, near the given ones; or the given ones.

    ``row_duals`` (rows,) are signed as ``ProgramResult.row_duals``. The anchor is 0, which serves where no cost does.
    """
    sign = -1.0 if program.maximise else 1.0
    # Minimising, a reduced cost must not be negative without an upper bound, nor positive without a lower one.
    above = np.where(np.isinf(program.column_upper), sign * program.cost, np.inf)
    below = np.where(np.isinf(program.column_lower), -sign * program.cost, np.inf)
    steps = _shortened(program.indices, program.entry_rows, program.coefficients, (above, below), sign * row_duals)
    return row_duals if steps is None else sign * steps


def _shortened(rows: Ints, columns: Ints, coefficients: Floats, rooms: tuple[Floats, Floats], steps: Floats) -> Floats | None:
    """Steps (columns,) shortened until what they come to lies within ``-rooms[1] .. rooms[0]`` in each row; None where they cannot be.

    ``rows``, ``columns``, ``coefficients``: the entries of the matrix, each shape (entries,).
    """
    above, below = rooms
    count = len(above)
    slack = FITS * np.maximum(1.0, np.minimum(np.abs(above), np.abs(below)))
    if (above < -slack).any() or (below < -slack).any():
        return None
    steps = steps.copy()
    above, below = np.maximum(above, 0.0), np.maximum(below, 0.0)
    for _ in range(MOST_SWEEPS):
        moved = coefficients * steps[columns]
        rise = np.bincount(rows, np.maximum(moved, 0.0), minlength=count)
        fall = np.bincount(rows, np.maximum(-moved, 0.0), minlength=count)
        over, under = rise - fall > above + slack, fall - rise > below + slack
        if not (over.any() or under.any()):
            return steps
        rising = np.where(over, (above + fall) / np.where(over, rise, 1.0), 1.0)
        falling = np.where(under, (below + rise) / np.where(under, fall, 1.0), 1.0)
        broken = np.flatnonzero((over | under)[rows])
        factor = np.where(moved[broken] > 0.0, rising[rows[broken]], falling[rows[broken]])
        shortest = np.ones(len(steps))
        np.minimum.at(shortest, columns[broken], factor)
        steps *= shortest
    return None

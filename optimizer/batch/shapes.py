"""Programs of one shape as scaled arrays: what the iteration works on.

The matrix is brought near 1 by Ruiz's scaling (D. Ruiz, "A scaling algorithm to equilibrate both rows and columns norms in matrices",
2001), then by that of T. Pock and A. Chambolle ("Diagonal preconditioning for first order primal-dual algorithms in convex optimization",
ICCV 2011), after which its norm is at most 1. Where programs have matrices of their own, one scaling is made for the largest entries of
all of them: then no norm is above 1 either. Each program's costs and sides are divided by their own sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Floats, Ints, LinearProgram

RUIZ_ROUNDS = 10


@dataclass(frozen=True, eq=False)
class Part:
    """Some programs, scaled; minimising. Shapes end with the programs: (columns, programs), (rows, programs), (programs,).

    A scaled value is the true one, over ``Shape.column_scale``, times ``side_unit``; a scaled dual the true one, over
    ``Shape.row_scale``, times ``cost_unit``. ``row_unit`` is what one scaled unit of a row comes to, as a share of the larger of 1 and
    its sides, one over that.
    """

    cost: Floats
    column_lower: Floats
    column_upper: Floats
    row_lower: Floats
    row_upper: Floats
    row_unit: Floats
    side_unit: Floats
    cost_unit: Floats
    offset: Floats
    coefficients: Floats  # (entries,) where all programs share them, else (entries, programs)


class Shape:
    """Programs with the same rows, columns and places of entries, and their common scaling."""

    def __init__(self, programs: Sequence[LinearProgram]) -> None:
        self.programs = tuple(programs)
        first = self.programs[0]
        self.rows, self.columns = first.rows, first.columns
        self.entry_rows, self.entry_columns = first.entry_rows, first.indices
        self.common = all(np.array_equal(one.coefficients, first.coefficients) for one in self.programs[1:])
        largest = np.abs(first.coefficients)
        for one in () if self.common else self.programs[1:]:
            largest = np.maximum(largest, np.abs(one.coefficients))
        self.row_scale, self.column_scale = _scales(self.entry_rows, self.entry_columns, largest, self.rows, self.columns)

    def part(self, places: Sequence[int]) -> Part:
        """The programs at ``places``, scaled."""
        chosen = [self.programs[place] for place in places]
        sign = np.array([-1.0 if one.maximise else 1.0 for one in chosen])
        cost = _beside([one.cost for one in chosen]) * self.column_scale[:, None] * sign
        lower, upper = (_beside([getattr(one, side) for one in chosen]) for side in ("row_lower", "row_upper"))
        sizes = np.maximum(1.0, np.maximum(_finite(lower), _finite(upper)))
        cost_unit = 1.0 / (1.0 + np.linalg.norm(cost, axis=0))
        row_scale = self.row_scale[:, None]
        side_unit = 1.0 / (1.0 + np.linalg.norm(np.maximum(_finite(lower), _finite(upper)) * row_scale, axis=0))
        box = (_beside([getattr(one, side) for one in chosen]) / self.column_scale[:, None] for side in ("column_lower", "column_upper"))
        column_lower, column_upper = (side * side_unit for side in box)
        entries = chosen[:1] if self.common else chosen
        scale = self.row_scale[self.entry_rows] * self.column_scale[self.entry_columns]
        coefficients = _beside([one.coefficients for one in entries]) * scale[:, None]
        return Part(
            cost=cost * cost_unit,
            column_lower=column_lower,
            column_upper=column_upper,
            row_lower=lower * row_scale * side_unit,
            row_upper=upper * row_scale * side_unit,
            row_unit=1.0 / (row_scale * side_unit * sizes),
            side_unit=side_unit,
            cost_unit=cost_unit,
            offset=np.array([one.offset for one in chosen]) * sign,
            coefficients=coefficients[:, 0] if self.common else coefficients,
        )


def by_shape(programs: Sequence[LinearProgram]) -> list[list[int]]:
    """Positions of programs in groups of the same shape, each in order."""
    groups: dict[tuple[int, int, bytes, bytes], list[int]] = {}
    for place, one in enumerate(programs):
        groups.setdefault((one.rows, one.columns, one.starts.tobytes(), one.indices.tobytes()), []).append(place)
    return list(groups.values())


def _scales(rows: Ints, columns: Ints, entries: Floats, row_count: int, column_count: int) -> tuple[Floats, Floats]:
    """What to multiply rows and columns with, shapes (rows,) and (columns,)."""
    row_scale, column_scale = np.ones(row_count), np.ones(column_count)
    for round_ in range(RUIZ_ROUNDS + 1):
        now = entries * row_scale[rows] * column_scale[columns]
        by_row, by_column = np.zeros(row_count), np.zeros(column_count)
        gathered = np.maximum if round_ < RUIZ_ROUNDS else np.add
        gathered.at(by_row, rows, now)
        gathered.at(by_column, columns, now)
        row_scale /= np.sqrt(np.where(by_row > 0.0, by_row, 1.0))
        column_scale /= np.sqrt(np.where(by_column > 0.0, by_column, 1.0))
    return row_scale, column_scale


def _finite(sides: Floats) -> Floats:
    return np.where(np.isinf(sides), 0.0, np.abs(sides))


def _beside(arrays: Sequence[Floats]) -> Floats:
    return np.stack(arrays, axis=1)

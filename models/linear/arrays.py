"""A raw program's lists as numpy arrays, made once for each Problem."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from models.contract import Sense
from models.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.linear.schema import Problem
    from models.program import Bools, Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """The program in numbers, with -inf and +inf where a side is missing.

    Shapes: ``cost``, ``column_lower``, ``column_upper``, ``integer``: (columns,); ``row_lower``, ``row_upper``: (rows,);
    ``entry_row``, ``entry_column``, ``entry_value``: (entries,), in the order of the problem.
    """

    maximise: bool
    offset: float
    cost: Floats
    column_lower: Floats
    column_upper: Floats
    integer: Bools
    row_lower: Floats
    row_upper: Floats
    entry_row: Ints
    entry_column: Ints
    entry_value: Floats

    @property
    def columns(self) -> int:
        """How many columns."""
        return len(self.cost)

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(self.row_lower)

    @property
    def is_mip(self) -> bool:
        """Whether any column takes whole numbers only."""
        return bool(self.integer.any())

    def row_sums(self, entries: Floats) -> Floats:
        """The sum of ``entries``, shape (entries,), over each row, shape (rows,)."""
        return np.bincount(self.entry_row, weights=entries, minlength=self.rows).astype(np.float64)

    def column_sums(self, entries: Floats) -> Floats:
        """The sum of ``entries``, shape (entries,), over each column, shape (columns,)."""
        return np.bincount(self.entry_column, weights=entries, minlength=self.columns).astype(np.float64)

    def objective(self, values: Floats) -> float:
        """The goal's value at ``values``, shape (columns,)."""
        return float(self.cost @ values) + self.offset


def arrays_of(problem: Problem) -> Arrays:
    """The arrays of ``problem``; those of the problems asked for last are kept as long as they live."""
    return _kept.of(problem)


@lru_cache(maxsize=4)
def _numbered(letter: str, count: int) -> tuple[str, ...]:
    """Names by position; those of a large program take longer to make than to check its plan."""
    return tuple(f"{letter}{place}" for place in range(count))


def column_names(problem: Problem) -> Sequence[str]:
    """The name of each column."""
    given = problem.columns.names
    return given if given is not None else _numbered("x", len(problem.columns.cost))


def row_names(problem: Problem) -> Sequence[str]:
    """The name of each row."""
    given = problem.rows.names
    return given if given is not None else _numbered("r", problem.rows.count)


def limits(given: Sequence[float | None] | None, count: int, *, default: float, missing: float) -> Floats:
    """One side of rows or bounds of columns: ``missing`` where it is null, ``default`` everywhere when the list is left out."""
    if given is None:
        return np.full(count, default)
    numbers = np.array(given, dtype=np.float64)  # null becomes NaN
    return np.where(np.isnan(numbers), missing, numbers)


def _arrays(problem: Problem) -> Arrays:
    columns, rows, entries = problem.columns, problem.rows, problem.entries
    width, height = len(columns.cost), rows.count
    return Arrays(
        maximise=problem.sense is Sense.maximise,
        offset=problem.offset,
        cost=np.array(columns.cost, dtype=np.float64),
        column_lower=limits(columns.lower, width, default=0.0, missing=-np.inf),
        column_upper=limits(columns.upper, width, default=np.inf, missing=np.inf),
        integer=np.zeros(width, dtype=np.bool_) if columns.integer is None else np.array(columns.integer, dtype=np.bool_),
        row_lower=limits(rows.lower, height, default=-np.inf, missing=-np.inf),
        row_upper=limits(rows.upper, height, default=np.inf, missing=np.inf),
        entry_row=np.array(entries.rows, dtype=np.int64),
        entry_column=np.array(entries.columns, dtype=np.int64),
        entry_value=np.array(entries.values, dtype=np.float64),
    )


_kept: Kept[Problem, Arrays] = Kept(_arrays)

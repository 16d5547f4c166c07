"""Builds a ``LinearProgram`` from whole blocks of columns and rows given as numpy arrays.

For formulations too large to be written row by row: nothing here loops over rows, columns or entries.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar, overload

import numpy as np
import numpy.typing as npt

from models.program import Block, Ids, LinearProgram, row_starts

Number = TypeVar("Number", bound=np.generic)


class ProductIds(Sequence[Ids]):
    """The id tuples of a dense block, last axis fastest, made when asked for: ``ProductIds(jobs, nodes)[k]``.

    Holds the axes only, so a block of a million columns costs no million tuples.
    """

    __slots__ = ("_axes", "_length")

    def __init__(self, *axes: Iterable[Hashable]) -> None:
        """Take one iterable of ids per axis; no axes means one empty id tuple (a scalar)."""
        self._axes = tuple(tuple(axis) for axis in axes)
        self._length = int(np.prod([len(axis) for axis in self._axes], dtype=np.int64))

    def __len__(self) -> int:
        """How many id tuples."""
        return self._length

    @overload
    def __getitem__(self, position: int) -> Ids: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Ids]: ...
    def __getitem__(self, position: int | slice) -> Ids | Sequence[Ids]:
        """One id tuple, or a list of them for a slice; IndexError past the end."""
        if isinstance(position, slice):
            return tuple(self[one] for one in range(*position.indices(self._length)))
        at = position + self._length if position < 0 else position
        if not 0 <= at < self._length:
            raise IndexError(f"id {position} of {self._length}")
        reverse: list[Hashable] = []
        for axis in reversed(self._axes):
            at, here = divmod(at, len(axis))
            reverse.append(axis[here])
        return tuple(reversed(reverse))


class ProgramBuilder:
    """Collects blocks of columns and rows and joins them once, in ``build``.

    Every number may be a scalar, which then holds for the whole block. Entries of a row that name the same column are
    added up; entries that come to exactly zero are dropped.
    """

    def __init__(self, *, maximise: bool = False, offset: float = 0.0) -> None:
        """Start an empty program."""
        self._maximise = maximise
        self._offset = offset
        self._columns: list[dict[str, npt.NDArray[np.generic]]] = []
        self._rows: list[dict[str, npt.NDArray[np.generic]]] = []
        self._column_blocks: list[Block] = []
        self._row_blocks: list[Block] = []

    def add_columns(
        self,
        name: str,
        ids: Sequence[Ids],
        *,
        cost: npt.ArrayLike = 0.0,
        lower: npt.ArrayLike = 0.0,
        upper: npt.ArrayLike = np.inf,
        integer: npt.ArrayLike = False,
    ) -> slice:
        """Add one block of columns, one for each id tuple, and return where it lies.

        Raises ValueError when an array has neither one entry nor one for each id.
        """
        count = len(ids)
        given = {"cost": cost, "column_lower": lower, "column_upper": upper}
        parts: dict[str, npt.NDArray[np.generic]] = {
            part: np.broadcast_to(np.asarray(value, dtype=np.float64), (count,)) for part, value in given.items()
        }
        parts["integer"] = np.broadcast_to(np.asarray(integer, dtype=np.bool_), (count,))
        block = Block(name, self._column_blocks[-1].stop if self._column_blocks else 0, ids)
        self._columns.append(parts)
        self._column_blocks.append(block)
        return block.rows

    def add_rows(
        self,
        name: str,
        ids: Sequence[Ids],
        *,
        lower: npt.ArrayLike = -np.inf,
        upper: npt.ArrayLike = np.inf,
        row_index: npt.ArrayLike,
        column_index: npt.ArrayLike,
        coefficient: npt.ArrayLike = 1.0,
    ) -> slice:
        """Add one block of rows, one for each id tuple, and return where it lies.

        Entry k puts ``coefficient[k]`` into the block's own row ``row_index[k]`` (0-based within the block) for the
        program's column ``column_index[k]``; the three are broadcast against each other and flattened.

        Raises ValueError when shapes do not fit or a row index lies outside the block.
        """
        count = len(ids)
        row, column, value = np.broadcast_arrays(
            np.asarray(row_index, dtype=np.int64),
            np.asarray(column_index, dtype=np.int64),
            np.asarray(coefficient, dtype=np.float64),
        )
        if row.size and not (row.min() >= 0 and row.max() < count):
            raise ValueError(f"{name}: row_index must lie in 0..{count - 1}")
        block = Block(name, self._row_blocks[-1].stop if self._row_blocks else 0, ids)
        self._rows.append(
            {
                "row_lower": np.broadcast_to(np.asarray(lower, dtype=np.float64), (count,)),
                "row_upper": np.broadcast_to(np.asarray(upper, dtype=np.float64), (count,)),
                "row": row.ravel() + block.start,
                "column": column.ravel(),
                "coefficient": value.ravel(),
            }
        )
        self._row_blocks.append(block)
        return block.rows

    def build(self) -> LinearProgram:
        """Join the blocks; raises ValueError as ``LinearProgram`` does."""
        columns = self._column_blocks[-1].stop if self._column_blocks else 0
        rows = self._row_blocks[-1].stop if self._row_blocks else 0
        entry_row = _joined(self._rows, "row", np.int64)
        column = _joined(self._rows, "column", np.int64)
        if len(column) and not (column.min() >= 0 and column.max() < columns):
            raise ValueError(f"column_index must lie in 0..{columns - 1}")
        entry_row, column, value = _merged(entry_row, column, _joined(self._rows, "coefficient", np.float64), columns)
        return LinearProgram(
            maximise=self._maximise,
            cost=_joined(self._columns, "cost", np.float64),
            column_lower=_joined(self._columns, "column_lower", np.float64),
            column_upper=_joined(self._columns, "column_upper", np.float64),
            integer=_joined(self._columns, "integer", np.bool_),
            row_lower=_joined(self._rows, "row_lower", np.float64),
            row_upper=_joined(self._rows, "row_upper", np.float64),
            starts=row_starts(entry_row, rows),
            indices=column,
            coefficients=value,
            offset=self._offset,
            row_blocks=tuple(self._row_blocks),
            column_blocks=tuple(self._column_blocks),
        )


def _joined(parts: list[dict[str, npt.NDArray[np.generic]]], name: str, kind: type[Number]) -> npt.NDArray[Number]:
    return np.concatenate([np.zeros(0, dtype=kind), *(part[name].astype(kind, copy=False) for part in parts)])


def _merged(
    row: npt.NDArray[np.int64], column: npt.NDArray[np.int64], value: npt.NDArray[np.float64], columns: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Sort entries by row and column, add up repeats, drop zeros."""
    key = row * columns + column
    if not (np.diff(key) > 0).all():
        order = np.argsort(key, kind="stable")
        key, value = key[order], value[order]
        first = np.flatnonzero(np.diff(key, prepend=-1) > 0)
        key, value = key[first], np.add.reduceat(value, first)
    kept = value != 0.0
    key, value = key[kept], value[kept]
    return key // max(columns, 1), key % max(columns, 1), value

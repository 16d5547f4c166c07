"""A linear or mixed-integer program as plain arrays: what every formulation becomes and every backend takes.

The program is ``min or max  c'x + offset`` subject to ``row_lower <= A x <= row_upper`` and
``column_lower <= x <= column_upper``, with some columns integer. ``A`` is stored by rows (CSR).

Rows and columns come in named blocks: a block is a run of consecutive rows that state the same rule
(``node_cpu``) for different ids (one node each). Names are what explanations and conflicts are told in.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Ids = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows (or columns) that share one name; ``ids[i]`` is the id tuple of row ``start + i``."""

    name: str
    start: int
    ids: Sequence[Ids]

    @property
    def stop(self) -> int:
        """One past the last row of the block."""
        return self.start + len(self.ids)

    @property
    def rows(self) -> slice:
        """The block as a slice into any row-shaped (or column-shaped) array."""
        return slice(self.start, self.stop)


@dataclass(frozen=True, slots=True, eq=False)
class LinearProgram:
    """An immutable linear or mixed-integer program. Arrays are made read-only on construction.

    Shapes: ``cost``, ``column_lower``, ``column_upper``, ``integer``: (columns,); ``row_lower``, ``row_upper``: (rows,);
    ``starts``: (rows + 1,); ``indices``, ``coefficients``: (non-zeros,). A missing side is -inf or +inf. A row
    names each column at most once, in any order. Blocks are in order and do not overlap; they need not cover everything.
    Two programs are equal only when they are the same object.

    A row may be impossible (no entries, bounds without 0): that is an infeasible program, not a wrong one.

    Raises ValueError when shapes disagree, an index is out of range or repeated in its row, a lower bound
    exceeds its upper bound, or a number is NaN (or infinite where that has no meaning).
    """

    maximise: bool
    cost: Floats
    column_lower: Floats
    column_upper: Floats
    integer: Bools
    row_lower: Floats
    row_upper: Floats
    starts: Ints
    indices: Ints
    coefficients: Floats
    offset: float = 0.0
    row_blocks: tuple[Block, ...] = field(default=())
    column_blocks: tuple[Block, ...] = field(default=())

    def __post_init__(self) -> None:
        """Take read-only arrays of the right type and check them all."""
        for name, kind in _ARRAYS.items():
            given = getattr(self, name)
            array: npt.NDArray[np.generic] = np.ascontiguousarray(given, dtype=kind)
            if array.flags.writeable:
                # Never freeze (or share memory with) an array the caller still holds.
                array = array.copy() if isinstance(given, np.ndarray) and np.may_share_memory(array, given) else array
                array.flags.writeable = False
            object.__setattr__(self, name, array)
        object.__setattr__(self, "row_blocks", tuple(self.row_blocks))
        object.__setattr__(self, "column_blocks", tuple(self.column_blocks))
        _check_shapes(self)
        _check_numbers(self)
        _check_matrix(self)
        _check_blocks("row", self.row_blocks, self.rows)
        _check_blocks("column", self.column_blocks, self.columns)

    def __reduce__(self) -> tuple[type[LinearProgram], tuple[object, ...]]:
        """Pickle through the constructor, so that a copy sent to another process is read-only too."""
        return LinearProgram, tuple(getattr(self, one.name) for one in fields(self))

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(self.row_lower)

    @property
    def columns(self) -> int:
        """How many columns."""
        return len(self.cost)

    @property
    def is_mip(self) -> bool:
        """Whether any column is integer."""
        return bool(self.integer.any())

    @property
    def entry_rows(self) -> Ints:
        """The row of every stored coefficient, shape (non-zeros,)."""
        return np.repeat(np.arange(self.rows, dtype=np.int64), np.diff(self.starts))

    def row_block(self, name: str) -> Block:
        """The block of rows called ``name``; KeyError when there is none."""
        return _named(self.row_blocks, name)

    def column_block(self, name: str) -> Block:
        """The block of columns called ``name``; KeyError when there is none."""
        return _named(self.column_blocks, name)

    def row_name(self, row: int) -> str:
        """What to call one row in a message: ``node_cpu[n1]``, or ``row 7`` outside all blocks."""
        return _label("row", self.row_blocks, row)

    def column_name(self, column: int) -> str:
        """What to call one column in a message: ``place[j1,n1]``, or ``column 7`` outside all blocks."""
        return _label("column", self.column_blocks, column)

    def relaxed(self) -> LinearProgram:
        """The same program without integrality."""
        return replace(self, integer=np.zeros(self.columns, dtype=np.bool_))

    def with_rows(self, lower: Floats, upper: Floats, starts: Ints, indices: Ints, coefficients: Floats) -> LinearProgram:
        """The program with rows appended (CSR: ``starts`` has one more entry than ``lower``), outside all blocks."""
        return replace(
            self,
            row_lower=np.concatenate((self.row_lower, lower)),
            row_upper=np.concatenate((self.row_upper, upper)),
            starts=np.concatenate((self.starts, self.starts[-1] + np.asarray(starts, dtype=np.int64)[1:])),
            indices=np.concatenate((self.indices, indices)),
            coefficients=np.concatenate((self.coefficients, coefficients)),
        )

    def with_columns(
        self, cost: Floats, lower: Floats, upper: Floats, integer: Bools, starts: Ints, indices: Ints, coefficients: Floats
    ) -> LinearProgram:
        """The program with columns appended (by columns: ``indices`` are rows), outside all blocks."""
        added = np.repeat(np.arange(len(cost), dtype=np.int64) + self.columns, np.diff(starts))
        entry_rows = np.concatenate((self.entry_rows, np.asarray(indices, dtype=np.int64)))
        order = np.argsort(entry_rows, kind="stable")
        return replace(
            self,
            cost=np.concatenate((self.cost, cost)),
            column_lower=np.concatenate((self.column_lower, lower)),
            column_upper=np.concatenate((self.column_upper, upper)),
            integer=np.concatenate((self.integer, integer)),
            starts=row_starts(entry_rows, self.rows),
            indices=np.concatenate((self.indices, added))[order],
            coefficients=np.concatenate((self.coefficients, coefficients))[order],
        )

    def activity(self, values: Floats) -> Floats:
        """``A x`` for one vector of column values, shape (rows,), each row summed on its own."""
        return self._row_sums(self.coefficients * self._vector(values)[self.indices])

    def pulled_back(self, row_values: Floats) -> Floats:
        """``A' y`` for one vector of row values, shape (columns,)."""
        weights = self.coefficients * np.repeat(row_values, np.diff(self.starts))
        return np.bincount(self.indices, weights=weights, minlength=self.columns)[: self.columns].astype(np.float64)

    def objective(self, values: Floats) -> float:
        """``c'x + offset`` for one vector of column values."""
        return float(self.cost @ self._vector(values)) + self.offset

    def largest_violation(self, values: Floats) -> float:
        """The largest amount by which ``values`` break a row, a bound or integrality (0.0: none; NaN in: inf out)."""
        return self._violation(values, relative=False)

    def relative_violation(self, values: Floats) -> float:
        """As ``largest_violation``, each break of a side divided by ``max(1, |that side|)``."""
        return self._violation(values, relative=True)

    def _violation(self, values: Floats, *, relative: bool) -> float:
        values = self._vector(values)
        if not np.isfinite(values).all():
            return np.inf
        activity = self.activity(values)
        worst = 0.0
        for body, lower, upper in ((activity, self.row_lower, self.row_upper), (values, self.column_lower, self.column_upper)):
            for side, excess in ((lower, lower - body), (upper, body - upper)):
                scale = np.maximum(1.0, np.where(np.isinf(side), 1.0, np.abs(side))) if relative else 1.0
                worst = max(worst, float((excess / scale).max(initial=0.0)))
        fractions = np.abs(values - np.round(values))[self.integer]
        return max(worst, float(fractions.max(initial=0.0)))

    def _row_sums(self, entries: Floats) -> Floats:
        sums = np.zeros(self.rows)
        filled = np.diff(self.starts) > 0  # reduceat would give an empty row its neighbour's first entry
        if filled.any():
            sums[filled] = np.add.reduceat(entries, self.starts[:-1][filled])
        return sums

    def _vector(self, values: Floats) -> Floats:
        array = np.asarray(values, dtype=np.float64)
        if array.shape != (self.columns,):
            raise ValueError(f"expected {self.columns} column values, got shape {array.shape}")
        return array


def row_starts(entry_rows: Ints, rows: int) -> Ints:
    """CSR ``starts``, shape (rows + 1,), for entries whose rows are ``entry_rows`` (in any order)."""
    counts = np.bincount(entry_rows, minlength=rows)
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)))


def _named(blocks: tuple[Block, ...], name: str) -> Block:
    for block in blocks:
        if block.name == name:
            return block
    raise KeyError(name)


def _label(kind: str, blocks: tuple[Block, ...], position: int) -> str:
    for block in blocks:
        if block.start <= position < block.stop:
            ids = block.ids[position - block.start]
            return f"{block.name}[{','.join(str(one) for one in ids)}]" if ids else block.name
    return f"{kind} {position}"


def _require(condition: object, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_shapes(program: LinearProgram) -> None:
    columns, rows, entries = program.columns, program.rows, len(program.indices)
    expected = {
        "cost": columns,
        "column_lower": columns,
        "column_upper": columns,
        "integer": columns,
        "row_lower": rows,
        "row_upper": rows,
        "starts": rows + 1,
        "indices": entries,
        "coefficients": entries,
    }
    for name, length in expected.items():
        shape = getattr(program, name).shape
        _require(shape == (length,), f"{name} has shape {shape}, expected ({length},)")


def _check_numbers(program: LinearProgram) -> None:
    for name in ("cost", "coefficients"):
        _require(np.isfinite(getattr(program, name)).all(), f"{name} holds NaN or infinity")
    _require(np.isfinite(program.offset), "offset is NaN or infinite")
    for kind, lower, upper in (
        ("row", program.row_lower, program.row_upper),
        ("column", program.column_lower, program.column_upper),
    ):
        wrong = np.flatnonzero(~((lower <= upper) & (lower < np.inf) & (upper > -np.inf)))  # ~ also catches NaN
        if len(wrong):
            at = int(wrong[0])
            name = program.row_name(at) if kind == "row" else program.column_name(at)
            raise ValueError(f"{name}: no number lies between its bounds {lower[at]} and {upper[at]}")


def _check_matrix(program: LinearProgram) -> None:
    starts, indices = program.starts, program.indices
    _require(starts[0] == 0 and starts[-1] == len(indices), "starts must run from 0 to the number of entries")
    _require((np.diff(starts) >= 0).all(), "starts must not decrease")
    if not len(indices):
        return
    _require(indices.min() >= 0 and indices.max() < program.columns, "a column index is out of range")
    keys = program.entry_rows * program.columns + indices
    if not (np.diff(keys) > 0).all():
        keys = np.sort(keys)
        repeated = np.flatnonzero(np.diff(keys) == 0)
        if len(repeated):
            row, column = divmod(int(keys[repeated[0]]), program.columns)
            raise ValueError(f"{program.row_name(row)} names {program.column_name(column)} twice")


def _check_blocks(kind: str, blocks: tuple[Block, ...], length: int) -> None:
    position = 0
    for block in blocks:
        _require(block.start >= position, f"{kind} block {block.name!r} overlaps the one before it")
        _require(block.stop <= length, f"{kind} block {block.name!r} runs past the last {kind}")
        position = block.stop
    names = [block.name for block in blocks]
    _require(len(set(names)) == len(names), f"two {kind} blocks share a name")


_ARRAYS: dict[str, type] = {
    "cost": np.float64,
    "column_lower": np.float64,
    "column_upper": np.float64,
    "integer": np.bool_,
    "row_lower": np.float64,
    "row_upper": np.float64,
    "starts": np.int64,
    "indices": np.int64,
    "coefficients": np.float64,
}

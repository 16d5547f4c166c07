"""The exact program as arrays, without Pyomo: the same rules written to another sheet, for problems with many columns, and for prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.program import Block, LinearProgram, row_starts
from models.tiering.formulation_cells import cells_of
from models.tiering.formulation_rules import floor, write_rules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.program import Bools, Floats, Ids, Ints
    from models.tiering.formulation_cells import Cells
    from models.tiering.formulation_rules import Entries, Terms
    from models.tiering.schema import GoalName, Problem


def program(problem: Problem, goal: GoalName, floors: Mapping[GoalName, float] | None = None, cells: Cells | None = None) -> LinearProgram:
    """What ``formulation.build`` says, with its row names; columns are place, serve and spread, in the order of ``cells``."""
    cells = cells_of(problem) if cells is None else cells
    counts = len(cells.object), len(cells.read), len(cells.spreads[0])
    sheet = _Sheet(counts)
    write_rules(sheet, problem, cells)
    for name, value in (floors or {}).items():
        sheet.row("goal_floor", (name.value,), **floor(cells, name, value))
    place, serve, constant = cells.goal(goal)
    integer = np.zeros(sum(counts), dtype=np.bool_)
    integer[: counts[0]] = True
    return sheet.program(np.concatenate((place, serve, np.zeros(counts[2]))), constant, integer)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows of one name: their ids and sides, and entries by row (from 0 in the part), column and value."""

    ids: Sequence[Ids]
    lower: Floats
    upper: Floats
    row: Ints
    column: Ints
    value: Floats


class _Sheet:
    """Collects rows by name; the columns of the three families stand one after another."""

    def __init__(self, counts: tuple[int, int, int]) -> None:
        self._starts = (0, counts[0], counts[0] + counts[1])
        self._parts: dict[str, list[_Part]] = {}

    def row(
        self,
        name: str,
        ids: Sequence[str],
        *,
        place: Terms | None = None,
        serve: Terms | None = None,
        spread: Terms | None = None,
        lower: float | None = None,
        upper: float | None = None,
    ) -> None:
        """State ``lower <= terms <= upper``."""
        columns, values = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        for start, given in zip(self._starts, (place, serve, spread), strict=True):
            if given is None:
                continue
            at, amounts = given if isinstance(given, tuple) else (np.flatnonzero(given), given[np.flatnonzero(given)])
            columns.append(at + start)
            values.append(amounts)
        column = np.concatenate(columns)
        sides = np.array([-np.inf if lower is None else lower]), np.array([np.inf if upper is None else upper])
        part = _Part((tuple(ids),), *sides, np.zeros(len(column), dtype=np.int64), column, np.concatenate(values))
        self._parts.setdefault(name, []).append(part)

    def block(
        self,
        name: str,
        ids: Sequence[Sequence[str]],
        *,
        place: Entries | None = None,
        serve: Entries | None = None,
        lower: Floats | None = None,
        upper: Floats | None = None,
    ) -> None:
        """State many rows of one name at once."""
        if not ids:
            return
        given = [(start, entries) for start, entries in zip(self._starts, (place, serve), strict=False) if entries is not None]
        count = len(ids)
        part = _Part(
            [tuple(one) for one in ids],
            np.full(count, -np.inf) if lower is None else lower,
            np.full(count, np.inf) if upper is None else upper,
            np.concatenate([rows for _, (rows, _, _) in given]),
            np.concatenate([at + start for start, (_, at, _) in given]),
            np.concatenate([np.full(len(rows), value) for _, (rows, _, value) in given]),
        )
        self._parts.setdefault(name, []).append(part)

    def program(self, cost: Floats, offset: float, integer: Bools) -> LinearProgram:
        """All rows, name after name."""
        blocks: list[Block] = []
        for name, parts in self._parts.items():
            ids = parts[0].ids if len(parts) == 1 else [one for part in parts for one in part.ids]
            blocks.append(Block(name, blocks[-1].stop if blocks else 0, ids))
        parts = [part for found in self._parts.values() for part in found]
        first = np.concatenate(([0], np.cumsum([len(part.ids) for part in parts]))).astype(np.int64)
        row = np.concatenate([np.zeros(0, dtype=np.int64), *(part.row + at for part, at in zip(parts, first[:-1], strict=True))])
        order = np.argsort(row, kind="stable")
        return LinearProgram(
            maximise=False,
            cost=cost,
            column_lower=np.zeros(len(cost)),
            column_upper=np.ones(len(cost)),
            integer=integer,
            row_lower=np.concatenate([np.zeros(0), *(part.lower for part in parts)]),
            row_upper=np.concatenate([np.zeros(0), *(part.upper for part in parts)]),
            starts=row_starts(row, int(first[-1])),
            indices=np.concatenate([np.zeros(0, dtype=np.int64), *(part.column for part in parts)])[order],
            coefficients=np.concatenate([np.zeros(0), *(part.value for part in parts)])[order],
            offset=offset,
            row_blocks=tuple(blocks),
        )

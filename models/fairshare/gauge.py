"""How far GPUs fall short of what jobs need: the program that water-filling asks again and again.

The needs of all jobs stand on the right sides of its rows, so it is solved from the last basis each time. Threshold rows are added where a
solution breaks them, and stay. Its duals bound the shortfall for all other needs too, which is what a level's proof is made of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from models.contract import RowEdits
from models.conversation import Again, NewRows, Solve
from models.fairshare.robust import Judged, judged
from models.fairshare.rows import prices_of, shared, short_cost
from models.fairshare.thresholds import broken, entries_above, needed
from models.program_builder import ProductIds

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Method, Solved, Step
    from models.fairshare.classes import Classes
    from models.fairshare.rows import Layout, Prices
    from models.program import Floats, Ints

BROKEN = 1e-9  # of what a class needs: by how much a threshold row must be broken to be added
MOST_PASSES = 60  # of threshold rows for one vector of needs
INTERIOR_COLUMNS = 30_000  # from here on the first solve is by interior point


@dataclass(frozen=True, eq=False)
class Gauged:
    """The least shortfall for some needs: what GPUs must grow by, in proportion; below 0 where they are more than enough.

    ``values``: of the columns. ``slope``: of each need row (``of`` class, ``at`` threshold, ``scenario``), by how much the shortfall
    grows with its right side; ``bound`` is what the duals prove, for the right sides ``sides``. ``loss``: duals of a robust budget.
    """

    shortfall: float
    bound: float
    values: Floats
    prices: Prices
    of: Ints
    at: Floats
    scenario: Ints
    slope: Floats
    sides: Floats
    loss: Floats | None

    def proves(self, classes: Classes, speeds: Floats) -> float:
        """The least shortfall that these duals prove for other needs, shape (jobs,)."""
        used = self.slope > 0.0
        return self.bound + float(self.slope[used] @ (needed(classes, speeds, self.of[used], self.at[used]) - self.sides[used]))


@dataclass(slots=True, eq=False)
class Gauge:
    """The program, and the need rows that it has so far."""

    classes: Classes
    name: str
    of: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    at: Floats = field(default_factory=lambda: np.zeros(0))
    scenario: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    row: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    rows: int = 0
    layout: Layout | None = None
    judged: Judged | None = None

    def of_needs(self, speeds: Floats) -> Generator[Step, Solved, Gauged | None]:
        """The least shortfall at which every job can have its speed, shape (jobs,); None when the solver found no answer."""
        step: Solve | Again = self._first(speeds) if self.layout is None else self._edited(speeds)
        gauged = None
        for _ in range(MOST_PASSES):
            found = yield step
            if found.status not in {"optimal", "feasible"} or found.values is None or found.row_duals is None or found.bound is None:
                return None
            gauged = self._read(found, speeds)
            amounts = self.classes.amounts(found.values[: self.classes.columns])
            # Thresholds ask for time; a shortfall does not lengthen it, so the rows compare as they are.
            of, at = broken(self.classes, amounts, speeds, BROKEN)
            known = set(zip(self.of.tolist(), self.at.tolist(), strict=True))
            new = np.array([pair not in known for pair in zip(of.tolist(), at.tolist(), strict=True)], dtype=np.bool_)
            if not new.any():
                return gauged
            step = self._with_rows(of[new], at[new], speeds)
        return gauged

    def _first(self, speeds: Floats) -> Solve:
        classes = self.classes
        builder, self.layout = shared(classes, short=True)
        self.judged = judged(builder, classes)
        self.of, self.scenario, entry_row, entry_column, coefficient = self.judged.need_rows()
        self.at = np.zeros(len(self.of))
        need = builder.add_rows(
            "need",
            ProductIds(range(len(self.of))),
            lower=self._sides(speeds),
            row_index=entry_row,
            column_index=entry_column,
            coefficient=coefficient / self.classes.unit[self.of][entry_row],
        )
        self.row = np.arange(need.start, need.stop, dtype=np.int64)
        program = builder.build()
        self.rows = program.rows
        method: Method = "ipm" if program.columns > INTERIOR_COLUMNS else "choose"
        return Solve(program, method=method, keep=self.name)

    def _edited(self, speeds: Floats) -> Again:
        sides = self._sides(speeds)
        return Again(self.name, row_edits=RowEdits(self.row, sides, np.full(len(sides), np.inf)))

    def _with_rows(self, of: Ints, at: Floats, speeds: Floats) -> Again:
        """Threshold rows added to what is there."""
        starts, columns, values = entries_above(self.classes, of, at)
        self.of, self.at = np.concatenate((self.of, of)), np.concatenate((self.at, at))
        self.scenario = np.concatenate((self.scenario, np.zeros(len(of), dtype=np.int64)))
        self.row = np.concatenate((self.row, self.rows + np.arange(len(of))))
        self.rows += len(of)
        sides = needed(self.classes, speeds, of, at) / self.classes.unit[of]
        new = NewRows(sides, np.full(len(of), np.inf), starts, columns, values)
        return Again(self.name, new_rows=new)

    def _sides(self, speeds: Floats) -> Floats:
        return needed(self.classes, speeds, self.of, self.at) / self.classes.unit[self.of]

    def _read(self, found: Solved, speeds: Floats) -> Gauged:
        assert found.values is not None  # noqa: S101  (the caller looked)
        assert found.row_duals is not None  # noqa: S101
        assert found.bound is not None  # noqa: S101
        assert self.layout is not None  # noqa: S101
        sides = needed(self.classes, speeds, self.of, self.at)
        cost = short_cost(self.classes)
        return Gauged(
            shortfall=float(found.values[self.classes.columns]),
            bound=found.bound / cost,
            values=found.values[: self.classes.columns],
            prices=prices_of(self.classes, self.layout, found.row_duals, 1.0 / cost),
            of=self.of,
            at=self.at,
            scenario=self.scenario,
            slope=np.maximum(found.row_duals[self.row], 0.0) / (cost * self.classes.unit[self.of]),
            sides=sides,
            loss=self._loss(found.row_duals / cost),
        )

    def _loss(self, row_duals: Floats) -> Floats | None:
        """Of a robust budget: the duals of what each class would lose on each accelerator, shape (classes, accelerators)."""
        if self.judged is None or self.judged.loss is None:
            return None
        return np.abs(row_duals[self.judged.loss]).reshape(self.classes.count, -1)

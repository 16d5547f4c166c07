"""How far GPUs fall short of what jobs need: the program that water-filling asks again and again.

The needs of all jobs stand on the right sides of its rows, so it is solved from the last basis each time. Threshold rows are added where a
solution breaks them, and stay. Its duals bound the shortfall for all other needs too, which is what a level's proof is made of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from models.contract import RowEdits
from models.conversation import Again, NewRows, Solve
from models.fairshare.columns.robust import Judged, judged
from models.fairshare.columns.rows import prices_of, shared, short_cost, upper_bounds
from models.fairshare.columns.thresholds import broken, entries_above, needed
from models.program_builder import ProductIds

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Method, Solved, Step
    from models.fairshare.columns.classes import Classes
    from models.fairshare.columns.rows import Layout, Prices
    from models.program import Floats, Ints, LinearProgram

BROKEN = 1e-9  # of what a class needs: by how much a threshold row must be broken to be added
MOST_PASSES = 60  # of threshold rows for one vector of needs
ROUNDING = 2.0**-52  # of one operation, relative; twice what it is
FEW = 8.0  # operations in one term of a sum
INTERIOR_COLUMNS = 30_000  # from here on the first solve is by interior point


@dataclass(frozen=True, eq=False)
class Gauged:
    """The least shortfall for some needs: what GPUs must grow by, in proportion; below 0 where they are more than enough.

    ``values``: of the columns. ``slope``: of each need row (``of`` class, ``at`` threshold, ``scenario``), by how much the shortfall
    grows with its right side; ``bound`` is what the duals prove, for the right sides ``sides``, and ``floor`` what they prove if nothing
    falls short, rounded down: above 0 it refutes that. ``sizes``: what the classes of the rows need in all. ``loss``: duals of a robust
    budget.
    """

    shortfall: float
    bound: float
    floor: float
    values: Floats
    prices: Prices
    of: Ints
    at: Floats
    scenario: Ints
    slope: Floats
    sides: Floats
    sizes: Floats
    loss: Floats | None

    def proves(self, classes: Classes, speeds: Floats) -> float:
        """The least shortfall that these duals prove for other needs, shape (jobs,)."""
        used = self.slope > 0.0
        return self.bound + float(self.slope[used] @ (needed(classes, speeds, self.of[used], self.at[used]) - self.sides[used]))

    def refutes(self, classes: Classes, speeds: Floats) -> float:
        """The same, less all that rounding may have added: above 0 only where GPUs do fall short of these needs, shape (jobs,)."""
        used = np.flatnonzero(self.slope > 0.0)
        of, slope = self.of[used], self.slope[used]
        asked = slope @ (needed(classes, speeds, of, self.at[used]) - self.sides[used])
        size = slope @ (needed(classes, speeds, of, np.zeros(len(of))) + self.sizes[used])
        terms = float(classes.most_members + len(used)) + FEW
        return self.floor + float(asked) - ROUNDING * terms * float(size)


class Gauging(Protocol):
    """Who tells how far GPUs fall short of some needs."""

    @property
    def classes(self) -> Classes:
        """The classes whose needs they are."""
        ...

    def of_needs(self, speeds: Floats) -> Generator[Step, Solved, Gauged | None]:
        """The least shortfall at which every job can have its speed, shape (jobs,); None when the solver found no answer."""
        ...


@dataclass(slots=True, eq=False)
class Gauge:
    """The program, and the need rows that it has so far."""

    classes: Classes
    name: str
    of: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    at: Floats = field(default_factory=lambda: np.zeros(0))
    scenario: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    row: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    program: LinearProgram | None = None
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
        self.judged = judged(builder, classes, upper_bounds(classes))
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
        self.program = builder.build()
        method: Method = "ipm" if self.program.columns > INTERIOR_COLUMNS else "choose"
        return Solve(self.program, method=method, keep=self.name)

    def _edited(self, speeds: Floats) -> Again:
        sides = self._sides(speeds)
        return Again(self.name, row_edits=RowEdits(self.row, sides, np.full(len(sides), np.inf)))

    def _with_rows(self, of: Ints, at: Floats, speeds: Floats) -> Again:
        """Threshold rows added to what is there."""
        starts, columns, values = entries_above(self.classes, of, at)
        self.of, self.at = np.concatenate((self.of, of)), np.concatenate((self.at, at))
        self.scenario = np.concatenate((self.scenario, np.zeros(len(of), dtype=np.int64)))
        assert self.program is not None  # noqa: S101  (rows are added to a program that was made)
        self.row = np.concatenate((self.row, self.program.rows + np.arange(len(of))))
        sides = needed(self.classes, speeds, of, at) / self.classes.unit[of]
        new = NewRows(sides, np.full(len(of), np.inf), starts, columns, values)
        self.program = self.program.with_rows(new.lower, new.upper, starts, columns, values)
        return Again(self.name, new_rows=new)

    def _sides(self, speeds: Floats) -> Floats:
        return needed(self.classes, speeds, self.of, self.at) / self.classes.unit[self.of]

    def _read(self, found: Solved, speeds: Floats) -> Gauged:
        assert found.values is not None  # noqa: S101  (the caller looked)
        assert found.row_duals is not None  # noqa: S101
        assert found.bound is not None  # noqa: S101
        assert self.layout is not None  # noqa: S101
        sides = needed(self.classes, speeds, self.of, self.at)
        sizes = needed(self.classes, speeds, self.of, np.zeros(len(self.of)))
        cost = short_cost(self.classes)
        return Gauged(
            shortfall=float(found.values[self.classes.columns]),
            bound=found.bound / cost,
            floor=self._floor(found.row_duals, sides, sizes) / cost,
            values=found.values[: self.classes.columns],
            prices=prices_of(self.classes, self.layout, found.row_duals, 1.0 / cost),
            of=self.of,
            at=self.at,
            scenario=self.scenario,
            slope=np.maximum(found.row_duals[self.row], 0.0) / (cost * self.classes.unit[self.of]),
            sides=sides,
            sizes=sizes,
            loss=self._loss(found.row_duals / cost),
        )

    def _floor(self, row_duals: Floats, sides: Floats, sizes: Floats) -> float:
        """What the duals prove of the program's cost where nothing falls short, less all that rounding may have added.

        Lagrange's bound over a box: rows count at their sides, columns at whichever of their ends is lower. Of every sum, so much of its
        terms without their signs may be rounding; a reduced cost that is 0 as far as numbers tell may be a little below.
        """
        program, unit = self.program, self.classes.unit[self.of]
        assert program is not None  # noqa: S101  (the caller solved it)
        lower, upper = program.row_lower.copy(), program.row_upper
        lower[self.row] = sides / unit
        at = np.where(row_duals > 0.0, lower, upper)
        duals = np.where(np.isfinite(at) & np.isfinite(row_duals), row_duals, 0.0)
        worth = duals * np.where(duals == 0.0, 0.0, at)
        spread = np.abs(worth)
        spread[self.row] = np.abs(duals[self.row]) * sizes / unit  # sides are differences of as much
        terms = np.bincount(program.indices, weights=np.abs(program.coefficients * duals[program.entry_rows]), minlength=program.columns)
        blur = ROUNDING * (FEW + np.bincount(program.indices, minlength=program.columns)) * (np.abs(program.cost) + terms)
        reduced = program.cost - program.pulled_back(duals) - blur
        ends = reduced * np.where(reduced > 0.0, program.column_lower, self._most_used(program))
        noise = ROUNDING * ((FEW + self.classes.most_members) * float(spread.sum()) + FEW * float(np.abs(ends).sum()))
        return float(worth.sum()) + float(ends.sum()) - noise

    def _most_used(self, program: LinearProgram) -> Floats:
        """An upper bound of each column where nothing falls short, which is what is refuted: no column uses more GPUs than there are."""
        classes, ways, accelerators = self.classes, self.classes.market.ways, self.classes.market.accelerators
        most = np.where(np.isfinite(program.column_upper), program.column_upper, 0.0)  # the shortfall alone has none
        gangs = accelerators.count_gpus[ways.accelerator[classes.way]] / ways.gpus[classes.way]
        most[: classes.columns] = np.minimum(most[: classes.columns], np.where(classes.side, 2.0, 1.0) * gangs)
        return most

    def _loss(self, row_duals: Floats) -> Floats | None:
        """Of a robust budget: the duals of what each class would lose on each accelerator, shape (classes, accelerators)."""
        if self.judged is None or self.judged.loss is None:
            return None
        return np.abs(row_duals[self.judged.loss]).reshape(self.classes.count, -1)

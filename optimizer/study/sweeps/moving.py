"""A linear program whose numbers move along a line: what is the same, what moves, and how far it can.

The parameter runs from ``least`` to ``most``; inside, ``w`` runs from 0 to 1. Sides of rows and bounds of columns may move, or the costs
may, and the constant of the objective with either of them. Then the optimal value is piecewise linear in the parameter (Gal, Postoptimal
Analyses, Parametric Programming, and Related Topics, 1995). With both, or with coefficients that move, it is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from models.program import LinearProgram, row_starts
from optimizer.bounds import ROUNDING, implied_box, usable_duals

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.program import Bools, Floats, Ints

SAMPLED = (0.381966, 0.5)  # of the range: where the data must lie on the line between the ends, irregular enough to miss no step
ON_THE_LINE = 1e-9  # relative: how far a number may be from it
NOISE = 1e-9  # relative: a reduced cost up to this counts as 0 on a column without end, as in ``optimizer.bounds``
ARRAYS = ("cost", "row_lower", "row_upper", "column_lower", "column_upper")


class NotPiecewiseLinearError(ValueError):
    """The optimal value is no piecewise-linear function of the parameter; the message says why, and what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Moving:
    """The programs at both ends of the range; between them every number lies on the line. Made by ``moving``."""

    first: LinearProgram
    last: LinearProgram
    least: float
    most: float
    moves: Literal["sides", "cost"]

    @property
    def convex(self) -> bool:
        """Whether the optimal value is a convex function of the parameter; else it is concave."""
        return (self.moves == "sides") != self.first.maximise

    def value(self, w: float) -> float:
        """The parameter at ``w``."""
        return self.most if w == 1.0 else self.least + w * (self.most - self.least)

    def at(self, w: float) -> LinearProgram:
        """The program at ``w`` of 0 to 1."""
        if w in (0.0, 1.0):
            return self.last if w else self.first
        return replace(
            self.first,
            offset=self.offset(w),
            cost=self.array("cost", w),
            row_lower=self.array("row_lower", w),
            row_upper=self.array("row_upper", w),
            column_lower=self.array("column_lower", w),
            column_upper=self.array("column_upper", w),
        )

    def offset(self, w: float) -> float:
        """The constant of the objective at ``w``."""
        return (1.0 - w) * self.first.offset + w * self.last.offset

    def array(self, name: str, w: float) -> Floats:
        """One of ARRAYS at ``w``."""
        first, last = getattr(self.first, name), getattr(self.last, name)
        still = first == last  # infinite sides too
        return np.where(still, first, (1.0 - w) * np.where(still, 0.0, first) + w * np.where(still, 0.0, last))

    def step(self, name: str) -> Floats:
        """How much an array moves from ``w`` 0 to 1."""
        first, last = getattr(self.first, name), getattr(self.last, name)
        return np.where(first == last, 0.0, np.where(first == last, 0.0, last) - np.where(first == last, 0.0, first))

    def hull(self) -> LinearProgram:
        """A program that allows whatever one of the range allows."""
        first, last = self.first, self.last
        return replace(
            first,
            row_lower=np.minimum(first.row_lower, last.row_lower),
            row_upper=np.maximum(first.row_upper, last.row_upper),
            column_lower=np.minimum(first.column_lower, last.column_lower),
            column_upper=np.maximum(first.column_upper, last.column_upper),
        )

    def plan_line(self, values: Floats) -> tuple[float, float]:
        """What column values are worth at both ends; between them it is the line (while no side moves they keep every rule)."""
        return self.first.objective(values), self.last.objective(values)

    def dual_line(self, row_duals: Floats) -> tuple[float, float] | None:
        """A bound on the optimum at both ends, and on the line between them, while no cost moves; None where the duals prove nothing.

        Weak duality, as in ``optimizer.bounds``: the duals and reduced costs do not depend on the sides, which they are multiplied with.
        On a column without end its place is taken by what the rows of the whole range imply, the same for every ``w``.
        """
        program = self.first
        sign = -1.0 if program.maximise else 1.0
        duals = sign * usable_duals(program, row_duals)
        reduced = sign * program.cost - program.pulled_back(duals)
        implied = np.zeros(program.columns)
        endless = np.isinf(np.where(reduced > 0, program.column_lower, program.column_upper)) & (reduced != 0.0)
        if endless.any():
            lower, upper = implied_box(self.hull())
            implied = np.where(endless, np.where(reduced > 0, lower, upper), 0.0)
            terms = np.abs(program.coefficients) * np.abs(np.repeat(duals, np.diff(program.starts)))
            size = np.abs(program.cost) + np.bincount(program.indices, weights=terms, minlength=program.columns)
            tiny = np.abs(reduced) <= NOISE * np.maximum(1.0, np.abs(program.cost)) + ROUNDING * size
            reduced = np.where(np.isinf(implied) & tiny, 0.0, reduced)
            if (np.isinf(implied) & (reduced != 0.0)).any():
                return None
        at_ends = []
        for end in (self.first, self.last):
            side = np.where(duals > 0, end.row_lower, end.row_upper)
            bound = np.where(endless, implied, np.where(reduced > 0, end.column_lower, end.column_upper))
            terms = np.where(duals == 0.0, 0.0, duals * np.where(duals == 0.0, 0.0, side))
            others = np.where(reduced == 0.0, 0.0, reduced * np.where(reduced == 0.0, 0.0, bound))
            at_ends.append(sign * (float(terms.sum()) + float(others.sum())) + end.offset)
        return at_ends[0], at_ends[1]


def moving(program_at: Callable[[float], LinearProgram], least: float, most: float) -> Moving:
    """The moving program behind ``program_at``, of which the ends and two values between them are asked.

    Raises NotPiecewiseLinearError when a program has whole-number columns, the structure changes, a coefficient moves, costs
    and sides both do, or a number is not on the line; ValueError for an empty range.
    """
    if not (np.isfinite(least) and np.isfinite(most) and least < most):
        raise ValueError(f"the range from {least:g} to {most:g} is empty: the least value must be below the most")
    found = between(program_at(least), program_at(most), least, most)
    for w in SAMPLED:
        check_on_line(found, w, program_at(found.value(w)))
    return found


def between(first: LinearProgram, last: LinearProgram, least: float, most: float) -> Moving:
    """The programs on the line from ``first`` to ``last``. Raises NotPiecewiseLinearError as ``moving``."""
    if first.is_mip or last.is_mip:
        raise NotPiecewiseLinearError("use values: the goal is not a linear program here, it has whole-number decisions")
    _check_structure(first, last)
    moved = {name: not np.array_equal(getattr(first, name), getattr(last, name)) for name in ARRAYS}
    sides = any(moved[name] for name in ARRAYS if name != "cost")
    if sides and moved["cost"]:
        raise NotPiecewiseLinearError("use values: limits and costs both move, so that the optimal value is not piecewise linear")
    for name in ARRAYS:
        ends = getattr(first, name), getattr(last, name)
        appears = np.flatnonzero(np.isfinite(ends[0]) != np.isfinite(ends[1]))
        if len(appears):
            what = first.row_name(int(appears[0])) if name.startswith("row") else first.column_name(int(appears[0]))
            raise NotPiecewiseLinearError(f"use values: the limit of {what} appears or disappears on the way")
    return Moving(first, last, least, most, "cost" if moved["cost"] else "sides")


def check_on_line(found: Moving, w: float, program: LinearProgram) -> None:
    """Raises NotPiecewiseLinearError unless ``program`` is what the line says it is at ``w``."""
    _check_structure(found.first, program)
    expected = found.at(w)
    for name in ARRAYS:
        told, line = getattr(program, name), getattr(expected, name)
        size = np.maximum(1.0, np.maximum(np.abs(getattr(found.first, name)), np.abs(getattr(found.last, name))))
        with np.errstate(invalid="ignore"):
            off = np.flatnonzero(~((told == line) | (np.abs(told - line) <= ON_THE_LINE * size)))
        if len(off):
            place = int(off[0])
            what = found.first.row_name(place) if name.startswith("row") else found.first.column_name(place)
            text = f"{name} of {what} is {told[place]:g} at {found.value(w):g}, not {line[place]:g}"
            raise NotPiecewiseLinearError(f"use values: the data does not move along a line: {text}")
    size = max(1.0, abs(found.first.offset), abs(found.last.offset))
    if abs(program.offset - expected.offset) > ON_THE_LINE * size:
        raise NotPiecewiseLinearError("use values: the data does not move along a line: the constant of the objective")


def _check_structure(first: LinearProgram, other: LinearProgram) -> None:
    if (first.rows, first.columns, len(first.indices)) != (other.rows, other.columns, len(other.indices)):
        shapes = " and ".join(f"{one.rows:,} rows x {one.columns:,} columns" for one in (first, other))
        raise NotPiecewiseLinearError(f"use values: the program changes its structure on the way ({shapes})")
    same = first.maximise == other.maximise and np.array_equal(first.starts, other.starts) and np.array_equal(first.indices, other.indices)
    if not same or [one.name for one in first.column_blocks] != [one.name for one in other.column_blocks]:
        raise NotPiecewiseLinearError("use values: the program changes its structure on the way")
    size = np.maximum(np.abs(first.coefficients), np.abs(other.coefficients))
    off = np.flatnonzero(np.abs(first.coefficients - other.coefficients) > ON_THE_LINE * size)
    if len(off):
        place = int(off[0])
        row, column = first.row_name(int(first.entry_rows[place])), first.column_name(int(first.indices[place]))
        text = f"the coefficient of {column} in {row} moves, so that the optimal value is not piecewise linear"
        raise NotPiecewiseLinearError(f"use values: {text}")


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Which sides of rows and bounds of columns prices may push against."""

    row_lower: Bools
    row_upper: Bools
    column_lower: Bools
    column_upper: Bools

    @classmethod
    def finite(cls, program: LinearProgram) -> Sides:
        """All that there are."""
        return cls(*(np.isfinite(getattr(program, name)) for name in ARRAYS[1:]))

    @classmethod
    def active(cls, program: LinearProgram, values: Floats, tolerance: float) -> Sides:
        """Those at which column values stand; prices that push against no others prove the values optimal."""
        activity = program.activity(values)
        found = []
        for name, body in zip(ARRAYS[1:], (activity, activity, values, values), strict=True):
            side = getattr(program, name)
            size = np.maximum(1.0, np.abs(np.where(np.isinf(side), 1.0, side)))
            found.append(np.isfinite(side) & (np.abs(body - side) <= tolerance * size))
        return cls(*found)


def primal_reach(found: Moving, *, highest: bool, optimum: tuple[float, float] | None = None) -> LinearProgram:
    """The program of the lowest (or highest) ``w`` at which a plan exists, ``w`` being its last column; for sides that move.

    ``optimum``, values at both ends: only plans that are at least as good as the line between them count.
    """
    first, last = found.first, found.last
    columns, rows = first.columns, first.rows
    low, high = found.step("row_lower"), found.step("row_upper")
    split = np.flatnonzero(np.isfinite(first.row_lower) & np.isfinite(first.row_upper) & (low != high))
    alone = np.setdiff1d(np.arange(rows), split)
    one_step = np.where(np.isfinite(first.row_lower), low, high)
    bounded = [
        (np.flatnonzero(found.step(name) != 0.0), name == "column_lower", found.step(name), getattr(first, name))
        for name in ("column_lower", "column_upper")
    ]
    drafts = _Rows(columns)
    drafts.copied(first, alone, first.row_lower, first.row_upper, one_step)
    drafts.copied(first, split, first.row_lower, np.full(rows, np.inf), low)
    drafts.copied(first, split, np.full(rows, -np.inf), first.row_upper, high)
    for where, is_lower, step, side in bounded:
        drafts.single(where, side, step, is_lower=is_lower)
    if optimum is not None:
        start = optimum[0] - first.offset
        change = optimum[1] - optimum[0] - (last.offset - first.offset)
        sides = (start, np.inf) if first.maximise else (-np.inf, start)
        drafts.one(np.flatnonzero(first.cost), first.cost, change, sides)
    hull = found.hull()
    box = np.append(hull.column_lower, 0.0), np.append(hull.column_upper, 1.0)
    return drafts.program(box, maximise=highest)


def dual_reach(found: Moving, sides: Sides, *, highest: bool) -> LinearProgram:
    """The program of the lowest (or highest) ``w`` at which prices on these sides exist, ``w`` being its last column; for costs that move.

    With all finite sides: where the optimum is not without end. With those that are active at a plan: where that plan is optimal.
    """
    first = found.first
    sign = -1.0 if first.maximise else 1.0
    cost, step = sign * first.cost, sign * found.step("cost")
    # The reduced cost, cost less the priced entries, may be positive at a lower bound and negative at an upper one.
    lower = np.where(sides.column_upper, -np.inf, -cost)
    upper = np.where(sides.column_lower, np.inf, -cost)
    drafts = _Rows(first.rows)
    drafts.entries(first.columns, first.indices, first.entry_rows, -first.coefficients, lower, upper, -step)
    box = np.where(sides.row_upper, -np.inf, 0.0), np.where(sides.row_lower, np.inf, 0.0)
    return drafts.program((np.append(box[0], 0.0), np.append(box[1], 1.0)), maximise=highest)


class _Rows:
    """Rows over the columns of a program and ``w``, whose coefficient takes what the sides move to the left."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._count = 0
        self._rows: list[Ints] = []
        self._at: list[Ints] = []
        self._values: list[Floats] = []
        self._lower: list[Floats] = []
        self._upper: list[Floats] = []

    def entries(self, count: int, rows: Ints, at: Ints, values: Floats, lower: Floats, upper: Floats, step: Floats) -> None:
        """``count`` rows with their entries (numbered from 0), sides at ``w`` 0 and how these move."""
        moving_rows = np.flatnonzero(step != 0.0)
        self._rows += [rows + self._count, moving_rows + self._count]
        self._at += [at, np.full(len(moving_rows), self._columns)]
        self._values += [values, -step[moving_rows]]
        self._lower.append(lower)
        self._upper.append(upper)
        self._count += count

    def copied(self, program: LinearProgram, chosen: Ints, lower: Floats, upper: Floats, step: Floats) -> None:
        """The chosen rows of a program."""
        place = np.full(program.rows, -1)
        place[chosen] = np.arange(len(chosen))
        at = place[program.entry_rows]
        kept = at >= 0
        self.entries(len(chosen), at[kept], program.indices[kept], program.coefficients[kept], lower[chosen], upper[chosen], step[chosen])

    def single(self, columns: Ints, side: Floats, step: Floats, *, is_lower: bool) -> None:
        """A moving bound of each of the columns."""
        count = len(columns)
        endless = np.full(count, np.inf)
        lower, upper = (side[columns], endless) if is_lower else (-endless, side[columns])
        self.entries(count, np.arange(count), columns, np.ones(count), lower, upper, step[columns])

    def one(self, at: Ints, values: Floats, step: float, sides: tuple[float, float]) -> None:
        """One row with the values of the columns ``at``."""
        self.entries(1, np.zeros(len(at), dtype=np.int64), at, values[at], np.array(sides[:1]), np.array(sides[1:]), np.array([step]))

    def program(self, box: tuple[Floats, Floats], *, maximise: bool) -> LinearProgram:
        """All rows, with ``w`` as the objective."""
        rows, at, values = np.concatenate(self._rows), np.concatenate(self._at), np.concatenate(self._values)
        order = np.lexsort((at, rows))
        cost = np.zeros(self._columns + 1)
        cost[-1] = 1.0
        return LinearProgram(
            maximise=maximise,
            cost=cost,
            column_lower=box[0],
            column_upper=box[1],
            integer=np.zeros(self._columns + 1, dtype=np.bool_),
            row_lower=np.concatenate(self._lower),
            row_upper=np.concatenate(self._upper),
            starts=row_starts(rows[order], self._count),
            indices=at[order],
            coefficients=values[order],
        )

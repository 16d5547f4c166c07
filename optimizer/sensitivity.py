"""What one more unit of a limit is worth: for each named rule of a problem, in the unit of its first goal.

A linear program's duals are exact, within a range of the limit that HiGHS's ranging gives; beyond the range a change is worth at most
as much for each unit (weak duality). A program with integer columns has no such prices. Two honest substitutes are told, each
under its own status: the duals when every integer column is held at the plan's value, and those of the relaxation without
integrality, which are the prices of its bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from models.catalogue import kind_of
from models.contract import Sense
from models.garbage import collection_paused
from optimizer.backend import ProgramStatus, SolverError
from optimizer.bounds import usable_duals
from optimizer.limits import Deadline, Limits
from optimizer.result import finite

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping

    from models.contract import Goal, Kind
    from models.program import Floats, LinearProgram
    from models.vocabulary import Document
    from optimizer.backend import ProgramResult
    from optimizer.compile import Compiled
    from optimizer.live import Ranging

LARGEST_PROGRAM = 400_000  # columns of an exact program that is built and solved
RANGED = 20_000  # rows and columns up to which ranges are computed: they take one solve with the basis for each
MOST_ROWS = 1_000
ONE_OF = {"copies": "copy", "of its reads": "unit", "Gbit/s": "Gbit/s"}  # one of a unit; of others it is told without its s
WORTHLESS = 1e-9  # relative to the largest: a smaller price is noise
NEAR = 1e-5  # relative: as near a limit as this is at it


class Status(StrEnum):
    """What the prices are those of."""

    proved = "proved"
    fixed_integers = "fixed_integers"
    relaxation = "relaxation"


MEANING = {
    Status.proved: "exact: the problem is a linear program",
    Status.fixed_integers: "exact while every whole-number decision stays as in the plan",
    Status.relaxation: "the price in the relaxation, in which whole numbers may be split: what its bound gains, no promise for a plan",
}


@dataclass(frozen=True, slots=True)
class Range:
    """The interval of a limit, in its unit, within which its worth holds; infinite where it has no end."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Worth:
    """One named row at a limit: ``worth`` is the change of the goal for each unit by which ``limit`` is raised.

    ``range`` is None where none was computed. ``unit`` is the limit's, "" where the kind names none.
    """

    rule: str
    ids: tuple[str, ...]
    unit: str
    limit: float
    worth: float
    range: Range | None
    status: Status
    text: str


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The limits that count, of each status the dearest first, with the goal that ``worth`` is told in.

    ``left_out`` limits are worth no more than the last of their status; ``message`` says what could not be told, and why.
    """

    goal: str
    sense: str
    unit: str
    rows: tuple[Worth, ...] = ()
    left_out: int = 0
    message: str = ""

    def as_object(self) -> dict[str, Any]:
        """All of it as JSON takes it: no NaN, no infinity (null for a range without end)."""
        return {
            "goal": self.goal,
            "sense": self.sense,
            "unit": self.unit,
            "rows": [_row_object(row) for row in self.rows],
            "meaning": {status.value: MEANING[status] for status in Status if any(row.status is status for row in self.rows)},
            "left_out": self.left_out,
            "message": self.message,
        }


def sensitivity(problem: Document, plan: Document, limits: Limits, cancel: threading.Event | None = None) -> Sensitivity:
    """What one more unit of each binding limit is worth in the problem's first goal.

    ``plan`` gives the whole-number decisions; it must be right. At most MOST_ROWS limits are told, and none of a problem whose exact
    program has more than LARGEST_PROGRAM columns: the message says so. Never raises for what a solver runs into.
    """
    kind = kind_of(problem)
    goal = kind.goals(problem)[0]
    nothing = Sensitivity(goal.name, goal.sense.value, goal.unit)
    verdict = kind.verify(problem, plan)
    if not verdict.ok:
        return replace(nothing, message=f"the plan breaks a rule ({verdict.violations[0].message}): there is nothing to price")
    columns = kind.part("formulation").size(problem)
    if columns > LARGEST_PROGRAM:
        text = f"the exact program has about {columns:,} columns, more than the {LARGEST_PROGRAM:,} that are priced: ask for a part"
        return replace(nothing, message=text)
    asked = _Asked(kind, goal, problem, plan, Deadline.after(limits.time_limit_s), limits, cancel)
    rows, messages = asked.answers()
    by_status = [[row for row in rows if row.status is status] for status in Status]
    share = MOST_ROWS // max(1, sum(map(bool, by_status)))
    kept = [row for group in by_status for row in group[:share]]
    return replace(nothing, rows=tuple(kept), left_out=len(rows) - len(kept), message="; ".join(messages))


@dataclass(slots=True)
class _Asked:
    """One question: the problem with its plan, and what may be used to answer."""

    kind: Kind
    goal: Goal
    problem: Any
    plan: Any
    deadline: Deadline
    limits: Limits
    cancel: threading.Event | None

    def answers(self) -> tuple[list[Worth], list[str]]:
        """Every limit that counts, and what could not be told."""
        from optimizer.compile import compile_model

        formulation = self.kind.part("formulation")
        with collection_paused():
            # Without the rows that only hasten: they repeat limits of the rules, and would take away a part of the price.
            compiled = compile_model(formulation.build(self.problem, self.problem.ordered_goals()[0], {}, hasten=False))
        program = compiled.program
        if not program.is_mip:
            return self._priced(program, Status.proved)
        rows, messages = [], []
        held = self._held(compiled)
        programs = ((held, Status.fixed_integers), (program.relaxed(), Status.relaxation))
        for one, status in programs:
            if one is not None:
                found, said = self._priced(one, status)
                rows += found
                messages += said
        return rows, messages

    def _held(self, compiled: Compiled) -> LinearProgram | None:
        """The program with its whole numbers held at the plan's; None where all columns are whole, so that nothing is left to price."""
        program = compiled.program
        if program.integer.all():
            return None
        told: Mapping[str, Mapping[Any, float]] = self.kind.part("formulation").start(self.problem, self.plan)
        values = np.full(program.columns, np.nan)
        for block in program.column_blocks:
            family = told.get(block.name, {})
            values[block.rows] = [family.get(ids, math.nan) for ids in block.ids]
        at = np.where(program.integer, np.round(values), 0.0)
        if np.isnan(at).any():  # a whole number that the plan does not tell
            return None
        return replace(
            program.relaxed(),
            column_lower=np.where(program.integer, at, program.column_lower),
            column_upper=np.where(program.integer, at, program.column_upper),
        )

    def _priced(self, program: LinearProgram, status: Status) -> tuple[list[Worth], list[str]]:
        left = replace(self.limits, time_limit_s=max(self.deadline.remaining_s(), 1e-3))
        if self.cancel is not None and self.cancel.is_set():
            return [], [f"{status.value}: cancelled"]
        try:
            result, ranges = _solved(program, left, self.cancel)
        except SolverError as error:
            return [], [f"{status.value}: {error}"]
        if result.status is not ProgramStatus.optimal or result.row_duals is None or result.values is None:
            return [], [f"{status.value}: no optimum to price was found in time ({result.status.value})"]
        made = _Prices(program, result, ranges, self.goal, self.kind.part("explain").rule_units(), frozenset(self.kind.rules), status)
        said = [] if ranges is not None else [f"{status.value}: ranges are computed up to {RANGED:,} rows and columns together"]
        return list(made.rows()), said


def _solved(program: LinearProgram, limits: Limits, cancel: threading.Event | None) -> tuple[ProgramResult, Ranging | None]:
    """The optimum of a linear program, with ranges where it is small enough. Raises SolverError."""
    from optimizer.highs import HighsBackend
    from optimizer.live import ranging

    if program.columns and program.rows + program.columns <= RANGED:
        found = ranging(program, limits, cancel)
        return found.result, found
    return HighsBackend().solve(program, limits, cancel=cancel), None


class _Prices:
    """The named rows of one solved linear program, in words."""

    def __init__(
        self,
        program: LinearProgram,
        result: ProgramResult,
        ranges: Ranging | None,
        goal: Goal,
        units: Mapping[str, str],
        rules: frozenset[str],
        status: Status,
    ) -> None:
        assert result.row_duals is not None and result.values is not None  # noqa: S101, PT018  (the caller looked)
        self._program, self._ranges, self._goal, self._units, self._rules, self._status = program, ranges, goal, units, rules, status
        self._objective = result.objective or 0.0
        duals = usable_duals(program, result.row_duals)
        self._duals = np.where(np.abs(duals) <= WORTHLESS * max(1.0, float(np.abs(duals).max(initial=0.0))), 0.0, duals)
        self._side = self._active_sides(program.activity(result.values))

    def _active_sides(self, activity: Floats) -> Floats:
        """The side of each row that its price is about, or at which it stands; NaN where it stands at none."""
        program = self._program
        lower, upper = program.row_lower, program.row_upper
        pushes_up = self._duals < 0 if program.maximise else self._duals > 0
        at_lower = np.abs(activity - lower) <= NEAR * np.maximum(1.0, np.abs(lower))
        at_upper = np.abs(upper - activity) <= NEAR * np.maximum(1.0, np.abs(upper))
        standing = np.where(at_upper, upper, np.where(at_lower, lower, np.nan))
        side = np.where(self._duals == 0.0, standing, np.where(pushes_up, lower, upper))
        return np.where(np.isfinite(side), side, np.nan)

    def rows(self) -> Iterator[Worth]:
        """Rows of the kind's rules that have a price or bind, the dearest first, equally dear ones in the program's order.

        A row whose columns are all held has nothing that could answer a change, and is left out. Of rows with the same ids, as a limit has
        in each step of time, those that are worth nothing are told once, and not at all beside one that is worth something.
        """
        program = self._program
        counts = ~np.isnan(self._side) & (np.bincount(program.entry_rows, weights=self._loose(), minlength=program.rows) > 0)
        named = [
            (row, block.name, block.ids[row - block.start])
            for block in program.row_blocks
            if block.name in self._rules
            for row in (np.flatnonzero(counts[block.rows]) + block.start).tolist()
        ]
        told: set[tuple[str, tuple[str, ...]]] = set()
        for row, rule, ids in sorted(named, key=lambda one: -abs(self._duals[one[0]])):
            name = rule, tuple(str(one) for one in ids)
            if self._duals[row] != 0.0 or name not in told:
                told.add(name)
                yield self._worth(row, *name)

    def _loose(self) -> Floats:
        program = self._program
        free = program.column_lower < program.column_upper
        return np.asarray(free[program.indices] & (program.coefficients != 0.0), dtype=np.float64)

    def _worth(self, row: int, rule: str, ids: tuple[str, ...]) -> Worth:
        limit, price = float(self._side[row]), float(self._duals[row])
        within = self._range(row, limit, price)
        unit = self._units.get(rule, "")
        return Worth(rule, ids, unit, limit + 0.0, price + 0.0, within, self._status, self._text(price, unit, within, limit))

    def _range(self, row: int, limit: float, price: float) -> Range | None:
        """HiGHS's range, where it holds the limit and agrees with the price at its ends."""
        ranges = self._ranges
        if ranges is None or price == 0.0:
            return None
        low, high = float(ranges.side_low[row]), float(ranges.side_high[row])
        slack = NEAR * max(1.0, abs(limit))
        if not low - slack <= limit <= high + slack:
            return None
        for end, objective in ((low, ranges.side_low_objective[row]), (high, ranges.side_high_objective[row])):
            expected = self._objective + price * (end - limit)
            if math.isfinite(end) and math.isfinite(objective) and abs(objective - expected) > NEAR * max(1.0, abs(expected)):
                return None
        return Range(_endless(min(low, limit)) + 0.0, _endless(max(high, limit)) + 0.0)

    def _text(self, price: float, unit: str, within: Range | None, limit: float) -> str:
        goal = self._goal
        told = f"{abs(price):.6g} {goal.unit}".rstrip()
        each = f"one more {ONE_OF.get(unit, unit.removesuffix('s'))}" if unit else "one more unit"
        if price == 0.0:
            return f"moving this limit alone does not improve {goal.name}"
        better = (price > 0) == (goal.sense is Sense.maximise)
        verb, opposite = ("improves", "worsens") if better else ("worsens", "improves")
        text = f"{each} of this limit {verb} {goal.name} by {told}"
        if within is None:
            return f"{text}, as long as the same limits bind"
        slack = NEAR * max(1.0, abs(limit))
        down = f"down to {within.low:.6g}" if math.isfinite(within.low) else "downwards without end"
        if within.high > limit + slack:
            up = f"up to {within.high:.6g}" if math.isfinite(within.high) else "without end"
            return f"{text}, {up}" + (f", and {down} each unit less {opposite} it by as much" if within.low < limit - slack else "")
        text = f"{each} of this limit {verb} {goal.name} by {'at most' if better else 'at least'} {told}"
        return f"{text}; {down} each unit less {opposite} it by exactly that" if within.low < limit - slack else text


def _endless(end: float) -> float:
    """HiGHS's 1e20 and beyond as infinity."""
    return math.copysign(math.inf, end) if abs(end) >= 1e20 else end  # noqa: PLR2004  (HiGHS's own infinity)


def _row_object(row: Worth) -> dict[str, Any]:
    return {
        "rule": row.rule,
        "ids": list(row.ids),
        "unit": row.unit,
        "limit": row.limit,
        "worth": row.worth,
        "range": None if row.range is None else {"low": finite(row.range.low), "high": finite(row.range.high)},
        "status": row.status.value,
        "text": row.text,
    }

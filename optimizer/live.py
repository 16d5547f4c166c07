"""Programs that stay loaded in HiGHS: edited as arrays and solved again from the basis of the solve before.

Built on ``optimizer.highs``; for column generation, what-if studies and sensitivity.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.program import Floats, Ints, LinearProgram
from optimizer.backend import OnProgress, ProgramResult, ProgramStatus, SolverError, checked_start, columnless
from optimizer.highs import Engine, Options, Watch, solved, whole_bounds
from optimizer.limits import Deadline, Limits
from optimizer.result import StopReason

MOST_ENTRIES = 2_000  # coefficients that are changed one by one; beyond them a new hand-over is faster
DROPPED = 1e-9  # HiGHS takes coefficients up to this for none


def same_structure(one: LinearProgram, other: LinearProgram) -> bool:
    """Whether two programs differ in numbers only: same sense, rows, columns, places of coefficients, and integer columns."""
    return (
        one.maximise == other.maximise
        and one.columns == other.columns
        and np.array_equal(one.starts, other.starts)
        and np.array_equal(one.indices, other.indices)
        and np.array_equal(one.integer, other.integer)
    )


class LiveProgram:
    """One program in one Highs object, for one thread at a time.

    Edits go to HiGHS at once and to ``program`` (what results are checked against) together. A linear program is solved by
    ``options.method`` the first time and by the simplex method from the last basis after that, unless
    crossover is off: then there is no basis and every solve is a first one. A MIP has no basis to start from: pass ``start``.

    Every method raises SolverError when HiGHS refuses a call, and ValueError when an edit makes no sense.
    """

    def __init__(self, program: LinearProgram, limits: Limits, options: Options | None = None) -> None:
        """Load ``program``; ``limits`` holds for solves that bring none of their own."""
        self._program = program
        self._limits = limits
        self._options = Options() if options is None else options
        self._engine: Engine | None = None
        self._hot = False
        self._loaded()

    @property
    def program(self) -> LinearProgram:
        """The program as it stands after all edits. Added rows and columns belong to no block."""
        return self._program

    @property
    def hot(self) -> bool:
        """Whether the next solve starts from a basis."""
        return self._engine is not None and self._hot and not self._program.is_mip

    def become(self, program: LinearProgram) -> bool:
        """Turn into ``program`` by the differences alone, and keep the basis; False, with nothing done, when the structure is another.

        What changes may be costs, offset, bounds, sides and the values of coefficients; see ``same_structure``.
        """
        old = self._program
        if not same_structure(old, program):
            return False
        engine, self._program = self._engine, program
        if engine is None:  # loaded when it is needed
            return True
        try:
            entries = np.flatnonzero(old.coefficients != program.coefficients)
            if len(entries) > MOST_ENTRIES or (np.abs(program.coefficients[entries]) <= DROPPED).any():
                self._reload(engine)
            else:
                self._pass_differences(engine, old, entries)
        except SolverError:
            self._engine = None  # half of the edits may have been made
        return True

    def _pass_differences(self, engine: Engine, old: LinearProgram, entries: Ints) -> None:
        new = self._program
        rows = new.entry_rows[entries].tolist() if len(entries) else []
        for row, column, value in zip(rows, new.indices[entries].tolist(), new.coefficients[entries].tolist(), strict=True):
            engine.call("changeCoeff", row, column, value)
        columns = _narrow(np.flatnonzero(old.cost != new.cost))
        if len(columns):
            engine.call("changeColsCost", len(columns), columns, new.cost[columns])
        columns = _narrow(np.flatnonzero((old.column_lower != new.column_lower) | (old.column_upper != new.column_upper)))
        if len(columns):
            bounds = whole_bounds(new.integer[columns], new.column_lower[columns], new.column_upper[columns])
            engine.call("changeColsBounds", len(columns), columns, *bounds)
        for row in np.flatnonzero((old.row_lower != new.row_lower) | (old.row_upper != new.row_upper)).tolist():
            engine.call("changeRowBounds", row, new.row_lower[row], new.row_upper[row])
        if old.offset != new.offset:
            engine.call("changeObjectiveOffset", new.offset)

    def _reload(self, engine: Engine) -> None:
        """Hand the program over anew with the basis there is."""
        basis = engine.get("getBasis") if self._hot else None
        engine.load(self._program)
        if basis is not None:
            engine.call("setBasis", basis)

    def change_cost(self, columns: npt.ArrayLike, values: npt.ArrayLike) -> None:
        """Give ``columns`` new objective coefficients."""
        at, new = _positions(columns, self._program.columns), np.asarray(values, dtype=np.float64)
        program = replace(self._program, cost=_edited(self._program.cost, at, new))
        self._edit("changeColsCost", len(at), at, program.cost[at])
        self._program = program

    def change_column_bounds(self, columns: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike) -> None:
        """Give ``columns`` new bounds."""
        at = _positions(columns, self._program.columns)
        program = replace(
            self._program,
            column_lower=_edited(self._program.column_lower, at, np.asarray(lower, dtype=np.float64)),
            column_upper=_edited(self._program.column_upper, at, np.asarray(upper, dtype=np.float64)),
        )
        bounds = whole_bounds(program.integer[at], program.column_lower[at], program.column_upper[at])
        self._edit("changeColsBounds", len(at), at, *bounds)
        self._program = program

    def change_row_bounds(self, rows: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike) -> None:
        """Give ``rows`` new sides."""
        at = _positions(rows, self._program.rows)
        program = replace(
            self._program,
            row_lower=_edited(self._program.row_lower, at, np.asarray(lower, dtype=np.float64)),
            row_upper=_edited(self._program.row_upper, at, np.asarray(upper, dtype=np.float64)),
        )
        for row in at.tolist():  # highspy offers no call for several rows
            self._edit("changeRowBounds", row, program.row_lower[row], program.row_upper[row])
        self._program = program

    def add_columns(
        self,
        cost: Floats,
        lower: Floats,
        upper: Floats,
        starts: Ints,
        indices: Ints,
        values: Floats,
        integer: npt.ArrayLike = False,  # noqa: FBT002 - an array of booleans, or one for all
    ) -> slice:
        """Append columns and return where they lie.

        Column k has the entries ``starts[k]:starts[k + 1]`` of ``indices`` (rows) and ``values``; ``starts`` has one more entry
        than ``cost``.
        """
        first, count = self._program.columns, len(cost)
        types = np.broadcast_to(np.asarray(integer, dtype=np.bool_), (count,))
        program = self._program.with_columns(cost, lower, upper, types, starts, indices, values)
        bounds = whole_bounds(types, program.column_lower[first:], program.column_upper[first:])
        self._edit(
            "addCols",
            count,
            program.cost[first:],
            *bounds,
            len(indices),
            _narrow(starts[:-1]),
            _narrow(indices),
            np.asarray(values, dtype=np.float64),
        )
        if program.is_mip:
            added = _narrow(np.arange(first, first + count))
            self._edit("changeColsIntegrality", count, added, types.astype(np.uint8))
        self._program = program
        return slice(first, first + count)

    def add_rows(self, lower: Floats, upper: Floats, starts: Ints, indices: Ints, values: Floats) -> slice:
        """Append rows and return where they lie; ``indices`` are columns, otherwise as ``add_columns``."""
        first, count = self._program.rows, len(lower)
        program = self._program.with_rows(lower, upper, starts, indices, values)
        arrays = (np.asarray(one, dtype=np.float64) for one in (lower, upper))
        self._edit("addRows", count, *arrays, len(indices), _narrow(starts[:-1]), _narrow(indices), np.asarray(values, dtype=np.float64))
        self._program = program
        return slice(first, first + count)

    def solve(
        self,
        limits: Limits | None = None,
        *,
        start: Floats | None = None,
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> ProgramResult:
        """Solve the program as it stands; see ``optimizer.backend.Backend.solve``.

        "Infeasible or unbounded" is not settled here, as ``HighsBackend`` does: that takes a second solve of another program.
        """
        limits = self._limits if limits is None else limits
        deadline = Deadline.after(limits.time_limit_s)
        best = checked_start(self._program, start)
        if self._program.columns == 0:
            return columnless(self._program)
        engine = self._loaded()
        hot = self._hot and not self._program.is_mip
        engine.configure(replace(self._options, method="simplex") if hot else self._options, limits, mip=self._program.is_mip)
        if start is not None and self._program.is_mip:
            engine.give_start(start)
        try:
            result = solved(engine, self._program, limits, deadline, Watch(self._program, best, on_progress, cancel))
        except BaseException:
            self._engine = None  # whatever happened, a fresh object is the only safe one
            raise
        self._hot = bool(engine.get("getBasis").valid)
        if result.stop_reason is StopReason.crash:
            self._engine = None
        return result

    def _loaded(self) -> Engine:
        if self._engine is None:
            engine = Engine()
            engine.load(self._program)
            self._engine, self._hot = engine, False
        return self._engine

    def _edit(self, name: str, *arguments: object) -> None:
        try:
            self._loaded().call(name, *arguments, warning_is_fine=name in ("addCols", "addRows"))
        except SolverError:
            self._engine = None  # half an edit may have been made: load ``program``, which lacks it, anew
            raise


@dataclass(frozen=True, slots=True, eq=False)
class Ranging:
    """How far each number may move, alone, before the optimal basis changes.

    ``cost_low``, ``cost_high`` (columns,): the interval of each column's cost within which the optimal values stay optimal.
    ``side_low``, ``side_high`` (rows,): the interval of the active side of each row within which its dual keeps
    its value. ``side_low_objective``, ``side_high_objective`` (rows,): the objective at the ends of that interval.
    Intervals are those of one basis: at a degenerate optimum the true ones may be wider.
    """

    result: ProgramResult
    cost_low: Floats
    cost_high: Floats
    side_low: Floats
    side_high: Floats
    side_low_objective: Floats
    side_high_objective: Floats


def ranging(program: LinearProgram, limits: Limits, cancel: threading.Event | None = None) -> Ranging:
    """Solve a linear program by the simplex method and return its cost and row ranges.

    ``cancel`` is heard while it solves; the ranges take about as long again. Raises ValueError for a MIP or a program without
    columns (neither has ranges) and SolverError when no optimum was proved, so that there is no basis to range.
    """
    if program.is_mip or program.columns == 0:
        raise ValueError("ranging needs a linear program with columns; for a MIP pass program.relaxed()")
    engine = Engine()
    engine.configure(Options(method="simplex"), limits, mip=False)
    engine.load(program)
    result = solved(engine, program, limits, Deadline.after(limits.time_limit_s), Watch(program, None, None, cancel))
    if result.status is not ProgramStatus.optimal:
        raise SolverError(f"no optimum to range: {result.status} ({result.detail})")
    found = engine.ask("getRanging")
    ends = {  # HiGHS's cost ranges go on with its slacks
        "cost_low": found.col_cost_dn.value_[: program.columns],
        "cost_high": found.col_cost_up.value_[: program.columns],
        "side_low": found.row_bound_dn.value_,
        "side_high": found.row_bound_up.value_,
        "side_low_objective": found.row_bound_dn.objective_,
        "side_high_objective": found.row_bound_up.objective_,
    }
    return Ranging(result=result, **{name: np.array(values, dtype=np.float64) for name, values in ends.items()})


def _positions(given: npt.ArrayLike, count: int) -> npt.NDArray[np.int32]:
    at = np.atleast_1d(np.asarray(given, dtype=np.int64))
    if at.size and not (at.min() >= 0 and at.max() < count):
        raise ValueError(f"positions must lie in 0..{count - 1}")
    if len(np.unique(at)) != len(at):
        raise ValueError("a position is given twice")
    return _narrow(at)


def _edited(array: Floats, at: npt.NDArray[np.int32], values: Floats) -> Floats:
    copy = array.copy()
    copy[at] = values
    return copy


def _narrow(positions: npt.ArrayLike) -> npt.NDArray[np.int32]:
    return np.ascontiguousarray(positions, dtype=np.int32)

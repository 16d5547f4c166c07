"""CP-SAT (OR-Tools): pure integer programs whose numbers can be made whole.

Often finds good plans sooner than branch and cut when columns are binary and rows are logical. ortools is
imported where it is used: it costs 0.4 s.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from models.program import Floats, Ints, LinearProgram
from optimizer.backend import (
    Accepted,
    OnProgress,
    ProgramProgress,
    ProgramResult,
    ProgramStatus,
    SolverError,
    UnsupportedProgram,
    accepted,
    better,
    checked_start,
    columnless,
    crash,
    measured_gap,
    with_values,
)
from optimizer.bounds import implied_box
from optimizer.limits import Limits
from optimizer.result import StopReason, finite
from optimizer.scaling import whole, whole_scale, whole_scales

LARGEST_ACTIVITY = 2**60  # CP-SAT sums in 64-bit integers
FAR = 2**62  # a missing side of a row
ROUNDING = 1e-9
POLL_S = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class WholeProgram:
    """A program in whole numbers, minimised: ``objective = sign * (cost'x / cost_scale) + offset``."""

    cost: Ints
    cost_scale: int
    lower: Ints
    upper: Ints
    coefficients: Ints
    row_lower: Ints
    row_upper: Ints

    @property
    def empty(self) -> bool:
        """Whether rounding bounds to whole numbers already shows that nothing is feasible."""
        return bool((self.lower > self.upper).any() or (self.row_lower > self.row_upper).any())


def in_whole_numbers(program: LinearProgram) -> WholeProgram:
    """The same program in whole numbers; raises UnsupportedProgram, naming the first thing that cannot be."""
    if not program.integer.all():
        raise UnsupportedProgram(f"{program.column_name(int(np.argmin(program.integer)))} is not integer; CP-SAT has no continuous columns")
    lower, upper = implied_box(program, passes=5)
    endless = np.flatnonzero(np.isinf(lower) | np.isinf(upper))
    if len(endless):
        raise UnsupportedProgram(f"{program.column_name(int(endless[0]))} has no finite bounds, and the rows imply none")
    scales = whole_scales(program.coefficients, program.starts)
    cost_scale = whole_scale(program.cost)
    if scales is None or cost_scale is None:
        part = "coefficients" if scales is None else "costs"
        raise UnsupportedProgram(f"the {part} are not fractions with a common denominator that CP-SAT can take")
    coefficients = whole(program.coefficients * np.repeat(scales, np.diff(program.starts)))
    cost = whole((-1.0 if program.maximise else 1.0) * program.cost * cost_scale)
    box = whole(np.ceil(lower - ROUNDING)), whole(np.floor(upper + ROUNDING))
    if coefficients is None or cost is None or box[0] is None or box[1] is None:
        raise UnsupportedProgram("a number is too large to be exact")
    reach = np.maximum(np.abs(box[0]), np.abs(box[1])).astype(np.float64)
    sizes = np.bincount(program.entry_rows, weights=np.abs(coefficients) * reach[program.indices], minlength=1)
    if max(float(sizes.max(initial=0.0)), float(np.abs(cost).astype(np.float64) @ reach)) > LARGEST_ACTIVITY:
        raise UnsupportedProgram("a row or the objective can exceed 2^60; CP-SAT would overflow")
    row_lower = np.clip(np.ceil(program.row_lower * scales - ROUNDING), -FAR, FAR).astype(np.int64)
    row_upper = np.clip(np.floor(program.row_upper * scales + ROUNDING), -FAR, FAR).astype(np.int64)
    return WholeProgram(cost, cost_scale, box[0], box[1], coefficients, row_lower, row_upper)


class CpSatBackend:
    """Solves pure integer programs with CP-SAT; see ``optimizer.backend.Backend``."""

    @property
    def name(self) -> str:
        """What certificates call it, with the version."""
        return f"cp-sat {version('ortools')}"

    def solve(
        self,
        program: LinearProgram,
        limits: Limits,
        *,
        start: Floats | None = None,
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> ProgramResult:
        """Solve within the limits; see ``optimizer.backend.Backend.solve``.

        Raises UnsupportedProgram for a continuous or unbounded column and for numbers that cannot be made whole.
        """
        begun = time.monotonic()
        best = checked_start(program, start)
        if program.columns == 0:
            return columnless(program)
        numbers = in_whole_numbers(program)
        if numbers.empty:
            return ProgramResult(ProgramStatus.infeasible, StopReason.gap, detail="no whole number lies between two bounds")
        search = _Search(program, numbers, best, on_progress, cancel)
        result = search.run(limits, start, begun)
        return replace(result, seconds=time.monotonic() - begun)


class _Search:
    """One run of CP-SAT and what it reports meanwhile, from its own threads."""

    def __init__(
        self,
        program: LinearProgram,
        numbers: WholeProgram,
        best: Accepted | None,
        on_progress: OnProgress | None,
        cancel: threading.Event | None,
    ) -> None:
        self._program = program
        self._numbers = numbers
        self._best = best
        self._on_progress = on_progress
        self._cancel = cancel
        self._bound: float | None = None
        self._failure: BaseException | None = None
        self._begun = time.monotonic()
        self._lock = threading.RLock()

    def run(self, limits: Limits, start: Floats | None, begun: float) -> ProgramResult:
        from ortools.sat.python import cp_model

        model = cp_model.CpModel()
        _write(model.proto, self._program, self._numbers, start)
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = limits.threads
        solver.parameters.random_seed = limits.seed
        solver.parameters.relative_gap_limit = limits.gap
        solver.parameters.max_time_in_seconds = max(1e-3, limits.time_limit_s - (time.monotonic() - begun))
        solver.best_bound_callback = self._hear_bound
        best = self._best
        if best is not None:
            self._guarded(lambda: self._report(best.values))
        done = threading.Event()
        watcher = threading.Thread(target=self._stop_when_told, args=(solver, done), daemon=True)
        watcher.start()
        try:
            status = solver.solve(model, _listener(self._hear_values))
        finally:
            done.set()
            watcher.join()
        if self._failure is not None:
            raise self._failure
        return self._judged(status.name, solver, limits)

    def _judged(self, word: str, solver: Any, limits: Limits) -> ProgramResult:
        cancelled = self._cancel is not None and self._cancel.is_set()
        if word == "MODEL_INVALID":
            raise SolverError("CP-SAT calls the model invalid")
        if word == "INFEASIBLE" and self._best is None:
            return ProgramResult(ProgramStatus.infeasible, StopReason.gap, detail=word)
        if word == "INFEASIBLE":
            return with_values(crash("CP-SAT calls a program infeasible that is not"), self._program, self._best, None, limits.gap)
        stop = StopReason.gap if word == "OPTIMAL" else StopReason.cancelled if cancelled else StopReason.deadline
        result = ProgramResult(ProgramStatus.no_solution, stop, detail=word, nodes=int(solver.num_branches))
        if word in ("OPTIMAL", "FEASIBLE"):
            found = accepted(self._program, np.array(list(solver.response_proto.solution), dtype=np.float64))
            self._best = better(self._program, self._best, found)
        bound = self._in_units(solver.best_objective_bound) if word != "UNKNOWN" or self._bound is not None else None
        return with_values(result, self._program, self._best, bound, limits.gap)

    def _in_units(self, scaled: float) -> float:
        return (-1.0 if self._program.maximise else 1.0) * scaled / self._numbers.cost_scale

    def _stop_when_told(self, solver: Any, done: threading.Event) -> None:
        while not done.wait(POLL_S):
            # Repeated, because a stop asked for before the search has begun is lost.
            if self._failure is not None or (self._cancel is not None and self._cancel.is_set()):
                solver.stop_search()

    def _guarded(self, act: Any) -> None:
        """Nothing may be raised into CP-SAT: it is kept, and raised once the search has returned."""
        with self._lock:
            if self._failure is None:
                try:
                    act()
                except BaseException as error:  # noqa: BLE001 - as above
                    self._failure = error

    def _hear_values(self, values: list[int]) -> None:
        found = accepted(self._program, np.array(values, dtype=np.float64))

        def take() -> None:
            improved = better(self._program, self._best, found)
            if improved is not None and improved is not self._best:
                self._best = improved
                self._report(improved.values)

        self._guarded(take)

    def _hear_bound(self, scaled: float) -> None:
        def take() -> None:
            self._bound = finite(self._in_units(scaled))
            self._report(None)

        self._guarded(take)

    def _report(self, values: Floats | None) -> None:
        if self._on_progress is not None:
            incumbent = None if self._best is None else self._best.objective
            gap = measured_gap(incumbent, self._bound)
            self._on_progress(ProgramProgress(time.monotonic() - self._begun, incumbent, self._bound, gap, values))


def _listener(hear: Any) -> Any:
    from ortools.sat.python import cp_model

    class Listener(cp_model.CpSolverSolutionCallback):
        def on_solution_callback(self) -> None:
            hear(list(self.response_proto.solution))

    return Listener()


def _write(proto: Any, program: LinearProgram, numbers: WholeProgram, start: Floats | None) -> None:
    """Fill CP-SAT's own model: its Python expressions would cost more than the search of a small program."""
    for low, high in zip(numbers.lower.tolist(), numbers.upper.tolist(), strict=True):
        proto.variables.add().domain.extend([low, high])
    indices, coefficients, starts = program.indices.tolist(), numbers.coefficients.tolist(), program.starts.tolist()
    for row, (low, high) in enumerate(zip(numbers.row_lower.tolist(), numbers.row_upper.tolist(), strict=True)):
        linear = proto.constraints.add().linear
        linear.vars.extend(indices[starts[row] : starts[row + 1]])
        linear.coeffs.extend(coefficients[starts[row] : starts[row + 1]])
        linear.domain.extend([low, high])
    priced = np.flatnonzero(numbers.cost)
    proto.objective.vars.extend(priced.tolist())
    proto.objective.coeffs.extend(numbers.cost[priced].tolist())
    proto.objective.offset = (-1.0 if program.maximise else 1.0) * program.offset * numbers.cost_scale
    if start is not None:
        known = np.flatnonzero(np.isfinite(start))
        hint = np.clip(np.round(start[known]), numbers.lower[known], numbers.upper[known]).astype(np.int64)
        proto.solution_hint.vars.extend(known.tolist())
        proto.solution_hint.values.extend(hint.tolist())

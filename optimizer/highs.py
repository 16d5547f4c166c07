"""HiGHS: linear and mixed-integer programs. The one module that imports highspy.

What shapes this code, measured with highspy 1.12.0: an option HiGHS does not know is refused by a return code only and
the default runs instead; an exception inside a callback leaves the object unusable; ``output_flag`` off silences
the MIP callbacks; a thread that has solved with one number of threads is refused another until its scheduler is reset; fractional
bounds of integer columns spoil the MIP bound; an interior point without crossover ends in "unknown" or an error on easy programs;
its time limit counts all runs of one object together;
some failures print a line to stdout whatever the options. Each has its test in tests/optimizer/test_highs.py.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import highspy
import numpy as np

from models.program import Bools, Floats, LinearProgram
from optimizer.backend import (
    Accepted,
    OnProgress,
    ProgramProgress,
    ProgramResult,
    ProgramStatus,
    SolverError,
    accepted,
    better,
    checked_start,
    columnless,
    crash,
    measured_gap,
    with_duals,
    with_values,
)
from optimizer.limits import Deadline, Limits
from optimizer.result import StopReason, finite

Method = Literal["choose", "simplex", "ipm"]

DUAL_TOLERANCE = 1e-7  # HiGHS's own dual feasibility tolerance: smaller reduced costs are noise to it
PROGRESS_INTERVAL_S = 0.05  # bounds are reported no more often than this; incumbents always
SMALLEST_TIME_LIMIT_S = 1e-3
FAILED = "kError"
UNSURE = "kUnknown"  # what HiGHS says of an interior point it does not trust, often wrongly so after presolve solved it all


@dataclass(frozen=True, slots=True)
class Options:
    """How HiGHS works on a program.

    ``method`` and ``crossover`` (from an interior point to a vertex, which gives a basis and exact duals) apply to linear
    programs only. ``presolve_rule_off`` is HiGHS's bit mask of presolve rules to leave out: 1024, the dependent-equation
    search, pays off on flow models. ``log_path`` receives HiGHS's log.
    """

    method: Method = "choose"
    crossover: bool = True
    presolve: bool = True
    presolve_rule_off: int = 0
    log_path: Path | None = None


class Engine:
    """One Highs object: arrays in, arrays out, every return code checked. For one thread at a time.

    Every method raises SolverError, naming the call, when HiGHS refuses it.
    """

    def __init__(self) -> None:
        self._highs = highspy.Highs()
        self.set_option("output_flag", True)
        self.set_option("log_to_console", False)

    def call(self, name: str, *arguments: Any, warning_is_fine: bool = False) -> None:
        """Call one method of the Highs object that answers with a status."""
        status = getattr(self._highs, name)(*arguments)
        fine = (highspy.HighsStatus.kOk, highspy.HighsStatus.kWarning) if warning_is_fine else (highspy.HighsStatus.kOk,)
        if status not in fine:
            raise SolverError(f"HiGHS answered {status.name} to {name}")

    def ask(self, name: str, *arguments: Any) -> Any:
        """Call one method of the Highs object that answers with a status and one value; return the value."""
        status, value = getattr(self._highs, name)(*arguments)
        if status != highspy.HighsStatus.kOk:
            raise SolverError(f"HiGHS answered {status.name} to {name}")
        return value

    def get(self, name: str) -> Any:
        """Call one getter of the Highs object that cannot fail."""
        return getattr(self._highs, name)()

    def set_option(self, name: str, value: float | str) -> None:
        """Set one option; a name or value HiGHS does not know is an error, not a default."""
        status = self._highs.setOptionValue(name, value)
        if status != highspy.HighsStatus.kOk:
            raise SolverError(f"HiGHS answered {status.name} to setOptionValue({name!r}, {value!r})")

    def configure(self, options: Options, limits: Limits, *, mip: bool) -> None:
        """Set every option a solve depends on, so that nothing is left over from the solve before."""
        # HiGHS documents that a named method makes it solve the relaxation of a MIP; 1.12 does not, but later ones may.
        self.set_option("solver", "choose" if mip else options.method)
        self.set_option("run_crossover", "on" if options.crossover else "off")
        self.set_option("presolve", "choose" if options.presolve else "off")
        self.set_option("presolve_rule_off", options.presolve_rule_off)
        self.set_option("log_file", "" if options.log_path is None else str(options.log_path))
        self.set_option("mip_rel_gap", limits.gap)
        self.set_option("random_seed", limits.seed)
        self.set_option("threads", limits.threads)

    def load(self, program: LinearProgram) -> None:
        """Hand the whole program over as arrays in one call, in place of any before."""
        sense = highspy.ObjSense.kMaximize if program.maximise else highspy.ObjSense.kMinimize
        lower, upper = whole_bounds(program.integer, program.column_lower, program.column_upper)
        self.call(
            "passModel",
            program.columns,
            program.rows,
            len(program.indices),
            int(highspy.MatrixFormat.kRowwise),
            int(sense),
            program.offset,
            program.cost,
            lower,
            upper,
            program.row_lower,
            program.row_upper,
            program.starts.astype(np.int32),
            program.indices.astype(np.int32),
            program.coefficients,
            program.integer.astype(np.int32),
            # HiGHS warns when it drops coefficients below 1e-9; values and bounds are checked on our own arrays.
            warning_is_fine=True,
        )

    def give_start(self, start: Floats) -> None:
        """Offer values for the columns whose entry is not NaN."""
        known = np.flatnonzero(~np.isnan(start)).astype(np.int32)
        if len(known):
            self.call("setSolution", len(known), known, np.ascontiguousarray(start[known]), warning_is_fine=True)

    def run(self, limits: Limits, deadline: Deadline, watch: Watch) -> str:
        """Solve until the deadline and return HiGHS's model status, for example ``kOptimal``, or ``kError`` when the run failed.

        Raises what ``watch`` caught, after which this object must be discarded.
        """
        watch.listen(self._highs)
        try:
            with _scheduler(limits.threads, deadline):
                # HiGHS holds the limit against the time of all runs of this object, not of this one.
                self.set_option("time_limit", self._highs.getRunTime() + max(SMALLEST_TIME_LIMIT_S, deadline.remaining_s()))
                status = self._highs.run()  # kWarning: stopped at a limit
        finally:
            watch.stop_listening(self._highs)
        if watch.failure is not None:
            raise watch.failure
        # A run that fails may leave a status that reads as if it had not.
        return FAILED if status == highspy.HighsStatus.kError else str(self._highs.getModelStatus().name)


def whole_bounds(integer: Bools, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """Column bounds with those of integer columns moved to whole numbers.

    HiGHS 1.12 takes fractional bounds of an integer column as they are in the bound it reports: an upper bound of 0.5 on the one
    column of a program gave a bound that no plan can reach.
    """
    near = 1e-9
    return np.where(integer, np.ceil(lower - near), lower), np.where(integer, np.floor(upper + near), upper)


_SOLVES = threading.Condition()
_solving = [0]
_own = threading.local()


@contextlib.contextmanager
def _scheduler(threads: int, deadline: Deadline) -> Iterator[None]:
    """Hold HiGHS's task scheduler at ``threads`` for this thread.

    Each thread that solves gets a scheduler whose size is fixed at its first solve. To change it, it must be reset, which is
    unsafe while any other thread solves: so a change waits for the others to end.

    Raises SolverError when they have not ended by the deadline.
    """
    with _SOLVES:
        held = getattr(_own, "threads", threads)
        if held != threads:
            if not _SOLVES.wait_for(lambda: _solving[0] == 0, timeout=deadline.remaining_s()):
                raise SolverError(f"other solves kept HiGHS from changing from {held} to {threads} threads before the deadline")
            highspy.Highs.resetGlobalScheduler(True)
        _own.threads = threads
        _solving[0] += 1
    try:
        yield
    finally:
        with _SOLVES:
            _solving[0] -= 1
            _SOLVES.notify_all()


class Watch:
    """Listens to one run: passes progress on, keeps the best incumbent, interrupts when told to."""

    def __init__(
        self, program: LinearProgram, best: Accepted | None, on_progress: OnProgress | None, cancel: threading.Event | None
    ) -> None:
        self.best = best
        self.failure: BaseException | None = None
        self._program = program
        self._on_progress = on_progress
        self._cancel = cancel
        self._bound: float | None = None
        self._begun = time.monotonic()
        self._reported = -np.inf
        if best is not None:
            self._guarded(lambda: self._report(best.values))

    def listen(self, highs: Any) -> None:
        """Subscribe to what is needed and no more: an interrupt callback is called at every simplex iteration."""
        for callback in self._callbacks(highs):
            callback.subscribe(self)

    def stop_listening(self, highs: Any) -> None:
        """Take back every subscription."""
        for callback in self._callbacks(highs):
            callback.unsubscribe(self)

    def _callbacks(self, highs: Any) -> list[Any]:
        callbacks = []
        if self._program.is_mip:
            callbacks += [highs.cbMipImprovingSolution]
        if self._program.is_mip and not (self._on_progress is None and self._cancel is None):
            callbacks += [highs.cbMipLogging, highs.cbMipInterrupt]
        if self._cancel is not None:
            callbacks += [highs.cbSimplexInterrupt, highs.cbIpmInterrupt]
        return callbacks

    @property
    def cancelled(self) -> bool:
        """Whether the user asked to stop."""
        return self._cancel is not None and self._cancel.is_set()

    def __call__(self, event: Any) -> None:
        """Hear one callback of HiGHS. Nothing may be raised into HiGHS: it would leave the object unusable."""
        self._guarded(lambda: self._hear(event))
        if self.failure is not None or self.cancelled:
            event.interrupt()

    def _guarded(self, act: Any) -> None:
        if self.failure is None:
            try:
                act()
            except BaseException as error:  # noqa: BLE001 - kept, and raised again once HiGHS has returned
                self.failure = error

    def _hear(self, event: Any) -> None:
        kind = highspy.cb.HighsCallbackType
        which = int(event.callback_type)
        if which == int(kind.kCallbackMipImprovingSolution):
            found = accepted(self._program, np.array(event.data_out.mip_solution, dtype=np.float64))
            improved = better(self._program, self.best, found)
            if improved is not None and improved is not self.best:
                self.best = improved
                self._report(improved.values)
        elif which in (int(kind.kCallbackMipLogging), int(kind.kCallbackMipInterrupt)):
            bound = finite(event.data_out.mip_dual_bound)
            if bound is not None and bound != self._bound and time.monotonic() - self._reported >= PROGRESS_INTERVAL_S:
                self._bound = bound
                self._report(None)

    def _report(self, values: Floats | None) -> None:
        if self._on_progress is None:
            return
        now = time.monotonic()
        self._reported = now
        incumbent = None if self.best is None else self.best.objective
        gap = measured_gap(incumbent, self._bound)
        self._on_progress(ProgramProgress(now - self._begun, incumbent, self._bound, gap, values))


_STATUS = {
    "kInfeasible": ProgramStatus.infeasible,
    "kUnbounded": ProgramStatus.unbounded,
    "kUnboundedOrInfeasible": ProgramStatus.infeasible_or_unbounded,
}
_STOP = {
    "kTimeLimit": StopReason.deadline,
    "kInterrupt": StopReason.cancelled,
    "kMemoryLimit": StopReason.memory,
}


def solved(engine: Engine, program: LinearProgram, limits: Limits, deadline: Deadline, watch: Watch) -> ProgramResult:
    """Run a loaded engine and judge what it returns. Raises SolverError, or what a progress callback raised."""
    begun = time.monotonic()
    if watch.failure is not None:
        raise watch.failure
    if watch.cancelled:
        result = with_values(ProgramResult(ProgramStatus.no_solution, StopReason.cancelled), program, watch.best, None, limits.gap)
        return replace(result, detail="cancelled before it began")
    try:
        word = engine.run(limits, deadline, watch)
    except MemoryError:
        result = ProgramResult(ProgramStatus.no_solution, StopReason.memory, detail="HiGHS ran out of memory")
        return replace(with_values(result, program, watch.best, None, limits.gap), seconds=time.monotonic() - begun)
    result = _judged(engine, program, limits, watch, word)
    info = engine.get("getInfo")
    counts = (info.simplex_iteration_count, info.ipm_iteration_count, info.crossover_iteration_count)
    return replace(
        result,
        seconds=time.monotonic() - begun,
        iterations=sum(max(0, count) for count in counts),
        nodes=max(0, info.mip_node_count),
    )


def _judged(engine: Engine, program: LinearProgram, limits: Limits, watch: Watch, word: str) -> ProgramResult:
    known = watch.best
    if word in _STATUS and not (known is not None and word == "kInfeasible"):
        # Infeasible or unbounded, but not infeasible: we hold feasible values.
        status = ProgramStatus.unbounded if known is not None else _STATUS[word]
        return ProgramResult(status, StopReason.gap, detail=word)
    unsure = word == UNSURE and not program.is_mip
    if word not in ("kOptimal", *_STOP) and not unsure:
        detail = "HiGHS calls a program infeasible that is not" if word == "kInfeasible" else word
        return with_values(crash(detail), program, known, None, limits.gap)
    solution = engine.get("getSolution")
    found = accepted(program, np.array(solution.col_value, dtype=np.float64)) if solution.value_valid else None
    if word == "kOptimal" and found is None:
        return with_values(crash("kOptimal, but its values are not feasible"), program, known, None, limits.gap)
    result = crash(word) if unsure else ProgramResult(ProgramStatus.no_solution, _STOP.get(word, StopReason.gap), detail=word)
    best = better(program, found, known)
    if program.is_mip or not solution.dual_valid:
        bound = engine.get("getInfo").mip_dual_bound if program.is_mip else None
        return with_values(result, program, known if unsure else best, bound, limits.gap)
    judged = with_duals(result, program, best, np.array(solution.row_dual, dtype=np.float64), limits.gap, tolerance=DUAL_TOLERANCE)
    # Values that HiGHS itself is unsure of count only with a proof of our own.
    sure = not unsure or judged.status is ProgramStatus.optimal
    return judged if sure else with_values(crash(word), program, known, judged.bound, limits.gap)


@dataclass(frozen=True, slots=True)
class HighsBackend:
    """Solves linear and mixed-integer programs with HiGHS; see ``optimizer.backend.Backend``.

    A deadline can be overrun by seconds while HiGHS presolves a large MIP, and ``cancel`` is heard late there: whoever needs
    a hard limit solves in a child process.
    """

    options: Options = field(default_factory=Options)

    @property
    def name(self) -> str:
        """What certificates call it, with the version."""
        return f"highs {highspy.HIGHS_VERSION_MAJOR}.{highspy.HIGHS_VERSION_MINOR}.{highspy.HIGHS_VERSION_PATCH}"

    def solve(
        self,
        program: LinearProgram,
        limits: Limits,
        *,
        start: Floats | None = None,
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> ProgramResult:
        """Solve within the limits; see ``optimizer.backend.Backend.solve``. Changing ``threads`` may wait for other solves."""
        deadline = Deadline.after(limits.time_limit_s)
        best = checked_start(program, start)
        if program.columns == 0:
            return columnless(program)
        result = self._solved(program, limits, deadline, start, Watch(program, best, on_progress, cancel))
        safer = self._safer(program)
        if result.stop_reason is StopReason.crash and safer is not None and not deadline.passed:
            best = accepted(program, result.values)  # what was found before the crash, or the start
            result = safer._solved(program, limits, deadline, start, Watch(program, best, on_progress, cancel))  # noqa: SLF001 - its own class
        if result.status is ProgramStatus.infeasible_or_unbounded and not deadline.passed:
            return self._settled(program, limits, deadline, cancel, result)
        return result

    def _safer(self, program: LinearProgram) -> HighsBackend | None:
        """What to try after a crash, None when nothing is safer.

        Without crossover an interior point can end in "unknown", and an unbounded program in an error. Presolve now and then (1 of
        5,000 fuzzed MIPs) returns values HiGHS itself then finds infeasible.
        """
        if not self.options.crossover and not program.is_mip:
            return replace(self, options=replace(self.options, crossover=True))
        return replace(self, options=replace(self.options, presolve=False)) if self.options.presolve else None

    def _solved(self, program: LinearProgram, limits: Limits, deadline: Deadline, start: Floats | None, watch: Watch) -> ProgramResult:
        engine = Engine()
        engine.configure(self.options, limits, mip=program.is_mip)
        engine.load(program)
        if start is not None and program.is_mip:  # an LP cannot start from values, only from a basis
            engine.give_start(start)
        return solved(engine, program, limits, deadline, watch)

    def _settled(
        self, program: LinearProgram, limits: Limits, deadline: Deadline, cancel: threading.Event | None, doubtful: ProgramResult
    ) -> ProgramResult:
        """Infeasible or unbounded? Without an objective a program is never unbounded, so solving that tells them apart.

        HiGHS has shown that the relaxation has no finite optimum; with rational data, feasible then means unbounded (Meyer 1974).
        """
        question = replace(program, cost=np.zeros(program.columns))
        answer = self._solved(question, limits, deadline, None, Watch(question, None, None, cancel))
        if answer.values is not None:
            return replace(doubtful, status=ProgramStatus.unbounded, seconds=doubtful.seconds + answer.seconds)
        if answer.status is ProgramStatus.infeasible:
            return replace(doubtful, status=ProgramStatus.infeasible, seconds=doubtful.seconds + answer.seconds)
        return doubtful

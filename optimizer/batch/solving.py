"""Solving a batch: programs of a shape together by the first-order method, what it leaves over one by one by HiGHS.

Nothing is taken on trust: values are made feasible and checked, bounds are recomputed from duals (``optimizer.batch.answers``). The method
finds no proof that a program is infeasible or unbounded, so such programs come to HiGHS.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from optimizer.backend import ProgramStatus, UnsupportedProgram
from optimizer.batch.answers import BatchAnswer, answer_of, judged
from optimizer.batch.shapes import Shape, by_shape
from optimizer.bounds import implied_box
from optimizer.highs import Options
from optimizer.kept import LEAST_S, KeptPrograms
from optimizer.limits import Deadline, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.program import Floats, LinearProgram
    from optimizer.backend import ProgramResult
    from optimizer.batch.iteration import Judge, Starting

    _Iterated = Callable[[Sequence[int], Starting, Judge, Callable[[], bool]], None]

Device = Literal["cpu", "cuda"]

MOST_ITERATIONS = 10_000
RACE_FROM = 32  # programs from which on it pays to look for a good primal weight first
PILOTS, ENOUGH = 3, 2  # programs that are tried, and how many must be solved, with each of ...
WEIGHTS = (2.0, 0.5, 0.12, 0.03, 0.008)  # ... these, of which the first to do so is everyone's to begin with
RACE_ITERATIONS = 4_000
RACED_GAIN = 0.1  # of the controller of the weight, after that
FIRST_ORDER_SHARE = 0.7  # of the time; the rest is for what it leaves over
NOT_CLOSED = "the first-order method ended with a gap of {gap:.2g} after {iterations:,} iterations"
NOT_FEASIBLE = "the first-order method found no feasible values in {iterations:,} iterations"
NOT_BOUNDED = "the first-order method proved no bound in {iterations:,} iterations"
NOT_SUITED = "no program for a first-order method: it has no rows or columns, or its bounds exclude each other"
NOT_BEGUN = "there was no time left for the first-order method"
NO_TIME = "there was no time left for HiGHS"


class TorchMissingError(RuntimeError):
    """A batch was to be solved without torch; the message says what to install."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Where to begin: values (columns,) and row duals (rows,), signed as ``ProgramResult.row_duals``. They need not be feasible."""

    values: Floats
    row_duals: Floats


@dataclass(frozen=True, slots=True)
class Engines:
    """What works on a batch. ``device`` None: a GPU where there is one; ``threads`` of the CPU; ``polish``: whether HiGHS gets the rest."""

    device: Device | None = None
    threads: int = 1
    most_iterations: int = MOST_ITERATIONS
    polish: bool = True


def solve_batch(
    programs: Sequence[LinearProgram],
    *,
    tolerance: float = 1e-4,
    seconds: float = 60.0,
    engines: Engines | None = None,
    starts: Sequence[Start | None] | None = None,
) -> list[BatchAnswer]:
    """Solve linear programs, those of the same shape together, each to a relative gap of ``tolerance``; the answers in their order.

    The same shape: as many rows and columns, and entries at the same places of the matrix. All other numbers may differ; programs that
    share the matrix's numbers, too, are solved faster. A program that the first-order method does not bring within the tolerance goes to
    HiGHS, and its answer says so. After ``seconds`` an answer may be ``feasible`` with its gap, or have no values.

    Raises UnsupportedProgram for a program with integer columns, ValueError for a tolerance outside 0..1, a device that is not there or a
    start of the wrong shape, and TorchMissingError where torch is not installed.
    """
    engines = engines or Engines()
    deadline = Deadline.after(seconds)
    starts = [None] * len(programs) if starts is None else starts
    _check(programs, tolerance, starts)
    device = _device(engines.device)
    answers: list[BatchAnswer | None] = [None] * len(programs)
    worthy = [place for place, one in enumerate(programs) if _suits(one)]
    shapes = [[worthy[one] for one in group] for group in by_shape([programs[place] for place in worthy])]
    begun = Deadline.after(FIRST_ORDER_SHARE * seconds if engines.polish else seconds)
    for group in shapes:
        batch = _Batch([programs[place] for place in group], [starts[place] for place in group], tolerance)
        batch.work(device, engines, begun)
        for place, answer in zip(group, batch.answers, strict=True):
            answers[place] = answer
    hot = KeptPrograms()
    limits = Limits(gap=tolerance, threads=engines.threads)
    return [
        _settled(one, answer, partial(_by_highs, hot, one, limits, deadline), deadline, engines)
        for one, answer in zip(programs, answers, strict=True)
    ]


class _Batch:
    """Programs of one shape, and the best that the first-order method has found for each."""

    def __init__(self, programs: list[LinearProgram], starts: list[Start | None], tolerance: float) -> None:
        self._programs, self._starts, self._tolerance = programs, starts, tolerance
        self.answers: list[BatchAnswer | None] = [None] * len(programs)

    def work(self, device: str, engines: Engines, deadline: Deadline) -> None:
        """Solve what can be solved by the deadline."""
        from optimizer.batch.iteration import Iteration, Starting, threads

        def iterated(places: Sequence[int], starting: Starting, judge: Judge, stopped: Callable[[], bool]) -> None:
            shape = Shape([self._programs[place] for place in places])
            most = min(RACE_ITERATIONS, engines.most_iterations) if starting.together else engines.most_iterations
            Iteration(shape, device, self._tolerance, most, hurried=engines.polish).run(starting, judge, stopped)

        with threads(engines.threads):
            weight = self._raced(iterated, deadline) if len(self._programs) >= RACE_FROM else None
            left = [place for place, answer in enumerate(self.answers) if not _is_closed(answer)]
            points = [self._point(place) for place in left]
            starting = Starting(points) if weight is None else Starting(points, np.full(len(left), weight), RACED_GAIN)
            if left:
                iterated(left, starting, self._judge_of(left), lambda: deadline.passed)

    def _raced(self, iterated: _Iterated, deadline: Deadline) -> float | None:
        """The primal weight with which most of some programs of the batch are solved first; None where that is none."""
        from optimizer.batch.iteration import Starting

        pilots = np.linspace(0, len(self._programs) - 1, PILOTS).round().astype(np.int64).tolist()
        places = [pilot for _ in WEIGHTS for pilot in pilots]
        closed = np.zeros((len(WEIGHTS), PILOTS), dtype=np.bool_)
        judge = self._judge_of(places)

        def noted(place: int, values: Floats, duals: Floats, iterations: int) -> bool:
            done = judge(place, values, duals, iterations)
            closed.flat[place] |= done
            return done

        def won() -> list[int]:
            return np.flatnonzero(closed.sum(axis=1) >= ENOUGH).tolist()

        starting = Starting([self._point(place) for place in places], np.repeat(WEIGHTS, PILOTS), 0.0, together=True)
        iterated(places, starting, noted, lambda: deadline.passed or bool(won()))
        return WEIGHTS[won()[0]] if won() else None

    def _judge_of(self, places: Sequence[int]) -> Judge:
        """Who judges a shape made of the programs at ``places``."""

        def judge(place: int, values: Floats, duals: Floats, iterations: int) -> bool:
            program = self._programs[places[place]]
            result = judged(program, values, _sign(program) * duals, self._tolerance)
            closed = result.status is ProgramStatus.optimal
            if closed or not _is_closed(self.answers[places[place]]):
                self.answers[places[place]] = answer_of(program, result, "first order", iterations=iterations)
            return closed

        return judge

    def _point(self, place: int) -> tuple[Floats, Floats] | None:
        start, program = self._starts[place], self._programs[place]
        return None if start is None else (start.values, _sign(program) * start.row_duals)


def _is_closed(answer: BatchAnswer | None) -> bool:
    return answer is not None and answer.status is ProgramStatus.optimal


def _settled(
    program: LinearProgram, answer: BatchAnswer | None, by_highs: Callable[[], ProgramResult], deadline: Deadline, engines: Engines
) -> BatchAnswer:
    """The answer of the first-order method where it is within the tolerance, else that of HiGHS where that is better."""
    if answer is not None and _is_closed(answer):
        return answer
    detail = _why(program, answer)
    iterations = 0 if answer is None else answer.iterations
    if not engines.polish or deadline.passed:
        told = detail if not engines.polish else f"{detail}; {NO_TIME}"
        return replace(answer, detail=told) if answer is not None else BatchAnswer(ProgramStatus.no_solution, "highs", detail=told)
    result = by_highs()
    if result.values is None and answer is not None and answer.values is not None and result.status is not ProgramStatus.unbounded:
        return replace(answer, detail=f"{detail}; HiGHS: {result.detail}")
    return answer_of(program, result, "highs", iterations=iterations, detail=f"{detail}; HiGHS: {result.detail}")


def _by_highs(hot: KeptPrograms, program: LinearProgram, limits: Limits, deadline: Deadline) -> ProgramResult:
    hot.begin()
    return hot.solve(program, replace(limits, time_limit_s=max(deadline.remaining_s(), LEAST_S)), Options(method="simplex"))


def _why(program: LinearProgram, answer: BatchAnswer | None) -> str:
    if answer is None:
        return NOT_BEGUN if _suits(program) else NOT_SUITED
    if answer.gap is None:
        return (NOT_FEASIBLE if answer.values is None else NOT_BOUNDED).format(iterations=answer.iterations)
    return NOT_CLOSED.format(gap=answer.gap, iterations=answer.iterations)


def _suits(program: LinearProgram) -> bool:
    """Whether the iteration has something to do: no rows, no columns or a visible contradiction is for HiGHS, at once."""
    if not program.rows or not program.columns or not len(program.indices):
        return False
    lower, upper = implied_box(program, passes=1)
    return bool((lower <= upper).all())


def _check(programs: Sequence[LinearProgram], tolerance: float, starts: Sequence[Start | None]) -> None:
    if not 0.0 < tolerance < 1.0:
        raise ValueError(f"the tolerance must be above 0 and below 1 (1e-4 is one part in ten thousand), not {tolerance}")
    if len(starts) != len(programs):
        raise ValueError(f"there are {len(starts)} starts for {len(programs)} programs; give one for each, None where there is none")
    for place, (one, start) in enumerate(zip(programs, starts, strict=True)):
        if one.is_mip:
            column = one.column_name(int(np.flatnonzero(one.integer)[0]))
            raise UnsupportedProgram(f"program {place} has integer columns ({column}), and a batch takes linear programs: use relaxed()")
        if start is not None and (start.values.shape != (one.columns,) or start.row_duals.shape != (one.rows,)):
            shapes = f"{start.values.shape} and {start.row_duals.shape}, expected ({one.columns},) and ({one.rows},)"
            raise ValueError(f"start {place} has the shapes {shapes}")


def _device(wanted: Device | None) -> str:
    try:
        from optimizer.batch.iteration import available
    except ImportError as error:
        if error.name != "torch":
            raise
        raise TorchMissingError("solving a batch needs torch: install quartermaster[torch]") from None
    device = available(wanted)
    if device is None:
        raise ValueError("there is no GPU that torch can use here: leave the device out, or ask for the cpu")
    return device


def _sign(program: LinearProgram) -> float:
    return -1.0 if program.maximise else 1.0

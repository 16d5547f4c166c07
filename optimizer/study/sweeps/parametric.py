"""The optimal value of a linear program as a function of one number: piecewise linear, found exactly with few solves.

**Method.** Supporting lines (Eisner and Severance, Mathematical Techniques for Efficient Record Segmentation in Large Shared Databases,
Journal of the ACM 23, 1976). Both ends are solved; each solve gives the value and a line that supports the function there. Two lines meet
between two solved places: solve there. Either the value lies on the lines, then the place is a breakpoint and nothing else lies between; or
there is a new line. A function of k pieces takes at most 2 k + 1 solves: each lies inside a piece that none before it lay in, or at a
breakpoint, or at an end. A price at a breakpoint is one of many; its line supports the function all the same and only costs the solve that
is counted. All solves are edits of one live program, from the basis of the solve before.

**Proof.** Say limits move and the goal is minimised; the value f is convex.

* Duals y, with the reduced costs that they leave, give a line in the parameter that is at most f everywhere, by weak duality, whatever y is
  (``Moving.dual_line``). So the highest of all these lines is a lower bound on the whole range.
* A share s of a plan at a, and 1 - s of a plan at b, is a plan at s a + (1 - s) b, because limits move along lines. So the chords between
  verified plans are an upper bound on the whole range, and attained.

Between neighbouring solved places the chord less the higher of their two lines is concave, so its largest value stands at an end or where
the lines meet: ``Sweep.error`` is the largest of these, measured again when all is done. Maximising mirrors both. Where costs move it is
the other way round: a plan stays a plan, and is worth a line in the parameter that no optimum is worse than; and the optimum between two
places is at most as good as the chord of the proved bounds, because shares of prices that fit are prices that fit.

**Ends of the domain.** Where no plan exists at an end of the range (or, while costs move, no optimum), one more linear program with the
parameter as a column finds the first value at which one does; its own bound proves that there is none before.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from optimizer.backend import ProgramResult, ProgramStatus
from optimizer.highs import HighsBackend
from optimizer.limits import Deadline, Limits
from optimizer.live import LiveProgram
from optimizer.study.sweeps.moving import Moving, Sides, dual_reach, moving, primal_reach

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from models.program import Floats, LinearProgram

TOLERANCE = 1e-6  # relative to the largest value, at least 1: how far value and bound may be apart
MOST_SOLVES = 2_000
INWARD = (0.0, 1e-10, 1e-8, 1e-6)  # of the range: how far inside its domain's end a program is solved, where rounding denies the end itself
NARROW = 1e-12  # of the range: places nearer to each other than this are one
ROUNDING = 1e-12  # relative: as near an end of the domain as this is at it
FOUND = ProgramStatus.optimal, ProgramStatus.feasible


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the parameter on which the optimal value is a line."""

    start: float
    end: float
    start_value: float
    end_value: float

    @property
    def slope(self) -> float:
        """The change of the optimal value for each unit of the parameter."""
        return (self.end_value - self.start_value) / (self.end - self.start) if self.end > self.start else 0.0


@dataclass(frozen=True, slots=True)
class Sweep:
    """The optimal value over a range, as told by ``pieces``, which follow each other without a hole.

    ``attained``: what is told is attained everywhere, and no plan is better by more than ``error`` (limits move); else what is told is
    proved, and plans exist that miss it by at most ``error`` (costs move). ``error`` is in the goal's unit. ``exact``: it is within the
    tolerance. ``domain`` is where there is an optimum, None where there is none at all; beyond ``denied`` it is proved that there is none
    (between the two lies only rounding). ``outside`` says why: ``infeasible`` or ``unbounded``; "" where the whole range has an optimum.
    ``message`` says what is missing, "" for nothing.
    """

    maximise: bool
    least: float
    most: float
    pieces: tuple[Piece, ...] = ()
    attained: bool = True
    error: float = math.inf
    exact: bool = False
    domain: tuple[float, float] | None = None
    denied: tuple[float, float] | None = None
    outside: str = ""
    solves: int = 0
    message: str = ""

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """Where the slope changes."""
        return tuple(piece.start for piece in self.pieces[1:])

    def value(self, at: float) -> float | None:
        """What is told at one value of the parameter; None outside the domain, beyond rounding."""
        if self.domain is not None:
            inside, hair = min(max(at, self.domain[0]), self.domain[1]), ROUNDING * max(1.0, abs(self.most), abs(self.least))
            at = inside if abs(inside - at) <= hair else at
        for piece in self.pieces:
            if piece.start <= at <= piece.end:
                share = (at - piece.start) / (piece.end - piece.start) if piece.end > piece.start else 0.0
                return (1.0 - share) * piece.start_value + share * piece.end_value
        return None

    def interval(self, at: float) -> tuple[float, float] | None:
        """The two numbers between which the optimum is proved to lie; None outside the domain."""
        told = self.value(at)
        if told is None:
            return None
        return (told, told + self.error) if self.maximise == self.attained else (told - self.error, told)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One solve. All numbers are of the convex function: the optimal value, or less it where that is concave.

    ``value`` is an upper bound at ``w``; ``line`` (at ``w`` 0 and 1) a lower bound everywhere. ``values`` is a plan at ``w``.
    """

    w: float
    value: float
    line: tuple[float, float]
    values: Floats

    def height(self, w: float) -> float:
        """The line at ``w``."""
        return (1.0 - w) * self.line[0] + w * self.line[1]


@dataclass(slots=True)
class _Found:
    """What one place answered: a sample, or why there is none."""

    sample: Sample | None = None
    status: ProgramStatus = ProgramStatus.optimal


class Sweeper:
    """One sweep of a moving program. ``samples`` are the solves so far, in ascending order."""

    def __init__(self, found: Moving, limits: Limits, tolerance: float = TOLERANCE, cancel: threading.Event | None = None) -> None:
        self._moving, self._limits, self._tolerance, self._cancel = found, limits, tolerance, cancel
        self._deadline = Deadline.after(limits.time_limit_s)
        self._sign = 1.0 if found.convex else -1.0
        self._live = LiveProgram(found.first, limits)
        self._rows = np.flatnonzero((found.step("row_lower") != 0.0) | (found.step("row_upper") != 0.0))
        self._bounds = np.flatnonzero((found.step("column_lower") != 0.0) | (found.step("column_upper") != 0.0))
        self._costs = np.flatnonzero(found.step("cost") != 0.0)
        self.samples: list[Sample] = []
        self.solves = 0

    def run(self) -> Sweep:
        """Find the whole function, or what the limits suffice for."""
        told = Sweep(self._moving.first.maximise, self._moving.least, self._moving.most, attained=self._moving.moves == "sides")
        ends = [self._solved(0.0), self._solved(1.0)]
        missing = [one.status for one in ends if one.sample is None]
        limited = self._outside()
        if any(status is not limited for status in missing):
            return self._without(told, next(status for status in missing if status is not limited))
        denied = [0.0, 1.0]
        for place, end in enumerate(ends):
            if end.sample is None:
                reached, denied[place] = self._reach(highest=place == 1)
                if reached is None:
                    return self._without(told, limited if math.isnan(denied[place]) else ProgramStatus.no_solution)
                ends[place] = self._inward(reached, 1.0 if place == 0 else -1.0)
        samples = [end.sample for end in ends if end.sample is not None]
        if len(samples) < len(ends):
            return self._without(told, ProgramStatus.no_solution)
        self.samples = sorted({one.w: one for one in samples}.values(), key=lambda one: one.w)
        self._refine()
        outside = limited.value if missing else ""
        return replace(self._told(told), denied=(self._moving.value(denied[0]), self._moving.value(denied[1])), outside=outside)

    def _outside(self) -> ProgramStatus:
        """What there may be in part of the range only: without a plan while limits move, without an end while costs do."""
        return ProgramStatus.infeasible if self._moving.moves == "sides" else ProgramStatus.unbounded

    # ------------------------------------------------------------ solving

    def _solved(self, w: float) -> _Found:
        found, live = self._moving, self._live
        self.solves += 1
        if len(self._rows):
            live.change_row_bounds(self._rows, *(found.array(name, w)[self._rows] for name in ("row_lower", "row_upper")))
        if len(self._bounds):
            live.change_column_bounds(self._bounds, *(found.array(name, w)[self._bounds] for name in ("column_lower", "column_upper")))
        if len(self._costs):
            live.change_cost(self._costs, found.array("cost", w)[self._costs])
        result = live.solve(self._left(), cancel=self._cancel)
        if result.status not in (*FOUND, ProgramStatus.infeasible, ProgramStatus.unbounded) and not self._deadline.passed:
            result = HighsBackend().solve(found.at(w), self._left(), cancel=self._cancel)
        elif result.objective is not None:
            constant = found.offset(w) - found.first.offset
            result = replace(result, objective=result.objective + constant, bound=None if result.bound is None else result.bound + constant)
        return self._read(w, result)

    def _read(self, w: float, result: ProgramResult) -> _Found:
        found, sign = self._moving, self._sign
        if result.status not in FOUND or result.values is None or result.objective is None or result.row_duals is None:
            return _Found(None, result.status if result.status not in FOUND else ProgramStatus.no_solution)
        if found.moves == "sides":
            line, value = found.dual_line(result.row_duals), result.objective
        else:
            line, value = found.plan_line(result.values), result.bound if result.bound is not None else math.nan
        if line is None or not math.isfinite(value):
            return _Found(None, ProgramStatus.no_solution)
        return _Found(Sample(w, sign * value, (sign * line[0], sign * line[1]), result.values))

    def _left(self) -> Limits:
        return replace(self._limits, time_limit_s=max(self._deadline.remaining_s(), 1e-3))

    def _reach(self, *, highest: bool) -> tuple[float | None, float]:
        """The end of the domain: where it was reached, and beyond which it is denied. None, NaN: there is no domain; None, 0: not known."""
        found = self._moving
        limited_by_sides = found.moves == "sides"
        program = (
            primal_reach(found, highest=highest) if limited_by_sides else dual_reach(found, Sides.finite(found.first), highest=highest)
        )
        self.solves += 1
        result = HighsBackend().solve(program, self._left(), cancel=self._cancel)
        if result.status is ProgramStatus.infeasible:
            return None, math.nan
        if result.objective is None or result.bound is None or result.status is not ProgramStatus.optimal:
            return None, 0.0
        return min(max(result.objective, 0.0), 1.0), min(max(result.bound, 0.0), 1.0)

    def _inward(self, reached: float, direction: float) -> _Found:
        """A solve at the end of the domain, or a hair inside."""
        solved = _Found(None, ProgramStatus.no_solution)
        for hair in INWARD:
            solved = self._solved(min(max(reached + direction * hair, 0.0), 1.0))
            if solved.sample is not None:
                break
        return solved

    # ------------------------------------------------------------ the pieces

    def _scale(self) -> float:
        return max(1.0, *(abs(one.value) for one in self.samples))

    def _refine(self) -> None:
        """Solve where two lines meet, the largest gap first, until none is beyond the tolerance or time is up."""
        queue: list[tuple[float, int, Sample, Sample]] = []
        count = 0

        def push(one: Sample, other: Sample) -> None:
            nonlocal count
            w, excess = meeting(one, other)
            if excess > self._tolerance * self._scale() and min(w - one.w, other.w - w) > NARROW:
                count += 1
                heapq.heappush(queue, (-excess, count, one, other))

        for pair in itertools.pairwise(self.samples):
            push(*pair)
        while queue and self.solves < MOST_SOLVES and not self._deadline.passed and not (self._cancel and self._cancel.is_set()):
            _, _, one, other = heapq.heappop(queue)
            made = self._solved(meeting(one, other)[0]).sample
            if made is not None:
                self.samples = sorted([*self.samples, made], key=lambda sample: sample.w)
                push(one, made)
                push(made, other)

    def _told(self, told: Sweep) -> Sweep:
        allowed = self._tolerance * self._scale()
        nodes = _corners(self.samples, allowed)
        error = certified(nodes, self.samples)
        at, sign = self._moving.value, self._sign
        pieces = tuple(Piece(at(a.w), at(b.w), sign * a.value + 0.0, sign * b.value + 0.0) for a, b in itertools.pairwise(nodes))
        if not pieces:  # the domain is one value
            pieces = (Piece(at(nodes[0].w), at(nodes[0].w), sign * nodes[0].value + 0.0, sign * nodes[0].value + 0.0),)
        exact = error <= 2 * allowed
        message = "" if exact else f"the limits did not suffice: value and bound are up to {error:.6g} apart"
        domain = pieces[0].start, pieces[-1].end
        return replace(told, pieces=pieces, error=error, exact=exact, domain=domain, solves=self.solves, message=message)

    def _without(self, told: Sweep, status: ProgramStatus) -> Sweep:
        words = {
            ProgramStatus.infeasible: "no plan exists anywhere in the range",
            ProgramStatus.unbounded: "the goal has no end anywhere in the range",
        }
        message = words.get(status, f"an end of the range could not be solved within the limits ({status.value})")
        return replace(told, outside=status.value if status in words else "", solves=self.solves, message=message)


def meeting(one: Sample, other: Sample) -> tuple[float, float]:
    """Where the chord of two samples is furthest above the higher of their lines, and by how much."""
    width = other.w - one.w
    fall = one.height(other.w) - other.height(other.w)  # of the first line below the second at the second's place: at most 0
    rise = one.height(one.w) - other.height(one.w)
    places = [one.w, other.w]
    if rise - fall > 0.0:
        places.append(min(max(one.w + width * rise / (rise - fall), one.w), other.w))

    def excess(w: float) -> float:
        share = (w - one.w) / width if width > 0.0 else 0.0
        return (1.0 - share) * one.value + share * other.value - max(one.height(w), other.height(w))

    return max(((w, excess(w)) for w in reversed(places)), key=lambda found: found[1])


def certified(nodes: list[Sample], samples: list[Sample]) -> float:
    """How far the chords of ``nodes`` (some of the samples) are above the lines of all samples, at most."""
    worst = max(node.value - max(one.height(node.w) for one in samples) for node in nodes)
    at, values = [node.w for node in nodes], [node.value for node in nodes]
    for one, other in itertools.pairwise(samples):
        told = [replace(sample, value=float(np.interp(sample.w, at, values))) for sample in (one, other)]
        worst = max(worst, meeting(*told)[1])
    return max(worst, 0.0)


def _corners(samples: list[Sample], allowed: float) -> list[Sample]:
    """The samples between which the function bends: those that lie on the chord of their neighbours are left out."""
    kept = samples[:1]
    for place, sample in enumerate(samples[1:-1], 1):
        before, after = kept[-1], samples[place + 1]
        share = (sample.w - before.w) / (after.w - before.w)
        if (1.0 - share) * before.value + share * after.value - sample.value > allowed:
            kept.append(sample)
    return kept + (samples[-1:] if len(samples) > 1 else [])


def sweep(
    program_at: Callable[[float], LinearProgram],
    least: float,
    most: float,
    limits: Limits | None = None,
    *,
    tolerance: float = TOLERANCE,
    cancel: threading.Event | None = None,
) -> Sweep:
    """The optimal value of ``program_at`` from ``least`` to ``most``; ``limits.time_limit_s`` is for all solves together.

    The program is asked for at both ends and at two values between, and taken to move along the line through these; for problems of a kind
    see ``parametric_kind``, which verifies plans too. Raises NotPiecewiseLinearError when it does not, or has whole-number columns, and
    ValueError for an empty range.
    """
    return Sweeper(moving(program_at, least, most), limits or Limits(), tolerance, cancel).run()

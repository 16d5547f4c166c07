"""Sweeps of a kind's problem: the program is compiled at both ends, and plans are verified on every piece.

What the program says and what the problem means are held against each other: at the ends of pieces by the plans of the solves, and in the
middle of a piece by the half-and-half plan that its two ends make, which is built, verified and measured like any other. A kind whose
program only approximates its goal, or moves on another line than it was taken to, is refused there.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from optimizer.limits import Limits
from optimizer.study.sweeps.moving import NotPiecewiseLinearError, check_on_line, moving
from optimizer.study.sweeps.parametric import TOLERANCE, Sweeper
from optimizer.study.sweeps.programs import exact, goal_of, plan_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from models.contract import Goal, Verdict
    from models.program import Floats, LinearProgram
    from models.vocabulary import Document
    from optimizer.compile import Compiled
    from optimizer.study.sweeps.moving import Moving
    from optimizer.study.sweeps.parametric import Sample, Sweep

MOST_CHECKED = 16  # pieces and corners whose plans are verified, evenly spread
WORTH_CHECKING = 1e-6  # of the range: a shorter piece has no middle
CURE = "use values: the exact program is not the goal here"

Thing = TypeVar("Thing")


class KindPrograms:
    """A kind's problem as a function of one number, its exact program, and the way from column values back to a verdict."""

    def __init__(self, problem_at: Callable[[float], Document], goal: str | None = None) -> None:
        self._problem_at, self._wanted = problem_at, goal
        self._compiled: Compiled | None = None
        self._goal: Goal | None = None

    @property
    def goal(self) -> Goal:
        """The goal, known once a program was built."""
        if self._goal is None:
            raise ValueError("no program was built yet")
        return self._goal

    def moving(self, least: float, most: float) -> Moving:
        """The moving program. Raises NotPiecewiseLinearError, TooLargeProgramError, KeyError, and what a broken problem raises."""
        return moving(self.program_at, least, most)

    def program_at(self, at: float) -> LinearProgram:
        """The exact program at one value."""
        problem = self._problem_at(at)
        self._goal = goal_of(problem, self._wanted)
        self._compiled = exact(problem, self._goal.name, hasten=False)
        return self._compiled.program

    def verdict_at(self, at: float, values: Floats) -> Verdict:
        """The check of column values as a plan of the problem at one value."""
        if self._compiled is None:
            raise ValueError("no program was built yet")
        return plan_of(self._problem_at(at), self._compiled, values)[1]


def sweep_kind(
    problem_at: Callable[[float], Document],
    least: float,
    most: float,
    limits: Limits | None = None,
    *,
    goal: str | None = None,
    tolerance: float = TOLERANCE,
    cancel: threading.Event | None = None,
) -> Sweep:
    """The optimum of one goal (the first by default) of ``problem_at`` from ``least`` to ``most``.

    ``limits.time_limit_s`` is for all solves together, without building and checking. Raises NotPiecewiseLinearError, TooLargeProgramError,
    KeyError for an unknown goal, ValueError for an empty range, and what ``problem_at`` raises.
    """
    programs = KindPrograms(problem_at, goal)
    found = programs.moving(least, most)
    sweeper = Sweeper(found, limits or Limits(), tolerance, cancel)
    told = sweeper.run()
    _check(programs, found, sweeper.samples, told)
    return told


def _check(programs: KindPrograms, found: Moving, samples: list[Sample], told: Sweep) -> None:
    """Raises NotPiecewiseLinearError where a verified plan is not worth what the sweep says."""
    largest = max((max(abs(piece.start_value), abs(piece.end_value)) for piece in told.pieces), default=0.0)
    allowed = 2 * (told.error + TOLERANCE * max(1.0, largest))
    for sample in _spread(samples):
        _check_plan(programs, told, found.value(sample.w), sample.values, allowed)
    if found.moves == "cost":
        return  # a plan stays a plan: those of the samples are all there are
    for one, other in _spread(list(itertools.pairwise(samples))):
        if other.w - one.w > WORTH_CHECKING:
            w = 0.5 * (one.w + other.w)
            check_on_line(found, w, programs.program_at(found.value(w)))
            _check_plan(programs, told, found.value(w), 0.5 * (one.values + other.values), allowed)


def _check_plan(programs: KindPrograms, told: Sweep, at: float, values: Floats, allowed: float) -> None:
    verdict, expected = programs.verdict_at(at, values), told.value(at)
    objective = verdict.objectives.get(programs.goal.name, np.nan)
    if not verdict.ok:
        raise NotPiecewiseLinearError(f"{CURE}: at {at:g} its plan breaks a rule ({verdict.violations[0].message})")
    if expected is not None and not abs(objective - expected) <= allowed:
        raise NotPiecewiseLinearError(f"{CURE}: at {at:g} its plan has {programs.goal.name} {objective:.10g}, not {expected:.10g}")


def _spread(things: list[Thing]) -> list[Thing]:
    """At most MOST_CHECKED of them, evenly."""
    if len(things) <= MOST_CHECKED:
        return things
    return [things[place] for place in np.linspace(0, len(things) - 1, MOST_CHECKED).round().astype(int).tolist()]

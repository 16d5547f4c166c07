"""What is known without a solve: the worth of one more unit of each limit, and the answers on the line that a value of an axis lies on.

``tabulated`` lists the limits of a base problem. ``predictor`` goes further for problems that are linear programs: around one value of an
axis it finds the whole stretch on which the optimal value is one line, and answers every value on it with a verified plan and a proof.

The stretch is found by two solves, each with the axis's value as a column: the first and the last value at which some plan is as good as
the line of the duals, which no plan can beat (weak duality). So it is as long as it can be, also at a degenerate optimum, where the range
of one basis is too short. Between both ends a share of the one plan and the rest of the other is a plan, and as good as the line. Where
costs move instead, the plan stays and the prices move: the ends are the first and last value at which prices exist that prove it optimal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.contract import Sense
from optimizer.backend import ProgramStatus
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from optimizer.result import GoalCertificate, Outcome, StopReason, finite, relative_gap
from optimizer.sensitivity import sensitivity
from optimizer.study.rows import Row
from optimizer.study.sweeps.moving import Sides, dual_reach, primal_reach
from optimizer.study.sweeps.parametric import TOLERANCE
from optimizer.study.sweeps.parametric_kind import KindPrograms

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.contract import Goal, Verdict
    from models.program import Floats
    from models.vocabulary import Document
    from optimizer.backend import ProgramResult
    from optimizer.sensitivity import Sensitivity
    from optimizer.study.sweeps.moving import Moving

ACTIVE = 1e-7  # relative: as near a side as this is at it
HAIR = 1e-9  # relative: how much worse than the line a plan at an end of the stretch may be
METHOD = "weak duality: one line of duals, attained at both ends of its stretch"


@dataclass(frozen=True, slots=True)
class LimitWorth:
    """One limit of the base problem: ``worth`` is the change of the goal for each unit of it from ``low`` to ``high`` (None: not known).

    ``status`` as in ``optimizer.sensitivity``: only ``proved`` holds for the problem itself.
    """

    rule: str
    ids: tuple[str, ...]
    limit: float
    worth: float
    unit: str
    low: float | None
    high: float | None
    status: str
    text: str

    def change(self, to: float) -> float | None:
        """By how much the goal changes when this limit alone is moved; None outside the range, or where the worth is not exact."""
        if self.status != "proved" or self.low is None or self.high is None or not self.low <= to <= self.high:
            return None
        return self.worth * (to - self.limit)


def tabulated(problem: Document, plan: Document, limits: Limits | None = None) -> tuple[tuple[LimitWorth, ...], Sensitivity]:
    """The limits of ``problem`` that count, the dearest first, and the answer they were read from: its ``message`` says what is missing."""
    found = sensitivity(problem, plan, limits or Limits())
    rows = tuple(
        LimitWorth(
            rule=row.rule,
            ids=row.ids,
            limit=row.limit,
            worth=row.worth,
            unit=row.unit,
            low=None if row.range is None else row.range.low,
            high=None if row.range is None else row.range.high,
            status=row.status.value,
            text=row.text,
        )
        for row in found.rows
    )
    return rows, found


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Values of the parameter on which the optimal value is one line, with a plan at each end; ``bound`` (at ``w`` 0 and 1) proves it."""

    moving: Moving
    low: float  # w
    high: float
    low_values: Floats
    high_values: Floats
    bound: tuple[float, float]

    @property
    def start(self) -> float:
        """The least value of the parameter on it."""
        return self.moving.value(self.low)

    @property
    def end(self) -> float:
        """The largest."""
        return self.moving.value(self.high)

    @property
    def slope(self) -> float:
        """The change of the optimal value for each unit of the parameter."""
        return (self.bound[1] - self.bound[0]) / (self.moving.most - self.moving.least)

    def holds(self, at: float) -> bool:
        """Whether a value lies on it."""
        return self.start <= at <= self.end

    def values(self, at: float) -> Floats:
        """The plan at one value on it, as column values."""
        w = self._w(at)
        share = (w - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return (1.0 - share) * self.low_values + share * self.high_values

    def proved(self, at: float) -> float:
        """What no plan can beat at one value."""
        w = self._w(at)
        return (1.0 - w) * self.bound[0] + w * self.bound[1]

    def _w(self, at: float) -> float:
        return (at - self.moving.least) / (self.moving.most - self.moving.least)


def stretch(found: Moving, at: float, limits: Limits | None = None) -> Stretch | None:
    """The longest stretch around one value of the parameter on which the optimal value is one line.

    Takes three solves. None where there is no optimum at ``at``, or the limits did not suffice. Raises ValueError for a value outside
    the range.
    """
    if not found.least <= at <= found.most:
        raise ValueError(f"{at:g} is not between {found.least:g} and {found.most:g}")
    limits = limits or Limits()
    w = (at - found.least) / (found.most - found.least)
    result = HighsBackend().solve(found.at(w), limits)
    if result.status is not ProgramStatus.optimal or result.values is None or result.row_duals is None:
        return None
    return _by_sides(found, w, result, limits) if found.moves == "sides" else _by_costs(found, w, result, limits)


def _by_sides(found: Moving, w: float, result: ProgramResult, limits: Limits) -> Stretch | None:
    assert result.row_duals is not None  # noqa: S101  (the caller looked)
    line = found.dual_line(result.row_duals)
    if line is None or result.values is None:
        return None
    hair = HAIR * max(1.0, abs(line[0]), abs(line[1])) * (-1.0 if found.first.maximise else 1.0)
    ends: list[tuple[float, Floats]] = []
    for highest in (False, True):
        reached = HighsBackend().solve(primal_reach(found, highest=highest, optimum=(line[0] + hair, line[1] + hair)), limits)
        if reached.values is None or reached.objective is None:
            ends.append((w, result.values))
        else:
            ends.append((min(max(float(reached.values[-1]), 0.0), 1.0), reached.values[:-1]))
    (low, low_values), (high, high_values) = ends
    return Stretch(
        found, min(low, w), max(high, w), low_values if low <= w else result.values, high_values if high >= w else result.values, line
    )


def _by_costs(found: Moving, w: float, result: ProgramResult, limits: Limits) -> Stretch | None:
    assert result.values is not None  # noqa: S101  (the caller looked)
    sides = Sides.active(found.first, result.values, ACTIVE)
    ends = []
    for highest in (False, True):
        reached = HighsBackend().solve(dual_reach(found, sides, highest=highest), limits)
        ends.append(w if reached.values is None else min(max(float(reached.values[-1]), 0.0), 1.0))
    low, high = min(ends[0], w), max(ends[1], w)
    return Stretch(found, low, high, result.values, result.values, found.plan_line(result.values))


class Predictor:
    """Answers values of one axis of a kind's problem without a solve, as long as they lie on a stretch that is known."""

    def __init__(self, programs: KindPrograms, found: Moving, limits: Limits) -> None:
        self._programs, self._moving, self._limits = programs, found, limits
        self._stretches: list[Stretch] = []

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Those known, ascending."""
        return tuple(sorted(self._stretches, key=lambda one: one.start))

    def learn(self, at: float) -> Stretch | None:
        """Find the stretch around a value, by three solves; None as ``stretch``."""
        for known in self._stretches:
            if known.start < at < known.end:
                return known
        made = stretch(self._moving, at, self._limits)
        if made is not None:
            self._stretches.append(made)
        return made

    def predicted(self, at: float, key: str = "") -> Row | None:
        """The row at one value, with its plan verified against the problem at that value; None where nothing known answers it.

        The plan is that of the line. Its check must tell what the line does: a goal that its linear program only approximates is answered
        by a solve. No metric or later goal is promised to be what a solve would find; ``goals`` has the one that was predicted.
        """
        known = next((one for one in self._stretches if one.holds(at)), None)
        if known is None:
            return None
        verdict = self._programs.verdict_at(at, known.values(at))
        goal = self._programs.goal
        told, bound = verdict.objectives.get(goal.name, math.nan), known.proved(at)
        if not verdict.ok or not abs(told - bound) <= TOLERANCE * max(1.0, abs(bound)):
            return None
        return _row(key, goal, verdict, bound)


def predictor(
    problem_at: Callable[[float], Document], least: float, most: float, limits: Limits | None = None, *, goal: str | None = None
) -> Predictor:
    """A predictor for values from ``least`` to ``most`` of a problem's first goal. Raises as ``parametric_kind.sweep_kind``.

    Only a problem with one goal has rows that are as good as solved ones in all respects.
    """
    programs = KindPrograms(problem_at, goal)
    return Predictor(programs, programs.moving(least, most), limits or Limits())


def _row(key: str, goal: Goal, verdict: Verdict, bound: float) -> Row:
    objective = verdict.objectives[goal.name]
    bound = max(bound, objective) if goal.sense is Sense.maximise else min(bound, objective)
    certificate = GoalCertificate(goal.name, goal.sense.value, goal.unit, objective, bound, relative_gap(objective, bound), METHOD)
    metrics = {name: value for name, value in verdict.metrics.items() if finite(value) is not None}
    return Row(
        key=key,
        outcome=Outcome.optimal.value,
        stop_reason=StopReason.gap.value,
        goals=(certificate,),
        metrics=metrics,
        verified=True,
        seconds=0.0,
        strategy="predicted",
    )

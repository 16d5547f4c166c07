"""What a row proves about the optimum of a goal: a closed interval, with its ends moved outwards for all that arithmetic may have lost.

To maximise, objective <= optimum <= bound; to minimise, bound <= optimum <= objective. Neither number is exact. A plan counts as right when
it exceeds no side by more than a relative 1e-6 (``models.contract.TOLERANCE``), so its objective may lie beyond the optimum by as much;
and a bound that a plan beats by up to a relative 1e-6 is raised to the plan (``optimizer.solve.CROSSING``). Each end is therefore moved by
their sum, ``WIDENING * max(1, |end|)``. What follows from intervals is certain about optima as ``verify`` counts them; for a program whose
objective is a small difference of large terms, or hangs on a side far below 1, the tolerance of ``verify`` itself is worth more than that.

A later goal is sought among the plans that are at least as good, on each goal before, as the plan found. So its bound holds of the best
plan of all where that is at least as good on each of them: always on the first goal; on another one only if those before it are closed,
that is at their optima within ``CLOSED``, as the best plan may else buy the one with the other. And its objective is within reach of the
best plan only if all goals before are closed. Thus a second goal has a bound whatever the gap of the first, and a plan that proves
something only without that gap; a third goal has neither while the first is open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from models.contract import TOLERANCE
from optimizer.result import Outcome, relative_gap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from optimizer.result import GoalCertificate
    from optimizer.study.rows import Answered, Row

WIDENING = 2 * TOLERANCE  # relative: that of a plan, and that of a bound
CLOSED = TOLERANCE  # relative gap up to which an earlier goal is at its optimum
MAXIMISE = "maximise"


@dataclass(frozen=True, slots=True)
class Interval:
    """All numbers from ``low`` to ``high``; an end may be infinite. Sums round outwards. Raises ValueError for NaN or crossed ends."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"an interval from {self.low} to {self.high} holds nothing")

    @property
    def width(self) -> float:
        """From end to end, never too small."""
        return 0.0 if self.low == self.high else math.nextafter(self.high - self.low, math.inf)

    @property
    def finite(self) -> bool:
        """Whether both ends are."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def least_size(self) -> float:
        """The least absolute value in it."""
        return max(0.0, self.low, -self.high)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low)

    def __add__(self, other: Interval) -> Interval:
        return Interval(_down(self.low + other.low), _up(self.high + other.high))

    def __sub__(self, other: Interval) -> Interval:
        return self + -other

    def __truediv__(self, divisor: float) -> Interval:
        """By an exact positive number. Raises ValueError for any other."""
        if not 0 < divisor < math.inf:
            raise ValueError(f"an interval is divided by a positive number, not by {divisor}")
        return Interval(_down(self.low / divisor), _up(self.high / divisor))

    def change_from(self, other: Interval) -> Interval | None:
        """``(x - y) / |y|`` for every x in this and y in the other interval; None where the other holds 0, and a share of it means nothing.

        x / |y| has its extremes at the ends, so the result is as narrow as it can be; x - y and |y| apart would not be.
        """
        size = other if other.low > 0 else -other
        if size.low <= 0:
            return None
        low = self.low / (size.high if self.low >= 0 else size.low)
        high = self.high / (size.low if self.high >= 0 else size.high)
        ratio = Interval(_down(low), _up(high))
        return ratio - ONE if other.low > 0 else ratio + ONE

    def meet(self, other: Interval) -> Interval | None:
        """What both hold; None for nothing."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Interval(low, high) if low <= high else None


ONE = Interval(1.0, 1.0)
NOTHING_KNOWN = Interval(-math.inf, math.inf)


def exactly(value: float) -> Interval:
    """The interval of one number."""
    return Interval(value, value)


def widening(value: float) -> float:
    """By how much an end at ``value`` is moved outwards."""
    return WIDENING * max(1.0, abs(value))


def mean(intervals: Sequence[Interval]) -> Interval:
    """The interval of the mean: from the mean of the low ends to that of the high ends. Raises ValueError for no intervals."""
    if not intervals:
        raise ValueError("there is no mean of no intervals")
    if all(one == intervals[0] for one in intervals):
        return intervals[0]
    count = len(intervals)
    # fsum loses its last digit only: one step outwards makes up for it, and the division takes one more.
    low = _total(one.low for one in intervals)
    high = -_total(-one.high for one in intervals)
    return Interval(_down(low), _up(high)) / count


class State(StrEnum):
    """What a row says about a goal."""

    bounded = "bounded"
    infeasible = "infeasible"
    unbounded = "unbounded"
    unknown = "unknown"


@dataclass(frozen=True, slots=True)
class Known:
    """What a row proves of one goal. ``interval`` holds the optimum and is there for ``bounded`` only, maybe with infinite ends.

    ``objective`` and ``bound`` are as the certificate states them, without widening. ``plan_proves`` is false for a later goal where an
    earlier one is open: then the objective bounds nothing; ``bound_proves`` likewise, where one further before is. ``why`` says in a
    sentence why not more is known, "" where both ends are.
    """

    state: State
    goal: str
    sense: str = ""
    unit: str = ""
    interval: Interval | None = None
    objective: float | None = None
    bound: float | None = None
    plan_proves: bool = True
    bound_proves: bool = True
    open_goal: str = ""
    stop_reason: str | None = None
    why: str = ""
    before: str = ""  # the goals before, in words: plans that are not best in those may be better in this one

    @property
    def gap(self) -> float:
        """Relative gap of plan and bound; infinity while one is missing."""
        return math.inf if self.objective is None or self.bound is None else relative_gap(self.objective, self.bound)


def known(row: Row, goal: str) -> Known:
    """What ``row`` proves of the optimum of ``goal``, which is that of the problem's goals in their order."""
    if row.failure is not None:
        return Known(State.unknown, goal, why=f"it was not answered: {row.failure}")
    if row.outcome == Outcome.infeasible.value:
        return Known(State.infeasible, goal, stop_reason=row.stop_reason, why="it is proved that no plan exists")
    if row.outcome == Outcome.unbounded.value:
        return Known(State.unbounded, goal, stop_reason=row.stop_reason, why="a goal improves without limit, so there is no best plan")
    found = row.goal(goal)
    if found is None or not row.verified:
        why = "no plan was found" if not row.goals else f"it has no goal called '{goal}'" if found is None else "its plan is not verified"
        return Known(State.unknown, goal, stop_reason=row.stop_reason, why=why)
    return _certified(row, found)


def _certified(row: Row, found: GoalCertificate) -> Known:
    place = row.goals.index(found)
    opened = next((number for number, one in enumerate(row.goals[:place]) if not relative_gap(one.objective, one.bound) <= CLOSED), None)
    plan_proves, bound_proves = opened is None, opened is None or opened == place - 1
    ends = _ends(found, plan_proves=plan_proves, bound_proves=bound_proves)
    if ends is None:
        why = f"its plan and its bound of {found.name} contradict each other"
        return Known(State.unknown, found.name, found.sense, found.unit, stop_reason=row.stop_reason, why=why)
    why = ""
    if opened is not None:
        least = "its plan says" if bound_proves else "its plan and bound say"
        why = f"{least} nothing about the best {found.name} while {row.goals[opened].name}, which comes before, has a gap"
    elif not math.isfinite(found.bound):
        why = f"it has no bound of {found.name}"
    return Known(
        state=State.bounded,
        goal=found.name,
        sense=found.sense,
        unit=found.unit,
        interval=ends,
        objective=found.objective,
        bound=found.bound,
        plan_proves=plan_proves,
        bound_proves=bound_proves,
        open_goal="" if opened is None else row.goals[opened].name,
        stop_reason=row.stop_reason,
        why=why,
        before=" and ".join(goal.name for goal in row.goals[: row.goals.index(found)]),
    )


def _ends(found: GoalCertificate, *, plan_proves: bool, bound_proves: bool) -> Interval | None:
    """The interval of the optimum; None for numbers that cannot be: no finite objective, or a bound on its wrong side."""
    objective, bound = found.objective, found.bound
    if not math.isfinite(objective) or math.isnan(bound):
        return None
    least, most = (objective, bound) if found.sense == MAXIMISE else (bound, objective)
    low, high = _down(least - widening(least)), _up(most + widening(most))
    if low > high:
        return None
    low_proved, high_proved = (plan_proves, bound_proves) if found.sense == MAXIMISE else (bound_proves, plan_proves)
    return Interval(low if low_proved else -math.inf, high if high_proved else math.inf)


def same_question(one: Answered, other: Answered, *, same_base: bool = True) -> bool:
    """Whether both rows are of one problem, so that their optima are the same whatever is known of them.

    ``same_base``: both come from one study; else only the content address tells.
    """
    if one.row.key == other.row.key:
        return True
    return same_base and _asked(one) == _asked(other)


def _asked(one: Answered) -> list[tuple[str, str, str]]:
    return [(change.op, change.pointer, repr(change.value)) for change in one.scenario.changes]


def _total(values: Iterable[float]) -> float:
    """The sum to its last digit, minus infinity where it is too low for a double."""
    listed = list(values)
    try:
        return -math.inf if -math.inf in listed else math.fsum(listed)
    except OverflowError:
        return -math.inf


def _down(value: float) -> float:
    return math.nextafter(value, -math.inf)


def _up(value: float) -> float:
    return math.nextafter(value, math.inf)

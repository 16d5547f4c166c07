"""The difference of two scenarios in a goal: what is certain of their optima, what the plans in hand have, and what would decide it.

Two differences are told apart. That of the **optima** is an interval, certain whatever the solver has left undone: for a goal to maximise,
``[objective_B - bound_A, bound_B - objective_A]`` with the ends of ``intervals``. That **of the plans found** is one number, true of the
plans that would be deployed, and proves nothing about what is possible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from optimizer.result import finite
from optimizer.study.conclusions.efforts import Effort, Side, efforts, how_text
from optimizer.study.conclusions.intervals import MAXIMISE, Interval, Known, State, exactly, known, same_question, widening
from optimizer.study.conclusions.wording import between, by_span, capital, figure, joined, percent, value_text

if TYPE_CHECKING:
    from optimizer.study.rows import Answered

TOLERANCE = 1e-4  # relative: two optima that differ by less are called equal within it
SPEND = "spend_usd"


class Finding(StrEnum):
    """What the second scenario (B) is to the first (A)."""

    better = "better"
    worse = "worse"
    equal_within = "equal_within"
    not_distinguishable = "not_distinguishable"
    a_infeasible = "a_infeasible"
    b_infeasible = "b_infeasible"
    both_infeasible = "both_infeasible"
    unbounded = "unbounded"
    unknown = "unknown"
    of_plans = "of_plans"  # a metric that is no goal: nothing is proved of it

    @property
    def certain(self) -> bool:
        """Whether it is proved, not only left open or seen in plans."""
        return self not in (Finding.not_distinguishable, Finding.unknown, Finding.of_plans)


@dataclass(frozen=True, slots=True)
class PlanDifference:
    """What the two plans found have, and B's less A's. ``relative`` is to ``|A|``; None where that is 0."""

    first: float
    second: float
    unit: str = ""

    @property
    def absolute(self) -> float:
        """B less A."""
        return self.second - self.first

    @property
    def relative(self) -> float | None:
        """The same as a share of A's value."""
        return None if self.first == 0 else finite(self.absolute / abs(self.first))

    def text(self, a: str, b: str) -> str:
        """One sentence: Of the plans found, B has 1,234 GPUs and A 1,206: 2.32% more."""
        values = f"{b} has {value_text(self.second, self.unit)} and {a} {value_text(self.first, self.unit)}"
        if self.absolute == 0:
            return f"Of the plans found, {values}: the same."
        size = percent(abs(self.relative)) if self.relative is not None else value_text(abs(self.absolute), self.unit)
        return f"Of the plans found, {values}: {size} {'more' if self.absolute > 0 else 'less'}."


@dataclass(frozen=True, slots=True)
class Difference:
    """B against A in one goal or metric.

    ``absolute`` holds optimum B less optimum A, in the goal's unit; ``relative`` the same divided by the size of optimum A.
    Both are None where no such number exists; ``relative`` also where the optimum of A may be 0. ``plans`` is there when both have one.
    """

    a: str
    b: str
    name: str
    sense: str
    unit: str
    finding: Finding
    absolute: Interval | None
    relative: Interval | None
    plans: PlanDifference | None
    efforts: tuple[Effort, ...]
    tolerance: float
    sentence: str

    @property
    def text(self) -> str:
        """What is certain, what would decide it, and what the plans have."""
        return " ".join(part for part in (self.sentence, "" if self.plans is None else self.plans.text(self.a, self.b)) if part)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON: an infinite end is null."""
        return {
            "a": self.a,
            "b": self.b,
            "name": self.name,
            "sense": self.sense,
            "unit": self.unit,
            "finding": self.finding.value,
            "certain": self.finding.certain,
            "absolute": _ends(self.absolute),
            "relative": _ends(self.relative),
            "plans": None
            if self.plans is None
            else {"a": self.plans.first, "b": self.plans.second, "absolute": self.plans.absolute, "relative": self.plans.relative},
            "would_decide": [effort.text for effort in self.efforts],
            "tolerance": self.tolerance,
            "sentence": self.sentence,
            "text": self.text,
        }


def _ends(interval: Interval | None) -> list[float | None] | None:
    return None if interval is None else [finite(interval.low), finite(interval.high)]


def value_of(one: Answered, name: str) -> float | None:
    """What the plan found has of a goal or a metric, or what the scenario costs; None where there is none."""
    goal = one.row.goal(name)
    if goal is not None:
        return goal.objective
    return one.scenario.spend_usd if name == SPEND else one.row.metrics.get(name)


def difference(
    a: Answered,
    b: Answered,
    name: str,
    *,
    tolerance: float = TOLERANCE,
    same_base: bool = True,
    labels: tuple[str, str] | None = None,
) -> Difference:
    """B against A in the goal or metric ``name``.

    ``tolerance`` is relative to the least that the optimum of A can be, and to 1 below that. ``same_base``: both are of one study, so
    that scenarios with the same changes are one problem. ``labels`` are their names in sentences, left out: those of the scenarios.
    """
    named = labels or (a.scenario.label, b.scenario.label)
    first, second = Side(named[0], known(a.row, name)), Side(named[1], known(b.row, name))
    if first.label == second.label and a.scenario.id != b.scenario.id:
        first, second = replace(first, label=f"{first.label} ({a.scenario.id})"), replace(second, label=f"{second.label} ({b.scenario.id})")
    values, template = (value_of(a, name), value_of(b, name)), _goal_of(first.known, second.known)
    plans = None if values[0] is None or values[1] is None else PlanDifference(values[0], values[1], template.unit)
    is_goal = a.row.goal(name) is not None or b.row.goal(name) is not None
    if plans is not None and not is_goal:
        said = "Nothing is proved of it: it is no goal."
        return Difference(first.label, second.label, name, "", "", Finding.of_plans, None, None, plans, (), tolerance, said)
    same = same_question(a, b, same_base=same_base)
    absolute, relative = _optima(first.known, second.known, same=same)
    finding = _finding(first.known, second.known, absolute, tolerance, same=same)
    open_still = finding in (Finding.not_distinguishable, Finding.unknown)
    would = efforts(first, second) if open_still else ()
    made = Difference(
        first.label, second.label, name, template.sense, template.unit, finding, absolute, relative, plans, would, tolerance, ""
    )
    return replace(made, sentence=_sentence(made, first, second, same=same))


def _goal_of(first: Known, second: Known) -> Known:
    return first if first.sense else second


def _optima(first: Known, second: Known, *, same: bool) -> tuple[Interval | None, Interval | None]:
    """The intervals of optimum B less optimum A, in numbers and by the size of A's."""
    if first.interval is None or second.interval is None:
        return None, None
    relative = second.interval.change_from(first.interval)
    if same:
        return exactly(0.0), None if relative is None else exactly(0.0)
    return second.interval - first.interval, relative


def _finding(first: Known, second: Known, absolute: Interval | None, tolerance: float, *, same: bool) -> Finding:
    infeasible = first.state is State.infeasible, second.state is State.infeasible
    if any(infeasible):
        both = all(infeasible) or same
        return Finding.both_infeasible if both else Finding.a_infeasible if infeasible[0] else Finding.b_infeasible
    if State.unbounded in (first.state, second.state):
        return Finding.unbounded
    if absolute is None or first.interval is None:
        return Finding.unknown
    ahead = absolute if _sense(first, second) == MAXIMISE else -absolute
    if ahead.low > 0:
        return Finding.better
    if ahead.high < 0:
        return Finding.worse
    near = tolerance * max(1.0, first.interval.least_size)
    return Finding.equal_within if -near <= ahead.low and ahead.high <= near else Finding.not_distinguishable


def _sense(first: Known, second: Known) -> str:
    return _goal_of(first, second).sense


def _sentence(made: Difference, first: Side, second: Side, *, same: bool) -> str:
    a, b = made.a, made.b
    match made.finding:
        case Finding.both_infeasible:
            said = f"Neither {a} nor {b} has any plan (proved)."
        case Finding.a_infeasible | Finding.b_infeasible:
            none, other = (first, second) if made.finding is Finding.a_infeasible else (second, first)
            said = f"{none.label} has no plan at all (proved){_and_other(other)}."
        case Finding.unbounded:
            endless = joined([side.label for side in (first, second) if side.known.state is State.unbounded])
            said = f"There is no difference to tell: in {endless} a goal improves without limit."
        case Finding.better | Finding.worse:
            verb = "beats" if made.finding is Finding.better else "falls behind"
            said = f"{b} {verb} {a} by {_size(made)} in {made.name} (certain)."
        case Finding.equal_within if same:
            said = f"{a} and {b} are one problem, with one optimum of {made.name} (certain)."
        case Finding.equal_within:
            said = f"{a} and {b} are equal within {_near(made, first)} in {made.name} (certain): the difference {_between(made)}."
        case _:
            said = _left_open(made, first, second)
    return said


def _and_other(side: Side) -> str:
    state = side.known.state
    return (
        f", and {side.label} has one" if state is State.bounded else f"; of {side.label} nothing is known" if state is State.unknown else ""
    )


def _size(made: Difference) -> str:
    """How far the one is ahead of the other, as a positive span."""
    span, unit = (made.relative, None) if made.relative is not None else (made.absolute, made.unit)
    if span is None or made.absolute is None:
        raise ValueError(f"there is no difference of {made.name} to tell")
    ahead = -span if made.absolute.high < 0 else span
    return by_span(Interval(max(0.0, ahead.low), ahead.high), unit)  # a share may have been rounded down past 0


def _between(made: Difference) -> str:
    if made.relative is not None and (made.relative.low, made.relative.high) != (-math.inf, math.inf):
        return between(made.relative)
    return between(made.absolute, made.unit) if made.absolute is not None else "is not known at all"


def _near(made: Difference, first: Side) -> str:
    interval = first.known.interval
    if interval is not None and interval.least_size >= 1.0:
        return percent(made.tolerance)
    return f"{figure(made.tolerance)} {made.unit}".strip()


def _left_open(made: Difference, first: Side, second: Side) -> str:
    """What is known so far, what would decide it, and when it is decided whichever way it turns out."""
    parts = [f"Not distinguishable in {made.name} at these limits: the difference {_between(made)}."]
    if made.finding is Finding.unknown:
        parts = [f"Nothing is known of the difference in {made.name}."]
    for proves in ("better", "worse"):
        ways = [effort for effort in made.efforts if effort.proves == proves]
        if ways:
            ways_told = joined([effort.text for effort in ways], "or")
            parts.append(capital(f"{ways_told} would prove {made.b} {proves}, e.g. with {how_text(ways)}."))
    parts += [capital(f"{effort.text} comes first, e.g. with {how_text([effort])}.") for effort in made.efforts if effort.proves == "any"]
    if not made.efforts:
        parts.append("More effort cannot tell them apart: they differ by no more than the checks of plans allow.")
    parts.append(_either_way(made, first, second))
    return " ".join(part for part in parts if part)


def _either_way(made: Difference, first: Side, second: Side) -> str:
    """Where gaps are so small that their sum fits into the tolerance, any two optima are told apart or called equal."""
    if made.finding is Finding.unknown or not (first.known.plan_proves and second.known.plan_proves):
        return ""
    mine, other = first.known.interval, second.known.interval
    if mine is None or other is None or mine.least_size < 1.0:
        return ""
    if not (mine.finite and other.finite):
        return ""
    size = max(abs(end) for end in (mine.low, mine.high, other.low, other.high, 1.0))
    each = (made.tolerance * mine.least_size - 4 * widening(size)) / (2 * size)
    if not 0 < each < math.inf or max(first.known.gap, second.known.gap) <= each:
        return ""
    return f"With both gaps below {percent(each, 2, towards=-1)} it is decided, as better, worse or equal within {percent(made.tolerance)}."

"""Acceptance gates: whether every scenario keeps what the study asks of it, proved where it can be.

A gate on a goal is about optima: it is passed when every pair of optima that the rows leave possible keeps it, failed when none does, and
undecided in between. A scenario that is proved to have no plan fails it. A gate on a metric that is no goal is about the plans found, and
says so. A gate is kept when it is missed by no more than ``SLACK``, as plans are verified and bounds proved to a relative 1e-6 only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from optimizer.study.conclusions.differences import SPEND, value_of
from optimizer.study.conclusions.efforts import Side
from optimizer.study.conclusions.intervals import MAXIMISE, Interval, Known, State, exactly, known, same_question, widening
from optimizer.study.conclusions.wording import figure, percent, value_text
from optimizer.study.scenarios.axes import named, same

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from optimizer.study.rows import Answered, Scenario
    from optimizer.study.schema import Axis, Gate

SLACK = 1e-5  # relative: by which a gate may be missed; an exact tie is known to 8e-6 at best


class Standing(StrEnum):
    """What became of a gate."""

    passed = "passed"
    failed = "failed"
    undecided = "undecided"


@dataclass(frozen=True, slots=True)
class Judged:
    """One condition of a gate on one scenario. ``proved`` is false for what only the plans found show. ``spare`` is by how much it is kept.

    ``spare`` holds the certain span of what is left before the condition breaks, in the unit of the metric, below 0 where it is broken.
    """

    gate: str
    scenario: str
    replicate: int
    metric: str
    condition: str
    standing: Standing
    proved: bool
    spare: Interval | None
    text: str

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        ends = None if self.spare is None else [one if math.isfinite(one) else None for one in (self.spare.low, self.spare.high)]
        return {name: getattr(self, name) for name in ("gate", "scenario", "replicate", "metric", "condition", "proved", "text")} | {
            "standing": self.standing.value,
            "spare": ends,
        }


def judged(gates: Sequence[Gate], table: Sequence[Answered], axes: Sequence[Axis] = ()) -> tuple[Judged, ...]:
    """Every condition of every gate on every scenario that it is for, in that order; changes are from the baseline of the replicate.

    ``axes`` are those of the study, by which ``where`` may name a labelled value by the value.
    """
    baselines = {one.scenario.replicate: one for one in table if one.scenario.is_baseline}
    goals = {goal.name for one in table for goal in one.row.goals}
    numbered = any(one.scenario.replicate for one in table)
    return tuple(
        _Case(gate_name(gate), gate.metric, condition, one, baselines.get(one.scenario.replicate), numbered).judged(goals)
        for gate in gates
        for one in table
        if concerns(gate, one.scenario, axes)
        for condition in _conditions(gate)
        if not (condition.is_relative and one.scenario.is_baseline)
    )


def overall(results: Iterable[Judged]) -> Standing:
    """Failed when any is, else undecided when any is, else passed."""
    found = {one.standing for one in results}
    return next((one for one in (Standing.failed, Standing.undecided) if one in found), Standing.passed)


def gate_name(gate: Gate) -> str:
    """Its own name, or what it asks: ``placed_value falls by at most 1%``."""
    return gate.name or f"{gate.metric} {' and '.join(condition.text for condition in _conditions(gate))}".strip()


def concerns(gate: Gate, scenario: Scenario, axes: Sequence[Axis] = ()) -> bool:
    """Whether the axes of the scenario have the values that the gate is for, by label or, of the ``axes`` given, by value too.

    Raises PlaceError for a value that an axis does not have: studies with such gates are refused when they are read.
    """
    known_axes = {axis.name: axis for axis in axes}
    for name, wanted in gate.where.items():
        shown = named(known_axes[name], wanted).shown if name in known_axes else wanted
        if name not in scenario.values or not same(scenario.values[name], shown):
            return False
    return True


# ---------------------------------------------------------------- conditions


@dataclass(frozen=True, slots=True)
class _Condition:
    """One of the four limits of a gate."""

    name: str
    limit: float

    @property
    def is_relative(self) -> bool:
        return self.name in ("fall_at_most", "rise_at_most")

    @property
    def text(self) -> str:
        if self.is_relative:
            return f"{'falls' if self.name == 'fall_at_most' else 'rises'} by at most {percent(self.limit)}"
        return f"is {self.name.replace('_', ' ')} {value_text(self.limit)}"

    @property
    def from_above(self) -> bool:
        """Whether it limits the value from above."""
        return self.name in ("at_most", "rise_at_most")

    def limits(self, base: Interval) -> Interval:
        """Where the limit may lie when the baseline's optimum lies in ``base``."""
        if not self.is_relative:
            return exactly(self.limit)
        return _moved(base, self.limit if self.from_above else -self.limit)


def _conditions(gate: Gate) -> tuple[_Condition, ...]:
    names = ("fall_at_most", "rise_at_most", "at_least", "at_most")
    return tuple(_Condition(name, getattr(gate, name)) for name in names if getattr(gate, name) is not None)


def _moved(base: Interval, share: float) -> Interval:
    """``y + share * |y|`` for every y in ``base``: piecewise linear with its corner at 0, so the extremes are at the ends or there."""
    corners = [base.low, base.high, *([0.0] if 0.0 in base else [])]
    values = [_scaled(one, 1.0 + share if one >= 0 else 1.0 - share) for one in corners]
    low, high = min(values), max(values)
    return Interval(_further(low, -math.inf), _further(high, math.inf))


def _further(value: float, towards: float) -> float:
    """Moved by what the share and the product may have lost; an overflow comes back to the largest number."""
    return math.nextafter(value + math.copysign(4e-16 * abs(value), towards) if math.isfinite(value) else value, towards)


def _scaled(value: float, factor: float) -> float:
    return 0.0 if factor == 0.0 else value * factor


# ---------------------------------------------------------------- one condition on one scenario


@dataclass(frozen=True, slots=True)
class _Case:
    """One condition of a gate on one scenario, with the baseline of its replicate."""

    gate: str
    metric: str
    condition: _Condition
    one: Answered
    base: Answered | None
    numbered: bool

    @property
    def label(self) -> str:
        """With the replicate, where there are several."""
        return f"{self.one.scenario.label} #{self.one.scenario.replicate}" if self.numbered else self.one.scenario.label

    def made(self, standing: Standing, text: str, *, proved: bool = True, spare: Interval | None = None) -> Judged:
        scenario = self.one.scenario
        return Judged(
            self.gate, scenario.id, scenario.replicate, self.metric, self.condition.name, standing, proved=proved, spare=spare, text=text
        )

    def judged(self, goals: set[str]) -> Judged:
        own = known(self.one.row, self.metric)
        if own.state is State.infeasible and self.metric != SPEND:
            return self.made(Standing.failed, f"{self.label} has no plan at all (proved).")
        if not _is_goal(self.metric, goals, self.one):
            return self._of_plans()
        if own.interval is None:
            return self.made(Standing.undecided, f"Nothing is known of {self.metric} in {self.label}: {own.why}.")
        if not self.condition.is_relative:
            return self._decided(own, None, self.condition.limits(exactly(0.0)))
        return self._changed(own)

    def _changed(self, own: Known) -> Judged:
        """Against the baseline."""
        if self.base is None:
            return self.made(Standing.undecided, "There is no baseline in this replicate to compare with.")
        if same_question(self.one, self.base):
            return self.made(Standing.passed, f"{self.label} is the problem of the baseline itself (certain).")
        reference = known(self.base.row, self.metric)
        if reference.interval is None:
            return self.made(Standing.undecided, f"There is no change from the baseline to tell: {reference.why}.")
        return self._decided(own, reference, self.condition.limits(reference.interval))

    def _decided(self, own: Known, reference: Known | None, limits: Interval) -> Judged:
        if own.interval is None:
            raise ValueError(f"nothing is known of {own.goal}")
        spare = limits - own.interval if self.condition.from_above else own.interval - limits
        # A miss is measured by the size of the limit: by the least that it may have to pass, by the most to fail.
        if spare.low >= -SLACK * max(1.0, limits.least_size):
            return self.made(Standing.passed, f"{self.metric} of {self.label} {self.condition.text} (certain).", spare=spare)
        if spare.high < -_most_slack(limits):
            miss = value_text(_round_number(-spare.high, limits), own.unit, towards=-1)
            which = (
                f"No plan of {self.label} keeps it" if not own.before else f"No plan of {self.label} that is best in {own.before} keeps it"
            )
            text = f"{which}: that {self.metric} {self.condition.text} is missed by {miss} or more (certain)."
            return self.made(Standing.failed, text, spare=spare)
        text = f"Undecided for {self.label} at these limits. {self._would_decide(own, reference, limits)}"
        return self.made(Standing.undecided, text, spare=spare)

    def _would_decide(self, own: Known, reference: Known | None, limits: Interval) -> str:
        """Which plan or bound of the scenario settles it, as the baseline stands; and whether the baseline's gap matters."""
        if not own.plan_proves:
            how = Side(self.label, own).how
            return (
                f"Closing the gap of {own.open_goal} of {self.label}, which comes before {own.goal}, comes first, e.g. with {how} for it."
            )
        above = self.condition.from_above
        keeps, breaks = (limits.low, limits.high) if above else (limits.high, limits.low)
        near, far = 2 * widening(keeps), 2 * _most_slack(limits)
        told = [
            _settles(own, keeps - near if above else keeps + near, self.label, down=above, word="pass"),
            _settles(own, breaks + far if above else breaks - far, self.label, down=not above, word="fail"),
        ]
        if reference is not None and not reference.plan_proves:
            told.append(f"Closing the gap of {reference.open_goal} of the baseline comes first.")
        elif reference is not None and reference.gap > 0:
            gap = f"gap of {percent(reference.gap)}" if math.isfinite(reference.gap) else "gap"
            told.append(f"Closing the baseline's {gap} narrows what is asked.")
        return " ".join(filter(None, told)) or "More effort cannot decide it: it is missed by no more than the checks of plans allow."

    def _of_plans(self) -> Judged:
        """Of a metric that is no goal."""
        value, reference = value_of(self.one, self.metric), None if self.base is None else value_of(self.base, self.metric)
        if value is None:
            return self.made(Standing.undecided, f"{self.label} has no {self.metric}.", proved=False)
        if self.condition.is_relative and reference is None:
            return self.made(Standing.undecided, f"The baseline has no {self.metric} to compare with.", proved=False)
        limits, own = self.condition.limits(exactly(reference or 0.0)), exactly(value)
        spare = limits - own if self.condition.from_above else own - limits
        standing = Standing.passed if spare.high >= -SLACK * max(1.0, limits.least_size) else Standing.failed
        verb = "keeps" if standing is Standing.passed else "breaks"
        asked = f"asked is that {self.metric} {self.condition.text}"
        if self.metric == SPEND:  # follows from the scenario's values: no plan has a say in it
            return self.made(standing, f"{self.label} {verb} it: {asked}, and it costs {value_text(value, 'USD')} (certain).", spare=spare)
        text = f"Of the plans found, that of {self.label} {verb} it: {asked}, and it has {figure(value, 6)}."
        return self.made(standing, text, proved=False, spare=spare)


def _is_goal(metric: str, goals: set[str], one: Answered) -> bool:
    """Whether it is a goal: as a row without a plan tells none, those of the others do; without any plan, what is unknown may be one."""
    return metric in goals or (not goals and metric != SPEND and metric not in one.row.metrics)


def _most_slack(limits: Interval) -> float:
    return SLACK * max(1.0, abs(limits.low), abs(limits.high))


def _round_number(miss: float, limits: Interval) -> float:
    """The number of four digits that it is but for what its end was moved outwards for rounding; else itself."""
    near = float(f"{miss:.4g}")
    return near if abs(near - miss) <= 2 * _most_slack(limits) else miss


def _settles(own: Known, to: float, label: str, *, down: bool, word: str) -> str:
    """How the optimum could be proved beyond ``to``, which is its plan or its bound; nothing where these leave no room for it."""
    if not math.isfinite(to) or own.objective is None or own.bound is None:
        return ""
    reachable = min(own.objective, own.bound) <= to if down else max(own.objective, own.bound) >= to
    if not reachable:
        return ""
    edge, side = value_text(to, own.unit, towards=-1 if down else 1), "less" if down else "more"
    by_plan = (own.sense == MAXIMISE) != down
    now = own.objective if by_plan else own.bound
    what = f"{'plan' if by_plan else 'bound'} of {edge} or {side}{f' (now {value_text(now, own.unit)})' if math.isfinite(now) else ''}"
    return f"A {what} for {label} would make it {word}, e.g. with {Side(label, own).how}."

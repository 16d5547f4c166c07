"""What the command line and the report say of a row and of a difference, in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimizer.study.conclusions.differences import Finding
from optimizer.study.conclusions.wording import by_ends, by_span, shown_value
from optimizer.study.rows import BASELINE

if TYPE_CHECKING:
    from optimizer.study.conclusions.differences import Difference
    from optimizer.study.conclusions.intervals import Interval
    from optimizer.study.rows import Row, Scenario

_NO_PLAN = {"infeasible": "no plan exists (proved)", "unbounded": "unbounded: no best plan"}
_ONE_SIDED = {
    Finding.a_infeasible: "the other has no plan (proved)",
    Finding.b_infeasible: "no plan exists (proved)",
    Finding.both_infeasible: "neither has a plan (proved)",
    Finding.unbounded: "no difference: unbounded",
}


def label_of(scenario: Scenario, *, numbered: bool = False) -> str:
    """How a table shows it: long fractions rounded, and the replicate where there are several."""
    told = ", ".join(f"{name}={shown_value(value)}" for name, value in scenario.values.items()) or BASELINE
    return f"{told} #{scenario.replicate}" if numbered else told


def span_words(span: Interval, unit: str | None = None) -> str:
    """``+1% to +2%`` of a relative span (no unit), or ``-1 to +2 GPUs``: what is told holds every number of it."""
    return by_ends(span, unit)


def outcome_words(row: Row) -> str:
    """What a row without a plan says."""
    if row.failure is not None:
        return "failed"
    return _NO_PLAN.get(row.outcome or "", "no plan found")


def against(difference: Difference | None) -> str:
    """What is certain of a difference, in a few words; "" for none."""
    if difference is None:
        return ""
    found = difference.finding
    if found in (Finding.better, Finding.worse) and difference.absolute is not None:
        return f"{found.value} by {_by(difference)}"
    if found is Finding.equal_within:
        return "equal"
    if found is Finding.of_plans and difference.plans is not None:
        return f"plans differ by {difference.plans.absolute:+,.6g}"
    if found is Finding.not_distinguishable and difference.relative is not None:
        return f"not distinguishable ({span_words(difference.relative)})"
    return _ONE_SIDED.get(found, found.value.replace("_", " "))


def _by(difference: Difference) -> str:
    relative = difference.relative
    if relative is not None:
        return by_span(_size(relative))
    return by_span(_size(difference.absolute), difference.unit) if difference.absolute is not None else ""


def _size(span: Interval) -> Interval:
    return span if span.low >= 0 else -span if span.high <= 0 else span

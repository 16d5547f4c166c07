"""Every combination of the axes' values against the baseline, over the replicates: what is certain, and what is only likely.

The random numbers of a replicate are common to all its scenarios, so scenarios are compared replicate by replicate. Two sorts of doubt are
kept apart. The solver's: the mean over these replicates lies between the mean of the low ends and that of the high ends, for certain.
Chance: the mean over all replicates that could have been drawn lies in a confidence interval of Student's t, which is widened so
that it holds the interval that any optima within the gaps would have given.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from optimizer.result import finite
from optimizer.study.conclusions.differences import TOLERANCE, Difference, Finding, difference, value_of
from optimizer.study.conclusions.intervals import MAXIMISE, Interval, known, mean
from optimizer.study.conclusions.significance import holm, sign_test_with_open, signed_rank_test, student_quantile
from optimizer.study.conclusions.wording import between, by_ends, figure, percent, shown_value
from optimizer.study.rows import BASELINE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from optimizer.study.rows import Answered, Scenario
    from optimizer.study.schema import Study

CONFIDENCE = 0.95
Key = tuple[bool, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Combination:
    """One combination of the axes' values, in all its replicates. ``values`` and ``numbers`` are without those drawn anew in each."""

    label: str
    values: dict[str, Any]
    numbers: dict[str, float | None]
    is_baseline: bool
    spend_usd: float
    rows: dict[int, Answered]

    @property
    def first(self) -> Answered:
        """The row of the first replicate that there is."""
        return next(iter(self.rows.values()))


def drawn_axes(study: Study) -> frozenset[str]:
    """The axes whose value is that of the replicate: no part of what tells combinations apart."""
    sampled = study.combine.how == "latin_hypercube"
    return frozenset() if sampled else frozenset(axis.name for axis in study.axes if axis.draw is not None)


def combinations(table: Sequence[Answered], drawn: Collection[str] = ()) -> tuple[Combination, ...]:
    """The rows by combination, in the order of the table; ``spend_usd`` is the mean over the replicates.

    Two rows of one combination and one replicate: the later one counts.
    """
    grouped: dict[Key, list[Answered]] = {}
    for one in table:
        scenario = one.scenario
        told = tuple((name, repr(value)) for name, value in scenario.values.items() if name not in drawn)
        grouped.setdefault((scenario.is_baseline, told), []).append(one)
    return tuple(_combination(found, drawn) for found in grouped.values())


def label_of(scenario: Scenario, drawn: Collection[str] = ()) -> str:
    """What the combination of a scenario is called."""
    told = ", ".join(f"{name}={shown_value(value)}" for name, value in scenario.values.items() if name not in drawn)
    return BASELINE if scenario.is_baseline else told or "with draws"


def _combination(found: list[Answered], drawn: Collection[str]) -> Combination:
    scenario = found[0].scenario
    values = {name: value for name, value in scenario.values.items() if name not in drawn}
    return Combination(
        label_of(scenario, drawn),
        values,
        {name: number for name, number in scenario.numbers.items() if name not in drawn},
        scenario.is_baseline,
        _average([one.scenario.spend_usd for one in found]),
        {one.scenario.replicate: one for one in found},
    )


def _average(values: Sequence[float]) -> float:
    """The mean, also of numbers whose sum is too large for a double."""
    try:
        return statistics.fmean(values)
    except OverflowError:
        return sum(value / len(values) for value in values)


@dataclass(frozen=True, slots=True)
class Paired:
    """One combination (B) against the baseline (A) in one goal.

    ``mean`` and ``relative`` are certain of the optima of these ``pairs``; ``plans_mean`` is that of the plans found. ``confidence`` is
    Student's interval of the mean over all replicates there could be, with the gaps; ``plans_confidence`` the same of the plans found.
    ``sign`` and ``ranks`` are probabilities of the sign test (the largest that the undecided allow) and of the signed ranks (of the plans
    found), corrected by Holm for the number of combinations. None: not enough is known.
    """

    label: str
    goal: str
    unit: str
    pairs: int
    unpaired: int
    wins: int
    losses: int
    ties: int
    undecided: int
    mean: Interval | None
    relative: Interval | None
    confidence: Interval | None
    plans_mean: float | None
    plans_confidence: Interval | None
    sign: float | None
    ranks: float | None
    level: float
    text: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON; an infinite end is null."""
        told: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name, value in told.items():
            if isinstance(value, Interval):
                told[name] = [finite(value.low), finite(value.high)]
        return told


def paired(
    table: Sequence[Answered], goal: str, *, drawn: Collection[str] = (), level: float = CONFIDENCE, tolerance: float = TOLERANCE
) -> tuple[Paired, ...]:
    """Every combination but the baseline's, against the baseline, in the order of the table; nothing without a baseline."""
    grouped = combinations(table, drawn)
    base = next((one for one in grouped if one.is_baseline), None)
    if base is None:
        return ()
    made = [_paired(base, one, goal, level, tolerance) for one in grouped if not one.is_baseline]
    signs, ranks = _corrected([one.sign for one in made]), _corrected([one.ranks for one in made])
    corrected = [replace(one, sign=sign, ranks=rank) for one, sign, rank in zip(made, signs, ranks, strict=True)]
    return tuple(replace(one, text=_text(one)) for one in corrected)


def _corrected(probabilities: Sequence[float | None]) -> list[float | None]:
    tested = iter(holm([one for one in probabilities if one is not None]))
    return [None if one is None else next(tested) for one in probabilities]


def _paired(base: Combination, other: Combination, goal: str, level: float, tolerance: float) -> Paired:
    both = [replicate for replicate in other.rows if replicate in base.rows]
    told = {replicate: difference(base.rows[replicate], other.rows[replicate], goal, tolerance=tolerance) for replicate in both}
    pairs = {replicate: one for replicate, one in told.items() if one.absolute is not None}
    spans = [one.absolute for one in pairs.values() if one.absolute is not None]
    plans = [one.plans.absolute for one in told.values() if one.plans is not None]
    certain = mean(spans) if spans else None
    enough = len(spans) > 1
    found = [one.finding for one in told.values()]
    wins, losses, ties = (found.count(one) for one in (Finding.better, Finding.worse, Finding.equal_within))
    undecided = found.count(Finding.not_distinguishable)
    return Paired(
        label=other.label,
        goal=goal,
        unit=next((one.unit for one in told.values() if one.unit), ""),
        pairs=len(spans),
        unpaired=len(other.rows) - len(spans),
        wins=wins,
        losses=losses,
        ties=ties,
        undecided=undecided,
        mean=certain,
        relative=_relative(base, other, pairs, goal),
        confidence=_confidence(spans, level) if enough else None,
        plans_mean=_average(plans) if plans else None,
        plans_confidence=student_interval(plans, level) if len(plans) > 1 else None,
        sign=sign_test_with_open(wins, losses, undecided) if enough else None,
        ranks=signed_rank_test(plans) if len(plans) > 1 else None,
        level=level,
    )


def _relative(base: Combination, other: Combination, pairs: dict[int, Difference], goal: str) -> Interval | None:
    """The change of the mean optimum, by the size of the baseline's mean optimum."""
    first = [known(base.rows[one].row, goal).interval for one in pairs]
    second = [known(other.rows[one].row, goal).interval for one in pairs]
    mine, theirs = [one for one in first if one is not None], [one for one in second if one is not None]
    if not mine or len(mine) != len(theirs):
        return None
    if all(one.absolute == Interval(0.0, 0.0) for one in pairs.values()):
        return Interval(0.0, 0.0)
    return mean(theirs).change_from(mean(mine))


def student_interval(values: Sequence[float], level: float = CONFIDENCE) -> Interval:
    """Where the mean lies that normal values were drawn around, with confidence ``level``. Raises ValueError for fewer than two values."""
    if len(values) < 2:  # noqa: PLR2004  (one value has no spread)
        raise ValueError("one value gives no confidence interval")
    return _around(statistics.fmean(values), statistics.fmean(values), statistics.stdev(values), len(values), level)


def _confidence(spans: Sequence[Interval], level: float) -> Interval | None:
    """Holds Student's interval of every choice of numbers from the spans: the spread of any is at most that of their middles, and a bit."""
    if not all(span.finite for span in spans):
        return None
    middles = [span.low + (span.high - span.low) / 2 for span in spans]
    halves = [(span.high - span.low) / 2 for span in spans]
    spread = statistics.stdev(middles) + math.sqrt(math.fsum(half * half for half in halves) / (len(spans) - 1))
    whole = mean(spans)
    return _around(whole.low, whole.high, spread, len(spans), level)


def _around(low: float, high: float, spread: float, count: int, level: float) -> Interval:
    reach = student_quantile((1 + level) / 2, count - 1) * spread / math.sqrt(count)
    return Interval(low - reach, high + reach)


# ---------------------------------------------------------------- in words


def _text(one: Paired) -> str:
    """What is certain, then what is likely."""
    if one.mean is None:
        return f"Nothing is known of {one.label} against the baseline in {one.goal}: no replicate has both."
    left_out = ""
    if one.unpaired:
        told = "1 replicate is" if one.unpaired == 1 else f"{one.unpaired} replicates are"
        left_out = f" {told} left out, where one of the two has no plan or no answer."
    if one.pairs == 1:
        told = f"{one.label}: the difference from the baseline in {one.goal} {_change(one)} (certain)."
        return f"{told} One replicate gives no statistics.{left_out}"
    counts = f"better in {one.wins}, worse in {one.losses}, equal in {one.ties} and undecided in {one.undecided} of {one.pairs} replicates"
    parts = [f"{one.label} is {counts}; the mean difference in {one.goal} {_change(one)} (certain, of these replicates)."]
    if one.confidence is not None:
        parts.append(f"Of all replicates that could be drawn it {between(one.confidence, one.unit)} with {percent(one.level)} confidence.")
    if one.sign is not None:
        parts.append(f"Sign test, corrected for all comparisons: p = {figure(one.sign, 2, towards=1)} or less, whatever the undecided are.")
    return " ".join(parts) + left_out


def _change(one: Paired) -> str:
    """The mean difference in the goal's unit, as all that follows it, and by the size of the baseline where it has one."""
    if one.mean is None:
        return "is not known at all"
    sized = one.relative is not None and one.relative.finite and not one.mean.low == one.mean.high == 0
    return between(one.mean, one.unit) + (f", {by_ends(one.relative)}" if sized and one.relative is not None else "")


def mean_value(combination: Combination, name: str) -> tuple[float | None, Interval | None]:
    """The mean of a goal or metric over the replicates: of the plans found, and of the optima; None where a replicate has none."""
    rows = tuple(combination.rows.values())
    values = [value_of(one, name) for one in rows]
    spans = [known(one.row, name).interval for one in rows]
    plans = [value for value in values if value is not None]
    certain = [span for span in spans if span is not None]
    return (
        _average(plans) if len(plans) == len(rows) else None,
        mean(certain) if len(certain) == len(rows) else None,
    )


def ahead(span: Interval, sense: str) -> Interval:
    """A difference as an advantage: above 0 is better."""
    return span if sense == MAXIMISE else -span

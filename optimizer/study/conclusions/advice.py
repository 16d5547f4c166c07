"""The recommendation of a study in one paragraph, computed from its numbers: what to take, what it gains and costs, what is still open.

Scenarios are ranked by the first goal. One that has no plan in some replicate, or that fails a gate, is not recommended. What is called
certain follows from the optima's intervals (means over the replicates); where the leader is ahead in its plans only, that is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations as combinations_of
from itertools import pairwise
from typing import TYPE_CHECKING

from optimizer.study.conclusions.differences import TOLERANCE, Finding, difference
from optimizer.study.conclusions.effects import along, axes_of
from optimizer.study.conclusions.efforts import how_text
from optimizer.study.conclusions.gates import Judged, Standing, judged
from optimizer.study.conclusions.intervals import MAXIMISE, NOTHING_KNOWN, Interval, exactly, known, mean, same_question
from optimizer.study.conclusions.paired import Combination, ahead, combinations, label_of, mean_value
from optimizer.study.conclusions.wording import between, by_span, joined, value_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from optimizer.result import GoalCertificate
    from optimizer.study.conclusions.efforts import Effort
    from optimizer.study.rows import Answered
    from optimizer.study.schema import Axis, Gate

MOST_NAMES = 4  # told by name in one sentence
THOUSAND = 1000.0
MOST_STEPS = 2  # next steps that are told


@dataclass(frozen=True, slots=True)
class Against:
    """A combination against another: the certain span of its mean advantage in the first goal, and the same by the size of the other's.

    ``finding`` is that of the means.
    """

    finding: Finding
    gain: Interval
    relative: Interval | None


NEVER_TOGETHER = Against(Finding.unknown, NOTHING_KNOWN, None)  # other replicates have other random numbers


@dataclass(frozen=True, slots=True)
class PerDollar:
    """What a combination gains over the baseline for each dollar that it costs more."""

    label: str
    extra_usd: float
    gain: Interval
    per_usd: Interval


@dataclass(frozen=True, slots=True)
class Returns:
    """The gain for each unit of a numeric axis, between neighbouring values: ``steps[k]`` is from ``numbers[k]`` to ``numbers[k + 1]``.

    ``fades_at``: the number from which on each further unit certainly gains less than half of what the first did; None: none does.
    """

    axis: str
    numbers: tuple[float, ...]
    steps: tuple[Interval, ...]
    fades_at: float | None


@dataclass(frozen=True, slots=True)
class Advice:
    """``best`` is recommended, None where nothing is; ``certain``: nothing that keeps the gates can be better, but by the tolerance.

    It is never certain while a combination is open, or where not all have the same replicates. ``tied`` are not proved to be worse.
    ``failing`` and ``open_gates`` are the names of gates by label.
    """

    goal: str
    best: str | None
    certain: bool
    tied: tuple[str, ...]
    against_baseline: Against | None
    per_dollar: tuple[PerDollar, ...]
    returns: tuple[Returns, ...]
    failing: dict[str, tuple[str, ...]]
    open_gates: dict[str, tuple[str, ...]]
    infeasible: tuple[str, ...]
    unanswered: tuple[str, ...]
    next_steps: tuple[str, ...]
    paragraph: str


def advise(
    table: Sequence[Answered],
    gates: Sequence[Gate] = (),
    *,
    drawn: Collection[str] = (),
    axes: Sequence[Axis] = (),
    tolerance: float = TOLERANCE,
) -> Advice:
    """The recommendation for a table, with the gates and axes of its study; ``drawn`` are the axes drawn anew in each replicate."""
    goal = next((one.row.goals[0] for one in table if one.row.goals), None)
    grouped = combinations(table, drawn)
    if goal is None:
        return _without_plans(grouped)
    labels = {one.scenario.id: label_of(one.scenario, drawn) for one in table}
    return _Adviser(grouped, goal, judged(gates, table, axes), labels, tolerance).advice(_returns(table, goal, drawn))


def _without_plans(grouped: Sequence[Combination]) -> Advice:
    infeasible = tuple(one.label for one in grouped if _has(one, infeasible=True))
    unanswered = tuple(one.label for one in grouped if one.label not in infeasible)
    if unanswered:
        said = "No scenario has a plan yet: nothing can be recommended. A longer time limit, or the reasons in the rows, may help."
    else:
        said = "No scenario has any plan (proved): nothing can be recommended. The rows name the rules that conflict."
    return Advice(
        goal="",
        best=None,
        certain=False,
        tied=(),
        against_baseline=None,
        per_dollar=(),
        returns=(),
        failing={},
        open_gates={},
        infeasible=infeasible,
        unanswered=unanswered,
        next_steps=(),
        paragraph=said,
    )


def _has(one: Combination, *, infeasible: bool) -> bool:
    """Whether a replicate is proved infeasible; else whether one has neither a plan nor that proof."""
    outcomes = [(row.row.outcome == "infeasible", bool(row.row.goals)) for row in one.rows.values()]
    return any(proved if infeasible else not proved and not plan for proved, plan in outcomes)


def _returns(table: Sequence[Answered], goal: GoalCertificate, drawn: Collection[str]) -> tuple[Returns, ...]:
    """The returns along every axis that has three numbers with everything else as in the baseline."""
    found = []
    if not _alike(combinations(table, drawn)):  # means of other replicates have no difference that means anything
        return ()
    for axis in axes_of(table, drawn):
        levels = [
            (level.number, level.optimum) for level in along(table, axis, goal.name, drawn) if level.number is not None and level.optimum
        ]
        if len(levels) > 2:  # noqa: PLR2004  (two steps)
            steps = tuple(ahead(more - less, goal.sense) / (high - low) for (low, less), (high, more) in pairwise(levels))
            numbers = tuple(number for number, _ in levels)
            found.append(Returns(axis, numbers, steps, _fades(numbers, steps)))
    return tuple(found)


def _alike(grouped: Sequence[Combination]) -> bool:
    """Whether all have the same replicates."""
    return all(one.rows.keys() == grouped[0].rows.keys() for one in grouped)


def _fades(numbers: Sequence[float], steps: Sequence[Interval]) -> float | None:
    half = steps[0].low / 2
    if half <= 0 or any(later.low > earlier.high for earlier, later in combinations_of(steps, 2)):
        return None  # a step that gains more than one before it: nothing fades
    for place in range(1, len(steps)):
        if all(step.high < half for step in steps[place:]):
            return numbers[place]
    return None


class _Adviser:
    """Works out the advice of one table in which somebody has a plan."""

    def __init__(
        self, grouped: Sequence[Combination], goal: GoalCertificate, gates: Sequence[Judged], labels: Mapping[str, str], tolerance: float
    ) -> None:
        """``labels``: of the combinations, by the id of each of their scenarios."""
        self._goal, self._tolerance, self._grouped, self._labels = goal, tolerance, grouped, labels
        self._base = next((one for one in grouped if one.is_baseline), None)
        self._failing = self._gates(gates, Standing.failed)
        self._open = self._gates(gates, Standing.undecided)
        self._any_gates = bool(gates)

    def _gates(self, gates: Sequence[Judged], standing: Standing) -> dict[str, tuple[str, ...]]:
        found: dict[str, dict[str, None]] = {}
        for one in gates:
            if one.standing is standing:
                found.setdefault(self._labels[one.scenario], {})[one.gate] = None
        return {label: tuple(names) for label, names in found.items()}

    def advice(self, returns: tuple[Returns, ...]) -> Advice:
        candidates = [one for one in self._grouped if self._plans(one) is not None and one.label not in self._failing]
        best = self._best(candidates)
        tied = {} if best is None else self._tied(best, candidates)
        made = Advice(
            goal=self._goal.name,
            best=None if best is None else best.label,
            certain=best is not None and self._is_certain(candidates, tied),
            tied=tuple(tied),
            against_baseline=None if best is None or self._base is None or best is self._base else self._against(best, self._base),
            per_dollar=self._per_dollar(candidates),
            returns=returns,
            failing=self._failing,
            open_gates=self._open,
            infeasible=tuple(one.label for one in self._grouped if _has(one, infeasible=True)),
            unanswered=tuple(one.label for one in self._grouped if _has(one, infeasible=False)),
            next_steps=() if best is None else self._next(best, tied),
            paragraph="",
        )
        return replace(made, paragraph=" ".join(self._sentences(made, best, tied, len(candidates))))

    def _is_certain(self, candidates: Sequence[Combination], tied: dict[str, Against]) -> bool:
        """Whether all that could be recommended is known, of the same replicates, and no better."""
        others = [one for one in self._grouped if one.label not in self._failing and not _has(one, infeasible=True)]
        open_still = any(self._plans(one) is None for one in others)
        return not open_still and _alike(candidates) and all(told.finding is Finding.equal_within for told in tied.values())

    def _best(self, candidates: Sequence[Combination]) -> Combination | None:
        """The one with the best plans, or the cheapest of those that are proved to be equal to it."""
        sign = 1.0 if self._goal.sense == MAXIMISE else -1.0
        leader = max(candidates, key=lambda one: (sign * (self._plans(one) or 0.0), -one.spend_usd), default=None)
        if leader is None:
            return None
        tied = self._tied(leader, candidates)
        equal = [one for one in candidates if one.label in tied and tied[one.label].finding is Finding.equal_within]
        return min([leader, *equal], key=lambda one: one.spend_usd)

    def _tied(self, best: Combination, candidates: Sequence[Combination]) -> dict[str, Against]:
        """Those over which the best one is not proved to be better."""
        rivals = [one for one in candidates if one is not best and not self._surely_ahead(best, one)]
        return {one.label: self._against(best, one) or NEVER_TOGETHER for one in rivals}

    def _surely_ahead(self, one: Combination, other: Combination) -> bool:
        gain = self._gain(one, other)
        return gain is not None and gain.low > 0

    def _gain(self, one: Combination, other: Combination) -> Interval | None:
        """The certain span of the mean advantage of one over another, over the replicates that both have; None without any."""
        shared = [replicate for replicate in one.rows if replicate in other.rows]
        spans = []
        for replicate in shared:
            mine, theirs = one.rows[replicate], other.rows[replicate]
            first, second = known(theirs.row, self._goal.name).interval, known(mine.row, self._goal.name).interval
            if first is not None and second is not None:
                spans.append(exactly(0.0) if same_question(mine, theirs) else second - first)
        return ahead(mean(spans), self._goal.sense) if spans else None

    def _plans(self, one: Combination) -> float | None:
        value, span = mean_value(one, self._goal.name)
        return None if span is None else value

    def _against(self, one: Combination, other: Combination) -> Against | None:
        """One against another over the replicates that both have."""
        gain = self._gain(one, other)
        if gain is None:
            return None
        shared = [replicate for replicate in one.rows if replicate in other.rows]
        mine, theirs = self._mean(one, shared), self._mean(other, shared)
        relative = None if mine is None or theirs is None else mine.change_from(theirs)
        if relative is not None and gain == exactly(0.0):
            relative = gain
        near = self._tolerance * max(1.0, 0.0 if theirs is None else theirs.least_size)
        finding = Finding.not_distinguishable
        if gain.low > 0 or gain.high < 0:
            finding = Finding.better if gain.low > 0 else Finding.worse
        elif -near <= gain.low and gain.high <= near:
            finding = Finding.equal_within
        return Against(finding, gain, None if relative is None else ahead(relative, self._goal.sense))

    def _mean(self, one: Combination, replicates: Sequence[int]) -> Interval | None:
        spans = [span for replicate in replicates if (span := known(one.rows[replicate].row, self._goal.name).interval) is not None]
        return mean(spans) if len(spans) == len(replicates) else None

    def _would(self, one: Combination, other: Combination) -> tuple[Effort, ...]:
        """What decides between them in the first replicate that leaves it open."""
        replicates = [replicate for replicate in one.rows if replicate in other.rows]
        labels = (other.label, one.label)
        told = (
            difference(other.rows[replicate], one.rows[replicate], self._goal.name, tolerance=self._tolerance, labels=labels).efforts
            for replicate in replicates
        )
        return next((efforts for efforts in told if efforts), ())

    def _per_dollar(self, candidates: Sequence[Combination]) -> tuple[PerDollar, ...]:
        """The gain over the baseline by the dollar, of all that cost more than it, the best plans first."""
        found = []
        for one in candidates:
            if self._base is None or one is self._base or one.spend_usd <= self._base.spend_usd:
                continue
            gain, extra = self._gain(one, self._base), one.spend_usd - self._base.spend_usd
            if gain is not None and math.isfinite(extra):
                found.append(PerDollar(one.label, extra, gain, gain / extra))
        return tuple(sorted(found, key=lambda each: (-each.per_usd.low, -each.per_usd.high)))

    def _next(self, best: Combination, tied: dict[str, Against]) -> tuple[str, ...]:
        """What would decide between the leader and the first of those that may be better."""
        still = [label for label, told in tied.items() if told.finding is Finding.not_distinguishable][:MOST_STEPS]
        ways = {one.label: self._would(best, one) for one in self._grouped if one.label in still}
        return tuple(
            f"{how_text(ways[label]) if ways[label] else 'smaller gaps in all replicates'} would decide between {best.label} and {label}"
            for label in still
        )

    # ------------------------------------------------------------ in words

    def _sentences(self, made: Advice, best: Combination | None, tied: dict[str, Against], count: int) -> list[str]:
        among = "" if count == len(self._grouped) else " that can be recommended"
        parts = [self._lead(made, best, among), self._rivals(best, tied, count, among), _dollars(made, self._goal.unit)]
        parts += [_fading(one, self._goal.unit) for one in made.returns]
        parts += [self._gate_sentence(made), _listed(made.infeasible, "No plan exists (proved, in at least one replicate) for")]
        parts.append(_listed(made.unanswered, "Nothing is known yet, in at least one replicate, of"))
        if made.next_steps:
            parts.append(f"Next: {'; '.join(made.next_steps)}.")
        return [part for part in parts if part]

    def _lead(self, made: Advice, best: Combination | None, among: str) -> str:
        """``among`` says of whom, where some are left out."""
        goal = self._goal
        if best is None:
            return "No scenario can be recommended: each fails a gate, or has no plan in some replicate."
        value = value_text(self._plans(best) or 0.0, goal.unit)
        nearly = "" if self._leads(best, made) else ", but by the tolerance"
        if best is self._base:
            return f"Stay with the baseline: no other scenario{among} has plans with a better {goal.name} than its {value}{nearly}."
        cost = f", for {value_text(best.spend_usd, 'USD')}" if best.spend_usd else ""
        told = made.against_baseline
        if told is None:
            return f"Take {best.label}{cost}: it has the best {goal.name} of the plans found{_whose(among)}, {value}{nearly}."
        if told.finding is Finding.better:
            size = by_span(told.relative) if told.relative is not None else by_span(told.gain, goal.unit)
            return f"Take {best.label}{cost}: it beats the baseline by {size} in {goal.name} ({self._certain(best)})."
        lies = between(told.relative) if told.relative is not None else between(told.gain, goal.unit)
        said = f"Of the plans found{_whose(among)}, {best.label} has the best {goal.name}: {value}{cost}{nearly}"
        return f"{said}. It is not proved to beat the baseline: its advantage {lies}."

    def _leads(self, best: Combination, made: Advice) -> bool:
        """Whether none of those that are as good within the tolerance has better plans."""
        sign, own = (1.0 if self._goal.sense == MAXIMISE else -1.0), self._plans(best) or 0.0
        return all(sign * (self._plans(one) or 0.0) <= sign * own for one in self._grouped if one.label in made.tied)

    def _certain(self, best: Combination) -> str:
        """In which mean something is certain between a combination and the baseline."""
        theirs = {} if self._base is None else self._base.rows
        shared = len(best.rows.keys() & theirs.keys())
        if best.rows.keys() == theirs.keys():
            return "certain" if shared == 1 else f"certain, in the mean of {shared} replicates"
        return f"certain, in the {'one replicate' if shared == 1 else f'mean of the {shared} replicates'} that both have"

    def _rivals(self, best: Combination | None, tied: dict[str, Against], count: int, among: str) -> str:
        if best is None:
            return ""
        if not tied:
            alike = _alike([one for one in self._grouped if self._plans(one) is not None])
            sure = "certain" if alike else "certain, in the replicates that both have"
            return f"No other scenario{among} can be as good ({sure})." if count > 1 else ""
        others = [label for label in tied if self._base is None or label != self._base.label]
        equal = [label for label in others if tied[label].finding is Finding.equal_within]
        apart = [label for label in others if tied[label] is NEVER_TOGETHER]
        open_still = [label for label in others if label not in equal and label not in apart]
        parts = []
        if equal:
            parts.append(f"{_names(equal)} {'is' if len(equal) == 1 else 'are'} as good within the tolerance (certain).")
        if open_still:
            parts.append(f"{_names(open_still)} may be better still: not distinguishable at these limits.")
        if apart:
            parts.append(f"Nothing is certain between it and {_names(apart)}, which have no replicate in common with it.")
        return " ".join(parts)

    def _gate_sentence(self, made: Advice) -> str:
        if not self._any_gates:
            return ""
        parts = []
        if made.best is not None:
            still = made.open_gates.get(made.best, ())
            parts.append(f"{made.best} is undecided in {_names(still)}" if still else f"{made.best} passes every gate")
        by_gates: dict[tuple[str, ...], list[str]] = {}
        for label, names in made.failing.items():
            by_gates.setdefault(names, []).append(label)
        parts += [f"{_names(labels)} {'fails' if len(labels) == 1 else 'fail'} {_names(names)}" for names, labels in by_gates.items()]
        return f"Gates: {'; '.join(parts)}."


def _whose(among: str) -> str:
    return f", by scenarios{among}" if among else ""


def _dollars(made: Advice, unit: str) -> str:
    if not made.per_dollar:
        return ""
    first, rest = made.per_dollar[0], made.per_dollar[1:]
    if first.gain.low <= 0:
        return ""
    sure = all(one.per_usd.high < first.per_usd.low for one in rest)
    scaled = first.gain / (first.extra_usd / THOUSAND)
    lead = "A dollar buys most" if sure else "By what is proved, a dollar buys most"
    return f"{lead} with {first.label}: {by_span(scaled, unit)} for each 1,000 USD (certain)."


def _fading(one: Returns, unit: str) -> str:
    if one.fades_at is None:
        return ""
    place = one.numbers.index(one.fades_at)
    later = Interval(min(step.low for step in one.steps[place:]), max(step.high for step in one.steps[place:]))
    least = TOLERANCE * one.steps[0].low
    gains = "nothing" if -least < later.low and later.high < least else by_span(later, unit)
    return (
        f"Returns diminish along {one.axis}: up to {value_text(one.numbers[1])} each unit gains {by_span(one.steps[0], unit)}, "
        f"beyond {value_text(one.fades_at)} it gains {gains} (certain)."
    )


def _listed(labels: Sequence[str], lead: str) -> str:
    return f"{lead} {_names(labels)}." if labels else ""


def _names(labels: Sequence[str]) -> str:
    if len(labels) <= MOST_NAMES:
        return joined(list(labels))
    return f"{', '.join(labels[: MOST_NAMES - 1])} and {len(labels) - MOST_NAMES + 1} more"

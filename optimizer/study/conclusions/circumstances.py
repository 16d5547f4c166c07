"""The recommendation where some axes are circumstances: failures, growth, prices, which come as they come and are nothing one takes.

With choices and circumstances, a choice is judged by its worst circumstance (Wald, Statistical Decision Functions, 1950), and by gates
that it keeps in every one. Without a choice there is nothing to recommend: what the circumstances do is told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optimizer.study.conclusions.advice import Advice, advise
from optimizer.study.conclusions.differences import TOLERANCE
from optimizer.study.conclusions.effects import main_effects
from optimizer.study.conclusions.gates import Standing, judged
from optimizer.study.conclusions.intervals import MAXIMISE, Interval
from optimizer.study.conclusions.paired import Combination, combinations, mean_value
from optimizer.study.conclusions.wording import figure, joined, shown_value, value_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from optimizer.result import GoalCertificate
    from optimizer.study.conclusions.gates import Judged
    from optimizer.study.rows import Answered
    from optimizer.study.schema import Axis, Gate

MOST_NAMES = 4
DIGITS = 5  # of an end: what it was moved outwards for rounding is not told


@dataclass(frozen=True, slots=True)
class Choice:
    """What one takes, over all circumstances that the table has of it.

    ``worst`` holds the optimum at its worst circumstance, None where a circumstance is not known well enough; ``worst_at`` is where the
    plans are worst, with ``worst_plan``. ``without_plan`` are the circumstances that are proved to allow none, ``unknown`` those that have
    none yet. ``failing`` and ``open_gates`` are gates that some circumstance fails or leaves undecided.
    """

    label: str
    spend_usd: float
    count: int
    replicates: int
    worst: Interval | None
    worst_plan: float | None
    worst_at: str
    without_plan: tuple[str, ...]
    unknown: tuple[str, ...]
    failing: tuple[str, ...]
    open_gates: tuple[str, ...]


def advised(table: Sequence[Answered], gates: Sequence[Gate] = (), *, drawn: Collection[str] = (), axes: Sequence[Axis] = ()) -> Advice:
    """``advise``, with its paragraph about choices where some axes are circumstances."""
    made = advise(table, gates, drawn=drawn, axes=axes)
    grouped = combinations(table, drawn)
    free = [axis.name for axis in axes if not axis.is_chosen and _moves(grouped, axis.name)]
    goal = next((one.row.goals[0] for one in table if one.row.goals), None)
    if goal is None or not free or set(free) <= set(drawn):
        return made
    results = judged(gates, table, axes)
    chosen = [axis.name for axis in axes if axis.is_chosen]
    if not chosen or not _crossed(grouped, chosen):
        lead = "Choices and circumstances are sampled together, so that none can be ranked" if chosen else "Nothing is chosen here"
        told = _spread(lead, table, grouped, goal, results, drawn)
        return replace(made, best=None, certain=False, tied=(), per_dollar=(), next_steps=(), paragraph=told)
    found = choices(grouped, goal, results, chosen)
    best = _best(found, goal)
    rivals = [one for one in found if one is not best and not _out(one)]
    certain = best is not None and all(_surely(best, one, goal) or _equal(best, one) for one in rivals)
    return replace(
        made,
        best=None if best is None else best.label,
        certain=certain,
        tied=(),
        per_dollar=(),
        next_steps=(),
        paragraph=_told(found, best, goal, gated=bool(gates)),
    )


def _moves(grouped: Sequence[Combination], axis: str) -> bool:
    """Whether an axis has several values: one that has one only is part of the problem."""
    return len({repr(one.values[axis]) for one in grouped if axis in one.values}) > 1


def _crossed(grouped: Sequence[Combination], chosen: Collection[str]) -> bool:
    """Whether every choice meets the same circumstances."""
    met: dict[str, set[str]] = {}
    for one in grouped:
        if all(name in one.values for name in chosen):
            met.setdefault(_named(one.values, chosen), set()).add(_circumstance(one.values, chosen))
    found = list(met.values())
    return all(one == found[0] for one in found)


def _named(values: Mapping[str, object], chosen: Collection[str]) -> str:
    return ", ".join(f"{name}={shown_value(values[name])}" for name in chosen)


def choices(
    grouped: Sequence[Combination], goal: GoalCertificate, results: Sequence[Judged], chosen: Collection[str]
) -> tuple[Choice, ...]:
    """The combinations by what is chosen in them, in the order of the table; the base problem, which names no choice, is left out."""
    by: dict[str, list[Combination]] = {}
    for one in grouped:
        if all(name in one.values for name in chosen):
            by.setdefault(_named(one.values, chosen), []).append(one)
    return tuple(_choice(label, own, goal, results, chosen) for label, own in by.items())


def _choice(label: str, own: Sequence[Combination], goal: GoalCertificate, results: Sequence[Judged], chosen: Collection[str]) -> Choice:
    up = goal.sense == MAXIMISE
    values = [(one, *mean_value(one, goal.name)) for one in own]
    known = [(one, value, span) for one, value, span in values if value is not None and span is not None]
    worst = None
    if len(known) == len(own):
        lows, highs = [span.low for _, _, span in known], [span.high for _, _, span in known]
        worst = Interval(min(lows), min(highs)) if up else Interval(max(lows), max(highs))
    at = min(known, key=lambda each: each[1] if up else -each[1], default=None)
    ids = {row.scenario.id for one in own for row in one.rows.values()}
    named = {
        standing: tuple(dict.fromkeys(one.gate for one in results if one.scenario in ids and one.standing is standing))
        for standing in Standing
    }
    infeasible = [one for one in own if any(row.row.outcome == "infeasible" for row in one.rows.values())]
    return Choice(
        label,
        own[0].spend_usd,
        len(own),
        max(len(one.rows) for one in own),
        worst,
        None if at is None else at[1],
        "" if at is None else _circumstance(at[0].values, chosen),
        tuple(_circumstance(one.values, chosen) for one in infeasible),
        tuple(_circumstance(one.values, chosen) for one, value, _ in values if value is None and one not in infeasible),
        named[Standing.failed],
        named[Standing.undecided],
    )


def _circumstance(values: Mapping[str, object], chosen: Collection[str]) -> str:
    return ", ".join(f"{name}={shown_value(value)}" for name, value in values.items() if name not in chosen)


def _out(one: Choice) -> bool:
    return bool(one.failing or one.without_plan)


def _best(found: Sequence[Choice], goal: GoalCertificate) -> Choice | None:
    sign = 1.0 if goal.sense == MAXIMISE else -1.0
    able = [one for one in found if not _out(one) and one.worst_plan is not None and not one.unknown]
    return max(able, key=lambda one: (sign * (one.worst_plan or 0.0), -one.spend_usd), default=None)


def _surely(best: Choice, other: Choice, goal: GoalCertificate) -> bool:
    """Whether the other is certainly no better at its worst."""
    if best.worst is None or other.worst is None:
        return False
    return best.worst.low >= other.worst.high if goal.sense == MAXIMISE else best.worst.high <= other.worst.low


def _equal(one: Choice, other: Choice) -> bool:
    """Whether both are certainly as good at their worst."""
    if one.worst is None or other.worst is None:
        return False
    apart = one.worst - other.worst
    return max(-apart.low, apart.high) <= TOLERANCE * max(1.0, one.worst.least_size)


# ---------------------------------------------------------------- in words


def _unit(goal: GoalCertificate) -> str:
    """The unit, unless the goal's name says it already: placed_value."""
    return "" if goal.unit.lower() in goal.name.split("_") else goal.unit


def _told(found: Sequence[Choice], best: Choice | None, goal: GoalCertificate, *, gated: bool) -> str:
    if best is None:
        return " ".join(["No choice can be recommended for every circumstance.", *_troubles(found)])
    cost = f", for {value_text(best.spend_usd, 'USD')}" if best.spend_usd else ""
    worst = f"{value_text(best.worst_plan or 0.0, _unit(goal))}{f', at {best.worst_at}' if best.worst_at else ''}"
    each = f", each in the mean of {best.replicates} replicates" if best.replicates > 1 else ""
    parts = [f"Take {best.label}{cost}: over {best.count} circumstances{each} its {goal.name} is at worst {worst}."]
    if not any(one.spend_usd == 0 for one in found):
        parts.append("To take nothing was not asked in these circumstances: add a choice without edits to compare with.")
    rivals = [one for one in found if one is not best and not _out(one)]
    if rivals:
        alone = all(_surely(best, one, goal) and not _equal(best, one) for one in rivals)
        parts.append("No other choice is as good at its worst (certain)." if alone else _rivals(best, rivals, goal))
    if gated:
        still = f", and {joined(list(best.open_gates))} is undecided in some" if best.open_gates else ""
        parts.append(f"It fails no gate in any circumstance{still}.")
    return " ".join([*parts, *_troubles([one for one in found if one is not best])])


def _rivals(best: Choice, rivals: Sequence[Choice], goal: GoalCertificate) -> str:
    equal = [one.label for one in rivals if _equal(best, one)]
    names = [one.label for one in rivals if one.label not in equal and not _surely(best, one, goal)]
    told = [f"{_names(equal)} {'is' if len(equal) == 1 else 'are'} as good at its worst, within the tolerance (certain)."] if equal else []
    return " ".join(told + ([f"{_names(names)} may be as good at its worst: not distinguishable at these limits."] if names else []))


def _troubles(found: Sequence[Choice]) -> list[str]:
    told = [f"{one.label} has no plan (proved) at {_names(one.without_plan)}." for one in found if one.without_plan]
    told += [f"{one.label} fails {_names(one.failing)}." for one in found if one.failing and not one.without_plan]
    return told + [f"Nothing is known yet of {one.label} at {_names(one.unknown)}." for one in found if one.unknown]


def _spread(
    lead: str,
    table: Sequence[Answered],
    grouped: Sequence[Combination],
    goal: GoalCertificate,
    results: Sequence[Judged],
    drawn: Collection[str],
) -> str:
    """What circumstances do, where nothing is recommended."""
    known = [(one, value, span) for one in grouped for value, span in [mean_value(one, goal.name)] if value is not None]
    low, high = min(known, key=lambda each: each[1]), max(known, key=lambda each: each[1])
    said = (
        f"{lead}: over {len(grouped)} circumstances {goal.name} goes from {value_text(low[1], _unit(goal))}"
        f" ({low[0].label}) to {value_text(high[1], _unit(goal))} ({high[0].label})."
    )
    parts = [said]
    spans = [span for _, _, span in known if span is not None]
    if len(spans) == len(known):
        worst = (
            Interval(min(span.low for span in spans), min(span.high for span in spans))
            if goal.sense == MAXIMISE
            else Interval(max(span.low for span in spans), max(span.high for span in spans))
        )
        ends = figure(worst.low, DIGITS), figure(worst.high, DIGITS)
        parts.append(f"The worst optimum is {' to '.join(dict.fromkeys(ends))}{f' {_unit(goal)}' if _unit(goal) else ''} (certain).")
    parts += _driver(table, goal, drawn)
    infeasible = [one.label for one in grouped if any(row.row.outcome == "infeasible" for row in one.rows.values())]
    parts += [f"No plan exists (proved) at {_names(infeasible)}."] if infeasible else []
    failing = {one.scenario for one in results if one.standing is Standing.failed}
    if results:
        parts.append(f"Gates fail in {len(failing)} of {len(table)} scenarios." if failing else "No gate fails in any of them.")
    return " ".join(parts)


def _driver(table: Sequence[Answered], goal: GoalCertificate, drawn: Collection[str]) -> list[str]:
    """The axis whose averages move the goal most, where several axes have levels that repeat."""
    effects = {axis: levels for axis, levels in main_effects(table, goal.name, drawn).items() if len(levels) > 1}
    swings = {}
    for axis, levels in effects.items():
        plans = [level.plans for level in levels if level.plans is not None]
        if 1 < len(plans) < len(combinations(table, drawn)) - 1:
            swings[axis] = max(plans) - min(plans)
    if len(swings) < max(2, len(effects)):  # nothing to compare with, or one whose levels do not repeat might move it more
        return []
    axis = max(swings, key=lambda name: swings[name])
    return [f"On average {axis} moves it most, by {value_text(swings[axis], _unit(goal))} of the plans found."]


def _names(labels: Sequence[str]) -> str:
    if len(labels) <= MOST_NAMES:
        return joined(list(labels))
    return f"{', '.join(labels[: MOST_NAMES - 1])} and {len(labels) - MOST_NAMES + 1} more"

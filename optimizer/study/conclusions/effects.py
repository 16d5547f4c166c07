"""What each axis does to a goal or metric: levels, tornado bars and heat maps, as plain data for whoever draws them.

Where the table has scenarios that differ in one axis only, they are compared as they are (``exact``). Else the averages over all scenarios
of a level are (main effects): in a full product these show what the axis does on average, in a zip or a sample also what moves along
with it. Of goals every number comes with the certain interval of the optima; of metrics, and of plans, nothing is proved.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimizer.result import Outcome
from optimizer.study.conclusions.intervals import Interval, mean, same_question
from optimizer.study.conclusions.paired import Combination, combinations, mean_value

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from optimizer.study.rows import Answered


@dataclass(frozen=True, slots=True)
class Level:
    """A goal or metric at one value of an axis. ``plans`` is the mean of the plans found, ``optimum`` holds that of the optima.

    ``combinations`` are averaged, ``left_out`` are not, as a replicate of theirs has no plan.
    """

    value: Any
    number: float | None
    plans: float | None
    optimum: Interval | None
    combinations: int
    left_out: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One axis of a tornado chart: the levels with the least and the largest value, and whether nothing but the axis moves."""

    axis: str
    least: Level
    most: Level
    exact: bool

    @property
    def swing(self) -> float:
        """From the least to the largest value of the plans found."""
        return (self.most.plans or 0.0) - (self.least.plans or 0.0)


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of a heat map. ``state``: plan, infeasible (proved), unknown, or absent (not in the table)."""

    state: str
    plans: float | None = None
    optimum: Interval | None = None


@dataclass(frozen=True, slots=True)
class Heat:
    """A goal or metric over two axes: ``cells[i][j]`` is at ``down[i]`` and ``across[j]``.

    ``others`` says what became of the other axes: none, at the baseline or averaged.
    """

    down_axis: str
    across_axis: str
    name: str
    down: tuple[Any, ...]
    across: tuple[Any, ...]
    cells: tuple[tuple[Cell, ...], ...]
    others: str


def axes_of(table: Sequence[Answered], drawn: Collection[str] = ()) -> tuple[str, ...]:
    """The axes that are not drawn, in their order."""
    return tuple(dict.fromkeys(name for one in table for name in one.scenario.values if name not in drawn))


def main_effects(table: Sequence[Answered], name: str, drawn: Collection[str] = ()) -> dict[str, tuple[Level, ...]]:
    """For each axis its levels, each averaged over all its combinations."""
    grouped = combinations(table, drawn)
    return {axis: _levels([one for one in grouped if axis in one.values], axis, name) for axis in axes_of(table, drawn)}


def along(table: Sequence[Answered], axis: str, name: str, drawn: Collection[str] = ()) -> tuple[Level, ...]:
    """The levels of one axis with everything else as in the baseline, the numbers ascending; maybe none."""
    grouped = combinations(table, drawn)
    chosen = _in_line(grouped, axis, axes_of(table, drawn))
    levels = _levels(chosen, axis, name)
    return tuple(sorted(levels, key=lambda level: level.number if level.number is not None else 0.0))


def tornado(table: Sequence[Answered], name: str, drawn: Collection[str] = ()) -> tuple[Bar, ...]:
    """A bar for each axis that has two levels with plans, the widest first."""
    averaged = main_effects(table, name, drawn)
    bars = []
    for axis, levels in averaged.items():
        lined = [level for level in along(table, axis, name, drawn) if level.plans is not None]
        exact = len(lined) > 1
        known = lined if exact else [level for level in levels if level.plans is not None]
        if len(known) > 1:
            ordered = sorted(known, key=lambda level: level.plans or 0.0)
            bars.append(Bar(axis, ordered[0], ordered[-1], exact))
    return tuple(sorted(bars, key=lambda bar: -bar.swing))


def heat(table: Sequence[Answered], down_axis: str, across_axis: str, name: str, drawn: Collection[str] = ()) -> Heat:
    """The map of two axes. Other axes stay as in the baseline where such rows are in the table, else they are averaged over.

    Raises KeyError for an axis that the table does not have.
    """
    axes = axes_of(table, drawn)
    for axis in (down_axis, across_axis):
        if axis not in axes:
            raise KeyError(f"the table has no axis called '{axis}'; it has {', '.join(axes) or 'none'}")
    grouped = [one for one in combinations(table, drawn) if down_axis in one.values and across_axis in one.values]
    others = [axis for axis in axes if axis not in (down_axis, across_axis)]
    how = "averaged" if others else "none"
    centre = _centre(combinations(table, drawn), axes)
    if others and centre is not None:
        flat = [one for one in grouped if _agree(one.values, centre, others)]
        grouped, how = (flat, "at the baseline") if len(flat) > 1 else (grouped, how)
    down, across = _values(grouped, down_axis), _values(grouped, across_axis)
    places: dict[tuple[str, str], list[Combination]] = {}
    for one in grouped:
        places.setdefault((repr(one.values[down_axis]), repr(one.values[across_axis])), []).append(one)
    cells = tuple(tuple(_cell(places.get((repr(row), repr(column)), []), name) for column in across) for row in down)
    return Heat(down_axis, across_axis, name, down, across, cells, how)


def _levels(grouped: Sequence[Combination], axis: str, name: str) -> tuple[Level, ...]:
    at: dict[str, list[Combination]] = {}
    for one in grouped:
        at.setdefault(repr(one.values[axis]), []).append(one)
    made = []
    for value in _values(grouped, axis):
        own = at[repr(value)]
        cell = _cell(own, name)
        answered = sum(mean_value(one, name)[0] is not None for one in own)
        made.append(Level(value, own[0].numbers.get(axis), cell.plans, cell.optimum, answered, len(own) - answered))
    return tuple(made)


def _cell(own: Sequence[Combination], name: str) -> Cell:
    """The mean over those combinations that have plans in every replicate."""
    if not own:
        return Cell("absent")
    found = [mean_value(one, name) for one in own]
    plans = [value for value, _ in found if value is not None]
    if not plans:
        rows = [row.row for one in own for row in one.rows.values()]
        return Cell("infeasible" if any(row.outcome == Outcome.infeasible.value for row in rows) else "unknown")
    spans = [span for value, span in found if value is not None and span is not None]
    return Cell("plan", statistics.fmean(plans), mean(spans) if len(spans) == len(plans) else None)


def _values(grouped: Sequence[Combination], axis: str) -> tuple[Any, ...]:
    """The values of an axis once each: by number where all have one, else as they come."""
    found = {repr(one.values[axis]): (one.values[axis], one.numbers.get(axis)) for one in grouped if axis in one.values}
    pairs = list(found.values())
    if all(number is not None for _, number in pairs):
        pairs.sort(key=lambda pair: pair[1] or 0.0)
    return tuple(value for value, _ in pairs)


def _centre(grouped: Sequence[Combination], axes: Sequence[str]) -> Mapping[str, Any] | None:
    """The values that all axes have in the baseline; where it names none, those of a combination that is the same problem."""
    base = next((one for one in grouped if one.is_baseline), None)
    if base is None:
        return None
    if all(axis in base.values for axis in axes):
        return base.values
    alike = (one for one in grouped if not one.is_baseline and all(axis in one.values for axis in axes))
    return next((one.values for one in alike if _same(one, base)), None)


def _same(one: Combination, other: Combination) -> bool:
    shared = one.rows.keys() & other.rows.keys()
    return bool(shared) and all(same_question(one.rows[replicate], other.rows[replicate]) for replicate in shared)


def _in_line(grouped: Sequence[Combination], axis: str, axes: Sequence[str]) -> list[Combination]:
    """The combinations in which no other axis moves from the baseline."""
    others = [one for one in axes if one != axis]
    centre = _centre(grouped, axes)
    if others and centre is None:
        return []
    return [one for one in grouped if axis in one.values and (not others or (centre is not None and _agree(one.values, centre, others)))]


def _agree(values: Mapping[str, Any], centre: Mapping[str, Any], names: Sequence[str]) -> bool:
    return all(name in values and repr(values[name]) == repr(centre[name]) for name in names)

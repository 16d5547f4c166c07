"""The charts of a study's report from its rows: tornado, heat map of two axes, lines along an axis, trade-off."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimizer.study.conclusions.effects import along, axes_of, heat, main_effects, tornado
from optimizer.study.conclusions.intervals import MAXIMISE, Interval
from optimizer.study.conclusions.paired import combinations, mean_value
from optimizer.study.conclusions.trade_off import Rank, of_one_circumstance, trade_off
from optimizer.study.conclusions.wording import value_text
from service.report.study_plot import FLAT, SEEN, Scale, canvas, limits, ticks, told, with_unit
from service.wording import words

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from optimizer.study.conclusions.effects import Bar, Cell, Heat, Level
    from optimizer.study.conclusions.trade_off import Point, TradeOff
    from optimizer.study.rows import Answered
    from optimizer.study.run import Table
    from optimizer.study.schema import Axis
    from service.report.study_plot import Plot

SPEND = "spend_usd"
MOST_BARS = 14
MOST_CELLS = 24  # across, and down
MOST_LINES = 4  # axes that have a chart of their own
MOST_RANKED = 4_000  # combinations of a trade-off: each is held against all others
MOST_POINTS = 1_500  # of them that are drawn
NEAR = 1e-4  # relative: what lies so near to the baseline is told as equal to it


@dataclass(frozen=True, slots=True)
class View:
    """What charts are drawn of: the answered lines, one goal with its sense and unit, the baseline's mean."""

    lines: tuple[Answered, ...]
    axes: dict[str, Axis]
    drawn: frozenset[str]
    goal: str
    sense: str
    unit: str
    baseline: float | None
    baseline_optimum: Interval | None
    bars: tuple[Bar, ...]  # of all axes, the widest first
    effects: dict[str, tuple[Level, ...]]
    combinations: int

    @classmethod
    def of(cls, table: Table, drawn: frozenset[str], goal: str, sense: str, unit: str) -> View:
        """The view of a table."""
        lines = table.answered
        grouped = combinations(lines, drawn)
        base = next((one for one in grouped if one.is_baseline), None)
        plans, optimum = (None, None) if base is None else mean_value(base, goal)
        bars = tornado(lines, goal, drawn) if goal else ()
        effects = main_effects(lines, goal, drawn) if goal else {}
        axes = {one.name: one for one in table.study.axes}
        return cls(lines, axes, drawn, goal, sense, unit, plans, optimum, bars, effects, len(grouped))

    @property
    def name(self) -> str:
        """The goal in words, with its unit."""
        return with_unit(words(self.goal), self.unit)

    def axis_name(self, axis: str) -> str:
        """An axis with its unit."""
        return with_unit(axis, self.axes[axis].unit if axis in self.axes else "")

    def is_gain(self, value: float) -> bool:
        """Whether a value is no worse than the baseline's."""
        return self.baseline is None or (value >= self.baseline if self.sense == MAXIMISE else value <= self.baseline)


# ---------------------------------------------------------------- tornado


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a bar or a band, in per cent of the track."""

    style: str
    left: float
    width: float


@dataclass(frozen=True, slots=True)
class Beam:
    """One axis of the tornado chart."""

    axis: str
    how: str
    parts: tuple[Part, ...]
    bands: tuple[Part, ...]
    least: tuple[str, str]  # axis value, goal's value
    most: tuple[str, str]
    label: str


@dataclass(frozen=True, slots=True)
class Tornado:
    """All bars on one scale; ``baseline`` is its place in per cent, with its text."""

    beams: tuple[Beam, ...]
    more: int
    baseline: tuple[float, str] | None
    ticks: tuple[tuple[float, str], ...]
    cut: bool

    @property
    def styles(self) -> frozenset[str]:
        """Which styles are seen."""
        return frozenset(part.style for beam in self.beams for part in (*beam.parts, *beam.bands))


def tornado_of(view: View) -> Tornado | None:
    """The tornado chart; None where no axis has two levels with plans."""
    bars = view.bars
    if not bars:
        return None
    shown = bars[:MOST_BARS]
    levels = [level for bar in shown for level in (bar.least, bar.most)]
    values = [level.plans for level in levels if level.plans is not None] + ([view.baseline] if view.baseline is not None else [])
    spans = [level.optimum for level in levels]
    low, high = limits(values, spans)
    scale = Scale(low, high, 0.0, 100.0)
    beams = tuple(_beam(view, bar, scale) for bar in shown)
    base = None if view.baseline is None else (scale.at(view.baseline), value_text(view.baseline))
    cut = any(span is not None and (span.low < low or span.high > high) for span in spans)
    return Tornado(beams, len(bars) - len(shown), base, tuple((scale.at(value), text) for value, text in ticks(low, high)), cut)


def _beam(view: View, bar: Bar, scale: Scale) -> Beam:
    ends = bar.least.plans or 0.0, bar.most.plans or 0.0
    cuts = sorted({*ends, *([min(ends[1], max(ends[0], view.baseline))] if view.baseline is not None else [])})
    parts = [
        Part("gain" if view.is_gain((start + end) / 2) else "loss", scale.at(start), round(scale.at(end) - scale.at(start), 1))
        for start, end in itertools.pairwise(cuts)
    ]
    bands = [_band(level.optimum, scale) for level in (bar.least, bar.most) if level.optimum is not None]
    bands = [band for band in bands if band.width > 100 * SEEN]
    how = "with all else as in the baseline" if bar.exact else "averaged over the other axes"
    told_ends = [(f"at {_value(level.value)}", value_text(level.plans or 0.0)) for level in (bar.least, bar.most)]
    label = (
        f"{bar.axis}: {told_ends[0][1]} at {bar.least.value}{told(bar.least.optimum, view.unit)}; "
        f"{told_ends[1][1]} at {bar.most.value}{told(bar.most.optimum, view.unit)}; {how}"
    )
    return Beam(bar.axis, "" if bar.exact else "averaged", tuple(parts), tuple(bands), told_ends[0], told_ends[1], label)


def _band(span: Interval, scale: Scale) -> Part:
    low, high = scale.at(span.low), scale.at(span.high)
    return Part("certain", low, round(high - low, 1))


# ---------------------------------------------------------------- heat map


@dataclass(frozen=True, slots=True)
class Tile:
    """One field: ``share`` of the colour in per cent, ``style`` plan, open, infeasible, unknown or absent."""

    style: str
    share: int
    text: str
    title: str


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Rows of tiles with their heads."""

    title: str
    down_axis: str
    across_axis: str
    across: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Tile, ...]], ...]
    others: str
    more: str
    styles: frozenset[str]


def heat_of(view: View) -> HeatMap | None:
    """The map of the two axes that matter most; None where there are not two with several values."""
    levels = view.effects
    ranked = [bar.axis for bar in view.bars]
    several = [axis for axis in axes_of(view.lines, view.drawn) if len(levels.get(axis, ())) > 1]
    chosen = sorted(several, key=lambda axis: (ranked.index(axis) if axis in ranked else len(ranked), several.index(axis)))[:2]
    if len(chosen) < 2:  # noqa: PLR2004  (a map has two axes)
        return None
    down, across = sorted(chosen, key=lambda axis: len(levels[axis]))
    found = heat(view.lines, down, across, view.goal, view.drawn)
    return None if _sparse(found) else _heat_map(view, found)


def _sparse(found: Heat) -> bool:
    """Whether most of a map is empty: the axes moved together, or were sampled."""
    cells = [cell for row in found.cells for cell in row]
    return sum(cell.state != "absent" for cell in cells) * 2 < len(cells)


def _heat_map(view: View, found: Heat) -> HeatMap:
    values = [cell.plans for row in found.cells for cell in row if cell.plans is not None]
    low, high = min(values, default=0.0), max(values, default=0.0)
    rows = tuple(
        (
            _value(down),
            tuple(
                _tile(view, cell, low, high, f"{found.down_axis}={down}, {found.across_axis}={across}")
                for cell, across in zip(line[:MOST_CELLS], found.across, strict=False)
            ),
        )
        for down, line in zip(found.down[:MOST_CELLS], found.cells, strict=False)
    )
    cut = max(0, len(found.down) - MOST_CELLS), max(0, len(found.across) - MOST_CELLS)
    more = ", ".join(
        f"{count} more values of {axis}" for count, axis in zip(cut, (found.down_axis, found.across_axis), strict=True) if count
    )
    return HeatMap(
        title=view.name,
        down_axis=view.axis_name(found.down_axis),
        across_axis=view.axis_name(found.across_axis),
        across=tuple(_value(one) for one in found.across[:MOST_CELLS]),
        rows=rows,
        others=found.others,
        more=more,
        styles=frozenset(tile.style for _, line in rows for tile in line),
    )


def _tile(view: View, cell: Cell, low: float, high: float, where: str) -> Tile:
    if cell.plans is None:
        said = {"infeasible": "no plan exists (proved)", "absent": "not in the study"}.get(cell.state, "no answer")
        return Tile(cell.state, 0, {"infeasible": "×", "absent": ""}.get(cell.state, "?"), f"{where}: {said}")
    share = 0.5 if high == low else (cell.plans - low) / (high - low)
    share = share if view.sense == MAXIMISE else 1.0 - share
    style, against = _standing(view, cell)
    title = f"{where}: {value_text(cell.plans, view.unit)}{told(cell.optimum, view.unit)}{against}"
    return Tile(style, round(6 + 44 * share), _short(cell.plans), title)


def _standing(view: View, cell: Cell) -> tuple[str, str]:
    """Whether the optimum is certainly on one side of the baseline's, or the same; else the tile is open."""
    if view.baseline_optimum is None or cell.optimum is None:
        return "plan", ""
    apart = cell.optimum - view.baseline_optimum
    if apart.low > 0 or apart.high < 0:
        return "plan", "; certainly " + ("better" if (apart.low > 0) == (view.sense == MAXIMISE) else "worse") + " than the baseline"
    if apart.width <= NEAR * max(1.0, view.baseline_optimum.least_size):
        return "plan", "; as good as the baseline"
    return "open", "; not distinguishable from the baseline"


def _short(value: float) -> str:
    """A number for a tile: four figures."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:  # noqa: PLR2004  (what four figures tell as they are)
        return f"{value:.4g}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e6 else f"{value:.3g}"  # noqa: PLR2004


def _value(value: Any) -> str:  # noqa: ANN401  (any JSON value)
    return value_text(value) if isinstance(value, float) else str(value)


# ---------------------------------------------------------------- lines


def lines_of(view: View) -> list[Plot]:
    """The goal along each axis of numbers that moves it, the axes that matter most first."""
    made = []
    moving = [bar.axis for bar in view.bars if bar.swing > FLAT * abs(bar.most.plans or 0.0)]
    for axis in moving[:MOST_LINES]:
        found = along(view.lines, axis, view.goal, view.drawn)
        alone = sum(level.plans is not None for level in found) > 1
        levels = found if alone else view.effects[axis]
        known = sorted((level for level in levels if level.number is not None), key=lambda level: level.number or 0.0)
        if len(known) > 2 and sum(level.plans is not None for level in known) > 1:  # noqa: PLR2004  (two values are a bar of the tornado)
            made.append(_line(view, axis, known, alone=alone))
    return made


def _line(view: View, axis: str, levels: Sequence[Level], *, alone: bool) -> Plot:
    plans = [point for run in _runs(levels) for point in run]
    ys = [value for _, value, _ in plans] + ([view.baseline] if view.baseline is not None else [])
    drawn = canvas(
        f"Along {axis}", (view.axis_name(axis), view.name), [one.number or 0.0 for one in levels], ys, [one.optimum for one in levels]
    )
    certain = [(x, level.optimum) for x, _, level in plans if level.optimum is not None]
    for run in _runs(levels):
        spans = [(x, level.optimum) for x, _, level in run if level.optimum is not None]
        drawn.area("band", [(x, span.low) for x, span in spans], [(x, span.high) for x, span in spans])
    if view.baseline is not None:
        drawn.level(view.baseline, f"baseline: {value_text(view.baseline, view.unit)}")
    for run in _runs(levels):
        drawn.line("incumbent", [(x, value) for x, value, _ in run])
    for x, value, level in plans:
        drawn.mark("best", x, value, f"{axis}={_value(level.value)}: {value_text(value, view.unit)}{told(level.optimum, view.unit)}")
    for level in levels:
        if level.plans is None:
            drawn.mark("none", level.number or 0.0, drawn.y.low, f"{axis}={_value(level.value)}: no plan")
    cut = any(one.optimum is not None and (one.optimum.low < drawn.y.low or one.optimum.high > drawn.y.high) for one in levels)
    ends = " to ".join(f"{value_text(value)} at {x:g}" for x, value, _ in (plans[0], plans[-1]))
    label = f"{words(view.goal)} along {axis}: from {ends}"
    visible = any(min(span.width, drawn.y.high - drawn.y.low) > SEEN * (drawn.y.high - drawn.y.low) for _, span in certain)
    legend = [("line", "plans found"), *([("band", "where the optimum lies")] if visible else [])]
    legend += [("rule", "baseline")] if view.baseline is not None else []
    notes = ["" if alone else "Averaged over the other axes.", "The band is cut where bounds are far away." if cut else ""]
    return drawn.plot(label, legend, " ".join(note for note in notes if note))


def _runs(levels: Sequence[Level]) -> list[list[tuple[float, float, Level]]]:
    """Number, plans' value and level of those with plans, cut where there are none: a line across would claim some."""
    grouped = itertools.groupby(levels, key=lambda level: level.plans is not None)
    return [[(one.number or 0.0, one.plans or 0.0, one) for one in run] for known, run in grouped if known]


# ---------------------------------------------------------------- trade-off


def trade_off_of(view: View) -> Plot | None:
    """The first goal against what it costs, or against the second goal; None where neither moves, or for too many combinations."""
    if view.combinations > MOST_RANKED:
        return None
    lines, circumstance = of_one_circumstance(view.lines, tuple(view.axes.values()), view.drawn)
    for other in (SPEND, *_later_goals(lines)):
        found = trade_off(lines, other, view.goal, drawn=view.drawn)
        if len({round(point.x, 9) for point in found.points}) > 1 and len({point.y for point in found.points}) > 1:
            return _trade_off(view, other, found, circumstance)
    return None


def _later_goals(lines: Sequence[Answered]) -> Collection[str]:
    first = next((one.row for one in lines if one.row.goals), None)
    return [] if first is None else [goal.name for goal in first.goals[1:]]


def _trade_off(view: View, other: str, found: TradeOff, circumstance: str) -> Plot:
    points, x_sense, left_out = found.points, found.x_sense, found.left_out
    unit = "USD" if other == SPEND else next((goal.unit for one in view.lines if (goal := one.row.goal(other)) is not None), "")
    name = with_unit("spend" if other == SPEND else words(other), unit)
    drawn = canvas(
        f"{words(view.goal).capitalize()} against {'spend' if other == SPEND else words(other)}",
        (name, view.name),
        [point.x for point in points],
        [point.y for point in points],
        [point.y_optimum for point in points],
    )
    best = sorted((point for point in points if point.rank in (Rank.best, Rank.best_of_plans)), key=lambda point: (point.x, point.y))
    drawn.line("front", _stairs([(point.x, point.y) for point in best], y_first=(x_sense == MAXIMISE)))
    beaten = [point for point in points if point.rank not in (Rank.best, Rank.best_of_plans)]
    every = max(1, -(-len(beaten) // MOST_POINTS))
    for point in (*beaten[::every], *best):
        drawn.spread(point.x, point.y, None if other == SPEND else point.x_optimum, point.y_optimum)
        has = f"{value_text(point.y, view.unit)}{told(point.y_optimum, view.unit)}; {value_text(point.x, unit)}"
        title = f"{point.label}: {has}; {_ranked(point)}"
        drawn.mark({Rank.best: "best", Rank.best_of_plans: "maybe"}.get(point.rank, "beaten"), point.x, point.y, title)
    ranks = {point.rank for point in points}
    legend = [
        *([("best", "none is better in both (certain)")] if Rank.best in ranks else []),
        *([("maybe", "none of the plans found is")] if Rank.best_of_plans in ranks else []),
        *([("beaten", "another is at least as good in both")] if ranks & {Rank.beaten, Rank.beaten_of_plans} else []),
    ]
    label = f"{len(points)} combinations, {words(view.goal)} against {words(other)}; {len(best)} of them no other one beats in both"
    count = len(left_out)
    notes = [f"All of them meet {circumstance}; the table has the other circumstances." if circumstance else ""]
    notes += [f"{count} without a plan {'is' if count == 1 else 'are'} not shown." if count else ""]
    notes += [f"Of those that others beat one in {every} is drawn."] if every > 1 else []
    return drawn.plot(label, legend, " ".join(note for note in notes if note))


def _ranked(point: Point) -> str:
    return {
        Rank.best: "no other beats it in both (certain)",
        Rank.best_of_plans: "none of the plans found beats it in both",
        Rank.beaten_of_plans: "one of the plans found beats it",
        Rank.beaten: "another beats it (certain)",
    }[point.rank]


def _stairs(points: Sequence[tuple[float, float]], *, y_first: bool) -> list[tuple[float, float]]:
    """The corners of a line that keeps its value until the next point: what is attained between them."""
    corners: list[tuple[float, float]] = list(points[:1])
    for (x, y), (after_x, after_y) in itertools.pairwise(points):
        corners += [(x, after_y) if y_first else (after_x, y), (after_x, after_y)]
    return corners

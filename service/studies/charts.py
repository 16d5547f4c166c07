"""The charts of a study as Altair charts, for notebooks and as Vega-Lite: tornado, trade-off, heat map, lines along the axes.

Colours and wording are those of the report (``service.report.study``), which draws its own pictures. Every chart carries its data, so
that a Vega-Lite specification needs no other file: ``chart.to_dict()``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from optimizer.study.conclusions.effects import along, axes_of, heat, main_effects, tornado
from optimizer.study.conclusions.intervals import MAXIMISE
from optimizer.study.conclusions.paired import combinations, drawn_axes
from optimizer.study.conclusions.trade_off import of_one_circumstance, trade_off
from service.report.study_charts import MOST_RANKED
from service.report.study_plot import with_unit
from service.studies.conclusions import conclusions
from service.wording import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    import altair as alt

    from optimizer.study.conclusions.effects import Level
    from optimizer.study.conclusions.intervals import Interval
    from optimizer.study.rows import Answered
    from optimizer.study.run import Table
    from optimizer.study.schema import Axis
    from service.studies.conclusions import Conclusions

TEAL, AMBER, RUST, GREY = "#0e8f84", "#f3b94d", "#b3541e", "#8592a3"
SPEND = "spend_usd"
WIDTH, HEIGHT = 520, 280
RANKS = {
    "best": "none is better in both (certain)",
    "best_of_plans": "none of the plans found is",
    "beaten_of_plans": "one of the plans found is better",
    "beaten": "another is better (certain)",
}


def charts(table: Table, told: Conclusions | None = None) -> dict[str, alt.TopLevelMixin]:
    """The charts that the study has data for, by name: tornado, trade_off, heat_map, and ``along_AXIS`` for each axis of numbers."""
    told = told or conclusions(table)
    if not told.goal:
        return {}
    lines, drawn = table.answered, drawn_axes(table.study)
    units = {axis.name: axis.unit for axis in table.study.axes}
    goal = with_unit(words(told.goal), told.unit)
    made: dict[str, alt.TopLevelMixin | None] = {
        "tornado": tornado_chart(lines, told.goal, drawn, goal),
        "trade_off": trade_off_chart(lines, told.goal, drawn, goal, table.study.axes),
        "heat_map": heat_chart(lines, told.goal, drawn, goal, down_is_better=told.sense != MAXIMISE),
    }
    for axis in axes_of(lines, drawn):
        made[f"along_{axis}"] = along_chart(lines, axis, told.goal, drawn, (with_unit(axis, units.get(axis, "")), goal))
    return {name: chart for name, chart in made.items() if chart is not None}


def specifications(table: Table, told: Conclusions | None = None) -> dict[str, dict[str, Any]]:
    """The same as Vega-Lite."""
    return {name: chart.to_dict() for name, chart in charts(table, told).items()}


def tornado_chart(lines: Sequence[Answered], goal: str, drawn: frozenset[str], title: str) -> alt.TopLevelMixin | None:
    """A bar for each axis, with whiskers where the optima of its ends lie. None where no axis has two levels with plans."""
    import altair as alt

    bars = tornado(lines, goal, drawn)
    if not bars:
        return None
    data = [
        {
            "axis": bar.axis,
            "least": bar.least.plans,
            "most": bar.most.plans,
            "at": f"{bar.least.value} to {bar.most.value}",
            "exact": bar.exact,
        }
        for bar in bars
    ]
    ends = [{"axis": bar.axis, "at": str(level.value)} | _ends(level.optimum) for bar in bars for level in (bar.least, bar.most)]
    order = [bar.axis for bar in bars]
    axis = alt.Y("axis:N", sort=order, title=None)
    body = _chart(data).mark_bar(color=TEAL, height=18).encode(y=axis, x=alt.X("least:Q", title=title).scale(zero=False), x2="most:Q")
    body = body.encode(tooltip=_tips("axis:N", "at:N", "least:Q", "most:Q", "exact:N"))
    whiskers = _chart([one for one in ends if one["low"] is not None]).mark_rule(size=3).encode(y=axis, x="low:Q", x2="high:Q")
    made: alt.TopLevelMixin = (body + whiskers).properties(width=WIDTH, title="What moves it most")
    return made


def trade_off_chart(
    lines: Sequence[Answered], goal: str, drawn: frozenset[str], title: str, axes: Sequence[Axis] = ()
) -> alt.TopLevelMixin | None:
    """The first goal against what it costs, or against the second goal. None where neither moves, or for too many combinations.

    With ``axes`` of which some are circumstances, of one circumstance.
    """
    import altair as alt

    if len(combinations(lines, drawn)) > MOST_RANKED:
        return None

    lines, circumstance = of_one_circumstance(lines, axes, drawn)
    later = [one.name for one in next((line.row.goals for line in lines if line.row.goals), ())[1:]]
    for other in (SPEND, *later):
        found = trade_off(lines, other, goal, drawn=drawn)
        if len({point.x for point in found.points}) > 1 and len({point.y for point in found.points}) > 1:
            break
    else:
        return None
    data = [
        {"scenario": point.label, "x": point.x, "y": point.y, "standing": RANKS[point.rank.value]} | _ends(point.y_optimum)
        for point in found.points
    ]
    x = alt.X("x:Q", title="spend [USD]" if other == SPEND else words(other)).scale(zero=False)
    base = _chart(data).encode(x=x)
    points = base.mark_point(filled=True, size=70).encode(
        y=alt.Y("y:Q", title=title).scale(zero=False),
        color=alt.Color("standing:N", title=None).scale(domain=list(RANKS.values()), range=[TEAL, "#62cdbd", GREY, "#c3ccd6"]),
        tooltip=_tips("scenario:N", "y:Q", "low:Q", "high:Q", "x:Q", "standing:N"),
    )
    whiskers = base.mark_rule(color=AMBER, size=3).encode(y="low:Q", y2="high:Q")
    made: alt.TopLevelMixin = (whiskers + points).properties(
        width=WIDTH, height=HEIGHT, title=f"with {circumstance}" if circumstance else ""
    )
    return made


def heat_chart(
    lines: Sequence[Answered], goal: str, drawn: frozenset[str], title: str, *, down_is_better: bool = False
) -> alt.TopLevelMixin | None:
    """The two axes that matter most; the stronger the colour, the better. None where there are not two with several values."""
    import altair as alt

    levels = main_effects(lines, goal, drawn)
    several = [bar.axis for bar in tornado(lines, goal, drawn) if len(levels[bar.axis]) > 1][:2]
    if len(several) < 2:  # noqa: PLR2004  (a map has two axes)
        return None
    down, across = sorted(several, key=lambda axis: len(levels[axis]))
    found = heat(lines, down, across, goal, drawn)
    data: list[dict[str, Any]] = [
        {"down": str(row), "across": str(column), "value": cell.plans, "state": cell.state} | _ends(cell.optimum)
        for row, cells in zip(found.down, found.cells, strict=True)
        for column, cell in zip(found.across, cells, strict=True)
        if cell.state != "absent"
    ]
    base = _chart(data).encode(
        x=alt.X("across:O", sort=[str(one) for one in found.across], title=across),
        y=alt.Y("down:O", sort=[str(one) for one in found.down], title=down),
    )
    tiles = base.mark_rect().encode(
        color=alt.Color("value:Q", title=title).scale(scheme="teals", reverse=down_is_better),
        tooltip=_tips("down:N", "across:N", "value:Q", "low:Q", "high:Q", "state:N"),
    )
    none = (
        base.transform_filter("datum.state !== 'plan'")
        .mark_text(color=RUST, fontWeight="bold")
        .encode(text=alt.condition("datum.state === 'infeasible'", alt.value("×"), alt.value("?")))
    )
    made: alt.TopLevelMixin = (tiles + none).properties(width=WIDTH)
    return made


def along_chart(
    lines: Sequence[Answered], axis: str, goal: str, drawn: frozenset[str], titles: tuple[str, str]
) -> alt.TopLevelMixin | None:
    """The goal along an axis of numbers, with the band in which the optimum lies. None for fewer than three numbers."""
    import altair as alt

    found: Sequence[Level] = along(lines, axis, goal, drawn)
    if sum(level.plans is not None for level in found) < 2:  # noqa: PLR2004  (a line has two ends)
        found = main_effects(lines, goal, drawn)[axis]
    data = [{"x": level.number, "y": level.plans} | _ends(level.optimum) for level in found if level.number is not None]
    if len(data) < 3 or sum(one["y"] is not None for one in data) < 2:  # noqa: PLR2004  (two values are a bar of the tornado)
        return None
    base = _chart(data).encode(x=alt.X("x:Q", title=titles[0]).scale(zero=False))
    band = base.mark_area(color=AMBER, opacity=0.3).encode(y=alt.Y("low:Q").scale(zero=False), y2="high:Q")
    line = base.mark_line(color=TEAL, point=True).encode(
        y=alt.Y("y:Q", title=titles[1]).scale(zero=False), tooltip=_tips("x:Q", "y:Q", "low:Q", "high:Q")
    )
    made: alt.TopLevelMixin = (band + line).properties(width=WIDTH, height=HEIGHT)
    return made


def _chart(data: list[dict[str, Any]]) -> alt.Chart:
    import altair as alt

    return alt.Chart(alt.InlineData(values=data))


def _tips(*fields: str) -> list[alt.Tooltip]:
    import altair as alt

    return [alt.Tooltip(field) for field in fields]


def _ends(span: Interval | None) -> dict[str, float | None]:
    """Both ends of what is certain; null where one is not known."""
    if span is None or not (math.isfinite(span.low) and math.isfinite(span.high)):
        return {"low": None, "high": None}
    return {"low": span.low, "high": span.high}

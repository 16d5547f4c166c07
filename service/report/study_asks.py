"""The answers to the asks of a study, as sections of its report: a sweep, a trade-off, a target."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimizer.study.conclusions.wording import percent, value_text
from service.report.drawing import Table
from service.report.study_plot import canvas
from service.wording import words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.report.study_plot import Plot

MOST_ROWS = 60


@dataclass(frozen=True, slots=True)
class Section:
    """One ask with its answer: a sentence, and maybe a picture and a table. ``failed``: the sentence says why there is none."""

    title: str
    sentence: str
    failed: bool
    plot: Plot | None = None
    table: Table | None = None


def sections(asks: Sequence[Mapping[str, Any]], goal: str) -> list[Section]:
    """All asks in their order."""
    return [_section(one, goal) for one in asks]


def _section(ask: Mapping[str, Any], goal: str) -> Section:
    answer = ask.get("answer")
    what = ask["ask"]
    title = {
        "sweep": f"Sweep of {ask.get('axis')}",
        "pareto": f"{words(str(ask.get('first')))} traded for {words(str(ask.get('second')))}",
        "target": f"What {ask.get('axis')} reaches the target in {words(str(ask.get('metric')))}",
    }.get(what, str(what))
    if answer is None:
        return Section(title, str(ask.get("failure") or "It has no answer."), failed=True)
    sentence = str(ask.get("sentence") or "")
    if what == "sweep":
        return Section(title, sentence, failed=False, plot=_sweep(ask, answer, goal), table=_pieces(answer))
    if what == "pareto":
        return Section(title, sentence, failed=False, plot=_front(ask, answer), table=_points(ask, answer))
    return Section(title, sentence, failed=False, table=_probes(ask, answer))


def _sweep(ask: Mapping[str, Any], answer: Mapping[str, Any], goal: str) -> Plot | None:
    pieces = answer["pieces"]
    if not pieces:
        return None
    corners = [(pieces[0]["start"], pieces[0]["start_value"]), *((piece["end"], piece["end_value"]) for piece in pieces)]
    name = words(goal) if goal else "optimum"
    drawn = canvas(f"Optimum along {ask['axis']}", (str(ask["axis"]), name), [x for x, _ in corners], [y for _, y in corners])
    drawn.line("incumbent", corners)
    for x, y in corners:
        drawn.mark("best", x, y, f"{ask['axis']}={value_text(x)}: {value_text(y)}")
    ends = f"from {value_text(corners[0][1])} to {value_text(corners[-1][1])}"
    label = f"The optimum along {ask['axis']} in {len(pieces)} straight pieces, {ends}"
    exact = "exact: every value between the corners is proved" if answer["exact"] else "known to within the error told"
    return drawn.plot(label, [("line", f"optimum ({exact})"), ("best", "where its slope changes, and the ends")])


def _pieces(answer: Mapping[str, Any]) -> Table | None:
    pieces = answer["pieces"]
    if not pieces:
        return None
    rows = tuple(
        (value_text(one["start"]), value_text(one["end"]), value_text(one["start_value"]), value_text(one["end_value"]), _slope(one))
        for one in pieces[:MOST_ROWS]
    )
    return Table("Pieces", ("from", "to", "optimum there", "and there", "one more changes it by"), rows, max(0, len(pieces) - MOST_ROWS))


def _slope(piece: Mapping[str, Any]) -> str:
    width = piece["end"] - piece["start"]
    return value_text((piece["end_value"] - piece["start_value"]) / width) if width > 0 else ""


def _front(ask: Mapping[str, Any], answer: Mapping[str, Any]) -> Plot | None:
    points = [(one["second"], one["first"]) for one in answer["points"]]
    if len(points) < 2:  # noqa: PLR2004  (one point is no trade-off; its table tells it)
        return None
    outer = [(second, first) for first, second in answer["outer"] if first is not None and second is not None]
    drawn = canvas(
        f"{words(str(ask['first'])).capitalize()} against {words(str(ask['second']))}",
        (words(str(ask["second"])), words(str(ask["first"]))),
        [x for x, _ in points],
        [y for _, y in points],
    )
    best = answer["points"][0]["bound"]
    proved = ([] if best is None else [(points[0][0], best)]) + outer
    if len(proved) > 1:
        drawn.line("bound", _steps(proved, ahead=False))
    drawn.line("incumbent", points if answer["lines"] else _steps(points, ahead=True))
    for (x, y), one in zip(points, answer["points"], strict=True):
        gap = "" if one["gap"] is None else f", gap {percent(one['gap'])}"
        drawn.mark("best", x, y, f"{words(str(ask['first']))} {value_text(y)}, {words(str(ask['second']))} {value_text(x)}{gap}")
    label = f"{len(points)} efficient points; {percent(answer['coverage'])} of the trade-off is covered"
    return drawn.plot(label, [("line", "attained"), ("line bound", "no plan lies beyond (proved)")])


def _steps(points: Sequence[tuple[float, float]], *, ahead: bool) -> list[tuple[float, float]]:
    """A staircase; ``ahead``: what the next point has holds from this one on, as a tighter limit needs the next plan."""
    corners = list(points[:1])
    for (x, y), (after_x, after_y) in itertools.pairwise(points):
        corners += [(x, after_y) if ahead else (after_x, y), (after_x, after_y)]
    return corners


def _points(ask: Mapping[str, Any], answer: Mapping[str, Any]) -> Table | None:
    found = answer["points"]
    if not found:
        return None
    rows = tuple(
        (value_text(one["first"]), value_text(one["second"]), "" if one["bound"] is None else value_text(one["bound"]), _gap(one["gap"]))
        for one in found[:MOST_ROWS]
    )
    columns = (str(ask["first"]), str(ask["second"]), "bound of the first there", "gap")
    return Table("Points", columns, rows, max(0, len(found) - MOST_ROWS))


def _gap(gap: float | None) -> str:
    return "unknown" if gap is None else "none" if gap <= 1e-9 else percent(gap)  # noqa: PLR2004  (rounding)


def _probes(ask: Mapping[str, Any], answer: Mapping[str, Any]) -> Table:
    rows = []
    for probe in answer["asked"][:MOST_ROWS]:
        seen = probe["seen"]
        attained = "no plan exists" if seen["no_plan"] else "" if seen["attained"] is None else value_text(seen["attained"])
        rows.append((value_text(probe["value"]), str(probe["standing"]), attained, _between(seen), str(seen["why"] or "")))
    columns = (str(ask["axis"]), "target", f"plan has {words(str(ask['metric']))}", "optimum", "why not known")
    return Table("Values that were asked", columns, tuple(rows), max(0, len(answer["asked"]) - MOST_ROWS)).without_empty()


def _between(seen: Mapping[str, Any]) -> str:
    if not seen["proved"]:
        return ""
    low, high = seen["low"], seen["high"]
    if low is None and high is None:
        return ""
    if low is None:
        return f"at most {value_text(high)}"
    if high is None:
        return f"at least {value_text(low)}"
    told = value_text(low), value_text(high)
    return told[0] if told[0] == told[1] else f"{told[0]} to {told[1]}"

"""The report of a study as one HTML page: recommendation, charts, certificates of every scenario, gates, answers, failures."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from optimizer.study.conclusions.differences import Finding
from optimizer.study.conclusions.gates import Standing
from optimizer.study.conclusions.paired import drawn_axes
from optimizer.study.conclusions.wording import figure, percent, value_text
from service.report import wording
from service.report.drawing import Figure, Table
from service.report.study_asks import sections
from service.report.study_charts import View, heat_of, lines_of, tornado_of, trade_off_of
from service.studies.conclusions import conclusions
from service.studies.wording import against, label_of, outcome_words, span_words
from service.wording import words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optimizer.study.conclusions.gates import Judged
    from optimizer.study.conclusions.paired import Paired
    from optimizer.study.rows import Answered, Row
    from optimizer.study.run import Table as StudyTable
    from service.studies.conclusions import Conclusions

MOST_LINES = 200  # of the table; the files have all
MOST_GATES = 60
MOST_FAILURES = 40
MOST_GOALS = 3  # later goals with a column of their own
EXACT = 1e-9
STYLES = {Standing.passed: "proved", Standing.failed: "failed", Standing.undecided: "heuristic"}


@dataclass(frozen=True, slots=True)
class Line:
    """One scenario in the table."""

    label: str
    id: str
    is_baseline: bool
    outcome: str
    style: str
    goal: str
    bound: str
    gap: str
    against: str
    finding: str
    others: tuple[str, ...]
    spend: str
    gate: str
    gate_style: str
    plan: str


def in_folder(_row: Row) -> str:
    """In the folder of its study a plan is deflated, which no browser shows: a command prints it."""
    return ""


def render_study(
    table: StudyTable,
    asks: Sequence[Mapping[str, Any]] = (),
    told: Conclusions | None = None,
    plan_at: Callable[[Row], str] = in_folder,
) -> str:
    """The HTML page: no script, style, font or picture from elsewhere.

    ``asks`` are the answers to the asks as JSON (``optimizer.study.questions.asks``), ``told`` the conclusions, where they are known
    already. ``plan_at`` says where the plan of a row is found, "" for nowhere; left out: in the folder of the study, where the page lies
    too.
    """
    told = told or conclusions(table)
    environment = Environment(
        loader=PackageLoader("service.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=wording.number, words=words)
    view = View.of(table, drawn_axes(table.study), told.goal, told.sense, told.unit)
    has_plans = bool(told.goal)
    shown, names, judged = _chosen(table, told), _others(table), _gate_of(told.gates)
    return environment.get_template("study.html.j2").render(
        study=table.study,
        title=table.study.title or table.study.name,
        lead=_lead(told.advice.paragraph),
        notes=_notes(table),
        figures=_figures(table, told),
        tornado=tornado_of(view) if has_plans else None,
        heat=heat_of(view) if has_plans else None,
        plots=[plot for plot in (trade_off_of(view), *lines_of(view)) if plot is not None] if has_plans else [],
        goal=view.name,
        asks=sections(asks, told.goal),
        lines=[_line(table, told, one, names, judged, plan_at) for one in shown],
        more=len(table.answered) - len(shown),
        columns=_columns(table, told, names),
        gates=_gates(told.gates),
        gates_more=max(0, sum(one.standing is not Standing.passed for one in told.gates) - MOST_GATES),
        paired=_paired(told.paired),
        failures=_failures(table),
        failures_more=max(0, table.failed - MOST_FAILURES),
        complaints=table.complaints,
        versions=_versions(table),
        in_folder=plan_at is in_folder,
    )


# ---------------------------------------------------------------- the head


def _lead(paragraph: str) -> tuple[str, str]:
    """The first sentence of the recommendation, and the rest."""
    first, mark, rest = paragraph.partition(". ")
    return first + mark.rstrip(), rest


def _notes(table: StudyTable) -> list[str]:
    """What a reader must know before the numbers."""
    found = []
    if table.missing:
        found.append(f"{wording.count(table.missing, 'scenario')} not answered yet: what follows is about the others.")
    if table.failed:
        found.append(f"{wording.count(table.failed, 'scenario')} failed; the reasons are below.")
    return found


def _figures(table: StudyTable, told: Conclusions) -> tuple[Figure, ...]:
    rows = [one.row for one in table.answered]
    planned = sum(bool(row.goals) for row in rows)
    refuted = sum(not row.goals and row.answered for row in rows)
    gaps = [row.goals[0].gap for row in rows if row.goals]
    replicates = (
        f"{table.study.replicates} replicates of each" if table.study.replicates > 1 else wording.count(len(table.study.axes), "axis")
    )
    figures = [
        Figure("Scenarios", f"{len(table.scenarios):,}", replicates.replace("axiss", "axes")),
        Figure("With a verified plan", f"{planned:,}", f"{refuted:,} proved to have none" if refuted else "each checked independently"),
        Figure("Failed", f"{table.failed:,}", "with their reasons below") if table.failed else None,
        Figure("Largest gap", _gap(max(gaps)), f"none in {sum(gap < EXACT for gap in gaps):,} of {len(gaps):,}") if gaps else None,
        _compared(told),
        _standing(told.gates) if told.gates else None,
        Figure("Solving", wording.seconds(sum(row.seconds for row in rows)), "all scenarios added up") if rows else None,
    ]
    return tuple(figure for figure in figures if figure is not None)


def _compared(told: Conclusions) -> Figure | None:
    """How many scenarios are certainly better than the baseline."""
    found = Counter(one.finding for one in told.differences.values())
    if not found:
        return None
    open_ones = found[Finding.not_distinguishable] + found[Finding.unknown]
    note = f"{found[Finding.worse]:,} worse, {found[Finding.equal_within]:,} equal" + (f", {open_ones:,} open" if open_ones else "")
    return Figure("Certainly better", f"{found[Finding.better]:,}", f"than the baseline; {note}")


def _standing(gates: Sequence[Judged]) -> Figure:
    found = Counter(one.standing for one in gates)
    parts = [f"{found[one]:,} {one.value}" for one in (Standing.failed, Standing.undecided) if found[one]]
    return Figure("Gates passed", f"{found[Standing.passed]:,}", f"of {len(gates):,}" + "".join(f", {part}" for part in parts))


def _versions(table: StudyTable) -> str:
    found = next((one.row.versions for one in table.answered if one.row.versions), {})
    return ", ".join(f"{name} {version}" for name, version in found.items())


# ---------------------------------------------------------------- the table


def _chosen(table: StudyTable, told: Conclusions) -> list[Answered]:
    """All lines in the order of the study; of very many the baselines and the best by the first goal."""
    lines = list(table.answered)
    if len(lines) <= MOST_LINES:
        return lines
    sign = -1.0 if told.sense == "maximise" else 1.0

    def place(one: Answered) -> tuple[bool, float]:
        goal = one.row.goal(told.goal)
        return not (one.scenario.is_baseline and one.scenario.replicate == 0), math.inf if goal is None else sign * goal.objective

    return sorted(lines, key=place)[:MOST_LINES]


def _columns(table: StudyTable, told: Conclusions, others: Sequence[str]) -> dict[str, Any]:
    """Which columns there are, and what they are called."""
    return {
        "goal": words(told.goal) + (f" [{told.unit}]" if told.unit else "") if told.goal else "",
        "others": [words(name) for name in others],
        "spend": any(one.scenario.spend_usd for one in table.answered),
        "gates": bool(told.gates),
        "baseline": bool(told.differences),
    }


def _others(table: StudyTable) -> list[str]:
    """Later goals, and the metrics that the study asks for."""
    first = next((one.row.goals[0].name for one in table.answered if one.row.goals), "")
    goals = dict.fromkeys(goal.name for one in table.answered for goal in one.row.goals[1:])
    return list(dict.fromkeys([*goals, *(name for name in table.study.metrics if name not in (first, "spend_usd"))]))[
        : MOST_GOALS + len(table.study.metrics)
    ]


def _gate_of(gates: Sequence[Judged]) -> dict[tuple[str, int], list[Judged]]:
    found: dict[tuple[str, int], list[Judged]] = {}
    for one in gates:
        found.setdefault((one.scenario, one.replicate), []).append(one)
    return found


def _line(
    table: StudyTable,
    told: Conclusions,
    one: Answered,
    names: Sequence[str],
    gates: Mapping[tuple[str, int], Sequence[Judged]],
    plan_at: Callable[[Row], str],
) -> Line:
    row, scenario = one.row, one.scenario
    goal = row.goals[0] if row.goals else None
    difference = told.differences.get(scenario.id)
    judged = gates.get((scenario.id, scenario.replicate), ())
    worst = next((one for one in (Standing.failed, Standing.undecided) if any(gate.standing is one for gate in judged)), Standing.passed)
    values = [next((found.objective for found in row.goals if found.name == name), row.metrics.get(name)) for name in names]
    return Line(
        label=label_of(scenario, numbered=table.study.replicates > 1),
        id=scenario.id,
        is_baseline=scenario.is_baseline,
        outcome=(row.outcome or "") if goal is not None else outcome_words(row),
        style="proved" if row.outcome == "optimal" else "failed" if row.failure else "" if row.answered and not row.goals else "heuristic",
        goal="" if goal is None else value_text(goal.objective),
        bound="" if goal is None or not math.isfinite(goal.bound) else value_text(goal.objective if goal.gap < EXACT else goal.bound),
        gap="" if goal is None else _gap(goal.gap),
        against=against(difference) if goal is not None else "",
        finding="" if difference is None else difference.finding.value,
        others=tuple("" if value is None else value_text(value) for value in values),
        spend=value_text(scenario.spend_usd) if scenario.spend_usd else "0",
        gate=worst.value if judged else "",
        gate_style=STYLES[worst],
        plan=plan_at(row) if goal is not None else "",
    )


def _gap(gap: float) -> str:
    return "none" if gap < EXACT else percent(gap, 2) if math.isfinite(gap) else "unknown"


# ---------------------------------------------------------------- what else was found


def _gates(gates: Sequence[Judged]) -> list[dict[str, Any]]:
    """Each gate with its counts and, of those that are not passed, what is wrong; together not more than ``MOST_GATES``."""
    made: dict[str, dict[str, Any]] = {}
    left = MOST_GATES
    for one in sorted(gates, key=lambda gate: gate.standing is not Standing.failed):
        entry = made.setdefault(one.gate, {"name": one.gate, "counts": Counter(), "broken": []})
        entry["counts"][one.standing.value] += 1
        if one.standing is not Standing.passed and left:
            left -= 1
            entry["broken"].append((one.standing.value, STYLES[one.standing], one.text))
    return list(made.values())


def _paired(found: Sequence[Paired]) -> Table | None:
    if not found:
        return None
    columns = (
        "combination",
        "better, worse, equal, open",
        "mean difference, certain",
        "of all replicates (95%)",
        "plans found",
        "sign test p",
    )
    rows = tuple(
        (
            one.label,
            f"{one.wins}, {one.losses}, {one.ties}, {one.undecided}" + (f" ({one.unpaired} left out)" if one.unpaired else ""),
            "" if one.mean is None else _span(one),
            "" if one.confidence is None else span_words(one.confidence, one.unit),
            "" if one.plans_mean is None else f"{value_text(one.plans_mean, one.unit)}",
            "" if one.sign is None else figure(one.sign, 2, towards=1),
        )
        for one in found[:MOST_LINES]
    )
    return Table("Over the replicates", columns, rows, max(0, len(found) - MOST_LINES))


def _span(one: Paired) -> str:
    """The certain mean in the unit of all the rest, and relative where it can be."""
    if one.mean is None:
        return ""
    relative = f" ({span_words(one.relative)})" if one.relative is not None and one.relative.finite else ""
    return span_words(one.mean, one.unit) + relative


def _failures(table: StudyTable) -> list[tuple[str, str]]:
    failed = [one for one in table.answered if one.row.failure]
    return [(label_of(one.scenario), one.row.failure or "") for one in failed[:MOST_FAILURES]]

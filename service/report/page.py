"""The page around every kind's drawing: headline, certificate, convergence, reasons, time. No address outside the file."""

from __future__ import annotations

import math
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from models import catalogue
from service.report import reasons, wording
from service.report.convergence import chart
from service.report.drawing import Drawing, Figure, drawing_module, plain
from service.wording import by_rule, few, found_by, words

if TYPE_CHECKING:
    from models.vocabulary import Document
    from optimizer.result import GoalCertificate, Result

SHORTEST_S = 0.005  # a phase shorter than this would be told as 0.00 s
MOST_NAMES = 40  # of those whom one rule of a conflict concerns


def render(problem: Document, result: Result, before: Document | None = None) -> str:
    """The report of a solve as one HTML page that needs nothing else: no script, style, font or picture from elsewhere.

    ``before`` is the plan to compare with; without it a kind may know the state before from the problem.
    """
    module = drawing_module(result.kind)
    drawing = Drawing()
    if result.plan is not None:
        drawing = module.draw(problem, result.plan, before) if module is not None else plain(result.plan)
    environment = Environment(
        loader=PackageLoader("service.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=wording.number, percent=wording.percent, seconds=wording.seconds, words=words, found_by=found_by)
    return environment.get_template("report.html.j2").render(
        title=f"{words(result.kind).capitalize()} plan" if result.plan is not None else f"{words(result.kind).capitalize()}: no plan",
        summary=_summary(result.kind),
        headline=wording.headline(result),
        result=result,
        figures=(*drawing.figures, Figure("Time", wording.seconds(result.seconds), wording.STOPPED[result.stop_reason.value])),
        drawing=drawing,
        goals=_goals(result, module),
        gauge=_gauge(result),
        chart=chart(result.trace, result.certificate.goals[0], result.seconds) if result.certificate is not None else None,
        conflict=[(words(rule), few(names, MOST_NAMES)) for rule, names in by_rule(result.conflict.rules)] if result.conflict else [],
        left_heading=_heading(result.kind),
        left_out=reasons.groups(result.reasons, drawing, _alike(problem, result)),
        others=reasons.others(result.reasons),
        phases=_phases(result),
        version=_version(),
    )


def _summary(kind: str) -> str:
    found = catalogue.kinds().get(kind)
    return found.summary if found is not None else ""


def _heading(kind: str) -> str:
    found = catalogue.kinds().get(kind)
    return found.left_out if found is not None else "Not in the plan"


def _alike(problem: Document, result: Result) -> tuple[tuple[str, ...], ...]:
    """Which left-out ids share their reasons; nothing where nothing is explained."""
    found = catalogue.kinds().get(result.kind)
    return found.alike(problem, result.plan) if found is not None and result.plan is not None and result.reasons else ()


def _version() -> str:
    try:
        return version("quartermaster")
    except PackageNotFoundError:
        return ""


def _goals(result: Result, module: Any | None) -> list[dict[str, Any]]:  # noqa: ANN401  (a module with optional functions)
    """Each goal's certificate with its meaning in words."""
    if result.certificate is None:
        return []
    metrics = result.verdict.metrics if result.verdict is not None else {}
    say = getattr(module, "sentence", lambda _goal, _metrics: None)
    return [
        {
            "certificate": goal,
            "sentence": (say(goal, metrics) or wording.plain_sentence(goal, metrics)) if math.isfinite(goal.bound) else "",
            "gap": wording.gap_words(goal),
        }
        for goal in result.certificate.goals
    ]


def _gauge(result: Result) -> dict[str, Any] | None:
    """Plan, bound and capacity on one line, for the first goal that is told in units of a capacity."""
    if result.certificate is None or result.verdict is None:
        return None
    for goal in result.certificate.goals:
        capacity = result.verdict.metrics.get(f"capacity_{goal.unit.lower()}")
        if capacity and goal.sense == "maximise" and math.isfinite(goal.bound):
            return _gauge_parts(goal, capacity)
    return None


def _gauge_parts(goal: GoalCertificate, capacity: float) -> dict[str, Any]:
    have, bound = goal.objective / capacity, min(1.0, goal.bound / capacity)
    return {
        "goal": goal,
        "have": have,
        "open": max(0.0, bound - have),
        "shut": max(0.0, 1.0 - max(bound, have)),
        "bound": bound,
        "capacity": capacity,
    }


def _phases(result: Result) -> list[dict[str, Any]]:
    """The time by phase with each one's share; what no phase accounts for, or is too short to be seen, is the rest."""
    split = {name: spent for name, spent in result.seconds_by_phase.items() if spent >= SHORTEST_S}
    total = max(result.seconds, sum(split.values()))
    rest = total - sum(split.values())
    if rest > 0.01 * total:
        split["starting and the rest"] = rest
    return [{"name": words(name), "seconds": spent, "share": spent / total} for name, spent in split.items()] if total > 0 else []

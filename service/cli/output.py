"""What the commands print: people get tables, programs get one JSON object."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.contract import Goal, Reason, Verdict
    from optimizer.result import Certificate, GoalCertificate, Result

TOP_GROUPS = 6  # groups of reasons shown for what was left out
TOP_REASONS = 200  # reasons `explain` prints before it only counts
EXACT = 1e-9  # a gap below this is told as "none"


def complain(message: str) -> None:
    """One message on standard error."""
    print(f"quartermaster: {message}", file=sys.stderr)  # noqa: T201  (plain, so that no markup or wrapping touches the user's names)


def console() -> Console:
    """Where tables go: standard output, wide enough to keep rows whole when it is a file or a pipe."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=140)


def finite(value: float | None) -> float | None:
    """The number, or None for what JSON cannot say: NaN and infinity."""
    return value if value is not None and math.isfinite(value) else None


def bound_percent(certificate: Certificate | None, metrics: dict[str, float]) -> float | None:
    """The bound of a goal told in units of a capacity, in per cent of it: None when there is no such goal or no bound."""
    if certificate is None:
        return None
    for goal in certificate.goals:
        capacity = metrics.get(f"capacity_{goal.unit.lower()}")
        if capacity and math.isfinite(goal.bound):
            return 100.0 * goal.bound / capacity
    return None


def as_object(result: Result) -> str:
    """The result as one JSON object; a number that is not known is null."""
    certificate, verdict = result.certificate, result.verdict
    metrics: dict[str, float | None] = {}
    if verdict is not None:
        metrics = {name: finite(value) for name, value in verdict.metrics.items()}
        if any(name.startswith("capacity_") for name in metrics):
            metrics["bound_percent"] = finite(bound_percent(certificate, verdict.metrics))
    told = {
        "kind": result.kind,
        "outcome": result.outcome.value,
        "stop_reason": result.stop_reason.value,
        "objective": finite(certificate.objective) if certificate is not None else None,
        "bound": finite(certificate.bound) if certificate is not None else None,
        "gap": finite(certificate.gap) if certificate is not None else None,
        "seconds": result.seconds,
        "verified": certificate is not None and certificate.verified,
        "metrics": metrics,
    }
    return json.dumps(told, allow_nan=False)


def show_result(result: Result, written: Sequence[tuple[str, str]]) -> None:
    """The summary for people: outcome, certificate, key figures, time by phase, what was left out, files written."""
    out = console()
    out.print(_headline(result))
    if result.certificate is not None:
        out.print(_certificate(result.certificate))
    if result.verdict is not None and result.verdict.metrics:
        percent = bound_percent(result.certificate, result.verdict.metrics)
        figures = result.verdict.metrics | ({"bound_percent": percent} if percent is not None else {})
        out.print(_pairs("Figures", {_words(name): number(value) for name, value in figures.items()}))
    if result.seconds_by_phase:
        out.print(_pairs("Seconds", {_words(name): f"{seconds:.2f}" for name, seconds in result.seconds_by_phase.items()}))
    if result.conflict is not None:
        _show_conflict(out, result)
    _show_left_out(out, result.reasons)
    for what, path in written:
        out.print(f"{what}: {escape(path)}", soft_wrap=True)


def _headline(result: Result) -> str:
    colour = "green" if result.plan is not None else "red"
    words = {
        "optimal": "Optimal: the plan is proved best within the asked gap",
        "feasible": "A plan was found",
        "infeasible": "Proved infeasible: no plan can keep every rule",
        "unbounded": "Unbounded: the goal can grow without limit",
        "no_plan": "No plan was found",
    }[result.outcome.value]
    stopped = "" if result.outcome.value == "infeasible" else f"stopped by {result.stop_reason.value} "
    message = f" {escape(result.message)}" if result.message else ""
    return f"[bold {colour}]{words}[/] ({result.kind}, {stopped}after {result.seconds:.2f} s).{message}"


def _certificate(certificate: Certificate) -> Table:
    state = "checked independently" if certificate.verified else "NOT verified"
    table = Table(title=f"Certificate: {state}, by {escape(certificate.strategy)}, seed {certificate.seed}", title_justify="left")
    table.add_column("goal")
    for name in ("objective", "bound", "gap"):
        table.add_column(name, justify="right")
    table.add_column("how it is proved")
    for goal in certificate.goals:
        table.add_row(
            f"{_words(goal.name)} ({goal.sense})",
            f"{number(goal.objective)} {goal.unit}",
            number(goal.bound),
            _gap(goal),
            escape(goal.method),
        )
    return table


def _gap(goal: GoalCertificate) -> str:
    if not math.isfinite(goal.gap):
        return "unknown"
    return "none" if goal.gap < EXACT else f"{goal.gap:.3%}"


def number(value: float) -> str:
    """A number for people: thousands separated, at most four decimals, ``unknown`` when not finite."""
    if not math.isfinite(value):
        return "unknown"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4f}".rstrip("0").rstrip(".")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _pairs(title: str, pairs: dict[str, str]) -> str:
    return f"[bold]{title}[/]  " + "   ".join(f"{name} [bold]{escape(value)}[/]" for name, value in pairs.items())


def _show_conflict(out: Console, result: Result) -> None:
    if result.conflict is None:
        return
    out.print(f"[bold]These rules cannot hold together[/] ({result.conflict.status}):")
    for rule, ids in result.conflict.rules:
        out.print(f"  {rule}" + (f"  {escape(', '.join(ids))}" if ids else ""))
    if result.conflict.repairs:
        out.print("[bold]The cheapest repair:[/]")
        for repair in result.conflict.repairs:
            out.print(f"  {escape(repair)}")


def _show_left_out(out: Console, reasons: Iterable[Reason]) -> None:
    """Groups of why-not reasons, the largest first, each with one example."""
    left_out = [reason for reason in reasons if reason.code == "why_not"]
    if not left_out:
        return
    subjects = {reason.subject for reason in left_out}
    counts = Counter((reason.rule, reason.status) for reason in left_out)
    example = {(reason.rule, reason.status): reason for reason in reversed(left_out)}
    table = Table(title=f"Not in the plan: {len(subjects):,}", title_justify="left")
    for name in ("because of", "how many", "known by", "for example"):
        table.add_column(name, justify="right" if name == "how many" else "left")
    for group, count in counts.most_common(TOP_GROUPS):
        one = example[group]
        table.add_row(_words(group[0]), f"{count:,}", "proof" if group[1] == "proved" else "search", escape(f"{one.subject}: {one.text}"))
    out.print(table)
    if len(counts) > TOP_GROUPS:
        out.print(f"and {len(counts) - TOP_GROUPS} more reasons; `quartermaster explain` or --report shows them all")


def show_verdict(verdict: Verdict, goals: Sequence[Goal]) -> None:
    """What an independent check found."""
    out = console()
    units = {goal.name: goal.unit for goal in goals}
    out.print(
        "[bold green]The plan keeps every rule.[/]" if verdict.ok else f"[bold red]The plan breaks rules: {verdict.violation_count:,}.[/]"
    )
    out.print(
        _pairs("Goals", {_words(name): f"{number(value)} {units.get(name, '')}".rstrip() for name, value in verdict.objectives.items()})
    )
    if verdict.metrics:
        out.print(_pairs("Figures", {_words(name): number(value) for name, value in verdict.metrics.items()}))
    if verdict.violations:
        table = Table()
        for name in ("rule", "on", "by", "what is wrong"):
            table.add_column(name)
        for violation in verdict.violations:
            amount = f"{number(violation.amount)} {violation.unit}"
            table.add_row(violation.rule, escape(", ".join(violation.ids)), amount, escape(violation.message))
        out.print(table)
        if verdict.violation_count > len(verdict.violations):
            out.print(f"and {verdict.violation_count - len(verdict.violations):,} more")


def show_reasons(reasons: Sequence[Reason], subject: str | None) -> None:
    """Explanations, one a line, those of one subject together."""
    out = console()
    if not reasons:
        out.print("There is nothing to explain" + (f" about {escape(subject)}." if subject else ": everything asked for is in the plan."))
        return
    told = ""
    for reason in reasons[:TOP_REASONS]:
        if reason.subject != told or reason is reasons[0]:
            told = reason.subject
            out.print(f"[bold]{escape(told) or 'The whole plan'}[/]")
        out.print(f"  {escape(reason.text)} [dim]\\[{reason.code}, {reason.rule}, {reason.status}][/]", soft_wrap=True)
    if len(reasons) > TOP_REASONS:
        out.print(f"and {len(reasons) - TOP_REASONS:,} more; --subject ID shows those of one")

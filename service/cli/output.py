"""What the commands print: people get tables, programs get one JSON object."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from models import catalogue
from service.answers import bound_percent, summary
from service.reasons import causes
from service.wording import by_rule, few, found_by, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.contract import Goal, Reason, Verdict
    from optimizer.result import Certificate, Conflict, Result

TOP_GROUPS = 6  # groups of reasons shown for what was left out
TOP_CHANGES = 5  # moved or evicted things that are told one by one
TOP_REPAIRS = 20
TOP_REASONS = 200  # reasons `explain` prints before it only counts
EXACT = 1e-9  # a gap below this is told as "none"
SHORTEST_S = 0.005  # a phase shorter than this would be told as 0.00


def complain(message: str) -> None:
    """One message on standard error."""
    print(f"quartermaster: {message}", file=sys.stderr)  # noqa: T201  (plain, so that no markup or wrapping touches the user's names)


def console() -> Console:
    """Where tables go: standard output, wide enough to keep rows whole when it is a file or a pipe."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=140)


def as_object(result: Result) -> str:
    """The result as one JSON object; a number that is not known is null."""
    return json.dumps(summary(result), allow_nan=False)


def show_result(result: Result, written: Sequence[tuple[str, str]], alike: Sequence[tuple[str, ...]] = ()) -> None:
    """The summary for people: outcome, certificate, key figures, time by phase, what was left out, files written.

    ``alike`` are groups of left-out ids that share the reasons of their first (``models.contract.Kind.alike``).
    """
    out = console()
    out.print(_headline(result))
    if result.certificate is not None:
        out.print(_certificate(result.certificate))
    if result.verdict is not None and result.verdict.metrics:
        percent = bound_percent(result.certificate, result.verdict.metrics)
        figures = result.verdict.metrics | ({"bound_percent": percent} if percent is not None else {})
        _show_pairs(out, "Figures", [(words(name), number(value)) for name, value in figures.items()])
    if result.seconds_by_phase:
        spent = [(words(name), f"{seconds:.2f}") for name, seconds in result.seconds_by_phase.items() if seconds >= SHORTEST_S]
        _show_pairs(out, "Seconds", spent)
    if result.conflict is not None:
        _show_conflict(out, result.conflict)
    _show_changes(out, result.reasons)
    _show_left_out(out, catalogue.kind(result.kind).left_out, result.reasons, alike)
    for what, path in written:
        out.print(f"{what}: {escape(path)}", soft_wrap=True)


def _headline(result: Result) -> str:
    colour = "green" if result.plan is not None else "red"
    told = {
        "optimal": "Optimal: the plan is proved best within the asked gap",
        "feasible": "A plan was found",
        "infeasible": "Proved infeasible: no plan can keep every rule",
        "unbounded": "Unbounded: the goal can grow without limit",
        "no_plan": "No plan was found",
    }[result.outcome.value]
    stopped = "" if result.outcome.value == "infeasible" else f"stopped by {result.stop_reason.value} "
    message = f" {escape(result.message[:1].upper() + result.message[1:])}." if result.message else ""
    return f"[bold {colour}]{told}[/] ({result.kind}, {stopped}after {result.seconds:.2f} s).{message}"


def _certificate(certificate: Certificate) -> Table:
    state = "checked independently" if certificate.verified else "NOT verified"
    found = f"plan found by {escape(found_by(certificate))}, seed {certificate.seed}"
    table = Table(title=f"Certificate: {state}; {found}", title_justify="left", title_style="bold")
    table.add_column("goal")
    for name in ("objective", "bound", "gap"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("how it is proved")
    for goal in certificate.goals:
        exact = goal.gap < EXACT
        table.add_row(
            f"{words(goal.name)} ({goal.sense})",
            with_unit(goal.objective, goal.name, goal.unit),
            number(goal.objective if exact else goal.bound),
            "none" if exact else f"{goal.gap:.3%}" if math.isfinite(goal.gap) else "unknown",
            escape(goal.method),
        )
    return table


def number(value: float) -> str:
    """A number for people: thousands separated, at most four decimals, ``unknown`` when not finite."""
    if not math.isfinite(value):
        return "unknown"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4f}".rstrip("0").rstrip(".")


def with_unit(value: float, name: str, unit: str) -> str:
    """``4 jobs``; without the unit where the name says it already (``placed value``, ``allocated GPUs``)."""
    return number(value) if not unit or unit.lower() in name.split("_") else _amount(value, unit)


def _amount(value: float, unit: str) -> str:
    counted = "/" not in unit  # of Gbit/s there is no plural
    return f"{number(value)} {unit.removesuffix('s') if value == 1 and counted else unit}"


def _show_pairs(out: Console, title: str, pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values in lines that break between pairs, never within one."""
    lines, length = [f"[bold]{title}[/]"], len(title)
    for name, value in pairs:
        size = len(name) + len(value) + 4
        if length + size > out.width:
            lines.append(" " * len(title))
            length = len(title)
        lines[-1] += f"   {escape(name)} [bold]{escape(value)}[/]"
        length += size
    for line in lines:
        out.print(line, soft_wrap=True)


def _show_conflict(out: Console, conflict: Conflict) -> None:
    if conflict.rules:
        out.print(f"[bold]These rules cannot hold together[/] ({conflict.status}):")
    else:
        out.print("Which rules cannot hold together was not found out in time; a longer --time-limit may tell.")
    for rule, names in by_rule(conflict.rules):
        out.print(f"  {rule}" + (f": {escape(few(names))}" if names else ""), soft_wrap=True)
    if conflict.repairs:
        out.print("[bold]The cheapest repair:[/]")
        for repair in conflict.repairs[:TOP_REPAIRS]:
            out.print(f"  {escape(repair)}", soft_wrap=True)
        if len(conflict.repairs) > TOP_REPAIRS:
            out.print(f"  and {len(conflict.repairs) - TOP_REPAIRS:,} more")


def _show_changes(out: Console, reasons: Iterable[Reason]) -> None:
    """What was moved and evicted: how many, and the first few with the reason."""
    for code in ("evicted", "moved"):
        changed = [reason for reason in reasons if reason.code == code and reason.subject]
        subjects = dict.fromkeys(reason.subject for reason in changed)
        if not subjects:
            continue
        out.print(f"[bold]{code.capitalize()}: {len(subjects):,}[/]")
        for reason in changed[:TOP_CHANGES]:
            out.print(f"  {escape(reason.subject)}: {escape(reason.text)}", soft_wrap=True)
        if len(changed) > TOP_CHANGES:
            out.print("  the plan lists them all")


def _show_left_out(out: Console, heading: str, reasons: Iterable[Reason], alike: Sequence[tuple[str, ...]]) -> None:
    """What was left out by its first reason, the largest group first, each with one example."""
    found = causes(reasons, alike)
    if not found:
        return
    table = Table(title=f"{heading}: {sum(cause.size for cause in found):,}", title_justify="left", title_style="bold")
    for name in ("because of", "how many", "known by", "for example"):
        table.add_column(name, justify="right" if name == "how many" else "left")
    for cause in found[:TOP_GROUPS]:
        first = cause.members[0]
        known = {"proved": "proof", "heuristic": "search"}.get(cause.status, "")
        text = f"{first.ids[0]}: {first.reasons[0].text}" if first.reasons else f"{first.ids[0]}: ask with explain --subject"
        table.add_row(words(cause.rule) or "not explained", f"{cause.size:,}", known, escape(text))
    out.print(table)
    if len(found) > TOP_GROUPS:
        out.print(f"and {len(found) - TOP_GROUPS} more reasons; `quartermaster explain` or --report shows them all")


def show_verdict(verdict: Verdict, goals: Sequence[Goal]) -> None:
    """What an independent check found."""
    out = console()
    units = {goal.name: goal.unit for goal in goals}
    out.print(
        "[bold green]The plan keeps every rule.[/]" if verdict.ok else f"[bold red]The plan breaks rules: {verdict.violation_count:,}.[/]"
    )
    _show_pairs(out, "Goals", [(words(name), with_unit(value, name, units.get(name, ""))) for name, value in verdict.objectives.items()])
    if verdict.metrics:
        _show_pairs(out, "Figures", [(words(name), number(value)) for name, value in verdict.metrics.items()])
    if verdict.violations:
        table = Table()
        for name in ("rule", "on", "by", "what is wrong"):
            table.add_column(name)
        for violation in verdict.violations:
            table.add_row(
                violation.rule, escape(", ".join(violation.ids)), _amount(violation.amount, violation.unit), escape(violation.message)
            )
        out.print(table)
        if verdict.violation_count > len(verdict.violations):
            out.print(f"and {verdict.violation_count - len(verdict.violations):,} more")


def show_reasons(reasons: Sequence[Reason], subject: str | None) -> None:
    """Explanations, those of one subject together; one a line in a pipe, indented on a terminal."""
    out = console()
    if not reasons:
        out.print("There is nothing to explain" + (f" about {escape(subject)}." if subject else ": everything asked for is in the plan."))
        return
    told = ""
    for reason in reasons[:TOP_REASONS]:
        if reason.subject != told or reason is reasons[0]:
            told = reason.subject
            out.print(f"[bold]{escape(told) or 'The whole plan'}[/]")
        text = f"{escape(reason.text)} [dim]\\[{reason.code}, {reason.rule}, {reason.status}][/]"
        if out.is_terminal:
            out.print(Padding(text, (0, 0, 0, 2)))
        else:
            out.print(f"  {text}", soft_wrap=True)
    if len(reasons) > TOP_REASONS:
        out.print(f"and {len(reasons) - TOP_REASONS:,} more; --subject ID shows those of one")

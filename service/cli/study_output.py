"""What the ``study`` commands print: the table with its certificates, gates and the recommendation; for programs one JSON object."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table as Lines

from optimizer.study.conclusions.gates import Standing
from optimizer.study.conclusions.wording import figure
from service.cli.output import console, number
from service.studies.frame import columns_of
from service.studies.wording import against, label_of, outcome_words, span_words
from service.wording import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from optimizer.study.conclusions.gates import Judged
    from optimizer.study.conclusions.paired import Paired
    from optimizer.study.rows import Answered
    from optimizer.study.run import Table
    from service.studies.comparison import Comparison
    from service.studies.conclusions import Conclusions
    from service.studies.whole import Whole

MOST_LINES = 40  # of the table on a terminal; the files have all
MOST_GATES = 12
EXACT = 1e-9


def as_object(whole: Whole, told: Conclusions) -> dict[str, Any]:
    """The study as one JSON object."""
    table = whole.table
    columns = columns_of(table, told)
    return {
        "study": table.study.name,
        "kind": table.study.kind,
        "scenarios": [dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)],
        "reused": table.reused,
        "solved": table.solved,
        "failed": table.failed,
        "missing": table.missing,
        "seconds": table.seconds,
        "differences": {name: one.as_json() for name, one in told.differences.items()},
        "gates": [one.as_json() for one in told.gates],
        "paired": [one.as_json() for one in told.paired],
        "asks": list(whole.asks),
        "recommendation": told.advice.paragraph,
        "complaints": list(table.complaints),
        "exit_code": int(told.exit_code),
    }


def show_study(whole: Whole, told: Conclusions, files: Sequence[tuple[str, str]]) -> None:
    """The study for people."""
    out, table = console(), whole.table
    out.print(_headline(table), soft_wrap=True)
    out.print(_lines(table, told))
    if len(table.answered) > MOST_LINES:
        out.print(f"and {len(table.answered) - MOST_LINES:,} more lines in the files")
    _show_paired(out, told.paired)
    _show_gates(out, told.gates)
    _show_failures(out, table)
    _show_sentences(out, "Asked", [_ask(one) for one in whole.asks])
    _show_sentences(out, "Recommendation", [told.advice.paragraph])
    for what, path in files:
        out.print(f"{what}: {escape(path)}", soft_wrap=True)


def show_comparison(found: Comparison) -> None:
    """B against A for people: one pair in full, many as a table."""
    out = console()
    if len(found.differences) == 1:
        out.print(escape(found.differences[0].text), soft_wrap=True)
    else:
        counts = ", ".join(f"{count:,} {words(name).replace('equal within', 'equal')}" for name, count in found.counts.items())
        out.print(f"[bold]{len(found.differences):,} pairs in {escape(words(found.metric))}[/]: {counts}", soft_wrap=True)
        made = Lines(*(("scenario",) if found.by_label else ("A", "B")), "B against A, certain")
        for one, label in list(zip(found.differences, found.labels, strict=True))[:MOST_LINES]:
            made.add_row(*((escape(label),) if found.by_label else (escape(one.a), escape(one.b))), escape(against(one)))
        out.print(made)
        if len(found.differences) > MOST_LINES:
            out.print(f"and {len(found.differences) - MOST_LINES:,} more; --json has all")
    if found.unpaired:
        more = f" and {len(found.unpaired) - MOST_GATES:,} more" if len(found.unpaired) > MOST_GATES else ""
        out.print(f"only on one side: {escape(', '.join(found.unpaired[:MOST_GATES]))}{more}", soft_wrap=True)
    if not found.same_base:
        out.print(
            "The base problems differ: every difference is between two problems, whatever their scenarios are called.", soft_wrap=True
        )


def _headline(table: Table) -> str:
    parts = [
        f"{len(table.scenarios):,} {'scenario' if len(table.scenarios) == 1 else 'scenarios'}",
        f"{table.solved:,} solved now in {table.seconds:.1f} s" if table.solved else "nothing solved now",
    ]
    parts += [f"{table.reused:,} known before"] if table.reused else []
    parts += [f"[red]{table.failed:,} failed[/]"] if table.failed else []
    parts += [f"[red]{table.missing:,} not answered yet[/]"] if table.missing else []
    return f"[bold]{escape(table.study.title or table.study.name)}[/] ({table.study.kind}): {', '.join(parts)}"


def _lines(table: Table, told: Conclusions) -> Lines:
    made = Lines(title="Every plan is verified, every span certain", title_justify="left", title_style="bold")
    made.add_column("scenario")
    goal = words(told.goal or "goal") + (f" [{told.unit}]" if told.unit else "")
    for head in (goal, "bound", "gap", "optimum against the baseline"):
        made.add_column(escape(head), justify="right")
    spends = any(one.scenario.spend_usd for one in table.answered)
    if spends:
        made.add_column("USD", justify="right")
    for one in table.answered[:MOST_LINES]:
        label = label_of(one.scenario, numbered=table.study.replicates > 1)
        label += " (baseline)" if one.scenario.is_baseline and one.scenario.values else ""
        cost = [number(one.scenario.spend_usd)] if spends else []
        made.add_row(escape(label), *_figures(one), escape(against(told.differences.get(one.scenario.id)) if one.row.goals else ""), *cost)
    return made


def _figures(one: Answered) -> tuple[str, str, str]:
    if not one.row.goals:
        return outcome_words(one.row), "", ""
    goal = one.row.goals[0]
    exact = goal.gap < EXACT
    gap = "none" if exact else f"{goal.gap:.3%}" if math.isfinite(goal.gap) else "unknown"
    return number(goal.objective), number(goal.objective if exact else goal.bound), gap


def _ask(one: dict[str, Any]) -> str:
    what = {"sweep": f"sweep of {one.get('axis')}", "pareto": f"{one.get('first')} for {one.get('second')}"}
    return f"{what.get(one['ask'], one['ask'])}: " + (f"no answer: {one['failure']}" if one["failure"] else one["sentence"])


def _show_sentences(out: Console, title: str, sentences: Sequence[str]) -> None:
    if sentences:
        out.print(f"[bold]{title}[/]")
    for one in sentences[:MOST_LINES]:
        out.print(f"  {escape(one)}", soft_wrap=True)


def _show_paired(out: Console, found: Sequence[Paired]) -> None:
    if not found:
        return
    pairs = max(one.pairs for one in found)
    title = f"Over {pairs} {'replicate' if pairs == 1 else 'replicates'}, against the baseline in {words(found[0].goal)}"
    made = Lines(title=escape(title), title_justify="left", title_style="bold")
    made.add_column("scenario")
    for head in ("better, worse, equal, open", "mean, certain", f"of all there could be ({found[0].level:.0%})", "sign test p"):
        made.add_column(head, justify="right")
    for one in found[:MOST_LINES]:
        left_out = f" ({one.unpaired} left out)" if one.unpaired else ""
        counts = f"{one.wins}, {one.losses}, {one.ties}, {one.undecided}{left_out}"
        mean = "" if one.mean is None else span_words(one.mean, one.unit)
        likely = "" if one.confidence is None else span_words(one.confidence, one.unit)
        made.add_row(escape(one.label), counts, escape(mean), escape(likely), "" if one.sign is None else figure(one.sign, 2, towards=1))
    out.print(made)


def _show_gates(out: Console, gates: Sequence[Judged]) -> None:
    if not gates:
        return
    counts = {standing: sum(one.standing is standing for one in gates) for standing in Standing}
    out.print("[bold]Gates[/]: " + ", ".join(f"{count} {standing.value}" for standing, count in counts.items() if count))
    broken = [one for one in gates if one.standing is not Standing.passed]
    for one in broken[:MOST_GATES]:
        colour = "red" if one.standing is Standing.failed else "yellow"
        out.print(f"  [{colour}]{one.standing.value}[/] {escape(one.gate)}: {escape(_first_sentence(one.text))}", soft_wrap=True)
    if len(broken) > MOST_GATES:
        out.print(f"  and {len(broken) - MOST_GATES} more")


def _first_sentence(text: str) -> str:
    """What is so; what would decide it is in the report."""
    first, _, rest = text.partition(". ")
    return f"{first}." if rest else text


def _show_failures(out: Console, table: Table) -> None:
    failed = [one for one in table.answered if one.row.failure]
    for one in failed[:MOST_GATES]:
        out.print(f"  [red]failed[/] {escape(one.scenario.label)}: {escape((one.row.failure or '').splitlines()[0])}", soft_wrap=True)
    if len(failed) > MOST_GATES:
        out.print(f"  and {len(failed) - MOST_GATES} more failed")

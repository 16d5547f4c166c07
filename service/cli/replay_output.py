"""What the command ``replay`` prints for people: a table for each trace, and what is certain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.cli.output import console
from service.report.replay_numbers import headline, leading, short, title_of, with_interval
from service.wording import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.replay.comparison import Compared
    from service.replay.fill_whole import WholeFill
    from service.replay.whole import Whole

SHOWN = (
    "jct_mean_s",
    "jct_p99_s",
    "slowdown_mean",
    "waiting_mean_s",
    "gang_waiting_mean_s",
    "allocated_percent",
    "fragmented_percent",
    "utilised_percent",
    "blocked_percent",
    "evictions",
    "lost_gpu_h",
)
WIDE = 200  # of a file or a pipe, in letters: a column for each policy
COLOURS = {"better": "green", "worse": "red"}


def show_replays(whole: Whole, files: Sequence[tuple[str, str]]) -> None:
    """The tables, notes and files."""
    out = console()
    out = out if out.is_terminal else Console(highlight=False, width=WIDE)
    for trace in dict.fromkeys(one.trace for one in whole.replays):
        out.print(f"[bold]{escape(headline(whole, trace))}[/]", soft_wrap=True)
        out.print(escape(leading(whole, trace)), soft_wrap=True)
        out.print(_table(whole, trace))
    out.print("Means over the seeds, ± half of their 95% interval. In colour: better or worse than the first policy, seed by seed (95%).")
    for note in whole.notes:
        out.print(f"note: {escape(note)}", soft_wrap=True)
    for what, path in files:
        out.print(f"{what}: {escape(path)}", soft_wrap=True)


def show_fills(whole: WholeFill, files: Sequence[tuple[str, str]]) -> None:
    """A table for each trace: allocated GPUs, and what each policy has more than each named before it; then notes and files."""
    out = console()
    out = out if out.is_terminal else Console(highlight=False, width=WIDE)
    size = f"{whole.settings['cluster_nodes']:,} nodes with {whole.settings['cluster_gpus']:,} GPUs"
    for trace in dict.fromkeys(one.trace for one in whole.fills):
        counts = [one.jobs for one in whole.fills if one.trace == trace]
        least, most, seeds = min(counts), max(counts), len({one.seed for one in whole.fills if one.trace == trace})
        many = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        out.print(f"[bold]{escape(trace)}: {many} jobs fill {size}, {seeds} seed{'' if seeds == 1 else 's'}[/]", soft_wrap=True)
        out.print(_fill_table(whole, trace))
        for text in _of_bounds(whole, trace):
            out.print(text, soft_wrap=True)
    out.print("Means over the seeds, ± half of their 95% interval; differences in points, seed by seed, with theirs.", soft_wrap=True)
    for note in whole.notes:
        out.print(f"note: {escape(note)}", soft_wrap=True)
    for what, path in files:
        out.print(f"{what}: {escape(path)}", soft_wrap=True)


def _fill_table(whole: WholeFill, trace: str) -> Table:
    own = {(one.policy, one.measure): one for one in whole.compared if one.trace == trace}
    policies = list(dict.fromkeys(policy for policy, _ in own))
    over = {(first, one.policy): one for first, one in whole.pairs if one.trace == trace}
    table = Table()
    table.add_column("policy", no_wrap=True)
    for title in ("allocated", "refused", "moves", *(f"over {words(policy)}" for policy in policies[:-1])):
        table.add_column(escape(title), justify="right")
    for policy in policies:
        allocated = _points(own[policy, "allocated_percent"])
        counts = [f"{own[policy, name].mean or 0:,.4g}" for name in ("refused", "moves")]
        table.add_row(escape(policy), allocated, *counts, *(_more(over.get((first, policy))) for first in policies[:-1]))
    return table


def _points(one: Compared) -> str:
    half = "" if one.low is None or one.high is None else f" ± {(one.high - one.low) / 2:.2f}"
    return f"{one.mean:.2f}%{half}"


def _more(one: Compared | None) -> str:
    """``+2.23 ± 0.10``, in colour where it is certain; nothing for a pair that is not told."""
    if one is None or one.difference is None:
        return ""
    half = "" if one.difference_low is None or one.difference_high is None else f" ± {(one.difference_high - one.difference_low) / 2:.2f}"
    text, colour = f"{one.difference:+.2f}{half}", COLOURS.get(one.finding)
    return f"[{colour}]{text}[/]" if colour else text


def _of_bounds(whole: WholeFill, trace: str) -> list[str]:
    from service.replay.fill_whole import mean_bounds

    least, same = mean_bounds(whole.bounds, trace)
    told = [] if least is None else [f"No policy can allocate more than {least:.2f}% (mean over the seeds)."]
    if same is not None:
        told.append(
            f"None can allocate more than {same:.2f}% that takes all jobs up to the first that quartermaster refused; moves change nothing."
        )
    return told


def _table(whole: Whole, trace: str) -> Table:
    """A line for each measure, a column for each policy."""
    own = [one for one in whole.compared if one.trace == trace]
    policies = list(dict.fromkeys(one.policy for one in own))
    table = Table()
    table.add_column("mean over the seeds", no_wrap=True)
    for policy in policies:
        table.add_column(escape(policy), justify="right", no_wrap=True)
    for name in SHOWN:
        found = {one.policy: one for one in own if one.measure == name}
        table.add_row(title_of(name), *(_cell(found[policy]) for policy in policies))
    spent = {policy: [one.cpu_s for one in whole.replays if one.trace == trace and one.policy == policy] for policy in policies}
    table.add_row("CPU seconds", *(short(sum(spent[policy]) / len(spent[policy])) for policy in policies), style="dim")
    return table


def _cell(one: Compared) -> str:
    colour, text = COLOURS.get(one.finding), escape(with_interval(one))
    return f"[{colour}]{text}[/]" if colour else text

"""What the command ``replay`` prints for people: a table for each trace, and what is certain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.cli.output import console
from service.report.replay_numbers import headline, leading, short, title_of, with_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.replay.comparison import Compared
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

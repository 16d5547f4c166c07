"""The command line of the benchmarks: ``python -m benchmarks run KIND`` and ``python -m benchmarks list``."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.lines import measure as measure_lines
from benchmarks.measure import OURS
from benchmarks.process import measured
from benchmarks.saving import free_name, save
from benchmarks.suite import Instance, UnknownNameError, kinds, known, suite

RESULTS = Path(__file__).resolve().parent / "results"
# Beside the kinds: promises of other rooms of the house, each module with its LINES, and linear programs solved together.
TOPICS = {"service": "benchmarks.service.table", "studies": "benchmarks.studies", "plugins": "benchmarks.plugins.table"}
BATCH = "batch"
ONE_SECOND_S = 1.0
ONE_SECOND_WALL_S = 2.0  # within this a verified plan must be back when the limit is one second

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Measures Quartermaster on its benchmark instances.")
console = Console()


@app.command("list")
def show() -> None:
    """List the kinds, their instances, what must hold on each, and the baselines."""
    for kind in kinds():
        table = Table(title=kind, show_lines=True)
        for column in ("instance", "what", "limit", "must hold", "baselines"):
            table.add_column(column, overflow="fold")
        for one in suite(kind).instances:
            targets = "\n".join(str(target) for target in one.targets)
            table.add_row(one.name, one.summary, f"{one.time_limit_s:g} s", targets, "\n".join(one.baselines))
        console.print(table)


@app.command()
def run(
    kind: str,
    *,
    instances: Annotated[str, typer.Option(help="Names of instances, separated by commas; left out: all.")] = "",
    time_limit: Annotated[float | None, typer.Option(help="Seconds for each solve in place of the instance's own limit.", min=0.01)] = None,
    one_second: Annotated[bool, typer.Option(help="Solve each instance a second time with a limit of 1 s.")] = True,
    baselines: Annotated[bool, typer.Option(help="Measure the baselines too.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the solves.", min=0)] = 0,
    threads: Annotated[int, typer.Option(help="Threads of each solve.", min=1)] = 2,
    out: Annotated[Path | None, typer.Option(help="File for the table as JSON; left out: a dated one in benchmarks/results.")] = None,
) -> None:
    """Measure the instances of KIND (or the lines of `service`, `studies`, `plugins` or `batch`) one after another and save the table.

    No file is ever overwritten.
    """
    if kind in TOPICS:
        lines = import_module(TOPICS[kind]).LINES
        raise typer.Exit(measure_lines(kind, lines, instances, out or free_name(RESULTS, kind, datetime.now(UTC))))
    if kind == BATCH:
        from benchmarks.batch import measure as measure_batch

        raise typer.Exit(measure_batch(instances, out or free_name(RESULTS, kind, datetime.now(UTC))))
    try:
        chosen = suite(kind)
        wanted = [chosen.instance(name.strip()) for name in instances.split(",")] if instances else list(chosen.instances)
    except UnknownNameError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from None
    target = out or free_name(RESULTS, kind, datetime.now(UTC))
    if target.exists():
        console.print(f"[red]{target.name} is there already; results are never overwritten: name another file[/red]")
        raise typer.Exit(2)
    for one in wanted:
        if not one.at_hand:
            console.print(f"{one.name} is left out: its data ({one.needs}) is not on this machine")
    rows = []
    for one in (one for one in wanted if one.at_hand):
        row = measure_instance(kind, one, time_limit or one.time_limit_s, seed, threads, one_second=one_second, baselines=baselines)
        rows.append(row)
        console.print(described(row))
    report = {
        "kind": kind,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.facts(),
        "seed": seed,
        "threads": threads,
        "instances": rows,
    }
    save(target, report)
    console.print(summary(rows))
    console.print(f"saved as {target.name}")
    raise typer.Exit(0 if all(row.get("verified") for row in rows) else 1)


def measure_instance(
    kind: str, one: Instance, seconds: float, seed: int, threads: int, *, one_second: bool = True, baselines: bool = True
) -> dict[str, Any]:
    """One row: the solve at its limit, at one second, the baselines, and which targets are met."""
    row: dict[str, Any] = {"instance": one.name, "time_limit_s": seconds, "known": known(kind, one.name)}
    row |= measured(kind, one.name, OURS, seconds, seed, threads)
    if one_second:
        quick = measured(kind, one.name, OURS, ONE_SECOND_S, seed, threads)
        row["one_second"] = quick
        row["one_second_in_time"] = bool(quick.get("verified")) and quick.get("solve_wall_s", 1e9) <= ONE_SECOND_WALL_S
    if baselines:
        row["baselines"] = [measured(kind, one.name, name, seconds, seed, threads) for name in one.baselines]
        ahead = lead(row)
        if ahead is not None:
            row["ahead_of_baselines"] = ahead
    row["targets"] = [{"target": str(target), "met": target.met(row)} for target in one.targets]
    return row


def lead(row: dict[str, Any]) -> float | None:
    """By how much the plan beats the best verified baseline in the first goal (below 0: it does not); None without either."""
    values = [float(other["objective"]) for other in row["baselines"] if other.get("verified")]
    if not values or not row.get("goals"):
        return None
    mine = float(row["objective"])
    return mine - max(values) if row["goals"][0]["sense"] == "maximise" else min(values) - mine


def described(row: dict[str, Any]) -> Table:
    """One instance in full: ours, ours within a second, and the baselines."""
    table = Table(title=f"{row['instance']} ({row['time_limit_s']:g} s)")
    for column in ("rule", "seconds", "first goal", "allocated %", "verified", "memory GB", "note"):
        table.add_column(column, justify="right" if column in {"seconds", "first goal", "allocated %", "memory GB"} else "left")
    entries = [(OURS, row, row.get("solve_wall_s"))]
    if "one_second" in row:
        entries.append((f"{OURS}, 1 s", row["one_second"], row["one_second"].get("solve_wall_s")))
    entries += [(other["baseline"], other, other.get("seconds")) for other in row.get("baselines", [])]
    for name, entry, seconds in entries:
        verified = "yes" if entry.get("verified") else "no"
        note = str(entry.get("message", "")).splitlines()[:1]
        numbers = (_number(seconds, 2), _number(entry.get("objective"), 2), _number(entry.get("allocated_percent"), 2))
        table.add_row(name, *numbers, verified, _number(entry.get("peak_memory_gb"), 2), note[0] if note else "")
    for value in (row.get("known") or {}).get("values", []):
        runs = f"mean of {value['runs']} runs" if value["runs"] > 1 else ""
        table.add_row(f"[dim]{value['status']}: {value['rule']}[/dim]", "", "", _number(value["value"], 2), "", "", runs)
    return table


def summary(rows: list[dict[str, Any]]) -> Table:
    """All instances: where the seconds went, plan, bound, gap, memory, and what was promised."""
    table = Table(title="all instances", show_lines=True)
    numeric = (
        "read s",
        "build s",
        "hand-over s",
        "solve s",
        "verify s",
        "wall s",
        "plan",
        "bound",
        "gap %",
        "memory GB",
        "1 s limit: wall s",
    )
    for column in ("instance", *numeric, "promises"):
        table.add_column(column, justify="right" if column in numeric else "left")
    for row in rows:
        seconds = [_number(row.get(f"{phase}_s"), 2) for phase in ("read", "build", "hand_over", "solve", "verify", "solve_wall")]
        gap = row.get("gap")
        quick = row.get("one_second", {})
        table.add_row(
            row["instance"],
            *seconds,
            _number(row.get("objective"), 2),
            _number(row.get("bound"), 2),
            _number(None if gap is None else 100 * gap, 3),
            _number(row.get("peak_memory_gb"), 2),
            _number(quick.get("solve_wall_s"), 2) + ("" if row.get("one_second_in_time", True) else " (late)"),
            "\n".join(f"{_MARK[promise['met']]} {promise['target']}" for promise in row["targets"]),
        )
    return table


_MARK = {True: "met", False: "MISSED", None: "not measured"}


def _number(value: object, digits: int) -> str:
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else "-"


def main() -> None:
    """Runs the command line."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # what is told are the tables
    app()


if __name__ == "__main__":
    main()

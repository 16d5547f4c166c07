"""The table of the service: its rows, what each must reach, and the measurement of them one after another."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.service import bad, chaos, measures, soak
from benchmarks.suite import Target

console = Console()


@dataclass(frozen=True, slots=True)
class Row:
    """One promise: how it is measured (in a fresh folder) and what it must reach."""

    name: str
    summary: str
    measure: Callable[[Path], dict[str, Any]]
    targets: tuple[Target, ...]


ROWS = (
    Row(
        "latency",
        "added by HTTP, database and child process to a small warm solve",
        partial(measures.added_latency, requests=400),
        (Target("added_p50_ms", "at most", 25.0), Target("added_p99_ms", "at most", 100.0)),
    ),
    Row(
        "throughput",
        "tiny linear programs, 16 clients that wait for each answer, all stored",
        partial(measures.throughput, solves=1_500),
        (Target("solves_per_s", "at least", 60.0), Target("not_succeeded", "at most", 0), Target("wrong", "at most", 0)),
    ),
    Row(
        "intake",
        "requests stored in the queue, 16 clients; then kill -9 and a restart with that queue",
        partial(measures.intake, requests=9_100),
        (
            Target("accepted_per_s", "at least", 400.0),
            Target("p99_ms", "at most", 100.0),
            Target("queued_at_restart", "at least", 9_900.0),
            Target("restart_s", "at most", 5.0),
            Target("wrong", "at most", 0),
        ),
    ),
    Row(
        "bad-requests",
        "generated, each wrong in another way",
        partial(bad.bad_requests, requests=10_000),
        (
            Target("not_4xx_problem_json", "at most", 0),
            Target("answered_5xx", "at most", 0),
            Target("runs_stored", "at most", 0),
            Target("runs_worked_on", "at most", 0),
        ),
    ),
    Row(
        "kills",
        "kill -9 of children, workers and the API at random moments",
        partial(chaos.kills, runs=500, wanted=200),
        (
            Target("runs", "at least", 500),
            Target("kills", "at least", 200),
            Target("lost", "at most", 0),
            Target("doubled", "at most", 0),
            Target("unverified", "at most", 0),
        ),
    ),
    Row(
        "deadlines",
        "runs with limits of 1 to 5 s: some stuck in presolve, some infeasible",
        partial(measures.deadlines, runs=1_000),
        (
            Target("runs", "at least", 1_000),
            Target("late_p99_s", "at most", 1.0),
            Target("without_times", "at most", 0),
            Target("wrong", "at most", 0),
        ),
    ),
    Row(
        "cancels",
        "searches that sit in presolve are cancelled",
        partial(measures.cancels, runs=40),
        (Target("answer_max_s", "at most", 2.0), Target("not_over", "at most", 0), Target("wrong", "at most", 0)),
    ),
    Row(
        "soak",
        "20 minutes of mixed load",
        partial(soak.soak, seconds=1_200.0),
        (
            Target("memory_growth", "at most", 0.10),
            Target("descriptors_left", "at most", 0),
            Target("processes_left", "at most", 0),
            Target("wrong", "at most", 0),
        ),
    ),
)


def measure(names: str, target: Path) -> int:
    """Measure the rows (names separated by commas; none: all), print and save the table; the exit code."""
    known = {row.name: row for row in ROWS}
    wanted = [name.strip() for name in names.split(",")] if names else list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown or target.exists():
        why = f"there is no row '{unknown[0]}'; the rows are {', '.join(known)}" if unknown else f"{target.name} is there already"
        console.print(f"[red]{why}[/red]")
        return 2
    rows = []
    for name in wanted:
        rows.append(_measured(known[name]))
        console.print(_table([rows[-1]]))
    report = {
        "kind": "service",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.facts(),
        "rows": rows,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("x", encoding="utf-8") as file:
        json.dump(report, file, indent=1, allow_nan=False)
        file.write("\n")
    console.print(_table(rows))
    console.print(f"saved as {target.name}")
    return 0 if all(promise["met"] for row in rows for promise in row["targets"]) else 1


def _measured(row: Row) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="quartermaster-bench-") as folder:
        figures = row.measure(Path(folder))
    told = [{"target": str(target), "met": target.met(figures)} for target in row.targets]
    return {"row": row.name, "summary": row.summary, **figures, "targets": told}


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="the service", show_lines=True)
    for column in ("row", "what", "must reach", "measured", ""):
        table.add_column(column, overflow="fold")
    for row in rows:
        for promise in row["targets"]:
            name = promise["target"].split(" ")[0]
            mark = {True: "met", False: "MISSED", None: "not measured"}[promise["met"]]
            table.add_row(row["row"], row["summary"], promise["target"], str(row.get(name)), mark)
    return table

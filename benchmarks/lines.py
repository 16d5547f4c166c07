"""Promises that are no instances of a kind: each a line, measured in a fresh folder, told beside what it must reach, kept in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.saving import save
from benchmarks.suite import Target

MARKS = {True: "met", False: "MISSED", None: "not measured"}


@dataclass(frozen=True, slots=True)
class Line:
    """One promise: how it is measured (in a fresh folder) and what it must reach.

    ``measure`` returns its numbers by name; ``{"skipped": why}`` where this machine cannot measure it.
    """

    name: str
    summary: str
    measure: Callable[[Path], dict[str, Any]]
    targets: tuple[Target, ...]


def measure(topic: str, lines: Sequence[Line], chosen: str, target: Path) -> int:
    """Measure the lines named in ``chosen`` (separated by commas; empty: all), print the table and save it as ``target``.

    The exit code: 1 where a promise is missed, 2 where nothing was measured. No file is ever overwritten.
    """
    console = Console()
    known = {line.name: line for line in lines}
    names = [name.strip() for name in chosen.split(",") if name.strip()] or list(known)
    unknown = [name for name in names if name not in known]
    if unknown or target.exists():
        why = f"there is no line '{unknown[0]}'; the lines are {', '.join(known)}" if unknown else f"{target.name} is there already"
        console.print(f"[red]{why}[/red]")
        return 2
    rows = []
    for name in names:
        rows.append(measured(known[name]))
        console.print(table(topic, [rows[-1]]))
    report = {"kind": topic, "measured": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.facts(), "rows": rows}
    save(target, report)
    if len(rows) > 1:
        console.print(table(topic, rows))
    console.print(f"saved as {target.name}")
    return 0 if all(promise["met"] for row in rows if "skipped" not in row for promise in row["targets"]) else 1


def measured(line: Line) -> dict[str, Any]:
    """A line with its numbers and what has become of its promises."""
    with tempfile.TemporaryDirectory(prefix="quartermaster-bench-") as folder:
        figures = line.measure(Path(folder))
    told = [{"target": str(target), "met": target.met(figures)} for target in line.targets]
    return {"row": line.name, "summary": line.summary, **figures, "targets": told}


def table(topic: str, rows: Sequence[dict[str, Any]]) -> Table:
    """What each line must reach, and what was measured."""
    shown = Table(title=topic)
    for column in ("line", "what", "must reach", "measured", ""):
        shown.add_column(column, overflow="fold")
    for row in rows:
        if "skipped" in row:
            shown.add_row(row["row"], row["summary"], row["skipped"], "", "left out", end_section=True)
            continue
        for place, promise in enumerate(row["targets"]):
            said = (row["row"], row["summary"]) if place == 0 else ("", "")
            value = str(row.get(promise["target"].split(" ")[0]))
            shown.add_row(*said, promise["target"], value, MARKS[promise["met"]], end_section=place == len(row["targets"]) - 1)
    return shown

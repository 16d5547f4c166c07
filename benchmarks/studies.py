"""The benchmark of what-if studies: what was promised of them, each line measured against what one would do without.

``python -m benchmarks run studies``. All that a line compares is measured in one run of it, so that its ratios hold on any machine.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine, studies_engines, studies_linear
from benchmarks.studies_certified import certified
from benchmarks.studies_kills import kills
from benchmarks.studies_linear import Sizes
from benchmarks.studies_placement import placement
from benchmarks.suite import Target

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Line:
    """One promise: how it is measured (in a fresh folder) and what it must reach."""

    name: str
    summary: str
    measure: Callable[[Path], dict[str, Any]]
    targets: tuple[Target, ...]


FAST = (Target("faster_than_fresh", "at least", 10.0), Target("times_bare", "at most", 3.0))
RIGHT = (Target("unverified", "at most", 0), Target("largest_difference", "at most", 1e-6))

LINES = (
    Line(
        "fairness-10000x6",
        "100 scenarios, other counts of 6 accelerators for 10,000 jobs; fresh: Pyomo and its HiGHS in 2 processes, by 20 of them; bare: "
        "hot HiGHS in 1 process, by 6 of them",
        # Fresh models take 5 s each, and a bare hot solve of the whole program more than that: a sample of them is measured.
        partial(studies_linear.linear, name="fairness", sizes=Sizes(fresh=20, bare=6)),
        (*FAST, *RIGHT),
    ),
    Line(
        "tiering-10000x6",
        "100 scenarios, other capacities of 4 tiers for 10,000 objects, as a linear program; fresh and bare as above, by 32 and 50 of them",
        partial(studies_linear.tiering, sizes=Sizes(fresh=32, bare=50)),
        (*FAST, *RIGHT),
    ),
    Line(
        "placement-openb",
        "100 scenarios of openb with up to 64 nodes added, lost at random or by the rack; cold: from scratch, by 12 of them",
        placement,
        (
            Target("faster_than_cold", "at least", 3.0),
            Target("less_cpu_than_cold", "at least", 3.0),
            Target("unverified", "at most", 0),
            Target("short_of_gap", "at most", 0),
        ),
    ),
    Line(
        "pool-1-2",
        "44 scenarios of about 0.3 s by one local worker and by two; steady: without the start of processes",
        studies_engines.pool,
        (Target("speedup", "at least", 1.8), Target("steady_speedup", "at least", 1.8), Target("unverified", "at most", 0)),
    ),
    Line(
        "ray-overhead",
        "milliseconds of a scenario beyond its row's own, tiny ones; with plans of 10,000 jobs: beyond what a local worker needs",
        studies_engines.ray,
        (
            Target("tiny_ray_overhead_ms", "at most", 15.0),
            Target("large_beyond_local_ms", "at most", 15.0),
            Target("unverified", "at most", 0),
        ),
    ),
    Line(
        "certified",
        "200 random pairs of knapsacks with known optima, stopped anywhere, compared both ways",
        certified,
        (Target("pairs", "at least", 200), Target("certain", "at least", 100), Target("false_claims", "at most", 0)),
    ),
    Line(
        "kills",
        "kill -9 of 8 workers, and of the study itself 6 times, at random moments",
        kills,
        (
            Target("workers_killed", "at least", 1),
            Target("studies_killed", "at least", 1),
            Target("lost", "at most", 0),
            Target("repeated", "at most", 0),
            Target("rows_different", "at most", 0),
            Target("orphans", "at most", 0),
        ),
    ),
)


def measure(chosen: str, target: Path) -> int:
    """Measure the lines named in ``chosen`` (empty: all), print the table and save it as ``target``; 1 where a promise is missed.

    No file is ever overwritten.
    """
    from benchmarks.run import save

    console = Console()
    known = {line.name: line for line in LINES}
    names = [name.strip() for name in chosen.split(",") if name.strip()] or list(known)
    unknown = [name for name in names if name not in known]
    if unknown or target.exists():
        why = f"there is no line '{unknown[0]}'; the lines are {', '.join(known)}" if unknown else f"{target.name} is there already"
        console.print(f"[red]{why}[/red]")
        return 2
    rows = []
    for name in names:
        rows.append(measured(known[name]))
        console.print(table([rows[-1]]))
    report = {"kind": "studies", "measured": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.facts(), "rows": rows}
    save(target, report)
    if len(rows) > 1:
        console.print(table(rows))
    console.print(f"saved as {target.name}")
    return 0 if all(promise["met"] for row in rows if "skipped" not in row for promise in row["targets"]) else 1


def measured(line: Line) -> dict[str, Any]:
    """A line with its numbers and what has become of its promises."""
    with tempfile.TemporaryDirectory(prefix="quartermaster-bench-") as folder:
        figures = line.measure(Path(folder))
    told = [{"target": str(target), "met": target.met(figures)} for target in line.targets]
    return {"row": line.name, "summary": line.summary, **figures, "targets": told}


def table(rows: list[dict[str, Any]]) -> Table:
    """What each line must reach, and what was measured."""
    shown = Table(title="studies")
    for column in ("line", "what", "must reach", "measured", ""):
        shown.add_column(column, overflow="fold")
    marks = {True: "met", False: "MISSED", None: "not measured"}
    for row in rows:
        if "skipped" in row:
            shown.add_row(row["row"], row["summary"], row["skipped"], "", "left out", end_section=True)
            continue
        for place, promise in enumerate(row["targets"]):
            said = (row["row"], row["summary"]) if place == 0 else ("", "")
            value = str(row.get(promise["target"].split(" ")[0]))
            shown.add_row(*said, promise["target"], value, marks[promise["met"]], end_section=place == len(row["targets"]) - 1)
    return shown

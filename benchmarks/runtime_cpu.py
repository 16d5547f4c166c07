"""Evaluates the runtime model on the measured grid of one CPU: ``python -m benchmarks.runtime_cpu FOLDER...``.

The folders hold the rows that ``quartermaster runtime measure --micro --grid quick`` wrote. Each job is left out in turn, then each family;
the table holds the results against what must be reached, misses included, and a dated file in benchmarks/results keeps them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.run import RESULTS
from benchmarks.saving import free_name, save
from models.runtime.calibration.ladder import operators_fitted
from models.runtime.calibration.start import starting_device
from models.runtime.evaluation.evaluate import evaluate
from models.runtime.records import OperatorRecord, Record
from service.cli.runtime_model import all_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.runtime.evaluation.evaluate import Evaluation
    from models.runtime.records import Machine

FOREIGN = frozenset({"foreign_on_core", "foreign_elsewhere", "steal"})
FEWEST = 40


def measured(about: Machine, rows: Sequence[Record | OperatorRecord], *, lenient: bool = False) -> dict[str, Any]:
    """The evaluation as one document. ``lenient`` counts rows that were refused for foreign load alone, and says so."""
    kept = [_accepted(row) if lenient else row for row in rows]
    operators = [row for row in kept if isinstance(row, OperatorRecord) and row.accepted]
    jobs = [row for row in kept if isinstance(row, Record) and row.accepted]
    begun = time.process_time()
    found = evaluate(operators_fitted(starting_device(about, operators), operators), jobs)
    return {
        "measured_on": about.model_dump(mode="json", exclude_defaults=True),
        "measured_at": sorted({row.date[:10] for row in jobs}),
        "lenient": lenient,
        "rows": {"jobs": len(jobs), "operators": len(operators), "refused": sum(not row.accepted for row in kept)},
        "must_hold": held(found),
        "evaluation": found.as_dict(),
        "cpu_s": round(time.process_time() - begun, 2),
    }


def _accepted(row: Record | OperatorRecord) -> Record | OperatorRecord:
    harmless = row.timing is not None and set(row.reasons) <= FOREIGN
    return row.model_copy(update={"accepted": True}) if harmless else row


def held(found: Evaluation) -> list[dict[str, Any]]:
    """What must hold, and what was measured."""
    one, family = found.leave_one_out, found.leave_one_family_out
    configurations = len({row.job for row in one.jobs})
    rows = (
        ("configurations measured", FEWEST, None, float(configurations)),
        ("each job left out, median error", None, 0.07, one.model.median),
        ("each job left out, 90th percentile", None, 0.25, one.model.p90),
        ("intervals of 90% cover", 0.85, 0.95, one.coverage),
        ("times better than FLOPs / best rate", 3.0, None, one.times_better),
        ("each family left out, median error", None, 0.12, family.model.median),
    )
    return [
        {
            "what": what,
            "at_least": least,
            "at_most": most,
            "measured": value,
            "met": bool((least is None or value >= least) and (most is None or value <= most)),
        }
        for what, least, most, value in rows
    ]


def show(report: dict[str, Any]) -> None:
    """The table."""
    table = Table(title="the runtime model on its own CPU grid" + (" (disturbed rows counted)" if report["lenient"] else ""))
    for column in ("what must hold", "at least", "at most", "measured", ""):
        table.add_column(column)
    for row in report["must_hold"]:
        ends = ["" if row[name] is None else f"{row[name]:g}" for name in ("at_least", "at_most")]
        table.add_row(row["what"], *ends, f"{row['measured']:.3f}", "met" if row["met"] else "MISSED")
    console = Console(width=120)
    console.print(table)
    found = report["evaluation"]
    for name in ("leave_one_out", "leave_one_family_out"):
        split = found[name]
        told = ", ".join(
            f"{who} {split[key]['median']:.1%} / {split[key]['p90']:.1%}"
            for who, key in (("model", "model"), ("naive", "naive"), ("log-ridge", "ridge"))
        )
        families = ", ".join(f"{family} {errors['median']:.1%}" for family, errors in split["by_family"].items())
        console.print(f"{name}: median / 90th percentile: {told}; by family: {families}", highlight=False)
    console.print(f"noise floor {found['noise_floor']:.1%}; Pollux's form has {found['pollux']}", highlight=False)


def main(
    folders: Annotated[list[str], typer.Argument(metavar="FOLDER...", help="Folders of measured rows, of one machine.")],
    lenient: Annotated[bool, typer.Option("--lenient", help="Count rows refused for foreign load alone; not for publication.")] = False,  # noqa: FBT002
    out: Annotated[Path | None, typer.Option(help="File for the numbers as JSON; left out: a dated one in benchmarks/results.")] = None,
) -> None:
    """Leave each job out, then each family, and hold the errors against what must be reached."""
    about, rows = all_rows(folders)
    report = measured(about, rows, lenient=lenient)
    show(report)
    now = datetime.now(UTC)
    target = out or free_name(RESULTS, "runtime-cpu", now)
    save(target, {"measured": now.isoformat(timespec="seconds"), "machine": machine.facts()} | report)
    print(f"saved as {target.name}")


if __name__ == "__main__":
    typer.run(main)

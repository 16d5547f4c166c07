"""The runtime model on public measurements: ``python -m benchmarks.runtime_public`` evaluates all and saves a dated file.

What is fitted and what is tested is said in each part: ``runtime_public_steps`` (Sia and Pollux), ``runtime_public_pairs``,
``runtime_public_transfer`` and ``runtime_public_limits`` (Gavel), ``runtime_public_sizes`` (Lambda, MLPerf). Parts whose data is not on
this machine are left out and named.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import (
    machine,
    runtime_public_limits,
    runtime_public_pairs,
    runtime_public_sizes,
    runtime_public_steps,
    runtime_public_transfer,
)
from benchmarks.run import RESULTS
from benchmarks.runtime_public_data import AbsentDataError, gavel, lambda_kinds, lambda_machines, mlperf_minutes, step_runs
from benchmarks.saving import free_name, save

MUST_HOLD = (
    ("steps on more than 4 GPUs, mean error", 0.17, ("steps", "without_azure", "all", "ours", "error")),
    ("pairs on K80, mean absolute error", 0.045, ("pairs", "gpus", "k80", "errors", "ours", "mean")),
    ("pairs on P100, mean absolute error", 0.055, ("pairs", "gpus", "p100", "errors", "ours", "mean")),
    ("pairs on V100, mean absolute error", 0.11, ("pairs", "gpus", "v100", "errors", "ours", "mean")),
    ("left-out device, other placement known, median error", 0.15, ("transfer", "other_placement_known", "all", "ours", "error")),
    ("the same, gangs of several GPUs only", 0.15, ("transfer", "other_placement_known", "all", "several_gpus", "error")),
    ("left-out GPU type, median error", 0.15, ("transfer", "gpu_type_unknown", "all", "ours", "error")),
)
PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "steps": lambda: runtime_public_steps.evaluate(step_runs()),
    "pairs": lambda: runtime_public_pairs.evaluate(gavel()),
    "transfer": lambda: runtime_public_transfer.evaluate(gavel().speeds),
    "transfer_limits": lambda: runtime_public_limits.evaluate(gavel().speeds),
    "lambda": lambda: runtime_public_sizes.evaluate_lambda(lambda_machines(), lambda_kinds()),
    "mlperf": lambda: runtime_public_sizes.evaluate_mlperf(mlperf_minutes()),
}


def measured() -> dict[str, Any]:
    """The numbers of every part, with the CPU seconds it took; ``absent`` instead where its data is not on this machine."""
    report: dict[str, Any] = {}
    for name, evaluate in PARTS.items():
        start = time.process_time()
        try:
            report[name] = evaluate() | {"cpu_s": round(time.process_time() - start, 2)}
        except AbsentDataError as error:
            report[name] = {"absent": str(error)}
    return report


def held(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What must hold, with what was measured; ``met`` is None where the data is absent."""
    rows = []
    for what, most, path in MUST_HOLD:
        value: Any = report
        for step in path:
            value = value.get(step, {}) if isinstance(value, dict) else {}
        number = value if isinstance(value, float) else None
        rows.append({"what": what, "at_most": most, "measured": number, "met": None if number is None else number <= most})
    return rows


def main(
    out: Annotated[Path | None, typer.Option(help="File for the numbers as JSON; left out: a dated one in benchmarks/results.")] = None,
) -> None:
    """Evaluate the runtime model on all public measurements at hand."""
    report = measured()
    rows = held(report)
    table = Table(title="the runtime model on public measurements")
    for column in ("what must hold", "at most", "measured", ""):
        table.add_column(column)
    marks = {True: "met", False: "MISSED", None: "no data"}
    for row in rows:
        number = "-" if row["measured"] is None else f"{row['measured']:.4f}"
        table.add_row(row["what"], f"{row['at_most']:g}", number, marks[row["met"]])
    console = Console()
    console.print(table)
    now = datetime.now(UTC)
    target = out or free_name(RESULTS, "runtime-public", now)
    save(target, {"measured": now.isoformat(timespec="seconds"), "machine": machine.facts(), "must_hold": rows} | report)
    console.print(f"saved as {target.name}")


if __name__ == "__main__":
    typer.run(main)

"""The benchmark of batches: many linear programs of one shape, by the first-order method in torch and by HiGHS that stays loaded.

``python -m benchmarks run batch``. The programs are those of sharing 1,000 jobs among 6 types of GPU by max-min fairness, every job with
speeds of its own, and 256 vectors of capacities, half to one and a half times the first. All get the same arrays; both engines
have one thread. What a GPU does is measured where torch finds one, its start and the transfers included.
"""

from __future__ import annotations

import importlib.util
import random
import statistics
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.fairshare import unlike
from models.catalogue import kind_of
from optimizer.backend import ProgramStatus, measured_gap
from optimizer.batch import BatchAnswer, Engines, solve_batch
from optimizer.compile import compile_model
from optimizer.highs import Options
from optimizer.kept import KeptPrograms
from optimizer.limits import Limits
from optimizer.result import relative_gap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from models.fairshare.schema import Problem
    from models.program import LinearProgram
    from optimizer.batch.solving import Device

SEED = 0
TOLERANCE = 1e-4
SECONDS = 1_800.0  # for each engine
LEAST, MOST = 0.5, 1.5  # times the capacity of the first


@dataclass(frozen=True, slots=True)
class Size:
    """How large a batch is."""

    name: str
    jobs: int
    types: int
    scenarios: int


SIZES = (Size("fairness-1000x6-256", 1_000, 6, 256), Size("fairness-100x6-32", 100, 6, 32))


def problems(size: Size) -> list[Problem]:
    """A problem for each vector of capacities."""
    base = unlike(size.jobs, size.types)
    rng = random.Random(SEED)
    made = []
    for _ in range(size.scenarios):
        counts = [max(1, round(one.count * rng.uniform(LEAST, MOST))) for one in base.accelerators]
        own = tuple(one.model_copy(update={"count": count}) for one, count in zip(base.accelerators, counts, strict=True))
        made.append(base.model_copy(update={"accelerators": own}))
    return made


def programs(asked: Sequence[Problem]) -> list[LinearProgram]:
    """Their programs, of one shape. They differ in the capacities, and in what a job has under equal split: coefficients of the matrix."""
    made: list[LinearProgram] = []
    for problem in asked:
        program = compile_model(kind_of(problem).part("formulation").build(problem)).program
        first = made[0] if made else program
        made.append(replace(program, row_blocks=first.row_blocks, column_blocks=first.column_blocks))  # the same names, kept once
    return made


def measure(chosen: str, target: Path) -> int:
    """Measure the batches named in ``chosen`` (empty: all), print the tables and save them as ``target``; 1 where a gap is missed.

    No file is ever overwritten.
    """
    from benchmarks.saving import save

    console = Console()
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    unknown = set(names) - {size.name for size in SIZES}
    if unknown or target.exists():
        said = f"{target.name} is there already" if target.exists() else f"there is no batch {', '.join(sorted(unknown))}"
        console.print(f"[red]{said}[/red]")
        return 2
    if importlib.util.find_spec("torch") is None:
        console.print("[red]solving a batch needs torch: install quartermaster[torch][/red]")
        return 2
    rows = []
    for size in SIZES:
        if not names or size.name in names:
            rows.append(measured(size))
            console.print(table(rows[-1]))
    report = {"kind": "batch", "measured": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.facts(), "instances": rows}
    save(target, report)
    console.print(f"saved as {target.name}")
    return 0 if all(engine["met"] for row in rows for engine in row["engines"]) else 1


def measured(size: Size) -> dict[str, Any]:
    """One batch by every engine at hand."""
    asked = problems(size)
    began = time.perf_counter()
    made = programs(asked)
    facts = {"rows": made[0].rows, "columns": made[0].columns, "entries": len(made[0].indices), "scenarios": size.scenarios}
    row: dict[str, Any] = {"instance": size.name, **facts, "tolerance": TOLERANCE, "arrays_s": round(time.perf_counter() - began, 3)}
    row["engines"] = [_engine("highs, hot, 1 thread", partial(_by_highs, made), asked, made)]
    devices: list[Device] = ["cpu", "cuda"] if _gpu() else ["cpu"]
    for device in devices:
        row["engines"].append(_engine(f"batch, {_named(device)}", partial(_by_batch, made, device), asked, made))
    return row


def table(row: dict[str, Any]) -> Table:
    """One batch: who took how long, and what gaps are left."""
    shown = Table(title=f"{row['instance']}: {row['rows']:,} rows, {row['columns']:,} columns, {row['entries']:,} entries")
    for column in (
        "engine",
        "wall s",
        "CPU s",
        "largest gap",
        "closed",
        "by HiGHS",
        "iterations",
        "verified plans",
        "largest gap of a plan",
    ):
        shown.add_column(column, justify="left" if column == "engine" else "right")
    for one in row["engines"]:
        iterations = f"{one['median_iterations']:,.0f} (most {one['most_iterations']:,})"
        closed, highs, plans = str(one["closed"]), str(one["by_highs"]), str(one["verified"])
        gaps = f"{one['largest_gap']:.1e}", f"{one['largest_plan_gap']:.1e}"
        shown.add_row(one["engine"], f"{one['wall_s']:.2f}", f"{one['cpu_s']:.2f}", gaps[0], closed, highs, iterations, plans, gaps[1])
    return shown


def _engine(name: str, solved: Callable[[], list[BatchAnswer]], asked: Sequence[Problem], made: Sequence[LinearProgram]) -> dict[str, Any]:
    wall, processor = time.perf_counter(), time.process_time()
    answers = solved()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    gaps = [_relative(one) for one in answers]
    plans = [_plan_gap(problem, program, answer) for problem, program, answer in zip(asked, made, answers, strict=True)]
    iterations = [one.iterations for one in answers]
    closed = sum(gap <= TOLERANCE for gap in gaps)
    verified = [gap for gap in plans if gap is not None]
    return {
        "engine": name,
        "wall_s": round(wall, 3),
        "cpu_s": round(processor, 3),
        "largest_gap": max(gaps),
        "closed": closed,
        "by_highs": sum(one.by == "highs" for one in answers),
        "median_iterations": statistics.median(iterations),
        "most_iterations": max(iterations),
        "verified": len(verified),
        "largest_plan_gap": max(verified, default=1.0),
        "met": closed == len(answers) and len(verified) == len(answers),
    }


def _by_highs(made: Sequence[LinearProgram]) -> list[BatchAnswer]:
    hot, limits = KeptPrograms(), Limits(time_limit_s=SECONDS, gap=TOLERANCE)
    answers = []
    for program in made:
        hot.begin()
        found = hot.solve(program, limits, Options(method="simplex"))
        gap = measured_gap(found.objective, found.bound)
        answers.append(BatchAnswer(found.status, "highs", found.values, found.row_duals, found.objective, found.bound, gap))
    return answers


def _by_batch(made: Sequence[LinearProgram], device: Device) -> list[BatchAnswer]:
    return solve_batch(made, tolerance=TOLERANCE, seconds=SECONDS, engines=Engines(device=device))


def _relative(answer: BatchAnswer) -> float:
    """Of the objective itself, however small; 1 where there is none."""
    if answer.status not in (ProgramStatus.optimal, ProgramStatus.feasible) or answer.objective is None or answer.bound is None:
        return 1.0
    return abs(answer.bound - answer.objective) / max(abs(answer.objective), 1e-12)


def _plan_gap(problem: Problem, program: LinearProgram, answer: BatchAnswer) -> float | None:
    """The gap between the plan that the values make, verified, and the bound; None where the plan is not right."""
    if answer.values is None or answer.bound is None:
        return None
    kind = kind_of(problem)
    values = {block.name: dict(zip(block.ids, answer.values[block.rows].tolist(), strict=True)) for block in program.column_blocks}
    verdict = kind.verify(problem, kind.part("formulation").extract(problem, values))
    return relative_gap(verdict.objectives[kind.goals(problem)[0].name], answer.bound) if verdict.ok else None


def _gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _named(device: str) -> str:
    import torch

    return str(torch.cuda.get_device_name()) if device == "cuda" else "cpu, 1 thread"

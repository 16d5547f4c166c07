"""What engines cost and gain: two local workers against one, and what Ray adds to each scenario."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks import studies_cases
from models.contract import Sense
from models.linear.schema import Columns, Entries, Problem, Rows
from optimizer.study.executors.pool import LocalPool
from optimizer.study.run import Answerer
from optimizer.study.scenarios.expansion import expanded
from service.studies.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.vocabulary import Document
    from optimizer.study.executors.engine import Engine
    from optimizer.study.rows import Row
    from optimizer.study.schema import Study

WARMING = 4  # scenarios that are answered before a steady measurement begins
SPINS = 12_000_000


def measured(folder: Path, study: Study, base: Document, engine: Engine) -> dict[str, float]:
    """A study in two parts: the first few scenarios, in which processes start, and the rest, of each of which the milliseconds are."""
    began = time.perf_counter()
    scenarios = expanded(study, base)
    with Shelf.opened(folder, study, base) as shelf, Answerer(base, study.limits, shelf, engine) as answerer:
        first = answerer.ask(scenarios[:WARMING])
        steady = time.perf_counter()
        rest = answerer.ask(scenarios[WARMING:])
        steady_s = time.perf_counter() - steady
    wall_s = time.perf_counter() - began
    own_s = _own(rest)
    return {
        "wall_s": wall_s,
        "steady_s": steady_s,
        "own_ms": 1e3 * own_s / len(rest),
        "overhead_ms": 1e3 * (steady_s - own_s) / len(rest),  # of one worker
        "unverified": sum(row is None or not row.verified for row in (*first, *rest)),
    }


def _own(rows: Sequence[Row | None]) -> float:
    return sum(row.seconds for row in rows if row is not None)


def pool(folder: Path, jobs: int = 8_000, scenarios: int = 200, rounds: int = 2) -> dict[str, Any]:
    """The same study by one worker and by two, in turn. ``machine_speedup`` is what two processes gain here that share nothing at all."""
    study, base = studies_cases.fairness_study(jobs, scenarios + WARMING), studies_cases.fairness_base(jobs)
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    machine = []
    for number in range(rounds):
        machine.append(machine_speedup())
        for workers, told in found.items():
            told.append(measured(folder / f"{number}-{workers}", study, base, LocalPool(workers)))
    one, two = ({name: statistics.fmean(run[name] for run in found[workers]) for name in found[workers][0]} for workers in (1, 2))
    return {
        "scenarios": scenarios + WARMING,
        "rounds": rounds,
        "own_ms": round(one["own_ms"], 1),
        "one_wall_s": round(one["wall_s"], 3),
        "two_wall_s": round(two["wall_s"], 3),
        "speedup": round(one["wall_s"] / two["wall_s"], 3),
        "one_steady_s": round(one["steady_s"], 3),
        "two_steady_s": round(two["steady_s"], 3),
        "steady_speedup": round(one["steady_s"] / two["steady_s"], 3),
        "machine_speedup": round(statistics.fmean(machine), 3),
        "unverified": int(one["unverified"] + two["unverified"]),
    }


def machine_speedup() -> float:
    """How much sooner two processes do two equal pieces of pure arithmetic than one process does."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as workers:
        workers.map(spin, [1, 1])
        began = time.perf_counter()
        workers.apply(spin, [2 * SPINS])
        alone = time.perf_counter() - began
        began = time.perf_counter()
        workers.map(spin, [SPINS, SPINS], chunksize=1)
        return alone / (time.perf_counter() - began)


def spin(count: int) -> int:
    """Arithmetic, and nothing to wait for."""
    total = 0
    for number in range(count):
        total ^= number
    return total


# ---------------------------------------------------------------- Ray


def ray(folder: Path, jobs: int = 10_000, scenarios: int = 40, small: int = 200) -> dict[str, Any]:
    """What one Ray worker spends beside the rows' own seconds, and a local one: on tiny scenarios, and on ones with large plans."""
    missing = _missing()
    if missing:
        return {"skipped": missing}
    engine: Engine = importlib.import_module("optimizer.study.executors.ray_pool").RayPool(workers=1)
    tiny, large = tiny_study(small + WARMING), studies_cases.fairness_study(jobs, scenarios + WARMING)
    told: dict[str, Any] = {}
    for name, study, base in (("tiny", tiny, tiny_base()), ("large", large, studies_cases.fairness_base(jobs))):
        for word, chosen in (("local", LocalPool(1)), ("ray", engine)):
            run = measured(folder / f"{name}-{word}", study, base, chosen)
            told |= {f"{name}_{word}_{number}": round(run[number], 3) for number in ("own_ms", "overhead_ms", "wall_s")}
            told["unverified"] = told.get("unverified", 0) + int(run["unverified"])
    return told | {"large_beyond_local_ms": round(told["large_ray_overhead_ms"] - told["large_local_overhead_ms"], 3)}


def _missing() -> str:
    """Why Ray cannot be measured, or ""."""
    if importlib.util.find_spec("ray") is None:
        return "Ray is not installed: pip install 'quartermaster[ray]'"
    return "" if importlib.util.find_spec("optimizer.study.executors.ray_pool") is not None else "there is no engine for Ray here"


def tiny_base() -> Problem:
    """Maximise x with x <= 50 by a row."""
    return Problem(
        sense=Sense.maximise,
        columns=Columns(cost=(1.0,), lower=(1.0,), upper=(1e4,)),
        rows=Rows(upper=(50.0,)),
        entries=Entries(rows=(0,), columns=(0,), values=(1.0,)),
    )


def tiny_study(scenarios: int) -> Study:
    """Other sides of that row."""
    ranges = {"most": {"range": {"least": 1.0, "most": 5e3}, "at": "/rows/upper/0"}}
    return studies_cases.study_of("tiny", "program", scenarios, ranges, {"time_limit_s": 20.0, "gap": 1e-6})

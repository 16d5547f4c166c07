"""The benchmark of fairshare: the published instance of POP, the same without symmetry, and every policy on a mix of Gavel's jobs.

Speeds and the job list are those of ``benchmarks/data`` (Gavel and POP, both MIT). What is drawn at random is drawn with a seed.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.fairshare_baselines import BASELINES
from benchmarks.suite import Instance, Suite, Target
from models.fairshare.schema import Job, JobTable, Policy, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent / "data"
SEED = 0
PUBLISHED = 1.110913
PROVED = 1e-7
MIX_JOBS, MIX_GPUS = 500, 128


@cache
def pop() -> Problem:
    """2,048 jobs of 26 types on 512 GPUs of each of three types, with pairs (D. Narayanan et al., POP, SOSP 2021)."""
    from service.importers.gavel import import_gavel

    files = HERE / "gavel" / "simulation_throughputs.json.gz", HERE / "pop" / "maxmin_packed_2048_instance.json.gz"
    return import_gavel(*files).problem


def pop_random(policy: Policy = Policy.max_min_fair, jobs: int | None = None, gpus: int | None = None) -> Problem:
    """The same with weights and remaining work drawn at random, so that no two jobs are alike; the first ``jobs`` of it."""
    rng, whole = random.Random(SEED), pop()
    taken = whole.jobs[:jobs]
    best = {one.id: max(speed.steps_per_s for speed in one.speeds) for one in whole.workloads}
    table: dict[str, Any] = {
        "id": tuple(job.id for job in taken),
        "workload": tuple(job.workload for job in taken),
        "weight": tuple(rng.uniform(1.0, 5.0) for _ in taken),
        "remaining_steps": tuple(best[job.workload] * rng.uniform(600.0, 1e5) for job in taken),
        "arrival_s": tuple(-rng.uniform(0.0, 5e4) for _ in taken),
    }
    if policy is Policy.least_cost:
        table["deadline_s"] = tuple(6e5 if rng.random() < 0.5 else None for _ in taken)
    if policy is Policy.hierarchical:
        table["tenant"] = tuple(f"t{rng.randrange(10)}" for _ in taken)
    accelerators = tuple(
        one.model_copy(update={"count": gpus or one.count, "usd_per_hour": price})
        for one, price in zip(whole.accelerators, (0.45, 1.46, 2.48), strict=True)
    )
    known = {job.workload for job in taken}
    return Problem.model_validate(
        {
            "policy": policy,
            "accelerators": [one.model_dump() for one in accelerators],
            "workloads": [one.model_dump() for one in whole.workloads if one.id in known],
            "pairs": [one.model_dump() for one in whole.pairs if one.first in known and one.second in known],
            "tenants": [
                {"id": f"t{place}", "weight": 1.0 + place % 3, "within": ("fair", "fifo")[place % 2]}
                for place in range(10)
                if policy is Policy.hierarchical
            ],
            "job_table": JobTable.model_validate(table).model_dump(),
            "least_share": 0.2 if policy is Policy.least_cost else 0.0,
        }
    )


def unlike(jobs: int, types: int, *, weighted: bool = False) -> Problem:
    """Jobs of which each has speeds of its own on every type of GPU, one GPU of any type for two jobs."""
    rng = random.Random(SEED)
    ids = tuple(f"w{place}" for place in range(jobs))
    speeds = [{"accelerator": f"a{place}", "steps_per_s": [rng.uniform(1.0, 10.0) * (1 + place) for _ in ids]} for place in range(types)]
    table: dict[str, Any] = {"workload": ids}
    if weighted:
        table["weight"] = [rng.uniform(1.0, 4.0) for _ in ids]
    return Problem.model_validate(
        {
            "accelerators": [{"id": f"a{place}", "count": jobs // (2 * types)} for place in range(types)],
            "workload_table": {"id": ids, "speeds": speeds},
            "job_table": table,
        }
    )


def counted() -> Problem:
    """POP's instance with the jobs of a type given as one job with a count."""
    whole = pop()
    counts: dict[str, int] = {}
    for job in whole.jobs:
        counts[job.workload] = counts.get(job.workload, 0) + 1
    return whole.model_copy(update={"jobs": tuple(Job(id=name, workload=name, count=count) for name, count in counts.items())})


def command(problem: Problem, _result: object) -> dict[str, float]:
    """Seconds of ``quartermaster solve`` as a user waits for it, from its start to its end: the better of two runs."""
    waited = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "problem.json"
        file.write_text(problem.model_dump_json(exclude_defaults=True), encoding="utf-8")
        for _ in range(2):
            began = time.perf_counter()
            arguments = [sys.executable, "-m", "service.cli", "solve", "fairshare", str(file), "--json"]
            subprocess.run(arguments, check=True, capture_output=True)
            waited.append(time.perf_counter() - began)
    return {"command_wall_s": round(min(waited), 3)}


def _instances() -> Iterator[Instance]:
    known = (Target("objective", "at least", PUBLISHED - 1e-6), Target("bound", "at most", PUBLISHED + 1e-6))
    slack = Target("gap", "at most", 1e-6)
    yield Instance(
        name="pop-2048",
        summary="POP: 2,048 jobs of 26 types, 512 GPUs of each of three types, pairs: largest smallest share",
        read=pop,
        time_limit_s=300.0,
        targets=(*known, slack, Target("command_wall_s", "at most", 1.0)),
        gap=PROVED,
        baselines=tuple(BASELINES),
        then=command,
    )
    yield Instance(
        name="pop-2048-counts",
        summary="the same with a count for each type",
        read=counted,
        time_limit_s=10.0,
        targets=(*known, slack, Target("solve_wall_s", "at most", 1.0)),
        gap=PROVED,
    )
    yield Instance(
        name="pop-2048-random",
        summary="POP with weights and remaining work at random, no two jobs alike",
        read=pop_random,
        time_limit_s=60.0,
        targets=(slack, Target("solve_wall_s", "at most", 10.0)),
        gap=PROVED,
        baselines=("pop_8", "equal_split"),
    )
    for weighted in (False, True):
        yield Instance(
            name=f"jobs-10000x6{'-weighted' if weighted else ''}",
            summary=f"10,000 jobs with speeds of their own on 6 types{', and weights' if weighted else ''}: largest smallest share",
            read=partial(unlike, 10_000, 6, weighted=weighted),
            time_limit_s=60.0,
            targets=(slack, Target("solve_wall_s", "at most", 10.0)),
            gap=PROVED,
            baselines=("gavel_lp", "pop_8", "equal_split") if not weighted else (),
        )
    for policy in Policy:
        yield Instance(
            name=f"gavel-500-{policy.value.replace('_', '-')}",
            summary=f"{MIX_JOBS} jobs of Gavel's types, {MIX_GPUS} GPUs of each of three types, no two alike: {policy.value}",
            read=partial(pop_random, policy, MIX_JOBS, MIX_GPUS),
            time_limit_s=30.0,
            targets=(Target("gap", "at most", 1e-6), Target("solve_wall_s", "at most", 10.0)),
            gap=1e-6,
            baselines=("equal_split",) if policy is not Policy.least_cost else (),
        )


SUITE = Suite(kind="fairshare", instances=tuple(_instances()), baselines=dict(BASELINES))

"""Measures one thing in this process and writes one JSON line: our solve of an instance, or one baseline on it.

Run by ``benchmarks.run`` as a fresh process each time, so that peak memory belongs to that one thing and a solver that
crashes or hangs takes nothing with it:  ``python -m benchmarks.measure KIND INSTANCE RULE SECONDS SEED THREADS``
(RULE ``ours``: the engine).
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.suite import suite
from models import catalogue
from optimizer.result import finite

if TYPE_CHECKING:
    from models.contract import Goal, Verdict
    from optimizer.result import Result

OURS = "ours"
GIB = 2**30
KIB_TO_GB = 1024 / 1e9
MODEL_PHASES = ("build", "hand_over")
PHASES = ("read", "build", "hand_over", "solve", "verify")


def ours(kind: str, instance: str, seconds: float, seed: int, threads: int) -> dict[str, Any]:
    """Reads the instance, solves it, and tells the result as one flat row."""
    from optimizer.limits import Limits
    from optimizer.solve import solve

    begun = time.perf_counter()
    chosen = suite(kind).instance(instance)
    problem = chosen.read()
    read = time.perf_counter() - begun
    begun = time.perf_counter()
    result = solve(problem, limits=Limits(time_limit_s=seconds, seed=seed, threads=threads, gap=chosen.gap))
    wall = time.perf_counter() - begun
    more = chosen.then(problem, result) if chosen.then is not None else {}
    return {"read_s": round(read, 3), "solve_wall_s": round(wall, 3), **_told(result, wall), **more, "peak_memory_gb": _peak_gb()}


def _told(result: Result, wall: float) -> dict[str, Any]:
    phases = {f"{name}_s": round(result.seconds_by_phase.get(name, 0.0), 3) for name in PHASES if name != "read"}
    modelling = sum(result.seconds_by_phase.get(name, 0.0) for name in MODEL_PHASES)
    told: dict[str, Any] = {
        **phases,
        "build_and_hand_over_share": round(modelling / max(wall, 1e-9), 4),
        "outcome": str(result.outcome),
        "stop_reason": str(result.stop_reason),
        "message": result.failure or result.message,
    }
    if result.certificate is None:
        return told
    certificate, metrics = result.certificate, dict(result.verdict.metrics) if result.verdict is not None else {}
    first = certificate.goals[0]
    told |= {
        "verified": certificate.verified,
        "strategy": certificate.strategy,
        "objective": first.objective,
        "bound": finite(first.bound),
        "gap": finite(first.gap),
        "goals": [
            {
                "name": goal.name,
                "sense": goal.sense,
                "unit": goal.unit,
                "objective": goal.objective,
                "bound": finite(goal.bound),
                "gap": finite(goal.gap),
                "method": goal.method,
            }
            for goal in certificate.goals
        ],
        **metrics,
    }
    capacity = metrics.get("capacity_gpus", 0.0)
    if first.name == "allocated_gpus" and capacity > 0 and math.isfinite(first.bound):
        told["bound_percent"] = 100.0 * first.bound / capacity
        told["gap_points"] = told["bound_percent"] - told["allocated_percent"]
    return told


def baseline(kind: str, instance: str, seconds: float, name: str) -> dict[str, Any]:
    """Reads the instance, runs one baseline on it, verifies its plan, and tells that as one row."""
    chosen = suite(kind)
    rule = chosen.baseline(name)
    problem = chosen.instance(instance).read()
    begun = time.perf_counter()
    try:
        plan = rule(problem, seconds)
    except ValueError as error:  # the baseline says that it does not take such a problem
        return {"baseline": name, "seconds": round(time.perf_counter() - begun, 3), "verified": False, "message": str(error)}
    row: dict[str, Any] = {"baseline": name, "seconds": round(time.perf_counter() - begun, 3), "peak_memory_gb": _peak_gb()}
    if plan is None:
        return row | {"verified": False, "message": "no plan within the time"}
    made = catalogue.kind(kind)
    return row | _judged(made.verify(problem, plan), made.goals(problem)[0])


def _judged(verdict: Verdict, first: Goal) -> dict[str, Any]:
    broken = verdict.violations[0].message if verdict.violations else ""
    return {"verified": verdict.ok, "objective": verdict.objectives[first.name], "message": broken, **verdict.metrics}


def _peak_gb() -> float:
    """Most memory this process, or any one child of it, has held, in GB; the caller also samples the whole tree."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(peak * KIB_TO_GB, 3)


def main(arguments: list[str]) -> None:
    """Measures what the arguments say and writes the row as the last line of standard output."""
    kind, instance, rule, seconds, seed, threads = arguments
    measured_by = partial(ours, seed=int(seed), threads=int(threads)) if rule == OURS else partial(baseline, name=rule)
    print(json.dumps(measured_by(kind, instance, seconds=float(seconds))))


if __name__ == "__main__":
    main(sys.argv[1:])

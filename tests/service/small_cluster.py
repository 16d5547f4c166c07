"""A small cluster, plans for it, and results as the engine would return them."""

import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from models.contract import Reason
from models.placement.schema import GoalName, Job, JobPlacement, Node, Plan, Problem, Running, WorkerPlace
from models.vocabulary import Document, Topology
from optimizer.limits import Limits
from optimizer.result import Certificate, GoalCertificate, Outcome, Progress, Result, StopReason, relative_gap

Solver = Callable[..., Result]


def cluster(*, tenants: int = 1, racks: bool = False) -> Problem:
    """Three nodes of two models and five jobs; ``late`` does not fit beside the others."""
    nodes = tuple(
        Node(
            id=f"n{place}", gpu_model=model, gpus=gpus, cpu_cores=64, memory_gib=256, topology=Topology(rack=f"r{place}" if racks else None)
        )
        for place, (model, gpus) in enumerate((("h100", 8), ("h100", 8), ("l40s", 4)))
    )
    wants = (("gang", 8.0), ("half", 0.5), ("third", 0.3), ("late", 8.0), ("free", 0.0))
    running = Running(workers=(WorkerPlace(node="n2", gpus=(0,)),))
    jobs = tuple(
        Job(
            id=name,
            tenant=f"team-{place % tenants}",
            gpus_per_worker=gpus,
            cpu_cores=8,
            memory_gib=16,
            running=running if name == "third" else None,
        )
        for place, (name, gpus) in enumerate(wants)
    )
    return Problem(nodes=nodes, jobs=jobs, goals=(GoalName.allocated_gpus, GoalName.placed_value))


def plan() -> Plan:
    """All jobs but ``late``."""
    places = {"gang": ("n0", tuple(range(8))), "half": ("n2", (0,)), "third": ("n2", (0,)), "free": ("n1", ())}
    return Plan(
        placements=tuple(JobPlacement(job=job, workers=(WorkerPlace(node=node, gpus=gpus),)) for job, (node, gpus) in places.items())
    )


def solved(problem: Problem, found: Plan, *, bound: float = 10.0, **changes: Any) -> Result:
    """A verified result for a plan, with a bound for its first goal."""
    from models.catalogue import kind

    verdict = kind("placement").verify(problem, found)
    goals = tuple(
        GoalCertificate(goal.name, goal.sense.value, goal.unit, value, limit, relative_gap(value, limit), "a proof of this test")
        for goal, limit in zip(kind("placement").goals(problem), (bound, float("inf")), strict=True)
        if (value := verdict.objectives[goal.name]) is not None
    )
    content: dict[str, Any] = {
        "kind": "placement",
        "outcome": Outcome.feasible,
        "stop_reason": StopReason.deadline,
        "plan": found,
        "certificate": Certificate(goals, verdict.largest_violation, verdict.ok, "a strategy of this test", 0),
        "verdict": verdict,
        "seconds": 1.5,
        "seconds_by_phase": {"build": 0.25, "solve": 1.0},
        "reasons": (Reason("late", "why_not", "node_gpus", ("n0",), "no node has 8 <free> GPUs", "proved"),),
        "trace": (Progress(0.2, "heuristic", 5.0), Progress(0.6, "search", 8.0, 12.0, 0.5), Progress(1.0, "search", 8.8, 10.0, 0.14)),
    }
    return Result(**(content | changes))


def planless(outcome: Outcome, stop_reason: StopReason = StopReason.gap, **changes: Any) -> Result:
    """A result without a plan."""
    return Result("placement", outcome, stop_reason, None, None, None, 0.5, **changes)


def install(monkeypatch: pytest.MonkeyPatch, solver: Solver) -> None:
    """Puts a solver of the test in the place of ``optimizer.solve.solve``."""
    stand_in = ModuleType("optimizer.solve")

    def solve(
        problem: Document,
        limits: Limits,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        warm_start: Document | None = None,
    ) -> Result:
        return solver(problem, limits=limits, on_progress=on_progress, cancel=cancel, warm_start=warm_start)

    stand_in.solve = solve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "optimizer.solve", stand_in)


def fixed(result: Result) -> Solver:
    """A solver that always returns ``result``."""
    return lambda _problem, **_rest: result

"""Repacking by changes of single nodes: every round's plan is right, keeps the budget, and gains what it says."""

from __future__ import annotations

import random

import numpy as np
import pytest

from models.placement.heuristic import heuristic
from models.placement.repacking import Repacking
from models.placement.schema import GoalName, Job, Node, Plan, Problem, Running, Tenant, Use, WorkerPlace
from models.placement.verify import verify
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from optimizer.solve import solve

GOALS = (GoalName.allocated_gpus, GoalName.moves)


def _round(problem: Problem, plan: Plan) -> Plan | None:
    around = Repacking(problem, GoalName.allocated_gpus, plan)
    program = around.program()
    if program is None:
        return None
    values = HighsBackend().solve(program, Limits(time_limit_s=10), start=np.zeros(program.columns)).values
    assert values is not None
    return around.plan(values)


def _crowded(seed: int) -> Problem:
    """Twenty nodes with shares scattered over their GPUs, and whole-GPU jobs that wait."""
    rng = random.Random(seed)
    nodes = tuple(Node(id=f"n{k}", gpu_model="A", gpus=2, cpu_cores=rng.choice([8.0, 16.0]), memory_gib=64.0) for k in range(20))
    jobs = []
    for node in nodes:
        for gpu in range(node.gpus):
            share = rng.choice([0.2, 0.3, 0.5, 1.0])
            place = WorkerPlace(node=node.id, gpus=(gpu,))
            running = Running(workers=(place,), move_cost=rng.choice([1.0, 2.0]))
            jobs.append(Job(id=f"r-{node.id}-{gpu}", gpus_per_worker=share, cpu_cores=rng.choice([1.0, 3.0]), running=running))
    waiting = (Job(id=f"w{k}", tenant="t", gpus_per_worker=rng.choice([1.0, 2.0, 0.7]), cpu_cores=4.0) for k in range(15))
    tenants = (Tenant(id="t", quota_gpus=8.0),) if seed % 2 else ()
    waiting_jobs = tuple(job if tenants else job.model_copy(update={"tenant": "default"}) for job in waiting)
    return Problem(use=Use.repack, nodes=nodes, jobs=(*jobs, *waiting_jobs), tenants=tenants, max_moves=5, goals=GOALS)


@pytest.mark.parametrize("seed", range(12))
def test_rounds_are_right_and_only_gain(seed: int) -> None:
    problem = _crowded(seed)
    plan = heuristic(problem)
    assert plan is not None
    value = verify(problem, plan).objectives["allocated_gpus"]
    for _ in range(6):
        better = _round(problem, plan)
        if better is None:
            break
        verdict = verify(problem, better)
        assert verdict.ok, verdict.violations
        assert verdict.objectives["allocated_gpus"] >= value - 1e-6
        assert verdict.metrics["moves"] <= 5
        plan, value = better, verdict.objectives["allocated_gpus"]


def test_a_round_clears_a_gpu_by_one_move() -> None:
    nodes = tuple(Node(id=f"n{k}", gpu_model="A", gpus=1, cpu_cores=8.0, memory_gib=8.0) for k in (1, 2))
    running = tuple(
        Job(id=f"r{k}", gpus_per_worker=0.4, cpu_cores=1.0, running=Running(workers=(WorkerPlace(node=f"n{k}", gpus=(0,)),)))
        for k in (1, 2)
    )
    waiting = Job(id="w", gpus_per_worker=1, cpu_cores=2.0)
    problem = Problem(use=Use.repack, nodes=nodes, jobs=(*running, waiting), max_moves=1, goals=GOALS)
    start = heuristic(problem)
    assert start is not None
    better = _round(problem, start)
    assert better is not None
    assert verify(problem, better).objectives == {"allocated_gpus": pytest.approx(1.8), "moves": 1.0}


def test_without_moves_there_is_no_round() -> None:
    problem = _crowded(0).model_copy(update={"max_moves": 0})
    plan = heuristic(problem)
    assert plan is not None
    assert Repacking(problem, GoalName.allocated_gpus, plan).program() is None


@pytest.mark.parametrize("seed", range(3))
def test_the_path_for_large_problems_is_bounded_by_the_exact_optimum(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = _crowded(seed)
    exact = solve(problem, Limits(time_limit_s=20), isolate=False)
    monkeypatch.setattr("optimizer.strategy.DIRECT_COLUMNS", -1)
    large = solve(problem, Limits(time_limit_s=3), isolate=False)
    assert exact.certificate is not None
    assert large.certificate is not None
    assert large.certificate.objective <= exact.certificate.bound + 1e-6
    assert large.certificate.bound >= exact.certificate.objective - 1e-6

"""Bounds by counting: weak, but there at once, for every goal and every size of problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.placement.schema import GoalName, Use

if TYPE_CHECKING:
    from models.placement.schema import Job, Problem
    from models.program import Floats


BIG = 1e18  # more than any value per GPU


def densities(problem: Problem) -> tuple[Floats, Floats]:
    """For each job its value at its best speed, and that per GPU (BIG without GPUs); both shape (jobs,)."""
    jobs = problem.jobs
    worth = np.array([job.priority * job.value * (max(job.model_speeds.values()) if job.model_speeds else 1.0) for job in jobs])
    gpus = np.array([job.gpus_per_worker * job.workers for job in jobs])
    return worth, np.divide(worth, gpus, out=np.full(len(jobs), BIG), where=gpus > 0)


def simple_bounds(problem: Problem) -> dict[str, float]:
    """For each of the problem's goals a value that no plan can beat, from sums over nodes and jobs alone.

    Values and GPUs are those of a cluster that can cut every GPU to fit (the fractional knapsack); what must stay where it
    is gives the lower bounds of a placement, and everything else is at least 0.
    """
    found = {
        GoalName.placed_value: _placed_value,
        GoalName.allocated_gpus: _allocated_gpus,
        GoalName.nodes_powered: _nodes_powered,
        GoalName.balance: _balance,
    }
    return {goal.value: found[goal](problem) if goal in found else 0.0 for goal in problem.ordered_goals()}


def capacity_gpus(problem: Problem) -> int:
    """GPUs that a plan could use: those of all nodes that are not drained."""
    return sum(node.gpus for node in problem.nodes if node.state != "drained")


def _wanted(job: Job) -> float:
    return job.gpus_per_worker * job.workers


def _allocated_gpus(problem: Problem) -> float:
    return min(float(capacity_gpus(problem)), sum(map(_wanted, problem.jobs)))


def _placed_value(problem: Problem) -> float:
    worth, density = densities(problem)
    best_first = np.argsort(-density, kind="stable")
    gpus = np.array([_wanted(job) for job in problem.jobs])[best_first]
    taken = np.minimum(np.cumsum(gpus), float(capacity_gpus(problem)))
    parts = np.divide(np.diff(taken, prepend=0.0), gpus, out=np.ones(len(gpus)), where=gpus > 0)
    return float(parts @ worth[best_first])


def _nodes_powered(problem: Problem) -> float:
    if problem.use is not Use.place:
        return 0.0
    return float(len({worker.node for job in problem.jobs if job.running is not None for worker in job.running.workers}))


def _balance(problem: Problem) -> float:
    """The fullest node of the running jobs, which a placement leaves where they are."""
    if problem.use is not Use.place:
        return 0.0
    gpus = {node.id: node.gpus for node in problem.nodes}
    used: dict[str, float] = {}
    for job in problem.jobs:
        for worker in job.running.workers if job.running is not None else ():
            used[worker.node] = used.get(worker.node, 0.0) + job.gpus_per_worker
    return max((amount / gpus[node] for node, amount in used.items() if gpus[node]), default=0.0)

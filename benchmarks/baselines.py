"""What simpler rules reach: the plans that ours is held against, each checked by the same ``verify``.

The online rules take waiting jobs in the problem's order, place each at once or never; the sorted ones see all jobs first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.cluster import Cluster, Floats, Ints, one_after_another
from benchmarks.flat import cp_sat, flat_mip
from benchmarks.fragmentation import Fragmentation
from benchmarks.repack import greedy_preempt, greedy_repack

if TYPE_CHECKING:
    from models.placement.schema import Job, Plan, Problem

Baseline = Callable[["Problem", float], "Plan | None"]
Key = Callable[[Cluster, "Job"], "Floats"]


def first_fit(problem: Problem) -> Plan:
    """Online: each job on the first nodes that hold it."""
    return one_after_another(problem, _by(_in_order))


def best_fit(problem: Problem) -> Plan:
    """Online: each job on the nodes it leaves least room on, each share on the fullest GPU that still holds it."""
    return one_after_another(problem, _by(_leftover))


def size_sorted_best_fit(problem: Problem) -> Plan:
    """All jobs known: those with the most GPUs first, then best fit."""
    order = sorted(problem.jobs, key=lambda job: (-job.gpus_per_worker * job.workers, -job.cpu_cores, job.id))
    return one_after_another(problem, _by(_leftover), order)


def density_first_fit(problem: Problem) -> Plan:
    """All jobs known: the most value for each GPU first, then the first nodes that hold it."""
    return one_after_another(problem, _by(_in_order), _by_density(problem))


def density_best_fit(problem: Problem) -> Plan:
    """All jobs known: the most value for each GPU first, then the fastest accepted model, and on it the best fit."""
    return one_after_another(problem, _by(_fast_then_leftover), _by_density(problem))


def fgd(problem: Problem) -> Plan:
    """Online: each worker where the expected fragmentation grows least (Weng et al., USENIX ATC 2023)."""
    return one_after_another(problem, Fragmentation(problem).place)


BASELINES: dict[str, Baseline] = {
    "first_fit": lambda problem, _: first_fit(problem),
    "best_fit": lambda problem, _: best_fit(problem),
    "fgd": lambda problem, _: fgd(problem),
    "size_sorted_best_fit": lambda problem, _: size_sorted_best_fit(problem),
    "density_first_fit": lambda problem, _: density_first_fit(problem),
    "density_best_fit": lambda problem, _: density_best_fit(problem),
    "greedy_repack": lambda problem, _: greedy_repack(problem, problem.max_moves),
    "greedy_preempt": lambda problem, _: greedy_preempt(problem),
    "flat_mip": flat_mip,
    "cp_sat": cp_sat,
}


def _by_density(problem: Problem) -> list[Job]:
    def density(job: Job) -> float:
        fastest = max(job.model_speeds.values(), default=1.0)
        return job.priority * job.value * fastest / max(1e-3, job.gpus_per_worker * job.workers)

    return sorted(problem.jobs, key=lambda job: (-density(job), job.id))


def _in_order(cluster: Cluster, _job: Job) -> Floats:
    return np.zeros(len(cluster.cpu))


def _leftover(cluster: Cluster, job: Job) -> Floats:
    return cluster.leftover(job)


def _fast_then_leftover(cluster: Cluster, job: Job) -> Floats:
    return cluster.leftover(job) - 10.0 * cluster.speed(job)


def _by(key: Key) -> Callable[[Cluster, Job], bool]:
    """The rule that fills nodes by rising ``key``, ties to the earlier node."""

    def rule(cluster: Cluster, job: Job) -> bool:
        if job.workers == 1:
            nodes = np.flatnonzero(cluster.fits(job))
            if not len(nodes):
                return False
            node = int(nodes[np.argmin(key(cluster, job)[nodes])])
            cluster.place(job, [(node, cluster.pick(job, node))])
            return True
        room = _colocated(cluster, job, cluster.room(job))
        if room.sum() < job.workers:
            return False
        nodes = np.flatnonzero(room)
        cluster.fill(job, nodes[np.argsort(key(cluster, job)[nodes], kind="stable")], room)
        return True

    return rule


def _colocated(cluster: Cluster, job: Job, room: Ints) -> Ints:
    """The room inside one domain, the one with the least that is enough; all of it for a job that may be spread out."""
    if job.colocate is None or not job.colocate.required:
        return room
    domain = cluster.domain(job.colocate.level)
    named = domain >= 0
    totals = np.bincount(domain[named], weights=room[named])
    enough = np.flatnonzero(totals >= job.workers)
    if not len(enough):
        return np.zeros_like(room)
    chosen = enough[np.argmin(totals[enough])]
    return np.where(domain == chosen, room, 0)

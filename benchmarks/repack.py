"""Greedy rules for running jobs: moves that let waiting ones in, and evictions that make room for one gang."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.cluster import ROUNDING, Cluster

if TYPE_CHECKING:
    from models.placement.schema import Job, Plan, Problem

MOST_MOVES_AT_ONCE = 4  # moves spent to let one waiting job in: clearing half a node of shares pays, clearing all of it seldom


@dataclass(frozen=True, slots=True)
class _Step:
    """A waiting job let in on ``node`` after the jobs ``leaving`` it moved elsewhere."""

    job: Job
    node: int
    leaving: tuple[Job, ...]


def greedy_repack(problem: Problem, max_moves: int | None) -> Plan:
    """Let waiting jobs in, the largest first: directly where one fits, else by moving few jobs off one node.

    Only waiting jobs of one worker are let in and only running jobs of one worker are moved, and each at most once. Moves
    are spent where they let in most: first one move at a time for every waiting job, then up to two, and so on, and a job
    that moves is smaller than the one it makes way for.
    """
    budget = len(problem.jobs) if max_moves is None else max_moves
    cluster = Cluster(problem)
    here: list[dict[str, Job]] = [{} for _ in problem.nodes]
    for job in problem.jobs:
        if job.running is not None and job.workers == 1:
            here[cluster.placed[job.id][0][0]][job.id] = job
    waiting = [job for job in problem.jobs if job.running is None and job.workers == 1]
    waiting.sort(key=lambda job: (-job.gpus_per_worker, job.cpu_cores, job.id))
    for moves in range(MOST_MOVES_AT_ONCE + 1):
        refused: set[tuple[object, ...]] = set()  # demands that nothing more can be done for in this round
        for job in waiting:
            if job.id in cluster.placed or not cluster.within_quota(job) or _demand(job) in refused:
                continue
            step = _step(cluster, here, job, min(moves, budget))
            if step is None:
                refused.add(_demand(job))
                continue
            budget -= len(step.leaving)
            _take(cluster, here, step)
    return cluster.plan()


def _demand(job: Job) -> tuple[object, ...]:
    accepted = tuple(sorted(job.model_speeds))
    return job.gpus_per_worker, job.gpu_memory_gib, job.cpu_cores, job.memory_gib, accepted, tuple(job.node_selector.items()), job.tenant


def _step(cluster: Cluster, here: list[dict[str, Job]], job: Job, moves: int) -> _Step | None:
    """The first way found to let the job in with exactly ``moves`` moves (0: it simply fits)."""
    if moves == 0:
        nodes = np.flatnonzero(cluster.fits(job))
        return _Step(job, int(nodes[np.argmin(cluster.gpus[nodes].sum(axis=1))]), ()) if len(nodes) else None
    for node in _promising(cluster, job, moves):
        movable = [one for one in here[node].values() if one.gpus_per_worker < job.gpus_per_worker]
        leaving = _fewest(cluster, job, node, movable, moves)
        if leaving is not None and _relocatable(cluster, leaving, node):
            return _Step(job, node, leaving)
    return None


def _promising(cluster: Cluster, job: Job, moves: int) -> list[int]:
    """Nodes where the job is short of little: those with the most free GPU first."""
    free = cluster.gpus.sum(axis=1)
    short = job.gpus_per_worker - free
    nodes = np.flatnonzero(cluster.accepts(job) & (cluster.count >= job.gpus_per_worker) & (short <= moves))
    return [int(node) for node in nodes[np.argsort(short[nodes], kind="stable")]]


def _fewest(cluster: Cluster, job: Job, node: int, movable: list[Job], moves: int) -> tuple[Job, ...] | None:
    """At most ``moves`` jobs of the node whose leaving makes the job fit, each time the one that helps it most."""
    free = _Free.at(cluster, node)
    leaving: list[Job] = []
    while movable and len(leaving) < moves and not free.fits(job):
        options = [(free.without(one, cluster.placed[one.id][0][1]), one) for one in movable]
        free, best = max(options, key=lambda option: (option[0].fits(job), option[0].usable(job), -option[1].gpus_per_worker))
        movable = [one for one in movable if one is not best]
        leaving.append(best)
    return tuple(leaving) if free.fits(job) else None


@dataclass(frozen=True, slots=True)
class _Free:
    """What is free on one node, in plain numbers: tried out far too often for arrays."""

    cpu: float
    memory: float
    gpus: list[float]
    gpu_memory: list[float]

    @classmethod
    def at(cls, cluster: Cluster, node: int) -> _Free:
        return cls(float(cluster.cpu[node]), float(cluster.memory[node]), cluster.gpus[node].tolist(), cluster.gpu_memory[node].tolist())

    def without(self, job: Job, used: tuple[int, ...]) -> _Free:
        """What is free when a worker of ``job`` that used these GPUs is gone."""
        gpus, gpu_memory = self.gpus.copy(), self.gpu_memory.copy()
        for gpu in used:
            gpus[gpu] += min(job.gpus_per_worker, 1.0)
            gpu_memory[gpu] += job.gpu_memory_gib
        return _Free(self.cpu + job.cpu_cores, self.memory + job.memory_gib, gpus, gpu_memory)

    def fits(self, job: Job) -> bool:
        """Whether a worker of the job fits by its resources."""
        if self.cpu < job.cpu_cores - ROUNDING or self.memory < job.memory_gib - ROUNDING:
            return False
        enough = min(job.gpus_per_worker, 1.0) - ROUNDING
        memory = job.gpu_memory_gib - ROUNDING
        suited = sum(1 for gpu, gib in zip(self.gpus, self.gpu_memory, strict=True) if gpu >= enough and gib >= memory)
        return suited >= job.gpus_per_worker

    def usable(self, job: Job) -> float:
        """The free capacity in GPUs that a worker of the job could use."""
        enough = min(job.gpus_per_worker, 1.0) - ROUNDING
        return sum(gpu for gpu in self.gpus if gpu >= enough)


def _relocatable(cluster: Cluster, leaving: tuple[Job, ...], node: int) -> bool:
    """Whether all of them find another node at the same time; leaves the cluster as it was."""
    moved = []
    for job in leaving:
        target = _elsewhere(cluster, job, node)
        if target is None:
            break
        moved.append((job, cluster.remove(job)))
        cluster.place(job, [(target, cluster.pick(job, target))])
    for job, places in reversed(moved):
        cluster.remove(job)
        cluster.place(job, places)
    return len(moved) == len(leaving)


def _elsewhere(cluster: Cluster, job: Job, node: int) -> int | None:
    """The fullest other node that holds the job."""
    fits = cluster.fits(job)
    fits[node] = False
    nodes = np.flatnonzero(fits)
    return int(nodes[np.argmin(cluster.gpus[nodes].sum(axis=1))]) if len(nodes) else None


def _take(cluster: Cluster, here: list[dict[str, Job]], step: _Step) -> None:
    for job in step.leaving:
        target = _elsewhere(cluster, job, step.node)
        if target is None:
            raise AssertionError(f"job '{job.id}' found a place a moment ago")
        cluster.remove(job)
        del here[step.node][job.id]
        cluster.place(job, [(target, cluster.pick(job, target))])
    cluster.place(step.job, [(step.node, cluster.pick(step.job, step.node))])


def greedy_preempt(problem: Problem) -> Plan | None:
    """Evict for the named job node by node: each time the node that yields a worker's room for the fewest further evictions.

    None when that finds no room; a job that must be colocated is not served (None).
    """
    target = next(job for job in problem.jobs if job.id == problem.preempt_for)
    if target.colocate is not None and target.colocate.required:
        return None
    cluster = Cluster(problem)
    jobs = {job.id: job for job in problem.jobs}
    users: list[set[str]] = [set() for _ in problem.nodes]
    for name, places in cluster.placed.items():
        for node, _ in places:
            users[node].add(name)
    places = []
    for _ in range(target.workers):
        found = _cheapest_node(cluster, jobs, users, target)
        if found is None:
            return None
        node, leaving = found
        for name in leaving:
            for other, _ in cluster.remove(jobs[name]):
                users[other].discard(name)
        places.append((node, cluster.pick(target, node)))
        cluster.put(target, *places[-1])
    cluster.record(target, places)
    return cluster.plan()


def _cheapest_node(cluster: Cluster, jobs: dict[str, Job], users: list[set[str]], target: Job) -> tuple[int, list[str]] | None:
    """The node where the fewest evictions (then the cheapest) free a worker's room, and those jobs."""
    best: tuple[tuple[int, float], int, list[str]] | None = None
    accepted = cluster.accepts(target)
    for node in np.flatnonzero(accepted):
        leaving, cost = _evictions(cluster, jobs, users[node], target, int(node))
        if leaving is not None and (best is None or (len(leaving), cost) < best[0]):
            best = ((len(leaving), cost), int(node), leaving)
    return None if best is None else best[1:]


def _evictions(cluster: Cluster, jobs: dict[str, Job], users: set[str], target: Job, node: int) -> tuple[list[str] | None, float]:
    """Evictable jobs of the node, those with the most of it first, until a worker of the target fits."""
    candidates = [jobs[name] for name in users if (jobs[name].running is not None) and jobs[name].priority < target.priority]
    candidates = [job for job in candidates if job.running is not None and job.running.evictable]
    candidates.sort(key=lambda job: (-job.gpus_per_worker, job.id))
    free = _Free.at(cluster, node)
    leaving: list[str] = []
    cost = 0.0
    for job in candidates:
        if free.fits(target):
            break
        for at, gpus in cluster.placed[job.id]:
            free = free.without(job, gpus) if at == node else free
        leaving.append(job.id)
        cost += job.running.move_cost if job.running is not None else 0.0
    return (leaving, cost) if free.fits(target) else (None, 0.0)

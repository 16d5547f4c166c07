"""What is free on every node, as arrays: the state that the baselines place jobs into, one after another.

Nothing here decides anything. A job is asked for ``room`` (workers that each node can hold now) and then placed; placing
returns the GPU indices, and removing takes them back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.placement.schema import JobPlacement, Plan, WorkerPlace
from models.vocabulary import Level

if TYPE_CHECKING:
    from models.placement.schema import Job, Problem

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Places = list[tuple[int, tuple[int, ...]]]  # one (node, GPU indices) for each worker
ROUNDING = 1e-9  # sums of decimal fractions miss by this much; far below the tolerance of the rules


class Cluster:
    """Free resources: ``cpu``, ``memory`` (nodes,), ``gpus`` and ``gpu_memory`` (nodes, most GPUs of a node).

    A GPU's entry is the share of it that is free; beyond a node's own GPUs it is 0. Running jobs are placed from the
    start unless ``empty``.

    Raises ValueError for a job with spread or anti-affinity, or a power cap: the baselines know nothing of them.
    """

    def __init__(self, problem: Problem, *, empty: bool = False) -> None:
        if problem.power_cap_kw is not None or any(job.spread or job.anti_affinity for job in problem.jobs):
            raise ValueError("the baselines know nothing of spread, anti-affinity and power caps")
        self.problem = problem
        nodes = problem.nodes
        self.index = {node.id: place for place, node in enumerate(nodes)}
        self.count = np.array([node.gpus for node in nodes], dtype=np.int64)
        self.cpu: Floats = np.array([node.cpu_cores for node in nodes])
        self.memory: Floats = np.array([node.memory_gib for node in nodes])
        self.most_cpu = max(1.0, float(self.cpu.max()))
        self.most_gpus = max(1, int(self.count.max()))
        self.gpus: Floats = (np.arange(self.most_gpus) < self.count[:, None]).astype(np.float64)
        per_gpu = np.array([np.inf if node.gpu_memory_gib is None else node.gpu_memory_gib for node in nodes])
        self.gpu_memory: Floats = np.repeat(per_gpu[:, None], self.gpus.shape[1], axis=1)
        self.quota: dict[str, float] = {tenant.id: tenant.quota_gpus for tenant in problem.tenants if tenant.quota_gpus is not None}
        self.placed: dict[str, Places] = {}
        self._masks: dict[object, Bools] = {}
        self._speeds: dict[object, Floats] = {}
        self._domains: dict[Level, Ints] = {}
        if not empty:
            for job in problem.jobs:
                if job.running is not None:
                    self.place(job, [(self.index[worker.node], worker.gpus) for worker in job.running.workers])

    def accepts(self, job: Job) -> Bools:
        """Which nodes take new workers of this job at all, by state, reservation, model and labels, shape (nodes,)."""
        key = (tuple(job.model_speeds), tuple(job.node_selector.items()), job.tenant)
        if key not in self._masks:
            self._masks[key] = np.array(
                [
                    node.state == "ready"
                    and node.reserved_for in (None, job.tenant)
                    and (not job.model_speeds or node.gpu_model in job.model_speeds)
                    and all(node.labels.get(label) == wanted for label, wanted in job.node_selector.items())
                    for node in self.problem.nodes
                ]
            )
        return self._masks[key]

    def speed(self, job: Job) -> Floats:
        """The job's speed on every node (1 where it names none), shape (nodes,)."""
        key = tuple(job.model_speeds.items())
        if key not in self._speeds:
            self._speeds[key] = np.array([job.model_speeds.get(node.gpu_model or "", 1.0) for node in self.problem.nodes])
        return self._speeds[key]

    def domain(self, level: Level) -> Ints:
        """The number of each node's domain at the level, -1 where it has none, shape (nodes,)."""
        if level not in self._domains:
            names = [(node.id,) if level is Level.node else node.topology.domain(level) for node in self.problem.nodes]
            numbers = {name: place for place, name in enumerate(dict.fromkeys(name for name in names if name is not None))}
            self._domains[level] = np.array([-1 if name is None else numbers[name] for name in names])
        return self._domains[level]

    def fits(self, job: Job) -> Bools:
        """Which nodes can hold one more worker of the job now, quota aside, shape (nodes,)."""
        mask = self.accepts(job) & (self.cpu >= job.cpu_cores - ROUNDING) & (self.memory >= job.memory_gib - ROUNDING)
        size = job.gpus_per_worker
        if size > 0:
            usable = self.usable(job)
            mask &= usable.any(axis=1) if size < 1 else np.count_nonzero(usable, axis=1) >= size
        return mask

    def usable(self, job: Job) -> Bools:
        """Which GPUs have enough left for the job's share of one (all of it for a whole-GPU job), shape (nodes, GPUs)."""
        enough: Bools = self.gpus >= min(job.gpus_per_worker, 1.0) - ROUNDING
        return enough & (self.gpu_memory >= job.gpu_memory_gib - ROUNDING) if job.gpu_memory_gib else enough

    def room(self, job: Job) -> Ints:
        """How many workers of the job each node can hold now, quota aside, shape (nodes,)."""
        room = np.where(self.accepts(job), job.workers, 0).astype(np.float64)
        for free, need in ((self.cpu, job.cpu_cores), (self.memory, job.memory_gib)):
            if need > 0:
                room = np.minimum(room, np.floor((free + ROUNDING) / need))
        size = job.gpus_per_worker
        if size >= 1:
            room = np.minimum(room, np.count_nonzero(self.usable(job), axis=1) // int(size))
        elif size > 0:
            each = np.floor((self.gpus + ROUNDING) / size)
            if job.gpu_memory_gib > 0:
                each = np.minimum(each, np.floor((self.gpu_memory + ROUNDING) / job.gpu_memory_gib))
            room = np.minimum(room, each.sum(axis=1))
        return np.maximum(room, 0).astype(np.int64)

    def leftover(self, job: Job) -> Floats:
        """What would be left on each node after one worker: half CPU, half GPUs, each over the most any node has, shape (nodes,).

        The measure of the openb simulator's BestFit (github.com/hkust-adsl/kubernetes-scheduler-simulator,
        pkg/simulator/plugin/best_fit_score.go).
        """
        cpu = (self.cpu - job.cpu_cores) / self.most_cpu
        gpus = (self.gpus.sum(axis=1) - job.gpus_per_worker) / self.most_gpus
        return np.asarray((cpu + gpus) / 2)

    def within_quota(self, job: Job) -> bool:
        """Whether the tenant may hold the job's GPUs too."""
        return job.gpus_per_worker * job.workers <= self.quota.get(job.tenant, np.inf) + ROUNDING

    def pick(self, job: Job, node: int) -> tuple[int, ...]:
        """The GPUs of the node that one worker takes: the lowest free ones, or the fullest that still holds its share."""
        size = job.gpus_per_worker
        if size == 0:
            return ()
        enough = (self.gpus[node] >= min(size, 1.0) - ROUNDING) & (self.gpu_memory[node] >= job.gpu_memory_gib - ROUNDING)
        usable = np.flatnonzero(enough)
        if size >= 1:
            return tuple(int(gpu) for gpu in usable[: int(size)])
        return (int(usable[np.argmin(self.gpus[node][usable])]),)

    def put(self, job: Job, node: int, gpus: tuple[int, ...], sign: int = 1) -> None:
        """Book one worker on a node, or take it off with ``sign`` -1."""
        self.cpu[node] -= sign * job.cpu_cores
        self.memory[node] -= sign * job.memory_gib
        if gpus:
            at = list(gpus)
            self.gpus[node, at] = np.round(self.gpus[node, at] - sign * min(job.gpus_per_worker, 1.0), 9)
            if job.gpu_memory_gib:
                self.gpu_memory[node, at] -= sign * job.gpu_memory_gib

    def place(self, job: Job, places: Places) -> None:
        """Place a whole job where ``places`` says."""
        for node, gpus in places:
            self.put(job, node, gpus)
        self.record(job, places)

    def remove(self, job: Job) -> Places:
        """Take a placed job off and return where it was."""
        places = self.placed.pop(job.id)
        for node, gpus in places:
            self.put(job, node, gpus, sign=-1)
        if job.tenant in self.quota:
            self.quota[job.tenant] += job.gpus_per_worker * len(places)
        return places

    def record(self, job: Job, places: Places) -> None:
        """Note that the job lies at ``places``, whose workers are booked already."""
        if job.tenant in self.quota:
            self.quota[job.tenant] -= job.gpus_per_worker * len(places)
        self.placed[job.id] = places

    def fill(self, job: Job, nodes: Ints, room: Ints) -> Places:
        """Place the job's workers on ``nodes`` in that order, at most ``room`` on each (shape (all nodes,)).

        The caller makes sure that there is room for all of them.
        """
        places: Places = []
        for node in (int(one) for one in nodes):
            for _ in range(min(int(room[node]), job.workers - len(places))):
                gpus = self.pick(job, node)
                self.put(job, node, gpus)
                places.append((node, gpus))
            if len(places) == job.workers:
                break
        self.record(job, places)
        return places

    def plan(self) -> Plan:
        """Everything placed, as a Plan; running jobs that lie elsewhere are moved, those that are gone evicted."""
        names = [node.id for node in self.problem.nodes]
        placements = []
        moved, evicted = [], []
        for job in self.problem.jobs:
            places = self.placed.get(job.id)
            if places is not None:
                workers = tuple(WorkerPlace(node=names[node], gpus=gpus) for node, gpus in places)
                placements.append(JobPlacement(job=job.id, workers=workers))
            if job.running is None:
                continue
            if places is None:
                evicted.append(job.id)
            elif sorted((names[node], tuple(sorted(gpus))) for node, gpus in places) != sorted(
                (worker.node, tuple(sorted(worker.gpus))) for worker in job.running.workers
            ):
                moved.append(job.id)
        return Plan(placements=tuple(placements), moved=tuple(moved), evicted=tuple(evicted))


Rule = Callable[[Cluster, "Job"], bool]


def one_after_another(problem: Problem, rule: Rule, order: Sequence[Job] | None = None) -> Plan:
    """Offers the waiting jobs in ``order`` (the problem's own) to ``rule``, which places each or leaves it out for good."""
    cluster = Cluster(problem)
    for job in problem.jobs if order is None else order:
        if job.running is None and cluster.within_quota(job):
            rule(cluster, job)
    return cluster.plan()

"""What a placement plan amounts to: who uses how much of each node, and from that the value of every goal.

Everything is recomputed from Problem and Plan. A plan may be any nonsense: workers of unknown jobs and on unknown nodes
are set aside in the Tally (``verify`` reports them), so that nothing here raises an error.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from math import fsum
from typing import TYPE_CHECKING

from models.contract import Goal, Sense
from models.placement.fragmentation import Free, TaskClass, cluster_fragmentation, task_classes
from models.placement.schema import GoalName, Use
from models.placement.sharing import sharing_metrics
from models.vocabulary import Level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from models.placement.schema import Job, Node, Plan, Problem, WorkerPlace

FRAGMENTATION_WORK = 200_000  # nodes x task classes up to which every verdict tells the fragmentation, asked for or not

Domain = tuple[str, ...]

_MEANINGS: dict[GoalName, tuple[Sense, str]] = {
    GoalName.placed_value: (Sense.maximise, "value"),
    GoalName.allocated_gpus: (Sense.maximise, "GPUs"),
    GoalName.evictions: (Sense.minimise, "jobs"),
    GoalName.eviction_cost: (Sense.minimise, "cost"),
    GoalName.moves: (Sense.minimise, "cost"),
    GoalName.fragmentation: (Sense.minimise, "GPUs"),
    GoalName.topology_distance: (Sense.minimise, "domains"),
    GoalName.nodes_powered: (Sense.minimise, "nodes"),
    GoalName.balance: (Sense.minimise, "share"),
}


def goals(problem: Problem) -> tuple[Goal, ...]:
    """The problem's goals, the most important first."""
    return tuple(Goal(name.value, *_MEANINGS[name]) for name in problem.ordered_goals())


@dataclass(slots=True)
class NodeUse:
    """What a plan's workers use of one node.

    ``gpus`` counts GPUs with fractions; ``whole`` counts the whole-GPU users of each GPU index, ``shares`` sums the
    shares on each index, ``gpu_memory_gib`` the GiB on each index.
    """

    workers: int = 0
    cpu_cores: float = 0.0
    memory_gib: float = 0.0
    gpus: float = 0.0
    whole: dict[int, int] = field(default_factory=dict)
    shares: dict[int, float] = field(default_factory=dict)
    gpu_memory_gib: dict[int, float] = field(default_factory=dict)

    def free_share(self, gpu: int) -> float:
        """The free share (0 to 1) of one GPU."""
        return 0.0 if gpu in self.whole else max(0.0, 1.0 - self.shares.get(gpu, 0.0))


class Tally:
    """One pass over a plan: every rule and goal reads its numbers from here.

    ``listed`` has all workers of each known job as the plan lists them, ``placed`` those of them on known nodes;
    ``unknown_jobs`` and ``repeated_jobs`` are ids in the order of the plan, ``unknown_nodes`` pairs (job, node), and
    ``miscounted`` pairs (job, worker) whose GPU indices are too few, too many or repeated.
    """

    def __init__(self, problem: Problem, plan: Plan) -> None:
        self.problem = problem
        self.plan = plan
        self.nodes: dict[str, Node] = {node.id: node for node in problem.nodes}
        self.jobs: dict[str, Job] = {job.id: job for job in problem.jobs}
        self.listed: dict[str, list[WorkerPlace]] = {}
        self.use: defaultdict[str, NodeUse] = defaultdict(NodeUse)
        self.unknown_jobs: list[str] = []
        self.repeated_jobs: list[str] = []
        self.unknown_nodes: list[tuple[str, str]] = []
        self.miscounted: list[tuple[Job, WorkerPlace]] = []
        self._domains: dict[Level, dict[str, Domain | None]] = {}
        for placement in plan.placements:
            job = self.jobs.get(placement.job)
            if job is None:
                self.unknown_jobs.append(placement.job)
                continue
            if placement.job in self.listed:
                self.repeated_jobs.append(placement.job)
            self.listed.setdefault(placement.job, []).extend(placement.workers)
            self._book(job, placement.workers)
        self.placed = self.listed
        if self.unknown_nodes:
            self.placed = {job: [worker for worker in workers if worker.node in self.nodes] for job, workers in self.listed.items()}

    def _book(self, job: Job, workers: tuple[WorkerPlace, ...]) -> None:
        """Adds workers on known nodes to the nodes' use."""
        size, cores, memory, gpu_memory = job.gpus_per_worker, job.cpu_cores, job.memory_gib, job.gpu_memory_gib
        needed = int(size) if size >= 1 else int(size > 0)
        for worker in workers:
            if worker.node not in self.nodes:
                self.unknown_nodes.append((job.id, worker.node))
                continue
            use, gpus = self.use[worker.node], worker.gpus
            use.workers += 1
            use.cpu_cores += cores
            use.memory_gib += memory
            use.gpus += size
            if len(gpus) != needed or (needed > 1 and len(set(gpus)) != needed):
                self.miscounted.append((job, worker))
            for gpu in gpus:
                if size >= 1:
                    use.whole[gpu] = use.whole.get(gpu, 0) + 1
                else:
                    use.shares[gpu] = use.shares.get(gpu, 0.0) + size
                if gpu_memory:
                    use.gpu_memory_gib[gpu] = use.gpu_memory_gib.get(gpu, 0.0) + gpu_memory

    @cached_property
    def task_classes(self) -> tuple[TaskClass, ...]:
        """The distinct demands of the problem's jobs, see ``fragmentation.py``."""
        return task_classes(self.problem)

    @cached_property
    def evicted(self) -> tuple[Job, ...]:
        """Running jobs that do not run in the plan."""
        return tuple(job for job in self.problem.jobs if job.running is not None and job.id not in self.listed)

    @cached_property
    def moved(self) -> tuple[Job, ...]:
        """Running jobs that run in the plan, but not exactly where they run now."""
        return tuple(
            job
            for job in self.problem.jobs
            if job.running is not None and job.id in self.listed and spots(self.listed[job.id]) != spots(job.running.workers)
        )

    def named_domain(self, node: str, level: Level) -> Domain | None:
        """The domain of a known node at ``level``, or None when the node names none there."""
        if level is Level.node:
            return (node,)
        known = self._domains.get(level)
        if known is None:
            known = self._domains[level] = {other.id: other.topology.domain(level) for other in self.problem.nodes}
        return known[node]

    def domain(self, node: str, level: Level) -> Domain:
        """As ``named_domain``, but a node that names none is a domain of its own."""
        # Five parts: longer than any path of the topology, so the two can never be taken for one another.
        return self.named_domain(node, level) or ("", "", "", "", node)


def spots(workers: Iterable[WorkerPlace]) -> list[tuple[str, tuple[int, ...]]]:
    """Where workers are, as a sorted list of (node, sorted GPU indices): equal lists mean that nothing moved."""
    return sorted((worker.node, tuple(sorted(worker.gpus))) for worker in workers)


# ---------------------------------------------------------------- the goals, one function each


def placed_value(tally: Tally) -> float:
    """Value: sum over placed jobs of priority x value x (sum of its workers' speeds) / workers."""
    return fsum(job.priority * job.value * _speed(tally, job, workers) / job.workers for job, workers in _placed(tally))


def _speed(tally: Tally, job: Job, workers: list[WorkerPlace]) -> float:
    if not job.model_speeds:
        return float(len(workers))
    # A model that the job does not accept counts 0 here; `accepted_model` reports it.
    return fsum(job.model_speeds.get(tally.nodes[worker.node].gpu_model or "", 0.0) for worker in workers)


def allocated_gpus(tally: Tally) -> float:
    """GPUs: sum of gpus_per_worker over all placed workers."""
    return fsum(job.gpus_per_worker * len(workers) for job, workers in _placed(tally))


def evictions(tally: Tally) -> float:
    """Jobs that run now and not in the plan."""
    return float(len(tally.evicted))


def eviction_cost(tally: Tally) -> float:
    """Cost: sum of move_cost over the evicted jobs."""
    return fsum(job.running.move_cost for job in tally.evicted if job.running is not None)


def moves(tally: Tally) -> float:
    """Cost: sum of move_cost over the moved jobs."""
    return fsum(job.running.move_cost for job in tally.moved if job.running is not None)


def fragmentation(tally: Tally) -> float:
    """GPUs: free capacity that the usual workers cannot use, over all nodes that are not drained (see fragmentation.py)."""
    nothing = NodeUse()
    free: list[Free] = []
    for node in tally.problem.nodes:
        if node.state == "drained" or not node.gpus:
            continue
        use = tally.use.get(node.id, nothing)
        shares = tuple(use.free_share(gpu) for gpu in range(node.gpus)) if use.gpus else (1.0,) * node.gpus
        free.append(Free(node.gpu_model, node.cpu_cores - use.cpu_cores, node.memory_gib - use.memory_gib, shares))
    return cluster_fragmentation(tally.task_classes, free)


def topology_distance(tally: Tally) -> float:
    """Domains: sum over placed jobs and topology levels of the distinct named domains used, minus 1 where there is any."""
    total = 0
    for workers in tally.placed.values():
        nodes = {worker.node for worker in workers}
        if len(nodes) > 1:
            for level in (Level.site, Level.row, Level.rack, Level.nvlink_domain):
                named = {tally.named_domain(node, level) for node in nodes} - {None}
                total += max(0, len(named) - 1)
    return float(total)


def nodes_powered(tally: Tally) -> float:
    """Nodes with at least one worker."""
    return float(len(tally.use))


def balance(tally: Tally) -> float:
    """Share: the largest allocated share of any node's GPUs."""
    nodes = tally.nodes
    return max((use.gpus / nodes[node].gpus for node, use in tally.use.items() if nodes[node].gpus), default=0.0)


_VALUES: dict[GoalName, Callable[[Tally], float]] = {
    GoalName.placed_value: placed_value,
    GoalName.allocated_gpus: allocated_gpus,
    GoalName.evictions: evictions,
    GoalName.eviction_cost: eviction_cost,
    GoalName.moves: moves,
    GoalName.fragmentation: fragmentation,
    GoalName.topology_distance: topology_distance,
    GoalName.nodes_powered: nodes_powered,
    GoalName.balance: balance,
}


def _placed(tally: Tally) -> Iterable[tuple[Job, list[WorkerPlace]]]:
    return ((tally.jobs[job], workers) for job, workers in tally.placed.items())


def objectives(tally: Tally) -> dict[str, float]:
    """The value of each goal of the problem, the most important first."""
    return {name.value: _VALUES[name](tally) for name in tally.problem.ordered_goals()}


def powered_kw(tally: Tally) -> float:
    """Power in kW of the nodes with at least one worker."""
    return fsum(tally.nodes[node].power_kw for node in tally.use)


def metrics(tally: Tally, found: dict[str, float]) -> dict[str, float]:
    """Plain facts about the plan; ``found`` are the objectives, so that no goal is computed twice."""
    problem = tally.problem
    capacity = float(sum(node.gpus for node in problem.nodes if node.state != "drained"))
    allocated = found[GoalName.allocated_gpus] if GoalName.allocated_gpus in found else allocated_gpus(tally)
    facts = {
        "allocated_gpus": allocated,
        "capacity_gpus": capacity,
        "allocated_percent": 100.0 * allocated / capacity if capacity else 0.0,
        "placed_jobs": float(len(tally.listed)),
        "jobs": float(len(problem.jobs)),
        "evictions": evictions(tally),
        "moves": float(len(tally.moved)),
        "nodes_powered": nodes_powered(tally),
        "powered_kw": powered_kw(tally),
    }
    if problem.use is Use.repack:
        running = fsum(job.gpus_per_worker * len(job.running.workers) for job in problem.jobs if job.running is not None)
        facts["gained_gpus"] = allocated - running
    if GoalName.fragmentation in found:
        facts["fragmentation_gpus"] = found[GoalName.fragmentation]
    elif len(problem.nodes) * len(tally.task_classes) <= FRAGMENTATION_WORK:
        facts["fragmentation_gpus"] = fragmentation(tally)
    return facts | sharing_metrics(problem, tally.placed)

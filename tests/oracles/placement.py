"""Brute force for placement: every way to put every job's workers on nodes and GPUs, judged by ``verify``.

The enumeration knows only three facts: how many workers a job may have, that a whole GPU is not shared, and that shares
of one GPU do not exceed it. All other rules are left to ``verify``, which also drops a partial plan as soon as it
breaks a rule that further jobs cannot mend. GPUs of one node that are used alike, by the plan so far and by the
running jobs, are interchangeable: only the first of them is tried.

In a preemption the plan holds running jobs and the job that the preemption is for, and no other waiting job.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

from models.contract import Goal, Verdict
from models.placement.schema import Job, JobPlacement, Node, Plan, Problem, Rule, Use, WorkerPlace
from models.placement.verify import goals, verify

MAX_PLANS = 300_000  # partial plans to judge before giving up: about a minute

_MENDABLE = frozenset({Rule.running_stays, Rule.evictable, Rule.move_budget, Rule.eviction_budget, Rule.must_place})

Spot = tuple[str, tuple[int, ...]]
Spots = tuple[Spot, ...]


@dataclass(frozen=True)
class Best:
    """The lexicographically best goal values, in the order of the goals, and one plan that has them."""

    values: tuple[float, ...]
    plan: Plan


@dataclass
class _Cluster:
    """The problem's nodes, the share of each GPU that is used so far, and which running workers are on it now."""

    nodes: tuple[Node, ...]
    used: dict[tuple[str, int], float] = field(default_factory=dict)
    runs: dict[tuple[str, int], tuple[tuple[str, int], ...]] = field(default_factory=dict)

    def gpu_choices(self, node: Node, gpus_per_worker: float) -> list[tuple[int, ...]]:
        """The GPU indices that one more worker may take on the node, one representative of each interchangeable set."""
        if gpus_per_worker == 0:
            return [()]
        share = min(gpus_per_worker, 1.0)
        able = [gpu for gpu in range(node.gpus) if self.used.get((node.id, gpu), 0.0) + share <= 1 + 1e-9]
        kept: dict[tuple[object, ...], tuple[int, ...]] = {}
        for choice in combinations(able, max(1, int(gpus_per_worker))):
            alike = sorted((self.used.get((node.id, gpu), 0.0), self.runs.get((node.id, gpu), ())) for gpu in choice)
            kept.setdefault(tuple(alike), choice)
        return list(kept.values())

    def use(self, spots: Spots, gpus_per_worker: float) -> None:
        """Books workers; a negative number of GPUs takes them off again."""
        share = max(-1.0, min(gpus_per_worker, 1.0))
        for node, gpus in spots:
            for gpu in gpus:
                self.used[node, gpu] = self.used.get((node, gpu), 0.0) + share


def best(problem: Problem) -> Best | None:
    """The best plan of all, or None when no plan obeys the rules.

    Raises:
        RuntimeError: the problem is not tiny: more than MAX_PLANS partial plans.
    """
    found: Best | None = None
    order = goals(problem)
    for plan, verdict in plans(problem):
        values = tuple(verdict.objectives[goal.name] for goal in order)
        if found is None or _better(order, values, found.values):
            found = Best(values, plan)
    return found


def _better(order: tuple[Goal, ...], first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    for goal, one, other in zip(order, first, second, strict=True):
        if goal.better(one, other):
            return True
        if goal.better(other, one):
            return False
    return False


def plans(problem: Problem) -> Iterator[tuple[Plan, Verdict]]:
    """Every right plan (up to interchangeable GPUs) with its verdict."""
    waiting = [job for job in problem.jobs if job.running is None and (problem.use is not Use.preempt or job.id == problem.preempt_for)]
    jobs = [job for job in problem.jobs if job.running is not None] + waiting
    cluster = _Cluster(problem.nodes)
    for job in jobs:
        for index, worker in enumerate(job.running.workers if job.running is not None else ()):
            for gpu in worker.gpus:
                cluster.runs[worker.node, gpu] = (*cluster.runs.get((worker.node, gpu), ()), (job.id, index))
    judged = [0]

    def extend(position: int, chosen: dict[str, Spots]) -> Iterator[tuple[Plan, Verdict]]:
        judged[0] += 1
        if judged[0] > MAX_PLANS:
            raise RuntimeError(f"the problem is too large to enumerate: more than {MAX_PLANS} partial plans")
        plan = _plan(problem, chosen)
        verdict = verify(problem, plan)
        if any(violation.rule not in _MENDABLE for violation in verdict.violations):
            return
        if position == len(jobs):
            if verdict.ok:
                yield plan, verdict
            return
        job = jobs[position]
        for spots in _choices(problem, job, cluster):
            cluster.use(spots, job.gpus_per_worker)
            yield from extend(position + 1, {**chosen, job.id: spots} if spots else chosen)
            cluster.use(spots, -job.gpus_per_worker)

    yield from extend(0, {})


def _choices(problem: Problem, job: Job, cluster: _Cluster) -> list[Spots]:
    """What may become of one job: not placed (an empty tuple), left as it runs, or any placement of an allowed number of workers."""
    stays: list[Spots] = [()]
    if job.running is not None:
        stays.append(tuple(sorted((worker.node, tuple(sorted(worker.gpus))) for worker in job.running.workers)))
        if problem.use is not Use.repack:
            return stays
    fewest = job.workers_min or job.workers
    return list(dict.fromkeys([*stays, *(spots for count in range(fewest, job.workers + 1) for spots in _spots(job, count, 0, cluster))]))


def _spots(job: Job, count: int, first: int, cluster: _Cluster) -> Iterator[Spots]:
    """All placements of ``count`` workers on the nodes from the ``first`` on; sorted, so that equal ones can be told."""
    if count == 0:
        yield ()
        return
    for index in range(first, len(cluster.nodes)):
        node = cluster.nodes[index]
        for gpus in cluster.gpu_choices(node, job.gpus_per_worker):
            spot = (node.id, gpus)
            cluster.use((spot,), job.gpus_per_worker)
            for rest in _spots(job, count - 1, index, cluster):
                yield tuple(sorted((spot, *rest)))
            cluster.use((spot,), -job.gpus_per_worker)


def _plan(problem: Problem, chosen: dict[str, Spots]) -> Plan:
    """The plan that places each chosen job at its spots."""
    runs = {
        job.id: sorted((worker.node, tuple(sorted(worker.gpus))) for worker in job.running.workers)
        for job in problem.jobs
        if job.running is not None
    }
    return Plan(
        placements=tuple(
            JobPlacement(job=job, workers=tuple(WorkerPlace(node=node, gpus=gpus) for node, gpus in spots)) for job, spots in chosen.items()
        ),
        moved=tuple(job for job, spots in runs.items() if job in chosen and sorted(chosen[job]) != spots),
        evicted=tuple(job for job in runs if job not in chosen),
    )

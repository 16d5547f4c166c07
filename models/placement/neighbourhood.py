"""Neighbourhoods of a plan: a few nodes and what is on them as a problem of their own, the rest held fixed.

Jobs that lie wholly on the chosen nodes are free again, together with some that wait; all others stay. Jobs that an
anti-affinity concerns stay too: their rule looks outside. The part is small enough for the exact program, and its plan
merged into the whole one obeys every rule again.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING

from models.contract import Neighbourhood
from models.placement.heuristic import order
from models.placement.schema import Job, JobPlacement, Plan, Problem, Running, Tenant, Use

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Iterator

FIRST_NODES = 8
MOST_NODES = 64
OFFERED = 60  # waiting jobs offered to a part
IDLE = 1e-6  # of a GPU: a node with more than this has idle ones


def neighbourhoods(problem: Problem, plan: Plan) -> Callable[[random.Random, float], Neighbourhood | None]:
    """A source of parts around ``plan``: call it with a random generator and a size (1.0 is usual) for the next part.

    Nodes with idle GPUs come first in line. None when a draw came to nothing: draw again.
    """
    whole = Whole(problem, plan)
    return lambda rng, size: whole.part(rng, max(2, min(MOST_NODES, round(FIRST_NODES * size))))


class Whole:
    """The plan seen node by node."""

    def __init__(self, problem: Problem, plan: Plan) -> None:
        self.problem = problem
        self.nodes = {node.id: node for node in problem.nodes}
        self.jobs = {job.id: job for job in problem.jobs}
        self.placed = {placement.job: placement for placement in plan.placements}
        self.plan = plan
        self.at = {job.id: self._nodes_of(job) for job in problem.jobs}  # where a job is and where it ran
        self.touching: defaultdict[str, list[str]] = defaultdict(list)  # the same the other way round
        for name, nodes in self.at.items():
            for node in nodes:
                self.touching[node].append(name)
        self.idle = self._idle_gpus()
        self.names = [node.id for node in problem.nodes if node.state != "drained"]
        self.wasteful = [name for name in self.names if self.idle[name] > IDLE]
        self.used: defaultdict[str, float] = defaultdict(float)  # GPUs by tenant
        for placement in plan.placements:
            job = self.jobs[placement.job]
            self.used[job.tenant] += job.gpus_per_worker * len(placement.workers)
        self.apart = {other for job in problem.jobs if job.anti_affinity for other in (job.id, *job.anti_affinity.jobs)}
        unplaced = {job.id for job in problem.jobs if job.running is None} - self.placed.keys() - self.apart
        self.waiting = [problem.jobs[k] for k in order(problem, (k for k, job in enumerate(problem.jobs) if job.id in unplaced))]

    def _nodes_of(self, job: Job) -> set[str]:
        now = self.placed[job.id].workers if job.id in self.placed else ()
        before = job.running.workers if job.running is not None else ()
        return {worker.node for worker in (*now, *before)}

    def _idle_gpus(self) -> dict[str, float]:
        idle = {node.id: float(node.gpus) for node in self.problem.nodes if node.state != "drained"}
        for placement in self.plan.placements:
            size = self.jobs[placement.job].gpus_per_worker
            for worker in placement.workers:
                idle[worker.node] = idle.get(worker.node, 0.0) - size
        return idle

    # ------------------------------------------------------------ one part

    def part(self, rng: random.Random, count: int) -> Neighbourhood | None:
        """A part of about ``count`` nodes, or None when the draw was no good."""
        nodes = self._draw(rng, count)
        return self.around(nodes, lambda: self._offered(rng, nodes))

    def around(self, nodes: set[str], offered: Callable[[], tuple[Job, ...]]) -> Neighbourhood | None:
        """The part of just these nodes, with the waiting jobs that ``offered`` gives; None when it is none."""
        inside = sorted({job for node in nodes for job in self.touching[node]})
        free = [job for job in inside if self._is_free(job, nodes)]
        if not nodes or (self.problem.preempt_for is not None and self.problem.preempt_for not in free):
            return None
        fixed = [job for job in inside if job in self.placed and job not in free]  # whoever was evicted from outside stays so
        part = self._problem(nodes, free, fixed, offered() if self.problem.use is not Use.preempt else ())
        start = Plan(
            placements=tuple(self._cut(job, nodes) for job in [*fixed, *free] if job in self.placed),
            moved=tuple(job for job in self.plan.moved if job in free),
            evicted=tuple(job for job in self.plan.evicted if job in free),
        )
        return Neighbourhood(part, start, lambda found: self._merged(found, set(free), set(fixed)))

    def _is_free(self, name: str, nodes: set[str]) -> bool:
        held = self.problem.use is Use.place and self.jobs[name].running is not None
        return self.at[name] <= nodes and name not in self.apart and not held

    def _draw(self, rng: random.Random, count: int) -> set[str]:
        """Half of the nodes among those with idle GPUs, half among all; in a preemption those of its job as well."""
        nodes = set(self.at[self.problem.preempt_for]) if self.problem.preempt_for is not None else set()
        for pool, share in ((self.wasteful or self.names, 0.5), (self.names, 1.0)):
            wanted = max(1, round(count * share))
            if len(nodes) < wanted:
                nodes |= set(rng.sample(pool, min(len(pool), wanted - len(nodes))))
        return self._closed(nodes) if self.problem.use is Use.repack else nodes

    def _closed(self, nodes: set[str]) -> set[str]:
        """In a repack no job can be held still: the nodes of the jobs on ``nodes`` too, without those that have jobs outside even so."""
        nodes = nodes.union(*(self.at[job] for node in nodes for job in self.touching[node]))
        while True:
            outside = {job for node in nodes for job in self.touching[node] if not self._is_free(job, nodes)}
            if not outside:
                return nodes
            nodes = nodes.difference(*(self.at[job] for job in outside))

    def _cut(self, job: str, nodes: set[str]) -> JobPlacement:
        return JobPlacement(job=job, workers=tuple(worker for worker in self.placed[job].workers if worker.node in nodes))

    def _problem(self, nodes: set[str], free: list[str], fixed: list[str], offered: tuple[Job, ...]) -> Problem:
        held = tuple(self._as_fixed(self.jobs[job], nodes) for job in fixed)
        jobs = (*held, *(self.jobs[job] for job in free), *offered)
        quotas = self._quotas_left(free, held)
        moves = None
        if self.problem.max_moves is not None:
            moves = self.problem.max_moves - len(set(self.plan.moved) - set(free))
        evictions = self.problem.max_evictions
        if evictions is not None:
            evictions -= len(set(self.plan.evicted) - set(free))
        return Problem(
            use=self.problem.use,
            nodes=tuple(self.nodes[node] for node in sorted(nodes)),
            jobs=jobs,
            tenants=quotas,
            preempt_for=self.problem.preempt_for,
            max_moves=moves,
            max_evictions=evictions,
            power_cap_kw=self._power_left(nodes),
            goals=self.problem.ordered_goals(),
        )

    def _as_fixed(self, job: Job, nodes: set[str]) -> Job:
        """A job that stays: only its workers inside, running there, without rules that look outside."""
        workers = self._cut(job.id, nodes).workers
        return job.model_copy(
            update={
                "running": Running(workers=workers, evictable=False),
                "workers": len(workers),
                "workers_min": None,
                "value": job.value * len(workers) / job.workers,
                "colocate": None,
                "spread": None,
                "anti_affinity": None,
            }
        )

    def _offered(self, rng: random.Random, nodes: set[str]) -> tuple[Job, ...]:
        """Some waiting jobs: the first few in greedy order, then others at random."""
        first, others = self.waiting[: OFFERED // 2], self.waiting[OFFERED // 2 :]
        drawn = (*first, *rng.sample(others, min(len(others), 2 * OFFERED)))
        return tuple(islice(self.fitting(drawn, nodes), OFFERED))

    def fitting(self, jobs: Iterable[Job], nodes: set[str]) -> Iterator[Job]:
        """Those of the jobs that the nodes, were they empty, might hold."""
        models = {self.nodes[node].gpu_model for node in nodes}
        gpus = [self.nodes[node].gpus for node in nodes]
        most, total = max(gpus, default=0), sum(gpus)
        for job in jobs:
            accepted = not job.model_speeds or not models.isdisjoint(job.model_speeds)
            if accepted and job.gpus_per_worker <= most and job.gpus_per_worker * (job.workers_min or job.workers) <= total:
                yield job

    def _quotas_left(self, free: list[str], held: tuple[Job, ...]) -> tuple[Tenant, ...]:
        """What the tenants' other jobs leave of the quotas: those of the part, free or held, count again in the part."""
        inside: defaultdict[str, float] = defaultdict(float)
        for name in free:
            if name in self.placed:
                inside[self.jobs[name].tenant] += self.jobs[name].gpus_per_worker * len(self.placed[name].workers)
        for job in held:
            inside[job.tenant] += job.gpus_per_worker * job.workers
        return tuple(
            tenant
            if tenant.quota_gpus is None
            else tenant.model_copy(update={"quota_gpus": max(0.0, tenant.quota_gpus - self.used[tenant.id] + inside[tenant.id])})
            for tenant in self.problem.tenants
        )

    def _power_left(self, nodes: set[str]) -> float | None:
        if self.problem.power_cap_kw is None:
            return None
        busy = {worker.node for placement in self.plan.placements for worker in placement.workers}
        outside = sum(self.nodes[node].power_kw for node in busy - nodes)
        return max(self.problem.power_cap_kw - outside, 1e-9)

    def _merged(self, found: Plan, free: set[str], fixed: set[str]) -> Plan:
        """The whole plan with the part's answer put in."""
        kept = [placement for placement in self.plan.placements if placement.job not in free]
        new = [placement for placement in found.placements if placement.job not in fixed]
        placements = (*kept, *new)
        return Plan(
            placements=placements,
            moved=(*(job for job in self.plan.moved if job not in free), *found.moved),
            evicted=(*(job for job in self.plan.evicted if job not in free), *found.evicted),
        )

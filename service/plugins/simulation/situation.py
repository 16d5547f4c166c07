"""A cluster as the questions need it: a placement problem, and when its running jobs end at the latest.

A snapshot may hold jobs that run against their own rules: on a node that is being drained, over a quota. A plan would have to end
that first, and every answer would be about those jobs. So such rules are lifted for what runs, and told (``settled``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from models.placement.schema import Job, JobPlacement, Plan, Problem, Rule, Running, Tenant, Use
from models.placement.verify import verify
from models.vocabulary import LARGEST_COUNT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.contract import Violation
    from models.placement.schema import Node, WorkerPlace

PIN = "quartermaster.dev/stays-"  # a label of the nodes of one job that may not be moved
OWN_RULES = ("model_speeds", "node_selector", "colocate", "spread", "anti_affinity")  # fields of a job that say where it may run


class OverfullError(ValueError):
    """What runs is more than the cluster has: a mistake of the source."""


@dataclass(frozen=True, slots=True)
class Situation:
    """The cluster at the time ``now`` (seconds since the epoch; None: the source knows no times).

    ``ends`` says when a running job ends at the latest; a job that is not in it may run for ever. ``submitted`` orders waiting jobs
    of equal priority. ``names`` are those that people gave to jobs, by id. ``priorities`` are the scheduler's own, ascending, of which
    the problem has ranks: 2 for the lowest, 4 for the next, so that a job that is only thought of finds room between any two; none: the
    problem has them as they are.
    """

    problem: Problem
    now: float | None = None
    ends: Mapping[str, float] = field(default_factory=dict)
    submitted: Mapping[str, float] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    priorities: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def running(self) -> tuple[Job, ...]:
        """The jobs that run."""
        return tuple(job for job in self.problem.jobs if job.running is not None)

    @property
    def waiting(self) -> tuple[Job, ...]:
        """The jobs that wait."""
        return tuple(job for job in self.problem.jobs if job.running is None)

    def left_at(self, time: float) -> tuple[Job, ...]:
        """The running jobs that may still run at ``time``."""
        return tuple(job for job in self.running if self.ends.get(job.id, float("inf")) > time)

    def name(self, job: str) -> str:
        """What a person calls the job."""
        return self.names.get(job) or job

    def rank(self, priority: int) -> int:
        """The problem's priority for one on the scheduler's own scale."""
        if not self.priorities:
            return min(max(priority, 0), LARGEST_COUNT)
        place = bisect_left(self.priorities, priority)
        return 2 * (place + 1) if self.priorities[place : place + 1] == (priority,) else 2 * place + 1

    def priority(self, rank: int) -> int:
        """One on the scheduler's own scale that has this rank."""
        if not self.priorities:
            return rank
        below = rank // 2 - 1
        return self.priorities[below] + rank % 2 if below >= 0 else self.priorities[0] - 1


def as_they_run(jobs: Sequence[Job]) -> Plan:
    """The plan in which the running ones of ``jobs`` stay where they are and nothing else happens."""
    return Plan(placements=tuple(JobPlacement(job=job.id, workers=job.running.workers) for job in jobs if job.running is not None))


def as_running(job: Job, workers: tuple[WorkerPlace, ...]) -> Job:
    """The job, once it has started there."""
    return job.model_copy(update={"workers": len(workers), "workers_min": None, "running": Running(workers=workers)})


def at(situation: Situation, time: float) -> Situation:
    """The same cluster at a later ``time``: jobs whose limit has passed by then are gone, and nothing has started in between."""
    left = {job.id for job in situation.left_at(time)}
    jobs = tuple(job for job in situation.problem.jobs if job.running is None or job.id in left)
    return replace(situation, problem=_with(situation.problem, jobs=jobs), now=time)


def ahead_of(situation: Situation, job: Job, submitted: float | None = None) -> tuple[Job, ...]:
    """The waiting jobs that come before ``job``, the first in the queue first: of higher priority, or as high and submitted before it.

    ``submitted`` None: after all others.
    """
    latest = float("inf") if submitted is None else submitted
    found = [
        other
        for other in situation.waiting
        if other.id != job.id
        and (
            other.priority > job.priority or (other.priority == job.priority and situation.submitted.get(other.id, float("-inf")) < latest)
        )
    ]
    return tuple(sorted(found, key=lambda other: (-other.priority, situation.submitted.get(other.id, float("-inf")))))


def settled(situation: Situation) -> Situation:
    """The situation with the rules lifted that its running jobs break as they are, and a warning for each.

    Raises OverfullError when even then what runs is more than the cluster has.
    """
    nodes, told = _cordoned(situation.problem)
    problem = _with(situation.problem, nodes=nodes, use=Use.place, preempt_for=None, max_moves=None, max_evictions=None, goals=())
    warnings = [*situation.warnings, *told]
    for _ in range(3):  # lifting one rule may show another
        broken = verify(problem, as_they_run(problem.jobs)).violations
        if not broken:
            break
        problem, told = _lifted(problem, broken)
        warnings += told
    broken = verify(problem, as_they_run(problem.jobs)).violations
    if broken:
        raise OverfullError(f"the running jobs use more than there is: {broken[0].message}; take the snapshot anew")
    return replace(situation, problem=problem, warnings=tuple(warnings))


def pinned(situation: Situation) -> tuple[tuple[Node, ...], tuple[Job, ...]]:
    """The nodes and the running jobs, those that may not be evicted bound to their nodes by a label of their own."""
    running, labels = [], defaultdict[str, dict[str, str]](dict)
    for job in situation.running:
        if job.running is None or job.running.evictable:
            running.append(job)
            continue
        label = f"{PIN}{job.id}"
        for worker in job.running.workers:
            labels[worker.node][label] = "yes"
        running.append(job.model_copy(update={"node_selector": {**job.node_selector, label: "yes"}}))
    nodes = (
        node.model_copy(update={"labels": {**node.labels, **labels[node.id]}}) if node.id in labels else node
        for node in situation.problem.nodes
    )
    return tuple(nodes), tuple(running)


def _cordoned(problem: Problem) -> tuple[tuple[Node, ...], list[str]]:
    """The nodes, cordoned where they are drained and jobs still run, and what was done."""
    used = {worker.node for job in problem.jobs if job.running is not None for worker in job.running.workers}
    held = {node.id for node in problem.nodes if node.state == "drained" and node.id in used}
    nodes = tuple(node.model_copy(update={"state": "cordoned"}) if node.id in held else node for node in problem.nodes)
    return nodes, [f"node {name} is drained and jobs still run there; it takes no new worker, and they stay" for name in sorted(held)]


def _lifted(problem: Problem, broken: Sequence[Violation]) -> tuple[Problem, list[str]]:
    """The problem without the rules that are ``broken``, as far as they can be lifted for running jobs alone, and what was done."""
    warnings: dict[str, None] = {}
    jobs = {job.id: job for job in problem.jobs}
    tenants = {tenant.id: tenant for tenant in problem.tenants}
    cap = problem.power_cap_kw
    for violation in broken:
        if violation.rule == Rule.tenant_quota:
            name = violation.ids[0]
            held = (tenants[name].quota_gpus or 0.0) + violation.amount
            tenants[name] = Tenant(id=name, quota_gpus=held)
            warnings[f"tenant {name} holds {held:g} GPUs, more than its quota; it gets no more, and its jobs stay"] = None
        elif violation.rule == Rule.power_cap:
            cap = (cap or 0.0) + violation.amount
            warnings[f"the nodes in use draw {cap:g} kW, more than the cap; no further node is powered"] = None
        elif violation.rule in {Rule.accepted_model, Rule.node_selector, Rule.colocation, Rule.spread, Rule.anti_affinity}:
            for name in violation.ids[: 2 if violation.rule == Rule.anti_affinity else 1]:
                jobs[name] = _free(jobs[name])
                warnings[f"job {name} runs where its own rules do not allow it ({violation.rule}); they are left aside for it"] = None
    changed = _with(problem, jobs=tuple(jobs.values()), tenants=tuple(tenants.values()), power_cap_kw=cap)
    return changed, list(warnings)


def _free(job: Job) -> Job:
    """The job without rules of its own about where it may run."""
    fields = Job.model_fields
    return job.model_copy(update={name: fields[name].get_default(call_default_factory=True) for name in OWN_RULES})


def _with(problem: Problem, **parts: object) -> Problem:
    """A changed problem, checked as any other."""
    return Problem.model_validate({name: getattr(problem, name) for name in Problem.model_fields} | parts)

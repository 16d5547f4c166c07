"""Placement problems for tests: short ways to write one down, and random tiny ones.

The random ones are small enough to enumerate and wild enough to meet every rule and goal. Their numbers are
multiples of 1/8, so that sums are exact and equal goals are equal.
"""

from __future__ import annotations

from random import Random
from typing import Any, Literal

import numpy as np

from models.placement.ledger import Ledger
from models.placement.schema import (
    AntiAffinity,
    Colocate,
    GoalName,
    Job,
    JobPlacement,
    Node,
    Plan,
    Problem,
    Running,
    Spread,
    Tenant,
    Use,
    WorkerPlace,
)
from models.placement.seating import seat_job
from models.placement.verify import verify
from models.vocabulary import Level, Topology

MODELS = ("a100", "h100")
TENANTS = ("blue", "red")
_GOALS = {
    Use.place: (
        GoalName.placed_value,
        GoalName.allocated_gpus,
        GoalName.fragmentation,
        GoalName.topology_distance,
        GoalName.nodes_powered,
        GoalName.balance,
    ),
    Use.repack: tuple(GoalName),
    Use.preempt: tuple(GoalName),
}


def node(name: str, gpus: int = 2, **fields: Any) -> Node:
    """A node of 8 cores and 64 GiB, with two GPUs of model h100 unless told otherwise."""
    return Node.model_validate({"id": name, "gpus": gpus, "gpu_model": "h100" if gpus else None, "cpu_cores": 8, "memory_gib": 64} | fields)


def job(name: str, gpus: float = 1, workers: int = 1, runs: str = "", **fields: Any) -> Job:
    """A job; ``runs`` says where its workers run now, as in ``places``."""
    if runs:
        fields["running"] = {"workers": places(runs)} | fields.pop("running", {})
    return Job.model_validate({"id": name, "gpus_per_worker": gpus, "workers": workers} | fields)


def places(text: str) -> tuple[WorkerPlace, ...]:
    """Workers from text: "n1:0,1 n2" is one on GPUs 0 and 1 of n1 and one without GPUs on n2."""
    pairs = [word.partition(":") for word in text.split()]
    return tuple(WorkerPlace(node=name, gpus=tuple(int(gpu) for gpu in gpus.split(",") if gpu)) for name, _, gpus in pairs)


def plan(moved: tuple[str, ...] = (), evicted: tuple[str, ...] = (), /, **workers: str) -> Plan:
    """A plan of jobs and where their workers are, as in ``places``."""
    placed = tuple(JobPlacement(job=name, workers=places(text)) for name, text in workers.items())
    return Plan(placements=placed, moved=moved, evicted=evicted)


def problem(nodes: list[Node], jobs: list[Job], **fields: Any) -> Problem:
    """A checked problem."""
    return Problem.model_validate({"nodes": nodes, "jobs": jobs} | fields)


def tiny_problem(rng_seed: int, use: Use | Literal["place", "repack", "preempt"]) -> Problem:
    """A valid problem of 2 to 4 nodes with up to 4 GPUs and 2 to 5 jobs; the same seed and use give the same problem.

    Most have a right plan; some have none (a preemption without room, a tight power cap, a quota below what runs).
    """
    rng = Random(f"placement {use} {rng_seed}")
    use = Use(use)
    nodes = tuple(_node(rng, index) for index in range(rng.randint(2, 4)))
    waiting = _jobs(rng, nodes, rng.randint(2, 5 if len(nodes) < 4 else 4))
    jobs, named = _with_running(rng, use, nodes, waiting)
    states = _states(rng, use, nodes, jobs)
    changes: dict[str, Any] = {}
    if use is Use.preempt:
        changes["preempt_for"] = named
    elif use is Use.repack and rng.random() < 0.6:
        changes["max_moves"] = rng.randint(0, 2)
    if use is not Use.place and rng.random() < 0.5:
        changes["max_evictions"] = rng.randint(0, 2)
    if rng.random() < 0.2:
        changes["power_cap_kw"] = max(1.0, rng.choice((0.5, 0.75, 0.75, 1.0)) * sum(node.power_kw for node in states))
    return Problem(use=use, nodes=states, jobs=jobs, tenants=_tenants(rng, jobs), goals=_goals(rng, use), **changes)


def _node(rng: Random, index: int) -> Node:
    gpus = rng.choice((0, 1, 2, 2, 2, 4) if index else (1, 2))
    return Node(
        id=f"node-{index}",
        gpu_model=rng.choice(MODELS) if gpus else None,
        gpus=gpus,
        gpu_memory_gib=rng.choice((None, 16, 32)) if gpus else None,
        cpu_cores=rng.choice((4, 8, 16)),
        memory_gib=rng.choice((16, 32)),
        topology=Topology(
            site=rng.choice((None, "s1", "s1")),
            row=rng.choice((None, "w1", "w2")),
            rack=rng.choice((None, "r1", "r1", "r2")),
            nvlink_domain=rng.choice((None, None, "v1")),
        ),
        labels={"disk": rng.choice(("nvme", "sata"))} if rng.random() < 0.7 else {},
        power_kw=rng.choice((1.0, 2.0, 2.5)),
    )


def _jobs(rng: Random, nodes: tuple[Node, ...], count: int) -> tuple[Job, ...]:
    models = {node.gpu_model for node in nodes}
    speeds: list[dict[str, float]] = [{}, {}, {"a100": 1.0, "h100": 2.0}]
    speeds += [one for one in ({"a100": 0.5}, {"h100": 1.0}) if models.issuperset(one) or rng.random() < 0.1]
    largest, total = max(node.gpus for node in nodes), sum(node.gpus for node in nodes)
    names = [f"job-{index}" for index in range(count)]
    jobs: list[Job] = []
    for name in names:
        gpus = rng.choice([size for size in (0, 0.25, 0.5, 0.5, 0.75, 1, 1, 1, 2) if size <= largest])
        workers = rng.choice([number for number in (1, 1, 1, 2, 2, 3) if number * gpus <= total])
        others = tuple(other for other in names if other != name)
        jobs.append(
            Job(
                id=name,
                tenant=rng.choice(TENANTS),
                workers=workers,
                workers_min=rng.randint(1, workers) if rng.random() < 0.3 else None,
                gpus_per_worker=gpus,
                gpu_memory_gib=rng.choice((0, 0, 4, 8, 16)) if gpus else 0,
                cpu_cores=rng.choice((0, 1, 2, 4)),
                memory_gib=rng.choice((0, 4, 8)),
                model_speeds=rng.choice(speeds),
                priority=rng.choice((0, 1, 1, 2, 3)),
                value=rng.choice((0.5, 1.0, 1.0, 2.0)),
                node_selector={"disk": "nvme"} if rng.random() < 0.12 else {},
                colocate=Colocate(level=rng.choice(tuple(Level)), required=rng.random() < 0.7) if rng.random() < 0.2 else None,
                spread=Spread(level=rng.choice(tuple(Level)), max_workers=rng.randint(1, 2)) if rng.random() < 0.2 else None,
                anti_affinity=AntiAffinity(jobs=(rng.choice(others),), level=rng.choice((Level.node, Level.node, Level.rack)))
                if rng.random() < 0.2
                else None,
            )
        )
    return tuple(jobs)


def _with_running(rng: Random, use: Use, nodes: tuple[Node, ...], jobs: tuple[Job, ...]) -> tuple[tuple[Job, ...], str | None]:
    """Some of the jobs run, somewhere allowed; in a preemption one that would fit an empty cluster waits, is named, and ranks high."""
    named: str | None = None
    likely = {Use.place: 0.25, Use.repack: 0.6, Use.preempt: 0.9}[use]
    empty = Problem(nodes=nodes, jobs=jobs)
    if use is Use.preempt:
        named = next((job.id for job in jobs if _add_somewhere(rng, empty, Plan(), job).placements), jobs[-1].id)
    plan = Plan()
    for job in jobs:
        if job.id != named and rng.random() < likely:
            plan = _add_somewhere(rng, empty, plan, job)
    placed = {placement.job: placement.workers for placement in plan.placements}
    result: list[Job] = []
    for job in jobs:
        if job.id in placed:
            running = Running(workers=placed[job.id], move_cost=rng.choice((0.5, 1.0, 1.0, 3.0)), evictable=rng.random() < 0.8)
            result.append(job.model_copy(update={"running": running}))
        elif job.id == named:
            result.append(job.model_copy(update={"priority": rng.choice((2, 4, 4, 4, 4))}))
        else:
            result.append(job)
    return tuple(result), named


def _add_somewhere(rng: Random, problem: Problem, plan: Plan, job: Job) -> Plan:
    """The plan with the job at a random right place, or unchanged when a few throws find none."""
    for _ in range(20):
        workers = []
        for _ in range(rng.randint(job.workers_min or job.workers, job.workers)):
            node = rng.choice(problem.nodes)
            count = int(job.gpus_per_worker) if job.gpus_per_worker >= 1 else int(job.gpus_per_worker > 0)
            workers.append(WorkerPlace(node=node.id, gpus=tuple(sorted(rng.sample(range(node.gpus), min(count, node.gpus))))))
        wider = Plan(placements=(*plan.placements, JobPlacement(job=job.id, workers=tuple(workers))))
        if verify(problem, wider).ok:
            return wider
    return plan


def _states(rng: Random, use: Use, nodes: tuple[Node, ...], jobs: tuple[Job, ...]) -> tuple[Node, ...]:
    """Some nodes cordoned, drained or reserved; a node with running workers is drained only in a repack."""
    busy = {worker.node for job in jobs if job.running is not None for worker in job.running.workers}
    result: list[Node] = []
    for node in nodes:
        update: dict[str, Any] = {}
        if rng.random() < (0.1 if use is Use.preempt else 0.2):
            update["state"] = "cordoned" if node.id in busy and use is not Use.repack else rng.choice(("cordoned", "drained"))
        if rng.random() < 0.15:
            update["reserved_for"] = rng.choice(TENANTS)
        result.append(node.model_copy(update=update))
    return tuple(result)


def _tenants(rng: Random, jobs: tuple[Job, ...]) -> tuple[Tenant, ...]:
    """Often quotas: seldom below what runs, sometimes just that, sometimes with room for more."""
    tenants: list[Tenant] = []
    for name in TENANTS:
        runs = sum(job.gpus_per_worker * len(job.running.workers) for job in jobs if job.tenant == name and job.running is not None)
        quota = None if rng.random() < 0.6 else max(0.0, runs + rng.choice((-0.5, 0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0)))
        tenants.append(Tenant(id=name, quota_gpus=quota))
    return tuple(tenants)


def _goals(rng: Random, use: Use) -> tuple[GoalName, ...]:
    """The usual goals, or up to three in any order, led by placed_value more often than not."""
    if rng.random() < 0.25:
        return ()
    chosen = rng.sample(_GOALS[use], rng.randint(1, 3))
    if use is not Use.preempt and rng.random() < 0.6:
        chosen = [GoalName.placed_value, *(goal for goal in chosen if goal is not GoalName.placed_value)]
    return tuple(chosen)


def middling_problem(seed: int, use: Use | Literal["place", "repack", "preempt"]) -> Problem:
    """A valid problem of 30 to 60 nodes and 100 to 200 jobs with every rule; too large to enumerate, small enough to build in a moment.

    What runs, runs right, but for what the use is there to mend: in a repack also on drained nodes.
    """
    rng = Random(f"middling {use} {seed}")
    use = Use(use)
    nodes = tuple(_middling_node(rng, index) for index in range(rng.randint(30, 60)))
    names = [f"job-{index}" for index in range(rng.randint(100, 200))]
    jobs = [_middling_job(rng, name, names) for name in names]
    ledger = Ledger(Problem(nodes=nodes, jobs=tuple(jobs)))
    share = {Use.place: 0.3, Use.repack: 0.25, Use.preempt: 0.9}[use]
    for place in rng.sample(range(1, len(jobs)), round(share * len(jobs))):
        seat_job(ledger, place, allowed=np.array([rng.random() < 0.5 for _ in nodes]))
    runs = {placement.job: placement.workers for placement in ledger.plan().placements}
    jobs = [
        job.model_copy(
            update={"running": Running(workers=runs[job.id], move_cost=rng.choice((0.5, 1.0, 3.0)), evictable=rng.random() < 0.8)}
        )
        if job.id in runs
        else job
        for job in jobs
    ]
    changes: dict[str, Any] = {}
    if use is Use.preempt:
        jobs[0] = jobs[0].model_copy(update={"priority": 4, "anti_affinity": None})
        changes["preempt_for"] = jobs[0].id
    if use is Use.repack and rng.random() < 0.5:
        changes["max_moves"] = rng.randint(5, 30)
    if use is not Use.place and rng.random() < 0.5:
        changes["max_evictions"] = rng.randint(1, 20)
    states = _states(rng, use, nodes, tuple(jobs))
    drained = [node.id for node in states if node.state == "drained"][2:]  # a repack has room for what runs on one or two
    states = tuple(node.model_copy(update={"state": "cordoned"}) if node.id in drained else node for node in states)
    if rng.random() < 0.3:
        changes["power_cap_kw"] = rng.choice((0.9, 1.0)) * sum(node.power_kw for node in states)
    goals = (GoalName.placed_value, *rng.sample(_GOALS[use][1:], 2)) if use is not Use.preempt and rng.random() < 0.5 else ()
    return Problem(use=use, nodes=states, jobs=tuple(jobs), tenants=_middling_tenants(rng, jobs), goals=goals, **changes)


def _middling_node(rng: Random, index: int) -> Node:
    gpus = rng.choice((0, 4, 4, 8, 8, 8))
    return node(
        f"node-{index}",
        gpus,
        gpu_model=rng.choice(MODELS) if gpus else None,
        gpu_memory_gib=rng.choice((None, 32, 64)) if gpus else None,
        cpu_cores=rng.choice((32, 64)),
        memory_gib=rng.choice((128, 256)),
        topology=Topology(site="s1", row=f"w{index // 20}", rack=f"r{index // 5}" if rng.random() < 0.9 else None),
        labels={"disk": rng.choice(("nvme", "sata"))},
        power_kw=rng.choice((1.0, 2.0, 2.5)),
    )


def _middling_job(rng: Random, name: str, names: list[str]) -> Job:
    gpus = rng.choice((0, 0.25, 0.5, 0.75, 1, 1, 2, 3, 4, 5, 8))
    workers = rng.choice((1, 1, 1, 2, 3, 4))
    return job(
        name,
        gpus,
        workers,
        tenant=rng.choice(TENANTS),
        workers_min=rng.randint(1, workers) if rng.random() < 0.2 else None,
        gpu_memory_gib=rng.choice((0, 0, 8, 16)) if gpus else 0,
        cpu_cores=rng.choice((0, 1, 4, 8)),
        memory_gib=rng.choice((0, 4, 16)),
        model_speeds=rng.choice(({}, {}, {"h100": 1.0}, {"a100": 1.0, "h100": 2.0})),
        priority=rng.randint(0, 3),
        value=rng.choice((0.5, 1.0, 2.0, 4.0)),
        node_selector={"disk": "nvme"} if rng.random() < 0.1 else {},
        colocate=Colocate(level=rng.choice((Level.rack, Level.node)), required=rng.random() < 0.7) if rng.random() < 0.15 else None,
        spread=Spread(level=rng.choice((Level.rack, Level.node)), max_workers=rng.randint(1, 2)) if rng.random() < 0.15 else None,
        anti_affinity=AntiAffinity(jobs=(rng.choice([other for other in names if other != name]),)) if rng.random() < 0.06 else None,
    )


def _middling_tenants(rng: Random, jobs: list[Job]) -> tuple[Tenant, ...]:
    """One tenant may hold a little more than it does, the other any number."""
    holds = sum(job.gpus_per_worker * len(job.running.workers) for job in jobs if job.tenant == TENANTS[0] and job.running is not None)
    return (Tenant(id=TENANTS[0], quota_gpus=holds + rng.choice((4, 20, 40))), Tenant(id=TENANTS[1]))

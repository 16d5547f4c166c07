"""Whether a placement plan is right, and how good: recomputed from Problem and Plan alone, without any solver.

This is the specification of the kind: one function a rule, in the order of ``Rule``. Amounts may exceed a limit by
TOLERANCE. Ids that exist nowhere are violations too: of a job, under ``gang``; of a node, under ``node_gpus``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from models.contract import MAX_VIOLATIONS, TOLERANCE, Verdict, Violation
from models.placement.goals import Domain, Tally, goals, metrics, objectives, powered_kw
from models.placement.schema import Rule, Use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.placement.schema import Job, Node, Plan, Problem
    from models.vocabulary import Level

__all__ = ["goals", "verify"]


def verify(problem: Problem, plan: Plan) -> Verdict:
    """Every broken rule, every goal's value and the usual metrics of ``plan``; never raises an error, whatever the plan says."""
    tally = Tally(problem, plan)
    kept: list[Violation] = []
    count = 0
    for check in _CHECKS:
        for violation in check(tally):
            count += 1
            if len(kept) < MAX_VIOLATIONS:
                kept.append(violation)
    values = objectives(tally)
    return Verdict(objectives=values, violations=tuple(kept), violation_count=count, metrics=metrics(tally, values))


# ---------------------------------------------------------------- capacity


def node_cpu(tally: Tally) -> Iterator[Violation]:
    """Workers on a node use at most its CPU cores."""
    for node, use in tally.use.items():
        excess = use.cpu_cores - tally.nodes[node].cpu_cores
        if excess > TOLERANCE:
            text = f"workers on node '{node}' use {use.cpu_cores:g} of its {tally.nodes[node].cpu_cores:g} CPU cores"
            yield Violation(Rule.node_cpu, (node,), excess, "cores", text)


def node_memory(tally: Tally) -> Iterator[Violation]:
    """Workers on a node use at most its memory."""
    for node, use in tally.use.items():
        excess = use.memory_gib - tally.nodes[node].memory_gib
        if excess > TOLERANCE:
            text = f"workers on node '{node}' use {use.memory_gib:g} of its {tally.nodes[node].memory_gib:g} GiB of memory"
            yield Violation(Rule.node_memory, (node,), excess, "GiB", text)


def node_gpus(tally: Tally) -> Iterator[Violation]:
    """Each worker lists the right number of existing GPUs, and a GPU used whole is used by nobody else."""
    for job, name in tally.unknown_nodes:
        yield Violation(Rule.node_gpus, (job, name), 1.0, "workers", f"job '{job}' has a worker on '{name}', and there is no such node")
    for owner, worker in tally.miscounted:
        text = f"a worker of job '{owner.id}' needs {owner.gpus_per_worker:g} GPUs and lists {list(worker.gpus)} of node '{worker.node}'"
        yield Violation(Rule.node_gpus, (owner.id, worker.node), 1.0, "GPUs", text)
    for node, use in tally.use.items():
        limit = tally.nodes[node].gpus
        for gpu in {*use.whole, *use.shares}:
            if not 0 <= gpu < limit:
                text = f"node '{node}' has {limit} GPUs, counted from 0, and a worker uses GPU {gpu}"
                yield Violation(Rule.node_gpus, (node,), 1.0, "GPUs", text)
        for gpu, users in use.whole.items():
            if users > 1 or gpu in use.shares:
                text = f"GPU {gpu} of node '{node}' is used whole by {users} workers" + (" and also shared" if gpu in use.shares else "")
                yield Violation(Rule.node_gpus, (node,), float(users - 1 + (gpu in use.shares)), "GPUs", text)


def gpu_share(tally: Tally) -> Iterator[Violation]:
    """Shares of one GPU sum to at most 1."""
    for node, use in tally.use.items():
        for gpu, share in use.shares.items():
            if share > 1 + TOLERANCE:
                text = f"workers use {share:g} of GPU {gpu} of node '{node}'"
                yield Violation(Rule.gpu_share, (node, str(gpu)), share - 1, "GPUs", text)


def gpu_memory(tally: Tally) -> Iterator[Violation]:
    """Workers on one GPU use at most its memory."""
    for node, use in tally.use.items():
        limit = tally.nodes[node].gpu_memory_gib
        if limit is None:
            continue
        for gpu, used in use.gpu_memory_gib.items():
            if used > limit + TOLERANCE:
                text = f"workers on GPU {gpu} of node '{node}' use {used:g} of its {limit:g} GiB"
                yield Violation(Rule.gpu_memory, (node, str(gpu)), used - limit, "GiB", text)


# ---------------------------------------------------------------- the job


def gang(tally: Tally) -> Iterator[Violation]:
    """A placed job is listed once, with all its workers, or at least ``workers_min`` when it is elastic."""
    for name in tally.unknown_jobs:
        yield Violation(Rule.gang, (name,), 1.0, "jobs", f"the plan places '{name}', and there is no such job")
    for name in tally.repeated_jobs:
        yield Violation(Rule.gang, (name,), 1.0, "jobs", f"the plan places job '{name}' more than once")
    for name, workers in tally.listed.items():
        job, count = tally.jobs[name], len(workers)
        fewest = job.workers_min or job.workers
        if not fewest <= count <= job.workers:
            allowed = f"{job.workers}" if fewest == job.workers else f"{fewest} to {job.workers}"
            amount = float(max(fewest - count, count - job.workers))
            yield Violation(Rule.gang, (name,), amount, "workers", f"job '{name}' has {count} workers in the plan and needs {allowed}")


def accepted_model(tally: Tally) -> Iterator[Violation]:
    """A job with ``model_speeds`` uses only nodes of those GPU models."""
    nodes = tally.nodes
    yield from _on_nodes(
        tally,
        Rule.accepted_model,
        lambda job: bool(job.model_speeds),
        lambda job, node, _: nodes[node].gpu_model not in job.model_speeds,
        "does not accept the GPU model of node",
    )


def node_selector(tally: Tally) -> Iterator[Violation]:
    """A job's nodes carry all labels that its selector asks for."""
    nodes = tally.nodes
    yield from _on_nodes(
        tally,
        Rule.node_selector,
        lambda job: bool(job.node_selector),
        lambda job, node, _: any(nodes[node].labels.get(label) != value for label, value in job.node_selector.items()),
        "selects labels that differ from those of node",
    )


def drained(tally: Tally) -> Iterator[Violation]:
    """A drained node has no worker, a cordoned one only workers of running jobs that are there already."""
    closed = {node.id: node for node in tally.problem.nodes if node.state != "ready"}
    if closed:
        yield from _on_nodes(
            tally,
            Rule.drained,
            lambda _: True,
            lambda job, node, count: node in closed and (closed[node].state == "drained" or count > _running_there(job, node)),
            "has workers on the drained or cordoned node",
        )


def reserved(tally: Tally) -> Iterator[Violation]:
    """A node reserved for a tenant takes no new worker of another."""
    kept: dict[str, Node] = {node.id: node for node in tally.problem.nodes if node.reserved_for is not None}
    if kept:
        yield from _on_nodes(
            tally,
            Rule.reserved,
            lambda _: True,
            lambda job, node, count: node in kept and kept[node].reserved_for != job.tenant and count > _running_there(job, node),
            "has new workers on, reserved for another tenant, node",
        )


def _on_nodes(
    tally: Tally, rule: Rule, concerns: Callable[[Job], bool], wrong: Callable[[Job, str, int], bool], text: str
) -> Iterator[Violation]:
    """One violation for each job that ``concerns`` and each of its nodes that is ``wrong`` for so many workers."""
    for name, workers in tally.placed.items():
        job = tally.jobs[name]
        if concerns(job):
            counts: dict[str, int] = {}  # a Counter takes twice the time, on the hottest path of a large plan
            for worker in workers:
                counts[worker.node] = counts.get(worker.node, 0) + 1
            for node, count in counts.items():
                if wrong(job, node, count):
                    yield Violation(rule, (name, node), float(count), "workers", f"job '{name}' {text} '{node}'")


def _running_there(job: Job, node: str) -> int:
    """How many workers of the job run on the node now."""
    return sum(worker.node == node for worker in job.running.workers) if job.running is not None else 0


# ---------------------------------------------------------------- tenants and topology


def tenant_quota(tally: Tally) -> Iterator[Violation]:
    """Placed jobs of a tenant hold at most its quota of GPUs, fractions counted as such."""
    quotas = {tenant.id: tenant.quota_gpus for tenant in tally.problem.tenants if tenant.quota_gpus is not None}
    if not quotas:
        return
    held: defaultdict[str, float] = defaultdict(float)
    for name, workers in tally.placed.items():
        job = tally.jobs[name]
        held[job.tenant] += job.gpus_per_worker * len(workers)
    for tenant, quota in quotas.items():
        if held[tenant] > quota + TOLERANCE:
            text = f"tenant '{tenant}' holds {held[tenant]:g} GPUs and its quota is {quota:g}"
            yield Violation(Rule.tenant_quota, (tenant,), held[tenant] - quota, "GPUs", text)


def colocation(tally: Tally) -> Iterator[Violation]:
    """All workers of a job that must be colocated are in one named domain of the level."""
    for name, workers in tally.placed.items():
        wish = tally.jobs[name].colocate
        if wish is None or not wish.required:
            continue
        domains = {node: tally.named_domain(node, wish.level) for node in dict.fromkeys(worker.node for worker in workers)}
        for node, domain in domains.items():
            if domain is None:
                text = f"job '{name}' must be in one {wish.level}, and node '{node}' names none"
                yield Violation(Rule.colocation, (name, node), 1.0, "nodes", text)
        named = set(domains.values()) - {None}
        if len(named) > 1:
            text = f"job '{name}' must be in one {wish.level} and is in {len(named)}"
            yield Violation(Rule.colocation, (name,), float(len(named) - 1), "domains", text)


def spread(tally: Tally) -> Iterator[Violation]:
    """At most ``max_workers`` workers of a job are in any one domain of the level."""
    for name, workers in tally.placed.items():
        wish = tally.jobs[name].spread
        if wish is None:
            continue
        for domain, count in Counter(tally.domain(worker.node, wish.level) for worker in workers).items():
            if count > wish.max_workers:
                text = f"job '{name}' has {count} workers in {wish.level} {_path(domain)}, and at most {wish.max_workers} may be there"
                yield Violation(Rule.spread, (name, _path(domain)), float(count - wish.max_workers), "workers", text)


def anti_affinity(tally: Tally) -> Iterator[Violation]:
    """No worker of a job is in the same domain as a worker of a job that it keeps away from."""
    known: dict[tuple[str, Level], set[Domain]] = {}

    def domains(name: str, level: Level) -> set[Domain]:
        if (name, level) not in known:
            known[name, level] = {tally.domain(worker.node, level) for worker in tally.placed[name]}
        return known[name, level]

    for name in tally.placed:
        wish = tally.jobs[name].anti_affinity
        for other in wish.jobs if wish is not None else ():
            if wish is None or other not in tally.placed:
                continue
            shared = domains(name, wish.level) & domains(other, wish.level)
            if shared:
                text = f"jobs '{name}' and '{other}' must be apart and are both in {wish.level} {_path(min(shared))}"
                yield Violation(Rule.anti_affinity, (name, other), float(len(shared)), "domains", text)


def _path(domain: Domain) -> str:
    return "/".join(part for part in domain if part)


# ---------------------------------------------------------------- running jobs


def running_stays(tally: Tally) -> Iterator[Violation]:
    """Running jobs stay as they are, but for what the use allows; ``moved`` and ``evicted`` list exactly who does not."""
    use = tally.problem.use
    if use is not Use.repack:
        for job in tally.moved:
            text = f"job '{job.id}' runs, and the plan places it elsewhere; only a repack may move it"
            yield Violation(Rule.running_stays, (job.id,), 1.0, "jobs", text)
    if use is Use.place:
        for job in tally.evicted:
            text = f"job '{job.id}' runs, and the plan leaves it out; only a repack or a preemption may evict it"
            yield Violation(Rule.running_stays, (job.id,), 1.0, "jobs", text)
    for word, listed, true in (("moved", tally.plan.moved, tally.moved), ("evicted", tally.plan.evicted, tally.evicted)):
        told, fact = Counter(listed), Counter(job.id for job in true)
        for name in sorted((told - fact) | (fact - told)):
            text = f"job '{name}' is {'listed as' if told[name] else 'missing among the'} {word}, unlike what the placements say"
            yield Violation(Rule.running_stays, (name,), 1.0, "jobs", text)


def evictable(tally: Tally) -> Iterator[Violation]:
    """An evicted job may be evicted, and in a preemption has a lower priority than the job it makes room for."""
    rival = tally.jobs.get(tally.problem.preempt_for or "")
    for job in tally.evicted:
        if job.running is not None and not job.running.evictable:
            yield Violation(Rule.evictable, (job.id,), 1.0, "jobs", f"job '{job.id}' may not be evicted")
        if rival is not None and job.priority >= rival.priority:
            text = f"job '{job.id}' has priority {job.priority} and is evicted for '{rival.id}' of priority {rival.priority}"
            yield Violation(Rule.evictable, (job.id, rival.id), float(job.priority - rival.priority + 1), "priority", text)


def move_budget(tally: Tally) -> Iterator[Violation]:
    """At most ``max_moves`` jobs move; none outside a repack."""
    problem, count = tally.problem, len(tally.moved)
    limit = problem.max_moves if problem.use is Use.repack else 0
    if limit is not None and count > limit:
        names = tuple(job.id for job in tally.moved)
        yield Violation(Rule.move_budget, names, float(count - limit), "jobs", f"{count} jobs move, and at most {limit} may")


def eviction_budget(tally: Tally) -> Iterator[Violation]:
    """At most ``max_evictions`` jobs are evicted; none when use is place."""
    problem, count = tally.problem, len(tally.evicted)
    limit = {Use.place: 0, Use.repack: problem.max_evictions or 0, Use.preempt: problem.max_evictions}[problem.use]
    if limit is not None and count > limit:
        names = tuple(job.id for job in tally.evicted)
        yield Violation(Rule.eviction_budget, names, float(count - limit), "jobs", f"{count} jobs are evicted, and at most {limit} may be")


# ---------------------------------------------------------------- the whole


def power_cap(tally: Tally) -> Iterator[Violation]:
    """The nodes in use draw at most the capped power."""
    cap = tally.problem.power_cap_kw
    drawn = powered_kw(tally)
    if cap is not None and drawn > cap + TOLERANCE:
        yield Violation(Rule.power_cap, (), drawn - cap, "kW", f"the nodes in use draw {drawn:g} kW and the cap is {cap:g} kW")


def must_place(tally: Tally) -> Iterator[Violation]:
    """In a preemption, the job that it is for is placed."""
    named = tally.problem.preempt_for
    if tally.problem.use is Use.preempt and named is not None and named not in tally.listed:
        yield Violation(Rule.must_place, (named,), 1.0, "jobs", f"job '{named}' must be placed and is not in the plan")


_CHECKS: tuple[Callable[[Tally], Iterator[Violation]], ...] = (
    node_cpu,
    node_memory,
    node_gpus,
    gpu_share,
    gpu_memory,
    gang,
    accepted_model,
    node_selector,
    drained,
    reserved,
    tenant_quota,
    colocation,
    spread,
    anti_affinity,
    running_stays,
    evictable,
    move_budget,
    eviction_budget,
    power_cap,
    must_place,
)

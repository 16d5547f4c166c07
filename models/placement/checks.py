"""What is wrong with a placement Problem: the mistakes that no field can see alone, and what is legal but suspicious.

Every finding has a JSON pointer to its place, a stable code, and one sentence that names the cure. All checks are
single passes over dictionaries, because a Problem may hold tens of thousands of jobs and is checked each time it is made.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING

from models.contract import TOLERANCE, Warned
from models.vocabulary import LARGEST_QUANTITY, Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from models.placement.schema import Job, Node, Problem, WorkerPlace

MAX_ERRORS = 10  # enough to correct a file in one go; a broken generator makes the same mistake 10,000 times
MAX_WARNINGS = 100


def errors(problem: Problem) -> tuple[Warned, ...]:
    """The first MAX_ERRORS contradictions in the problem, in the order of the document's parts."""
    checks = (_ids(problem), _nodes(problem), _jobs(problem), _references(problem), _running(problem), _use(problem), _sharing(problem))
    return tuple(islice(chain.from_iterable(checks), MAX_ERRORS))


def warnings(problem: Problem) -> tuple[Warned, ...]:
    """The first MAX_WARNINGS things in a valid problem that are legal but probably not meant."""
    checks = (
        _odd_nodes(problem),
        _odd_quotas(problem),
        _unholdable(problem),
        _odd_levels(problem),
        _misplaced(problem),
        _odd_limits(problem),
    )
    return tuple(islice(chain.from_iterable(checks), MAX_WARNINGS))


# ---------------------------------------------------------------- errors


def _ids(problem: Problem) -> Iterator[Warned]:
    parts = {
        "nodes": [node.id for node in problem.nodes],
        "jobs": [job.id for job in problem.jobs],
        "tenants": [tenant.id for tenant in problem.tenants],
    }
    for part, names in parts.items():
        seen: dict[str, int] = {}
        for place, name in enumerate(names):
            first = seen.setdefault(name, place)
            if first != place:
                detail = f"the id '{name}' is already that of /{part}/{first}; give each of the {part} its own id"
                yield Warned(f"/{part}/{place}/id", "duplicate_id", detail)


def _nodes(problem: Problem) -> Iterator[Warned]:
    for place, node in enumerate(problem.nodes):
        if node.gpus and node.gpu_model is None:
            detail = f"node '{node.id}' has {node.gpus} GPUs of no model; name their model, e.g. 'h100'"
            yield Warned(f"/nodes/{place}/gpu_model", "model_missing", detail)
        elif not node.gpus and node.gpu_model is not None:
            detail = f"node '{node.id}' is a {node.gpu_model} node with 0 GPUs; give it 1 or more GPUs, or leave gpu_model out"
            yield Warned(f"/nodes/{place}/gpus", "no_gpus", detail)


def _jobs(problem: Problem) -> Iterator[Warned]:
    """Sizes: whole GPUs, gang limits, and gangs that no plan whatever could hold."""
    largest = max(node.gpus for node in problem.nodes)
    total = sum(node.gpus for node in problem.nodes)
    for place, job in enumerate(problem.jobs):
        gpus, fewest = job.gpus_per_worker, job.workers_min or job.workers
        if gpus >= 1 and gpus != int(gpus):
            detail = f"a worker of job '{job.id}' asks for {gpus:g} GPUs; ask for a whole number, or for a fraction below 1 of one GPU"
            yield Warned(f"/jobs/{place}/gpus_per_worker", "gpus_not_whole", detail)
        worth = job.priority * job.value * max(job.model_speeds.values(), default=1.0)
        if worth > LARGEST_QUANTITY:
            detail = (
                f"job '{job.id}' is worth {worth:g} (priority x value x speed), over the most, {LARGEST_QUANTITY:g}; use smaller values"
            )
            yield Warned(f"/jobs/{place}/value", "worth_too_large", detail)
        if fewest > job.workers:
            detail = f"job '{job.id}' needs at least {fewest} workers but wants {job.workers}; set workers_min to at most {job.workers}"
            yield Warned(f"/jobs/{place}/workers_min", "workers_min_above_workers", detail)
        elif gpus > largest:
            detail = (
                f"a worker of job '{job.id}' needs {gpus:g} GPUs and the largest node has {largest}; "
                f"split it into workers of at most {largest} GPUs, or add a larger node"
            )
            yield Warned(f"/jobs/{place}/gpus_per_worker", "worker_too_large", detail)
        elif fewest * gpus > total + TOLERANCE:
            detail = (
                f"job '{job.id}' needs {fewest} workers of {gpus:g} GPUs, {fewest * gpus:g} GPUs together, and the whole cluster has "
                f"{total}; ask for fewer workers (or set workers_min), or add nodes"
            )
            yield Warned(f"/jobs/{place}/workers", "gang_too_large", detail)


def _references(problem: Problem) -> Iterator[Warned]:
    """Names of tenants and jobs that exist nowhere."""
    tenants = {tenant.id for tenant in problem.tenants}
    jobs = {job.id for job in problem.jobs}
    for place, job in enumerate(problem.jobs):
        if tenants and job.tenant not in tenants and job.tenant != "default":
            detail = f"there is no tenant '{job.tenant}'; name one of the tenants, e.g. '{problem.tenants[0].id}', or add it to them"
            yield Warned(f"/jobs/{place}/tenant", "unknown_tenant", detail)
        if job.anti_affinity is None:
            continue
        for position, other in enumerate(job.anti_affinity.jobs):
            pointer = f"/jobs/{place}/anti_affinity/jobs/{position}"
            if other == job.id:
                detail = f"job '{other}' cannot keep away from itself; use spread for its own workers"
                yield Warned(pointer, "anti_affinity_to_itself", detail)
            elif other not in jobs:
                yield Warned(pointer, "unknown_job", f"there is no job '{other}'; name one of the jobs or leave it out")


@dataclass(slots=True)
class _Load:
    """What running jobs use of one node: cores, GiB, who uses each GPU (whole, or by what share), and GiB of each GPU."""

    cpu_cores: float = 0.0
    memory_gib: float = 0.0
    whole: dict[int, str] = field(default_factory=dict)
    shares: dict[int, float] = field(default_factory=dict)
    gpu_memory_gib: dict[int, float] = field(default_factory=dict)


def _running(problem: Problem) -> Iterator[Warned]:
    """Where jobs run now: nodes and GPU indices exist, gangs are complete, and nothing is used twice."""
    nodes = {node.id: node for node in problem.nodes}
    loads: defaultdict[str, _Load] = defaultdict(_Load)
    for place, job in enumerate(problem.jobs):
        if job.running is None:
            continue
        count, fewest = len(job.running.workers), job.workers_min or job.workers
        if not fewest <= count <= job.workers:
            allowed = f"{job.workers}" if fewest >= job.workers else f"{fewest} to {job.workers}"
            detail = f"job '{job.id}' runs with {count} workers, and {allowed} are allowed; list every worker or correct the job's numbers"
            yield Warned(f"/jobs/{place}/running/workers", "running_gang", detail)
        for position, worker in enumerate(job.running.workers):
            pointer = f"/jobs/{place}/running/workers/{position}"
            node = nodes.get(worker.node)
            if node is None:
                detail = f"there is no node '{worker.node}'; name one of the nodes, e.g. '{problem.nodes[0].id}'"
                yield Warned(f"{pointer}/node", "unknown_node", detail)
                continue
            if node.state == "drained" and problem.use != "repack":
                detail = f"job '{job.id}' runs on the drained node '{node.id}'; cordon the node, or set use to repack"
                yield Warned(f"{pointer}/node", "running_on_drained", detail)
            wrong = _book(job, worker, node, loads[node.id])
            if wrong is not None:
                code, detail = wrong
                yield Warned(f"{pointer}/gpus", code, detail)
    yield from _overloads(problem, loads)


def _book(job: Job, worker: WorkerPlace, node: Node, load: _Load) -> tuple[str, str] | None:
    """Books one running worker on its node's load; the code and the sentence for the first thing wrong with its GPUs."""
    load.cpu_cores += job.cpu_cores
    load.memory_gib += job.memory_gib
    gpus, size = worker.gpus, job.gpus_per_worker
    needed = int(size) if size >= 1 else int(size > 0)
    if len(gpus) != needed or (needed > 1 and len(set(gpus)) != needed):
        detail = f"a worker of job '{job.id}' uses {needed} GPUs; list the indices of exactly {needed} different GPUs of node '{node.id}'"
        return "running_gpu_count", detail
    for gpu in gpus:
        if gpu >= node.gpus:
            detail = f"node '{node.id}' has {node.gpus} GPUs and no GPU {gpu}; count the indices from 0"
            return "unknown_gpu", detail
        load.gpu_memory_gib[gpu] = load.gpu_memory_gib.get(gpu, 0.0) + job.gpu_memory_gib
        user = load.whole.get(gpu)
        if user is not None or (size >= 1 and gpu in load.shares):
            other = "jobs that share it" if user is None else f"job '{user}'"
            detail = f"GPU {gpu} of node '{node.id}' is also used by {other}; name a free GPU"
            return "gpu_used_twice", detail
        if size >= 1:
            load.whole[gpu] = job.id
        else:
            load.shares[gpu] = load.shares.get(gpu, 0.0) + size
    return None


def _overloads(problem: Problem, loads: dict[str, _Load]) -> Iterator[Warned]:
    """Nodes and GPUs on which the running jobs use more than there is."""
    for place, node in enumerate(problem.nodes):
        load = loads.get(node.id)
        if load is None:
            continue
        for name, used, has in (("cpu_cores", load.cpu_cores, node.cpu_cores), ("memory_gib", load.memory_gib, node.memory_gib)):
            if used > has + TOLERANCE:
                detail = f"jobs running on node '{node.id}' use {used:g} of its {has:g} {name}; correct the node or the jobs"
                yield Warned(f"/nodes/{place}/{name}", "running_overload", detail)
        for gpu, share in load.shares.items():
            if share > 1 + TOLERANCE:
                detail = f"jobs running on GPU {gpu} of node '{node.id}' use {share:g} of it; correct their gpus_per_worker or their GPU"
                yield Warned(f"/nodes/{place}/gpus", "running_overload", detail)
        memory = node.gpu_memory_gib
        if memory is not None and load.gpu_memory_gib:
            gpu, most = max(load.gpu_memory_gib.items(), key=lambda used: used[1])
            if most > memory + TOLERANCE:
                detail = f"jobs running on GPU {gpu} of node '{node.id}' use {most:g} of its {memory:g} GiB; correct the node or the jobs"
                yield Warned(f"/nodes/{place}/gpu_memory_gib", "running_overload", detail)


def _use(problem: Problem) -> Iterator[Warned]:
    """Fields that belong to one use only, the job that a preemption is for, and goals named twice."""
    named = problem.preempt_for
    if problem.use == "preempt":
        job = next((job for job in problem.jobs if job.id == named), None)
        if named is None:
            yield Warned("/preempt_for", "preempt_for_missing", "use is preempt, for no job; name the waiting job that must be placed")
        elif job is None:
            yield Warned("/preempt_for", "unknown_job", f"there is no job '{named}'; name the waiting job that must be placed")
        elif job.running is not None:
            yield Warned("/preempt_for", "preempt_for_runs", f"job '{named}' runs already; name a waiting job, or leave out its running")
    elif named is not None:
        yield Warned("/preempt_for", "preempt_for_unused", f"use is {problem.use}; leave preempt_for out or set use to preempt")
    if problem.max_moves is not None and problem.use != "repack":
        yield Warned("/max_moves", "max_moves_unused", f"no job moves when use is {problem.use}; leave max_moves out or set use to repack")
    for place, goal in enumerate(problem.goals):
        if goal in problem.goals[:place]:
            yield Warned(f"/goals/{place}", "duplicate_goal", f"the goal {goal} is named before; name each goal once")


def _sharing(problem: Problem) -> Iterator[Warned]:
    """Classes of interference: their ids, and that each of their jobs exists and is in one of them only."""
    if problem.interference is None:
        return
    jobs = {job.id for job in problem.jobs}
    names: set[str] = set()
    owner: dict[str, str] = {}
    for place, group in enumerate(problem.interference.classes):
        at = f"/interference/classes/{place}"
        if group.id in names:
            yield Warned(f"{at}/id", "duplicate_id", f"the class '{group.id}' is listed before; give each class its own id")
        names.add(group.id)
        for position, job in enumerate(group.jobs):
            if job not in jobs:
                yield Warned(f"{at}/jobs/{position}", "unknown_job", f"there is no job '{job}'; name one of the jobs or leave it out")
            elif job in owner:
                detail = f"job '{job}' is of class '{owner[job]}' already; leave it out of one of the two"
                yield Warned(f"{at}/jobs/{position}", "job_in_two_classes", detail)
            owner.setdefault(job, group.id)


# ---------------------------------------------------------------- warnings


def _odd_nodes(problem: Problem) -> Iterator[Warned]:
    tenants = {tenant.id for tenant in problem.tenants} | {job.tenant for job in problem.jobs}
    needs_cpu = any(job.cpu_cores for job in problem.jobs)
    for place, node in enumerate(problem.nodes):
        if needs_cpu and not node.cpu_cores:
            yield Warned(f"/nodes/{place}/cpu_cores", "no_cpu", f"node '{node.id}' has no CPU cores; give it some, or drain it")
        if node.reserved_for is not None and node.reserved_for not in tenants:
            detail = f"node '{node.id}' is reserved for '{node.reserved_for}', who is no tenant and owns no job; it takes no new worker"
            yield Warned(f"/nodes/{place}/reserved_for", "unknown_tenant", detail)


def _odd_quotas(problem: Problem) -> Iterator[Warned]:
    used: defaultdict[str, float] = defaultdict(float)
    for job in problem.jobs:
        if job.running is not None:
            used[job.tenant] += job.gpus_per_worker * len(job.running.workers)
    for place, tenant in enumerate(problem.tenants):
        quota = tenant.quota_gpus
        if quota is None:
            continue
        if quota < used[tenant.id] - TOLERANCE:
            detail = f"running jobs of tenant '{tenant.id}' hold {used[tenant.id]:g} GPUs and its quota is {quota:g}; raise it, or evict"
            yield Warned(f"/tenants/{place}/quota_gpus", "quota_below_use", detail)
        elif quota == 0:
            detail = f"tenant '{tenant.id}' may hold no GPU at all; leave quota_gpus out for no quota"
            yield Warned(f"/tenants/{place}/quota_gpus", "quota_zero", detail)


def holds(node: Node, job: Job) -> bool:
    """Whether the node, were it empty and ready, could hold one worker of the job."""
    return (
        job.gpus_per_worker <= node.gpus
        and job.cpu_cores <= node.cpu_cores + TOLERANCE
        and job.memory_gib <= node.memory_gib + TOLERANCE
        and (not job.model_speeds or node.gpu_model in job.model_speeds)
        and (not job.gpus_per_worker or node.gpu_memory_gib is None or job.gpu_memory_gib <= node.gpu_memory_gib + TOLERANCE)
        and all(node.labels.get(label) == wanted for label, wanted in job.node_selector.items())
    )


def _unholdable(problem: Problem) -> Iterator[Warned]:
    """Waiting jobs of which no node could hold even one worker; each distinct demand is looked at once."""
    shapes = {
        (node.gpu_model, node.gpus, node.gpu_memory_gib, node.cpu_cores, node.memory_gib, tuple(sorted(node.labels.items()))): node
        for node in problem.nodes
        if node.state == "ready"
    }
    fits: dict[object, bool] = {}
    for place, job in enumerate(problem.jobs):
        if job.running is not None:
            continue
        demand = (
            job.gpus_per_worker,
            job.gpu_memory_gib,
            job.cpu_cores,
            job.memory_gib,
            tuple(job.model_speeds),
            tuple(job.node_selector.items()),
        )
        if demand not in fits:
            fits[demand] = _any_holds(shapes.values(), job)
        if not fits[demand]:
            detail = f"no node that takes new workers could hold a worker of job '{job.id}', even empty; ask for less, or add a node"
            yield Warned(f"/jobs/{place}", "fits_nowhere", detail)


def _any_holds(nodes: Iterable[Node], job: Job) -> bool:
    return any(holds(node, job) for node in nodes)


def _odd_levels(problem: Problem) -> Iterator[Warned]:
    """Required colocation at a level that no node names: such a job can never be placed."""
    named = {level for level in Level if level is Level.node or any(getattr(node.topology, level) is not None for node in problem.nodes)}
    for place, job in enumerate(problem.jobs):
        if job.colocate is not None and job.colocate.level not in named:
            detail = f"no node names its {job.colocate.level}; give the nodes a topology, or colocate at another level"
            yield Warned(f"/jobs/{place}/colocate/level", "level_unnamed", detail)


def _misplaced(problem: Problem) -> Iterator[Warned]:
    """Running workers on nodes that their job does not accept: without a move or an eviction no plan is right."""
    nodes = {node.id: node for node in problem.nodes}
    for place, job in enumerate(problem.jobs):
        if job.running is None:
            continue
        for position, worker in enumerate(job.running.workers):
            if not holds(nodes[worker.node], job):
                detail = f"job '{job.id}' runs on node '{worker.node}', which it does not accept; correct the job, or repack"
                yield Warned(f"/jobs/{place}/running/workers/{position}/node", "running_not_accepted", detail)


def _odd_limits(problem: Problem) -> Iterator[Warned]:
    if problem.max_evictions and problem.use == "place":
        detail = "no job is evicted when use is place; leave max_evictions out, or set use to repack or preempt"
        yield Warned("/max_evictions", "max_evictions_unused", detail)
    powered = {worker.node for job in problem.jobs if job.running is not None for worker in job.running.workers}
    drawn = sum(node.power_kw for node in problem.nodes if node.id in powered)
    if problem.power_cap_kw is not None and drawn > problem.power_cap_kw + TOLERANCE:
        detail = f"nodes in use draw {drawn:g} kW and the cap is {problem.power_cap_kw:g} kW; raise the cap, or let jobs move or be evicted"
        yield Warned("/power_cap_kw", "cap_below_use", detail)

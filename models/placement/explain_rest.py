"""What a plan leaves free on every node, and how many workers of a job each rule by itself would let each node take.

Everything is a count in closed form over all nodes, so that what follows from it is proved and not searched for. Amounts may
exceed a limit by the verifier's tolerance, exactly as in ``verify``.
"""

from __future__ import annotations

from collections import defaultdict
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE
from models.placement.classes import Hosts, domain_of, own_domain_of, refusals
from models.placement.schema import Plan, Rule
from models.program import Bools, Floats, Ints
from models.vocabulary import Level

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from models.placement.schema import Job, Problem

MANY = 2**30  # workers: no limit
STATIC = (Rule.accepted_model, Rule.node_selector, Rule.drained, Rule.reserved, Rule.colocation)  # in the order sentences follow


class Layout:
    """What depends on the problem alone: sizes of nodes and jobs as arrays, domains, who keeps away from whom.

    ``model_of`` has the place of each node's GPU model in ``models``, -1 for a node without GPUs.
    """

    def __init__(self, problem: Problem) -> None:
        """Read the problem once."""
        self.problem = problem
        nodes, jobs = problem.nodes, problem.jobs
        self.job_at = {job.id: place for place, job in enumerate(jobs)}
        self.node_at = {node.id: place for place, node in enumerate(nodes)}
        self.cpu: Floats = np.array([node.cpu_cores for node in nodes])
        self.memory: Floats = np.array([node.memory_gib for node in nodes])
        self.gpus: Ints = np.array([node.gpus for node in nodes], dtype=np.int64)
        self.power: Floats = np.array([node.power_kw for node in nodes])
        self.gpu_limit: Floats = np.array([np.inf if node.gpu_memory_gib is None else node.gpu_memory_gib for node in nodes])
        self.models: tuple[str, ...] = tuple(sorted({node.gpu_model for node in nodes if node.gpu_model is not None}))
        numbers = {model: number for number, model in enumerate(self.models)}
        self.model_of: Ints = np.array([numbers.get(node.gpu_model or "", -1) for node in nodes], dtype=np.int64)
        self.exists: Bools = np.arange(int(self.gpus.max(initial=0)))[None, :] < self.gpus[:, None]
        sizes = [(job.cpu_cores, job.memory_gib, job.gpus_per_worker, job.gpu_memory_gib) for job in jobs]
        self.job_sizes: Floats = np.array(sizes, dtype=np.float64).reshape(len(jobs), 4)
        self.quota = {tenant.id: tenant.quota_gpus for tenant in problem.tenants if tenant.quota_gpus is not None}
        self.hosts = Hosts(problem)
        self.kind_of: Ints = np.array([self.hosts.kind_of[place] for place in range(len(nodes))], dtype=np.int64)
        self._domains: dict[Level, tuple[Ints, int]] = {}
        self.foes: dict[int, tuple[tuple[int, Level], ...]] = self._read_foes()

    def _read_foes(self) -> dict[int, tuple[tuple[int, Level], ...]]:
        found: defaultdict[int, set[tuple[int, Level]]] = defaultdict(set)
        for place, job in enumerate(self.problem.jobs):
            wish = job.anti_affinity
            for name in wish.jobs if wish is not None else ():
                if wish is not None:
                    found[place].add((self.job_at[name], wish.level))
                    found[self.job_at[name]].add((place, wish.level))
        return {place: tuple(sorted(foes)) for place, foes in found.items()}

    def domains(self, level: Level) -> tuple[Ints, int]:
        """The number of each node's domain at ``level``, shape (nodes,), and how many there are; a node without one is its own."""
        if level not in self._domains:
            numbers: dict[Hashable, int] = {}
            found = [numbers.setdefault(own_domain_of(node, level), len(numbers)) for node in self.problem.nodes]
            self._domains[level] = (np.array(found, dtype=np.int64), len(numbers))
        return self._domains[level]

    def domain_name(self, node: int, level: Level) -> str:
        """What the user calls the domain of a node: ``rack w1/r3``."""
        path = domain_of(self.problem.nodes[node], level)
        return f"{level} {'/'.join(part for part in path if part)}" if path else f"node {self.problem.nodes[node].id}"

    @cached_property
    def kinds(self) -> int:
        """How many kinds of node there are."""
        return int(self.kind_of.max(initial=-1)) + 1


class Rest:
    """What is free beside the jobs that a plan places.

    Arrays over nodes: ``cpu`` (cores), ``memory`` (GiB), ``workers``; over nodes and GPUs: ``whole`` and ``sharers`` (workers on
    the GPU), ``used`` (sum of their shares), ``gpu_memory`` (free GiB). ``held`` are GPUs by tenant. Seats are the plan's workers
    on known nodes, sorted by job: ``seat_job``, ``seat_node``; ``gpu_seat``, ``gpu_index`` are their GPUs.
    """

    def __init__(self, layout: Layout, plan: Plan | None = None) -> None:
        """Book every worker of a right plan; no plan: everything is free."""
        self.layout = layout
        self._read(plan or Plan())
        shape = layout.exists.shape
        self.cpu, self.memory = layout.cpu.copy(), layout.memory.copy()
        self.workers: Ints = np.zeros(len(layout.cpu), dtype=np.int64)
        self.whole: Ints = np.zeros(shape, dtype=np.int64)
        self.sharers: Ints = np.zeros(shape, dtype=np.int64)
        self.used: Floats = np.zeros(shape)
        self.gpu_memory: Floats = np.where(layout.exists, layout.gpu_limit[:, None], 0.0)
        self.held: defaultdict[str, float] = defaultdict(float)
        self._add(np.ones(len(self.seat_job), dtype=np.bool_), 1)

    def _read(self, plan: Plan) -> None:
        layout = self.layout
        jobs, nodes, gpus = list[int](), list[int](), list[tuple[int, ...]]()
        for placement in sorted(plan.placements, key=lambda one: layout.job_at[one.job]):
            at = layout.job_at[placement.job]
            for worker in placement.workers:
                jobs.append(at)
                nodes.append(layout.node_at[worker.node])
                gpus.append(worker.gpus)
        self.seat_job: Ints = np.array(jobs, dtype=np.int64)
        self.seat_node: Ints = np.array(nodes, dtype=np.int64)
        counts = [len(one) for one in gpus]
        self.gpu_seat: Ints = np.repeat(np.arange(len(gpus), dtype=np.int64), counts)
        self.gpu_index: Ints = np.array([gpu for one in gpus for gpu in one], dtype=np.int64)

    def _add(self, seats: Bools, sign: int) -> None:
        """Book (1) or unbook (-1) the chosen seats."""
        sizes = self.layout.job_sizes
        job, node = self.seat_job[seats], self.seat_node[seats]
        count = len(self.cpu)
        self.cpu -= sign * np.bincount(node, weights=sizes[job, 0], minlength=count)
        self.memory -= sign * np.bincount(node, weights=sizes[job, 1], minlength=count)
        self.workers += sign * np.bincount(node, minlength=count)
        of_gpu = seats[self.gpu_seat]
        seat, index = self.gpu_seat[of_gpu], self.gpu_index[of_gpu]
        job, node = self.seat_job[seat], self.seat_node[seat]
        is_whole = sizes[job, 2] >= 1
        np.add.at(self.whole, (node[is_whole], index[is_whole]), sign)
        part = ~is_whole
        np.add.at(self.sharers, (node[part], index[part]), sign)
        np.add.at(self.used, (node[part], index[part]), sign * sizes[job[part], 2])
        np.add.at(self.gpu_memory, (node, index), -sign * sizes[job, 3])
        numbers, workers = np.unique(self.seat_job[seats], return_counts=True)
        for place, many in zip(numbers.tolist(), workers.tolist(), strict=True):
            self.held[self.layout.problem.jobs[place].tenant] += sign * many * float(sizes[place, 2])

    def without(self, places: Iterable[int]) -> Rest:
        """What would be free beside the plan without the jobs at ``places``."""
        other = copy(self)
        for name in ("cpu", "memory", "workers", "whole", "sharers", "used", "gpu_memory", "held"):
            setattr(other, name, getattr(self, name).copy())
        gone = np.isin(self.seat_job, list(places))
        other._add(gone, -1)  # noqa: SLF001 - its own class
        stays, numbers = ~gone, np.cumsum(~gone) - 1
        of_gpu = stays[self.gpu_seat]
        other.seat_job, other.seat_node = self.seat_job[stays], self.seat_node[stays]
        other.gpu_seat, other.gpu_index = numbers[self.gpu_seat[of_gpu]], self.gpu_index[of_gpu]
        return other

    # ------------------------------------------------------------ what is free

    @property
    def overdrawn(self) -> bool:
        """Whether the plan uses more of a node or a GPU than there is: then it is wrong."""
        least = min(float(free.min(initial=0.0)) for free in (self.cpu, self.memory, self.gpu_memory, 1.0 - self.used))
        users = self.whole + (self.sharers > 0)
        return least < -2 * TOLERANCE or bool(((users > 1) & (self.whole > 0)).any()) or bool((~self.layout.exists & (users > 0)).any())

    @property
    def untouched(self) -> Bools:
        """GPUs that nobody uses, shape (nodes, GPUs)."""
        free: Bools = self.layout.exists & (self.whole == 0) & (self.sharers == 0)
        return free

    @property
    def share(self) -> Floats:
        """The free share of each GPU that may be shared, -1 for GPUs used whole and where there is none."""
        return np.where(self.layout.exists & (self.whole == 0), 1.0 - self.used, -1.0)

    @property
    def power_left(self) -> float:
        """What the power cap leaves, in kW; infinite without a cap."""
        cap = self.layout.problem.power_cap_kw
        return float("inf") if cap is None else cap - float(self.layout.power[self.workers > 0].sum())

    def quota_left(self, tenant: str) -> float:
        """GPUs that the tenant may still take; infinite without a quota."""
        return self.layout.quota[tenant] - self.held.get(tenant, 0.0) if tenant in self.layout.quota else float("inf")

    def nodes_of(self, place: int) -> Ints:
        """The nodes of a placed job, one entry for each worker."""
        first, last = np.searchsorted(self.seat_job, (place, place + 1))
        return self.seat_node[first:last]


def gpu_rule(job: Job) -> Rule:
    """The rule that counts the GPUs of the job's workers on a node."""
    return Rule.gpu_share if 0 < job.gpus_per_worker < 1 else Rule.node_gpus


def limits(rest: Rest, place: int) -> dict[Rule, Ints]:
    """For each rule that concerns the job, in telling order, how many new workers it alone lets each node take.

    Shape (nodes,) each, MANY for no limit. For a job that shares GPUs ``gpu_share`` counts the memory of the GPUs as
    well, because both must fit on one GPU.
    """
    layout = rest.layout
    job = layout.problem.jobs[place]
    found = _static(layout, job)
    size = job.gpus_per_worker
    if size >= 1:
        found[Rule.node_gpus] = rest.untouched.sum(axis=1) // int(size)
        if job.gpu_memory_gib:
            found[Rule.gpu_memory] = np.where(layout.gpu_limit + TOLERANCE >= job.gpu_memory_gib, MANY, 0)
    elif size > 0:
        found[Rule.gpu_share] = workers_by_share(rest, size, job.gpu_memory_gib).sum(axis=1)
    for rule, free, need in ((Rule.node_cpu, rest.cpu, job.cpu_cores), (Rule.node_memory, rest.memory, job.memory_gib)):
        if need > 0:
            found[rule] = np.floor(np.clip((free + TOLERANCE) / need, 0, MANY)).astype(np.int64)
    left = rest.power_left
    if left < np.inf:
        found[Rule.power_cap] = np.where((rest.workers > 0) | (layout.power <= left + TOLERANCE), MANY, 0)
    if place in layout.foes:
        found[Rule.anti_affinity] = np.where(shut_out(rest, place), 0, MANY)
    return {rule: np.clip(limit, 0, MANY) for rule, limit in found.items()}


def _static(layout: Layout, job: Job) -> dict[Rule, Ints]:
    """Which nodes refuse the job even when empty, by rule; sizes apart."""
    refused = {rule: np.zeros(layout.kinds, dtype=np.bool_) for rule in STATIC}
    for kind in range(layout.kinds):
        for rule in refusals(layout.hosts.sample(kind), job):
            refused[rule][kind] = True
    return {rule: np.where(by_kind[layout.kind_of], 0, MANY) for rule, by_kind in refused.items() if by_kind.any()}


def workers_by_share(rest: Rest, size: float, gpu_memory: float) -> Ints:
    """How many workers of a share each GPU takes, shape (nodes, GPUs)."""
    found = np.floor((rest.share + TOLERANCE) / size)
    if gpu_memory:
        found = np.minimum(found, np.floor((rest.gpu_memory + TOLERANCE) / gpu_memory))
    return np.clip(found, 0, MANY).astype(np.int64)


def shut_out(rest: Rest, place: int) -> Bools:
    """The nodes in whose domain a job runs that this one must keep away from, shape (nodes,)."""
    shut = np.zeros(len(rest.cpu), dtype=np.bool_)
    for foe, level in rest.layout.foes.get(place, ()):
        domains, count = rest.layout.domains(level)
        taken = np.zeros(count, dtype=np.bool_)
        taken[domains[rest.nodes_of(foe)]] = True
        shut |= taken[domains]
    return shut

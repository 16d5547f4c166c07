"""What the formulation decides about, derived once from a problem: demands, residents, and the nodes between them.

A demand is new workers to place: a class of waiting jobs, or one running job that may run elsewhere. A resident is a
running job; it either stays for certain, and then only takes capacity away, or has columns of its own. Depends on the problem
alone, never on the goal being solved, so that every step of a lexicographic solve has the same columns.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from models.contract import TOLERANCE
from models.placement.classes import Hosts, JobClass, job_classes, own_domain_of, refusals
from models.placement.formulation_residents import Resident, Stay, residents_of, settled
from models.placement.schema import GoalName, Rule, Use

if TYPE_CHECKING:
    from models.placement.schema import Job, Node, Problem
    from models.vocabulary import Level

OwnDomain = tuple[str, tuple[str, ...]]


@dataclass(slots=True)
class Demand:
    """Workers to place. ``room`` is the most of them on each node (positions); ``run`` names the column that counts its jobs.

    ``returning``: nodes that take only as many of the workers as are there now, and the rule that says so. ``refused``:
    rules by which nodes in ``room`` take none of the workers after all; only filled where a conflict is to be explained
    (see ``_explain_refusals``).
    """

    name: str
    job: Job
    jobs: tuple[int, ...]
    run: str
    room: dict[int, int]
    returning: dict[int, Rule] = field(default_factory=dict)
    refused: dict[Rule, tuple[int, ...]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many jobs."""
        return len(self.jobs)

    @property
    def workers(self) -> int:
        """Most workers of all its jobs together."""
        return self.count * self.job.workers

    @property
    def fewest(self) -> int:
        """Fewest workers with which one of its jobs runs."""
        return self.job.workers_min or self.job.workers

    @property
    def shares(self) -> bool:
        """Whether a worker takes a fraction of a GPU."""
        return 0 < self.job.gpus_per_worker < 1


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that workers may share. ``share_left`` and ``memory_left_gib``: without what certainly stays on it.

    ``open``: nothing is decided about opening it, because a worker that stays shares it, or nobody new wants GPUs of the
    node whole. ``sharers`` may leave it, ``holder`` uses it whole and may leave it. ``alike``: interchangeable with the other
    GPUs of its holder (or of none); ``after`` is the one opened before it.
    """

    index: int
    name: str
    share_left: float
    memory_left_gib: float | None
    open: bool
    sharers: tuple[int, ...]
    holder: int | None
    alike: bool
    after: str | None


@dataclass(slots=True)
class Host:
    """A node without what certainly stays on it; ``gpus_left`` also without GPUs that are open for certain."""

    position: int
    node: Node
    cpu_left: float
    memory_left: float
    gpus_left: int
    occupied: bool
    residents: tuple[int, ...]
    gpus: tuple[Gpu, ...] = ()
    demands: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Stayers:
    """What residents that stay for certain use of one node."""

    workers: int = 0
    cpu: float = 0.0
    memory: float = 0.0
    whole: set[int] = field(default_factory=set)
    share: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    gpu_memory: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))


class Setting:
    """All of it. Demands are known by their place in ``demands``, residents and nodes by their position in the problem.

    ``cut=False`` offers a preemption's job every node that does not refuse it, however small: then rows, not missing columns, say
    that it does not fit.
    """

    def __init__(self, problem: Problem, *, cut: bool = True) -> None:
        self.problem = problem
        self._cut = cut
        self.nodes = problem.nodes
        self.at = {node.id: place for place, node in enumerate(problem.nodes)}
        self.demands = _demands(problem, cut=cut)
        by_id = {resident.name: resident for resident in residents_of(problem, self.at)}
        reached = {place for demand in self.demands for place in demand.room}
        self.residents: dict[int, Resident] = settled(problem, by_id, reached)
        self._stayers: defaultdict[int, _Stayers] = defaultdict(_Stayers)
        self._leavers: defaultdict[int, list[int]] = defaultdict(list)
        for resident in self.residents.values():
            self._book(resident)
        self.hosts = [self._host(place, node) for place, node in enumerate(self.nodes)]
        for number, demand in enumerate(self.demands):
            self._fit(number, demand)
        self.share_gpus: dict[tuple[int, int], dict[str, int]] = {}
        for host in self.hosts:
            self._open(host)
        self._labels: dict[str, OwnDomain] = {}

    def _book(self, resident: Resident) -> None:
        """Count a resident among those who stay on its nodes for certain, or among those who may leave."""
        job = resident.job
        for place, workers in resident.here.items():
            if resident.stay is not Stay.certain:
                self._leavers[place].append(resident.position)
                continue
            stayers = self._stayers[place]
            stayers.workers += workers
            stayers.cpu += workers * job.cpu_cores
            stayers.memory += workers * job.memory_gib
            stayers.whole.update(resident.whole.get(place, ()))
        if resident.stay is Stay.certain:
            for (place, gpu), workers in resident.shares.items():
                self._stayers[place].share[gpu] += workers * job.gpus_per_worker
                self._stayers[place].gpu_memory[gpu] += workers * job.gpu_memory_gib

    def _host(self, place: int, node: Node) -> Host:
        stayers = self._stayers.get(place)
        leavers = tuple(self._leavers.get(place, ()))
        if stayers is None:
            return Host(place, node, node.cpu_cores, node.memory_gib, node.gpus, occupied=False, residents=leavers)
        # What runs may exceed a limit by the tolerance: then nothing is left, not less than nothing.
        cpu, memory = max(0.0, node.cpu_cores - stayers.cpu), max(0.0, node.memory_gib - stayers.memory)
        gpus = node.gpus - len(stayers.whole) - len(stayers.share)
        return Host(place, node, cpu, memory, gpus, occupied=True, residents=leavers)

    def _fit(self, number: int, demand: Demand) -> None:
        """Cut the demand's room on each node down to what the node could hold if all who may leave it left."""
        room: dict[int, int] = {}
        for place, most in demand.room.items():
            whole = demand.refused or (not self._cut and demand.job.id == self.problem.preempt_for)
            workers = most if whole else min(most, self.capacity(self.hosts[place], demand.job, most))
            if workers > 0:
                room[place] = workers
                self.hosts[place].demands.append(number)
        demand.room = room

    def capacity(self, host: Host, job: Job, most: int) -> int:
        """The most workers of a job, up to ``most``, that a node could hold if all who may leave it left."""
        limits = [most]
        if job.cpu_cores:
            limits.append(_times(host.cpu_left, job.cpu_cores))
        if job.memory_gib:
            limits.append(_times(host.memory_left, job.memory_gib))
        if job.gpus_per_worker >= 1:
            limits.append(host.gpus_left // int(job.gpus_per_worker))
        elif job.gpus_per_worker:
            stayers = self._stayers.get(host.position)
            used = stayers.share if stayers is not None else {}
            free = host.gpus_left * _times(1.0, job.gpus_per_worker)
            limits.append(free + sum(_times(1.0 - share, job.gpus_per_worker) for share in used.values()))
        return min(limits)

    def _open(self, host: Host) -> None:
        """Choose the GPUs of a node that may be shared, and how many workers of each demand each could take.

        GPUs with the same holder (or none) are interchangeable: no more of them are offered than there are workers to share.
        """
        sharing = [number for number in host.demands if self.demands[number].shares]
        wanted = sum(self.demands[number].room[host.position] for number in sharing)
        # Without a rival for whole GPUs there is nothing to decide about opening one. (Fragmentation counts idle GPUs apart.)
        rivals = any(self.demands[number].job.gpus_per_worker >= 1 for number in host.demands)
        settled = not rivals and GoalName.fragmentation not in self.problem.ordered_goals()
        stayers = self._stayers.get(host.position) or _Stayers()
        sharers, holders = self.users(host)
        gpus: list[Gpu] = []
        offered: defaultdict[int | None, list[str]] = defaultdict(list)
        for index in range(host.node.gpus):
            if index in stayers.whole:
                continue
            certain, leaving, holder = index in stayers.share, tuple(sharers.get(index, ())), holders.get(index)
            like, after = offered[holder], None
            alike = not certain and not leaving
            if alike:
                if len(like) >= wanted:
                    continue
                after = like[-1] if like else None
                like.append(str(index))
            # Rounded, because a sum of many shares is: 1 - 0.9 is a little less than 0.1.
            left = max(0.0, round(1.0 - stayers.share.get(index, 0.0), 9))
            memory = host.node.gpu_memory_gib
            memory = None if memory is None else max(0.0, memory - stayers.gpu_memory.get(index, 0.0))
            gpus.append(Gpu(index, str(index), left, memory, certain or settled, leaving, holder, alike, after))
        host.gpus = tuple(gpus)
        for number in sharing:
            self.share_gpus[number, host.position] = self._takers(self.demands[number], host)

    def users(self, host: Host) -> tuple[dict[int, list[int]], dict[int, int]]:
        """Who may leave each GPU of the node: those who share it, and who has it whole."""
        sharers: defaultdict[int, list[int]] = defaultdict(list)
        holders: dict[int, int] = {}
        for position in host.residents:
            resident = self.residents[position]
            holders.update(dict.fromkeys(resident.whole.get(host.position, ()), position))
            for place, gpu in resident.shares:
                if place == host.position:
                    sharers[gpu].append(position)
        return sharers, holders

    def _takers(self, demand: Demand, host: Host) -> dict[str, int]:
        """For each shareable GPU, by name, how many workers of the demand it could take; GPUs that take none are left out."""
        found = {}
        for gpu in host.gpus:
            most = min(demand.room[host.position], _times(gpu.share_left, demand.job.gpus_per_worker))
            if gpu.memory_left_gib is not None and demand.job.gpu_memory_gib:
                most = min(most, _times(gpu.memory_left_gib, demand.job.gpu_memory_gib))
            if most > 0:
                found[gpu.name] = most
        return found

    @cached_property
    def mobile(self) -> tuple[Resident, ...]:
        """The residents with columns of their own: those that do not stay for certain."""
        return tuple(resident for resident in self.residents.values() if resident.stay is not Stay.certain)

    @cached_property
    def residents_on(self) -> dict[int, list[Resident]]:
        """The residents with workers on each node."""
        found: defaultdict[int, list[Resident]] = defaultdict(list)
        for resident in self.residents.values():
            for place in resident.here:
                found[place].append(resident)
        return dict(found)

    @cached_property
    def demand_of(self) -> dict[int, int]:
        """The demand that each job, by position, belongs to."""
        return {job: number for number, demand in enumerate(self.demands) for job in demand.jobs}

    def domains(self, places: dict[int, int], level: Level) -> dict[OwnDomain, list[int]]:
        """The given nodes by their domain of a level; a node without one is a domain of its own."""
        found: defaultdict[OwnDomain, list[int]] = defaultdict(list)
        for place in places:
            found[own_domain_of(self.nodes[place], level)].append(place)
        return dict(found)

    def label(self, domain: OwnDomain) -> str:
        """What the user calls a domain; the level is added where two domains would be called alike."""
        level, path = domain
        label = "/".join(part for part in path if part)
        while self._labels.setdefault(label, domain) != domain:
            label = f"{label} ({level})"
        return label


def _times(whole: float, part: float) -> int:
    """How often ``part`` fits into ``whole``, with the tolerance of the rules."""
    return int((whole + TOLERANCE) / part)


def _demands(problem: Problem, *, cut: bool) -> list[Demand]:
    """Classes of waiting jobs (in a preemption only the job it is for), and in a repack every running job."""
    hosts = Hosts(problem)
    found = [_waiting(problem, hosts, one) for one in job_classes(problem)] if problem.use is not Use.preempt else []
    for position, job in enumerate(problem.jobs):
        if job.id == problem.preempt_for:
            named = _waiting(problem, hosts, JobClass((position,)))
            if not cut:
                named.room = {place: job.workers for place, node in enumerate(problem.nodes) if not refusals(node, job)}
            holdable = sum(min(room, _alone(problem.nodes[place], job)) for place, room in named.room.items())
            if holdable < named.fewest and (cut or not named.room):
                _explain_refusals(problem, named)
            found.append(named)
        if problem.use is Use.repack and job.running is not None:
            found.append(_moving(problem, hosts, position))
    return found


def _waiting(problem: Problem, hosts: Hosts, one: JobClass) -> Demand:
    job = problem.jobs[one.first]
    most = one.count * job.workers
    return Demand(job.id, job, one.jobs, "run", dict.fromkeys(hosts.of(job), most))


def _moving(problem: Problem, hosts: Hosts, position: int) -> Demand:
    """A running job as a demand. On nodes that take nothing new, as many workers may be as are there now."""
    job = problem.jobs[position]
    room = dict.fromkeys(hosts.of(job), job.workers)
    here = Counter(worker.node for worker in job.running.workers) if job.running is not None else Counter[str]()
    returning: dict[int, Rule] = {}
    for place, node in enumerate(problem.nodes):
        closed = refusals(node, job) if node.id in here and node.state != "drained" else ()
        if closed and set(closed) <= {Rule.drained, Rule.reserved}:
            room[place], returning[place] = here[node.id], closed[0]
    return Demand(job.id, job, (position,), "move", dict(sorted(room.items())), returning)


def _alone(node: Node, job: Job) -> int:
    """How many workers the empty node could hold, by its GPUs."""
    size = job.gpus_per_worker
    return node.gpus // int(size) if size >= 1 else node.gpus * _times(1.0, size) if size else job.workers


def _explain_refusals(problem: Problem, demand: Demand) -> None:
    """Let the job onto every node, under rows that forbid it: no plan exists, and the rows are there to say why."""
    job = demand.job
    refused: defaultdict[Rule, list[int]] = defaultdict(list)
    for place, node in enumerate(problem.nodes):
        for rule in refusals(node, job):
            refused[rule].append(place)
        if job.gpus_per_worker and node.gpu_memory_gib is not None and job.gpu_memory_gib > node.gpu_memory_gib + TOLERANCE:
            refused[Rule.gpu_memory].append(place)
    demand.refused = {rule: tuple(places) for rule, places in refused.items()}
    demand.room = dict.fromkeys(range(len(problem.nodes)), job.workers)

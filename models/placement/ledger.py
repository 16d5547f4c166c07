"""What is still free on every node while a plan is being made, and who is already where.

The ledger books and unbooks workers and answers in arrays (shape (nodes,)) how many more workers of a job each node
takes. It keeps capacities, hosts, quotas, the power cap and anti-affinity; where a gang goes is decided in ``seating``.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE
from models.placement.classes import Hosts, own_domain_of
from models.placement.goals import spots
from models.placement.schema import JobPlacement, Plan, WorkerPlace
from models.program import Bools, Floats, Ints
from models.vocabulary import Level

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from models.placement.schema import Job, Problem

SLACK = TOLERANCE / 10  # well inside the verifier's tolerance, well above the rounding of a thousand additions
UNLIMITED = 1e18
MANY = 2**31 - 1  # workers: more than any node is asked for

Seat = tuple[int, tuple[int, ...]]  # position of the node, indices of the GPUs


class Ledger:
    """Free capacity per node and the seats of the placed jobs.

    Arrays, one entry per node: ``cpu`` (cores), ``memory`` (GiB), ``whole`` (GPUs nobody uses), ``workers``; and
    one per node and GPU, shape (nodes, most GPUs): ``share`` (free share, 0 where there is no GPU or a whole worker has
    it) and ``gpu_memory`` (free GiB). ``seats`` maps the position of a placed job to its seats.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        nodes = problem.nodes
        self.cpu: Floats = np.array([node.cpu_cores for node in nodes])
        self.memory: Floats = np.array([node.memory_gib for node in nodes])
        self.gpus: Ints = np.array([node.gpus for node in nodes], dtype=np.int64)
        self.whole: Ints = self.gpus.copy()
        self.workers: Ints = np.zeros(len(nodes), dtype=np.int64)
        most = int(self.gpus.max(initial=0))
        exists = np.arange(most)[None, :] < self.gpus[:, None]
        self.share: Floats = exists.astype(np.float64)
        limits = np.array([UNLIMITED if node.gpu_memory_gib is None else node.gpu_memory_gib for node in nodes])
        self.gpu_memory: Floats = np.where(exists, limits[:, None], 0.0)
        self.seats: dict[int, list[Seat]] = {}
        self.quota: dict[str, float] = {tenant.id: tenant.quota_gpus for tenant in problem.tenants if tenant.quota_gpus is not None}
        self.power: Floats = np.array([node.power_kw for node in nodes])
        self.power_left = UNLIMITED if problem.power_cap_kw is None else problem.power_cap_kw
        self.hosts = Hosts(problem)
        self._models = sorted({node.gpu_model or "" for node in nodes})
        number = {model: place for place, model in enumerate(self._models)}
        self._model_of: Ints = np.array([number[node.gpu_model or ""] for node in nodes], dtype=np.int64)
        self.position = {job.id: place for place, job in enumerate(problem.jobs)}
        self.node_position = {node.id: place for place, node in enumerate(nodes)}
        self._masks: dict[frozenset[int], Bools] = {}
        self._kind_of = np.array([self.hosts.kind_of[place] for place in range(len(nodes))], dtype=np.int64)
        self._domains: dict[Level, tuple[Ints, int]] = {}
        self._foes = _foes(problem, self.position)

    # ------------------------------------------------------------ booking

    def book(self, place: int, seats: Iterable[Seat]) -> None:
        """Seat workers of the job at ``place``; the caller has made sure that they fit."""
        job = self.problem.jobs[place]
        taken = self.seats.setdefault(place, [])
        for seat in seats:
            self._use(job, seat, 1)
            taken.append(seat)

    def book_running(self, place: int) -> None:
        """Seat a running job exactly where it runs."""
        running = self.problem.jobs[place].running
        assert running is not None  # noqa: S101  (the caller asks only for running jobs)
        self.book(place, [(self.node_position[worker.node], worker.gpus) for worker in running.workers])

    def unbook(self, place: int) -> list[Seat]:
        """Take all workers of a job off their nodes and return the seats they had."""
        job = self.problem.jobs[place]
        seats = self.seats.pop(place)
        for seat in seats:
            self._use(job, seat, -1)
        return seats

    def _use(self, job: Job, seat: Seat, sign: int) -> None:
        node, gpus = seat
        self.cpu[node] -= sign * job.cpu_cores
        self.memory[node] -= sign * job.memory_gib
        before = self.workers[node]
        self.workers[node] += sign
        if before == 0 or self.workers[node] == 0:
            self.power_left -= sign * self.power[node]
        size = job.gpus_per_worker
        if job.tenant in self.quota:
            self.quota[job.tenant] -= sign * size
        for gpu in gpus:
            if size >= 1:
                self.whole[node] -= sign
                self.share[node, gpu] -= sign
            else:
                self._use_share(node, gpu, sign * size)
            if job.gpu_memory_gib:
                self.gpu_memory[node, gpu] -= sign * job.gpu_memory_gib

    def _use_share(self, node: int, gpu: int, size: float) -> None:
        was_whole = self.share[node, gpu] >= 1.0 - SLACK
        self.share[node, gpu] -= size
        is_whole = self.share[node, gpu] >= 1.0 - SLACK
        if is_whole:
            self.share[node, gpu] = 1.0  # exactly, so that rounding never adds up over many comings and goings
        self.whole[node] += int(is_whole) - int(was_whole)

    def close_unready(self) -> None:
        """Take drained nodes out of the count (cordoned ones may still hold who runs there): for relaxations that move everyone."""
        for place, node in enumerate(self.problem.nodes):
            if node.state == "drained":
                self.whole[place] = 0
                self.share[place] = 0.0
                self.cpu[place] = self.memory[place] = 0.0

    # ------------------------------------------------------------ what fits

    def host_mask(self, job: Job) -> Bools:
        """Which nodes may take a new worker of the job at all, shape (nodes,)."""
        kinds = self.hosts.kinds(job)
        if kinds not in self._masks:
            self._masks[kinds] = np.isin(self._kind_of, list(kinds))
        return self._masks[kinds]

    def speeds(self, job: Job) -> Floats | None:
        """The job's speed on each node (0 where it is not accepted), or None when it is the same wherever it may run."""
        if len(set(job.model_speeds.values())) <= 1:
            return None
        return np.array([job.model_speeds.get(model, 0.0) for model in self._models])[self._model_of]

    def room(self, place: int) -> Ints:
        """How many more workers of the job each node takes by capacity, hosts, power and anti-affinity, shape (nodes,)."""
        job = self.problem.jobs[place]
        size = job.gpus_per_worker
        if size >= 1:
            room = self.whole // int(size)  # an untouched GPU has all its memory, which the hosts were chosen by
        elif size > 0:
            room = self._share_room(size, job.gpu_memory_gib).sum(axis=1)
        else:
            room = np.full(len(self.cpu), MANY, dtype=np.int64)
        room = np.where(self.host_mask(job), room, 0)
        for free, need in ((self.cpu, job.cpu_cores), (self.memory, job.memory_gib)):
            if need > 0:
                room = np.minimum(room, _times(free, need))
        if self.power_left < UNLIMITED / 2:
            room[(self.workers == 0) & (self.power > self.power_left + SLACK)] = 0
        if place in self._foes:
            self._shut_out(place, room)
        return np.maximum(room, 0)

    def _share_room(self, size: float, gpu_memory: float) -> Ints:
        room = _times(self.share, size)
        return np.minimum(room, _times(self.gpu_memory, gpu_memory)) if gpu_memory else room

    def has_foes(self, place: int) -> bool:
        """Whether some anti-affinity concerns the job, its own or another's."""
        return place in self._foes

    def meets_foe(self, place: int) -> bool:
        """Whether the job, booked, shares a domain with a booked job that it must keep apart from."""
        mine = [node for node, _ in self.seats.get(place, ())]
        for other, level in self._foes.get(place, ()):
            domains, _ = self.domains(level)
            if np.isin(domains[mine], domains[[node for node, _ in self.seats.get(other, ())]]).any():
                return True
        return False

    def sound(self) -> bool:
        """Whether no capacity, quota or power is overdrawn: running jobs are booked without asking."""
        arrays = (self.cpu, self.memory, self.share, self.gpu_memory, self.whole)
        least = min(float(array.min(initial=0.0)) for array in arrays)
        return min(least, self.power_left, *self.quota.values()) >= -TOLERANCE

    def _shut_out(self, place: int, room: Ints) -> None:
        for other, level in self._foes[place]:
            if other in self.seats:
                domains, _ = self.domains(level)
                taken = np.unique(domains[[node for node, _ in self.seats[other]]])
                room[np.isin(domains, taken)] = 0

    def most_workers(self, place: int) -> int:
        """How many workers the job may have by its own wish and its tenant's quota; 0 when fewer than its fewest."""
        job = self.problem.jobs[place]
        wanted = job.workers
        if job.tenant in self.quota and job.gpus_per_worker > 0:
            wanted = min(wanted, int((self.quota[job.tenant] + SLACK) // job.gpus_per_worker))
        fewest = job.workers if job.workers_min is None else job.workers_min
        return wanted if wanted >= fewest else 0

    def domains(self, level: Level) -> tuple[Ints, int]:
        """For each node the number of its domain at ``level`` (a node without one is its own), and how many there are."""
        if level not in self._domains:
            numbers: dict[Hashable, int] = {}
            found = [numbers.setdefault(own_domain_of(node, level), len(numbers)) for node in self.problem.nodes]
            self._domains[level] = (np.array(found, dtype=np.int64), len(numbers))
        return self._domains[level]

    # ------------------------------------------------------------ GPUs of one node

    def pick_gpus(self, place: int, node: int) -> tuple[int, ...]:
        """GPU indices for one more worker of the job on ``node``: untouched ones, or for a share the fullest GPU that takes it."""
        job = self.problem.jobs[place]
        size = job.gpus_per_worker
        if size == 0:
            return ()
        free, memory = self.share[node], self.gpu_memory[node]
        if size >= 1:
            fits = np.flatnonzero((free >= 1.0 - SLACK) & (memory + SLACK >= job.gpu_memory_gib))
            return tuple(int(gpu) for gpu in fits[: int(size)])
        fits = np.flatnonzero((free + SLACK >= size) & (memory + SLACK >= job.gpu_memory_gib))
        return (int(fits[np.argmin(free[fits])]),)

    # ------------------------------------------------------------ the plan

    def plan(self, known: Mapping[str, JobPlacement] | None = None) -> Plan:
        """The plan as booked, jobs in the order of the problem. Of ``known`` placements those that say the same are used again."""
        jobs, nodes = self.problem.jobs, self.problem.nodes
        known = known or {}
        placements, moved, evicted = [], [], []
        for place, job in enumerate(jobs):
            seats = self.seats.get(place)
            if seats:
                told = known.get(job.id)
                if told is None or [(worker.node, worker.gpus) for worker in told.workers] != [(nodes[at].id, gpus) for at, gpus in seats]:
                    workers = tuple(WorkerPlace.model_construct(node=nodes[at].id, gpus=gpus) for at, gpus in seats)
                    told = JobPlacement.model_construct(job=job.id, workers=workers)
                placements.append(told)
                workers = told.workers
                if job.running is not None and spots(workers) != spots(job.running.workers):
                    moved.append(job.id)
            elif job.running is not None:
                evicted.append(job.id)
        return Plan.model_construct(schema_version=1, placements=tuple(placements), moved=tuple(moved), evicted=tuple(evicted))

    def book_plan(self, plan: Plan) -> None:
        """Book all that a feasible plan says; raises KeyError for an unknown job or node."""
        for placement in plan.placements:
            seats = [(self.node_position[worker.node], worker.gpus) for worker in placement.workers]
            self.book(self.position[placement.job], seats)


def _times(free: Floats, need: float) -> Ints:
    """How many times ``need`` (above 0) goes into what is free, at most MANY; same shape as ``free``."""
    return np.minimum(np.floor((free + SLACK) / need), MANY).astype(np.int64)


def _foes(problem: Problem, position: dict[str, int]) -> dict[int, list[tuple[int, Level]]]:
    """For each job the jobs it must keep apart from and at which level, from either side's anti-affinity."""
    foes: defaultdict[int, list[tuple[int, Level]]] = defaultdict(list)
    for place, job in enumerate(problem.jobs):
        if job.anti_affinity is not None:
            for other in job.anti_affinity.jobs:
                foes[place].append((position[other], job.anti_affinity.level))
                foes[position[other]].append((place, job.anti_affinity.level))
    return dict(foes)

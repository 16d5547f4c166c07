"""Who holds what of every node: the running workers, and those that were released and are about to run.

Schedulers seldom tell which GPUs of a node a worker has. Where they do not, indices are made up: the same as before for a worker
that stays, the lowest free ones for a new one. A snapshot may contradict itself (a node that shrank under its jobs, two workers
on one GPU): such a node is set aside with a sentence, takes nothing new, and nothing is ever raised.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.contract import TOLERANCE
from models.placement.schema import MOST_GPUS
from models.vocabulary import LARGEST_COUNT, LARGEST_QUANTITY
from service.plugins.orders import Seat

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from service.plugins.cluster import SeenJob, SeenNode, Snapshot
    from service.plugins.reservations import Reservation

LONGEST_NAME = 253  # of an id in a problem
SLACK = TOLERANCE / 10
Places = tuple[Seat, ...]


@dataclass(slots=True)
class Machine:
    """What is free on one node: cores, GiB, the share of each GPU (1: untouched) and the GiB of each GPU (infinite: not limited)."""

    node: SeenNode
    cpu_cores: float
    memory_gib: float
    shares: list[float]
    gpu_memory_gib: list[float]

    def choice(self, job: SeenJob) -> tuple[int, ...] | None:
        """The GPUs one more worker would get: the lowest untouched ones, or for a share the fullest that takes it; None: no room."""
        if job.cpu_cores > self.cpu_cores + SLACK or job.memory_gib > self.memory_gib + SLACK:
            return None
        size = job.gpus_per_worker
        if size == 0:
            return ()
        need = min(size, 1.0)
        able = [
            gpu for gpu, free in enumerate(self.shares) if free + SLACK >= need and self.gpu_memory_gib[gpu] + SLACK >= job.gpu_memory_gib
        ]
        if size < 1:
            return (min(able, key=lambda gpu: (self.shares[gpu], gpu)),) if able else None
        return tuple(able[: int(size)]) if len(able) >= size else None

    def takes(self, job: SeenJob, gpus: tuple[int, ...]) -> bool:
        """Whether one more worker can have exactly these GPUs."""
        if job.cpu_cores > self.cpu_cores + SLACK or job.memory_gib > self.memory_gib + SLACK or not well_counted(job, gpus):
            return False
        need = min(job.gpus_per_worker, 1.0)
        return all(
            gpu < len(self.shares) and self.shares[gpu] + SLACK >= need and self.gpu_memory_gib[gpu] + SLACK >= job.gpu_memory_gib
            for gpu in gpus
        )

    def take(self, job: SeenJob, gpus: tuple[int, ...]) -> None:
        """Book a worker; the caller has made sure that it fits."""
        self.cpu_cores -= job.cpu_cores
        self.memory_gib -= job.memory_gib
        for gpu in gpus:
            self.shares[gpu] -= min(job.gpus_per_worker, 1.0)
            self.gpu_memory_gib[gpu] -= job.gpu_memory_gib


@dataclass(slots=True)
class Occupied:
    """Every node with what is free on it, where each job that holds something is, and what did not add up.

    ``aside`` are the nodes whose workers do not fit them, with a sentence each; their workers are in no ``seats``.
    """

    machines: dict[str, Machine] = field(default_factory=dict)
    jobs: dict[str, SeenJob] = field(default_factory=dict)  # all of the snapshot and of the reservations, each id once
    seats: dict[str, Places] = field(default_factory=dict)
    aside: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def seat(self, job: SeenJob, nodes: Iterable[str]) -> str | None:
        """Book one worker of the job on each of ``nodes`` (a node as often as it is named), all or none; the node without room, or None."""
        booked: list[tuple[Machine, tuple[int, ...]]] = []
        for name in nodes:
            machine = self.machines.get(name)
            gpus = machine.choice(job) if machine is not None and name not in self.aside else None
            if machine is None or gpus is None:
                self._unseat(job, booked)
                return name
            machine.take(job, gpus)
            booked.append((machine, gpus))
        self.seats[job.id] = (*self.seats.get(job.id, ()), *(Seat(machine.node.id, gpus) for machine, gpus in booked))
        return None

    @staticmethod
    def _unseat(job: SeenJob, booked: list[tuple[Machine, tuple[int, ...]]]) -> None:
        for machine, gpus in reversed(booked):
            machine.cpu_cores += job.cpu_cores
            machine.memory_gib += job.memory_gib
            for gpu in gpus:
                machine.shares[gpu] += min(job.gpus_per_worker, 1.0)
                machine.gpu_memory_gib[gpu] += job.gpu_memory_gib


@dataclass(frozen=True, slots=True)
class _Worker:
    """One worker that is to be booked: its job, the GPUs the scheduler told, and those it had before."""

    job: SeenJob
    told: tuple[int, ...] | None
    before: tuple[int, ...] | None


def occupied(snapshot: Snapshot, reservations: Iterable[Reservation] = (), before: Mapping[str, Places] | None = None) -> Occupied:
    """Book all running workers, and the workers of ``reservations`` that do not run yet. Never raises.

    ``before`` are the ``seats`` of an earlier call: whoever stays keeps the GPU indices that were made up.
    """
    found = Occupied()
    for node in snapshot.nodes:
        _add_node(found, node)
    _add_jobs(found, snapshot.jobs)
    waiting_room: dict[str, list[_Worker]] = {}
    known = before or {}
    reserved = {one.job.id: one for one in reservations}
    for job in found.jobs.values():
        one = reserved.get(job.id)
        if job.running or (one is not None and one.job.identity == job.identity):
            _line_up(found, job, one, known.get(job.id, ()), waiting_room)
    for one in reserved.values():
        if one.job.id not in found.jobs:  # not in the snapshot, which may be older than the job
            found.jobs[one.job.id] = one.job
            _line_up(found, one.job, one, known.get(one.job.id, ()), waiting_room)
    for name, workers in waiting_room.items():
        _seat_all(found, found.machines[name], workers)
    return found


def well_counted(job: SeenJob, gpus: tuple[int, ...]) -> bool:
    """Whether a worker of the job has as many different GPUs as it needs."""
    needed = int(job.gpus_per_worker) if job.gpus_per_worker >= 1 else int(job.gpus_per_worker > 0)
    return len(gpus) == needed == len(set(gpus)) and all(gpu >= 0 for gpu in gpus)


def complaint_of_job(job: SeenJob) -> str | None:
    """What makes the quantities of a job impossible to plan with; None when nothing does."""
    if not 0 < len(job.id) <= LONGEST_NAME:
        return f"its id must have 1 to {LONGEST_NAME} characters"
    for name in ("gpus_per_worker", "gpu_memory_gib", "cpu_cores", "memory_gib"):
        value = getattr(job, name)
        if not 0 <= value <= LARGEST_QUANTITY:
            return f"{name} is {value}, which is no amount"
    if not 1 <= job.workers <= LARGEST_COUNT:
        return f"workers is {job.workers}, which is no number of workers"
    if job.gpus_per_worker > 1 and job.gpus_per_worker != int(job.gpus_per_worker):
        return f"a worker asks for {job.gpus_per_worker:g} GPUs; only whole numbers, or a fraction below 1, can be planned"
    return None


def complaint_of_node(node: SeenNode) -> str | None:
    """What makes a node impossible to plan with; None when nothing does."""
    if not 0 < len(node.id) <= LONGEST_NAME:
        return f"its name must have 1 to {LONGEST_NAME} characters"
    if not 0 <= node.gpus <= MOST_GPUS:
        return f"it is said to have {node.gpus} GPUs, and 0 to {MOST_GPUS} can be planned"
    for name in ("cpu_cores", "memory_gib", "gpu_memory_gib"):
        value = getattr(node, name)
        if value is not None and not 0 <= value <= LARGEST_QUANTITY:
            return f"{name} is {value}, which is no amount"
    return None


def _add_node(found: Occupied, node: SeenNode) -> None:
    wrong = complaint_of_node(node)
    if wrong is not None or node.id in found.machines:
        found.warnings.append(f"node '{node.id[:LONGEST_NAME]}' is left out: {wrong or 'there are two of that name'}")
        return
    limit = math.inf if node.gpu_memory_gib is None else node.gpu_memory_gib
    found.machines[node.id] = Machine(node, node.cpu_cores, node.memory_gib, [1.0] * node.gpus, [limit] * node.gpus)


def _add_jobs(found: Occupied, jobs: Sequence[SeenJob]) -> None:
    """Each id once; of two jobs of one id the one that runs, because it holds something."""
    for job in jobs:
        other = found.jobs.get(job.id)
        if other is not None:
            found.warnings.append(
                f"there are two jobs '{job.id}'; the one that {'runs' if other.running or job.running else 'came first'} is taken"
            )
        if other is None or (job.running and not other.running):
            found.jobs[job.id] = job


def _line_up(found: Occupied, job: SeenJob, reservation: Reservation | None, known: Places, line: dict[str, list[_Worker]]) -> None:
    """Put the workers of one job into the lines before their nodes."""
    had: dict[str, list[tuple[int, ...]]] = {}
    for seat in known:
        had.setdefault(seat.node, []).append(seat.gpus)
    wrong = complaint_of_job(job)
    for worker in job.running:
        if worker.node not in found.machines:
            found.warnings.append(f"job '{job.id}' runs on node '{worker.node}', which is not known; that worker is left out")
        elif wrong is not None:
            _set_aside(found, worker.node, f"job '{job.id[:LONGEST_NAME]}' runs on it and cannot be counted: {wrong}")
        else:
            before = had.get(worker.node)
            line.setdefault(worker.node, []).append(_Worker(job, worker.gpus, before.pop(0) if before else None))
    if reservation is not None and wrong is None:
        here = Counter(worker.node for worker in job.running)
        for seat in reservation.order.seats:
            if here[seat.node] > 0:
                here[seat.node] -= 1
            elif seat.node in found.machines and len(job.running) < job.workers:
                line.setdefault(seat.node, []).append(_Worker(job, None, seat.gpus))


def _set_aside(found: Occupied, node: str, why: str) -> None:
    if node not in found.aside:
        found.aside[node] = why
        found.warnings.append(f"node '{node}' is set aside: {why}")


def _seat_all(found: Occupied, machine: Machine, workers: list[_Worker]) -> None:
    """Book all workers of one node: whose GPUs are told first, then who had some before, then the largest; else set the node aside."""
    name = machine.node.id
    if name in found.aside:
        return
    seats: list[tuple[SeenJob, tuple[int, ...]]] = []
    left = list(workers)
    for wish in ("told", "before"):
        for worker in list(left):
            gpus = getattr(worker, wish)
            if gpus is not None and machine.takes(worker.job, gpus):
                machine.take(worker.job, gpus)
                seats.append((worker.job, gpus))
                left.remove(worker)
    for worker in sorted(left, key=lambda worker: (-worker.job.gpus_per_worker, -worker.job.gpu_memory_gib)):
        chosen = machine.choice(worker.job)
        if chosen is None:
            _set_aside(found, name, f"its jobs hold more than it has: a worker of job '{worker.job.name}' does not fit beside the others")
            return
        machine.take(worker.job, chosen)
        seats.append((worker.job, chosen))
    for job, gpus in seats:
        found.seats[job.id] = (*found.seats.get(job.id, ()), Seat(name, gpus))

"""Many seats booked at once: what a whole plan takes, summed in arrays, and job by job only where the sum is too much.

A plan of eight thousand jobs is booked in some milliseconds so. Whoever finds no room in the sum gets a second look of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.placement.ledger import SLACK
from models.vocabulary import Level

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.placement.ledger import Ledger, Seat
    from models.placement.schema import Job, WorkerPlace
    from models.program import Bools, Floats, Ints


def seats_of(ledger: Ledger, job: Job, workers: tuple[WorkerPlace, ...]) -> list[Seat] | None:
    """The seats of ``workers`` where the job may have them, or so many that it runs; None where too few are left.

    Workers on nodes that are gone or refuse the job are dropped, those beyond ``job.workers`` too, and GPUs beyond what a worker needs.
    """
    size = job.gpus_per_worker
    needed = int(size) if size >= 1 else int(size > 0)
    mask = ledger.host_mask(job)
    seats: list[Seat] = []
    for worker in workers:
        node = ledger.node_position.get(worker.node, -1)
        if node < 0 or not mask[node]:
            continue
        gpus = worker.gpus[:needed]
        if len(set(gpus)) == needed and (not gpus or (min(gpus) >= 0 and max(gpus) < ledger.gpus[node])):
            seats.append((node, gpus))
    seats = seats[: job.workers]
    return seats if len(seats) >= (job.workers_min or job.workers) and _together(ledger, job, seats) else None


def _together(ledger: Ledger, job: Job, seats: list[Seat]) -> bool:
    """Whether the seats obey the job's own colocation and spread."""
    nodes = [node for node, _ in seats]
    if job.colocate is not None and job.colocate.required and len(nodes) > 1:
        domains, _ = ledger.domains(job.colocate.level)
        if len(np.unique(domains[nodes])) > 1:
            return False
    if job.spread is None:
        return True
    domains, _ = ledger.domains(job.spread.level) if job.spread.level is not Level.node else (np.arange(len(ledger.cpu)), 0)
    return int(np.unique(domains[nodes], return_counts=True)[1].max()) <= job.spread.max_workers


def book_where_it_fits(ledger: Ledger, place: int, seats: list[Seat]) -> bool:
    """Book the job on just these seats if they are free and no rule about other jobs is against it; True when it was booked."""
    ledger.book(place, seats)
    job = ledger.problem.jobs[place]
    nodes = [node for node, _ in seats]
    gpus = tuple(np.array([(node, gpu) for node, one in seats for gpu in one], dtype=np.int64).reshape(-1, 2).T)
    free = (ledger.cpu[nodes], ledger.memory[nodes], ledger.share[gpus], ledger.gpu_memory[gpus])
    least = min(float(array.min(initial=0.0)) for array in free)
    if min(least, ledger.power_left, ledger.quota.get(job.tenant, 0.0)) >= -SLACK and not ledger.meets_foe(place):
        return True
    ledger.unbook(place)
    return False


def book_together(ledger: Ledger, wanted: Mapping[int, list[Seat]]) -> list[int]:
    """Book all jobs that nobody disputes a seat: neither on their nodes, nor for quota, power or a domain. Returns the others."""
    left: list[int] = [place for place in wanted if ledger.has_foes(place)]
    load = _Load(ledger, {place: seats for place, seats in wanted.items() if not ledger.has_foes(place)})
    disputed = load.disputed()
    if disputed.any():
        left.extend(load.places[disputed].tolist())
        load = _Load(ledger, {place: wanted[place] for place in load.places[~disputed].tolist()})
    if not load.fits_power():
        return list(wanted)
    load.book()
    return left


class _Load:
    """What jobs take together, as arrays like the ledger's: ``places`` one entry a job, ``owner`` and ``nodes`` one a worker."""

    def __init__(self, ledger: Ledger, wanted: dict[int, list[Seat]]) -> None:
        self.ledger, self.wanted = ledger, wanted
        jobs = [ledger.problem.jobs[place] for place in wanted]
        self.places: Ints = np.fromiter(wanted, dtype=np.int64, count=len(wanted))
        counts = np.array([len(seats) for seats in wanted.values()], dtype=np.int64)
        self.owner: Ints = np.repeat(np.arange(len(jobs)), counts)
        self.nodes: Ints = np.array([node for seats in wanted.values() for node, _ in seats], dtype=np.int64)
        used = np.array([len(gpus) for seats in wanted.values() for _, gpus in seats], dtype=np.int64)
        gpu_owner = np.repeat(self.owner, used)
        numbers = np.array([gpu for seats in wanted.values() for _, gpus in seats for gpu in gpus], dtype=np.int64)
        at = np.repeat(self.nodes, used) * ledger.share.shape[1] + numbers
        self.tenants = [job.tenant for job in jobs]
        self.sizes: Floats = np.array([job.gpus_per_worker for job in jobs]) * counts
        self.cpu = self._by_node(np.array([job.cpu_cores for job in jobs])[self.owner])
        self.memory = self._by_node(np.array([job.memory_gib for job in jobs])[self.owner])
        self.workers = self._by_node(np.ones(len(self.owner))).astype(np.int64)
        shares = np.array([min(job.gpus_per_worker, 1.0) for job in jobs])
        self.share = self._by_gpu(at, shares[gpu_owner])
        self.gpu_memory = self._by_gpu(at, np.array([job.gpu_memory_gib for job in jobs])[gpu_owner])

    def _by_node(self, amounts: Floats) -> Floats:
        return np.bincount(self.nodes, weights=amounts, minlength=len(self.ledger.cpu)).astype(np.float64)

    def _by_gpu(self, at: Ints, amounts: Floats) -> Floats:
        shape = self.ledger.share.shape
        return np.bincount(at, weights=amounts, minlength=shape[0] * shape[1]).astype(np.float64).reshape(shape)

    def disputed(self) -> Bools:
        """Which jobs have a worker on a node that cannot hold all of them, or a tenant whose quota is too small for all; shape (jobs,)."""
        ledger = self.ledger
        short = (self.cpu > ledger.cpu + SLACK) | (self.memory > ledger.memory + SLACK)
        short |= ((self.share > ledger.share + SLACK) | (self.gpu_memory > ledger.gpu_memory + SLACK)).any(axis=1)
        found = np.bincount(self.owner, weights=short[self.nodes], minlength=len(self.places)) > 0
        if ledger.quota:
            held = self._held()
            over = {tenant for tenant, left in ledger.quota.items() if held[tenant] > left + SLACK}
            if over:
                found |= np.array([tenant in over for tenant in self.tenants], dtype=np.bool_)
        return np.asarray(found)

    def _held(self) -> dict[str, float]:
        """GPUs of the tenants with a quota."""
        held = dict.fromkeys(self.ledger.quota, 0.0)
        for tenant, size in zip(self.tenants, self.sizes.tolist(), strict=True):
            if tenant in held:
                held[tenant] += size
        return held

    def _power(self) -> float:
        started = (self.workers > 0) & (self.ledger.workers == 0)
        return float(self.ledger.power[started].sum())

    def fits_power(self) -> bool:
        """Whether the nodes that the jobs start keep to the power cap."""
        return self._power() <= self.ledger.power_left + SLACK

    def book(self) -> None:
        """Take it all off what is free. The jobs must fit."""
        ledger = self.ledger
        ledger.power_left -= self._power()
        ledger.cpu -= self.cpu
        ledger.memory -= self.memory
        ledger.workers += self.workers
        ledger.share -= self.share
        ledger.gpu_memory -= self.gpu_memory
        ledger.whole[:] = (ledger.share >= 1.0 - SLACK).sum(axis=1)
        for tenant, size in self._held().items():
            ledger.quota[tenant] -= size
        ledger.seats.update(self.wanted)

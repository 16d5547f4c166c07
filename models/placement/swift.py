"""The fastest seating: one pass over the jobs with plain lists, for clusters where looking at every node takes too long.

For each kind of node it keeps stacks of partly used nodes by free GPUs and a cursor over untouched ones, so that a worker looks
at a handful of nodes. Jobs with rules about domains are left to ``seating``.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.placement.ledger import SLACK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.placement.ledger import Ledger, Seat
    from models.placement.schema import Job

TRIES = 3  # nodes looked at on each stack, and shared GPUs on each list
_CHECK_EVERY = 256


@dataclass(slots=True)
class _Free:
    """What is left of one node: cores, GiB, and the untouched GPU indices."""

    cpu: float
    memory: float
    gpus: list[int]


@dataclass(slots=True)
class _Kind:
    """The nodes of one kind: untouched ones still to come, partly used ones by free GPUs, and GPUs cut into shares."""

    fresh: list[int] = field(default_factory=list)
    partly: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    shared: list[tuple[int, int]] = field(default_factory=list)


class Swift:
    """One pass of seating on top of what ``ledger`` already holds."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        untouched = ledger.share >= 1.0 - SLACK
        self.free = [
            _Free(float(cpu), float(memory), [gpu for gpu, whole in enumerate(row) if whole])
            for cpu, memory, row in zip(ledger.cpu, ledger.memory, untouched.tolist(), strict=True)
        ]
        self.left: dict[tuple[int, int], list[float]] = {}  # share and GiB left on every GPU cut here
        self.kinds: defaultdict[int, _Kind] = defaultdict(_Kind)
        gpus = [node.gpus for node in ledger.problem.nodes]
        for node in range(len(self.free) - 1, -1, -1):
            kind, count = self.kinds[ledger.hosts.kind_of[node]], len(self.free[node].gpus)
            (kind.fresh if count == gpus[node] else kind.partly[count]).append(node)
        self._hosts: dict[frozenset[int], list[int]] = {}

    def seat(self, jobs: Iterable[int], deadline: float) -> None:
        """Book as many of ``jobs``, in the given order, as this pass finds room for until the deadline."""
        problem = self.ledger.problem
        for number, place in enumerate(jobs):
            if number % _CHECK_EVERY == 0 and time.monotonic() > deadline:
                return
            job = problem.jobs[place]
            if job.colocate is not None and job.colocate.required:
                continue
            if job.spread is not None or self.ledger.has_foes(place):
                continue
            seats = self._gang(job, self.ledger.most_workers(place))
            if seats:
                self.ledger.book(place, seats)

    def _gang(self, job: Job, wanted: int) -> list[Seat]:
        """Seats for all workers, the fastest kinds first; none when they do not all fit."""
        seats: list[Seat] = []
        for kind in self._kinds(job):
            while len(seats) < wanted:
                seat = self._worker(job, self.kinds[kind])
                if seat is None:
                    break
                seats.append(seat)
        if len(seats) < wanted:
            for seat in seats:
                self._give_back(job, seat)
            return []
        return seats

    def _kinds(self, job: Job) -> list[int]:
        hosts = self.ledger.hosts
        kinds = hosts.kinds(job)
        if len(set(job.model_speeds.values())) <= 1:
            if kinds not in self._hosts:
                self._hosts[kinds] = sorted(kinds)
            return self._hosts[kinds]
        return sorted(kinds, key=lambda kind: -job.model_speeds[hosts.sample(kind).gpu_model or ""])

    def _worker(self, job: Job, kind: _Kind) -> Seat | None:
        size = job.gpus_per_worker
        if 0 < size < 1:
            for node, gpu in kind.shared[-TRIES:]:
                left = self.left[node, gpu]
                if left[0] + SLACK >= size and left[1] + SLACK >= job.gpu_memory_gib and self._fits(job, node):
                    return self._take(job, node, (gpu,))
        need = 1 if 0 < size < 1 else int(size)
        for count in [one for one in sorted(kind.partly) if one >= need]:
            stack = kind.partly[count]
            for back in range(1, min(TRIES, len(stack)) + 1):
                node = stack[-back]
                if self._fits(job, node):
                    del stack[-back]
                    return self._cut(job, node, kind, need)
        while kind.fresh:
            node = kind.fresh[-1]
            if not self._fits(job, node):
                return None
            kind.fresh.pop()
            return self._cut(job, node, kind, need)
        return None

    def _fits(self, job: Job, node: int) -> bool:
        free = self.free[node]
        return free.cpu + SLACK >= job.cpu_cores and free.memory + SLACK >= job.memory_gib

    def _cut(self, job: Job, node: int, kind: _Kind, need: int) -> Seat:
        """Take ``need`` untouched GPUs of a node and put the node back where it now belongs."""
        free = self.free[node]
        gpus = tuple(free.gpus[:need])
        del free.gpus[:need]
        if 0 < job.gpus_per_worker < 1:
            limit = self.ledger.gpu_memory[node, gpus[0]]
            self.left[node, gpus[0]] = [1.0, float(limit)]
            kind.shared.append((node, gpus[0]))
        kind.partly[len(free.gpus)].append(node)
        return self._take(job, node, gpus)

    def _take(self, job: Job, node: int, gpus: tuple[int, ...]) -> Seat:
        self._change(job, node, gpus, -1.0)
        return node, gpus

    def _give_back(self, job: Job, seat: Seat) -> None:
        """Undo a worker; its GPUs stay with the node's list that it is on, which then says too few: harmless."""
        node, gpus = seat
        self._change(job, node, gpus, 1.0)
        if job.gpus_per_worker >= 1:
            self.free[node].gpus.extend(gpus)

    def _change(self, job: Job, node: int, gpus: tuple[int, ...], sign: float) -> None:
        free = self.free[node]
        free.cpu += sign * job.cpu_cores
        free.memory += sign * job.memory_gib
        if 0 < job.gpus_per_worker < 1:
            left = self.left[node, gpus[0]]
            left[0] += sign * job.gpus_per_worker
            left[1] += sign * job.gpu_memory_gib

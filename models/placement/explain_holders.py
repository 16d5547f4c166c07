"""Who holds what on each node of a plan, as far as they may be displaced, and one node's room when some of them are gone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE
from models.placement.explain_rest import MANY, Rest
from models.placement.schema import Use

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.placement.explain_room import Room
    from models.program import Bools, Floats, Ints


@dataclass(frozen=True)
class Displaceable:
    """The placed jobs that may be displaced, and what each of them holds on each of its nodes.

    Arrays over pairs of such a job and one of its nodes: ``job``, ``node``, and how many ``gpus`` (touched), ``cpu`` and ``memory``
    the job holds there. ``worth`` has the value of every job of the problem as placed.
    """

    rest: Rest
    worth: Floats
    may: Bools
    job: Ints
    node: Ints
    gpus: Floats
    cpu: Floats
    memory: Floats
    running_left: int

    @classmethod
    def of(cls, rest: Rest, evicted: int) -> Displaceable:
        """Find them; ``evicted`` counts the running jobs that the plan evicts already."""
        problem = rest.layout.problem
        budget = problem.max_evictions or 0 if problem.use is Use.repack else 0
        left = max(0, budget - evicted)
        jobs, count = problem.jobs, len(problem.nodes)
        may = np.array([job.running is None or (left > 0 and job.running.evictable) for job in jobs], dtype=np.bool_)
        if problem.use is Use.preempt:
            may[:] = False  # a preemption evicts for the job it is for, and for no other
        worth = _worth(rest)
        pairs, pair_of, workers = np.unique(rest.seat_job * count + rest.seat_node, return_inverse=True, return_counts=True)
        gpus = np.bincount(pair_of[rest.gpu_seat], minlength=len(pairs)).astype(np.float64)
        job, node = pairs // count, pairs % count
        sizes = rest.layout.job_sizes
        cpu, memory, chosen = workers * sizes[job, 0], workers * sizes[job, 1], may[job]
        return cls(rest, worth, may, job[chosen], node[chosen], gpus[chosen], cpu[chosen], memory[chosen], left)

    @cached_property
    def on_node(self) -> dict[int, list[int]]:
        """The displaceable jobs of each node, the least valuable first."""
        found: dict[int, list[int]] = {}
        order = np.lexsort((self.job, self.worth[self.job], self.node))
        for job, node in zip(self.job[order].tolist(), self.node[order].tolist(), strict=True):
            found.setdefault(node, []).append(job)
        return found

    def least_per(self, held: Floats | None) -> Floats:
        """The least worth per unit of what is ``held`` (None: per job) among each node's jobs; infinite on nodes without."""
        ratio = self.worth[self.job]
        if held is not None:
            ratio = np.divide(ratio, held, out=np.full(len(held), np.inf), where=held > 0)
        found = np.full(len(self.rest.cpu), np.inf)
        np.minimum.at(found, self.node, ratio)
        return found

    @cached_property
    def rates(self) -> tuple[Floats, Floats, Floats, Floats]:
        """``least_per`` job, GPU, core and GiB."""
        return self.least_per(None), self.least_per(self.gpus), self.least_per(self.cpu), self.least_per(self.memory)

    def total(self, places: Iterable[int]) -> float:
        """What the jobs are worth together."""
        return float(sum(self.worth[place] for place in places))

    def within_budget(self, places: Iterable[int]) -> bool:
        """Whether no more running jobs are among them than may still be evicted."""
        jobs = self.rest.layout.problem.jobs
        return sum(jobs[place].running is not None for place in places) <= self.running_left


def _worth(rest: Rest) -> Floats:
    """The value of each job as placed: priority x value x the mean speed of its workers, as in the goal placed_value."""
    problem = rest.layout.problem
    nodes = problem.nodes
    speeds = np.zeros(len(problem.jobs))
    picky = np.array([bool(job.model_speeds) for job in problem.jobs], dtype=np.bool_)
    np.add.at(speeds, rest.seat_job, np.where(picky[rest.seat_job], 0.0, 1.0))
    for place, node in zip(rest.seat_job.tolist(), rest.seat_node.tolist(), strict=True):
        if picky[place]:
            speeds[place] += problem.jobs[place].model_speeds.get(nodes[node].gpu_model or "", 0.0)
    return np.array([job.priority * job.value * speeds[place] / job.workers for place, job in enumerate(problem.jobs)])


class Desk:
    """One node with what each of its jobs holds there: how many workers of the waiting job it takes when some of them are gone."""

    def __init__(self, room: Room, node: int) -> None:
        rest, layout = room.rest, room.rest.layout
        self._job = room.job
        self._cpu, self._memory = float(rest.cpu[node]), float(rest.memory[node])
        self._seats: dict[int, list[tuple[int, ...]]] = {}
        for seat in np.flatnonzero(rest.seat_node == node).tolist():
            first, last = np.searchsorted(rest.gpu_seat, (seat, seat + 1))
            self._seats.setdefault(int(rest.seat_job[seat]), []).append(tuple(rest.gpu_index[first:last].tolist()))
        self._jobs = {place: layout.problem.jobs[place] for place in self._seats}
        gpus = range(int(layout.gpus[node]))
        # Of each GPU: workers that use it whole, workers that share it, the sum of their shares, its free memory.
        self._gpus = [[float(part[node, gpu]) for part in (rest.whole, rest.sharers, rest.used, rest.gpu_memory)] for gpu in gpus]

    def takes(self, gone: Iterable[int]) -> int:
        """How many workers the node takes by its size without the jobs ``gone``, at most as many as the job has."""
        cpu, memory = self._cpu, self._memory
        gpus = [list(gpu) for gpu in self._gpus]
        for place in gone:
            for used in self._seats.get(place, ()):
                other = self._jobs[place]
                cpu += other.cpu_cores
                memory += other.memory_gib
                for gpu in used:
                    whole = other.gpus_per_worker >= 1
                    gpus[gpu][0 if whole else 1] -= 1
                    gpus[gpu][2] -= 0.0 if whole else other.gpus_per_worker
                    gpus[gpu][3] += other.gpu_memory_gib
        job = self._job
        found = min(job.workers, self._by_gpus(gpus))
        for free, need in ((cpu, job.cpu_cores), (memory, job.memory_gib)):
            if need > 0:
                found = min(found, int((free + TOLERANCE) // need))
        return max(found, 0)

    def _by_gpus(self, gpus: list[list[float]]) -> int:
        size, memory = self._job.gpus_per_worker, self._job.gpu_memory_gib
        if size == 0:
            return MANY
        if size >= 1:
            return sum(whole + sharers == 0 and free + TOLERANCE >= memory for whole, sharers, _, free in gpus) // int(size)
        total = 0
        for whole, _, used, free in gpus:
            if not whole:
                by_memory = int(min((free + TOLERANCE) / memory, MANY)) if memory else MANY
                total += max(0, min(int((1.0 - used + TOLERANCE) / size), by_memory))
        return total

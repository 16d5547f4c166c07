"""Ready-made changes of single nodes for a repack: who could leave, and who could come in instead.

A *change* of a node lets at most two of its running jobs leave, lets waiting jobs in, and may receive a job that left another
node. A *seat* takes a job that left, on a node that does not change. Only promising changes are kept.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from models.placement.ledger import SLACK, Ledger
from models.placement.relaxation import worth_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from models.placement.schema import GoalName, Job, Plan, Problem
    from models.program import Bools

KEPT = 30  # changes of one node that enter the program
RECEIVED = 3  # different jobs tried as the one received
FIRSTS = 4  # different waiting jobs tried as the first to come in
HAIR = 0.1  # of a GPU: what a move costs when changes are compared
SEATS = 3  # jobs without GPUs of one group that a node may take


@dataclass(frozen=True, slots=True)
class Change:
    """Jobs (positions) that leave ``node``, waiting groups that come in, what these are worth, and movable groups received."""

    node: int
    leaving: tuple[int, ...]
    coming: tuple[int, ...]
    worth: float
    receiving: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Seat:
    """Room for one job of a movable group on a node, on one GPU (None for a job without GPUs)."""

    node: int
    gpu: int | None
    group: int


class Groups:
    """Groups of interchangeable single-worker jobs, as columns of numbers: what one job of each needs."""

    def __init__(self, ledger: Ledger, groups: Sequence[list[int]]) -> None:
        self.places = [list(group) for group in groups]
        jobs = [ledger.problem.jobs[group[0]] for group in groups]
        self.jobs = jobs
        self.gpus = np.array([job.gpus_per_worker for job in jobs])
        self.count = np.ceil(self.gpus)
        self.cpu = np.array([job.cpu_cores for job in jobs])
        self.memory = np.array([job.memory_gib for job in jobs])
        self.need = np.minimum(self.gpus, 1.0)
        self.gpu_memory = np.array([job.gpu_memory_gib for job in jobs])
        kinds = max(ledger.hosts.kind_of.values(), default=-1) + 1
        hosted = [[kind in ledger.hosts.kinds(job) for kind in range(kinds)] for job in jobs]
        self.hosted = np.array(hosted, dtype=np.bool_).reshape(len(jobs), kinds)


class Room:
    """What is free on one node while a change is tried out; ``put`` takes from it."""

    def __init__(self, ledger: Ledger, node: int, leaving: tuple[int, ...]) -> None:
        self.cpu, self.memory = float(ledger.cpu[node]), float(ledger.memory[node])
        self.share, self.gpu_memory = ledger.share[node].copy(), ledger.gpu_memory[node].copy()
        for place in leaving:
            job = ledger.problem.jobs[place]
            self.cpu += job.cpu_cores
            self.memory += job.memory_gib
            for gpu in ledger.seats[place][0][1]:
                self.share[gpu] += min(job.gpus_per_worker, 1.0)
                self.gpu_memory[gpu] += job.gpu_memory_gib

    def fits(self, groups: Groups) -> Bools:
        """For each group whether one of its jobs fits, shape (groups,)."""
        suited = (self.share[None, :] + SLACK >= groups.need[:, None]) & (self.gpu_memory[None, :] + SLACK >= groups.gpu_memory[:, None])
        fits: Bools = (suited.sum(axis=1) >= groups.count) & (groups.cpu <= self.cpu + SLACK) & (groups.memory <= self.memory + SLACK)
        return fits

    def put(self, job: Job) -> None:
        """Take room for one worker: the fullest GPUs that suit it, as ``Ledger.pick_gpus`` chooses."""
        self.cpu -= job.cpu_cores
        self.memory -= job.memory_gib
        need = min(job.gpus_per_worker, 1.0)
        suited = np.flatnonzero((self.share + SLACK >= need) & (self.gpu_memory + SLACK >= job.gpu_memory_gib))
        for gpu in suited[np.argsort(self.share[suited], kind="stable")][: int(np.ceil(job.gpus_per_worker))]:
            self.share[gpu] -= need
            self.gpu_memory[gpu] -= job.gpu_memory_gib


class Changes:
    """All promising changes and seats around ``plan``; ``waiting`` and ``movable`` are the groups they speak of."""

    def __init__(self, problem: Problem, goal: GoalName, plan: Plan) -> None:
        self.problem = problem
        self.ledger = Ledger(problem)
        self.ledger.book_plan(plan)
        self._moved = {self.ledger.position[job] for job in plan.moved}
        waiting, movable = self._grouped()
        jobs = problem.jobs
        # The worthiest first, and among those of equal worth the ones that ask for least CPU.
        waiting.sort(key=lambda one: (-worth_of(jobs[one[0]], goal), jobs[one[0]].cpu_cores))
        # The largest first, and among those without GPUs the ones with most CPU.
        movable.sort(key=lambda one: (-jobs[one[0]].gpus_per_worker, -jobs[one[0]].cpu_cores))
        self.waiting, self.movable = Groups(self.ledger, waiting), Groups(self.ledger, movable)
        self._worth = np.array([worth_of(job, goal) for job in self.waiting.jobs])
        self._group_of = {place: group for group, places in enumerate(movable) for place in places}
        self._per_gpu = float((self._worth / np.maximum(self.waiting.gpus, 1e-3)).max(initial=0.0))
        self._at: defaultdict[int, list[int]] = defaultdict(list)
        for place in self._group_of:
            self._at[self.ledger.seats[place][0][0]].append(place)
        self.seats = list(self._seats())
        self.changes = [change for node in range(len(problem.nodes)) for change in self._changes_of(node)]

    def group_of(self, place: int) -> int:
        """The movable group of a running job."""
        return self._group_of[place]

    def _grouped(self) -> tuple[list[list[int]], list[list[int]]]:
        waiting: defaultdict[Hashable, list[int]] = defaultdict(list)
        movable: defaultdict[Hashable, list[int]] = defaultdict(list)
        for place, job in enumerate(self.problem.jobs):
            if job.workers != 1 or self.ledger.has_foes(place):
                continue
            if place not in self.ledger.seats:
                if job.running is None and self.ledger.most_workers(place):
                    waiting[_likeness(job)].append(place)
            elif job.running is not None and place not in self._moved:
                movable[_likeness(job)].append(place)
        return list(waiting.values()), list(movable.values())

    # ------------------------------------------------------------ changes

    def _changes_of(self, node: int) -> list[Change]:
        """The promising changes of one node, at most KEPT, the best first."""
        if self.ledger.share[node].sum() <= SLACK:
            return []
        singles = self._at[node]
        # Two at once only when neither holds a whole GPU: what leaves must find room elsewhere.
        small = [place for place in singles if self.problem.jobs[place].gpus_per_worker < 1]
        made: dict[Hashable, Change] = {}
        seen: set[Hashable] = set()
        for leaving in [*((place,) for place in singles), *combinations(small, 2)]:
            alike = tuple(sorted((self._group_of[place], *self._free_beside(node, place)) for place in leaving))
            if alike not in seen:
                seen.add(alike)
                for change in self._fillings(node, leaving):
                    made.setdefault((alike, tuple(sorted(change.coming)), change.receiving), change)
        useful = [change for change in made.values() if change.worth > 0 or self._merit(change) > 0]
        return sorted(useful, key=self._merit, reverse=True)[:KEPT]

    def _free_beside(self, node: int, place: int) -> list[float]:
        """The free shares of the GPUs that a job uses: two alike jobs on GPUs alike are interchangeable."""
        return sorted(round(float(self.ledger.share[node, gpu]), 6) for gpu in self.ledger.seats[place][0][1])

    def _merit(self, change: Change) -> float:
        """What comes in, less the room that the leaving jobs need elsewhere, plus the room that received ones no longer need."""
        gone = sum(self.problem.jobs[place].gpus_per_worker + HAIR for place in change.leaving)
        received = sum(float(self.movable.gpus[group]) for group in change.receiving)
        return change.worth + self._per_gpu * (received - gone)

    def _fillings(self, node: int, leaving: tuple[int, ...]) -> Iterator[Change]:
        """What could come in when ``leaving`` have left: each of the first few that fit, then the best of the rest."""
        kind = self.ledger.hosts.kind_of[node]
        room = Room(self.ledger, node, leaving)
        own = {self._group_of[place] for place in leaving}
        for group in self._receivable(room, kind, own):
            yield Change(node, leaving, (), 0.0, (group,))
        for first in np.flatnonzero(room.fits(self.waiting) & self.waiting.hosted[:, kind])[:FIRSTS].tolist():
            room = Room(self.ledger, node, leaving)
            coming: list[int] = []
            best = first
            while best >= 0:
                room.put(self.waiting.jobs[best])
                coming.append(best)
                fits = room.fits(self.waiting) & self.waiting.hosted[:, kind]
                best = next((group for group in np.flatnonzero(fits).tolist() if coming.count(group) < len(self.waiting.places[group])), -1)
            worth = float(self._worth[coming].sum())
            yield Change(node, leaving, tuple(coming), worth)
            for group in self._receivable(room, kind, own):
                yield Change(node, leaving, tuple(coming), worth, (group,))

    def _receivable(self, room: Room, kind: int, own: set[int]) -> list[int]:
        """The few largest movable groups, other than those leaving, of which one job fits."""
        fits = np.flatnonzero(room.fits(self.movable) & self.movable.hosted[:, kind])
        return [group for group in fits[: RECEIVED + len(own)].tolist() if group not in own][:RECEIVED]

    # ------------------------------------------------------------ seats

    def _seats(self) -> Iterator[Seat]:
        """Every GPU (or node, for jobs without GPUs) that could take one job of a group that may leave elsewhere."""
        ledger = self.ledger
        for group, job in enumerate(self.movable.jobs):
            size = job.gpus_per_worker
            room = ledger.room(self.movable.places[group][0])
            for node in np.flatnonzero(room).tolist():
                if not size:
                    yield from [Seat(node, None, group)] * int(min(SEATS, room[node]))
                elif size <= 1:
                    gpus = np.flatnonzero((ledger.share[node] + SLACK >= size) & (ledger.gpu_memory[node] + SLACK >= job.gpu_memory_gib))
                    # GPUs with the same share free are alike: the first of each is enough for one job.
                    first = {round(float(ledger.share[node, gpu]), 6): int(gpu) for gpu in gpus[::-1]}
                    yield from (Seat(node, gpu, group) for gpu in first.values())


def _likeness(job: Job) -> Hashable:
    """Equal for single-worker jobs that are interchangeable but for where they run."""
    return (
        (job.tenant, job.priority * job.value, 0.0 if job.running is None else job.running.move_cost),
        (job.gpus_per_worker, job.gpu_memory_gib, job.cpu_cores, job.memory_gib),
        tuple(sorted(job.model_speeds.items())),
        tuple(sorted(job.node_selector.items())),
        None if job.colocate is None else (job.colocate.level, job.colocate.required),
    )

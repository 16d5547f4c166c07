"""Which few moves let the most waiting jobs in: one small program over ready-made changes of single nodes.

A *change* of a node lets up to three of its running jobs leave and waiting jobs in; a *seat* takes one job that left, on a node that
does not change. The program chooses changes and seats together within the move budget, so that every job that leaves one
node has a seat on another. Changes are made up in closed form and only the promising ones are kept: what the program
finds is a plan, not a proof.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from models.placement.heuristic import fill, waiting
from models.placement.ledger import SLACK, Ledger
from models.placement.relaxation import worth_of
from models.program_builder import ProgramBuilder

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from models.placement.schema import GoalName, Job, Plan, Problem
    from models.program import Floats, LinearProgram

KEPT = 40  # changes of one node that enter the program
MOST_LEAVING = 2
MOST_SETS = 4000
RECEIVED = 3
FIRSTS = 6  # different waiting jobs tried as the first to come in
HAIR = 0.1  # of a GPU: what a move costs when changes are compared
CHARGE = 0.1  # of the goal's worth of one GPU: what a move must bring in to be worth keeping


@dataclass(frozen=True, slots=True)
class _Change:
    """One node's change: jobs (by position) that leave, waiting jobs that come in, what that is worth, and groups of jobs
    that left elsewhere and come here.
    """

    node: int
    leaving: tuple[int, ...]
    coming: tuple[int, ...]
    worth: float
    receiving: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Seat:
    """Room for one job of a group on a node, on one GPU (None for a job without GPUs)."""

    node: int
    gpu: int | None
    group: int


@dataclass(slots=True)
class _Room:
    """What is free on one node while a change is tried out."""

    cpu: float
    memory: float
    share: list[float]
    gpu_memory: list[float]

    def fits(self, job: Job) -> bool:
        """Whether one worker of the job fits."""
        if self.cpu + SLACK < job.cpu_cores or self.memory + SLACK < job.memory_gib:
            return False
        need = min(job.gpus_per_worker, 1.0)
        if not need:
            return True
        suited = sum(share + SLACK >= need and memory + SLACK >= job.gpu_memory_gib for share, memory in zip(self.share, self.gpu_memory, strict=True))
        return suited >= job.gpus_per_worker

    def put(self, job: Job) -> None:
        """Take room for one worker: untouched GPUs, or the fullest that takes its share."""
        self.cpu -= job.cpu_cores
        self.memory -= job.memory_gib
        need = min(job.gpus_per_worker, 1.0)
        suited = [gpu for gpu, share in enumerate(self.share) if share + SLACK >= need and self.gpu_memory[gpu] + SLACK >= job.gpu_memory_gib]
        suited.sort(key=lambda gpu: self.share[gpu])
        for gpu in suited[: int(np.ceil(job.gpus_per_worker))]:
            self.share[gpu] -= need
            self.gpu_memory[gpu] -= job.gpu_memory_gib


class Repacking:
    """The program of changes and seats for a repack; ``program`` to solve, ``plan`` to read its values."""

    def __init__(self, problem: Problem, goal: GoalName, plan: Plan) -> None:
        self.problem = problem
        self.goal = goal
        self.ledger = Ledger(problem)
        self.ledger.book_plan(plan)
        self._moved = len(plan.moved)
        self._group_jobs()
        self._seats = list(self._free_seats())
        self._seated = {seat.group for seat in self._seats}
        self._changes = [change for node in range(len(problem.nodes)) for change in self._changes_of(node)] if self._seats else []

    def _stays(self, place: int) -> bool:
        running = self.problem.jobs[place].running
        assert running is not None  # noqa: S101  (asked of running jobs only)
        here = sorted((self.ledger.node_position[worker.node], tuple(sorted(worker.gpus))) for worker in running.workers)
        return here == sorted((node, tuple(sorted(gpus))) for node, gpus in self.ledger.seats[place])

    def _group_jobs(self) -> None:
        """Movable running jobs by node, and groups of jobs that are alike: of those that wait, and of those that may move."""
        self._waiting: defaultdict[Hashable, list[int]] = defaultdict(list)
        self._movable: defaultdict[int, list[int]] = defaultdict(list)
        self._group_of: dict[int, int] = {}
        groups: dict[Hashable, int] = {}
        self._sample: list[int] = []
        for place, job in enumerate(self.problem.jobs):
            if job.workers != 1 or job.anti_affinity is not None or self.ledger.has_foes(place):
                continue
            if place not in self.ledger.seats:
                if job.running is None and self.ledger.most_workers(place):
                    self._waiting[_likeness(job)].append(place)
            elif job.running is not None and self._stays(place):
                self._movable[self.ledger.seats[place][0][0]].append(place)
                key = _likeness(job)
                if key not in groups:
                    groups[key] = len(groups)
                    self._sample.append(place)
                self._group_of[place] = groups[key]
        # The largest first; of those without GPUs the ones with most CPU.
        jobs = self.problem.jobs
        self._by_size = sorted(range(len(self._sample)), key=lambda group: (-jobs[self._sample[group]].gpus_per_worker, -jobs[self._sample[group]].cpu_cores))
        # The worthiest first, and among those of equal worth the ones that ask for least CPU.
        self._queue = sorted(self._waiting.values(), key=lambda one: (-worth_of(jobs[one[0]], self.goal), jobs[one[0]].cpu_cores))

    # ------------------------------------------------------------ changes

    def _room(self, node: int, leaving: tuple[int, ...]) -> _Room:
        ledger = self.ledger
        room = _Room(float(ledger.cpu[node]), float(ledger.memory[node]), ledger.share[node].tolist(), ledger.gpu_memory[node].tolist())
        for place in leaving:
            job = self.problem.jobs[place]
            room.cpu += job.cpu_cores
            room.memory += job.memory_gib
            for gpu in ledger.seats[place][0][1]:
                room.share[gpu] += min(job.gpus_per_worker, 1.0)
                room.gpu_memory[gpu] += job.gpu_memory_gib
        return room

    def _changes_of(self, node: int) -> list[_Change]:
        """The promising changes of one node: at most KEPT."""
        if self.ledger.share[node].sum() <= SLACK:
            return []
        made: dict[Hashable, _Change] = {}
        singles = self._movable[node]
        sets = [chosen for count in range(1, MOST_LEAVING + 1) for chosen in combinations(singles, count)][:MOST_SETS]
        scale = max((worth_of(self.problem.jobs[one[0]], self.goal) / max(self.problem.jobs[one[0]].gpus_per_worker, 1e-3) for one in self._queue), default=0.0)
        seen: set[Hashable] = set()
        for leaving in sets:
            alike = tuple(sorted((self._group_of[place], tuple(sorted(self._neighbours(node, place)))) for place in leaving))
            if alike in seen:
                continue
            seen.add(alike)
            for change in self._fillings(node, leaving):
                made.setdefault((alike, change.coming, change.receiving), change)

        def merit(change: _Change) -> float:
            # What leaves needs room elsewhere, and what comes from elsewhere no longer does.
            received = sum(self.problem.jobs[self._sample[group]].gpus_per_worker for group in change.receiving)
            return change.worth + scale * (received - self._size(change.leaving) - HAIR * len(change.leaving))

        useful = [change for change in made.values() if change.worth > 0 or merit(change) > 0]
        return sorted(useful, key=merit, reverse=True)[:KEPT]

    def _size(self, places: tuple[int, ...]) -> float:
        return sum(self.problem.jobs[place].gpus_per_worker for place in places)

    def _neighbours(self, node: int, place: int) -> list[float]:
        """The free shares of the GPUs that a job uses: two alike jobs on GPUs alike are interchangeable."""
        return [round(float(self.ledger.share[node, gpu]), 6) for gpu in self.ledger.seats[place][0][1]]

    def _fillings(self, node: int, leaving: tuple[int, ...]) -> Iterator[_Change]:
        """What could come in when ``leaving`` have left: each of the first few that fit, then the best of the rest."""
        jobs = self.problem.jobs
        hosted = [one for one in self._queue if self.ledger.host_mask(jobs[one[0]])[node]]
        base = self._room(node, leaving)
        firsts = [one for one in hosted if base.fits(jobs[one[0]])][:FIRSTS]
        for first in firsts:
            room = self._room(node, leaving)
            room.put(jobs[first[0]])
            coming = [first[0]]
            for one in hosted:
                while room.fits(jobs[one[0]]) and coming.count(one[0]) < len(one):
                    room.put(jobs[one[0]])
                    coming.append(one[0])
            worth = sum(worth_of(jobs[place], self.goal) for place in coming)
            yield _Change(node, leaving, tuple(sorted(coming)), worth)
            for group in self._receivable(node, room, leaving):
                yield _Change(node, leaving, tuple(sorted(coming)), worth, (group,))
        for group in self._receivable(node, base, leaving):
            yield _Change(node, leaving, (), 0.0, (group,))

    def _receivable(self, node: int, room: _Room, leaving: tuple[int, ...]) -> list[int]:
        """The few largest groups of movable jobs, other than those leaving, of which one fits."""
        own = {self._group_of[place] for place in leaving}
        found: list[int] = []
        for group in self._by_size:
            job = self.problem.jobs[self._sample[group]]
            if group not in own and room.fits(job) and self.ledger.host_mask(job)[node]:
                found.append(group)
                if len(found) == RECEIVED:
                    break
        return found

    def _free_seats(self) -> Iterator[_Seat]:
        """Every GPU (or node, for jobs without GPUs) that could take one job of a group that may leave elsewhere."""
        ledger = self.ledger
        for group, sample in enumerate(self._sample):
            job = self.problem.jobs[sample]
            size = job.gpus_per_worker
            fits = ledger.host_mask(job) & (ledger.cpu + SLACK >= job.cpu_cores) & (ledger.memory + SLACK >= job.memory_gib)
            for node in np.flatnonzero(fits).tolist():
                if not size:
                    yield from [_Seat(node, None, group)] * int(min(MOST_LEAVING, ledger.room(sample)[node]))
                elif size <= 1:
                    gpus = np.flatnonzero((ledger.share[node] + SLACK >= size) & (ledger.gpu_memory[node] + SLACK >= job.gpu_memory_gib))
                    # GPUs with the same share free are alike: the first of each is enough for one job.
                    first = {round(float(ledger.share[node, gpu]), 6): int(gpu) for gpu in gpus[::-1]}
                    yield from (_Seat(node, gpu, group) for gpu in first.values())

    # ------------------------------------------------------------ the program

    def program(self) -> LinearProgram | None:
        """Choose changes and seats; None when there is nothing to choose."""
        if not self._changes or not self._seats:
            return None
        builder = ProgramBuilder(maximise=True)
        worth = np.array([change.worth for change in self._changes])
        # A hair for every move, so that of equal gains the one with fewer moves is chosen.
        cost = np.array([self._move_cost(change) for change in self._changes])
        change = builder.add_columns("change", [(k,) for k in range(len(worth))], cost=worth - 1e-4 * cost, upper=1.0, integer=True)
        seat = builder.add_columns("seat", [(k,) for k in range(len(self._seats))], upper=1.0, integer=True)
        self._add_place_rows(builder, change.start, seat.start)
        self._add_job_rows(builder, change.start, seat.start)
        return builder.build()

    def _move_cost(self, change: _Change) -> float:
        costs = [running.move_cost for place in change.leaving if (running := self.problem.jobs[place].running) is not None]
        return sum(costs)

    def _add_place_rows(self, builder: ProgramBuilder, change: int, seat: int) -> None:
        """A node changes or takes, each GPU at most one job; what a node takes fits its CPU and memory."""
        spots: dict[tuple[int, int | None], int] = {}
        entries = [(spots.setdefault((one.node, one.gpu), len(spots)), seat + k) for k, one in enumerate(self._seats) if one.gpu is not None]
        by_node: defaultdict[int, list[int]] = defaultdict(list)
        for k, made in enumerate(self._changes):
            by_node[made.node].append(k)
        # One row for each node (GPU None), and one for each GPU that seats name.
        for node in by_node:
            spots.setdefault((node, None), len(spots))
        for (node, _), row in spots.items():
            entries.extend((row, change + k) for k in by_node.get(node, ()))
        rows, columns = np.array(entries, dtype=np.int64).reshape(-1, 2).T
        builder.add_rows("spot", list(spots), upper=1.0, row_index=rows, column_index=columns)
        nodes = {node: row for row, node in enumerate(sorted({one.node for one in self._seats}))}
        row = np.array([nodes[one.node] for one in self._seats])
        for name, free, need in (
            ("node_cpu", self.ledger.cpu, [self._job(one).cpu_cores for one in self._seats]),
            ("node_memory", self.ledger.memory, [self._job(one).memory_gib for one in self._seats]),
        ):
            self._add_capacity(builder, name, nodes, free, (row, seat + np.arange(len(self._seats)), np.array(need)), by_node, change)

    @staticmethod
    def _add_capacity(
        builder: ProgramBuilder,
        name: str,
        nodes: dict[int, int],
        free: Floats,
        entries: tuple[np.ndarray, np.ndarray, np.ndarray],
        by_node: dict[int, list[int]],
        change: int,
    ) -> None:
        """A node that changes takes nobody else: the change claims all that is free."""
        claims = [(row, change + k, max(float(free[node]), 0.0)) for node, row in nodes.items() for k in by_node.get(node, ())]
        rows, columns, amounts = np.array(claims, dtype=np.float64).reshape(-1, 3).T
        upper = np.array([max(float(free[node]), 0.0) + SLACK for node in nodes])
        builder.add_rows(
            name,
            [(node,) for node in nodes],
            upper=upper,
            row_index=np.concatenate((entries[0], rows.astype(np.int64))),
            column_index=np.concatenate((entries[1], columns.astype(np.int64))),
            coefficient=np.concatenate((entries[2], amounts)),
        )

    def _job(self, seat: _Seat) -> Job:
        return self.problem.jobs[self._sample[seat.group]]

    def _add_job_rows(self, builder: ProgramBuilder, change: int, seat: int) -> None:
        """Who leaves gets a seat, waiting jobs come in once each, moves and quotas are kept."""
        groups = {group: row for row, group in enumerate(range(len(self._sample)))}
        entries = [(groups[self._group_of[place]], change + k, 1.0) for k, made in enumerate(self._changes) for place in made.leaving]
        entries += [(groups[group], change + k, -1.0) for k, made in enumerate(self._changes) for group in made.receiving]
        entries += [(groups[one.group], seat + k, -1.0) for k, one in enumerate(self._seats)]
        rows, columns, amounts = np.array(entries).T
        builder.add_rows("leaving", [(group,) for group in groups], upper=0.0, row_index=rows, column_index=columns.astype(np.int64), coefficient=amounts)
        queue = {one[0]: row for row, one in enumerate(self._queue)}
        pairs = [(queue[place], change + k) for k, made in enumerate(self._changes) for place in made.coming]
        rows, columns = np.array(pairs, dtype=np.int64).T
        builder.add_rows("wish", [(k,) for k in queue], upper=[float(len(one)) for one in self._queue], row_index=rows, column_index=columns)
        most = self.problem.max_moves
        if most is not None:
            counts = np.array([float(len(made.leaving)) for made in self._changes])
            builder.add_rows("move_budget", [()], upper=float(most - self._moved), row_index=np.zeros(len(counts), dtype=int), column_index=change + np.arange(len(counts)), coefficient=counts)
        tenants = {tenant: row for row, tenant in enumerate(self.ledger.quota)}
        sizes = [
            (tenants[job.tenant], change + k, job.gpus_per_worker)
            for k, made in enumerate(self._changes)
            for job in (self.problem.jobs[place] for place in made.coming)
            if job.tenant in tenants
        ]
        rows, columns, amounts = np.array(sizes, dtype=np.float64).reshape(-1, 3).T
        left = [max(self.ledger.quota[tenant], 0.0) for tenant in tenants]
        builder.add_rows("tenant_quota", [(tenant,) for tenant in tenants], upper=left, row_index=rows, column_index=columns.astype(np.int64), coefficient=amounts)

    # ------------------------------------------------------------ the plan

    def plan(self, values: Floats) -> Plan:
        """Carry out the chosen changes and seats, then let in whatever else fits."""
        ledger = self.ledger
        chosen = [change for change, value in zip(self._changes, values, strict=False) if value > 0.5]  # noqa: PLR2004
        seats: defaultdict[int, list[_Seat]] = defaultdict(list)
        for seat, value in zip(self._seats, values[len(self._changes) :], strict=True):
            if value > 0.5:  # noqa: PLR2004
                seats[seat.group].append(seat)
        leaving: defaultdict[int, list[int]] = defaultdict(list)
        for change in chosen:
            for place in change.leaving:
                ledger.unbook(place)
                leaving[self._group_of[place]].append(place)
        for change in chosen:
            for group in change.receiving:
                place = leaving[group].pop() if leaving[group] else None
                if place is not None:
                    ledger.book(place, [(change.node, ledger.pick_gpus(place, change.node))])
        for group, places in leaving.items():
            for place in places:
                seat = seats[group].pop()
                ledger.book(place, [(seat.node, () if seat.gpu is None else (seat.gpu,))])
        queues = {one[0]: list(one) for one in self._queue}
        for change in chosen:
            for first in change.coming:
                place = queues[first].pop()
                ledger.book(place, [(change.node, ledger.pick_gpus(place, change.node))])
        fill(ledger, waiting(self.problem), float("inf"))
        return ledger.plan()


def _likeness(job: Job) -> Hashable:
    """Equal for single-worker jobs that are interchangeable but for what moving them costs."""
    return (
        (job.tenant, job.priority * job.value),
        (job.gpus_per_worker, job.gpu_memory_gib, job.cpu_cores, job.memory_gib),
        tuple(sorted(job.model_speeds.items())),
        tuple(sorted(job.node_selector.items())),
        None if job.colocate is None else (job.colocate.level, job.colocate.required),
    )

"""The simulation: events in the order of their time, and after each time the queue starts whoever may start.

The clock is the time of the event at hand; no other is read. At one time jobs end first, then nodes come back, then nodes fail,
then jobs come. The engine knows no policy: a ``Queue`` says who is tried, and a seat rule where.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from service.replay.history import History, Stay
from service.replay.jobs import ReplayError
from service.replay.running import Run, Running
from service.replay.waiting import Shapes, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from models.placement.online.fgd import Fragmentation
    from models.placement.online.rules import SeatRule
    from models.placement.online.state import Cluster, Request, Seats
    from service.replay.jobs import TraceJob
    from service.replay.moving import Mover
    from service.replay.outages import Outage
    from service.replay.planning import Planner
    from service.replay.queues import Queue

MOST_STARTS = 200  # of one job on average, before a replay is given up: its nodes fail faster than its jobs end
ONE_S = 1.0  # what is estimated of a job that has done all the work that it was estimated to have


class Kind(IntEnum):
    """What happens, in the order in which it happens at one time."""

    end = 0
    node_up = 1
    node_down = 2
    arrival = 3


@dataclass(frozen=True, slots=True)
class Costs:
    """What an interruption costs. ``checkpoint_s``: work done is safe at each multiple of it; 0: always; infinity: never.

    ``restart_s`` and ``move_s`` are the seconds in its new seats in which an evicted, or a moved, job does no work.
    """

    checkpoint_s: float = math.inf
    restart_s: float = 0.0
    move_s: float = 0.0

    def safe_s(self, work_s: float) -> float:
        """How much of the work done since the start outlives an eviction."""
        if self.checkpoint_s == 0:
            return work_s
        return 0.0 if math.isinf(self.checkpoint_s) else math.floor(work_s / self.checkpoint_s) * self.checkpoint_s


@dataclass(frozen=True, slots=True)
class Case:
    """What is replayed: jobs by arrival, their estimates (seconds at speed 1), outages by their beginning, and what they cost."""

    jobs: Sequence[TraceJob]
    estimates_s: Sequence[float]
    outages: Iterable[Outage] = ()
    costs: Costs = field(default_factory=Costs)


class Simulation:
    """One replay of a case under one policy; ``run`` does it, and ``history`` keeps all that happened.

    ``cluster`` is changed; give each simulation its own. ``after`` is called after each time with the simulation (for tests).
    """

    def __init__(
        self,
        case: Case,
        cluster: Cluster,
        queue: Queue,
        rule: SeatRule,
        *,
        fragmentation: Fragmentation,
        mover: Mover | None = None,
        planner: Planner | None = None,
        after: Callable[[Simulation], None] | None = None,
    ) -> None:
        """Raises ReplayError where there is no job."""
        if not case.jobs:
            raise ReplayError("there is no job to replay; give a trace with at least one")
        self.case, self.cluster, self.queue, self.rule = case, cluster, queue, rule
        self.mover, self.planner, self.after = mover, planner, after
        self.now_s = 0.0
        self.requests = [job.request for job in case.jobs]
        self.running = Running(cluster.free_milli.shape[1])
        self.waiting = Waiting(Shapes(self.requests, cluster))
        self.history = History(len(case.jobs), fragmentation, cluster)
        self.left_s = [job.duration_s for job in case.jobs]  # work that is not done, in seconds at speed 1
        self.estimate_s = list(case.estimates_s)  # of the work that is not done
        self.unfinished = len(case.jobs)
        self._pause_s = [0.0] * len(case.jobs)  # at the beginning of the next run
        models = cluster.models
        self._slowest = [job.speed_range(models)[0] for job in case.jobs]
        self._starts = [0] * len(case.jobs)
        self._all_starts = 0
        self._at: dict[int, set[int]] = {}  # node: the jobs that run there
        self._freed: set[int] = set()
        self._heap: list[tuple[float, Kind, int, int]] = [(job.arrival_s, Kind.arrival, n, 0) for n, job in enumerate(case.jobs)]
        heapq.heapify(self._heap)
        self._outages: Iterator[Outage] = iter(case.outages)
        self._next_outage()

    def run(self) -> History:
        """Everything from the first arrival to the last end.

        Raises ReplayError where jobs are left that can never start again, or nodes fail faster than jobs end.
        """
        while self.unfinished:
            if not self._heap:
                raise ReplayError(f"{self.unfinished} jobs wait for nodes that never come back; give each outage an end")
            self.now_s = self._heap[0][0]
            while self._heap and self._heap[0][0] == self.now_s:
                _, kind, what, number = heapq.heappop(self._heap)
                _HANDLERS[kind](self, what, number)
            self._schedule()
            self.history.note(self)
            if self.after is not None:
                self.after(self)
        return self.history

    # ---------------------------------------------------------------- what a queue needs

    def request(self, job: int) -> Request:
        """What a job asks for."""
        return self.requests[job]

    def waited_s(self, job: int) -> float:
        """How long ago a job came."""
        return self.now_s - self.case.jobs[job].arrival_s

    def start(self, job: int, seats: Seats) -> None:
        """Start a waiting job in free seats."""
        self.waiting.remove(job)
        self._begin(job, seats)

    def jobs_on(self, node: int) -> AbstractSet[int]:
        """The jobs with a worker on a node."""
        return self._at.get(node, frozenset())

    def move(self, job: int, seats: Seats) -> None:
        """Take a running job elsewhere, with all the work that it has done."""
        self.move_together({job: seats})

    def move_together(self, moves: Mapping[int, Seats]) -> None:
        """Take running jobs elsewhere at once: their old seats are free before any takes its new ones."""
        for job in moves:
            self._stop(job, all_safe=True)
            self.history.moved[job] += 1
            self._pause_s[job] = self.case.costs.move_s
        for job, seats in moves.items():
            self._begin(job, seats)
        self.queue.wrong = self.queue.wrong or bool(moves)

    # ---------------------------------------------------------------- events

    def _schedule(self) -> None:
        self._open_again()
        self.queue.schedule(self)
        while self.mover is not None and self.mover.moved(self):
            self._open_again()
            self.queue.schedule(self)
        self._plan()

    def _plan(self) -> None:
        if self.planner is not None and self.planner.planned(self):
            self._open_again()
            self.queue.schedule(self)

    def _open_again(self) -> None:
        """Tell the queue which shapes may fit on nodes that have more room than before."""
        if self._freed:
            self.queue.freed(self.waiting.open_again(self.cluster, self._freed))
            self._freed.clear()

    def _arrive(self, job: int, _number: int) -> None:
        self._wait(job)
        if self.mover is not None:
            self.mover.arrived()

    def _end(self, job: int, number: int) -> None:
        run = self.running.runs.get(job)
        if run is None or run.number != number:
            return  # it was evicted or moved in between
        if run.end_s != self.now_s:
            self.queue.wrong = True
        self._stop(job, all_safe=True)
        self.left_s[job] = 0.0
        self.history.end_s[job] = self.now_s
        self.unfinished -= 1

    def _node_down(self, node: int, _number: int) -> None:
        self.cluster.open[node] = False
        self.history.touched.add(node)
        self.queue.wrong = True
        for job in sorted(self._at.get(node, ())):
            self._stop(job, all_safe=False)
            self.history.evicted[job] += 1
            self._pause_s[job] = self.case.costs.restart_s
            self._wait(job)
        self._next_outage()

    def _node_up(self, node: int, _number: int) -> None:
        self.cluster.open[node] = True
        self._freed.add(node)
        self.history.touched.add(node)
        self.queue.wrong = True

    def _next_outage(self) -> None:
        outage = next(self._outages, None)
        if outage is not None:
            heapq.heappush(self._heap, (outage.down_s, Kind.node_down, outage.node, 0))
            if math.isfinite(outage.up_s):
                heapq.heappush(self._heap, (outage.up_s, Kind.node_up, outage.node, 0))

    # ---------------------------------------------------------------- runs

    def _wait(self, job: int) -> None:
        self.waiting.add(job, self._pause_s[job] + self.estimate_s[job] / self._slowest[job])

    def _begin(self, job: int, seats: Seats) -> None:
        request, traced = self.requests[job], self.case.jobs[job]
        speed, pause_s = traced.speed_on(self.cluster, seats), self._pause_s[job]
        number = self._starts[job]
        self._starts[job] += 1
        self._all_starts += 1
        if self._all_starts > MOST_STARTS * len(self.requests):
            raise ReplayError("nodes fail faster than jobs end: no end is in sight; give a longer time between failures, or checkpoints")
        self.cluster.seat(request, seats)
        working_from_s = self.now_s + pause_s
        end_s = working_from_s + self.estimate_s[job] / speed
        self.running.add(Run(job, request, seats, self.now_s, end_s, speed, number))
        for node in {seat.node for seat in seats}:
            self._at.setdefault(node, set()).add(job)
            self.history.touched.add(node)
        self.history.started(job, self.now_s)
        heapq.heappush(self._heap, (working_from_s + self.left_s[job] / speed, Kind.end, job, number))

    def _stop(self, job: int, *, all_safe: bool) -> Run:
        """Take a job off its seats; the work that is not safe has to be done again."""
        run = self.running.remove(job)
        self.cluster.unseat(run.request, run.seats)
        for node in {seat.node for seat in run.seats}:
            self._at[node].discard(job)
            self._freed.add(node)
            self.history.touched.add(node)
        pause_s = min(self._pause_s[job], self.now_s - run.start_s)
        work_s = min(self.left_s[job], (self.now_s - run.start_s - pause_s) * run.speed)
        safe_s = work_s if all_safe else self.case.costs.safe_s(work_s)
        self.left_s[job] -= safe_s
        rest_s = self.estimate_s[job] - safe_s
        self.estimate_s[job] = rest_s if rest_s > 0 else ONE_S
        useful_from_s = run.start_s + pause_s
        gpus = self.case.jobs[job].gpus
        self.history.stays.append(Stay(job, gpus, run.start_s, useful_from_s, useful_from_s + safe_s / run.speed, self.now_s))
        return run


_HANDLERS: dict[Kind, Callable[[Simulation, int, int], None]] = {
    Kind.end: Simulation._end,  # noqa: SLF001  (a table of the class's own methods)
    Kind.node_up: Simulation._node_up,  # noqa: SLF001
    Kind.node_down: Simulation._node_down,  # noqa: SLF001
    Kind.arrival: Simulation._arrive,  # noqa: SLF001
}

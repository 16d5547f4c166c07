"""Moves: one running job goes elsewhere, so that the job at the head of the queue fits. A budget says how many.

A job moves with all its work and pauses for ``Costs.move_s`` in its new seats. Only jobs of one worker move, and only for a job of
one worker. Of all that make room, the one with the fewest GPUs moves; of equal ones, the one on the node that is left with least.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.placement.online.state import MILLI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.placement.online.state import Cluster, Request, Seat, Seats
    from service.replay.engine import Simulation
    from service.replay.running import Run

MOST_TRIED = 16  # movable jobs for which new seats are looked for


class Mover:
    """Makes room for the head by one move at a time, with one move more to spend for each ``every`` arrivals.

    What is not spent is kept. A search that fails is not repeated before ``every`` more arrivals.
    """

    def __init__(self, every: int) -> None:
        """Raises ValueError for fewer than one arrival a move."""
        if every < 1:
            raise ValueError("a move needs at least one arrival: every must be 1 or more")
        self.every = every
        self.arrivals = 0
        self.moves = 0
        self._not_before = 0

    def arrived(self) -> None:
        """One more job has come."""
        self.arrivals += 1

    def moved(self, simulation: Simulation) -> bool:
        """Move one job where that makes room for the head, which the queue may start then; False where nothing moved."""
        head = simulation.waiting.head()
        if head is None or self.moves >= self.arrivals // self.every or self.arrivals < self._not_before:
            return False
        request = simulation.request(head)
        found = _way(simulation, request) if request.workers == 1 and request.gpus else None
        if found is None:
            self._not_before = self.arrivals + self.every
            return False
        job, seats = found
        simulation.move(job, seats)
        self.moves += 1
        return True


def _way(simulation: Simulation, request: Request) -> tuple[int, Seats] | None:
    """The job to move and its new seats; None where no single move makes room."""
    cluster = simulation.cluster
    room = cluster.open & cluster.accepted(request.models) & (cluster.left_milli < cluster.gpus * MILLI)
    found = [
        (run.request.gpu_milli, int(cluster.left_milli[node]), run)
        for node in np.flatnonzero(room).tolist()
        for run in _movable(simulation, node)
        if _makes_room(cluster, request, run.request, run.seats[0])
    ]
    found.sort(key=lambda one: (one[0], one[1], one[2].job))
    for _, _, run in found[:MOST_TRIED]:
        seats = _elsewhere(simulation, run)
        if seats is not None:
            return run.job, seats
    return None


def _movable(simulation: Simulation, node: int) -> Iterator[Run]:
    """The jobs of one worker on a node; of those that ask for the same, in the same GPUs, only one."""
    seen = set()
    for job in sorted(simulation.jobs_on(node)):
        run = simulation.running.runs[job]
        key = (simulation.waiting.shapes.of[job], run.seats[0].gpus)
        if run.request.workers == 1 and key not in seen:
            seen.add(key)
            yield run


def _makes_room(cluster: Cluster, request: Request, other: Request, seat: Seat) -> bool:
    """Whether one worker of ``request`` fits on the node once ``other`` has left ``seat``."""
    node = seat.node
    if cluster.free_cpu[node] + other.cpu_milli < request.cpu_milli or cluster.free_memory[node] + other.memory_mib < request.memory_mib:
        return False
    row = cluster.free_milli[node].copy()
    row[list(seat.gpus)] += other.share_milli
    return bool((row >= request.share_milli).sum() >= request.gpus)


def _elsewhere(simulation: Simulation, run: Run) -> Seats | None:
    """Where the rule would put the job, its own node aside, at no lower speed; None where nowhere."""
    cluster, job = simulation.cluster, simulation.case.jobs[run.job]
    before = cluster.open
    cluster.open = before.copy()
    cluster.open[run.seats[0].node] = False
    try:
        seats = simulation.rule.choose(cluster, run.request)
    finally:
        cluster.open = before
    return seats if seats is not None and job.speed_on(cluster, seats) >= run.speed else None

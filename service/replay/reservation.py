"""The seats that are kept for the job at the head of the queue, and from when: the rule of EASY backfilling.

Sources: D. Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995; A. Mu'alem and D. Feitelson, "Utilization, predictability,
workloads, and user runtime estimates in scheduling the IBM SP2 with backfilling", IEEE TPDS 2001. Written there for equal
processors; here for nodes with GPUs, shares of GPUs, cores and memory. The head starts at the first estimated end at which it
fits, when all jobs that should have ended by then are gone. Another job may start before it if it should have ended by then, or
if its seats are free beside the head's seats at that time too. With exact estimates no such job delays the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.placement.online.rules import BestFit
from models.placement.online.state import MILLI, Cluster
from service.replay.running import fits_whole

if TYPE_CHECKING:
    from models.placement.online.rules import SeatRule
    from models.placement.online.state import Request, Seats
    from service.replay.running import Ints, Running

MOST_TRIES = 4  # nodes that are tried for a job that would stay beyond the head's start


@dataclass(slots=True)
class Reservation:
    """The job at the head, when it can start at the latest, and what is free then beside it."""

    job: int
    start_s: float
    seats: Seats
    beside: Cluster

    def admit(self, request: Request, seats: Seats) -> bool:
        """Take seats for a job that stays beyond ``start_s``; False, and nothing taken, where the head needs them."""
        try:
            self.beside.seat(request, seats)
        except ValueError:
            return False
        return True


def reserve(cluster: Cluster, running: Running, job: int, request: Request, now_s: float) -> Reservation | None:
    """The earliest seats for a job that does not fit now; None where it does not fit even when all others have ended."""
    running.extend_overdue(now_s)
    lines = running.by_end()
    low, high = 0, len(lines)  # it does not fit when ``low`` lines are gone, and does when ``high`` are
    if not fits_whole(_later(cluster, running, lines), request):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits_whole(_later(cluster, running, lines[:middle]), request) else (middle, high)
    start_s = float(running.end_s[lines[high - 1]]) if high else now_s
    gone = lines[: int(np.searchsorted(running.end_s[lines], start_s, side="right"))]
    beside = _later(cluster, running, gone)
    seats = BestFit().choose(beside, request)
    if seats is None:
        raise AssertionError(f"request '{request.id}' fits and was given no seats")
    beside.seat(request, seats)
    return Reservation(job, start_s, seats, beside)


def choose_beside(rule: SeatRule, cluster: Cluster, request: Request, reservation: Reservation) -> Seats | None:
    """Seats that are free now and free beside the head later, which they are taken from; None where the rule finds none.

    Nodes where one worker would be in the head's way are closed to the rule for the moment, and after each refusal the nodes that
    it chose: at most ``MOST_TRIES`` times.
    """
    before = cluster.open
    cluster.open = before & reservation.beside.fits(request)
    try:
        for _ in range(MOST_TRIES):
            seats = rule.choose(cluster, request)
            if seats is None or reservation.admit(request, seats):
                return seats
            cluster.open[[seat.node for seat in seats]] = False
        return None
    finally:
        cluster.open = before


def _later(cluster: Cluster, running: Running, gone: Ints) -> Cluster:
    """The cluster without the workers of these lines."""
    later = cluster.copy()
    nodes = running.node[gone]
    np.add.at(later.free_milli, nodes, running.gpu_milli[gone])
    np.add.at(later.free_cpu, nodes, running.cpu_milli[gone])
    np.add.at(later.free_memory, nodes, running.memory_mib[gone])
    later.idle = (later.free_milli == MILLI).sum(axis=1)
    later.largest = later.free_milli.max(axis=1, initial=0)
    later.left_milli = later.free_milli.sum(axis=1)
    return later

"""Who is tried next: the queue disciplines. Each is four facts, so that a new one is a line of ``DISCIPLINES``.

- ``passes_head``: whether others may start while the head of the queue waits (False: first in, first out).
- ``protects_head``: whether the head gets a reservation that the others must not delay (EASY backfilling).
- ``patience``: how long the head waits before it gets one, in its own estimated durations (0: at once).
- ``order``: in which order the others are tried: by arrival, or the smallest estimated area (GPUs times seconds) first.

The head is always the job that came first, and is always tried first, so that with ``protects_head`` nobody waits for ever.
Sources: reservation.py for EASY; for the order by area D. Carastan-Santos and R. de Camargo, "Obtaining dynamic scheduling
policies with simulation and machine learning", SC 2017, and Tsafrir et al. (2007), who backfill the shortest first.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from service.replay.reservation import Reservation, choose_beside, reserve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.placement.online.rules import SeatRule
    from models.placement.online.state import Cluster, Request, Seats
    from service.replay.running import Running
    from service.replay.waiting import Bucket, Waiting


class Order(StrEnum):
    """In which order jobs behind the head are tried."""

    arrival = "arrival"
    area = "area"


@dataclass(frozen=True, slots=True)
class Discipline:
    """See above."""

    passes_head: bool
    protects_head: bool = False
    order: Order = Order.arrival
    patience: float = 0.0


DISCIPLINES: dict[str, Discipline] = {
    "fifo": Discipline(passes_head=False),
    "greedy": Discipline(passes_head=True),
    "easy": Discipline(passes_head=True, protects_head=True),
    "smallest": Discipline(passes_head=True, order=Order.area),
    "easy_smallest": Discipline(passes_head=True, protects_head=True, order=Order.area),
    "patient_smallest": Discipline(passes_head=True, protects_head=True, order=Order.area, patience=1.0),
}


class Desk(Protocol):
    """What a queue needs of the simulation."""

    cluster: Cluster
    running: Running
    waiting: Waiting
    rule: SeatRule
    now_s: float

    def request(self, job: int) -> Request:
        """What a job asks for."""

    def waited_s(self, job: int) -> float:
        """How long ago a job came."""

    def start(self, job: int, seats: Seats) -> None:
        """Start a waiting job."""


class Queue:
    """Starts jobs by a discipline; keeps the head's reservation from one pass to the next for as long as it holds."""

    def __init__(self, discipline: Discipline) -> None:
        self.discipline = discipline
        self.reservation: Reservation | None = None
        self.given: list[tuple[float, int, float]] = []  # (time, job, start) of each reservation, as it was given
        self.wrong = False  # whether something happened that no estimate told
        self._no_room_beside: set[int] = set()  # shapes that have room now, but none beside the head

    def freed(self, shapes: set[int]) -> None:
        """Nodes got more room: these shapes may fit again."""
        self._no_room_beside -= shapes

    def schedule(self, desk: Desk) -> None:
        """Start whoever may start now."""
        head = self._start_heads(desk)
        if head is None:
            self.reservation = None
            return
        if not self.discipline.passes_head:
            return
        if self.discipline.protects_head:
            self._protect(desk, head)
        self._start_others(desk, head)

    def _start_heads(self, desk: Desk) -> int | None:
        """Start jobs from the head on; the first that does not fit is returned."""
        waiting = desk.waiting
        while (head := waiting.head()) is not None:
            shape = waiting.shapes.of[head]
            if shape in waiting.shut:
                return head
            seats = desk.rule.choose(desk.cluster, desk.request(head))
            if seats is None:
                waiting.shut.add(shape)
                return head
            self.reservation = None  # it was this job's, or a job that came earlier is back and needs one of its own
            desk.start(head, seats)
        return None

    def _protect(self, desk: Desk, head: int) -> None:
        held = self.reservation
        estimate_s = desk.waiting.buckets[desk.waiting.shapes.of[head]].estimate_s[head]
        if desk.waited_s(head) < self.discipline.patience * estimate_s:
            self.reservation = None
            return
        if held is not None and held.job == head and not self.wrong and held.start_s > desk.now_s:
            return
        self.reservation = reserve(desk.cluster, desk.running, head, desk.request(head), desk.now_s)
        self.wrong = False
        self._no_room_beside.clear()
        if self.reservation is not None:
            self.given.append((desk.now_s, head, self.reservation.start_s))

    def _start_others(self, desk: Desk, head: int) -> None:
        """Start jobs behind the head, in the discipline's order."""
        waiting = desk.waiting
        heap = [entry for shape in waiting.buckets for entry in self._entry(desk, shape, head)]
        heapq.heapify(heap)
        while heap:
            _, job, shape = heapq.heappop(heap)
            self._try(desk, job, shape)
            if shape in waiting.buckets:
                for entry in self._entry(desk, shape, head):
                    heapq.heappush(heap, entry)

    def _entry(self, desk: Desk, shape: int, head: int) -> Iterator[tuple[float, int, int]]:
        """(rank, job, shape) of the job of this shape that is tried next, if there is one."""
        waiting = desk.waiting
        if shape in waiting.shut:
            return
        most_s = self.reservation.start_s - desk.now_s if self.reservation is not None and shape in self._no_room_beside else math.inf
        bucket = waiting.buckets[shape]
        job = self._next(bucket, most_s, head)
        if job is not None:
            yield self._rank(waiting, bucket, job), job, shape

    def _next(self, bucket: Bucket, most_s: float, head: int) -> int | None:
        pick = bucket.shortest if self.discipline.order is Order.area else bucket.first
        return pick(most_s, head)

    def _rank(self, waiting: Waiting, bucket: Bucket, job: int) -> float:
        if self.discipline.order is Order.arrival:
            return float(job)
        request = waiting.shapes.requests[waiting.shapes.of[job]]
        return bucket.estimate_s[job] * max(request.workers * request.gpu_milli, 1)

    def _try(self, desk: Desk, job: int, shape: int) -> None:
        """Start a job behind the head where it has seats that are not in the head's way; else note that its shape has none."""
        waiting, held = desk.waiting, self.reservation
        request = desk.request(job)
        stays = held is not None and waiting.buckets[shape].estimate_s[job] > held.start_s - desk.now_s
        if held is not None and stays:
            seats = choose_beside(desk.rule, desk.cluster, request, held)
        else:
            seats = desk.rule.choose(desk.cluster, request)
        if seats is not None:
            desk.start(job, seats)
        elif stays:
            self._no_room_beside.add(shape)
        else:
            waiting.shut.add(shape)

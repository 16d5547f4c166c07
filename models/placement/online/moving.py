"""Room for a request by one move: a worker that sits goes elsewhere, and the request takes what it leaves.

What a node is worth is the GPUs in use on it and those of the places that a plan still keeps open there. A move is made only
where it and the request together add to that, and of all such moves the one that adds most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.placement.online.planned import Open, Place, free_on, ways
from models.placement.online.state import MILLI, Seat

if TYPE_CHECKING:
    from models.placement.online.planned import Planned
    from models.placement.online.state import Cluster, Kind, Request, Seats, Sitting

MOST_TRIED = 64  # moves of each search that are weighed in full; those that look best at a glance
ARRIVALS_PER_MOVE = 20


@dataclass(frozen=True, slots=True)
class Move:
    """One worker that changes its seat."""

    request: Request
    before: Seat
    after: Seat


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A worker that may go: what its new seat adds in thousandths of a GPU, its node, who it is, and the new seat."""

    gain: float
    node: int
    who: Sitting
    after: Seat


class Moving:
    """A rule that may move one worker for every so many requests, and saves up what it does not use.

    ``place`` changes the cluster, unlike ``SeatRule.choose``: a move is made the moment that the request for which it makes room is
    seated. Only requests of one worker are made room for, and only workers of such requests move.
    """

    def __init__(self, rule: Planned, every: int = ARRIVALS_PER_MOVE) -> None:
        """Raises ValueError for fewer than one request a move."""
        if every < 1:
            raise ValueError("a move needs at least one arrival: every must be 1 or more")
        self.rule, self.every = rule, every
        self.arrivals = 0
        self.moves: list[Move] = []
        self._futile: dict[Kind, int] = {}  # kinds for which no move helped, and what the cluster's versions summed to then

    def place(self, cluster: Cluster, request: Request) -> Seats | None:
        """Seats the request, after one move where it has no seat otherwise; None, and nothing changed, where that fails too."""
        self.arrivals += 1
        seats = self.rule.choose(cluster, request)
        if seats is not None:
            cluster.seat(request, seats)
            return seats
        if request.workers > 1 or len(self.moves) >= self.arrivals // self.every:
            return None
        versions = int(cluster.version.sum())
        found = None if self._futile.get(request.kind) == versions else room_by_move(self.rule, cluster, request)
        if found is None:
            self._futile[request.kind] = versions
            return None
        move, seat = found
        cluster.unseat(move.request, (move.before,))
        cluster.seat(request, (seat,))
        cluster.seat(move.request, (move.after,))
        self.moves.append(move)
        return (seat,)


def room_by_move(rule: Planned, cluster: Cluster, request: Request) -> tuple[Move, Seat] | None:
    """The best move that makes room for one worker of ``request``, and the seat that this then has; None where none adds."""
    best: tuple[float, _Candidate, Seat] | None = None
    for one in _candidates(rule, cluster, request):
        gain, seat = _taken_over(rule, cluster, request, one)
        if best is None or gain + one.gain > best[0]:
            best = (gain + one.gain, one, seat)
    if best is None or best[0] <= 0:
        return None
    _, one, seat = best
    other, before = one.who
    return Move(other, before, one.after), seat


def _candidates(rule: Planned, cluster: Cluster, request: Request) -> list[_Candidate]:
    """Workers whose going makes room, the best at a glance first: those whose new seat costs least."""
    found: list[_Candidate] = []
    anywhere: dict[Kind, tuple[float, Seat | None]] = {}
    mask = cluster.open & cluster.accepted(request.models)
    for node in np.flatnonzero(mask).tolist():
        seen: set[tuple[Kind, tuple[int, ...]]] = set()
        for who in cluster.sitting[node]:
            other, seat = who
            kind = other.kind
            if other.workers > 1 or (kind, seat.gpus) in seen or not _suffices(cluster, request, node, who):
                continue
            seen.add((kind, seat.gpus))
            if kind not in anywhere:
                anywhere[kind] = rule.cheapest(cluster, other)
            loss, after = anywhere[kind]
            if after is not None and after.node == node:
                loss, after = rule.cheapest(cluster, other, but=node)
            if after is not None:
                found.append(_Candidate(other.gpu_milli - loss, node, who, after))
    return sorted(found, key=lambda one: -one.gain)[:MOST_TRIED]


def _suffices(cluster: Cluster, request: Request, node: int, who: Sitting) -> bool:
    """Whether one worker of ``request`` fits on ``node`` without ``who``."""
    other, seat = who
    if cluster.free_cpu[node] + other.cpu_milli < request.cpu_milli or cluster.free_memory[node] + other.memory_mib < request.memory_mib:
        return False
    if not request.gpus:
        return True
    row = cluster.free_milli[node]
    if request.fractional:
        return bool(
            cluster.largest[node] >= request.share_milli or any(row[gpu] + other.share_milli >= request.share_milli for gpu in seat.gpus)
        )
    more = sum(row[gpu] + other.share_milli == MILLI for gpu in seat.gpus)
    return bool(cluster.idle[node] + more >= request.gpus)


def _taken_over(rule: Planned, cluster: Cluster, request: Request, one: _Candidate) -> tuple[float, Seat]:
    """What the node gains when ``request`` comes and the candidate goes, and the best seat for it there."""
    other, left_seat = one.who
    sitting = list(cluster.sitting[one.node])
    sitting.remove(one.who)
    free = free_on(cluster, one.node)
    free.book(Place(other.kind, left_seat.gpus), 1)
    before = rule.at(one.node).milli() + other.gpu_milli
    best: tuple[float, Seat] | None = None
    for gpus in ways(request, free.gpus, free.gpus):
        seat = Seat(one.node, gpus)
        left = Open([], free.cpu, free.memory, free.gpus.copy())
        left.book(Place(request.kind, gpus), -1)
        after = rule.left_open(one.node, [*sitting, (request, seat)], left).milli() + request.gpu_milli
        if best is None or after - before > best[0]:
            best = (float(after - before), seat)
    assert best is not None  # noqa: S101  (the candidate's going makes room)
    return best

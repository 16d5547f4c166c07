"""Room for one job by evicting others: a greedy first answer, with every eviction it did not need taken back."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from models.contract import TOLERANCE
from models.placement.formulation_residents import residents_of
from models.placement.seating import seat_job

if TYPE_CHECKING:
    from models.placement.ledger import Ledger
    from models.placement.schema import Job


def make_room(ledger: Ledger, deadline: float = math.inf) -> bool:
    """Seat the named job of a preemption, evicting as few others as a greedy search finds; False when it found no way in time.

    Evicts the cheapest jobs of the nodes that give a worker room for the fewest evictions, until the named job fits; then
    tries to put each evicted job back where it was, the dearest first. Jobs that break a rule as they run are evicted first.
    """
    problem = ledger.problem
    place = ledger.position[problem.preempt_for or ""]
    running = [other for other, job in enumerate(problem.jobs) if job.running is not None]
    for other in running:
        ledger.book_running(other)
    candidates = [other for other in running if may_evict(problem.jobs[other], problem.jobs[place])]
    unlawful = running_unlawfully(ledger)
    if not set(unlawful) <= set(candidates):
        return False
    for other in unlawful:
        candidates.remove(other)
        ledger.unbook(other)
    evicted: list[int] = []
    while not (ledger.sound() and seat_job(ledger, place)):
        victim = _next_victim(ledger, place, candidates)
        if victim is None or problem.max_evictions == 0 or time.monotonic() > deadline:
            return False
        candidates.remove(victim)
        ledger.unbook(victim)
        evicted.append(victim)
    put_back(ledger, evicted)
    return problem.max_evictions is None or sum(other not in ledger.seats for other in running) <= problem.max_evictions


def may_evict(job: Job, named: Job) -> bool:
    """Whether a running job may make room for the named one."""
    return job.running is not None and job.running.evictable and job.priority < named.priority


def running_unlawfully(ledger: Ledger) -> list[int]:
    """Booked running jobs that break a rule where they run: by themselves, or by anti-affinity with one that is not listed."""
    problem = ledger.problem
    found = [one.position for one in residents_of(problem, ledger.node_position) if one.breaks and one.position in ledger.seats]
    unbooked = {place: ledger.unbook(place) for place in found}
    for place in sorted(ledger.seats):
        if ledger.meets_foe(place):
            unbooked[place] = ledger.unbook(place)
    for place, seats in unbooked.items():
        ledger.book(place, seats)
    return list(unbooked)


def _next_victim(ledger: Ledger, place: int, candidates: list[int]) -> int | None:
    """The candidate on the host node nearest to holding one more worker of the named job; the one that frees most there."""
    job = ledger.problem.jobs[place]
    hosts = ledger.host_mask(job)
    room = ledger.room(place)
    over = {tenant for tenant, left in ledger.quota.items() if left < -TOLERANCE}
    if over or ledger.power_left < -TOLERANCE:
        guilty = [other for other in candidates if not over or ledger.problem.jobs[other].tenant in over]
        return min(guilty, key=lambda other: _cost(ledger, other), default=None)
    by_node: dict[int, list[int]] = {}
    for other in candidates:
        for node in {node for node, _ in ledger.seats[other]}:
            if hosts[node]:
                by_node.setdefault(node, []).append(other)
    best: tuple[float, float, int] | None = None
    for node, others in by_node.items():
        missing = (int(room[node]) + 1) * max(job.gpus_per_worker, 1e-9) - float(ledger.share[node].sum())
        largest = max(others, key=lambda other: (_gpus_on(ledger, other, node), -_cost(ledger, other)))
        key = (missing / max(_gpus_on(ledger, largest, node), 1e-3), _cost(ledger, largest), largest)
        best = key if best is None or key < best else best
    if best is not None:
        return best[2]
    # What is in the way is elsewhere: a quota of the named job's tenant, power, or a job to keep apart from.
    return min(candidates, key=lambda other: (ledger.problem.jobs[other].tenant != job.tenant, _cost(ledger, other)), default=None)


def _gpus_on(ledger: Ledger, place: int, node: int) -> float:
    size = ledger.problem.jobs[place].gpus_per_worker
    return size * sum(1 for seat, _ in ledger.seats[place] if seat == node)


def _cost(ledger: Ledger, place: int) -> float:
    running = ledger.problem.jobs[place].running
    return running.move_cost if running is not None else 0.0


def put_back(ledger: Ledger, evicted: list[int]) -> None:
    """Book again, dearest first, every evicted job that still may run where it ran."""
    for other in sorted(evicted, key=lambda place: -_cost(ledger, place)):
        ledger.book_running(other)
        if not ledger.sound() or ledger.meets_foe(other):
            ledger.unbook(other)

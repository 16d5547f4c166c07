"""Room for one job by evicting others: a greedy first answer, with every eviction it did not need taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.placement.schema import Use
from models.placement.seating import seat_job

if TYPE_CHECKING:
    from models.placement.ledger import Ledger
    from models.placement.schema import Job, Problem


def may_evict(problem: Problem, job: Job) -> bool:
    """Whether a running job may be evicted at all: it is evictable, and in a preemption of lower priority than the named job."""
    if job.running is None or not job.running.evictable or problem.use is Use.place:
        return False
    if problem.use is Use.preempt:
        named = next(other for other in problem.jobs if other.id == problem.preempt_for)
        return job.priority < named.priority
    return True


def make_room(ledger: Ledger) -> bool:
    """Seat the named job of a preemption, evicting as few others as a greedy search finds; False when it found no way.

    Evicts the cheapest jobs of the nodes that give a worker room for the fewest evictions, until the named job fits; then
    tries to put each evicted job back where it was, the dearest first.
    """
    problem = ledger.problem
    place = ledger.position[problem.preempt_for or ""]
    candidates = []
    named = problem.jobs[place]
    for other, job in enumerate(problem.jobs):
        if job.running is not None:
            ledger.book_running(other)
            if job.running.evictable and job.priority < named.priority:
                candidates.append(other)
    if problem.max_evictions is not None and problem.max_evictions == 0:
        candidates = []
    evicted: list[int] = []
    while not seat_job(ledger, place):
        victim = _next_victim(ledger, place, candidates)
        if victim is None:
            return False
        candidates.remove(victim)
        ledger.unbook(victim)
        evicted.append(victim)
    _put_back(ledger, evicted)
    return problem.max_evictions is None or sum(other not in ledger.seats for other in evicted) <= problem.max_evictions


def _next_victim(ledger: Ledger, place: int, candidates: list[int]) -> int | None:
    """The candidate on the host node nearest to holding one more worker of the named job; the one that frees most there."""
    job = ledger.problem.jobs[place]
    hosts = ledger.host_mask(job)
    room = ledger.room(place)
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
    # A quota of the named job's tenant may be what is in the way.
    same = [other for other in candidates if ledger.problem.jobs[other].tenant == job.tenant]
    return min(same, key=lambda other: _cost(ledger, other), default=None) if job.tenant in ledger.quota else None


def _gpus_on(ledger: Ledger, place: int, node: int) -> float:
    size = ledger.problem.jobs[place].gpus_per_worker
    return size * sum(1 for seat, _ in ledger.seats[place] if seat == node)


def _cost(ledger: Ledger, place: int) -> float:
    running = ledger.problem.jobs[place].running
    return running.move_cost if running is not None else 0.0


def _put_back(ledger: Ledger, evicted: list[int]) -> None:
    """Book again, dearest first, every evicted job whose old seats are still free."""
    for other in sorted(evicted, key=lambda place: -_cost(ledger, place)):
        ledger.book_running(other)
        if not sound(ledger):
            ledger.unbook(other)


def sound(ledger: Ledger) -> bool:
    """Whether no capacity, quota or power is overdrawn."""
    arrays = (ledger.cpu, ledger.memory, ledger.share, ledger.gpu_memory)
    return (
        all(float(array.min(initial=0.0)) >= -1e-7 for array in arrays)
        and all(left >= -1e-7 for left in ledger.quota.values())
        and ledger.power_left >= -1e-7
        and bool(np.all(ledger.whole >= 0))
    )

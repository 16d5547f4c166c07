"""A feasible plan at once: the floor under every search and its warm start.

Greedy: running jobs stay where they are, the named job of a preemption gets room first, then waiting jobs are seated one by one,
the most valuable per GPU first (or the largest first when only GPUs count), each by best fit. One pass, no undoing.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np

from models.placement.bounds import densities, simple_bounds
from models.placement.evacuation import seat_by_moving
from models.placement.ledger import Ledger
from models.placement.preemption import make_room, running_unlawfully
from models.placement.schema import GoalName, Use
from models.placement.seating import seat_job
from models.placement.swift import Swift
from models.placement.verify import goals, verify

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from models.placement.schema import Job, Plan, Problem

SEATING_S = 0.2  # for seating at least, however long reading the problem took: an empty plan helps nobody
SERVED = (GoalName.placed_value, GoalName.allocated_gpus)  # the goals that every seated job serves
SWIFT_ABOVE = 1_000_000  # jobs times nodes: beyond this looking at every node for every job takes seconds

__all__ = ["fill", "heuristic", "simple_bounds"]


def heuristic(problem: Problem, seed: int = 0, seconds: float = 1.0) -> Plan | None:
    """A plan that obeys every rule, or None when the running jobs alone already break one, or the named job finds no room.

    Stops seating after ``seconds`` (or SEATING_S after it began) with what it has, which is feasible. ``seed`` is unused: the
    pass is deterministic.
    """
    del seed
    deadline = time.monotonic() + seconds
    ledger = Ledger(problem)
    if problem.use is Use.preempt:
        return ledger.plan() if make_room(ledger, deadline) else None
    if not book_all_running(ledger, deadline):
        return None
    nothing_new = ledger.plan()
    jobs = order(problem, waiting(problem))
    deadline = max(deadline, time.monotonic() + SEATING_S)
    if len(jobs) * len(problem.nodes) > SWIFT_ABOVE and problem.power_cap_kw is None:
        Swift(ledger).seat(jobs, deadline)
    fill(ledger, jobs, deadline, ordered=True)
    plan = ledger.plan()
    return plan if problem.ordered_goals()[0] in SERVED else better(problem, nothing_new, plan)


def better(problem: Problem, nothing_new: Plan, filled: Plan) -> Plan:
    """The better of two plans: where a goal such as the fewest nodes comes first, to place nothing may be best."""
    one, other = verify(problem, nothing_new), verify(problem, filled)
    for goal in goals(problem):
        if goal.better(one.objectives[goal.name], other.objectives[goal.name]):
            return nothing_new
        if goal.better(other.objectives[goal.name], one.objectives[goal.name]):
            return filled
    return filled


def waiting(problem: Problem) -> list[int]:
    """Positions of the jobs that do not run yet."""
    return [place for place, job in enumerate(problem.jobs) if job.running is None]


def book_all_running(ledger: Ledger, deadline: float = math.inf) -> bool:
    """Seat all running jobs where they are; in a repack those that may not stay there elsewhere. False when a rule then breaks.

    In a repack others make way, until the deadline, for those that find no room; then these are evicted, where that is allowed.
    """
    problem = ledger.problem
    for place, job in enumerate(problem.jobs):
        if job.running is not None:
            ledger.book_running(place)
    unlawful = running_unlawfully(ledger)
    if unlawful and problem.use is not Use.repack:
        return False
    for place in unlawful:
        ledger.unbook(place)
    moves = math.inf if problem.max_moves is None else problem.max_moves
    evictions = problem.max_evictions or 0
    homeless = []
    for place in sorted(unlawful, key=lambda place: -_size(problem.jobs[place])):
        if moves > 0 and seat_job(ledger, place):
            moves -= 1
        else:
            homeless.append(place)
    for place in homeless:
        running = problem.jobs[place].running
        others = seat_by_moving(ledger, place, moves - 1, deadline) if moves > 1 else None
        if others is not None:
            moves -= 1 + others
        elif evictions > 0 and running is not None and running.evictable:
            evictions -= 1
        else:
            return False
    return ledger.sound()


def _size(job: Job) -> float:
    return job.gpus_per_worker * job.workers


def order(problem: Problem, jobs: Iterable[int]) -> list[int]:
    """The jobs in the order in which greedy seating serves the first goal: value per GPU, or size."""
    goals = problem.ordered_goals()
    by_value = GoalName.placed_value in goals and (
        GoalName.allocated_gpus not in goals or goals.index(GoalName.placed_value) < goals.index(GoalName.allocated_gpus)
    )

    places = np.fromiter(jobs, dtype=np.int64)
    chosen = [problem.jobs[place] for place in places]
    size = np.array([job.gpus_per_worker for job in chosen])
    gpus = size * np.array([job.workers for job in chosen])
    cores = np.array([job.cpu_cores for job in chosen])
    first = densities(problem)[1][places] if by_value else size
    found: list[int] = places[np.lexsort((-cores, -gpus, -first))].tolist()
    return found


def fill(ledger: Ledger, jobs: Iterable[int], deadline: float, *, ordered: bool = False) -> int:
    """Seat as many of ``jobs`` as fit, in greedy order (or the given one), until the deadline; how many were seated."""
    problem = ledger.problem
    compact = GoalName.topology_distance in problem.ordered_goals()
    hopeless: set[Hashable] = set()  # seating only ever takes room away: what failed once fails again
    seated = 0
    for place in list(jobs) if ordered else order(problem, jobs):
        if place in ledger.seats:
            continue
        if time.monotonic() > deadline:
            break
        job = problem.jobs[place]
        wish = _wish(job)
        if wish in hopeless:
            continue
        if seat_job(ledger, place, compact=compact):
            seated += 1
        elif job.anti_affinity is None and not ledger.has_foes(place):
            hopeless.add(wish)
    return seated


def _wish(job: Job) -> Hashable:
    """Equal for jobs that fit or fail together at any one moment."""
    return (
        job.tenant,
        (job.workers, job.workers_min, job.gpus_per_worker, job.gpu_memory_gib, job.cpu_cores, job.memory_gib),
        frozenset(job.model_speeds),
        tuple(sorted(job.node_selector.items())),
        None if job.colocate is None else (job.colocate.level, job.colocate.required),
        None if job.spread is None else (job.spread.level, job.spread.max_workers),
    )

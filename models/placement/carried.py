"""A plan of one problem made a plan of another that is much like it: nodes lost, added or changed, jobs gone, new or resized.

Running jobs are where this problem says. Every waiting job that the old plan placed keeps its seats where they still exist, are its to
have and are free; where several dispute too little room, quota or power, the better ones by the greedy order keep theirs. What then
waits is seated greedily, as in ``heuristic.py``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from models.placement.booking import book_together, book_where_it_fits, seats_of
from models.placement.heuristic import SERVED, SWIFT_ABOVE, better, book_all_running, fill, order, waiting
from models.placement.ledger import Ledger
from models.placement.preemption import may_evict, put_back, running_unlawfully
from models.placement.schema import Use
from models.placement.seating import seat_job
from models.placement.swift import Swift

if TYPE_CHECKING:
    from models.placement.ledger import Seat
    from models.placement.schema import JobPlacement, Plan, Problem


def carried(problem: Problem, plan: Plan, seconds: float) -> Plan | None:
    """A right plan of ``problem`` made of ``plan``, which a problem like it had; within about ``seconds``.

    None when nothing of ``plan`` is of use here: none of its jobs can be kept where it was, or the running jobs already break a rule.
    """
    deadline = time.monotonic() + seconds
    ledger = Ledger(problem)
    known = {placement.job: placement for placement in reversed(plan.placements)}
    if problem.use is Use.preempt:
        return ledger.plan(known) if _preempted(ledger, known, deadline) else None
    if not book_all_running(ledger, deadline):
        return None
    if problem.use is Use.repack:
        _carry_moves(ledger, known, set(plan.evicted))
    kept = _carry_waiting(ledger, known)
    if not kept and not any(problem.jobs[place].id in known for place in ledger.seats):
        return None
    before = None if problem.ordered_goals()[0] in SERVED else ledger.plan(known)
    _fill_up(ledger, deadline)
    after = ledger.plan(known)
    return after if before is None else better(problem, before, after)


def _carry_waiting(ledger: Ledger, known: dict[str, JobPlacement]) -> int:
    """Book the waiting jobs that ``known`` places where they may stay; how many."""
    problem = ledger.problem
    wanted: dict[int, list[Seat]] = {}
    for place, job in enumerate(problem.jobs):
        if job.running is None and job.id in known:
            seats = seats_of(ledger, job, known[job.id].workers)
            if seats:
                wanted[place] = seats
    left = book_together(ledger, wanted)
    for place in order(problem, left) if left else ():
        book_where_it_fits(ledger, place, wanted[place])
    return sum(place in ledger.seats for place in wanted)


def _fill_up(ledger: Ledger, deadline: float) -> None:
    """Seat what waits, and give elastic jobs that run short more workers where there is room."""
    problem = ledger.problem
    unplaced = [place for place in waiting(problem) if place not in ledger.seats]
    if unplaced:
        jobs = order(problem, unplaced)
        if len(jobs) * len(problem.nodes) > SWIFT_ABOVE and problem.power_cap_kw is None:
            Swift(ledger).seat(jobs, deadline)
        fill(ledger, jobs, deadline, ordered=True)
    short = [
        place for place, seats in ledger.seats.items() if problem.jobs[place].running is None and len(seats) < problem.jobs[place].workers
    ]
    for place in short:
        if time.monotonic() > deadline:
            return
        seats = ledger.unbook(place)
        if not seat_job(ledger, place):
            ledger.book(place, seats)
        elif len(ledger.seats[place]) < len(seats):
            ledger.unbook(place)
            ledger.book(place, seats)


# ---------------------------------------------------------------- running jobs


def _carry_moves(ledger: Ledger, known: dict[str, JobPlacement], gone: set[str]) -> None:
    """In a repack, let running jobs move and leave as they did in ``known``, all of them within the budgets or none."""
    problem = ledger.problem
    stays = {place: seats for place, seats in ledger.seats.items() if _stays(ledger, place)}
    running = [place for place, job in enumerate(problem.jobs) if job.running is not None]
    moved = sum(place in ledger.seats and place not in stays for place in running)
    evicted = sum(place not in ledger.seats for place in running)
    moves = len(running) if problem.max_moves is None else problem.max_moves - moved
    evictions = (problem.max_evictions or 0) - evicted
    leaving: dict[int, list[Seat]] = {}
    for place, here in stays.items():
        job = problem.jobs[place]
        if job.id in gone and job.running is not None and job.running.evictable and evictions > 0:
            leaving[place] = []
            evictions -= 1
        elif job.id in known and moves > 0:
            seats = seats_of(ledger, job, known[job.id].workers)
            if seats and sorted(seats) != sorted(here):
                leaving[place] = seats
                moves -= 1
    before = {place: ledger.unbook(place) for place in leaving}
    for place, seats in leaving.items():
        tried = (seats, before[place])
        if seats and not any(book_where_it_fits(ledger, place, one) for one in tried) and not seat_job(ledger, place):
            _undo(ledger, before)
            return


def _undo(ledger: Ledger, before: dict[int, list[Seat]]) -> None:
    for place in before:
        if place in ledger.seats:
            ledger.unbook(place)
    for place, seats in before.items():
        ledger.book(place, seats)


def _stays(ledger: Ledger, place: int) -> bool:
    """Whether a running job is booked where it runs."""
    running = ledger.problem.jobs[place].running
    if running is None:
        return False
    here = sorted((ledger.node_position[worker.node], tuple(sorted(worker.gpus))) for worker in running.workers)
    return here == sorted((node, tuple(sorted(gpus))) for node, gpus in ledger.seats[place])


def _preempted(ledger: Ledger, known: dict[str, JobPlacement], deadline: float) -> bool:
    """Evict whom the old plan left out, and seat the named job where it had it, or elsewhere; False when that breaks a rule."""
    problem = ledger.problem
    place = ledger.position[problem.preempt_for or ""]
    named = problem.jobs[place]
    running = [other for other, job in enumerate(problem.jobs) if job.running is not None]
    for other in running:
        ledger.book_running(other)
    unlawful = set(running_unlawfully(ledger))
    leaving = [other for other in running if other in unlawful or problem.jobs[other].id not in known]
    if named.id not in known or not all(may_evict(problem.jobs[other], named) for other in unlawful) or time.monotonic() > deadline:
        return False
    leaving = [other for other in leaving if may_evict(problem.jobs[other], named)]
    for other in leaving:
        ledger.unbook(other)
    seats = seats_of(ledger, named, known[named.id].workers)
    there = ledger.sound() and seats is not None and book_where_it_fits(ledger, place, seats)
    if not there and not (ledger.sound() and seat_job(ledger, place)):
        return False
    put_back(ledger, [other for other in leaving if other not in unlawful])
    return problem.max_evictions is None or sum(other not in ledger.seats for other in running) <= problem.max_evictions

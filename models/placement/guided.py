"""A plan that follows the relaxation: the jobs it ran, on the stock it seated them on, the hardest to seat first.

For gangs the relaxation is nearly integral, so which jobs run is all but decided; what is left is seating them. Large
workers and jobs with rules about domains go first, since small ones fit into what remains.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from models.placement.heuristic import fill
from models.placement.seating import seat_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.placement.ledger import Ledger
    from models.placement.relaxation import Relaxation
    from models.placement.schema import Job
    from models.program import Floats

MOST_SEATED = 1e-6


def seat_guided(
    relaxation: Relaxation, values: Floats, ledger: Ledger, deadline: float, *, only: Callable[[int], bool] | None = None
) -> None:
    """Seat in ``ledger`` the jobs that the relaxation runs at ``values``; with ``only`` just those for whose position it is true."""
    problem = ledger.problem
    seats = np.zeros((len(relaxation.shapes), len(relaxation.stocks)))
    seats[relaxation.seat_shape, relaxation.seat_stock] = values[relaxation.seat_columns]
    stock_of = np.zeros(len(problem.nodes), dtype=np.int64)
    for number, stock in enumerate(relaxation.stocks):
        stock_of[stock.nodes] = number
    chosen = _chosen(relaxation, values)
    for place, shape in sorted(chosen, key=lambda one: _hardness(problem.jobs[one[0]])):
        job = problem.jobs[place]
        if time.monotonic() > deadline:
            break
        if only is not None and not only(place):
            continue
        stocks = np.flatnonzero(seats[shape] >= min(job.workers, 1) - MOST_SEATED)
        fullest = stocks[np.argsort(-seats[shape][stocks])]
        for stock in fullest[:4]:
            if seat_job(ledger, place, allowed=stock_of == stock):
                seats[shape, stock] -= job.workers
                break
        else:
            seat_job(ledger, place)


def fill_rest(relaxation: Relaxation, ledger: Ledger, deadline: float) -> None:
    """Seat whatever else fits, in greedy order."""
    jobs = [place for wish in relaxation.wishes for place in wish.jobs]
    fill(ledger, jobs, deadline)


def _chosen(relaxation: Relaxation, values: Floats) -> list[tuple[int, int]]:
    """(job, shape) of the jobs that the relaxation runs, each job once, counts rounded to the nearest."""
    runs = values[relaxation.run_columns]
    taken: dict[int, int] = {}
    chosen: list[tuple[int, int]] = []
    for k in np.argsort(-runs, kind="stable").tolist():
        wish_number, option = relaxation.runs[k]
        wish = relaxation.wishes[wish_number]
        count = int(runs[k] / wish.workers + 0.5)
        first = taken.get(wish_number, 0)
        jobs = wish.jobs[first : first + count]
        taken[wish_number] = first + len(jobs)
        chosen.extend((place, wish.options[option][0]) for place in jobs)
    return chosen


def _hardness(job: Job) -> tuple[float, ...]:
    """Sort key: the hardest to seat first."""
    ruled = job.anti_affinity is not None or job.spread is not None or (job.colocate is not None and job.colocate.required)
    cores_per_gpu = job.cpu_cores / job.gpus_per_worker if job.gpus_per_worker else job.cpu_cores
    return (-job.gpus_per_worker, -float(ruled), -job.workers, -cores_per_gpu)

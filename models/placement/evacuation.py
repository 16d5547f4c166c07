"""Room for a running job that may not stay where it is: others make way for it, each to a place of its own."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from models.placement.seating import seat_job

if TYPE_CHECKING:
    from models.placement.ledger import Ledger, Seat

MOST_NODES = 2_000  # looked at for one job: those with the most free GPUs and as many with the most free cores
MOST_VICTIMS = 16  # that make way for one job


def seat_by_moving(ledger: Ledger, place: int, most: float, deadline: float) -> int | None:
    """Seat the job at ``place`` and at most ``most`` other running jobs elsewhere; how many others moved.

    None, with the ledger as it was, when no way was found before the deadline.
    """
    job = ledger.problem.jobs[place]
    here: defaultdict[int, list[int]] = defaultdict(list)
    for other, seats in ledger.seats.items():
        for node in {node for node, _ in seats}:
            here[node].append(other)
    able = np.flatnonzero(ledger.host_mask(job) & (ledger.gpus >= job.gpus_per_worker))
    by_gpus, by_cores = (able[np.argsort(-free[able], kind="stable")] for free in (ledger.share.sum(axis=1), ledger.cpu))
    for node in dict.fromkeys(np.column_stack((by_gpus, by_cores)).ravel()[: 2 * MOST_NODES].tolist()):
        if time.monotonic() > deadline:
            return None
        moved = _way_made(ledger, place, node, here[node], min(most, MOST_VICTIMS))
        if moved:
            return moved
    return None


def _way_made(ledger: Ledger, place: int, node: int, others: list[int], most: float) -> int:
    """Take jobs off the node until a worker of the job fits, seat the job, then each of them; or undo it all. How many moved."""
    before: dict[int, list[Seat]] = {}
    for victim in _in_the_way(ledger, place, node, others):
        if len(before) >= most or ledger.room(place)[node]:
            break
        before[victim] = ledger.unbook(victim)
    largest_first = sorted(before, key=lambda victim: -ledger.problem.jobs[victim].gpus_per_worker)
    order = [place, *largest_first]
    if before and ledger.room(place)[node] and all(seat_job(ledger, one) for one in order):
        return len(before)
    for one in order:
        if one in ledger.seats:
            ledger.unbook(one)
    for victim, seats in before.items():
        ledger.book(victim, seats)
    return 0


def _in_the_way(ledger: Ledger, place: int, node: int, others: list[int]) -> list[int]:
    """The node's jobs: who uses the GPUs with the most free, then who has just enough of the cores that the job lacks, then the others."""
    jobs = ledger.problem.jobs
    job = jobs[place]
    lacking = job.cpu_cores - ledger.cpu[node]
    free = ledger.share[node, : ledger.gpus[node]]
    wanted = set(np.argsort(-free, kind="stable")[: math.ceil(job.gpus_per_worker)].tolist())
    taken = {gpu for gpu in wanted if free[gpu] < min(job.gpus_per_worker, 1.0)}

    def rank(other: int) -> tuple[bool, bool, float]:
        uses = any(at == node and taken & set(gpus) for at, gpus in ledger.seats[other])
        return not uses, jobs[other].cpu_cores < lacking, jobs[other].cpu_cores

    return sorted(others, key=rank)

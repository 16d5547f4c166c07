"""Simple rules for whole jobs on devices, and what they are judged by: the exact optimum of few jobs and the mean of random schedules.

Rules that make a queue (``first in, first out``, ``longest first``) give the next job to the device that is free first: list scheduling
(Graham, "Bounds on multiprocessing timing anomalies", 1969). Rules that assign say beforehand where each job runs.
"""

from __future__ import annotations

import heapq
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from models.runtime.schedules.makespan import loads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.program import Floats, Ints

MOST_SCHEDULES = 2**20  # are looked at one by one; beyond that samples, or a solver
SAMPLES = 20_000
_BLOCK = 2**14


def longest_first(times: Floats) -> tuple[int, ...]:
    """The order of LPT: by mean seconds over the devices that can run a job, longest first."""
    mean = np.nanmean(np.where(np.isfinite(times), times, np.nan), axis=1)
    return tuple(np.argsort(-mean, kind="stable").tolist())


def first_in(jobs: int) -> tuple[int, ...]:
    """The order of arrival."""
    return tuple(range(jobs))


def listed(times: Floats, order: Sequence[int]) -> Ints:
    """The device (J,) of each job when the next in ``order`` always goes to the device that is free first and can run it.

    Of devices free at the same moment the first one counts.
    """
    free = [(0.0, device) for device in range(times.shape[1])]
    found = np.full(len(times), -1)
    for job in order:
        aside = []
        while not np.isfinite(times[job, free[0][1]]):
            aside.append(heapq.heappop(free))
        at, device = heapq.heappop(free)
        found[job] = device
        for one in (*aside, (at + float(times[job, device]), device)):
            heapq.heappush(free, one)
    return found


def round_robin(times: Floats) -> Ints:
    """Job j on device j mod D, or the next one that can run it."""
    devices = times.shape[1]
    turns = [[(job + step) % devices for step in range(devices)] for job in range(len(times))]
    return np.array([next(device for device in turn if np.isfinite(times[job, device])) for job, turn in enumerate(turns)])


def random_assignment(times: Floats, seed: int) -> Ints:
    """Each job on any device that can run it, with equal chances and independently."""
    rng = np.random.default_rng(seed)
    return np.array([rng.choice(np.flatnonzero(np.isfinite(row))) for row in times])


def improved(times: Floats, assignment: Ints) -> Ints:
    """The schedule after moving and exchanging jobs as long as the devices' sorted loads fall; a start for a search, no optimum."""
    best = assignment.copy()
    rank = _rank(times, best)
    while True:
        candidates = [*_moves(times, best), *_exchanges(best)]
        ranks = [_rank(times, candidate) for candidate in candidates]
        if not candidates or min(ranks) >= rank:
            return best
        best, rank = candidates[ranks.index(min(ranks))], min(ranks)


def exact(times: Floats) -> Ints | None:
    """The schedule (J,) of least makespan by looking at all D**J; None where these are more than MOST_SCHEDULES."""
    jobs, devices = times.shape
    if devices**jobs > MOST_SCHEDULES:
        return None
    best, found = np.inf, np.zeros(jobs, dtype=np.int64)
    for block in _blocks(jobs, devices):
        spans = _spans(times, block)
        at = int(np.argmin(spans))
        if spans[at] < best:
            best, found = float(spans[at]), block[at]
    return found if np.isfinite(best) else None


def expected_random(times: Floats, seed: int = 0) -> float:
    """Mean makespan of ``random_assignment``: exact over all schedules where they are few and each is as likely, else of SAMPLES."""
    jobs, devices = times.shape
    if np.isfinite(times).all() and devices**jobs <= MOST_SCHEDULES:
        return float(np.concatenate([_spans(times, block) for block in _blocks(jobs, devices)]).mean())
    rng = np.random.default_rng(seed)
    draws = [rng.choice(np.flatnonzero(np.isfinite(row)), size=SAMPLES) for row in times]
    return float(_spans(times, np.stack(draws, axis=1)).mean())


def expected_even(times: Floats, seed: int = 0) -> float:
    """The same over random schedules that give every device equally many jobs (up to one): a stricter rival, of SAMPLES."""
    jobs, devices = times.shape
    rng = np.random.default_rng(seed)
    slots = np.arange(jobs) % devices
    return float(_spans(times, np.array([rng.permutation(slots) for _ in range(SAMPLES)])).mean())


def _blocks(jobs: int, devices: int) -> Iterator[Ints]:
    """All schedules (_BLOCK, J) at a time: the digits of 0, 1, 2, ... to the base D."""
    digit = devices ** np.arange(jobs)
    for start in range(0, devices**jobs, _BLOCK):
        yield np.arange(start, min(devices**jobs, start + _BLOCK))[:, None] // digit % devices


def _spans(times: Floats, schedules: Ints) -> Floats:
    """Makespan of each of the schedules (S, J)."""
    taken = times[np.arange(times.shape[0]), schedules]
    sums = np.stack([np.where(schedules == device, taken, 0.0).sum(axis=1) for device in range(times.shape[1])])
    return np.asarray(sums.max(axis=0))


def _rank(times: Floats, assignment: Ints) -> tuple[float, ...]:
    """Loads, largest first: rounded, so that rounding makes no circles."""
    return tuple(np.sort(np.round(loads(times, assignment), 9))[::-1].tolist())


def _moves(times: Floats, assignment: Ints) -> list[Ints]:
    made = []
    for job, device in product(range(len(times)), range(times.shape[1])):
        if device != assignment[job] and np.isfinite(times[job, device]):
            made.append(assignment.copy())
            made[-1][job] = device
    return made


def _exchanges(assignment: Ints) -> list[Ints]:
    made = []
    for first, second in product(range(len(assignment)), repeat=2):
        if first < second and assignment[first] != assignment[second]:
            made.append(assignment.copy())
            made[-1][[first, second]] = assignment[[second, first]]
    return made

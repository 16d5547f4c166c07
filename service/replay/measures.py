"""The numbers of a replay: of its jobs, of the cluster while jobs come, and as series over time. Definitions: README.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.replay.history import History
    from service.replay.jobs import TraceJob

    Floats = NDArray[np.float64]

SHORTEST_S = 10.0  # the bound of the bounded slowdown (Feitelson et al., JSSPP 1997)
BINS = 240  # of a series
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Measure:
    """What a number is called, its unit, whether less or more of it is better, and what it says in a few words."""

    name: str
    unit: str
    better: Literal["less", "more"]
    meaning: str


MEASURES: tuple[Measure, ...] = (
    Measure("jct_mean_s", "s", "less", "mean job completion time, from arrival to end"),
    Measure("jct_median_s", "s", "less", "median job completion time"),
    Measure("jct_p99_s", "s", "less", "99th percentile of the job completion time"),
    Measure("slowdown_mean", "", "less", "mean bounded slowdown: completion time over shortest running time, at least 1"),
    Measure("waiting_mean_s", "s", "less", "mean time a job is not in its seats"),
    Measure("waiting_p99_s", "s", "less", "99th percentile of that time"),
    Measure("gang_waiting_mean_s", "s", "less", "mean waiting of jobs with several workers"),
    Measure("makespan_s", "s", "less", "from the first arrival to the last end"),
    Measure("allocated_percent", "%", "more", "GPUs in use of those that are up, while jobs come"),
    Measure("utilised_percent", "%", "more", "the same, without work that was lost and pauses"),
    Measure("fragmented_percent", "%", "less", "free GPUs that the next job could not use, of those that are up, while jobs come"),
    Measure("blocked_percent", "%", "less", "time in which the oldest job waits though enough GPUs are free in number"),
    Measure("waiting_jobs_mean", "jobs", "less", "jobs that wait, while jobs come"),
    Measure("evictions", "", "less", "times a job lost its seats to a failing node"),
    Measure("moves", "", "less", "times a job was taken elsewhere"),
    Measure("lost_gpu_h", "GPU h", "less", "GPU hours of work done again and of pauses"),
)
SERIES = ("allocated_percent", "fragmented_percent", "waiting_jobs", "waiting_gpus")


def measured(history: History, jobs: Sequence[TraceJob], models: Sequence[str]) -> dict[str, float | None]:
    """Every measure by name; None where there is nothing to measure (no gang in the trace). ``models``: GPU models of the cluster."""
    arrival = np.array([job.arrival_s for job in jobs])
    jct = history.end_s - arrival
    seated = np.zeros(len(jobs))
    np.add.at(seated, [stay.job for stay in history.stays], [stay.end_s - stay.start_s for stay in history.stays])
    waiting = np.maximum(jct - seated, 0.0)  # rounding alone can make it less
    shortest = np.array([job.duration_s / job.speed_range(models)[1] for job in jobs])
    slowdown = np.maximum(jct / np.maximum(shortest, SHORTEST_S), 1.0)
    gangs = np.array([job.request.workers > 1 for job in jobs])
    found: dict[str, float | None] = {
        "jct_mean_s": jct.mean(),
        "jct_median_s": np.median(jct),
        "jct_p99_s": np.percentile(jct, 99),
        "slowdown_mean": slowdown.mean(),
        "waiting_mean_s": waiting.mean(),
        "waiting_p99_s": np.percentile(waiting, 99),
        "gang_waiting_mean_s": waiting[gangs].mean() if gangs.any() else None,
        "makespan_s": history.end_s.max(),
    }
    found |= _of_cluster(history, window_s(history, jobs))
    found |= {"evictions": history.evicted.sum(), "moves": history.moved.sum(), "lost_gpu_h": _lost_gpu_h(history)}
    return {one.name: None if (value := found[one.name]) is None else float(value) for one in MEASURES}


def window_s(history: History, jobs: Sequence[TraceJob]) -> float:
    """How long jobs come: to the last arrival; to the last end where all come at once."""
    last = max(job.arrival_s for job in jobs)
    return last if last > 0 else float(history.end_s.max())


def _of_cluster(history: History, until_s: float) -> dict[str, float | None]:
    times = history.state("time_s")

    def whole(name: str) -> float:
        return integral(times, history.state(name), until_s)

    up = whole("open_gpus")
    useful = sum(stay.gpus * max(0.0, min(stay.useful_to_s, until_s) - min(stay.useful_from_s, until_s)) for stay in history.stays)
    return {
        "allocated_percent": 100 * whole("allocated_gpus") / up if up else None,
        "utilised_percent": 100 * useful / up if up else None,
        "fragmented_percent": 100 * whole("fragmented_gpus") / up if up else None,
        "blocked_percent": 100 * whole("blocked") / until_s,
        "waiting_jobs_mean": whole("waiting_jobs") / until_s,
    }


def _lost_gpu_h(history: History) -> float:
    held = sum(stay.gpus * (stay.end_s - stay.start_s) for stay in history.stays)
    useful = sum(stay.gpus * (stay.useful_to_s - stay.useful_from_s) for stay in history.stays)
    return max(0.0, held - useful) / HOUR_S


# ---------------------------------------------------------------- over time


def integral(times: Floats, values: Floats, until_s: float) -> float:
    """The integral from 0 to ``until_s`` of the steps that take ``values[k]`` from ``times[k]`` on, and 0 before ``times[0]``."""
    ends = np.minimum(np.append(times[1:], np.inf), until_s)
    return float((values * np.maximum(ends - np.minimum(times, until_s), 0.0)).sum())


def averages(times: Floats, values: Floats, edges: Floats) -> Floats:
    """The mean of the steps between each two of ``edges`` (seconds, rising, from ``times[0]`` on); shape (len(edges) - 1,)."""
    last = max(float(edges[-1]), float(times[-1]))
    corners = np.append(times, last)
    sums = np.concatenate([[0.0], np.cumsum(values * np.diff(corners))])
    at = np.interp(edges, corners, sums)
    found: Floats = np.diff(at) / np.diff(edges)
    return found


def series(history: History, jobs: Sequence[TraceJob]) -> dict[str, Any]:
    """``time_s`` (ends of equal stretches while jobs come) and of each of ``SERIES`` its mean over the stretch."""
    edges = np.linspace(0.0, window_s(history, jobs), BINS + 1)
    times = history.state("time_s")

    def mean(name: str) -> Floats:
        return averages(times, history.state(name), edges)

    up = np.maximum(mean("open_gpus"), 1e-9)
    found = {
        "time_s": edges[1:],
        "allocated_percent": 100 * mean("allocated_gpus") / up,
        "fragmented_percent": 100 * mean("fragmented_gpus") / up,
        "waiting_jobs": mean("waiting_jobs"),
        "waiting_gpus": mean("waiting_gpus"),
    }
    return {name: [round(float(value), 4) for value in values] for name, values in found.items()}

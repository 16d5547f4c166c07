"""A trace that is drawn, in the shape of published ones: mostly jobs of one GPU, a few large gangs, durations over five decades.

Jobs come as a Poisson process whose rate follows a day: at its peak, 15:00, four times that at its trough. GPUs are drawn from
``SIZES``; durations are log-normal, with a median that grows with the GPUs, from one minute to thirty days. The shape follows what
Jeon et al. (USENIX ATC 2019) tell of Philly; the numbers are ours and fitted to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.placement.online.state import Request
from service.replay.jobs import ReplayError, Trace, TraceJob, ordered

if TYPE_CHECKING:
    from pathlib import Path

    from service.replay.traces import Reading

SIZES = {1: 0.70, 2: 0.09, 4: 0.08, 8: 0.09, 16: 0.025, 32: 0.01, 64: 0.005}
MEDIAN_S, SPREAD = 900.0, 1.9
SHORTEST_S, LONGEST_S = 60.0, 30 * 86_400.0
MEAN_GAP_S = 60.0
DAY_S, PEAK_S = 86_400.0, 15 * 3600.0
MOST_JOBS = 1_000_000
SEED = 0


def read_synthetic(path: Path, reading: Reading) -> Trace:
    """The trace of so many jobs, the same each time; ``path`` is their number. Raises ReplayError."""
    text = str(path)
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= MOST_JOBS:
        raise ReplayError(f"'{text[:60]}': with --format synthetic the trace is a number of jobs from 1 to {MOST_JOBS:,}; give one")
    return synthetic(int(text), reading, SEED)


def synthetic(jobs: int, reading: Reading, seed: int) -> Trace:
    """So many jobs, drawn with this seed."""
    draw = np.random.default_rng(seed)
    sizes = draw.choice(list(SIZES), size=jobs, p=list(SIZES.values()))
    medians = MEDIAN_S * np.sqrt(sizes)
    durations = np.clip(medians * np.exp(draw.normal(0.0, SPREAD, jobs)), SHORTEST_S, LONGEST_S).round()
    arrivals = _over_days(np.cumsum(draw.exponential(MEAN_GAP_S, jobs)))
    found = []
    for number, (size, duration, arrival) in enumerate(zip(sizes.tolist(), durations.tolist(), arrivals.tolist(), strict=True)):
        workers, gpus = reading.split(size)
        found.append(TraceJob(Request(f"s{number}", gpus=gpus, workers=workers), arrival, duration))
    return ordered(f"synthetic, {jobs:,} jobs", found)


def _over_days(times: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Times at a steady rate, moved so that the rate is 1 + 0.6 cos(2 pi (t - peak) / day) times as high."""
    grid = np.linspace(0.0, float(times[-1]) * 1.7 + DAY_S, 200_000)
    wave = 0.6 * DAY_S / (2 * np.pi)
    passed = grid + wave * (np.sin(2 * np.pi * (grid - PEAK_S) / DAY_S) + np.sin(2 * np.pi * PEAK_S / DAY_S))
    return np.interp(times, passed, grid)

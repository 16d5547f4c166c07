"""Times a step function: warm-up, repeats of a few steps each, medians and spreads. The clock of a GPU is handed in."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from models.runtime.records import Timing
from service.measure import disturbance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REPEAT_S = 0.03  # a repeat lasts at least this long, so that its ends weigh little
WARM_UP_SHARE = 0.25  # of the time a job is given
FEWEST_WARM_UP_STEPS = 2
FEWEST_REPEATS, MOST_REPEATS = 5, 60
OVERRUN = 3.0  # after so many times its time a job is content with the fewest repeats that count


class DeviceClock(Protocol):
    """Synchronises with a device and times on it."""

    def synchronise(self) -> None:
        """Waits until the device has done all that was asked of it."""

    def begin(self) -> None:
        """Marks the begin of a repeat on the device."""

    def end_s(self) -> float | None:
        """Waits for the repeat's end on the device and returns its seconds; None where there is no such clock."""


class HostOnly:
    """The CPU: nothing to wait for."""

    def synchronise(self) -> None:
        """Nothing runs apart from the host."""

    def begin(self) -> None:
        """Nothing to mark."""

    def end_s(self) -> float | None:
        """No clock but the host's."""
        return None


@dataclass
class Samples:
    """Seconds per step of each repeat."""

    steps_per_repeat: int
    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    device_s: list[float] = field(default_factory=list)

    def timing(self) -> Timing:
        """Medians and spreads."""
        return Timing(
            repeats=len(self.wall_s),
            steps=len(self.wall_s) * self.steps_per_repeat,
            cpu_s=_median(self.cpu_s),
            cpu_spread=spread(self.cpu_s),
            wall_s=_median(self.wall_s),
            wall_spread=spread(self.wall_s),
            device_s=_median(self.device_s) if self.device_s else None,
            device_spread=spread(self.device_s) if self.device_s else None,
        )


def spread(values: Sequence[float]) -> float:
    """Interquartile range over the median; 0 of less than two values or a median of 0."""
    if len(values) < 2:  # noqa: PLR2004  (one value has no range)
        return 0.0
    low, middle, high = np.quantile(np.asarray(values), (0.25, 0.5, 0.75))
    return float((high - low) / middle) if middle > 0 else 0.0


def _median(values: Sequence[float]) -> float:
    return float(np.median(np.asarray(values)))


def once(step: Callable[[], object], clock: DeviceClock) -> tuple[float, float]:
    """CPU-seconds and wall seconds of one call, to the end of what the device does for it."""
    cpu, wall = time.process_time(), time.monotonic()
    step()
    clock.synchronise()
    return time.process_time() - cpu, time.monotonic() - wall


def warmed_up(step: Callable[[], object], clock: DeviceClock, seconds: float) -> float:
    """Runs the step for ``seconds``, at least twice, and returns the wall seconds of the quickest step."""
    end, quickest, steps = time.monotonic() + seconds, math.inf, 0
    while steps < FEWEST_WARM_UP_STEPS or time.monotonic() < end:
        quickest = min(quickest, once(step, clock)[1])
        steps += 1
    return quickest


def timed(step: Callable[[], object], clock: DeviceClock, seconds: float, *, repeat_s: float = REPEAT_S) -> Samples:
    """Warms up for a quarter of ``seconds`` and repeats for the rest: 5 to 60 repeats of at least ``repeat_s``."""
    begun = time.monotonic()
    quickest = max(warmed_up(step, clock, WARM_UP_SHARE * seconds), 1e-7)
    each = max(1, math.ceil(repeat_s / quickest))
    samples = Samples(each)
    for repeat in range(MOST_REPEATS):
        taken = time.monotonic() - begun
        enough = FEWEST_REPEATS if taken <= OVERRUN * seconds else disturbance.FEWEST_REPEATS
        if repeat >= enough and taken > seconds:
            break
        _repeat(step, clock, samples)
    return samples


def _repeat(step: Callable[[], object], clock: DeviceClock, samples: Samples) -> None:
    clock.synchronise()
    cpu, wall = time.process_time(), time.perf_counter()
    clock.begin()
    for _ in range(samples.steps_per_repeat):
        step()
    device_s = clock.end_s()
    each = samples.steps_per_repeat
    samples.wall_s.append((time.perf_counter() - wall) / each)
    samples.cpu_s.append((time.process_time() - cpu) / each)
    if device_s is not None:
        samples.device_s.append(device_s / each)

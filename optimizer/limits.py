"""How long, how well, how large and how reproducibly a solve may run."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

LARGEST_SEED = 2**31 - 1  # the smallest of what the solvers accept


@dataclass(frozen=True, slots=True)
class Limits:
    """What one solve may use; every backend takes the same.

    ``time_limit_s`` wall seconds; ``gap`` the relative gap at which a plan counts as optimal; ``seed`` for every
    random choice; ``threads`` CPU threads; ``memory_gib`` the memory of the process that solves (None: no limit of ours;
    enforced where solves run in a child process, not by the backends).

    Raises ValueError for a limit that makes no sense, in the user's words.
    """

    time_limit_s: float = 60.0
    gap: float = 1e-4
    seed: int = 0
    threads: int = 1
    memory_gib: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.time_limit_s) and self.time_limit_s > 0):
            raise ValueError(f"time_limit_s must be a positive number of seconds, not {self.time_limit_s}")
        if not 0 <= self.gap < 1:
            raise ValueError(f"gap must be at least 0 and below 1 (0.01 is one per cent), not {self.gap}")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ValueError(f"seed must be a whole number from 0 to {LARGEST_SEED}, not {self.seed}")
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {self.threads}")
        if self.memory_gib is not None and not (math.isfinite(self.memory_gib) and self.memory_gib > 0):
            raise ValueError(f"memory_gib must be a positive number of GiB or absent, not {self.memory_gib}")


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock, so that a changed wall clock neither shortens nor stretches a solve."""

    at_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline that lies ``seconds`` from now."""
        return cls(time.monotonic() + seconds)

    def remaining_s(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at_s - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self.at_s

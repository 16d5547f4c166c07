"""What a trace is: jobs with the time they come, how long they run, and what they ask for.

Times are seconds of the trace's own clock, which starts at 0. Nothing in this package reads another clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.placement.online.state import MILLI

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.placement.online.state import Cluster, Request, Seats


class ReplayError(ValueError):
    """A trace, a cluster or a wish that cannot be replayed; the message names the place and the cure."""


@dataclass(frozen=True, slots=True)
class TraceJob:
    """One job: it comes at ``arrival_s`` and runs for ``duration_s`` seconds at speed 1.

    ``speeds`` is the relative speed on each GPU model; a model that is not listed has speed 1. A gang runs at the speed of its
    slowest worker.
    """

    request: Request
    arrival_s: float
    duration_s: float
    speeds: Mapping[str, float] = field(default_factory=dict)

    @property
    def gpus(self) -> float:
        """GPUs of all workers, shares counted as such."""
        return self.request.workers * self.request.gpu_milli / MILLI

    def speed_on(self, cluster: Cluster, seats: Seats) -> float:
        """The speed of the job in these seats."""
        if not self.speeds:
            return 1.0
        return min(self.speeds.get(cluster.nodes[seat.node].model or "", 1.0) for seat in seats)

    def speed_range(self, models: Sequence[str]) -> tuple[float, float]:
        """The slowest and the fastest speed on those of ``models`` (names of GPU models) that the job accepts."""
        accepted = [model for model in models if not self.request.models or model in self.request.models]
        speeds = [self.speeds.get(model, 1.0) for model in accepted] if self.speeds and accepted else [1.0]
        return min(speeds), max(speeds)


@dataclass(frozen=True, slots=True)
class Trace:
    """The jobs of a trace in the order in which they come, the first at 0 s. ``notes`` say what is not as in the file."""

    name: str
    jobs: tuple[TraceJob, ...]
    notes: tuple[str, ...] = ()


def ordered(name: str, jobs: Sequence[TraceJob], notes: Sequence[str] = ()) -> Trace:
    """The trace of these jobs: sorted by arrival (equal ones as given), and the clock started at the first.

    Raises ReplayError where there is no job.
    """
    from dataclasses import replace

    if not jobs:
        raise ReplayError(f"{name}: has no job that can be replayed; give a trace with at least one")
    first = min(job.arrival_s for job in jobs)
    shifted = [replace(job, arrival_s=job.arrival_s - first) for job in jobs] if first else list(jobs)
    return Trace(name, tuple(sorted(shifted, key=lambda job: job.arrival_s)), tuple(notes))

"""What happened in a replay: when jobs started and ended, every stay in seats, and the state of the cluster after each event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.placement.online.state import MILLI

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.placement.online.fgd import Fragmentation
    from models.placement.online.state import Cluster
    from service.replay.engine import Simulation

    Floats = NDArray[np.float64]

STATES = ("time_s", "allocated_gpus", "open_gpus", "fragmented_gpus", "waiting_jobs", "waiting_gpus", "running_jobs", "blocked")


@dataclass(frozen=True, slots=True)
class Stay:
    """A job in its seats: ``gpus`` in use from ``start_s`` to ``end_s``, to lasting effect from ``useful_from_s`` to ``useful_to_s``."""

    job: int
    gpus: float
    start_s: float
    useful_from_s: float
    useful_to_s: float
    end_s: float


class History:
    """Collects; ``measures`` makes numbers of it. ``state(name)`` holds from its ``time_s`` to the next."""

    def __init__(self, jobs: int, fragmentation: Fragmentation, cluster: Cluster) -> None:
        self.start_s: Floats = np.full(jobs, np.nan)  # the first start
        self.end_s: Floats = np.full(jobs, np.nan)
        self.evicted = np.zeros(jobs, dtype=np.int64)
        self.moved = np.zeros(jobs, dtype=np.int64)
        self.stays: list[Stay] = []
        self.touched: set[int] = set()  # nodes that changed since the last note
        self._fragmentation = fragmentation
        self._fragmented = fragmentation.of(cluster)
        self._fragmented_sum = float(self._fragmented.sum())
        self._lines: list[tuple[float, ...]] = []

    def started(self, job: int, now_s: float) -> None:
        """Note the first start of a job."""
        if np.isnan(self.start_s[job]):
            self.start_s[job] = now_s

    def state(self, name: str) -> Floats:
        """A column of ``STATES``, one number for each note."""
        at = STATES.index(name)
        return np.array([line[at] for line in self._lines])

    def note(self, simulation: Simulation) -> None:
        """Note the state of the simulation as it is from now on."""
        cluster = simulation.cluster
        if self.touched:
            self._renew(cluster)
        closed = int(cluster.capacity_milli[~cluster.open].sum())
        waiting = simulation.waiting
        self._lines.append(
            (
                simulation.now_s,
                cluster.used_milli() / MILLI,
                (cluster.total_milli() - closed) / MILLI,
                self._fragmented_sum / MILLI,
                waiting.count,
                waiting.gpu_milli / MILLI,
                len(simulation.running.runs),
                float(_blocked(simulation)),
            )
        )

    def _renew(self, cluster: Cluster) -> None:
        """Work out the fragmentation of the nodes that changed; what is free on a closed node is no fragment: nobody can use it."""
        nodes = np.fromiter(self.touched, dtype=np.int64)
        fresh = self._fragmentation.measure(nodes, cluster.free_cpu[nodes], cluster.free_memory[nodes], cluster.free_milli[nodes])
        fresh = np.where(cluster.open[nodes], fresh, 0.0)
        self._fragmented_sum += float(fresh.sum() - self._fragmented[nodes].sum())
        self._fragmented[nodes] = fresh
        self.touched.clear()


def _blocked(simulation: Simulation) -> bool:
    """Whether the job at the head waits although as much of the GPUs that it accepts is free as it asks for."""
    head = simulation.waiting.head()
    if head is None:
        return False
    request, cluster = simulation.request(head), simulation.cluster
    mask = cluster.open & cluster.accepted(request.models)
    return bool(cluster.left_milli[mask].sum() >= request.workers * request.gpu_milli)

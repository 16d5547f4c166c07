"""The jobs that wait, by what they ask for: jobs that ask for the same are tried once, not one by one.

A shape whose next job found no seat is shut until a node that changed could take one of its workers: until then no job of the
shape can fit, because room only shrinks.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.placement.online.state import Cluster, Request


class Shapes:
    """The distinct demands of a list of requests: ``of[job]`` is the number of the job's shape, ``requests`` one of each."""

    def __init__(self, requests: Sequence[Request], cluster: Cluster) -> None:
        numbers: dict[object, int] = {}
        self.requests: list[Request] = []
        self.of: list[int] = []
        for one in requests:
            key = (one.gpus, one.share_milli, one.cpu_milli, one.memory_mib, one.workers, one.models)
            if key not in numbers:
                numbers[key] = len(numbers)
                self.requests.append(one)
            self.of.append(numbers[key])
        found = self.requests
        self._gpus = np.array([one.gpus for one in found])
        self._share = np.array([one.share_milli if one.fractional else 0 for one in found])
        self._cpu = np.array([one.cpu_milli for one in found])
        self._memory = np.array([one.memory_mib for one in found])
        self._accepted = np.array([cluster.accepted(one.models) for one in found])

    def that_fit_on(self, cluster: Cluster, node: int) -> list[int]:
        """The shapes of which the node could take one worker now."""
        if not cluster.open[node]:
            return []
        mask = (self._cpu <= cluster.free_cpu[node]) & (self._memory <= cluster.free_memory[node]) & self._accepted[:, node]
        mask &= np.where(self._share > 0, self._share <= cluster.largest[node], self._gpus <= cluster.idle[node])
        found: list[int] = np.flatnonzero(mask).tolist()
        return found


class Bucket:
    """The waiting jobs of one shape, by arrival and by estimate. A job is its number, which is also its place in the arrivals."""

    __slots__ = ("by_arrival", "by_estimate", "estimate_s")

    def __init__(self) -> None:
        self.by_arrival: list[int] = []
        self.by_estimate: list[tuple[float, int]] = []
        self.estimate_s: dict[int, float] = {}

    def add(self, job: int, estimate_s: float) -> None:
        """Note a job that waits."""
        insort(self.by_arrival, job)
        insort(self.by_estimate, (estimate_s, job))
        self.estimate_s[job] = estimate_s

    def remove(self, job: int) -> None:
        """Forget a job that starts."""
        del self.by_arrival[bisect_left(self.by_arrival, job)]
        del self.by_estimate[bisect_left(self.by_estimate, (self.estimate_s.pop(job), job))]

    def first(self, most_s: float, but: int | None = None) -> int | None:
        """The job that came first, of those estimated at ``most_s`` or less; ``but`` is left out."""
        if not self.by_estimate or self.by_estimate[0][0] > most_s:
            return None
        return next((job for job in self.by_arrival if job != but and self.estimate_s[job] <= most_s), None)

    def shortest(self, most_s: float, but: int | None = None) -> int | None:
        """The job of the smallest estimate, where that is ``most_s`` or less; ``but`` is left out."""
        found = next(((estimate, job) for estimate, job in self.by_estimate[:2] if job != but), None)
        return found[1] if found is not None and found[0] <= most_s else None


class Waiting:
    """All waiting jobs, and which shapes are shut."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.buckets: dict[int, Bucket] = {}
        self.shut: set[int] = set()
        self.count = 0
        self.gpu_milli = 0  # that all of them ask for together

    def add(self, job: int, estimate_s: float) -> None:
        """Note a job that waits; its estimate is that of its slowest accepted GPU model."""
        shape = self.shapes.of[job]
        self.buckets.setdefault(shape, Bucket()).add(job, estimate_s)
        self._count(shape, 1)

    def remove(self, job: int) -> None:
        """Forget a job that starts."""
        shape = self.shapes.of[job]
        bucket = self.buckets[shape]
        bucket.remove(job)
        if not bucket.by_arrival:
            del self.buckets[shape]
        self._count(shape, -1)

    def head(self) -> int | None:
        """The job that came first."""
        return min((bucket.by_arrival[0] for bucket in self.buckets.values()), default=None)

    def open_again(self, cluster: Cluster, nodes: Iterable[int]) -> set[int]:
        """Open the shapes that one of these nodes, which have more room than before, could take a worker of; returns those shapes."""
        opened = {shape for node in nodes for shape in self.shapes.that_fit_on(cluster, node)}
        self.shut -= opened
        return opened

    def _count(self, shape: int, sign: int) -> None:
        request = self.shapes.requests[shape]
        self.count += sign
        self.gpu_milli += sign * request.workers * request.gpu_milli

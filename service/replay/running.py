"""Who runs where and until when, as arrays: what a reservation is worked out from.

One line for each worker that runs. Ends are estimates; a job that runs beyond its estimate is taken to run as long again as it
has run, each time it does so. (D. Tsafrir et al., "Backfilling using system-generated predictions rather than user runtime
estimates", IEEE TPDS 2007, raise an expired prediction in steps too.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.placement.online.state import Cluster, Request, Seats

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

ROOM = 256  # lines there are room for at first


@dataclass(slots=True)
class Run:
    """One stay of a job in its seats, from ``start_s``; ``end_s`` is when it is estimated to end."""

    job: int
    request: Request
    seats: Seats
    start_s: float
    end_s: float
    speed: float
    number: int  # how many times the job has started before
    lines: tuple[int, ...] = ()


class Running:
    """All runs, by job; and one line of arrays for each worker. Lines that nobody has end at infinity."""

    def __init__(self, widest: int) -> None:
        self.runs: dict[int, Run] = {}
        self.end_s: Floats = np.full(ROOM, np.inf)
        self.start_s: Floats = np.zeros(ROOM)
        self.node: Ints = np.zeros(ROOM, dtype=np.int64)
        self.cpu_milli: Ints = np.zeros(ROOM, dtype=np.int64)
        self.memory_mib: Ints = np.zeros(ROOM, dtype=np.int64)
        self.gpu_milli: Ints = np.zeros((ROOM, widest), dtype=np.int64)
        self._free = list(range(ROOM - 1, -1, -1))

    def add(self, run: Run) -> None:
        """Note a run."""
        while len(self._free) < len(run.seats):
            self._grow()
        request, lines = run.request, []
        for seat in run.seats:
            line = self._free.pop()
            self.end_s[line], self.start_s[line], self.node[line] = run.end_s, run.start_s, seat.node
            self.cpu_milli[line], self.memory_mib[line] = request.cpu_milli, request.memory_mib
            for gpu in seat.gpus:
                self.gpu_milli[line, gpu] = request.share_milli
            lines.append(line)
        run.lines = tuple(lines)
        self.runs[run.job] = run

    def remove(self, job: int) -> Run:
        """Forget the run of a job and return it."""
        run = self.runs.pop(job)
        for line in run.lines:
            self.end_s[line] = np.inf
            self.gpu_milli[line] = 0
            self._free.append(line)
        return run

    def extend_overdue(self, now_s: float) -> None:
        """Runs that should have ended by now are taken to run as long again as they have run."""
        late = self.end_s <= now_s
        self.end_s[late] = now_s + np.maximum(now_s - self.start_s[late], 1.0)

    def by_end(self) -> Ints:
        """The lines in use, the first to end first."""
        order = np.argsort(self.end_s, kind="stable")
        return order[: int(np.isfinite(self.end_s).sum())]

    def _grow(self) -> None:
        size = len(self.end_s)
        for name in ("start_s", "node", "cpu_milli", "memory_mib", "gpu_milli"):
            found = getattr(self, name)
            setattr(self, name, np.concatenate([found, np.zeros_like(found)]))
        self.end_s = np.concatenate([self.end_s, np.full(size, np.inf)])
        self._free.extend(range(2 * size - 1, size - 1, -1))


def workers_that_fit(cluster: Cluster, request: Request) -> Ints:
    """How many workers of the request each node has room for now, were it the only one to come; shape (nodes,)."""
    mask = cluster.open
    if request.models:
        mask = mask & cluster.accepted(request.models)
    if request.fractional:
        room = (cluster.free_milli // request.share_milli).sum(axis=1)
    elif request.gpus:
        room = cluster.idle // request.gpus
    else:
        room = np.full(len(cluster.nodes), request.workers, dtype=np.int64)
    for free, need in ((cluster.free_cpu, request.cpu_milli), (cluster.free_memory, request.memory_mib)):
        if need:
            room = np.minimum(room, free // need)
    return np.where(mask, room, 0)


def fits_whole(cluster: Cluster, request: Request) -> bool:
    """Whether all workers of the request fit now."""
    return int(workers_that_fit(cluster, request).sum()) >= request.workers

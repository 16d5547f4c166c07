"""Room that was given away and is not taken yet: jobs that were released with a pin and have not been seen running.

A round must not give the same GPUs away a second time because the scheduler has not started a job yet, or its answers lag behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.plugins.cluster import SeenJob, Snapshot
    from service.plugins.orders import Order

Ending = Literal["runs", "gone", "changed", "moved_on", "late", "unpinned"]


@dataclass(frozen=True, slots=True)
class Reservation:
    """One job that was told to start on the seats of its order. ``until`` is by the follower's monotonic clock.

    ``certain`` is False when the scheduler did not answer: the job may have been released, or not.
    """

    job: SeenJob
    order: Order
    until: float
    certain: bool = True


class Reservations:
    """The reservations in force, by job."""

    def __init__(self) -> None:
        self._kept: dict[str, Reservation] = {}

    def __iter__(self) -> Iterator[Reservation]:
        return iter(tuple(self._kept.values()))

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, job: object) -> bool:
        return job in self._kept

    def add(self, reservation: Reservation) -> None:
        """Keep the seats of a job that is being released."""
        self._kept[reservation.job.id] = reservation

    def drop(self, job: str) -> None:
        """Give the seats back, if there are any."""
        self._kept.pop(job, None)

    def settle(self, snapshot: Snapshot, now: float) -> Mapping[str, Ending]:
        """End what has become of itself, by a snapshot taken after the releases; the jobs whose reservation ended, and how.

        ``runs``: all workers were seen; ``gone``: no such job; ``changed``: its name means another job now; ``late``: ``until`` has
        passed; ``moved_on``: it was freed by someone else and starts elsewhere. (``unpinned``: the follower has taken its pin away.)
        """
        jobs = {job.id: job for job in snapshot.jobs}
        ended: dict[str, Ending] = {}
        for name, kept in self._kept.items():
            ending = _ending(kept, jobs.get(name), now)
            if ending is not None:
                ended[name] = ending
        for name in ended:
            del self._kept[name]
        return ended

    def stranded(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Jobs that have not started and of whose nodes one is drained, cordoned or gone: where they are pinned they may never start."""
        ready = {node.id for node in snapshot.nodes if node.state == "ready"}
        jobs = {job.id: job for job in snapshot.jobs}
        found = []
        for name, kept in self._kept.items():
            here = {worker.node for worker in jobs[name].running} if name in jobs else set()
            if not set(kept.order.nodes) - here <= ready:
                found.append(name)
        return tuple(found)


def _ending(kept: Reservation, job: SeenJob | None, now: float) -> Ending | None:
    if job is None:
        return "gone"
    if job.identity != kept.job.identity:
        return "runs" if job.running else "changed"
    if len(job.running) >= job.workers:
        return "runs"
    if job.running and not {worker.node for worker in job.running} <= set(kept.order.nodes):
        return "moved_on"
    return "late" if now >= kept.until else None

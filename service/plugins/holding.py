"""Which jobs are held, since when, and whether a verified plan has ever considered them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from service.plugins.cluster import SeenJob, Snapshot
    from service.plugins.problem import Asked


def is_held(job: SeenJob) -> bool:
    """Whether the job opted in and is kept back by its scheduler until someone releases it."""
    return job.opted_in and job.held and job.waits


class Holding:
    """The held jobs, by id and identity: a job made anew under an old name begins anew. Times are monotonic."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}
        self._considered: set[tuple[str, str]] = set()
        self.jobs: list[SeenJob] = []

    def note(self, snapshot: Snapshot, now: float) -> int:
        """Take over which jobs are held in a snapshot; how many more they are than before."""
        before = len(self.jobs)
        self.jobs = [job for job in snapshot.jobs if is_held(job)]
        self._since = {key: self._since.get(key, now) for key in ((job.id, job.identity) for job in self.jobs)}
        self._considered &= {(job.id, job.identity) for job in snapshot.jobs}
        return len(self.jobs) - before

    def considered(self, asked: Asked) -> None:
        """A verified plan has decided about all planned jobs: those it leaves out wait for a reason."""
        self._considered |= {(name, asked.jobs[name].identity) for name in asked.planned}

    def late(self, now: float, fallback_s: float, spared: Container[str]) -> tuple[str, ...]:
        """Jobs held for ``fallback_s`` or longer that no verified plan has considered; without the ``spared``."""
        keys = dict.fromkeys((job.id, job.identity) for job in self.jobs)
        return tuple(
            name for name, identity in keys
            if (name, identity) not in self._considered and name not in spared and now - self._since[name, identity] >= fallback_s
        )  # fmt: skip

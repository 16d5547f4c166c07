"""A scheduler's snapshot as a situation: the same reading that the plugin plans by, with all that the questions need besides.

What the plugin leaves out as of no use to it is needed here: running jobs keep their own rules, because the questions may move them;
and waiting jobs are taken whether or not they opted in.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from service.plugins.problem import problem as planned
from service.plugins.simulation.situation import Situation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.placement.schema import Job, Problem, Tenant
    from service.plugins.cluster import Snapshot

Which = Literal["all", "opted-in"]


class SnapshotError(ValueError):
    """A snapshot that makes no problem; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot taken over: ``problem`` has the scheduler's ids, and ranks in place of its ``priorities`` (see ``Situation``)."""

    snapshot: Snapshot
    problem: Problem
    priorities: tuple[int, ...]
    warnings: tuple[str, ...] = ()

    def situation(self) -> Situation:
        """The cluster at the time of the snapshot."""
        seen = {job.id: job for job in self.snapshot.jobs}
        jobs = [seen[job.id] for job in self.problem.jobs]
        called = Counter(job.display for job in jobs)
        return Situation(
            self.problem,
            self.snapshot.taken_at,
            ends={job.id: job.ends_at for job in jobs if job.ends_at is not None and not job.waits},
            submitted={job.id: job.submitted_at for job in jobs if job.submitted_at is not None},
            names={
                job.id: job.display if called[job.display] == 1 else f"{job.display} ({job.id})"
                for job in jobs
                if job.display and job.display != job.id
            },
            priorities=self.priorities,
            warnings=self.warnings,
        )


def taken(snapshot: Snapshot, which: Which = "all", tenants: Sequence[Tenant] = ()) -> Taken:
    """The snapshot as a problem of use place: what runs with its own rules, and what waits, all of it or what has opted in.

    Raises SnapshotError for one without any node that can be planned with.
    """
    chosen = [job.id for job in snapshot.jobs if job.waits and (which == "all" or job.opted_in)]
    asked = planned(snapshot, tenants=tenants, also=chosen, keep_empty=True, rules_of_running=True)
    if asked.problem is None:
        told = "; ".join(asked.warnings[:3]) or "it lists no node"
        raise SnapshotError(f"nothing can be planned with this snapshot: {told}")
    jobs = asked.problem.jobs
    seen = {job.id: job.priority for job in snapshot.jobs}
    scale = tuple(sorted({seen[job.id] for job in jobs}))
    ranked = [job.model_copy(update={"priority": 2 * (bisect_left(scale, seen[job.id]) + 1)}) for job in jobs]
    kept = tuple(_same_worth(old, new) for old, new in zip(jobs, ranked, strict=True))
    left_out = [f"job {_name(snapshot, name)} is left out: {told.removeprefix('not planned: ')}" for name, told in asked.left_out.items()]
    problem = asked.problem.model_copy(update={"jobs": kept})
    return Taken(snapshot, problem, scale, (*asked.warnings, *left_out))


def _same_worth(old: Job, new: Job) -> Job:
    """The job with the value that makes it worth what it was before its priority was counted anew."""
    return new.model_copy(update={"value": old.value * old.priority / new.priority})


def _name(snapshot: Snapshot, job: str) -> str:
    found = snapshot.job(job)
    return job if found is None else found.name

"""Which jobs shadow mode plans: all that wait for kube-scheduler, opted in or not. So a cluster is judged before anything is changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.plugins.cluster import SeenJob, Snapshot
    from service.plugins.kubernetes.gangs import Gang

MOST_NAMED = 5


def as_if_opted_in(snapshot: Snapshot, gangs: Mapping[str, Gang], namespaces: frozenset[str]) -> Snapshot:
    """The snapshot with every job opted in that waits in one of these namespaces (none: in any), uses GPUs and is held by nothing.

    ``gangs`` are by the jobs' ids. What carries a gate waits because of that, and would be no gain of the plan's; jobs held by ours
    are named in a warning.
    """
    jobs = tuple(_as_if(job, gangs.get(job.id), namespaces) for job in snapshot.jobs)
    held = [job.id for job in snapshot.jobs if job.opted_in and job.held]
    if not held:
        return replace(snapshot, jobs=jobs)
    some = ", ".join(held[:MOST_NAMED]) + (f" and {len(held) - MOST_NAMED} more" if len(held) > MOST_NAMED else "")
    told = f"held by the gate, and nobody takes it away in this mode: {some}; run --mode enforce, or `quartermaster kubernetes release`"
    return replace(snapshot, jobs=jobs, warnings=(*snapshot.warnings, told))


def _as_if(job: SeenJob, gang: Gang | None, namespaces: frozenset[str]) -> SeenJob:
    if not job.waits:
        return job
    served = gang is not None and (not namespaces or gang.namespace in namespaces)
    free = gang is not None and not any(pod.gates for pod in gang.members)
    return replace(job, opted_in=served and free and job.gpus_per_worker > 0)

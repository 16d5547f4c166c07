"""The formats of traces. A new one is a module with a reader, and a line in ``FORMATS``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from service.replay.jobs import ReplayError, Trace
from service.replay.running import fits_whole
from service.replay.trace_gavel import read_gavel
from service.replay.trace_openb import read_openb
from service.replay.trace_philly import read_philly
from service.replay.trace_synthetic import read_synthetic

if TYPE_CHECKING:
    from models.placement.online.state import Cluster

MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader may need to know beside the file: the cluster, and for Gavel the speeds."""

    cluster: Cluster
    throughputs: Path | None = None
    skip_unknown: bool = False

    def split(self, gpus: int) -> tuple[int, int]:
        """So many GPUs as (workers, GPUs of each): as few equal workers as nodes of this cluster can hold."""
        most = max(1, int(self.cluster.gpus.max(initial=1)))
        each = next((size for size in range(min(gpus, most), 0, -1) if gpus % size == 0), 0)
        return (gpus // each, each) if each else (1, 0)


FORMATS: dict[str, Callable[[Path, Reading], Trace]] = {
    "openb": read_openb,
    "gavel": read_gavel,
    "philly": read_philly,
    "synthetic": read_synthetic,
}


def read_trace(name: str, path: str, reading: Reading, *, skip_never_fits: bool = False) -> Trace:
    """The trace, without jobs that the empty cluster could not hold where ``skip_never_fits``.

    Raises ReplayError for an unknown format, a trace that cannot be read, one without jobs, and a job that can never fit.
    """
    if name not in FORMATS:
        raise unknown_format(name)
    trace = FORMATS[name](Path(path), reading)
    return _that_fit(trace, reading.cluster, skip=skip_never_fits)


def unknown_format(name: str) -> ReplayError:
    """The complaint about a format that there is not."""
    return ReplayError(f"--format {name}: there is no such format; take one of {', '.join(FORMATS)}")


def _that_fit(trace: Trace, cluster: Cluster, *, skip: bool) -> Trace:
    known: dict[object, bool] = {}
    never = []
    for job in trace.jobs:
        one = job.request
        key = (one.gpus, one.share_milli, one.cpu_milli, one.memory_mib, one.workers, one.models)
        if key not in known:
            known[key] = fits_whole(cluster, one)
        if not known[key]:
            never.append(job)
    if not never:
        return trace
    if not skip:
        one = never[0].request
        models = f" of {', '.join(sorted(one.models))}" if one.models else ""
        raise ReplayError(
            f"{trace.name}: job '{one.id}' ({one.workers} workers with {one.gpus * one.share_milli / 1000:g} GPUs{models}, "
            f"{one.cpu_milli / 1000:g} cores, {one.memory_mib / 1024:g} GiB each) never fits, even on the empty cluster"
            + (f", and neither do {len(never) - 1:,} others" if len(never) > 1 else "")
            + "; give larger --nodes, or --skip-never-fits to leave such jobs out"
        )
    gone = {id(job) for job in never}
    jobs = tuple(job for job in trace.jobs if id(job) not in gone)
    if not jobs:
        raise ReplayError(f"{trace.name}: none of its jobs fits the empty cluster; give larger --nodes")
    names = ", ".join(job.request.id for job in never[:MOST_NAMED]) + (", ..." if len(never) > MOST_NAMED else "")
    first = jobs[0].arrival_s
    jobs = tuple(replace(job, arrival_s=job.arrival_s - first) for job in jobs)
    return replace(trace, jobs=jobs, notes=(*trace.notes, f"{len(never):,} jobs never fit and are left out ({names})"))

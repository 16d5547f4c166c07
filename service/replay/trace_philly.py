"""Traces like Microsoft's Philly trace: jobs with the time of their submission, a number of GPUs, and how long they ran.

Two forms. The trace's own ``cluster_job_log`` (JSON): a list of jobs with ``jobid``, ``submitted_time`` and ``attempts``, each with
``start_time``, ``end_time`` and ``detail`` (machines and their GPUs). A job's duration is the sum of its attempts, its GPUs are
those of its first attempt; jobs that never ran, or whose attempts have no end, are left out. And a plain CSV file with the columns
``job_id, submit_s, gpus, duration_s``, and perhaps ``workers`` (equal workers that share the GPUs evenly), ``cpu_milli`` and
``memory_mib`` of one worker.

Source: M. Jeon et al., "Analysis of Large-Scale Multi-Tenant GPU Clusters for DNN Training Workloads", USENIX ATC 2019; the trace is
at github.com/msr-fiddle/philly-traces. None of its data comes with this project.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from models.placement.online.state import Request
from service.importers.failures import ImportFileError, text_of
from service.replay.jobs import ReplayError, Trace, TraceJob, ordered
from service.replay.rows import read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from service.replay.rows import Row
    from service.replay.traces import Reading

COLUMNS = ("job_id", "submit_s", "gpus", "duration_s")
TIME = "%Y-%m-%d %H:%M:%S"


def read_philly(path: Path, reading: Reading) -> Trace:
    """The trace of a JSON file whose name ends in ``.json`` or ``.json.gz``, or of a CSV file. Raises ReplayError."""
    if path.name.removesuffix(".gz").endswith(".json"):
        return _json_trace(path, reading)
    jobs: dict[str, TraceJob] = {}
    for row in read_rows(path, COLUMNS):
        name = row.name("job_id")
        if name in jobs:
            raise row.error("job_id", f"the job '{name}' is named twice; keep one of the lines")
        jobs[name] = _of_row(row, name, reading)
    return ordered(str(path), list(jobs.values()))


def _of_row(row: Row, name: str, reading: Reading) -> TraceJob:
    submit_s, gpus, duration_s = row.number("submit_s"), row.count("gpus"), row.number("duration_s")
    if duration_s == 0:
        raise row.error("duration_s", "must be more than 0; correct it, or leave the job out")
    workers = row.count("workers", usual=0)
    if workers and gpus % workers:
        raise row.error("workers", f"{gpus} GPUs cannot be shared evenly by {workers} workers; correct one of the two")
    workers, each = (workers, gpus // workers) if workers else reading.split(gpus)
    request = Request(name, gpus=each, workers=workers, cpu_milli=row.count("cpu_milli", 0), memory_mib=row.count("memory_mib", 0))
    return TraceJob(request, submit_s, duration_s)


def _json_trace(path: Path, reading: Reading) -> Trace:
    try:
        listed = json.loads(text_of(path))
    except ImportFileError as error:
        raise ReplayError(str(error)) from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise ReplayError(f"{path}: is no JSON ({error}); give the trace's cluster_job_log") from None
    if not isinstance(listed, list):
        raise ReplayError(f"{path}: must be a list of jobs, as cluster_job_log is; give that file")
    jobs: dict[str, TraceJob] = {}
    never = 0
    for number, job in enumerate(listed):
        found = _of_object(f"{path}: job {number}", job, reading)
        if found is None:
            never += 1
        elif found.request.id in jobs:
            raise ReplayError(f"{path}: job {number}: '{found.request.id}' is there twice; keep one of the two")
        else:
            jobs[found.request.id] = found
    return ordered(str(path), list(jobs.values()), [f"{never:,} jobs never ran, or have no end, and are left out"] if never else [])


def _of_object(place: str, job: Any, reading: Reading) -> TraceJob | None:  # noqa: ANN401  (JSON)
    """A job; None for one that never ran or has an attempt without an end."""
    try:
        name, attempts = str(job["jobid"]), job["attempts"]
        gpus = sum(len(machine["gpus"]) for machine in attempts[0]["detail"]) if attempts else 0
        times = [(one["start_time"], one["end_time"]) for one in attempts]
    except (KeyError, TypeError, IndexError) as error:
        raise ReplayError(f"{place}: is not as in cluster_job_log ({type(error).__name__}: {error}); correct it") from None
    if not gpus or any(not start or not end or "None" in (start, end) for start, end in times):
        return None
    submitted_s = _seconds(place, "submitted_time", job.get("submitted_time"))
    duration_s = sum(_seconds(place, "end_time", end) - _seconds(place, "start_time", start) for start, end in times)
    if duration_s < 0:
        raise ReplayError(f"{place}: its attempts end before they start; correct their times")
    workers, each = reading.split(gpus)
    return TraceJob(Request(name, gpus=each, workers=workers), submitted_s, duration_s) if duration_s else None


def _seconds(place: str, name: str, text: Any) -> float:  # noqa: ANN401  (JSON)
    try:
        return datetime.strptime(str(text), TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ReplayError(f"{place}: {name} must read 2017-10-09 07:02:11, not '{str(text)[:40]}'; correct it") from None

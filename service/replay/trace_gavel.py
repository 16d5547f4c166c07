"""Gavel's traces (D. Narayanan et al., OSDI 2020): jobs with steps to do, whose speed depends on the GPUs they get.

The speeds come from Gavel's throughputs file. A job's ``duration_s`` is its steps by its speed on V100s, or on its fastest GPUs
where it has none there; ``speeds`` are relative to those. A job of several GPUs is a gang of equal workers, each with as many
GPUs as divide the whole and fit one node. Speeds of gangs that are spread over nodes are not used: a replay does not slow them down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.placement.online.state import Request
from service.importers.failures import ImportFileError
from service.importers.gavel_files import read_speeds, read_trace
from service.replay.jobs import ReplayError, Trace, TraceJob, ordered

if TYPE_CHECKING:
    from pathlib import Path

    from service.importers.gavel_files import JobType, Speeds
    from service.replay.traces import Reading

USUAL = "v100"


def read_gavel(path: Path, reading: Reading) -> Trace:
    """The trace on the GPU models of the cluster, whose names are matched in upper or lower case.

    Raises ReplayError, also for a job without speeds on any of them unless ``reading.skip_unknown``.
    """
    if reading.throughputs is None:
        raise ReplayError(f"{path}: a Gavel trace tells steps, not seconds; give the speeds with --throughputs FILE")
    try:
        speeds, rows = read_speeds(reading.throughputs), read_trace(path)
    except ImportFileError as error:
        raise ReplayError(str(error)) from None
    models = {model: own for model in reading.cluster.models if (own := _own(speeds, model)) is not None}
    if not models:
        raise ReplayError(
            f"{reading.throughputs}: has speeds on {', '.join(speeds.alone)}, and the cluster has none of these GPU models; "
            "name the models of --nodes as the file does"
        )
    jobs, unknown = [], 0
    for number, row in enumerate(rows):
        found = {model: speeds.alone[own][row.job_type] for model, own in models.items() if row.job_type in speeds.alone[own]}
        if not found:
            if not reading.skip_unknown:
                model, gpus = row.job_type
                raise ReplayError(
                    f"{row.place}: '{model}' on {gpus} GPUs has no speed on {', '.join(models)}; "
                    "give the throughputs that belong to it, or --skip-unknown to leave such jobs out"
                )
            unknown += 1
            continue
        jobs.append(_job(f"j{number}", row.job_type, row.steps, row.arrival_s, found, _usual(speeds, row.job_type), reading))
    return ordered(str(path), jobs, [f"{unknown:,} jobs have no speeds and are left out"] if unknown else [])


def _own(speeds: Speeds, model: str) -> str | None:
    """The name that the throughputs file has for a GPU model."""
    return next((name for name in speeds.alone if name.lower() == model.lower()), None)


def _usual(speeds: Speeds, job_type: JobType) -> float:
    """Steps/s at speed 1: on V100s, or on the fastest."""
    usual = speeds.alone.get(USUAL, {}).get(job_type)
    return usual if usual is not None else max(found[job_type] for found in speeds.alone.values() if job_type in found)


def _job(name: str, job_type: JobType, steps: float, arrival_s: float, found: dict[str, float], usual: float, reading: Reading) -> TraceJob:
    workers, gpus = reading.split(job_type[1])
    request = Request(name, gpus=gpus, workers=workers, models=frozenset(found))
    return TraceJob(request, arrival_s, steps / usual, {model: speed / usual for model, speed in found.items()})

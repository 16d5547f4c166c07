"""Reads Gavel's speeds and a trace, or a job list of POP, as a ``fairshare`` problem.

Every line is a job, called ``j0``, ``j1``, ... by its place in the file; a workload is a model with its number of GPUs. The trace's
priority is Gavel's weight of the job, and becomes the weight. Jobs of a list have a duration: as in Gavel's code their steps are the
duration times the speed on V100s (where there are none, on the fastest accelerator). Pairs whose gangs differ in size are not read. The
file's speeds of spread gangs are sometimes above those of consolidated ones, by noise; they are cut at those. ``0.0`` means: cannot run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from models.fairshare.schema import Accelerator, Job, JobTable, PairSpeed, Policy, Problem, Speed, Workload
from service.importers.failures import ImportFileError
from service.importers.gavel_files import Instance, JobType, Row, Speeds, numbered, read_instance, read_speeds, read_trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from service.importers.gavel_pairs import Percentile

USUAL = "v100"  # the type of GPU that durations are told for
MOST_LISTED = 500  # jobs up to which each is an object of its own


@dataclass(frozen=True, slots=True)
class Imported:
    """A problem, and how many jobs of the file are not in it: not come yet, or without speeds; ``predicted``: of the pairs."""

    problem: Problem
    later: int
    unknown: int
    predicted: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """What to make of the files: who is there at ``at_s`` seconds, at most ``most_jobs`` of them; jobs without speeds may be left out.

    ``fill_pairs``: pairs that were not measured are predicted from those that were, by their median or their 10th percentile.
    """

    policy: Policy = Policy.max_min_fair
    pairs: bool = True
    most_jobs: int | None = None
    at_s: float | None = None
    skip_unknown: bool = False
    fill_pairs: Percentile | None = None


def in_columns(problem: Problem) -> Problem:
    """The same problem with its jobs as columns where there are many: they are read several times faster."""
    jobs = problem.jobs
    if len(jobs) <= MOST_LISTED:
        return problem
    table = JobTable(
        id=tuple(job.id for job in jobs),
        workload=tuple(job.workload for job in jobs),
        weight=tuple(job.weight for job in jobs),
        remaining_steps=tuple(job.remaining_steps for job in jobs),
        arrival_s=tuple(job.arrival_s for job in jobs),
    )
    return problem.model_copy(update={"jobs": (), "job_table": table})


def import_gavel(throughputs: Path, jobs: Path, cluster: Mapping[str, int] | None = None, choice: Choice | None = None) -> Imported:
    """The files as a problem. ``jobs`` is a trace, or a job list where its name ends in ``.json`` or ``.json.gz``.

    ``cluster`` says how many GPUs there are of each type, by the names of the throughputs file in upper or lower case; without it a job
    list brings its own. Raises ImportFileError.
    """
    choice = choice or Choice()
    speeds = read_speeds(throughputs)
    listed = read_instance(jobs) if jobs.name.removesuffix(".gz").endswith(".json") else None
    rows = listed.rows if listed is not None else read_trace(jobs)
    gpus = _cluster(speeds, cluster, listed, jobs)
    there = [(name, row) for name, row in numbered(rows) if choice.at_s is None or row.arrival_s <= choice.at_s]
    known = [(name, row) for name, row in there if _has_speeds(speeds, row, gpus, skip=choice.skip_unknown)]
    if not known:
        raise ImportFileError(f"{jobs}: no job with speeds has arrived by {choice.at_s or 0:g} s; give a later --at")
    taken = known[: choice.most_jobs]
    predicted = _filled(speeds, gpus, taken, choice.fill_pairs) if choice.pairs and choice.fill_pairs else ()
    try:
        problem = _problem(speeds, gpus, taken, choice, predicted)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = str(first.get("ctx", {}).get("error", first["msg"])).splitlines()[0]
        raise ImportFileError(f"{throughputs} and {jobs} do not make a problem: {what}") from None
    return Imported(problem, len(rows) - len(there), len(there) - len(known), len(predicted))


def _cluster(speeds: Speeds, asked: Mapping[str, int] | None, listed: Instance | None, jobs: Path) -> dict[str, tuple[str, int]]:
    """The accelerators by the throughputs file's names: what they are called, and how many there are."""
    if asked is None and listed is None:
        raise ImportFileError(f"{jobs}: a trace knows no cluster; give --cluster, such as V100=8,P100=16")
    names = {name.lower(): name for name in speeds.alone}
    found: dict[str, tuple[str, int]] = {}
    for name, count in (asked if asked is not None else listed.cluster if listed is not None else {}).items():
        own = names.get(name.lower())
        if own is None:
            raise ImportFileError(f"{speeds.path}: has no type of GPU '{name}'; it has {', '.join(speeds.alone)}")
        if own in found:
            raise ImportFileError(f"the cluster names '{name}' twice; give each type of GPU once")
        found[own] = (name, count)
    return found


def _has_speeds(speeds: Speeds, row: Row, gpus: Mapping[str, tuple[str, int]], *, skip: bool) -> bool:
    """Whether the job can run on the cluster. Raises ImportFileError when it cannot, unless such jobs are left out."""
    if any(row.job_type in speeds.alone[own] for own in gpus):
        return True
    if skip:
        return False
    model, size = row.job_type
    what = f"'{model}' on {size} GPU" + ("s" if size > 1 else "")
    cure = "give the throughputs that belong to it, or --skip-unknown to leave such jobs out"
    if row.job_type in speeds.known:
        raise ImportFileError(f"{row.place}: {what} has a speed of 0 on {', '.join(name for name, _ in gpus.values())}; {cure}")
    raise ImportFileError(f"{row.place}: {speeds.path} has no speeds of {what}; {cure}")


def _filled(
    speeds: Speeds, gpus: Mapping[str, tuple[str, int]], jobs: Sequence[tuple[str, Row]], percentile: Percentile
) -> tuple[PairSpeed, ...]:
    """The pairs of these jobs on one GPU that the file does not tell. Raises ImportFileError where it tells none at all."""
    from service.importers.gavel_pairs import filled

    types = frozenset(row.job_type for _, row in jobs)
    return tuple(
        PairSpeed(
            accelerator=name,
            first=_called(one.first),
            second=_called(one.second),
            first_steps_per_s=one.first_steps_per_s,
            second_steps_per_s=one.second_steps_per_s,
        )
        for own, (name, _) in gpus.items()
        for one in filled(speeds, own, types, percentile)
    )


def _problem(
    speeds: Speeds,
    gpus: Mapping[str, tuple[str, int]],
    jobs: Sequence[tuple[str, Row]],
    choice: Choice,
    predicted: tuple[PairSpeed, ...],
) -> Problem:
    types = tuple(dict.fromkeys(row.job_type for _, row in jobs))
    now_s = choice.at_s if choice.at_s is not None else max((row.arrival_s for _, row in jobs), default=0.0)
    return Problem(
        policy=choice.policy,
        now_s=now_s,
        accelerators=tuple(Accelerator(id=name, count=count) for name, count in gpus.values()),
        workloads=tuple(_workload(speeds, gpus, one) for one in types),
        pairs=(*_pair_speeds(speeds, gpus, frozenset(types)), *predicted) if choice.pairs else (),
        jobs=tuple(_job(speeds, name, row) for name, row in jobs),
    )


def _job(speeds: Speeds, name: str, row: Row) -> Job:
    steps = row.steps if row.duration_s is None else row.duration_s * _usual_speed(speeds, row.job_type)
    return Job(id=name, workload=_called(row.job_type), weight=row.weight, remaining_steps=steps, arrival_s=row.arrival_s)


def _usual_speed(speeds: Speeds, job_type: JobType) -> float:
    usual = speeds.alone.get(USUAL, {}).get(job_type)
    return usual if usual is not None else max(table[job_type] for table in speeds.alone.values() if job_type in table)


def _workload(speeds: Speeds, gpus: Mapping[str, tuple[str, int]], job_type: JobType) -> Workload:
    found = []
    for own, (name, _) in gpus.items():
        alone = speeds.alone[own].get(job_type)
        if alone is None:
            continue
        spread = speeds.spread.get(own, {}).get(job_type) if job_type[1] > 1 else None
        found.append(Speed(accelerator=name, steps_per_s=alone, spread_steps_per_s=None if spread is None else min(spread, alone)))
    return Workload(id=_called(job_type), gpus=job_type[1], speeds=tuple(found))


def _pair_speeds(speeds: Speeds, gpus: Mapping[str, tuple[str, int]], types: frozenset[JobType]) -> Iterator[PairSpeed]:
    for own, (name, _) in gpus.items():
        alone = speeds.alone[own]
        for (first, second), (one, other) in speeds.pairs[own].items():
            if first in types and second in types and first in alone and second in alone:
                yield PairSpeed(
                    accelerator=name, first=_called(first), second=_called(second), first_steps_per_s=one, second_steps_per_s=other
                )


def _called(job_type: JobType) -> str:
    model, gpus = job_type
    return model if gpus == 1 else f"{model} x {gpus} GPUs"

"""Reads the files of Gavel (D. Narayanan et al., OSDI 2020) and POP (D. Narayanan et al., SOSP 2021): speeds, traces, job lists.

Speeds are JSON, ``{gpu_type: {"('model', scale_factor)": {"null": steps/s, "('other', scale_factor)": [steps/s, steps/s of the other]}}}``.
A type that ends in ``_unconsolidated`` has the speeds of gangs that are spread over nodes. A speed of 0.0 alone, and a pair of 0.0 twice,
mean that the memory does not suffice: they are left out. Traces are lines of 7 or 10 fields between tabs.
"""

from __future__ import annotations

import ast
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from service.importers.failures import ImportFileError, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALONE = "null"
SPREAD = "_unconsolidated"
LONG, SHORT = 10, 7  # fields of a line: with a working directory, priority and SLO, or without
FURTHEST = 1e-6  # relative difference of a pair's speeds, told from its two sides
LARGEST = 1e12

JobType: TypeAlias = tuple[str, int]  # model, GPUs


@dataclass(frozen=True, slots=True)
class Speeds:
    """Steps/s by accelerator as the file names it: alone, spread over nodes, and of both jobs of a pair. What cannot run is not there.

    ``refused``: pairs that were tried and cannot run, each with its two job types in both orders.
    """

    path: Path
    alone: dict[str, dict[JobType, float]]
    spread: dict[str, dict[JobType, float]]
    pairs: dict[str, dict[tuple[JobType, JobType], tuple[float, float]]]
    known: frozenset[JobType]
    refused: dict[str, frozenset[tuple[JobType, JobType]]]


@dataclass(frozen=True, slots=True)
class Row:
    """One job of a trace: where it stands, its type, steps in all, when it comes, and its weight. ``place`` starts every complaint."""

    place: str
    job_type: JobType
    steps: float
    arrival_s: float
    weight: float
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """A list of jobs with the cluster that belongs to it."""

    cluster: dict[str, int]
    rows: tuple[Row, ...]


def read_speeds(path: Path) -> Speeds:
    """The speeds of a throughputs file, perhaps packed by gzip. Raises ImportFileError."""
    content = _json(path)
    if not isinstance(content, dict) or not content:
        raise ImportFileError(f'{path}: must be an object such as {{"v100": {{...}}}}, with one entry for each type of GPU')
    alone: dict[str, dict[JobType, float]] = {}
    spread: dict[str, dict[JobType, float]] = {}
    pairs: dict[str, dict[tuple[JobType, JobType], tuple[float, float]]] = {}
    known: set[JobType] = set()
    refused: dict[str, frozenset[tuple[JobType, JobType]]] = {}
    for gpu, rows in content.items():
        if not isinstance(rows, dict):
            raise ImportFileError(f"{path}: '{gpu}': must be an object of job types, not {_shown(rows)}")
        found = {_job_type(path, gpu, key): row for key, row in rows.items()}
        known |= found.keys()
        target = spread if gpu.endswith(SPREAD) else alone
        speeds = {one: _alone(f"{path}: '{gpu}', {one}", row) for one, row in found.items()}
        target[gpu.removesuffix(SPREAD)] = {one: speed for one, speed in speeds.items() if speed > 0}
        if target is alone:
            pairs[gpu], refused[gpu] = _pairs(path, gpu, found)
    return Speeds(path, alone, spread, pairs, frozenset(known), refused)


def read_trace(path: Path) -> tuple[Row, ...]:
    """The jobs of a trace in its order. Raises ImportFileError."""
    rows = tuple(_row(path, number, line) for number, line in enumerate(text_of(path).splitlines(), start=1) if line.strip())
    if not rows:
        raise ImportFileError(f"{path}: lists no job; give a trace with one job in each line")
    return rows


def read_instance(path: Path) -> Instance:
    """A job list of POP: ``{"cluster": {gpu_type: count}, "jobs": [{"job_type", "scale_factor", "duration_s"}, ...]}``.

    Raises ImportFileError.
    """
    content = _json(path)
    if not isinstance(content, dict) or not isinstance(content.get("cluster"), dict) or not isinstance(content.get("jobs"), list):
        raise ImportFileError(f'{path}: must be an object with "cluster" (type of GPU: how many) and "jobs" (a list)')
    cluster = {str(name): _whole(f"{path}: cluster '{name}'", count) for name, count in content["cluster"].items()}
    return Instance(cluster, tuple(_listed(path, number, job) for number, job in enumerate(content["jobs"])))


# ---------------------------------------------------------------- speeds


def _job_type(path: Path, gpu: str, key: str) -> JobType:
    try:
        found = ast.literal_eval(key)
    except (ValueError, SyntaxError):
        found = None
    match found:
        case (str(model), int(gpus)) if model and gpus > 0 and not isinstance(gpus, bool):
            return model, gpus
    raise ImportFileError(
        f"{path}: '{gpu}': the job type {_shown(key)} must read ('model', scale_factor), with a whole factor of 1 or more"
    )


def _alone(place: str, row: Any) -> float:  # noqa: ANN401  (JSON)
    if not isinstance(row, dict) or ALONE not in row:
        raise ImportFileError(f'{place}: has no speed alone; give it under "{ALONE}", in steps/s (0.0: cannot run)')
    return _speed(place, row[ALONE])


def _pairs(
    path: Path, gpu: str, found: dict[JobType, dict[str, Any]]
) -> tuple[dict[tuple[JobType, JobType], tuple[float, float]], frozenset[tuple[JobType, JobType]]]:
    """Each pair once, as the side that comes first in the file tells it, and those that cannot run.

    Raises ImportFileError where the other side tells otherwise.
    """
    told = {
        (one, _job_type(path, gpu, other)): _pair(f"{path}: '{gpu}', {one} with {other}", speeds)
        for one, row in found.items()
        for other, speeds in row.items()
        if other != ALONE
    }
    pairs: dict[tuple[JobType, JobType], tuple[float, float]] = {}
    for (one, other), (first, second) in told.items():
        place = f"{path}: '{gpu}', {one} with {other}"
        back = told.get((other, one))
        if back is None:
            raise ImportFileError(
                f"{place}: the pair is not told from the other side; add {one} to {other}, with the two speeds turned round"
            )
        if not (math.isclose(first, back[1], rel_tol=FURTHEST) and math.isclose(second, back[0], rel_tol=FURTHEST)):
            raise ImportFileError(
                f"{place}: is [{first:g}, {second:g}], and from the other side [{back[0]:g}, {back[1]:g}]; make them agree"
            )
        if (other, one) not in pairs and first > 0 and one[1] == other[1]:
            pairs[one, other] = (first, second)
    return pairs, frozenset(pair for pair, (first, _) in told.items() if first == 0)


def _pair(place: str, speeds: Any) -> tuple[float, float]:  # noqa: ANN401  (JSON)
    if not isinstance(speeds, list) or len(speeds) != 2:  # noqa: PLR2004  (a pair)
        raise ImportFileError(f"{place}: must be two speeds, [steps/s, steps/s of the other], not {_shown(speeds)}")
    first, second = (_speed(place, speed) for speed in speeds)
    if (first > 0) != (second > 0):
        raise ImportFileError(f"{place}: one speed is 0 and the other is not; write [0.0, 0.0] for a pair that cannot run")
    return first, second


def _speed(place: str, speed: Any) -> float:  # noqa: ANN401  (JSON)
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0 <= speed <= LARGEST:
        raise ImportFileError(f"{place}: the speed must be a number of steps/s from 0 to {LARGEST:g}, not {_shown(speed)}; correct it")
    return float(speed)


# ---------------------------------------------------------------- jobs


def _row(path: Path, number: int, line: str) -> Row:
    place, fields = f"{path}: line {number}", line.split("\t")
    if len(fields) == LONG:
        model, steps, gpus, weight, slo, arrival = fields[0], fields[5], fields[6], fields[7], fields[8], fields[9]
    elif len(fields) == SHORT:
        (model, steps, arrival, gpus), weight, slo = (fields[0], *fields[4:]), "1", "-1"
    else:
        raise ImportFileError(f"{place}: has {len(fields)} fields between tabs, and a trace has {SHORT} or {LONG}; correct the line")
    if _number(place, "SLO", slo, lowest=-math.inf) > 0:
        raise ImportFileError(f"{place}: has an SLO of {slo}, and SLOs are not read; write -1, and give the job a deadline_s afterwards")
    return Row(
        place=place,
        job_type=(model.strip(), _gpus(place, gpus)),
        steps=_positive(place, "total_steps", steps),
        arrival_s=_number(place, "arrival_time", arrival),
        weight=_positive(place, "priority", weight),
    )


def _listed(path: Path, number: int, job: Any) -> Row:  # noqa: ANN401  (JSON)
    place = f"{path}: jobs[{number}]"
    if not isinstance(job, dict) or not isinstance(job.get("job_type"), str):
        raise ImportFileError(f'{place}: must be an object with "job_type", "scale_factor" and "duration_s", not {_shown(job)}')
    gpus = _whole(f"{place}: scale_factor", job.get("scale_factor", 1))
    if gpus < 1:
        raise ImportFileError(f"{place}: scale_factor: must be 1 or more; correct it")
    duration = _positive(place, "duration_s", str(job.get("duration_s")))
    return Row(place, (job["job_type"], gpus), steps=0.0, arrival_s=0.0, weight=1.0, duration_s=duration)


def _gpus(place: str, text: str) -> int:
    if not (text.strip().isascii() and text.strip().isdigit()) or int(text) < 1:
        raise ImportFileError(f"{place}: scale_factor must be a whole number of GPUs, 1 or more, not '{text[:40]}'; correct it")
    return int(text)


def _number(place: str, what: str, text: str, *, lowest: float = 0.0) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not lowest <= found <= LARGEST:
        raise ImportFileError(f"{place}: {what} must be a number from 0 to {LARGEST:g}, not '{text[:40]}'; correct it")
    return found


def _positive(place: str, what: str, text: str) -> float:
    found = _number(place, what, text)
    if found == 0:
        raise ImportFileError(f"{place}: {what} must be more than 0; correct it, or leave the job out")
    return found


def _whole(place: str, count: Any) -> int:  # noqa: ANN401  (JSON)
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= LARGEST:
        raise ImportFileError(f"{place}: must be a whole number, not {_shown(count)}; correct it")
    return count


def _json(path: Path) -> Any:  # noqa: ANN401  (JSON)
    def refuse(constant: str) -> NoReturn:
        raise ImportFileError(f"{path}: holds {constant}, which is no speed; write a number (0.0: cannot run)")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(name for number, (name, _) in enumerate(pairs) if name in {earlier for earlier, _ in pairs[:number]})
            raise ImportFileError(f"{path}: {_shown(twice)} is there twice; keep one of the two")
        return found

    try:
        return json.loads(text_of(path), parse_constant=refuse, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise ImportFileError(f"{path}: line {error.lineno}, column {error.colno}: is no JSON ({error.msg}); correct it") from None
    except RecursionError:
        raise ImportFileError(f"{path}: is nested too deeply; give one of Gavel's files") from None


def _shown(value: Any) -> str:  # noqa: ANN401  (JSON)
    return f"'{str(value)[:60]}'"


def numbered(rows: tuple[Row, ...]) -> Iterator[tuple[str, Row]]:
    """Every job with its name: ``j0``, ``j1``, ... in the order of the file."""
    return ((f"j{number}", row) for number, row in enumerate(rows))

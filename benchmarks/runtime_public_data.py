"""Reads the public measurements of runtimes: Sia and Pollux step times, Gavel's speeds, Lambda's and MLPerf's tables.

Gavel's file is MIT and may lie in ``benchmarks/data``; the others have no licence or are large, and lie in the shared data beside this
repository (``QUARTERMASTER_SHARED_DATA``). A missing folder raises ``AbsentDataError``, which says where it was looked for.
"""

from __future__ import annotations

import ast
import csv
import gzip
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.suite import SHARED
from models.runtime.scaling.law import Runs
from models.runtime.speeds.interference import JobType, PairSpeed
from models.runtime.speeds.transfer import Device, Speeds
from models.runtime.speeds.transfer import JobType as GangType

COMMITTED = Path(__file__).resolve().parent / "data"
SIA = SHARED / "runtime" / "sia_pollux"
LAMBDA = SHARED / "runtime" / "lambda"
MLPERF = SHARED / "runtime" / "mlperf_training_v5.0"
GAVEL = COMMITTED / "gavel" if (COMMITTED / "gavel").is_dir() else SHARED / "gavel"

JOBS = ("bert", "cifar10", "deepspeech2", "imagenet", "ncf", "yolov3")
CLUSTERS = ("aws", "azure", "dgx", "dgx-ext", "quad", "rtx")
GPUS = ("k80", "p100", "v100")
SPREAD = "_unconsolidated"
ALONE = "null"


class AbsentDataError(FileNotFoundError):
    """The measurements are not on this machine."""


def step_runs(folder: Path = SIA) -> dict[tuple[str, str], Runs]:
    """Runs of every (job, cluster): the files ``<job>__placements-<cluster>.csv`` and ``<job>__scalability-<cluster>.csv``.

    The files without a cluster repeat those of aws and are not read. A run that is listed twice (dgx-ext lists its placements under
    scalability again) counts once. Raises AbsentDataError, or ValueError for a file without one of its columns.
    """
    _require(folder)
    return {(job, cluster): _runs_of(folder, job, cluster) for job in JOBS for cluster in CLUSTERS}


def _runs_of(folder: Path, job: str, cluster: str) -> Runs:
    seen: dict[tuple[float, float, float, float], None] = {}
    for row in _rows(folder / f"{job}__placements-{cluster}.csv", ("placement", "local_bsz", "step_time")):
        on_nodes = [int(digit) for digit in row["placement"].split(".")[0]]
        seen[float(row["local_bsz"]), float(sum(on_nodes)), float(len(on_nodes)), float(row["step_time"])] = None
    for row in _rows(folder / f"{job}__scalability-{cluster}.csv", ("num_nodes", "num_replicas", "local_bsz", "step_time")):
        seen[float(row["local_bsz"]), float(row["num_replicas"]), float(row["num_nodes"]), float(row["step_time"])] = None
    batch, gpus, nodes, step_s = np.array(list(seen)).T
    return Runs(batch, gpus, nodes, step_s)


@dataclass(frozen=True, slots=True)
class Gavel:
    """Gavel's speeds: one-GPU pairs by GPU type (normalised by the speed alone), their job types, and the table of all speeds alone.

    ``refused``: how many one-GPU pairs have speed 0 (they do not fit into memory together) by GPU type; they are in no list of pairs.
    """

    jobs: tuple[JobType, ...]
    pairs: dict[str, list[PairSpeed]]
    refused: dict[str, int]
    speeds: Speeds


def gavel(folder: Path = GAVEL) -> Gavel:
    """Reads ``simulation_throughputs.json``, compressed (``.json.gz``) or not. Raises AbsentDataError."""
    path = folder / "simulation_throughputs.json"
    if not path.is_file():
        path = folder / "simulation_throughputs.json.gz"
    _require(path)
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    document: dict[str, dict[str, dict[str, Any]]] = json.loads(text)
    table = {gpu: {ast.literal_eval(key): row for key, row in rows.items()} for gpu, rows in document.items()}
    gangs = list(dict.fromkeys(gang for rows in table.values() for gang in rows))
    singles = [name for name, gpus in gangs if gpus == 1]
    jobs = tuple(JobType(name, _family(name), _batch(name)) for name in singles)
    pairs, refused = {}, {}
    for gpu in GPUS:
        pairs[gpu], refused[gpu] = _pairs(table[gpu], singles)
    devices = tuple(Device(gpu.removesuffix(SPREAD), not gpu.endswith(SPREAD)) for gpu in table)
    alone = np.array([[rows.get(gang, {}).get(ALONE, 0.0) for rows in table.values()] for gang in gangs], dtype=np.float64)
    alone[alone <= 0] = np.nan  # 0: the job does not run there
    types = tuple(GangType(name, _family(name), _batch(name), gpus) for name, gpus in gangs)
    return Gavel(jobs, pairs, refused, Speeds(types, devices, alone))


def _pairs(rows: dict[tuple[str, int], dict[str, Any]], names: list[str]) -> tuple[list[PairSpeed], int]:
    """The unordered pairs of one-GPU jobs of one GPU type, and how many cannot share."""
    found, refused = [], 0
    for place, first in enumerate(names):
        for second in names[place:]:
            both = rows[first, 1].get(str((second, 1)))
            if both is None:
                continue
            if min(both) <= 0:
                refused += 1
                continue
            found.append(PairSpeed(first, second, both[0] / rows[first, 1][ALONE], both[1] / rows[second, 1][ALONE]))
    return found, refused


def _family(name: str) -> str:
    return re.sub(r" \(.*", "", name)


def _batch(name: str) -> float:
    found = re.search(r"batch size (\d+)", name)
    return float(found.group(1)) if found else 1.0


class Throughput(NamedTuple):
    """One measured machine of Lambda's tables: GPU kind, GPUs, task, precision, and samples/s (or the task's own unit)."""

    machine: str
    gpu: str
    gpus: int
    task: str
    precision: str
    per_s: float


def lambda_machines(folder: Path = LAMBDA) -> list[Throughput]:
    """The single machines of the v2 tables, whose names say the GPUs: ``..._8xH100_80GB_SXM5_...``. Raises AbsentDataError."""
    _require(folder)
    found = []
    for precision in ("fp16", "fp32"):
        for row in _rows(folder / f"pytorch-train-throughput-v2-{precision}.csv", ("",)):
            name = row.pop("")
            match = re.search(r"_(\d+)x([A-Z]+\d+_\d+GB(?:_SXM5|_SXM|_PCIe)?)_", name)
            if match:
                found += _throughputs(name, match.group(2), int(match.group(1)), precision, row)
    return found


def lambda_kinds(folder: Path = LAMBDA) -> list[Throughput]:
    """The joint table of v1 and v2, one row per GPU kind and number of GPUs. Raises AbsentDataError."""
    _require(folder)
    found = []
    for precision in ("fp16", "fp32"):
        for row in _rows(folder / f"v1_v2_pytorch-train-throughput-{precision}.csv", ("name_gpu", "num_gpu")):
            name, gpus = row.pop("name_gpu"), int(float(row.pop("num_gpu")))
            del row["watt"], row["price"]
            gpu = re.sub(r"\b\d+x ", "", name).removeprefix("LambdaCloud ")
            found += _throughputs(name, gpu, gpus, precision, row)
    return found


def _throughputs(machine: str, gpu: str, gpus: int, precision: str, row: dict[str, str]) -> list[Throughput]:
    """The tasks of one row; blanks and zeros were not run."""
    filled = {task: float(value) for task, value in row.items() if value}
    return [Throughput(machine, gpu, gpus, task, precision, value) for task, value in filled.items() if value > 0]


def mlperf_minutes(folder: Path = MLPERF) -> dict[tuple[str, str, str], dict[int, list[float]]]:
    """Minutes to train of the successful runs by (organisation, accelerator, benchmark) and number of accelerators."""
    _require(folder)
    found: dict[tuple[str, str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in _rows(folder / "results.csv", ("org", "accelerator", "benchmark", "accelerators", "status", "minutes")):
        if row["status"] == "success" and row["minutes"]:
            found[row["org"], row["accelerator"], row["benchmark"]][int(row["accelerators"])].append(float(row["minutes"]))
    return {key: dict(sizes) for key, sizes in found.items()}


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    _require(path)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path.name} has no column {missing[0]!r}; it has {', '.join(reader.fieldnames or ())}")
        return list(reader)


def _require(path: Path) -> None:
    if not path.exists():
        place = f"{path.parent.name}/{path.name}"
        raise AbsentDataError(f"{place} is not on this machine: put it into the shared data or set QUARTERMASTER_SHARED_DATA")

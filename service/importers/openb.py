"""Reads Alibaba's GPU cluster trace (cluster-trace-gpu-v2023, "openb") as a placement problem.

Every pod is a job of one worker, without a value of its own: priority 1 and value 1, whatever its quality-of-service
class. The trace names no racks, so the topology stays empty, and no GPU memory, so that is not limited. Times are not
read: all pods are known at once.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from models.placement.schema import GoalName, Job, Node, Problem
from service.importers.failures import ImportFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ImportFileError", "import_openb"]

MILLI = 1000
MIB_PER_GIB = 1024
GOALS = (GoalName.allocated_gpus, GoalName.placed_value)
NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")  # gpu_spec may follow; others are not read
ARRIVAL_COLUMNS = ("name",)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a CSV file: its place, and its values by column."""

    path: Path
    line: int
    values: dict[str, str]

    def error(self, column: str, what: str) -> ImportFileError:
        return ImportFileError(f"{self.path}: line {self.line}, column '{column}': {what}")

    def name(self, column: str) -> str:
        value = self.values[column].strip()
        if not value:
            raise self.error(column, "is empty; give it a name")
        return value

    def count(self, column: str) -> int:
        """A whole number that is not negative."""
        text = self.values[column].strip()
        if not (text.isascii() and text.isdigit()):
            raise self.error(column, f"must be a whole number of 0 or more, not '{text}'; correct it")
        return int(text)


def import_openb(nodes_csv: Path, pods_csv: Path, arrivals_csv: Path | None = None) -> Problem:
    """The trace as a placement problem with the goals ``allocated_gpus``, then ``placed_value``.

    Jobs come in the order of ``arrivals_csv``; a pod that arrives again is a further job ``<pod>#2``, ``<pod>#3``.
    Without arrivals every pod is one job, in the order of ``pods_csv``. Cores are milli-cores / 1000, GiB are MiB / 1024.

    Raises ImportFileError.
    """
    nodes = _nodes(nodes_csv)
    pods = _pods(pods_csv)
    jobs = tuple(pods.values()) if arrivals_csv is None else tuple(_arrivals(arrivals_csv, pods, pods_csv))
    try:
        return Problem(nodes=nodes, jobs=jobs, goals=GOALS)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = str(first.get("ctx", {}).get("error", first["msg"])).splitlines()[0]
        raise ImportFileError(f"{nodes_csv} and {pods_csv} do not make a problem: {what}") from None


def _nodes(path: Path) -> tuple[Node, ...]:
    found: dict[str, Node] = {}
    for row in _rows(path, NODE_COLUMNS):
        name, gpus, model = row.name("sn"), row.count("gpu"), row.values["model"].strip()
        if name in found:
            raise row.error("sn", f"the node '{name}' is named twice; keep one of the lines")
        if gpus and not model:
            raise row.error("model", f"the node has {gpus} GPUs of no model; name the model")
        if model and not gpus:
            raise row.error("gpu", f"the node has 0 GPUs of model {model}; give it GPUs or leave the model empty")
        found[name] = Node(
            id=name,
            gpu_model=model or None,
            gpus=gpus,
            cpu_cores=row.count("cpu_milli") / MILLI,
            memory_gib=row.count("memory_mib") / MIB_PER_GIB,
        )
    if not found:
        raise ImportFileError(f"{path}: lists no node; give the node list of the trace")
    return tuple(found.values())


def _pods(path: Path) -> dict[str, Job]:
    found: dict[str, Job] = {}
    for row in _rows(path, POD_COLUMNS):
        name = row.name("name")
        if name in found:
            raise row.error("name", f"the pod '{name}' is named twice; keep one of the lines (repeats belong in the arrivals)")
        found[name] = Job(
            id=name,
            gpus_per_worker=_gpus(row),
            cpu_cores=row.count("cpu_milli") / MILLI,
            memory_gib=row.count("memory_mib") / MIB_PER_GIB,
            model_speeds=dict.fromkeys((model.strip() for model in row.values.get("gpu_spec", "").split("|") if model.strip()), 1.0),
        )
    return found


def _gpus(row: _Row) -> float:
    """Whole GPUs, or the share of one GPU in thousandths."""
    count, milli = row.count("num_gpu"), row.count("gpu_milli")
    if count == 0:
        return 0.0
    if milli == MILLI:
        return float(count)
    if count > 1:
        raise row.error("gpu_milli", f"a pod of {count} GPUs uses them whole: must be {MILLI}, not {milli}")
    if not 0 < milli < MILLI:
        raise row.error("gpu_milli", f"must be from 1 to {MILLI} thousandths of a GPU, not {milli}")
    return milli / MILLI


def _arrivals(path: Path, pods: dict[str, Job], pods_csv: Path) -> Iterator[Job]:
    times: Counter[str] = Counter()
    for row in _rows(path, ARRIVAL_COLUMNS):
        name = row.name("name")
        if name not in pods:
            raise row.error("name", f"there is no pod '{name}' in {pods_csv}; use the pod list that belongs to these arrivals")
        times[name] += 1
        yield pods[name] if times[name] == 1 else pods[name].model_copy(update={"id": f"{name}#{times[name]}"})


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[_Row]:
    """The lines of a CSV file; raises ImportFileError for a file that cannot be read or lacks one of ``columns``."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                have = ", ".join((reader.fieldnames or ())[:12]) or "nothing"
                raise ImportFileError(
                    f"{path}: line 1: there is no column '{missing[0]}'; the file needs {', '.join(columns)} and has {have[:200]}"
                )
            for values in reader:
                row = _Row(path, reader.line_num, values)
                if None in values or None in values.values():
                    raise ImportFileError(
                        f"{path}: line {row.line}: has not as many fields as line 1 ({len(reader.fieldnames or ())}); correct the line"
                    )
                yield row
    except OSError as error:
        raise ImportFileError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()}); check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImportFileError(f"{path}: is not a CSV file in UTF-8 ({error}); give one of the trace's files") from None

"""Alibaba's GPU cluster trace ("openb"): every pod that ran is a job of one worker. And its node list.

A job comes at ``creation_time`` and runs from ``scheduled_time`` to ``deletion_time``. Pods that never ran (``Pending``) have no
duration and are left out. The record ends at one time for all: pods that ran on are cut there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.placement.online.state import MILLI, NodeSpec, Request
from service.replay.jobs import ReplayError, Trace, TraceJob, ordered
from service.replay.rows import read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from service.replay.rows import Row
    from service.replay.traces import Reading

NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
TIMES = ("creation_time", "scheduled_time", "deletion_time")
AMOUNTS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")  # gpu_spec may follow; others are not read


def read_openb(path: Path, _reading: Reading) -> Trace:
    """The trace of a pod list. Raises ReplayError."""
    jobs: list[TraceJob] = []
    names: set[str] = set()
    pending = 0
    for row in read_rows(path, (*AMOUNTS, *TIMES)):
        name = _new_name(row, names)
        if not row.text("scheduled_time"):
            pending += 1
            continue
        created_s, scheduled_s, deleted_s = (row.number(column) for column in TIMES)
        if deleted_s <= scheduled_s:
            raise row.error("deletion_time", f"must be later than scheduled_time ({scheduled_s:g}), not {deleted_s:g}; correct it")
        jobs.append(TraceJob(_request(row, name), created_s, deleted_s - scheduled_s))
    notes = [f"{pending:,} pods never ran and are left out"] if pending else []
    return ordered(str(path), jobs, notes)


def read_openb_requests(path: Path) -> list[Request]:
    """What every pod of a pod list asks for, whether it ever ran or not. Raises ReplayError."""
    names: set[str] = set()
    found = [_request(row, _new_name(row, names)) for row in read_rows(path, AMOUNTS)]
    if not found:
        raise ReplayError(f"{path}: lists no pod; give a pod list of the trace")
    return found


def read_openb_nodes(path: Path) -> list[NodeSpec]:
    """The nodes of a node list. Raises ReplayError."""
    found: dict[str, NodeSpec] = {}
    for row in read_rows(path, NODE_COLUMNS):
        name, gpus, model = row.name("sn"), row.count("gpu"), row.text("model")
        if name in found:
            raise row.error("sn", f"the node '{name}' is named twice; keep one of the lines")
        if gpus and not model:
            raise row.error("model", f"the node has {gpus} GPUs of no model; name the model")
        found[name] = NodeSpec(name, gpus, model or None, row.count("cpu_milli"), row.count("memory_mib"))
    if not found:
        raise ReplayError(f"{path}: lists no node; give the node list of the trace")
    return list(found.values())


def _new_name(row: Row, names: set[str]) -> str:
    name = row.name("name")
    if name in names:
        raise row.error("name", f"the pod '{name}' is named twice; keep one of the lines")
    names.add(name)
    return name


def _request(row: Row, name: str) -> Request:
    gpus, milli = row.count("num_gpu"), row.count("gpu_milli")
    if gpus and not (milli == MILLI or (gpus == 1 and 0 < milli < MILLI)):
        raise row.error("gpu_milli", f"must be {MILLI}, or from 1 to {MILLI - 1} for a pod of one GPU, not {milli}; correct it")
    models = frozenset(model.strip() for model in row.text("gpu_spec").split("|") if model.strip())
    cpu_milli, memory_mib = row.count("cpu_milli"), row.count("memory_mib")
    if not gpus:
        return Request(name, cpu_milli=cpu_milli, memory_mib=memory_mib)
    return Request(name, gpus, milli, cpu_milli, memory_mib, models=models)

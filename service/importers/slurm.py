"""Reads a folder of what Slurm's commands printed: squeue.json, sinfo.json (or nodes.json), topology.txt, snapshot.json.

``quartermaster slurm snapshot --out DIR`` writes one; by hand it is ``squeue --json``, ``sinfo --json`` (from 23.02 on:
``scontrol show nodes --json``) and ``scontrol show topology``. The outputs are read as the plugin reads them
(``service/plugins/slurm/reading.py``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from service.importers.failures import ImportFileError
from service.plugins.slurm.files import JOBS, NODES, TAKEN, SlurmFiles, SlurmFilesError, load
from service.plugins.slurm.notation import NotationError, hosts, text, whole, words
from service.plugins.slurm.reading import PINNED, RUNNING, OptIn, snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from service.plugins.cluster import SeenJob, Snapshot

SHOWN_NODES = "nodes.json"  # scontrol show nodes --json
CURE = "save `squeue --json` and `sinfo --json` into it, or let `quartermaster slurm snapshot --out` write it"


def read_slurm(folder: Path, taken_at: float | None = None, opt_in: OptIn | None = None) -> Snapshot:
    """The cluster that the folder tells of, at ``taken_at`` (seconds since the epoch).

    Without a time, the one in snapshot.json, else that of the file squeue.json itself. Raises ImportFileError: a file is missing, is
    no JSON, or lists no node or no jobs.
    """
    if folder.is_file():
        raise ImportFileError(f"{folder}: is a file; give the folder that it lies in, with {JOBS}, {NODES} and topology.txt")
    try:
        files = load(folder)
    except SlurmFilesError as error:
        raise ImportFileError(str(error)) from None
    return seen(files if taken_at is None else replace(files, taken_at=taken_at), str(folder), opt_in)


def seen(files: SlurmFiles, name: str, opt_in: OptIn | None = None) -> Snapshot:
    """The cluster; ``name`` is what to call the files in messages. Raises ImportFileError."""
    if not isinstance(files.jobs.get("jobs"), list):
        raise ImportFileError(f"{name}: {JOBS}: /jobs: there is no list of jobs; {CURE}")
    found = snapshot(files, opt_in)
    if not found.nodes:
        raise ImportFileError(
            f"{name}: {NODES}: /nodes: no node is listed; of Slurm 23.02 and later save `scontrol show nodes --json` there"
        )
    rules = {job.id: job for job in snapshot(_all_waiting(files), opt_in).jobs if job.waits}
    records = {_name(record): record for record in files.jobs["jobs"] if isinstance(record, dict)}
    return replace(found, jobs=tuple(_told(job, records, rules) for job in found.jobs))


def _told(job: SeenJob, records: Mapping[str, Mapping[str, Any]], rules: Mapping[str, SeenJob]) -> SeenJob:
    """The job with what a plan of the waiting jobs alone needs not know.

    That is its priority; of a running one, whether it may be requeued, and the rules that it would have to keep elsewhere.
    """
    name = job.id.partition("@")[0]  # the parts of a job that Slurm dealt unevenly have one name
    record = records.get(name) or records.get(name.partition("_")[0])
    if record is None:
        return job
    job = replace(job, priority=whole(record.get("priority"), job.priority))
    if job.waits:
        return job
    job = replace(job, evictable=record.get("requeue") is True and bool(record.get("batch_flag", True)))
    rule = rules.get(name)
    if rule is None or len(job.running) != rule.workers or job.gpus_per_worker != rule.gpus_per_worker:
        return job
    return replace(job, gpu_models=rule.gpu_models, nodes_allowed=_named(record) or rule.nodes_allowed, together=rule.together)


def _named(record: Mapping[str, Any]) -> frozenset[str]:
    """The nodes that its user named, which it then keeps to; not those that a plan of ours has pinned it to."""
    if text(record.get("admin_comment")).strip('"').startswith(PINNED):
        return frozenset()
    try:
        return frozenset(hosts(record.get("required_nodes")))
    except NotationError:
        return frozenset()


def _all_waiting(files: SlurmFiles) -> SlurmFiles:
    """The same jobs as if none had started yet: read so, a running job tells what it asked for."""
    jobs = [
        {**record, "job_state": "PENDING", "state_reason": "None", "priority": 1, "hold": False, "required_nodes": ""}
        for record in files.jobs["jobs"]
        if isinstance(record, dict) and {state.upper() for state in words(record.get("job_state"))} & RUNNING
    ]
    return replace(files, jobs={"jobs": jobs})


def _name(record: Mapping[str, Any]) -> str:
    """The id of a job, of one task of an array, or of the tasks of an array that wait."""
    array = whole(record.get("array_job_id"))
    waits = bool(text(record.get("array_task_string")))
    return f"{array}_{whole(record.get('array_task_id'))}" if array and not waits else str(array or whole(record.get("job_id")))


__all__ = ["TAKEN", "read_slurm", "seen"]

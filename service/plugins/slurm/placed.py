"""Who has what: the running jobs with their GPUs on each node, and what is in use beyond them."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.plugins.cluster import SeenJob, SeenWorker
from service.plugins.slurm.asked import GPU, MIB_PER_GIB
from service.plugins.slurm.notation import NotationError, gres, hosts, number, text, tres, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from service.plugins.slurm.asked import Yard

NO_LIMIT_S = 364 * 86_400.0  # Slurm gives a job without a time limit a year
SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class Share:
    """What a job has on one node."""

    node: str
    gpus: tuple[int, ...] | None
    count: int
    cpus: float
    memory_mib: float


def running_jobs(record: Mapping[str, Any], identity: str, yard: Yard, warnings: list[str]) -> list[SeenJob]:
    """A running job: one with equal workers, or one for each size of worker (the first keeps the id) where Slurm dealt unevenly."""
    name = name_of(record)
    try:
        shares = [share for share in _shares(record, yard) if share.node in yard.nodes]
    except NotationError as error:
        warnings.append(f"job {name} runs, but where cannot be read: {error}; what it holds is taken from its nodes")
        return []
    sizes: dict[tuple[int, float, float], list[Share]] = defaultdict(list)
    for share in shares:
        sizes[share.count, share.cpus, share.memory_mib].append(share)
    return [
        SeenJob(
            id=name if at == 0 else f"{name}@{at + 1}",
            identity=identity,
            tenant=text(record.get("account")) or text(record.get("user_name")) or "default",
            workers=len(alike),
            gpus_per_worker=float(count),
            cpu_cores=cpus,
            memory_gib=memory_mib / MIB_PER_GIB,
            one_worker_per_node=True,
            running=tuple(SeenWorker(share.node, share.gpus) for share in alike),
            submitted_at=_seconds(record.get("submit_time")),
            started_at=_seconds(record.get("start_time")),
            ends_at=_end(record),
            display=f"{text(record.get('name')) or 'job'} ({name})",
        )
        for at, ((count, cpus, memory_mib), alike) in enumerate(sizes.items())
    ]


def name_of(record: Mapping[str, Any]) -> str:
    """What scontrol calls a job, or a task of an array that has a record of its own."""
    array = whole(record.get("array_job_id"))
    return f"{array}_{whole(record.get('array_task_id'))}" if array else str(whole(record.get("job_id")))


def _shares(record: Mapping[str, Any], yard: Yard) -> list[Share]:
    nodes = hosts(record.get("nodes"))
    told = record.get("gres_detail")
    details = told if isinstance(told, list) else []
    dealt = _dealt(record)
    even_cpus = math.ceil(max(whole(record.get("cpus")), 1) / max(len(nodes), 1))
    memory = number(record.get("memory_per_node"))
    even_mib = memory if memory is not None else tres(record.get("tres_alloc_str")).get("mem", 0.0) / max(len(nodes), 1)
    shares = []
    for at, node in enumerate(nodes):
        gpus, count = _gpus(details[at] if len(details) == len(nodes) else "")
        if not count and len(details) != len(nodes):
            count = _asked_of_each(record)
            gpus = None
        cores, memory_mib = dealt.get(node, (0, None))
        threads = _threads(yard, node, cores)
        shares.append(Share(node, gpus, count, float(cores * threads or even_cpus), even_mib if memory_mib is None else memory_mib))
    return shares


def _threads(yard: Yard, node: str, cores: int) -> int:
    """CPUs to a core: Slurm deals cores, and counts CPUs."""
    return yard.threads.get(node, 1) if cores else 1


def _gpus(detail: Any) -> tuple[tuple[int, ...] | None, int]:  # noqa: ANN401  (what JSON may hold)
    """Indices, or None where they are not told, and how many."""
    found = [one for one in gres(detail) if one.name == GPU and one.count > 0]
    if any(one.at is None for one in found):
        return None, int(sum(one.count for one in found))
    at = tuple(sorted({index for one in found for index in one.at or ()}))
    return at, len(at)


def _asked_of_each(record: Mapping[str, Any]) -> int:
    """GPUs on each node of a job whose details are not told."""
    return int(sum(one.count for one in gres(record.get("tres_per_node")) if one.name == GPU))


def _dealt(record: Mapping[str, Any]) -> dict[str, tuple[int, float | None]]:
    """Cores and MiB on each node. 22.05 lists them under ``allocated_nodes``, 24.05 under ``nodes.allocation``."""
    resources = record.get("job_resources")
    if not isinstance(resources, dict):
        return {}
    inner = resources.get("nodes")
    listed = resources.get("allocated_nodes") or (inner.get("allocation") if isinstance(inner, dict) else None) or ()
    found: dict[str, tuple[int, float | None]] = {}
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict):
            memory = one.get(
                "memory_allocated", (one.get("memory") or {}).get("allocated") if isinstance(one.get("memory"), dict) else None
            )
            found[text(one.get("nodename") or one.get("name"))] = (_cores(one.get("sockets")), number(memory))
    return found


def _cores(sockets: Any) -> int:  # noqa: ANN401  (what JSON may hold)
    """Cores that are allocated, in either shape of the tree."""
    if isinstance(sockets, dict):
        return sum(len(socket.get("cores") or ()) for socket in sockets.values() if isinstance(socket, dict))
    if isinstance(sockets, list):
        return sum(len(socket.get("cores") or ()) for socket in sockets if isinstance(socket, dict))
    return 0


def _end(record: Mapping[str, Any]) -> float | None:
    start, end = _seconds(record.get("start_time")), _seconds(record.get("end_time"))
    return None if end is None or (start is not None and end - start >= NO_LIMIT_S) else end


def time_limit_s(record: Mapping[str, Any]) -> float | None:
    """How long a job that waits may run; None where it has no limit, or Slurm does not tell it. Slurm tells minutes."""
    minutes = _seconds(record.get("time_limit"))
    return None if minutes is None or 60 * minutes >= NO_LIMIT_S else 60 * minutes


def _seconds(value: Any) -> float | None:  # noqa: ANN401  (what JSON may hold)
    found = number(value)
    return None if found is None or found <= 0 or not math.isfinite(found) else found


# ---------------------------------------------------------------- what no job accounts for


def in_use(nodes: Iterable[Mapping[str, Any]], running: Sequence[SeenJob]) -> list[SeenJob]:
    """A job on each node that holds what Slurm says is in use there and ``running`` does not hold."""
    held: dict[str, list[tuple[SeenJob, SeenWorker]]] = defaultdict(list)
    for job in running:
        for worker in job.running:
            held[worker.node].append((job, worker))
    return [found for node in nodes if (found := _beyond(node, held[text(node.get("name"))])) is not None]


def _beyond(node: Mapping[str, Any], here: Sequence[tuple[SeenJob, SeenWorker]]) -> SeenJob | None:
    name = text(node.get("name"))
    try:
        used, count = _gpus(node.get("gres_used"))
    except NotationError:
        used, count = None, 0
    gpus: tuple[int, ...] | None = None
    more = max(count - int(sum(job.gpus_per_worker for job, _ in here)), 0)
    if used is not None and all(worker.gpus is not None for _, worker in here):
        gpus = tuple(sorted(set(used) - {gpu for _, worker in here for gpu in worker.gpus or ()}))
        more = len(gpus)
    cpus = max(whole(node.get("alloc_cpus")) - sum(job.cpu_cores for job, _ in here), 0.0)
    gib = max(whole(node.get("alloc_memory")) / MIB_PER_GIB - sum(job.memory_gib for job, _ in here), 0.0)
    if more == 0 and cpus <= SLACK and gib <= SLACK:
        return None
    return SeenJob(
        id=f"(in use) {name}",
        identity=f"in use {name} {gpus} {more} {cpus} {gib}",
        gpus_per_worker=float(more),
        cpu_cores=cpus,
        memory_gib=gib,
        running=(SeenWorker(name, gpus),),
        display=f"what ends on {name}",
    )

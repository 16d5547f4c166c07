"""How much of the free GPU capacity the usual workers could not use: the measure behind the goal ``fragmentation``.

A task class m is a distinct demand of the problem's jobs and its popularity p_m is its share of their workers. On a
node n, F_n(m) is the free GPU capacity that a worker of class m cannot use: all of it when the worker does not fit
the node, otherwise the GPUs whose free share is too small for it. The node's fragmentation is sum_m p_m F_n(m), in GPUs.

Source: Q. Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient
Descent", USENIX ATC 2023. GPU memory is left out, as there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.contract import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.placement.schema import Problem


@dataclass(frozen=True, slots=True)
class TaskClass:
    """One distinct demand: GPUs, cores and GiB per worker, the GPU models it accepts (empty: any), its share of all workers."""

    gpus_per_worker: float
    cpu_cores: float
    memory_gib: float
    models: tuple[str, ...]
    popularity: float


@dataclass(frozen=True, slots=True)
class Free:
    """What is free on one node: the model of its GPUs, cores, GiB, and the free share (0 to 1) of each GPU."""

    gpu_model: str | None
    cpu_cores: float
    memory_gib: float
    gpus: tuple[float, ...]


def task_classes(problem: Problem) -> tuple[TaskClass, ...]:
    """The distinct demands of all jobs that use GPUs, running or waiting; popularities sum to 1."""
    workers: defaultdict[tuple[float, float, float, frozenset[str]], int] = defaultdict(int)
    for job in problem.jobs:
        if job.gpus_per_worker > 0:
            workers[job.gpus_per_worker, job.cpu_cores, job.memory_gib, frozenset(job.model_speeds)] += job.workers
    total = sum(workers.values())
    return tuple(
        TaskClass(gpus, cores, memory, tuple(sorted(models)), count / total) for (gpus, cores, memory, models), count in workers.items()
    )


def node_fragmentation(classes: Iterable[TaskClass], free: Free) -> float:
    """The node's fragmentation in GPUs: the expected free capacity that a worker drawn from ``classes`` cannot use."""
    total = sum(free.gpus)
    stranded: dict[float, float] = {}  # by GPUs per worker: what a worker cannot use, were cores and memory no matter
    lost = 0.0
    for task in classes:
        size = task.gpus_per_worker
        if size not in stranded:
            stranded[size] = _stranded(size, free.gpus)
        fits = (
            task.cpu_cores <= free.cpu_cores + TOLERANCE
            and task.memory_gib <= free.memory_gib + TOLERANCE
            and (not task.models or free.gpu_model in task.models)
        )
        lost += task.popularity * (stranded[size] if fits else total)
    return lost


def _stranded(size: float, gpus: Sequence[float]) -> float:
    """The free capacity in GPUs that a worker of ``size`` GPUs cannot use; all of it when too few GPUs suit the worker."""
    enough = min(size, 1.0) - TOLERANCE
    suited = sum(1 for share in gpus if share >= enough)
    if suited < max(size, 1.0):
        return sum(gpus)
    return sum(share for share in gpus if share < enough)


def cluster_fragmentation(classes: Sequence[TaskClass], nodes: Iterable[Free]) -> float:
    """The sum of the nodes' fragmentation in GPUs; nodes that are equally free are computed once."""
    known: dict[tuple[str | None, float, float, tuple[float, ...]], float] = {}
    total = 0.0
    for free in nodes:
        # Cores and GiB are sums of floats: rounded, they tell apart only what differs by more than the tolerance.
        key = (free.gpu_model, round(free.cpu_cores, 7), round(free.memory_gib, 7), tuple(sorted(free.gpus)))
        value = known.get(key)
        if value is None:
            value = known[key] = node_fragmentation(classes, free)
        total += value
    return total

"""What one Slurm job asks of each of its nodes, out of its record in ``squeue --json``.

A node of a job is a worker: Slurm starts all of them together. What cannot be said as equal workers on a fixed number of
nodes is refused with a reason; such a job is left to Slurm.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.plugins.slurm.notation import NotationError, gres, hosts, mib, number, satisfies, text, tres, whole, words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.plugins.cluster import SeenNode

GPU = "gpu"
MIB_PER_GIB = 1024.0
RESOURCES = ("tres_per_job", "tres_per_node", "tres_per_task", "tres_per_socket")


class NotPlannedError(ValueError):
    """The job asks for something that no plan can say; the message ends the sentence "job 12 is left to Slurm: ..."."""


@dataclass(frozen=True, slots=True)
class Asked:
    """So much on each of ``nodes`` nodes, out of ``allowed``."""

    nodes: int
    gpus: int
    gpu_models: tuple[str, ...]
    cpu_cores: float
    memory_gib: float
    allowed: frozenset[str]
    together: str | None = None


@dataclass(frozen=True, slots=True)
class Yard:
    """The nodes that jobs may ask for, by name, and the partitions each is in."""

    nodes: Mapping[str, SeenNode]
    partitions: Mapping[str, frozenset[str]]  # of each node
    features: Mapping[str, frozenset[str]]  # of each node
    threads: Mapping[str, int]  # CPUs to a core, of each node


def asked(job: Mapping[str, Any], yard: Yard) -> Asked:
    """What a waiting job asks for. Raises NotPlannedError."""
    try:
        return _asked(job, yard)
    except NotationError as error:
        raise NotPlannedError(str(error)) from None


def _asked(job: Mapping[str, Any], yard: Yard) -> Asked:
    _refuse_the_unsayable(job)
    nodes = max(whole(job.get("node_count"), 1), 1)
    most = whole(job.get("max_nodes"))
    if most and most != nodes:
        raise NotPlannedError(
            f"it takes {nodes} to {most} nodes, and Slurm decides how many; ask for one number (-N {nodes}) to have it planned"
        )
    allowed = _allowed(job, yard)
    exclusive = _exclusive(job)
    gpus, models = _gpus_per_node(job, nodes, max((yard.nodes[name].gpus for name in allowed), default=0))
    whole_node = _one_size(allowed, yard) if exclusive or _all_memory(job) else None
    total = tres(job.get("tres_req_str"))
    cpus = max(whole(job.get("cpus"), 1), math.ceil(total.get("cpu", 0)), 1)
    if exclusive and whole_node is not None:
        gpus, cores = whole_node.gpus, whole_node.cpu_cores
    else:
        cores = float(max(math.ceil(cpus / nodes), whole(job.get("minimum_cpus_per_node")), _per_gpu(job, "cpus_per_tres") * gpus))
    if _all_memory(job) and whole_node is not None:
        memory_gib = whole_node.memory_gib
    else:
        memory_gib = _memory_mib(job, nodes, cores, gpus, total) / MIB_PER_GIB
    return Asked(nodes, gpus, models, cores, memory_gib, allowed, _together(job))


def _refuse_the_unsayable(job: Mapping[str, Any]) -> None:
    """Raises NotPlannedError for what only Slurm itself can weigh."""
    if whole(job.get("het_job_id")):
        raise NotPlannedError("it is a part of a heterogeneous job")
    for name, what in (
        ("dependency", "it depends on other jobs"),
        ("licenses", "it needs licences"),
        ("resv_name", "it belongs to a reservation"),
        ("burst_buffer", "it needs a burst buffer"),
        ("tres_per_socket", "it asks for GPUs per socket"),
        ("required_nodes", "its user names the nodes (-w)"),
    ):
        if text(job.get(name)):
            raise NotPlannedError(what)
    if job.get("contiguous") is True:
        raise NotPlannedError("it asks for contiguous nodes")
    for name in RESOURCES:
        other = next((one for one in gres(job.get(name)) if one.name not in {GPU, "craynetwork"}), None)
        if other is not None:
            raise NotPlannedError(f"it asks for {other.name}, which plans do not count")


def _allowed(job: Mapping[str, Any], yard: Yard) -> frozenset[str]:
    """The nodes of its partitions that are not excluded and have the features."""
    partitions, excluded = set(words(job.get("partition"))), set(hosts(job.get("excluded_nodes")))
    constraint = text(job.get("features"))
    return frozenset(
        name
        for name in yard.nodes
        if name not in excluded
        and (not partitions or not partitions.isdisjoint(yard.partitions[name]))
        and (not constraint or satisfies(constraint, yard.features[name]))
    )


def _one_size(allowed: frozenset[str], yard: Yard) -> SeenNode:
    """A node of the only size there is among those allowed."""
    sizes = {(node.gpus, node.cpu_cores, node.memory_gib): node for node in (yard.nodes[name] for name in sorted(allowed))}
    if len(sizes) != 1:
        raise NotPlannedError("it takes nodes whole, and those it may have differ in size")
    return next(iter(sizes.values()))


def _exclusive(job: Mapping[str, Any]) -> bool:
    return "none" in words(job.get("shared")) or "true" in words(job.get("exclusive"))


def _all_memory(job: Mapping[str, Any]) -> bool:
    """``--mem=0``: all the memory of each node."""
    return number(job.get("memory_per_node")) == 0


def _gpus_per_node(job: Mapping[str, Any], nodes: int, most: int) -> tuple[int, tuple[str, ...]]:
    """GPUs on each node and their type; ``most`` is what the largest node has. Raises NotPlannedError when Slurm would divide them."""
    per_node, models = _of_gpus(job.get("tres_per_node"))
    per_task, task_models = _of_gpus(job.get("tres_per_task"))
    per_job, job_models = _of_gpus(job.get("tres_per_job"))
    if per_node:
        return per_node, models
    tasks, tasks_per_node = max(whole(job.get("tasks"), 1), 1), whole(job.get("tasks_per_node"))
    if per_task and tasks_per_node and tasks_per_node * nodes == tasks:
        return per_task * tasks_per_node, task_models
    total = per_job or per_task * tasks
    if total % nodes or (nodes > 1 and total // nodes != most) or total // nodes > most:
        raise NotPlannedError(
            f"it asks for {total} GPUs in all, and Slurm decides how many of them on each node; ask for --gpus-per-node to have it planned"
        )
    return total // nodes, job_models or task_models


def _of_gpus(listed: Any) -> tuple[int, tuple[str, ...]]:  # noqa: ANN401  (what JSON may hold)
    found = [one for one in gres(listed) if one.name == GPU]
    if len(found) > 1:
        raise NotPlannedError("it asks for GPUs of several types at once")
    return (int(found[0].count), (found[0].kind,) if found[0].kind else ()) if found else (0, ())


def _memory_mib(job: Mapping[str, Any], nodes: int, cores: float, gpus: int, total: Mapping[str, float]) -> float:
    """On each node. What Slurm wrote down in all is trusted over what each of the options says alone."""
    each = number(job.get("memory_per_node"))
    if each is not None and math.isfinite(each):
        return each
    per_gpu = _per_gpu(job, "memory_per_tres")
    per_cpu = number(job.get("memory_per_cpu"), 0.0) or 0.0
    return max(total.get("mem", 0.0) / nodes, per_gpu * gpus, 0.0 if per_gpu else per_cpu * cores)


def _per_gpu(job: Mapping[str, Any], name: str) -> float:
    """``gres:gpu:4096`` or ``gres/gpu=4G``: CPUs, or MiB, for each GPU."""
    return next((mib(re.split("[:=]", part)[-1]) for part in words(job.get(name)) if GPU in part), 0.0)


def _together(job: Mapping[str, Any]) -> str | None:
    """``--switches=1`` asks for one leaf switch; more of them are left to Slurm. 22.05 does not tell in JSON."""
    switches = whole(job.get("required_switches"))
    if switches > 1:
        raise NotPlannedError(f"it asks for at most {switches} switches")
    return "rack" if switches == 1 else None

"""Why GPUs stay free: what the rest of their node still allows, held against one worker of each job that waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.contract import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.placement.schema import Job, Problem
    from service.report.placement_state import NodeState

MOST_TESTS = 5_000_000  # node and demand pairs that are tried; a larger cluster is drawn without causes

CAUSES = {
    "cpu": "the node's CPU cores are used up",
    "memory": "the node's memory is used up",
    "both": "CPU cores and memory are used up",
    "pieces": "the free pieces of GPU are too small, or of a model that is not accepted",
    "closed": "the node takes no new work (cordoned)",
    "usable": "one of the waiting jobs would still fit",
}


@dataclass(frozen=True, slots=True)
class Cause:
    """Free GPUs with one cause in common; ``share`` is their part of all free GPUs."""

    name: str
    text: str
    gpus: float
    share: float


@dataclass(frozen=True, slots=True)
class Free:
    """All free GPUs: by cause, whose demand they were held against, and for each node whether its free GPUs are unusable.

    ``tried`` is False when there were too many nodes and demands to look.
    """

    gpus: float
    causes: tuple[Cause, ...]
    held_against: str
    unusable: tuple[bool, ...]
    tried: bool


@dataclass(frozen=True, slots=True)
class _Demand:
    """One worker of a job, as far as a node is concerned."""

    gpus: float
    cpu_cores: float
    memory_gib: float
    models: frozenset[str]
    labels: tuple[tuple[str, str], ...]
    tenant: str

    def accepts(self, place: NodeState) -> bool:
        node = place.node
        return (
            (not self.models or node.gpu_model in self.models)
            and all(node.labels.get(label) == wanted for label, wanted in self.labels)
            and (node.reserved_for is None or node.reserved_for == self.tenant)
        )


def free_gpus(problem: Problem, after: Sequence[NodeState], left_out: Sequence[Job]) -> Free:
    """The free GPUs of a plan and why they are free. Gang, spread and quota rules are not looked at: this is a picture, not a proof."""
    waiting = [job for job in left_out if job.gpus_per_worker and job.running is None]
    demands = _demands(waiting or problem.jobs)
    tried = len(demands) * sum(1 for place in after if any(room > TOLERANCE for room in place.free()))
    sums, unusable = dict.fromkeys(CAUSES, 0.0), []
    total = sum(sum(place.free()) for place in after if place.node.state != "drained")
    for place in after:
        room = [share for share in place.free() if share > TOLERANCE]
        if place.node.state == "drained" or not room or tried > MOST_TESTS:
            unusable.append(False)
            continue
        cause = "closed" if place.node.state == "cordoned" else _cause(place, room, demands)
        sums[cause] += sum(room)
        unusable.append(cause != "usable")
    causes = tuple(Cause(name, CAUSES[name], gpus, gpus / total) for name, gpus in sorted(sums.items(), key=lambda item: -item[1]) if gpus)
    return Free(total, causes, "the waiting jobs" if waiting else "all jobs of the problem", tuple(unusable), tried <= MOST_TESTS)


def _demands(jobs: Iterable[Job]) -> list[_Demand]:
    """Distinct demands, the least first; a demand that another one undercuts in everything is left out."""
    kept: dict[object, list[_Demand]] = {}
    for job in sorted(jobs, key=lambda job: (job.cpu_cores, job.memory_gib)):
        if not job.gpus_per_worker:
            continue
        models, labels = frozenset(job.model_speeds), tuple(sorted(job.node_selector.items()))
        same = kept.setdefault((job.gpus_per_worker, models, labels, job.tenant), [])
        if not any(other.cpu_cores <= job.cpu_cores and other.memory_gib <= job.memory_gib for other in same):
            same.append(_Demand(job.gpus_per_worker, job.cpu_cores, job.memory_gib, models, labels, job.tenant))
    return [demand for same in kept.values() for demand in same]


def _cause(place: NodeState, room: Sequence[float], demands: Iterable[_Demand]) -> str:
    """The single thing that keeps every demand off the node, or ``usable``."""
    largest, whole = max(room), sum(1 for share in room if share > 1 - TOLERANCE)
    cores, memory = place.node.cpu_cores - place.cpu_cores + TOLERANCE, place.node.memory_gib - place.memory_gib + TOLERANCE
    cpu = ram = both = False
    for demand in demands:
        if (demand.gpus > whole if demand.gpus >= 1 else demand.gpus > largest + TOLERANCE) or not demand.accepts(place):
            continue
        no_cpu, no_memory = demand.cpu_cores > cores, demand.memory_gib > memory
        if not (no_cpu or no_memory):
            return "usable"
        cpu, ram, both = cpu or not no_memory, ram or not no_cpu, True
    return "cpu" if cpu else "memory" if ram else "both" if both else "pieces"

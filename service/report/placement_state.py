"""What each node carries under a plan: who holds which part of each GPU, and how much CPU and memory is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.placement.schema import JobPlacement, Node, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(slots=True)
class NodeState:
    """One node under a plan. ``holders[g]`` lists (index of the job, share of the GPU); ``without_gpu`` counts other workers."""

    node: Node
    cpu_cores: float = 0.0
    memory_gib: float = 0.0
    without_gpu: int = 0
    holders: list[list[tuple[int, float]]] = field(default_factory=list)

    @property
    def allocated(self) -> float:
        """GPUs in use, fractions counted as such."""
        return sum(share for held in self.holders for _, share in held)

    def free(self) -> Iterator[float]:
        """The free share of each GPU."""
        for held in self.holders:
            yield max(0.0, 1.0 - sum(share for _, share in held))


def states(problem: Problem, placements: Iterable[JobPlacement]) -> list[NodeState]:
    """Every node of the problem, in its order, under the placements; places that do not exist are passed over."""
    found = {node.id: NodeState(node, holders=[[] for _ in range(node.gpus)]) for node in problem.nodes}
    index = {job.id: place for place, job in enumerate(problem.jobs)}
    for placement in placements:
        place = index.get(placement.job)
        if place is None:
            continue
        job = problem.jobs[place]
        for worker in placement.workers:
            state = found.get(worker.node)
            if state is None:
                continue
            state.cpu_cores += job.cpu_cores
            state.memory_gib += job.memory_gib
            state.without_gpu += not worker.gpus
            for gpu in worker.gpus:
                if gpu < len(state.holders):
                    state.holders[gpu].append((place, min(1.0, job.gpus_per_worker)))
    return list(found.values())


def running_placements(problem: Problem) -> tuple[JobPlacement, ...]:
    """Where jobs run now."""
    return tuple(JobPlacement(job=job.id, workers=job.running.workers) for job in problem.jobs if job.running is not None)

"""What jobs that share a GPU leave of each other's speed in a plan: predicted, told, and no part of any goal.

Of two jobs the logit of the speed is level + sensitivity of the one + pressure of the other, as ``models/runtime/README.md`` says under
"Interference". Three or more were never fitted: what each of the others costs in time adds up, which is exact where they take turns.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.runtime.speeds.interference import EDGE, SLOWEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.placement.schema import Interference, Problem, SharingClass, WorkerPlace

FITTED = 2  # jobs on one GPU that the model was made for


@dataclass(frozen=True, slots=True)
class SharedGpu:
    """One GPU with several workers, by the ids of their jobs (a job twice where two of its workers are there).

    ``speeds``: of each relative to alone; None where a class is missing. ``extrapolated``: there are more than two.
    """

    node: str
    gpu: int
    jobs: tuple[str, ...]
    speeds: tuple[float | None, ...]

    @property
    def extrapolated(self) -> bool:
        """Whether more workers share the GPU than the model was made for."""
        return len(self.jobs) > FITTED


def shared_gpus(problem: Problem, placed: Mapping[str, Sequence[WorkerPlace]]) -> tuple[SharedGpu, ...]:
    """Every GPU that several workers share, in the order of nodes and indices; ``placed`` has the workers of each job on known nodes."""
    fractions = {job.id for job in problem.jobs if 0 < job.gpus_per_worker < 1}
    here: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for job, workers in placed.items():
        if job in fractions:
            for worker in workers:
                for gpu in worker.gpus:
                    here[worker.node, gpu].append(job)
    model = problem.interference
    classes = {job: group for group in model.classes for job in group.jobs} if model is not None else {}
    order = {node.id: place for place, node in enumerate(problem.nodes)}
    found = sorted(((at, tuple(jobs)) for at, jobs in here.items() if len(jobs) > 1), key=lambda one: (order[one[0][0]], one[0][1]))
    return tuple(SharedGpu(node, gpu, jobs, _speeds(model, [classes.get(job) for job in jobs])) for (node, gpu), jobs in found)


def sharing_metrics(problem: Problem, placed: Mapping[str, Sequence[WorkerPlace]]) -> dict[str, float]:
    """Workers that share a GPU, and their mean and largest slow-down (alone over shared speed); nothing without an interference model."""
    if problem.interference is None:
        return {}
    gpus = shared_gpus(problem, placed)
    slow = [1.0 / speed for gpu in gpus for speed in gpu.speeds if speed is not None]
    return {
        "sharing_workers": float(sum(len(gpu.jobs) for gpu in gpus)),
        "mean_slow_down": math.fsum(slow) / len(slow) if slow else 1.0,
        "worst_slow_down": max(slow, default=1.0),
    }


def _speeds(model: Interference | None, classes: Sequence[SharingClass | None]) -> tuple[float | None, ...]:
    """The speed of each worker beside all others, None where its own class or that of another is not known."""
    if model is None or any(one is None for one in classes):
        return (None,) * len(classes)
    known = [one for one in classes if one is not None]
    return tuple(_beside(model, one, [other for at, other in enumerate(known) if at != place]) for place, one in enumerate(known))


def _beside(model: Interference, one: SharingClass, others: Sequence[SharingClass]) -> float:
    return 1.0 / (1.0 + math.fsum(1.0 / pair_speed(model, one, other) - 1.0 for other in others))


def pair_speed(model: Interference, one: SharingClass, other: SharingClass) -> float:
    """The speed of ``one`` beside ``other``, relative to alone, between SLOWEST and 1."""
    inside = 1.0 / (1.0 + math.exp(-(model.level + one.sensitivity + other.pressure)))
    return min(1.0, max(SLOWEST, (inside - EDGE) / (1.0 - 2.0 * EDGE)))

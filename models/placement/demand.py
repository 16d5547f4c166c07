"""The waiting jobs and the free nodes of a placement problem, grouped by what a relaxation can tell apart.

A *shape* is what one worker needs and where it may go; a *wish* is a group of alike jobs that want workers of one shape
at one speed; a *stock* is a group of nodes with the same things free. The grouping is coarser than the classes of
``classes.py``: it forgets rules that the relaxation forgets (colocation, spread, anti-affinity), which only ever makes
a bound weaker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE
from models.placement.ledger import SLACK
from models.placement.schema import GoalName

if TYPE_CHECKING:
    from models.placement.ledger import Ledger
    from models.placement.schema import Job

MERGED_GRID = 20  # parts of a GPU to which free shares of merged stocks are rounded up
MOST_PER_NODE = 10_000.0  # workers of a shape without any size on one node


@dataclass(frozen=True, slots=True)
class Shape:
    """What one worker needs, and the kinds of node (see ``Hosts.kind_of``) that may take it."""

    gpus: float
    gpu_memory_gib: float
    cpu_cores: float
    memory_gib: float
    kinds: frozenset[int]

    @property
    def share(self) -> float:
        """The fraction of a GPU, 0.0 for a worker with whole GPUs or none."""
        return self.gpus if self.gpus < 1 else 0.0

    @property
    def whole(self) -> int:
        """The number of whole GPUs, 0 for a share."""
        return int(self.gpus) if self.gpus >= 1 else 0

    @property
    def gpus_used(self) -> int:
        """The number of GPUs that it uses, wholly or in part."""
        return max(self.whole, int(self.gpus > 0))


@dataclass(frozen=True, slots=True)
class Wish:
    """Alike jobs (positions in ``problem.jobs``): each wants ``workers`` workers, of any of ``options``.

    An option is (shape number, speed): jobs that run at different speeds on different models have several.
    """

    jobs: tuple[int, ...]
    workers: int
    fewest: int
    weight: float  # priority * value of one job
    tenant: str
    options: tuple[tuple[int, float], ...]

    def worth(self, goal: GoalName, gpus: float, speed: float) -> float:
        """What one worker at ``speed`` adds to a goal that counts placed jobs; 0.0 for the other goals."""
        if goal is GoalName.placed_value:
            return self.weight * speed / self.workers
        return gpus if goal is GoalName.allocated_gpus else 0.0


@dataclass(slots=True)
class Stock:
    """Nodes of one kind with the same things free, by position; ``slots`` are the free shares of partly used GPUs, descending.

    A stock with ``members`` stands for all of them as one large node: see ``merged``.
    """

    kind: int
    nodes: list[int] = field(default_factory=list)
    cpu_cores: float = 0.0
    memory_gib: float = 0.0
    gpu_memory_gib: float = 0.0
    whole: int = 0
    slots: tuple[float, ...] = ()
    members: tuple[Stock, ...] = ()

    @property
    def count(self) -> int:
        """How many times what is free is there: once for each node, or once in all for a merged stock."""
        return 1 if self.members else len(self.nodes)

    def most(self, shape: Shape) -> float:
        """How many workers of a shape one such node takes at most, looking at each resource alone; 0.0 when it may not host it."""
        if self.kind not in shape.kinds:
            return 0.0
        if self.members:
            return sum(member.count * member.most(shape) for member in self.members)
        most = MOST_PER_NODE
        for free, need in ((self.cpu_cores, shape.cpu_cores), (self.memory_gib, shape.memory_gib)):
            if need > 0:
                most = min(most, np.floor((free + TOLERANCE) / need))
        if shape.whole:
            most = min(most, self.whole // shape.whole)
        elif shape.gpus > 0:
            per_gpu = sum(np.floor((free + 2 * TOLERANCE) / shape.gpus) for free in self.slots)  # slots are rounded to TOLERANCE
            most = min(most, per_gpu + self.whole * np.floor((1.0 + TOLERANCE) / shape.gpus))
        return float(max(most, 0.0))


def stocks(ledger: Ledger) -> list[Stock]:
    """Nodes grouped by kind and by what is free on them, in the order of their first nodes."""
    found: dict[Hashable, Stock] = {}
    kind_of = ledger.hosts.kind_of
    partly = ledger.share * ((ledger.share > SLACK) & (ledger.share < 1.0 - SLACK))
    for node in range(len(ledger.cpu)):
        free = (round(float(ledger.cpu[node]), 6), round(float(ledger.memory[node]), 6), int(ledger.whole[node]))
        slots = tuple(sorted((round(float(share), 6) for share in partly[node] if share), reverse=True))
        gpu_memory = round(float(ledger.gpu_memory[node].sum()), 6)
        key = (kind_of[node], free, slots, gpu_memory)
        if key not in found:
            found[key] = Stock(kind_of[node], [], max(free[0], 0.0), max(free[1], 0.0), gpu_memory, free[2], slots)
        found[key].nodes.append(node)
    return list(found.values())


def merged(found: Iterable[Stock]) -> list[Stock]:
    """One stock for each kind of node: a cluster of many half-filled nodes seen as a few large ones.

    A plan for the nodes is a plan for the large node, so a relaxation stays one; it only forgets more. Free shares are
    rounded up to a grid of MERGED_GRID, for the same reason.
    """
    by_kind: defaultdict[int, list[Stock]] = defaultdict(list)
    for stock in found:
        by_kind[stock.kind].append(stock)
    made = []
    for kind, members in by_kind.items():
        total = Stock(kind, [node for stock in members for node in stock.nodes], members=tuple(members))
        for stock in members:
            total.cpu_cores += stock.count * stock.cpu_cores
            total.memory_gib += stock.count * stock.memory_gib
            total.gpu_memory_gib += stock.count * stock.gpu_memory_gib
            total.whole += stock.count * stock.whole
        shares = (share for stock in members for _ in range(stock.count) for share in stock.slots)
        total.slots = tuple(sorted((float(np.ceil(share * MERGED_GRID - TOLERANCE) / MERGED_GRID) for share in shares), reverse=True))
        made.append(total)
    return made


def wishes(ledger: Ledger, jobs: Iterable[int]) -> tuple[list[Wish], list[Shape]]:
    """The given waiting jobs as wishes, and the shapes that their options name."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for place in jobs:
        groups[_likeness(ledger.problem.jobs[place])].append(place)
    shapes: dict[Shape, int] = {}
    made: list[Wish] = []
    for places in groups.values():
        job = ledger.problem.jobs[places[0]]
        options = tuple((shapes.setdefault(shape, len(shapes)), speed) for shape, speed in _options(ledger, job))
        if options:
            fewest = job.workers if job.workers_min is None else job.workers_min
            made.append(Wish(tuple(places), job.workers, fewest, job.priority * job.value, job.tenant, options))
    return made, list(shapes)


def _options(ledger: Ledger, job: Job) -> list[tuple[Shape, float]]:
    """One shape for each speed that some host gives, the fastest first."""
    size = (job.gpus_per_worker, job.gpu_memory_gib, job.cpu_cores, job.memory_gib)
    kinds = ledger.hosts.kinds(job)
    if len(set(job.model_speeds.values())) <= 1:
        return [(Shape(*size, kinds), next(iter(job.model_speeds.values()), 1.0))] if kinds else []
    by_speed: defaultdict[float, set[int]] = defaultdict(set)
    for kind in kinds:
        by_speed[job.model_speeds[ledger.hosts.sample(kind).gpu_model or ""]].add(kind)
    return [(Shape(*size, frozenset(hosts)), speed) for speed, hosts in sorted(by_speed.items(), reverse=True)]


def _likeness(job: Job) -> Hashable:
    level = job.colocate.level if job.colocate is not None and job.colocate.required else None
    return (
        (job.tenant, job.workers, job.workers_min, job.priority * job.value, level),
        (job.gpus_per_worker, job.gpu_memory_gib, job.cpu_cores, job.memory_gib),
        tuple(sorted(job.model_speeds.items())),
        tuple(sorted(job.node_selector.items())),
    )

"""FGD: each worker goes where the expected fragmentation of the cluster grows least.

Q. Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent", USENIX
ATC 2023, section 4. A typical request m of popularity p_m cannot use F_n(m) of what is free on node n: all of it where it
does not fit, else the GPUs that have less left than it asks of one. A request without GPUs can use no GPU, and counts so.
The node's fragmentation is sum_m p_m F_n(m), in thousandths of a GPU. Growths are compared as the authors' simulator does
(pkg/simulator/plugin/fgd_score.go), as whole per cents of a sigmoid. There equal scores go by the names of the nodes, which are drawn
anew for each seed; here that is what a ``tie_seed`` does, and without one they go to the node that is left with least.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.placement.online.rules import WorkerRule, fullest_gpus, left_over
from models.placement.online.state import MILLI, Kind, Seat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from models.placement.online.state import Cluster, Ints, Request

    Floats = NDArray[np.float64]

TYPICAL_PART = 0.95  # of the workers: the most popular kinds that make up this part are the typical ones, as published


@dataclass(frozen=True, slots=True)
class Typical:
    """A kind of worker and how many of them there are among those that are expected."""

    kind: Kind
    weight: float


def typical(requests: Iterable[Request], part: float = 1.0) -> tuple[Typical, ...]:
    """The kinds of the workers of ``requests``, the most popular first, until they make up ``part`` of all; weights sum to 1."""
    counts: Counter[Kind] = Counter()
    for request in requests:
        counts[request.kind] += request.workers
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0].order()))
    enough, found = part * sum(counts.values()), 0
    kept: list[tuple[Kind, int]] = []
    for kind, count in ordered:
        if found >= enough:
            break
        kept.append((kind, count))
        found += count
    return tuple(Typical(kind, count / found) for kind, count in kept)


class Fragmentation:
    """The measure for any free amounts on the nodes of one cluster, given what is typical.

    The M kinds are grouped by what they ask of GPUs: what depends on the GPUs alone is worked out once for each of the D
    demands, and the M kinds only for CPU, memory and model.
    """

    def __init__(self, cluster: Cluster, kinds: Sequence[Typical]) -> None:
        """Kinds without GPUs take their part of the weight and no other."""
        using = sorted((one for one in kinds if one.kind.gpus), key=lambda one: one.kind[:2])
        demands = sorted({one.kind[:2] for one in using})
        self._gpus: Ints = np.array([gpus for gpus, _ in demands], dtype=np.int64)
        self._share: Ints = np.array([share for _, share in demands], dtype=np.int64)
        self._first: Ints = np.array(
            [next(k for k, one in enumerate(using) if one.kind[:2] == demand) for demand in demands], dtype=np.int64
        )
        self._cpu: Ints = np.array([one.kind.cpu_milli for one in using], dtype=np.int64)
        self._memory: Ints = np.array([one.kind.memory_mib for one in using], dtype=np.int64)
        accepts = np.array([cluster.accepted(one.kind.models) for one in using], dtype=np.float64).reshape(len(using), len(cluster.nodes))
        self._weight: Floats = (accepts * np.array([one.weight for one in using])[:, None]).T  # N x M

    def measure(self, nodes: Ints, cpu: Ints, memory: Ints, free: Ints) -> Floats:
        """Of each of n nodes with this much free: ``cpu``, ``memory`` (n,), ``free`` (n, G) or, for several ways, (n, K, G)."""
        total = free.sum(axis=-1)
        if not len(self._first):
            return np.asarray(total, dtype=np.float64)
        fits = (cpu[:, None] >= self._cpu) & (memory[:, None] >= self._memory)
        weight = np.add.reduceat(fits * self._weight[nodes], self._first, axis=1)  # (n, D)
        weight = weight.reshape(len(nodes), *(1,) * (free.ndim - 2), len(self._first))
        enough = free[..., None] >= self._share  # (..., G, D)
        usable = (free[..., None] * enough).sum(axis=-2) * (enough.sum(axis=-2) >= self._gpus)
        return np.asarray(total - (weight * usable).sum(axis=-1), dtype=np.float64)

    def of(self, cluster: Cluster) -> Floats:
        """Of each node of ``cluster`` as it is, shape (N,)."""
        nodes = np.arange(len(cluster.nodes))
        return self.measure(nodes, cluster.free_cpu, cluster.free_memory, cluster.free_milli)


@dataclass(slots=True)
class _Known:
    """For one kind of worker: growth and GPU on each node, and the version of the node for which they hold."""

    growth: Floats
    gpu: Ints
    version: Ints


class Fgd(WorkerRule):
    """The rule. What it works out for a kind of worker and a node stays until the node changes."""

    def __init__(self, cluster: Cluster, kinds: Sequence[Typical], tie_seed: int | None = None) -> None:
        """For ``cluster`` alone (and copies that this rule has not seen change).

        Nodes of equal score go by an order that ``tie_seed`` draws; without one by what is left on them, the least first.
        """
        self.fragmentation = Fragmentation(cluster, kinds)
        self._order = None if tie_seed is None else np.random.default_rng(tie_seed).permutation(len(cluster.nodes))
        self._known: dict[Kind, _Known] = {}

    def one(self, cluster: Cluster, request: Request) -> Seat | None:
        """The seat of one worker; None where no node takes it."""
        fitting = np.flatnonzero(cluster.fits(request))
        if not len(fitting):
            return None
        known = self._renewed(cluster, request, fitting)
        score = np.floor(100.0 / (1.0 + np.exp(np.clip(known.growth[fitting] / MILLI, -50.0, 50.0))))
        best = fitting[score == score.max()]
        node = int(best[(left_over(cluster, best) if self._order is None else self._order[best]).argmin()])
        return Seat(node, (int(known.gpu[node]),) if request.fractional else fullest_gpus(cluster, request, node))

    def growths(self, cluster: Cluster, request: Request, nodes: Ints) -> Floats:
        """By how much the measure grows on each of ``nodes``, all of which fit, when one worker takes its best GPUs there."""
        growth: Floats = self._renewed(cluster, request, nodes).growth[nodes]
        return growth

    def _renewed(self, cluster: Cluster, request: Request, fitting: Ints) -> _Known:
        kind, size = request.kind, len(cluster.nodes)
        if kind not in self._known:
            self._known[kind] = _Known(np.zeros(size), np.zeros(size, dtype=np.int64), np.full(size, -1))
        known = self._known[kind]
        stale = fitting[known.version[fitting] != cluster.version[fitting]]
        if len(stale):
            known.version[stale] = cluster.version[stale]
            known.growth[stale], known.gpu[stale] = self.growth(cluster, request, stale)
        return known

    def growth(self, cluster: Cluster, request: Request, nodes: Ints) -> tuple[Floats, Ints]:
        """By how much one worker more makes the measure of each of ``nodes`` grow, and the GPU on which it does so for a share."""
        cpu, memory, free = cluster.free_cpu[nodes], cluster.free_memory[nodes], cluster.free_milli[nodes]
        before = self.fragmentation.measure(nodes, cpu, memory, free)
        cpu, memory = cpu - request.cpu_milli, memory - request.memory_mib
        if request.fractional:
            after = free[:, None, :] - request.share_milli * np.eye(free.shape[1], dtype=np.int64)  # a way for each GPU
            growth = self.fragmentation.measure(nodes, cpu, memory, np.maximum(after, 0)) - before[:, None]
            growth = np.where(free >= request.share_milli, growth, np.inf)
            return growth.min(axis=1), growth.argmin(axis=1)
        taken = (free == MILLI) & ((free == MILLI).cumsum(axis=1) <= request.gpus)
        growth = self.fragmentation.measure(nodes, cpu, memory, np.where(taken, 0, free)) - before
        return growth, np.zeros(len(nodes), dtype=np.int64)

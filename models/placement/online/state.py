"""The state of a cluster that takes requests one by one: what is free, who asks, and where somebody sits.

All amounts are whole numbers: thousandths of a GPU, thousandths of a CPU core, MiB of memory. So a cluster is never
over-allocated by rounding, and taking a request out gives back exactly what it took.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

MILLI = 1000  # thousandths of one GPU, and of one CPU core


class Kind(NamedTuple):
    """What makes two workers alike: the amounts of one, and the models it accepts. See ``Request``."""

    gpus: int
    share_milli: int
    cpu_milli: int
    memory_mib: int
    models: frozenset[str]

    @property
    def gpu_milli(self) -> int:
        """Thousandths of a GPU of one worker, over all of its GPUs."""
        return self.gpus * self.share_milli

    def order(self) -> tuple[int, int, int, int, tuple[str, ...]]:
        """A key by which kinds sort the same in every run."""
        return (*self[:4], tuple(sorted(self.models)))


@dataclass(frozen=True, slots=True)
class Request:
    """What one job asks for: ``workers`` equal workers that get a seat together or not at all. Amounts are of one worker.

    A worker has ``gpus`` GPUs, of each of them ``share_milli`` thousandths: 1000 unless it has a share of a single GPU.
    """

    id: str
    gpus: int = 0
    share_milli: int = MILLI
    cpu_milli: int = 0
    memory_mib: int = 0
    workers: int = 1
    models: frozenset[str] = frozenset()  # accepted GPU models; empty: any node, with or without GPUs

    def __post_init__(self) -> None:
        """Raises ValueError for amounts that no worker can have."""
        if self.gpus < 0 or self.cpu_milli < 0 or self.memory_mib < 0 or self.workers < 1:
            raise ValueError(f"request '{self.id}': amounts must be 0 or more, and workers 1 or more")
        if not 1 <= self.share_milli <= MILLI or (self.share_milli < MILLI and self.gpus != 1):
            raise ValueError(f"request '{self.id}': a worker has whole GPUs (share_milli {MILLI}) or from 1 to 999 thousandths of one GPU")

    @property
    def gpu_milli(self) -> int:
        """Thousandths of a GPU of one worker, over all of its GPUs."""
        return self.gpus * self.share_milli

    @property
    def kind(self) -> Kind:
        """The kind of its workers."""
        return Kind(self.gpus, self.share_milli, self.cpu_milli, self.memory_mib, self.models)

    @property
    def fractional(self) -> bool:
        """Whether a worker shares its GPU with others."""
        return self.gpus == 1 and self.share_milli < MILLI


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one worker sits: the index of its node, and the indices of its GPUs there, in increasing order."""

    node: int
    gpus: tuple[int, ...] = ()


Seats = tuple[Seat, ...]  # one for each worker of a request, in the order in which they were chosen
Sitting = tuple[Request, Seat]  # one worker that sits


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One machine as it is when empty."""

    id: str
    gpus: int = 0
    model: str | None = None
    cpu_milli: int = 0
    memory_mib: int = 0


class Cluster:
    """What is free on each of N nodes with at most G GPUs each; changed by ``seat`` and ``unseat`` only.

    A GPU that a node does not have is one of which nothing is ever free. ``version[n]`` grows with each change of node n,
    so that a rule may keep what it worked out for a node until that node changes.
    """

    def __init__(self, nodes: Sequence[NodeSpec]) -> None:
        """Raises ValueError for two nodes of one name and for negative amounts."""
        self.nodes = tuple(nodes)
        self.index = {node.id: place for place, node in enumerate(self.nodes)}
        if len(self.index) < len(self.nodes):
            raise ValueError("two nodes have the same id; give each node an id of its own")
        if any(min(node.gpus, node.cpu_milli, node.memory_mib) < 0 for node in self.nodes):
            raise ValueError("a node has a negative amount of something; amounts are 0 or more")
        self.models = tuple(sorted({node.model for node in self.nodes if node.model is not None and node.gpus}))
        place = {model: at for at, model in enumerate(self.models)}
        self.model: Ints = np.array([place.get(node.model or "", -1) if node.gpus else -1 for node in self.nodes], dtype=np.int64)
        self.gpus: Ints = np.array([node.gpus for node in self.nodes], dtype=np.int64)
        widest = int(self.gpus.max(initial=0))
        self.capacity_milli: Ints = np.where(np.arange(widest) < self.gpus[:, None], MILLI, 0).astype(np.int64)  # N x G
        self.free_milli: Ints = self.capacity_milli.copy()  # N x G
        self.free_cpu: Ints = np.array([node.cpu_milli for node in self.nodes], dtype=np.int64)
        self.free_memory: Ints = np.array([node.memory_mib for node in self.nodes], dtype=np.int64)
        self.cpu: Ints = self.free_cpu.copy()
        self.memory: Ints = self.free_memory.copy()
        self.idle: Ints = self.gpus.copy()  # GPUs of which nothing is taken
        self.largest: Ints = self.free_milli.max(axis=1, initial=0)  # most free thousandths of one GPU
        self.left_milli: Ints = self.free_milli.sum(axis=1)  # free thousandths over all GPUs
        self.most_cpu = max(1, int(self.cpu.max(initial=0)))  # of the largest node, by which plain rules weigh CPU against GPUs
        self.most_milli = max(1, int(self.left_milli.max(initial=0)))
        self.open: Mask = np.ones(len(self.nodes), dtype=np.bool_)  # may take new workers; callers close drained nodes
        self.version: Ints = np.zeros(len(self.nodes), dtype=np.int64)
        self.sitting: list[tuple[Sitting, ...]] = [()] * len(self.nodes)  # who is on each node, in the order of coming
        self._accepted: dict[frozenset[str], Mask] = {}

    def accepted(self, models: frozenset[str]) -> Mask:
        """Nodes of one of ``models``; of any, GPUs or not, where there are none."""
        if models not in self._accepted:
            wanted = [at for at, model in enumerate(self.models) if model in models]
            self._accepted[models] = np.isin(self.model, wanted) if models else np.ones(len(self.nodes), dtype=np.bool_)
        return self._accepted[models]

    def fits(self, request: Request) -> Mask:
        """Nodes that can take one more worker of ``request`` now, shape (N,)."""
        mask: Mask = self.open & (self.free_cpu >= request.cpu_milli) & (self.free_memory >= request.memory_mib)
        if request.models:
            mask &= self.accepted(request.models)
        if request.fractional:
            mask &= self.largest >= request.share_milli
        elif request.gpus:
            mask &= self.idle >= request.gpus
        return mask

    def seat(self, request: Request, seats: Seats) -> None:
        """Takes what the workers of ``request`` use in ``seats``.

        Raises ValueError, and changes nothing, where that is not free or the seats do not suit the request.
        """
        if len(seats) != request.workers:
            raise ValueError(f"request '{request.id}' has {request.workers} workers and {len(seats)} seats")
        for done, seat in enumerate(seats):
            try:
                self._check(request, seat)
            except ValueError:
                for earlier in seats[:done]:
                    self._change(request, earlier, 1)
                raise
            self._change(request, seat, -1)

    def unseat(self, request: Request, seats: Seats) -> None:
        """Gives back what ``seat`` took. Raises ValueError, and changes nothing, where the request does not sit there."""
        for done, seat in enumerate(seats):
            if (request, seat) not in self.sitting[seat.node]:
                for earlier in seats[:done]:
                    self._change(request, earlier, -1)
                raise ValueError(f"request '{request.id}' does not sit on node '{self.nodes[seat.node].id}'")
            self._change(request, seat, 1)

    def used_milli(self) -> int:
        """Thousandths of a GPU in use on all nodes."""
        return int(self.capacity_milli.sum() - self.left_milli.sum())

    def total_milli(self) -> int:
        """Thousandths of a GPU there are on all nodes."""
        return int(self.capacity_milli.sum())

    def copy(self) -> Cluster:
        """The same cluster, to try something on."""
        other = Cluster.__new__(Cluster)
        other.__dict__.update(self.__dict__)
        for name in ("free_milli", "free_cpu", "free_memory", "idle", "largest", "left_milli", "open", "version"):
            setattr(other, name, getattr(self, name).copy())
        other.sitting = self.sitting.copy()
        return other

    def _check(self, request: Request, seat: Seat) -> None:
        node, gpus = seat.node, seat.gpus
        name = self.nodes[node].id
        if len(gpus) != request.gpus or len(set(gpus)) != len(gpus) or not all(0 <= gpu < self.gpus[node] for gpu in gpus):
            raise ValueError(f"request '{request.id}' needs {request.gpus} GPUs and is given {list(gpus)} of node '{name}'")
        if request.models and not self.accepted(request.models)[node]:
            raise ValueError(f"request '{request.id}' does not accept the GPUs of node '{name}'")
        if self.free_cpu[node] < request.cpu_milli or self.free_memory[node] < request.memory_mib:
            raise ValueError(f"node '{name}' has too little CPU or memory left for request '{request.id}'")
        if any(self.free_milli[node, gpu] < request.share_milli for gpu in gpus):
            raise ValueError(f"GPUs {list(gpus)} of node '{name}' have too little left for request '{request.id}'")

    def _change(self, request: Request, seat: Seat, sign: int) -> None:
        node = seat.node
        self.free_cpu[node] += sign * request.cpu_milli
        self.free_memory[node] += sign * request.memory_mib
        if seat.gpus:
            row = self.free_milli[node]
            for gpu in seat.gpus:
                row[gpu] += sign * request.share_milli
            self.idle[node] = np.count_nonzero(row == MILLI)
            self.largest[node] = row.max()
            self.left_milli[node] += sign * request.share_milli * len(seat.gpus)
        here = self.sitting[node]
        if sign < 0:
            self.sitting[node] = (*here, (request, seat))
        else:
            at = here.index((request, seat))
            self.sitting[node] = here[:at] + here[at + 1 :]
        self.version[node] += 1

"""The rule that follows a plan: every request takes a seat that was planned for its kind, and strangers do the least harm.

A plan of what is expected says for each node which workers it is to hold: its *places*, each with a kind and its GPUs. A
worker of a kind that has an open place takes it. One that has none is a stranger: it goes where the fewest GPUs of open
places are lost, beside them if there is room, else instead of some. Nobody who fits is refused, unless the caller asks for
that. Which places are open follows from who sits where alone, so that workers who leave, and others whom this rule did not
seat, need no telling.

The plan comes from a caller who solved for it; what is kept of it when a stranger comes is decided here, node by node.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from models.placement.online.fgd import Fgd
from models.placement.online.rules import WorkerRule, left_over
from models.placement.online.state import MILLI, Kind, Seat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from models.placement.online.fgd import Typical
    from models.placement.online.state import Cluster, Ints, Mask, Request, Sitting

    Floats = NDArray[np.float64]

UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Place:
    """One planned worker on a node: its kind and its GPUs there."""

    kind: Kind
    gpus: tuple[int, ...]

    @property
    def milli(self) -> int:
        """Thousandths of a GPU that it uses."""
        return self.kind.gpu_milli


@dataclass(slots=True)
class Open:
    """What is still open on one node, and what is free beside that."""

    places: list[Place]
    cpu: int
    memory: int
    gpus: list[int]

    def book(self, place: Place, sign: int) -> None:
        """Takes what ``place`` uses (sign -1) or gives it back (1)."""
        self.cpu += sign * place.kind.cpu_milli
        self.memory += sign * place.kind.memory_mib
        for gpu in place.gpus:
            self.gpus[gpu] += sign * place.kind.share_milli

    def milli(self) -> int:
        """Thousandths of a GPU of the open places."""
        return sum(place.milli for place in self.places)


@dataclass(slots=True)
class _Known:
    """For one kind of worker: on each node the loss of taking it in, its GPUs there, and the version for which they hold."""

    loss: Floats
    gpus: dict[int, tuple[int, ...]] = field(default_factory=dict)
    version: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class Planned(WorkerRule):
    """The rule, for one cluster and the places that a plan made on it."""

    def __init__(
        self, cluster: Cluster, places: Iterable[tuple[int, Place]], kinds: Sequence[Typical] = (), *, decline: bool = False
    ) -> None:
        """``places`` are pairs of a node's index and a place there.

        Nodes on which a stranger costs the same are told apart by FGD, over the typical ``kinds``; without any by what is left on them.
        ``decline``: also refuse who would cost more GPUs than it takes.

        Places of a node that do not all fit on it are given up as if others were in their way. Raises ValueError for a place on GPUs that
        its node does not have.
        """
        self._decline = decline
        self._fgd = Fgd(cluster, kinds) if kinds else None
        self._places: list[list[Place]] = [[] for _ in cluster.nodes]
        for node, place in places:
            if len(place.gpus) != place.kind.gpus or not all(0 <= gpu < cluster.gpus[node] for gpu in place.gpus):
                name = cluster.nodes[node].id
                raise ValueError(
                    f"a place of {place.kind.gpus} GPUs on node '{name}' names the GPUs {list(place.gpus)}; name as many, of that node"
                )
            self._places[node].append(place)
        planned = sorted({place.kind for here in self._places for place in here}, key=Kind.order)
        self._number = {kind: at for at, kind in enumerate(planned)}
        self._count: Ints = np.zeros((len(planned), len(cluster.nodes)), dtype=np.int64)  # open places of each kind on each node
        self._open: list[Open | None] = [None] * len(cluster.nodes)
        self._seen: Ints = np.full(len(cluster.nodes), UNKNOWN)
        self._known: dict[Kind, _Known] = {}
        self._follow(cluster)

    def one(self, cluster: Cluster, request: Request) -> Seat | None:
        """The seat of one worker; None where no node takes it."""
        fits = cluster.fits(request)
        if not fits.any():
            return None
        self._follow(cluster)
        own = self._own_place(request, fits)
        if own is not None:
            return own
        loss, seat = self._least_loss(cluster, request, np.flatnonzero(fits))
        return None if self._decline and loss > request.gpu_milli else seat

    # ------------------------------------------------------------ what is open

    def at(self, node: int) -> Open:
        """What is open on a node, as of the last choice."""
        found = self._open[node]
        assert found is not None  # noqa: S101  (``_follow`` has been there)
        return found

    def _follow(self, cluster: Cluster) -> None:
        """Works out anew what is open on the nodes that changed."""
        for node in np.flatnonzero(self._seen != cluster.version).tolist():
            self._seen[node] = cluster.version[node]
            found = self.left_open(node, cluster.sitting[node], free_on(cluster, node))
            self._open[node] = found
            self._count[:, node] = 0
            for place in found.places:
                self._count[self._number[place.kind], node] += 1

    def left_open(self, node: int, sitting: Iterable[Sitting], free: Open) -> Open:
        """The places of a node that none of ``sitting`` has, less those for which they leave no room, and what is free beside them."""
        taken = Counter((request.kind, seat.gpus) for request, seat in sitting)
        left = Open([], free.cpu, free.memory, free.gpus.copy())
        for place in self._places[node]:
            key = (place.kind, place.gpus)
            if taken[key]:
                taken[key] -= 1
            else:
                left.places.append(place)
                left.book(place, -1)
        for place in in_the_way(left):
            left.places.remove(place)
        return left

    # ------------------------------------------------------------ strangers

    def cheapest(self, cluster: Cluster, request: Request, but: int | None = None) -> tuple[float, Seat | None]:
        """The least GPU of open places that one more worker would cost on any node other than ``but``, and its seat there.

        In an open place of its own kind that is what the place has. Infinite, and no seat, where no node takes it.
        """
        self._follow(cluster)
        fits = cluster.fits(request)
        if but is not None:
            fits[but] = False
        fitting = np.flatnonzero(fits)
        if not len(fitting):
            return np.inf, None
        loss, seat = self._least_loss(cluster, request, fitting)
        own = self._own_place(request, fits)
        return (float(request.gpu_milli), own) if own is not None and loss >= request.gpu_milli else (loss, seat)

    def _least_loss(self, cluster: Cluster, request: Request, fitting: Ints) -> tuple[float, Seat]:
        known = self._renewed(cluster, request, fitting)
        loss = known.loss[fitting]
        best = fitting[loss == loss.min()]
        equal = self._fgd.growths(cluster, request, best) if self._fgd is not None else left_over(cluster, best)
        node = int(best[equal.argmin()])
        return float(known.loss[node]), Seat(node, known.gpus[node])

    def _own_place(self, request: Request, fits: Mask) -> Seat | None:
        """The first open place of the request's kind on a node that fits."""
        kind = request.kind
        if kind not in self._number:
            return None
        planned = np.flatnonzero(fits & (self._count[self._number[kind]] > 0))
        if not len(planned):
            return None
        node = int(planned[0])
        return Seat(node, next(place.gpus for place in self.at(node).places if place.kind == kind))

    def _renewed(self, cluster: Cluster, request: Request, fitting: Ints) -> _Known:
        kind, size = request.kind, len(cluster.nodes)
        if kind not in self._known:
            self._known[kind] = _Known(np.zeros(size), version=np.full(size, UNKNOWN))
        known = self._known[kind]
        stale = fitting[known.version[fitting] != cluster.version[fitting]]
        for node in stale.tolist():
            known.loss[node], known.gpus[node] = self._loss(cluster, request, node)
        known.version[stale] = cluster.version[stale]
        return known

    def _loss(self, cluster: Cluster, request: Request, node: int) -> tuple[float, tuple[int, ...]]:
        """The least GPU of open places that go when one worker of ``request`` comes to ``node``, and the GPUs that it then has."""
        free, found = cluster.free_milli[node].tolist(), self.at(node)
        kind = request.kind
        best: tuple[float, int, tuple[int, ...]] | None = None
        for gpus in ways(request, free, found.gpus):
            left = Open(found.places, found.cpu, found.memory, found.gpus.copy())
            left.book(Place(kind, gpus), -1)
            lost = float(sum(place.milli for place in in_the_way(left)))
            tight = sum(found.gpus[gpu] for gpu in gpus)
            if best is None or (lost, tight) < best[:2]:
                best = (lost, tight, gpus)
        assert best is not None  # noqa: S101  (the node fits, so there is a way)
        return best[0], best[2]


def ways(request: Request, free: Sequence[int], room: Sequence[int]) -> list[tuple[int, ...]]:
    """The GPUs that a worker may have on a node: each with room for a share, and of whole ones those with most room beside places."""
    if not request.gpus:
        return [()]
    if request.fractional:
        return [(gpu,) for gpu, milli in enumerate(free) if milli >= request.share_milli]
    idle = sorted((gpu for gpu, milli in enumerate(free) if milli == MILLI), key=lambda gpu: (-room[gpu], gpu))
    return [tuple(sorted(idle[: request.gpus]))]


def free_on(cluster: Cluster, node: int) -> Open:
    """What is free on a node, with no place open."""
    return Open([], int(cluster.free_cpu[node]), int(cluster.free_memory[node]), cluster.free_milli[node].tolist())


def in_the_way(left: Open) -> list[Place]:
    """Places to give up until nothing is overbooked, chosen greedily for few GPUs; ``left`` is booked accordingly.

    For a GPU the smallest place that suffices, else the largest; then for CPU and memory alike, by what a GPU gives.
    """
    gone: list[Place] = []
    rest: list[Place] | None = None
    for gpu in range(len(left.gpus)):
        while left.gpus[gpu] < 0:
            rest = sorted(left.places, key=lambda place: place.milli) if rest is None else rest
            here = [place for place in rest if gpu in place.gpus]
            if not here:
                raise ValueError("more is planned for a node than it has")
            chosen = next((place for place in here if place.kind.share_milli >= -left.gpus[gpu]), here[-1])
            rest.remove(chosen)
            gone.append(chosen)
            left.book(chosen, 1)
    while left.cpu < 0 or left.memory < 0:
        rest = sorted(left.places, key=lambda place: place.milli) if rest is None else rest
        chosen = _for_room(rest, -left.cpu, -left.memory)
        rest.remove(chosen)
        gone.append(chosen)
        left.book(chosen, 1)
    return gone


def _for_room(rest: Sequence[Place], cpu: int, memory: int) -> Place:
    """The place of fewest GPUs that gives this much CPU and memory; where none does, the one that gives most for its GPUs."""
    for place in rest:
        if place.kind.cpu_milli >= cpu and place.kind.memory_mib >= memory:
            return place
    if not rest:
        raise ValueError("more is planned for a node than it has")
    if cpu > 0:
        return max(rest, key=lambda place: place.kind.cpu_milli / (1 + place.milli))
    return max(rest, key=lambda place: place.kind.memory_mib / (1 + place.milli))

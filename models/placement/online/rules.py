"""Rules that choose seats for a request, and the plain ones among them: first fit, best fit, dot product, packing, random.

A rule scores every node for one worker of a request; the lowest score takes it, and of equal scores the node that is
listed first. A gang is seated worker by worker, and gets nothing where one of its workers finds no seat. No rule refuses
a request that fits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from models.placement.online.state import MILLI, Seat

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.placement.online.state import Cluster, Request, Seats

    Floats = NDArray[np.float64]


class SeatRule(Protocol):
    """Chooses where a request is to sit, without seating it."""

    def choose(self, cluster: Cluster, request: Request) -> Seats | None:
        """A seat for each worker; None where they do not all fit. The cluster is as before."""


class WorkerRule(ABC):
    """A rule that seats worker by worker."""

    def choose(self, cluster: Cluster, request: Request) -> Seats | None:
        """See ``SeatRule``."""
        if request.workers == 1:
            seat = self.one(cluster, request)
            return None if seat is None else (seat,)
        return gang_seats(self, cluster, request)

    @abstractmethod
    def one(self, cluster: Cluster, request: Request) -> Seat | None:
        """The seat of one worker; None where no node takes it."""


class ScoreRule(WorkerRule):
    """A rule that takes the fitting node of the lowest score."""

    def one(self, cluster: Cluster, request: Request) -> Seat | None:
        """See ``WorkerRule``."""
        fitting = np.flatnonzero(cluster.fits(request))
        if not len(fitting):
            return None
        node = int(fitting[self.scores(cluster, request, fitting).argmin()])
        return Seat(node, self.gpus_on(cluster, request, node))

    @abstractmethod
    def scores(self, cluster: Cluster, request: Request, nodes: NDArray[np.int64]) -> Floats:
        """The score of each of ``nodes``, all of which fit, shape (len(nodes),); the lowest is best."""

    def gpus_on(self, cluster: Cluster, request: Request, node: int) -> tuple[int, ...]:
        """The GPUs of the chosen node: of those with room the fullest, and of equal ones the first."""
        return fullest_gpus(cluster, request, node)


def gang_seats(rule: WorkerRule, cluster: Cluster, request: Request) -> Seats | None:
    """Seats of all workers, chosen one after the other on the cluster itself, which is then put back as it was."""
    worker = _one_worker(request)
    taken: list[Seat] = []
    for _ in range(request.workers):
        seat = rule.one(cluster, worker)
        if seat is None:
            break
        cluster.seat(worker, (seat,))
        taken.append(seat)
    for seat in reversed(taken):
        cluster.unseat(worker, (seat,))
    return tuple(taken) if len(taken) == request.workers else None


def _one_worker(request: Request) -> Request:
    return replace(request, workers=1)


def fullest_gpus(cluster: Cluster, request: Request, node: int) -> tuple[int, ...]:
    """For a share the GPU with the least room that still suffices; for whole GPUs the first idle ones."""
    if not request.gpus:
        return ()
    row = cluster.free_milli[node]
    if request.fractional:
        return (int(np.where(row >= request.share_milli, row, MILLI + 1).argmin()),)
    return tuple(np.flatnonzero(row == MILLI)[: request.gpus].tolist())


def left_over(cluster: Cluster, nodes: NDArray[np.int64]) -> Floats:
    """Half the free CPU plus half the free GPUs of each of ``nodes``, each by the largest node; 0 to 1."""
    left: Floats = 0.5 * cluster.free_cpu[nodes] / cluster.most_cpu + 0.5 * cluster.left_milli[nodes] / cluster.most_milli
    return left


class FirstFit(ScoreRule):
    """The first node that fits, in the order in which the nodes are listed."""

    def scores(self, cluster: Cluster, request: Request, nodes: NDArray[np.int64]) -> Floats:  # noqa: ARG002  (this rule needs less)
        """All equal."""
        return np.zeros(len(nodes))


class RandomFit(ScoreRule):
    """Any node that fits and any GPU with room, each equally likely; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)

    def scores(self, cluster: Cluster, request: Request, nodes: NDArray[np.int64]) -> Floats:  # noqa: ARG002  (this rule needs less)
        """Drawn."""
        return self.draw.random(len(nodes))

    def gpus_on(self, cluster: Cluster, request: Request, node: int) -> tuple[int, ...]:
        """Drawn."""
        able = np.flatnonzero(cluster.free_milli[node] >= request.share_milli)
        return tuple(sorted(self.draw.choice(able, request.gpus, replace=False).tolist())) if request.gpus else ()


class BestFit(ScoreRule):
    """The node with the least left afterwards: half the free CPU plus half the free GPUs, each by the largest node."""

    def scores(self, cluster: Cluster, request: Request, nodes: NDArray[np.int64]) -> Floats:  # noqa: ARG002  (this rule needs less)
        """What is left, the same for every request once the node is known."""
        return left_over(cluster, nodes)


class DotProduct(ScoreRule):
    """The smallest product of what the request asks for with what is free, as in Tetris but turned to the fullest node.

    R. Grandl et al., "Multi-resource packing for cluster schedulers", SIGCOMM 2014, in the form in which Weng et al.
    compare with it ("merge", scaled by the largest node).
    """

    def scores(self, cluster: Cluster, request: Request, nodes: NDArray[np.int64]) -> Floats:
        """CPU times CPU plus GPUs times GPUs."""
        scores: Floats = cluster.free_cpu[nodes] * (request.cpu_milli / cluster.most_cpu**2) + cluster.left_milli[nodes] * (
            request.gpu_milli / cluster.most_milli**2
        )
        return scores


class Packing(ScoreRule):
    """GPUs in use before idle ones of a node in use, and those before nodes that are empty.

    Q. Weng et al., "MLaaS in the Wild", NSDI 2022. Among shared GPUs the least left; among the rest the fewest idle GPUs.
    """

    def scores(self, cluster: Cluster, request: Request, nodes: NDArray[np.int64]) -> Floats:
        """0 to 1: a GPU in use; 1 to 2: idle GPUs beside used ones; 2 to 3: an empty node. A request for CPU alone takes the first."""
        if not request.gpus:
            return np.zeros(len(nodes))
        idle, free = cluster.idle[nodes], cluster.free_milli[nodes]
        part = np.where((free >= request.share_milli) & (free < MILLI), free, MILLI).min(axis=1)
        empty = idle == cluster.gpus[nodes]
        beside = 1.0 + idle / MILLI
        scores: Floats = np.where(empty, 2.0 + idle / MILLI, np.where((part < MILLI) & request.fractional, part / MILLI, beside))
        return scores

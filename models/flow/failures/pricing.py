"""The path that failures take least from: cheapest by links, plus a price paid once for each set of links that it touches.

In a program of reservations that survive scenarios, a path earns a scenario's dual when it survives it. So the best path pays, besides
the prices of its links, the dual of every scenario that hits it: once, however many of the scenario's links it uses. Labels carry
which sets were touched already; one label makes another needless when it is no dearer even after paying for all sets that
only the other has touched. That is exact. Latency limits are a second resource, as in ``models.flow.paths.limited``.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.flow.network.arrays import Network
    from models.program import Floats, Ints

MOST_LABELS = 200_000  # for one path; beyond it only a bound is returned


@dataclass(frozen=True, slots=True)
class Cheapest:
    """The cheapest path as arcs, None where there is none below the limit asked for, and a price that no path is below."""

    price: float
    arcs: tuple[int, ...] | None


class SetPricer:
    """Finds such paths on one network, over arcs with capacity."""

    def __init__(self, network: Network) -> None:
        self._network = network
        opened = network.channel_capacity[network.arc_channel] > 0
        self._leaving: list[list[tuple[int, int, int, float]]] = [[] for _ in range(network.nodes)]
        self._arriving: list[list[tuple[int, float]]] = [[] for _ in range(network.nodes)]
        columns = (network.arc_tail, network.arc_head, network.arc_link, network.arc_latency)
        for arc, (tail, head, link, latency) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            if opened[arc]:
                self._leaving[tail].append((arc, head, link, latency))
                self._arriving[head].append((tail, latency))
        self._quickest: dict[int, list[float]] = {}

    def cheapest(
        self,
        ends: tuple[int, int],
        arc_price: Sequence[float],
        sets: Sequence[tuple[Sequence[int], float]] = (),
        *,
        below: float = math.inf,
        limit: float = math.inf,
    ) -> Cheapest:
        """The cheapest path from ``ends[0]`` to ``ends[1]`` that is cheaper than ``below`` and takes at most ``limit`` ms.

        ``arc_price`` (arcs,) is at least 0, inf forbids; ``sets`` are links and the price of touching any of them.
        """
        touching, prices = _by_link(sets)
        rest = self._rest(ends[1]) if math.isfinite(limit) else None
        most = limit * (1 + 1e-9) + 1e-9
        source, target = ends
        origin: list[tuple[int, int]] = [(-1, -1)]  # of each label: the arc it came by, and the label before it
        heap: list[tuple[float, int, int, int, float, int]] = [(0.0, 0, 0, source, 0.0, 0)]  # price, hops, label, node, latency, touched
        settled: dict[int, list[tuple[float, float, int]]] = {}
        while heap:
            price, hops, label, node, latency, touched = heapq.heappop(heap)
            if price >= below:
                return Cheapest(below, None)
            if node == target:
                return Cheapest(price, _back(origin, label))
            if _needless(settled.setdefault(node, []), price, latency, touched, prices):
                continue
            settled[node].append((price, latency, touched))
            if len(origin) > MOST_LABELS:
                return Cheapest(price, None)
            for arc, head, link, longer in self._leaving[node]:
                if arc_price[arc] == math.inf or (rest is not None and latency + longer + rest[head] > most):
                    continue
                own = touching.get(link, 0) & ~touched
                cost = price + arc_price[arc] + (_paid(own, prices) if own else 0.0)
                if cost < below:
                    origin.append((arc, label))
                    later = latency + longer if rest is not None else 0.0
                    heapq.heappush(heap, (cost, hops + 1, len(origin) - 1, head, later, touched | own))
        return Cheapest(below, None)

    def _rest(self, target: int) -> list[float]:
        """The least latency from each node to the target, in ms."""
        if target not in self._quickest:
            found = [math.inf] * self._network.nodes
            heap = [(0.0, target)]
            while heap:
                latency, node = heapq.heappop(heap)
                if latency >= found[node]:
                    continue
                found[node] = latency
                for tail, longer in self._arriving[node]:
                    heapq.heappush(heap, (latency + longer, tail))
            self._quickest[target] = found
        return self._quickest[target]

    def starting(self, ends: tuple[int, int], limit: float, many: int) -> list[tuple[int, ...]]:
        """Up to ``many`` different paths that share few links: each is the shortest when links used before cost more."""
        price = np.ones(self._network.arcs)
        found: list[tuple[int, ...]] = []
        for _ in range(many):
            arcs = self.cheapest(ends, price.tolist(), limit=limit).arcs
            if arcs is None or arcs in found:
                break
            found.append(arcs)
            used = np.isin(self._network.arc_link, self._network.arc_link[list(arcs)])
            price = np.where(used, price + self._network.nodes, price)
        return found


def _by_link(sets: Sequence[tuple[Sequence[int], float]]) -> tuple[dict[int, int], list[float]]:
    touching: dict[int, int] = {}
    for place, (links, _) in enumerate(sets):
        for link in links:
            touching[link] = touching.get(link, 0) | (1 << place)
    return touching, [price for _, price in sets]


def _paid(sets: int, prices: Sequence[float]) -> float:
    """The prices of the sets whose bits are on."""
    total = 0.0
    while sets:
        lowest = sets & -sets
        total += prices[lowest.bit_length() - 1]
        sets ^= lowest
    return total


def _needless(settled: list[tuple[float, float, int]], price: float, latency: float, touched: int, prices: Sequence[float]) -> bool:
    # A label settled before may still have to pay for sets that this one has paid for.
    return any(quicker <= latency and known + _paid(touched & ~before, prices) <= price for known, quicker, before in settled)


def _back(origin: list[tuple[int, int]], label: int) -> tuple[int, ...]:
    arcs = []
    while origin[label][1] >= 0:
        arc, label = origin[label]
        arcs.append(arc)
    return tuple(reversed(arcs))


def most_between(network: Network, sources: Ints, targets: Ints) -> Floats:
    """Gbit/s that can leave each source and enter its target at most over their own arcs; shape (demands,), inf without limit."""
    # A shared channel counts at both ends, once at each: its two arcs leave different nodes.
    weights = network.channel_capacity[network.arc_channel]
    leave, enter = (np.bincount(ends, weights=weights, minlength=network.nodes) for ends in (network.arc_tail, network.arc_head))
    return np.minimum(leave[sources], enter[targets])

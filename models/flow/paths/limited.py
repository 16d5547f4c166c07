"""Cheapest paths within a latency limit, exactly: labels by price, kept where none is both cheaper and quicker.

Label setting for the resource-constrained shortest path problem (Desrochers and Soumis, "A generalized permanent labelling algorithm for
the shortest path problem with time windows", INFOR 26, 1988). No solver, no clock: checks use it as well.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.flow.network.arrays import Network
    from models.program import Floats, Ints

Answer = tuple[float, list[int]]
HAIR = 1e-9


def cheapest_within(network: Network, prices: Floats, source: Ints, target: Ints, limits: Floats) -> Floats:
    """Price of the cheapest path of each pair of nodes that takes at most its limit, inf where there is none; shape (pairs,).

    Shapes: ``prices`` (arcs,), at least 0, inf forbids an arc; ``source``, ``target`` and ``limits`` (pairs,), limits in ms, inf for none.
    """
    arcs = (network.arc_tail, network.arc_head, network.arc_latency)
    found = np.full(len(source), np.inf)
    for start in np.unique(source).tolist():
        ours = np.flatnonzero(source == start)
        answers = limited_paths(network.nodes, arcs, prices, start, target[ours], allowed(limits[ours]))
        found[ours] = [np.inf if answer is None else answer[0] for answer in answers]
    return found


def allowed(limit: Floats) -> Floats:
    """Latency limits with a hair of room, so that sums that meet them but for rounding do."""
    return limit * (1 + HAIR) + HAIR


def limited_paths(
    nodes: int, arcs: tuple[Ints, Ints, Floats], prices: Floats, source: int, targets: Ints, limits: Floats
) -> list[Answer | None]:
    """Price and arcs of the cheapest path from ``source`` to each target within its limit, exactly; None where there is none.

    ``arcs`` are tail, head and latency, each (arcs,). Prices below 0 count as 0.
    """
    tail, head, latency = arcs
    usable = np.flatnonzero(np.isfinite(prices))
    leaving: list[list[tuple[int, int, float, float]]] = [[] for _ in range(nodes)]
    arriving: list[list[tuple[int, float]]] = [[] for _ in range(nodes)]
    columns = (tail[usable], head[usable], np.maximum(prices[usable], 0.0), latency[usable], usable)
    for start, end, price, delay, arc in zip(*(column.tolist() for column in columns), strict=True):
        leaving[start].append((end, arc, price, delay))
        arriving[end].append((start, delay))
    goals = list(zip(targets.tolist(), limits.tolist(), strict=True))
    latest = _latest(arriving, goals)
    wanted: dict[int, list[int]] = {}
    for row, (target, _) in enumerate(goals):
        wanted.setdefault(target, []).append(row)
    found: list[Answer | None] = [None] * len(goals)
    missing = len(goals)
    # A label: price, latency, then its number; ``origin`` holds node, arc and the label it came from.
    origin: list[tuple[int, int, int]] = [(source, -1, -1)]
    heap: list[tuple[float, float, int]] = [(0.0, 0.0, 0)]
    quickest = [float("inf")] * nodes  # labels come by price, so a label is dominated unless it is quicker than all before it
    while heap and missing:
        price, delay, label = heapq.heappop(heap)
        node = origin[label][0]
        if delay >= quickest[node]:
            continue
        quickest[node] = delay
        for row in wanted.get(node, ()):
            if found[row] is None and delay <= goals[row][1]:
                found[row] = (price, _back(origin, label))
                missing -= 1
        for end, arc, more, longer in leaving[node]:
            if delay + longer < quickest[end] and delay + longer <= latest[end]:
                origin.append((end, arc, label))
                heapq.heappush(heap, (price + more, delay + longer, len(origin) - 1))
    return found


def _latest(arriving: list[list[tuple[int, float]]], goals: list[tuple[int, float]]) -> list[float]:
    """The latest time at each node from which some target can still be reached within its limit."""
    latest = [float("-inf")] * len(arriving)
    heap = [(-limit, target) for target, limit in goals]
    heapq.heapify(heap)
    while heap:
        negative, node = heapq.heappop(heap)
        if -negative <= latest[node]:
            continue
        latest[node] = -negative
        for start, delay in arriving[node]:
            left = -negative - delay
            if left > latest[start]:
                heapq.heappush(heap, (-left, start))
    # A hair more, for sums made in the other order.
    return [one + 1e-9 * max(1.0, abs(one)) if one != float("-inf") else one for one in latest]


def _back(origin: list[tuple[int, int, int]], label: int) -> list[int]:
    arcs: list[int] = []
    while True:
        _, arc, before = origin[label]
        if before < 0:
            return arcs[::-1]
        arcs.append(arc)
        label = before

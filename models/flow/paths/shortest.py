"""Prices of cheapest paths between many pairs of nodes at once, in plain numpy.

Prices of capacity are 0 on most links. Nodes that reach each other at no price are one (strongly connected components of the free arcs,
by R. Tarjan, "Depth-first search and linear graph algorithms", 1972), which leaves a small network; there all pairs are found together.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.flow.network.arrays import Network
    from models.program import Bools, Floats, Ints

MOST_DENSE = 700  # nodes up to which all pairs are found in one matrix
CHUNK = 4_000_000  # entries of the arrays in one batch of searches


def shortest(network: Network, arc_prices: Floats, source: Ints, target: Ints) -> Floats:
    """The price of the cheapest path from each source to its target, inf where there is none; shape (pairs,).

    ``arc_prices``, shape (arcs,), are 0 or more; inf closes an arc.
    """
    if not network.arcs or not len(source):
        return np.where(source == target, 0.0, np.inf)
    part = free_parts(network, arc_prices == 0.0)
    parts = int(part.max()) + 1
    tail, head = part[network.arc_tail], part[network.arc_head]
    kept = (tail != head) & np.isfinite(arc_prices)
    tail, head, prices = tail[kept], head[kept], arc_prices[kept]
    ends = part[source], part[target]
    sources = np.unique(ends[0])
    if parts <= MOST_DENSE and 4 * len(sources) >= parts:
        return _all_pairs(parts, tail, head, prices)[ends]
    return _by_source(parts, (tail, head, prices), sources, ends)


def distances_from(network: Network, lengths: Floats, node: int, *, backwards: bool = False) -> Floats:
    """Length of the shortest path from one node to each (or, backwards, to it from each), inf where there is none, shape (nodes,).

    Dijkstra's method; ``lengths``, shape (arcs,), are 0 or more, inf closes an arc.
    """
    if backwards:
        arcs, ends = np.argsort(network.arc_head, kind="stable"), network.arc_tail
        starts = np.concatenate(([0], np.cumsum(np.bincount(network.arc_head, minlength=network.nodes))))
    else:
        (starts, arcs), ends = network.out_arcs, network.arc_head
    first, others, length = starts.tolist(), ends[arcs].tolist(), lengths[arcs].tolist()
    found = [np.inf] * network.nodes
    found[node] = 0.0
    waiting = [(0.0, node)]
    while waiting:
        here, at = heappop(waiting)
        if here > found[at]:
            continue
        for place in range(first[at], first[at + 1]):
            there, other = here + length[place], others[place]
            if there < found[other]:
                found[other] = there
                heappush(waiting, (there, other))
    return np.array(found)


def _all_pairs(parts: int, tail: Ints, head: Ints, prices: Floats) -> Floats:
    """Floyd and Warshall's method, shape (parts, parts)."""
    price = np.full((parts, parts), np.inf)
    np.minimum.at(price, (tail, head), prices)
    np.fill_diagonal(price, 0.0)
    for over in range(parts):
        np.minimum(price, price[:, over : over + 1] + price[over], out=price)
    return price


def _by_source(parts: int, arcs: tuple[Ints, Ints, Floats], sources: Ints, ends: tuple[Ints, Ints]) -> Floats:
    """Bellman and Ford's method for some sources at a time."""
    found = np.where(ends[0] == ends[1], 0.0, np.inf)
    if not len(arcs[0]):
        return found
    order = np.argsort(arcs[1], kind="stable")
    tail, prices = arcs[0][order], arcs[2][order]
    heads, first = np.unique(arcs[1][order], return_index=True)
    which = np.searchsorted(sources, ends[0])
    step = max(1, CHUNK // max(len(tail), parts))
    for begin in range(0, len(sources), step):
        some = sources[begin : begin + step]
        reach = np.full((len(some), parts), np.inf)
        reach[np.arange(len(some)), some] = 0.0
        for _ in range(parts):
            before = reach[:, heads]
            better = np.minimum(before, np.minimum.reduceat(reach[:, tail] + prices, first, axis=1))
            if (better >= before).all():
                break
            reach[:, heads] = better
        own = np.flatnonzero((which >= begin) & (which < begin + step))
        found[own] = reach[which[own] - begin, ends[1][own]]
    return found


def free_parts(network: Network, free: Bools) -> Ints:
    """Numbers of the strongly connected components of the arcs in ``free``, shape (arcs,): the number of each node, shape (nodes,)."""
    starts, arcs = network.out_arcs
    chosen = free[arcs]
    counts = np.concatenate(([0], np.cumsum(chosen)))
    first: list[int] = counts[starts].tolist()
    heads: list[int] = network.arc_head[arcs][chosen].tolist()
    return np.array(_components(first, heads), dtype=np.int64)


def _components(first: list[int], heads: list[int]) -> list[int]:
    """Tarjan's method without recursion: node n leads to ``heads[first[n]:first[n + 1]]``."""
    nodes = len(first) - 1
    number, low, part = [0] * nodes, [0] * nodes, [-1] * nodes  # number 0: not seen yet
    waiting: list[int] = []
    place = first[:nodes]
    count = parts = 0
    for root in range(nodes):
        if number[root]:
            continue
        path = [root]
        while path:
            node = path[-1]
            if not number[node]:
                count += 1
                number[node] = low[node] = count
                waiting.append(node)
            while place[node] < first[node + 1]:
                head = heads[place[node]]
                if not number[head]:
                    path.append(head)
                    break
                place[node] += 1
                if part[head] < 0:
                    low[node] = min(low[node], low[head])
            else:
                path.pop()
                if low[node] == number[node]:
                    while part[node] < 0:
                        part[waiting.pop()] = parts
                    parts += 1
    return part

"""Cheapest paths between all pairs of nodes of a small dense network, by whole matrices.

R. Floyd, "Algorithm 97: shortest path", 1962. Distances are found in plain numbers. Paths are found once more in whole numbers that hold
price and hops together, so that of equal prices the fewest hops win, what is equal is exactly equal, and no path goes in circles at
no price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.program import Floats, Ints

DENSE = 64  # a matrix of nodes by nodes is worth it up to this many entries for each arc
FEW = 0.25  # share of nodes that are sources, from which on finding all pairs is no waste
LARGEST = 2**59  # of whole distances: two of UNREACHED may be added
UNREACHED = 2**61


def worth_it(nodes: int, sources: int, price: Floats) -> bool:
    """Whether paths from some ``sources`` are better found for all pairs; ``price`` (arcs,)."""
    return nodes * nodes <= DENSE * len(price) and sources >= FEW * nodes and bool((price >= 0.0).all())


def cheapest_trees(nodes: int, tail: Ints, head: Ints, price: Floats, sources: Ints) -> tuple[Floats, Ints]:
    """Price of the cheapest path from each source to each node, and the arc it arrives by (-1: none), both (nodes, sources).

    ``price`` (arcs,) is 0 or more; inf closes an arc.
    """
    arcs = np.flatnonzero(np.isfinite(price))
    tail, head, price = tail[arcs], head[arcs], price[arcs]
    distance = np.full((nodes, nodes), np.inf)
    np.minimum.at(distance, (tail, head), price)
    inner = _inner(nodes, tail, head)
    _close(distance, inner)
    whole = _whole(nodes, price, float(distance[np.isfinite(distance)].max(initial=0.0)))
    key = np.full((nodes, nodes), UNREACHED, dtype=np.int64)
    np.minimum.at(key, (tail, head), whole)
    _close(key, inner)
    reached = np.ascontiguousarray(key[sources].T)
    last, source = np.nonzero(reached[tail] + whole[:, None] == reached[head])
    arc_in = np.full((nodes, len(sources)), -1, dtype=np.int64)
    arc_in[head[last], source] = arcs[last]
    return np.ascontiguousarray(distance[sources].T), arc_in


def _inner(nodes: int, tail: Ints, head: Ints) -> list[int]:
    """The nodes with two neighbours or more: no path without loops leads over others."""
    pairs = np.unique(np.minimum(tail, head) * nodes + np.maximum(tail, head))
    return np.flatnonzero(np.bincount(np.concatenate((pairs // nodes, pairs % nodes)), minlength=nodes) > 1).tolist()


def _close(length: Floats | Ints, inner: list[int]) -> None:
    """From lengths of arcs to those of cheapest paths, in place; ``inner`` are the nodes that these may lead over."""
    np.fill_diagonal(length, 0)
    over = np.empty_like(length)
    for node in inner:
        np.add(length[:, node : node + 1], length[node], out=over)
        np.minimum(length, over, out=length)


def _whole(nodes: int, price: Floats, farthest: float) -> Ints:
    """Whole numbers that compare as (price, hops) along any path that may be cheapest, shape (arcs,).

    No arc dearer than the ``farthest`` distance is on a cheapest path, so those may count as just too dear.
    """
    if farthest == 0.0:
        free: Ints = np.where(price > 0.0, nodes + 1, 1)
        return free
    units = LARGEST // (nodes + 1)
    # A power of two, so that sums of prices with few digits that are equal stay equal.
    scale = 2.0 ** np.floor(np.log2(units / 2.0 / farthest))
    told: Ints = np.round(np.minimum(price * scale, float(units))).astype(np.int64)
    return told * nodes + 1

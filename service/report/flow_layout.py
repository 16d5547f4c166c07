"""Where the nodes of a network are drawn: distances on paper follow the number of hops between nodes.

Classical scaling of the hop distances gives the start, stress majorization the rest (Gansner, Koren, North, "Graph drawing by stress
majorization", 2004). Without chance: the same network always looks the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.flow.network.arrays import Network
    from models.program import Floats

STEPS = 60
LEAST_EXTENT = 0.3  # of an axis, against the other
APART = 1.5  # times the largest distance: how far away what cannot be reached is put


def layout(network: Network) -> Floats:
    """Coordinates in the unit square, shape (nodes, 2)."""
    count = network.nodes
    if count == 1:
        return np.full((1, 2), 0.5)
    hops = _hops(network)
    weight = 1.0 / np.maximum(hops, 1.0) ** 2
    np.fill_diagonal(weight, 0.0)
    places = _scaled(hops)
    laplacian = np.diag(weight.sum(axis=1)) - weight
    inverse = np.linalg.pinv(laplacian)
    for _ in range(STEPS):
        apart = np.linalg.norm(places[:, None] - places[None], axis=2)
        pull = np.where(apart > 0, weight * hops / np.where(apart > 0, apart, 1.0), 0.0)
        places = inverse @ ((np.diag(pull.sum(axis=1)) - pull) @ places)
    low, high = places.min(axis=0), places.max(axis=0)
    # The picture is wide, so each axis is stretched to fill it; but what is almost a line stays one.
    extent = np.maximum(high - low, LEAST_EXTENT * float((high - low).max()))
    return np.asarray((places - (low + high) / 2) / extent + 0.5)


def _hops(network: Network) -> Floats:
    """Hops between all pairs of nodes, links taken both ways, shape (nodes, nodes)."""
    near = np.zeros((network.nodes, network.nodes), dtype=np.bool_)
    near[network.link_tail, network.link_head] = near[network.link_head, network.link_tail] = True
    hops = np.full(near.shape, np.inf)
    reached = np.eye(network.nodes, dtype=np.bool_)
    steps = 0
    while True:
        hops[reached & np.isinf(hops)] = steps
        further = reached | (reached.astype(np.float32) @ near.astype(np.float32) > 0)
        if (further == reached).all():
            break
        reached, steps = further, steps + 1
    return np.where(np.isinf(hops), APART * max(steps, 1), hops)


def _scaled(hops: Floats) -> Floats:
    """Coordinates from distances by classical scaling; a trace of the position breaks ties between nodes that are alike."""
    centred = hops**2 - (hops**2).mean(axis=0) - (hops**2).mean(axis=1)[:, None] + (hops**2).mean()
    values, vectors = np.linalg.eigh(-0.5 * centred)
    chosen = np.argsort(-values, kind="stable")[:2]
    places = vectors[:, chosen] * np.sqrt(np.maximum(values[chosen], 1e-9))
    turn = np.arange(len(hops)) * 2.399963  # the golden angle
    return np.asarray(places + 0.01 * np.column_stack((np.cos(turn), np.sin(turn))))

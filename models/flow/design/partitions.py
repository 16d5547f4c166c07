"""Partition inequalities of a design: what is built must join all parts of the network between which there is traffic.

Let a partition have ``p`` parts, and let at least ``b`` Gbit/s cross every way to divide the parts in two. A module of capacity ``a``
counts ``min(1, 2 (1 - 1/p) a / b)``, and on the links between the parts this comes to at least ``p - 1``. Proof: join parts along modules
that count 1; this takes the factor 1 for each part that disappears. If ``r > 1`` parts are left, only smaller modules lie between them, and
around each of them these hold ``b`` Gbit/s, so that together, each link seen from two parts, they count at least
``2 (1 - 1/p) r / 2 = r - r/p >= r - 1``.

Where every link between the parts fails in some scenario, the factors ``min(1, 2 a / b)`` come to at least ``p``. Proof: as before,
``r > 1`` parts that are left have ``2 r / 2 = r`` around them. If one part is left, ``p - 1`` modules joined it. Another that counts 1
makes ``p``; if there is none, a joining link that fails leaves a cut with smaller modules alone, and these hold ``b``.

With all factors 1 these are the inequalities of Grötschel and Monma, "Integer Polyhedra Arising from Certain Network Design Problems
with Connectivity Constraints", 1990.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.flow.design.cutsets import LEAST_VIOLATION, SMALLEST_NEED, UNSEEN, Inequality, sides

if TYPE_CHECKING:
    from models.flow.design.works import Works
    from models.program import Floats, Ints

MOST_PARTS = 12
TRIES = 12


def violated_partitions(works: Works, counts: Floats, rng: np.random.Generator, most: int) -> list[Inequality]:
    """The most violated among partitions that come of joining nodes along what is built most, (modules,) fractional."""
    network = works.network
    matrix = np.zeros((network.nodes, network.nodes))
    np.add.at(matrix, (works.traffic.source, works.traffic.target), works.traffic.size)
    built = np.bincount(works.module_link, weights=counts, minlength=network.links)
    found: dict[bytes, Inequality] = {}
    for attempt in range(TRIES):
        label = np.arange(network.nodes)
        for link in np.flatnonzero(network.link_capacity > 0).tolist():
            _join(label, int(network.link_tail[link]), int(network.link_head[link]))
        noise = rng.uniform(0.3, 1.0, network.links) if attempt else 1.0
        for link in np.argsort(-built * noise, kind="stable").tolist():
            parts = len(np.unique(label))
            if parts < 2:  # noqa: PLR2004 - one part is no partition
                break
            if parts <= MOST_PARTS and label.tobytes() not in found:
                found[label.tobytes()] = _inequality(works, matrix, counts, label)
            _join(label, int(network.link_tail[link]), int(network.link_head[link]))
    chosen = [one for one in found.values() if one.violation > LEAST_VIOLATION]
    return sorted(chosen, key=lambda one: -one.violation)[:most]


def _join(label: Ints, first: int, second: int) -> None:
    low, high = sorted((int(label[first]), int(label[second])))
    label[label == high] = low


def _inequality(works: Works, matrix: Floats, counts: Floats, label: Ints) -> Inequality:
    """The inequality of one partition; of no use (violation 0) where some way to divide the parts is crossed by no traffic."""
    network = works.network
    groups = np.unique(label, return_inverse=True)[1]
    parts = int(groups.max()) + 1
    between = np.zeros((parts, parts))
    np.add.at(between, (groups[:, None], groups[None, :]), matrix)
    masks = sides(parts).astype(np.float64)
    leaving = np.einsum("sv,sv->s", masks @ between, 1.0 - masks)
    entering = np.einsum("sv,sv->s", (1.0 - masks) @ between, masks)
    shared = len(network.channel_link) == network.links < network.arcs
    least = float((leaving + entering if shared else np.maximum(leaving, entering)).min())
    if least <= SMALLEST_NEED * float(matrix.sum()):
        return Inequality(np.zeros(works.modules), 0.0, 0.0)
    crossing = groups[network.link_tail] != groups[network.link_head]
    at_risk = np.zeros(network.links, dtype=np.bool_)
    for failure in works.failures:
        at_risk |= failure.dead
    side = parts if at_risk[crossing].all() else parts - 1
    factor = np.minimum(1.0, 2.0 * (side / parts) * works.module_capacity / (least * (1.0 - UNSEEN)))
    coefficient = np.where(crossing[works.module_link], factor, 0.0) / side
    violation = (1.0 - float(coefficient @ counts)) / float(np.linalg.norm(coefficient) + 1e-12)
    return Inequality(coefficient, 1.0, violation)

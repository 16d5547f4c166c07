"""Shortest paths over a fabric with even splitting: every node sends equally over each of its best next links (ECMP).

Best is the least latency, and among equals the fewest hops. Nothing is random, so the same traffic always loads the same links.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.fabrics import Fabric
    from models.program import Floats, Ints

PER_MS = 1e9  # latencies are compared as whole picoseconds: sums of floats would tell equal paths apart
FAR = np.iinfo(np.int64).max // 4
AT_ONCE = 64  # targets that are looked at together: bounds the memory


class EvenRouting:
    """The routing to some targets. ``targets`` are positions of nodes, shape (targets,).

    Arcs are the ways of links that have capacity: ``arc_link``, ``arc_back``, ``arc_gbps``, each of shape (arcs,).
    """

    def __init__(self, fabric: Fabric, targets: Ints) -> None:
        forth, back = (np.flatnonzero(gbps > 0) for gbps in (fabric.capacity_gbps, fabric.back_gbps))
        tail = np.concatenate((fabric.link_source[forth], fabric.link_target[back]))
        order = np.argsort(tail, kind="stable")
        self.fabric, self.targets = fabric, targets
        self.arc_link = np.concatenate((forth, back))[order]
        self.arc_back = (np.arange(len(tail)) >= len(forth))[order]
        self.arc_gbps = np.concatenate((fabric.capacity_gbps[forth], fabric.back_gbps[back]))[order]
        self._tail = tail[order]
        self._head = np.concatenate((fabric.link_target[forth], fabric.link_source[back]))[order]
        self._tails, self._first = np.unique(self._tail, return_index=True)
        self._by_head = np.argsort(self._head, kind="stable")
        self._heads, self._first_in = np.unique(self._head[self._by_head], return_index=True)
        longest = float(fabric.latency_ms.max(initial=0.0)) * fabric.nodes * (fabric.nodes + 1)
        self._per_ms = min(PER_MS, FAR / 4 / max(longest, 1e-300))
        self._weight = np.rint(fabric.latency_ms[self.arc_link] * self._per_ms).astype(np.int64) * (fabric.nodes + 1) + 1

    @cached_property
    def _distance(self) -> Ints:
        """From each node to each target, latency before hops, shape (targets, nodes); FAR where there is no path."""
        found = np.full((len(self.targets), self.fabric.nodes), FAR, dtype=np.int64)
        found[np.arange(len(self.targets)), self.targets] = 0
        for start in range(0, len(self.targets) if len(self._tail) else 0, AT_ONCE):
            part = found[start : start + AT_ONCE]  # a view: Bellman and Ford's rounds, for all its targets at once
            while True:
                nearer = np.minimum.reduceat(self._weight + part[:, self._head], self._first, axis=1)
                if not (nearer < part[:, self._tails]).any():
                    break
                part[:, self._tails] = np.minimum(part[:, self._tails], nearer)
        return found

    def reaches(self) -> bool:
        """Whether there is a path from each target to every other."""
        return bool((self._distance[:, self.targets] < FAR).all())

    def cut_off(self) -> tuple[int, int]:
        """Positions of two targets without a path from the first to the second; only asked when there are such."""
        second, first = np.argwhere(self._distance[:, self.targets] >= FAR)[0]
        return int(self.targets[first]), int(self.targets[second])

    def latency_s(self, source: Ints, target: Ints) -> Floats:
        """Seconds from one target to another; ``source`` and ``target`` number the targets, shape (flows,)."""
        steps = self._distance[target, self.targets[source]] // (self.fabric.nodes + 1)
        found: Floats = steps / self._per_ms / 1e3
        return found

    @cached_property
    def _best(self) -> tuple[Ints, Ints]:
        """CSR of the best arcs by target and node: ``starts`` (targets * nodes + 1,), and arcs in that order."""
        nodes = self.fabric.nodes
        degrees, arcs = [], []
        for start in range(0, len(self.targets), AT_ONCE):
            distance = self._distance[start : start + AT_ONCE]
            target, arc = np.nonzero(distance[:, self._tail] == self._weight + distance[:, self._head])
            degrees.append(np.bincount(target * nodes + self._tail[arc], minlength=distance.size))
            arcs.append(arc)
        return np.concatenate(([0], np.cumsum(np.concatenate(degrees)))), np.concatenate(arcs)

    def loads(self, source: Ints, target: Ints, gbit: Floats) -> Floats:
        """Gbit on each arc when flow f sends ``gbit[f]`` from ``source[f]`` to ``target[f]``; they number the targets. Shape (arcs,)."""
        nodes = self.fabric.nodes
        starts, arcs = self._best
        total = np.zeros(len(self._tail))
        where, amount = _gathered(target * nodes + self.targets[source], gbit)
        while len(where):  # one hop of everything; what has arrived has no arc to go on
            ways = starts[where + 1] - starts[where]
            first = np.repeat(starts[where] - np.concatenate(([0], np.cumsum(ways)[:-1])), ways)
            used = arcs[first + np.arange(len(first))]
            share = np.repeat(amount / np.maximum(ways, 1), ways)
            total += np.bincount(used, share, len(total))
            where, amount = _gathered(np.repeat(where // nodes * nodes, ways) + self._head[used], share)
        return total


def _gathered(where: Ints, amount: Floats) -> tuple[Ints, Floats]:
    """The amounts of each place together."""
    places, at = np.unique(where, return_inverse=True)
    together: Floats = np.bincount(at, amount, len(places)).astype(np.float64)
    return places, together

"""Takes the flow of one source apart into routes: which paths the traffic of each demand follows.

Every flow on arcs is a sum of flows on paths and around circles, at most as many as it has arcs (R. K. Ahuja, T. L. Magnanti, J. B.
Orlin, "Network Flows", 1993, theorem 3.5). Circles carry nothing anywhere and are dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from models.flow.network.arrays import Network
    from models.program import Floats

NOISE = 1e-10  # relative to the largest flow: what a solver leaves behind on an arc that carries nothing


Piece = tuple[int, float, tuple[int, ...]]


def peeled(network: Network, arc_flow: Floats, source: int, wants: Iterable[tuple[int, float]]) -> Iterator[Piece]:
    """Routes from ``source``, each as (which want, Gbit/s, arcs): ``wants`` are targets and amounts, ``arc_flow`` has shape (arcs,).

    An amount that the flow does not bring, because a solver was not exact, is left out.
    """
    rest = _Rest(network, arc_flow, source)
    for number, (target, amount) in enumerate(wants):
        wanted = amount
        while wanted > rest.least:
            path = rest.path_to(target)
            if not path:
                break
            size = rest.take(path, wanted)
            wanted -= size
            yield number, size, tuple(path)


class _Rest:
    """What is left of the flow."""

    def __init__(self, network: Network, arc_flow: Floats, source: int) -> None:
        self.least = NOISE * max(1.0, float(arc_flow.max(initial=0.0)))
        self._tail, self._head, self._source = network.arc_tail, network.arc_head, source
        self._left = {arc: float(arc_flow[arc]) for arc in np.flatnonzero(arc_flow > self.least).tolist()}
        self._entering: dict[int, list[int]] = {}
        for arc in self._left:
            self._entering.setdefault(int(network.arc_head[arc]), []).append(arc)

    def path_to(self, target: int) -> list[int]:
        """Arcs with flow from the source to ``target``, found backwards; none when nothing arrives any more."""
        path: list[int] = []
        at = {target: 0}  # how many arcs the walk had taken when it came to each node
        node = target
        while node != self._source:
            arcs = self._entering.get(node)
            if not arcs and not path:
                return []
            if not arcs:  # what a solver left behind, on an arc that nothing leads to
                self.take(path[-1:], np.inf)
                path, at, node = [], {target: 0}, target
                continue
            arc = arcs[-1]
            path.append(arc)
            node = int(self._tail[arc])
            if node in at:
                self.take(path[at[node] :], np.inf)
                path, at, node = [], {target: 0}, target
            else:
                at[node] = len(path)
        return path[::-1]

    def take(self, path: list[int], most: float) -> float:
        """Take at most ``most`` off every arc of a path or a circle; how much it was."""
        size = min(most, *(self._left[arc] for arc in path))
        for arc in path:
            self._left[arc] -= size
            if self._left[arc] <= self.least:
                self._entering[int(self._head[arc])].remove(arc)
        return size

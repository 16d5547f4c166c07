"""Arc-disjoint paths between pairs of nodes, as a maximum flow of unit arcs gives them: the paths that networkx would give.

The paths depend on which augmenting path is taken among equals, and published results depend on the paths. So this repeats, on integers,
what ``networkx.edge_disjoint_paths`` does by default: augmenting paths by a breadth-first search from both ends (Edmonds and Karp,
"Theoretical improvements in algorithmic efficiency for network flow problems", Journal of the ACM 19, 1972), neighbours in the order in
which a ``DiGraph`` lists them that was given the nodes in the order of their ids (whole numbers by value) and then the arcs in the
problem's order, then paths along the arcs in use. Parallel arcs, which a ``DiGraph`` lacks, are counted; the two ways of a shared link are
never both in use. What makes it quick: one reset of a list for each pair, and the minimum cuts met on the way, which tell for many later
pairs that no further path exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.flow.network.arrays import Network
    from models.program import Ints

Labels = dict[int, tuple[int, int]]  # node: the node before (or after) it, and the residual edge between


class DisjointPaths:
    """Finds them for one pair of nodes after another."""

    def __init__(self, network: Network, usable: Ints) -> None:
        """Take the arcs at the positions ``usable``."""
        between: dict[tuple[int, int], list[int]] = {}
        after: list[list[int]] = [[] for _ in range(network.nodes)]
        for arc in usable.tolist():
            tail, head = int(network.arc_tail[arc]), int(network.arc_head[arc])
            if (tail, head) not in between:
                after[tail].append(head)
            between.setdefault((tail, head), []).append(arc)
        self._next: list[list[tuple[int, int]]] = [[] for _ in range(network.nodes)]  # residual edges out of each node: head, edge
        self._before: list[list[tuple[int, int]]] = [[] for _ in range(network.nodes)]  # and into it: tail, edge
        self._head: list[int] = []
        self._arcs: list[list[int]] = []
        self._back: list[int] = []
        edge_at: dict[tuple[int, int], int] = {}
        for tail in sorted(range(network.nodes), key=lambda node: natural(network.node_ids[node])):
            for head in after[tail]:
                if (tail, head) in edge_at:
                    continue
                for one, other in ((tail, head), (head, tail)):
                    edge = edge_at[one, other] = len(self._head)
                    self._next[one].append((other, edge))
                    self._before[other].append((one, edge))
                    self._head.append(other)
                    self._arcs.append(between.get((one, other), []))
                self._back += [len(self._head) - 1, len(self._head) - 2]
        self._room = [len(arcs) for arcs in self._arcs]
        self._parallel = max(self._room, default=0) > 1
        self._cut_off: tuple[list[int], bool] = ([], True)
        leaving = np.array([sum(self._room[edge] for _, edge in edges) for edges in self._next], dtype=np.int64)
        entering = np.array([sum(self._room[edge] for _, edge in edges) for edges in self._before], dtype=np.int64)
        self._most = np.minimum.outer(leaving, entering)

    def between(self, source: int, target: int) -> list[list[int]]:
        """Arcs of each path, the paths with the fewest arcs first (in the order found where equal), without cycles."""
        room = self._room.copy()
        for found in range(int(self._most[source, target])):
            meeting = self._search(source, target, room)
            if meeting is None:
                self._note_cut(found)
                break
            for labels, end in ((meeting[1], source), (meeting[2], target)):
                node = meeting[0]
                while node != end:
                    node, edge = labels[node]
                    room[edge] -= 1
                    room[self._back[edge]] += 1
        return sorted(self._traced(source, target, room), key=len)

    def _search(self, source: int, target: int, room: list[int]) -> tuple[int, Labels, Labels] | None:
        """Breadth first from both ends, the smaller front next; where they meet, or None (and the side that was cut off is kept)."""
        ahead: Labels = {source: (source, -1)}
        behind: Labels = {target: (target, -1)}
        front, rear = [source], [target]
        while True:
            layer = []
            if len(front) <= len(rear):
                for node in front:
                    for neighbour, edge in self._next[node]:
                        if room[edge] and neighbour not in ahead:
                            ahead[neighbour] = (node, edge)
                            if neighbour in behind:
                                return neighbour, ahead, behind
                            layer.append(neighbour)
                front = layer
            else:
                for node in rear:
                    for neighbour, edge in self._before[node]:
                        if room[edge] and neighbour not in behind:
                            behind[neighbour] = (node, edge)
                            if neighbour in ahead:
                                return neighbour, ahead, behind
                            layer.append(neighbour)
                rear = layer
            if not layer:
                self._cut_off = (list(ahead), True) if not front else (list(behind), False)
                return None

    def _note_cut(self, value: int) -> None:
        nodes, holds_source = self._cut_off
        inside = np.zeros(len(self._next), dtype=np.bool_)
        inside[nodes] = True
        if not holds_source:
            inside = ~inside
        across = np.ix_(np.flatnonzero(inside), np.flatnonzero(~inside))
        self._most[across] = np.minimum(self._most[across], value)

    def _traced(self, source: int, target: int, room: list[int]) -> list[list[int]]:
        before = self._room
        onward: dict[int, list[int]] = {}
        taken: dict[int, int] = {}  # of parallel arcs, by their edge

        def used(node: int) -> list[int]:
            edges = [edge for _, edge in self._next[node] if before[edge] > room[edge]]
            if self._parallel:
                edges = [edge for edge in edges for _ in range(before[edge] - room[edge])]
            onward[node] = edges
            return edges

        paths = []
        for first in tuple(used(source)):
            walk, node, seen = [first], self._head[first], {source}
            simple = True
            while node != target:
                simple = simple and node not in seen
                seen.add(node)
                rest = onward.get(node)
                if rest is None:
                    rest = used(node)
                if not rest:
                    break
                edge = rest.pop()
                walk.append(edge)
                node = self._head[edge]
            else:
                edges = walk if simple else self._without_cycles(source, walk)
                arcs = []
                for edge in edges:
                    number = taken.get(edge, 0) if self._parallel else 0
                    arcs.append(self._arcs[edge][number])
                    taken[edge] = number + 1
                paths.append(arcs)
        return paths

    def _without_cycles(self, source: int, walk: list[int]) -> list[int]:
        simple: list[int] = []
        nodes = [source]
        for edge in walk:
            simple.append(edge)
            nodes.append(self._head[edge])
            if nodes[-1] in nodes[:-1]:
                at = nodes.index(nodes[-1])
                del simple[at:], nodes[at + 1 :]
        return simple


def natural(name: str) -> tuple[int, int, str]:
    """Order of ids: whole numbers by value, then the rest as text."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)

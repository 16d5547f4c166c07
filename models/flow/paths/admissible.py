"""The paths that each demand may use, where the problem does not leave it all."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.flow.network.arrays import network_of, traffic_of
from models.flow.paths.disjoint import DisjointPaths
from models.flow.paths.limited import allowed, cheapest_within
from models.flow.schema import PathChoice
from models.kept import Kept

if TYPE_CHECKING:
    from models.flow.network.arrays import Network
    from models.flow.schema import Problem
    from models.program import Floats, Ints


@dataclass(frozen=True, eq=False)
class PathSet:
    """Demand d may use the paths ``starts[d]:starts[d + 1]``; path k goes over ``arcs[path_starts[k]:path_starts[k + 1]]``."""

    starts: Ints
    path_starts: Ints
    arcs: Ints

    @property
    def count(self) -> int:
        """How many paths."""
        return len(self.path_starts) - 1

    def of(self, demand: int) -> list[tuple[int, ...]]:
        """The paths of one demand, each as its arcs."""
        ends = self.path_starts.tolist()
        return [
            tuple(self.arcs[ends[path] : ends[path + 1]].tolist()) for path in range(int(self.starts[demand]), int(self.starts[demand + 1]))
        ]


def admissible(problem: Problem) -> PathSet | None:
    """The paths that demands may use, kept as long as the problem lives; None where any path will do.

    Listed paths, the k shortest loopless ones, or the k with the fewest hops of a largest set of arc-disjoint ones
    (``models.flow.paths.disjoint``); those that take longer than a demand's limit are left out.
    """
    return None if problem.paths.choice is PathChoice.all else _kept.of(problem)


def _found(problem: Problem) -> PathSet:
    network, traffic = network_of(problem), traffic_of(problem)
    choice = problem.paths
    if choice.choice is PathChoice.listed:
        by_demand = _listed(problem)
    else:
        known: dict[tuple[int, int], list[list[int]]] = {}
        usable = np.flatnonzero(network.channel_capacity[network.arc_channel] > 0)
        search = _Shortest(network, usable, choice.by) if choice.choice is PathChoice.shortest else DisjointPaths(network, usable)
        most = choice.k
        by_demand = []
        for pair in zip(traffic.source.tolist(), traffic.target.tolist(), strict=True):
            if pair not in known:
                known[pair] = search.between(*pair, most) if isinstance(search, _Shortest) else search.between(*pair)[:most]
            by_demand.append(known[pair])
    return _within_limits(_as_set(by_demand), network, traffic.latency_limit)


def _as_set(by_demand: list[list[list[int]]]) -> PathSet:
    counts = np.fromiter((len(paths) for paths in by_demand), np.int64, len(by_demand))
    lengths = np.fromiter((len(path) for paths in by_demand for path in paths), np.int64, int(counts.sum()))
    arcs = np.fromiter((arc for paths in by_demand for path in paths for arc in path), np.int64, int(lengths.sum()))
    return PathSet(np.concatenate(([0], np.cumsum(counts))), np.concatenate(([0], np.cumsum(lengths))), arcs)


def _within_limits(paths: PathSet, network: Network, limit: Floats) -> PathSet:
    if not np.isfinite(limit).any():
        return paths
    lengths = np.diff(paths.path_starts)
    entry_path = np.repeat(np.arange(paths.count), lengths)
    latency = np.bincount(entry_path, weights=network.arc_latency[paths.arcs], minlength=paths.count)
    demand = np.repeat(np.arange(len(limit)), np.diff(paths.starts))
    kept = latency <= allowed(limit)[demand]
    return PathSet(
        starts=np.concatenate(([0], np.cumsum(np.bincount(demand[kept], minlength=len(limit))))),
        path_starts=np.concatenate(([0], np.cumsum(lengths[kept]))),
        arcs=paths.arcs[kept[entry_path]],
    )


def _listed(problem: Problem) -> list[list[list[int]]]:
    network, traffic = network_of(problem), traffic_of(problem)
    by_demand: list[list[list[int]]] = [[] for _ in range(traffic.count)]
    for path in problem.paths.listed:
        demand = traffic.at[path.demand]
        node = int(traffic.source[demand])
        arcs = []
        for name in path.links:
            link = network.link_at[name]
            arc = int(network.forward_arc[link]) if network.link_tail[link] == node else int(network.backward_arc[link])
            arcs.append(arc)
            node = int(network.arc_head[arc])
        by_demand[demand].append(arcs)
    return by_demand


class _Shortest:
    """The k shortest loopless paths between two nodes.

    Yen, "Finding the k shortest loopless paths in a network", Management Science 17, 1971; each detour is sought towards the target by
    its exact distance in the whole network (Hart, Nilsson and Raphael, 1968). Costs below 0 count as 0. Paths of equal length come with
    fewer hops first, then by the order of their arcs.
    """

    def __init__(self, network: Network, usable: Ints, by: str) -> None:
        length = {"hops": np.ones(network.arcs), "latency": network.arc_latency, "cost": np.maximum(0.0, network.arc_cost)}[by]
        self._leaving: list[list[tuple[int, int, float]]] = [[] for _ in range(network.nodes)]
        self._arriving: list[list[tuple[int, float]]] = [[] for _ in range(network.nodes)]
        self._length = length.tolist()
        self._tail, self._head = network.arc_tail.tolist(), network.arc_head.tolist()
        for arc in usable.tolist():
            self._leaving[self._tail[arc]].append((self._head[arc], arc, self._length[arc]))
            self._arriving[self._head[arc]].append((self._tail[arc], self._length[arc]))
        self._to: dict[int, list[float]] = {}

    def between(self, source: int, target: int, most: int | None) -> list[list[int]]:
        """Up to ``most`` paths, the shortest first, as arcs."""
        found: list[tuple[float, int, tuple[int, ...]]] = []
        waiting: list[tuple[float, int, tuple[int, ...]]] = []
        seen: set[tuple[int, ...]] = set()
        first = self._detour((), source, target, set())
        if first is not None:
            heapq.heappush(waiting, first)
        while waiting and (most is None or len(found) < most):
            path = heapq.heappop(waiting)
            found.append(path)
            arcs = path[2]
            for at in range(len(arcs)):
                root = arcs[:at]
                banned = {other[2][at] for other in found if other[2][:at] == root and len(other[2]) > at}
                detour = self._detour(root, source, target, banned)
                if detour is not None and detour[2] not in seen:
                    seen.add(detour[2])
                    heapq.heappush(waiting, detour)
        return [list(path) for _, _, path in found]

    def _detour(self, root: tuple[int, ...], source: int, target: int, banned: set[int]) -> tuple[float, int, tuple[int, ...]] | None:
        """The shortest path that begins with ``root`` and goes on by none of the arcs ``banned``: length, hops and arcs."""
        ahead = self._distances_to(target)
        start = self._head[root[-1]] if root else source
        done = {source} | {self._head[arc] for arc in root}
        done.discard(start)
        heap: list[tuple[float, int, tuple[int, ...], float, int]] = [(ahead[start], 0, (), 0.0, start)]
        while heap:
            _, hops, arcs, length, node = heapq.heappop(heap)
            if node in done:
                continue
            if node == target:
                whole = root + arcs
                return sum(self._length[arc] for arc in whole), len(whole), whole
            done.add(node)
            for head, arc, more in self._leaving[node]:
                if head not in done and ahead[head] != float("inf") and not (hops == 0 and arc in banned):
                    heapq.heappush(heap, (length + more + ahead[head], hops + 1, (*arcs, arc), length + more, head))
        return None

    def _distances_to(self, target: int) -> list[float]:
        known = self._to.get(target)
        if known is not None:
            return known
        distance = [float("inf")] * len(self._arriving)
        heap = [(0.0, target)]
        distance[target] = 0.0
        while heap:
            length, node = heapq.heappop(heap)
            if length > distance[node]:
                continue
            for tail, more in self._arriving[node]:
                if length + more < distance[tail]:
                    distance[tail] = length + more
                    heapq.heappush(heap, (length + more, tail))
        self._to[target] = distance
        return distance


_kept: Kept[Problem, PathSet] = Kept(_found)

__all__ = ["PathSet", "admissible", "cheapest_within"]

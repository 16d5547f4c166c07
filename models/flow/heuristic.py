"""A feasible plan at once where an obvious one exists.

Every demand goes along its shortest path, as much of it as all demands on its links can have in equal parts. What is left over tries
again with the links that are not full yet. That is no search: it is the plan that a better one is measured against.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from models.flow.bounds import simple_bounds
from models.flow.formulation_plan import plan_of_routes
from models.flow.network import is_supplied, network_of, traffic_of
from models.flow.schema import Objective, Plan
from models.flow.verify import verify

if TYPE_CHECKING:
    from models.flow.network import Network, Traffic
    from models.flow.schema import Problem
    from models.program import Bools, Floats, Ints

__all__ = ["heuristic", "simple_bounds"]

MOST_CHOOSING = 2_000  # demands whose choice of paths is worked out for a first plan
LITTLE = 1e-9  # of a size or a capacity: what is left when it is less than this is rounding
LONGEST_S = 0.5  # the search finds better plans in the time that more rounds take
ROUNDS = 8  # each finds other shortest paths, around what is full
IN_FULL = frozenset({Objective.min_cost, Objective.min_max_utilisation})


def heuristic(problem: Problem, seed: int = 0, seconds: float = 1.0) -> Plan | None:
    """A plan that is right, or None where no obvious one is, which proves nothing. No randomness."""
    del seed
    if problem.use == "design":
        from models.flow.design import first_plan as first_design

        return first_design(problem, seconds)
    if problem.use == "transfer":
        from models.flow.transfers import first_plan as first_transfers

        return first_transfers(problem, seconds)
    supplied = is_supplied(problem)
    if supplied and problem.objective in IN_FULL:
        return None  # the search finds one in no time where there is one
    reserving = problem.failures is not None and problem.failures.mode != "sweep"
    if problem.paths.choice in {"shortest", "edge_disjoint"} and traffic_of(problem).count > MOST_CHOOSING:
        return None if problem.objective in IN_FULL else Plan()  # the paths alone take seconds, which the search needs too
    plan = Plan() if supplied or reserving else _routed(problem, time.monotonic() + min(seconds, LONGEST_S))
    return plan if plan is not None and verify(problem, plan).ok else None


def _routed(problem: Problem, deadline: float) -> Plan | None:
    """Routes of as much as fits; None where all must be carried and is not."""
    network, traffic = network_of(problem), traffic_of(problem)
    stretched = problem.objective is Objective.min_max_utilisation
    paths = _Paths(problem, network, traffic)
    left = np.where((network.channel_capacity > 0) & stretched, np.inf, network.channel_capacity)
    full = np.where(np.isfinite(left), LITTLE * left, 0.0)
    wanted = traffic.size.copy()
    routes: list[tuple[int, float, tuple[int, ...]]] = []
    for _ in range(ROUNDS):
        before = len(routes)
        for priority in traffic.classes:
            open_arcs = (left > full)[network.arc_channel]
            asking = np.flatnonzero((traffic.priority == priority) & (wanted > LITTLE * traffic.size))
            found = paths.shortest(asking, open_arcs, deadline)
            if found.demands:
                routes += _shared_out(network, found, wanted, left)
        if len(routes) == before or time.monotonic() > deadline:
            break
    if problem.objective in IN_FULL and (wanted > LITTLE * traffic.size).any():
        return None  # of the smallest demands a check would not notice
    return plan_of_routes(network, traffic.ids, sorted(routes, key=lambda one: one[0]))


@dataclass(slots=True)
class _Found:
    """Demands and the path of each."""

    demands: list[int]
    paths: list[tuple[int, ...]]


def _shared_out(network: Network, found: _Found, wanted: Floats, left: Floats) -> list[tuple[int, float, tuple[int, ...]]]:
    """Each demand gets the part of what it wants that the scarcest channel of its path has for all that want it; takes it off."""
    counts = np.array([len(path) for path in found.paths], dtype=np.int64)
    channels = network.arc_channel[np.array([arc for path in found.paths for arc in path], dtype=np.int64)]
    demands = np.array(found.demands, dtype=np.int64)
    asked = np.bincount(channels, weights=np.repeat(wanted[demands], counts), minlength=len(left))
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(asked > left, left / asked, 1.0)
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    amounts = wanted[demands] * np.minimum.reduceat(part[channels], starts)
    left -= np.bincount(channels, weights=np.repeat(amounts, counts), minlength=len(left))
    np.maximum(left, 0.0, out=left)
    wanted[demands] -= amounts
    return [one for one in zip(found.demands, amounts.tolist(), found.paths, strict=True) if one[1] > 0.0]


class _Paths:
    """Shortest paths of demands: by cost where that is the goal, by latency where there is a limit, by hops otherwise."""

    def __init__(self, problem: Problem, network: Network, traffic: Traffic) -> None:
        self._problem, self._network, self._traffic = problem, network, traffic
        hops = np.ones(network.arcs)
        self._length = network.arc_cost + 1e-6 if problem.objective is Objective.min_cost else hops
        starts, arcs = network.out_arcs
        self._starts, self._arcs, self._heads = starts.tolist(), arcs.tolist(), network.arc_head[arcs].tolist()

    def shortest(self, demands: Ints, open_arcs: Bools, deadline: float) -> _Found:
        """A path over open arcs for each demand that has one within its latency limit, as far as the time goes."""
        found = _Found([], [])
        if self._problem.paths.choice != "all":
            return self._listed(demands, open_arcs)
        traffic = self._traffic
        limited = np.isfinite(traffic.latency_limit)
        for by_latency in (False, True):
            own = demands[limited[demands] == by_latency]
            length = np.where(open_arcs, self._network.arc_latency if by_latency else self._length, np.inf)
            lengths = length[self._arcs].tolist()
            for source in np.unique(traffic.source[own]).tolist():
                if time.monotonic() > deadline:
                    return found
                distance, last = self._tree(source, lengths)
                for demand in own[traffic.source[own] == source].tolist():
                    target = int(traffic.target[demand])
                    if distance[target] <= (traffic.latency_limit[demand] if by_latency else np.inf) and last[target] >= 0:
                        found.demands.append(demand)
                        found.paths.append(self._path(last, source, target))
        return found

    def _tree(self, source: int, lengths: list[float]) -> tuple[list[float], list[int]]:
        """Dijkstra's method: the distance of each node and the arc it is reached by, -1 where it is not."""
        distance, last = [np.inf] * self._network.nodes, [-1] * self._network.nodes
        distance[source] = 0.0
        waiting = [(0.0, source)]
        while waiting:
            here, node = heappop(waiting)
            if here > distance[node]:
                continue
            for place in range(self._starts[node], self._starts[node + 1]):
                there, head = here + lengths[place], self._heads[place]
                if there < distance[head]:
                    distance[head], last[head] = there, self._arcs[place]
                    heappush(waiting, (there, head))
        return distance, last

    def _path(self, last: list[int], source: int, target: int) -> tuple[int, ...]:
        path: list[int] = []
        node = target
        while node != source:
            path.append(last[node])
            node = int(self._network.arc_tail[last[node]])
        return tuple(path[::-1])

    def _listed(self, demands: Ints, open_arcs: Bools) -> _Found:
        from models.flow.paths import admissible

        found, allowed = _Found([], []), admissible(self._problem)
        if allowed is None:
            return found
        for demand in demands.tolist():
            for one in range(int(allowed.starts[demand]), int(allowed.starts[demand + 1])):
                path = allowed.arcs[allowed.path_starts[one] : allowed.path_starts[one + 1]]
                if open_arcs[path].all():
                    found.demands.append(demand)
                    found.paths.append(tuple(path.tolist()))
                    break
        return found

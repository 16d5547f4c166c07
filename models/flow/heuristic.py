"""A feasible plan at once where an obvious one exists.

Every demand goes along its shortest path, as much of it as all demands on its links can have in equal parts. What is left over tries
again with the links that are not full yet. That is no search: it is the plan that a better one is measured against.
"""

from __future__ import annotations

import time
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from models.flow.bounds import simple_bounds
from models.flow.columns.pricing import joined, table_of, traced
from models.flow.network.arrays import is_supplied, network_of, traffic_of
from models.flow.paths.route_columns import with_routes
from models.flow.schema import Objective, Plan
from models.flow.verify import verify

if TYPE_CHECKING:
    from models.flow.columns.pricing import PathTable
    from models.flow.network.arrays import Network, Traffic
    from models.flow.schema import Problem
    from models.program import Bools, Floats, Ints

__all__ = ["heuristic", "simple_bounds"]

MOST_CHOOSING = 2_000  # demands whose choice of paths is worked out for a first plan
LITTLE = 1e-9  # of a size or a capacity: what is left when it is less than this is rounding
LONGEST_S = 0.5  # the search finds better plans in the time that more rounds take
CHUNK = 4_000_000  # entries of the trees that are held at a time
ROUNDS = 8  # each finds other shortest paths, around what is full
IN_FULL = frozenset({Objective.min_cost, Objective.min_max_utilisation})


def heuristic(problem: Problem, seed: int = 0, seconds: float = 1.0) -> Plan | None:
    """A plan that is right, or None where no obvious one is, which proves nothing. No randomness."""
    del seed
    if problem.use == "design":
        from models.flow.design.works import first_plan as first_design

        return first_design(problem, seconds)
    if problem.use == "transfer":
        from models.flow.transfers.first import first_plan as first_transfers

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
    tables: list[PathTable] = []
    amounts: list[Floats] = []
    for _ in range(ROUNDS):
        before = len(tables)
        for priority in traffic.classes:
            open_arcs = (left > full)[network.arc_channel]
            asking = np.flatnonzero((traffic.priority == priority) & (wanted > LITTLE * traffic.size))
            found = paths.shortest(asking, open_arcs, deadline)
            if found.count:
                given = _shared_out(network, found, wanted, left)
                sent = np.flatnonzero(given > 0.0)
                tables += [found.chosen(sent)] if len(sent) else []
                amounts += [given[sent]] if len(sent) else []
        if len(tables) == before or time.monotonic() > deadline:
            break
    if problem.objective in IN_FULL and (wanted > LITTLE * traffic.size).any():
        return None  # of the smallest demands a check would not notice
    return _plan(network, traffic, joined(tables), np.concatenate([np.zeros(0), *amounts]))


def _plan(network: Network, traffic: Traffic, table: PathTable, amounts: Floats) -> Plan:
    """The plan that sends ``amounts`` (paths,) over the paths of demands in a table."""
    order = np.argsort(table.commodity, kind="stable")
    sent = table.chosen(order)
    names, links = network.link_ids, network.arc_link[sent.arcs].tolist()
    ids = [traffic.ids[demand] for demand in sent.commodity.tolist()]
    return with_routes(Plan(), ids, amounts[order].tolist(), np.diff(sent.starts), [names[link] for link in links])


def _shared_out(network: Network, found: PathTable, wanted: Floats, left: Floats) -> Floats:
    """What each demand gets of what it wants: the part that the scarcest channel of its path has for all that want it; takes it off."""
    counts, demands = np.diff(found.starts), found.commodity
    channels = network.arc_channel[found.arcs]
    asked = np.bincount(channels, weights=np.repeat(wanted[demands], counts), minlength=len(left))
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(asked > left, left / asked, 1.0)
    amounts: Floats = wanted[demands] * np.minimum.reduceat(part[channels], found.starts[:-1])
    left -= np.bincount(channels, weights=np.repeat(amounts, counts), minlength=len(left))
    np.maximum(left, 0.0, out=left)
    wanted[demands] -= amounts
    return amounts


class _Paths:
    """Shortest paths of demands: by cost where that is the goal, by latency where there is a limit, by hops otherwise."""

    def __init__(self, problem: Problem, network: Network, traffic: Traffic) -> None:
        self._problem, self._network, self._traffic = problem, network, traffic
        hops = np.ones(network.arcs)
        self._length = network.arc_cost + 1e-6 if problem.objective is Objective.min_cost else hops
        starts, arcs = network.out_arcs
        self._starts, self._arcs, self._heads = starts.tolist(), arcs.tolist(), network.arc_head[arcs].tolist()

    def shortest(self, demands: Ints, open_arcs: Bools, deadline: float) -> PathTable:
        """A path over open arcs for each demand that has one within its latency limit, as far as the time goes."""
        if self._problem.paths.choice != "all":
            return self._listed(demands, open_arcs)
        traffic, found = self._traffic, []
        limited = np.isfinite(traffic.latency_limit)
        for by_latency in (False, True):
            own = demands[limited[demands] == by_latency]
            length = np.where(open_arcs, self._network.arc_latency if by_latency else self._length, np.inf)
            lengths = length[self._arcs].tolist()
            sources, of_source = np.unique(traffic.source[own], return_inverse=True)
            at_once = max(1, CHUNK // self._network.nodes)
            for begin in range(0, len(sources), at_once):
                some, inside = sources[begin : begin + at_once], (of_source >= begin) & (of_source < begin + at_once)
                late, table = self._traced(some, own[inside], of_source[inside] - begin, lengths, deadline)
                found.append(table)
                if late:
                    return joined(found)
        return joined(found)

    def _traced(self, sources: Ints, demands: Ints, at: Ints, lengths: list[float], deadline: float) -> tuple[bool, PathTable]:
        """The paths of demands in the trees of some sources, ``at`` which each begins; whether the time was up before all trees."""
        traffic, trees = self._traffic, []
        for source in sources.tolist():
            if time.monotonic() > deadline:
                break
            trees.append(self._tree(source, lengths))
        which = np.flatnonzero(at < len(trees))
        if not len(which):
            return len(trees) < len(sources), joined([])
        distance = np.array([one[0] for one in trees])
        arc_in = np.array([one[1] for one in trees]).T
        demands, at = demands[which], at[which]
        target = traffic.target[demands]
        reached = (distance[at, target] <= traffic.latency_limit[demands]) & (arc_in[target, at] >= 0)
        demands, at = demands[reached], at[reached]
        ends = traffic.source[demands], traffic.target[demands]
        return len(trees) < len(sources), traced(self._network.arc_tail, arc_in, demands, at, ends)

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

    def _listed(self, demands: Ints, open_arcs: Bools) -> PathTable:
        from models.flow.paths.admissible import admissible

        allowed = admissible(self._problem)
        served: list[int] = []
        paths: list[list[int]] = []
        if allowed is None:
            return joined([])
        for demand in demands.tolist():
            for one in range(int(allowed.starts[demand]), int(allowed.starts[demand + 1])):
                path = allowed.arcs[allowed.path_starts[one] : allowed.path_starts[one + 1]]
                if open_arcs[path].all():
                    served.append(demand)
                    paths.append(path.tolist())
                    break
        return table_of(np.array(served, dtype=np.int64), paths)

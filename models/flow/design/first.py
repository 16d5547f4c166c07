"""A design at once: demands routed one after another where room costs least, then taken up and routed anew.

The price of room on a link is what its cheapest modules cost with the demand less what they cost without it, so that demands
gather where a large module has room left. After each failure the demands that it breaks are routed anew in the same way.
"""

from __future__ import annotations

import heapq
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from models.flow.design.cutsets import cuts_of
from models.flow.design.works import works_of
from models.flow.schema import Plan, Route, ScenarioRoutes, Upgrade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.flow.design.works import Works
    from models.flow.schema import Problem
    from models.program import Bools, Floats

MOST_PASSES = 20
HALF = 0.5
WORSE = 0.01  # relative: how much dearer than the best a step may be


def first_plan(problem: Problem, seconds: float) -> Plan | None:
    """A design that carries everything, also after every failure; None when this way of routing finds none.

    After ``seconds`` nothing is improved any more: what is not routed by then takes the route that is cheapest for a little traffic.
    """
    works = works_of(problem)
    deadline = time.monotonic() + seconds
    best: tuple[float, Plan] | None = None
    for careful in (False, True):
        if careful and time.monotonic() > deadline:
            break
        found = _Routing(works, deadline).plan(careful=careful)
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    return None if best is None else best[1]


def shaken_plans(problem: Problem, rng: np.random.Generator, seconds: float) -> Iterator[Plan]:
    """Designs found by closing links and routing what was on them anew; the best so far, about once a second.

    A step may cost a little more than the best (Dueck 1993). For designs without failures; nothing where no first routing is found.
    """
    yield from _Routing(works_of(problem), time.monotonic() + seconds).shaken(rng)


def simple_bounds(problem: Problem) -> dict[str, float]:
    """A bound on the cost: every demand on its cheapest path, and what the modules around each node must cost at least."""
    works = works_of(problem)
    return {"design_cost": works.installed_cost + _routing_bound(works) + _building_bound(works)}


def _routing_bound(works: Works) -> float:
    network, traffic = works.network, works.traffic
    if (network.link_cost <= 0).all():
        return 0.0
    total = 0.0
    # Of a load charged by the larger of both ways at least half is charged.
    cost = np.where(works.charged_larger, 0.5, 1.0)[network.arc_link] * np.maximum(network.arc_cost, 0.0)
    for source in np.unique(traffic.source).tolist():
        distance, _ = _dijkstra(works, source, lambda arc: float(cost[arc]), None)
        total += sum(
            distance[int(traffic.target[demand])] * float(traffic.size[demand])
            for demand in np.flatnonzero(traffic.source == source).tolist()
            if math.isfinite(distance[int(traffic.target[demand])])
        )
    return total


def _building_bound(works: Works) -> float:
    """Each link touches two nodes, so that half of what all nodes need together must be built."""
    network = works.network
    per_gbps = np.full(network.links, np.inf)
    np.minimum.at(per_gbps, works.module_link, works.module_cost / works.module_capacity)
    cuts = cuts_of(works, np.eye(network.nodes, dtype=np.bool_))
    known = np.where(np.isinf(network.link_capacity), 0.0, network.link_capacity)
    missing = np.maximum(cuts.demand - (cuts.crossing * known).sum(axis=1), 0.0)
    cheapest = np.where(cuts.crossing, per_gbps, np.inf).min(axis=1, initial=np.inf)
    needed = np.where(np.isfinite(cheapest), missing * np.where(np.isfinite(cheapest), cheapest, 0.0), 0.0)
    return float(needed.max(initial=0.0))


def _dijkstra(
    works: Works, source: int, price: Callable[[int], float], target: int | None, dead: Bools | None = None
) -> tuple[list[float], list[int]]:
    """Distances from ``source`` and the arc by which each node is reached; stops at ``target``."""
    network = works.network
    starts, arcs = network.out_arcs
    distance, came = [math.inf] * network.nodes, [-1] * network.nodes
    distance[source] = 0.0
    queue = [(0.0, source)]
    done = [False] * network.nodes
    while queue:
        here_at, here = heapq.heappop(queue)
        if done[here]:
            continue
        done[here] = True
        if here == target:
            break
        for arc in arcs[starts[here] : starts[here + 1]].tolist():
            there = int(network.arc_head[arc])
            if done[there] or (dead is not None and dead[network.arc_link[arc]]):
                continue
            at = here_at + price(arc)
            if at < distance[there]:
                distance[there], came[there] = at, arc
                heapq.heappush(queue, (at, there))
    return distance, came


@dataclass(eq=False)
class _Routing:
    """Loads in every scenario, (scenarios, channels), the first without a failure; what each link needs is the largest of its loads."""

    works: Works
    deadline: float
    need: list[float] = field(default_factory=list)
    prices: dict[tuple[int, float], float] = field(default_factory=dict)

    def plan(self, *, careful: bool) -> tuple[float, Plan] | None:
        """Cost and plan; ``careful`` prices room by what is built already from the first demand on."""
        works = self.works
        channels = len(works.network.channel_link)
        self.need = [0.0] * works.network.links
        load = np.zeros(channels)
        paths = self._routed(load, None, {}, careful=careful)
        if paths is None:
            return None
        for _ in range(MOST_PASSES):
            if time.monotonic() > self.deadline or not self._again(load, paths):
                break
        after: list[ScenarioRoutes] = []
        for failure in works.failures:
            broken = {demand for demand, path in paths.items() if failure.dead[works.network.arc_link[path]].any()}
            kept = {demand: path for demand, path in paths.items() if demand not in broken}
            left = np.zeros(channels)
            for demand, path in kept.items():
                np.add.at(left, works.network.arc_channel[path], works.traffic.size[demand])
            changed = self._routed(left, failure.dead, kept, careful=True)
            if changed is None:
                return None
            after.append(ScenarioRoutes(scenario=failure.id, routes=self._routes({demand: changed[demand] for demand in sorted(broken)})))
        return self._built(paths, tuple(after))

    def shaken(self, rng: np.random.Generator) -> Iterator[Plan]:
        """Close links, route their demands anew, let all demands settle, and go back where this is much dearer than the best."""
        started = self._started()
        if started is None:
            return
        load, paths = started
        here = best = self._total(load)
        kept = (load.copy(), list(self.need), dict(paths))
        found, told = kept, time.monotonic()
        while time.monotonic() < self.deadline:
            if time.monotonic() > told + 1.0:
                told = time.monotonic()
                yield from self._best(found)
            closed = np.zeros(self.works.network.links, dtype=np.bool_)
            used = np.flatnonzero(np.array(self.need) > 0)
            closed[rng.choice(used, size=min(len(used), int(rng.integers(1, 4))), replace=False)] = True
            if self._closed(load, paths, closed, rng):
                self._again(load, paths)
                here = self._total(load)
                if here <= best * (1 + WORSE):
                    kept = (load.copy(), list(self.need), dict(paths))
                    if here < best:
                        best, found = here, kept
                    continue
            load[:], self.need, paths = kept[0], list(kept[1]), dict(kept[2])
        yield from self._best(found)

    def _best(self, found: tuple[Floats, list[float], dict[int, list[int]]]) -> Iterator[Plan]:
        """The plan of loads, needs and paths that were kept."""
        held, self.need = self.need, found[1]
        built = self._built(found[2], ())
        self.need = held
        if built is not None:
            yield built[1]

    def _started(self) -> tuple[Floats, dict[int, list[int]]] | None:
        """Loads and paths of a first routing: with a look at what is built already, or else by flat prices."""
        for careful in (True, False):
            self.need = [0.0] * self.works.network.links
            load = np.zeros(len(self.works.network.channel_link))
            paths = self._routed(load, None, {}, careful=careful)
            while paths is not None and time.monotonic() < self.deadline and self._again(load, paths):
                pass
            if paths is not None and math.isfinite(self._total(load)):
                return load, paths
        return None

    def _closed(self, load: Floats, paths: dict[int, list[int]], closed: Bools, rng: np.random.Generator) -> bool:
        """Move everything off the closed links; False when something finds no other way."""
        network, traffic = self.works.network, self.works.traffic
        moved = [demand for demand, path in paths.items() if closed[network.arc_link[path]].any()]
        for demand in moved:
            self._add(load, paths[demand], -float(traffic.size[demand]))
        for demand in rng.permutation(moved).tolist() if rng.random() < HALF else sorted(moved, key=lambda one: -traffic.size[one]):
            path = self._path(demand, load, closed, careful=True)
            if path is None:
                return False
            paths[demand] = path
            self._add(load, path, float(traffic.size[demand]))
        return True

    def _total(self, load: Floats) -> float:
        """What everything costs; routing by the sum of both ways."""
        network = self.works.network
        routing = float(np.maximum(network.link_cost, 0.0)[network.channel_link] @ load)
        return routing + sum(self._cost(link, gbps) for link, gbps in enumerate(self.need) if gbps > 0)

    def _routed(self, load: Floats, dead: Bools | None, known: dict[int, list[int]], *, careful: bool) -> dict[int, list[int]] | None:
        """Paths of all demands, the largest first; None when one finds no room."""
        traffic, paths = self.works.traffic, dict(known)
        for demand in np.argsort(-traffic.size, kind="stable").tolist():
            if demand not in paths:
                path = self._path(demand, load, dead, careful=careful and time.monotonic() < self.deadline)
                if path is None:
                    return None
                paths[demand] = path
                self._add(load, path, float(traffic.size[demand]))
        return paths

    def _again(self, load: Floats, paths: dict[int, list[int]]) -> bool:
        """Take up every demand and route it anew; whether any changed its path."""
        changed = False
        for demand in np.argsort(-self.works.traffic.size, kind="stable").tolist():
            if time.monotonic() > self.deadline:
                return False
            size, path = float(self.works.traffic.size[demand]), paths[demand]
            self._add(load, path, -size)
            other = self._path(demand, load, None, careful=True)
            if other is not None and self._price(other, load, size) < self._price(path, load, size) - 1e-9:
                paths[demand], changed = other, True
            self._add(load, paths[demand], size)
        return changed

    def _add(self, load: Floats, path: list[int], size: float) -> None:
        network = self.works.network
        for arc in path:
            channel, link = int(network.arc_channel[arc]), int(network.arc_link[arc])
            load[channel] += size
            if size > 0:
                self.need[link] = max(self.need[link], float(load[channel]))
            else:
                pair = {
                    channel,
                    *(int(network.arc_channel[one]) for one in (network.forward_arc[link], network.backward_arc[link]) if one >= 0),
                }
                self.need[link] = max(float(load[one]) for one in pair)

    def _price(self, path: list[int], load: Floats, size: float) -> float:
        return sum(self._marginal(arc, load, size) for arc in path)

    def _path(self, demand: int, load: Floats, dead: Bools | None, *, careful: bool) -> list[int] | None:
        works, traffic = self.works, self.works.traffic
        source, target, size = int(traffic.source[demand]), int(traffic.target[demand]), float(traffic.size[demand])
        price = (lambda arc: self._marginal(arc, load, size)) if careful else self._flat
        distance, came = _dijkstra(works, source, price, target, dead)
        if not math.isfinite(distance[target]):
            return None
        path: list[int] = []
        node = target
        while node != source:
            path.append(came[node])
            node = int(works.network.arc_tail[came[node]])
        return path[::-1]

    def _marginal(self, arc: int, load: Floats, size: float) -> float:
        network = self.works.network
        link = int(network.arc_link[arc])
        needed = max(self.need[link], float(load[network.arc_channel[arc]]) + size)
        before, after = self._cost(link, self.need[link]), self._cost(link, needed)
        return max(float(network.link_cost[link]), 0.0) * size + (after - before if after < math.inf else math.inf)

    def _flat(self, arc: int) -> float:
        """The price of a Gbit/s with the best module; a little for every hop, so that ties go to short paths."""
        works, link = self.works, int(self.works.network.arc_link[arc])
        places = works.of_link[link]
        rate = float((works.module_cost[places] / works.module_capacity[places]).min(initial=math.inf)) if len(places) else math.inf
        if works.network.link_capacity[link] > 0 and not math.isfinite(rate):
            rate = 0.0
        return max(float(works.network.link_cost[link]), 0.0) + rate + 1e-9

    def _cost(self, link: int, gbps: float) -> float:
        key = (link, round(gbps, 6))
        if key not in self.prices:
            found = self.works.cheapest(link, gbps)
            self.prices[key] = math.inf if found is None else found[0]
        return self.prices[key]

    def _routes(self, paths: dict[int, list[int]]) -> tuple[Route, ...]:
        network, traffic = self.works.network, self.works.traffic
        return tuple(
            Route(
                demand=traffic.ids[demand],
                gbps=float(traffic.size[demand]),
                hops=tuple(network.link_ids[network.arc_link[arc]] for arc in path),
            )
            for demand, path in sorted(paths.items())
        )

    def _built(self, paths: dict[int, list[int]], after: tuple[ScenarioRoutes, ...]) -> tuple[float, Plan] | None:
        """The cheapest modules for what each link needs."""
        works = self.works
        flow = np.zeros(works.network.arcs)
        for demand, path in paths.items():
            np.add.at(flow, path, works.traffic.size[demand])
        counts = np.zeros(works.modules)
        for link, gbps in enumerate(self.need):
            found = works.cheapest(link, gbps) if gbps > 0 else (0.0, {})
            if found is None:
                return None
            for place, count in found[1].items():
                counts[place] = count
        upgrades: tuple[Upgrade, ...] = works.upgrades(counts)
        cost = works.building_cost(counts) + works.routing_cost(flow)
        return cost, Plan(routes=self._routes(paths), upgrades=upgrades, scenario_routes=after)

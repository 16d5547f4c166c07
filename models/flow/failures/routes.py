"""Paths as columns: which demand each is of, what it goes over, and which events hit it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.flow.failures.scenarios import Family
    from models.flow.network.arrays import Network
    from models.flow.network.tally import Tally
    from models.program import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class RouteSet:
    """Paths by position: ``demand`` (routes,), and path r goes over ``arcs[starts[r]:starts[r + 1]]``."""

    network: Network
    demand: Ints
    starts: Ints
    arcs: Ints

    @property
    def count(self) -> int:
        """How many paths."""
        return len(self.demand)

    @cached_property
    def entry_route(self) -> Ints:
        """The path of each entry of ``arcs``."""
        return np.repeat(np.arange(self.count, dtype=np.int64), np.diff(self.starts))

    @cached_property
    def touched(self) -> tuple[Ints, Ints]:
        """Which links each path uses: pairs (path, link), each once, by path."""
        return _once(self.entry_route, self.network.arc_link[self.arcs], self.network.links)

    def arcs_of(self, route: int) -> tuple[int, ...]:
        """The arcs of one path in order."""
        return tuple(self.arcs[self.starts[route] : self.starts[route + 1]].tolist())

    def links_of(self, route: int) -> Ints:
        """The links of one path in order."""
        return self.network.arc_link[self.arcs[self.starts[route] : self.starts[route + 1]]]

    def sums(self, arc_values: Floats) -> Floats:
        """The sum of ``arc_values`` (arcs,) along each path, shape (routes,)."""
        return np.bincount(self.entry_route, weights=arc_values[self.arcs], minlength=self.count)[: self.count].astype(np.float64)

    def hit_by(self, links: Sequence[int]) -> Bools:
        """The paths that use any of some links, shape (routes,)."""
        down = np.zeros(self.network.links, dtype=np.bool_)
        down[list(links)] = True
        return self.hit(down)

    def hit(self, down: Bools) -> Bools:
        """The paths that use any link of ``down`` (links,), shape (routes,)."""
        found = np.zeros(self.count, dtype=np.bool_)
        route, link = self.touched
        found[route[down[link]]] = True
        return found

    def events(self, family: Family) -> tuple[Ints, Ints]:
        """Which events of a family hit each path: pairs (path, event), each once, by path."""
        route, link = self.touched
        starts, events = family.of_link
        at_risk = link < len(starts) - 1
        route, link = route[at_risk], link[at_risk]
        counts = starts[link + 1] - starts[link]
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        return _once(np.repeat(route, counts), events[np.repeat(starts[link], counts) + within], family.count)

    def joined(self, demands: Sequence[int], paths: Sequence[Sequence[int]]) -> RouteSet:
        """These paths and more, given as arcs, after them."""
        starts = self.starts[-1] + np.cumsum([len(path) for path in paths], dtype=np.int64)
        arcs = np.fromiter((arc for path in paths for arc in path), np.int64)
        return RouteSet(
            self.network,
            np.concatenate((self.demand, np.array(demands, dtype=np.int64))),
            np.concatenate((self.starts, starts)).astype(np.int64),
            np.concatenate((self.arcs, arcs)),
        )


def no_routes(network: Network) -> RouteSet:
    """The empty set."""
    nothing = np.zeros(0, dtype=np.int64)
    return RouteSet(network, nothing, np.zeros(1, dtype=np.int64), nothing)


def kept_routes(routes: RouteSet, kept: Bools) -> RouteSet:
    """The paths for which ``kept`` (routes,) holds, in their order."""
    counts = np.diff(routes.starts)[kept]
    return RouteSet(
        routes.network,
        routes.demand[kept],
        np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        routes.arcs[kept[routes.entry_route]],
    )


def reserved(network: Network, tally: Tally) -> tuple[RouteSet, Floats]:
    """The sound routes of a plan, a bundle's links each taken as used, and what each reserves, in Gbit/s."""
    sound = tally.route_demand >= 0
    return kept_routes(RouteSet(network, tally.route_demand, tally.starts, tally.arcs), sound), tally.route_gbps[sound]


def _once(first: Ints, second: Ints, width: int) -> tuple[Ints, Ints]:
    pairs = np.unique(first * max(width, 1) + second)
    return pairs // max(width, 1), pairs % max(width, 1)

"""What is left after a failure: who is cut off, and what prices of capacity prove about the busiest link.

With prices y on the channels that are up, every Gbit/s of a demand pays at least the price of its cheapest path that is up, and a channel
of utilisation u takes in u times its price and capacity. So the busiest has at least u = (sum of size times cheapest price) / (sum of
price times capacity), whatever the routing: for any prices at all. The right prices are the duals of the routing that is best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.flow.columns.pricing import GraphPricer, ListPricer, PathTable
from models.flow.network.arrays import network_of, traffic_of
from models.flow.network.fabric import commodities_of, plain_fabric
from models.flow.paths.admissible import admissible
from models.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.flow.columns.pricing import Priced, Pricer
    from models.flow.network.arrays import Network
    from models.flow.schema import LinkPrice, Problem
    from models.program import Bools, Floats, Ints

MOST_GROUPS = 300  # beyond it all pairs of them cost more than a search from each source


class Ways:
    """The paths that the demands of a problem may use, alike demands taken together as one commodity."""

    def __init__(self, problem: Problem) -> None:
        self.network = network_of(problem)
        self.fabric = plain_fabric(self.network)
        self.commodities = commodities_of(problem, self.fabric)
        opened = np.flatnonzero(self.network.channel_capacity[self.network.arc_channel] > 0)
        self.arc_link: Ints = self.network.arc_link[opened]
        self.limited: Bools = np.isfinite(self.fabric.capacity)
        self.listed = self._table(problem, opened)
        self._pricer: Pricer
        self._pricer = GraphPricer(self.fabric, self.commodities) if self.listed is None else ListPricer(self.commodities, self.listed)

    def _table(self, problem: Problem, opened: Ints) -> PathTable | None:
        """The paths of a choice, over arcs of the fabric; None when all are allowed."""
        found = admissible(problem)
        if found is None:
            return None
        place = np.full(self.network.arcs, -1, dtype=np.int64)
        place[opened] = np.arange(len(opened))
        commodity, lists = list[int](), list[list[int]]()
        for one, demand in enumerate(self.commodities.first.tolist()):
            for path in range(int(found.starts[demand]), int(found.starts[demand + 1])):
                arcs = place[found.arcs[found.path_starts[path] : found.path_starts[path + 1]]]
                if (arcs >= 0).all():
                    commodity.append(one)
                    lists.append(arcs.tolist())
        starts = np.concatenate(([0], np.cumsum([len(arcs) for arcs in lists], dtype=np.int64))).astype(np.int64)
        return PathTable(np.array(commodity, dtype=np.int64), starts, np.array([arc for arcs in lists for arc in arcs], dtype=np.int64))

    def cheapest(self, channel_price: Floats, down: Bools) -> Priced:
        """The cheapest paths that are up, at prices of the fabric's channels (at least 0) and with links ``down`` (links,)."""
        price = self._arc_price(channel_price, down)
        return self._pricer.cheapest(np.broadcast_to(price, (max(self.commodities.ranks, 1), len(price))))

    def distances(self, channel_price: Floats, down: Bools) -> Floats:
        """The price of each commodity's cheapest path that is up, inf where none is; shape (commodities,).

        Few channels have a price: nodes that reach each other for nothing are taken as one.
        """
        if self.listed is None and not np.isfinite(self.commodities.limit).any():
            price = self._arc_price(channel_price, down)
            usable = np.isfinite(price)
            free = usable & (price == 0.0)
            group = strong_groups(self.fabric.nodes, self.fabric.tail[free], self.fabric.head[free])
            count = int(group.max(initial=-1)) + 1
            if count <= MOST_GROUPS:
                between = _all_pairs(count, group[self.fabric.tail[usable]], group[self.fabric.head[usable]], price[usable])
                found: Floats = between[group[self.commodities.source], group[self.commodities.target]]
                return found
        return self.cheapest(channel_price, down).distance

    def least_utilisation(self, channel_price: Floats, down: Bools) -> tuple[float, Floats]:
        """What prices of channels (at least 0) prove about the busiest link; with the distances at them."""
        up = self.limited & ~down[self.network.channel_link[self.fabric.members]]
        price = np.where(up, channel_price, 0.0)
        distance = self.distances(price, down)
        worth = float(price[up] @ self.fabric.capacity[up])
        paid = float(self.commodities.size @ np.where(np.isfinite(distance), distance, 0.0))
        return (paid / worth if worth > 0.0 else 0.0), distance

    def _arc_price(self, channel_price: Floats, down: Bools) -> Floats:
        return np.where(down[self.arc_link], np.inf, channel_price[self.fabric.channel])

    def channel_prices(self, prices: Iterable[LinkPrice]) -> Floats | None:
        """The prices of a plan by channel of the fabric; None when one is of no such channel."""
        found = np.zeros(self.fabric.channels)
        place = {
            (int(self.network.channel_link[one]), bool(self.network.channel_back[one])): at for at, one in enumerate(self.fabric.members)
        }
        for one in prices:
            at = place.get((self.network.link_at.get(one.link, -1), one.back))
            if at is None:
                return None
            found[at] += one.price
        return found

    def demands_cut_off(self, distance: Floats) -> Bools:
        """Demands without any path that is up, of distances; shape (demands,)."""
        return np.isinf(distance)[self.commodities.member]


def ways_of(problem: Problem) -> Ways:
    """The ways of a problem, kept as long as it lives."""
    return _ways.of(problem)


def strong_groups(nodes: int, tail: Ints, head: Ints) -> Ints:
    """A number for each node, the same for two nodes that reach each other over the arcs; shape (nodes,).

    Tarjan, "Depth-first search and linear graph algorithms", SIAM Journal on Computing 1, 1972, without recursion.
    """
    leaving: list[list[int]] = [[] for _ in range(nodes)]
    for start, end in zip(tail.tolist(), head.tolist(), strict=True):
        leaving[start].append(end)
    group, seen, low = [-1] * nodes, [-1] * nodes, [0] * nodes
    waiting: list[int] = []
    groups = visited = 0
    for root in range(nodes):
        path = [root] if seen[root] < 0 else []
        while path:
            node = path[-1]
            if seen[node] < 0:
                seen[node] = low[node] = visited
                visited += 1
                waiting.append(node)
            following = leaving[node].pop() if leaving[node] else -1
            if following >= 0:
                if seen[following] < 0:
                    path.append(following)
                elif group[following] < 0:
                    low[node] = min(low[node], seen[following])
                continue
            path.pop()
            if path:
                low[path[-1]] = min(low[path[-1]], low[node])
            if low[node] == seen[node]:
                while group[node] < 0:
                    group[waiting.pop()] = groups
                groups += 1
    return np.array(group, dtype=np.int64)


def _all_pairs(count: int, tail: Ints, head: Ints, price: Floats) -> Floats:
    """Distances between all pairs of groups (Floyd, "Algorithm 97: shortest path", 1962), shape (count, count)."""
    found = np.full((count, count), np.inf)
    np.minimum.at(found, (tail, head), price)
    np.fill_diagonal(found, 0.0)
    for over in range(count):
        np.minimum(found, found[:, over, None] + found[None, over], out=found)
    return found


def nodes_cut_off(problem: Problem, cut: Bools) -> tuple[int, ...]:
    """Nodes that none of their demands reach any more, or that none of them leave; ``cut`` (demands,) are the demands cut off."""
    traffic, network = traffic_of(problem), network_of(problem)
    lost = np.zeros(network.nodes, dtype=np.bool_)
    for ends in (traffic.source, traffic.target):
        every, gone = np.bincount(ends, minlength=network.nodes), np.bincount(ends[cut], minlength=network.nodes)
        lost |= (every > 0) & (every == gone)
    return tuple(np.flatnonzero(lost).tolist())


def down_of(network: Network, links: Iterable[int]) -> Bools:
    """A mask of links, shape (links,)."""
    down = np.zeros(network.links, dtype=np.bool_)
    down[list(links)] = True
    return down


_ways: Kept[Problem, Ways] = Kept(Ways)

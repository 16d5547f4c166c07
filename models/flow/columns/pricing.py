"""Cheapest paths for all commodities at once: what prices columns, and what turns link prices into bounds.

Distances come from all sources together, hop by hop (Bellman, "On a routing problem", 1958; Moore 1959), as array operations, or for
small networks from whole matrices: the dense small networks of traffic engineering leave nothing for a heap to win. Among paths of
equal price the one with the fewest hops is taken. Prices may be negative where no cycle is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from models.flow.paths.allpairs import cheapest_trees, worth_it
from models.flow.paths.limited import allowed, limited_paths

if TYPE_CHECKING:
    from models.flow.network.fabric import Commodities, Fabric
    from models.program import Floats, Ints

CHUNK = 4_000_000  # entries of the distance table that are worked on at a time


@dataclass(frozen=True, eq=False)
class PathTable:
    """Paths by rows: path k goes over ``arcs[starts[k]:starts[k + 1]]`` and belongs to ``commodity[k]``.

    ``simple`` says that it is known that no path goes over an arc twice.
    """

    commodity: Ints
    starts: Ints
    arcs: Ints
    simple: bool = False

    @property
    def count(self) -> int:
        """How many paths."""
        return len(self.commodity)

    @cached_property
    def entry_path(self) -> Ints:
        """The path of each entry of ``arcs``."""
        return np.repeat(np.arange(self.count), np.diff(self.starts))

    def totals(self, arc_values: Floats) -> Floats:
        """The sum of an arc's number along each path, shape (paths,)."""
        return run_totals(arc_values[self.arcs], self.starts)

    def chosen(self, rows: Ints) -> PathTable:
        """The table of some of the paths."""
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate(([0], np.cumsum(lengths)))
        inside = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
        return PathTable(self.commodity[rows], starts, self.arcs[np.repeat(self.starts[rows], lengths) + inside], self.simple)


class Priced(Protocol):
    """What a pricer found at some prices."""

    @property
    def distance(self) -> Floats:
        """Price of each commodity's cheapest path, inf where it has none, shape (commodities,)."""
        ...

    def paths(self, which: Ints) -> PathTable:
        """The cheapest paths of some commodities, each of which has one; in the order of ``which``."""
        ...


class Pricer(Protocol):
    """Finds the cheapest admissible path of every commodity."""

    @property
    def single(self) -> bool:
        """Whether it is known that no commodity has more than one path."""
        ...

    def cheapest(self, prices: Floats) -> Priced:
        """``prices`` has one row for each rank: shape (ranks, arcs)."""
        ...


class GraphPricer:
    """Every loopless path of the fabric is admissible, as far as latency limits allow."""

    def __init__(self, fabric: Fabric, commodities: Commodities) -> None:
        self._fabric, self._commodities = fabric, commodities
        self._order = np.argsort(fabric.head, kind="stable")
        self._limited = bool(np.isfinite(commodities.limit).any())

    @property
    def single(self) -> bool:
        """Whether the fabric is a forest, each of whose joints has at most one arc each way."""
        fabric = self._fabric
        if len(np.unique(fabric.tail * fabric.nodes + fabric.head)) < fabric.arcs:
            return False
        low, high = np.minimum(fabric.tail, fabric.head), np.maximum(fabric.tail, fabric.head)
        joints = len(np.unique(low * fabric.nodes + high))
        part = np.arange(fabric.nodes)
        while True:
            least = part.copy()
            np.minimum.at(least, low, part[high])
            np.minimum.at(least, high, part[low])
            least = least[least]
            if np.array_equal(least, part):
                return joints == fabric.nodes - len(np.unique(part))
            part = least

    def cheapest(self, prices: Floats) -> GraphPriced:
        """See ``Pricer``."""
        commodities = self._commodities
        distance = np.full(commodities.count, np.inf)
        tables: list[tuple[Ints, Ints, Ints]] = []
        for rank in range(commodities.ranks):
            ours = np.flatnonzero(commodities.rank == rank)
            sources, column = np.unique(commodities.source[ours], return_inverse=True)
            step = max(1, CHUNK // max(self._fabric.arcs, 1))
            for begin in range(0, len(sources), step):
                here = np.flatnonzero((column >= begin) & (column < begin + step))
                which, at = ours[here], column[here] - begin
                found, arc_in = self.distances(sources[begin : begin + step], prices[rank])
                distance[which] = found[commodities.target[which], at]
                tables.append((which, at, arc_in))
        priced = GraphPriced(self._fabric, commodities, distance, tables)
        return self._within_limits(priced, prices) if self._limited else priced

    def distances(self, sources: Ints, price: Floats) -> tuple[Floats, Ints]:
        """Price of the cheapest path from each source to each node, and the arc it arrives by (-1: none), both (nodes, sources)."""
        fabric, order = self._fabric, self._order
        if worth_it(fabric.nodes, len(sources), price):
            return cheapest_trees(fabric.nodes, fabric.tail, fabric.head, price, sources)
        tail, head, cost = fabric.tail[order], fabric.head[order], price[order][:, None]
        first = np.flatnonzero(np.diff(head, prepend=-1))
        reached = head[first]
        distance = np.full((fabric.nodes, len(sources)), np.inf)
        distance[sources, np.arange(len(sources))] = 0.0
        turn = np.zeros(distance.shape, dtype=np.int64)  # the round in which each distance was found: fewer hops first, no cycles
        if len(first):
            for number in range(1, fabric.nodes + 1):
                best = np.minimum.reduceat(distance[tail] + cost, first, axis=0)
                better = best < distance[reached]
                if not better.any():
                    break
                distance[reached] = np.where(better, best, distance[reached])
                turn[reached] = np.where(better, number, turn[reached])
        return distance, self._arrivals(sources, distance, turn, price)

    def _arrivals(self, sources: Ints, distance: Floats, turn: Ints, price: Floats) -> Ints:
        fabric, order = self._fabric, self._order
        arc_in = np.full(distance.shape, -1, dtype=np.int64)
        if not fabric.arcs:
            return arc_in
        tail, head = fabric.tail[order], fabric.head[order]
        first = np.flatnonzero(np.diff(head, prepend=-1))
        fits = (distance[tail] + price[order][:, None] == distance[head]) & (turn[tail] < turn[head])
        at = np.maximum.reduceat(np.where(fits, np.arange(len(order))[:, None], -1), first, axis=0)
        arc_in[head[first]] = np.where(at >= 0, order[at], -1)
        lost = np.flatnonzero(((at < 0) & (turn[head[first]] > 0)).any(axis=0))
        for column in lost.tolist():
            arc_in[:, column] = self._followed(int(sources[column]), distance[:, column], price)
        return arc_in

    def _followed(self, source: int, distance: Floats, price: Floats) -> Ints:
        """The arc by which a walk from ``source`` over arcs that fit first comes to each node, shape (nodes,).

        For where turns mislead: a node came nearer in a later turn, by less than what rounding leaves of it after a dear arc.
        """
        fabric = self._fabric
        arc_in = np.full(len(distance), -1, dtype=np.int64)
        fits = np.flatnonzero(np.isfinite(distance[fabric.head]) & (distance[fabric.tail] + price == distance[fabric.head]))
        here = np.zeros(len(distance), dtype=np.bool_)
        here[source] = True
        seen = here.copy()
        while here.any():
            on = fits[here[fabric.tail[fits]] & ~seen[fabric.head[fits]]]
            arc_in[fabric.head[on]] = on
            here = np.zeros(len(distance), dtype=np.bool_)
            here[fabric.head[on]] = True
            seen |= here
        return arc_in

    def _within_limits(self, priced: GraphPriced, prices: Floats) -> GraphPriced:
        """Where the cheapest path takes too long, the cheapest that does not, in its place."""
        commodities, fabric = self._commodities, self._fabric
        asked = np.flatnonzero(np.isfinite(commodities.limit) & np.isfinite(priced.distance))
        late = asked[priced.paths(asked).totals(fabric.latency) > allowed(commodities.limit[asked])]
        for rank in np.unique(commodities.rank[late]).tolist():
            for source in np.unique(commodities.source[late[commodities.rank[late] == rank]]).tolist():
                which = late[(commodities.rank[late] == rank) & (commodities.source[late] == source)]
                found = limited_paths(
                    fabric.nodes,
                    (fabric.tail, fabric.head, fabric.latency),
                    prices[rank],
                    source,
                    commodities.target[which],
                    allowed(commodities.limit[which]),
                )
                for one, answer in zip(which.tolist(), found, strict=True):
                    priced.replace(one, answer)
        return priced


class GraphPriced:
    """See ``Priced``: distances, and paths traced back on demand."""

    def __init__(self, fabric: Fabric, commodities: Commodities, distance: Floats, tables: list[tuple[Ints, Ints, Ints]]) -> None:
        self.distance = distance
        self._fabric, self._commodities, self._tables = fabric, commodities, tables
        self._own: dict[int, list[int]] = {}

    def replace(self, commodity: int, answer: tuple[float, list[int]] | None) -> None:
        """Take another path for one commodity, or none."""
        self.distance[commodity] = np.inf if answer is None else answer[0]
        if answer is not None:
            self._own[commodity] = answer[1]

    def paths(self, which: Ints) -> PathTable:
        """See ``Priced``."""
        wanted = np.zeros(self._commodities.count, dtype=np.bool_)
        wanted[which] = True
        parts = [self._traced(ours[wanted[ours]], at[wanted[ours]], arc_in) for ours, at, arc_in in self._tables]
        if self._own:
            parts = [self._with_own(part) for part in parts]
        found = joined(parts)
        place = np.empty(len(wanted), dtype=np.int64)
        place[found.commodity] = np.arange(found.count)
        return found if np.array_equal(found.commodity, which) else found.chosen(place[which])

    def _traced(self, which: Ints, at: Ints, arc_in: Ints) -> PathTable:
        commodities = self._commodities
        return traced(self._fabric.tail, arc_in, which, at, (commodities.source[which], commodities.target[which]))

    def _with_own(self, table: PathTable) -> PathTable:
        if not any(one in self._own for one in table.commodity.tolist()):
            return table
        lists = [
            self._own.get(one, None) or table.arcs[table.starts[row] : table.starts[row + 1]].tolist()
            for row, one in enumerate(table.commodity.tolist())
        ]
        return table_of(table.commodity, lists)


class ListPricer:
    """Only the paths of a table are admissible."""

    def __init__(self, commodities: Commodities, table: PathTable) -> None:
        self._commodities, self._table = commodities, table

    @property
    def single(self) -> bool:
        """Whether no commodity has more than one path."""
        return len(np.unique(self._table.commodity)) == self._table.count

    def cheapest(self, prices: Floats) -> ListPriced:
        """See ``Pricer``."""
        table, commodities = self._table, self._commodities
        totals = np.zeros(table.count)
        ranks = commodities.rank[table.commodity]
        for rank in range(commodities.ranks):
            ours = ranks == rank
            totals[ours] = table.totals(prices[rank])[ours]
        # Stable, so that of equal prices the path listed first is taken.
        order = np.lexsort((totals, table.commodity))
        first = np.flatnonzero(np.diff(table.commodity[order], prepend=-1))
        distance = np.full(commodities.count, np.inf)
        best = np.full(commodities.count, -1, dtype=np.int64)
        best[table.commodity[order[first]]] = order[first]
        distance[table.commodity[order[first]]] = totals[order[first]]
        return ListPriced(table, distance, best)


@dataclass(frozen=True, eq=False)
class ListPriced:
    """See ``Priced``."""

    table: PathTable
    distance: Floats
    best: Ints

    def paths(self, which: Ints) -> PathTable:
        """See ``Priced``."""
        return self.table.chosen(self.best[which])


def traced(tail: Ints, arc_in: Ints, which: Ints, at: Ints, ends: tuple[Ints, Ints]) -> PathTable:
    """The paths of ``which`` (paths,) in trees: column ``at`` of ``arc_in`` (nodes, trees) has the arc by which each node is reached.

    ``ends`` are source and target of each path; ``tail`` (arcs,).
    """
    source, node = ends
    going = np.flatnonzero(node != source)
    source, node, at = source[going], node[going], at[going]
    steps: list[tuple[Ints, Ints]] = []
    counts = np.zeros(len(which), dtype=np.int64)
    while len(going):
        arc = arc_in[node, at]
        steps.append((going, arc))
        counts[going] += 1
        node = tail[arc]
        on = np.flatnonzero(node != source)
        going, source, node, at = going[on], source[on], node[on], at[on]
    starts = np.concatenate(([0], np.cumsum(counts)))
    arcs = np.empty(int(starts[-1]), dtype=np.int64)
    for number, (one, arc) in enumerate(steps):
        arcs[starts[one + 1] - 1 - number] = arc
    return PathTable(which, starts, arcs, simple=True)


def run_totals(numbers: Floats, starts: Ints) -> Floats:
    """The sum of each run ``numbers[starts[k]:starts[k + 1]]``, shape (runs,)."""
    totals = np.zeros(len(starts) - 1)
    there = np.flatnonzero(starts[1:] > starts[:-1])
    if len(there):
        totals[there] = np.add.reduceat(numbers, starts[there])
    return totals


def table_of(commodity: Ints, paths: list[list[int]]) -> PathTable:
    """A table of paths given as lists."""
    lengths = np.fromiter((len(path) for path in paths), np.int64, len(paths))
    arcs = np.fromiter((arc for path in paths for arc in path), np.int64, int(lengths.sum()))
    return PathTable(commodity, np.concatenate(([0], np.cumsum(lengths))), arcs)


def joined(tables: list[PathTable]) -> PathTable:
    """Several tables as one."""
    if not tables:
        return PathTable(np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64))
    lengths = np.concatenate([np.diff(table.starts) for table in tables])
    return PathTable(
        np.concatenate([table.commodity for table in tables]),
        np.concatenate(([0], np.cumsum(lengths))),
        np.concatenate([table.arcs for table in tables]),
        all(table.simple for table in tables),
    )

"""The network of a problem as arrays: what every other module of the kind reckons with.

A link joins two nodes as the user gave it; an **arc** is one way over it: a directed link has one arc, any other has a forward and
a backward one. Capacity belongs to a **channel**: each arc has its own, but the two arcs of a ``shared`` link have one together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.kept import Kept
from models.named import Named

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.flow.schema import Problem
    from models.program import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes, links, arcs and channels by position.

    Shapes: node arrays (nodes,), ``link_*`` (links,), ``arc_*`` (arcs,), ``channel_*`` (channels,). Missing capacities are inf. Arcs come
    in the order of links, forward before backward.
    """

    node_ids: tuple[str, ...]
    supply: Floats
    link_ids: tuple[str, ...]
    link_tail: Ints
    link_head: Ints
    link_capacity: Floats
    link_latency: Floats
    link_cost: Floats
    link_lower: Floats
    arc_link: Ints
    arc_tail: Ints
    arc_head: Ints
    arc_back: Bools
    arc_channel: Ints
    channel_link: Ints
    channel_back: Bools

    @property
    def nodes(self) -> int:
        """How many nodes."""
        return len(self.node_ids)

    @property
    def links(self) -> int:
        """How many links."""
        return len(self.link_ids)

    @property
    def arcs(self) -> int:
        """How many arcs."""
        return len(self.arc_link)

    @cached_property
    def node_at(self) -> dict[str, int]:
        """Position of each node."""
        return {name: place for place, name in enumerate(self.node_ids)}

    @cached_property
    def link_at(self) -> dict[str, int]:
        """Position of each link."""
        return {name: place for place, name in enumerate(self.link_ids)}

    @cached_property
    def channel_capacity(self) -> Floats:
        """Gbit/s of each channel."""
        return self.link_capacity[self.channel_link]

    @cached_property
    def arc_latency(self) -> Floats:
        """Latency of each arc, in ms."""
        return self.link_latency[self.arc_link]

    @cached_property
    def arc_cost(self) -> Floats:
        """Cost of one Gbit/s on each arc."""
        return self.link_cost[self.arc_link]

    @cached_property
    def forward_arc(self) -> Ints:
        """The forward arc of each link, shape (links,)."""
        return np.flatnonzero(~self.arc_back)

    @cached_property
    def backward_arc(self) -> Ints:
        """The backward arc of each link, -1 for directed ones, shape (links,)."""
        found = np.full(self.links, -1, dtype=np.int64)
        back = np.flatnonzero(self.arc_back)
        found[self.arc_link[back]] = back
        return found

    @cached_property
    def out_arcs(self) -> tuple[Ints, Ints]:
        """CSR of the arcs that leave each node: ``starts`` (nodes + 1,), ``arcs`` (arcs,) in the order of the links."""
        order = np.argsort(self.arc_tail, kind="stable")
        starts = np.concatenate(([0], np.cumsum(np.bincount(self.arc_tail, minlength=self.nodes))))
        return starts.astype(np.int64), order


@dataclass(frozen=True, eq=False)
class Traffic(Named):
    """The demands by position, each array of shape (demands,); a missing latency limit is inf.

    ``size`` is what the problem says, with a design multiplied by its growth. ``classes`` are the priorities that occur, the most
    important first.
    """

    ids: tuple[str, ...]
    source: Ints
    target: Ints
    size: Floats
    priority: Ints
    value: Floats
    weight: Floats
    latency_limit: Floats

    @cached_property
    def classes(self) -> tuple[int, ...]:
        """The priorities, descending."""
        return tuple(np.unique(self.priority)[::-1].tolist())


def network_of(problem: Problem) -> Network:
    """The network of a problem, kept as long as the problem lives."""
    return _networks.of(problem)


def traffic_of(problem: Problem) -> Traffic:
    """The demands of a problem, kept as long as the problem lives."""
    return _traffic.of(problem)


def is_supplied(problem: Problem) -> bool:
    """Whether node supplies flow, not demands; without any supply it is a circulation, which costs below 0 or lower bounds drive."""
    return problem.use == "route" and traffic_of(problem).count == 0


def _network(problem: Problem) -> Network:
    node_ids, supply = _nodes(problem)
    at = {name: place for place, name in enumerate(node_ids)}
    table = problem.link_table
    if table is not None:
        count = len(table.source)
        ids: Sequence[str] = table.id if table.id is not None else tuple(f"l{place}" for place in range(count))
        ends = (table.source, table.target)
        columns = (
            table.capacity_gbps,
            table.latency_ms or (0.0,) * count,
            table.cost or (0.0,) * count,
            table.lower_gbps or (0.0,) * count,
        )
        direction: Sequence[str] = (table.direction,) * count
    else:
        links = problem.links
        ids = tuple(link.id for link in links)
        ends = (tuple(link.source for link in links), tuple(link.target for link in links))
        columns = (
            tuple(link.capacity_gbps for link in links),
            tuple(link.latency_ms for link in links),
            tuple(link.cost for link in links),
            tuple(link.lower_gbps for link in links),
        )
        direction = tuple(link.direction for link in links)
    tail, head = (np.fromiter((at[name] for name in names), np.int64, len(ids)) for names in ends)
    capacity = np.array([np.inf if one is None else one for one in columns[0]], dtype=np.float64)
    latency, cost, lower = (np.array(one, dtype=np.float64) for one in columns[1:])
    both = np.array([one != "directed" for one in direction], dtype=np.bool_)
    own = np.array([one == "each" for one in direction], dtype=np.bool_)
    arc_link = np.repeat(np.arange(len(ids)), 1 + both)
    arc_back = np.concatenate(([False], arc_link[1:] == arc_link[:-1])) if ids else np.zeros(0, dtype=np.bool_)
    first = ~arc_back | own[arc_link]  # arcs that open a channel
    return Network(
        node_ids=node_ids,
        supply=supply,
        link_ids=tuple(ids),
        link_tail=tail,
        link_head=head,
        link_capacity=capacity,
        link_latency=latency,
        link_cost=cost,
        link_lower=lower,
        arc_link=arc_link,
        arc_tail=np.where(arc_back, head[arc_link], tail[arc_link]),
        arc_head=np.where(arc_back, tail[arc_link], head[arc_link]),
        arc_back=arc_back,
        arc_channel=np.cumsum(first) - 1,
        channel_link=arc_link[first],
        channel_back=arc_back[first],
    )


def _nodes(problem: Problem) -> tuple[tuple[str, ...], Floats]:
    table = problem.node_table
    if table is not None:
        return table.id, np.array(table.supply_gbps or (0.0,) * len(table.id), dtype=np.float64)
    return tuple(node.id for node in problem.nodes), np.array([node.supply_gbps for node in problem.nodes], dtype=np.float64)


def _traffic_of(problem: Problem) -> Traffic:
    at = network_of(problem).node_at
    growth = problem.design.growth if problem.design is not None else 1.0
    table = problem.demand_table
    if table is not None:
        count = len(table.source)
        ids = table.id if table.id is not None else tuple(f"d{place}" for place in range(count))
        source, target, size = table.source, table.target, table.size_gbps
        priority, value, weight = (
            column or (default,) * count for column, default in ((table.priority, 0), (table.value, 1.0), (table.weight, 1.0))
        )
        limit: Iterable[float | None] = table.latency_limit_ms or (None,) * count
    else:
        demands = problem.demands
        count = len(demands)
        ids, source, target = (tuple(getattr(one, name) for one in demands) for name in ("id", "source", "target"))
        size, priority, value, weight = (
            tuple(getattr(one, name) for one in demands) for name in ("size_gbps", "priority", "value", "weight")
        )
        limit = [one.latency_limit_ms for one in demands]
    return Traffic(
        ids=tuple(ids),
        source=np.fromiter((at[name] for name in source), np.int64, count),
        target=np.fromiter((at[name] for name in target), np.int64, count),
        size=np.array(size, dtype=np.float64) * growth,
        priority=np.array(priority, dtype=np.int64),
        value=np.array(value, dtype=np.float64),
        weight=np.array(weight, dtype=np.float64),
        latency_limit=np.array([np.inf if one is None else one for one in limit], dtype=np.float64),
    )


_networks: Kept[Problem, Network] = Kept(_network)
_traffic: Kept[Problem, Traffic] = Kept(_traffic_of)

"""What is routed, on what, as the searches see it: a network or its quotient by symmetry, and demands that are alike as one commodity.

A **fabric** has arcs and channels as ``models.flow.network.arrays`` has, but an arc may stand for many links: a bundle. A **commodity** is
all the demands of one class from one node to another that may use the same paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.flow.network.arrays import network_of, traffic_of
from models.flow.schema import Objective, PathChoice

if TYPE_CHECKING:
    from models.flow.network.arrays import Network
    from models.flow.schema import Problem
    from models.program import Floats, Ints


@dataclass(frozen=True, eq=False)
class Fabric:
    """Arcs and channels that can carry something.

    Shapes: ``tail``, ``head``, ``channel``, ``latency``, ``cost``: (arcs,); ``capacity``: (channels,), inf for no limit, never 0.
    ``network_arc`` (arcs,) is one of the network's arcs that each stands for; ``hops`` (arcs,) are the ids that routes name, of a link or
    of a bundle, and ``bundles`` holds the links of each bundle. ``member_starts`` (channels + 1,) and ``members`` list the network's
    channels that each channel stands for. ``node`` (the network's nodes,) is where each of them lies in the fabric.
    """

    nodes: int
    node: Ints
    tail: Ints
    head: Ints
    channel: Ints
    latency: Floats
    cost: Floats
    capacity: Floats
    network_arc: Ints
    hops: tuple[str, ...]
    bundles: dict[str, tuple[str, ...]]
    member_starts: Ints
    members: Ints

    @property
    def arcs(self) -> int:
        """How many arcs."""
        return len(self.tail)

    @property
    def channels(self) -> int:
        """How many channels."""
        return len(self.capacity)


@dataclass(frozen=True, eq=False)
class Commodities:
    """Demands that are alike, together; each array of shape (commodities,), and ``member`` (demands,) says where each demand belongs.

    ``rank`` counts priority classes from 0, the most important; ``ranks`` is how many there are. ``source`` and ``target`` are the
    fabric's nodes. ``first`` is the first demand of each.
    """

    source: Ints
    target: Ints
    size: Floats
    value: Floats
    limit: Floats
    rank: Ints
    ranks: int
    first: Ints
    member: Ints

    @property
    def count(self) -> int:
        """How many commodities."""
        return len(self.source)


def plain_fabric(network: Network) -> Fabric:
    """The network itself, without the arcs that have no capacity."""
    open_channel = network.channel_capacity > 0
    kept = np.flatnonzero(open_channel[network.arc_channel])
    members = np.flatnonzero(open_channel)
    position = np.cumsum(open_channel) - 1
    return Fabric(
        nodes=network.nodes,
        node=np.arange(network.nodes),
        tail=network.arc_tail[kept],
        head=network.arc_head[kept],
        channel=position[network.arc_channel[kept]],
        latency=network.arc_latency[kept],
        cost=network.arc_cost[kept],
        capacity=network.channel_capacity[members],
        network_arc=kept,
        hops=tuple(network.link_ids[link] for link in network.arc_link[kept].tolist()),
        bundles={},
        member_starts=np.arange(len(members) + 1),
        members=members,
    )


def commodities_of(problem: Problem, fabric: Fabric, *, apart: bool = False) -> Commodities:
    """The demands of a problem by commodity; each by itself where ``apart``, or where paths are listed."""
    network, traffic = network_of(problem), traffic_of(problem)
    rank = np.searchsorted(-np.array(traffic.classes), -traffic.priority)
    if apart or problem.paths.choice is PathChoice.listed:
        first = member = np.arange(traffic.count)
    else:
        limit_code = np.unique(traffic.latency_limit, return_inverse=True)[1]
        value_code = np.unique(traffic.value, return_inverse=True)[1] * (problem.objective is Objective.max_throughput)
        key = (rank * network.nodes + traffic.source) * network.nodes + traffic.target
        keys = np.stack((key, limit_code, value_code), axis=1)
        # Sorting three columns as one: the codes are small.
        joined = (keys[:, 0] * (limit_code.max(initial=0) + 1) + keys[:, 1]) * (value_code.max(initial=0) + 1) + keys[:, 2]
        _, first, member = np.unique(joined, return_index=True, return_inverse=True)
    return Commodities(
        source=fabric.node[traffic.source[first]],
        target=fabric.node[traffic.target[first]],
        size=np.bincount(member, weights=traffic.size, minlength=len(first)).astype(np.float64),
        value=traffic.value[first],
        limit=traffic.latency_limit[first],
        rank=rank[first],
        ranks=len(traffic.classes),
        first=first,
        member=member,
    )

"""A network folded along its symmetries: classes of nodes in place of nodes, bundles in place of links.

Where every end of a demand is a class of its own, a routing averaged over the classes is as good as the routing, and flow of the
folded network spread evenly over each bundle is a routing of the whole one: so the folded linear program is exact, with its
prices. A fat-tree becomes nearly a tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.flow.network.arrays import network_of, traffic_of
from models.flow.network.fabric import Fabric
from models.flow.network.symmetry import kinds, refined
from models.flow.schema import PathChoice

if TYPE_CHECKING:
    from models.flow.network.arrays import Network
    from models.flow.schema import Problem
    from models.program import Bools, Ints


def folded(problem: Problem) -> Fabric | None:
    """The fabric of classes and bundles; None where the network has too little symmetry, or paths are chosen link by link."""
    network, traffic = network_of(problem), traffic_of(problem)
    ends = np.unique(np.concatenate((traffic.source, traffic.target)))
    if problem.paths.choice is not PathChoice.all or len(ends) == network.nodes:
        return None
    arcs = np.flatnonzero(network.channel_capacity[network.arc_channel] > 0)
    tail, head = network.arc_tail[arcs], network.arc_head[arcs]
    shared = np.bincount(network.arc_channel, minlength=len(network.channel_link))[network.arc_channel[arcs]] > 1
    link = network.arc_link[arcs]
    kind = kinds(network.link_capacity[link], network.link_latency[link], network.link_cost[link], shared)
    place = refined(network.nodes, tail, head, kind, ends)
    return None if place is None else _fabric(network, place, arcs, kind, shared)


def _fabric(network: Network, place: Ints, arcs: Ints, kind: Ints, shared: Bools) -> Fabric:
    tail, head = place[network.arc_tail[arcs]], place[network.arc_head[arcs]]
    across = tail != head  # what stays inside a class never helps
    arcs, kind, shared, tail, head = arcs[across], kind[across], shared[across], tail[across], head[across]
    _, first, bundle = np.unique(kinds(tail, head, kind), return_index=True, return_inverse=True)
    # The two ways of shared links fill one channel: told by the lower class first.
    low, high = np.minimum(tail, head), np.maximum(tail, head)
    channel_kind = kinds(np.where(shared, low, tail), np.where(shared, high, head), kind, shared)
    _, first_of_channel, channel = np.unique(channel_kind, return_index=True, return_inverse=True)
    members, member_starts = _members(network.arc_channel[arcs], channel)
    hops, bundles = _hops(network, arcs, bundle, len(first))
    return Fabric(
        nodes=int(place.max()) + 1,
        node=place,
        tail=tail[first],
        head=head[first],
        channel=channel[first],
        latency=network.arc_latency[arcs[first]],
        cost=network.arc_cost[arcs[first]],
        capacity=network.channel_capacity[network.arc_channel[arcs[first_of_channel]]] * np.diff(member_starts),
        network_arc=arcs[first],
        hops=hops,
        bundles=bundles,
        member_starts=member_starts,
        members=members,
    )


def _members(channel_of_arc: Ints, channel: Ints) -> tuple[Ints, Ints]:
    """The network's channels of each folded one, and where those of each begin."""
    pairs = np.unique(np.stack((channel, channel_of_arc), axis=1), axis=0)
    return pairs[:, 1], np.concatenate(([0], np.cumsum(np.bincount(pairs[:, 0]))))


def _hops(network: Network, arcs: Ints, bundle: Ints, count: int) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """The id of each folded arc: its link's, or that of a bundle of its links."""
    order = np.argsort(bundle, kind="stable")
    ends = np.searchsorted(bundle[order], np.arange(count + 1)).tolist()
    links = network.arc_link[arcs[order]].tolist()
    hops: list[str] = []
    bundles: dict[str, tuple[str, ...]] = {}
    taken = set(network.link_ids)
    for number in range(count):
        names = tuple(network.link_ids[link] for link in links[ends[number] : ends[number + 1]])
        name = names[0]
        if len(names) > 1:
            name = f"bundle{number}"
            while name in taken:
                name += "_"
            bundles[name] = names
        hops.append(name)
    return tuple(hops), bundles

"""Fabrics of data centres as plain arrays: fat-tree, leaf-spine, dragonfly, ring and rail-optimised.

A fabric belongs to no kind of decision: ``models.collectives`` times collectives on it, and a kind turns it into its own documents.
Every link carries both ways at once, each way with its own capacity.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from models.program import Bools, Floats, Ints

NO_DOMAIN = -1


class NodeKind(StrEnum):
    """What stands at a node. Traffic begins and ends at hosts and GPUs."""

    gpu = "gpu"
    host = "host"
    nvswitch = "nvswitch"
    leaf = "leaf"
    aggregation = "aggregation"
    spine = "spine"
    core = "core"
    router = "router"
    rail = "rail"


ENDS = frozenset({NodeKind.gpu, NodeKind.host})


@dataclass(frozen=True, eq=False)
class Fabric:
    """Nodes and links by position.

    Shapes: ``node_*`` (nodes,), ``link_*`` and the capacities (links,). ``capacity_gbps`` is from source to target, ``back_gbps`` the other
    way; 0 means that the link does not carry this way, inf that it has no limit. ``domains`` says for each level of locality, the
    narrowest first, the number of the domain in which each node stands, -1 for none: what hierarchical algorithms and cuts go by.
    """

    node_ids: tuple[str, ...]
    node_kind: tuple[NodeKind, ...]
    link_ids: tuple[str, ...]
    link_source: Ints
    link_target: Ints
    capacity_gbps: Floats
    back_gbps: Floats
    latency_ms: Floats
    domains: Mapping[str, Ints] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError for arrays that do not fit together, for loops, and for quantities below 0."""
        nodes, links = len(self.node_ids), len(self.link_ids)
        columns = (self.link_source, self.link_target, self.capacity_gbps, self.back_gbps, self.latency_ms)
        if any(len(column) != links for column in columns) or len(self.node_kind) != nodes:
            raise ValueError("the arrays of a fabric have one item for each node, or one for each link")
        if len(set(self.node_ids)) < nodes or len(set(self.link_ids)) < links:
            raise ValueError("an id of the fabric is used twice; give each node and each link its own")
        if any(len(domain) != nodes for domain in self.domains.values()):
            raise ValueError("the domains of a fabric have one item for each node")
        ends = np.concatenate((self.link_source, self.link_target))
        if links and (ends.min() < 0 or ends.max() >= nodes or (self.link_source == self.link_target).any()):
            raise ValueError("a link joins two different nodes of the fabric")
        if any(not (column >= 0).all() for column in (self.capacity_gbps, self.back_gbps, self.latency_ms)):
            raise ValueError("capacities and latencies of a fabric are 0 or more")
        if not np.isfinite(self.latency_ms).all():
            raise ValueError("latencies of a fabric are finite")

    @property
    def nodes(self) -> int:
        """How many nodes."""
        return len(self.node_ids)

    @property
    def links(self) -> int:
        """How many links."""
        return len(self.link_ids)

    @cached_property
    def node_at(self) -> dict[str, int]:
        """Position of each node."""
        return {name: place for place, name in enumerate(self.node_ids)}

    @cached_property
    def ends(self) -> tuple[str, ...]:
        """The hosts and GPUs, in their order."""
        return tuple(name for name, kind in zip(self.node_ids, self.node_kind, strict=True) if kind in ENDS)

    def count(self, *kinds: NodeKind) -> int:
        """How many nodes of these kinds."""
        return sum(kind in kinds for kind in self.node_kind)

    def capacity_between(self, inside: Bools) -> float:
        """Gbit/s from the nodes where ``inside`` (nodes,) holds to all others."""
        leaving = inside[self.link_source] & ~inside[self.link_target]
        back = inside[self.link_target] & ~inside[self.link_source]
        return float(self.capacity_gbps[leaving].sum() + self.back_gbps[back].sum())


class _Draft:
    """A fabric while it is put together: nodes and links one by one, in the order in which they are told."""

    def __init__(self, *levels: str) -> None:
        self._ids: list[str] = []
        self._kinds: list[NodeKind] = []
        self._domains: dict[str, list[int]] = {level: [] for level in levels}
        self._links: list[tuple[int, int, float, float]] = []

    def node(self, name: str, kind: NodeKind, **domains: int) -> int:
        """Adds a node; its position."""
        self._ids.append(name)
        self._kinds.append(kind)
        for level, numbers in self._domains.items():
            numbers.append(domains.get(level, NO_DOMAIN))
        return len(self._ids) - 1

    def link(self, source: int, target: int, gbps: float, latency_ms: float) -> None:
        """Adds a link that carries ``gbps`` each way."""
        self._links.append((source, target, gbps, latency_ms))

    def fabric(self) -> Fabric:
        """The finished fabric. Links are called after their ends; further ones between the same two nodes get ``#2``, ``#3``."""
        seen: dict[str, int] = {}
        names = []
        for source, target, *_ in self._links:
            name = f"{self._ids[source]}--{self._ids[target]}"
            seen[name] = seen.get(name, 0) + 1
            names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
        columns = np.array(self._links, dtype=np.float64).reshape(-1, 4)
        return Fabric(
            node_ids=tuple(self._ids),
            node_kind=tuple(self._kinds),
            link_ids=tuple(names),
            link_source=columns[:, 0].astype(np.int64),
            link_target=columns[:, 1].astype(np.int64),
            capacity_gbps=columns[:, 2].copy(),
            back_gbps=columns[:, 2].copy(),
            latency_ms=columns[:, 3].copy(),
            domains={level: np.array(numbers, dtype=np.int64) for level, numbers in self._domains.items()},
        )


def _at_least(least: int, **counts: int) -> None:
    for name, count in counts.items():
        if count < least:
            raise ValueError(f"{name} must be {least} or more, not {count}")


def fat_tree(k: int, *, gbps: float = 400.0, latency_ms: float = 0.001, hosts: bool = True) -> Fabric:
    """The three-tier fat-tree of switches with ``k`` ports: k pods of k/2 leaves and k/2 aggregation switches, k²/4 cores, k³/4 hosts.

    It has 5k²/4 switches and 3k³/4 links; every link has ``gbps``, and each half of the hosts reaches the other at full rate. Without
    ``hosts`` the leaves are where traffic ends. Source: Al-Fares, Loukissas, Vahdat, "A Scalable, Commodity Data Center Network
    Architecture", 2008. Raises ValueError unless k is even and at least 2.
    """
    if k < 2 or k % 2:  # noqa: PLR2004  (half the ports lead up, half down)
        raise ValueError(f"k must be an even number of ports, 2 or more, not {k}")
    half = k // 2
    draft = _Draft("leaf", "pod")
    cores = [draft.node(f"core{place}", NodeKind.core) for place in range(half * half)]
    for pod in range(k):
        upper = [draft.node(f"pod{pod}-agg{place}", NodeKind.aggregation, pod=pod) for place in range(half)]
        for place, switch in enumerate(upper):
            for core in cores[place * half : (place + 1) * half]:
                draft.link(switch, core, gbps, latency_ms)
        for place in range(half):
            number = pod * half + place
            leaf = draft.node(f"pod{pod}-leaf{place}", NodeKind.leaf, leaf=number, pod=pod)
            for switch in upper:
                draft.link(leaf, switch, gbps, latency_ms)
            for host in range(half if hosts else 0):
                draft.link(draft.node(f"pod{pod}-leaf{place}-host{host}", NodeKind.host, leaf=number, pod=pod), leaf, gbps, latency_ms)
    return draft.fabric()


def leaf_spine(
    leaves: int, spines: int, hosts_per_leaf: int, *, host_gbps: float = 400.0, uplink_gbps: float = 400.0, latency_ms: float = 0.001
) -> Fabric:
    """Two tiers: every leaf has one link of ``uplink_gbps`` to every spine, and ``hosts_per_leaf`` hosts with ``host_gbps`` each.

    The oversubscription of a leaf is hosts_per_leaf * host_gbps over spines * uplink_gbps. Raises ValueError for counts below 1.
    """
    _at_least(1, leaves=leaves, spines=spines, hosts_per_leaf=hosts_per_leaf)
    draft = _Draft("leaf")
    tops = [draft.node(f"spine{place}", NodeKind.spine) for place in range(spines)]
    for place in range(leaves):
        leaf = draft.node(f"leaf{place}", NodeKind.leaf, leaf=place)
        for top in tops:
            draft.link(leaf, top, uplink_gbps, latency_ms)
        for host in range(hosts_per_leaf):
            draft.link(draft.node(f"leaf{place}-host{host}", NodeKind.host, leaf=place), leaf, host_gbps, latency_ms)
    return draft.fabric()


def dragonfly(  # noqa: PLR0913  (each is a number of the design)
    groups: int,
    routers: int,
    hosts: int,
    global_links: int,
    *,
    host_gbps: float = 400.0,
    local_gbps: float = 400.0,
    global_gbps: float = 400.0,
    latency_ms: float = 0.001,
    global_latency_ms: float = 0.002,
) -> Fabric:
    """``groups`` of ``routers`` that are all joined; each router has ``hosts`` hosts and ``global_links`` ports to other groups.

    Each pair of groups is joined by floor(routers * global_links / (groups - 1)) links, spread over the routers in turn; ports left over
    stay free. Balanced: routers = 2 hosts = 2 global_links. Source: Kim, Dally, Scott, Abts, "Technology-Driven, Highly-Scalable
    Dragonfly Topology", 2008. Raises ValueError for counts below 1, and when there are too few ports to join every pair of groups.
    """
    _at_least(1, groups=groups, routers=routers, hosts=hosts, global_links=global_links)
    per_pair = routers * global_links // (groups - 1) if groups > 1 else 0
    if groups > 1 and not per_pair:
        raise ValueError(f"{routers} routers with {global_links} global links reach {routers * global_links} groups, not {groups - 1}")
    draft = _Draft("router", "group")
    placed = []
    for group in range(groups):
        row = [
            draft.node(f"group{group}-router{place}", NodeKind.router, router=group * routers + place, group=group)
            for place in range(routers)
        ]
        placed.append(row)
        for first, second in combinations(row, 2):
            draft.link(first, second, local_gbps, latency_ms)
        for place, router in enumerate(row):
            number = group * routers + place
            for host in range(hosts):
                end = draft.node(f"group{group}-router{place}-host{host}", NodeKind.host, router=number, group=group)
                draft.link(end, router, host_gbps, latency_ms)
    for first, second in combinations(range(groups), 2):
        ahead, behind = second - first - 1, (first - second) % groups - 1  # which of its neighbours the other group is
        for copy in range(per_pair):
            there = placed[first][(ahead * per_pair + copy) // global_links]
            here = placed[second][(behind * per_pair + copy) // global_links]
            draft.link(there, here, global_gbps, global_latency_ms)
    return draft.fabric()


def ring(gpus: int, *, gbps: float = 400.0, latency_ms: float = 0.001) -> Fabric:
    """GPUs in a ring, each joined to the next by one link; two GPUs have one link, one has none. Raises ValueError for less than 1."""
    _at_least(1, gpus=gpus)
    draft = _Draft()
    for place in range(gpus):
        draft.node(f"gpu{place}", NodeKind.gpu)
    for place in range(gpus if gpus > 2 else gpus - 1):  # noqa: PLR2004  (the second link of two would be the first again)
        draft.link(place, (place + 1) % gpus, gbps, latency_ms)
    return draft.fabric()


def rail_optimised(  # noqa: PLR0913  (each is a number of the design)
    nodes: int,
    gpus_per_node: int,
    *,
    rails: int | None = None,
    spines: int = 0,
    nvlink_gbps: float = 3600.0,
    nic_gbps: float = 400.0,
    spine_gbps: float | None = None,
    nvlink_latency_ms: float = 0.0005,
    latency_ms: float = 0.002,
) -> Fabric:
    """Nodes of GPUs behind an NVLink switch, where GPU g of every node has its NIC on rail switch g modulo ``rails``.

    ``nvlink_gbps`` is what one GPU has to its switch, ``nic_gbps`` what it has to its rail. Each rail has a link of ``spine_gbps`` to
    each of ``spines`` (left out: all that its NICs bring, in equal parts). Without spines, traffic between rails goes over NVLink first,
    as in Wang et al., "Rail-only: A Low-Cost High-Performance Network for Training LLMs with Trillion Parameters", 2023.
    Raises ValueError for counts below 1, and for more rails than GPUs in a node.
    """
    rails = gpus_per_node if rails is None else rails
    _at_least(1, nodes=nodes, gpus_per_node=gpus_per_node, rails=rails)
    _at_least(0, spines=spines)
    if rails > gpus_per_node:
        raise ValueError(f"{rails} rails need as many GPUs in a node, not {gpus_per_node}")
    draft = _Draft("node")
    tops = [draft.node(f"spine{place}", NodeKind.spine) for place in range(spines)]
    switches = [draft.node(f"rail{place}", NodeKind.rail) for place in range(rails)]
    for place, switch in enumerate(switches):
        ports = nodes * len(range(place, gpus_per_node, rails))
        for top in tops:
            draft.link(switch, top, spine_gbps if spine_gbps is not None else ports * nic_gbps / spines, latency_ms)
    for number in range(nodes):
        inner = draft.node(f"node{number}-nvswitch", NodeKind.nvswitch, node=number)
        for place in range(gpus_per_node):
            gpu = draft.node(f"node{number}-gpu{place}", NodeKind.gpu, node=number)
            draft.link(gpu, inner, nvlink_gbps, nvlink_latency_ms)
            draft.link(gpu, switches[place % rails], nic_gbps, latency_ms)
    return draft.fabric()


def chosen(fabric: Fabric, names: Iterable[str]) -> Ints:
    """Positions of the named nodes in the fabric's order. Raises ValueError for names that are unknown, or there twice."""
    listed = list(names)
    unknown = [name for name in listed if name not in fabric.node_at]
    if unknown:
        raise ValueError(f"the fabric has no node '{unknown[0]}'")
    if len(set(listed)) < len(listed):
        raise ValueError("a node is named twice")
    return np.array(sorted(fabric.node_at[name] for name in listed), dtype=np.int64)

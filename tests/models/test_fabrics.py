"""Generators of fabrics: exact counts, degrees and bisections from the papers, and what is refused."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from models.fabric_routing import EvenRouting
from models.fabrics import ENDS, Fabric, NodeKind, chosen, dragonfly, fat_tree, leaf_spine, rail_optimised, ring

ALL = {
    "fat_tree": fat_tree(4),
    "leaf_spine": leaf_spine(4, 2, 3),
    "dragonfly": dragonfly(9, 4, 2, 2),
    "ring": ring(6),
    "rail_optimised": rail_optimised(4, 8, spines=2),
    "rail_only": rail_optimised(3, 4, rails=2),
}


def degrees(fabric: Fabric) -> Counter[int]:
    return Counter(np.concatenate((fabric.link_source, fabric.link_target)).tolist())


def every(fabric: Fabric, kind: NodeKind) -> list[int]:
    return [place for place, one in enumerate(fabric.node_kind) if one is kind]


@pytest.mark.parametrize("k", [2, 4, 6, 16])
def test_counts_of_a_fat_tree(k: int) -> None:
    fabric = fat_tree(k)
    switches = fabric.count(NodeKind.leaf, NodeKind.aggregation, NodeKind.core)
    assert (switches, fabric.count(NodeKind.host), fabric.links) == (5 * k * k // 4, k**3 // 4, 3 * k**3 // 4)
    assert {degrees(fabric)[place] for kind in (NodeKind.leaf, NodeKind.aggregation, NodeKind.core) for place in every(fabric, kind)} == {k}
    bare = fat_tree(k, hosts=False)
    assert (bare.nodes, bare.links) == (5 * k * k // 4, k**3 // 2)


@pytest.mark.parametrize("k", [4, 8])
def test_a_fat_tree_has_full_bisection(k: int) -> None:
    """With half of the pods and half of the cores on either side, what crosses is what half of the hosts can send."""
    fabric = fat_tree(k, gbps=100.0)
    pods = fabric.domains["pod"]
    inside = (pods >= 0) & (pods < k // 2)
    cores = every(fabric, NodeKind.core)
    inside[cores[: len(cores) // 2]] = True
    assert fabric.capacity_between(inside) == fabric.capacity_between(~inside) == k**3 / 8 * 100.0


def test_counts_of_a_leaf_spine() -> None:
    fabric = leaf_spine(6, 4, 10, host_gbps=100.0, uplink_gbps=400.0)
    assert (fabric.count(NodeKind.leaf), fabric.count(NodeKind.spine), fabric.count(NodeKind.host), fabric.links) == (6, 4, 60, 84)
    assert fabric.capacity_between(fabric.domains["leaf"] == 2) == 4 * 400.0
    one = fabric.node_at["leaf0-host0"]
    assert fabric.capacity_between(np.arange(fabric.nodes) == one) == 100.0


@pytest.mark.parametrize(
    ("groups", "routers", "hosts", "global_links"), [(9, 4, 2, 2), (5, 4, 2, 2), (2, 3, 1, 1), (3, 1, 1, 2), (1, 3, 2, 1)]
)
def test_counts_of_a_dragonfly(groups: int, routers: int, hosts: int, global_links: int) -> None:
    fabric = dragonfly(groups, routers, hosts, global_links)
    per_pair = routers * global_links // max(groups - 1, 1) if groups > 1 else 0
    pairs, local = groups * (groups - 1) // 2, groups * routers * (routers - 1) // 2
    assert fabric.links == groups * routers * hosts + local + pairs * per_pair
    assert (fabric.count(NodeKind.router), fabric.count(NodeKind.host)) == (groups * routers, groups * routers * hosts)
    group = fabric.domains["group"]
    ends = Counter(tuple(sorted(pair)) for pair in zip(group[fabric.link_source].tolist(), group[fabric.link_target].tolist(), strict=True))
    assert all(ends[pair] == per_pair for pair in combinations(range(groups), 2))
    assert max(degrees(fabric)[place] for place in every(fabric, NodeKind.router)) <= hosts + routers - 1 + global_links


def test_a_full_dragonfly_uses_every_port() -> None:
    """With routers * global_links + 1 groups each pair of groups has one link, and no port is free."""
    fabric = dragonfly(9, 4, 2, 2)
    assert {degrees(fabric)[place] for place in every(fabric, NodeKind.router)} == {2 + 3 + 2}


@pytest.mark.parametrize(("gpus", "links"), [(1, 0), (2, 1), (3, 3), (8, 8)])
def test_counts_of_a_ring(gpus: int, links: int) -> None:
    fabric = ring(gpus)
    assert (fabric.nodes, fabric.links, len(fabric.ends)) == (gpus, links, gpus)


def test_counts_of_rails() -> None:
    fabric = rail_optimised(4, 8, spines=2, nic_gbps=400.0, nvlink_gbps=3600.0)
    assert (fabric.count(NodeKind.gpu), fabric.count(NodeKind.nvswitch), fabric.count(NodeKind.rail), fabric.count(NodeKind.spine)) == (
        32,
        4,
        8,
        2,
    )
    assert fabric.links == 32 * 2 + 8 * 2
    assert fabric.capacity_between(fabric.domains["node"] == 1) == 8 * 400.0
    rail = fabric.node_at["rail3"]
    assert fabric.capacity_between(np.arange(fabric.nodes) == rail) == 4 * 400.0 * 2  # down to its NICs, and as much up


def test_fewer_rails_than_gpus() -> None:
    fabric = rail_optimised(2, 4, rails=2)
    assert degrees(fabric)[fabric.node_at["rail0"]] == 4
    assert degrees(fabric)[fabric.node_at["rail1"]] == 4


@pytest.mark.parametrize("name", ALL)
def test_every_fabric_is_connected_and_named(name: str) -> None:
    fabric = ALL[name]
    assert EvenRouting(fabric, np.arange(fabric.nodes)).reaches()
    assert [fabric.node_kind[fabric.node_at[end]] in ENDS for end in fabric.ends].count(False) == 0
    assert fabric.link_ids[0].split("--")[0] == fabric.node_ids[fabric.link_source[0]]
    for numbers in fabric.domains.values():
        assert set(np.unique(numbers[numbers >= 0])) == set(range(int(numbers.max()) + 1))


def test_parallel_links_have_their_own_names() -> None:
    fabric = dragonfly(2, 1, 1, 3)
    assert [name for name in fabric.link_ids if name.startswith("group0-router0--group1")] == [
        "group0-router0--group1-router0",
        "group0-router0--group1-router0#2",
        "group0-router0--group1-router0#3",
    ]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fat_tree(3), "even number of ports"),
        (lambda: fat_tree(0), "even number of ports"),
        (lambda: leaf_spine(0, 1, 1), "leaves must be 1 or more, not 0"),
        (lambda: dragonfly(9, 2, 1, 2), "reach 4 groups, not 8"),
        (lambda: ring(0), "gpus must be 1 or more"),
        (lambda: rail_optimised(1, 2, rails=3), "3 rails need as many GPUs"),
        (lambda: rail_optimised(1, 2, spines=-1), "spines must be 0 or more"),
        (lambda: chosen(ring(3), ["gpu0", "gpu9"]), "no node 'gpu9'"),
        (lambda: chosen(ring(3), ["gpu0", "gpu0"]), "named twice"),
        (lambda: dataclasses.replace(ring(3), capacity_gbps=np.array([1.0, -1.0, 1.0])), "0 or more"),
        (lambda: dataclasses.replace(ring(3), capacity_gbps=np.array([1.0, np.nan, 1.0])), "0 or more"),
        (lambda: dataclasses.replace(ring(3), latency_ms=np.array([1.0, np.inf, 1.0])), "finite"),
        (lambda: dataclasses.replace(ring(3), link_source=np.array([0, 1, 0])), "two different nodes"),
        (lambda: dataclasses.replace(ring(3), link_source=np.array([0, 1, 7])), "two different nodes"),
        (lambda: dataclasses.replace(ring(3), link_ids=("a", "a", "b")), "used twice"),
        (lambda: dataclasses.replace(ring(3), domains={"row": np.zeros(2, dtype=np.int64)}), "one item for each node"),
        (lambda: dataclasses.replace(ring(3), latency_ms=np.zeros(2)), "one for each link"),
    ],
)
def test_what_is_refused(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=words):
        make()


# ---------------------------------------------------------------- routing


def test_even_splitting_by_hand() -> None:
    """A square with a doubled side: two thirds go over the two parallel links, one third the other way."""
    fabric = Fabric(
        node_ids=("a", "b", "c", "d"),
        node_kind=(NodeKind.host,) * 4,
        link_ids=("ab", "ab2", "bd", "ac", "cd"),
        link_source=np.array([0, 0, 1, 0, 2]),
        link_target=np.array([1, 1, 3, 2, 3]),
        capacity_gbps=np.full(5, 10.0),
        back_gbps=np.array([0.0, 10.0, 10.0, 10.0, 10.0]),
        latency_ms=np.full(5, 0.1),
    )
    routing = EvenRouting(fabric, np.array([0, 3]))
    loads = routing.loads(np.array([0]), np.array([1]), np.array([6.0]))
    found = {
        fabric.link_ids[link]: load for link, load, back in zip(routing.arc_link, loads, routing.arc_back, strict=True) if load or not back
    }
    assert found == pytest.approx({"ab": 2.0, "ab2": 2.0, "bd": 4.0, "ac": 2.0, "cd": 2.0})
    assert routing.latency_s(np.array([0]), np.array([1])) == pytest.approx([0.2e-3])
    back = routing.loads(np.array([1]), np.array([0]), np.array([6.0]))  # only one of the parallel links carries back
    assert {fabric.link_ids[link]: load for link, load in zip(routing.arc_link, back, strict=True) if load} == pytest.approx(
        {"bd": 3.0, "ab2": 3.0, "cd": 3.0, "ac": 3.0}
    )


def test_latency_comes_before_hops() -> None:
    """GPUs of one node that share a rail use NVLink, though both ways are two hops."""
    fabric = rail_optimised(2, 2, rails=1)
    routing = EvenRouting(fabric, chosen(fabric, ["node0-gpu0", "node0-gpu1"]))
    loads = routing.loads(np.array([0]), np.array([1]), np.array([1.0]))
    used = {fabric.link_ids[link] for link, load in zip(routing.arc_link, loads, strict=True) if load}
    assert used == {"node0-gpu0--node0-nvswitch", "node0-gpu1--node0-nvswitch"}


@pytest.mark.parametrize("name", ALL)
def test_what_is_sent_arrives(name: str) -> None:
    """At each node what comes in and begins there goes out or ends there."""
    fabric = ALL[name]
    at = chosen(fabric, fabric.ends)
    rng = np.random.default_rng(7)
    source, target = rng.integers(0, len(at), 40), rng.integers(0, len(at), 40)
    gbit = np.where(source == target, 0.0, rng.uniform(0, 3, 40))
    routing = EvenRouting(fabric, at)
    loads = routing.loads(source, target, gbit)
    left = np.zeros(fabric.nodes)
    heads = np.where(routing.arc_back, fabric.link_source[routing.arc_link], fabric.link_target[routing.arc_link])
    tails = np.where(routing.arc_back, fabric.link_target[routing.arc_link], fabric.link_source[routing.arc_link])
    np.add.at(left, heads, loads)
    np.add.at(left, tails, -loads)
    np.add.at(left, at[source], gbit)
    np.add.at(left, at[target], -gbit)
    assert np.abs(left).max() < 1e-9
    assert loads.min() >= 0

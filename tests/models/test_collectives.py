"""The time of a collective: worked by hand, simulated, and never below its lower bounds."""

from __future__ import annotations

import dataclasses
from itertools import pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.collective_cuts import GBIT_PER_GIB, _all_cuts, _needs
from models.collectives import (
    Algorithm,
    Collective,
    _depth,
    _parents,
    _schedules,
    collective_time,
    cut_lower_bound,
    lower_bound,
)
from models.fabrics import Fabric, NodeKind, chosen, dragonfly, fat_tree, leaf_spine, rail_optimised, ring

REDUCING = (Collective.all_reduce, Collective.reduce_scatter, Collective.all_gather)


def star(gpus: int, *, gbps: float = 100.0, latency_ms: float = 0.5) -> Fabric:
    """GPUs on one switch."""
    return dataclasses.replace(leaf_spine(1, 1, gpus, host_gbps=gbps, latency_ms=latency_ms), domains={})


# ---------------------------------------------------------------- by hand


def test_a_ring_by_hand() -> None:
    """4 GPUs in a ring of 100 Gbit/s, 1 GiB: 6 steps of a quarter of it, 2.147 Gbit, each 0.02147 s and 1 ms of latency."""
    found = collective_time(ring(4, gbps=100.0, latency_ms=1.0), [f"gpu{one}" for one in range(4)], 1.0, "all_reduce", "ring")
    assert found.steps == 6
    assert found.transfer_s == pytest.approx(6 * GBIT_PER_GIB / 4 / 100)
    assert found.latency_s == pytest.approx(6e-3)
    assert found.seconds == pytest.approx(0.134849, abs=1e-6)
    assert found.bottleneck in ring(4).link_ids


@pytest.mark.parametrize(("kind", "factor"), [("all_reduce", 2 * 7 / 8), ("reduce_scatter", 7 / 8), ("all_gather", 7 / 8)])
def test_on_one_switch_a_ring_meets_the_bound(kind: str, factor: float) -> None:
    """Patarasuk and Yuan: no algorithm without help from the network needs less than 2(n-1)/n S at a GPU, and a ring needs no more."""
    fabric = star(8, latency_ms=0.0)
    seconds = factor * GBIT_PER_GIB / 100
    for algorithm in ("ring", "two_way_ring", "direct", "halving"):
        assert collective_time(fabric, fabric.ends, 1.0, kind, algorithm).seconds == pytest.approx(seconds)
    assert cut_lower_bound(fabric, fabric.ends, 1.0, kind) == pytest.approx(seconds)


def test_switches_that_add_lower_the_bound() -> None:
    fabric = star(8, latency_ms=0.0)
    found = lower_bound(fabric, fabric.ends, 1.0, "all_reduce", in_network=True)
    assert found.seconds == pytest.approx(GBIT_PER_GIB / 100)
    assert "with 1 of the 8 GPUs" in found.argument


def test_trees_by_hand() -> None:
    """Two GPUs: each tree is one edge, and a chunk of each goes each way; up and down are two steps, and one for each further chunk."""
    fabric = ring(2, gbps=100.0, latency_ms=1.0)
    found = collective_time(fabric, fabric.ends, 0.0, "all_reduce", "tree")
    assert found.steps == 2  # up and down once
    assert found.seconds == pytest.approx(2e-3)
    large = collective_time(fabric, fabric.ends, 1.0, "all_reduce", "tree")
    whole = GBIT_PER_GIB / 100  # both trees, S/2 each, both ways
    chunks = large.steps - 1
    assert large.seconds == pytest.approx((chunks + 1) * (1e-3 + whole / chunks))
    assert chunks in (9, 10)  # sqrt(whole / 1 ms) is 9.27


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8, 16, 33])
def test_trees_are_trees(count: int) -> None:
    parents = _parents(count)
    assert (parents < 0).sum() == 1
    assert _depth(parents) <= count.bit_length()
    inner = set(parents[parents >= 0].tolist())
    assert all(number % 2 == 0 for number in inner)  # odd numbers are leaves, so they are inside the other tree
    assert np.bincount(parents[parents >= 0]).max() <= 2


def test_hierarchy_by_hand() -> None:
    """2 nodes of 4 GPUs, NVLink 800, NIC 100 Gbit/s: scatter inside, a quarter between the nodes over each rail, gather inside."""
    fabric = rail_optimised(2, 4, nvlink_gbps=800.0, nic_gbps=100.0, nvlink_latency_ms=0.0, latency_ms=0.0)
    found = collective_time(fabric, fabric.ends, 1.0, "all_reduce", "hierarchical")
    inside, between = 2 * 3 / 4 * GBIT_PER_GIB / 800, 2 * 1 / 2 * GBIT_PER_GIB / 4 / 100
    assert (found.level, found.steps, len(found.phases)) == ("node", 6 + 2, 2)
    assert [phase.transfer_s for phase in found.phases] == pytest.approx([inside, between])
    assert found.bottleneck is not None
    assert "rail" in found.bottleneck
    alone = lower_bound(fabric, fabric.ends, 1.0, "all_reduce")
    assert alone.seconds == pytest.approx(between)
    assert alone.argument == "8.58993 Gbit must go into a node with 4 of the 8 GPUs, at 400 Gbit/s"


def test_a_pipeline_by_hand() -> None:
    """The same in 128 chunks: 130 turns, each as long as the longer of the two, the NICs: all but two turns of the ideal."""
    fabric = rail_optimised(2, 4, nvlink_gbps=800.0, nic_gbps=100.0, nvlink_latency_ms=0.0, latency_ms=0.0)
    found = collective_time(fabric, fabric.ends, 1.0, "all_reduce", "pipelined")
    assert found.seconds == pytest.approx(130 / 128 * 2 * 1 / 2 * GBIT_PER_GIB / 4 / 100)
    assert (found.level, found.steps) == ("node", 130 * 2)
    assert collective_time(fabric, fabric.ends, 1.0).algorithm is Algorithm.pipelined
    gathered = collective_time(fabric, fabric.ends, 1.0, "all_gather", "pipelined")
    assert gathered.seconds == pytest.approx(129 / 128 * 1 / 2 * GBIT_PER_GIB / 4 / 100)


def test_no_pipeline_over_shared_links() -> None:
    """The one link of a host on a leaf carries what goes inside the leaf and what leaves it."""
    fabric = leaf_spine(2, 2, 2)
    with pytest.raises(ValueError, match="pipelined does not carry out"):
        collective_time(fabric, fabric.ends, 1.0, "all_reduce", "pipelined")


def test_all_to_all_on_an_oversubscribed_leaf() -> None:
    """4 leaves of 4 hosts behind 2 uplinks: 4 x 12 / 16 of the data leave each leaf, over 800 Gbit/s; the bound says the same."""
    fabric = leaf_spine(4, 2, 4, latency_ms=0.0)
    seconds = 4 * 12 / 16 * GBIT_PER_GIB / 800
    assert collective_time(fabric, fabric.ends, 1.0, "all_to_all").seconds == pytest.approx(seconds)
    assert cut_lower_bound(fabric, fabric.ends, 1.0, "all_to_all") == pytest.approx(seconds)


def test_a_torn_ring_is_bound_by_half_of_it() -> None:
    """All-to-all on a ring: half of the GPUs must send n/2 * n/2 pieces over two links."""
    fabric = ring(8, gbps=100.0, latency_ms=0.0)
    assert cut_lower_bound(fabric, fabric.ends, 1.0, "all_to_all") == pytest.approx(4 * 4 / 8 * GBIT_PER_GIB / 200)


# ---------------------------------------------------------------- degenerate cases


@pytest.mark.parametrize("kind", Collective)
def test_one_gpu_needs_no_time(kind: Collective) -> None:
    fabric = fat_tree(4)
    found = collective_time(fabric, fabric.ends[:1], 5.0, kind)
    assert (found.seconds, found.steps, found.bottleneck) == (0.0, 0, None)
    assert cut_lower_bound(fabric, fabric.ends[:1], 5.0, kind) == 0.0


@pytest.mark.parametrize("kind", Collective)
def test_nothing_to_send_is_latency_alone(kind: Collective) -> None:
    fabric = fat_tree(4, latency_ms=0.1)
    found = collective_time(fabric, fabric.ends, 0.0, kind)
    assert found.transfer_s == 0.0
    assert found.bottleneck is None
    assert found.seconds == found.latency_s >= cut_lower_bound(fabric, fabric.ends, 0.0, kind) == pytest.approx(6 * 0.1e-3)


@pytest.mark.parametrize("kind", Collective)
def test_two_gpus(kind: Collective) -> None:
    """Each sends half of its data to the other, or all of it for a sum of both, and the bound is met."""
    fabric = ring(2, gbps=100.0, latency_ms=0.0)
    part = 1.0 if kind is Collective.all_reduce else 0.5
    assert collective_time(fabric, fabric.ends, 1.0, kind).seconds == pytest.approx(part * GBIT_PER_GIB / 100)
    assert cut_lower_bound(fabric, fabric.ends, 1.0, kind) == pytest.approx(part * GBIT_PER_GIB / 100)


def test_links_without_limit_take_no_time() -> None:
    fabric = star(4, gbps=np.inf)
    assert collective_time(fabric, fabric.ends, 1.0).transfer_s == 0.0
    assert cut_lower_bound(fabric, fabric.ends, 1.0, "all_reduce") == pytest.approx(1e-3)


def test_messages_cost_their_start() -> None:
    fabric = star(4, latency_ms=0.0)
    without, with_it = (collective_time(fabric, fabric.ends, 1.0, "all_reduce", "direct", message_s=cost) for cost in (0.0, 1e-3))
    assert with_it.seconds - without.seconds == pytest.approx(2 * 3 * 1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size_gib": -1.0}, "size_gib must be 0 or more"),
        ({"size_gib": float("nan")}, "size_gib must be 0 or more"),
        ({"message_s": -1e-6}, "message_s must be 0 or more"),
        ({"message_s": float("inf")}, "message_s must be 0 or more"),
        ({"gpus": []}, "at least one GPU"),
        ({"gpus": ["gpu0", "gpu0"]}, "named twice"),
        ({"gpus": ["gpu0", "nobody"]}, "no node 'nobody'"),
        ({"kind": "broadcast"}, "broadcast"),
        ({"algorithm": "magic"}, "magic"),
        ({"algorithm": "hierarchical"}, "does not carry out all_reduce on these 3 GPUs"),
        ({"algorithm": "halving"}, "does not carry out"),
        ({"algorithm": "tree", "kind": "all_gather"}, "tree does not carry out all_gather"),
    ],
)
def test_what_is_refused(change: dict[str, object], words: str) -> None:
    asked = {"gpus": ["gpu0", "gpu1", "gpu2"], "size_gib": 1.0} | change
    with pytest.raises(ValueError, match=words):
        collective_time(ring(4), **asked)  # type: ignore[arg-type]


def test_gpus_without_a_path_are_named() -> None:
    whole = ring(4)
    cut = dataclasses.replace(whole, capacity_gbps=np.array([1.0, 0.0, 1.0, 0.0]), back_gbps=np.array([1.0, 0.0, 1.0, 0.0]))
    for ask in (collective_time, cut_lower_bound):
        with pytest.raises(ValueError, match=r"no path from 'gpu\d' to 'gpu\d'"):
            ask(cut, cut.ends, 1.0, "all_reduce")


# ---------------------------------------------------------------- what the steps really do


def schedule(kind: Collective, algorithm: Algorithm, count: int, fabric: Fabric) -> list[tuple[np.ndarray, np.ndarray]]:
    at = chosen(fabric, fabric.ends[:count])
    found = list(_schedules(fabric, at, float(count), kind, algorithm, None))  # type: ignore[arg-type]
    return [(step.source, step.target) for _, steps in found[:1] for step in steps for _ in range(step.times)]


@pytest.mark.parametrize("kind", Collective)
@pytest.mark.parametrize("algorithm", [Algorithm.ring, Algorithm.two_way_ring, Algorithm.halving, Algorithm.direct, Algorithm.hierarchical])
def test_everyone_hears_of_everyone(kind: Collective, algorithm: Algorithm) -> None:
    """Along the messages of the schedule, in the order of its steps, there is a way from each GPU to each other one."""
    fabric = rail_optimised(2, 4)
    steps = schedule(kind, algorithm, 8, fabric)
    knows = np.eye(8, dtype=bool)
    for source, target in steps:
        heard = knows.copy()
        for sender, receiver in zip(source, target, strict=True):
            heard[receiver] |= knows[sender]
        knows = heard
    applies = kind is not Collective.all_to_all or algorithm not in (Algorithm.two_way_ring, Algorithm.halving)
    assert bool(steps) == applies
    assert knows.all() or not applies


@pytest.mark.parametrize("kind", REDUCING)
@pytest.mark.parametrize("algorithm", [Algorithm.ring, Algorithm.two_way_ring, Algorithm.halving, Algorithm.direct])
@pytest.mark.parametrize("count", [2, 4, 8])
def test_each_gpu_sends_what_the_theory_says(kind: Collective, algorithm: Algorithm, count: int) -> None:
    """(n-1)/n of the data, and twice as much for an all-reduce."""
    fabric = star(count, gbps=1.0, latency_ms=0.0)
    found = collective_time(fabric, fabric.ends, 1 / GBIT_PER_GIB, kind, algorithm)
    assert found.transfer_s == pytest.approx((2 if kind is Collective.all_reduce else 1) * (count - 1) / count)


# ---------------------------------------------------------------- laws


@st.composite
def fabrics(draw: st.DrawFn) -> Fabric:
    """A connected graph with up to 4 domains, links of odd speeds, some of them one-way in vain, and switches among the nodes."""
    nodes = draw(st.integers(2, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tree = [(int(rng.integers(0, place)), place) for place in range(1, nodes)]
    more = [(int(one), int(other)) for one, other in rng.integers(0, nodes, (draw(st.integers(0, 8)), 2)) if one != other]
    source, target = np.array([*tree, *more], dtype=np.int64).T
    links = len(source)
    gbps = rng.choice([1.0, 3.0, 10.0, 100.0, np.inf], (2, links))
    gbps[:, len(tree) :][rng.random((2, links - len(tree))) < 0.3] = 0.0
    return Fabric(
        node_ids=tuple(f"n{place}" for place in range(nodes)),
        node_kind=(NodeKind.gpu,) * nodes,
        link_ids=tuple(f"l{place}" for place in range(links)),
        link_source=source,
        link_target=target,
        capacity_gbps=gbps[0],
        back_gbps=gbps[1],
        latency_ms=rng.choice([0.0, 0.1, 1.0], links),
        domains={"rack": rng.integers(-1, 4, nodes), "row": rng.integers(0, 2, nodes)},
    )


@settings(max_examples=80, deadline=None)
@given(fabric=fabrics(), data=st.data(), size=st.sampled_from([0.0, 0.01, 1.0]))
def test_no_algorithm_beats_the_bound(fabric: Fabric, data: st.DataObject, size: float) -> None:
    gpus = data.draw(st.lists(st.sampled_from(fabric.node_ids), min_size=1, unique=True))
    for kind in Collective:
        bound = cut_lower_bound(fabric, gpus, size, kind)
        assert cut_lower_bound(fabric, gpus, size, kind, in_network=True) <= bound
        best = collective_time(fabric, gpus, size, kind)
        assert bound <= best.seconds * (1 + 1e-9)
        assert best.seconds == pytest.approx(best.latency_s + best.transfer_s)
        for algorithm in Algorithm:
            try:
                found = collective_time(fabric, gpus, size, kind, algorithm)
            except ValueError:
                continue
            assert found.seconds >= best.seconds * (1 - 1e-9)


@settings(max_examples=60, deadline=None)
@given(fabric=fabrics(), data=st.data())
def test_cuts_are_counted_rightly(fabric: Fabric, data: st.DataObject) -> None:
    """Each cut against the plain sum over links, and each need against a count over pairs and pieces."""
    at = chosen(fabric, data.draw(st.lists(st.sampled_from(fabric.node_ids), min_size=2, unique=True)))
    members: list[set[int]] = []
    for numbers in (
        {node: place for place, node in enumerate(at.tolist())},
        *(dict(enumerate(one.tolist())) for one in fabric.domains.values()),
    ):
        top = max(numbers.values()) + 1
        members += [{node for node, own in numbers.items() if own == number} for number in range(top)]
        members += [{node for node, own in numbers.items() if 0 <= own <= number} for number in range(top)]
    wanted = set()
    for inside in members:
        mask = np.isin(np.arange(fabric.nodes), list(inside))
        count = len(inside & set(at.tolist()))
        if 0 < count < len(at):
            wanted.add((count, round(min(fabric.capacity_between(~mask), 1e9), 6), round(min(fabric.capacity_between(mask), 1e9), 6)))
    found = {
        (int(count), round(min(inward, 1e9), 6), round(min(outward, 1e9), 6))
        for cuts in _all_cuts(fabric, at)
        for count, inward, outward in zip(cuts.inside, cuts.inward, cuts.outward, strict=True)
    }
    assert found == wanted


@pytest.mark.parametrize("gpus", [2, 3, 4])
def test_gossip_takes_so_many_messages(gpus: int) -> None:
    """The count behind the bound of an all-reduce: by trying all, telling everyone everything takes 2n-2 one-way messages."""
    start = tuple(1 << one for one in range(gpus))
    everything = (2**gpus - 1,) * gpus
    reached, messages = {start}, 0
    while everything not in reached:
        messages += 1
        reached = {
            (*knows[:receiver], knows[receiver] | knows[sender], *knows[receiver + 1 :])
            for knows in reached
            for sender, receiver in permutations(range(gpus), 2)
        }
    assert messages == 2 * gpus - 2


@pytest.mark.parametrize(("gpus", "inside"), [(2, 1), (5, 2), (6, 5)])
def test_needs_by_counting(gpus: int, inside: int) -> None:
    """Piece p of GPU g is one unit; the buffer of a GPU has as many as there are GPUs."""
    outside, held = range(inside, gpus), range(inside)

    def need(kind: Collective) -> tuple[float, float]:
        inward, outward = _needs(kind, np.array([inside]), gpus, float(gpus))
        return float(inward[0]), float(outward[0])

    assert need(Collective.all_to_all) == (len(list(product(outside, held))), len(list(product(held, outside))))
    assert need(Collective.all_gather) == pytest.approx((len(outside), len(held)))
    assert need(Collective.reduce_scatter) == pytest.approx((len(held), len(outside)))
    assert need(Collective.all_reduce) == (gpus, gpus)


@pytest.mark.parametrize(
    "fabric", [fat_tree(4), leaf_spine(4, 2, 4), dragonfly(5, 2, 2, 2), rail_optimised(4, 4, spines=2)], ids=lambda one: str(one.nodes)
)
@pytest.mark.parametrize("kind", Collective)
def test_more_capacity_never_takes_longer(fabric: Fabric, kind: Collective) -> None:
    """Twice the capacity everywhere: half the transfer. Twice the data: twice the transfer. Nor does the order of the GPUs matter."""
    gpus = fabric.ends
    faster = dataclasses.replace(fabric, capacity_gbps=fabric.capacity_gbps * 2, back_gbps=fabric.back_gbps * 2)
    for algorithm in (Algorithm.direct, Algorithm.ring, Algorithm.hierarchical):
        found = collective_time(fabric, gpus, 1.0, kind, algorithm)
        assert collective_time(faster, gpus, 1.0, kind, algorithm).transfer_s == pytest.approx(found.transfer_s / 2)
        assert collective_time(fabric, gpus, 2.0, kind, algorithm).transfer_s == pytest.approx(found.transfer_s * 2)
        assert collective_time(fabric, gpus[::-1], 1.0, kind, algorithm) == found
    bounds = [cut_lower_bound(fabric, gpus, size, kind) for size in (0.0, 0.5, 1.0, 4.0)]
    assert all(low <= high for low, high in pairwise(bounds))
    assert cut_lower_bound(faster, gpus, 1.0, kind) == pytest.approx(bounds[2] / 2)


def test_near_gpus_are_faster() -> None:
    """What placement asks: the same job inside a node, or spread over nodes."""
    fabric = rail_optimised(4, 8)
    together = collective_time(fabric, [f"node0-gpu{one}" for one in range(8)], 1.0)
    apart = collective_time(fabric, [f"node{one % 4}-gpu{one // 4}" for one in range(8)], 1.0)
    assert together.seconds < apart.seconds / 2

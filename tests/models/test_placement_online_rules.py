"""The plain rules and FGD: hand-made cases, brute force, and laws that every rule obeys."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.placement.fragmentation import Free, TaskClass, node_fragmentation
from models.placement.online.fgd import Fgd, Fragmentation, Typical, typical
from models.placement.online.planned import Place, Planned
from models.placement.online.planning import as_problem
from models.placement.online.rules import BestFit, DotProduct, FirstFit, Packing, RandomFit
from models.placement.online.state import MILLI, Cluster, Kind, NodeSpec, Request, Seat
from models.placement.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.placement.online.rules import SeatRule, WorkerRule

ANY: frozenset[str] = frozenset()
SHARES = (100, 300, 500, 700)


def node(name: str, gpus: int = 2, cpu: int = 16, model: str | None = "T4") -> NodeSpec:
    """A node of so many GPUs and cores, with memory enough."""
    return NodeSpec(name, gpus=gpus, model=model, cpu_milli=cpu * 1_000, memory_mib=1_000_000)


def ask(name: str, gpus: int = 1, share: int = MILLI, cpu: int = 1, models: frozenset[str] = ANY) -> Request:
    """A request of one worker with so many cores."""
    return Request(name, gpus=gpus, share_milli=share, cpu_milli=cpu * 1_000, models=models)


def chosen(rule: SeatRule, cluster: Cluster, request: Request) -> Seat:
    """The one seat of a request that fits."""
    seats = rule.choose(cluster, request)
    assert seats is not None
    return seats[0]


# ---------------------------------------------------------------- by hand


def test_first_fit_takes_the_first_node_that_fits() -> None:
    cluster = Cluster((node("a", cpu=1), node("b"), node("c")))
    assert chosen(FirstFit(), cluster, ask("x", cpu=2)) == Seat(1, (0,))


def test_best_fit_takes_the_fullest_node_and_the_fullest_gpu() -> None:
    cluster = Cluster((node("a", gpus=8), node("b", gpus=4), node("c", gpus=4)))
    cluster.seat(ask("x", share=500), (Seat(2, (1,)),))
    assert chosen(BestFit(), cluster, ask("y", share=500)) == Seat(2, (1,))
    assert chosen(BestFit(), cluster, ask("y", share=600)) == Seat(2, (0,))
    assert chosen(BestFit(), cluster, ask("y", gpus=4)) == Seat(1, (0, 1, 2, 3))


def test_best_fit_weighs_cpu_and_gpus_by_the_largest_node() -> None:
    gpu_more, largest = node("a", gpus=3, cpu=16), node("c", gpus=8, cpu=128)
    for cpu, best in ((31, 1), (33, 0)):  # 3/8 + 16/128 against 2/8 + 31/128, and against 2/8 + 33/128
        cluster = Cluster((gpu_more, node("b", gpus=2, cpu=cpu), largest))
        assert chosen(BestFit(), cluster, ask("x")).node == best


def test_weights_are_those_of_the_cluster_at_hand() -> None:
    largest = node("c", gpus=4, cpu=32)  # 3/4 + 16/32 against 2/4 + 23/32, and against 2/4 + 25/32
    for cpu, best in ((23, 1), (25, 0)):
        cluster = Cluster((node("a", gpus=3, cpu=16), node("b", gpus=2, cpu=cpu), largest))
        cluster.open[2] = False
        assert chosen(BestFit(), cluster, ask("x")).node == best


def test_dot_product_takes_the_node_least_like_the_request() -> None:
    cluster = Cluster((node("cpu", gpus=2, cpu=100), node("gpu", gpus=8, cpu=20)))
    assert chosen(DotProduct(), cluster, ask("x", gpus=2, cpu=0)).node == 0
    assert chosen(DotProduct(), cluster, ask("x", gpus=0, cpu=10)).node == 1


def test_packing_takes_used_gpus_then_used_nodes_then_empty_ones() -> None:
    cluster = Cluster((node("empty"), node("beside", gpus=4), node("shared", gpus=4)))
    cluster.seat(ask("x"), (Seat(1, (0,)),))
    cluster.seat(ask("y", share=300), (Seat(2, (0,)),))
    assert chosen(Packing(), cluster, ask("z", share=700)) == Seat(2, (0,))
    assert chosen(Packing(), cluster, ask("z", share=800)).node in {1, 2}
    assert chosen(Packing(), cluster, ask("z", gpus=2)).node in {1, 2}
    cluster.open[1:] = False
    assert chosen(Packing(), cluster, ask("z", share=700)).node == 0


def test_random_fit_is_the_same_for_the_same_seed_and_reaches_every_gpu() -> None:
    cluster = Cluster((node("a"), node("b", cpu=0), node("c", gpus=3)))
    rule, again = RandomFit(5), RandomFit(5)
    found = [chosen(rule, cluster, ask("x", share=100)) for _ in range(200)]
    assert found == [chosen(again, cluster, ask("x", share=100)) for _ in range(200)]
    assert {(seat.node, *seat.gpus) for seat in found} == {(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)}


# ---------------------------------------------------------------- FGD


def random_cluster(seed: int) -> Cluster:
    """Five nodes with random work on them."""
    draw = np.random.default_rng(seed)
    specs = [node(f"n{k}", int(draw.integers(0, 5)), int(draw.integers(1, 30)), str(draw.choice(["T4", "G2"]))) for k in range(5)]
    cluster, rule = Cluster(specs), RandomFit(seed)
    for k in range(8):
        request = random_request(draw, f"x{k}")
        seats = rule.choose(cluster, request)
        if seats is not None:
            cluster.seat(request, seats)
    return cluster


def random_request(draw: np.random.Generator, name: str) -> Request:
    gpus = int(draw.choice([0, 1, 1, 1, 2, 4]))
    share = int(draw.choice([*SHARES, MILLI])) if gpus == 1 else MILLI
    models = frozenset({"T4"}) if draw.random() < 0.2 else ANY
    return Request(name, gpus, share, int(draw.integers(0, 9)) * 1_000, int(draw.integers(0, 9)) * 1_000, models=models)


def by_hand(cluster: Cluster, kinds: tuple[Typical, ...], at: int, free: list[int], cpu: int, memory: int) -> float:
    """The measure of one node, kind by kind, as the paper's section 4 says it."""
    total = 0.0
    for one in kinds:
        able = [milli for milli in free if milli >= one.kind.share_milli]
        model = cluster.nodes[at].model if cluster.nodes[at].gpus else None
        fits = one.kind.gpus > 0 and len(able) >= one.kind.gpus and cpu >= one.kind.cpu_milli and memory >= one.kind.memory_mib
        fits = fits and (not one.kind.models or model in one.kind.models)
        total += one.weight * (sum(free) - (sum(able) if fits else 0))
    return total


@pytest.mark.parametrize("seed", range(25))
def test_the_measure_is_what_the_paper_says(seed: int) -> None:
    cluster, draw = random_cluster(seed), np.random.default_rng(seed + 1_000)
    kinds = typical([random_request(draw, f"t{k}") for k in range(12)])
    measure = Fragmentation(cluster, kinds).of(cluster)
    hand = [
        by_hand(cluster, kinds, n, cluster.free_milli[n].tolist(), int(cluster.free_cpu[n]), int(cluster.free_memory[n])) for n in range(5)
    ]
    assert measure == pytest.approx(hand)


@pytest.mark.parametrize("seed", range(15))
def test_the_measure_agrees_with_the_goal_of_the_placement_kind(seed: int) -> None:
    cluster, draw = random_cluster(seed), np.random.default_rng(seed + 2_000)
    kinds = typical([one for one in (random_request(draw, f"t{k}") for k in range(12)) if one.gpus])
    classes = [
        TaskClass(k.kind.gpu_milli / MILLI, k.kind.cpu_milli / MILLI, k.kind.memory_mib / 1024, tuple(k.kind.models), k.weight)
        for k in kinds
    ]
    theirs = [
        node_fragmentation(
            classes,
            Free(
                spec.model,
                cluster.free_cpu[n] / MILLI,
                cluster.free_memory[n] / 1024,
                tuple((cluster.free_milli[n, : spec.gpus] / MILLI).tolist()),
            ),
        )
        for n, spec in enumerate(cluster.nodes)
    ]
    assert Fragmentation(cluster, kinds).of(cluster) / MILLI == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("seed", range(25))
def test_growth_is_the_difference_of_the_measure_and_least_over_the_gpus(seed: int) -> None:
    cluster, draw = random_cluster(seed), np.random.default_rng(seed + 3_000)
    kinds = typical([random_request(draw, f"t{k}") for k in range(12)])
    rule, request = Fgd(cluster, kinds), random_request(draw, "new")
    nodes = np.flatnonzero(cluster.fits(request))
    if not len(nodes):
        assert rule.choose(cluster, request) is None
        return
    growth, gpu = rule.growth(cluster, request, nodes)
    for place, n in enumerate(nodes.tolist()):
        before = rule.fragmentation.of(cluster)[n]
        able = np.flatnonzero(cluster.free_milli[n] >= request.share_milli).tolist()
        found = {}
        for gpus in combinations(able, request.gpus):
            other = cluster.copy()
            other.seat(request, (Seat(n, gpus),))
            found[gpus] = rule.fragmentation.of(other)[n] - before
        assert growth[place] == pytest.approx(min(found.values()))
        if request.fractional:
            assert found[int(gpu[place]),] == pytest.approx(growth[place])


def test_fgd_gives_the_same_seats_with_and_without_what_it_keeps() -> None:
    draw, cluster = np.random.default_rng(7), Cluster([node(f"n{k}", 1 + k % 4, 10 + k) for k in range(12)])
    requests = [random_request(draw, f"x{k}") for k in range(60)]
    kept, seated = Fgd(cluster, typical(requests)), []
    for request in requests:
        seats = kept.choose(cluster, request)
        assert seats == Fgd(cluster, typical(requests)).choose(cluster, request)
        if seats is not None:
            cluster.seat(request, seats)
            seated.append((request, seats))
        if len(seated) > 5 and draw.random() < 0.3:
            cluster.unseat(*seated.pop(int(draw.integers(len(seated)))))


def test_a_tie_seed_decides_between_equal_nodes_and_nothing_else() -> None:
    kinds = typical([Request("t", 1), Request("u", 2)])
    cluster = Cluster([NodeSpec(f"n{at}", 2, "T4", 8_000, 8_000) for at in range(8)])
    chosen = {Fgd(cluster, kinds, seed).choose(cluster, Request("x", 1)) for seed in range(30)}
    assert len(chosen) > 4
    assert Fgd(cluster, kinds, 3).choose(cluster, Request("x", 1)) == Fgd(cluster, kinds, 3).choose(cluster, Request("y", 1))
    cluster.seat(Request("z", 1), (Seat(5, (0,)),))  # the only node on which no pair of idle GPUs is broken
    assert {Fgd(cluster, kinds, seed).choose(cluster, Request("x", 1)) for seed in range(30)} == {(Seat(5, (1,)),)}


def test_fgd_keeps_whole_gpus_for_those_who_need_them() -> None:
    cluster = Cluster((node("a", gpus=2), node("b", gpus=2)))
    cluster.seat(ask("x", share=500), (Seat(1, (0,)),))
    rule = Fgd(cluster, typical([ask("whole", gpus=2), ask("half", share=500)]))
    assert chosen(rule, cluster, ask("y", share=500)) == Seat(1, (0,))


def test_without_places_ours_takes_the_node_where_fragmentation_grows_least() -> None:
    draw, cluster = np.random.default_rng(8), Cluster([node(f"n{k}", 1 + k % 4, 10 + k) for k in range(9)])
    requests = [random_request(draw, f"x{k}") for k in range(50)]
    kinds = typical(requests)
    ours, fgd = Planned(cluster, [], kinds), Fgd(cluster, kinds)
    for request in requests:
        fitting = np.flatnonzero(cluster.fits(request))
        seats = ours.choose(cluster, request)
        if seats is None:
            assert not len(fitting)
            continue
        growths = fgd.growths(cluster, request, fitting)
        assert growths[fitting == seats[0].node][0] == pytest.approx(growths.min())
        cluster.seat(request, seats)


def test_typical_keeps_the_most_popular_kinds_that_make_up_the_part() -> None:
    asked = [ask("a", share=500)] * 6 + [ask("b", share=300)] * 3 + [ask("c", share=100)]
    assert [one.weight for one in typical(asked, 0.9)] == pytest.approx([6 / 9, 3 / 9])
    assert [one.weight for one in typical(asked, 0.91)] == pytest.approx([0.6, 0.3, 0.1])
    assert typical([]) == ()
    gang = Request("g", gpus=1, workers=3)
    assert typical([gang, ask("a", cpu=2)])[0] == Typical(gang.kind, 0.75)


# ---------------------------------------------------------------- laws of all rules


def planned(cluster: Cluster) -> Planned:
    """Ours with a few places on the first nodes."""
    kind = Kind(1, 500, 1_000, 0, ANY)
    return Planned(cluster, [(n, Place(kind, (0,))) for n in range(len(cluster.nodes)) if cluster.gpus[n]])


RULES: dict[str, Callable[[Cluster], WorkerRule]] = {
    "first_fit": lambda _: FirstFit(),
    "best_fit": lambda _: BestFit(),
    "dot_product": lambda _: DotProduct(),
    "packing": lambda _: Packing(),
    "random": lambda _: RandomFit(1),
    "fgd": lambda cluster: Fgd(cluster, typical([ask("a", share=500), ask("b", gpus=2), ask("c", share=300, cpu=4)])),
    "planned": planned,
    "planned_fgd": lambda cluster: Planned(cluster, [], typical([ask("a", share=500), ask("b", gpus=2)])),
}


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_rule_refuses_exactly_who_does_not_fit_and_never_takes_too_much(name: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    cluster = random_cluster(seed)
    rule = RULES[name](cluster)
    for k in range(10):
        request = random_request(draw, f"y{k}")
        before = cluster.version.copy()
        seats = rule.choose(cluster, request)
        assert (cluster.version == before).all()
        assert (seats is None) == (not cluster.fits(request).any())
        if seats is not None:
            cluster.seat(request, seats)
    assert verify(*as_problem(cluster)).ok


@pytest.mark.parametrize("name", RULES)
def test_a_gang_gets_all_its_seats_or_none(name: str) -> None:
    cluster = Cluster((node("a", gpus=2), node("b", gpus=3)))
    rule = RULES[name](cluster)
    gang = Request("gang", gpus=2, cpu_milli=1_000, workers=2)
    seats = rule.choose(cluster, gang)
    assert seats is not None
    assert {seat.node for seat in seats} == {0, 1}
    assert cluster.used_milli() == 0
    cluster.seat(gang, seats)
    assert rule.choose(cluster, Request("more", gpus=1, workers=2)) is None
    shares = Request("shares", gpus=1, share_milli=500, workers=2)
    found = rule.choose(cluster, shares)
    assert found is not None
    cluster.seat(shares, found)
    assert cluster.used_milli() == 5 * MILLI


@pytest.mark.parametrize("name", ["first_fit", "best_fit", "dot_product", "packing", "fgd", "planned"])
def test_new_names_change_nothing_and_other_orders_only_ties(name: str) -> None:
    draw = np.random.default_rng(11)
    requests = [random_request(draw, f"x{k}") for k in range(40)]
    specs = [node(f"n{k}", 1 + k, 12 + 3 * k) for k in range(5)]
    renamed = [node(f"z{9 - k}", 1 + k, 12 + 3 * k) for k in range(5)]
    seats = []
    for nodes in (specs, renamed):
        cluster = Cluster(nodes)
        rule, found = RULES[name](cluster), []
        for request in requests:
            got = rule.choose(cluster, request)
            if got is not None:
                cluster.seat(request, got)
            found.append(got)
        seats.append(found)
    assert seats[0] == seats[1]


@pytest.mark.parametrize("name", ["best_fit", "dot_product", "fgd"])
def test_the_order_of_nodes_matters_only_between_equal_scores(name: str) -> None:
    draw = np.random.default_rng(12)
    requests = [one for one in (random_request(draw, f"x{k}") for k in range(30)) if one.cpu_milli]  # else every product is 0
    specs = [NodeSpec(f"n{k}", 1 + k, "T4", 12_345 * (k + 1) + 77 * k * k, 10**6) for k in range(5)]
    orders = (list(range(5)), [3, 1, 4, 0, 2])
    found = []
    for order in orders:
        cluster = Cluster([specs[k] for k in order])
        rule, names = RULES[name](cluster), []
        for request in requests:
            got = rule.choose(cluster, request)
            if got is not None:
                cluster.seat(request, got)
            names.append(None if got is None else (cluster.nodes[got[0].node].id, got[0].gpus))
        found.append(names)
    assert found[0] == found[1]

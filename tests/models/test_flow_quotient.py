from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from models.flow.network.quotient import folded
from models.flow.network.symmetry import kinds, refined
from models.flow.network.tally import tally_of
from models.flow.schema import DemandTable, Direction, Link, LinkTable, Node, NodeTable, Objective, Problem
from optimizer.result import Outcome
from tests.models.flow_random import plan_of, solved

OBJECTIVES = ("min_cost", "max_throughput", "max_concurrent", "min_max_utilisation", "max_min_fair")


def fat_tree(objective: str, *, k: int, demands: int, seed: int, direction: str = "directed", odd: int = 0, size: float = 30.0) -> Problem:
    """Switches of a fat-tree with k ports; ``odd`` links have another capacity."""
    rng, half = random.Random(seed), k // 2
    links: list[tuple[str, str, float]] = []
    for pod in range(k):
        for at in range(half):
            links += [(f"e{pod}_{at}", f"a{pod}_{other}", 40.0) for other in range(half)]
            links += [(f"a{pod}_{at}", f"c{at * half + other}", 40.0) for other in range(half)]
    if direction == "directed":
        links += [(target, source, capacity) for source, target, capacity in links]
    for _ in range(odd):
        at = rng.randrange(len(links))
        links[at] = (*links[at][:2], 10.0)
    edges = [f"e{pod}_{at}" for pod in range(k) for at in range(half)]
    pairs = [rng.sample(edges, 2) for _ in range(demands)]
    nodes = tuple(dict.fromkeys(name for source, target, _ in links for name in (source, target)))
    return Problem(
        objective=Objective(objective),
        node_table=NodeTable(id=nodes),
        link_table=LinkTable(
            source=tuple(one for one, _, _ in links),
            target=tuple(one for _, one, _ in links),
            capacity_gbps=tuple(one for _, _, one in links),
            cost=(1.0,) * len(links),
            direction=Direction(direction),
        ),
        demand_table=DemandTable(
            source=tuple(one for one, _ in pairs),
            target=tuple(one for _, one in pairs),
            size_gbps=tuple(rng.uniform(1, size) for _ in pairs),
        ),
    )


def test_a_fat_tree_folds_to_a_tree() -> None:
    fabric = folded(fat_tree("max_throughput", k=4, demands=60, seed=1))
    assert fabric is not None
    assert fabric.nodes == 8 + 4 + 1  # edge switches, the rest of each pod, the core
    assert fabric.arcs == 2 * (8 + 4)
    assert sorted(set(fabric.capacity.tolist())) == [80.0, 160.0]


def test_an_asymmetric_network_does_not_fold() -> None:
    rng = random.Random(3)
    names = [f"n{at}" for at in range(8)]
    links = tuple(
        Link(id=f"l{at}", source=one, target=other, capacity_gbps=rng.uniform(1, 2)) for at, (one, other) in enumerate(pairwise(names))
    )
    given = Problem(
        nodes=tuple(Node(id=name) for name in names),
        links=links,
        demand_table=DemandTable(source=("n0",), target=("n7",), size_gbps=(1.0,)),
        objective=Objective.max_throughput,
    )
    assert folded(given) is None


def test_classes_are_equitable() -> None:
    rng = np.random.default_rng(4)
    nodes = 12
    tail = np.concatenate((np.arange(nodes), np.arange(nodes)))
    head = np.concatenate(((np.arange(nodes) + 1) % nodes, (np.arange(nodes) + 5) % nodes))
    kind = kinds(rng.integers(0, 1, len(tail)))
    place = refined(nodes, tail, head, kind, np.array([0]))
    if place is not None:
        for mine in np.unique(place):
            for other in np.unique(place):
                counts = [int(((tail == node) & (place[head] == other)).sum()) for node in np.flatnonzero(place == mine)]
                assert len(set(counts)) == 1


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("direction", ["directed", "shared", "each"])
@pytest.mark.parametrize("odd", [0, 1])
def test_the_folded_answer_is_the_answer(objective: str, direction: str, odd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 6.0 if objective == "min_cost" else 60.0
    given = fat_tree(objective, k=4, demands=14, seed=11 + odd, direction=direction, odd=odd, size=size)
    if not odd:
        assert folded(given) is not None
    found = solved(given)
    monkeypatch.setattr("models.flow.routing.field.folded", lambda _: None)
    plain = solved(given)
    for one in (found, plain):
        assert one.outcome is Outcome.optimal, (one.failure, one.certificate)
    assert found.certificate is not None
    assert plain.certificate is not None
    assert found.verdict is not None
    assert plain.verdict is not None
    for goal, other in zip(found.certificate.goals, plain.certificate.goals, strict=True):
        assert goal.objective == pytest.approx(other.objective, rel=1e-6, abs=1e-6)
        assert goal.bound == pytest.approx(other.bound, rel=1e-6, abs=1e-6)
    if objective == "max_min_fair":
        rates = [tally_of(given, plan_of(one)).carried.tolist() for one in (found, plain)]
        assert rates[0] == pytest.approx(rates[1], rel=1e-5)


def test_routes_go_over_bundles() -> None:
    found = solved(fat_tree("max_throughput", k=4, demands=40, seed=2, size=60.0))
    assert plan_of(found).bundles
    assert found.verdict is not None
    assert found.verdict.ok

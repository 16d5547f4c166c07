from __future__ import annotations

import random

import numpy as np
import pytest

from models.flow.columns.pricing import GraphPricer, PathTable, joined, table_of
from models.flow.columns.store import PathStore
from models.flow.network.arrays import network_of, traffic_of
from models.flow.network.fabric import commodities_of, plain_fabric
from models.flow.routing.balancing import balanced
from models.flow.schema import Demand, Link, Node, Objective, Paths, Problem
from models.flow.verify import verify
from optimizer.result import Outcome
from tests.models.flow_random import plan_of, problem, solved
from tests.oracles.flow_edges import Oracle

OBJECTIVES = ("min_cost", "max_throughput", "max_concurrent", "min_max_utilisation")


def check(given: Problem) -> None:
    """The search agrees with the program over all paths, proves it, and its plan is right."""
    best = Oracle(given).optima()
    found = solved(given)
    assert not found.failure, found.failure
    if best is None:
        assert found.outcome is Outcome.infeasible
        return
    if best[-1] == np.inf:
        assert found.outcome is Outcome.unbounded
        return
    assert found.certificate is not None
    assert verify(given, plan_of(found)).ok
    for goal, optimum in zip(found.certificate.goals, best, strict=True):
        assert goal.objective == pytest.approx(optimum, rel=2e-6, abs=2e-6), goal.name
        assert goal.bound == pytest.approx(optimum, rel=2e-6, abs=2e-6), goal.name


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_the_program_over_all_paths(objective: str, seed: int) -> None:
    check(problem(seed, objective))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(20, 28))
def test_classes_come_one_after_another(objective: str, seed: int) -> None:
    check(problem(seed, objective, classes=3))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(40, 48))
def test_latency_limits_are_exact(objective: str, seed: int) -> None:
    check(problem(seed, objective, limited=True, classes=2))


def test_alike_demands_are_filled_to_their_size() -> None:
    nodes = tuple(Node(id=name) for name in "abc")
    links = (
        Link(id="ab", source="a", target="b", capacity_gbps=4),
        Link(id="bc", source="b", target="c", capacity_gbps=4),
        Link(id="ac", source="a", target="c", capacity_gbps=3),
    )
    demands = tuple(Demand(id=f"d{at}", source="a", target="c", size_gbps=1.5) for at in range(4))
    found = solved(Problem(objective=Objective.min_max_utilisation, nodes=nodes, links=links, demands=demands))
    assert found.verdict is not None
    assert found.verdict.objectives["max_utilisation"] == pytest.approx(6 / 7)
    assert len(plan_of(found).prices) >= 2  # a cut between a and c


def test_a_demand_that_cannot_be_carried_is_refused() -> None:
    nodes = tuple(Node(id=name) for name in "ab")
    links = (Link(id="ab", source="a", target="b", capacity_gbps=4),)
    for objective, size in (("min_cost", 5.0), ("min_cost", 4.0)):
        given = Problem(
            objective=Objective(objective), nodes=nodes, links=links, demands=(Demand(id="d", source="a", target="b", size_gbps=size),)
        )
        assert solved(given).outcome is (Outcome.infeasible if size > 4 else Outcome.optimal)


def test_a_share_without_limit_is_told_as_such() -> None:
    nodes = tuple(Node(id=name) for name in "ab")
    links = (Link(id="ab", source="a", target="b", capacity_gbps=None),)
    given = Problem(
        objective=Objective.max_concurrent, nodes=nodes, links=links, demands=(Demand(id="d", source="a", target="b", size_gbps=1),)
    )
    assert solved(given).outcome is Outcome.unbounded


@pytest.mark.parametrize("objective", ["max_throughput", "min_max_utilisation"])
@pytest.mark.parametrize(("choice", "k"), [("shortest", 2), ("edge_disjoint", 2)])
@pytest.mark.parametrize("seed", range(60, 64))
def test_a_choice_of_paths_is_kept(objective: str, choice: str, k: int, seed: int) -> None:
    from models.flow.paths.admissible import admissible

    given = problem(seed, objective, paths=Paths(choice=choice, k=k))  # type: ignore[arg-type]
    allowed = admissible(given)
    assert allowed is not None
    best = Oracle(given, [allowed.of(demand) for demand in range(traffic_of(given).count)]).optima()
    found = solved(given)
    if best is None:
        assert found.outcome is Outcome.infeasible
        return
    assert found.certificate is not None
    assert found.certificate.goals[0].objective == pytest.approx(best[0], rel=2e-6, abs=2e-6)
    assert found.certificate.goals[0].bound == pytest.approx(best[0], rel=2e-6, abs=2e-6)


def test_scaling_sizes_and_capacities_scales_throughput() -> None:
    one = problem(7, "max_throughput")
    twice = one.model_copy(
        update={
            "links": tuple(
                link.model_copy(update={"capacity_gbps": None if link.capacity_gbps is None else 2 * link.capacity_gbps})
                for link in one.links
            ),
            "demands": tuple(demand.model_copy(update={"size_gbps": 2 * demand.size_gbps}) for demand in one.demands),
        }
    )
    first, second = solved(one).certificate, solved(twice).certificate
    assert first is not None
    assert second is not None
    assert second.goals[0].objective == pytest.approx(2 * first.goals[0].objective)


def test_balancing_lowers_the_largest_utilisation_and_proves_nothing() -> None:
    given = problem(3, "min_max_utilisation")
    fabric = plain_fabric(network_of(given))
    commodities = commodities_of(given, fabric)
    pricer, store = GraphPricer(fabric, commodities), PathStore()
    store.add(pricer.cheapest(np.ones((1, fabric.arcs))).paths(np.arange(commodities.count)))
    load = store.loads(fabric, commodities.size[store.table.commodity])
    before = store.count
    still = balanced(fabric, commodities, pricer, store, load, 0)
    assert store.count == before
    moved = balanced(fabric, commodities, pricer, store, load)
    assert moved.max() <= still.max()
    assert store.count >= before


def test_a_store_takes_each_path_once() -> None:
    store = PathStore()
    table = table_of(np.array([0, 1, 0]), [[1, 2], [3], [1, 2]])
    assert store.add(table).tolist() == [0, 1]
    assert store.add(joined([table, table_of(np.array([1]), [[4]])])).tolist() == [2]
    assert store.count == 3
    assert store.table.totals(np.arange(5.0)).tolist() == [3.0, 3.0, 4.0]
    chosen: PathTable = store.table.chosen(np.array([2, 0]))
    assert chosen.arcs.tolist() == [4, 1, 2]


def test_matched_amounts_fill_each_other() -> None:
    from models.flow.columns.patterns import matched

    rng = random.Random(5)
    for _ in range(50):
        first = [rng.uniform(0.1, 2) for _ in range(rng.randint(1, 6))]
        cuts = sorted(rng.uniform(0, sum(first)) for _ in range(rng.randint(0, 4)))
        second = [high - low for low, high in zip([0.0, *cuts], [*cuts, sum(first)], strict=True)]
        amount, left, right = matched(first, second)
        assert np.bincount(left, weights=amount, minlength=len(first)) == pytest.approx(first)
        assert np.bincount(right, weights=amount, minlength=len(second)) == pytest.approx(second)
        assert len(set(zip(left.tolist(), right.tolist(), strict=True))) == len(amount)


def test_only_searches_that_use_a_plan_are_sent_one() -> None:
    from models.flow.design.examples import design
    from models.flow.examples import wan
    from models.flow.failures.examples import protected, swept
    from models.flow.scale import starts_from
    from models.flow.transfers.examples import transfers

    assert not starts_from(wan())
    assert all(starts_from(one()) for one in (design, protected, swept, transfers))

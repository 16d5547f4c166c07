from __future__ import annotations

import pytest

from models.flow.network.tally import tally_of
from models.flow.schema import Demand, Link, Node, Objective, Paths, Problem
from optimizer.result import Outcome
from tests.models.flow_random import plan_of, problem, solved
from tests.oracles.flow_edges import Oracle


def check(given: Problem, paths: list[list[tuple[int, ...]]] | None = None) -> None:
    """Rates agree with water filling by a program for each demand, and the plan proves every level."""
    best = Oracle(given, paths).optima()
    assert best is not None
    found = solved(given)
    assert not found.failure, found.failure
    assert found.certificate is not None
    rates = tally_of(given, plan_of(found)).carried.tolist()
    assert rates == pytest.approx(best, rel=1e-5, abs=1e-5)
    for goal in found.certificate.goals:
        assert goal.gap <= 1e-6, goal
    for level in plan_of(found).levels:
        assert not level.shares or sum(level.shares) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(16))
def test_rates_are_the_lexicographic_optimum(seed: int) -> None:
    check(problem(seed, "max_min_fair"))


@pytest.mark.parametrize("seed", range(20, 30))
def test_classes_come_one_after_another(seed: int) -> None:
    check(problem(seed, "max_min_fair", classes=3))


@pytest.mark.parametrize("seed", range(40, 50))
def test_latency_limits_hold_and_proofs_know_them(seed: int) -> None:
    check(problem(seed, "max_min_fair", limited=True))


@pytest.mark.parametrize("seed", [1029, 2037, 2073, 2085])
def test_latency_limits_of_each_class_are_its_own(seed: int) -> None:
    check(problem(seed, "max_min_fair", classes=2, limited=True))


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("seed", range(60, 64))
def test_a_choice_of_paths_is_kept(seed: int, k: int) -> None:
    from models.flow.network.arrays import traffic_of
    from models.flow.paths.admissible import admissible

    given = problem(seed, "max_min_fair", paths=Paths(choice="shortest", k=k))  # type: ignore[arg-type]
    allowed = admissible(given)
    assert allowed is not None
    check(given, [allowed.of(demand) for demand in range(traffic_of(given).count)])


def test_a_line_of_links_is_filled_as_in_the_textbook() -> None:
    """Bertsekas and Gallager, figure 6.12: a long session over all links, short ones over each."""
    nodes = tuple(Node(id=name) for name in "abc")
    links = (Link(id="ab", source="a", target="b", capacity_gbps=1), Link(id="bc", source="b", target="c", capacity_gbps=2))
    ends = {"long": ("a", "c"), "first": ("a", "b"), "second": ("b", "c")}
    demands = tuple(Demand(id=name, source=one, target=other, size_gbps=10) for name, (one, other) in ends.items())
    given = Problem(objective=Objective.max_min_fair, nodes=nodes, links=links, demands=demands)
    found = solved(given)
    assert found.outcome is Outcome.optimal
    assert tally_of(given, plan_of(found)).carried.tolist() == pytest.approx([0.5, 0.5, 1.5])
    assert [level.rate for level in plan_of(found).levels] == pytest.approx([0.5, 1.5])
    assert [[price.link for price in level.prices] for level in plan_of(found).levels] == [["ab"], ["bc"]]

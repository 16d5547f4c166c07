"""Large and small units: every answer is that of the same problem in Gbit/s, and nothing wrong is called proved."""

from __future__ import annotations

import random

import numpy as np
import pytest

from models.flow.columns.pricing import GraphPricer
from models.flow.columns.units import Units, middle
from models.flow.explain import explain
from models.flow.network.arrays import network_of
from models.flow.network.fabric import commodities_of, plain_fabric
from models.flow.schema import Demand, Direction, FlowTable, Link, LinkFlow, Node, Objective, Plan, Problem, Route, Rule
from models.flow.verify import verify
from models.program import LinearProgram
from tests.models.flow_random import plan_of, problem, solved
from tests.oracles.flow import best

OBJECTIVES = [one.value for one in Objective]
SUPPLIED = [one for one in OBJECTIVES if one != "max_min_fair"]


def scaled(given: Problem, unit: float) -> Problem:
    """The same problem with every rate times ``unit``."""
    capacity = {link.id: None if link.capacity_gbps is None else link.capacity_gbps * unit for link in given.links}
    return Problem(
        objective=given.objective,
        nodes=tuple(node.model_copy(update={"supply_gbps": node.supply_gbps * unit}) for node in given.nodes),
        links=tuple(link.model_copy(update={"capacity_gbps": capacity[link.id]}) for link in given.links),
        demands=tuple(one.model_copy(update={"size_gbps": one.size_gbps * unit}) for one in given.demands),
    )


def compare(given: Problem, unit: float) -> None:
    """Solve ``given`` in another unit, and hold the answer against the oracle's in Gbit/s."""
    try:
        expected = best(given)
    except ValueError:
        assert solved(scaled(given, unit)).outcome == "unbounded"
        return
    result = solved(scaled(given, unit))
    assert result.failure is None
    if expected is None:
        assert result.outcome == "infeasible"
        return
    assert result.outcome == "optimal", result
    assert result.certificate is not None
    for goal in result.certificate.goals:
        factor = unit if goal.name.startswith(("cost", "throughput", "fair_rate")) else 1.0
        assert goal.objective / factor == pytest.approx(expected.values[goal.name], rel=1e-5, abs=1e-5)
        assert goal.bound / factor == pytest.approx(expected.values[goal.name], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("unit", [2.0**-10, 1e4, 1e9])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_demands_in_any_unit(objective: str, unit: float) -> None:
    for seed in range(6):
        compare(problem(seed, objective, classes=1 + seed % 2, limited=seed % 3 == 0), unit)


@pytest.mark.parametrize("unit", [2.0**-10, 1e4, 1e9])
@pytest.mark.parametrize("objective", SUPPLIED)
def test_supplies_in_any_unit(objective: str, unit: float) -> None:
    for seed in range(8):
        rng = random.Random(seed)
        names = "abcd"
        links = []
        for at in range(8):
            source, target = rng.sample(names, 2)
            links.append(
                Link(
                    id=f"l{at}",
                    source=source,
                    target=target,
                    capacity_gbps=rng.choice([None, 1, 2, 3, 5.5]),
                    cost=rng.choice([0, 1, 2.7, -1]),
                    direction=rng.choice(list(Direction)),
                )
            )
        nodes = tuple(Node(id=name, supply_gbps=supply) for name, supply in zip(names, (1.5, 0.5, 0, -2), strict=True))
        compare(Problem(objective=Objective(objective), nodes=nodes, links=tuple(links)), unit)


@pytest.mark.parametrize("objective", ["max_concurrent", "min_cost"])
def test_a_shared_link_of_negative_cost_may_be_the_last_of_those_without_a_limit(objective: str) -> None:
    links = (
        Link(id="near", source="a", target="b", capacity_gbps=2, cost=-1, direction=Direction.shared),
        Link(id="far", source="a", target="b", capacity_gbps=None, cost=1),
    )
    nodes = (Node(id="a", supply_gbps=1), Node(id="b", supply_gbps=-1))
    result = solved(Problem(objective=Objective(objective), nodes=nodes, links=links))
    assert result.failure is None
    assert result.outcome == ("unbounded" if objective == "max_concurrent" else "optimal")


@pytest.mark.parametrize("capacity", [1e-8, 3e-9])
def test_demands_below_the_tolerance_are_carried_all_the_same(capacity: float) -> None:
    links = (Link(id="l", source="a", target="b", capacity_gbps=capacity),)
    demands = (Demand(id="d", source="a", target="b", size_gbps=6e-9),)
    given = Problem(objective=Objective.min_max_utilisation, nodes=(Node(id="a"), Node(id="b")), links=links, demands=demands)
    result = solved(given)
    assert result.certificate is not None
    assert result.certificate.objective == pytest.approx(6e-9 / capacity)
    assert result.outcome == "optimal"


def test_rounding_breaks_no_cheapest_path() -> None:
    """The node ``m`` comes nearer in the second turn, by less than the next arc lets one see."""
    ends = ("sm", "se", "em", "mt")
    given = Problem(
        objective=Objective.min_max_utilisation,
        nodes=tuple(Node(id=name) for name in "smte"),
        links=tuple(Link(id=pair, source=pair[0], target=pair[1], capacity_gbps=1) for pair in ends),
        demands=(Demand(id="d", source="s", target="t", size_gbps=1),),
    )
    fabric = plain_fabric(network_of(given))
    pricer = GraphPricer(fabric, commodities_of(given, fabric))
    found = pricer.cheapest(np.array([[3e-17, 1e-17, 1e-17, 1.0]])).paths(np.array([0]))
    assert [fabric.hops[arc] for arc in found.arcs.tolist()] == ["se", "em", "mt"]


def test_a_circling_flow_hides_no_missing_supply() -> None:
    links = (
        Link(id="there", source="a", target="b", capacity_gbps=None),
        Link(id="back", source="b", target="a", capacity_gbps=None),
        Link(id="on", source="b", target="c", capacity_gbps=None, cost=1),
    )
    nodes = (Node(id="a", supply_gbps=5), Node(id="b"), Node(id="c", supply_gbps=-5))
    given = Problem(nodes=nodes, links=links)
    assert verify(given, Plan(flow_table=FlowTable(link=("there", "on"), gbps=(5.0, 5.0)))).ok
    circling = Plan(flows=tuple(LinkFlow(link=link, gbps=gbps) for link, gbps in (("there", 1e8), ("back", 1e8 - 4.0), ("on", 4.0))))
    verdict = verify(given, circling)
    assert not verdict.ok
    assert {violation.rule for violation in verdict.violations} == {Rule.node_supply}


def test_small_routes_keep_their_limits() -> None:
    links = (Link(id="l", source="a", target="b", capacity_gbps=1, latency_ms=9),)
    demands = (Demand(id="d", source="a", target="b", size_gbps=1e-6, latency_limit_ms=1),)
    given = Problem(objective=Objective.max_concurrent, nodes=(Node(id="a"), Node(id="b")), links=links, demands=demands)
    verdict = verify(given, Plan(routes=(Route(demand="d", gbps=1e-6, hops=("l",)),)))
    assert [violation.rule for violation in verdict.violations] == [Rule.latency_limit]


def test_an_empty_link_is_not_full_however_small() -> None:
    links = (
        Link(id="small", source="a", target="b", capacity_gbps=1e-6),
        Link(id="l", source="b", target="c", capacity_gbps=1),
    )
    demands = (Demand(id="d", source="b", target="c", size_gbps=2),)
    given = Problem(objective=Objective.max_throughput, nodes=tuple(Node(id=name) for name in "abc"), links=links, demands=demands)
    told = explain(given, plan_of(solved(given)))
    assert "small" not in {name for reason in told for name in reason.ids}


def test_units_change_a_program_and_its_answer_back() -> None:
    program = LinearProgram(
        maximise=False,
        cost=np.array([3.0, 1.0]),
        column_lower=np.zeros(2),
        column_upper=np.array([np.inf, 8.0]),
        integer=np.zeros(2, dtype=np.bool_),
        row_lower=np.array([6.0]),
        row_upper=np.array([np.inf]),
        starts=np.array([0, 2]),
        indices=np.array([0, 1]),
        coefficients=np.array([1.0, 2.0]),
    )
    units = Units(np.array([4.0, 2.0]), np.array([8.0]), 16.0)
    into = units.into(program)
    point = np.array([2.0, 3.0])
    assert into.objective(point / units.column) * units.objective == program.objective(point)
    assert into.column_upper.tolist() == [np.inf, 4.0]
    assert into.row_lower.tolist() == [0.75]
    dual = np.array([0.5])
    assert np.allclose(
        (into.cost - into.pulled_back(dual)) * units.objective / units.column, program.cost - program.pulled_back(units.duals(dual))
    )


def test_the_middle_is_a_power_of_two_far_from_1_only() -> None:
    assert middle(np.array([0.0, np.inf])) == 1.0
    assert middle(np.array([3.0, 40.0, 900.0])) == 1.0
    assert middle(np.array([2.0**30, 2.0**32])) == 2.0**31
    assert middle(np.full(3, 2.0**-20)) == 2.0**-20

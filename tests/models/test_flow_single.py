from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

from models.flow.network.arrays import network_of
from models.flow.routing.single import supplied_program
from models.flow.schema import Direction, Link, LinkTable, Node, NodeTable, Objective, Problem
from optimizer.result import Outcome
from tests.models.flow_random import plan_of, solved

DATA = Path(__file__).parents[3] / "shared" / "data"
OBJECTIVES = ("min_cost", "max_throughput", "max_concurrent", "min_max_utilisation")


def problem(seed: int, objective: str, *, whole: bool, negative: bool = False, lower: bool = False) -> Problem:
    rng = random.Random(seed)
    nodes = rng.randint(3, 7)
    names = [f"n{at}" for at in range(nodes)]

    def amount(most: float) -> float:
        return float(rng.randint(1, int(most))) if whole else rng.uniform(0.5, most)

    supply = [0.0] * nodes
    for _ in range(rng.randint(1, 3)):
        one, other = rng.sample(range(nodes), 2)
        size = amount(6)
        supply[one] += size
        supply[other] -= size
    ends = [(at, (at + 1) % nodes) for at in range(nodes)] + [tuple(rng.sample(range(nodes), 2)) for _ in range(2 * nodes)]
    links = []
    for at, (one, other) in enumerate(ends):
        direction = rng.choice(list(Direction))
        links.append(
            Link(
                id=f"l{at}",
                source=names[one],
                target=names[other],
                capacity_gbps=amount(15),
                cost=rng.uniform(-3 if negative else 0, 9),
                lower_gbps=0.25 if lower and direction is Direction.directed and rng.random() < 0.3 else 0.0,
                direction=direction,
            )
        )
    made = tuple(Node(id=name, supply_gbps=one) for name, one in zip(names, supply, strict=True))
    return Problem(objective=Objective(objective), nodes=made, links=tuple(links))


def by_scipy(given: Problem) -> float | None:
    """The edge form with a row for every channel."""
    network = network_of(given)
    arcs, nodes = network.arcs, network.nodes
    balance = np.zeros((nodes, arcs + nodes + 1))
    for arc in range(arcs):
        balance[network.arc_tail[arc], arc] += 1
        balance[network.arc_head[arc], arc] -= 1
    room = np.zeros((len(network.channel_link), arcs + nodes + 1))
    room[network.arc_channel, np.arange(arcs)] = 1
    capacity, cost, side = network.channel_capacity.copy(), np.zeros(arcs + nodes + 1), network.supply.copy()
    bounds: list[tuple[float, float | None]] = [
        (0.0 if network.arc_back[arc] else float(network.link_lower[network.arc_link[arc]]), None) for arc in range(arcs)
    ]
    free = given.objective is Objective.max_throughput
    for node in range(nodes):
        balance[node, arcs + node] = -np.sign(network.supply[node])
        bounds.append((0.0, abs(float(network.supply[node])) if free else 0.0))
    bounds.append((0.0, None))
    sign = 1.0
    if given.objective is Objective.min_cost:
        cost[:arcs] = network.arc_cost
    elif free:
        cost[arcs : arcs + nodes] = -(network.supply > 0).astype(float)
        side, sign = np.zeros(nodes), -1.0
    elif given.objective is Objective.max_concurrent:
        balance[:, -1] = -network.supply
        cost[-1], side, sign = -1.0, np.zeros(nodes), -1.0
    else:
        room[:, -1] = -capacity
        cost[-1], capacity = 1.0, np.zeros(len(capacity))
    found = linprog(cost, A_ub=room, b_ub=capacity, A_eq=balance, b_eq=side, bounds=bounds, method="highs")
    return sign * float(found.fun) if found.status == 0 else None


def check(given: Problem) -> None:
    best = by_scipy(given)
    found = solved(given)
    assert not found.failure, found.failure
    if best is None:
        assert found.outcome is Outcome.infeasible
        return
    assert found.certificate is not None
    goal = found.certificate.goals[0]
    assert goal.objective == pytest.approx(best, rel=1e-6, abs=1e-6)
    assert goal.bound == pytest.approx(best, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_edge_form(objective: str, whole: bool, seed: int) -> None:
    check(problem(seed, objective, whole=whole))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", range(20, 26))
def test_costs_below_zero_may_go_round(whole: bool, seed: int) -> None:
    check(problem(seed, "min_cost", whole=whole, negative=True))


@pytest.mark.parametrize("objective", ["min_cost", "max_throughput"])
@pytest.mark.parametrize("seed", range(30, 36))
def test_lower_bounds_hold(objective: str, seed: int) -> None:
    check(problem(seed, objective, whole=True, lower=True))


def two_ways(capacity: float | None, *, cost: float = 0.1, supply: float = 0.3) -> Problem:
    links = LinkTable(source=("a", "a"), target=("b", "b"), capacity_gbps=(0.1, capacity), cost=(cost, 3 * cost))
    return Problem(node_table=NodeTable(id=("a", "b"), supply_gbps=(supply, -supply)), link_table=links)


def test_decimals_are_made_whole_and_the_method_says_so() -> None:
    found = solved(two_ways(0.7))
    assert found.certificate is not None
    assert found.certificate.goals[0].objective == pytest.approx(0.01 + 0.06)
    assert "times 10," in found.certificate.goals[0].method
    plan = plan_of(found)
    assert plan.flow_table is not None
    assert dict(zip(plan.flow_table.link, plan.flow_table.gbps, strict=True)) == pytest.approx({"l0": 0.1, "l1": 0.2})
    assert [price.link for price in plan.prices] == ["l0"]
    assert plan.prices[0].price == pytest.approx(0.2)


def test_amounts_that_no_power_of_ten_makes_whole_go_to_a_linear_program() -> None:
    found = solved(two_ways(1 / 3, supply=1 / 7))
    assert found.certificate is not None
    assert "linear program" in found.certificate.goals[0].method
    assert found.certificate.goals[0].objective == pytest.approx(0.01 + 0.3 * (1 / 7 - 0.1))


def test_too_little_capacity_is_refused() -> None:
    assert solved(two_ways(0.1)).outcome is Outcome.infeasible


def test_an_endless_cycle_is_told() -> None:
    nodes = (Node(id="a", supply_gbps=1.0), Node(id="b", supply_gbps=-1.0))
    links = (
        Link(id="ab", source="a", target="b", capacity_gbps=None, cost=-2.0),
        Link(id="ba", source="b", target="a", capacity_gbps=None, cost=1.0),
    )
    assert solved(Problem(nodes=nodes, links=links)).outcome is Outcome.unbounded


def test_the_program_is_a_pure_network_unless_flow_both_ways_pays() -> None:
    for cost, pure in ((1.0, True), (-1.0, False)):
        nodes = (Node(id="a", supply_gbps=1.0), Node(id="b", supply_gbps=-1.0))
        link = Link(id="ab", source="a", target="b", capacity_gbps=2.0, cost=cost, direction=Direction.shared)
        given = Problem(nodes=nodes, links=(link,))
        assert supplied_program(network_of(given), given.objective).pure is pure
        check(given)


def test_netgen_has_its_published_optimum() -> None:
    path = DATA / "dimacs_netgen" / "netgen_8_08a.min"
    if not path.exists():
        pytest.skip("needs ../shared/data/dimacs_netgen")
    rows = [line.split() for line in path.read_text().splitlines()]
    nodes = int(next(row[2] for row in rows if row[:1] == ["p"]))
    supply = {row[1]: float(row[2]) for row in rows if row[:1] == ["n"]}
    arcs = [row for row in rows if row[:1] == ["a"]]
    ids = tuple(str(1 + at) for at in range(nodes))
    given = Problem(
        node_table=NodeTable(id=ids, supply_gbps=tuple(supply.get(name, 0.0) for name in ids)),
        link_table=LinkTable(
            source=tuple(row[1] for row in arcs),
            target=tuple(row[2] for row in arcs),
            lower_gbps=tuple(float(row[3]) for row in arcs),
            capacity_gbps=tuple(float(row[4]) for row in arcs),
            cost=tuple(float(row[5]) for row in arcs),
        ),
    )
    found = solved(given)
    assert found.certificate is not None
    assert found.certificate.goals[0].objective == 142274536
    assert found.certificate.goals[0].bound == 142274536

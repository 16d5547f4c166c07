"""Views of a flow's plan, and fabrics as problems."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.collectives import collective_time
from models.fabrics import fat_tree, leaf_spine, ring
from models.flow.network.arrays import network_of, traffic_of
from models.flow.network.from_fabric import fabric_of, problem_of
from models.flow.network.tally import tally_of
from models.flow.schema import (
    Bundle,
    Demand,
    Direction,
    Granted,
    Horizon,
    Leg,
    Link,
    LinkFlow,
    Node,
    Objective,
    Plan,
    Problem,
    Route,
    ScenarioRoutes,
    Shipment,
    Transfer,
    Use,
)
from models.flow.verify import verify
from models.flow.views import VIEWS, loads, paths, splits


def square(**changes: Any) -> Problem:
    """Traffic from a to d over b and c: one link of each kind, and a pair of parallel ones."""
    links = (
        Link(id="ab", source="a", target="b", capacity_gbps=10.0, latency_ms=1.0),
        Link(id="ab2", source="a", target="b", capacity_gbps=10.0, latency_ms=3.0),
        Link(id="bd", source="b", target="d", capacity_gbps=None, latency_ms=1.0, direction=Direction.each),
        Link(id="ca", source="c", target="a", capacity_gbps=4.0, latency_ms=2.0, direction=Direction.shared),
        Link(id="cd", source="c", target="d", capacity_gbps=8.0, latency_ms=2.0, direction=Direction.each),
    )
    demands = (
        Demand(id="there", source="a", target="d", size_gbps=9.0),
        Demand(id="back", source="d", target="a", size_gbps=1.0),
    )
    return Problem(
        **{"nodes": tuple(Node(id=name) for name in "abcd"), "links": links, "demands": demands, "objective": "max_throughput"} | changes
    )


PLAN = Plan(
    bundles=(Bundle(id="both", links=("ab", "ab2")),),
    routes=(
        Route(demand="there", gbps=2.0, hops=("ca", "cd")),
        Route(demand="there", gbps=6.0, hops=("both", "bd")),
        Route(demand="back", gbps=1.0, hops=("cd", "ca")),
    ),
)


def test_the_plan_of_these_tests_keeps_the_rules() -> None:
    assert verify(square(), PLAN).ok


def test_paths() -> None:
    found = paths(square(), PLAN)["demands"]
    first = {key: value for key, value in found[0].items() if key != "paths"}
    assert first == {"demand": "there", "source": "a", "target": "d", "size_gbps": 9.0, "carried_gbps": 8.0}
    assert found[0]["paths"] == [
        {"gbps": 6.0, "latency_ms": 4.0, "hops": [{"bundle": "both", "one_of": 2, "links": ["ab", "ab2"]}, {"link": "bd"}]},
        {"gbps": 2.0, "latency_ms": 4.0, "hops": [{"link": "ca"}, {"link": "cd"}]},
    ]
    assert [path["hops"] for path in found[1]["paths"]] == [[{"link": "cd"}, {"link": "ca"}]]


def test_paths_of_scenarios() -> None:
    """A design that survives failures has other routes while one lasts."""
    there = ScenarioRoutes(scenario="ab", routes=(Route(demand="there", gbps=9.0, hops=("ab2", "bd")),))
    found = paths(square(), PLAN.model_copy(update={"scenario_routes": (there,)}))
    path = {"gbps": 9.0, "latency_ms": 4.0, "hops": [{"link": "ab2"}, {"link": "bd"}]}
    assert found["scenarios"] == [{"scenario": "ab", "demands": [{"demand": "there", "paths": [path]}]}]
    assert "scenarios" not in paths(square(), PLAN)


def test_what_is_granted_is_told_where_routes_reserve_more() -> None:
    granted = PLAN.model_copy(update={"granted": (Granted(demand="there", gbps=2.0),)})
    assert [one["carried_gbps"] for one in paths(square(), granted)["demands"]] == [2.0, 1.0]


def test_loads() -> None:
    found = {(one["link"], one["way"]): one for one in loads(square(), PLAN)["links"]}
    assert {key: one["gbps"] for key, one in found.items()} == {
        ("ab", "forth"): 3.0,
        ("ab2", "forth"): 3.0,
        ("bd", "forth"): 6.0,
        ("bd", "back"): 0.0,
        ("ca", "both"): 3.0,
        ("cd", "forth"): 2.0,
        ("cd", "back"): 1.0,
    }
    assert (found["cd", "back"]["from"], found["cd", "back"]["to"], found["cd", "back"]["utilisation"]) == ("d", "c", 0.125)
    assert (found["bd", "forth"]["capacity_gbps"], found["bd", "forth"]["utilisation"]) == (None, 0.0)
    assert found["ca", "both"]["utilisation"] == 0.75
    busiest = verify(square(), PLAN).metrics["max_utilisation"]
    assert busiest == max(one["utilisation"] for one in found.values())


def test_splits() -> None:
    found = {one["node"]: {to["target"]: to for to in one["targets"]} for one in splits(square(), PLAN)["nodes"]}
    assert {node: set(targets) for node, targets in found.items()} == {"a": {"d"}, "b": {"d"}, "c": {"a", "d"}, "d": {"a"}}
    assert found["a"]["d"]["gbps"] == pytest.approx(8.0)
    assert [(one["link"], one["way"], one["to"], one["share"]) for one in found["a"]["d"]["links"]] == [
        ("ab", "forth", "b", 0.375),
        ("ab2", "forth", "b", 0.375),
        ("ca", "back", "c", 0.25),
    ]
    assert [(one["link"], one["way"], one["share"]) for one in found["c"]["a"]["links"]] == [("ca", "forth", 1.0)]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_splits_load_links_as_the_plan_does(seed: int) -> None:
    """What enters the network is passed on by shares alone until it is at its target."""
    problem, plan = walked(seed)
    network, traffic = network_of(problem), traffic_of(problem)
    shares = {
        (one["node"], to["target"]): [
            (network.link_at[link["link"]], link["way"] == "back", link["to"], link["share"]) for link in to["links"]
        ]
        for one in splits(problem, plan)["nodes"]
        for to in one["targets"]
    }
    for (_, target), links in shares.items():
        assert sum(share for *_, share in links) == pytest.approx(1.0)
        assert target in network.node_ids
    waiting = {(network.node_ids[a], network.node_ids[b]): 0.0 for a, b in zip(traffic.source, traffic.target, strict=True)}
    for a, b, carried in zip(traffic.source, traffic.target, tally_of(problem, plan).carried, strict=True):
        waiting[network.node_ids[a], network.node_ids[b]] += carried
    flow = np.zeros(network.arcs)
    for _ in range(500):
        passed: dict[tuple[str, str], float] = {}
        for (node, target), amount in waiting.items():
            for link, back, to, share in shares[node, target] if amount > 0 else ():
                flow[network.backward_arc[link] if back else network.forward_arc[link]] += amount * share
                if to != target:
                    passed[to, target] = passed.get((to, target), 0.0) + amount * share
        waiting = passed
    assert flow == pytest.approx(tally_of(problem, plan).arc_flow, abs=1e-6)


def walked(seed: int) -> tuple[Problem, Plan]:
    """Demands on simple paths that a random walk finds in a small graph of links for both ways."""
    rng = np.random.default_rng(seed)
    graph = nx.gnm_random_graph(7, 12, seed=seed % 1000)
    graph.add_edges_from((node, node + 1) for node in range(6))
    links = tuple(
        Link(id=f"l{a}-{b}", source=f"n{a}", target=f"n{b}", capacity_gbps=None, direction=Direction.each) for a, b in graph.edges
    )
    named = {frozenset(edge): f"l{edge[0]}-{edge[1]}" for edge in graph.edges}
    demands, routes = [], []
    for place in range(8):
        source, target = (int(one) for one in rng.choice(7, 2, replace=False))
        ways = list(itertools.islice(nx.all_simple_paths(graph, source, target), 6))
        demands.append(Demand(id=f"d{place}", source=f"n{source}", target=f"n{target}", size_gbps=10.0))
        routes += [
            Route(demand=f"d{place}", gbps=float(rng.uniform(0.1, 2)), hops=tuple(named[frozenset(hop)] for hop in itertools.pairwise(way)))
            for way in ways
        ]
    nodes = tuple(Node(id=f"n{node}") for node in range(7))
    problem = Problem(nodes=nodes, links=links, demands=tuple(demands), objective=Objective.max_throughput)
    return problem, Plan(routes=tuple(routes))


def test_loads_of_supplies() -> None:
    nodes = (Node(id="a", supply_gbps=5.0), Node(id="b"), Node(id="c"), Node(id="d", supply_gbps=-5.0))
    problem = square(nodes=nodes, demands=(), objective="min_cost")
    plan = Plan(
        flows=(
            LinkFlow(link="ab", gbps=4.0),
            LinkFlow(link="bd", gbps=4.0),
            LinkFlow(link="ca", back_gbps=1.0),
            LinkFlow(link="cd", gbps=1.0),
        )
    )
    assert verify(problem, plan).ok
    assert [one["gbps"] for one in loads(problem, plan)["links"]] == [4.0, 0.0, 4.0, 0.0, 1.0, 1.0, 0.0]
    assert paths(problem, plan) == {"demands": []}
    first = splits(problem, plan)["nodes"][0]
    assert (first["node"], first["targets"][0]["target"], first["targets"][0]["gbps"]) == ("a", None, 5.0)
    assert [one["share"] for one in first["targets"][0]["links"]] == [0.8, 0.2]


def test_loads_of_transfers() -> None:
    problem = square(
        use=Use.transfer,
        demands=(),
        objective="min_cost",
        transfers=(Transfer(id="copy", source="a", targets=("d",), size_gbit=20.0),),
        horizon=Horizon(steps=3, step_s=5.0),
    )
    legs = (Leg(link="ab", step=0), Leg(link="bd", step=1))
    plan = Plan(shipments=(Shipment(transfer="copy", gbit=12.0, legs=legs), Shipment(transfer="copy", gbit=8.0, legs=legs)))
    assert verify(problem, plan).ok
    assert loads(problem, plan)["steps"] == [
        {"step": 0, "link": "ab", "way": "forth", "gbit": 20.0, "gbps": 4.0},
        {"step": 1, "link": "bd", "way": "forth", "gbit": 20.0, "gbps": 4.0},
    ]


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_is_plain_json(name: str) -> None:
    found = VIEWS[name](square(), PLAN)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


# ---------------------------------------------------------------- fabrics


def test_a_fabric_becomes_a_problem_and_back() -> None:
    fabric = leaf_spine(2, 2, 2)
    problem = problem_of(fabric, [("leaf0-host0", "leaf1-host1", 5.0)])
    assert {link.direction for link in problem.links} == {Direction.each}
    network = network_of(problem)
    assert (network.node_ids, network.link_ids) == (fabric.node_ids, fabric.link_ids)
    assert np.array_equal(network.link_capacity, fabric.capacity_gbps)
    assert np.array_equal(network.link_latency, fabric.latency_ms)
    assert [(one.source, one.target, one.size_gbps) for one in problem.demands] == [("leaf0-host0", "leaf1-host1", 5.0)]
    again = fabric_of(problem)
    times = [collective_time(one, fabric.ends, 1.0, "all_reduce", "ring").seconds for one in (fabric, again)]
    assert times[0] == pytest.approx(times[1])


def test_uneven_fabrics_become_directed_links() -> None:
    fabric = dataclasses.replace(ring(3), back_gbps=np.array([0.0, 100.0, np.inf]))
    problem = problem_of(fabric, [("gpu0", "gpu2", 1.0)])
    assert [(link.id, link.source, link.target, link.capacity_gbps) for link in problem.links] == [
        ("gpu0--gpu1", "gpu0", "gpu1", 400.0),
        ("gpu1--gpu2", "gpu1", "gpu2", 400.0),
        ("gpu2--gpu0", "gpu2", "gpu0", 400.0),
        ("gpu1--gpu2#back", "gpu2", "gpu1", 100.0),
        ("gpu2--gpu0#back", "gpu0", "gpu2", None),
    ]
    assert {link.direction for link in problem.links} == {Direction.directed}


def test_large_fabrics_become_tables() -> None:
    fabric = fat_tree(16)
    ends = fabric.ends
    wishes = [(ends[place % 1024], ends[(place * 7 + 1) % 1024], 1.0) for place in range(4000) if place % 1024 != (place * 7 + 1) % 1024]
    problem = problem_of(fabric, wishes)
    assert problem.link_table is not None
    assert problem.demand_table is not None
    assert (network_of(problem).links, len(problem.demand_table.source)) == (3072, len(wishes))


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no node 'nobody'"):
        problem_of(ring(3), [("gpu0", "nobody", 1.0)])
    with pytest.raises(ValueError, match="to itself"):
        problem_of(ring(3), [("gpu0", "gpu0", 1.0)])
    with pytest.raises(ValueError, match="link 'ca' shares its capacity"):
        fabric_of(square())

from __future__ import annotations

import random
from itertools import permutations

import numpy as np
import pytest

from models.flow.network.arrays import network_of, traffic_of
from models.flow.paths.admissible import admissible
from models.flow.paths.disjoint import DisjointPaths
from models.flow.paths.limited import cheapest_within
from models.flow.schema import Demand, Direction, Link, ListedPath, Node, Objective, Paths, Problem
from tests.models.flow_random import problem, solved
from tests.oracles.flow_edges import loopless


def graph(seed: int, nodes: int, links: int, direction: str = "directed") -> Problem:
    """A simple random graph with demands between some pairs."""
    rng = random.Random(seed)
    names = [str(at) for at in range(nodes)]
    rng.shuffle(names)
    pairs = rng.sample(list(permutations(names, 2)), links)
    if direction != "directed":
        pairs = list({tuple(sorted(pair)): pair for pair in pairs}.values())
    made = tuple(
        Link(id=f"l{at}", source=one, target=other, capacity_gbps=1, direction=Direction(direction))
        for at, (one, other) in enumerate(pairs)
    )
    ends = rng.sample(list(permutations(names, 2)), 20)
    demands = tuple(Demand(id=f"d{at}", source=one, target=other, size_gbps=1) for at, (one, other) in enumerate(ends))
    return Problem(objective=Objective.max_throughput, nodes=tuple(Node(id=name) for name in names), links=made, demands=demands)


@pytest.mark.parametrize("seed", range(25))
def test_disjoint_paths_are_those_of_networkx(seed: int) -> None:
    networkx = pytest.importorskip("networkx")
    given = graph(seed, 6 + seed % 8, 14 + 2 * (seed % 9))
    network, traffic = network_of(given), traffic_of(given)
    theirs = networkx.DiGraph()
    theirs.add_nodes_from(sorted(network.node_ids, key=int))
    theirs.add_edges_from((link.source, link.target) for link in given.links)
    ours = DisjointPaths(network, np.arange(network.arcs))
    for source, target in zip(traffic.source.tolist(), traffic.target.tolist(), strict=True):
        names = network.node_ids
        try:
            found = sorted(networkx.edge_disjoint_paths(theirs, names[source], names[target]), key=len)
        except networkx.NetworkXNoPath:
            found = []
        mine = [[names[source], *(names[network.arc_head[arc]] for arc in path)] for path in ours.between(source, target)]
        loops = [len(set(path)) < len(path) for path in found]
        assert len(mine) == len(found)
        if not any(loops):
            assert mine == found


@pytest.mark.parametrize("direction", ["directed", "shared", "each"])
@pytest.mark.parametrize("seed", range(6))
def test_disjoint_paths_share_no_channel(seed: int, direction: str) -> None:
    given = graph(seed, 7, 24, direction)
    network, traffic = network_of(given), traffic_of(given)
    ours = DisjointPaths(network, np.arange(network.arcs))
    for source, target in zip(traffic.source.tolist(), traffic.target.tolist(), strict=True):
        paths = ours.between(source, target)
        used = [int(network.arc_channel[arc]) for path in paths for arc in path]
        assert len(set(used)) == len(used)
        for path in paths:
            assert network.arc_tail[path[0]] == source
            assert network.arc_head[path[-1]] == target
            assert (network.arc_head[path[:-1]] == network.arc_tail[path[1:]]).all()


def test_parallel_links_are_apart() -> None:
    nodes = tuple(Node(id=name) for name in "ab")
    links = tuple(Link(id=f"l{at}", source="a", target="b", capacity_gbps=1) for at in range(3))
    demand = Demand(id="d", source="a", target="b", size_gbps=9)
    given = Problem(
        objective=Objective.max_throughput,
        nodes=nodes,
        links=links,
        demands=(demand,),
        paths=Paths(choice="edge_disjoint", k=2),  # type: ignore[arg-type]
    )
    found = admissible(given)
    assert found is not None
    assert found.of(0) == [(0,), (1,)]
    answer = solved(given)
    assert answer.certificate is not None
    assert answer.certificate.goals[0].objective == pytest.approx(2.0)


@pytest.mark.parametrize("by", ["hops", "latency", "cost"])
@pytest.mark.parametrize("seed", range(8))
def test_shortest_paths_are_the_first_of_all(seed: int, by: str) -> None:
    given = problem(seed, "max_throughput", paths=Paths(choice="shortest", k=4, by=by))  # type: ignore[arg-type]
    network = network_of(given)
    length = {"hops": np.ones(network.arcs), "latency": network.arc_latency, "cost": network.arc_cost}[by]
    found = admissible(given)
    assert found is not None
    for demand in range(traffic_of(given).count):
        every = sorted(float(length[list(path)].sum()) for path in loopless(given, demand))
        mine = found.of(demand)
        assert [float(length[list(path)].sum()) for path in mine] == pytest.approx(every[:4])
        assert len(set(mine)) == len(mine)


def test_limits_leave_out_slow_paths_and_listed_ones_are_read() -> None:
    nodes = tuple(Node(id=name) for name in "abc")
    links = (
        Link(id="ab", source="b", target="a", capacity_gbps=1, latency_ms=1, direction=Direction.shared),
        Link(id="bc", source="b", target="c", capacity_gbps=1, latency_ms=1),
        Link(id="ac", source="a", target="c", capacity_gbps=1, latency_ms=5),
    )
    demand = Demand(id="d", source="a", target="c", size_gbps=1, latency_limit_ms=2)
    listed = (ListedPath(demand="d", links=("ac",)), ListedPath(demand="d", links=("ab", "bc")))
    given = Problem(
        objective=Objective.max_throughput,
        nodes=nodes,
        links=links,
        demands=(demand,),
        paths=Paths(choice="listed", listed=listed),  # type: ignore[arg-type]
    )
    found = admissible(given)
    assert found is not None
    assert found.of(0) == [(1, 2)]
    assert admissible(given.model_copy(update={"paths": Paths()})) is None


@pytest.mark.parametrize("seed", range(10))
def test_cheapest_within_a_limit_is_the_cheapest_of_all_paths(seed: int) -> None:
    given = problem(seed, "max_throughput", limited=True)
    network, traffic = network_of(given), traffic_of(given)
    prices = np.round(np.random.default_rng(seed).uniform(0, 3, network.arcs))
    prices[network.channel_capacity[network.arc_channel] == 0] = np.inf
    found = cheapest_within(network, prices, traffic.source, traffic.target, traffic.latency_limit)
    for demand in range(traffic.count):
        best = min((float(prices[list(path)].sum()) for path in loopless(given, demand)), default=np.inf)
        assert found[demand] == pytest.approx(best)

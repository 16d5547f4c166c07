"""Cheapest prices between many nodes, and flows taken apart into routes: against slower ways that are obviously right."""

from __future__ import annotations

import random
from heapq import heappop, heappush

import numpy as np
import pytest

from models.flow.network.arrays import Network, network_of
from models.flow.paths import shortest as module
from models.flow.paths.decompose import peeled
from models.flow.paths.shortest import distances_from, free_parts, shortest
from models.flow.routing.verify import net_outflow
from models.flow.schema import Problem
from models.program import Floats
from tests.models.flow_problems import routing


def random_network(rng: random.Random, nodes: int, links: int) -> Network:
    names = [f"n{number}" for number in range(nodes)]
    made = []
    for number in range(links):
        source, target = rng.sample(names, 2)
        direction = rng.choice(("directed", "each", "shared"))
        made.append({"id": f"l{number}", "source": source, "target": target, "capacity_gbps": 1, "direction": direction})
    demand = {"id": "d", "source": names[0], "target": names[1], "size_gbps": 1}
    return network_of(Problem.model_validate({"nodes": [{"id": one} for one in names], "links": made, "demands": [demand]}))


def dijkstra(network: Network, prices: Floats, source: int) -> list[float]:
    found = [float("inf")] * network.nodes
    found[source] = 0.0
    waiting = [(0.0, source)]
    while waiting:
        here, node = heappop(waiting)
        for arc in np.flatnonzero(network.arc_tail == node).tolist():
            there, head = here + float(prices[arc]), int(network.arc_head[arc])
            if here <= found[node] and there < found[head]:
                found[head] = there
                heappush(waiting, (there, head))
    return found


@pytest.mark.parametrize("most_dense", [0, 700])
@pytest.mark.parametrize("free", [0.0, 0.5, 0.9])
def test_prices_agree_with_dijkstra(monkeypatch: pytest.MonkeyPatch, free: float, most_dense: int) -> None:
    monkeypatch.setattr(module, "MOST_DENSE", most_dense)
    monkeypatch.setattr(module, "CHUNK", 200)
    rng = random.Random(1)
    for _ in range(10):
        network = random_network(rng, 25, rng.randint(20, 70))
        prices = np.array([0.0 if rng.random() < free else rng.choice((0.5, 1.0, 3.0, np.inf)) for _ in range(network.arcs)])
        source, target = np.array([rng.sample(range(25), 2) for _ in range(60)]).T
        truth = {one: dijkstra(network, prices, one) for one in set(source.tolist())}
        found = shortest(network, prices, source, target)
        assert found.tolist() == pytest.approx([truth[start][end] for start, end in zip(source.tolist(), target.tolist(), strict=True)])


def test_distances_from_and_to_one_node() -> None:
    rng = random.Random(4)
    for _ in range(10):
        network = random_network(rng, 15, 30)
        lengths = np.array([rng.choice((0.0, 0.5, 2.0, np.inf)) for _ in range(network.arcs)])
        every = [distances_from(network, lengths, node).tolist() for node in range(network.nodes)]
        assert every == [pytest.approx(dijkstra(network, lengths, node)) for node in range(network.nodes)]
        for node in range(network.nodes):
            assert distances_from(network, lengths, node, backwards=True).tolist() == pytest.approx([one[node] for one in every])


def test_parts_are_those_that_reach_each_other() -> None:
    rng = random.Random(2)
    for _ in range(20):
        network = random_network(rng, 15, rng.randint(10, 30))
        free = np.array([rng.random() < 0.6 for _ in range(network.arcs)])
        prices = np.where(free, 0.0, np.inf)
        reach = [dijkstra(network, prices, node) for node in range(network.nodes)]
        part = free_parts(network, free)
        for one in range(network.nodes):
            for other in range(network.nodes):
                assert (part[one] == part[other]) == (reach[one][other] == 0.0 and reach[other][one] == 0.0)


def test_a_long_chain_needs_no_recursion() -> None:
    count = 5_000
    network = network_of(routing([f"{one}={one + 1} 1" for one in range(count)], [f"0>{count} 1"]))
    assert len(set(free_parts(network, np.ones(network.arcs, dtype=np.bool_)).tolist())) == 1
    assert len(set(free_parts(network, ~network.arc_back).tolist())) == count + 1


def test_a_flow_is_the_sum_of_its_routes() -> None:
    rng = random.Random(3)
    for _ in range(20):
        network = random_network(rng, 8, 24)
        flow = np.zeros(network.arcs)
        wants: dict[int, float] = {}
        for _ in range(6):  # walks from node 0, which may cross themselves
            node, amount = 0, rng.choice((0.5, 1.0, 2.25))
            for _ in range(rng.randint(1, 6)):
                arcs = np.flatnonzero(network.arc_tail == node).tolist()
                if not arcs:
                    break
                arc = rng.choice(arcs)
                flow[arc] += amount
                node = int(network.arc_head[arc])
            if node:
                wants[node] = wants.get(node, 0.0) + amount
        noise = flow + np.array([rng.choice((0.0, 3e-10)) for _ in range(network.arcs)])
        rest, asked = noise.copy(), list(wants.items())
        got = [0.0] * len(asked)
        for number, amount, path in peeled(network, noise, 0, asked):
            nodes = [0, *network.arc_head[list(path)].tolist()]
            assert nodes[:-1] == network.arc_tail[list(path)].tolist()
            assert nodes[-1] == asked[number][0]
            assert len(set(nodes)) == len(nodes)
            assert amount > 0
            rest[list(path)] -= amount
            got[number] += amount
        assert got == pytest.approx([amount for _, amount in asked], abs=1e-8)
        assert rest.min() >= -1e-8
        assert np.abs(net_outflow(network, rest)).max() <= 1e-7  # what is left goes round in circles


def test_what_does_not_arrive_is_left_out() -> None:
    network = network_of(routing(["a-b 1", "b-c 1"], ["a>c 1"]))
    assert list(peeled(network, np.array([1.0, 0.25]), 0, [(2, 5.0)])) == [(0, 0.25, (0, 1))]
    assert list(peeled(network, np.zeros(2), 0, [(2, 5.0)])) == []

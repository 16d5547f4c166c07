"""Seeded networks for the benchmark of flow: a large min-cost flow, and a fat-tree with traffic between its racks."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np

from models.flow.schema import DemandTable, Direction, LinkTable, NodeTable, Objective, Problem

GBPS = 100.0


def supplies(arcs: int, nodes: int, seed: int, *, fractions: bool = False) -> Problem:
    """A min-cost flow with one supply and one need for each 100 nodes; every arc may have parallels.

    A ring with room for everything, at a high cost, makes it feasible. Costs and capacities are whole numbers, or with ``fractions``
    have three decimals, which no double holds exactly.
    """
    rng = np.random.default_rng(seed)
    tail, head = rng.integers(0, nodes, arcs), rng.integers(0, nodes - 1, arcs)
    head = np.where(head >= tail, head + 1, head)
    tail[:nodes], head[:nodes] = np.arange(nodes), (np.arange(nodes) + 1) % nodes
    capacity, cost = rng.integers(1, 1_000, arcs).astype(np.float64), rng.integers(1, 10_000, arcs).astype(np.float64)
    ends = rng.permutation(nodes)[: 2 * (nodes // 100)]
    amount = rng.integers(1, 1_000, len(ends) // 2).astype(np.float64)
    capacity[:nodes], cost[:nodes] = amount.sum(), 10_000.0
    if fractions:
        capacity, cost, amount = capacity / 8, cost / 1_000, amount / 8
    supply = np.zeros(nodes)
    supply[ends[: len(amount)]], supply[ends[len(amount) :]] = amount, -amount
    names = [f"n{node}" for node in range(nodes)]
    return Problem(
        objective=Objective.min_cost,
        node_table=NodeTable(id=tuple(names), supply_gbps=tuple(supply.tolist())),
        link_table=LinkTable(
            source=tuple(names[node] for node in tail.tolist()),
            target=tuple(names[node] for node in head.tolist()),
            capacity_gbps=tuple(capacity.tolist()),
            cost=tuple(cost.tolist()),
        ),
    )


def fat_tree(k: int, demands: int, objective: Objective, seed: int, *, load: float = 0.9, uneven: int = 0) -> Problem:
    """The switches of a fat-tree of degree ``k`` with random traffic between edge switches; every link has GBPS each way.

    Sizes are lognormal and come to ``load`` of what the edge switches can send. Of ``uneven`` random links only half the capacity
    is left.
    """
    rng = random.Random(seed)
    half = k // 2
    links: list[tuple[str, str]] = []
    for pod in range(k):
        for aggregation in range(half):
            links += [(f"edge-{pod}-{edge}", f"agg-{pod}-{aggregation}") for edge in range(half)]
            links += [(f"agg-{pod}-{aggregation}", f"core-{aggregation}-{core}") for core in range(half)]
    nodes = sorted({node for link in links for node in link})
    edges = [f"edge-{pod}-{edge}" for pod in range(k) for edge in range(half)]
    pairs = [rng.sample(edges, 2) for _ in range(demands)]
    sizes = [rng.lognormvariate(0.0, 1.0) for _ in range(demands)]
    scale = load * len(edges) * half * GBPS / sum(sizes)
    capacity = [GBPS] * len(links)
    for link in rng.sample(range(len(links)), uneven):
        capacity[link] = GBPS / 2
    return Problem(
        objective=objective,
        node_table=NodeTable(id=tuple(nodes)),
        link_table=LinkTable(
            source=tuple(one for one, _ in links),
            target=tuple(other for _, other in links),
            capacity_gbps=tuple(capacity),
            cost=(1.0,) * len(links),
            direction=Direction.each,
        ),
        demand_table=DemandTable(
            source=tuple(one for one, _ in pairs),
            target=tuple(other for _, other in pairs),
            size_gbps=tuple(scale * size for size in sizes),
        ),
    )


def chain(nodes: int) -> Problem:
    """A line of ``nodes`` with three parallel links of different price between neighbours: the least cost is known by hand."""
    names = [f"n{node}" for node in range(nodes)]
    ends = [(one, other) for one, other in pairwise(names) for _ in range(3)]
    return Problem(
        objective=Objective.min_cost,
        node_table=NodeTable(id=tuple(names), supply_gbps=(2.5, *(0.0,) * (nodes - 2), -2.5)),
        link_table=LinkTable(
            source=tuple(one for one, _ in ends),
            target=tuple(other for _, other in ends),
            capacity_gbps=(1.0,) * len(ends),
            cost=(0.1, 0.2, 0.7) * (nodes - 1),
        ),
    )

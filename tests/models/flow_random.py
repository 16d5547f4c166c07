"""Small random routing problems for the tests of the searches."""

from __future__ import annotations

import random
from typing import Any

from models.flow.schema import Demand, Direction, Link, Node, Objective, Plan, Problem
from optimizer.limits import Limits
from optimizer.result import Result
from optimizer.solve import solve

WHOLE = 20.0


def network(rng: random.Random, nodes: int, links: int) -> tuple[tuple[Node, ...], tuple[Link, ...]]:
    """Connected mostly; with parallel links, all directions, and now and then a link without limit or without capacity."""
    names = [f"n{at}" for at in range(nodes)]
    ends = [(names[at], names[(at + 1) % nodes]) for at in range(nodes)]
    ends += [tuple(rng.sample(names, 2)) for _ in range(links - nodes)]  # type: ignore[misc]
    made = tuple(
        Link(
            id=f"l{at}",
            source=source,
            target=target,
            capacity_gbps=rng.choice([None, 0.0, *(rng.uniform(1, WHOLE) for _ in range(10))]),
            latency_ms=float(rng.randint(1, 5)),
            cost=float(rng.randint(0, 9)),
            direction=rng.choice(list(Direction)),
        )
        for at, (source, target) in enumerate(ends)
    )
    return tuple(Node(id=name) for name in names), made


def problem(seed: int, objective: str, *, classes: int = 1, limited: bool = False, **more: Any) -> Problem:
    """A random problem; ``limited``: with latency limits."""
    rng = random.Random(seed)
    nodes, links = network(rng, rng.randint(3, 6), rng.randint(6, 10))
    small = objective == "min_cost"
    demands = []
    for at in range(rng.randint(2, 7)):
        source, target = rng.sample([node.id for node in nodes], 2)
        demands.append(
            Demand(
                id=f"d{at}",
                source=source,
                target=target,
                size_gbps=rng.uniform(0.1, 3.0 if small else 15.0),
                priority=rng.randrange(classes),
                value=float(rng.choice([1, 1, 2, 3])),
                weight=float(rng.choice([1, 1, 2])),
                latency_limit_ms=float(rng.randint(4, 12)) if limited and rng.random() < 0.7 else None,
            )
        )
    return Problem(objective=Objective(objective), nodes=nodes, links=links, demands=tuple(demands), **more)


def solved(given: Problem, seconds: float = 30.0, gap: float = 1e-7) -> Result:
    """The answer of the search in this process."""
    return solve(given, Limits(time_limit_s=seconds, gap=gap), isolate=False)


def plan_of(result: Result) -> Plan:
    """The plan of an answer that has one."""
    assert isinstance(result.plan, Plan), result
    return result.plan

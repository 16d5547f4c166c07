"""Small networks for the tests of the kind ``flow``."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from models.flow.formulation import build, extract, start
from models.flow.schema import Plan, Problem
from models.flow.verify import verify
from optimizer.compile import Compiled, compile_model
from optimizer.highs import HighsBackend
from optimizer.limits import Limits

WAYS = ("directed", "shared", "each")
ROUTED = ("min_cost", "max_throughput", "max_concurrent", "min_max_utilisation", "max_min_fair")


def routing(links: list[str], demands: list[str], **fields: Any) -> Problem:
    """A problem from a few words: links as ``"a-b 10"`` or ``"x: a=b 10 cost=2 latency_ms=3"``, demands as ``"d: a>b 5 priority=1"``.

    ``-`` is a directed link, ``=`` one with a capacity for each way, ``~`` one whose ways share it. A capacity ``inf`` is none.
    """
    made = [_link(text) for text in links]
    asked = [_demand(number, text) for number, text in enumerate(demands)]
    names = dict.fromkeys(name for one in (*made, *asked) for name in (one["source"], one["target"]))
    nodes = [{"id": name} for name in names]
    return Problem.model_validate({"nodes": nodes, "links": made, "demands": asked} | fields)


def supplying(links: list[str], supplies: dict[str, float], **fields: Any) -> Problem:
    """The same with node supplies."""
    made = [_link(text) for text in links]
    names = dict.fromkeys([name for one in made for name in (one["source"], one["target"])] + list(supplies))
    nodes = [{"id": name, "supply_gbps": supplies.get(name, 0.0)} for name in names]
    return Problem.model_validate({"nodes": nodes, "links": made} | fields)


def _link(text: str) -> dict[str, Any]:
    name, _, rest = text.rpartition(":")
    ends, capacity, *more = rest.split()
    sign = next(one for one in "-=~" if one in ends)
    source, target = ends.split(sign)
    fields = dict(one.split("=") for one in more)
    return {
        "id": name or ends,
        "source": source,
        "target": target,
        "capacity_gbps": None if capacity == "inf" else float(capacity),
        "direction": {"-": "directed", "=": "each", "~": "shared"}[sign],
        **{key: float(value) for key, value in fields.items() if key != "risk_groups"},
        **({"risk_groups": fields["risk_groups"].split(",")} if "risk_groups" in fields else {}),
    }


def _demand(number: int, text: str) -> dict[str, Any]:
    name, _, rest = text.rpartition(":")
    ends, size, *more = rest.split()
    source, target = ends.split(">")
    fields = dict(one.split("=") for one in more)
    found: dict[str, Any] = {"id": name or f"d{number}", "source": source, "target": target, "size_gbps": float(size)}
    return found | {key: int(value) if key == "priority" else float(value) for key, value in fields.items()}


def random_routing(seed: int, objective: str, *, limits: bool = False, classes: int = 1, nodes: int = 4, roomy: bool = False) -> Problem:
    """A small random problem: parallel links, links without capacity and without limit, all ways of sharing. ``roomy``: all fits."""
    rng = random.Random(seed)
    names = [f"n{number}" for number in range(nodes)]
    links = [_random_link(rng, number, names, roomy=roomy) for number in range(rng.randint(nodes, 2 * nodes))]
    if roomy:
        links += [_spare(number, names) for number in range(nodes)]
    demands = [_random_demand(rng, number, names, limits=limits, classes=classes) for number in range(rng.randint(1, 4))]
    return Problem.model_validate({"objective": objective, "nodes": [{"id": one} for one in names], "links": links, "demands": demands})


def _random_link(rng: random.Random, number: int, names: list[str], *, roomy: bool) -> dict[str, Any]:
    source, target = rng.sample(names, 2)
    return {
        "id": f"l{number}",
        "source": source,
        "target": target,
        "capacity_gbps": rng.choice((0.0, 1.0, 2.5, 4.0, 7.0)) if not roomy else rng.choice((2.0, 5.0, 9.0)),
        "direction": rng.choice(WAYS),
        "cost": float(rng.randint(0, 4)),
        "latency_ms": float(rng.randint(0, 4)),
    }


def _spare(number: int, names: list[str]) -> dict[str, Any]:
    ends = {"source": names[number], "target": names[(number + 1) % len(names)]}
    return {"id": f"spare{number}", **ends, "capacity_gbps": 60.0, "direction": "each", "cost": 9.0, "latency_ms": 1.0}


def _random_demand(rng: random.Random, number: int, names: list[str], *, limits: bool, classes: int) -> dict[str, Any]:
    source, target = rng.sample(names, 2)
    found: dict[str, Any] = {
        "id": f"d{number}",
        "source": source,
        "target": target,
        "size_gbps": rng.choice((0.5, 1.0, 3.0, 6.0)),
        "value": rng.choice((1.0, 2.0, 0.5)),
        "weight": rng.choice((1.0, 1.0, 2.0)),
        "priority": rng.randrange(classes),
    }
    return found | ({"latency_limit_ms": float(rng.randint(2, 9))} if limits and rng.random() < 0.7 else {})


def random_supplies(seed: int, objective: str, nodes: int = 5) -> Problem:
    """A small random problem of node supplies, with negative costs and lower bounds; balanced unless throughput is the goal."""
    rng = random.Random(seed)
    names = [f"n{number}" for number in range(nodes)]
    links = [_random_link(rng, number, names, roomy=True) for number in range(rng.randint(nodes, 3 * nodes))]
    for link in links:
        if objective == "min_cost":
            link["cost"] -= 1.0
        if link["direction"] == "directed" and rng.random() < 0.3:
            link["lower_gbps"] = 1.0
    links += [_spare(number, names) for number in range(nodes)]
    supply = [float(rng.randint(-4, 4)) for _ in names]
    supply[0] = max(1.0, supply[0])
    if objective != "max_throughput":
        supply[-1] = -sum(supply[:-1])
    places = [{"id": name, "supply_gbps": amount} for name, amount in zip(names, supply, strict=True)]
    return Problem.model_validate({"objective": objective, "nodes": places, "links": links})


def exact(problem: Problem) -> tuple[dict[str, float], Plan] | None:
    """The values of all goals and a plan, by the exact program for one goal after another; None when no plan exists.

    Every plan on the way is verified, and its values in the program's columns are feasible and worth what ``verify`` says.
    """
    floors: dict[str, float] = {}
    plan = None
    for goal in problem.ordered_goals():
        compiled = compile_model(build(problem, goal, floors))
        result = HighsBackend().solve(compiled.program, Limits(time_limit_s=20))
        if result.values is None:
            assert not floors, result.status
            return None
        plan = extract(problem, compiled.values_by_ids(result.values))
        verdict = verify(problem, plan)
        assert verdict.ok, verdict.violations
        values = compiled.vector_of(known_columns(compiled, start(problem, plan)))
        assert compiled.program.relative_violation(values) <= 2e-6
        if not goal.startswith("fair_slack"):
            assert abs(compiled.program.objective(values) - verdict.objectives[goal]) <= 1e-6 * max(1.0, abs(verdict.objectives[goal]))
        floors[goal] = verdict.objectives[goal]
    assert plan is not None
    return floors, plan


def known_columns(compiled: Compiled, values: Mapping[str, Mapping[Any, float]]) -> dict[str, dict[Any, float]]:
    """Those values whose columns a program has, by Pyomo's indices."""
    return {
        family: {index: number for ids, number in own.items() if (index := ids if len(ids) > 1 else ids[0]) in compiled.columns[family]}
        for family, own in values.items()
        if family in compiled.columns
    }

"""Laws that every optimal routing obeys, on small problems solved to the end by the search itself."""

from __future__ import annotations

import random
from typing import Any

import pytest

from models.contract import Sense
from models.flow.bounds import simple_bounds
from models.flow.goals import sense_of
from models.flow.heuristic import heuristic
from models.flow.schema import Direction, Plan, Problem
from models.flow.verify import goals, verify
from optimizer.limits import Limits
from optimizer.result import Outcome
from optimizer.solve import solve
from tests.models.flow_problems import ROUTED, random_routing, random_supplies, routing
from tests.oracles.flow import best

LIMITS = Limits(time_limit_s=20, gap=0.0)
SEEDS = range(6)
SUPPLIED = tuple(one for one in ROUTED if one != "max_min_fair")

each_objective = pytest.mark.parametrize("objective", ROUTED)


def optimum(problem: Problem) -> dict[str, float] | None:
    """The goals' values, None when no plan exists; closed, verified, and no bound crosses its plan."""
    result = solve(problem, LIMITS, isolate=False)
    assert result.failure is None
    if result.outcome is Outcome.infeasible:
        return None
    assert result.certificate is not None
    assert isinstance(result.plan, Plan)
    assert verify(problem, result.plan).ok
    for goal, proved in zip(goals(problem), result.certificate.goals, strict=True):
        assert proved.gap <= 2e-6, (goal, proved)
        slack = 1e-6 * max(1.0, abs(proved.bound))
        assert proved.objective <= proved.bound + slack if goal.sense is Sense.maximise else proved.objective >= proved.bound - slack
    return {goal.name: goal.objective for goal in result.certificate.goals}


def same(values: dict[str, float] | None) -> Any:
    return None if values is None else pytest.approx(values, rel=2e-5, abs=2e-5)


def problems(objective: str, **fields: Any) -> list[Problem]:
    return [random_routing(seed, objective, limits=seed % 3 == 0, classes=1 + seed % 2, **fields) for seed in SEEDS]


def no_worse(before: dict[str, float] | None, after: dict[str, float] | None) -> bool:
    """Whether ``after`` is lexicographically no worse; any plan is better than none."""
    if before is None or after is None:
        return before is None
    for name, value in before.items():
        slack = 2e-5 * max(1.0, abs(value))
        gain = (after[name] - value) * (1 if sense_of(name) is Sense.maximise else -1)
        if abs(gain) > slack:
            return gain > 0
    return True


# ---------------------------------------------------------------- the search against brute force


@each_objective
@pytest.mark.parametrize("sort", ["plain", "limits", "classes", "roomy"])
def test_the_search_agrees_with_brute_force(objective: str, sort: str) -> None:
    fields = {"plain": {}, "limits": {"limits": True}, "classes": {"classes": 3, "limits": True}, "roomy": {"roomy": True}}[sort]
    for seed in SEEDS:
        problem = random_routing(seed, objective, **fields)  # type: ignore[arg-type]
        truth = best(problem)
        assert optimum(problem) == same(None if truth is None else truth.values)


@pytest.mark.parametrize("objective", SUPPLIED)
def test_the_search_for_supplies_agrees_with_brute_force(objective: str) -> None:
    for seed in SEEDS:
        problem = random_supplies(seed, objective)
        truth = best(problem)
        assert optimum(problem) == same(None if truth is None else truth.values)


def test_fair_rates_are_those_of_brute_force() -> None:
    for problem in problems("max_min_fair", roomy=True):
        truth, result = best(problem), solve(problem, LIMITS, isolate=False)
        assert truth is not None
        assert isinstance(result.plan, Plan)
        got: dict[str, float] = dict.fromkeys(truth.rates, 0.0)
        for route in result.plan.routes:
            got[route.demand] += route.gbps
        assert got == pytest.approx(truth.rates, abs=1e-5)


# ---------------------------------------------------------------- laws


@each_objective
def test_more_capacity_is_never_worse(objective: str) -> None:
    for number, problem in enumerate(problems(objective)):
        at = number % len(problem.links)
        wider = problem.links[at].model_copy(update={"capacity_gbps": (problem.links[at].capacity_gbps or 0) + 2})
        after = problem.model_copy(update={"links": (*problem.links[:at], wider, *problem.links[at + 1 :])})
        assert no_worse(optimum(problem), optimum(after))


@each_objective
def test_names_and_order_do_not_matter(objective: str) -> None:
    rng = random.Random(7)
    for problem in problems(objective):
        document = problem.model_dump(mode="json")
        new = {node["id"]: f"site {number}" for number, node in enumerate(rng.sample(document["nodes"], len(document["nodes"])))}
        for node in document["nodes"]:
            node["id"] = new[node["id"]]
        for part in ("links", "demands"):
            rng.shuffle(document[part])
            for number, one in enumerate(document[part]):
                one |= {"id": f"{part} {number}", "source": new[one["source"]], "target": new[one["target"]]}
        rng.shuffle(document["nodes"])
        assert optimum(Problem.model_validate(document)) == same(optimum(problem))


def test_costs_scale_the_cost() -> None:
    for problem in problems("min_cost", roomy=True):
        dearer = problem.model_copy(update={"links": tuple(one.model_copy(update={"cost": 3.5 * one.cost}) for one in problem.links)})
        before = optimum(problem)
        assert optimum(dearer) == same(before if before is None else {name: 3.5 * value for name, value in before.items()})


@each_objective
def test_rates_scale_with_the_unit(objective: str) -> None:
    plain = {"concurrent", "max_utilisation", "fair_slack"}
    for problem in problems(objective):
        factor = 1000.0
        smaller = problem.model_copy(
            update={
                "links": tuple(one.model_copy(update={"capacity_gbps": (one.capacity_gbps or 0) * factor}) for one in problem.links),
                "demands": tuple(one.model_copy(update={"size_gbps": one.size_gbps * factor}) for one in problem.demands),
            }
        )
        before = optimum(problem)
        expected = before and {name: value * (1 if name.split("[")[0] in plain else factor) for name, value in before.items()}
        assert optimum(smaller) == same(expected)


@each_objective
def test_a_link_in_two_halves_is_the_same(objective: str) -> None:
    for problem in problems(objective):
        links = []
        for one in problem.links:
            half = {"capacity_gbps": (one.capacity_gbps or 0) / 2}
            links += [one.model_copy(update=half), one.model_copy(update=half | {"id": f"{one.id}'"})]
        assert optimum(problem.model_copy(update={"links": tuple(links)})) == same(optimum(problem))


@pytest.mark.parametrize("objective", ["min_cost", "max_throughput", "max_concurrent", "min_max_utilisation"])
def test_a_demand_in_two_halves_is_the_same(objective: str) -> None:
    for problem in problems(objective):
        demands = []
        for one in problem.demands:
            half = {"size_gbps": one.size_gbps / 2}
            demands += [one.model_copy(update=half), one.model_copy(update=half | {"id": f"{one.id}'"})]
        assert optimum(problem.model_copy(update={"demands": tuple(demands)})) == same(optimum(problem))


@each_objective
def test_tables_say_the_same_as_lists(objective: str) -> None:
    for problem in problems(objective):
        directed = tuple(one.model_copy(update={"direction": Direction.each}) for one in problem.links)
        listed = Problem.model_validate(problem.model_copy(update={"links": directed}).model_dump(mode="json"))
        columns = {
            name: tuple(getattr(one, name) for one in listed.links)
            for name in ("id", "source", "target", "capacity_gbps", "latency_ms", "cost")
        }
        asked = {name: tuple(getattr(one, name) for one in listed.demands) for name in type(listed.demands[0]).model_fields}
        tables = Problem.model_validate(
            {
                "objective": objective,
                "node_table": {"id": [one.id for one in listed.nodes]},
                "link_table": columns | {"direction": "each"},
                "demand_table": asked,
            }
        )
        assert optimum(tables) == same(optimum(listed))


# ---------------------------------------------------------------- the quick answers


@each_objective
def test_quick_plans_are_right_and_counted_bounds_hold(objective: str) -> None:
    found = 0
    for seed in range(40):
        problem = random_routing(seed, objective, limits=seed % 2 == 0, classes=1 + seed % 3, roomy=seed % 4 == 0)
        truth, plan, bounds = best(problem), heuristic(problem), simple_bounds(problem)
        if plan is not None:
            found += 1
            assert truth is not None
            assert verify(problem, plan).ok
            assert no_worse(verify(problem, plan).objectives, truth.values)
        first = goals(problem)[0]
        if truth is not None and first.name in bounds:
            slack = 1e-6 * max(1.0, abs(bounds[first.name]))
            gain = (truth.values[first.name] - bounds[first.name]) * (1 if first.sense is Sense.maximise else -1)
            assert gain <= slack
    assert found > 5


def test_a_quick_plan_that_meets_its_bound_carries_everything() -> None:
    problem = routing(["a-b 4", "b-c 4"], ["a>b 3", "a>c 3"], objective="max_throughput")
    plan = heuristic(problem)
    assert plan is not None
    assert verify(problem, plan).objectives == pytest.approx({"throughput": 4})
    assert simple_bounds(problem) == {"throughput": 6}
    everything = routing(["a-b 4", "b-c 4"], ["a>b 1", "a>c 3"], objective="max_throughput")
    plan = heuristic(everything)
    assert plan is not None
    assert verify(everything, plan).objectives == simple_bounds(everything) == {"throughput": 4}

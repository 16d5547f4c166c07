"""The exact program of a routing: right against brute force, and able to say why nothing fits."""

from __future__ import annotations

from typing import Any

import pytest

from models.flow.explain import CUT_COLUMNS, FIRM_RULES, repair_in, rule_units
from models.flow.formulation import HASTENING, LINKING, build, size
from models.flow.network.arrays import network_of
from models.flow.routing.formulation_setting import setting_of, simple_paths
from models.flow.schema import Problem, Rule
from optimizer.compile import compile_model
from optimizer.diagnose import diagnose
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from optimizer.result import Conflict
from tests.models.flow_problems import ROUTED, exact, random_routing, random_supplies, routing, supplying
from tests.oracles.flow import best
from tests.oracles.flow import simple_paths as every_path

PROGRAMS = [one for one in ROUTED if one != "max_min_fair"]
SORTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "limits": {"limits": True},
    "classes": {"classes": 3},
    "all": {"limits": True, "classes": 2, "roomy": True},
}


def agrees(problem: Problem) -> None:
    truth, found = best(problem), exact(problem)
    assert (truth is None) == (found is None)
    if truth is not None and found is not None:
        assert found[0] == pytest.approx(truth.values, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("objective", PROGRAMS)
def test_the_program_agrees_with_brute_force(objective: str, sort: str) -> None:
    for seed in range(10):
        agrees(random_routing(seed, objective, **SORTS[sort]))


@pytest.mark.parametrize("objective", PROGRAMS)
def test_the_program_of_supplies_agrees_with_brute_force(objective: str) -> None:
    for seed in range(20):
        agrees(random_supplies(seed, objective))


def test_the_first_fair_rate_agrees_with_brute_force() -> None:
    for seed in range(15):
        problem = random_routing(seed, "max_min_fair", roomy=seed % 2 == 0)
        truth, compiled = best(problem), compile_model(build(problem))
        assert truth is not None
        result = HighsBackend().solve(compiled.program, Limits(time_limit_s=20))
        assert result.objective == pytest.approx(truth.values["fair_rate"], abs=1e-6)
        slack = HighsBackend().solve(compile_model(build(problem, "fair_slack", {"fair_rate": 0.0})).program, Limits())
        assert slack.objective == 0.0


def test_listed_paths() -> None:
    links = ["a-b 3", "a-c 9", "c-b 4"]
    chosen = {"choice": "listed", "listed": [{"demand": "d0", "links": ["a-c", "c-b"]}]}
    problem = routing(links, ["a>b 9"], objective="max_throughput", paths=chosen)
    agrees(problem)
    assert exact(problem) is not None
    assert exact(problem)[0] == pytest.approx({"throughput": 4})  # type: ignore[index]


def test_paths_within_a_limit_are_all_found() -> None:
    for seed in range(10):
        network = network_of(random_routing(seed, "min_cost"))
        for limit in (0.0, 3.0, 6.0, float("inf")):
            found = simple_paths(network, 0, 1, limit, 10_000)
            every = [path for path in every_path(network, 0, 1) if sum(network.arc_latency[list(path)]) <= limit]
            assert found is not None
            assert sorted(found) == sorted(every)
            assert len(set(found)) == len(found)
    triangle = network_of(routing(["a=b 1", "b=c 1", "a=c 1"], ["a>b 1"]))
    assert simple_paths(triangle, 0, 1, float("inf"), 1) is None  # there are two


def test_too_many_paths_are_refused() -> None:
    links = [f"{one}={other} 1 latency_ms=1" for one in range(12) for other in range(one)]
    problem = routing(links, ["0>1 1 latency_limit_ms=11"])
    assert setting_of(problem).paths is None
    assert size(problem) > 10**9
    with pytest.raises(ValueError, match="too many paths"):
        build(problem)


def test_unknown_goals_are_refused() -> None:
    with pytest.raises(ValueError, match="not among the goals"):
        build(routing(["a-b 3"], ["a>b 9"]), "throughput")


def test_every_row_has_a_declared_name() -> None:
    for objective in ROUTED:
        for problem in (
            random_routing(1, objective, limits=True, classes=2),
            *([random_supplies(1, objective)] if objective in PROGRAMS else []),
        ):
            names = {block.name for hasten in (True, False) for block in compile_model(build(problem, hasten=hasten)).program.row_blocks}
            assert names <= {*(rule.value for rule in Rule), *LINKING, *HASTENING}


# ---------------------------------------------------------------- why nothing fits


def conflict(problem: Problem) -> Conflict:
    program = compile_model(build(problem, hasten=False)).program
    found = diagnose(
        program,
        HighsBackend(),
        Limits(time_limit_s=20),
        units=rule_units(),
        keep=frozenset(block.name for block in program.row_blocks if block.name not in {rule.value for rule in Rule}),
        firm=FIRM_RULES,
        cut=CUT_COLUMNS,
        wording=lambda one: repair_in(problem, one.name, one.ids, one.amount, too_few=one.too_few),
    )
    assert found is not None
    assert found.status == "proved"
    return found


def test_a_demand_too_large_for_its_links() -> None:
    found = conflict(routing(["a-b 3", "a-c 9", "c-b 4", "b-z 50"], ["big: a>b 10", "small: b>z 1"]))
    assert set(found.rules) == {("link_capacity", ("a-b",)), ("link_capacity", ("c-b",)), ("demand_served", ("big",))}
    assert len(found.repairs) == 1
    assert found.repairs[0] in {
        "link 'a-b': raise its capacity from 3 by 3 Gbit/s",
        "link 'c-b': raise its capacity from 4 by 3 Gbit/s",
        "demand 'big': make it smaller, from 10 by 3 Gbit/s",
    }


def test_a_disconnected_demand_is_named() -> None:
    for objective in ("min_cost", "min_max_utilisation"):
        found = conflict(routing(["a-b 3", "c-b 4"], ["a>b 1", "lost: a>c 2"], objective=objective))
        assert found.rules == (("demand_served", ("lost",)),)
        assert found.repairs == ("demand 'lost': leave it out, all 2 Gbit/s",)


def test_a_latency_limit_is_named() -> None:
    found = conflict(routing(["a-b 3 latency_ms=1", "a-c 9", "c-b 4 latency_ms=9"], ["d: a>b 5 latency_limit_ms=2"]))
    assert set(found.rules) == {("link_capacity", ("a-b",)), ("demand_served", ("d",)), ("latency_limit", ("d",))}
    assert "latency" not in " ".join(found.repairs)


def test_a_choice_of_paths_is_named() -> None:
    chosen = {"choice": "listed", "listed": [{"demand": "d", "links": ["a-b"]}]}
    found = conflict(routing(["a-b 3", "a-c 9", "c-b 4"], ["d: a>b 5"], paths=chosen))
    assert set(found.rules) == {("link_capacity", ("a-b",)), ("demand_served", ("d",)), ("path_choice", ("d",))}


def test_supplies_that_do_not_get_through() -> None:
    found = conflict(supplying(["a-b 3", "b-c 9"], {"a": 5, "c": -5}))
    assert ("link_capacity", ("a-b",)) in found.rules
    assert {name for name, _ in found.rules} <= {"link_capacity", "node_supply"}
    assert found.repairs == ("link 'a-b': raise its capacity from 3 by 2 Gbit/s",)
    below = conflict(supplying(["a-b 3 lower_gbps=2", "b-c 9"], {"b": 5, "c": -5}))
    assert ("link_lower", ("a-b",)) in below.rules

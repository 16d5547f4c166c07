"""What a flow problem refuses, with the place and the cure, and what it warns of."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from models.contract import ContradictionError, Warned
from models.flow.checks import MAX_ERRORS, warnings
from models.flow.examples import examples
from models.flow.schema import Problem
from optimizer.limits import Limits
from optimizer.solve import solve
from tests.models.flow_problems import routing, supplying

PLAIN: dict[str, Any] = {
    "nodes": [{"id": "a"}, {"id": "b"}, {"id": "c"}],
    "links": [
        {"id": "ab", "source": "a", "target": "b", "capacity_gbps": 5, "risk_groups": ["duct"]},
        {"id": "bc", "source": "b", "target": "c", "capacity_gbps": 5, "direction": "each"},
    ],
    "demands": [{"id": "d", "source": "a", "target": "c", "size_gbps": 1}],
}
SUPPLIED: dict[str, Any] = {
    "nodes": [{"id": "a", "supply_gbps": 2}, {"id": "b"}, {"id": "c", "supply_gbps": -2}],
    "links": PLAIN["links"],
}
TABLES: dict[str, Any] = {
    "node_table": {"id": ["a", "b", "c"]},
    "link_table": {"source": ["a", "b"], "target": ["b", "c"], "capacity_gbps": [5, None]},
    "demand_table": {"source": ["a"], "target": ["c"], "size_gbps": [1]},
}
MOVED: dict[str, Any] = {
    "use": "transfer",
    "nodes": PLAIN["nodes"],
    "links": PLAIN["links"],
    "transfers": [{"id": "t", "source": "a", "targets": ["b", "c"], "size_gbit": 5}],
    "horizon": {"steps": 4, "step_s": 60},
}
DESIGNED: dict[str, Any] = PLAIN | {"use": "design", "design": {}}


def changed(document: dict[str, Any], *changes: tuple[str, Any]) -> dict[str, Any]:
    """A copy with other values at slash-separated places; ``-`` as the last step appends."""
    made = copy.deepcopy(document)
    for path, value in changes:
        *steps, last = path.split("/")
        here: Any = made
        for step in steps:
            here = here[int(step)] if isinstance(here, list) else here.setdefault(step, {})
        if isinstance(here, list):
            here.append(value) if last == "-" else here.__setitem__(int(last), value)
        else:
            here[last] = value
    return made


def mistakes(document: dict[str, Any]) -> tuple[Warned, ...]:
    try:
        Problem.model_validate(document)
    except ValidationError as refused:
        (only,) = refused.errors()
        contradiction = only["ctx"]["error"]
        assert isinstance(contradiction, ContradictionError)
        return contradiction.mistakes
    return ()


@pytest.mark.parametrize("document", [PLAIN, SUPPLIED, TABLES, MOVED, DESIGNED])
def test_what_is_right_is_taken(document: dict[str, Any]) -> None:
    assert mistakes(document) == ()


def test_the_examples_are_right() -> None:
    for name, problem in examples().items():
        assert mistakes(problem.model_dump(mode="json")) == (), name


SCENARIO = {"id": "s", "links": ["ab"]}
MODULE = {"id": "m", "capacity_gbps": 1, "cost": 1}
ONE_LISTED = {"listed": [{"demand": "d", "links": ["ab"]}]}
LIKELY: list[dict[str, Any]] = [SCENARIO | {"probability": 0.6}, {"id": "x", "probability": 0.5}]
LARGE = {"id": "e", "source": "a", "target": "b", "size_gbps": 1e12}
FAILING = "/failures/scenarios"


def failing(*scenarios: dict[str, Any], mode: str = "sweep", at: str = "failures", **more: Any) -> list[tuple[str, Any]]:
    return [(at, {"mode": mode, "scenarios": list(scenarios)} | more)]


PIPES: list[dict[str, Any]] = [{"id": f"p{k}", "source": "a", "target": "b", "capacity_gbps": 1} for k in range(65)]
MANY_FAILURES = [*(("links/-", pipe) for pipe in PIPES), *failing(mode="sweep", any_links=2, at="design/survive")]
PROTECTED = failing(any_links=1, mode="protect")
CASES: list[tuple[str, dict[str, Any], list[tuple[str, Any]], str, str, str]] = [
    ("node twice", PLAIN, [("nodes/1/id", "a")], "/nodes/1/id", "duplicate_id", "'a' is already that of item 0"),
    ("link twice", PLAIN, [("links/1/id", "ab")], "/links/1/id", "duplicate_id", "give each of the links its own id"),
    ("link of a table twice", TABLES, [("link_table/id", ["x", "x"])], "/link_table/id/1", "duplicate_id", "'x'"),
    ("demand twice", PLAIN, [("demands/-", PLAIN["demands"][0])], "/demands/1/id", "duplicate_id", "'d'"),
    ("scenario twice", PLAIN, failing(SCENARIO, SCENARIO), f"{FAILING}/1/id", "duplicate_id", "'s'"),
    ("transfer twice", MOVED, [("transfers/-", MOVED["transfers"][0])], "/transfers/1/id", "duplicate_id", "'t'"),
    ("module twice", DESIGNED, [("links/0/modules", [MODULE] * 2)], "/links/0/modules/1/id", "duplicate_id", "'m'"),
    ("end of a link", PLAIN, [("links/0/target", "z")], "/links/0/target", "unknown_node", "no node 'z'; add it"),
    ("end in a table", TABLES, [("link_table/source", ["a", "z"])], "/link_table/source/1", "unknown_node", "'z'"),
    ("end of a demand", PLAIN, [("demands/0/source", "z")], "/demands/0/source", "unknown_node", "'z'"),
    ("end of a demand in a table", TABLES, [("demand_table/target", ["z"])], "/demand_table/target/0", "unknown_node", "'z'"),
    ("end of a transfer", MOVED, [("transfers/0/targets", ["b", "z"])], "/transfers/0/targets/1", "unknown_node", "'z'"),
    ("loop", PLAIN, [("links/0/target", "a")], "/links/0/target", "self_loop", "starts and ends at 'a'; leave it out"),
    ("loop in a table", TABLES, [("link_table/target", ["b", "b"])], "/link_table/target/1", "self_loop", "'b'"),
    ("demand to itself", PLAIN, [("demands/0/target", "a")], "/demands/0/target", "same_source_and_target", "leave it out"),
    ("transfer to itself", MOVED, [("transfers/0/targets", ["a"])], "/transfers/0/targets/0", "same_source_and_target", "leave"),
    ("target twice", MOVED, [("transfers/0/targets", ["b", "b"])], "/transfers/0/targets/1", "duplicate_target", "name it once"),
    ("columns", TABLES, [("link_table/cost", [1])], "/link_table/cost", "wrong_length", "has 1 items, expected 2"),
    ("list and table", TABLES, [("nodes", PLAIN["nodes"])], "/node_table", "given_twice", "keep one of the two"),
    ("lower too high", SUPPLIED, [("links/0/lower_gbps", 6)], "/links/0/lower_gbps", "lower_above_capacity", "has a capacity of 5"),
    ("lower both ways", SUPPLIED, [("links/1/lower_gbps", 1)], "/links/1/lower_gbps", "lower_needs_directed", "two directed links"),
    ("lower of demands", PLAIN, [("links/0/lower_gbps", 1)], "/links/0/lower_gbps", "lower_needs_supplies", "as supply_gbps"),
    ("negative cost", PLAIN, [("links/0/cost", -1)], "/links/0/cost", "negative_cost", "give the traffic as node supplies"),
    ("demands and supplies", PLAIN, [("nodes/0/supply_gbps", 1)], "/nodes", "demands_and_supplies", "leave the demands out"),
    ("nothing", PLAIN, [("demands", [])], "/demands", "nothing_to_carry", "give demands, or supply_gbps of nodes"),
    ("unbalanced", SUPPLIED, [("nodes/0/supply_gbps", 3)], "/nodes", "supplies_unbalanced", "exceed the needs by 1 Gbit/s"),
    ("unbalanced below", SUPPLIED, [("nodes/0/supply_gbps", 1.5)], "/nodes", "supplies_unbalanced", "fall short of the needs by 0.5"),
    ("fair supplies", SUPPLIED, [("objective", "max_min_fair")], "/objective", "fair_needs_demands", "give every stream as a demand"),
    ("no k", PLAIN, [("paths", {"choice": "shortest"})], "/paths/k", "k_missing", "add it"),
    ("k for nothing", PLAIN, [("paths", {"k": 3})], "/paths/k", "k_unused", "leave it out"),
    ("nothing listed", PLAIN, [("paths", {"choice": "listed"})], "/paths/listed", "listed_missing", "list paths"),
    ("listed for nothing", PLAIN, [("paths", ONE_LISTED)], "/paths/listed", "listed_unused", "set the choice to listed"),
    ("paths of supplies", SUPPLIED, [("paths", {"choice": "shortest", "k": 1})], "/paths/choice", "paths_need_demands", "leave paths out"),
    ("paths of a design", DESIGNED, [("paths", {"choice": "shortest", "k": 1})], "/paths/choice", "paths_not_supported", "use design"),
    ("no design", PLAIN, [("use", "design")], "/design", "design_missing", "add it"),
    ("design for nothing", PLAIN, [("design", {})], "/design", "design_unused", "set use to design"),
    ("no horizon", MOVED, [("horizon", None)], "/horizon", "horizon_missing", "add it"),
    ("horizon for nothing", PLAIN, [("horizon", MOVED["horizon"])], "/horizon", "horizon_unused", "set use to transfer"),
    ("transfers for nothing", PLAIN, [("transfers", MOVED["transfers"])], "/transfers", "transfers_unused", "set use to transfer"),
    ("demands of a transfer", MOVED, [("demands", PLAIN["demands"])], "/demands", "demands_unused", "carries transfers only"),
    ("failing link", PLAIN, failing({"id": "s", "links": ["z"]}), f"{FAILING}/0/links/0", "unknown_link", "'z'"),
    ("failing group", PLAIN, failing({"id": "s", "risk_groups": ["z"]}), f"{FAILING}/0/risk_groups/0", "unknown_risk_group", "'z'"),
    ("no failure", PLAIN, failing(), "/failures", "no_failures", "set any_links"),
    ("no probability", PLAIN, failing(SCENARIO, mode="cvar"), f"{FAILING}/0/probability", "probability_missing", "'s'; add it"),
    ("no probability of any", PLAIN, failing(mode="cvar", any_links=1), "/failures/any_links", "probability_missing", "list the"),
    ("too probable", PLAIN, failing(*LIKELY, mode="cvar"), FAILING, "probabilities_exceed_1", "add up to 1.1"),
    ("no tail", PLAIN, failing(LIKELY[0], mode="cvar", beta=1), "/failures/beta", "nothing_looked_at", "use a smaller one"),
    ("latency of a design", DESIGNED, [("demands/0/latency_limit_ms", 5)], "/demands/0/latency_limit_ms", "latency_not_supported", "leave"),
    ("cost of a design", DESIGNED, [("links/0/cost", -1)], "/links/0/cost", "negative_cost", "raise it to 0"),
    ("fair protection", PLAIN, [*PROTECTED, ("objective", "max_min_fair")], "/objective", "objective_not_protected", "choose another"),
    ("failures of a transfer", MOVED, failing(any_links=1), "/failures", "failures_unused", "leave failures out"),
    ("failures of supplies", SUPPLIED, failing(any_links=1), "/failures", "failures_need_demands", "give the traffic as demands"),
    ("loss of a design", DESIGNED, failing(LIKELY[0], mode="cvar", at="design/survive"), "/design/survive/mode", "mode_not_supported", ""),
    ("failures of a design", DESIGNED, MANY_FAILURES, "/design/survive", "too_many_scenarios", "give at most 2,000"),
    ("too many steps", MOVED, [("horizon/steps", 10**9)], "/horizon/steps", "too_large", "take fewer, longer ones"),
    ("prices", MOVED, [("links/0/usd_per_gbit", [1, 2])], "/links/0/usd_per_gbit", "wrong_length", "2 prices for 4 steps"),
    ("late deadline", MOVED, [("transfers/0/deadline", 5)], "/transfers/0/deadline", "deadline_beyond_horizon", "the horizon of 4 steps"),
    ("no window", MOVED, [("transfers/0/deadline", 2), ("transfers/0/release", 2)], "/transfers/0/deadline", "empty_window", "one step"),
    ("no window at all", MOVED, [("transfers/0/release", 4)], "/transfers/0/release", "empty_window", "at least one step"),
    ("too much", PLAIN, [("demands/0/size_gbps", 1e12), ("demands/-", LARGE)], "/demands", "too_large", "use a larger unit"),
    ("too dear", PLAIN, [("demands/0/size_gbps", 1e10), ("demands/0/value", 1e10)], "/demands", "too_large", "use smaller values"),
    ("priority", TABLES, [("demand_table/priority", [2000])], "/demand_table/priority/0", "priority_range", "between -1000 and 1000"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "changes", "pointer", "code", "detail"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_each_mistake_has_a_place_a_code_and_a_cure(
    document: dict[str, Any], changes: list[tuple[str, Any]], pointer: str, code: str, detail: str
) -> None:
    found = mistakes(changed(document, *changes))
    assert (pointer, code) in {(one.pointer, one.code) for one in found}
    text = next(one.detail for one in found if (one.pointer, one.code) == (pointer, code))
    assert detail in text
    assert ";" in text or "call" in text  # what is wrong; and the cure
    assert len(found) == 1 or code in {"demands_and_supplies", "supplies_unbalanced", "too_large"}


def listed(*links: str, demand: str = "d") -> dict[str, Any]:
    return PLAIN | {"paths": {"choice": "listed", "listed": [{"demand": demand, "links": list(links)}]}}


@pytest.mark.parametrize(
    ("document", "pointer", "code"),
    [
        (listed("ab"), "/paths/listed/0/links/0", "path_broken"),
        (listed("bc", "ab"), "/paths/listed/0/links/0", "path_broken"),
        (listed("ab", "ab"), "/paths/listed/0/links/1", "path_broken"),
        (listed("ab", "bc", "bc"), "/paths/listed/0/links/2", "path_loops"),
        (listed("ab", "z"), "/paths/listed/0/links/1", "unknown_link"),
        (listed("ab", "bc", demand="z"), "/paths/listed/0/demand", "unknown_demand"),
    ],
)
def test_listed_paths_lead_from_source_to_target(document: dict[str, Any], pointer: str, code: str) -> None:
    assert [(one.pointer, one.code) for one in mistakes(document)] == [(pointer, code)]
    assert mistakes(listed("ab", "bc")) == ()


@pytest.mark.parametrize("capacity", [-1, float("inf"), float("-inf"), float("nan"), 1e13, "much"])
def test_capacities_are_numbers_of_0_or_more(capacity: Any) -> None:
    for path in ("links/0/capacity_gbps",):
        with pytest.raises(ValidationError) as refused:
            Problem.model_validate(changed(PLAIN, (path, capacity)))
        assert {one["loc"] for one in refused.value.errors()} == {("links", 0, "capacity_gbps")}
        assert "greater than or equal to 0" in str(refused.value) or "number" in str(refused.value) or "less than" in str(refused.value)
    with pytest.raises(ValidationError) as refused:
        Problem.model_validate(changed(TABLES, ("link_table/capacity_gbps/0", capacity)))
    assert {one["loc"] for one in refused.value.errors()} == {("link_table", "capacity_gbps", 0)}


def test_the_first_mistakes_are_enough() -> None:
    links = [PLAIN["links"][0] | {"id": f"l{number}", "target": "z"} for number in range(50)]
    assert len(mistakes(PLAIN | {"links": links})) == MAX_ERRORS


@pytest.mark.parametrize("change", [("links/0/cost", -1), ("links/0/lower_gbps", 2)])
def test_a_flow_may_go_around_without_supplies(change: tuple[str, Any]) -> None:
    back = {"id": "ca", "source": "c", "target": "a", "capacity_gbps": 3}
    around = changed(PLAIN, ("demands", []), ("links/-", back), change)
    assert mistakes(around) == ()
    result = solve(Problem.model_validate(around), Limits(time_limit_s=10.0), isolate=False)
    assert result.certificate is not None
    assert result.certificate.objective == pytest.approx(-3.0 if change[0].endswith("cost") else 0.0)
    assert result.certificate.gap <= 1e-9
    assert [warned.code for warned in mistakes(changed(around, ("objective", "max_throughput")))]


def test_supplies_need_not_balance_for_throughput() -> None:
    assert mistakes(changed(SUPPLIED, ("nodes/0/supply_gbps", 3), ("objective", "max_throughput"))) == ()


# ---------------------------------------------------------------- warnings


def codes(problem: Problem) -> dict[str, str]:
    return {one.code: f"{one.pointer}: {one.detail}" for one in warnings(problem)}


def test_nothing_odd_in_the_examples() -> None:
    for name, problem in examples().items():
        assert warnings(problem) == (), name


def test_links_without_capacity_are_told() -> None:
    found = codes(routing(["a-b 0", "x: a-b 1"], ["a>b 1"]))
    assert found == {
        "zero_capacity": "/links/0/capacity_gbps: link 'a-b' has no capacity and carries nothing; give it some, or leave it out"
    }


def test_demands_without_a_path_are_named() -> None:
    found = codes(routing(["a-b 1", "c-b 1"], ["a>b 1", "lost: a>c 1"]))
    assert set(found) == {"no_path"}
    assert found["no_path"].startswith("/demands/1/target: no path leads from 'a' to 'c', so demand 'lost' gets nothing")


def test_demands_larger_than_their_ends_are_told_by_how_much() -> None:
    found = codes(routing(["a-b 2", "x: a-b 1", "b-c 9"], ["big: a>c 5"]))
    assert set(found) == {"larger_than_cut"}
    assert "'big' asks for 5 Gbit/s and the links that leave its source have 3: 2 cannot be carried" in found["larger_than_cut"]
    assert codes(routing(["a-b 2"], ["a>b 5"], objective="min_max_utilisation")) == {}


def test_limits_below_the_quickest_path_are_told() -> None:
    links = ["a-b 2 latency_ms=3", "a-c 9 latency_ms=1", "c-b 9 latency_ms=1.5"]
    assert codes(routing(links, ["a>b 1 latency_limit_ms=2.5"])) == {}
    found = codes(routing(links, ["a>b 1 latency_limit_ms=2.4"]))
    assert "allows 2.4 ms and its quickest path takes 2.5 ms" in found["limit_below_quickest"]


def test_idle_nodes_and_unlisted_demands_are_told() -> None:
    assert set(codes(supplying(["a-b 2"], {"a": 1, "b": -1, "z": 0}))) == {"unused_node"}
    chosen = {"choice": "listed", "listed": [{"demand": "d0", "links": ["a-b"]}]}
    assert set(codes(routing(["a-b 2"], ["a>b 1", "a>b 1"], paths=chosen))) == {"no_path_listed"}


def test_demands_that_no_check_would_notice_are_told() -> None:
    assert set(codes(routing(["a-b 2"], ["tiny: a>b 1e-7", "a>b 1e-5"]))) == {"below_tolerance"}
    assert "'tiny' asks for 1e-07 Gbit/s" in codes(routing(["a-b 2"], ["tiny: a>b 1e-7"]))["below_tolerance"]

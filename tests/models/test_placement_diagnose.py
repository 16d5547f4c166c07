"""A placement problem without a plan: the conflict names the right rules and ids, and the repair is enough."""

from __future__ import annotations

import time
from typing import Any

import pytest

from models.placement.explain import CUT_COLUMNS, FIRM_RULES, repair_text, rule_units
from models.placement.formulation import build
from models.placement.schema import Problem, Rule
from optimizer.compile import compile_model
from optimizer.diagnose import Repair, diagnose
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from optimizer.result import Conflict
from tests.models.placement_problems import job, node, problem, tiny_problem
from tests.oracles.placement import best


def conflict_of(one: Problem, seconds: float = 30.0, wording: Any = None) -> Conflict | None:
    """What the service does with a problem that has no plan."""
    program = compile_model(build(one, hasten=False)).program
    rules = {rule.value for rule in Rule}
    keep = frozenset(block.name for block in program.row_blocks if block.name not in rules)
    words = wording or (lambda repair: repair_text(repair.name, repair.ids, repair.amount))
    limits = Limits(time_limit_s=seconds)
    return diagnose(program, HighsBackend(), limits, units=rule_units(), keep=keep, firm=FIRM_RULES, cut=CUT_COLUMNS, wording=words)


def found(one: Problem) -> tuple[dict[str, set[tuple[str, ...]]], tuple[str, ...]]:
    conflict = conflict_of(one)
    assert conflict is not None
    assert conflict.status == "proved"
    by_rule: dict[str, set[tuple[str, ...]]] = {}
    for rule, ids in conflict.rules:
        by_rule.setdefault(rule, set()).add(ids)
    return by_rule, conflict.repairs


def test_all_running_jobs_are_protected() -> None:
    safe: Any = {"running": {"evictable": False}}
    jobs = [job("a", runs="n1:0,1", gpus=2, **safe), job("b", runs="n2:0,1", gpus=2, **safe), job("vip", 2, priority=9)]
    rules, repairs = found(problem([node("n1"), node("n2")], jobs, use="preempt", preempt_for="vip"))
    assert rules["evictable"] == {("a",), ("b",)}
    assert rules["node_gpus"] == {("n1",), ("n2",)}
    assert rules["must_place"] == {("vip",)}
    assert set(rules) <= {"evictable", "node_gpus", "must_place", "gang"}
    assert len(repairs) == 1
    assert repairs[0] in {f"job {name} would have to be evicted, which it must not be" for name in "ab"} | {
        f"node {name}: 2 GPUs short" for name in ("n1", "n2")
    }


def test_the_quota_is_too_small() -> None:
    jobs = [job("a", runs="n1:0", tenant="t", running={"evictable": False}), job("vip", 4, tenant="t", priority=9)]
    one = problem([node("n1"), node("n2", 4)], jobs, tenants=[{"id": "t", "quota_gpus": 3}], use="preempt", preempt_for="vip")
    rules, repairs = found(one)
    assert rules["tenant_quota"] == {("t",)}
    assert "node_gpus" not in rules
    assert repairs == ("quota of tenant t: 2 GPUs short",)  # 4 and the GPU of the job that must not be evicted


def test_too_few_gpus() -> None:
    one = problem([node("n1", 6), node("n2", 6)], [job("vip", 4, workers=3, priority=9)], use="preempt", preempt_for="vip")
    rules, repairs = found(one)
    assert rules["node_gpus"] == {("n1",), ("n2",)}
    assert set(rules) == {"node_gpus", "gang", "must_place"}
    assert repairs in {("node n1: 2 GPUs short",), ("node n2: 2 GPUs short",)}


def test_too_few_evictions_are_allowed() -> None:
    jobs = [job("a", runs="n1:0"), job("b", runs="n1:1"), job("vip", 2, priority=9)]
    one = problem([node("n1")], jobs, use="preempt", preempt_for="vip", max_evictions=1)
    rules, repairs = found(one)
    assert rules["eviction_budget"] == {()}
    assert "node_gpus" in rules
    assert len(repairs) == 1
    assert repairs[0] in {"eviction budget: 1 jobs short", "node n1: 1 GPUs short"}


def test_no_node_accepts_the_job() -> None:
    one = problem([node("n1"), node("n2")], [job("vip", 2, model_speeds={"v100": 1.0}, priority=9)], use="preempt", preempt_for="vip")
    rules, repairs = found(one)
    assert rules["accepted_model"] == {("vip",)}
    assert repairs == ("job vip: 1 workers would have to go where the GPU model is not accepted",)


def test_running_jobs_on_a_drained_node_cannot_stay() -> None:
    nodes = [node("n1", state="drained"), node("n2")]
    rules, repairs = found(problem(nodes, [job("a", runs="n1:0")], use="repack", max_moves=0))
    assert rules == {"drained": {("a", "n1")}, "running_stays": {("a",)}, "move_budget": {()}, "eviction_budget": {()}}
    assert len(repairs) == 1


def test_a_problem_with_a_plan_has_no_conflict() -> None:
    assert conflict_of(problem([node("n1")], [job("vip", 2)], use="preempt", preempt_for="vip")) is None


@pytest.mark.parametrize("use", ["place", "repack", "preempt"])
def test_a_conflict_is_found_exactly_when_there_is_no_plan(use: Any) -> None:
    infeasible = 0
    for seed in range(40):
        one = tiny_problem(seed, use)
        conflict = conflict_of(one)
        assert (conflict is None) == (best(one) is not None), seed
        if conflict is not None:
            infeasible += 1
            assert conflict.status == "proved"
            assert conflict.rules
            assert {rule for rule, _ in conflict.rules} <= {rule.value for rule in Rule}
            assert conflict.repairs
    assert infeasible > 0


@pytest.mark.parametrize("seed", range(12))
def test_the_repair_is_enough(seed: int) -> None:
    """More GPUs, cores, memory or quota, and evictions allowed, as the repair says: then there is a plan."""
    for number in range(seed, 240, 12):
        one = tiny_problem(number, "preempt")
        told: list[Repair] = []

        def wording(repair: Repair, told: list[Repair] = told) -> str:
            told.append(repair)
            return repair_text(repair.name, repair.ids, repair.amount)

        if conflict_of(one, wording=wording) is not None and {repair.name for repair in told} <= set(_MENDED):
            assert best(mended(one, told)) is not None, (number, told)


_MENDED = {"node_cpu": "cpu_cores", "node_memory": "memory_gib", "node_gpus": "gpus", "tenant_quota": "quota_gpus", "eviction_budget": ""}


def mended(one: Problem, repairs: list[Repair]) -> Problem:
    whole = one.model_dump()
    for repair in repairs:
        if repair.name == "eviction_budget":
            whole["max_evictions"] += round(repair.amount)
        for each in whole["tenants" if repair.name == "tenant_quota" else "nodes"]:
            if repair.ids[:1] == (each["id"],):
                more = repair.amount
                each[_MENDED[repair.name]] += round(more) if repair.name == "node_gpus" else more
                if repair.name == "node_gpus":
                    each["gpu_model"] = each["gpu_model"] or "h100"
    return Problem.model_validate(whole)


def test_a_cluster_full_of_protected_jobs() -> None:
    nodes = [node(f"n{at}", 8) for at in range(60)]
    safe: Any = {"running": {"evictable": False}}
    jobs = [
        job(f"j{at}-{half}", 4, runs=f"n{at}:{','.join(map(str, range(4 * half, 4 * half + 4)))}", **safe)
        for at in range(60)
        for half in (0, 1)
    ]
    one = problem(nodes, [*jobs, job("vip", 8, workers=2, priority=9)], use="preempt", preempt_for="vip")
    begun = time.monotonic()
    rules, _ = found(one)
    assert time.monotonic() - begun < 30.0  # about 1 s on an idle machine
    assert len(rules["node_gpus"]) == 60  # were any one node without limit, both workers would go there
    assert len(rules["evictable"]) == 59  # one job keeps a worker off its node, and one node without any is not enough for two

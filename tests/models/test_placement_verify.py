"""verify.py is the specification of placement: every rule satisfied and violated, and no plan too odd to judge."""

from __future__ import annotations

from itertools import islice
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.contract import MAX_VIOLATIONS
from models.placement.schema import JobPlacement, Plan, Problem, Rule, Use, WorkerPlace
from models.placement.verify import verify
from models.vocabulary import LARGEST_COUNT
from tests.models.placement_problems import job, node, places, plan, problem, tiny_problem
from tests.oracles.placement import plans


def broken(case: Problem, answer: Plan) -> set[str]:
    return {violation.rule for violation in verify(case, answer).violations}


class Case(NamedTuple):
    rule: Rule
    problem: Problem
    right: Plan
    wrong: Plan
    also: frozenset[Rule] = frozenset()


RACKS = [
    node("n1", topology={"site": "s", "rack": "r1"}),
    node("n2", topology={"site": "s", "rack": "r1"}),
    node("n3", topology={"site": "s", "rack": "r2"}),
    node("n4"),
]
TWO = [node("n1"), node("n2")]
PREEMPT = {"use": "preempt", "preempt_for": "b"}

CASES = {
    "cores of a node": Case(Rule.node_cpu, problem(TWO, [job("a", 0, 2, cpu_cores=4.5)]), plan(a="n1 n2"), plan(a="n1 n1")),
    "memory of a node": Case(Rule.node_memory, problem(TWO, [job("a", 0, 2, memory_gib=33)]), plan(a="n1 n2"), plan(a="n1 n1")),
    "a whole GPU twice": Case(Rule.node_gpus, problem(TWO, [job("a", 1, 2)]), plan(a="n1:0 n1:1"), plan(a="n1:0 n1:0")),
    "whole and shared": Case(Rule.node_gpus, problem(TWO, [job("a"), job("b", 0.5)]), plan(a="n1:0", b="n1:1"), plan(a="n1:0", b="n1:0")),
    "whole and a sliver": Case(
        Rule.node_gpus, problem(TWO, [job("a"), job("b", 1e-7)]), plan(a="n1:0", b="n1:1"), plan(a="n1:0", b="n1:0")
    ),
    "GPU out of range": Case(Rule.node_gpus, problem(TWO, [job("a")]), plan(a="n1:1"), plan(a="n1:2")),
    "too few GPUs": Case(Rule.node_gpus, problem(TWO, [job("a", 2)]), plan(a="n1:0,1"), plan(a="n1:0")),
    "too many GPUs": Case(Rule.node_gpus, problem(TWO, [job("a", 0.5)]), plan(a="n1:0"), plan(a="n1:0,1")),
    "GPUs for nothing": Case(Rule.node_gpus, problem(TWO, [job("a", 0)]), plan(a="n1"), plan(a="n1:0")),
    "unknown node": Case(Rule.node_gpus, problem(TWO, [job("a")]), plan(a="n1:0"), plan(a="n9:0")),
    "shares of a GPU": Case(
        Rule.gpu_share, problem(TWO, [job("a", 0.4, 2), job("b", 0.3)]), plan(a="n1:0 n1:0", b="n1:1"), plan(a="n1:0 n1:0", b="n1:0")
    ),
    "memory of a GPU": Case(
        Rule.gpu_memory,
        problem([node("n1", gpu_memory_gib=80)], [job("a", 0.5, 2, gpu_memory_gib=41)]),
        plan(a="n1:0 n1:1"),
        plan(a="n1:0 n1:0"),
    ),
    "all or none": Case(Rule.gang, problem(TWO, [job("a", 1, 2)]), plan(a="n1:0 n2:0"), plan(a="n1:0")),
    "fewest of an elastic job": Case(Rule.gang, problem(TWO, [job("a", 1, 3, workers_min=2)]), plan(a="n1:0 n2:0"), plan(a="n1:0")),
    "most of a job": Case(Rule.gang, problem(TWO, [job("a", 1, 2, workers_min=1)]), plan(a="n1:0"), plan(a="n1:0 n1:1 n2:0")),
    "unknown job": Case(Rule.gang, problem(TWO, [job("a")]), plan(a="n1:0"), plan(b="n1:0")),
    "job listed twice": Case(
        Rule.gang,
        problem(TWO, [job("a", 1, 2)]),
        plan(a="n1:0 n2:0"),
        Plan(placements=(JobPlacement(job="a", workers=places("n1:0")), JobPlacement(job="a", workers=places("n2:0")))),
    ),
    "GPU model": Case(
        Rule.accepted_model,
        problem([node("n1"), node("n2", gpu_model="a100")], [job("a", model_speeds={"a100": 1})]),
        plan(a="n2:0"),
        plan(a="n1:0"),
    ),
    "GPU model of a job without GPUs": Case(
        Rule.accepted_model, problem([node("n1"), node("n2", 0)], [job("a", 0, model_speeds={"h100": 1})]), plan(a="n1"), plan(a="n2")
    ),
    "labels": Case(
        Rule.node_selector,
        problem([node("n1", labels={"disk": "nvme"}), node("n2")], [job("a", node_selector={"disk": "nvme"})]),
        plan(a="n1:0"),
        plan(a="n2:0"),
    ),
    "drained node": Case(
        Rule.drained,
        problem([node("n1", state="drained"), node("n2")], [job("a", runs="n1:0")], use="repack"),
        plan(("a",), a="n2:0"),
        plan(a="n1:0"),
    ),
    "cordoned node": Case(
        Rule.drained,
        problem([node("n1", state="cordoned"), node("n2")], [job("a", 1, 2, "n1:0 n2:0")], use="repack"),
        plan(("a",), a="n1:1 n2:0"),
        plan(("a",), a="n1:0 n1:1"),
    ),
    "reserved node": Case(
        Rule.reserved,
        problem([node("n1", reserved_for="blue"), node("n2")], [job("a", tenant="blue"), job("b", tenant="red")]),
        plan(a="n1:0", b="n2:0"),
        plan(a="n1:0", b="n1:1"),
    ),
    "reserved under a running job": Case(
        Rule.reserved,
        problem([node("n1", reserved_for="blue"), node("n2")], [job("a", 1, 2, "n1:0 n2:0")], use="repack"),
        plan(("a",), a="n1:1 n2:0"),
        plan(("a",), a="n1:0 n1:1"),
    ),
    "quota": Case(
        Rule.tenant_quota,
        problem(TWO, [job("a", tenant="blue"), job("b", 0.5, tenant="blue")], tenants=[{"id": "blue", "quota_gpus": 1.25}]),
        plan(a="n1:0"),
        plan(a="n1:0", b="n1:1"),
    ),
    "one rack": Case(
        Rule.colocation, problem(RACKS, [job("a", 1, 2, colocate={"level": "rack"})]), plan(a="n1:0 n2:0"), plan(a="n1:0 n3:0")
    ),
    "one node": Case(
        Rule.colocation, problem(RACKS, [job("a", 1, 2, colocate={"level": "node"})]), plan(a="n4:0 n4:1"), plan(a="n1:0 n2:0")
    ),
    "a rack that is not named": Case(
        Rule.colocation, problem(RACKS, [job("a", 1, 2, colocate={"level": "rack"})]), plan(a="n3:0 n3:1"), plan(a="n4:0 n4:1")
    ),
    "spread over nodes": Case(
        Rule.spread, problem(RACKS, [job("a", 1, 2, spread={"max_workers": 1})]), plan(a="n1:0 n2:0"), plan(a="n1:0 n1:1")
    ),
    "spread over racks": Case(
        Rule.spread,
        problem(RACKS, [job("a", 1, 3, spread={"level": "rack", "max_workers": 1})]),
        plan(a="n1:0 n3:0 n4:0"),
        plan(a="n1:0 n2:0 n4:0"),
    ),
    "apart": Case(
        Rule.anti_affinity,
        problem(RACKS, [job("a", anti_affinity={"jobs": ["b"]}), job("b")]),
        plan(a="n1:0", b="n2:0"),
        plan(a="n1:0", b="n1:1"),
    ),
    "apart by rack": Case(
        Rule.anti_affinity,
        problem(RACKS, [job("a"), job("b", anti_affinity={"jobs": ["a"], "level": "rack"})]),
        plan(a="n4:0", b="n1:0"),
        plan(a="n1:0", b="n2:0"),
    ),
    "moved under place": Case(
        Rule.running_stays,
        problem(TWO, [job("a", runs="n1:0")]),
        plan(a="n1:0"),
        plan(("a",), a="n1:1"),
        frozenset({Rule.move_budget}),
    ),
    "left out under place": Case(
        Rule.running_stays, problem(TWO, [job("a", runs="n1:0")]), plan(a="n1:0"), plan((), ("a",)), frozenset({Rule.eviction_budget})
    ),
    "moved under preempt": Case(
        Rule.running_stays,
        problem(TWO, [job("a", runs="n1:0"), job("b")], **PREEMPT),
        plan(a="n1:0", b="n2:0"),
        plan(("a",), a="n1:1", b="n2:0"),
        frozenset({Rule.move_budget}),
    ),
    "move not told": Case(Rule.running_stays, problem(TWO, [job("a", runs="n1:0")], use="repack"), plan(("a",), a="n2:0"), plan(a="n2:0")),
    "move told that is none": Case(
        Rule.running_stays, problem(TWO, [job("a", 2, runs="n1:0,1")], use="repack"), plan(a="n1:1,0"), plan(("a",), a="n1:0,1")
    ),
    "move told twice": Case(
        Rule.running_stays, problem(TWO, [job("a", runs="n1:0")], use="repack"), plan(("a",), a="n2:0"), plan(("a", "a"), a="n2:0")
    ),
    "eviction not told": Case(
        Rule.running_stays,
        problem(TWO, [job("a", runs="n1:0"), job("b", priority=2)], **PREEMPT),
        plan((), ("a",), b="n1:0"),
        plan(b="n1:0"),
    ),
    "unknown eviction": Case(Rule.running_stays, problem(TWO, [job("a")]), plan(a="n1:0"), plan((), ("z",), a="n1:0")),
    "not evictable": Case(
        Rule.evictable,
        problem(TWO, [job("a", runs="n1:0", running={"evictable": False})], use="repack", max_evictions=1),
        plan(a="n1:0"),
        plan((), ("a",)),
    ),
    "evicted for one of equal priority": Case(
        Rule.evictable,
        problem(TWO, [job("a", runs="n1:0", priority=2), job("b", priority=2), job("c", runs="n2:0")], **PREEMPT),
        plan((), ("c",), a="n1:0", b="n2:0"),
        plan((), ("a",), b="n1:0", c="n2:0"),
    ),
    "moves": Case(
        Rule.move_budget,
        problem(TWO, [job("a", runs="n1:0"), job("b", runs="n1:1")], use="repack", max_moves=1),
        plan(("a",), a="n2:0", b="n1:1"),
        plan(("a", "b"), a="n2:0", b="n2:1"),
    ),
    "evictions of a repack": Case(
        Rule.eviction_budget, problem(TWO, [job("a", runs="n1:0")], use="repack"), plan(("a",), a="n2:0"), plan((), ("a",))
    ),
    "evictions of a preemption": Case(
        Rule.eviction_budget,
        problem(TWO, [job("a", runs="n1:0"), job("c", runs="n1:1"), job("b", priority=2)], max_evictions=1, **PREEMPT),
        plan((), ("a",), b="n1:0", c="n1:1"),
        plan((), ("a", "c"), b="n1:0"),
    ),
    "power": Case(
        Rule.power_cap,
        problem([node("n1", power_kw=3), node("n2", power_kw=3)], [job("a", 1, 2)], power_cap_kw=5),
        plan(a="n1:0 n1:1"),
        plan(a="n1:0 n2:0"),
    ),
    "the job of a preemption": Case(
        Rule.must_place, problem(TWO, [job("a", runs="n1:0"), job("b")], **PREEMPT), plan(a="n1:0", b="n1:1"), plan(a="n1:0")
    ),
}


def test_every_rule_has_a_case() -> None:
    assert {case.rule for case in CASES.values()} == set(Rule)


@pytest.mark.parametrize("name", CASES)
def test_rule_satisfied(name: str) -> None:
    case = CASES[name]
    verdict = verify(case.problem, case.right)
    assert verdict.violations == ()
    assert verdict.ok


@pytest.mark.parametrize("name", CASES)
def test_rule_violated(name: str) -> None:
    case = CASES[name]
    verdict = verify(case.problem, case.wrong)
    assert {violation.rule for violation in verdict.violations} == {case.rule} | case.also
    assert all(violation.amount > 0 and violation.unit and violation.message for violation in verdict.violations)
    assert verdict.largest_violation > 0


def test_amounts_are_in_the_unit_of_the_rule() -> None:
    case = problem([node("n1", 1)], [job("a", 0.75, cpu_cores=6), job("b", 0.5, cpu_cores=6)])
    found = {violation.rule: violation for violation in verify(case, plan(a="n1:0", b="n1:0")).violations}
    assert found[Rule.node_cpu].amount == pytest.approx(4)
    assert found[Rule.node_cpu].ids == ("n1",)
    assert found[Rule.gpu_share].amount == pytest.approx(0.25)
    assert found[Rule.gpu_share].ids == ("n1", "0")


def test_sums_of_fractions_that_fill_a_gpu_are_no_violation() -> None:
    case = problem([node("n1", 1, cpu_cores=1)], [job("a", 0.1, 10, cpu_cores=0.1)])
    assert verify(case, plan(a=" ".join(["n1:0"] * 10))).ok


def test_a_running_job_may_stay_on_a_cordoned_or_reserved_node() -> None:
    case = problem([node("n1", state="cordoned", reserved_for="blue")], [job("a", runs="n1:0"), job("b")])
    assert verify(case, plan(a="n1:0")).ok
    assert broken(case, plan(a="n1:0", b="n1:1")) == {Rule.drained, Rule.reserved}


def test_preferred_colocation_is_no_rule() -> None:
    case = problem(RACKS, [job("a", 1, 2, colocate={"level": "rack", "required": False})])
    assert verify(case, plan(a="n1:0 n4:0")).ok


def test_racks_of_the_same_name_on_two_sites_are_two_racks() -> None:
    nodes = [node("n1", topology={"site": "s1", "rack": "r"}), node("n2", topology={"site": "s2", "rack": "r"})]
    case = problem(nodes, [job("a", 1, 2, colocate={"level": "rack"})])
    assert broken(case, plan(a="n1:0 n2:0")) == {Rule.colocation}


def test_only_so_many_violations_are_listed_and_all_are_counted() -> None:
    verdict = verify(problem(TWO, []), plan(**{f"x{index}": "n1:0" for index in range(MAX_VIOLATIONS + 50)}))
    assert len(verdict.violations) == MAX_VIOLATIONS
    assert verdict.violation_count == MAX_VIOLATIONS + 50


# ---------------------------------------------------------------- any plan at all

NAMES = st.sampled_from(["job-0", "job-1", "job-2", "nobody"])
WORKERS = st.builds(
    WorkerPlace,
    node=st.sampled_from(["node-0", "node-1", "nowhere"]),
    gpus=st.lists(st.integers(0, 3) | st.just(LARGEST_COUNT), max_size=3).map(tuple),
)
PLANS = st.builds(
    Plan,
    placements=st.lists(st.builds(JobPlacement, job=NAMES, workers=st.lists(WORKERS, min_size=1, max_size=4).map(tuple)), max_size=5).map(
        tuple
    ),
    moved=st.lists(NAMES, max_size=3).map(tuple),
    evicted=st.lists(NAMES, max_size=3).map(tuple),
)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 50), use=st.sampled_from(Use), answer=PLANS)
def test_no_plan_raises_an_error_and_nonsense_is_never_right(seed: int, use: Use, answer: Plan) -> None:
    case = tiny_problem(seed, use)
    verdict = verify(case, answer)
    assert list(verdict.objectives) == list(case.ordered_goals())
    assert verdict.ok == (not verdict.violations)
    assert {violation.rule for violation in verdict.violations} <= set(Rule)
    named = {placement.job for placement in answer.placements} | {*answer.moved, *answer.evicted}
    used = {worker.node for placement in answer.placements for worker in placement.workers}
    if "nobody" in named or "nowhere" in used:
        assert not verdict.ok


def _right_plans(use: Use) -> list[tuple[Problem, Plan]]:
    found = []
    for seed in range(25):
        case = tiny_problem(seed, use)
        found += [(case, answer) for answer, _ in islice(plans(case), 3) if answer.placements]
    return found


@pytest.mark.parametrize("use", Use)
def test_breaking_a_right_plan_makes_verify_complain(use: Use) -> None:
    rng = Random(f"break {use}")
    cases = _right_plans(use)
    assert len(cases) > 10
    for case, answer in cases:
        assert verify(case, answer).ok
        chosen = rng.choice(answer.placements)
        others = tuple(placement for placement in answer.placements if placement is not chosen)
        first, *rest = chosen.workers
        limit = max(one.gpus for one in case.nodes)
        wanted = next(one for one in case.jobs if one.id == chosen.job)
        spoiled = {
            Rule.node_gpus: JobPlacement(job=chosen.job, workers=(WorkerPlace(node=first.node, gpus=(*first.gpus, limit)), *rest)),
            Rule.gang: JobPlacement(job=chosen.job, workers=chosen.workers * (wanted.workers + 1)),
        }
        for rule, placement in spoiled.items():
            assert rule in broken(case, answer.model_copy(update={"placements": (*others, placement)}))
        assert Rule.gang in broken(case, answer.model_copy(update={"placements": (*answer.placements, chosen)}))
        assert Rule.running_stays in broken(case, answer.model_copy(update={"evicted": (*answer.evicted, chosen.job)}))


def test_names_and_order_do_not_matter() -> None:
    for seed in range(30):
        case = tiny_problem(seed, Use.repack)
        for answer, verdict in islice(plans(case), 5):
            turned = Problem.model_validate(case.model_dump() | {"nodes": case.nodes[::-1], "jobs": case.jobs[::-1]})
            again = verify(turned, answer.model_copy(update={"placements": answer.placements[::-1]}))
            assert again.ok
            assert again.objectives == pytest.approx(verdict.objectives)

"""The brute force itself: a few answers that can be worked out on paper, and laws that every optimum obeys."""

from __future__ import annotations

from typing import Any

import pytest

from models.placement.schema import GoalName, Node, Plan, Problem, Use
from models.placement.verify import goals, verify
from tests.models.placement_problems import tiny_problem
from tests.oracles import placement as oracle
from tests.oracles.placement import Best, best, plans


def problem(gpus: list[int], jobs: list[dict[str, Any]], **fields: Any) -> Problem:
    """Nodes n0, n1, ... with so many GPUs of one model and ample cores and memory."""
    nodes = [{"id": f"n{index}", "gpu_model": "h100", "gpus": count, "cpu_cores": 99, "memory_gib": 99} for index, count in enumerate(gpus)]
    return Problem.model_validate({"nodes": nodes, "jobs": jobs} | fields)


def solved(case: Problem) -> Best:
    found = best(case)
    assert found is not None
    return found


def runs(*spots: tuple[str, list[int]], **fields: Any) -> dict[str, Any]:
    return {"workers": [{"node": node, "gpus": gpus} for node, gpus in spots]} | fields


def test_the_enumeration_is_complete() -> None:
    # One worker of one GPU, on nodes of 2 and 1 GPUs: not placed, or on either node (the 2 GPUs are alike).
    assert len(list(plans(problem([2, 1], [{"id": "a", "gpus_per_worker": 1}])))) == 3
    # Two halves on 2 GPUs: none, together on one GPU, or apart.
    assert len(list(plans(problem([2], [{"id": "a", "gpus_per_worker": 0.5, "workers": 2}])))) == 3
    # Two wholes or one, on nodes of 2 and 1: none; n0, n1; n0 n0, n0 n1.
    assert len(list(plans(problem([2, 1], [{"id": "a", "gpus_per_worker": 1, "workers": 2, "workers_min": 1}])))) == 5
    # Two jobs of one GPU on one GPU: none, the first, the second.
    assert len(list(plans(problem([1], [{"id": name, "gpus_per_worker": 1} for name in "ab"])))) == 3
    # A job that runs on GPU 0 of 2, in a repack that may evict it: left out, as it is, or on the other GPU.
    moving = [{"id": "a", "gpus_per_worker": 1, "running": runs(("n0", [0]))}]
    assert [plan.moved for plan, _ in plans(problem([2], moving, use="repack", max_evictions=1))] == [(), (), ("a",)]


def test_a_knapsack() -> None:
    sizes = {"a": (3, 4), "b": (2, 3), "c": (2, 2.5)}
    jobs = [{"id": name, "gpus_per_worker": size, "value": value} for name, (size, value) in sizes.items()]
    found = solved(problem([4], jobs))
    assert found.values == (5.5, 4.0)  # b and c, rather than the most valuable a alone
    assert {placed.job for placed in found.plan.placements} == {"b", "c"}


def test_whole_gangs_only() -> None:
    jobs = [{"id": "a", "gpus_per_worker": 2, "workers": 2, "value": 9}, {"id": "b", "gpus_per_worker": 1}]
    assert solved(problem([3, 1], jobs)).values == (1, 1)  # 4 GPUs are free, and the second pair of a has no node
    assert solved(problem([3, 2], jobs)).values == (10, 5)


def test_fractions_do_not_span_gpus() -> None:
    assert solved(problem([2], [{"id": f"j{index}", "gpus_per_worker": 0.6} for index in range(3)])).values == (2, 1.2)


def test_lower_goals_break_ties_only() -> None:
    jobs = [{"id": "a", "gpus_per_worker": 1}, {"id": "b", "gpus_per_worker": 1}]
    assert solved(problem([2, 2], jobs, goals=["placed_value", "nodes_powered", "balance"])).values == (2, 1, 1)
    assert solved(problem([2, 2], jobs, goals=["placed_value", "balance", "nodes_powered"])).values == (2, 0.5, 2)


def test_a_repack_makes_room_with_the_cheapest_move() -> None:
    jobs = [
        {"id": "a", "gpus_per_worker": 1, "running": runs(("n0", [0]), move_cost=5)},
        {"id": "b", "gpus_per_worker": 1, "running": runs(("n1", [0]), move_cost=2)},
        {"id": "c", "gpus_per_worker": 2},
    ]
    found = solved(problem([2, 2], jobs, use="repack"))
    assert found.values == (3.0, 2.0)
    assert found.plan.moved == ("b",)
    assert solved(problem([2, 2], jobs, use="repack", max_moves=0)).values == (2, 0)


def test_a_preemption_evicts_the_fewest_then_the_cheapest() -> None:
    jobs = [
        {"id": "a", "gpus_per_worker": 1, "running": runs(("n0", [0]), move_cost=1)},
        {"id": "b", "gpus_per_worker": 1, "running": runs(("n0", [1]), move_cost=1)},
        {"id": "c", "gpus_per_worker": 2, "running": runs(("n1", [0, 1]), move_cost=9)},
        {"id": "big", "gpus_per_worker": 2, "priority": 2},
        {"id": "other", "gpus_per_worker": 0},
    ]
    found = solved(problem([2, 2], jobs, use="preempt", preempt_for="big"))
    assert found.values == (1.0, 9.0)
    assert found.plan.evicted == ("c",)
    cheap = solved(problem([2, 2], jobs, use="preempt", preempt_for="big", goals=["eviction_cost"]))
    assert cheap.values == (2.0,)
    jobs[3]["priority"] = 1
    assert best(problem([2, 2], jobs, use="preempt", preempt_for="big")) is None


def test_what_runs_stays() -> None:
    jobs = [{"id": "a", "gpus_per_worker": 1, "running": runs(("n0", [0]))}, {"id": "b", "gpus_per_worker": 2, "value": 9}]
    assert solved(problem([2], jobs)).values == (1, 1)


def test_a_large_problem_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "MAX_PLANS", 10)
    with pytest.raises(RuntimeError, match="more than 10 partial plans"):
        best(problem([2, 2], [{"id": name, "gpus_per_worker": 1} for name in "abcd"]))


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize("use", Use)
def test_the_best_plan_is_right_and_has_the_values_told(use: Use) -> None:
    for seed in range(30):
        case = tiny_problem(seed, use)
        found = best(case)
        if found is not None:
            verdict = verify(case, found.plan)
            assert verdict.ok
            assert tuple(verdict.objectives.values()) == found.values


@pytest.mark.parametrize("use", [Use.place, Use.preempt])
def test_order_and_names_change_no_value(use: Use) -> None:
    for seed in range(25):
        case = tiny_problem(seed, use)
        text = case.model_copy(update={"nodes": case.nodes[::-1], "jobs": case.jobs[::-1]}).model_dump_json()
        turned = Problem.model_validate_json(text.replace('"job-', '"task-').replace('"node-', '"host-'))
        first, second = best(case), best(turned)
        assert (first and first.values) == (second and second.values)


def test_more_capacity_never_worsens_the_placed_value() -> None:
    for seed in range(25):
        case = tiny_problem(seed, Use.place).model_copy(update={"goals": (GoalName.placed_value,)})
        larger = case.model_copy(update={"nodes": (*case.nodes, Node(id="new", gpu_model="h100", gpus=1, cpu_cores=4, memory_gib=16))})
        first, second = best(case), best(larger)
        if first is not None:
            assert second is not None
            assert second.values[0] >= first.values[0]


def test_a_plan_that_changes_nothing_is_never_better_than_the_best() -> None:
    for seed in range(40):
        case = tiny_problem(seed, Use.repack)
        still = Plan.model_validate(
            {"placements": [{"job": job.id, "workers": job.running.workers} for job in case.jobs if job.running is not None]}
        )
        verdict, found = verify(case, still), best(case)
        if verdict.ok:
            assert found is not None
            goal = goals(case)[0]
            assert not goal.better(verdict.objectives[goal.name], found.values[0])

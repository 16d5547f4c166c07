"""Large parts of a plan that are packed anew: what they hold, that every answer fits the whole, and that they close gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest

from models.contract import Neighbourhood
from models.placement import scale
from models.placement.heuristic import heuristic
from models.placement.schema import GoalName, Plan, Problem, Use
from models.placement.verify import goals, verify
from optimizer import neighbourhoods, strategy
from optimizer.columns import generate
from optimizer.diving import dive
from optimizer.limits import Limits
from optimizer.solve import solve
from optimizer.study.executors.hot import HotSolver
from tests.models.placement_problems import job, middling_problem, node, problem, tiny_problem
from tests.models.test_placement_carried import edited
from tests.models.test_placement_scale import check_part
from tests.oracles.placement import best

LIMITS = Limits(time_limit_s=5.0)


def parts_of(case: Problem, plan: Plan, count: int) -> Iterator[Neighbourhood]:
    rng = Random(0)
    for _ in range(count):
        part = scale.part(case, plan, rng)
        if part is not None:
            yield part


def packed(case: Problem) -> Plan | None:
    source = scale.relaxation(case, goals(case)[0].name)
    values = None if source is None else generate(source, LIMITS).values
    packing = None if source is None or values is None else scale.packing(case, source, values, 5.0)
    if packing is None:
        return None
    rest = generate(packing.source, LIMITS)
    if rest.values is not None:
        dive(packing.begin(rest.live.program), rest.live, LIMITS)
    return packing.plan(5.0)


@pytest.mark.parametrize(("make", "count"), [(tiny_problem, 60), (middling_problem, 4)], ids=["tiny", "middling"])
def test_any_plan_of_a_part_fits_the_whole(make: Callable[[int, Use], Problem], count: int) -> None:
    seen = 0
    for seed in range(count):
        case = make(seed, Use.place)
        plan = heuristic(case)
        for part in parts_of(case, plan, 3) if plan is not None else ():
            if plan is not None:
                check_part(case, plan, part)
                seen += 1
    assert seen > count / 2


def test_a_packed_part_fits_the_whole() -> None:
    seen = 0
    for seed in range(6):
        case = middling_problem(seed, Use.place)
        plan = heuristic(case)
        for part in parts_of(case, plan, 1) if plan is not None else ():
            assert isinstance(part.problem, Problem)
            found = packed(part.problem)
            if found is not None:
                verdict = verify(case, part.merge(found))
                assert verdict.ok, (seed, verdict.violations)
                seen += 1
    assert seen > 3


def crowded() -> tuple[Problem, Plan]:
    """40 nodes of 8 GPUs with 10 cores each: half the nodes hold 5 jobs of 2 cores and have 3 GPUs to spare, the others 8 of 1 core."""
    nodes = [node(f"n{k}", 8, cpu_cores=10) for k in range(40)]
    heavy = [job(f"heavy-{k}", 1, cpu_cores=2) for k in range(100)]
    light = [job(f"light-{k}", 1, cpu_cores=1) for k in range(320)]
    case = problem(nodes, [*heavy, *light], goals=["allocated_gpus"])
    plan = scale.carried(case, Plan.model_validate({"placements": _first(20, 5, "heavy") + _first(20, 8, "light", at=20)}), 5.0)
    assert plan is not None
    return case, plan


def _first(nodes: int, per_node: int, name: str, at: int = 0) -> list[dict[str, object]]:
    return [
        {"job": f"{name}-{k}", "workers": [{"node": f"n{at + k // per_node}", "gpus": [k % per_node]}]} for k in range(nodes * per_node)
    ]


def test_the_nodes_with_the_most_idle_gpus_come_first() -> None:
    case, plan = crowded()
    for part in parts_of(case, plan, 5):
        assert isinstance(part.problem, Problem)
        assert {int(one.id[1:]) < 20 for one in part.problem.nodes} == {True}
        assert len(part.problem.nodes) == 16
        assert {one.id.split("-")[0] for one in part.problem.jobs} == {"heavy", "light"}


def test_parts_close_the_gap_that_carrying_over_leaves() -> None:
    case, plan = crowded()
    before = verify(case, plan).objectives["allocated_gpus"]
    assert before <= 270
    rng = Random(0)
    for _ in range(4):
        part = scale.part(case, plan, rng)
        if part is None:
            break
        assert isinstance(part.problem, Problem)
        found = packed(part.problem)
        merged = part.merge(found)
        verdict = verify(case, merged)
        assert verdict.ok
        if verdict.objectives["allocated_gpus"] > before:
            plan, before = merged, verdict.objectives["allocated_gpus"]
    assert before == 320


def test_of_very_many_that_wait_only_some_are_offered() -> None:
    case = problem([node(f"n{k}", 2) for k in range(30)], [job(f"j{k}", 1) for k in range(600)])
    plan = scale.carried(case, Plan.model_validate({"placements": _first(30, 2, "j")}).model_copy(), 5.0)
    plan = plan or heuristic(case)
    assert plan is not None
    part = next(parts_of(case, plan, 3))
    assert isinstance(part.problem, Problem)
    assert 32 + 4 * 16 < len(part.problem.jobs) <= 32 + 4 * 32


@pytest.mark.parametrize("use", [Use.repack, Use.preempt])
def test_only_a_placement_is_packed(use: Use) -> None:
    case = middling_problem(1, use)
    plan = heuristic(case)
    assert plan is not None
    assert list(parts_of(case, plan, 2)) == []


def test_nothing_to_pack() -> None:
    placed = problem([node("n1", 2)], [job("a", 1)])
    plan = heuristic(placed)
    assert plan is not None
    assert list(parts_of(placed, plan, 2)) == []
    nowhere = problem([node("n1", 2, state="drained")], [job("a", 1)])
    assert list(parts_of(nowhere, Plan(), 2)) == []


# ---------------------------------------------------------------- the whole path, hot


@pytest.fixture
def at_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every problem counts as a large one, and the search ends soon."""
    monkeypatch.setattr(strategy, "DIRECT_COLUMNS", -1)
    monkeypatch.setattr(neighbourhoods, "PATIENCE", 8)


@pytest.mark.usefixtures("at_scale")
def test_hot_answers_lie_on_the_right_side_of_the_best_plan() -> None:
    seen = 0
    for seed in range(20):
        case = tiny_problem(seed, Use.place).model_copy(update={"goals": (GoalName.placed_value, GoalName.allocated_gpus)})
        plan = heuristic(case)
        solver = HotSolver(case, Limits(time_limit_s=1.0, threads=1))
        rng = Random(seed)
        for _ in range(3):
            other = edited(rng, case, plan) if plan is not None else None
            expected = best(other) if other is not None and len(other.nodes) < 4 else None
            result = solver.solve(other) if other is not None and expected is not None else None
            if other is None or expected is None or result is None or result.certificate is None:
                continue
            assert isinstance(result.plan, Plan)
            assert verify(other, result.plan).ok
            first = result.certificate.goals[0]
            assert first.objective - 1e-6 <= expected.values[0] <= first.bound + 1e-6, seed
            seen += 1
    assert seen > 10


@pytest.mark.usefixtures("at_scale")
def test_a_chain_of_hot_scenarios_agrees_with_cold_ones() -> None:
    case, _ = crowded()
    limits = Limits(time_limit_s=5.0, gap=1e-3, threads=1)
    solver = HotSolver(case, limits)
    for lost in (0, 1, 6, 0):
        other = case.model_copy(update={"nodes": case.nodes[lost:]})
        hot, cold = solver.solve(other), solve(other, limits, isolate=False)
        assert hot.certificate is not None
        assert cold.certificate is not None
        assert isinstance(hot.plan, Plan)
        assert verify(other, hot.plan).ok
        assert hot.certificate.goals[0].gap <= 1e-3
        assert hot.certificate.goals[0].objective <= cold.certificate.goals[0].bound + 1e-6
        assert cold.certificate.goals[0].objective <= hot.certificate.goals[0].bound + 1e-6

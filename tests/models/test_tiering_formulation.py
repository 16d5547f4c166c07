"""The exact program: its names, its way there and back, and what it says when there is no plan."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from models.conversation import Impossible, Offered, Proved, Solve, Solved
from models.program import LinearProgram
from models.tiering import formulation
from models.tiering.blocks import program
from models.tiering.exact import converse
from models.tiering.examples import examples
from models.tiering.formulation_cells import cells_of
from models.tiering.schema import GoalName, Problem, Rule
from models.tiering.verify import verify
from optimizer.backend import ProgramStatus
from optimizer.compile import compile_model
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from optimizer.result import Conflict, Outcome
from optimizer.solve import solve
from tests.models.tiering_problems import exact, random_problem

KNOWN = {*(rule.value for rule in Rule), *formulation.LINKING, *formulation.HASTENING}


@pytest.mark.parametrize("seed", range(0, 60, 2))
def test_values_of_a_plan_are_feasible_and_worth_what_verify_says(seed: int) -> None:
    problem = random_problem(seed)
    found = exact(problem)
    if found is None:
        return
    for goal in problem.goals:
        compiled = compile_model(formulation.build(problem, goal))
        values = formulation.start(problem, found[0])
        told = {
            name: {(ids if len(ids) > 1 else ids[0]): value for ids, value in family.items()}
            for name, family in values.items()
            if name in compiled.columns
        }
        vector = compiled.vector_of(told)
        assert compiled.program.relative_violation(vector) <= 1e-6
        assert compiled.program.objective(vector) == pytest.approx(verify(problem, found[0]).objectives[goal.value], rel=1e-9, abs=1e-9)
        again = formulation.extract(problem, values)
        assert verify(problem, again).objectives == pytest.approx(verify(problem, found[0]).objectives)
        assert {block.name for block in compiled.program.row_blocks} <= KNOWN
        assert compiled.fallbacks == 0
        assert compiled.program.columns <= formulation.size(problem) + len(values["spread"])


@pytest.mark.parametrize("seed", range(1, 60, 2))
def test_rows_for_what_is_forbidden_say_what_missing_columns_say(seed: int) -> None:
    problem = random_problem(seed)
    answers = []
    for hasten in (True, False):
        program = compile_model(formulation.build(problem, hasten=hasten)).program
        result = HighsBackend().solve(program, Limits(time_limit_s=20, gap=0.0))
        answers.append(None if result.status is ProgramStatus.infeasible else result.objective)
    assert (answers[0] is None) == (answers[1] is None)
    assert answers[0] is None or answers[0] == pytest.approx(answers[1], rel=1e-6, abs=1e-9)


def test_unknown_goals_are_refused() -> None:
    problem = Problem.model_validate({"tiers": [{"id": "t", "capacity_gib": None}], "objects": []})
    with pytest.raises(ValueError, match="not among the goals"):
        formulation.build(problem, GoalName.moved_gib)
    with pytest.raises(ValueError, match="both the goal and a floor"):
        formulation.build(problem, GoalName.cost, {GoalName.cost: 1.0})


@pytest.mark.parametrize("name", examples())
def test_no_rule_is_lost_without_hastening(name: str) -> None:
    problem = examples()[name]
    blocks = {block.name for block in compile_model(formulation.build(problem, hasten=False)).program.row_blocks}
    assert {"replica_count", "tier_capacity"} <= blocks <= KNOWN


# ---------------------------------------------------------------- no plan


def refused(tiers: list[dict[str, Any]], objects: list[dict[str, Any]], **parts: Any) -> Conflict:
    problem = Problem.model_validate({"tiers": tiers, "objects": objects} | parts)
    result = solve(problem, Limits(time_limit_s=20), isolate=False)
    assert result.outcome is Outcome.infeasible
    assert result.failure is None
    assert result.conflict is not None
    assert result.conflict.status == "proved"
    return result.conflict


def one(**fields: Any) -> list[dict[str, Any]]:
    return [{"id": "a", "size_gib": 60} | fields]


def tier(name: str = "nvme", **fields: Any) -> dict[str, Any]:
    return {"id": name, "capacity_gib": 100} | fields


def test_too_little_room() -> None:
    conflict = refused([tier(), tier("hdd", capacity_gib=50)], [*one(), {"id": "b", "size_gib": 60}])
    assert set(conflict.rules) == {
        ("replica_count", ("a",)),
        ("replica_count", ("b",)),
        ("tier_capacity", ("nvme",)),
        ("tier_capacity", ("hdd",)),
    }
    assert conflict.repairs == ("raise the capacity of tier 'hdd' from 50 by 10 GiB",)


def test_too_little_bandwidth() -> None:
    conflict = refused([tier(read_gbps=1)], one(read_gbps=2))
    assert conflict.repairs == ("raise the read bandwidth of tier 'nvme' from 1 by 1 Gbit/s",)
    conflict = refused([tier(write_gbps=0.25)], one(write_gbps=2))
    assert conflict.repairs == ("raise the write bandwidth of tier 'nvme' from 0.25 by 1.75 Gbit/s",)


def test_nowhere_to_be() -> None:
    conflict = refused([tier(region="us"), tier("slow", latency_ms=9, region="eu")], one(regions=["eu"], latency_limit_ms=5))
    assert set(conflict.rules) == {
        ("replica_count", ("a",)),
        ("residency", ("a", "nvme")),
        ("latency_limit", ("a", "slow")),
    }
    conflict = refused([tier()], one(protections=["encrypted"]))
    assert set(conflict.rules) == {("replica_count", ("a",)), ("protection", ("a", "nvme"))}


def test_no_way_to_a_reader() -> None:
    reader = {"id": "r", "site": "away", "reads": [{"object": "a", "read_gbps": 3}]}
    conflict = refused([tier()], one(), readers=[reader])
    assert conflict.rules == (("reader_served", ("r", "a")),)
    assert conflict.repairs == ("let reader 'r' do without object 'a', or add a site link for it",)
    conflict = refused([tier()], one(), readers=[reader], site_links=[{"source": "site", "target": "away", "gbps": 1}])
    assert conflict.repairs == ("raise the bandwidth of the site link from 'site' to 'away' from 1 by 2 Gbit/s",)


def test_moving_and_budgets() -> None:
    tiers = [tier(usd_per_gib_month=0.1), tier("hdd", latency_ms=9)]
    now = [{"tier": "hdd"}]
    conflict = refused(tiers, one(current=now, latency_limit_ms=1), migration={"gib": 10})
    assert conflict.repairs == ("raise the migration's GiB from 10 by 50 GiB",)
    conflict = refused(tiers, one(current=now, latency_limit_ms=1), budget_usd=5)
    assert conflict.repairs == ("raise the budget of the period from 5 by 1 USD",)
    conflict = refused(tiers, one(current=[{"tier": "hdd", "stored_days": 1}], latency_limit_ms=1, minimum_stay_days=2))
    assert set(conflict.rules) == {("latency_limit", ("a", "hdd")), ("minimum_stay", ("a", "hdd"))}


def test_replicas_in_one_domain() -> None:
    """Two domains, but the latency limit leaves only one of them."""
    tiers = [tier(failure_domain="x"), tier("b", failure_domain="x"), tier("c", latency_ms=9)]
    conflict = refused(tiers, one(replicas=2, latency_limit_ms=1))
    assert set(conflict.rules) == {("failure_domain", ("a",)), ("latency_limit", ("a", "c"))}


# ---------------------------------------------------------------- the same without Pyomo


@pytest.mark.parametrize("seed", range(0, 90, 3))
def test_the_program_of_arrays_is_that_of_pyomo(seed: int) -> None:
    problem = random_problem(seed)
    floors = {problem.goals[0]: 12.5} if len(problem.goals) > 1 else {}
    compiled = compile_model(formulation.build(problem, problem.goals[-1], floors)).program
    cells = cells_of(problem)
    written = program(problem, problem.goals[-1], floors, cells)
    assert rows_by_name(written) == rows_by_name(compiled)
    for ours, theirs in ((written.cost, compiled.cost), (written.integer, compiled.integer), (written.column_upper, compiled.column_upper)):
        assert np.array_equal(ours, theirs)
    assert written.offset == compiled.offset


def rows_by_name(of: LinearProgram) -> dict[tuple[str, tuple[Any, ...]], tuple[float, float, dict[int, float]]]:
    found = {}
    for block in of.row_blocks:
        for row, ids in enumerate(block.ids, block.start):
            at = slice(int(of.starts[row]), int(of.starts[row + 1]))
            entries = {column: value for column, value in zip(of.indices[at].tolist(), of.coefficients[at].tolist(), strict=True) if value}
            found[block.name, tuple(ids)] = (float(of.row_lower[row]), float(of.row_upper[row]), entries)
    return found


@pytest.mark.parametrize("seed", range(0, 120, 4))
def test_the_conversation_of_the_exact_program(seed: int) -> None:
    """The search offers the best plan with prices, and proves every goal."""
    problem = random_problem(seed)
    found = exact(problem)
    steps = converse(problem, None)
    answer: Any = None
    offered: list[tuple[float, ...]] = []
    bounds: dict[str, float] = {}
    while True:
        try:
            step = steps.send(answer)
        except StopIteration:
            break
        answer = None
        if isinstance(step, Impossible):
            assert found is None
            return
        if isinstance(step, Solve):
            result = HighsBackend().solve(step.program, Limits(time_limit_s=20, gap=0.0), start=step.start)
            answer = Solved(result.status.value, result.values, result.objective, result.bound, result.row_duals, result.reduced_costs)
        elif isinstance(step, Offered):
            verdict = verify(problem, step.plan)
            assert verdict.ok
            offered.append(tuple(verdict.objectives.values()))
        elif isinstance(step, Proved):
            bounds[step.goal] = max(bounds.get(step.goal, -math.inf), step.bound)
    assert found is not None
    assert offered[-1] == pytest.approx(found[1], rel=1e-6, abs=1e-6)
    assert [bounds[goal.value] for goal in problem.goals] == pytest.approx(found[1], rel=1e-6, abs=1e-6)

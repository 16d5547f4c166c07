"""The three uses, each on its example: placed, repacked, preempted, and proved best."""

from __future__ import annotations

import pytest

from models.placement.examples import examples
from models.placement.schema import Plan, Problem, Use
from optimizer.limits import Limits
from optimizer.result import Outcome, Result
from optimizer.solve import solve


def _solved(problem: Problem) -> tuple[Result, Plan]:
    result = solve(problem, Limits(time_limit_s=20), isolate=False)
    assert result.outcome is Outcome.optimal
    assert isinstance(result.plan, Plan)
    return result, result.plan


def test_there_is_one_example_for_each_use() -> None:
    assert {name: problem.use for name, problem in examples().items()} == {use.value: use for use in Use}


@pytest.mark.parametrize("name", list(examples()))
def test_an_example_reads_back_as_it_is_printed(name: str) -> None:
    problem = examples()[name]
    assert Problem.model_validate_json(problem.model_dump_json()) == problem


def test_place_leaves_the_running_job_where_it_is() -> None:
    problem = examples()["place"]
    result, plan = _solved(problem)
    batch = next(placement for placement in plan.placements if placement.job == "batch")
    running = next(job.running for job in problem.jobs if job.id == "batch")
    assert running is not None
    assert batch.workers == running.workers
    assert result.verdict is not None
    assert result.verdict.objectives["placed_value"] == pytest.approx(103.8)


def test_repack_lets_the_large_job_in_with_the_cheapest_single_move() -> None:
    result, plan = _solved(examples()["repack"])
    assert "train" in {placement.job for placement in plan.placements}
    assert plan.moved == ("web",)
    assert result.verdict is not None
    assert result.verdict.metrics["gained_gpus"] == pytest.approx(4.0)


def test_preempt_evicts_the_fewest_and_the_named_job_really_fits() -> None:
    result, plan = _solved(examples()["preempt"])
    assert sorted(plan.evicted) == ["batch", "tune-a", "tune-b"]
    urgent = next(placement for placement in plan.placements if placement.job == "urgent")
    assert sorted(worker.node for worker in urgent.workers) == ["n1", "n2"]
    assert result.certificate is not None
    assert [goal.bound for goal in result.certificate.goals] == [3.0, 3.0]

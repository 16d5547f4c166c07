"""Problems solved together have the answers that they have alone, each with its certificate."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from benchmarks.batch import Size, measure, measured, table
from benchmarks.fairshare import unlike
from models.catalogue import kind_of
from models.linear.examples import lp, mip
from models.linear.schema import Problem
from optimizer.limits import Limits
from optimizer.result import Outcome, Result, StopReason
from optimizer.solve import COUNTING, solve
from optimizer.study.executors.batch_engine import METHODS, solve_together

pytest.importorskip("torch")

LIMITS = Limits(time_limit_s=20.0)


def capacities(jobs: int, *counts: tuple[int, ...]) -> list[Any]:
    """A problem of fairness for each vector of GPUs."""
    base = unlike(jobs, len(counts[0]))
    return [
        base.model_copy(
            update={
                "accelerators": tuple(one.model_copy(update={"count": count}) for one, count in zip(base.accelerators, own, strict=True))
            }
        )
        for own in counts
    ]


def agrees(problem: Any, together: Result) -> None:
    """Plans hold, and each side's plan is within the other side's bound in the first goal."""
    alone = solve(problem, LIMITS, isolate=False)
    assert together.plan is not None
    assert kind_of(problem).verify(problem, together.plan).ok
    assert together.certificate is not None
    assert alone.certificate is not None
    mine, other = together.certificate.goals[0], alone.certificate.goals[0]
    assert mine.gap <= 2e-4
    slack = 2e-6 * max(1.0, abs(mine.objective))
    low, high = sorted((mine.objective, mine.bound))
    assert low - slack <= other.bound
    assert other.objective <= high + slack


def test_fairness_levels() -> None:
    problems = capacities(30, (5, 5, 5), (8, 3, 5), (2, 2, 2), (30, 30, 30))
    for problem, result in zip(problems, solve_together(problems, LIMITS, device="cpu"), strict=True):
        agrees(problem, result)
        assert result.certificate is not None
        assert result.certificate.goals[0].method in {*METHODS.values(), COUNTING}
        assert "fair_slack" in result.message
        assert result.stop_reason is StopReason.gap
        assert result.failure is None


def test_linear_programs_of_any_shape_and_sense() -> None:
    base = lp()
    richer = base.model_copy(update={"rows": base.rows.model_copy(update={"upper": (1500.0, 900.0, None)})})
    results = solve_together([base, richer, base], LIMITS, device="cpu")
    for problem, result in zip([base, richer, base], results, strict=True):
        agrees(problem, result)
        assert result.outcome is Outcome.optimal


def test_what_is_no_linear_program_is_solved_alone() -> None:
    whole, fractional = solve_together([mip(), lp()], LIMITS, device="cpu")
    assert whole.outcome is Outcome.optimal
    assert "not for a batch: its exact program has integer columns" in whole.message
    assert fractional.outcome is Outcome.optimal
    assert not fractional.message.startswith("not for")


def test_infeasible_and_unbounded_problems_keep_their_answers() -> None:
    impossible = lp().model_dump() | {"rows": {"names": ("a", "b", "c"), "lower": (1300.0, 0.0, 0.0), "upper": (1400.0, 10.0, None)}}
    endless = {"sense": "maximise", "columns": {"cost": (1.0, 1.0)}, "rows": {"upper": (4.0,)}} | {
        "entries": {"rows": (0, 0), "columns": (0, 1), "values": (1.0, -1.0)}
    }
    problems = [Problem.model_validate(impossible), lp(), Problem.model_validate(endless)]
    outcomes = [result.outcome for result in solve_together(problems, LIMITS, device="cpu")]
    assert outcomes == [Outcome.infeasible, Outcome.optimal, Outcome.unbounded]


def test_several_goals_in_order() -> None:
    from models.fairshare.examples import cluster

    problem = cluster()
    agrees(problem, solve_together([problem], LIMITS, device="cpu")[0])


def test_the_benchmark_measures_every_engine(tmp_path: Path) -> None:
    row = measured(Size("tiny", 20, 3, 3))
    assert [engine["closed"] for engine in row["engines"][:2]] == [3, 3]
    assert all(engine["met"] for engine in row["engines"])
    assert row["scenarios"] == 3
    assert table(row).row_count == len(row["engines"])
    assert measure("nothing of the kind", tmp_path / "none.json") == 2
    assert not (tmp_path / "none.json").exists()


def test_no_problems_and_cancelling() -> None:
    assert solve_together([], LIMITS, device="cpu") == []
    cancel = threading.Event()
    cancel.set()
    found = solve_together([lp()], LIMITS, device="cpu", cancel=cancel)[0]
    assert found.stop_reason is StopReason.cancelled or found.outcome is Outcome.optimal

"""What becomes of a solve when a search, a heuristic, a proof or an explanation goes wrong: the plan is kept, or nothing is claimed."""

from __future__ import annotations

from typing import Any

import pytest

from models.catalogue import UnknownKindError
from models.vocabulary import Document
from optimizer.result import Outcome, Progress, StopReason
from optimizer.solve import solve
from tests.optimizer import rogues
from tests.optimizer.conftest import Rogue
from tests.optimizer.rogues import BEST, TWICE
from tests.optimizer.solving import check_certificate, check_progress, limits, objectives
from tests.optimizer.toy_kind import KIND, explain, formulation, heuristic
from tests.optimizer.toy_kind.schema import Plan, example

pytestmark = pytest.mark.usefixtures("toy_kind")


def test_the_last_plan_survives_a_crash(rogue: Rogue) -> None:
    rogue(rogues.abort)
    result = solve(example(), limits())
    assert (result.outcome, result.stop_reason, result.plan) == (Outcome.feasible, StopReason.crash, BEST)
    assert result.failure is not None
    assert "SIGABRT" in result.failure
    check_certificate(result, KIND, example())


@pytest.mark.parametrize("isolate", [True, False])
def test_the_last_plan_survives_an_exception(rogue: Rogue, isolate: bool) -> None:
    rogue(rogues.raise_error)
    result = solve(example(), limits(), isolate=isolate)
    assert (result.outcome, result.stop_reason, result.plan) == (Outcome.feasible, StopReason.crash, BEST)
    assert result.failure is not None
    assert "a bug of this test" in result.failure


def test_a_heuristic_that_raises_is_reported_and_the_search_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Plan:
        raise ZeroDivisionError("a bug of this test")

    monkeypatch.setattr(heuristic, "heuristic", broken)
    result = solve(example(), limits(), isolate=False)
    assert result.plan is not None
    assert objectives(result) == (13.0, 13.0)
    assert result.failure is not None
    assert "a bug of this test" in result.failure


def test_a_heuristic_plan_that_breaks_a_rule_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heuristic, "heuristic", lambda *_: TWICE)
    result = solve(example(), limits(), isolate=False)
    assert objectives(result) == (13.0, 13.0)
    assert result.failure is not None
    assert "a is packed 2 times" in result.failure


@pytest.mark.parametrize("isolate", [True, False])
def test_a_plan_that_breaks_a_rule_is_a_failed_run(rogue: Rogue, isolate: bool) -> None:
    rogue(rogues.break_a_rule)
    result = solve(example(), limits(), isolate=isolate)
    assert (result.outcome, result.stop_reason) == (Outcome.no_plan, StopReason.crash)
    assert (result.plan, result.certificate, result.verdict, result.reasons) == (None, None, None, ())
    assert result.failure is not None
    assert "a is packed 2 times" in result.failure
    assert "rogue" in result.failure


def test_a_program_that_disagrees_with_verify_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search's own check refuses what the exact program calls feasible: the plan before stands, and the run says so."""
    monkeypatch.setattr(formulation, "extract", lambda *_: TWICE)
    result = solve(example(), limits(), isolate=False)
    assert objectives(result) == (11.0, 10.0)
    assert result.failure is not None
    assert "a plan of phase 'worth' was refused: a is packed 2 times" in result.failure


def test_a_plan_beyond_its_bound_is_a_failed_run(rogue: Rogue) -> None:
    rogue(rogues.prove_too_much)
    result = solve(example(), limits())
    assert (result.outcome, result.stop_reason, result.plan, result.certificate) == (Outcome.no_plan, StopReason.crash, None, None)
    assert result.failure is not None
    assert "a wrong proof" in result.failure


def test_a_plan_beyond_the_bound_of_a_later_goal_is_a_failed_run(rogue: Rogue) -> None:
    rogue(rogues.prove_too_much_of_the_second_goal)
    result = solve(example(), limits())
    assert (result.outcome, result.stop_reason, result.plan) == (Outcome.no_plan, StopReason.crash, None)
    assert result.failure is not None
    assert "weight" in result.failure


def test_a_plan_worth_less_than_was_told_is_a_failed_run(rogue: Rogue) -> None:
    rogue(rogues.boast)
    result = solve(example(), limits())
    assert (result.outcome, result.stop_reason, result.plan) == (Outcome.no_plan, StopReason.crash, None)
    assert result.failure is not None
    assert "was told to have worth 12, it has 9" in result.failure


def test_progress_is_monotone_whatever_the_search_reports(rogue: Rogue) -> None:
    rogue(rogues.go_back)
    heard: list[Progress] = []
    result = solve(example(), limits(), heard.append)
    check_progress(heard)
    assert result.plan == BEST
    assert result.certificate is not None
    assert result.certificate.bound == 14.0


def test_an_explanation_that_fails_does_not_lose_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> tuple[()]:
        raise LookupError("a bug of this test")

    monkeypatch.setattr(explain, "explain", broken)
    result = solve(example(), limits())
    assert (result.outcome, objectives(result)) == (Outcome.optimal, (13.0, 13.0))
    assert result.failure is not None
    assert "LookupError: a bug of this test" in result.failure


@pytest.mark.parametrize("isolate", [True, False])
@pytest.mark.parametrize("phase", ["counting", "worth"])
def test_what_the_listener_raises_is_the_callers(isolate: bool, phase: str) -> None:
    def on_progress(step: Progress) -> None:
        if step.phase == phase:
            raise RuntimeError("the listener's own")

    with pytest.raises(RuntimeError, match="the listener's own"):
        solve(example(), limits(), on_progress, isolate=isolate)


def test_a_problem_of_no_kind_is_refused() -> None:
    class Stray(Document):
        pass

    with pytest.raises(UnknownKindError, match="Stray belongs to no kind"):
        solve(Stray(), limits())

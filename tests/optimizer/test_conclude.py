"""An answer from what a solve had told before its process was gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optimizer.incumbents import Bounded, Found, Message, Refuted, Searched
from optimizer.result import Conflict, Outcome, StopReason
from optimizer.solve import conclude, solve
from tests.optimizer.solving import check_certificate, limits
from tests.optimizer.toy_kind import KIND
from tests.optimizer.toy_kind.schema import GoalName, Problem, example

pytestmark = pytest.mark.usefixtures("toy_kind")


def told() -> tuple[Problem, list[Message]]:
    of = example().model_copy(update={"goals": (GoalName.worth,)})
    heard: list[Message] = []
    solve(of, limits(), isolate=False, on_message=heard.append)
    return of, heard


def test_a_solve_tells_all_that_its_answer_rests_on() -> None:
    of, heard = told()
    assert isinstance(heard[-1], Searched)
    result = conclude(of, limits(), heard, stop_reason=StopReason.crash, seconds=3.0, failure="the process was killed")
    assert (result.outcome, result.stop_reason) == (Outcome.optimal, StopReason.gap)
    assert result.failure == "the process was killed"
    assert result.seconds >= 3.0
    assert result.reasons
    check_certificate(result, KIND, of)


@pytest.mark.parametrize("reason", [StopReason.deadline, StopReason.cancelled, StopReason.memory])
def test_without_the_last_bound_the_plan_is_feasible_and_the_reason_is_the_one_given(reason: StopReason) -> None:
    of, heard = told()
    only_plans = [message for message in heard if isinstance(message, Found)]
    result = conclude(of, limits(), only_plans, stop_reason=reason, seconds=1.0)
    assert (result.outcome, result.stop_reason, result.failure) == (Outcome.feasible, reason, None)
    check_certificate(result, KIND, of)


def test_a_plan_that_was_told_wrongly_is_a_bug_report_and_no_answer() -> None:
    of, heard = told()
    wrong = [replace(message, objectives=(message.objectives[0] + 5.0,)) for message in heard if isinstance(message, Found)]
    result = conclude(of, limits(), wrong, stop_reason=StopReason.deadline, seconds=1.0)
    assert (result.outcome, result.stop_reason, result.plan) == (Outcome.no_plan, StopReason.crash, None)
    assert result.failure is not None
    assert "was told to have" in result.failure


def test_a_bound_that_the_plan_beats_is_a_bug_report_and_no_answer() -> None:
    of, heard = told()
    best = [message for message in heard if isinstance(message, Found)][-1]
    beaten = Bounded(0.1, "test", "worth", best.objectives[0] - 1.0, "made up")
    result = conclude(of, limits(), [beaten, best], stop_reason=StopReason.deadline, seconds=1.0)
    assert result.plan is None
    assert result.failure is not None
    assert "beyond its bound" in result.failure


def test_a_refutation_survives_the_process() -> None:
    of, _ = told()
    conflict = Conflict((("weight", ("bag",)),), ("take less",), "proved")
    result = conclude(of, limits(), [Refuted(conflict)], stop_reason=StopReason.crash, seconds=1.0)
    assert (result.outcome, result.conflict) == (Outcome.infeasible, conflict)

"""Directions without end, and what a solve makes of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from models.linear.schema import Columns, Problem
from models.program import LinearProgram
from optimizer.highs import HighsBackend
from optimizer.incumbents import Bounded, Found, Message, Unlimited
from optimizer.limits import Limits
from optimizer.recession import checked, improving_recession
from optimizer.result import Outcome, StopReason
from optimizer.solve import conclude, solve
from optimizer.task import Task
from tests.optimizer.conftest import Rogue
from tests.optimizer.oracle import from_dense, random_program, truth
from tests.optimizer.solving import limits, objectives
from tests.optimizer.toy_kind.schema import Plan as Bags
from tests.optimizer.toy_kind.schema import example

INF = np.inf
DIRECTION = "the goal worth grows by 1 with each step of pack[a,large] +1, and no limit ever stops these steps"


def program(
    matrix: list[list[float]], rows: tuple[list[float], list[float]], columns: tuple[list[float], list[float]], cost: list[float]
) -> LinearProgram:
    return from_dense(
        np.array(matrix, dtype=np.float64).reshape(len(rows[0]), len(cost)),
        (np.array(rows[0]), np.array(rows[1])),
        (np.array(columns[0]), np.array(columns[1])),
        np.array(cost),
        np.zeros(len(cost), dtype=np.bool_),
    )


def test_a_direction_is_found_and_obeys_every_side() -> None:
    one = program([[1.0, -2.0]], ([0.0], [0.0]), ([0.0, 0.0], [INF, INF]), [-1.0, -1.0])
    found = improving_recession(one, HighsBackend(), Limits())
    assert found is not None
    np.testing.assert_allclose(found.steps, [1.0, 0.5])
    assert found.gain == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("steps", "fine"),
    [([2.0, 1.0], True), ([1.0, 1.0], False), ([-2.0, -1.0], False), ([0.0, 0.0], False), ([np.nan, 1.0], False), ([2e-9, 1e-9], True)],
)
def test_directions_are_checked_in_numpy(steps: list[float], fine: bool) -> None:
    one = program([[1.0, -2.0]], ([0.0], [0.0]), ([0.0, 0.0], [INF, INF]), [-1.0, -1.0])
    assert (checked(one, np.array(steps)) is not None) == fine
    assert checked(replace(one, cost=np.zeros(2)), np.array(steps)) is None
    assert (checked(replace(one, cost=np.ones(2), maximise=True), np.array(steps)) is not None) == fine


def test_unbounded_programs_have_one_and_others_none() -> None:
    counts = {"optimal": 0, "infeasible": 0, "unbounded": 0}
    for seed in range(300):
        rng = np.random.default_rng(seed)
        one = random_program(rng, integers=seed % 2, continuous=2)
        status = truth(one).status
        counts[status] += 1
        found = improving_recession(one, HighsBackend(), Limits())
        if status != "infeasible":
            assert (found is not None) == (status == "unbounded"), seed
    assert min(counts.values()) > 10


def search(*messages: Message) -> Callable[..., None]:
    def stand_in(_: Task, send: Callable[[Message], None], __: threading.Event) -> None:
        for message in messages:
            send(message)

    return stand_in


@pytest.mark.usefixtures("toy_kind")
def test_without_a_plan_nothing_is_called_unbounded(rogue: Rogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.optimizer.toy_kind.heuristic.heuristic", lambda *_: None)
    monkeypatch.setattr("tests.optimizer.toy_kind.heuristic.simple_bounds", lambda *_: {})
    rogue(search(Unlimited("worth", DIRECTION)))
    result = solve(example(), limits(), isolate=False)
    assert (result.outcome, result.plan) == (Outcome.no_plan, None)


@pytest.mark.usefixtures("toy_kind")
def test_from_a_verified_plan_it_is(rogue: Rogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.optimizer.toy_kind.heuristic.simple_bounds", lambda *_: {})
    rogue(search(Unlimited("worth", DIRECTION)))
    heard: list[Message] = []
    result = solve(example(), limits(), isolate=False, on_message=heard.append)
    assert (result.outcome, result.stop_reason, result.plan, result.certificate) == (Outcome.unbounded, StopReason.gap, None, None)
    assert result.message == DIRECTION
    assert Unlimited("worth", DIRECTION) in heard
    again = conclude(example(), limits(), heard, stop_reason=StopReason.deadline, seconds=1.0)
    assert (again.outcome, again.stop_reason, again.message) == (Outcome.unbounded, StopReason.gap, DIRECTION)


@pytest.mark.usefixtures("toy_kind")
def test_a_goal_with_a_bound_is_not_unbounded(rogue: Rogue) -> None:
    rogue(search(Unlimited("worth", DIRECTION), Bounded(0.1, "rogue", "worth", 20.0, "a proof")))
    result = solve(example(), limits(), isolate=False)
    assert (result.outcome, result.stop_reason) == (Outcome.no_plan, StopReason.crash)
    assert result.failure is not None
    assert "unlimited, and it has a bound" in result.failure


@pytest.mark.usefixtures("toy_kind")
def test_a_plan_that_says_more_replaces_an_equal_one_and_no_better_one(rogue: Rogue) -> None:
    first = solve(example(), limits(), isolate=False)
    assert isinstance(first.plan, Bags)
    twin = Bags(packed=tuple(reversed(first.plan.packed)))
    worse = Bags(packed=first.plan.packed[:1])
    values = objectives(first)
    found = Found(0.1, "rogue", first.plan, values)
    for says_more, expected in ((False, first.plan), (True, twin)):
        rogue(search(found, Found(0.2, "rogue", twin, values, says_more), Found(0.3, "rogue", worse, (1.0, 1.0), says_more)))
        assert solve(example(), limits(), isolate=False).plan == expected


def test_a_spawned_solve_tells_it_too() -> None:
    result = solve(Problem(columns=Columns(cost=(-1.0,))), limits())
    assert (result.outcome, result.plan) == (Outcome.unbounded, None)
    assert result.message.startswith("the goal objective falls by 1 with each step of value[x0] +1")

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.contract import NewColumns, RowEdits
from models.conversation import Again, ColumnEdits, Conversation, Endless, Generate, Impossible, NewRows, Offered, Proved, Solve, Solved
from models.program import LinearProgram
from models.program_builder import ProductIds, ProgramBuilder
from optimizer.conversation import Talk, answered
from optimizer.incumbents import Bounded, Found, Incumbents, Message, Rejected, Unlimited
from optimizer.limits import Deadline, Limits
from tests.optimizer import toy_kind
from tests.optimizer.cutting_stock import Cutting, random_stock
from tests.optimizer.toy_kind.schema import Bag, GoalName, Packed, Plan, Problem, Thing

BAGS = Problem(things=(Thing(id="a", weight_g=3, worth_usd=5),), bags=(Bag(id="b", capacity_g=4),), goals=(GoalName.worth,))
RIGHT, WRONG = Plan(packed=(Packed(thing="a", bag="b"),)), Plan(packed=(Packed(thing="a", bag="b"), Packed(thing="a", bag="b")))
EVERYTHING = Limits(time_limit_s=20, gap=1e-6)


class Talked:
    """A conversation held through the driver: its messages, and whether it was refuted."""

    def __init__(self, steps: Callable[[], Conversation], limits: Limits = EVERYTHING, cancel: threading.Event | None = None) -> None:
        self.messages: list[Message] = []
        self.refuted = False
        incumbents = Incumbents(toy_kind.KIND, BAGS, self.messages.append)
        kind: Any = SimpleNamespace(part=lambda _: SimpleNamespace(converse=lambda *_: steps()))
        Talk(kind, incumbents, limits, Deadline.after(limits.time_limit_s), cancel or threading.Event(), self._refute).run()
        self.incumbents = incumbents

    def _refute(self) -> None:
        self.refuted = True

    def of(self, kind: type[Message]) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]


def knapsack(*, integer: bool = False) -> LinearProgram:
    """Maximise 3x + 2y with x + y <= 4, x <= 2.5."""
    builder = ProgramBuilder(maximise=True)
    builder.add_columns("x", ProductIds(range(2)), cost=[3.0, 2.0], upper=[2.5, np.inf], integer=integer)
    builder.add_rows("room", ProductIds(range(1)), upper=4.0, row_index=[0, 0], column_index=[0, 1])
    return builder.build()


def said(*steps: Any) -> tuple[list[Any], Callable[[], Conversation]]:
    """A conversation of the given steps, and the list that its answers go to."""
    answers: list[Any] = []

    def converse() -> Conversation:
        for step in steps:
            answers.append((yield step))  # noqa: PERF401 - a generator that is driven, not consumed

    return answers, converse


def test_a_program_is_solved_with_bound_and_duals() -> None:
    answers, steps = said(Solve(knapsack()), Solve(knapsack(integer=True)))
    Talked(steps)
    relaxed, whole = answers
    assert relaxed.status == whole.status == "optimal"
    assert relaxed.objective == pytest.approx(10.5)
    assert relaxed.bound == pytest.approx(10.5)
    assert relaxed.row_duals.tolist() == pytest.approx([2.0])
    assert whole.objective == pytest.approx(10.0)
    assert whole.row_duals is None


def test_a_kept_program_is_edited_in_the_order_of_the_fields() -> None:
    column = NewColumns(np.array([5.0]), np.zeros(1), np.ones(1), np.array([0, 1]), np.array([0]), np.array([1.0]), 0.0)
    row = NewRows(np.array([-np.inf]), np.array([2.0]), np.array([0, 2]), np.array([0, 2]), np.array([1.0, 1.0]))
    answers, steps = said(
        Solve(knapsack(), keep="k"),
        Again("k", new_columns=column),
        Again("k", new_rows=row),
        Again("k", row_edits=RowEdits(np.array([0]), np.array([-np.inf]), np.array([3.0]))),
        Again("k", column_edits=ColumnEdits(np.array([1]), upper=np.array([0.5]), cost=np.array([1.0]))),
        Again("k", column_edits=ColumnEdits(np.array([1]), lower=np.array([0.25]))),
    )
    Talked(steps)
    # x=2.5 y=1.5; z=1 takes y's room; x + z <= 2; room 3; y at most half and cheap.
    assert [one.objective for one in answers] == pytest.approx([10.5, 13.5, 12.0, 10.0, 8.5, 8.5])
    assert [one.bound for one in answers] == pytest.approx([10.5, 13.5, 12.0, 10.0, 8.5, 8.5])


def test_a_network_is_solved_in_whole_numbers_and_what_is_none_is_refused() -> None:
    builder = ProgramBuilder()
    builder.add_columns("arc", ProductIds(range(3)), cost=[1.0, 1.0, 3.0], upper=[2.0, 2.0, 5.0])
    builder.add_rows(
        "balance",
        ProductIds(range(3)),
        lower=[3.0, 0.0, -3.0],
        upper=[3.0, 0.0, -3.0],
        row_index=[0, 1, 1, 2, 0, 2],
        column_index=[0, 0, 1, 1, 2, 2],
        coefficient=[1, -1, 1, -1, 1, -1],
    )
    answers, steps = said(Solve(builder.build(), method="network"), Solve(knapsack(), method="network"))
    Talked(steps)
    assert answers[0].objective == 2 * 2 + 3
    assert answers[0].values.tolist() == [2, 2, 1]
    assert answers[1].status == "error"
    assert answers[1].values is None


def test_columns_are_generated_and_bounds_told_under_the_goal() -> None:
    source = Cutting(random_stock(np.random.default_rng(1)), 1000)
    answers, steps = said(Generate(source), Generate(source, goal="worth", method_text="by columns"))
    talked = Talked(steps)
    assert answers[0].status == "optimal"
    assert answers[0].objective == pytest.approx(answers[0].bound)
    assert {message.method for message in talked.of(Bounded)} == {"by columns"}


def test_only_right_plans_count_and_closed_goals_are_told() -> None:
    answers, steps = said(
        Offered(WRONG, "mine"), Offered(RIGHT, "mine"), Offered(RIGHT, "mine"), Proved("worth", 7.0, "m"), Proved("worth", 5.0, "m")
    )
    talked = Talked(steps)
    assert answers == [False, True, False, False, True]
    assert [message.plan for message in talked.of(Found)] == [RIGHT]
    assert len(talked.of(Rejected)) == 1
    assert [message.bound for message in talked.of(Bounded)] == [7.0, 5.0]


def test_impossible_ends_and_asks_for_the_reasons() -> None:
    answers, steps = said(Impossible(), Solve(knapsack()))
    assert Talked(steps).refuted
    assert answers == []


def test_endless_ends_and_says_along_what() -> None:
    answers, steps = said(Offered(RIGHT, "mine"), Endless("worth", "more of everything"), Solve(knapsack()))
    talked = Talked(steps)
    assert [(message.goal, message.direction) for message in talked.of(Unlimited)] == [("worth", "more of everything")]
    assert len(answers) == 1


def test_a_deadline_closes_the_search_and_keeps_what_it_has() -> None:
    closed: list[bool] = []

    def steps() -> Iterator[Any]:
        try:
            yield Offered(RIGHT, "mine")
            while True:
                time.sleep(0.02)
                yield Proved("worth", 6.0, "m")
        finally:
            closed.append(True)

    talked = Talked(steps, Limits(time_limit_s=0.3))  # type: ignore[arg-type]
    assert closed == [True]
    assert talked.incumbents.plan == RIGHT


def test_cancelling_closes_the_search() -> None:
    cancel = threading.Event()
    heard: list[Solved] = []

    def steps() -> Conversation:
        heard.append((yield Solve(knapsack())))
        cancel.set()
        heard.append((yield Solve(knapsack())))
        heard.append((yield Solve(knapsack())))

    Talked(steps, cancel=cancel)
    assert len(heard) <= 2


def test_incumbents_of_an_integer_program_are_heard() -> None:
    answers, steps = said(Solve(knapsack(integer=True), heard=lambda values: RIGHT if values[0] >= 1 else None, phase="heard"))
    talked = Talked(steps)
    assert [message.phase for message in talked.of(Found)] == ["heard"]
    assert answers[0].status == "optimal"


def test_a_conversation_about_no_plan_returns_its_value() -> None:
    def steps() -> Any:
        first = yield Solve(knapsack(), keep="sack")
        second = yield Again("sack", row_edits=RowEdits(np.array([0]), np.array([-np.inf]), np.array([5.0])))
        return first.objective, second.objective

    assert answered(steps(), EVERYTHING) == (pytest.approx(10.5), pytest.approx(12.5))
    with pytest.raises(TypeError, match="asked for Offered"):
        answered((step for step in (Offered(RIGHT, "x"),)), EVERYTHING)

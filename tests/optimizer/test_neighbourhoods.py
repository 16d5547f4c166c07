"""Neighbourhoods: a poor plan gets better part by part, by the exact program of each part, and the search knows when to end."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

from models.contract import Neighbourhood
from optimizer import neighbourhoods
from optimizer.columns import generate
from optimizer.incumbents import Found, Incumbents, Message, Rejected
from optimizer.limits import Deadline, Limits
from optimizer.neighbourhoods import improve
from tests.optimizer.toy_kind import KIND, scale
from tests.optimizer.toy_kind.heuristic import heuristic
from tests.optimizer.toy_kind.schema import GoalName, Packed, Plan, Problem, example, hard

LIMITS = Limits(time_limit_s=30, gap=0.01)


def begun(problem: Problem, sent: list[Message]) -> Incumbents:
    incumbents = Incumbents(KIND, problem, sent.append)
    assert incumbents.offer(heuristic(problem), "heuristic")
    return incumbents


def run(incumbents: Incumbents, seconds: float = 30.0, cancel: threading.Event | None = None, seed: int = 0) -> int:
    return improve(KIND, incumbents, random.Random(seed), LIMITS, Deadline.after(seconds), cancel or threading.Event())


def test_a_poor_plan_gets_better_until_it_is_closed() -> None:
    problem = hard(4, 24)
    problem = problem.model_copy(update={"goals": (GoalName.worth,)})
    sent: list[Message] = []
    incumbents = begun(problem, sent)
    assert incumbents.objectives is not None
    first = incumbents.objectives[0]
    bound = generate(scale.Relaxation(problem), LIMITS).bound
    incumbents.bound(incumbents.goals[0], bound, "column generation", "relaxation")
    assert not incumbents.closed(LIMITS.gap)
    assert run(incumbents) >= 1
    assert incumbents.closed(LIMITS.gap)
    found = [message.objectives[0] for message in sent if isinstance(message, Found)]
    assert found[0] == first
    assert found == sorted(set(found))
    assert incumbents.rejected == 0
    assert KIND.verify(problem, incumbents.plan).ok


def test_nothing_is_done_when_the_plan_is_closed() -> None:
    problem = example()
    incumbents = begun(problem, [])
    assert incumbents.objectives is not None
    for goal, value in zip(incumbents.goals, incumbents.objectives, strict=True):
        incumbents.bound(goal, value, "chosen by this test", "test")
    assert run(incumbents) == 0


def test_the_search_ends_when_nothing_is_gained_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbourhoods, "PATIENCE", 5)
    incumbents = begun(example(), [])
    assert run(incumbents) >= 5
    assert incumbents.objectives == (13.0, 13.0)


def test_draws_that_come_to_nothing_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "neighbourhoods", lambda *_: lambda *_: None)
    assert run(begun(example(), [])) == 0


def test_time_and_cancel_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbourhoods, "PATIENCE", 10**9)
    began = time.monotonic()
    run(begun(example(), []), seconds=0.5)
    assert 0.4 < time.monotonic() - began < 5
    cancel = threading.Event()
    cancel.set()
    assert run(begun(example(), []), cancel=cancel) == 0


def test_the_same_seed_makes_the_same_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbourhoods, "PATIENCE", 3)
    plans = []
    for _ in range(2):
        incumbents = begun(hard(4, 10), [])
        run(incumbents, seed=7)
        plans.append(incumbents.plan)
    assert plans[0] == plans[1]


def test_a_merge_that_breaks_a_rule_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part's answer is right, what the merge makes of it is not: the incumbent stays and the complaint is kept."""
    monkeypatch.setattr(neighbourhoods, "PATIENCE", 3)
    honest = scale.neighbourhoods

    def careless(problem: Problem, plan: Plan) -> Any:
        source = honest(problem, plan)

        def draw(rng: random.Random, size: float) -> Neighbourhood | None:
            part = source(rng, size)
            assert part is not None
            twice = Packed(thing="a", bag="large")
            return Neighbourhood(part.problem, part.plan, lambda found: Plan(packed=(*found.packed, twice, twice)))

        return draw

    monkeypatch.setattr(scale, "neighbourhoods", careless)
    sent: list[Message] = []
    incumbents = begun(example(), sent)
    before = incumbents.plan
    run(incumbents)
    assert [message.phase for message in sent if isinstance(message, Rejected)] == ["neighbourhoods"]
    assert incumbents.plan == before
    assert incumbents.rejected >= 1
    assert "a is packed" in incumbents.complaint


def watched(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The sizes asked for, as they are asked for."""
    sizes: list[float] = []
    honest = scale.neighbourhoods

    def source_of(problem: Problem, plan: Plan) -> Any:
        source = honest(problem, plan)

        def draw(rng: random.Random, size: float) -> Neighbourhood | None:
            sizes.append(size)
            return source(rng, size)

        return draw

    monkeypatch.setattr(scale, "neighbourhoods", source_of)
    return sizes


def test_parts_that_are_solved_at_once_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = watched(monkeypatch)
    monkeypatch.setattr(neighbourhoods, "PATIENCE", 30)
    run(begun(example(), []))
    assert sizes[0] == 1.0
    assert sizes[-1] > sizes[0]
    assert max(sizes) <= neighbourhoods.LARGEST


def test_parts_that_run_out_of_time_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = watched(monkeypatch)
    monkeypatch.setattr(neighbourhoods, "PATIENCE", 30)
    monkeypatch.setattr(neighbourhoods, "PART_SECONDS", 1e-4)
    run(begun(hard(6, 24), []))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == neighbourhoods.SMALLEST

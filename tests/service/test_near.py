"""Runs of one study in one child: the base is read once, the solver stays hot, and nothing else is another than cold."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from models.catalogue import kind
from models.contract import ContradictionError
from optimizer.limits import Limits
from optimizer.study.rows import Change
from optimizer.study.scenarios.changes import applied
from service import tasks
from service.runs import derived
from service.studies import asks_task
from service.studies.near import Near
from tests.optimizer.study.small import UPPER, base
from tests.service.api.study_documents import document
from tests.service.small_cluster import cluster

LIMITS: dict[str, Any] = {"time_limit_s": 20.0, "gap": 1e-4, "seed": 0, "threads": 1, "memory_gib": None}


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    Near.held = None
    yield
    Near.held = None


def solve(text: bytes, kind_name: str, *changes: Change) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    told: list[dict[str, Any]] = []
    payload = {"kind": kind_name, "problem": text, "limits": LIMITS, "warm_start": None}
    payload["changes"] = derived.written(changes) if changes else None
    return tasks.solve(payload, told.append, threading.Event()), told


def test_runs_of_one_base_are_answered_by_onesolver() -> None:
    text = base().model_dump_json().encode()
    for most in (3.0, 7.0, 2.0, 60.0):
        found, told = solve(text, "program", Change("set", UPPER, most))
        assert (found["figures"]["outcome"], found["figures"]["objective"]) == ("optimal", pytest.approx(most))
        assert {"plan", "certificate", "metrics", "trace"} <= found["parts"].keys()
        assert "explanations" not in found["parts"], "worked out when somebody asks"
        kinds = [one["type"] for one in told]
        assert (kinds[0], kinds[-1]) == ("read", "searched")
    first = Near.held
    assert first is not None
    solver = first.solver
    solve(text, "program", Change("set", UPPER, 5.0))
    assert (Near.held, first.solver) == (first, solver)


def test_another_base_takes_its_place_and_a_whole_problem_leaves_it() -> None:
    text = base().model_dump_json().encode()
    solve(text, "program", Change("set", UPPER, 5.0))
    first = Near.held
    found, _ = solve(text, "program")
    assert found["figures"]["objective"] == pytest.approx(50.0)
    assert "explanations" in found["parts"]
    assert Near.held is first
    other = cluster().model_dump_json().encode()
    found, _ = solve(other, "placement", Change("set", "/nodes/0/gpus", 7))
    assert found["figures"]["verified"]
    assert Near.held is not first


def test_a_change_that_breaks_the_problem_is_its_answer_and_the_next_is_solved() -> None:
    text = base().model_dump_json().encode()
    found, _ = solve(text, "program", Change("set", "/columns/lower/0", 200.0))
    assert found["figures"]["message"].startswith("the changes break the problem")
    found, _ = solve(text, "program", Change("set", UPPER, 4.0))
    assert found["figures"]["objective"] == pytest.approx(4.0)


def test_a_proof_that_there_is_no_plan_is_asked_afresh() -> None:
    text = base().model_dump_json().encode()
    solve(text, "program", Change("set", UPPER, 4.0))
    found, _ = solve(text, "program", Change("set", UPPER, 0.5))
    assert found["figures"]["outcome"] == "infeasible"
    assert json.loads(found["parts"]["conflict"])["rules"]


def test_after_a_raise_the_solver_is_another() -> None:
    text = base().model_dump_json().encode()
    near = Near.to(kind("program"), text)

    def fail(_message: object) -> None:
        raise RuntimeError("the pipe is gone")

    with pytest.raises(RuntimeError):
        near.solve(base(), Limits(**LIMITS), cancel=threading.Event(), on_message=fail)
    assert near.solver is None
    assert Near.to(kind("program"), text) is near
    with pytest.raises((ContradictionError, ValueError)):
        Near.to(kind("program"), b"{}")
    assert Near.held is None


@pytest.mark.parametrize("seed", range(4))
def test_a_hot_answer_is_certified_as_a_cold_one(seed: int) -> None:
    """In any order: the plan passes the independent check, and neither bound is beaten by the other plan."""
    problem = cluster()
    text = problem.model_dump_json().encode()
    order = [1, 2, 3, 5, 8]
    random.Random(seed).shuffle(order)
    for gpus in order:
        changes = (Change("set", "/nodes/0/gpus", gpus),)
        changed = applied(problem, changes)
        hot, _ = solve(text, "placement", *changes)
        Near.held, kept = None, Near.held
        cold, _ = solve(text, "placement", *changes)
        Near.held = kept
        for one in (hot, cold):
            plan = kind("placement").plan.model_validate_json(one["parts"]["plan"])
            verdict = kind("placement").verify(changed, plan)
            goals = json.loads(one["parts"]["certificate"])["goals"]
            assert verdict.ok
            assert [goal["objective"] for goal in goals] == pytest.approx([verdict.objectives[goal["name"]] for goal in goals])
        objective, bound = hot["figures"]["objective"], hot["figures"]["bound"]
        slack = 1e-6 * max(1.0, abs(bound))
        assert cold["figures"]["objective"] <= bound + slack
        assert objective <= cold["figures"]["bound"] + slack


def test_a_hot_run_keeps_to_its_own_time_limit_and_gap() -> None:
    """The solver was made for a run with much time: the next one has its own limits."""
    text = base().model_dump_json().encode()
    solve(text, "program", Change("set", UPPER, 3.0))
    held = Near.held
    assert held is not None
    assert held.solver is not None
    seen: list[Limits] = []
    inner = held.solver.solve

    def watched(problem: Any, **given: Any) -> Any:
        seen.append(given["limits"])
        return inner(problem, **given)

    held.solver.solve = watched  # type: ignore[method-assign]
    payload = {"kind": "program", "problem": text, "warm_start": None, "changes": derived.written([Change("set", UPPER, 4.0)])}
    tasks.solve(payload | {"limits": LIMITS | {"time_limit_s": 0.5, "gap": 0.01, "seed": 7}}, lambda _told: None, threading.Event())
    assert [(one.gap, one.seed, one.time_limit_s <= 0.5) for one in seen] == [(0.01, 7, True)]


def test_asks_use_the_base_that_is_held_and_let_its_solver_go() -> None:
    """Two bases and two solvers of one large problem in one child would take twice the memory that the run may use."""
    text = base().model_dump_json().encode()
    solve(text, "program", Change("set", UPPER, 3.0))
    held = Near.held
    assert held is not None
    body = document(base={"problem_id": "prob_base"}, asks=[{"ask": "sweep", "axis": "most"}])
    payload = {"kind": "program", "problem": text, "study": json.dumps(body).encode(), "answers": [], "rows": {}, "done": []}
    told: list[dict[str, Any]] = []
    assert asks_task.answer(payload, told.append, threading.Event()) == {"left": 0}
    assert told[-1]["whole"]
    assert Near.held is held
    assert held.solver is None

"""Runs of one study in one child: the base is read once, the solver stays hot, and nothing else is another than cold."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from models.catalogue import kind
from models.contract import ContradictionError
from optimizer.limits import Limits
from optimizer.study.rows import Change
from service import tasks
from service.runs import derived
from service.studies.near import Near
from tests.optimizer.study.small import UPPER, base
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

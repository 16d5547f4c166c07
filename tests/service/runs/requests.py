"""Requests and answers for tests that need no solver: the problem and a plan of the smallest placement."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from models.catalogue import kind
from service.runs import store
from service.runs.records import Answer, Incumbent, NewRun, Note, StoredProblem
from service.runs.states import State
from tests.models.placement_problems import job, node
from tests.models.placement_problems import problem as placement

LIMITS: dict[str, Any] = {"time_limit_s": 5.0, "gap": 1e-4, "seed": 0, "threads": 1, "memory_gib": None}


@cache
def small() -> StoredProblem:
    """One job that fits on one node."""
    body = placement(nodes=[node("n1", gpus=2)], jobs=[job("j1", gpus=1)]).model_dump_json().encode()
    return StoredProblem("prob_small", "placement", body)


def plan() -> tuple[bytes, float]:
    """The best plan of ``small`` and its first goal's value."""
    body, objectives = best()
    return body, objectives[0]


@cache
def best() -> tuple[bytes, tuple[float, ...]]:
    """The best plan of ``small`` and the value of each goal."""
    from optimizer.limits import Limits
    from optimizer.solve import solve

    result = solve(kind("placement").problem.model_validate_json(small().body), Limits(time_limit_s=20.0), isolate=False)
    assert result.plan is not None
    assert result.certificate is not None
    return result.plan.model_dump_json().encode(), tuple(goal.objective for goal in result.certificate.goals)


def request(tenant: str = "default", **fields: Any) -> NewRun:
    given: dict[str, Any] = {"id": store.new_run_id(), "tenant": tenant, "problem": small(), "limits": LIMITS}
    return NewRun(**given | fields)


def answer(state: State = State.succeeded, outcome: str = "optimal", stop_reason: str = "gap") -> Answer:
    if outcome not in {"optimal", "feasible"}:
        return Answer(state, outcome, stop_reason, seconds=0.1)
    body, value = plan()
    parts = {"plan": body, "certificate": json.dumps({"objective": value}).encode()}
    return Answer(state, outcome, stop_reason, objective=value, bound=value, gap=0.0, seconds=0.1, verified=True, parts=parts)


def incumbent_note(at: float = 1.0) -> Note:
    body, objectives = best()
    found = Incumbent(body, objectives, 0.1, "heuristic")
    return Note("incumbent", {"objective": objectives[0], "bound": None, "gap": None}, at, incumbent=found)


def state_note(state: State, at: float = 1.0) -> Note:
    return Note("state", {"state": state}, at, state=state)

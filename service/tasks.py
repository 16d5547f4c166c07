"""What runs in child processes: everything that is heavy, or that looks at something untrusted.

Each function is called as ``function(payload, send, cancel)`` by ``optimizer.child_entry``. Payloads, messages and answers
are builtin containers, strings, numbers and bytes alone (problems and plans travel as JSON): the supervising process need not
know a kind's classes, and takes nothing else from a child. What has passed through numpy, or is named by an enumeration, is
turned into them by ``plain``.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

import optimizer.strategy  # noqa: F401  (a warm child has the solvers loaded before its first task)
from models.catalogue import kind as kind_named
from models.catalogue import kinds
from models.contract import ContradictionError
from models.garbage import collection_paused
from optimizer.incumbents import Bounded, Found, Message, Refuted, Searched, Unlimited
from optimizer.limits import Limits
from optimizer.result import Conflict, StopReason, finite, relative_gap
from optimizer.solve import UNEXPLAINED
from optimizer.solve import conclude as concluded
from optimizer.solve import explain as explain_plan
from optimizer.solve import solve as solved
from service import answers
from service.studies.near import Near

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from models.contract import Kind
    from models.vocabulary import Document
    from optimizer.result import Result

    Send = Callable[[dict[str, Any]], None]

EXPLAIN_S = 0.5
LARGEST_PROGRAM = 400_000  # columns of an exact program that is written out as a file
_PARTS = ("schema", "verify", "heuristic", "formulation", "scale", "explain", "views")

for _kind in kinds().values():
    for _part in _PARTS:
        if _kind.has(_part):
            _kind.part(_part)


def ready(_payload: None, _send: Send, _cancel: threading.Event) -> bool:
    """The child has its imports done: what is timed may begin."""
    return True


def solve(payload: dict[str, Any], send: Send, cancel: threading.Event) -> dict[str, Any]:
    """Solve a run: {kind, problem, changes, limits, warm_start}; the answer of ``_answer``.

    ``changes`` are those of ``service.runs.derived``, None or left out for none. With changes it is a run of a study: if this child served
    one of the same base last, its solver is still hot. The answer is not explained then: whoever asks has it worked out.

    Sends {"type": "read"} when the problem is read, {"type": "incumbent"} and {"type": "bound"} with what is found,
    {"type": "refuted"} or {"type": "unbounded"}, and {"type": "searched"} when only verifying and explaining is left.
    """
    began = time.monotonic()
    kind = kind_named(payload["kind"])
    limits = Limits(**payload["limits"])
    with collection_paused():
        try:
            problem = _problem(kind, payload)
        except ContradictionError as error:
            return _broken(error)
        warm_start = kind.plan.model_validate_json(payload["warm_start"]) if payload["warm_start"] is not None else None
    send({"type": "read", "seconds": time.monotonic() - began})
    left = Limits(**payload["limits"] | {"time_limit_s": max(limits.time_limit_s - (time.monotonic() - began), 1e-2)})
    teller = _Teller(kind, problem, send)
    if payload.get("changes") is not None and warm_start is None:
        return _answer(Near.to(kind, payload["problem"]).solve(problem, left, cancel=cancel, on_message=teller), explained=False)
    result = solved(problem, left, cancel=cancel, warm_start=warm_start, isolate=False, on_message=teller)
    return _answer(result)


def conclude(payload: dict[str, Any], _send: Send, _cancel: threading.Event) -> dict[str, Any]:
    """The answer of a solve whose child is gone: {kind, problem, changes, limits, messages, stop_reason, seconds, failure, explained}.

    ``messages`` are those that ``solve`` had sent.
    """
    kind = kind_named(payload["kind"])
    with collection_paused():
        problem = _problem(kind, payload)
        messages = [_heard(kind, message) for message in payload["messages"]]
    result = concluded(
        problem,
        Limits(**payload["limits"]),
        [message for message in messages if message is not None],
        stop_reason=StopReason(payload["stop_reason"]),
        seconds=payload["seconds"],
        failure=payload["failure"],
        explained=payload.get("explained", True),
    )
    return _answer(result)


def _problem(kind: Kind, payload: dict[str, Any]) -> Document:
    """The problem of a run, its changes made. Raises ContradictionError where they break it."""
    changes = payload.get("changes")
    if changes is None:
        problem: Document = kind.problem.model_validate_json(payload["problem"])
        return problem
    from optimizer.study.scenarios.changes import applied
    from service.runs.derived import read

    return applied(Near.to(kind, payload["problem"]).base, read(changes))


def _broken(error: ContradictionError) -> dict[str, Any]:
    """The answer of a problem that its changes break: no fault of ours, and nothing to solve."""
    first, more = error.mistakes[0], len(error.mistakes) - 1
    others = f"; and {more:,} more mistake{'s' if more > 1 else ''}" if more else ""
    message = f"the changes break the problem: {first.pointer or '/'}: {first.detail}{others}"
    figures: dict[str, Any] = {"outcome": "no_plan", "stop_reason": "crash", "objective": None, "bound": None, "gap": None}
    return {"figures": figures | {"verified": False, "message": message, "failure": None}, "parts": {}}


class _Teller:
    """Turns the search's messages into dictionaries, with the gap as it stands."""

    def __init__(self, kind: Kind, problem: Document, send: Send) -> None:
        self._goal = kind.goals(problem)[0].name
        self._send = send
        self._incumbent: float | None = None
        self._bound: float | None = None

    def __call__(self, message: Message) -> None:
        told: dict[str, Any] | None = None
        if isinstance(message, Found):
            self._incumbent = message.objectives[0]
            told = {"type": "incumbent", "phase": message.phase, "seconds": message.seconds, "objectives": message.objectives}
            told |= {"plan": message.plan.model_dump_json().encode(), "says_more": message.says_more}
        elif isinstance(message, Bounded):
            if message.goal == self._goal:
                self._bound = message.bound
            told = {"type": "bound", "goal": message.goal, "phase": message.phase, "seconds": message.seconds}
            told |= {"value": message.bound, "method": message.method, "first": message.goal == self._goal}
        elif isinstance(message, Refuted):
            told = {"type": "refuted", "conflict": answers.conflict_object(message.conflict) if message.conflict is not None else None}
        elif isinstance(message, Unlimited):
            told = {"type": "unbounded", "goal": message.goal, "direction": message.direction}
        elif isinstance(message, Searched):
            told = {"type": "searched", "seconds": message.seconds}
        if told is not None:
            gap = relative_gap(self._incumbent, self._bound) if self._incumbent is not None and self._bound is not None else None
            figures = {"objective": self._incumbent, "bound": self._bound, "gap": gap}
            self._send(plain(told | {name: finite(value) for name, value in figures.items()}))


def _heard(kind: Kind, told: dict[str, Any]) -> Message | None:
    """The message that ``_Teller`` had turned into a dictionary."""
    match told["type"]:
        case "incumbent":
            plan = kind.plan.model_validate_json(told["plan"])
            return Found(told["seconds"], told["phase"], plan, tuple(told["objectives"]), told["says_more"])
        case "bound":
            return Bounded(told["seconds"], told["phase"], told["goal"], told["value"], told["method"])
        case "unbounded":
            return Unlimited(told["goal"], told["direction"])
        case "refuted":
            return Refuted(_conflict(told["conflict"]) if told["conflict"] is not None else None)
        case _:
            return None


def _conflict(told: dict[str, Any]) -> Conflict:
    rules = tuple((rule["rule"], tuple(rule["ids"])) for rule in told["rules"])
    return Conflict(rules, tuple(told["repairs"]), told["status"])


def _answer(result: Result, *, explained: bool = True) -> dict[str, Any]:
    """The result in figures, and its parts as JSON bytes by name."""
    parts: dict[str, bytes] = {"trace": answers.body(answers.trace_object(result.trace))}
    if result.plan is not None and result.certificate is not None:
        parts["plan"] = result.plan.model_dump_json().encode()
        parts["certificate"] = answers.body(answers.certificate_object(result.certificate))
        if explained and UNEXPLAINED not in result.message:  # whoever asks for what is missing has it worked out then
            parts["explanations"] = answers.body(answers.reasons_object(result.reasons))
    if result.conflict is not None:
        parts["conflict"] = answers.body(answers.conflict_object(result.conflict))
    told = answers.summary(result)
    parts["metrics"] = answers.body({"metrics": told.pop("metrics"), "seconds_by_phase": result.seconds_by_phase})
    return plain({"figures": told | {"message": result.message, "failure": result.failure}, "parts": parts})


def plain(told: Mapping[str, Any]) -> dict[str, Any]:
    """The same in builtin types, all that the supervising process takes: numpy's numbers and enumerations in their values."""
    return {str(name): _plain_value(value) for name, value in told.items()}


def _plain_value(value: Any) -> Any:  # noqa: ANN401  (whatever an answer holds)
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, dict):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain_value(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} is nothing that the supervising process takes")


# ---------------------------------------------------------------- on demand, beside a run


def validate(payload: dict[str, Any], _send: Send, _cancel: threading.Event) -> dict[str, Any]:
    """Read a problem: {kind, body}; what ``service.documents.read_problem`` says of it."""
    from service.documents import read_problem

    with collection_paused():
        return plain(read_problem(kind_named(payload["kind"]), payload["body"]))


def read_program(payload: dict[str, Any], _send: Send, _cancel: threading.Event) -> dict[str, Any]:
    """Read an MPS or LP file: {data, format, most_rows, most_columns, most_entries}; the JSON of a ``program`` problem, or errors."""
    from service.importers.program import read

    return plain(read(**payload))


def explain(payload: dict[str, Any], _send: Send, _cancel: threading.Event) -> dict[str, Any]:
    """Explain a plan: {kind, problem, plan, subject, seconds}; {"explanations"} or {"unknown_subject"}."""
    kind = kind_named(payload["kind"])
    with collection_paused():
        problem = kind.problem.model_validate_json(payload["problem"])
        plan = kind.plan.model_validate_json(payload["plan"])
    try:
        reasons = explain_plan(problem, plan, payload["subject"], payload["seconds"])
    except KeyError:
        return {"unknown_subject": payload["subject"]}
    return plain(answers.reasons_object(reasons))


def view(payload: dict[str, Any], _send: Send, _cancel: threading.Event) -> dict[str, Any]:
    """Another view of a plan: {kind, problem, plan, view}; {"view", "content"}."""
    kind = kind_named(payload["kind"])
    with collection_paused():
        problem = kind.problem.model_validate_json(payload["problem"])
        plan = kind.plan.model_validate_json(payload["plan"])
        return plain({"view": payload["view"], "content": kind.views[payload["view"]](problem, plan)})


def sensitivity(payload: dict[str, Any], _send: Send, cancel: threading.Event) -> dict[str, Any]:
    """What one more unit is worth: {kind, problem, plan, limits}."""
    from optimizer.sensitivity import sensitivity as computed

    kind = kind_named(payload["kind"])
    problem = kind.problem.model_validate_json(payload["problem"])
    plan = kind.plan.model_validate_json(payload["plan"])
    return plain(computed(problem, plan, Limits(**payload["limits"]), cancel).as_object())


def model_mps(payload: dict[str, Any], _send: Send, _cancel: threading.Event) -> dict[str, Any]:
    """The exact program of a problem as an MPS file: {kind, problem}; {"mps"} or {"too_large": columns}."""
    import tempfile
    from pathlib import Path

    from optimizer.compile import compile_model
    from optimizer.model_file import write_mps

    kind = kind_named(payload["kind"])
    problem: Any = kind.problem.model_validate_json(payload["problem"])
    formulation = kind.part("formulation")
    columns: int = formulation.size(problem)
    if columns > LARGEST_PROGRAM:
        return {"too_large": int(columns)}
    program = compile_model(formulation.build(problem, problem.ordered_goals()[0], {})).program
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mps"
        write_mps(program, path)
        return {"mps": path.read_bytes()}

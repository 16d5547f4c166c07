"""What runs in children, called here: the messages are enough to make the answer again."""

from __future__ import annotations

import json
import os
import threading
from enum import StrEnum
from typing import Any

import numpy as np
import pytest

from benchmarks.service import problems
from models.catalogue import kind, kinds
from optimizer.child_entry import MESSAGE, FrameReader, encode, write_some
from service import tasks

LIMITS = {"time_limit_s": 20.0, "gap": 1e-4, "seed": 0, "threads": 1, "memory_gib": None}
UNBOUNDED: dict[str, Any] = {"sense": "maximise", "columns": {"cost": [1, 1]}, "rows": {"upper": [1]}}
UNBOUNDED["entries"] = {"rows": [0, 0], "columns": [0, 1], "values": [1, -1]}


def body(name: str, problem: problems.Document) -> bytes:
    return kind(name).problem.model_validate(problem).model_dump_json().encode()


def sent(thing: object) -> Any:
    """What the supervising process takes from its child for this; it takes plain values alone."""
    reading, writing = os.pipe()
    try:
        parts, reader, frame = encode(MESSAGE, thing), FrameReader(reading, plain=True), None
        while frame is None:
            if parts:
                write_some(writing, parts)
            frame = reader.read()
        return frame.thing()
    finally:
        os.close(reading)
        os.close(writing)


def solved(name: str, problem: problems.Document) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The answer, and the messages as they arrive at the other end of a pipe."""
    heard: list[dict[str, Any]] = []
    payload = {"kind": name, "problem": body(name, problem), "limits": LIMITS, "warm_start": None}
    found = tasks.solve(payload, lambda message: heard.append(sent(message)), threading.Event())
    return sent(found), heard


@pytest.mark.parametrize(
    ("name", "problem", "outcome"),
    [
        ("program", problems.tiny_lp(3), "optimal"),
        ("program", problems.knapsacks(30, 6, 3), "optimal"),
        ("program", problems.infeasible_lp(3), "infeasible"),
        ("program", UNBOUNDED, "unbounded"),
        ("placement", problems.small_placement(3), "optimal"),
    ],
)
def test_what_was_told_is_enough_to_conclude_the_same_answer(name: str, problem: problems.Document, outcome: str) -> None:
    found, heard = solved(name, problem)
    payload: dict[str, Any] = {"kind": name, "problem": body(name, problem), "limits": LIMITS, "messages": heard}
    payload |= {"stop_reason": "crash", "seconds": 1.0, "failure": None}
    again = tasks.conclude(payload, lambda _: None, threading.Event())
    compared = ("outcome", "stop_reason", "objective", "bound", "gap", "verified", "message")
    assert found["figures"]["outcome"] == outcome
    assert {key: again["figures"][key] for key in compared} == {key: found["figures"][key] for key in compared}
    assert set(again["parts"]) == set(found["parts"])
    for part in ("plan", "conflict"):
        assert again["parts"].get(part) == found["parts"].get(part)


def test_the_duals_of_a_linear_program_survive_the_process() -> None:
    problem = problems.tiny_lp(7)
    _, heard = solved("program", problem)
    payload = {"kind": "program", "problem": body("program", problem), "limits": LIMITS, "messages": heard}
    again = tasks.conclude(payload | {"stop_reason": "crash", "seconds": 1.0, "failure": None}, lambda _: None, threading.Event())
    assert json.loads(again["parts"]["plan"])["row_duals"] is not None


def test_every_answer_is_plain_and_every_number_finite_or_null() -> None:
    for name, problem in (("program", UNBOUNDED), ("program", problems.infeasible_lp(1)), ("placement", problems.small_placement(1))):
        found, heard = solved(name, problem)
        told = [found["figures"], [{key: value for key, value in message.items() if key != "plan"} for message in heard]]
        assert json.loads(json.dumps(told, allow_nan=False)) == told  # nothing that JSON has to turn into something else
        for part in found["parts"].values():
            json.loads(part)


def test_the_program_of_a_problem_can_be_solved_as_a_file() -> None:
    found = tasks.model_mps(
        {"kind": "placement", "problem": body("placement", problems.small_placement(2))}, lambda _: None, threading.Event()
    )
    read = {"data": found["mps"], "format": "mps", "most_rows": 10**6, "most_columns": 10**6, "most_entries": 10**6}
    told = tasks.read_program(read, lambda _: None, threading.Event())
    answer, _ = solved("program", json.loads(told["body"]))
    direct, _ = solved("placement", problems.small_placement(2))
    assert answer["figures"]["objective"] == pytest.approx(direct["figures"]["objective"])


def test_an_unknown_subject_is_said_to_be_so() -> None:
    problem = problems.small_placement(2)
    found, _ = solved("placement", problem)
    payload = {"kind": "placement", "problem": body("placement", problem), "plan": found["parts"]["plan"], "seconds": 5.0}
    assert tasks.explain(payload | {"subject": "nobody"}, lambda _: None, threading.Event()) == {"unknown_subject": "nobody"}
    assert tasks.explain(payload | {"subject": None}, lambda _: None, threading.Event())["explanations"]


@pytest.mark.parametrize("name", sorted(kinds()))
def test_what_every_task_says_of_every_kind_can_be_taken_by_its_supervisor(name: str) -> None:
    problem = kind(name).part("schema").example()
    found, heard = solved(name, problem.model_dump(mode="json"))
    asked = {"kind": name, "problem": problem.model_dump_json().encode(), "plan": found["parts"]["plan"]}
    common = {"limits": LIMITS, "messages": heard, "stop_reason": "crash", "seconds": 1.0, "failure": None}
    common |= {"subject": None, "body": asked["problem"]}
    for task in (tasks.conclude, tasks.explain, tasks.sensitivity, tasks.validate, tasks.model_mps):
        payload = asked | common | {"seconds": 1.0}
        answer = task(payload, lambda _: None, threading.Event())
        assert sent(answer) == answer
        assert all(type(each) in (dict, list, bytes, str, int, float, bool, type(None)) for each in answer.values())
    for view in kind(name).views:
        shown = tasks.view(asked | {"view": view}, lambda _: None, threading.Event())
        assert shown["view"] == view
        assert json.loads(json.dumps(shown, allow_nan=False)) == shown


def test_numbers_and_names_of_other_makes_become_plain() -> None:
    class Colour(StrEnum):
        red = "red"

    told = {"number": np.float64(0.5), "count": np.int32(3), "true": np.bool_(True), "row": np.arange(2), "of": (Colour.red, [None, b""])}
    found = tasks.plain(told)
    assert sent(found) == {"number": 0.5, "count": 3, "true": True, "row": [0, 1], "of": ["red", [None, b""]]}
    with pytest.raises(TypeError, match="object"):
        tasks.plain({"a": object()})

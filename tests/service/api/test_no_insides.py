"""What goes wrong inside stays inside: no answer holds a traceback or a path of the machine."""

from __future__ import annotations

import re

import pytest

from service.runs import assignment
from tests.service.api.house import House, problem
from tests.service.runs import rogue_tasks as rogue

INSIDES = re.compile(r"Traceback|File \"|\.py\b|(?<![\w.>])/(?:[\w.-]+/)*(?:work|home|root|usr|opt|tmp|var|lib)/[\w./-]+")
PARTS = ("", "/plan", "/certificate", "/explanations", "/conflict", "/metrics", "/trace", "/log", "/events")


def test_an_inside_is_known_when_it_is_seen() -> None:
    for text in ('File "x"', "/usr/lib/python3", "/work/main/service", "at /srv/home/me/x", "in child.py"):
        assert INSIDES.search(text), text
    for text in ("/v1/runs/run_0123", "http://127.0.0.1/v1", "/jobs/0/id", "a/b"):
        assert not INSIDES.search(text), text


@pytest.mark.parametrize("seed", [rogue.FAILING, rogue.CRASHING, rogue.CRASHING_WITH_A_PLAN, rogue.WRONG])
def test_no_answer_tells_of_the_insides(seed: int, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "TASKS", rogue.__name__)
    house.work()
    asked = {"kind": "placement", "problem": problem(), "limits": {"seed": seed, "time_limit_s": 20}}
    made = house.post("/v1/runs", asked, Prefer="wait=60")
    run = made.json()
    assert run["state"] in {"succeeded", "failed"}, run
    assert run["failure"], run
    assert "\n" not in run["failure"]
    told = {part: house.get(f"/v1/runs/{run['id']}{part}", Accept="application/json").text for part in PARTS}
    told |= {"made": made.text, "list": house.get("/v1/runs").text}
    assert not {name: found[0] for name, text in told.items() if (found := INSIDES.search(text))}


def test_a_failure_is_documented(house: House) -> None:
    shown = house.get("/openapi.json").json()["components"]["schemas"]["RunShown"]["properties"]["failure"]
    assert "one sentence" in shown["description"]

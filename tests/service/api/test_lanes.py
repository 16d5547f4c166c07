"""Who waits for a child process: bodies apart from slow questions, and nobody for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from optimizer.child import ChildEnd
from service.api.examples import MPS
from service.api.state import Service
from tests.service.api.house import House

MODEL = "service.tasks:model_mps"


@pytest.fixture
def held(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The one child for questions is at work, until the event is set."""
    release, begun = threading.Event(), threading.Event()
    run = house.pool.run

    def slow(target: str, payload: dict[str, Any], **limits: Any) -> ChildEnd:
        if target == MODEL:
            begun.set()
            release.wait(60)
        return run(target, payload, **limits)

    made = house.run()["id"]
    monkeypatch.setattr(house.pool, "run", slow)
    asking = threading.Thread(target=house.get, args=(f"/v1/runs/{made}/model.mps",))
    asking.start()
    assert begun.wait(30)
    yield release
    release.set()
    asking.join()


def test_a_slow_question_keeps_nobody_from_being_read(held: threading.Event, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    service: Service = house.app.state.service
    monkeypatch.setattr(service.bodies, "_longest_wait_s", 5.0)
    assert house.run(kind="program", problem={"format": "mps", "text": MPS})["state"] == "queued"
    assert not held.is_set()


def test_nobody_waits_for_ever(held: threading.Event, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    service: Service = house.app.state.service
    monkeypatch.setattr(service.questions, "_longest_wait_s", 0.05)
    run = house.get("/v1/runs").json()["runs"][0]["id"]
    found = house.get(f"/v1/runs/{run}/model.mps")
    assert (found.status_code, found.json()["code"], found.headers["retry-after"]) == (503, "busy", "2")
    held.set()
    monkeypatch.setattr(service.questions, "_longest_wait_s", 30.0)
    assert house.get(f"/v1/runs/{run}/model.mps").status_code == 200

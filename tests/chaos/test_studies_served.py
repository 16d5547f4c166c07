"""SIGKILL of the workers and the API of a study over HTTP: nothing lost, nothing doubled, the same table."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

from benchmarks.service.processes import House, Process, address
from tests.chaos.asking import PATIENCE_S, ask
from tests.chaos.conftest import check
from tests.service.api.study_documents import axis, document

SCENARIOS = 40


def study_of(server: Process, study_id: str) -> dict[str, Any]:
    status, found = ask(server, "GET", f"/v1/studies/{study_id}")
    assert status == 200, found
    made: dict[str, Any] = found
    return made


def rows_of(server: Process, study_id: str) -> list[dict[str, Any]]:
    status, found = ask(server, "GET", f"/v1/studies/{study_id}/table")
    assert status == 200, found
    rows: list[dict[str, Any]] = found["rows"]
    return rows


def test_kills_of_workers_and_of_the_api_cost_a_study_nothing(house: House) -> None:
    server = house.serve("--no-workers")
    worker = house.worker()
    status, study = ask(server, "POST", "/v1/studies", document(SCENARIOS), Idempotency_Key="k")
    assert status == 202, study
    rng, done = random.Random(3), 0.0
    for number in itertools.count():
        give_up = time.monotonic() + PATIENCE_S
        wanted = min(1.0, done + rng.uniform(0.05, 0.3))
        while (done := study_of(server, study["id"])["progress"]) < wanted:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        if done == 1.0 or number == 3:
            break
        (worker if number != 1 else server).kill()
        if number == 1:
            server.command = ("serve", "--no-workers", "--port", str(address(server)[1]))
        (worker if number != 1 else server).start()
        again = ask(server, "POST", "/v1/studies", document(SCENARIOS), Idempotency_Key="k")[1]
        assert again["id"] == study["id"]
    give_up = time.monotonic() + PATIENCE_S
    while study_of(server, study["id"])["state"] != "finished":
        assert time.monotonic() < give_up
        time.sleep(0.05)
    rows = rows_of(server, study["id"])
    assert len({row["run"] for row in rows}) == SCENARIOS + 1
    values = [row["row"]["goals"][0]["objective"] for row in rows]
    assert [round(value, 6) for value in values] == [50.0, *(float(most) for most in range(1, SCENARIOS + 1))]
    assert all(row["row"]["verified"] for row in rows)
    check(house, [row["run"] for row in rows])


FAR = 400


def asking() -> dict[str, Any]:
    """Two scenarios, and a target that is reached at the last of many values, each of which is asked."""
    far = axis(name="far", values=None, range={"least": 1, "most": FAR, "steps": 2, "whole": True})
    far["edits"] = [{"op": "set", "at": "/columns/upper/0", "to": "$value"}, {"op": "set", "at": "/rows/upper/0", "to": 10_000}]
    ask = {"ask": "target", "axis": "far", "metric": "objective", "at_least": FAR, "monotone": False}
    return document(axes=[far], asks=[{"ask": "sweep", "axis": "far"}, ask])


def solved_for_asks(server: Process, run: str) -> list[int]:
    """How many scenarios had been solved, each time that it was told."""
    told, number = [], 0
    while True:
        status, found = ask(server, "GET", f"/v1/runs/{run}/events?after={number}", Accept="application/json")
        assert status == 200, found
        texts = [event["text"] for event in found["events"] if event["type"] == "message"]
        told += [int(text.split()[0].replace(",", "")) for text in texts if "solved for the asks" in text]
        if not found["events"]:
            return told
        number = found["last"]


def test_a_kill_in_the_middle_of_asks_costs_nothing_that_was_kept(house: House) -> None:
    server = house.serve("--no-workers")
    worker = house.worker()
    status, study = ask(server, "POST", "/v1/studies", asking())
    assert status == 202, study
    run = study["links"]["asks"].rpartition("/")[2]
    give_up = time.monotonic() + PATIENCE_S
    for wanted in (20, 120):
        while max(solved_for_asks(server, run), default=0) < wanted:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        worker.kill()
        worker.start()
    while (found := study_of(server, study["id"]))["state"] != "finished":
        assert time.monotonic() < give_up
        time.sleep(0.05)
    sweep, target = found["asks"]
    assert sweep["answer"]["exact"]
    assert (target["answer"]["value"], len(target["answer"]["asked"])) == (FAR, FAR)
    status, shown = ask(server, "GET", f"/v1/runs/{run}")
    assert (shown["state"], shown["attempt"]) == ("succeeded", 3)
    told = solved_for_asks(server, run)
    assert told == list(range(1, len(told) + 1)), "what was told is counted on, so nothing of it was solved again"
    assert len(told) >= FAR - 2
    check(house, [run])

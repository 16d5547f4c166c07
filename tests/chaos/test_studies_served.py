"""SIGKILL of the workers and the API of a study over HTTP: nothing lost, nothing doubled, the same table."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

from benchmarks.service.processes import House, Process, address
from tests.chaos.asking import PATIENCE_S, ask
from tests.chaos.conftest import check
from tests.service.api.study_documents import document

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

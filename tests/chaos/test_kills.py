"""SIGKILL of children, workers and the API: in every state of a run, and at random."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.service.chaos import kills
from benchmarks.service.processes import House, address
from service.runs import store
from service.runs.database import Database
from service.runs.states import State
from tests.chaos.asking import ask, busy, ended, run_of
from tests.chaos.conftest import check
from tests.service.runs.databases import BACKENDS, fresh_url

LOOKS = 20_000


def killed_in(house: House, state: State, run_id: str) -> bool:
    """Kill the worker the moment the run is seen in the state; False when it was never seen there."""
    database = Database(house.database_url)
    worker = house.processes[-1]
    found: State | None = None
    try:
        for _ in range(LOOKS):
            found = database.read(lambda connection: store.run_of(connection, "default", run_id)).state
            if found is state:
                worker.kill()
                return True
            if found in (State.succeeded, State.failed, State.cancelled):
                return False
            time.sleep(0.0005)
    finally:
        database.close()
    raise AssertionError(f"the run stays {found}")


@pytest.mark.parametrize("state", [State.starting, State.solving, State.verifying])
def test_a_worker_killed_in_any_state_costs_nothing(house: House, state: State) -> None:
    server = house.serve("--no-workers")
    house.worker()
    accepted = []
    for attempt in range(10):
        accepted.append(busy(server, seconds=1.0, seed=attempt))
        if killed_in(house, state, accepted[-1]):
            break
    else:
        pytest.fail(f"no run was seen {state}")
    house.processes[-1].start()
    run = ended(server, accepted[-1])
    assert (run["state"], run["verified"], run["attempt"]) == ("succeeded", True, 2)
    check(house, accepted)


def test_a_killed_api_answers_again_and_its_runs_go_on(house: House) -> None:
    server = house.serve("--no-workers")
    house.worker()
    run_id = busy(server, seconds=2.0)
    port = address(server)[1]
    server.kill()
    server.command = ("serve", "--no-workers", "--port", str(port))
    server.start()
    run = ended(server, run_id)
    assert (run["state"], run["attempt"]) == ("succeeded", 1)
    check(house, [run_id])


def test_killed_children_cost_a_run_nothing_but_time(house: House) -> None:
    server = house.serve()
    run_id = busy(server, seconds=4.0)
    give_up = time.monotonic() + 30
    while run_of(server, run_id)["objective"] is None:
        assert time.monotonic() < give_up
        time.sleep(0.02)
    for child in server.children():
        child.kill()
    run = ended(server, run_id)
    assert (run["state"], run["outcome"], run["stop_reason"], run["verified"]) == ("succeeded", "feasible", "deadline", True)
    assert run["failure"] is None
    assert "SIGKILL" in ask(server, "GET", f"/v1/runs/{run_id}/log")[1]
    again = ended(server, busy(server, seconds=1.0))
    assert again["failure"] is None
    check(house, [run_id, again["id"]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_kills_at_random_lose_and_double_nothing(tmp_path: Path, backend: str) -> None:
    with fresh_url(backend, tmp_path) as url:
        found = kills(tmp_path, 10, 6, seed=5, every_s=0.5, database_url=url)
    assert (found["lost"], found["doubled"], found["unverified"], found["otherwise_wrong"]) == (0, 0, 0, [])
    assert found["runs"] >= 10
    assert found["kills"] >= 6
    assert ("database" in found["killed"]) == (backend == "postgresql")
    assert found["children_killed_at_work"] <= found["killed"]["child"]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_many_kills_at_random_lose_and_double_nothing(tmp_path: Path) -> None:
    found = kills(tmp_path, 500, 200, seed=1)
    assert (found["lost"], found["doubled"], found["unverified"], found["otherwise_wrong"]) == (0, 0, 0, [])
    assert found["children_killed_at_work"] > 0.5 * found["killed"]["child"]

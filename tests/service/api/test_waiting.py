"""Places to wait for runs: shared fairly, and never the reason for saying that a stored run is not."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from service.api import ending
from service.api.watch import Watch
from service.errors import Unavailable
from service.keys import create_key
from service.runs import store
from tests.service.api.conftest import MakeHouse
from tests.service.api.house import House, problem

HALF = "tenant_too_many_waiting"


def body(**fields: Any) -> dict[str, Any]:
    return {"kind": "placement", "problem": problem()} | fields


@contextlib.contextmanager
def waiting(house: House, run: str, **headers: str) -> Iterator[None]:
    """One request that waits for a run, to its end."""
    watch: Watch = house.app.state.service.watch
    before = watch.waiting
    one = threading.Thread(target=house.get, args=(f"/v1/runs/{run}",), kwargs={"Prefer": "wait=60"} | headers)
    one.start()
    give_up = time.monotonic() + 30
    while watch.waiting == before:
        assert time.monotonic() < give_up
        time.sleep(0.005)
    try:
        yield
    finally:
        house.post(f"/v1/runs/{run}:cancel", **headers)
        one.join()


def key(house: House, tenant: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {house.database.write(lambda connection: create_key(connection, tenant, ['solve']))}"}


def test_a_stored_run_is_told_though_there_is_no_place_to_wait(make_house: MakeHouse) -> None:
    house = make_house(most_streams=1)
    with waiting(house, house.run()["id"]):
        found = house.post("/v1/runs", body(), Prefer="wait=30")
        assert (found.status_code, found.json()["state"]) == (202, "queued"), found.text
        assert found.headers["location"] == found.json()["links"]["self"]
        assert "preference-applied" not in found.headers
        assert house.get(found.headers["location"]).status_code == 200


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_stored_run_is_told_though_the_database_rests(when: str, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again for the run only after the commit."""
    real = store.run_of

    def gone(*_: object, **__: object) -> Any:
        raise Unavailable("the database does not answer", code="database_unavailable", retry_after_s=1)

    monkeypatch.setattr(store, "run_of", gone)
    teller = threading.Thread(target=_publish_when_waited_for, args=(house,))
    teller.start()
    if when == "before":
        found = house.post("/v1/runs", body(), Prefer="wait=30")
        assert (found.status_code, "preference-applied" in found.headers) == (202, False), found.text
    else:
        monkeypatch.setattr(store, "run_of", real)
        run = house.post("/v1/runs", body()).json()["id"]
        house.claim()
        monkeypatch.setattr(store, "run_of", gone)
        monkeypatch.setattr(store, "cancel", _with(store.cancel, real))
        found = house.post(f"/v1/runs/{run}:cancel")
        assert (found.status_code, found.json()["state"]) == (202, "cancelling"), found.text
    teller.join()


def _with(cancel: Any, run_of: Any) -> Any:
    """``store.cancel`` as it is when the run can be read."""

    def cancelled(*arguments: Any) -> Any:
        broken, store.run_of = store.run_of, run_of
        try:
            return cancel(*arguments)
        finally:
            store.run_of = broken

    return cancelled


def _publish_when_waited_for(house: House) -> None:
    watch: Watch = house.app.state.service.watch
    give_up = time.monotonic() + 30
    while not watch.waiting and time.monotonic() < give_up:
        time.sleep(0.005)
    watch.stop(30.0)  # wakes who waits


def test_a_cancellation_needs_no_place(make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "CANCEL_S", 0.05)
    house = make_house(most_streams=1)
    run = house.run()["id"]
    house.claim()
    with waiting(house, house.run()["id"]):
        found = house.post(f"/v1/runs/{run}:cancel")
        assert (found.status_code, found.json()["state"]) == (202, "cancelling"), found.text


def test_one_tenant_has_at_most_half_of_the_places(make_house: MakeHouse) -> None:
    house = make_house(most_streams=2, require_keys=True)
    ours, theirs = key(house, "ours"), key(house, "theirs")
    run, other = (house.post("/v1/runs", body(), **who).json()["id"] for who in (ours, theirs))
    events = f"/v1/runs/{run}/events"
    with waiting(house, run, **ours):
        for path, accept in ((f"/v1/runs/{run}", "*/*"), (events, "text/event-stream"), (f"{events}?after=1", "application/json")):
            found = house.get(path, Prefer="wait=1", Accept=accept, **ours)
            assert (found.status_code, found.json()["code"], found.headers["retry-after"]) == (429, HALF, "2"), path
        with waiting(house, other, **theirs):
            assert house.get(events, Accept="text/event-stream", **theirs).status_code == 404
            assert house.get(f"/v1/runs/{other}", Prefer="wait=1", **theirs).json()["code"] == "too_many_waiting"
    assert house.get(f"/v1/runs/{run}", Prefer="wait=1", **ours).status_code == 200

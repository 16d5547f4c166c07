"""Following a run: streams that are resumed, pages for those who ask now and then, and the log."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.api import events
from service.runs import store
from service.runs.records import Note
from tests.service.api.conftest import MakeHouse
from tests.service.api.house import House, served, solved
from tests.service.runs.requests import incumbent_note

BOUND = {"objective": 1.0, "bound": 2.0, "gap": 1.0, "phase": "search", "seconds": 0.2}


def ended(house: House) -> str:
    """A run with five events: queued, starting, incumbent, bound, succeeded."""
    run: str = house.run()["id"]
    lease = house.claim()
    house.note(lease, incumbent_note(), Note("bound", BOUND, 2.0))
    house.database.write(lambda connection: store.finish(connection, lease, solved()))
    return run


def read(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    """Number, type and data of every event in a stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def test_a_whole_stream(house: House) -> None:
    found = house.get(f"/v1/runs/{ended(house)}/events")
    told = read(found.text)
    assert found.headers["content-type"].startswith("text/event-stream")
    assert [(number, kind) for number, kind, _ in told] == [(1, "state"), (2, "state"), (3, "incumbent"), (4, "bound"), (5, "state")]
    assert [data["number"] for _, _, data in told] == [1, 2, 3, 4, 5]
    assert told[3][2]["bound"] == 2.0
    assert (told[4][2]["state"], told[4][2]["outcome"]) == ("succeeded", "optimal")


@pytest.mark.parametrize("after", [0, 1, 3, 4])
def test_a_stream_is_resumed(after: int, house: House) -> None:
    run = ended(house)
    by_header = house.get(f"/v1/runs/{run}/events?after=0", Last_Event_ID=str(after))
    by_query = house.get(f"/v1/runs/{run}/events?after={after}")
    assert [number for number, _, _ in read(by_header.text)] == list(range(after + 1, 6))
    assert read(by_query.text) == read(by_header.text)


def test_nothing_is_left_to_tell(house: House) -> None:
    found = house.get(f"/v1/runs/{ended(house)}/events", Last_Event_ID="5")
    assert (found.status_code, found.content) == (204, b"")


def test_more_events_than_fit_in_one_reading(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAGE", 2)
    assert [number for number, _, _ in read(house.get(f"/v1/runs/{ended(house)}/events").text)] == [1, 2, 3, 4, 5]


def test_pages(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAGE", 3)
    run = ended(house)
    first = house.get(f"/v1/runs/{run}/events", Accept="application/json").json()
    second = house.get(f"/v1/runs/{run}/events?after={first['last']}", Accept="application/json").json()
    last = house.get(f"/v1/runs/{run}/events?after={second['last']}", Accept="application/json").json()
    assert [[event["number"] for event in page["events"]] for page in (first, second, last)] == [[1, 2, 3], [4, 5], []]
    assert [(page["last"], page["done"]) for page in (first, second, last)] == [(3, False), (5, True), (5, True)]


def test_a_page_waits_for_something_to_tell(house: House) -> None:
    run = house.run()["id"]
    later = threading.Timer(0.1, house.claim)
    later.start()
    found = house.get(f"/v1/runs/{run}/events?after=1", Accept="application/json", Prefer="wait=30").json()
    later.join()
    assert [event["state"] for event in found["events"]] == ["starting"]
    assert house.get(f"/v1/runs/{run}/events?after=2", Accept="application/json", Prefer="wait=0").json()["events"] == []


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/event-stream"),
        ("*/*", "text/event-stream"),
        ("text/html, text/*;q=0.5, application/json;q=0.4", "text/event-stream"),
        ("application/*", "application/json"),
        ("text/event-stream;q=0, application/json", "application/json"),
        ("application/json;q=oops", "application/json"),
    ],
)
def test_what_the_client_accepts(accept: str, kind: str, house: House) -> None:
    assert house.get(f"/v1/runs/{ended(house)}/events", Accept=accept).headers["content-type"].partition(";")[0] == kind


def test_what_no_client_gets(house: House) -> None:
    found = house.get(f"/v1/runs/{ended(house)}/events", Accept="text/html")
    assert (found.status_code, found.json()["code"]) == (406, "not_acceptable")


@pytest.mark.parametrize("number", ["x", "-1", "1.5", str(2**40), "²"])
def test_an_event_id_that_is_none(number: str, house: House) -> None:
    found = house.ask("GET", f"/v1/runs/{ended(house)}/events", headers=[(b"Last-Event-ID", number.encode())])
    assert (found.status_code, found.json()["errors"][0]["pointer"]) == (400, "/header/last-event-id")


def test_the_log(house: House) -> None:
    lines = house.get(f"/v1/runs/{ended(house)}/log").text.splitlines()
    assert [line.split()[1] for line in lines] == ["queued", "starting", "incumbent", "bound", "succeeded"]
    assert "bound=2" in lines[3]
    assert "phase=search" in lines[3]


# ---------------------------------------------------------------- over a real connection


def blocks(response: httpx.Response) -> Iterator[str]:
    """The blocks of a stream as they arrive."""
    text = ""
    for part in response.iter_text():
        text += part
        while "\n\n" in text:
            block, _, text = text.partition("\n\n")
            yield block


def test_a_stream_tells_what_happens_meanwhile(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PING_S", 0.02)
    run = house.run()["id"]
    with served(house) as url, httpx.stream("GET", f"{url}/v1/runs/{run}/events", timeout=30) as response:
        arriving = blocks(response)
        assert next(arriving) == "retry: 1000"
        assert next(arriving).startswith("event: state")
        assert next(arriving) == ": waiting"
        house.end()
        rest = [block for block in arriving if not block.startswith(":")]
    assert [json.loads(block.split("\n")[1].removeprefix("data: "))["state"] for block in rest] == ["starting", "succeeded"]


def test_a_client_that_leaves_is_forgotten(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PING_S", 0.02)
    run = house.run()["id"]
    watch = house.app.state.service.watch
    with served(house) as url:
        with httpx.stream("GET", f"{url}/v1/runs/{run}/events", timeout=30) as response:
            arriving = blocks(response)  # kept: a generator that is dropped closes the connection
            next(arriving)
            until(lambda: watch.waiting == 1)
        until(lambda: watch.waiting == 0)


def test_streams_end_with_the_service(make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PING_S", 0.02)
    house = make_house()
    run = house.run()["id"]
    with served(house) as url, httpx.stream("GET", f"{url}/v1/runs/{run}/events", timeout=30) as response:
        arriving = blocks(response)
        next(arriving)
        house.app.state.service.stopping = True
        assert not [block for block in arriving if "succeeded" in block]


def until(wanted: Any) -> None:
    give_up = time.monotonic() + 30
    while not wanted():
        assert time.monotonic() < give_up
        time.sleep(0.005)

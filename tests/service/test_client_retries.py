"""Both clients against a service that fails as told: what they send again, how long they try, and what they say."""

from __future__ import annotations

import asyncio
import gzip
import inspect
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.client import (
    AsyncClient,
    BadAnswer,
    Client,
    ClientError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ProgramFile,
    ServiceFault,
    TooMany,
    Unauthorized,
    Unavailable,
    Unreachable,
    awaited,
    blocking,
    exchange,
    operations,
)
from service.client.stream import EventReader, Told
from service.runs.states import State
from tests.service.scripted import ID, SSE, URL, Script, Stream, event, events, found, html, problem, run_object

ROOT = Path(__file__).resolve().parents[2]
Ask = Callable[..., Any]


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(exchange, "monotonic", lambda: made.now)
    monkeypatch.setattr(operations, "monotonic", lambda: made.now)
    monkeypatch.setattr(blocking, "sleep", made.sleep)
    monkeypatch.setattr(awaited, "sleep", made.asleep)
    return made


def ask_blocking(script: Script, method: str, *arguments: Any, **more: Any) -> Any:
    with Client(URL, "qm_secret", transport=script) as client:
        got = getattr(client, method)(*arguments, **more)
        return list(got) if inspect.isgenerator(got) else got


def ask_awaited(script: Script, method: str, *arguments: Any, **more: Any) -> Any:
    async def ask() -> Any:
        async with AsyncClient(URL, "qm_secret", transport=script) as client:
            got = getattr(client, method)(*arguments, **more)
            return [one async for one in got] if inspect.isasyncgen(got) else await got

    return asyncio.run(ask())


@pytest.fixture(params=[ask_blocking, ask_awaited], ids=["blocking", "awaited"])
def ask(request: pytest.FixtureRequest) -> Ask:
    chosen: Ask = request.param
    return chosen


# ---------------------------------------------------------------- sending again


def test_a_submission_is_repeated_with_its_key(ask: Ask, clock: Clock) -> None:
    script = Script(
        httpx.ConnectError("[Errno 111] Connection refused"),
        problem(503, retry_after="3"),
        problem(429, retry_after="1"),
        html(502),
        httpx.ReadTimeout(""),
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        found(warnings=[{"pointer": "/jobs/0", "code": "too_big", "detail": "fits nowhere"}]),
    )
    run = ask(script, "solve", "placement", {"nodes": []}, limits={"gap": 0.1}, priority=3)
    assert (run.id, run.state, run.has_plan, run.warnings[0].code) == (ID, State.succeeded, True, "too_big")
    assert {request.method for request in script.requests} == {"POST"}
    assert len({request.headers["idempotency-key"] for request in script.requests}) == 1
    assert len({request.content for request in script.requests}) == 1
    asked = {"kind": "placement", "limits": {"gap": 0.1}, "priority": 3, "problem": {"nodes": []}}
    assert json.loads(script.requests[0].content) == asked
    assert script.requests[0].headers["authorization"] == "Bearer qm_secret"
    assert script.requests[0].headers["prefer"] == "wait=20"
    assert len(clock.slept) == 6
    assert 2.7 <= clock.slept[1] <= 3.3
    assert clock.slept[0] < 0.2


def test_each_submission_has_a_key_of_its_own(ask: Ask, clock: Clock) -> None:
    script = Script(found())
    ask(script, "submit", "placement", {})
    ask(script, "submit", "placement", {})
    ask(script, "submit", "placement", {}, idempotency_key="mine")
    first, second, third = (request.headers["idempotency-key"] for request in script.requests)
    assert first != second
    assert third == "mine"
    assert not clock.slept


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (413, Invalid),
        (415, Invalid),
        (422, Invalid),
        (500, ServiceFault),
    ],
)
def test_what_will_not_change_is_asked_once(ask: Ask, clock: Clock, status: int, kind: type[ClientError]) -> None:
    script = Script(problem(status))
    with pytest.raises(kind) as refused:
        ask(script, "solve", "placement", {})
    error = refused.value
    assert (error.status, error.code, error.detail, error.request_id) == (status, "a_code", "detail of a_code", "abc")
    assert [finding.pointer for finding in error.errors] == (["/limits/gap"] if status == 422 else [])
    assert len(script.requests) == 1
    assert not clock.slept


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (problem(503), Unavailable, "detail of a_code"),
        (problem(429), TooMany, "detail of a_code"),
        (html(504, "Gateway Time-out"), Unavailable, "Gateway Time-out"),
        (httpx.Response(500, text="Internal Server Error"), Unavailable, "500 with text/plain"),
    ],
)
def test_patience_ends(ask: Ask, clock: Clock, answer: httpx.Response, kind: type[ClientError], words: str) -> None:
    script = Script(answer)
    with pytest.raises(kind, match=words):
        ask(script, "run", ID)
    assert 20 < sum(clock.slept) <= exchange.PATIENCE_S
    assert max(clock.slept) <= exchange.LONGEST_PAUSE_S
    assert clock.slept[0] < 0.15
    assert clock.slept[5] > 1.0


def test_a_pause_longer_than_the_patience_is_left_to_the_caller(ask: Ask, clock: Clock) -> None:
    with pytest.raises(TooMany) as refused:
        ask(Script(problem(429, retry_after="120")), "run", ID)
    assert refused.value.retry_after_s == 120
    assert not clock.slept


def test_a_date_to_come_back_at(ask: Ask, clock: Clock) -> None:
    ask(Script(problem(503, retry_after="Thu, 01 Jan 2015 00:00:00 GMT"), problem(503, retry_after="soon"), found()), "run", ID)
    assert sum(clock.slept) < 0.5


def test_an_address_that_never_answered_is_given_up_soon(ask: Ask, clock: Clock) -> None:
    with pytest.raises(Unreachable) as refused:
        ask(Script(httpx.ConnectError("[Errno 111] Connection refused")), "kinds")
    assert f"{URL} cannot be reached (connection refused)" in refused.value.detail
    assert clock.now <= exchange.NEVER_ANSWERED_S


# ---------------------------------------------------------------- waiting


def test_a_restart_is_waited_out(ask: Ask, clock: Clock) -> None:
    down = [httpx.ConnectError("[Errno 111] Connection refused")] * 5
    script = Script(found("queued"), found("solving"), httpx.ReadError(""), *down, problem(503, "starting"), found("solving"), found())
    assert ask(script, "solve", "placement", {}).state == "succeeded"
    assert [request.method for request in script.requests] == ["POST"] + ["GET"] * 10
    assert {request.url.path for request in script.requests[1:]} == {f"/v1/runs/{ID}"}
    assert clock.now > 1


def test_a_wait_ends_when_it_is_to_end(ask: Ask, clock: Clock) -> None:
    def one_second_later(_: httpx.Request) -> httpx.Response:
        clock.now += 1.0
        return found("solving")

    script = Script(one_second_later)
    assert not ask(script, "wait", ID, 3.5).ended
    assert [request.headers.get("prefer") for request in script.requests] == ["wait=3", "wait=2", "wait=1", None, None]
    assert 3.5 <= clock.now <= 5.5


def test_where_requests_must_not_wait_runs_are_looked_at(ask: Ask, clock: Clock) -> None:
    def crowded(request: httpx.Request) -> httpx.Response:
        return (
            problem(503, "too_many_waiting")
            if "prefer" in request.headers
            else found("solving" if clock.now < 3 else "succeeded", applied=False)
        )

    assert ask(Script(crowded), "solve", "placement", {}).ended
    assert 3 <= clock.now < 6


# ---------------------------------------------------------------- events


def test_events_are_resumed_where_they_broke_off(ask: Ask, clock: Clock) -> None:
    whole = event(3)
    script = Script(
        events(b"retry: 1000\n\n" + event(1), event(2), whole[:20], httpx.ReadError("")),
        httpx.ConnectError("[Errno 111] Connection refused"),
        problem(503),
        events(event(2), b": waiting\n\n", whole),
        events(event(4, "succeeded"), event(5)),
    )
    told = ask(script, "events", ID)
    assert [one.number for one in told] == [1, 2, 3, 4]
    assert (told[0].type, told[0].bound, told[-1].is_last, told[-1].state) == ("bound", 1.0, True, State.succeeded)
    assert [request.headers.get("last-event-id") for request in script.requests] == [None, "2", "2", "2", "3"]
    assert {request.headers["accept"] for request in script.requests} == {"text/event-stream"}
    assert len(clock.slept) == 4


def test_no_events_follow_the_last(ask: Ask, clock: Clock) -> None:
    script = Script(httpx.Response(204))
    assert ask(script, "events", ID, after=7) == []
    assert script.requests[0].headers["last-event-id"] == "7"
    assert not clock.slept


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(404), NotFound),
        (html(200), BadAnswer),
        (events(b"data: {\n\n"), BadAnswer),
        (events(b'data: {"number": "one"}\n\n'), BadAnswer),
        (httpx.Response(200, headers=SSE | {"content-encoding": "gzip"}, stream=Stream(b"no gzip")), BadAnswer),
    ],
)
def test_events_that_cannot_be_had(ask: Ask, clock: Clock, answer: httpx.Response, kind: type[ClientError]) -> None:
    with pytest.raises(kind):
        ask(Script(answer), "events", ID)
    assert not clock.slept


def test_a_stream_that_never_tells_anything_is_given_up(ask: Ask, clock: Clock) -> None:
    with pytest.raises(Unreachable, match="ended early"):
        ask(Script(lambda _: events(b"retry: 1000\n\n")), "events", ID)
    assert 20 < clock.now <= exchange.PATIENCE_S


def test_who_stops_listening_closes_the_stream() -> None:
    response = events(event(1), event(2))
    with Client(URL, transport=Script(response)) as client:
        for told in client.events(ID):
            assert told.number == 1
            break
    assert isinstance(response.stream, Stream)
    assert response.stream.closed


PARTS: list[tuple[bytes, Told | None]] = [
    (b"event: a\ndata: 1\ndata: 2\n\n", Told("a", "1\n2")),
    (b": c\r\n\r\ndata:\xc3\xa9\r\n\r\n", Told("message", "é")),
]
PARTS += [(b"id: 1\rdata: x\r\r", Told("message", "x")), (b"event: empty\n\n", None)]


@given(st.lists(st.sampled_from(PARTS), max_size=6), st.lists(st.integers(0, 100), max_size=6))
def test_events_may_be_cut_anywhere(parts: Sequence[tuple[bytes, Told | None]], places: list[int]) -> None:
    data = b"".join(text for text, _ in parts) + b"\n"
    cuts = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    reader = EventReader()
    got = [told for first, last in itertools.pairwise(cuts) for told in reader.feed(data[first:last])]
    assert got == [told for _, told in parts if told is not None]


# ---------------------------------------------------------------- strange answers


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (html(200), "a page of HTML ('Sign in')"),
        (httpx.Response(200, json=[1]), "does not understand"),
        (httpx.Response(200, json=run_object(objective="much")), "(at objective)"),
        (httpx.Response(200, content=b'{"id": ', headers={"content-type": "application/json"}), "does not understand"),
        (httpx.Response(200, content=b"\xff\xfe", headers={"content-type": "application/json"}), "does not understand"),
        (httpx.Response(200, text="hello there"), "'hello there'"),
        (httpx.Response(307, headers={"location": "https://elsewhere.test/"}), "redirects to https://elsewhere.test/"),
        (httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Stream(b"no gzip")), "not compressed"),
        (html(418, "Teapot"), "418 with a page of HTML ('Teapot')"),
    ],
)
def test_what_is_no_quartermaster_is_told_as_such(ask: Ask, clock: Clock, answer: httpx.Response, words: str) -> None:
    with pytest.raises(BadAnswer) as refused:
        ask(Script(answer), "run", ID)
    assert URL in refused.value.detail
    assert words in refused.value.detail
    assert "secret" not in repr(refused.value)
    assert not clock.slept


def test_plans_and_files_must_be_what_they_are_to_be(ask: Ask) -> None:
    with pytest.raises(BadAnswer, match="no JSON object"):
        ask(Script(httpx.Response(200, json=[1])), "plan", ID)
    with pytest.raises(BadAnswer, match="application/json"):
        ask(Script(httpx.Response(200, json={})), "model_mps", ID)
    with pytest.raises(BadAnswer):
        ask(Script(httpx.Response(200, json={"view": "loads"})), "view", ID, "loads")
    assert ask(Script(httpx.Response(200, json={"view": "loads", "content": [1]})), "view", ID, "loads") == [1]
    assert ask(Script(httpx.Response(200, text="queued\n")), "log", ID) == "queued\n"


@pytest.mark.parametrize(
    "address", ["", "localhost:8080", "ftp://here", "http://", "http://a b", "http://h:99999", "http://h?x=1", "http://me:s3cret@here"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="address") as refused:
        Client(address)
    assert "s3cret" not in str(refused.value)


def test_what_is_no_key() -> None:
    with pytest.raises(ValueError, match="API key") as refused:
        Client(URL, "qm_secret\n")
    assert "secret" not in str(refused.value)


# ---------------------------------------------------------------- what is sent


def test_ids_cannot_change_the_path(ask: Ask) -> None:
    script = Script(found())
    ask(script, "run", "../kinds?x#y")
    assert script.requests[0].url.raw_path == b"/v1/runs/..%2Fkinds%3Fx%23y"


def test_an_address_may_have_a_path() -> None:
    script = Script(found())
    with Client(f"{URL}/behind/a/proxy/", transport=script) as client:
        client.run(ID)
    assert script.requests[0].url.path == f"/behind/a/proxy/v1/runs/{ID}"


def test_large_bodies_are_compressed(ask: Ask) -> None:
    script = Script(found())
    large = {"names": ["x" * 100] * 1000}
    ask(script, "submit", "placement", large)
    request = script.requests[0]
    assert request.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(request.content))["problem"] == large


def test_numbers_that_json_does_not_have_are_refused(ask: Ask) -> None:
    script = Script(found())
    with pytest.raises(ValueError, match="JSON"):
        ask(script, "submit", "placement", {"capacity": float("nan")})
    assert not script.requests


def test_a_program_file_travels_compressed_and_unchanged(ask: Ask, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "small.mps.gz"
    path.write_bytes(gzip.compress(b"NAME \xff\nENDATA\n"))
    script = Script(problem(503), found())
    ask(script, "solve", "program", ProgramFile.read(path), limits={"seed": 1})
    first, second = script.requests
    assert first.headers["content-type"].startswith("multipart/form-data")
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    for request in script.requests:
        assert path.read_bytes() in request.content
        assert b'{"kind": "program", "limits": {"seed": 1}}' in request.content
    assert len(clock.slept) == 1
    with pytest.raises(ValueError, match="MPS or LP"):
        ProgramFile.read(tmp_path / "small.txt")
    with pytest.raises(ValueError, match="gzip"):
        ask(script, "add_problem", "program", ProgramFile(b"\x1f\x8bnone", "mps"))


def test_pages_are_turned(ask: Ask) -> None:
    pages = [{"runs": [run_object()] * 2, "next": "abc"}, {"runs": [run_object("queued")], "next": None}]
    script = Script(*(httpx.Response(200, json=page) for page in pages))
    assert [run.state for run in ask(script, "runs", state="queued", kind="placement", page=2)] == ["succeeded", "succeeded", "queued"]
    asked = [dict(request.url.params) for request in script.requests]
    assert asked == [
        {"limit": "2", "state": "queued", "kind": "placement"},
        {"limit": "2", "state": "queued", "kind": "placement", "cursor": "abc"},
    ]


# ---------------------------------------------------------------- the two clients


def test_both_clients_can_do_the_same() -> None:
    def public(kind: type) -> dict[str, list[str]]:
        names = [name for name in vars(kind) if not name.startswith("_") and name not in {"close", "aclose", "base_url"}]
        return {name: list(inspect.signature(getattr(kind, name)).parameters) for name in names}

    assert public(Client) == public(AsyncClient)
    assert len(public(Client)) == 26


def test_the_client_loads_no_solver_and_no_server() -> None:
    heavy = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "pyomo", "highspy", "ortools", "torch", "numpy", "typer")
    script = f"import sys, service.client; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"

"""The extender over HTTP: what is no question of kube-scheduler's is refused, counted and told, and never ends anything."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.plugins.kubernetes.extender import Extender
from service.plugins.kubernetes.extender_app import MIB, ExtenderApp
from service.plugins.kubernetes.extender_process import serve
from service.plugins.modes import Mode
from service.serving import listening
from tests.plugins.kubernetes.extender_calls import NODES, NOW, Read, by_names, by_nodes, go_json, meta_victims, plan, planned, pod

VERBS = ("filter", "prioritize", "preempt", "bind")


def extender() -> Extender:
    made = Extender(Mode.enforce, lambda: NOW)
    made.seating = plan(planned("gpu-2"))
    return made


class Asked:
    """An application asked without a network: one request, its body in the given parts."""

    def __init__(self, app: ExtenderApp) -> None:
        self.app = app

    def __call__(self, path: str, *parts: bytes, method: str = "POST", gone: bool = False) -> tuple[int, bytes]:
        told: list[Any] = []
        messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        if gone:
            messages.append({"type": "http.disconnect"})
        elif messages:
            messages[-1]["more_body"] = False
        else:
            messages = [{"type": "http.request", "body": b"", "more_body": False}]
        coming = iter(messages)

        async def receive() -> Any:
            return next(coming)

        async def send(message: Any) -> None:
            told.append(message)

        asyncio.run(self.app({"type": "http", "method": method, "path": path, "headers": []}, receive, send))
        return (told[0]["status"], b"".join(one.get("body", b"") for one in told[1:])) if told else (0, b"")

    def counted(self, name: str, **labels: str) -> float:
        return self.app.metrics.registry.get_sample_value(f"quartermaster_extender_{name}", labels) or 0.0


@pytest.fixture
def asked() -> Asked:
    return Asked(ExtenderApp(extender(), largest_body_mib=12))


DEEP = b"[" * 5_000 + b"]" * 5_000
NESTED = json.loads('{"a":' * 300 + "1" + "}" * 300)
BAD = {
    "empty": b"",
    "no json": b"{",
    "not an object": b"[]",
    "a text": b'"Pod"',
    "no pod": go_json({"Nodes": None, "NodeNames": NODES}),
    "pod is null": by_names(None, NODES),  # type: ignore[arg-type]
    "pod is a list": by_names([], NODES),  # type: ignore[arg-type]
    "pod has no name": by_names({"metadata": {}}, NODES),
    "the name is a number": by_names({"metadata": {"name": 1}}, NODES),
    "the uid is a list": by_names({"metadata": {"name": "a", "uid": []}}, NODES),
    "names are numbers": by_names(pod(), [1, 2]),  # type: ignore[list-item]
    "names are an object": by_names(pod(), {"gpu-1": 1}),  # type: ignore[arg-type]
    "nodes are a list": go_json({"Pod": pod(), "Nodes": [], "NodeNames": None}),
    "nodes without names": go_json({"Pod": pod(), "Nodes": {"items": [{}]}, "NodeNames": None}),
    "neither": go_json({"Pod": pod(), "Nodes": None, "NodeNames": None}),
    "cut off": by_names(pod(), NODES)[:-5],
    "deep": DEEP,
    "no utf-8": b'{"Pod":"\xff"}',
    "ten megabytes": b'{"Pod":"' + b"x" * 10 * MIB + b'"}',
}


@pytest.mark.parametrize("body", list(BAD.values()), ids=list(BAD))
def test_a_bad_question_is_refused_counted_and_told(asked: Asked, body: bytes) -> None:
    with structlog.testing.capture_logs() as lines:
        status, answer = asked("/filter", body)
        assert (status, set(json.loads(answer))) == (200, {"Error"})  # kube-scheduler writes Error to its log, and goes on without us
        assert json.loads(answer)["Error"].startswith("filter: ")
        assert asked("/prioritize", body)[0] == 400  # there is no Error in its answer
    assert asked.counted("malformed_total", verb="filter") == 1
    assert asked.counted("answers_total", verb="filter", outcome="malformed") == 1
    assert [(line["verb"], line["log_level"]) for line in lines] == [("filter", "warning"), ("prioritize", "warning")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        go_json({"NodeNameToMetaVictims": {}}),
        go_json({"Pod": pod(), "NodeNameToMetaVictims": []}),
        go_json({"Pod": pod(), "NodeNameToMetaVictims": {"n": []}}),
        go_json({"Pod": pod(), "NodeNameToMetaVictims": {"n": {"Pods": [{}]}}}),
        go_json({"Pod": pod(), "NodeNameToMetaVictims": {"n": {"Pods": [{"UID": 1}]}}}),
        go_json({"Pod": pod(), "NodeNameToMetaVictims": {"n": {"Pods": [], "NumPDBViolations": "1"}}}),
        go_json({"Pod": pod(), "NodeNameToVictims": {"n": {"Pods": [{"metadata": {}}]}}}),
    ],
)
def test_a_bad_preempt_or_bind_is_refused(asked: Asked, body: bytes) -> None:
    assert asked("/preempt", body)[0] == 400
    assert json.loads(asked("/bind", body)[1])["Error"]


def test_nodes_nested_deeper_than_can_be_written_are_refused(asked: Asked) -> None:
    body = go_json(
        {"Pod": pod(opted_in=False, name="x"), "Nodes": {"items": [{"metadata": {"name": "n"}, "deep": NESTED}]}, "NodeNames": None}
    )
    status, answer = asked("/filter", body)
    assert status == 200
    assert "Error" in json.loads(answer)


def test_who_sends_rubbish_often_is_logged_once_a_second(asked: Asked) -> None:
    with structlog.testing.capture_logs() as lines:
        for _ in range(50):
            asked("/filter", b"rubbish")
    assert len(lines) < 5
    assert asked.counted("malformed_total", verb="filter") == 50


def test_a_body_in_parts_is_one_body(asked: Asked) -> None:
    body = by_names(pod(), NODES)
    whole = asked("/filter", body)
    assert asked("/filter", *(body[at : at + 7] for at in range(0, len(body), 7))) == whole
    assert Read(whole[1], NODES, cache_capable=True).passed == ["gpu-2"]


def test_a_body_beyond_the_limit_is_refused(asked: Asked) -> None:
    status, answer = asked("/filter", *[b"x" * MIB] * 13)
    assert status == 413
    assert "12 MiB" in json.loads(answer)["Error"]


def test_a_client_that_goes_away_is_counted(asked: Asked) -> None:
    assert asked("/filter", b'{"Pod"', gone=True) == (0, b"")
    assert asked.counted("malformed_total", verb="filter") == 1


def test_a_slow_body_is_given_up() -> None:
    app = ExtenderApp(extender(), body_s=0.05)
    told: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        told.append(message)

    asyncio.run(app({"type": "http", "method": "POST", "path": "/filter", "headers": []}, receive, send))
    assert told[0]["status"] == 408
    assert (b"connection", b"close") in told[0]["headers"]


def test_our_own_fault_is_told_as_such_and_ends_nothing(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.plugins.kubernetes.extender_wire.passes_one", lambda *_: 1 // 0)
    with structlog.testing.capture_logs() as lines:
        assert asked("/filter", by_names(pod(), NODES))[0] == 500
    assert any(line["log_level"] == "error" for line in lines)
    assert asked("/prioritize", by_names(pod(), NODES))[0] == 200


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/", "GET", 404), ("/x", "POST", 404), ("/filter", "GET", 405), ("/metrics", "POST", 405)]
)
def test_other_paths_and_methods(asked: Asked, path: str, method: str, status: int) -> None:
    assert asked(path, method=method)[0] == status


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("Pod", "Nodes", "NodeNames", "NodeNameToVictims", "NodeNameToMetaVictims", "PodName", "PodUID", "Node", "pod", "nodenames")
SHAPED = st.dictionaries(
    st.sampled_from(FIELDS), JSON | st.just(pod()) | st.just(NODES) | st.just({"items": [{"metadata": {"name": "a"}}]}), max_size=6
)
SHARED = Asked(ExtenderApp(extender()))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(VERBS), st.binary(max_size=60) | SHAPED.map(lambda value: json.dumps(value).encode()))
def test_no_body_whatever_ends_it(verb: str, body: bytes) -> None:
    status, answer = SHARED(f"/{verb}", body)
    assert status in {200, 400}
    json.loads(answer)
    assert SHARED.counted("answers_total", verb=verb, outcome="failed") == 0


@given(st.data())
def test_no_damage_to_a_good_body_ends_it(data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from([by_names(pod(), NODES), by_nodes(pod(), NODES), meta_victims(pod(), {"gpu-1": ["a"]})])))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    for verb in VERBS:
        status, answer = SHARED(f"/{verb}", bytes(body))
        assert status in {200, 400}
        json.loads(answer)


# ---------------------------------------------------------------- over sockets


@contextmanager
def served(app: ExtenderApp) -> Iterator[int]:
    listener, stopping = listening("127.0.0.1", 0), threading.Event()
    thread = threading.Thread(target=serve, args=(app, listener, stopping))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stopping.set()
        thread.join()
        listener.close()


def until(holds: Any) -> None:
    for _ in range(400):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to hold within 20 s")


def test_over_a_real_connection() -> None:
    names = [f"gpu-{index}" for index in range(5_000)]
    one = extender()
    with served(ExtenderApp(one)) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}
        for body in (by_names(pod(), names), by_names(pod(opted_in=False, name="web"), names)):
            whole = client.post("/filter", content=body)
            chunked = client.post("/filter", content=(body[at : at + 10_000] for at in range(0, len(body), 10_000)))
            assert whole.content == chunked.content
            assert whole.headers["content-type"] == "application/json"
        one.mode = Mode.advise
        assert Read(client.post("/filter", content=by_names(pod(), names)).content, names, cache_capable=True).passed == names
        assert client.post("/filter", content=b"x" * (5 * MIB)).json()["Error"]
        page = client.get("/metrics").text
        assert 'quartermaster_extender_answers_total{outcome="seat",verb="filter"} 2.0' in page
        assert "quartermaster_extender_plan_version 7.0" in page


def test_slow_and_broken_clients_do_not_keep_others_waiting() -> None:
    with served(ExtenderApp(extender(), body_s=0.3)) as port:
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(16)]
        for connection in slow[:8]:
            connection.sendall(b"POST /filter HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{")
        for connection in slow[8:]:
            connection.sendall(b"\x16\x03\x01\x00")  # TLS, where none is spoken
        assert httpx.post(f"http://127.0.0.1:{port}/filter", content=by_names(pod(), NODES)).status_code == 200
        answers = [connection.recv(4096) for connection in slow[:8]]
        assert all(b" 408 " in answer for answer in answers)
        for connection in slow:
            connection.close()

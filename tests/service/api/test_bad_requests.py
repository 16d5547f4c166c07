"""Every way to ask wrongly: a 4xx problem document that names the place and the cure, and nothing is stored."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
import structlog

from service.api import gunzip, middleware
from tests.service.api.conftest import MakeHouse
from tests.service.api.house import House, problem

RUN = "run_0123456789abcdef01234567"
PROBLEM = "prob_0123456789abcdef0123456789abcdef"


def refused(found: Any, status: int, code: str, pointer: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = found.json()
    assert (found.status_code, body["status"], body["code"]) == (status, status, code), found.text
    assert found.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"urn:quartermaster:error:{code}"
    assert body["request_id"] == found.headers["x-request-id"]
    assert body["detail"]
    if pointer is not None:
        assert pointer in [one["pointer"] for one in body["errors"]], found.text
    return body


def asked(**fields: Any) -> bytes:
    return json.dumps({"kind": "placement", "problem": problem()} | fields).encode()


@pytest.mark.parametrize(
    ("content", "status", "code", "pointer"),
    [
        (b"", 400, "json_invalid", ""),
        (b"hello", 400, "json_invalid", ""),
        (b'{"kind": "placement"', 400, "json_invalid", ""),
        (b"\xff\xfe", 400, "json_invalid", ""),
        ('{"kind": "placement"}'.encode("utf-16"), 400, "json_invalid", ""),
        (b'{"a":' * 300 + b"1" + b"}" * 300, 400, "json_invalid", ""),
        (b"[" * 100_000, 400, "json_invalid", ""),
        (b'{"priority": ' + b"9" * 5_000 + b"}", 400, "json_invalid", ""),
        (b'{"kind": "\\ud800"}', 400, "json_invalid", ""),
        (b'{"kind": "placement", "kind": "program"}', 422, "invalid", ""),
        (asked()[:-1] + b', "limits": {"seed": 1, "seed": 2}}', 422, "invalid", ""),
        (b"[]", 422, "invalid", ""),
        (b"null", 422, "invalid", ""),
        (b"7", 422, "invalid", ""),
        (b"{}", 422, "invalid", "/problem"),
        (b'{"kind": "placement"}', 422, "invalid", "/problem"),
        (asked(kind="nothing"), 422, "invalid", "/kind"),
        (asked(kind=None), 422, "invalid", "/kind"),
        (asked(kind=7), 422, "invalid", "/kind"),
        (asked(kind="x\u0000"), 422, "invalid", "/kind"),
        (asked(colour="red"), 422, "invalid", "/colour"),
        (asked(schema_version=2), 422, "invalid", "/schema_version"),
        (asked(problem=[]), 422, "invalid", "/problem"),
        (asked(problem="text"), 422, "invalid", "/problem"),
        (asked(problem={"nodes": []}), 422, "invalid", "/problem/nodes"),
        (
            asked(problem=problem(nodes=[{"id": "a", "cpu_cores": float("nan"), "memory_gib": 1}])),
            422,
            "invalid",
            "/problem/nodes/0/cpu_cores",
        ),
        (asked(problem=problem(max_evictions=10**30)), 422, "invalid", "/problem/max_evictions"),
        (asked(problem=problem(jobs=[{"id": "a", "gpus_per_worker": 64}])), 422, "invalid", "/problem/jobs/0/gpus_per_worker"),
        (asked(problem_id=PROBLEM), 422, "invalid", "/problem_id"),
        (json.dumps({"problem_id": PROBLEM}).encode(), 422, "invalid", "/problem_id"),
        (json.dumps({"problem_id": "x"}).encode(), 422, "invalid", "/problem_id"),
        (asked(limits={"time_limit_s": 0}), 422, "invalid", "/limits/time_limit_s"),
        (asked(limits={"time_limit_s": "5 s"}), 422, "invalid", "/limits/time_limit_s"),
        (asked(limits={"time_limit_s": 10**6}), 422, "invalid", "/limits/time_limit_s"),
        (asked(limits={"threads": 10**3}), 422, "invalid", "/limits/threads"),
        (asked(limits={"threads": 0}), 422, "invalid", "/limits/threads"),
        (asked(limits={"gap": 1}), 422, "invalid", "/limits/gap"),
        (asked(limits={"seed": -1}), 422, "invalid", "/limits/seed"),
        (asked(limits={"seed": 1.5}), 422, "invalid", "/limits/seed"),
        (asked(limits={"memory_gib": -1}), 422, "invalid", "/limits/memory_gib"),
        (asked(limits={"time": 5}), 422, "invalid", "/limits/time"),
        (asked(limits=5), 422, "invalid", "/limits"),
        (asked(priority=10**9), 422, "invalid", "/priority"),
        (asked(priority=True), 422, "invalid", "/priority"),
        (asked(cache="perhaps"), 422, "invalid", "/cache"),
        (asked(warm_start_run=RUN), 422, "invalid", "/warm_start_run"),
        (asked(warm_start_run="' OR 1=1"), 422, "invalid", "/warm_start_run"),
    ],
)
def test_a_body_that_cannot_be_used(content: bytes, status: int, code: str, pointer: str, house: House) -> None:
    refused(house.post("/v1/runs", content), status, code, pointer)
    assert house.get("/v1/runs").json()["runs"] == []


def test_every_mistake_is_told_at_once(house: House) -> None:
    jobs = [{"id": f"j{number}", "gpus_per_worker": -1} for number in range(300)]
    errors = refused(house.post("/v1/runs", asked(problem=problem(jobs=jobs))), 422, "invalid")["errors"]
    assert len(errors) == 100
    assert errors[41] == {
        "pointer": "/problem/jobs/41/gpus_per_worker",
        "code": "greater_than_equal",
        "detail": "job 'j41': must be at least 0.0, not -1; correct the number",
    }


def test_a_contradiction_names_its_place(house: House) -> None:
    double = problem()
    double["jobs"] = [double["jobs"][0], double["jobs"][0]]
    double["max_moves"] = 3
    told = refused(house.post("/v1/runs", asked(problem=double)), 422, "invalid", "/problem/jobs/1/id")
    assert "own id" in told["errors"][0]["detail"]
    places = [(one["pointer"], one["code"]) for one in told["errors"]]
    assert places == [("/problem/jobs/1/id", "duplicate_id"), ("/problem/max_moves", "max_moves_unused")]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"nodes": [{"id": "n1", "memory_gib": 1}]}, [("/problem/nodes/0/cpu_cores", "missing")]),
        ({"nodes": [7]}, [("/problem/nodes/0", "model_type")]),
        ({"nodes": []}, [("/problem/nodes", "too_short")]),
        (
            {"jobs": [{"id": "a", "gpus_per_worker": 1, "running": {"workers": [{"gpus": [0]}]}}]},
            [("/problem/jobs/0/running/workers/0/node", "missing")],
        ),
    ],
)
def test_a_list_is_too_short_only_when_it_is(changes: dict[str, Any], found: list[tuple[str, str]], house: House) -> None:
    told = refused(house.post("/v1/runs", asked(problem=problem(**changes))), 422, "invalid")
    assert [(one["pointer"], one["code"]) for one in told["errors"]] == found


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "garbage"])
@pytest.mark.parametrize("path", ["/v1/runs", "/v1/problems", f"/v1/problems/{PROBLEM}:patch", "/v1/kinds/placement:validate"])
def test_a_body_of_another_type(kind: str | None, path: str, house: House) -> None:
    headers = {"Content-Type": kind} if kind is not None else {}
    refused(house.ask("POST", path, content=asked(), headers=headers), 415, "wrong_media_type")


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/v1/runs?limit=0", "/query/limit"),
        ("/v1/runs?limit=201", "/query/limit"),
        ("/v1/runs?limit=x", "/query/limit"),
        ("/v1/runs?state=asleep", "/query/state"),
        ("/v1/runs?kind=nothing", "/query/kind"),
        ("/v1/runs?kind=%00", "/query/kind"),
        ("/v1/runs?cursor=x", "/query/cursor"),
        ("/v1/runs?cursor=%F0%9F%98%80", "/query/cursor"),
        ("/v1/runs?cursor=YmVmb3JlOi0x", "/query/cursor"),
        ("/v1/runs?cursor=" + "a" * 100, "/query/cursor"),
        ("/v1/runs/nothing", "/path/run_id"),
        ("/v1/runs/run_%00", "/path/run_id"),
        ("/v1/problems/nothing", "/path/problem_id"),
        (f"/v1/runs/{RUN}/events?after=-1", "/query/after"),
        (f"/v1/runs/{RUN}/explanations?subject=", "/query/subject"),
    ],
)
def test_parameters_that_cannot_be_used(path: str, pointer: str, house: House) -> None:
    refused(house.get(path), 400, "bad_cursor" if "cursor=" in path and "aaa" not in path else "bad_request", pointer)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/runs/abc", "must be of the form ^run_[0-9a-f]{24}$, not 'abc'"),
        ("/v1/runs?state=done", "'succeeded', 'failed' or 'cancelled', not 'done'"),
        ("/v1/runs?state=succeded", "did you mean 'succeeded'?"),
        ("/v1/runs?limit=x", "must be a whole number, not 'x'"),
    ],
)
def test_a_parameter_is_told_as_a_field_is(path: str, words: str, house: House) -> None:
    told = refused(house.get(path), 400, "bad_request")
    assert words in told["errors"][0]["detail"]
    assert told["detail"] == f"{told['errors'][0]['pointer']}: {told['errors'][0]['detail']}"


def test_an_unknown_limit_names_the_one_that_was_meant(house: House) -> None:
    told = refused(house.post("/v1/runs", asked(limits={"time_limit": 5})), 422, "invalid", "/limits/time_limit")
    assert told["errors"][0]["detail"] == "is not a field of the limits; did you mean 'time_limit_s'?"


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, "\x7f"])
def test_an_idempotency_key_that_is_none(key: str, house: House) -> None:
    refused(house.post("/v1/runs", asked(), Idempotency_Key=key), 400, "bad_idempotency_key", "/header/idempotency-key")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "no_such_path"),
        ("GET", "/v1", 404, "no_such_path"),
        ("GET", "/v1/runs/", 404, "no_such_path"),
        ("GET", "/docs", 404, "no_such_path"),
        ("GET", "/v1/kinds/nothing", 404, "kind_not_found"),
        ("POST", "/v1/kinds/nothing:validate", 404, "kind_not_found"),
        ("GET", f"/v1/runs/{RUN}", 404, "run_not_found"),
        ("GET", f"/v1/runs/{RUN}/plan", 404, "run_not_found"),
        ("GET", f"/v1/runs/{RUN}/events", 404, "run_not_found"),
        ("GET", f"/v1/runs/{RUN}/log", 404, "run_not_found"),
        ("GET", f"/v1/runs/{RUN}/model.mps", 404, "run_not_found"),
        ("GET", f"/v1/runs/{RUN}/views", 404, "run_not_found"),
        ("GET", f"/v1/runs/{RUN}/views/loads", 404, "run_not_found"),
        ("POST", f"/v1/runs/{RUN}:cancel", 404, "run_not_found"),
        ("GET", f"/v1/problems/{PROBLEM}", 404, "problem_not_found"),
        ("POST", f"/v1/problems/{PROBLEM}:patch", 404, "problem_not_found"),
        ("DELETE", "/v1/runs", 405, "method_not_allowed"),
        ("PUT", f"/v1/runs/{RUN}", 405, "method_not_allowed"),
        ("HEAD", "/v1/runs", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there(method: str, path: str, status: int, code: str, house: House) -> None:
    found = house.ask(method, path, content=b"{}" if method == "POST" else None, headers={"Content-Type": "application/json"})
    if method == "HEAD":
        assert found.status_code == status
    else:
        refused(found, status, code)
    if status == 405:
        assert found.headers["allow"] == ("GET, POST" if path == "/v1/runs" else "GET")


# ---------------------------------------------------------------- sizes


def test_a_body_over_the_limit(make_house: MakeHouse) -> None:
    house = make_house(largest_body_mib=1)
    refused(house.post("/v1/runs", b" " * (2**20 + 1)), 413, "too_large")


async def parts(size: int, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * size


def test_a_body_over_the_limit_that_does_not_say_so(make_house: MakeHouse) -> None:
    house = make_house(largest_body_mib=1)
    found = house.ask("POST", "/v1/runs", content=parts(2**16, 100), headers={"Content-Type": "application/json"})
    refused(found, 413, "too_large")


def test_a_small_body_that_unfolds(make_house: MakeHouse) -> None:
    house = make_house(largest_body_mib=1)
    bomb = gzip.compress(b" " * 2**27)
    assert len(bomb) < 2**18
    refused(house.post("/v1/runs", bomb, Content_Encoding="gzip"), 413, "too_large")


def test_a_compressed_body(house: House) -> None:
    assert house.post("/v1/runs", gzip.compress(asked()), Content_Encoding="gzip").status_code == 202


@pytest.mark.parametrize("content", [b"plain", gzip.compress(asked())[:-12], b""])
def test_broken_gzip(content: bytes, house: House) -> None:
    refused(house.post("/v1/runs", content, Content_Encoding="gzip"), 400, "bad_gzip")


def test_a_compressed_body_of_several_members(house: House) -> None:
    whole = asked()
    parts_of = b"".join(gzip.compress(whole[start : start + 100]) for start in range(0, len(whole), 100))
    assert house.post("/v1/runs", parts_of, Content_Encoding="gzip").status_code == 202
    for broken in (parts_of[:-3], parts_of + b"more", parts_of + gzip.compress(b"")[:5]):
        refused(house.post("/v1/runs", broken, Content_Encoding="gzip"), 400, "bad_gzip")


def test_members_count_together(make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    house = make_house(largest_body_mib=1)
    refused(house.post("/v1/runs", gzip.compress(b" " * 2**19) * 3, Content_Encoding="gzip"), 413, "too_large")
    monkeypatch.setattr(gunzip, "MOST_MEMBERS", 10)
    assert house.post("/v1/runs", gzip.compress(asked()) + gzip.compress(b"") * 9, Content_Encoding="gzip").status_code == 202
    refused(house.post("/v1/runs", gzip.compress(asked()) + gzip.compress(b"") * 10, Content_Encoding="gzip"), 400, "bad_gzip")


def test_another_encoding(house: House) -> None:
    refused(house.post("/v1/runs", asked(), Content_Encoding="br"), 415, "wrong_encoding")


Told = list[dict[str, Any]]


def by_hand(house: House, *messages: dict[str, Any], announced: tuple[bytes, bytes] | None = None) -> Told:
    """What the app sends when a POST of a run arrives in these parts, and then nothing."""
    sent: Told = []
    arriving = list(messages)

    async def receive() -> Any:
        if arriving:
            return arriving.pop(0)
        await anyio.sleep(30)
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> None:
        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/runs", "raw_path": b"/v1/runs", "query_string": b""}
        scope |= {"headers": [(b"content-type", b"application/json"), (b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1)}
        scope["headers"] += [announced] if announced is not None else []
        await house.app(scope | {"server": ("127.0.0.1", 80), "scheme": "http", "root_path": ""}, receive, send)

    house.portal.call(ask)
    return sent


def test_a_body_that_does_not_arrive(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "BODY_S", 0.05)
    sent = by_hand(house, {"type": "http.request", "body": b"{", "more_body": True})
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["code"] == "body_timeout"


@pytest.mark.parametrize("announced", [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")])
def test_a_body_that_never_begins(announced: tuple[bytes, bytes], house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "BODY_S", 0.05)
    sent = by_hand(house, announced=announced)
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["code"] == "body_timeout"


def test_a_client_that_leaves_while_it_sends(house: House) -> None:
    """It is not our fault, and nothing is logged as one."""
    with structlog.testing.capture_logs() as lines:
        sent = by_hand(house, {"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"})
    assert sent == []
    assert [(line["log_level"], line["status"]) for line in lines] == [("info", 499)]

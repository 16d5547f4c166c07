"""What surrounds every request: ids, headers, log lines, metrics, tenants, and no traceback when we are at fault."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import structlog

from service.errors import Unavailable
from service.keys import create_key
from service.runs import store
from service.runs.database import Database
from tests.service.api.conftest import MakeHouse
from tests.service.api.house import House, problem

SECURITY = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("path", ["/v1/kinds", "/healthz", "/nothing", "/v1/runs?limit=0", "/openapi.json"])
def test_headers(path: str, house: House) -> None:
    found = house.get(path)
    assert {name: found.headers[name] for name in SECURITY} == SECURITY
    assert re.fullmatch(r"[0-9a-f]{16}", found.headers["x-request-id"])
    assert "server" not in found.headers


def test_the_clients_own_request_id(house: House) -> None:
    assert house.get("/v1/kinds", X_Request_Id="abc-1.2_3").headers["x-request-id"] == "abc-1.2_3"
    for bad in ("x" * 65, "two words", "a\tb", ""):
        assert re.fullmatch(r"[0-9a-f]{16}", house.get("/v1/kinds", X_Request_Id=bad).headers["x-request-id"])


def test_ids_are_kept_with_the_run(house: House) -> None:
    made = house.post(
        "/v1/runs",
        {"kind": "placement", "problem": problem()},
        X_Request_Id="from-me",
        traceparent=f"00-{TRACE}-b7ad6b7169203331-01",
    ).json()
    run = house.database.read(lambda connection: store.run_of(connection, "default", made["id"]))
    assert (run.request_id, run.trace_id) == ("from-me", TRACE)


def test_a_line_for_every_request(house: House) -> None:
    with structlog.testing.capture_logs() as lines:
        house.get("/v1/kinds/nothing?secret=1")
        house.get("/healthz")
    told = [line for line in lines if line["event"] == "request"]
    assert [(line["method"], line["path"], line["status"]) for line in told] == [("GET", "/v1/kinds/nothing", 404)]


def test_figures(house: House) -> None:
    house.run()
    house.end()
    house.run()
    house.get("/v1/runs/run_0123456789abcdef01234567")
    house.get("/nothing")
    text = house.get("/metrics").text
    for line in (
        'quartermaster_runs_accepted_total{kind="placement"} 2.0',
        'quartermaster_cache_hits_total{kind="placement"} 1.0',
        'quartermaster_http_requests_total{method="POST",route="/v1/runs",status="202"} 1.0',
        'quartermaster_http_requests_total{method="GET",route="/v1/runs/{run_id}",status="404"} 1.0',
        'quartermaster_http_requests_total{method="GET",route="unmatched",status="404"} 1.0',
    ):
        assert line in text


# ---------------------------------------------------------------- our own faults


def test_a_fault_of_ours(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError("the secret inside")

    monkeypatch.setattr(store, "run_of", broken)
    with structlog.testing.capture_logs() as lines:
        found = house.get("/v1/runs/run_0123456789abcdef01234567/log")
    assert (found.status_code, found.json()["code"]) == (500, "internal")
    assert found.json()["request_id"] == found.headers["x-request-id"]
    assert "secret" not in found.text
    assert "Traceback" not in found.text
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["a request failed"]


def test_a_database_that_does_not_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> Any:
        raise Unavailable("the database does not answer", code="database_unavailable", retry_after_s=1)

    monkeypatch.setattr(Database, "read", gone)
    monkeypatch.setattr(Database, "submit", gone)
    for found in (house.get("/v1/runs"), house.post("/v1/runs", {"kind": "placement", "problem": problem()})):
        assert (found.status_code, found.json()["code"], found.headers["retry-after"]) == (503, "database_unavailable", "1")
    ready = house.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "failed")
    assert house.get("/healthz").status_code == 200


def test_a_database_that_takes_for_ever(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    release = threading.Event()
    monkeypatch.setattr("service.api.state.ANSWER_S", 0.05)
    monkeypatch.setattr(Database, "read", lambda *_: release.wait(30))
    try:
        assert house.get("/v1/runs").json()["code"] == "database_unavailable"
        monkeypatch.setattr(house.telemetry, "exposition", lambda _: release.wait(30))  # reads it too
        assert house.get("/metrics").json()["code"] == "database_unavailable"
    finally:
        release.set()


# ---------------------------------------------------------------- who asks


@pytest.fixture
def guarded(make_house: MakeHouse) -> House:
    return make_house(require_keys=True)


def key(house: House, tenant: str, *scopes: str) -> dict[str, str]:
    text = house.database.write(lambda connection: create_key(connection, tenant, scopes))
    return {"Authorization": f"Bearer {text}"}


NAMED = {
    "kind": "placement",
    "run_id": "run_0123456789abcdef01234567",
    "problem_id": f"prob_{'0' * 32}",
    "study_id": "study_0123456789abcdef01234567",
    "view": "loads",
}


def test_no_answer_without_a_key(guarded: House) -> None:
    document = guarded.get("/openapi.json").json()
    asked = 0
    for path, operations in document["paths"].items():
        for method in operations:
            if path in {"/healthz", "/readyz"}:
                continue
            there = path.format(**NAMED)
            found = guarded.ask(method.upper(), there, content=b"{}", headers={"Content-Type": "application/json"})
            assert (found.status_code, found.json()["code"]) == (401, "key_required"), path
            assert found.headers["www-authenticate"].startswith("Bearer")
            asked += 1
    assert asked > 15
    assert guarded.get("/healthz").status_code == guarded.get("/readyz").status_code == 200


def test_scopes(guarded: House) -> None:
    reader, solver, admin = (key(guarded, "a", scope) for scope in ("read", "solve", "admin"))
    body = {"kind": "placement", "problem": problem()}
    assert guarded.post("/v1/runs", body, **reader).json()["code"] == "scope_missing"
    assert guarded.post("/v1/problems", body, **reader).status_code == 403
    run = guarded.post("/v1/runs", body, **solver).json()["id"]
    assert guarded.post(f"/v1/runs/{run}:cancel", **reader).status_code == 403
    assert guarded.get(f"/v1/runs/{run}", **reader).status_code == 200
    assert guarded.post("/v1/kinds/placement:validate", problem(), **reader).status_code == 200
    assert guarded.get("/metrics", **solver).status_code == 403
    assert guarded.get("/metrics", **admin).status_code == 200


def test_tenants_do_not_see_each_other(guarded: House) -> None:
    ours, theirs = key(guarded, "ours", "solve"), key(guarded, "theirs", "solve")
    body = {"kind": "placement", "problem": problem()}
    made = guarded.post("/v1/runs", body, Idempotency_Key="one", **ours).json()
    guarded.end()
    run, kept = made["id"], made["problem_id"]
    parts = (
        "",
        "/plan",
        "/certificate",
        "/explanations",
        "/conflict",
        "/sensitivity",
        "/views",
        "/views/loads",
        "/model.mps",
        "/log",
        "/events",
    )
    for path in [f"/v1/runs/{run}{part}" for part in parts] + [f"/v1/problems/{kept}"]:
        assert guarded.get(path, **theirs).status_code == 404, path
    assert guarded.post(f"/v1/runs/{run}:cancel", **theirs).status_code == 404
    assert guarded.post(f"/v1/problems/{kept}:patch", {}, **theirs).status_code == 404
    assert guarded.get("/v1/runs", **theirs).json()["runs"] == []
    for reference in ({"problem_id": kept}, body | {"warm_start_run": run}):
        assert guarded.post("/v1/runs", reference, **theirs).status_code == 422
    other = guarded.post("/v1/runs", body, Idempotency_Key="one", **theirs)
    assert (other.status_code, other.json()["cached"]) == (202, False), "neither the key nor the cache is shared"
    assert other.json()["id"] != run
    assert [one["id"] for one in guarded.get("/v1/runs", **ours).json()["runs"]] == [run]


def test_what_a_page_of_another_site_may_not_do(house: House) -> None:
    body = json.dumps({"kind": "placement", "problem": problem()}).encode()
    for headers in ({"Origin": "https://elsewhere.example"}, {"Host": "elsewhere.example"}):
        found = house.ask("POST", "/v1/runs", content=body, headers={"Content-Type": "application/json"} | headers)
        assert found.status_code == 403


def test_rates_are_told(make_house: MakeHouse) -> None:
    house = make_house(rate_per_minute=2)
    found = [house.get("/v1/kinds") for _ in range(3)]
    assert [one.status_code for one in found] == [200, 200, 429]
    assert [one.headers["ratelimit-remaining"] for one in found[:2]] == ["1", "0"]
    assert int(found[2].headers["retry-after"]) >= 1

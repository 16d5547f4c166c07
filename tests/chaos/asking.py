"""A plain client for the tests: one request at a time, by the standard library."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from typing import Any

from benchmarks.service import problems
from benchmarks.service.processes import Process, address

PATIENCE_S = 60.0


def ask(server: Process, method: str, path: str, document: object = None, **headers: str) -> tuple[int, Any]:
    """Status and parsed body."""
    host, port = address(server)
    link = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        body = json.dumps(document).encode() if document is not None else None
        given = {name.replace("_", "-"): value for name, value in headers.items()} | ({"Content-Type": "application/json"} if body else {})
        link.request(method, path, body, given)
        response = link.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text[:1] in (b"{", b"[") else text.decode()
    finally:
        link.close()


def submit(server: Process, kind: str, problem: problems.Document, **fields: Any) -> str:
    """The id of a new run."""
    status, run = ask(server, "POST", "/v1/runs", {"kind": kind, "problem": problem, "cache": False} | fields)
    assert status in (200, 202), run
    return str(run["id"])


def busy(server: Process, seconds: float = 2.0, seed: int = 0) -> str:
    """A run that uses its whole time."""
    return submit(server, "placement", problems.gangs(200, 40, seed), limits={"time_limit_s": seconds, "gap": 0.0})


def run_of(server: Process, run_id: str) -> dict[str, Any]:
    """The run as it stands."""
    status, run = ask(server, "GET", f"/v1/runs/{run_id}")
    assert status == 200, run
    found: dict[str, Any] = run
    return found


def until(server: Process, run_id: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The run once it is as wanted."""
    give_up = time.monotonic() + PATIENCE_S
    while not wanted(run := run_of(server, run_id)):
        assert time.monotonic() < give_up, run
        time.sleep(0.02)
    return run


def ended(server: Process, run_id: str) -> dict[str, Any]:
    """The run once it has ended."""
    return until(server, run_id, lambda run: run["finished_at"] is not None)

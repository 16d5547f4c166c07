"""A service that answers as told, without a network: for tests of its clients."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

URL = "http://quartermaster.test:8080"
ID = "run_0123456789abcdef01234567"
SSE = {"content-type": "text/event-stream"}
Answer = Any  # a response, an exception to raise, or a function of the request


def run_object(state: str = "succeeded", **fields: Any) -> dict[str, Any]:
    ended = state == "succeeded"
    limits = {"time_limit_s": 60.0, "gap": 1e-4, "seed": 0, "threads": 1, "memory_gib": None}
    found = {"schema_version": 1, "id": ID, "kind": "placement", "state": state, "outcome": "optimal" if ended else None}
    found |= {"stop_reason": "gap" if ended else None, "objective": 3.0 if ended else None, "bound": None, "gap": None, "seconds": 0.1}
    found |= {"verified": ended, "cached": False, "priority": 0, "limits": limits, "problem_id": "prob_" + "0" * 32, "warm_start_run": None}
    found |= {"attempt": 1, "message": "", "failure": None, "created_at": "2026-01-02T03:04:05.678Z", "started_at": None}
    return found | {"finished_at": None, "links": {"self": f"/v1/runs/{ID}"}, "of_a_newer_service": 1} | fields


def found(state: str = "succeeded", *, applied: bool = True, **fields: Any) -> httpx.Response:
    headers = {"preference-applied": "wait=20"} if applied else {}
    return httpx.Response(200, json=run_object(state, **fields), headers=headers)


def problem(status: int, code: str = "a_code", **headers: str) -> httpx.Response:
    told = {"title": "No", "status": status, "code": code, "detail": f"detail of {code}", "errors": []}
    told["errors"] = [{"pointer": "/limits/gap", "code": "less_than", "detail": "must be less than 1"}] if status == 422 else []
    content = json.dumps(told).encode()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, content=content, headers={"content-type": "application/problem+json", "x-request-id": "abc", **given})


def html(status: int, title: str = "Sign in") -> httpx.Response:
    return httpx.Response(status, html=f"<html><title> {title} </title></html>")


class Script(httpx.MockTransport):
    """Answers the requests one after the other; the last answer stays."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        super().__init__(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        response = answer(request) if callable(answer) else answer
        assert isinstance(response, httpx.Response)
        if isinstance(response.stream, Stream):
            return httpx.Response(response.status_code, headers=response.headers, stream=response.stream)
        return httpx.Response(response.status_code, headers=response.headers, content=response.content)  # a used one is of no more use


class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in pieces, and may break off."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces, self.closed = pieces, False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def events(*pieces: bytes | Exception) -> httpx.Response:
    return httpx.Response(200, headers=SSE, stream=Stream(*pieces))


def event(number: int, state: str | None = None) -> bytes:
    data = {"number": number, "type": "state" if state else "bound", "at": "2026-01-02T03:04:05.678Z", "bound": float(number)}
    data |= {"state": state} if state else {}
    return f"id: {number}\nevent: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()

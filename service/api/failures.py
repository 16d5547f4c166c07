"""Every failure as ``application/problem+json`` (RFC 9457), and how the OpenAPI document tells of them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import structlog
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from service import errors as kinds_of
from service.auth import error_headers
from service.documents.complaints import pointer
from service.errors import BadRequest, Finding, MethodNotAllowed, NotFound, ServiceError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

PROBLEM_JSON = "application/problem+json"
EXAMPLE_ID = "5f2d8e6a01b94c37"
log = structlog.get_logger(__name__)

BY_STATUS: dict[int, type[ServiceError]] = {
    found.status: found
    for found in vars(kinds_of).values()
    if isinstance(found, type) and issubclass(found, ServiceError) and found not in (ServiceError, kinds_of.LeaseLost)
}


def problem(error: ServiceError, request_id: str, headers: dict[str, str] | None = None) -> Response:
    """The response that tells of an error."""
    body = error.body() | {"request_id": request_id}
    given = error_headers(error) | (headers or {})
    return Response(json.dumps(body, ensure_ascii=False).encode(), status_code=error.status, media_type=PROBLEM_JSON, headers=given)


def handle(app: FastAPI) -> None:
    """Have every exception of an endpoint, and of the router, answered as a problem document."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _of_the_router)


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)  # noqa: S101  (registered for it)
    return problem(error, request.state.request_id)


async def _not_valid(request: Request, error: Exception) -> Response:
    """A parameter of the path, the query or a header."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    found = []
    for detail in error.errors():
        message = str(detail["msg"])
        found.append(Finding(pointer(tuple(detail["loc"])), str(detail["type"]), f"{message[:1].lower()}{message[1:]}; correct it"))
    refused = BadRequest(f"{found[0].pointer}: {found[0].detail}" if found else "a parameter is wrong", errors=tuple(found[:20]))
    return problem(refused, request.state.request_id)


async def _of_the_router(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    headers = dict(error.headers or {})
    path = request.url.path[:200]
    if error.status_code == NotFound.status:
        found: ServiceError = NotFound(f"there is nothing at '{path}'; /openapi.json lists what there is", code="no_such_path")
    elif error.status_code == MethodNotAllowed.status:
        headers["Allow"] = ", ".join(_methods(request.app.openapi()["paths"], request.url.path))
        found = MethodNotAllowed(f"'{path}' does not know {request.method[:20]}; it knows {headers['Allow']}")
    elif error.status_code in BY_STATUS:
        found = BY_STATUS[error.status_code](str(error.detail))
    else:
        found = BadRequest(str(error.detail))
    return problem(found, request.state.request_id, headers)


def _methods(paths: dict[str, dict[str, Any]], path: str) -> list[str]:
    """What every route of this path knows; the router names only those of the first."""
    found = {"GET"} if path == "/openapi.json" else set[str]()
    for template, operations in paths.items():
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path):
            found |= {method.upper() for method in operations}
    return sorted(found)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an endpoint's documentation says of its failures; 401, 403, 429 and 503 can come from every one that asks who calls."""
    told: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*statuses, 400, 401, 403, 429, 503}):
        kind = BY_STATUS[status]
        sample = kind((kind.__doc__ or "").split("\n", maxsplit=1)[0], retry_after_s=1 if status in (429, 503) else None)
        content = {
            "schema": {"$ref": "#/components/schemas/ProblemDocument"},
            "example": sample.body() | {"request_id": EXAMPLE_ID},
        }
        told[status] = {"description": kind.title, "content": {PROBLEM_JSON: content}}
    return told

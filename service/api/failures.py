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
from service.documents.complaints import of_parameter
from service.errors import BadRequest, MethodNotAllowed, NotFound, ServiceError
from service.protocol import HeadTooLarge

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

PROBLEM_JSON = "application/problem+json"
MOST_TOLD = 20
EXAMPLE_ID = "5f2d8e6a01b94c37"
log = structlog.get_logger(__name__)


class BodyTimeoutError(ServiceError):
    """The client did not send what it had announced."""

    status, code, title = 408, "body_timeout", "Request timeout"


BY_STATUS: dict[int, type[ServiceError]] = {
    found.status: found
    for found in (*vars(kinds_of).values(), BodyTimeoutError, HeadTooLarge)
    if isinstance(found, type) and issubclass(found, ServiceError) and found is not kinds_of.LeaseLost
}
OF_ALL = (400, 401, 403, 429, HeadTooLarge.status, 500, 503)
OF_BODIES = (408, 413, 415)  # of every endpoint that reads a body
OF_CHILDREN = (413, 422)  # of every endpoint that has a child process compute something


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
    found = [of_parameter(detail) for detail in error.errors()]
    refused = BadRequest(found[0].line if found else "a parameter is wrong", errors=tuple(one.finding for one in found[:MOST_TOLD]))
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
    """What an endpoint's documentation says of its failures; those of ``OF_ALL`` can come from every one that asks who calls."""
    told: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*statuses, *OF_ALL}):
        kind = BY_STATUS[status]
        sample = kind((kind.__doc__ or "").split("\n", maxsplit=1)[0], retry_after_s=1 if status in (429, 503) else None)
        known = {"request_id": EXAMPLE_ID} if kind is not HeadTooLarge else {}  # refused before it was read
        content = {"schema": {"$ref": "#/components/schemas/ProblemDocument"}, "example": sample.body() | known}
        told[status] = {"description": kind.title, "content": {PROBLEM_JSON: content}}
    return told

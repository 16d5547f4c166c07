"""What an operator's machines ask: is it alive, can it work, what are its figures."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse, Response

from service.api import examples
from service.api.failures import responses
from service.api.lookup import Caller, administering
from service.api.schemas import Health
from service.api.shown import VERSION, as_json
from service.api.state import service_of
from service.errors import ServiceError
from service.runs import queries

READY_S = 5.0  # a database that takes longer is not one to send requests to

router = APIRouter(tags=["operation"])

_FAILED = {"schema_version": VERSION, "status": "unavailable", "checks": {"database": "failed"}}
_OK = {"schema_version": VERSION, "status": "ok", "checks": {"database": "ok"}}


@router.get(
    "/healthz",
    operation_id="get_health",
    summary="Whether the process lives",
    response_model=Health,
    responses={200: examples.response(lambda: {**_OK, "checks": {}})},
)
async def get_health() -> Response:
    """Always ok while the process answers at all: restart it when it does not."""
    return as_json({"schema_version": VERSION, "status": "ok", "checks": {}})


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Whether requests can be served",
    response_model=Health,
    responses={
        200: examples.response(lambda: _OK),
        503: examples.response(lambda: _FAILED, "Send requests elsewhere: what failed is told.", Health),
    },
)
async def get_readiness(request: Request) -> Response:
    """Whether the database answers, the worker of this process (where it has one) works, and the service is not stopping."""
    service = service_of(request)
    checks = {"database": "ok"}
    try:
        async with asyncio.timeout(READY_S):
            await service.read(queries.depth_by_state)
            await service.write(lambda _: None)  # a database that only reads accepts no run
    except (ServiceError, TimeoutError):
        checks["database"] = "failed"
    if service.worker is not None:
        checks["worker"] = "ok" if service.worker.alive else "failed"
    if service.stopping:
        checks["accepting"] = "failed"
    ready = "failed" not in checks.values()
    told: dict[str, Any] = {"schema_version": VERSION, "status": "ok" if ready else "unavailable", "checks": checks}
    return as_json(told, 200 if ready else 503, {} if ready else {"Retry-After": "1"})


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Figures for Prometheus",
    response_class=PlainTextResponse,
    responses={
        200: examples.text_response("Prometheus text, or OpenMetrics.", "quartermaster_runs 0\n"),
        **responses(),
    },
)
async def get_metrics(request: Request, _caller: Annotated[Caller, Depends(administering)]) -> Response:
    """Every metric; the operator's page lists them."""
    service = service_of(request)
    body, content_type = await service.reading(partial(service.telemetry.exposition, request.headers.get("accept", "")))
    return Response(body, headers={"Content-Type": content_type})

"""What a process that is only a worker answers over HTTP: ``/healthz``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import anyio.to_thread
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from service.auth import error_headers, requires
from service.errors import ServiceError, Unavailable
from service.keys import Caller, Keys
from service.runs import queries

if TYPE_CHECKING:
    import threading

    from service.runs.database import Database
    from service.settings import Settings
    from service.telemetry import Telemetry


async def metrics_response(request: Request) -> Response:
    """The page of ``/metrics``, of ``app.state.telemetry``."""
    telemetry: Telemetry = request.app.state.telemetry
    body, content_type = await anyio.to_thread.run_sync(telemetry.exposition, request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})


def operator_app(settings: Settings, database: Database, telemetry: Telemetry, stopping: threading.Event) -> FastAPI:
    """The app; ``/metrics`` asks for an admin's key where keys are required."""
    app = FastAPI(title="Quartermaster worker", openapi_url=None)
    app.state.settings, app.state.telemetry, app.state.keys = settings, telemetry, Keys(database)

    @app.exception_handler(ServiceError)
    async def _refused(_request: Request, error: ServiceError) -> Response:
        headers = error_headers(error)
        return JSONResponse(error.body(), error.status, headers=headers, media_type="application/problem+json")

    @app.get("/healthz")
    async def _healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def _readyz() -> dict[str, str]:
        if stopping.is_set():
            raise Unavailable("the worker is stopping", retry_after_s=1.0)
        await anyio.to_thread.run_sync(database.read, queries.depth_by_state)
        return {"status": "ok"}

    @app.get("/metrics")
    async def _metrics(request: Request, _caller: Annotated[Caller, Depends(requires("admin"))]) -> Response:
        return await metrics_response(request)

    return app

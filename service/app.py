"""The application: every endpoint, what surrounds them, and the OpenAPI document that describes them."""

from __future__ import annotations

import contextlib
import gc
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from models.catalogue import kinds
from service.api import answers, events, failures, operation, problems, runs, studies, studies_shown
from service.api import kinds as kind_pages
from service.api.documented import complete
from service.api.middleware import Surroundings
from service.api.state import Service
from service.documents.problems import read_problem
from service.keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import Request
    from fastapi.responses import Response

    from service.children import ChildPool
    from service.runs.bulletin import Bulletin
    from service.runs.database import Database
    from service.runs.worker import Worker
    from service.settings import Settings
    from service.telemetry import Telemetry

MIB = 2**20
ROUTERS = (
    kind_pages.router,
    runs.router,
    answers.router,
    events.router,
    problems.router,
    studies.router,
    studies_shown.router,
    operation.router,
)
DESCRIPTION = """Decides how an AI data centre uses what it has. Every answer is a plan with a certificate: a proven bound, the gap, and an
independent check. Ask with `POST /v1/runs`; every failure is `application/problem+json` with a stable `code`."""


def create_app(
    settings: Settings,
    database: Database,
    pool: ChildPool,
    bulletin: Bulletin,
    worker: Worker | None,
    telemetry: Telemetry,
) -> FastAPI:
    """The application over an opened database. ``worker`` is that of this process, if it has one; whoever made the parts closes them."""
    service = Service(settings, database, pool, bulletin, worker, telemetry)
    telemetry.count_waiting(lambda: service.watch.waiting)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        _import_kinds()
        # What is there now stays: looking through it again and again would stop every request for a tenth of a second.
        gc.collect()
        gc.freeze()
        yield
        await service.watch.close()

    app = FastAPI(
        title="Quartermaster",
        version=version("quartermaster"),
        summary="Decides how an AI data centre uses what it has.",
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's pages load scripts from other people's servers
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.service, app.state.settings, app.state.telemetry, app.state.keys = service, settings, telemetry, Keys(database)
    failures.handle(app)
    for router in ROUTERS:
        app.include_router(router)
    _document(app)
    app.add_middleware(Surroundings, telemetry=telemetry, largest_body=settings.largest_body_mib * MIB)
    return app


def _import_kinds() -> None:
    """Before the first request: nobody should wait for it."""
    for kind in kinds().values():
        read_problem(kind, kind.part("schema").example().model_dump_json().encode())


def _document(app: FastAPI) -> None:
    """Serve the OpenAPI document, made once and completed by what FastAPI cannot know."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            plain = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
                separate_input_output_schemas=False,
            )
            made.update(complete(plain, (route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute))))
        return made

    app.openapi = openapi  # type: ignore[method-assign]

    async def openapi_json(_request: Request) -> Response:
        return JSONResponse(openapi())

    app.add_route("/openapi.json", openapi_json, methods=["GET"], include_in_schema=False)

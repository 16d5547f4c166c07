"""Runs: asking for one, listing them, looking at one, cancelling one."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import structlog
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from sqlalchemy import select

from models.catalogue import kinds
from service.api import examples
from service.api.ending import EndMode, as_it_stands, until_cancelled
from service.api.failures import OF_BODIES, responses
from service.api.forms import read_form
from service.api.intake import (
    cache_key,
    check_warm_start,
    idempotency_key,
    limits_of,
    media_type,
    preferred_wait_s,
    problem_for,
    refuse_high_priority,
    require_json,
    taken,
)
from service.api.lookup import Caller, RunId, reading, solving
from service.api.paging import cursor_of, position_of
from service.api.schemas import RunPage, RunShown
from service.api.shown import VERSION, as_json, run_object
from service.api.state import Service, service_of
from service.errors import BadRequest, Finding, ServiceError, Unavailable
from service.runs import queries, store
from service.runs.records import NewRun
from service.runs.states import CancelMode, State
from service.runs.tables import idempotency

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from service.api.intake import Taken
    from service.runs.records import Accepted, Run, StoredProblem

router = APIRouter(tags=["runs"])
log = structlog.get_logger(__name__)

MOST_LISTED = 200
WAIT_DOC = "`wait=N` answers when the run has ended, or after N seconds (RFC 7240)."
SMALL_BYTES = 64 * 1024  # hashed at once


@router.post(
    "/v1/runs",
    operation_id="create_run",
    summary="Solve a problem",
    status_code=202,
    response_model=RunShown,
    responses={
        200: examples.response(examples.run, "The run has ended: from the cache, or within the time of `Prefer: wait=N`.", RunShown),
        202: examples.response(examples.accepted, "The run is stored and will be solved; Location says where to look."),
        **responses(*OF_BODIES, 409, 422),
    },
    openapi_extra=examples.create_run(),
)
async def create_run(request: Request, caller: Annotated[Caller, Depends(solving)]) -> Response:
    """Accept a problem, store it durably, and have it solved.

    An `Idempotency-Key` makes it safe to send the request again: the same key with the same body gives the same run.
    """
    service = service_of(request)
    key = idempotency_key(request)
    wait_s = preferred_wait_s(request, service.settings.longest_wait_s)
    await _refuse_when_full(service, caller.tenant, key)
    if media_type(request) == "multipart/form-data":
        read, fingerprint = await read_form(service, request)
    else:
        require_json(request)
        data = await request.body()
        digest = partial(hashlib.sha256, data)
        fingerprint = (digest() if len(data) < SMALL_BYTES else await service.in_thread(digest)).hexdigest()
        read = await taken(service, "run", data)
    refuse_high_priority(service, caller, read.fields["priority"], "/priority")
    problem = await problem_for(service, caller.tenant, read)
    if read.problem is not None:
        await service.kept.refuse_when_full(caller.tenant, problem, service.read)
    new = await _new_run(service, caller.tenant, read, problem)
    state = request.state
    accepted = await _accept(service, new(key, fingerprint, state.request_id, state.trace_id))
    if read.problem is not None and not accepted.replayed:
        service.kept.accepted(caller.tenant, problem)
    return await _answer(request, accepted, problem, wait_s)


async def _refuse_when_full(service: Service, tenant: str, key: str | None) -> None:
    if service.stopping:
        raise Unavailable("the service is stopping; ask again in a moment", code="stopping", retry_after_s=1)
    try:
        await service.gauge.refuse_when_full(tenant, service.read)
    except Exception:
        # A request that is only sent again asks for no room in the queue.
        if key is None or not await service.read(partial(_is_known, tenant=tenant, key=key)):
            raise


def _is_known(connection: Connection, tenant: str, key: str) -> bool:
    where = (idempotency.c.tenant == tenant) & (idempotency.c.key == key)
    return connection.execute(select(idempotency.c.run_id).where(where)).first() is not None


async def _new_run(service: Service, tenant: str, read: Taken, problem: StoredProblem) -> Any:  # noqa: ANN401  (a partial of NewRun)
    fields = read.fields
    limits = limits_of(fields["limits"], service)
    warm_start: str | None = fields["warm_start_run"]
    if warm_start is not None:
        await check_warm_start(service, tenant, warm_start, problem.kind)

    def made(key: str | None, fingerprint: str, request_id: str, trace_id: str) -> NewRun:
        return NewRun(
            id=f"run_{service.entropy.hex(12)}",
            tenant=tenant,
            problem=problem,
            limits=limits,
            priority=fields["priority"],
            warm_start_run=warm_start,
            cache_key=cache_key(problem.id, limits, warm_start, service.versions) if service.settings.cache else None,
            use_cache=fields["cache"],
            idempotency_key=key,
            fingerprint=fingerprint,
            request_id=request_id,
            trace_id=trace_id,
        )

    return made


async def _accept(service: Service, new: NewRun) -> Accepted:
    accepted = await service.write(lambda connection: store.accept(connection, new))
    run = accepted.run
    if not accepted.replayed:
        service.telemetry.run_accepted(run.kind, cached=run.cached)
        if run.state is State.queued:
            service.gauge.accepted(run.tenant)
            if service.worker is not None:
                service.worker.wake()
    return accepted


async def _answer(request: Request, accepted: Accepted, problem: StoredProblem, wait_s: float | None) -> Response:
    service = service_of(request)
    run = accepted.run
    headers = {"Location": f"/v1/runs/{run.id}"}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    if wait_s is not None:
        try:
            run = await service.watch.until_ended(run, wait_s, service.read, request.receive)
        except ServiceError as error:
            wait_s = None
            log.info("a stored run could not be waited for", run_id=run.id, reason=error.detail)  # that it is stored must be told
    body = run_object(run) | {"warnings": list(problem.warnings)}
    return as_it_stands(body, ended=run.is_terminal, waited_s=wait_s, headers=headers, asked=True)


# ---------------------------------------------------------------- listing


@router.get(
    "/v1/runs",
    operation_id="list_runs",
    summary="List runs, the newest first",
    response_model=RunPage,
    responses={200: examples.response(examples.run_page), **responses()},
)
async def list_runs(
    request: Request,
    caller: Annotated[Caller, Depends(reading)],
    state: Annotated[State | None, Query(description="Only runs in this state.", examples=["succeeded"])] = None,
    kind: Annotated[str | None, Query(description="Only runs of this kind.", max_length=253, examples=["placement"])] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="Runs on a page.", examples=[50])] = 50,
    cursor: Annotated[str | None, Query(description="`next` of the page before.", max_length=64)] = None,
) -> Response:
    """A page of the caller's runs; `next` is the cursor of the page after it, which new runs do not shift."""
    if kind is not None and kind not in kinds():
        known = ", ".join(sorted(kinds()))
        raise BadRequest("there is no such kind", errors=(Finding("/query/kind", "unknown_kind", f"name one of: {known}"),))
    before = position_of(cursor) if cursor is not None else None
    service = service_of(request)
    operation = partial(queries.page_of_runs, tenant=caller.tenant, state=state, kind=kind, before=before, limit=limit + 1)
    found: list[Run] = await service.read(operation)
    following = cursor_of(found[limit - 1].position) if len(found) > limit else None
    headers = {}
    if following is not None:
        asked = {"state": state, "kind": kind, "limit": limit, "cursor": following}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        headers["Link"] = f'</v1/runs?{query}>; rel="next"'
    return as_json({"schema_version": VERSION, "runs": [run_object(run) for run in found[:limit]], "next": following}, headers=headers)


# ---------------------------------------------------------------- one run


@router.get(
    "/v1/runs/{run_id}",
    operation_id="get_run",
    summary="Look at a run",
    response_model=RunShown,
    responses={200: examples.response(examples.run), **responses(404)},
    openapi_extra=examples.prefer(WAIT_DOC),
)
async def get_run(request: Request, run_id: RunId, caller: Annotated[Caller, Depends(reading)]) -> Response:
    """The run as it stands. With `Prefer: wait=N`, as it is when it has ended or N seconds have passed."""
    service = service_of(request)
    run = await service.read(partial(store.run_of, tenant=caller.tenant, run_id=run_id))
    wait_s = preferred_wait_s(request, service.settings.longest_wait_s)
    if wait_s is not None:
        run = await service.watch.until_ended(run, wait_s, service.read, request.receive)
    return as_it_stands(run_object(run), ended=run.is_terminal, waited_s=wait_s)


@router.post(
    "/v1/runs/{run_id}:cancel",
    operation_id="cancel_run",
    summary="Cancel a run",
    response_model=RunShown,
    responses={
        200: examples.response(examples.run, "The run has ended, cancelled or before."),
        202: examples.response(examples.cancelling, "The run is being cancelled.", RunShown),
        **responses(404),
    },
)
async def cancel_run(
    request: Request,
    run_id: RunId,
    caller: Annotated[Caller, Depends(solving)],
    mode: EndMode = CancelMode.keep_best,
) -> Response:
    """End a run. The best plan so far is kept, verified, unless it is to be discarded. A run that has ended stays as it is."""
    service = service_of(request)
    run = await service.write(lambda connection: store.cancel(connection, caller.tenant, run_id, mode))
    (run,) = await until_cancelled(service, [run])
    return as_json(run_object(run), 200 if run.is_terminal else 202)

"""Studies: asking for one, checking one, listing them, looking at one, cancelling one."""

from __future__ import annotations

import hashlib
import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from service.api import examples, studies_examples
from service.api.ending import EndMode, as_it_stands, until_cancelled
from service.api.failures import OF_BODIES, responses
from service.api.intake import idempotency_key, preferred_wait_s, refuse_high_priority, require_json
from service.api.lookup import Caller, StudyId, reading, solving
from service.api.paging import cursor_of, position_of
from service.api.requests import LARGEST_PRIORITY
from service.api.schemas import FindingShown
from service.api.shown import VERSION, as_json
from service.api.state import service_of
from service.api.studies_intake import new_study, read_study
from service.api.studies_schemas import StudyPage, StudyShown, StudyValidity
from service.api.studies_shown import concluded, study_object
from service.errors import ServiceError, Unavailable, Unprocessable
from service.runs import studies
from service.runs.states import CancelMode, State

if TYPE_CHECKING:
    from service.api.state import Service
    from service.runs.records import AcceptedStudy, StoredStudy

router = APIRouter(tags=["studies"])
log = structlog.get_logger(__name__)

MOST_LISTED = 200
USUAL_PRIORITY = -10  # below that of single runs: whoever waits for one answer does not wait for a thousand
WAIT_DOC = "`wait=N` answers when every run of the study has ended, or after N seconds (RFC 7240)."
_KEY_SCHEMA = {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"}
_BODY = examples.body("StudyRequest", studies_examples.requests())


@router.post(
    "/v1/studies",
    operation_id="create_study",
    summary="Solve a study",
    status_code=202,
    response_model=StudyShown,
    responses={
        200: examples.response(studies_examples.study, "Every run has ended: from the cache, or within `Prefer: wait=N`.", StudyShown),
        202: examples.response(studies_examples.accepted, "The study is stored and will be solved; Location says where to look."),
        **responses(*OF_BODIES, 409, 422),
    },
    openapi_extra=_BODY
    | {
        "parameters": [
            examples.header("Idempotency-Key", "The same key with the same body gives the same study.", "what-if-7", _KEY_SCHEMA),
            *examples.prefer(WAIT_DOC)["parameters"],
        ]
    },
)
async def create_study(
    request: Request,
    caller: Annotated[Caller, Depends(solving)],
    priority: Annotated[
        int,
        Query(
            ge=-LARGEST_PRIORITY, le=LARGEST_PRIORITY, description="Of its runs; those of single requests have 0 where they ask for none."
        ),
    ] = USUAL_PRIORITY,
) -> Response:
    """Accept a study: a base problem, axes of change, and what is asked of the table.

    Every different question becomes a run with a certificate of its own. All of it is stored, or nothing.
    """
    service = service_of(request)
    key = idempotency_key(request)
    wait_s = preferred_wait_s(request, service.settings.longest_wait_s)
    if service.stopping:
        raise Unavailable("the service is stopping; ask again in a moment", code="stopping", retry_after_s=1)
    require_json(request)
    refuse_high_priority(service, caller, priority, "/query/priority")
    data = await request.body()
    fingerprint = (await service.in_thread(partial(hashlib.sha256, f"study {priority}\n".encode() + data))).hexdigest()
    if key is not None:
        known = await service.read(partial(studies.known_by, tenant=caller.tenant, key=key, fingerprint=fingerprint))
        if known is not None:
            return await _answer(request, known, wait_s, replayed=True)
    await service.gauge.refuse_when_full(caller.tenant, service.read)
    found = await read_study(service, caller.tenant, data)
    new = await new_study(service, caller.tenant, found, priority)
    await service.gauge.refuse_when_full(caller.tenant, service.read, len(new.questions))
    more = sum({one.problem_id: len(one.changes or b"") for one in new.questions}.values())
    await service.kept.refuse_when_full(caller.tenant, new.base, service.read, more)
    state = request.state
    asked = new.asked(key, fingerprint, state.request_id, state.trace_id)
    accepted = await service.write(lambda connection: studies.accept(connection, asked))
    if not accepted.replayed:
        service.kept.accepted(caller.tenant, new.base, more)
        _tell(service, accepted)
    return await _answer(request, accepted.study, wait_s, replayed=accepted.replayed)


def _tell(service: Service, accepted: AcceptedStudy) -> None:
    for run in accepted.runs:
        service.telemetry.run_accepted(run.kind, cached=run.cached)
    service.gauge.accepted(accepted.study.tenant, sum(run.state is State.queued for run in accepted.runs))
    if service.worker is not None:
        service.worker.wake_all()


async def _answer(request: Request, study: StoredStudy, wait_s: float | None, *, replayed: bool) -> Response:
    service = service_of(request)
    headers = {"Location": f"/v1/studies/{study.id}"}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    if wait_s is not None:
        try:
            study = await _until_ended(request, study, wait_s)
        except ServiceError as error:
            wait_s = None
            log.info("a stored study could not be waited for", study_id=study.id, reason=error.detail)  # that it is stored must be told
    body = await concluded(service, study, now=True)
    return as_it_stands(body, ended=study.ended, waited_s=wait_s, headers=headers, asked=True)


async def _until_ended(request: Request, study: StoredStudy, seconds: float) -> StoredStudy:
    """The study when every run has ended, or as it is after so many seconds, or when the client has left."""
    service = service_of(request)
    until = time.monotonic() + seconds
    while not study.ended:
        run = await service.read(partial(studies.open_run, study=study))
        left = until - time.monotonic()
        if run is not None and left > 0:
            run = await service.watch.until_ended(run, left, service.read, request.receive)
        study = await service.read(partial(studies.study_of, tenant=study.tenant, study_id=study.id))
        if left <= 0 or (run is not None and not run.is_terminal):
            break
    return study


@router.post(
    "/v1/studies:validate",
    operation_id="validate_study",
    summary="Check a study",
    response_model=StudyValidity,
    responses={200: examples.response(studies_examples.validity), **responses(*OF_BODIES, 422)},
    openapi_extra=_BODY,
)
async def validate_study(request: Request, caller: Annotated[Caller, Depends(reading)]) -> Response:
    """How many scenarios and runs it would have, and errors and warnings with their places. Nothing is kept, nothing is solved."""
    require_json(request)
    empty: dict[str, Any] = {"schema_version": VERSION, "valid": False, "scenarios": None, "runs": None, "errors": [], "warnings": []}
    service = service_of(request)
    try:
        found = await read_study(service, caller.tenant, await request.body())
        made = await new_study(service, caller.tenant, found, USUAL_PRIORITY)
    except Unprocessable as error:
        if not error.errors:
            raise
        told = [FindingShown(pointer=one.pointer, code=one.code, detail=one.detail).model_dump() for one in error.errors]
        return as_json(empty | {"errors": told})
    counts = {"scenarios": made.count, "runs": len(made.questions)}
    return as_json(empty | counts | {"valid": True, "warnings": list(made.warnings)})


# ---------------------------------------------------------------- listing and looking


@router.get(
    "/v1/studies",
    operation_id="list_studies",
    summary="List studies, the newest first",
    response_model=StudyPage,
    responses={200: examples.response(studies_examples.page), **responses()},
)
async def list_studies(
    request: Request,
    caller: Annotated[Caller, Depends(reading)],
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="Studies on a page.", examples=[50])] = 50,
    cursor: Annotated[str | None, Query(description="`next` of the page before.", max_length=64)] = None,
) -> Response:
    """A page of the caller's studies; `next` is the cursor of the page after it, which new studies do not shift."""
    before = position_of(cursor) if cursor is not None else None
    operation = partial(studies.page_of_studies, tenant=caller.tenant, before=before, limit=limit + 1)
    found = await service_of(request).read(operation)
    following = cursor_of(found[limit - 1].position) if len(found) > limit else None
    headers = {"Link": f'</v1/studies?limit={limit}&cursor={following}>; rel="next"'} if following is not None else {}
    shown = [study_object(study) for study in found[:limit]]
    return as_json({"schema_version": VERSION, "studies": shown, "next": following}, headers=headers)


@router.get(
    "/v1/studies/{study_id}",
    operation_id="get_study",
    summary="Look at a study",
    response_model=StudyShown,
    responses={200: examples.response(studies_examples.study), **responses(404)},
    openapi_extra=examples.prefer(WAIT_DOC),
)
async def get_study(request: Request, study_id: StudyId, caller: Annotated[Caller, Depends(reading)]) -> Response:
    """The study as it stands; once every run has ended, with the recommendation and the gates."""
    service = service_of(request)
    study = await service.read(partial(studies.study_of, tenant=caller.tenant, study_id=study_id))
    wait_s = preferred_wait_s(request, service.settings.longest_wait_s)
    if wait_s is not None:
        study = await _until_ended(request, study, wait_s)
    return as_it_stands(await concluded(service, study), ended=study.ended, waited_s=wait_s)


@router.post(
    "/v1/studies/{study_id}:cancel",
    operation_id="cancel_study",
    summary="Cancel a study",
    response_model=StudyShown,
    responses={
        200: examples.response(studies_examples.study, "Every run has ended, cancelled or before."),
        202: examples.response(studies_examples.accepted, "The runs at work are being cancelled.", StudyShown),
        **responses(404),
    },
)
async def cancel_study(
    request: Request,
    study_id: StudyId,
    caller: Annotated[Caller, Depends(solving)],
    mode: EndMode = CancelMode.keep_best,
) -> Response:
    """End every run of the study that has not ended. What is answered stays, and the same study sent again goes on from it."""
    service = service_of(request)
    operation = partial(studies.cancel, tenant=caller.tenant, study_id=study_id, mode=mode)
    study, changed = await service.write(operation)
    await until_cancelled(service, changed)
    study = await service.read(partial(studies.study_of, tenant=caller.tenant, study_id=study_id))
    return as_json(await concluded(service, study, now=True), 200 if study.ended else 202)

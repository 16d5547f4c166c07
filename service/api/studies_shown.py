"""Studies as JSON, and what their answers say: table, charts, report, differences."""

from __future__ import annotations

import json
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from service.api import examples, studies_examples
from service.api.failures import OF_CHILDREN, responses
from service.api.intake import as_findings
from service.api.lookup import Caller, StudyId, reading
from service.api.shown import VERSION, as_json, moment, spliced
from service.api.state import Service, service_of
from service.api.studies_schemas import StudyCharts, StudyDifference, StudyTableShown
from service.errors import BadRequest, Conflict, TooLarge, Unavailable, Unprocessable
from service.runs import studies
from service.runs.states import LEASED, TERMINAL, State

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from service.runs.records import Asks, StoredStudy

router = APIRouter(tags=["studies"])
log = structlog.get_logger(__name__)

TASKS = "service.api.studies_tasks"
SHOWING_S = 60.0  # a child may take so long over the table of a large study
PARTS = ("table", "charts", "report", "differences")
ALONE = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"  # the page holds names that users chose
CSV, PARQUET, HTML = "text/csv", "application/vnd.apache.parquet", "text/html"


class TableForm(StrEnum):
    """Forms of a table."""

    json = "json"
    csv = "csv"
    parquet = "parquet"


MEDIA = {CSV: TableForm.csv, PARQUET: TableForm.parquet}


def state_of(study: StoredStudy) -> str:
    """Where a study is, from its runs."""
    if study.ended:
        return "cancelled" if study.cancel_mode is not None and study.counts.get(State.cancelled) else "finished"
    if study.cancel_mode is not None:
        return "cancelling"
    return "queued" if set(study.counts) == {State.queued} else "running"


def study_object(study: StoredStudy, conclusions: dict[str, Any] | None = None, asks: Asks | None = None) -> dict[str, Any]:
    """What a client sees of a study."""
    here = f"/v1/studies/{study.id}"
    asking = {"asks": f"/v1/runs/{asks.run_id}"} if asks is not None else {}
    counts = study.counts
    return {
        "schema_version": VERSION,
        "id": study.id,
        "name": study.name,
        "title": study.title,
        "kind": study.kind,
        "state": state_of(study),
        "problem_id": study.problem_id,
        "scenarios": study.count,
        "runs": study.runs,
        "counts": {
            "queued": counts.get(State.queued, 0),
            "working": sum(counts.get(state, 0) for state in LEASED),
            **{state.value: counts.get(state, 0) for state in (State.succeeded, State.failed, State.cancelled)},
        },
        "progress": sum(counts.get(state, 0) for state in TERMINAL) / max(study.runs, 1),
        "priority": study.priority,
        "created_at": moment(study.created_at),
        "warnings": list(study.warnings),
        "conclusions": conclusions,
        "asks": None if asks is None else list(asks.answers),
        "links": {
            "self": here,
            "problem": f"/v1/problems/{study.problem_id}",
            "cancel": f"{here}:cancel",
            **{part: f"{here}/{part}" for part in PARTS},
            **asking,
        },
    }


async def concluded(service: Service, study: StoredStudy, *, now: bool = False) -> dict[str, Any]:
    """The study with its asks, and with what its answers prove together, worked out once when every run has ended.

    Without the latter where that takes too much. Raises Unavailable when no process is free for it, unless something is to be told ``now``.
    """
    asks = await service.read(partial(studies.asks_of, study=study))
    if not study.ended:
        return study_object(study, None, asks)
    try:
        return study_object(study, json.loads(await _conclusions(service, study)), asks)
    except (Unprocessable, TooLarge, Unavailable) as error:
        if isinstance(error, Unavailable) and not now:
            raise
        log.warning("a study is told without its conclusions", study_id=study.id, reason=error.detail)
        return study_object(study, None, asks)


async def _conclusions(service: Service, study: StoredStudy) -> bytes:
    kept = await service.read(partial(studies.conclusions_of, study=study))
    if kept is not None:
        return kept
    payload = await _payload(service, study)
    what = "drawing the conclusions of the study"
    found = await service.helped(f"{TASKS}:conclude", payload, deadline_s=SHOWING_S, what=what, question=True)
    body: bytes = found["body"]
    await service.write(lambda connection: studies.keep_conclusions(connection, study, body))
    return body


async def _payload(service: Service, study: StoredStudy) -> dict[str, Any]:
    """What a child needs to know of a study."""

    def look(connection: Connection) -> dict[str, Any]:
        document, scenarios = studies.texts_of(connection, study)
        asks = studies.asks_of(connection, study)
        told = {"study": document, "scenarios": scenarios, "answers": studies.answers_of(connection, study)}
        return told | {"asks": [] if asks is None else list(asks.answers)}

    return await service.read(look)


async def _shown(service: Service, caller: Caller, study_id: str, form: str) -> tuple[StoredStudy, bytes]:
    study = await service.read(partial(studies.study_of, tenant=caller.tenant, study_id=study_id))
    payload = await _payload(service, study) | {"as": form}
    found = await service.helped(f"{TASKS}:show", payload, deadline_s=SHOWING_S, what=f"making the {form} of the study", question=True)
    return study, found["body"]


# ---------------------------------------------------------------- endpoints


@router.get(
    "/v1/studies/{study_id}/table",
    operation_id="get_study_table",
    summary="Look at the table of a study",
    response_model=StudyTableShown,
    responses={
        200: {
            "description": "The table, as far as it is known: one line for each scenario.",
            "content": {
                "application/json": {"example": studies_examples.table()},
                CSV: {"schema": {"type": "string"}, "example": "scenario,label,baseline\nbaseline,baseline,true\n"},
                PARQUET: {"schema": {"type": "string", "format": "binary"}, "example": "PAR1"},
            },
        },
        **responses(404, *OF_CHILDREN),
    },
    openapi_extra={
        "parameters": [examples.header("Accept", "The form, where `format` does not say it.", "application/json", {"type": "string"})]
    },
)
async def get_study_table(
    request: Request,
    study_id: StudyId,
    caller: Annotated[Caller, Depends(reading)],
    form: Annotated[TableForm | None, Query(alias="format", description="Left out: by the header Accept, else JSON.")] = None,
) -> Response:
    """Scenario, values, run, and of each ended run the row: goals with their bounds, metrics, and the difference from the baseline."""
    accepted = request.headers.get("accept", "")
    wanted = form or next((found for media, found in MEDIA.items() if media in accepted.lower()), TableForm.json)
    study, body = await _shown(service_of(request), caller, study_id, wanted.value)
    if wanted is TableForm.json:
        return spliced({"schema_version": VERSION, "study": study.id}, body)
    media = next(one for one, found in MEDIA.items() if found is wanted)
    named = f'attachment; filename="{study.id}.{wanted.value}"'
    return Response(body, media_type=media, headers={"Content-Disposition": named})


@router.get(
    "/v1/studies/{study_id}/charts",
    operation_id="get_study_charts",
    summary="Look at the pictures of a study",
    response_model=StudyCharts,
    responses={200: examples.response(studies_examples.charts), **responses(404, *OF_CHILDREN)},
)
async def get_study_charts(request: Request, study_id: StudyId, caller: Annotated[Caller, Depends(reading)]) -> Response:
    """Vega-Lite specifications with their data: tornado, trade-off, heat map and lines along the axes, those that the study has."""
    study, body = await _shown(service_of(request), caller, study_id, "charts")
    return spliced({"schema_version": VERSION, "study": study.id}, body)


@router.get(
    "/v1/studies/{study_id}/report",
    operation_id="get_study_report",
    summary="Read the report of a study",
    response_class=Response,
    responses={
        200: {
            "description": "One HTML page that needs nothing else.",
            "content": {HTML: {"schema": {"type": "string"}, "example": "<!doctype html>"}},
        },
        **responses(404, *OF_CHILDREN),
    },
)
async def get_study_report(request: Request, study_id: StudyId, caller: Annotated[Caller, Depends(reading)]) -> Response:
    """Recommendation, charts, certificates, gates and failures on one page, also while the study runs."""
    _, body = await _shown(service_of(request), caller, study_id, "report")
    return Response(body, media_type=HTML, headers={"Content-Security-Policy": ALONE})


@router.get(
    "/v1/studies/{study_id}/differences",
    operation_id="get_study_difference",
    summary="Compare two scenarios",
    response_model=StudyDifference,
    responses={200: examples.response(studies_examples.compared), **responses(404, 409, *OF_CHILDREN)},
)
async def get_study_difference(
    request: Request,
    study_id: StudyId,
    caller: Annotated[Caller, Depends(reading)],
    a: Annotated[str, Query(max_length=2_000, description="A scenario, by id or label.", examples=["baseline"])],
    b: Annotated[str, Query(max_length=2_000, description="Another.", examples=["baseline@1"])],
    goal: Annotated[str | None, Query(max_length=253, description="A goal or a metric; left out: the first goal.")] = None,
) -> Response:
    """What is certain of the difference of their optima, from plan and bound on both sides, and what would decide the rest."""
    service = service_of(request)
    study = await service.read(partial(studies.study_of, tenant=caller.tenant, study_id=study_id))
    payload = await _payload(service, study) | {"a": a, "b": b, "goal": goal}
    found = await service.helped(f"{TASKS}:compare", payload, deadline_s=SHOWING_S, what="comparing the scenarios", question=True)
    if "errors" in found:
        errors = as_findings(found["errors"])
        if errors[0].code == "not_finished":
            raise Conflict(errors[0].detail, code="not_finished", errors=errors, retry_after_s=1)
        raise BadRequest(errors[0].detail, code=errors[0].code, errors=errors)
    return as_json({"schema_version": VERSION, "study": study.id, "difference": found["difference"]})

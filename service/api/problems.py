"""Problems that are kept: immutable, named by their content, and changed only by making a child."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from models.catalogue import kinds
from service.api import examples
from service.api.failures import OF_BODIES, responses
from service.api.intake import READING_S, as_findings, media_type, refused, require_json, stored, taken
from service.api.lookup import Caller, ProblemId, reading, solving
from service.api.schemas import ProblemKept, ProblemShown
from service.api.shown import VERSION, as_json, spliced
from service.api.state import Service, service_of
from service.documents.problems import MOST_INLINE_BYTES, patched
from service.errors import Finding, WrongMediaType
from service.runs import queries, store

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from service.runs.records import StoredProblem

router = APIRouter(prefix="/v1/problems", tags=["problems"])

MERGE_PATCH = "application/merge-patch+json"
KEPT: dict[int | str, dict[str, Any]] = {
    200: examples.response(examples.kept, "The same problem was kept before.", ProblemKept),
    201: examples.response(examples.kept, "The problem is kept; Location says where."),
}
_ANY_OBJECT = {"type": "object", "description": "A JSON merge patch (RFC 7396): null removes a field, a list is replaced as a whole."}


@router.post(
    "",
    operation_id="create_problem",
    summary="Keep a problem",
    status_code=201,
    response_model=ProblemKept,
    responses={**KEPT, **responses(*OF_BODIES, 422)},
    openapi_extra=examples.body(
        "ProblemRequest",
        {name: {"summary": kind.summary, "value": {"kind": name, "problem": examples.problem(name)}} for name, kind in kinds().items()},
    ),
)
async def create_problem(request: Request, caller: Annotated[Caller, Depends(solving)]) -> Response:
    """Validate a problem and keep it, to be solved any number of times by its id, which follows from its content."""
    service = service_of(request)
    require_json(request)
    read = await taken(service, "problem", await request.body())
    if read.problem is None:
        raise refused([Finding("/problem", "missing", "is missing; give the problem, an object")])
    return await _keep(service, caller.tenant, read.problem)


async def _keep(service: Service, tenant: str, problem: StoredProblem) -> Response:
    def keep(connection: Connection) -> str | bool | None:
        known = queries.problem_summary(connection, tenant, [problem.id])
        store.add_problem(connection, tenant, problem)
        return known[0].parent if known else False

    await service.kept.refuse_when_full(tenant, problem, service.read)
    before = await service.write(keep)
    if before is False:
        service.kept.accepted(tenant, problem)
    headers = {"Location": f"/v1/problems/{problem.id}"}
    parent = problem.parent if before is False else before
    return as_json(_kept_object(problem, parent), 201 if before is False else 200, headers)


def _kept_object(problem: StoredProblem, parent: object) -> dict[str, Any]:
    here = f"/v1/problems/{problem.id}"
    return {
        "schema_version": VERSION,
        "id": problem.id,
        "kind": problem.kind,
        "bytes": len(problem.body),
        "parent": parent,
        "warnings": list(problem.warnings),
        "links": {"self": here, "patch": f"{here}:patch"},
    }


@router.get(
    "/{problem_id}",
    operation_id="get_problem",
    summary="Look at a kept problem",
    response_model=ProblemShown,
    responses={200: examples.response(examples.shown_problem), **responses(404)},
)
async def get_problem(request: Request, problem_id: ProblemId, caller: Annotated[Caller, Depends(reading)]) -> Response:
    """The problem with what is suspicious in it, every default written out."""
    found = await service_of(request).read(partial(store.problem_of, tenant=caller.tenant, problem_id=problem_id))
    fields = {"schema_version": VERSION, "id": found.id, "kind": found.kind, "parent": found.parent, "warnings": list(found.warnings)}
    return spliced(fields, b'{"problem":' + found.body + b"}")


@router.post(
    "/{problem_id}:patch",
    operation_id="patch_problem",
    summary="Make a changed copy of a kept problem",
    status_code=201,
    response_model=ProblemKept,
    responses={**KEPT, **responses(404, *OF_BODIES, 422)},
    openapi_extra=examples.body(
        _ANY_OBJECT, {"nothing": {"summary": "Changes nothing: the child is the problem itself.", "value": {}}}, MERGE_PATCH
    ),
)
async def patch_problem(request: Request, problem_id: ProblemId, caller: Annotated[Caller, Depends(solving)]) -> Response:
    """The problem with a JSON merge patch (RFC 7396) applied: validated, and kept as a child; the problem itself stays as it is."""
    service = service_of(request)
    if media_type(request) not in (MERGE_PATCH, "application/json"):
        raise WrongMediaType(f"send the patch as {MERGE_PATCH}")
    patch = await request.body()
    parent = await service.read(partial(store.problem_of, tenant=caller.tenant, problem_id=problem_id))
    if len(parent.body) + len(patch) <= MOST_INLINE_BYTES:
        found = patched(kinds()[parent.kind], parent.body, patch)
    else:
        payload = {"kind": parent.kind, "body": parent.body, "patch": patch}
        found = await service.helped("service.api.requests:read_patch", payload, deadline_s=READING_S, what="patching the problem")
    if "errors" in found:
        raise refused(as_findings(found["errors"]))
    child = await stored(service, parent.kind, found, parent=parent.id)
    return await _keep(service, caller.tenant, child)

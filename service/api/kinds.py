"""The kinds of decision: what there is, what each looks like, and whether a problem of one is right."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from models.catalogue import kinds
from service.api import examples
from service.api.failures import responses
from service.api.intake import READING_S, require_json, stored
from service.api.lookup import Caller, reading
from service.api.schemas import Kinds, KindShown, Validity
from service.api.shown import VERSION, as_json
from service.api.state import service_of
from service.documents.complaints import NOT_JSON
from service.documents.problems import MOST_INLINE_BYTES, read_problem
from service.errors import BadRequest, Finding, NotFound

if TYPE_CHECKING:
    from models.contract import Kind

router = APIRouter(prefix="/v1/kinds", tags=["kinds"])

VALIDITY = "What is wrong and what is odd; `valid` says whether it could be solved."

KindName = Annotated[str, Path(max_length=253, description="The kind's name.", examples=[examples.usual_kind()])]


def _kind(name: str) -> Kind:
    if name not in kinds():
        raise NotFound(f"there is no kind '{name[:60]}'; the kinds are: {', '.join(sorted(kinds()))}", code="kind_not_found")
    return kinds()[name]


def _listed() -> dict[str, object]:
    found = [
        {"kind": name, "summary": kind.summary, "links": {"self": f"/v1/kinds/{name}", "validate": f"/v1/kinds/{name}:validate"}}
        for name, kind in sorted(kinds().items())
    ]
    return {"schema_version": VERSION, "kinds": found}


@router.get(
    "",
    operation_id="list_kinds",
    summary="List the kinds of decision",
    response_model=Kinds,
    responses={200: examples.response(_listed), **responses()},
)
async def list_kinds(_caller: Annotated[Caller, Depends(reading)]) -> Response:
    """Every kind with a line of what it decides."""
    return as_json(_listed())


@cache
def shown(name: str) -> bytes:
    """All there is to know of a kind, as JSON."""
    kind = _kind(name)
    page = resources.files(kind.package).joinpath("README.md")
    schemas = {"problem": kind.problem.model_json_schema(), "plan": kind.plan.model_json_schema(mode="serialization")}
    told = {
        "schema_version": VERSION,
        "kind": name,
        "summary": kind.summary,
        "schema": schemas,
        "example": {"problem": examples.problem(name)},
        "page": page.read_text(encoding="utf-8"),
    }
    return json.dumps(told, ensure_ascii=False, allow_nan=False).encode()


@router.get(
    "/{kind}",
    operation_id="get_kind",
    summary="Look at a kind",
    response_model=KindShown,
    responses={200: {"description": "Its schemas, an example, and its page."}, **responses(404)},
)
async def get_kind(kind: KindName, _caller: Annotated[Caller, Depends(reading)]) -> Response:
    """The JSON Schemas of problem and plan, a problem to start from, and the kind's page."""
    return Response(shown(kind), media_type="application/json")


@router.post(
    "/{kind}:validate",
    operation_id="validate_problem",
    summary="Check a problem",
    response_model=Validity,
    responses={
        200: examples.response(examples.validity, VALIDITY),
        **responses(404, 413, 415),
    },
    openapi_extra=examples.body(
        {"anyOf": [{"$ref": f"#/components/schemas/{name}.Problem"} for name in sorted(kinds())]},
        {examples.usual_kind(): {"summary": "A problem of this kind.", "value": examples.problem(examples.usual_kind())}},
    ),
)
async def validate_problem(request: Request, kind: KindName, _caller: Annotated[Caller, Depends(reading)]) -> Response:
    """Errors and warnings, each with its place, a stable code and a cure. Nothing is kept. The body is the problem itself."""
    found_kind = _kind(kind)
    require_json(request)
    service = service_of(request)
    body = await request.body()
    if len(body) <= MOST_INLINE_BYTES:
        found = read_problem(found_kind, body)
    else:
        payload = {"kind": kind, "body": body}
        found = await service.helped("service.tasks:validate", payload, deadline_s=READING_S, what="checking the problem")
    errors = found.get("errors", [])
    if errors and errors[0]["code"] == NOT_JSON:
        raise BadRequest(errors[0]["detail"], code=NOT_JSON, errors=(Finding(**errors[0]),))
    problem = await stored(service, kind, found) if not errors else None
    told = {"errors": errors, "warnings": found.get("warnings", [])}
    name = problem.id if problem is not None else None
    return as_json({"schema_version": VERSION, "kind": kind, "valid": not errors, "problem_id": name, **told})

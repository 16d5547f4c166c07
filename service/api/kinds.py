"""The kinds of decision: what there is, what each looks like, and whether a problem of one is right."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from models.catalogue import kinds
from service.api import examples
from service.api.failures import OF_BODIES, responses
from service.api.intake import READING_S, as_findings, program, require_json, stored
from service.api.lookup import Caller, reading
from service.api.schemas import Kinds, KindShown, Validity
from service.api.shown import VERSION, as_json
from service.api.state import Service, service_of
from service.documents.complaints import NOT_JSON
from service.documents.problems import MOST_INLINE_BYTES, examples_of, read_problem, told
from service.errors import BadRequest, NotFound, Unprocessable

if TYPE_CHECKING:
    from models.contract import Kind
    from service.runs.records import StoredProblem

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
    found = {
        "schema_version": VERSION,
        "kind": name,
        "summary": kind.summary,
        "schema": schemas,
        "example": {"problem": examples.problem(name)},
        "examples": {title: {"problem": problem} for title, problem in examples_of(kind).items()},
        "page": page.read_text(encoding="utf-8"),
    }
    return json.dumps(found, ensure_ascii=False, allow_nan=False).encode()


@router.get(
    "/{kind}",
    operation_id="get_kind",
    summary="Look at a kind",
    response_model=KindShown,
    responses={200: {"description": "Its schemas, its examples, and its page."}, **responses(404)},
)
async def get_kind(kind: KindName, _caller: Annotated[Caller, Depends(reading)]) -> Response:
    """The JSON Schemas of problem and plan, problems to start from, and the kind's page."""
    return Response(shown(kind), media_type="application/json")


@router.post(
    "/{kind}:validate",
    operation_id="validate_problem",
    summary="Check a problem",
    response_model=Validity,
    responses={
        200: examples.response(examples.validity, VALIDITY),
        **responses(404, *OF_BODIES, 422),
    },
    openapi_extra=examples.validate(),
)
async def validate_problem(request: Request, kind: KindName, _caller: Annotated[Caller, Depends(reading)]) -> Response:
    """Errors and warnings, each with its place, a stable code and a cure. Nothing is kept.

    The body is the problem itself, or `{"problem": ...}` as in `POST /v1/runs`; the pointers are those of the body.
    """
    found_kind = _kind(kind)
    require_json(request)
    problem, found = await _read(service_of(request), found_kind, await request.body())
    name = problem.id if problem is not None else None
    return as_json({"schema_version": VERSION, "kind": kind, "valid": problem is not None, "problem_id": name, **found})


async def _read(service: Service, kind: Kind, body: bytes) -> tuple[StoredProblem | None, dict[str, Any]]:
    """The problem in a body if it is valid, with {"errors", "warnings"}. Raises BadRequest for what is no JSON."""
    if len(body) <= MOST_INLINE_BYTES:
        found = read_problem(kind, body)
    else:
        payload = {"kind": kind.name, "body": body}
        found = await service.helped("service.tasks:validate", payload, deadline_s=READING_S, what="checking the problem")
    if "errors" in found:
        errors = as_findings(found["errors"])
        if errors[0].code == NOT_JSON:
            raise BadRequest(errors[0].detail, code=NOT_JSON, errors=errors)
        return None, {"errors": told(errors), "warnings": []}
    place = found["place"]
    if "program" in found:
        text, place = found["program"], f"{place}/text"
        try:
            problem = await program(service, text["text"].encode(), text["format"], place)
        except Unprocessable as refused:
            return None, {"errors": told(refused.errors), "warnings": []}
    else:
        problem = await stored(service, kind.name, found)
    return problem, {"errors": [], "warnings": [one | {"pointer": place + one["pointer"]} for one in problem.warnings]}

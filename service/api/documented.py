"""What the OpenAPI document says beyond what FastAPI knows: the kinds' schemas, request bodies, and how to authenticate."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from models.catalogue import kinds
from service.api import examples
from service.api.kinds import shown
from service.api.requests import ProblemRequest, RunRequest
from service.api.schemas import EventPage, ProblemDocument
from service.documents.problems import ProgramText

REF = "#/components/schemas/"
OPEN = frozenset({"/healthz", "/readyz"})  # they ask for no key


def complete(document: dict[str, Any], routes: Iterable[APIRoute]) -> dict[str, Any]:
    """The document with every schema that its endpoints name, and the examples of ``routes`` as they were written."""
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas.update(_schemas(ProblemDocument, EventPage, ProgramText, RunRequest, ProblemRequest))
    for name in sorted(kinds()):
        schemas.update(_of_kind(name))
    schemas["RunRequest"] = _by_kind(schemas["RunRequest"], needs_kind=False)
    schemas["ProblemRequest"] = _by_kind(schemas["ProblemRequest"], needs_kind=True)
    schemas.update(_of_study())
    bearer = {"type": "http", "scheme": "bearer", "description": "A key of `quartermaster keys create`."}
    header = {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."}
    document["components"]["securitySchemes"] = {"bearer": bearer, "key": header}
    for route in routes:
        _restore(document["paths"][route.path_format], route)
    _exemplify(document["paths"])
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _tidy(operation)
            operation["security"] = [] if path in OPEN else [{}, {"bearer": []}, {"key": []}]
    return document


def _restore(operations: dict[str, Any], route: APIRoute) -> None:
    """FastAPI drops every null of the document, also those of examples."""
    for operation in operations.values():
        if operation["operationId"] != route.operation_id:
            continue
        bodies = [(told, operation["responses"].get(str(status))) for status, told in route.responses.items()]
        bodies.append(((route.openapi_extra or {}).get("requestBody", {}), operation.get("requestBody")))
        for written, shown_body in bodies:
            for media_type, form in written.get("content", {}).items():
                for name in ("example", "examples"):
                    if name in form and shown_body is not None:
                        shown_body["content"][media_type][name] = form[name]


def _exemplify(paths: dict[str, Any]) -> None:
    """The examples that take some work: a kind with all there is to know, and a plan."""
    name = min(kinds())
    kind = kinds()[name]
    plan = kind.part("heuristic").heuristic(kind.part("schema").example(), 0, 1.0)
    for path, example in (("/v1/kinds/{kind}", json.loads(shown(name))), ("/v1/runs/{run_id}/plan", plan.model_dump(mode="json"))):
        paths[path]["get"]["responses"]["200"]["content"]["application/json"]["example"] = example


def _tidy(operation: dict[str, Any]) -> None:
    """FastAPI's own 422 is a 400 here; a header that was declared twice is told once."""
    refused = operation["responses"].get("422")
    if refused is not None and "application/problem+json" not in refused.get("content", {}):
        del operation["responses"]["422"]
    if "parameters" in operation:
        operation["parameters"] = list({(one["in"], one["name"].lower()): one for one in operation["parameters"]}.values())


def _schemas(*models: type[BaseModel]) -> dict[str, Any]:
    _, made = models_json_schema([(model, "validation") for model in models], ref_template=REF + "{model}")
    found: dict[str, Any] = made["$defs"]
    return found


def _of_kind(name: str) -> dict[str, Any]:
    """The kind's schemas, each name with the kind's in front."""
    kind = kinds()[name]
    wanted: list[tuple[type[BaseModel], Any]] = [(kind.problem, "validation"), (kind.plan, "serialization")]
    _, made = models_json_schema(wanted, ref_template=f"{REF}{name}.{{model}}")
    return {f"{name}.{model}": schema for model, schema in made["$defs"].items()}


def _of_study() -> dict[str, Any]:
    """The study's schemas, with ``study.`` in front of their names; the service takes no base as a file."""
    from optimizer.study.schema import Study

    made = Study.model_json_schema(ref_template=f"{REF}study.{{model}}")
    parts = made.pop("$defs")
    parts["Base"] = _base_of_study(parts["Base"])
    return {"StudyRequest": made, **{f"study.{model}": schema for model, schema in parts.items()}}


def _base_of_study(base: dict[str, Any]) -> dict[str, Any]:
    properties = {"problem_id": {"type": "string", "pattern": r"^prob_[0-9a-f]{32}$"}, "problem": {"type": "object"}}
    choices = [_closed({name: schema}, [name]) for name, schema in properties.items()]
    return {"title": base["title"], "description": "The base problem: a kept one, or the problem itself.", "anyOf": choices}


def _by_kind(request: dict[str, Any], *, needs_kind: bool) -> dict[str, Any]:
    """A request's schema: for each kind its own problem, or no problem where an id may stand for it."""
    fields = {name: schema for name, schema in request["properties"].items() if name not in ("kind", "problem", "problem_id")}
    choices = []
    for name in sorted(kinds()):
        properties = {"kind": {"const": name, "type": "string"}, "problem": examples.problem_schema(name), **fields}
        choices.append(_closed(properties, ["kind", "problem"]))
    if not needs_kind:
        named = {"kind": {"type": "string", "enum": sorted(kinds())}, "problem_id": {"type": "string", "pattern": r"^prob_[0-9a-f]{32}$"}}
        choices.append(_closed({**named, **fields}, ["problem_id"]))
    return {"title": request["title"], "description": request["description"], "anyOf": choices}


def _closed(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": required}

"""The examples of the OpenAPI document: made from the kinds' own examples, so that every one of them is true."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from models.catalogue import kinds
from service.api.shown import log_lines
from service.documents.problems import as_object, canonical, problem_id
from service.runs.records import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

RUN_ID = "run_5d0f6c1e9a7b4e2f8c3a1b0d"
AT = 1_700_000_000.0
MOMENT = "2023-11-14T22:13:20.000Z"
MPS = """NAME
ROWS
 N  cost
 G  demand
COLUMNS
    x         cost      1.0   demand    1.0
RHS
    RHS       demand    4.0
ENDATA
"""
LP = """Minimize
 cost: 2 x + 3 y
Subject To
 demand: x + y >= 4
Bounds
 0 <= x <= 3
End
"""
_SENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["state", "incumbent", "bound", "message"]},
        "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": {"$ref": "#/components/schemas/EventShown"}},
        "id": {"type": "string", "description": "Number of the event, for Last-Event-ID."},
        "retry": {"type": "integer", "description": "Milliseconds after which to come back."},
    },
}
_EVENTS = (
    Event(1, "state", AT, {"state": "queued"}),
    Event(2, "state", AT + 0.004, {"state": "starting"}),
    Event(3, "state", AT + 0.012, {"state": "solving"}),
    Event(4, "incumbent", AT + 0.031, {"objective": 118.0, "bound": None, "gap": None, "phase": "heuristic", "seconds": 0.018}),
    Event(5, "bound", AT + 0.055, {"objective": 118.0, "bound": 118.0, "gap": 0.0, "phase": "placed_value", "seconds": 0.042}),
    Event(6, "state", AT + 0.056, {"state": "verifying"}),
    Event(7, "state", AT + 0.071, {"state": "succeeded", "outcome": "optimal", "stop_reason": "gap", "objective": 118.0}),
)
LOG = log_lines(_EVENTS)


def problem(kind: str) -> dict[str, Any]:
    """The kind's own example."""
    return as_object(kinds()[kind].part("schema").example())


def problem_schema(kind: str) -> dict[str, Any]:
    """The forms in which a problem of the kind may be sent."""
    found = {"$ref": f"#/components/schemas/{kind}.Problem"}
    return {"anyOf": [found, {"$ref": "#/components/schemas/ProgramText"}]} if kind == "program" else found


def usual_kind() -> str:
    """The kind whose example stands where there is room for one."""
    return min(kinds())


@cache
def usual_id() -> str:
    """The id of the usual kind's example."""
    name = usual_kind()
    kind = kinds()[name]
    return problem_id(name, canonical(kind, kind.part("schema").example())["body"])


def response(make: Callable[[], Any], description: str = "Successful response", model: type[BaseModel] | None = None) -> dict[str, Any]:
    """What a response holds; ``model`` where it is not the endpoint's own."""
    told: dict[str, Any] = {"description": description, "content": {"application/json": {"example": make()}}}
    return told if model is None else told | {"model": model}


def text_response(description: str, text: str) -> dict[str, Any]:
    """A response of plain text."""
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}, "example": text}}}


def plan_response() -> dict[str, Any]:
    """A plan of any kind."""
    schemas = [{"$ref": f"#/components/schemas/{name}.Plan"} for name in sorted(kinds())]
    return {"description": "The plan, in the form of the run's kind.", "content": {"application/json": {"schema": {"anyOf": schemas}}}}


def events_response() -> dict[str, Any]:
    """Events in both forms."""
    told = [{"number": event.number, "type": event.type, "at": MOMENT, **event.data} for event in _EVENTS[:3]]
    text = 'retry: 1000\n\nevent: state\ndata: {"number":1,"type":"state","at":"' + MOMENT + '","state":"queued"}\nid: 1\n\n'
    return {
        "description": "The events: a stream, or a page.",
        "content": {
            "text/event-stream": {"itemSchema": _SENT, "example": text},
            "application/json": {
                "schema": {"$ref": "#/components/schemas/EventPage"},
                "example": {"schema_version": 1, "events": told, "last": 3, "done": False},
            },
        },
    }


def prefer(description: str) -> dict[str, Any]:
    """The header Prefer."""
    return {"parameters": [header("Prefer", description, "wait=5", {"type": "string", "maxLength": 200})]}


def header(name: str, description: str, example: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A header that a client may send."""
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema, "example": example}


# ---------------------------------------------------------------- requests


def create_run() -> dict[str, Any]:
    """Body and headers of ``create_run``."""
    told: dict[str, Any] = {
        name: {"summary": kinds()[name].summary, "value": {"kind": name, "problem": problem(name), "limits": {"time_limit_s": 10}}}
        for name in sorted(kinds())
    }
    key_schema = {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"}
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": "#/components/schemas/RunRequest"}, "examples": told}}
    if "program" in kinds():
        text = {"kind": "program", "problem": {"format": "mps", "text": MPS}, "limits": {"time_limit_s": 10}}
        told["program_text"] = {"summary": "A linear program as the text of an MPS file.", "value": text}
        form = {
            "type": "object",
            "required": ["file"],
            "additionalProperties": False,
            "properties": {
                "file": {"type": "string", "format": "binary", "description": "An MPS or LP file, also compressed by gzip."},
                "request": {"type": "string", "description": "The other fields of a run request, as JSON."},
                "format": {"type": "string", "enum": ["mps", "lp"], "description": "Where the file's name does not tell."},
            },
        }
        example = {"file": LP, "request": '{"limits": {"time_limit_s": 10}}', "format": "lp"}
        content["multipart/form-data"] = {"schema": form, "example": example}
    return {
        "parameters": [
            header("Idempotency-Key", "The same key with the same body gives the same run.", "night-batch-7", key_schema),
            *prefer("`wait=N` answers when the run has ended, or after N seconds (RFC 7240).")["parameters"],
        ],
        "requestBody": {"required": True, "content": content},
    }


def validate() -> dict[str, Any]:
    """Body of ``validate_problem``: the problem, or an object that holds nothing else."""
    forms = [problem_schema(name) for name in sorted(kinds())]
    holder = {"type": "object", "required": ["problem"], "additionalProperties": False, "properties": {"problem": {"anyOf": forms}}}
    told = {
        usual_kind(): {"summary": "A problem of this kind.", "value": problem(usual_kind())},
        "as_in_runs": {"summary": "The same as a field, as in POST /v1/runs.", "value": {"problem": problem(usual_kind())}},
    }
    return body({"anyOf": [*forms, holder]}, told)


def body(schema: str | dict[str, Any], examples: dict[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    """A request body with its examples."""
    found = {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema
    return {"requestBody": {"required": True, "content": {media_type: {"schema": found, "examples": examples}}}}


# ---------------------------------------------------------------- responses


def run() -> dict[str, Any]:
    """A run that has ended."""
    here = f"/v1/runs/{RUN_ID}"
    parts = ("plan", "certificate", "explanations", "conflict", "sensitivity", "metrics", "trace", "views", "log", "events")
    return {
        "schema_version": 1,
        "id": RUN_ID,
        "kind": usual_kind(),
        "state": "succeeded",
        "outcome": "optimal",
        "stop_reason": "gap",
        "objective": 118.0,
        "bound": 118.0,
        "gap": 0.0,
        "seconds": 0.071,
        "verified": True,
        "cached": False,
        "priority": 0,
        "limits": {"time_limit_s": 10.0, "gap": 0.0001, "seed": 0, "threads": 1, "memory_gib": None},
        "problem_id": usual_id(),
        "warm_start_run": None,
        "attempt": 1,
        "message": "",
        "failure": None,
        "created_at": MOMENT,
        "started_at": MOMENT,
        "finished_at": MOMENT,
        "links": {
            "self": here,
            "problem": f"/v1/problems/{usual_id()}",
            "cancel": f"{here}:cancel",
            **{part: f"{here}/{part}" for part in parts},
            "model": f"{here}/model.mps",
        },
    }


def accepted() -> dict[str, Any]:
    """A run that waits."""
    unknown = dict.fromkeys(("outcome", "stop_reason", "objective", "bound", "gap", "seconds", "started_at", "finished_at"))
    return run() | unknown | {"state": "queued", "verified": False, "attempt": 0, "warnings": []}


def cancelling() -> dict[str, Any]:
    """A run that is asked to end."""
    return accepted() | {"state": "cancelling", "attempt": 1, "started_at": MOMENT}


def run_page() -> dict[str, Any]:
    """A page with one run."""
    return {"schema_version": 1, "runs": [run()], "next": None}


def certificate() -> dict[str, Any]:
    """A proof of optimality."""
    goal = {
        "name": "placed_value",
        "sense": "maximise",
        "unit": "value",
        "objective": 118.0,
        "bound": 118.0,
        "gap": 0.0,
        "method": "dual bound of the exact program",
    }
    return {
        "schema_version": 1,
        "run": RUN_ID,
        "goals": [goal],
        "objective": 118.0,
        "bound": 118.0,
        "gap": 0.0,
        "largest_violation": 0.0,
        "verified": True,
        "strategy": "placed_value",
        "seed": 0,
        "versions": {"quartermaster": "0.1.0", "highspy": "1.12.0"},
    }


def explanations() -> dict[str, Any]:
    """One reason."""
    text = "no node has 8 free GPUs for a worker of job 'late'"
    reason = {"subject": "late", "code": "why_not", "rule": "node_gpus", "ids": ["n0"], "text": text, "status": "proved"}
    return {"schema_version": 1, "run": RUN_ID, "explanations": [reason]}


def conflict() -> dict[str, Any]:
    """Two rules that cannot hold together."""
    rules = [{"rule": "node_gpus", "ids": ["n0"]}, {"rule": "preempt_for", "ids": ["urgent"]}]
    return {"schema_version": 1, "run": RUN_ID, "status": "proved", "rules": rules, "repairs": ["give node 'n0' 8 more GPUs"]}


def sensitivity() -> dict[str, Any]:
    """What one more unit of a limit is worth."""
    text = "one more GPU on node 'n0' is worth 12 of placed value, from 8 to 16 GPUs"
    row = {"rule": "node_gpus", "ids": ["n0"], "unit": "GPUs", "limit": 8.0, "worth": 12.0, "range": {"low": 8.0, "high": 16.0}}
    return {
        "schema_version": 1,
        "run": RUN_ID,
        "goal": "placed_value",
        "sense": "maximise",
        "unit": "value",
        "rows": [row | {"status": "proved", "text": text}],
        "meaning": {"proved": "exact: the duals of the whole program"},
        "left_out": 0,
        "message": "",
    }


def metrics() -> dict[str, Any]:
    """A plan's figures, and where the time went."""
    figures = {"placed_jobs": 7.0, "allocated_gpus": 24.0, "capacity_gpus": 40.0}
    spent = {"heuristic": 0.004, "build": 0.021, "solve": 0.017, "verify": 0.002, "explain": 0.009}
    return {"schema_version": 1, "run": RUN_ID, "metrics": figures, "seconds_by_phase": spent}


def trace() -> dict[str, Any]:
    """A plan, and the bound that proves it best."""
    steps = [
        {"seconds": 0.018, "phase": "heuristic", "incumbent": 118.0, "bound": None, "gap": None},
        {"seconds": 0.042, "phase": "placed_value", "incumbent": 118.0, "bound": 118.0, "gap": 0.0},
    ]
    return {"schema_version": 1, "run": RUN_ID, "trace": steps}


def views() -> dict[str, Any]:
    """The views of a flow."""
    here = f"/v1/runs/{RUN_ID}/views"
    found = [{"name": name, "links": {"self": f"{here}/{name}"}} for name in ("splits", "loads", "paths")]
    return {"schema_version": 1, "run": RUN_ID, "views": found}


def view() -> dict[str, Any]:
    """The load of a link."""
    load = {"link": "a-b", "way": "forth", "from": "a", "to": "b", "gbps": 30.0, "capacity_gbps": 100.0, "utilisation": 0.3}
    return {"schema_version": 1, "run": RUN_ID, "view": "loads", "content": {"links": [load]}}


def kept() -> dict[str, Any]:
    """A kept problem without its content."""
    links = {"self": f"/v1/problems/{usual_id()}", "patch": f"/v1/problems/{usual_id()}:patch"}
    return {
        "schema_version": 1,
        "id": usual_id(),
        "kind": usual_kind(),
        "bytes": 2048,
        "parent": None,
        "warnings": [],
        "links": links,
    }


def shown_problem() -> dict[str, Any]:
    """A kept problem."""
    return {
        "schema_version": 1,
        "id": usual_id(),
        "kind": usual_kind(),
        "parent": None,
        "warnings": [],
        "problem": problem(usual_kind()),
    }


def validity() -> dict[str, Any]:
    """A problem that is right, with one thing that is odd."""
    return {"schema_version": 1, "kind": usual_kind(), "valid": True, "problem_id": usual_id(), "errors": [], "warnings": []}

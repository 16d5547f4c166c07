"""Runs, events and problems as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastapi.responses import Response

from optimizer.result import finite

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from service.runs.records import Event, Run

VERSION = 1
_PARTS = ("plan", "certificate", "explanations", "conflict", "sensitivity", "metrics", "trace", "views", "model.mps", "log", "events")


def run_object(run: Run) -> dict[str, Any]:
    """What a client sees of a run."""
    here = f"/v1/runs/{run.id}"
    return {
        "schema_version": VERSION,
        "id": run.id,
        "kind": run.kind,
        "state": run.state.value,
        "outcome": run.outcome,
        "stop_reason": run.stop_reason,
        "objective": finite(run.objective),
        "bound": finite(run.bound),
        "gap": finite(run.gap),
        "seconds": finite(run.seconds),
        "verified": run.verified,
        "cached": run.cached,
        "priority": run.priority,
        "limits": run.limits,
        "problem_id": run.problem_id,
        "warm_start_run": run.warm_start_run,
        "attempt": run.attempt,
        "message": run.message,
        "failure": run.failure,
        "created_at": moment(run.created_at),
        "started_at": moment(run.started_at),
        "finished_at": moment(run.finished_at),
        "links": {
            "self": here,
            "problem": f"/v1/problems/{run.problem_id}",
            "cancel": f"{here}:cancel",
            **{part.partition(".")[0]: f"{here}/{part}" for part in _PARTS},
        },
    }


def event_object(event: Event) -> dict[str, Any]:
    """One entry of a run's history."""
    return {"number": event.number, "type": event.type, "at": moment(event.at), **event.data}


def moment(seconds: float | None) -> str | None:
    """Seconds since 1970 as RFC 3339 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_json(found: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response, serialised once."""
    body = json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return Response(body, status_code=status, media_type="application/json", headers=headers)


def spliced(fields: Mapping[str, Any], body: bytes) -> Response:
    """Some fields in front of a JSON object that is already text."""
    head = json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    inner = body[1:]
    return Response(head[:-1] + (b"" if inner == b"}" else b",") + inner, media_type="application/json")


def log_lines(events: Iterable[Event]) -> str:
    """A run's history for people, a line for each event: the time, what it is about, and what is known then."""
    lines = []
    for event in events:
        if event.type == "state":
            rest = {name: value for name, value in event.data.items() if name != "state"}
            text = f"{event.data.get('state', '')}"
        else:
            rest, text = dict(event.data), event.type
        figures = " ".join(f"{name}={_plain(value)}" for name, value in rest.items() if value is not None)
        lines.append(f"{moment(event.at)} {text:<10} {figures}".rstrip())
    return "".join(f"{line}\n" for line in lines)


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    text = str(value).replace("\n", " ").replace("\r", " ")
    return json.dumps(text, ensure_ascii=False) if " " in text else text

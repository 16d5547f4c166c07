"""The examples of the OpenAPI document about studies."""

from __future__ import annotations

from typing import Any

from service.api import examples

STUDY_ID = "study_5d0f6c1e9a7b4e2f8c3a1b0d"


def document() -> dict[str, Any]:
    """A study of the usual kind's example: another search for the same problem, and a label that changes nothing."""
    return {
        "name": "what-if",
        "kind": examples.usual_kind(),
        "base": {"problem": examples.problem(examples.usual_kind())},
        "replicates": 2,
        "limits": {"time_limit_s": 10},
    }


def requests() -> dict[str, Any]:
    """Bodies of requests."""
    return {"nothing_changes": {"summary": "The base problem with two seeds; axes say what changes.", "value": document()}}


def study() -> dict[str, Any]:
    """A study that has ended."""
    here = f"/v1/studies/{STUDY_ID}"
    return {
        "schema_version": 1,
        "id": STUDY_ID,
        "name": "what-if",
        "title": "",
        "kind": examples.usual_kind(),
        "state": "finished",
        "problem_id": examples.usual_id(),
        "scenarios": 2,
        "runs": 2,
        "counts": {"queued": 0, "working": 0, "succeeded": 2, "failed": 0, "cancelled": 0},
        "progress": 1.0,
        "priority": -10,
        "created_at": examples.MOMENT,
        "warnings": [],
        "conclusions": {
            "goal": "placed_value",
            "recommendation": "The baseline is as good as any.",
            "best": "baseline",
            "certain": True,
            "next_steps": [],
            "gates": [],
            "standing": None,
            "paired": [],
            "answered": 2,
            "failed": 0,
        },
        "asks": None,
        "links": {
            "self": here,
            "problem": f"/v1/problems/{examples.usual_id()}",
            "cancel": f"{here}:cancel",
            **{part: f"{here}/{part}" for part in ("table", "charts", "report", "differences")},
        },
    }


def accepted() -> dict[str, Any]:
    """A study that waits."""
    counts = {"queued": 2, "working": 0, "succeeded": 0, "failed": 0, "cancelled": 0}
    return study() | {"state": "queued", "counts": counts, "progress": 0.0, "conclusions": None}


def page() -> dict[str, Any]:
    """A page with one study."""
    return {"schema_version": 1, "studies": [accepted()], "next": None}


def validity() -> dict[str, Any]:
    """A study that could run."""
    return {"schema_version": 1, "valid": True, "scenarios": 2, "runs": 2, "errors": [], "warnings": []}


def difference() -> dict[str, Any]:
    """Two scenarios that are alike."""
    return {
        "a": "baseline",
        "b": "extra=8",
        "name": "placed_value",
        "sense": "maximise",
        "unit": "value",
        "finding": "better",
        "certain": True,
        "absolute": [8.0, 8.4],
        "relative": [0.068, 0.071],
        "plans": {"a": 118.0, "b": 126.0, "absolute": 8.0, "relative": 0.0678},
        "would_decide": [],
        "tolerance": 0.0001,
        "sentence": "extra=8 beats baseline by 6.8% to 7.1%.",
        "text": "extra=8 beats baseline by 6.8% to 7.1%. Of the plans found, extra=8 has 126 and baseline 118: 6.78% more.",
    }


def compared() -> dict[str, Any]:
    """A difference with the study that it is of."""
    return {"schema_version": 1, "study": STUDY_ID, "difference": difference()}


def table() -> dict[str, Any]:
    """A table of which one line is still open."""
    goal = examples.certificate()["goals"][0]
    row = {
        "key": "4be1c1a3e35b1b4d2a7c0f6e9d8b7a6c5d4e3f21",
        "outcome": "optimal",
        "stop_reason": "gap",
        "goals": [goal],
        "metrics": {"placed_jobs": 7.0},
        "verified": True,
        "seconds": 0.071,
        "strategy": "placed_value",
        "message": "",
        "refuted": [],
        "failure": None,
        "attempts": 1,
        "versions": {"quartermaster": "0.1.0"},
    }
    line = {"scenario": "baseline", "label": "baseline", "baseline": True, "replicate": 0, "values": {}, "spend_usd": 0.0}
    known = line | {"run": examples.RUN_ID, "state": "succeeded", "row": row, "difference": None}
    other = {"scenario": "extra=8", "label": "extra=8", "baseline": False, "values": {"extra": 8}, "state": "queued", "row": None}
    return {"schema_version": 1, "study": STUDY_ID, "goal": "placed_value", "missing": 1, "rows": [known, known | other], "asks": []}


def charts() -> dict[str, Any]:
    """One picture."""
    spec = {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "mark": "bar", "data": {"values": []}, "encoding": {}}
    return {"schema_version": 1, "study": STUDY_ID, "charts": {"tornado": spec}}

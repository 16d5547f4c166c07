"""Answers of the service's runs as rows of a study."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from optimizer.result import GoalCertificate
from optimizer.study.rows import Row

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDED = frozenset({"succeeded", "failed", "cancelled"})
BOUND_PERCENT = "bound_percent"  # a figure of the service's own, in no table


def row_of(answer: Mapping[str, Any]) -> Row | None:
    """The row of a run; None while it has not ended."""
    if answer["state"] not in ENDED:
        return None
    parts = {name: json.loads(body) for name, body in answer["parts"].items()}
    seconds, attempts = answer["seconds"] or 0.0, 1 + answer["losses"]
    certificate = parts.get("certificate")
    failure = answer["failure"] or (answer["message"] if answer["stop_reason"] == "crash" else None)
    if certificate is None and failure:
        return Row.failed(answer["key"], failure, seconds=seconds, attempts=attempts)
    metrics = parts.get("metrics", {}).get("metrics", {})
    conflict = parts.get("conflict") or {"rules": []}
    return Row(
        key=answer["key"],
        outcome=answer["outcome"],
        stop_reason=answer["stop_reason"],
        goals=() if certificate is None else tuple(_goal(goal) for goal in certificate["goals"]),
        metrics={name: value for name, value in metrics.items() if value is not None and name != BOUND_PERCENT},
        verified=bool(answer["verified"]),
        seconds=seconds,
        strategy="" if certificate is None else certificate["strategy"],
        message=answer["message"],
        refuted=tuple(f"{rule['rule']}: {', '.join(rule['ids'])}" for rule in conflict["rules"]),
        attempts=attempts,
        versions={} if certificate is None else certificate["versions"],
    )


def _goal(goal: dict[str, Any]) -> GoalCertificate:
    endless = float("inf") if goal["sense"] == "maximise" else float("-inf")
    known = {"bound": endless if goal["bound"] is None else goal["bound"], "gap": float("inf") if goal["gap"] is None else goal["gap"]}
    return GoalCertificate(**goal | known)

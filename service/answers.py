"""A Result as the JSON that programs read: the same for the command line, the service and its clients.

A number that is not known is null: JSON has no NaN and no infinity.
"""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from optimizer.result import finite

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.contract import Reason, Verdict
    from optimizer.result import Certificate, Conflict, Progress, Result


def bound_percent(certificate: Certificate | None, metrics: dict[str, float]) -> float | None:
    """The bound of a goal told in units of a capacity, in per cent of it: None when there is no such goal or no bound."""
    if certificate is None:
        return None
    for goal in certificate.goals:
        capacity = metrics.get(f"capacity_{goal.unit.lower()}")
        if capacity and math.isfinite(goal.bound):
            return 100.0 * goal.bound / capacity
    return None


def metrics_object(certificate: Certificate | None, verdict: Verdict | None) -> dict[str, float | None]:
    """The plan's key figures; nothing where there is no plan."""
    if verdict is None:
        return {}
    metrics = {name: finite(value) for name, value in verdict.metrics.items()}
    if any(name.startswith("capacity_") for name in metrics):
        metrics["bound_percent"] = finite(bound_percent(certificate, verdict.metrics))
    return metrics


def summary(result: Result) -> dict[str, Any]:
    """The answer in figures: what is known of the problem, why the search ended, and the first goal's certificate."""
    certificate = result.certificate
    return {
        "kind": result.kind,
        "outcome": result.outcome.value,
        "stop_reason": result.stop_reason.value,
        "objective": finite(certificate.objective) if certificate is not None else None,
        "bound": finite(certificate.bound) if certificate is not None else None,
        "gap": finite(certificate.gap) if certificate is not None else None,
        "seconds": result.seconds,
        "verified": certificate is not None and certificate.verified,
        "metrics": metrics_object(certificate, result.verdict),
    }


def certificate_object(certificate: Certificate) -> dict[str, Any]:
    """The proof that comes with a plan."""
    return {
        "goals": [{field.name: _plain(getattr(goal, field.name)) for field in fields(goal)} for goal in certificate.goals],
        "objective": finite(certificate.objective),
        "bound": finite(certificate.bound),
        "gap": finite(certificate.gap),
        "largest_violation": finite(certificate.largest_violation),
        "verified": certificate.verified,
        "strategy": certificate.strategy,
        "seed": certificate.seed,
        "versions": dict(certificate.versions),
    }


def reasons_object(reasons: Iterable[Reason]) -> dict[str, Any]:
    """Why the plan is as it is."""
    return {"explanations": [{field.name: _plain(getattr(reason, field.name)) for field in fields(reason)} for reason in reasons]}


def conflict_object(conflict: Conflict) -> dict[str, Any]:
    """Why no plan exists, and the smallest repair."""
    rules = [{"rule": rule, "ids": list(ids)} for rule, ids in conflict.rules]
    return {"status": conflict.status, "rules": rules, "repairs": list(conflict.repairs)}


def trace_object(trace: Iterable[Progress]) -> dict[str, Any]:
    """The convergence of the first goal."""
    return {"trace": [{field.name: _plain(getattr(step, field.name)) for field in fields(step)} for step in trace]}


def body(found: object) -> bytes:
    """Compact JSON bytes; raises ValueError for a number that JSON cannot say."""
    return json.dumps(found, allow_nan=False, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:  # noqa: ANN401  (any field of a record)
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value

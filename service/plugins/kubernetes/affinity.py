"""Which nodes a pod accepts, and which accept it: affinity, taints and tolerations as the scheduler reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.plugins.kubernetes.fields import Object, ObjectError, part, parts, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEEPS_OUT = frozenset({"NoSchedule", "NoExecute"})  # the effects of taints that a new pod must tolerate
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"  # the taint of a cordoned node; the node's own flag tells the same


def required_terms(spec: Object) -> tuple[Object, ...] | None:
    """The terms of the required node affinity, one of which must hold; None where there is none. Raises ObjectError."""
    path = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    return parts(spec, *path, "nodeSelectorTerms") if part(spec, *path) else None


def affinity_holds(terms: Sequence[Object] | None, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a node of that name and these labels satisfies one of the terms. Raises ObjectError."""
    return terms is None or any(_term_holds(term, name, labels) for term in terms)


def _term_holds(term: Object, name: str, labels: Mapping[str, str]) -> bool:
    expressions, fields = parts(term, "matchExpressions"), parts(term, "matchFields")
    if not expressions and not fields:
        return False  # an empty term selects nothing
    return all(expression_holds(one, labels) for one in expressions) and all(
        expression_holds(one, {"metadata.name": name}) for one in fields
    )


def expression_holds(expression: Object, labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy ``{key, operator, values}`` of a node selector or a label selector. Raises ObjectError."""
    key, operator, values = text(expression, "key"), text(expression, "operator"), expression.get("values") or []
    if not isinstance(values, list):
        raise ObjectError(f"the values of the selector of '{key}' are not a list")
    there, value = key in labels, labels.get(key, "")
    match operator:
        case "In":
            return there and value in values
        case "NotIn":
            return not there or value not in values
        case "Exists":
            return there
        case "DoesNotExist":
            return not there
        case "Gt" | "Lt":
            return there and _compares(operator, value, values)
        case _:
            raise ObjectError(f"the selector of '{key}' has an unknown operator '{operator}'")


def _compares(operator: str, value: str, values: Sequence[object]) -> bool:
    try:
        ours, theirs = int(value), int(str(values[0]))
    except (ValueError, IndexError):
        return False  # as the scheduler: what is no whole number satisfies no comparison
    return ours > theirs if operator == "Gt" else ours < theirs


def selector_holds(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy a label selector; an empty one selects everything. Raises ObjectError."""
    return all(labels.get(key) == value for key, value in part(selector, "matchLabels").items()) and all(
        expression_holds(one, labels) for one in parts(selector, "matchExpressions")
    )


def tolerated(taints: Sequence[Object], tolerations: Sequence[Object]) -> bool:
    """Whether a new pod may go where these taints are. Raises ObjectError."""
    return all(any(_tolerates(one, taint) for one in tolerations) for taint in taints if text(taint, "effect") in KEEPS_OUT)


def _tolerates(toleration: Object, taint: Object) -> bool:
    if text(toleration, "effect") not in {"", text(taint, "effect")}:
        return False
    key, operator = text(toleration, "key"), text(toleration, "operator") or "Equal"
    if not key:
        return operator == "Exists"
    if key != text(taint, "key"):
        return False
    return operator == "Exists" or (operator == "Equal" and text(toleration, "value") == text(taint, "value"))

"""What an API server refuses of pods and events.

Sources: Kubernetes, ``pkg/apis/core/validation`` (ValidatePodCreate, ValidatePodUpdate, ValidatePodStatusUpdate) and
``pkg/registry/core/pod`` (strategy, BindingREST); KEP-3521 (scheduling gates), KEP-3838 (mutable scheduling directives),
KEP-5278 (nominated node names).
"""

from __future__ import annotations

import copy
import re
from typing import Any

LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
MOST_ANNOTATIONS = 256 * 1024
MUTABLE = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`, `spec.tolerations` (only additions)"


class InvalidError(Exception):
    """422 Invalid."""


class ForbiddenChangeError(InvalidError):
    """A field that may not change any more."""


def check_new_pod(pod: dict[str, Any]) -> None:
    """Rules of creation."""
    spec, name = pod.get("spec", {}), pod["metadata"].get("name", "")
    if not name or len(name) > 253 or not DNS_NAME.fullmatch(name):
        raise InvalidError(f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain is needed')
    if not spec.get("containers"):
        raise InvalidError("spec.containers: Required value")
    for container in spec["containers"]:
        _check_resources(container.get("resources") or {})
    gates = [gate["name"] for gate in spec.get("schedulingGates", [])]
    if len(set(gates)) < len(gates):
        raise InvalidError("spec.schedulingGates: Duplicate value")
    if gates and spec.get("nodeName"):
        raise InvalidError("spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared")
    _check_common(pod)


def _check_resources(resources: dict[str, Any]) -> None:
    """What is not shared out in parts (``nvidia.com/gpu``) is requested as it is limited."""
    limits = resources.get("limits") or {}
    for name, amount in (resources.get("requests") or {}).items():
        if "/" in name and limits.get(name) != amount:
            raise InvalidError(
                f"spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources: {name}"
            )


def check_changed_pod(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Rules of an update of the pod itself."""
    before, after = old.get("spec", {}), new.get("spec", {})
    was = [gate["name"] for gate in before.get("schedulingGates") or []]
    for gate in after.get("schedulingGates") or []:
        if gate["name"] not in was:
            raise ForbiddenChangeError(
                f"spec.schedulingGates: Forbidden: only deletion is allowed, but found new scheduling gate '{gate['name']}'"
            )
    if was:
        _check_selector(before.get("nodeSelector") or {}, after.get("nodeSelector") or {})
        _check_affinity(_node_affinity(before), _node_affinity(after))
    kept = before.get("tolerations") or []
    if any(one not in (after.get("tolerations") or []) for one in kept):
        raise ForbiddenChangeError("spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds")
    if _fixed(before, gated=bool(was)) != _fixed(after, gated=bool(was)):
        raise ForbiddenChangeError(MUTABLE)
    _check_common(new)


def check_status(new: dict[str, Any]) -> None:
    """Rules of an update of the status."""
    nominated = new.get("status", {}).get("nominatedNodeName")
    if nominated and not DNS_NAME.fullmatch(nominated):
        raise InvalidError(f'status.nominatedNodeName: Invalid value: "{nominated}"')
    _check_common(new)


def check_event(event: dict[str, Any], namespace: str) -> None:
    """Rules of an event of the old style."""
    about = event.get("involvedObject", {})
    if about.get("namespace") != namespace:
        raise InvalidError("involvedObject.namespace: Invalid value: does not match event.namespace")
    if not DNS_NAME.fullmatch(event["metadata"].get("name", "")):
        raise InvalidError("metadata.name: Invalid value")
    if event.get("type") not in {"Normal", "Warning"} or len(event.get("message", "").encode()) > 1024:
        raise InvalidError("type or message: Invalid value")


def _check_common(pod: dict[str, Any]) -> None:
    annotations = pod["metadata"].get("annotations") or {}
    if any(not isinstance(value, str) for value in annotations.values()):
        raise InvalidError("metadata.annotations: Invalid value")
    if sum(len(name.encode()) + len(value.encode()) for name, value in annotations.items()) > MOST_ANNOTATIONS:
        raise InvalidError("metadata.annotations: Too long: may not be more than 262144 bytes")
    for value in (pod.get("spec", {}).get("nodeSelector") or {}).values():
        if not LABEL_VALUE.fullmatch(value):
            raise InvalidError(f'spec.nodeSelector: Invalid value: "{value}"')


def _check_selector(before: dict[str, str], after: dict[str, str]) -> None:
    if any(after.get(name) != value for name, value in before.items()):
        raise ForbiddenChangeError(
            "spec.nodeSelector: Invalid value: only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        )


def _check_affinity(before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    if before and before.get(required) and (after or {}).get(required) != before[required]:
        raise ForbiddenChangeError("spec.affinity.nodeAffinity: Invalid value: no changes to existing terms")


def _node_affinity(spec: dict[str, Any]) -> dict[str, Any] | None:
    found: dict[str, Any] | None = (spec.get("affinity") or {}).get("nodeAffinity")
    return found


def _fixed(spec: dict[str, Any], *, gated: bool) -> dict[str, Any]:
    """What of a spec may not change."""
    found = copy.deepcopy(spec)
    for name in ("schedulingGates", "tolerations", "activeDeadlineSeconds"):
        found.pop(name, None)
    if gated:
        found.pop("nodeSelector", None)
        if isinstance(found.get("affinity"), dict):
            found["affinity"].pop("nodeAffinity", None)
        if not found.get("affinity"):
            found.pop("affinity", None)
    for container in [*found.get("containers", []), *found.get("initContainers", [])]:
        container.pop("image", None)
    return {name: value for name, value in found.items() if value not in (None, {}, [])}

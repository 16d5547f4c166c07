"""Calls to an extender as kube-scheduler sends them, as Go's encoding/json writes its types, and what Go reads of an answer."""

from __future__ import annotations

import json
from typing import Any

from service.plugins.kubernetes.extender_seats import Seating, Told

NOW = 1_000_000.0
UID = "6f1c2e0a-0001-4d7e-9a51-000000000001"
OTHER_UID = "6f1c2e0a-0001-4d7e-9a51-000000000002"
NODES = ["gpu-1", "gpu-2", "gpu-3"]


def go_json(value: object) -> bytes:
    """As json.Marshal writes: without blanks, with <, > and & escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode()


def pod(name: str = "train-0", uid: str = UID, *, opted_in: bool = True, **more: Any) -> dict[str, Any]:
    meta = {
        "name": name,
        "generateName": "train-",
        "namespace": "team",
        "uid": uid,
        "resourceVersion": "81723",
        "creationTimestamp": "2026-01-31T12:00:00Z",
        "labels": {"quartermaster.dev/plan": "true"} if opted_in else {"app": "web"},
        "annotations": {"note": 'it says "NodeNames":["gpu-9"] & <more>, with "quotes"'},
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": "j", "controller": True}],
        "managedFields": [{"manager": "kube-controller-manager", "fieldsV1": {"f:metadata": {"f:labels": {".": {}}}}}],
    }
    container = {"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "8"}, "requests": {"nvidia.com/gpu": "8"}}}
    return {
        "metadata": meta,
        "spec": {"containers": [container], "schedulerName": "default-scheduler"},
        "status": {"phase": "Pending"},
        **more,
    }


def node(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": {}, "status": {"allocatable": {"nvidia.com/gpu": "8"}}}


def by_names(one: dict[str, Any], names: list[str]) -> bytes:
    """nodeCacheCapable: true."""
    return go_json({"Pod": one, "Nodes": None, "NodeNames": names})


def by_nodes(one: dict[str, Any], names: list[str]) -> bytes:
    """nodeCacheCapable: false."""
    return go_json({"Pod": one, "Nodes": {"metadata": {}, "items": [node(name) for name in names]}, "NodeNames": None})


def meta_victims(one: dict[str, Any], victims: dict[str, list[str]]) -> bytes:
    found = {name: {"Pods": [{"UID": uid} for uid in uids], "NumPDBViolations": 1} for name, uids in victims.items()}
    return go_json({"Pod": one, "NodeNameToVictims": None, "NodeNameToMetaVictims": found})


def whole_victims(one: dict[str, Any], victims: dict[str, list[str]]) -> bytes:
    found = {name: {"Pods": [pod(f"v-{uid}", uid) for uid in uids], "NumPDBViolations": 1} for name, uids in victims.items()}
    return go_json({"Pod": one, "NodeNameToVictims": found, "NodeNameToMetaVictims": None})


class Read:
    """What kube-scheduler makes of a filter answer (``HTTPExtender.Filter``): which nodes pass, or an error."""

    def __init__(self, body: bytes, names: list[str], *, cache_capable: bool) -> None:
        answer = json.loads(body)
        assert set(answer) <= {"Nodes", "NodeNames", "FailedNodes", "FailedAndUnresolvableNodes", "Error"}
        self.error: str = answer.get("Error") or ""
        self.failed: dict[str, str] = (answer.get("FailedNodes") or {}) | (answer.get("FailedAndUnresolvableNodes") or {})
        self.passed: list[str] = []
        if self.error:
            return
        if cache_capable and answer.get("NodeNames") is not None:
            self.passed = answer["NodeNames"]
        elif answer.get("Nodes") is not None:
            self.passed = [item["metadata"]["name"] for item in answer["Nodes"]["items"]]
        assert set(self.passed) <= set(names), "claims a node that was not asked about"


def plan(*told: Told, made_at: float = NOW, ttl_s: float = 30.0) -> Seating:
    return Seating(7, made_at, ttl_s, {f"{one.namespace}/{one.name}": one for one in told})


def planned(where: str | None, uid: str = UID, name: str = "train-0", **more: Any) -> Told:
    return Told("team", name, uid, "team/job/train", where, "waits for 8 GPUs on one rack: rack r2 frees at 14:10", **more)

"""Nodes and pods for tests, as the API gives them."""

from __future__ import annotations

import copy
from typing import Any

from tests.plugins.kubernetes.stub_store import Manifest

NODE_INFO = (  # the official client takes no node without any of these
    "architecture",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "kubeletVersion",
    "machineID",
    "operatingSystem",
    "osImage",
    "systemUUID",
)
GATE = "quartermaster.dev/plan"
GROUP: dict[str, Any] = {"kind": "PodGroup", "metadata": {"name": "g", "namespace": "team"}, "spec": {"minMember": 3}}


def node(
    name: str, *, gpus: int = 8, cpu: str = "64", memory: str = "512Gi", labels: dict[str, str] | None = None, **spec: Any
) -> Manifest:
    marks = {"kubernetes.io/hostname": name, "nvidia.com/gpu.product": "H100", "nvidia.com/gpu.memory": "81920"} | (labels or {})
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": marks},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "nvidia.com/gpu": str(gpus), "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}],
            "nodeInfo": dict.fromkeys(NODE_INFO, "x") | {"bootID": "boot-1"},
        },
    }


def pod(
    name: str,
    *,
    gpus: int = 1,
    gated: bool = True,
    cpu: str = "1",
    memory: str = "1Gi",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    owner: tuple[str, str, str] | None = None,
    **spec: Any,
) -> Manifest:
    counted = {"nvidia.com/gpu": str(gpus)} if gpus else {}  # the server takes no request of them without an equal limit
    resources = {"requests": {"cpu": cpu, "memory": memory} | counted, "limits": counted}
    made: Manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "team", "labels": labels or {}},
        "spec": {"containers": [{"name": "main", "image": "work", "resources": resources}]} | copy.deepcopy(spec),
        "status": {"phase": "Pending"},
    }
    if gated:
        made["spec"].setdefault("schedulingGates", [{"name": GATE}])
    if annotations:
        made["metadata"]["annotations"] = annotations
    if owner is not None:
        kind, owner_name, uid = owner
        made["metadata"]["ownerReferences"] = [{"apiVersion": "batch/v1", "kind": kind, "name": owner_name, "uid": uid, "controller": True}]
    return made


def job(name: str, parallelism: int, completions: int | None = None) -> Manifest:
    spec = {"parallelism": parallelism, "completions": completions if completions is not None else parallelism}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "team", "uid": f"uid-{name}"}, "spec": spec}


def gang(name: str, size: int, **kind: Any) -> list[Manifest]:
    """The pods of a Job."""
    return [pod(f"{name}-{index}", owner=("Job", name, f"uid-{name}"), **kind) for index in range(size)]

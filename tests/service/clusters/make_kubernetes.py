"""Writes ``kubernetes/nodes-and-pods.json``: a synthetic cluster of 8 nodes in two racks, as ``kubectl get nodes,pods -A -o json`` has it.

Run it from the repository's root: ``python -m tests.service.clusters.make_kubernetes``. No part of it is from a real cluster.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TAKEN = "2026-03-02T12:00:00Z"
HOUR = 3600


def node(number: int) -> dict[str, Any]:
    h100 = number < 6
    labels = {
        "kubernetes.io/hostname": f"gpu-{number}",
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3" if h100 else "NVIDIA-A100-SXM4-40GB",
        "nvidia.com/gpu.memory": "81920" if h100 else "40960",
        "topology.kubernetes.io/zone": "north",
        "topology.quartermaster.dev/rack": f"r{1 + number // 3}",
    }
    conditions = [{"type": "Ready", "status": "False" if number == 7 else "True", "lastHeartbeatTime": TAKEN}]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"gpu-{number}", "labels": labels, "creationTimestamp": "2026-01-05T08:00:00Z"},
        "spec": {"unschedulable": True} if number == 5 else {},
        "status": {
            "allocatable": {"cpu": "95", "memory": "1000Gi", "nvidia.com/gpu": "8", "pods": "110"},
            "capacity": {"cpu": "96", "memory": "1024Gi", "nvidia.com/gpu": "8", "pods": "110"},
            "conditions": conditions,
            "nodeInfo": {"bootID": f"boot-{number}"},
        },
    }


def pod(  # noqa: PLR0913  (what pods differ in)
    name: str,
    gpus: int,
    *,
    on: str = "",
    priority: int = 0,
    hours: int | None = None,
    job: str = "",
    cpu: str = "8",
    made: str = "2026-03-02T10:00:00Z",
    gated: bool = False,
    owned: bool = True,
) -> dict[str, Any]:
    limits = {"cpu": cpu, "memory": "64Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    meta: dict[str, Any] = {"name": name, "namespace": "team", "uid": f"uid-{name}", "resourceVersion": "1", "creationTimestamp": made}
    if owned:
        meta["ownerReferences"] = [{"kind": "ReplicaSet", "name": name, "uid": f"owner-{name}", "controller": True}]
    if job:
        meta["labels"] = {"scheduling.x-k8s.io/pod-group": job}
    spec: dict[str, Any] = {
        "priority": priority,
        "containers": [{"name": "main", "resources": {"limits": limits, "requests": limits}}],
        "tolerations": [],
    }
    if hours is not None:
        spec["activeDeadlineSeconds"] = hours * HOUR
    if gated:
        spec["schedulingGates"] = [{"name": "quartermaster.dev/plan"}]
    status: dict[str, Any] = {"phase": "Pending"}
    if on:
        spec["nodeName"] = on
        status = {"phase": "Running", "startTime": "2026-03-02T11:00:00Z"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def group(name: str, size: int) -> dict[str, Any]:
    return {
        "apiVersion": "scheduling.x-k8s.io/v1alpha1",
        "kind": "PodGroup",
        "metadata": {"name": name, "namespace": "team"},
        "spec": {"minMember": size},
    }


def cluster() -> dict[str, Any]:
    pods = [
        *(pod(f"train-{rank}", 8, on=f"gpu-{rank}", priority=500, hours=4, job="train", owned=False) for rank in range(2)),
        pod("tune", 4, on="gpu-2", priority=100, hours=2),
        pod("notebook", 2, on="gpu-3", priority=10, owned=False),
        pod("batch-a", 4, on="gpu-3", priority=10, hours=3),
        pod("batch-b", 6, on="gpu-4", priority=10, hours=6),
        pod("batch-c", 2, on="gpu-5", priority=10, hours=1),  # on a cordoned node
        pod("web", 0, on="gpu-6", cpu="60"),  # no job, but its cores are gone
        *(pod(f"next-{rank}", 8, priority=300, job="next", gated=True) for rank in range(2)),
        pod("small", 2, priority=50, made="2026-03-02T11:30:00Z"),
    ]
    items = [*(node(number) for number in range(8)), *pods, group("train", 2), group("next", 2)]
    return {"apiVersion": "v1", "kind": "List", "items": items}


if __name__ == "__main__":
    (HERE / "kubernetes").mkdir(exist_ok=True)
    (HERE / "kubernetes" / "nodes-and-pods.json").write_text(json.dumps(cluster(), indent=1) + "\n", encoding="utf-8")

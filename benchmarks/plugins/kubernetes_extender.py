"""What the extender costs a real kube-scheduler: a cluster of 5,000 made-up nodes, and pods that are scheduled with it and without it.

kube-scheduler takes one pod at a time and times itself: its metric ``scheduler_scheduling_algorithm_duration_seconds`` is the time from
taking a pod to knowing its node. The extender is the shipped one, a process of its own, configured as shipped, in mode ``advise`` with
a plan that names no pod: every node passes, which is the longest answer that lets a pod start.
"""

from __future__ import annotations

import re
import ssl
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.plugins.daemons import until
from benchmarks.plugins.kubernetes import SINGLE, TEAM, gpu_job, gpu_node, node_of, over_allocated, ready, submit
from service.plugins.kubernetes import extender
from service.plugins.kubernetes.extender import OPT_IN
from service.plugins.kubernetes.extender_process import ExtenderOptions, ExtenderProcess
from service.plugins.kubernetes.extender_seats import Seating
from service.plugins.modes import Mode
from service.serving import listening

if TYPE_CHECKING:
    from benchmarks.plugins.kubernetes_cluster import RealKubernetes

CONFIGURATION = Path(extender.__file__).parent / "manifests" / "overlays" / "extender" / "scheduler-configuration.yaml"
NODES, PODS = 5_000, 300
OWN_TIME = "scheduler_scheduling_algorithm_duration_seconds"


def measure(kubernetes: RealKubernetes, nodes: int = NODES, pods: int = PODS) -> dict[str, Any]:
    """Milliseconds of kube-scheduler for each pod, without an extender and with it, and what the extender itself took."""
    ready(kubernetes, 0)
    for at in range(nodes):
        kubernetes.add_node(gpu_node(f"gpu-r{at // 40:03d}-n{at % 40:02d}"))
    without = _scheduled(kubernetes, pods)
    listener = listening("127.0.0.1", 0)
    process = ExtenderProcess(ExtenderOptions(Mode.advise), listener)
    process.start()
    try:
        process.put(Seating(1, time.time(), 3_600.0, {}))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        shipped = yaml.safe_load(CONFIGURATION.read_text())["extenders"]
        kubernetes.restart_scheduler([one | {"urlPrefix": url} for one in shipped])
        beside = _scheduled(kubernetes, pods)
        own = _page(f"{url}/metrics")
    finally:
        process.close()
        listener.close()
        kubernetes.restart_scheduler([])
    answered = _sum(own, "quartermaster_extender_seconds_count")
    took_s = _sum(own, "quartermaster_extender_seconds_sum")
    return {
        "kubernetes": kubernetes.version,
        "nodes": nodes,
        "pods": pods,
        "without_ms": without["each_ms"],
        "with_ms": beside["each_ms"],
        "added_ms": round(beside["each_ms"] - without["each_ms"], 3),
        "without_pods_per_s": without["pods_per_s"],
        "with_pods_per_s": beside["pods_per_s"],
        "questions": int(answered),
        "own_ms": round(took_s / answered * 1e3, 3) if answered else None,
        "slower_than_5_ms_share": round((answered - _bucket(own, "0.005")) / answered, 4) if answered else None,
        "malformed": int(_sum(own, "quartermaster_extender_malformed_total")),
        "over_allocated": without["over_allocated"] + beside["over_allocated"],
    }


def _scheduled(kubernetes: RealKubernetes, pods: int) -> dict[str, Any]:
    """So many pods that opted in are made and bound; then all are gone again."""
    submit(kubernetes, [gpu_job("warm", *SINGLE, gate=None, labels={OPT_IN: "true"})])
    if not until(lambda: any(map(node_of, kubernetes.pods(TEAM))), 120):
        raise RuntimeError("kube-scheduler places nothing")
    before = _page(f"{kubernetes.scheduler_url}/metrics")
    begun = time.monotonic()
    submit(kubernetes, [gpu_job("many", pods, 1, gate=None, labels={OPT_IN: "true"})])
    if not until(lambda: sum(bool(node_of(pod)) for pod in kubernetes.pods(TEAM)) > pods, 240):
        raise RuntimeError("not all pods were placed")
    wall_s = time.monotonic() - begun
    after = _page(f"{kubernetes.scheduler_url}/metrics")
    count, seconds = (_sum(after, f"{OWN_TIME}_{part}") - _sum(before, f"{OWN_TIME}_{part}") for part in ("count", "sum"))
    wrong = len(over_allocated(kubernetes))
    kubernetes.clear_pods()
    return {"each_ms": round(seconds / count * 1e3, 3), "pods_per_s": round(pods / wall_s, 1), "over_allocated": wrong}


def _page(url: str) -> str:
    unchecked = ssl._create_unverified_context() if url.startswith("https") else None  # noqa: S323, SLF001  (its own certificate, on loopback)
    with urllib.request.urlopen(url, timeout=20, context=unchecked) as page:  # noqa: S310  (ours, on loopback)
        return str(page.read().decode())


def _sum(page: str, name: str) -> float:
    """The samples of that name, over all labels."""
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+-]+)$", page, re.MULTILINE))


def _bucket(page: str, upper: str) -> float:
    """Questions that took no longer, over all verbs."""
    pattern = rf'^quartermaster_extender_seconds_bucket{{le="{upper}",verb="[a-z]+"}} ([0-9.e+-]+)$'
    return sum(float(value) for value in re.findall(pattern, page, re.MULTILINE))

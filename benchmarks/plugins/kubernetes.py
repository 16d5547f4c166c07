"""How a real Kubernetes follows the plan: 100 gated jobs from submission to release, and what the watchdog does when the plugin is gone.

``python -m benchmarks run plugins`` starts a control plane of its own on loopback (``kubernetes_cluster``) and measures.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.plugins.daemons import end_family, until
from benchmarks.plugins.kubernetes_cluster import ENDED, RealKubernetes
from service.plugins.kubernetes import running
from service.plugins.kubernetes.connection import Connection
from service.plugins.kubernetes.jobs import RELEASED
from service.plugins.kubernetes.nodes import ReadingOptions
from service.plugins.modes import Mode
from service.plugins.optimisers import LocalOptimiser
from service.plugins.settings import PluginSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.plugins.kubernetes_cluster import Manifest
    from service.plugins.follower import Round
    from service.plugins.planner import Optimiser

GATE, GPU = "quartermaster.dev/plan", "nvidia.com/gpu"
TEAM = "team"
NODES, GPUS = 16, 8
GANG, SINGLE = (2, 2), (1, 1)  # workers, and GPUs of each
HUNDRED = [*[GANG] * 8, *[SINGLE] * 92]  # 124 of 128 GPUs
BRISK: dict[str, Any] = {"quiet_s": 0.1, "longest_wait_s": 0.4, "refresh_s": 0.5, "time_limit_s": 0.8, "explain_s": 0.1, "watchdog_s": 4.0}
LOOK_S = 0.1


def gpu_node(name: str, gpus: int = GPUS, labels: Mapping[str, str] | None = None) -> Manifest:
    """A node that is ready, with so many GPUs."""
    has = {"cpu": "64", "memory": "512Gi", "pods": "250", GPU: str(gpus)}
    marks = {"kubernetes.io/hostname": name, "nvidia.com/gpu.product": "H100", "nvidia.com/gpu.memory": "81920", **(labels or {})}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": marks},
        "status": {"capacity": has, "allocatable": has, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def gpu_job(name: str, workers: int, gpus: int, *, gate: str | None = GATE, labels: Mapping[str, str] | None = None) -> Manifest:
    """A Job whose pods start together, each with so many GPUs."""
    limits = {"cpu": "1", "memory": "1Gi", GPU: str(gpus)}
    pod: Manifest = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "work", "resources": {"limits": limits}}]}
    if gate is not None:
        pod["schedulingGates"] = [{"name": gate}]
    template = {"metadata": {"labels": dict(labels or {})}, "spec": pod}
    job = {"parallelism": workers, "completions": workers, "completionMode": "Indexed", "backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": job}


def submit(kubernetes: RealKubernetes, jobs: Sequence[Manifest], namespace: str = TEAM) -> None:
    """Each in turn."""
    for job in jobs:
        kubernetes.add(f"/apis/batch/v1/namespaces/{namespace}/jobs", job)


@contextlib.contextmanager
def following(
    kubernetes: RealKubernetes,
    optimiser: Optimiser | None = None,
    mode: Mode = Mode.enforce,
    *,
    hard: bool = False,
    kubeconfig: Path | None = None,
    **settings: Any,  # noqa: ANN401  (settings of any type; they are checked)
) -> Iterator[list[Round]]:
    """A plugin in a thread; its rounds so far. At the end it is stopped, which releases what is held."""
    rounds: list[Round] = []
    way = kubeconfig or kubernetes.kubeconfig
    with tempfile.TemporaryDirectory() as folder:
        asked = running.Following(
            PluginSettings(mode=mode, **BRISK | settings), Path(folder) / "stamp", way, options=ReadingOptions(hard=hard), watched=True
        )
        stop = threading.Event()
        arguments = (Connection.opened(way), optimiser or LocalOptimiser(), asked, stop, rounds.append)
        thread = threading.Thread(target=running.follow, args=arguments, name="follower")
        thread.start()
        try:
            yield rounds
        finally:
            stop.set()
            thread.join(60)


def jobs_of(pods: Sequence[Manifest]) -> dict[str, list[Manifest]]:
    """Pods by the name of their Job."""
    found: dict[str, list[Manifest]] = {}
    for pod in pods:
        found.setdefault(pod["metadata"].get("labels", {}).get("job-name", pod["metadata"]["name"]), []).append(pod)
    return found


def gated(pod: Manifest) -> bool:
    """Whether it is held."""
    return bool(pod["spec"].get("schedulingGates"))


def node_of(pod: Manifest) -> str:
    """Where it runs; empty while it does not."""
    return str(pod["spec"].get("nodeName") or "")


def planned_node(pod: Manifest) -> str:
    """Where the plan put it; empty where it was released without a plan, or not at all."""
    told = pod["metadata"].get("annotations", {}).get(RELEASED)
    return str(json.loads(told).get("node") or "") if told else ""


def over_allocated(kubernetes: RealKubernetes) -> list[str]:
    """Nodes that were given more GPUs than they have."""
    used: Counter[str] = Counter()
    for pod in kubernetes.pods():
        if node_of(pod) and pod["status"].get("phase") not in ENDED:
            used[node_of(pod)] += sum(int(one["resources"].get("limits", {}).get(GPU, 0)) for one in pod["spec"]["containers"])
    have = {
        one["metadata"]["name"]: int(one["status"]["allocatable"].get(GPU, 0)) for one in kubernetes.admin.get("/api/v1/nodes")["items"]
    }
    return [name for name, count in used.items() if count > have.get(name, 0)]


def ready(kubernetes: RealKubernetes, nodes: int = NODES) -> None:
    """An empty cluster of so many nodes, and a namespace for jobs."""
    kubernetes.clear()
    if kubernetes.found(f"/api/v1/namespaces/{TEAM}") is None:
        kubernetes.add_namespace(TEAM)
    for at in range(nodes):
        kubernetes.add_node(gpu_node(f"gpu{at + 1}", labels={"topology.quartermaster.dev/rack": f"r{at // 2}"}))


def hundred(kubernetes: RealKubernetes, *, hard: bool = False, **settings: Any) -> dict[str, Any]:  # noqa: ANN401  (as ``following``)
    """100 gated jobs are made by the Job controller, planned, pinned, released and bound by kube-scheduler."""
    ready(kubernetes)
    with following(kubernetes, hard=hard, **settings):
        submit(kubernetes, [gpu_job("before", *SINGLE)])  # once this one runs, the child process that solves is warm
        until(lambda: all(map(node_of, kubernetes.pods(TEAM))) and kubernetes.pods(TEAM), 30)
        kubernetes.clear_pods()
        first = time.monotonic()
        submit(kubernetes, [gpu_job(f"job-{at:03d}", *size) for at, size in enumerate(HUNDRED)])
        last = time.monotonic()
        wanted = sum(workers for workers, _ in HUNDRED)
        released = bound = made = 0.0
        while not bound and time.monotonic() < last + 60:
            pods = kubernetes.pods(TEAM)
            now = time.monotonic()
            made = made or (now if len(pods) == wanted else 0.0)
            released = released or (now if made and not any(map(gated, pods)) else 0.0)
            bound = now if released and all(map(node_of, pods)) else 0.0
            time.sleep(LOOK_S)
        pods = kubernetes.pods(TEAM)
        jobs = jobs_of(pods)
        return {
            "pin": "hard" if hard else "soft",
            "jobs": len(jobs),
            "bound": sum(all(map(node_of, one)) for one in jobs.values()),
            "on_plan": sum(all(node_of(pod) and node_of(pod) == planned_node(pod) for pod in one) for one in jobs.values()),
            "gangs_split": sum(len({bool(node_of(pod)) for pod in one}) > 1 for one in jobs.values()),
            "over_allocated": len(over_allocated(kubernetes)),
            "submission_of_all_s": round(last - first, 3),
            "last_pod_made_to_last_release_s": round(released - made, 3),
            "last_submission_to_last_release_s": round(released - last, 3),
            "last_submission_to_last_binding_s": round(bound - last, 3),
        }


def abandoned(kubernetes: RealKubernetes, number: signal.Signals, limit_s: float = BRISK["watchdog_s"]) -> dict[str, Any]:
    """The plugin gets a signal (SIGSTOP freezes it), jobs go on being submitted and gated, and the watchdog lets them go."""
    ready(kubernetes)
    with tempfile.TemporaryDirectory() as state:
        environment = {**os.environ, **{f"QUARTERMASTER_PLUGIN_{name.upper()}": str(value) for name, value in BRISK.items()}}
        environment["QUARTERMASTER_PLUGIN_WATCHDOG_S"] = str(limit_s)
        stamp, lines = Path(state) / "stamp", Path(state) / "log"
        command = [sys.executable, "-m", "service.cli", "kubernetes", "run", "--mode", "enforce", "--watchdog"]
        with lines.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--kubeconfig", str(kubernetes.kubeconfig), "--stamp", str(stamp)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            if not until(stamp.exists, 30):
                raise RuntimeError(f"the plugin did not come up: {lines.read_text()[-2000:]}")
            submit(kubernetes, [gpu_job("before", *SINGLE)])
            until(lambda: kubernetes.pods(TEAM) and all(map(node_of, kubernetes.pods(TEAM))), 30)
            os.kill(process.pid, number)
            signalled = time.monotonic()
            submit(kubernetes, [gpu_job(f"gang-{at}", *GANG) for at in range(4)] + [gpu_job(f"one-{at}", *SINGLE) for at in range(8)])
            last_sign = float(json.loads(stamp.read_text())["monotonic"])
            until(lambda: len(kubernetes.pods(TEAM)) == 17, 10)
            were_held = sum(map(gated, kubernetes.pods(TEAM)))
            until(lambda: not any(map(gated, kubernetes.pods(TEAM))), limit_s + 20)
            released = time.monotonic()
            started = until(lambda: all(map(node_of, kubernetes.pods(TEAM))), 30)
            return {
                "signal": number.name,
                "limit_s": limit_s,
                "held": were_held,
                "all_started": started,
                "over_allocated": len(over_allocated(kubernetes)),
                "released_after_last_sign_of_life_s": round(released - last_sign, 3),
                "released_after_signal_s": round(released - signalled, 3),
            }
        finally:
            end_family(process, state)

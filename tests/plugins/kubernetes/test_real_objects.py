"""What is read of objects as a real API server fills them in, and what the commands make of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from benchmarks.plugins.daemons import until
from benchmarks.plugins.kubernetes import GANG, SINGLE, TEAM, following, gated, gpu_job, gpu_node, node_of, planned_node, ready, submit
from service.cli import app
from service.plugins.kubernetes.listing import listed
from service.plugins.kubernetes.pods import read_pod
from service.plugins.kubernetes.reading import ClusterObjects, snapshot
from tests.plugins.kubernetes.manifests_made import GATE, pod
from tests.plugins.kubernetes.test_real_manifests import kubectl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.plugins.kubernetes_cluster import Manifest, RealKubernetes
    from service.plugins.cluster import SeenJob, Snapshot

PAGE = Path(__file__).resolve().parents[3] / "service" / "plugins" / "kubernetes" / "README.md"
PODS = f"/api/v1/namespaces/{TEAM}/pods"
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
BUDGETS = f"/apis/policy/v1/namespaces/{TEAM}/poddisruptionbudgets"
RUNTIMES = "/apis/node.k8s.io/v1/runtimeclasses"
APPS = f"/apis/apps/v1/namespaces/{TEAM}"
HOST = "kubernetes.io/hostname"


@pytest.fixture
def kubernetes(real_kubernetes: RealKubernetes) -> Iterator[RealKubernetes]:
    """Four nodes of eight GPUs, and nothing on them."""
    ready(real_kubernetes, 4)
    yield real_kubernetes
    for path in (f"{APPS}/deployments/web", f"{APPS}/statefulsets/web", f"{BUDGETS}/kept", f"{CLASSES}/high", f"{RUNTIMES}/heavy"):
        if real_kubernetes.found(path) is not None:
            real_kubernetes.admin.delete(path, {"propagationPolicy": "Background"})
    real_kubernetes.clear()


def read(kubernetes: RealKubernetes) -> Snapshot:
    return snapshot(ClusterObjects.of_list(listed(kubernetes.admin)))


def only(kubernetes: RealKubernetes) -> SeenJob:
    (found,) = read(kubernetes).jobs
    return found


def named(kind: str, version: str, name: str, **more: Any) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **more}


def is_running(one: Manifest) -> bool:
    return bool(node_of(one)) and one["status"]["phase"] == "Running"


# ---------------------------------------------------------------- what a pod asks for


def container(cpu: str, memory: str, **more: Any) -> Manifest:
    return {"name": more.pop("name", "main"), "image": "work", "resources": {"requests": {"cpu": cpu, "memory": memory}}, **more}


SIDECAR = container("300m", "1Gi", name="log", restartPolicy="Always")
STARTING = container("1500m", "1Gi", name="fetch")
SHAPES: dict[str, Manifest] = {
    "limits alone": {"containers": [{"name": "main", "image": "work", "resources": {"limits": {"cpu": "1100m", "memory": "1100Mi"}}}]},
    "sidecar": {"initContainers": [SIDECAR], "containers": [container("700m", "500M")]},
    "a large start after a sidecar": {"initContainers": [SIDECAR, STARTING], "containers": [container("700m", "0.5Gi")]},
    "a large start before a sidecar": {"initContainers": [STARTING, SIDECAR], "containers": [container("700m", "1e9")]},
    "overhead": {"runtimeClassName": "heavy", "containers": [container("700m", "1Gi")]},
    "cores of the whole pod": {"resources": {"requests": {"cpu": "2"}}, "containers": [container("700m", "1Gi")]},
    "limits of the whole pod": {
        "resources": {"limits": {"cpu": "2", "memory": "3Gi"}},
        "initContainers": [SIDECAR],
        "containers": [container("700m", "1Gi"), {"name": "other", "image": "work"}],
    },
    "of the whole pod": {"resources": {"requests": {"cpu": "2", "memory": "3Gi"}}, "containers": [container("700m", "1Gi")]},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pod_asks_for_what_kube_scheduler_counts(kubernetes: RealKubernetes, shape: str) -> None:
    """It fits on a node of just the size that was read, and on none that is a little smaller."""
    overhead = {"podFixed": {"cpu": "250m", "memory": "120Mi"}}
    kubernetes.add(RUNTIMES, named("RuntimeClass", "node.k8s.io/v1", "heavy", handler="heavy", overhead=overhead))
    made = named("Pod", "v1", "shape", spec=json.loads(json.dumps(SHAPES[shape])))
    asked = read_pod(kubernetes.admin.post(PODS + "?dryRun=All", made)).requests
    milli, size = round(asked["cpu"] * 1000), round(asked["memory"])
    sizes = {"exact": (milli, size), "less-cpu": (milli - 1, size), "less-memory": (milli, size - 1)}
    for name, (cpu, memory) in sizes.items():
        node = gpu_node(name)
        node["status"]["capacity"] = node["status"]["allocatable"] = {"cpu": f"{cpu}m", "memory": str(memory), "pods": "9"}
        kubernetes.add_node(node)
        made["metadata"]["name"], made["spec"]["nodeSelector"] = name, {HOST: name}
        kubernetes.add(PODS, made)

    def answered() -> bool:
        found = {one["metadata"]["name"]: one for one in kubernetes.pods(TEAM)}
        reasons = {name: one.get("reason") for name, pod in found.items() for one in pod["status"].get("conditions", ())}
        return bool(node_of(found["exact"])) and {reasons.get(name) for name in ("less-cpu", "less-memory")} == {"Unschedulable"}

    assert until(answered, 30.0), [one["status"] for one in kubernetes.pods(TEAM)]


def test_a_resize_in_place_is_read_as_its_spec_says(kubernetes: RealKubernetes) -> None:
    kubernetes.add(PODS, pod("grows", gpus=2, cpu="1", gated=False))
    assert until(lambda: is_running(kubernetes.pods(TEAM)[0]))
    change = [{"op": "replace", "path": "/spec/containers/0/resources/requests/cpu", "value": "3"}]
    kubernetes.admin.patch(f"{PODS}/grows/resize", change)
    assert (only(kubernetes).cpu_cores, only(kubernetes).gpus_per_worker) == (3.0, 2.0)


# ---------------------------------------------------------------- priorities and evictions


def test_the_number_of_a_priority_class_is_read(kubernetes: RealKubernetes) -> None:
    kubernetes.add(CLASSES, named("PriorityClass", "scheduling.k8s.io/v1", "high", value=1000))
    assert until(lambda: kubernetes.found(f"{CLASSES}/high") is not None)
    kubernetes.add(PODS, pod("plain"))
    kubernetes.add(PODS, pod("high", priorityClassName="high"))
    found = {job.id: job.priority for job in read(kubernetes).jobs}
    assert found == {f"{TEAM}/pod/plain": 0, f"{TEAM}/pod/high": 1000}


def test_a_disruption_budget_forbids_an_eviction_until_it_allows_one(kubernetes: RealKubernetes) -> None:
    kubernetes.add(f"{APPS}/deployments", serving("Deployment", gate=None))
    assert until(lambda: len(kubernetes.pods(TEAM)) == 2 and all(map(is_running, kubernetes.pods(TEAM))), 30.0)
    assert [job.evictable for job in read(kubernetes).jobs] == [True, True]
    for one in kubernetes.pods(TEAM):  # as a kubelet tells
        healthy = [{"op": "add", "path": "/status/conditions/-", "value": {"type": "Ready", "status": "True"}}]
        kubernetes.admin.patch(f"{PODS}/{one['metadata']['name']}/status", healthy)
    spec = {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}
    kubernetes.add(BUDGETS, named("PodDisruptionBudget", "policy/v1", "kept", spec=spec))
    assert [job.evictable for job in read(kubernetes).jobs] == [False, False]  # also while its controller has not counted yet
    assert until(lambda: kubernetes.admin.get(f"{BUDGETS}/kept")["status"].get("currentHealthy") == 2, 30.0)
    assert [job.evictable for job in read(kubernetes).jobs] == [False, False]
    kubernetes.admin.patch(f"{BUDGETS}/kept", [{"op": "replace", "path": "/spec/minAvailable", "value": 1}])
    assert until(lambda: [job.evictable for job in read(kubernetes).jobs] == [True, True], 30.0)


# ---------------------------------------------------------------- Deployments and StatefulSets


def serving(kind: str, gate: str | None = GATE) -> Manifest:
    """Two replicas with three GPUs each."""
    limits = {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "3"}
    spec: Manifest = {"containers": [{"name": "main", "image": "work", "resources": {"limits": limits}}]}
    if gate is not None:
        spec["schedulingGates"] = [{"name": gate}]
    labels = {"app": "web"}
    rest: Manifest = {"serviceName": "web", "podManagementPolicy": "Parallel"} if kind == "StatefulSet" else {}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return named(kind, "apps/v1", "web", spec={"replicas": 2, "selector": {"matchLabels": labels}, "template": template, **rest})


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_each_pod_of_a_service_is_planned_for_itself(kubernetes: RealKubernetes, kind: str) -> None:
    kubernetes.add(f"{APPS}/{kind.lower()}s", serving(kind))
    assert until(lambda: len(kubernetes.pods(TEAM)) == 2)
    for job in read(kubernetes).jobs:
        assert (job.id.split("/")[1], job.workers, job.held, job.evictable, job.gpus_per_worker) == ("pod", 1, True, True, 3.0)
    with following(kubernetes):
        assert until(lambda: all(map(is_running, kubernetes.pods(TEAM))), 60.0)
        assert all(node_of(one) == planned_node(one) for one in kubernetes.pods(TEAM))
        lost = kubernetes.pods(TEAM)[0]["metadata"]["name"]
        kubernetes.admin.delete(f"{PODS}/{lost}", {"gracePeriodSeconds": 0})

        def made_anew() -> bool:
            found = kubernetes.pods(TEAM)
            return len(found) == 2 and all(map(is_running, found)) and all(one["metadata"].get("annotations") for one in found)

        assert until(made_anew, 60.0)


# ---------------------------------------------------------------- the commands


def test_a_saved_cluster_is_what_kubectl_tells_and_is_simulated(kubernetes: RealKubernetes, tmp_path: Path) -> None:
    submit(kubernetes, [gpu_job("runs", *GANG, gate=None), gpu_job("waits", 4, 8), gpu_job("one", *SINGLE, gate=None)])
    assert until(lambda: sum(map(is_running, kubernetes.pods(TEAM))) == 3, 30.0)
    saved, told = tmp_path / "saved.json", tmp_path / "told.json"
    way = ["--kubeconfig", str(kubernetes.kubeconfig)]
    done = CliRunner().invoke(app, ["kubernetes", "snapshot", "--out", str(saved), *way])
    assert "4 nodes with 32 GPUs, 2 jobs run, 1 wait" in done.output
    printed = subprocess.run([kubectl(), *way, "get", "nodes,pods", "-A", "-o", "json"], capture_output=True, check=True, timeout=60)
    told.write_bytes(printed.stdout)
    problems = []
    for file in (saved, told):
        out = tmp_path / f"{file.stem}.problem.json"
        asked = ["import", "kubernetes", str(file), "--out", str(out), "--taken-at", "2030-01-01"]
        assert CliRunner().invoke(app, asked).exit_code == 0
        problems.append(json.loads(out.read_text()))
    assert problems[0] == problems[1]
    assert {job["id"] for job in problems[0]["jobs"]} == {f"{TEAM}/job/{name}" for name in ("runs", "waits", "one")}
    answers = []
    for file in (saved, told):
        asked = ["simulate", "--kubernetes", str(file), "--job", "gpus=16,per-node=8", "--taken-at", "2030-01-01", "--json"]
        done = CliRunner().invoke(app, asked)
        assert done.exit_code in {0, 1}, done.output
        answers.append({one["question"]: (one["possible"], one["moved"]) for one in json.loads(done.stdout)["answers"]})
    assert answers[0] == answers[1]
    assert (answers[0]["now"], answers[0]["moves"]) == ((False, []), (True, [f"{TEAM}/job/one"]))


# ---------------------------------------------------------------- the page's own commands


def commands() -> list[str]:
    """The blocks of the page's first section."""
    section = PAGE.read_text().split("## Try it on a cluster of your own")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def as_kubelets(kubernetes: RealKubernetes) -> bool:
    """What a kubelet does with a capacity that somebody wrote: it may be asked for. Whether both nodes have it."""
    nodes = [kubernetes.admin.get(f"/api/v1/nodes/{name}") for name in ("kind-worker", "kind-worker2")]
    for node in nodes:
        path = f"/api/v1/nodes/{node['metadata']['name']}/status"
        kubernetes.admin.patch(path, [{"op": "replace", "path": "/status/allocatable", "value": node["status"]["capacity"]}])
    return all("nvidia.com/gpu" in node["status"]["capacity"] for node in nodes)


@pytest.fixture
def kind(kubernetes: RealKubernetes) -> RealKubernetes:
    """The nodes of the page, without GPUs, and no others."""
    kubernetes.clear()
    for name in ("kind-worker", "kind-worker2"):
        node = gpu_node(name)
        node["metadata"]["labels"] = {HOST: name}
        for part in ("capacity", "allocatable"):
            node["status"][part] = {"cpu": "8", "memory": "16Gi", "pods": "110"}
        kubernetes.add_node(node)
    return kubernetes


def test_the_commands_of_the_page_do_what_it_says(kind: RealKubernetes, tmp_path: Path) -> None:
    (tmp_path / "kubectl").symlink_to(kubectl())
    environment = os.environ | {"KUBECONFIG": str(kind.kubeconfig), "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}

    def shell(script: str) -> str:
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode, done.stderr.replace("No resources found in default namespace.\n", "")) == (0, ""), done
        return done.stdout

    first, second = commands()
    shell(first[first.index("for node in") : first.index("quartermaster kubernetes run")])
    assert as_kubelets(kind)
    shadow = [sys.executable, "-m", "service.cli", "kubernetes", "run", "--rounds", "1", "--no-watchdog"]
    done = subprocess.run(shadow, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    submitted, looked = second.split("kubectl get pods -o wide")

    def places(job: str) -> list[str]:
        return sorted(node_of(one) for one in kind.pods("default") if one["metadata"]["labels"]["job-name"] == job)

    with following(kind):
        assert "job.batch/train created" in shell(submitted)
        assert until(lambda: places("train") == ["kind-worker"] * 2 + ["kind-worker2"] * 2, 60.0), kind.pods("default")
        shell(submitted.replace("create job train", "create job more"))
        assert until(lambda: len(places("more")) == 4)

        def told() -> str:
            return shell("kubectl get pods -o wide" + looked)

        assert until(lambda: re.search(r"WaitingForPlan\s+\S*more", told()), 60.0), told()
        assert re.search(r"Planned\s+job/train", told()), told()
        assert all(gated(one) for one in kind.pods("default") if one["metadata"]["labels"]["job-name"] == "more")
    assert not any(map(gated, kind.pods("default")))  # a stop releases what is held
    kind.add("/api/v1/namespaces/default/pods", pod("alone") | {"metadata": {"name": "alone"}})
    by_hand = re.search(r"`(kubectl patch pod NAME [^`]*)`", PAGE.read_text())
    assert by_hand is not None
    assert "patched" in shell(by_hand[1].replace("NAME", "alone"))
    assert not gated(dict(kind.admin.get("/api/v1/namespaces/default/pods/alone")))

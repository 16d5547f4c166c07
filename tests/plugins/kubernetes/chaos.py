"""Whatever may happen to a cluster that follows the plan, at random and by a seed: a driver of a real control plane, and what must hold."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from benchmarks.plugins.daemons import until
from benchmarks.plugins.kubernetes import GATE, GPU, TEAM, gated, gpu_job, gpu_node, node_of
from benchmarks.plugins.kubernetes_cluster import ENDED, RealKubernetes, finish
from service.plugins.kubernetes.connection import ApiRefusedError
from service.plugins.kubernetes.gates import Gates
from service.plugins.kubernetes.jobs import TOGETHER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.plugins.kubernetes_cluster import Manifest
    from service.plugins.orders import Order
    from service.plugins.scheduler import Committed

GPUS = 8
PART_S = 15.0  # a gang is not released in part for longer than that, by a follower that is not disturbed
EMPTY_S = 12.0  # after which no pod comes any more: of a Job whose pods have all failed its controller may forget to say so
NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}  # as the node controller has it
THROTTLE = "chaos"
ACCOUNT = ("quartermaster-system", "quartermaster")


def of_gpus(pod: Mapping[str, Any]) -> int:
    """What it asks for."""
    return sum(int(one["resources"].get("limits", {}).get(GPU, 0)) for one in pod["spec"]["containers"])


def living(pod: Mapping[str, Any]) -> bool:
    """Whether it has not ended and is not being deleted."""
    return pod["status"].get("phase") not in ENDED and "deletionTimestamp" not in pod["metadata"]


def runs(pod: Mapping[str, Any]) -> bool:
    """Whether its kubelet has told that it runs."""
    return living(pod) and pod["status"].get("phase") == "Running"


class Witness:
    """What followers did, judged by the very objects that they could see when they did it."""

    def __init__(self) -> None:
        self.opened: list[Gates] = []
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []

    def judge(self, objects: Any, orders: Sequence[tuple[Order, float]]) -> None:
        """Orders that were carried out, with the GPUs of a worker: each node was ready and had the room."""
        nodes = {one["metadata"]["name"]: one for one in objects.nodes}
        used = Counter[str]()
        for pod in objects.pods:
            if node_of(pod) and pod["status"].get("phase") not in ENDED:
                used[node_of(pod)] += of_gpus(pod)
        for order, gpus in orders:
            if objects.jobs is None:
                self.wrong.append(f"{order.job}: nobody knew how many pods it has")
            for seat in order.seats:
                node = nodes.get(seat.node)
                ready = node is not None and any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"]["conditions"])
                used[seat.node] += int(gpus)
                if node is None or not ready or node.get("spec", {}).get("unschedulable"):
                    self.wrong.append(f"{order.job}: node {seat.node} took no pods")
                elif used[seat.node] > int(node["status"]["allocatable"].get(GPU, 0)):
                    self.wrong.append(f"{order.job}: node {seat.node} had no room")


class Witnessed(Gates):
    """The adapter, with a witness."""

    witness: Witness

    def commit(self, orders: Sequence[Order]) -> tuple[Committed, ...]:
        objects, reading = self.cache.objects(), self._reading()
        answers = super().commit(orders)
        self.witness.outcomes.update(one.outcome for one in answers)
        gpus = {job.id: job.gpus_per_worker for job in reading.snapshot.jobs}
        done = {one.job for one in answers if one.outcome == "done" and not one.detail}
        self.witness.judge(objects, [(order, gpus[order.job]) for order in orders if order.job in done])
        return answers


def witnessed(witness: Witness, **options: Any) -> Callable[..., Gates]:
    """Makes adapters that tell this witness."""

    def made(*given: Any, **named: Any) -> Gates:
        gates = Witnessed(*given, **named | options)
        gates.witness = witness
        witness.opened.append(gates)
        return gates

    return made


class Chaos:
    """A cluster of ``nodes`` nodes to which things happen. ``steps`` counts them; what is broken is in ``broken``."""

    def __init__(self, kubernetes: RealKubernetes, seed: int, nodes: int, another: Callable[[], object]) -> None:
        self.kubernetes, self.dice, self.another = kubernetes, random.Random(seed), another
        self.names = [f"gpu{at + 1}" for at in range(nodes)]
        self.steps: Counter[str] = Counter()
        self.refused: Counter[int] = Counter()  # to us
        self.sayings: Counter[str] = Counter()
        self.broken: list[str] = []
        self.longest_part_s = 0.0
        self.bound: set[str] = set()  # uids of pods that were seen on a node
        self._made = 0
        self._part: dict[str, float] = {}
        self._shrunk: set[str] = set()
        self._empty = 0.0  # since when there are no pods
        self._throttled = False

    # ------------------------------------------------------------ at random

    def run(self, seconds: float) -> None:
        """Step after step, each looked at."""
        weights: dict[Callable[[], None], int] = {
            self.gang: 14, self.single: 8, self.alone: 4, self.deployment: 2, self.scale: 3, self.end_job: 5, self.end_pod: 6,
            self.suspend: 3, self.resize: 3, self.cordon: 5, self.away: 4, self.not_ready: 4, self.shrink: 4, self.mend: 10,
            self.finish: 14, self.fail: 4, self.evict: 4, self.ungate: 4, self.label: 3, self.restart: 2, self.throttle: 2, self.second: 1,
        }  # fmt: skip
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.broken:
            (step,) = self.dice.choices([*weights], [*weights.values()])
            for _ in range(self.dice.choice((1, 1, 1, 4)) if step in {self.gang, self.single, self.end_pod, self.finish} else 1):
                self.asked(step)
            time.sleep(self.dice.choice((0.0, 0.05, 0.2, 0.6)))
            self.look()

    def asked(self, step: Callable[[], None]) -> None:
        """One step; what the server refuses us did not happen."""
        try:
            step()
            self.steps[step.__name__] += 1
        except ApiRefusedError as error:
            self.refused[error.status] += 1
            self.sayings[f"{step.__name__}: {error.message[:300]}"] += 1
            if error.status not in {404, 409, 422, 429}:
                raise

    def _name(self, kind: str) -> str:
        self._made += 1
        return f"{kind}-{self._made}"

    def _job(self, workers: int, gpus: int) -> None:
        job = gpu_job(self._name("job"), workers, gpus, labels={"budget": self.dice.choice("yn")})
        job["spec"]["backoffLimit"] = self.dice.choice((0, 0, 2))
        template = job["spec"]["template"]
        template["spec"]["priorityClassName"] = self.dice.choice(("low", "middle", "high"))
        if self.dice.random() < 0.2 and workers <= 2:
            template["metadata"]["annotations"] = {TOGETHER: "rack"}
        self.kubernetes.add(f"/apis/batch/v1/namespaces/{TEAM}/jobs", job)

    def gang(self) -> None:
        self._job(self.dice.randint(2, len(self.names)), self.dice.choice((1, 2, 4, 6, 8)))

    def single(self) -> None:
        self._job(1, self.dice.choice((1, 2, 4, 8)))

    def alone(self) -> None:
        spec = gpu_job("any", 1, self.dice.choice((1, 4)))["spec"]["template"]["spec"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self._name("alone")}, "spec": spec}
        self.kubernetes.add(f"/api/v1/namespaces/{TEAM}/pods", pod)

    def deployment(self) -> None:
        name = self._name("service")
        template = gpu_job("any", 1, 1)["spec"]["template"]
        template["spec"]["restartPolicy"], template["metadata"]["labels"] = "Always", {"service": name, "budget": "y"}
        spec = {"replicas": self.dice.randint(1, 3), "selector": {"matchLabels": {"service": name}}, "template": template}
        path = f"/apis/apps/v1/namespaces/{TEAM}/deployments"
        self.kubernetes.add(path, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})

    def _some(self, collection: str) -> tuple[str, Manifest] | None:
        """The path of one of them, and it."""
        found = self.kubernetes.admin.get(f"{collection}")["items"]
        if not found:
            return None
        one = self.dice.choice(found)
        return f"{collection}/{one['metadata']['name']}", one

    def _deployed(self) -> tuple[str, Manifest] | None:
        return self._some(f"/apis/apps/v1/namespaces/{TEAM}/deployments")

    def _some_job(self) -> tuple[str, Manifest] | None:
        return self._some(f"/apis/batch/v1/namespaces/{TEAM}/jobs")

    def scale(self) -> None:
        if found := self._deployed():
            self._set(found[0], "/spec/replicas", self.dice.randint(0, 4))

    def end_job(self) -> None:
        if found := self._some_job():
            self.kubernetes.admin.delete(found[0], {"propagationPolicy": self.dice.choice(("Background", "Foreground"))})

    def suspend(self) -> None:
        if found := self._some_job():
            self._set(found[0], "/spec/suspend", not found[1]["spec"].get("suspend", False))

    def resize(self) -> None:
        """An elastic Job: its size changes under its pods."""
        if found := self._some_job():
            size = self.dice.randint(1, len(self.names))
            both = [{"op": "replace", "path": f"/spec/{name}", "value": size} for name in ("parallelism", "completions")]
            self.kubernetes.admin.patch(found[0], both)

    def _pod(self, chosen: Callable[[Manifest], bool]) -> tuple[str, Manifest] | None:
        found = [pod for pod in self.kubernetes.pods(TEAM) if chosen(pod)]
        pod = self.dice.choice(found) if found else None
        return (f"/api/v1/namespaces/{TEAM}/pods/{pod['metadata']['name']}", pod) if pod is not None else None

    def end_pod(self) -> None:
        if found := self._pod(living):
            self.kubernetes.admin.delete(found[0], {"gracePeriodSeconds": self.dice.choice((0, 30))})

    def finish(self) -> None:
        if found := self._pod(runs):
            finish(self.kubernetes.admin, found[1])

    def fail(self) -> None:
        if found := self._pod(runs):
            finish(self.kubernetes.admin, found[1], "Failed")

    def evict(self) -> None:
        if found := self._pod(living):
            name = {"name": found[1]["metadata"]["name"], "namespace": TEAM}
            self.kubernetes.add(f"{found[0]}/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": name})

    def ungate(self) -> None:
        if found := self._pod(gated):
            self.kubernetes.admin.patch(found[0], [{"op": "remove", "path": "/spec/schedulingGates"}])

    def label(self) -> None:
        """A change that means nothing, and makes every patch of an earlier version fail."""
        for _ in range(3):
            if found := self._pod(gated):
                self.kubernetes.admin.patch(found[0], [{"op": "add", "path": "/metadata/labels/touched", "value": self._name("t")}])

    # ------------------------------------------------------------ nodes and the control plane

    def _set(self, path: str, field: str, value: object) -> None:
        self.kubernetes.admin.patch(path, [{"op": "add", "path": field, "value": value}])

    def _node(self) -> str:
        return f"/api/v1/nodes/{self.dice.choice(self.names)}"

    def cordon(self) -> None:
        self._set(self._node(), "/spec/unschedulable", True)

    def away(self) -> None:
        self.kubernetes.admin.delete(self._node(), {})

    def not_ready(self) -> None:
        path = self._node()
        self._set(f"{path}/status", "/status/conditions", [{"type": "Ready", "status": self.dice.choice(("False", "Unknown"))}])
        self._set(path, "/spec/taints", [NOT_READY])

    def shrink(self) -> None:
        """Its device plugin is lost, or some of its GPUs."""
        path = self._node()
        self._shrunk.add(path.rpartition("/")[2])
        self._set(f"{path}/status", f"/status/allocatable/{GPU.replace('/', '~1')}", str(self.dice.choice((0, 0, 2, 7))))

    def mend(self, name: str = "") -> None:
        """A node is as it was, or there again."""
        name = name or self.dice.choice(self.names)
        path, at = f"/api/v1/nodes/{name}", self.names.index(name)
        if self.kubernetes.found(path) is None:
            self.kubernetes.add_node(gpu_node(name, labels={"topology.quartermaster.dev/rack": f"r{at // 2}"}))
        self._set(path, "/spec/unschedulable", False)
        self._set(path, "/spec/taints", [])
        self._set(f"{path}/status", "/status/conditions", [{"type": "Ready", "status": "True"}])
        self._set(f"{path}/status", f"/status/allocatable/{GPU.replace('/', '~1')}", str(GPUS))

    def restart(self) -> None:
        """The API server is away, and another one comes."""
        with self.kubernetes.api_server_away():
            time.sleep(self.dice.choice((0.0, 1.0, 3.0)))
        self._part.clear()

    def throttle(self) -> None:
        """For the plugin the API server is busy (429), or so no longer."""
        path = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"
        if self._throttled:
            self.kubernetes.admin.delete(f"{path}/{THROTTLE}", {})
            self._throttled = False
            return
        about = {"kind": "ServiceAccount", "serviceAccount": {"namespace": ACCOUNT[0], "name": ACCOUNT[1]}}
        rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
        level = {"name": f"{THROTTLE}-{self.dice.choice((0, 1))}"}
        spec = {
            "priorityLevelConfiguration": level,
            "matchingPrecedence": 2,
            "rules": [{"subjects": [about], "resourceRules": [rule]}],
        }
        kind = {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema"}
        self.kubernetes.add(path, kind | {"metadata": {"name": THROTTLE}, "spec": spec})
        self._throttled = True
        self._part.clear()

    def second(self) -> None:
        """Another follower comes, or goes."""
        self.another()

    # ------------------------------------------------------------ what must hold

    def look(self) -> None:
        """Now: no node bears too much, no gang has been released in part for long."""
        pods, now = self.kubernetes.pods(TEAM), time.monotonic()
        self.bound |= {pod["metadata"]["uid"] for pod in pods if node_of(pod)}
        used = Counter[str]()
        for pod in pods:
            if node_of(pod) and pod["status"].get("phase") not in ENDED:
                used[node_of(pod)] += of_gpus(pod)
        self._shrunk = {name for name in self._shrunk if used[name] > GPUS or name in self._short_of(used)}
        self.broken += [f"{name} bears {count} GPUs" for name, count in used.items() if count > GPUS and name not in self._shrunk]
        gangs: dict[str, list[bool]] = {}
        for pod in pods:
            for owner in pod["metadata"].get("ownerReferences", ()):
                if owner["kind"] == "Job" and living(pod):
                    gangs.setdefault(f"{pod['metadata']['labels']['job-name']} {owner['uid']}", []).append(gated(pod))
        split = {name for name, held in gangs.items() if any(held) and not all(held)}
        self._part = {name: self._part.get(name, now) for name in split if not self._throttled}
        for name, since in self._part.items():
            self.longest_part_s = max(self.longest_part_s, now - since)
            if now - since > PART_S:
                self.broken.append(f"{name} has been released in part for {now - since:.0f} s: {gangs[name]}")

    def _short_of(self, used: Mapping[str, int]) -> set[str]:
        nodes = {one["metadata"]["name"]: one for one in self.kubernetes.admin.get("/api/v1/nodes")["items"]}
        return {name for name, count in used.items() if name in nodes and int(nodes[name]["status"]["allocatable"].get(GPU, 0)) < count}

    def settle(self, seconds: float) -> None:
        """All is as it was, what runs ends: then everything that waits comes to run, and ends too."""
        if self._throttled:
            self.throttle()
        for name in self.names:
            self.mend(name)
        for job in self.kubernetes.admin.get(f"/apis/batch/v1/namespaces/{TEAM}/jobs")["items"]:
            if job["spec"].get("suspend"):
                self._set(f"/apis/batch/v1/namespaces/{TEAM}/jobs/{job['metadata']['name']}", "/spec/suspend", False)
        if not until(self._all_done, seconds, 0.3):
            left = [pod for pod in self.kubernetes.pods(TEAM) if living(pod)]
            self.broken += [f"left waiting: {json.dumps(told(pod))}" for pod in left[:8]] or ["pods keep coming"]

    def _all_done(self) -> bool:
        self.look()
        pods = [pod for pod in self.kubernetes.pods(TEAM) if pod["status"].get("phase") not in ENDED]
        for pod in pods:
            if runs(pod) and "service" not in pod["metadata"].get("labels", {}):
                with contextlib.suppress(ApiRefusedError):
                    finish(self.kubernetes.admin, pod)
        services = f"/apis/apps/v1/namespaces/{TEAM}/deployments"
        for one in self.kubernetes.admin.get(services)["items"]:
            ours = [pod for pod in pods if pod["metadata"].get("labels", {}).get("service") == one["metadata"]["name"]]
            if one["spec"]["replicas"] and len(ours) >= one["spec"]["replicas"] and all(map(node_of, ours)):
                self._set(f"{services}/{one['metadata']['name']}", "/spec/replicas", 0)
        self._empty = (self._empty or time.monotonic()) if not pods else 0.0
        return not pods and (not self._unended() or time.monotonic() - self._empty > EMPTY_S)

    def _unended(self) -> bool:
        jobs = self.kubernetes.admin.get(f"/apis/batch/v1/namespaces/{TEAM}/jobs")["items"]
        states = [{one["type"] for one in job["status"].get("conditions", ()) if one["status"] == "True"} for job in jobs]
        return any(state.isdisjoint(JOB_ENDED) for state in states)


JOB_ENDED = ("Complete", "Failed")


def told(pod: Manifest) -> dict[str, Any]:
    """What matters of a pod that waits."""
    meta, spec = pod["metadata"], pod["spec"]
    return {
        "name": meta["name"],
        "gates": spec.get("schedulingGates"),
        "node": node_of(pod),
        "selector": spec.get("nodeSelector"),
        "status": {name: pod["status"].get(name) for name in ("phase", "nominatedNodeName", "conditions")},
        "notes": meta.get("annotations"),
        "gpus": of_gpus(pod),
        "gate": GATE,
    }

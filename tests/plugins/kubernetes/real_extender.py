"""A real kube-scheduler asks an extender, by the configuration that is shipped: a follower is behind it, or a plan made by hand."""

from __future__ import annotations

import contextlib
import copy
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.plugins.daemons import end_family, free_ports, until
from benchmarks.plugins.kubernetes import BRISK, TEAM, gpu_job, node_of, over_allocated, submit
from service.plugins.kubernetes import extender_running
from service.plugins.kubernetes.connection import Connection
from service.plugins.kubernetes.extender import OPT_IN, Answer, Extender
from service.plugins.kubernetes.extender_app import ExtenderApp
from service.plugins.kubernetes.extender_process import ExtenderProcess
from service.plugins.kubernetes.extender_seats import Seating, Told
from service.plugins.kubernetes.running import Following
from service.plugins.modes import Mode
from service.plugins.optimisers import LocalOptimiser
from service.plugins.settings import PluginSettings
from service.serving import listening
from tests.plugins.kubernetes.test_extender_http import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.plugins.kubernetes_cluster import Manifest, RealKubernetes
    from service.plugins.follower import Round
    from service.plugins.planner import Optimiser

CONFIGURATION = Path(extender_running.__file__).parent / "manifests/overlays/extender/scheduler-configuration.yaml"
LABELS = {OPT_IN: "true"}
PODS = f"/api/v1/namespaces/{TEAM}/pods"
LEFT_OUT = "extender as it returned error and has ignorable flag set"  # in kube-scheduler's log, for each question


def shipped(port: int, *without: str) -> list[Manifest]:
    """The extenders of the configuration that is shipped, at this port of loopback; ``without`` some of their fields."""
    found: list[Manifest] = yaml.safe_load(CONFIGURATION.read_text())["extenders"]
    here = [{**one, "urlPrefix": f"http://127.0.0.1:{port}"} for one in found]
    return [{name: value for name, value in one.items() if name not in without} for one in here]


# ---------------------------------------------------------------- what is asked and seen


def opted_in(name: str, workers: int, gpus: int, priority: str = "", **spec: Any) -> Manifest:
    """A Job that opts in by its label and has no gate of ours."""
    return of_priority(gpu_job(name, workers, gpus, gate=None, labels=LABELS), priority, **spec)


def of_priority(job: Manifest, priority: str, **spec: Any) -> Manifest:
    """The same Job, whose pods have that priority class and whatever else."""
    job = copy.deepcopy(job)
    job["spec"]["template"]["spec"] |= ({"priorityClassName": priority} if priority else {}) | spec
    return job


def filled(kubernetes: RealKubernetes, gpus: int = 8) -> set[str]:
    """Each of four nodes has a pod of low priority that did not opt in; their uids."""
    submit(kubernetes, [of_priority(gpu_job(f"low-{at}", 1, gpus, gate=None), "low") for at in range(4)])
    assert until(lambda: len(running(kubernetes, "low")) == 4, 60)
    return set(running(kubernetes, "low"))


def pods_of(kubernetes: RealKubernetes, prefix: str = "") -> list[Manifest]:
    """The pods whose names begin so."""
    return [pod for pod in kubernetes.pods(TEAM) if pod["metadata"]["name"].startswith(prefix)]


def running(kubernetes: RealKubernetes, prefix: str = "") -> dict[str, str]:
    """The nodes of those that have one and are not being evicted, by uid."""
    return {
        pod["metadata"]["uid"]: node_of(pod)
        for pod in pods_of(kubernetes, prefix)
        if node_of(pod) and "deletionTimestamp" not in pod["metadata"]
    }


def all_run(kubernetes: RealKubernetes, pods: int, seconds: float = 90.0, prefix: str = "") -> None:
    """So many come to run, long before kube-scheduler would look again at a pod by itself; no node has more than it can bear."""
    begun = until(lambda: len(running(kubernetes, prefix)) == pods, seconds)
    assert begun, [(pod["metadata"]["name"], node_of(pod), message(pod)) for pod in pods_of(kubernetes, prefix)]
    assert not over_allocated(kubernetes)


def message(pod: Manifest) -> str:
    """What kube-scheduler says of it, as a person reads it."""
    told = [one.get("message", "") for one in pod["status"].get("conditions", []) if one["type"] == "PodScheduled"]
    return str(told[0]) if told else ""


def events(kubernetes: RealKubernetes, reason: str, prefix: str) -> list[str]:
    """The sentences of events on pods whose names begin so."""
    found = kubernetes.admin.get(f"/apis/events.k8s.io/v1/namespaces/{TEAM}/events")["items"]
    return [one.get("note", "") for one in found if one["reason"] == reason and one["regarding"]["name"].startswith(prefix)]


def touch(kubernetes: RealKubernetes, pod: Manifest, mark: str) -> None:
    """As the plugin touches a pod."""
    path = f"/metadata/annotations/{extender_running.PLANNED.replace('/', '~1')}"
    kubernetes.admin.patch(f"{PODS}/{pod['metadata']['name']}", [{"op": "add", "path": path, "value": mark}])


def counted(url: str) -> Counter[tuple[str, str]]:
    """Answers by verb and outcome; questions that were not understood by verb and ``bad``; the plan by ``version``."""
    found: Counter[tuple[str, str]] = Counter()
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=20).text):
        for one in family.samples:
            if one.name == "quartermaster_extender_answers_total":
                found[one.labels["verb"], one.labels["outcome"]] += int(one.value)
            elif one.name == "quartermaster_extender_malformed_total":
                found[one.labels["verb"], "bad"] += int(one.value)
            elif one.name == "quartermaster_extender_plan_version":
                found["plan", "version"] = int(one.value)
    return found


def wrong(counts: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """What no real kube-scheduler may ever cause."""
    return {key: count for key, count in counts.items() if count and key[1] in {"bad", "malformed", "failed", "refused"}}


# ---------------------------------------------------------------- a plan made by hand


class Recorded(Extender):
    """An extender that keeps what it was asked and what it answered."""

    def __init__(self, mode: Mode = Mode.enforce, patience_s: float = 600.0) -> None:
        super().__init__(mode, time.time, patience_s=patience_s)
        self.asked: list[tuple[str, bytes, Answer]] = []

    def filter(self, body: bytes) -> Answer:
        return self._kept("filter", body, super().filter(body))

    def prioritize(self, body: bytes) -> Answer:
        return self._kept("prioritize", body, super().prioritize(body))

    def preempt(self, body: bytes) -> Answer:
        return self._kept("preempt", body, super().preempt(body))

    def _kept(self, verb: str, body: bytes, answer: Answer) -> Answer:
        self.asked.append((verb, body, answer))
        return answer

    def bodies(self, verb: str) -> list[bytes]:
        return [body for one, body, _ in self.asked if one == verb]

    def outcomes(self) -> Counter[tuple[str, str]]:
        return Counter((verb, answer.outcome) for verb, _, answer in self.asked)

    def plan(self, pod: Manifest, node: str | None, *, free: bool = False) -> None:
        """From now on that is the plan, and it does not run out."""
        meta = pod["metadata"]
        told = Told(TEAM, meta["name"], meta["uid"], "job", node, "it is planned so", free)
        self.seating = Seating(7, time.time(), 3600.0, {f"{TEAM}/{meta['name']}": told})


@contextlib.contextmanager
def answering(kubernetes: RealKubernetes, extender: Recorded, *without: str, more: Manifest | None = None) -> Iterator[None]:
    """kube-scheduler asks ``extender``; at the end it asked nothing that was not understood."""
    with served(ExtenderApp(extender)) as port:
        kubernetes.restart_scheduler([*shipped(port, *without), *([more] if more is not None else [])])
        yield
        assert not wrong(counted(f"http://127.0.0.1:{port}"))
        assert not any(answer.problem for _, _, answer in extender.asked)


# ---------------------------------------------------------------- a follower behind it


@dataclass
class Extending:
    """A cluster that is planned, and whose kube-scheduler asks."""

    kubernetes: RealKubernetes
    url: str
    log_from: int
    rounds: list[Round] = field(default_factory=list)
    seatings: list[Seating] = field(default_factory=list)
    process: ExtenderProcess | None = None

    def seats(self) -> dict[str, str]:
        """The last node that each pod was told, by uid."""
        return {one.uid: one.node for seating in self.seatings for one in seating.told.values() if one.node is not None}

    def left_out(self) -> int:
        """Questions that were not answered in time: kube-scheduler went on without us."""
        return self.kubernetes.log_of("kube-scheduler")[self.log_from :].count(LEFT_OUT)

    def on_plan(self, prefix: str = "") -> None:
        """Every pod runs on its seat; but for those of which kube-scheduler did not hear in time, on a machine that is too busy."""
        seats = self.seats()
        off = {uid: (node, seats.get(uid)) for uid, node in running(self.kubernetes, prefix).items() if node != seats.get(uid)}
        assert len(off) <= self.left_out(), off

    def until_round(self, true: Callable[[Round], object], seconds: float = 30.0) -> None:
        """Wait for such a round."""
        assert until(lambda: any(true(one) for one in list(self.rounds)), seconds), self.rounds[-3:]


@contextlib.contextmanager
def extending(
    kubernetes: RealKubernetes, optimiser: Optimiser | None = None, mode: Mode = Mode.enforce, *, breaks: bool = False, **settings: Any
) -> Iterator[Extending]:
    """The plugin in a thread, its extender in a process, kube-scheduler asking. ``breaks``: the test breaks connections on purpose."""
    listener = listening("127.0.0.1", 0)
    port = listener.getsockname()[1]
    made = Extending(kubernetes, f"http://127.0.0.1:{port}", len(kubernetes.log_of("kube-scheduler")))

    class Watched(ExtenderProcess):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.process = self

        def put(self, seating: Seating) -> bool:
            made.seatings.append(seating)
            return super().put(seating)

    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(extender_running, "ExtenderProcess", Watched)
        following = Following(PluginSettings(mode=mode, **BRISK | settings), Path(folder) / "stamp", kubernetes.kubeconfig, watched=True)
        arguments = (Connection.opened(kubernetes.kubeconfig), optimiser or LocalOptimiser(), following, listener, stop, made.rounds.append)
        thread = threading.Thread(target=extender_running.follow, args=arguments, name="follower")
        thread.start()
        try:
            assert until(lambda: answers(made.url), 60)
            kubernetes.restart_scheduler(shipped(port))
            yield made
            assert breaks or not wrong(counted(made.url))
        finally:
            stop.set()
            thread.join(60)
            listener.close()


def answers(url: str) -> bool:
    """Whether somebody answers there."""
    try:
        return httpx.get(f"{url}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def commanded(kubernetes: RealKubernetes, **settings: Any) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The command, in enforce, with kube-scheduler asking it; its process and its address. Whatever is left of it is ended."""
    port = free_ports(1)[0]
    named = {f"QUARTERMASTER_PLUGIN_{name.upper()}": str(value) for name, value in (BRISK | settings).items()}
    command = [sys.executable, "-m", "service.cli", "kubernetes", "extender", "--mode", "enforce", "--port", str(port)]
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "log"
        with lines.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--kubeconfig", str(kubernetes.kubeconfig), "--stamp", f"{folder}/stamp"],
                env={**os.environ, **named},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            assert until(lambda: answers(f"http://127.0.0.1:{port}"), 60), lines.read_text()
            kubernetes.restart_scheduler(shipped(port))
            yield process, f"http://127.0.0.1:{port}"
        finally:
            end_family(process, folder)

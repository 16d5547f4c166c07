"""The whole way: a cluster is watched and planned, and a scheduler that asks the extender places pods where the plan says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from service.plugins.inforce import InForce
from service.plugins.kubernetes.connection import Connection
from service.plugins.kubernetes.extender_running import PLANNED, CacheReader, follow
from service.plugins.kubernetes.extender_scheduler import ExtenderScheduler
from service.plugins.kubernetes.nodes import ReadingOptions
from service.plugins.kubernetes.running import Following
from service.plugins.modes import Mode
from service.plugins.planner import NoPlanError
from service.plugins.settings import PluginSettings
from service.serving import listening
from tests.plugins.kubernetes.conftest import Cluster, until
from tests.plugins.kubernetes.kube_scheduler import KubeScheduler, _accepts
from tests.plugins.kubernetes.manifests_made import node
from tests.plugins.kubernetes.stub_store import Store
from tests.plugins.kubernetes.test_manifests import granted, needed
from tests.plugins.optimisers import Broken, Greedy

OPTED_IN = {"quartermaster.dev/plan": "true"}


class AskingScheduler(KubeScheduler):
    """Asks the extender as kube-scheduler does with ``ignorable: true`` and ``nodeCacheCapable: true``."""

    def __init__(self, store: Store, url: str) -> None:
        super().__init__(store)
        self._client = httpx.Client(base_url=url, timeout=2.0)
        self.ignored = 0
        self.denied: list[str] = []

    def _chosen(self, pod: Any) -> str | None:
        names = [one["metadata"]["name"] for one in self.store.all("nodes") if _accepts(one, pod) and self._has_room(one, pod)]
        if not names:
            return None
        try:
            answer = self._client.post("/filter", content=json.dumps({"Pod": pod, "Nodes": None, "NodeNames": names})).json()
            assert not answer.get("Error"), answer
            passed = answer["NodeNames"]
            scores = self._client.post("/prioritize", content=json.dumps({"Pod": pod, "Nodes": None, "NodeNames": passed})).json()
        except httpx.HTTPError:
            self.ignored += 1
            return str(names[0])
        if not passed:
            self.denied.append(pod["metadata"]["name"])
            body = {
                "Pod": pod,
                "NodeNameToVictims": None,
                "NodeNameToMetaVictims": {names[0]: {"Pods": [{"UID": "v"}], "NumPDBViolations": 0}},
            }
            assert self._client.post("/preempt", content=json.dumps(body)).json() == {}  # nobody is evicted for a pod that waits
        points = {one["Host"]: one["Score"] for one in scores}
        return max((str(name) for name in passed), key=lambda name: (points.get(name, 0), name), default=None)

    def stop(self) -> None:
        super().stop()
        self._client.close()


@contextmanager
def following(cluster: Cluster, optimiser: Any, **settings: Any) -> Iterator[AskingScheduler]:
    listener = listening("127.0.0.1", 0)
    made = PluginSettings(**{"mode": Mode.enforce, "quiet_s": 0.05, "longest_wait_s": 0.2, "refresh_s": 1.0, **settings})
    connection = Connection.opened(cluster.stub.kubeconfig(cluster.folder))
    stop = threading.Event()
    arguments = (connection, optimiser, Following(made, cluster.folder / "stamp"), listener, stop)
    thread = threading.Thread(target=follow, args=arguments)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    scheduler = AskingScheduler(cluster.stub.store, url)
    try:
        until(lambda: httpx.get(f"{url}/readyz", timeout=20).status_code == 200, limit_s=20)
        yield scheduler
    finally:
        scheduler.stop()
        stop.set()
        thread.join()
        listener.close()


@pytest.mark.parametrize(("mode", "planned"), [(Mode.shadow, {"team/job/any", "team/job/ours"}), (Mode.enforce, {"team/job/ours"})])
def test_shadow_plans_whatever_waits_with_or_without_the_label(cluster: Cluster, mode: Mode, planned: set[str]) -> None:
    cluster.add_nodes(1)
    cluster.add_gang("any", 2, gated=False)
    cluster.add_gang("ours", 2, gated=False, labels=OPTED_IN)
    connection = Connection.opened(cluster.stub.kubeconfig(cluster.folder))
    reader = CacheReader(connection, cluster.gates().cache, ReadingOptions())
    scheduler = ExtenderScheduler(reader, InForce(), mode, lambda _: True, lambda *_: None)
    try:
        seen = scheduler.snapshot()
        assert {job.id for job in seen.jobs if job.opted_in} == planned
        assert {job.id for job in seen.jobs if job.held} == (planned if mode is Mode.enforce else set())
    finally:
        scheduler.close()


def test_a_gang_goes_where_the_plan_says_and_its_pods_are_touched(cluster: Cluster) -> None:
    cluster.add_nodes(4, gpus=8)
    cluster.add_gang("train", 3, gpus=8, gated=False, labels=OPTED_IN)
    with following(cluster, Greedy()) as scheduler:
        until(lambda: all(PLANNED in (pod["metadata"].get("annotations") or {}) for pod in cluster.pods().values()), limit_s=20)
        until(lambda: len(scheduler.bound) == 3 or (scheduler.step(), False)[1], limit_s=10)
        assert len(set(scheduler.bound.values())) == 3  # no seat twice
        assert scheduler.overfull == []
    # The rights that were asked for are those that the manifests grant.
    for method, path in cluster.stub.asked:
        assert needed(method, path) in granted() - {("", "pods/status", "patch"), ("", "pods", "get"), ("", "nodes", "get")}


def test_a_gang_that_does_not_fit_waits_whole_and_evicts_nobody(cluster: Cluster) -> None:
    cluster.add_nodes(2, gpus=8)
    cluster.add_gang("big", 3, gpus=8, gated=False, labels=OPTED_IN)
    with following(cluster, Greedy(), fallback_s=60.0) as scheduler:
        until(lambda: not scheduler.step() and len(scheduler.denied) >= 6, limit_s=20)
        assert scheduler.bound == {}  # kube-scheduler alone would have started two of three
        cluster.stub.store.create("nodes", node("n9"))
        until(lambda: len(scheduler.bound) == 3 or (scheduler.step(), False)[1], limit_s=20)
        assert len(set(scheduler.bound.values())) == 3


def test_without_a_plan_pods_start_as_they_would_alone(cluster: Cluster) -> None:
    cluster.add_nodes(2, gpus=8)
    broken = Broken(NoPlanError("no_plan", "the optimiser is frozen"))
    with following(cluster, broken, fallback_s=0.5) as scheduler:
        cluster.add_gang("train", 2, gpus=8, gated=False, labels=OPTED_IN)
        begun = time.monotonic()
        until(lambda: len(scheduler.bound) == 2 or (scheduler.step(), False)[1], limit_s=20)
        assert scheduler.denied  # it was waited for
        assert time.monotonic() - begun < 20
        assert scheduler.overfull == []


def test_others_are_not_held_up(cluster: Cluster) -> None:
    cluster.add_nodes(1, gpus=8)
    cluster.add_gang("plain", 1, gpus=1, gated=False)
    with following(cluster, Greedy()) as scheduler:
        assert scheduler.step() == ["plain-0"]


def test_the_command_tells_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    from service.cli.kubernetes_extender import extender

    app = typer.Typer()
    app.command("extender")(extender)
    app.command("other")(lambda: None)
    told = CliRunner().invoke(app, ["extender", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert told.exit_code == 0
    assert "--mode" in told.output
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    failed = CliRunner().invoke(app, ["extender"])
    assert failed.exit_code != 0
    assert "--kubeconfig" in str(failed.exception)

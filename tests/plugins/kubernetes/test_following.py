"""The whole plugin on the stub: follower, adapter, watchdog and a scheduler, with everything failing that can."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from optimizer.limits import Limits
from service.plugins import watchdog
from service.plugins.follower import Follower
from service.plugins.heartbeat import Heart
from service.plugins.modes import Mode
from service.plugins.planner import Answer, NoPlanError
from service.plugins.settings import PluginSettings
from tests.plugins.kubernetes.conftest import Cluster, until
from tests.plugins.kubernetes.manifests_made import pod
from tests.plugins.kubernetes.stub_store import StatusError
from tests.plugins.optimisers import Greedy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.placement.schema import Plan, Problem

QUICK: dict[str, Any] = {
    "quiet_s": 0.02,
    "longest_wait_s": 0.1,
    "refresh_s": 0.3,
    "explain_jobs": 0,
    "longest_pause_s": 0.2,
    "fallback_s": 0.6,
}


@contextmanager
def following(cluster: Cluster, optimiser: Any = None, *, hard: bool = False, mode: Mode = Mode.enforce, **more: Any) -> Iterator[Follower]:
    """A follower in a thread, and a scheduler beside it."""
    stop = threading.Event()
    gates = cluster.gates(hard=hard, mends=mode is Mode.enforce, limit_s=2.0, stopping=stop.is_set)
    follower = Follower(gates, optimiser or Greedy(), PluginSettings(mode=mode, **QUICK | more))
    thread = threading.Thread(target=follower.run, args=(stop,), daemon=True)
    cluster.scheduler.start()
    thread.start()
    try:
        yield follower
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def fill(cluster: Cluster, gangs: int = 6, alone: int = 6) -> None:
    """Gangs of four, and pods on their own, on four nodes: not all fit at once."""
    cluster.add_nodes(4)
    for index in range(gangs):
        cluster.add_gang(f"gang{index}", 4, gpus=1)
    for index in range(alone):
        cluster.stub.store.create("pods", pod(f"alone{index}", gpus=1), "team")


def finish_running(cluster: Cluster) -> None:
    """The jobs that run come to their end, and make room."""
    store = cluster.stub.store
    with store.moved:
        for one in store.all("pods"):
            if one["spec"].get("nodeName") and one["status"]["phase"] == "Running":
                store.put("pods", one | {"status": {"phase": "Succeeded"}})


def all_started(cluster: Cluster) -> bool:
    return all(one["spec"].get("nodeName") for one in cluster.stub.store.all("pods"))


def check_nothing_wrong(cluster: Cluster) -> None:
    """Nothing was given twice, nothing that ran was stopped, no gang is split."""
    assert not cluster.scheduler.overfull
    assert all(one["metadata"].get("deletionTimestamp") is None for one in cluster.stub.store.all("pods"))
    assert not any(method == "DELETE" for method, _ in cluster.stub.asked)
    assert not any(path.endswith("/binding") for _, path in cluster.stub.asked)


@pytest.mark.parametrize("hard", [False, True])
def test_everything_starts_where_the_plan_says(cluster: Cluster, hard: bool) -> None:
    fill(cluster)
    with following(cluster, hard=hard):
        until(lambda: all_started(cluster))
    check_nothing_wrong(cluster)
    for one in cluster.stub.store.all("pods"):
        released = json.loads(one["metadata"]["annotations"]["quartermaster.dev/released"])
        assert (released["node"], released["pin"]) == (one["spec"]["nodeName"], "hard" if hard else "soft")


def test_shadow_touches_nothing(cluster: Cluster) -> None:
    fill(cluster, 2, 2)
    with following(cluster, mode=Mode.shadow) as follower:
        until(lambda: follower.in_force.version > 0)
    assert {method for method, _ in cluster.stub.asked} == {"GET"}
    assert len(cluster.gated()) == 10


def test_shadow_plans_what_waits_for_the_scheduler_and_not_what_waits_for_us(cluster: Cluster) -> None:
    """Before anything is changed on a cluster no pod has a gate. Those that have one wait because of it: that is no gain of the plan."""
    cluster.add_nodes(1)
    cluster.add_gang("free", 2, gated=False)
    cluster.add_gang("held", 2)
    cluster.stub.store.create("pods", pod("admitted-later", schedulingGates=[{"name": "kueue.x-k8s.io/admission"}]), "team")
    cluster.stub.store.create("pods", pod("without-gpus", gpus=0, gated=False), "team")
    seen = cluster.gates(mends=False).snapshot()
    assert {job.id for job in seen.jobs if job.opted_in} == {"team/job/free"}
    assert any("held by the gate" in warning and "team/job/held" in warning for warning in seen.warnings)
    enforced = cluster.gates(mends=True).snapshot()
    assert {job.id for job in enforced.jobs if job.opted_in} == {"team/job/held"}


class Failing(Greedy):
    """Works at first; later it is gone, frozen for as long as it may be, or answers rubbish."""

    def __init__(self, how: str, works: int) -> None:
        super().__init__()
        self.how, self.works = how, works

    def solve(self, problem: Problem, limits: Limits, warm_start: Plan | None = None) -> Answer:
        self.works -= 1
        if self.works >= 0:
            return super().solve(problem, limits, warm_start)
        if self.how == "killed":
            raise NoPlanError("gone", "killed by signal 9")
        if self.how == "frozen":
            time.sleep(0.2)
            raise NoPlanError("late", "no plan in time")
        if self.how == "rubbish":
            return Answer('{"schema_version": 1, "placements": [{"job": "no", "workers": [{"node": "n0", "gpus": [99]}]}]}', 1e9)
        if self.how == "overfull":  # a plan that gives the same GPUs to everyone
            places = [
                {"job": one.id, "workers": [{"node": "n0", "gpus": [0]}] * one.workers} for one in problem.jobs if one.running is None
            ]
            return Answer(json.dumps({"schema_version": 1, "placements": places}), 1e9)
        raise ZeroDivisionError("a fault that nobody thought of")


@pytest.mark.parametrize("how", ["killed", "frozen", "rubbish", "overfull", "fault"])
def test_a_failing_optimiser_costs_nothing_but_its_plans(cluster: Cluster, how: str) -> None:
    fill(cluster, 4, 4)
    with following(cluster, Failing(how, works=1), hard=how == "overfull", fallback_s=0.4):
        until(lambda: all_started(cluster))
        for index in range(3):
            cluster.add_gang(f"late{index}", 4, gpus=1)
        until(lambda: all_started(cluster))
    check_nothing_wrong(cluster)


@pytest.mark.parametrize("hard", [False, True])
def test_a_restless_api_server_costs_nothing(cluster: Cluster, hard: bool) -> None:
    fill(cluster, 3, 3)
    stub = cluster.stub
    stub.twice = True
    asked = iter(range(10**9))
    refusals = [
        StatusError(429, "TooManyRequests", "later", 0),
        StatusError(500, "InternalError", "no"),
        StatusError(503, "Unavailable", "no"),
    ]

    def fault(method: str, _path: str) -> StatusError | None:
        turn = next(asked)
        return refusals[turn % 3] if turn % 5 == 0 and method in {"PATCH", "GET"} else None

    with following(cluster, hard=hard, fallback_s=30.0, watchdog_s=60.0):
        stub.fault = fault
        stub.lose = lambda method, _path: method == "PATCH" and next(asked) % 7 == 0
        until(lambda: all_started(cluster), limit_s=15)
        stub.restart(away_s=0.2, forget=True)
        for index in range(3):
            cluster.add_gang(f"late{index}", 4, gpus=1)
        stub.gone_as_event = False
        stub.drop()
        stub.store.compact()
        until(lambda: all_started(cluster) and len(cluster.pods()) == 27, limit_s=15)
    check_nothing_wrong(cluster)


def test_nodes_are_drained_pods_deleted_and_gangs_resized_while_it_runs(cluster: Cluster) -> None:
    fill(cluster, 8, 8)
    store = cluster.stub.store
    merge = "application/merge-patch+json"
    with following(cluster, hard=False):
        until(lambda: len(cluster.scheduler.bound) >= 4)
        store.patch("nodes", "", "n1", merge, {"spec": {"unschedulable": True}})
        for name in sorted(cluster.gated())[:3]:
            store.end("pods", "team", name)  # its Job makes it anew
        gone = {f"gang{index}-{place}" for index in range(8) for place in range(4)} - set(cluster.pods())
        for name in gone:
            store.create("pods", pod(name, owner=("Job", name.split("-")[0], f"uid-{name.split('-')[0]}")), "team")
        finish_running(cluster)
        until(lambda: all_started(cluster), lambda: finish_running(cluster), limit_s=15)
    check_nothing_wrong(cluster)


def test_the_clocks_of_server_and_plugin_differ_by_a_day(cluster: Cluster) -> None:
    cluster.add_nodes(1)
    for name, created in (("past", "2001-01-01T00:00:00Z"), ("future", "2099-01-01T00:00:00Z")):
        made = pod(name)
        made["metadata"]["creationTimestamp"] = created
        cluster.stub.store.create("pods", made, "team")
    with following(cluster):
        until(lambda: all_started(cluster))
    assert set(cluster.pods()) == {"past", "future"}
    check_nothing_wrong(cluster)


# ---------------------------------------------------------------- processes that die


@contextmanager
def plugin_process(cluster: Cluster, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """``quartermaster kubernetes run`` with its watchdog, as people start it; both are gone at the end."""
    stamp = cluster.folder / "stamp"
    asked = QUICK | {"time_limit_s": 0.5, "explain_s": 0.1, "watchdog_s": 3.0} | more
    told = {f"QUARTERMASTER_PLUGIN_{name.upper()}": str(value) for name, value in asked.items()}
    command = [sys.executable, "-m", "service.cli", "kubernetes", "run", "--mode", "enforce", "--kubeconfig"]
    command += [str(cluster.stub.kubeconfig(cluster.folder)), "--stamp", str(stamp), "--watchdog"]
    with (cluster.folder / "plugin.log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | told, stderr=log, stdout=log, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(10)
        Heart(stamp).beat(ended=True)  # ends the watchdog
        until(lambda: watchdog_lock_is_free(stamp))


def watchdog_lock_is_free(stamp: Path) -> bool:
    import fcntl

    with open(f"{stamp}.watchdog", "a") as lock:  # noqa: PTH123
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_the_plugin_dies_or_freezes_and_the_watchdog_releases_everything(cluster: Cluster, how: signal.Signals) -> None:
    fill(cluster, 2, 2)
    cluster.scheduler.start()
    with plugin_process(cluster) as plugin:
        until(lambda: all_started(cluster), limit_s=40)
        plugin.send_signal(how)
        cluster.add_gang("held", 4, gpus=1)
        time.sleep(0.5)
        assert len(cluster.gated()) == 4
        until(lambda: not cluster.gated(), limit_s=20)
        until(lambda: all_started(cluster))
    check_nothing_wrong(cluster)


def test_the_plugin_stops_in_good_order_and_releases_what_it_holds(cluster: Cluster) -> None:
    cluster.add_nodes(1, gpus=1)
    cluster.stub.store.create("pods", pod("fits"), "team")
    cluster.stub.store.create("pods", pod("waits"), "team")
    cluster.scheduler.start()
    with plugin_process(cluster, time_limit_s=20, fallback_s=60, watchdog_s=30) as plugin:
        until(lambda: len(cluster.scheduler.bound) == 1, limit_s=40)
        until(lambda: any(event["reason"] == "WaitingForPlan" for event in cluster.stub.store.all("events")), limit_s=20)
        assert len(cluster.gated()) == 1
        plugin.send_signal(signal.SIGTERM)
        assert plugin.wait(20) == 0, (cluster.folder / "plugin.log").read_text()
        assert not cluster.gated()


def test_the_watchdog_process_acts_within_its_limit_and_a_second(cluster: Cluster) -> None:
    cluster.add_nodes(1)
    cluster.add_gang("held", 4)
    cluster.stub.store.create("pods", pod("bad", annotations={"quartermaster.dev/together": "galaxy"}), "team")
    stamp = cluster.folder / "stamp"
    config = {"kubeconfig": str(cluster.stub.kubeconfig(cluster.folder)), "namespaces": []}
    process = watchdog.start(stamp, 1.5, "service.plugins.kubernetes.freeing:free_all", config, log=cluster.folder / "watchdog.log")
    log = cluster.folder / "watchdog.log"
    try:
        until(lambda: "watches" in (log.read_text() if log.exists() else ""), limit_s=30)
        assert len(cluster.gated()) == 5
        until(lambda: not cluster.gated(), limit_s=10)
        released = [path for method, path in cluster.stub.asked if method == "PATCH"]
        assert len(released) == 5
    finally:
        process.terminate()
        process.wait(10)

"""A real control plane follows the plan: API server, Job controller and scheduler of a Kubernetes release; only nodes are made up."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.plugins.daemons import until
from benchmarks.plugins.kubernetes import (
    GANG,
    SINGLE,
    TEAM,
    abandoned,
    following,
    gated,
    gpu_job,
    hundred,
    jobs_of,
    node_of,
    over_allocated,
    planned_node,
    ready,
    submit,
)
from benchmarks.plugins.kubernetes_cluster import RealKubernetes, finish
from service.plugins.modes import Mode
from service.plugins.planner import Answer
from tests.plugins.optimisers import Broken, Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def kubernetes(real_kubernetes: RealKubernetes) -> Iterator[RealKubernetes]:
    """Four nodes of eight GPUs, and nothing on them."""
    ready(real_kubernetes, 4)
    yield real_kubernetes
    real_kubernetes.clear()


def started(kubernetes: RealKubernetes, pods: int, seconds: float = 30.0) -> None:
    """So many pods come to run, none is held, and no node has more than it can bear."""

    def all_run() -> bool:
        found = kubernetes.pods(TEAM)
        return len(found) == pods and all(node_of(pod) and not gated(pod) for pod in found)

    assert until(all_run, seconds), [(pod["metadata"]["name"], node_of(pod), gated(pod)) for pod in kubernetes.pods(TEAM)]
    assert not over_allocated(kubernetes)


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_a_hundred_gated_jobs_run_where_the_plan_says(kubernetes: RealKubernetes, hard: bool) -> None:
    found = hundred(kubernetes, hard=hard)
    assert found["bound"] == found["on_plan"] == found["jobs"] == 100
    assert found["gangs_split"] == found["over_allocated"] == 0


def test_gangs_wait_whole_and_run_whole(kubernetes: RealKubernetes) -> None:
    """Three gangs of three quarters of the cluster, and small jobs beside: what ends makes room for the next."""
    gangs = [gpu_job(f"gang-{at}", 4, 6) for at in range(3)]
    with following(kubernetes) as rounds:
        submit(kubernetes, [*gangs, *(gpu_job(f"one-{at}", *SINGLE) for at in range(6))])
        done: set[str] = set()
        end = time.monotonic() + 60
        while len(done) < 3 and time.monotonic() < end:
            jobs = jobs_of(kubernetes.pods(TEAM))
            for name, pods in jobs.items():
                live = [pod for pod in pods if pod["status"]["phase"] == "Running"]
                if name.startswith("gang") and len(live) == 4:
                    assert [node_of(pod) for pod in live] == [planned_node(pod) for pod in live]
                    for pod in live:
                        finish(kubernetes.admin, pod)
                    done.add(name)
            assert not over_allocated(kubernetes)
            time.sleep(0.1)
        assert len(done) == 3
        assert not any(one.outcome not in {"done", "completed"} for each in rounds for one in each.committed)


@pytest.mark.parametrize(
    "optimiser",
    [
        pytest.param(lambda: Interrupted(signal.SIGKILL), id="killed"),
        pytest.param(lambda: Interrupted(signal.SIGSTOP), id="frozen"),
        pytest.param(lambda: Broken(Answer(b"\xff no plan at all")), id="rubbish"),
        pytest.param(lambda: Broken(Answer("{}", 0.0)), id="empty plan"),
    ],
)
def test_a_failing_optimiser_costs_no_job_its_start(kubernetes: RealKubernetes, optimiser: Any) -> None:
    with following(kubernetes, optimiser(), fallback_s=1.0, reserve_s=2.0):
        submit(kubernetes, [gpu_job(f"gang-{at}", *GANG) for at in range(4)] + [gpu_job(f"one-{at}", *SINGLE) for at in range(8)])
        started(kubernetes, 16)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_watchdog_lets_everything_go_when_the_plugin_is_gone(kubernetes: RealKubernetes, number: signal.Signals) -> None:
    found = abandoned(kubernetes, number)
    assert found["held"] == 16
    assert found["all_started"]
    assert found["over_allocated"] == 0
    assert found["released_after_last_sign_of_life_s"] < found["limit_s"] + 10  # the benchmark holds it to one second


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_an_api_server_that_restarts_costs_nothing(kubernetes: RealKubernetes, hard: bool) -> None:
    with following(kubernetes, hard=hard):
        submit(kubernetes, [gpu_job(f"gang-{at}", *GANG) for at in range(4)])
        with kubernetes.api_server_away():
            time.sleep(1.0)
        submit(kubernetes, [gpu_job(f"late-{at}", *SINGLE) for at in range(8)])
        started(kubernetes, 16, 60.0)
    for pods in jobs_of(kubernetes.pods(TEAM)).values():
        assert [node_of(pod) for pod in pods] == [planned_node(pod) for pod in pods]


def test_shadow_touches_nothing(kubernetes: RealKubernetes) -> None:
    submit(kubernetes, [gpu_job("gang", *GANG), gpu_job("one", *SINGLE)])
    assert until(lambda: len(kubernetes.pods(TEAM)) == 3)
    before = {pod["metadata"]["name"]: pod["metadata"]["resourceVersion"] for pod in kubernetes.pods(TEAM)}
    with following(kubernetes, mode=Mode.shadow) as rounds:
        assert until(lambda: len(rounds) >= 2)
    assert {pod["metadata"]["name"]: pod["metadata"]["resourceVersion"] for pod in kubernetes.pods(TEAM)} == before


def test_a_node_that_is_cordoned_gets_nothing_more(kubernetes: RealKubernetes) -> None:
    """Hard pins on a node that is cordoned before its pods start would wait for ever: the plan knows."""
    kubernetes.admin.patch("/api/v1/nodes/gpu1", [{"op": "add", "path": "/spec/unschedulable", "value": True}])
    with following(kubernetes, hard=True):
        submit(kubernetes, [gpu_job(f"one-{at}", 1, 8) for at in range(3)])
        started(kubernetes, 3)
        submit(kubernetes, [gpu_job("more", 1, 8)])
        assert until(lambda: any(pod["metadata"]["name"].startswith("more") for pod in kubernetes.pods(TEAM)))
        assert not until(lambda: not any(map(gated, kubernetes.pods(TEAM))), 3.0)
        kubernetes.admin.patch("/api/v1/nodes/gpu1", [{"op": "remove", "path": "/spec/unschedulable"}])
        started(kubernetes, 4)
    assert {node_of(pod) for pod in kubernetes.pods(TEAM)} == {f"gpu{at + 1}" for at in range(4)}


def test_why_a_job_waits_is_an_event(kubernetes: RealKubernetes) -> None:
    with following(kubernetes):
        submit(kubernetes, [gpu_job("large", 1, 8), gpu_job("too-large", 5, 8)])

        def told() -> list[str]:
            events = kubernetes.admin.get(f"/api/v1/namespaces/{TEAM}/events")["items"]
            return [one["message"] for one in events if one["reason"] == "WaitingForPlan" and "too-large" in one["involvedObject"]["name"]]

        assert until(lambda: any("gpu" in one.lower() or "node" in one for one in told())), told()

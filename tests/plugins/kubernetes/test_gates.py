"""The gate controller against a stub of the API server: one pod, gangs, and what happens when something fails half way."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from service.plugins.kubernetes.metrics import AdapterMetrics
from service.plugins.orders import Wait
from service.plugins.scheduler import SchedulerError
from tests.plugins.kubernetes.conftest import Cluster, order_for, until
from tests.plugins.kubernetes.manifests_made import GATE, job, node, pod
from tests.plugins.kubernetes.stub_store import StatusError

if TYPE_CHECKING:
    from service.plugins.kubernetes.gates import Gates

HOST = "kubernetes.io/hostname"


def patches(cluster: Cluster) -> list[str]:
    return [path for method, path in cluster.stub.asked if method == "PATCH"]


@pytest.mark.parametrize("hard", [False, True])
def test_one_pod_starts_where_it_is_ordered(cluster: Cluster, hard: bool) -> None:
    cluster.add_nodes(3)
    cluster.stub.store.create("pods", pod("train", gpus=4), "team")
    gates = cluster.gates(hard=hard)
    seen = gates.snapshot()
    job_seen = seen.job("team/pod/train")
    assert job_seen is not None
    assert (job_seen.held, job_seen.opted_in, job_seen.gpus_per_worker, job_seen.tenant) == (True, True, 4.0, "team")
    assert cluster.scheduler.step() == []
    (answer,) = gates.commit([order_for(seen, "team/pod/train", "n1")])
    assert (answer.job, answer.outcome) == ("team/pod/train", "done")
    pods = cluster.pods()["train"]
    assert pods["spec"].get("nodeSelector", {}).get(HOST) == ("n1" if hard else None)
    assert pods["status"].get("nominatedNodeName") == (None if hard else "n1")
    assert patches(cluster) == (
        ["/api/v1/namespaces/team/pods/train"]
        if hard
        else ["/api/v1/namespaces/team/pods/train/status", "/api/v1/namespaces/team/pods/train"]
    )
    after = gates.snapshot().job("team/pod/train")
    assert after is not None
    assert (after.held, after.pinned, after.identity) == (False, ("n1",), job_seen.identity)
    cluster.scheduler.step()
    assert cluster.places() == {"train": "n1"}
    until(lambda: bool((now := gates.snapshot().job("team/pod/train")) and now.running))


@pytest.mark.parametrize("hard", [False, True])
def test_a_gang_starts_whole_on_its_seats(cluster: Cluster, hard: bool) -> None:
    cluster.add_nodes(4)
    cluster.add_gang("big", 12, gpus=2)
    gates = cluster.gates(hard=hard)
    seats = [f"n{index % 4}" for index in range(12)]
    seen = gates.snapshot()
    (answer,) = gates.commit([order_for(seen, "team/job/big", *seats)])
    assert answer.outcome == "done", answer
    assert not cluster.gated()
    cluster.scheduler.step()
    assert cluster.places() == {f"big-{index}": node for index, node in enumerate(seats)}  # worker 9 before worker 10
    assert not cluster.scheduler.overfull


def test_a_gang_that_is_not_whole_is_not_planned_and_refused(cluster: Cluster) -> None:
    cluster.add_nodes(1)
    cluster.stub.store.create("jobs", job("half", 4), "team")
    for index in range(3):
        cluster.stub.store.create("pods", pod(f"half-{index}", owner=("Job", "half", "uid-half")), "team")
    gates = cluster.gates()
    seen = gates.snapshot()
    half = seen.job("team/job/half")
    assert half is not None
    assert (half.workers, half.workers_seen, half.whole) == (4, 3, False)
    (answer,) = gates.commit([order_for(seen, "team/job/half", "n0", "n0", "n0")])
    assert answer.outcome == "refused"
    assert len(cluster.gated()) == 3


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("change", ["deleted", "recreated", "edited", "released", "another"])
def test_a_change_in_between_is_refused_and_the_gang_stays_held(cluster: Cluster, hard: bool, change: str) -> None:
    cluster.add_nodes(2)
    cluster.add_gang("big", 4, gpus=2)
    gates = cluster.gates(hard=hard, mends=False)
    seen, store = gates.snapshot(), cluster.stub.store
    order = order_for(seen, "team/job/big", "n0", "n0", "n1", "n1")
    reading = gates._reading()  # noqa: SLF001  (what the adapter knew before the change)
    gates._reading = lambda: reading  # type: ignore[method-assign]  # noqa: SLF001
    if change in {"deleted", "recreated"}:
        store.delete("pods", "team", "big-3")
    if change == "recreated":
        store.create("pods", pod("big-3", gpus=2, owner=("Job", "big", "uid-big")), "team")
    if change == "edited":
        store.patch("pods", "team", "big-3", "application/merge-patch+json", {"metadata": {"labels": {"a": "b"}}})
    if change == "released":
        store.patch("pods", "team", "big-3", "application/merge-patch+json", {"spec": {"schedulingGates": None}})
    if change == "another":
        order = order_for(seen, "team/job/big", "n0", "n0", "n1", "n9")
    (answer,) = gates.commit([order])
    assert answer.outcome in {"refused", "gone"}, answer
    expected = {"big-0", "big-1", "big-2"} | (set() if change in {"deleted", "released"} else {"big-3"})
    assert cluster.gated() == expected
    assert not any(one["spec"].get("nodeSelector") for one in cluster.pods().values())


def test_a_gang_whose_pod_someone_released_is_brought_to_its_end(cluster: Cluster) -> None:
    cluster.add_nodes(2)
    cluster.add_gang("big", 4, gpus=2)
    gates = cluster.gates()
    gates.snapshot()
    cluster.stub.store.patch("pods", "team", "big-1", "application/merge-patch+json", {"spec": {"schedulingGates": None}})
    until(lambda: not cluster.gated(), gates.snapshot)
    cluster.scheduler.step()
    assert all(cluster.places().values())


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("answers_lost", [False, True])
def test_the_server_fails_after_the_first_pod_and_the_gang_is_completed_on_its_seats(
    cluster: Cluster, hard: bool, answers_lost: bool
) -> None:
    cluster.add_nodes(4)
    cluster.add_gang("big", 8, gpus=4)
    gates = cluster.gates(hard=hard, limit_s=0.5)
    seats = [f"n{index // 2}" for index in range(8)]
    broken = _after_first_release(cluster, lost=answers_lost)
    (answer,) = gates.commit([order_for(gates.snapshot(), "team/job/big", *seats)])
    assert answer.outcome == "done", answer
    if not answers_lost:
        assert "still to be released" in answer.detail
        assert 0 < len(cluster.gated()) < 8
    broken.clear()
    until(lambda: not cluster.gated(), gates.snapshot)
    cluster.scheduler.step()
    assert cluster.places() == {f"big-{index}": node for index, node in enumerate(seats)}
    assert not cluster.scheduler.overfull


def _after_first_release(cluster: Cluster, *, lost: bool) -> list[bool]:
    """Every patch of a pod fails once one pod of the gang is released (or its answer is lost); until the list is cleared."""
    broken = [True]
    size = len(cluster.pods())

    def failing(method: str, path: str) -> bool:
        return bool(broken) and method == "PATCH" and not path.endswith("/status") and len(cluster.gated()) < size

    if lost:
        cluster.stub.lose = failing
    else:
        cluster.stub.fault = lambda method, path: StatusError(503, "ServiceUnavailable", "etcd is away") if failing(method, path) else None
    return broken


@pytest.mark.parametrize("hard", [False, True])
def test_a_controller_that_dies_half_way_is_followed_by_one_that_completes_the_gang_on_its_seats(cluster: Cluster, hard: bool) -> None:
    cluster.add_nodes(4)
    cluster.add_gang("big", 8, gpus=4)
    first = cluster.gates(hard=hard, limit_s=0.3)
    seats = [f"n{index // 2}" for index in range(8)]
    broken = _after_first_release(cluster, lost=False)
    first.commit([order_for(first.snapshot(), "team/job/big", *seats)])
    first.close()
    cluster.opened.clear()
    broken.clear()
    assert 0 < len(cluster.gated()) < 8
    cluster.stub.store.patch("nodes", "", "n3", "application/merge-patch+json", {"spec": {"unschedulable": True}})
    cluster.stub.store.create("nodes", node("spare"))
    second = cluster.gates(hard=hard)
    until(lambda: not cluster.gated(), second.snapshot)
    cluster.scheduler.step()
    places = cluster.places()
    assert [places[f"big-{index}"] for index in range(6)] == seats[:6]
    assert {places["big-6"], places["big-7"]} == {"spare"}  # their node was drained meanwhile: the scheduler chose


@pytest.mark.parametrize("hard", [False, True])
def test_a_refusal_by_admission_leaves_the_gang_held_and_at_last_releases_it_without_a_pin(cluster: Cluster, hard: bool) -> None:
    cluster.add_nodes(2)
    cluster.add_gang("big", 2, gpus=1)

    def policy(_old: dict[str, object], new: dict[str, dict[str, dict[str, str]]]) -> None:
        name = new["metadata"]["name"]
        pinned = new["spec"].get("nodeSelector") or ("quartermaster.dev/released" in new["metadata"].get("annotations", {}) and not hard)
        if str(name) == "big-1" and pinned:
            raise StatusError(403, "Forbidden", "admission webhook denied the request: no pins here")

    cluster.stub.store.admission = policy
    gates = cluster.gates(hard=hard)
    for _ in range(2):
        (answer,) = gates.commit([order_for(gates.snapshot(), "team/job/big", "n0", "n1")])
        assert answer.outcome == "refused"
        assert len(cluster.gated()) == 2  # the rehearsal found it before anything was changed
        assert not any(one["status"].get("nominatedNodeName") for one in cluster.pods().values())
    if hard:
        (answer,) = gates.commit([order_for(gates.snapshot(), "team/job/big", "n0", "n1")])
        assert answer.outcome == "done"
        assert "without a pin" in answer.detail
        assert not cluster.gated()


def nominations(cluster: Cluster) -> list[str | None]:
    return [one["status"].get("nominatedNodeName") for _, one in sorted(cluster.pods().items())]


def test_nominations_are_taken_back_when_one_is_refused(cluster: Cluster) -> None:
    cluster.add_nodes(2)
    cluster.add_gang("big", 3)
    gates = cluster.gates(limit_s=0.3)
    order = order_for(gates.snapshot(), "team/job/big", "n0", "n0", "n1")
    no = StatusError(403, "Forbidden", "no")
    cluster.stub.fault = lambda method, path: no if method == "PATCH" and path.endswith("big-2/status") else None
    assert gates.commit([order])[0].outcome == "refused"
    assert nominations(cluster) == [None] * 3
    cluster.stub.fault = lambda method, path: no if method == "PATCH" and path.endswith(("big-2/status", "big-0/status")) else None
    assert gates.commit([order_for(gates.snapshot(), "team/job/big", "n0", "n0", "n1")])[0].outcome == "refused"
    assert len(cluster.gated()) == 3


def test_what_we_nominated_before_is_overwritten_and_what_another_did_is_not(cluster: Cluster) -> None:
    cluster.add_nodes(3)
    cluster.add_gang("big", 2)
    gates = cluster.gates()
    merge = "application/merge-patch+json"
    ours = {"status": {"nominatedNodeName": "n2"}, "metadata": {"annotations": {"quartermaster.dev/nominated": "n2"}}}
    cluster.stub.store.patch("pods", "team", "big-0", merge, ours, sub="status")
    cluster.stub.store.patch("pods", "team", "big-1", merge, {"status": {"nominatedNodeName": "n2"}}, sub="status")
    until(lambda: gates.commit([order_for(gates.snapshot(), "team/job/big", "n0", "n0")])[0].outcome == "done")
    assert nominations(cluster) == ["n0", "n2"]
    assert not cluster.gated()


@pytest.mark.parametrize("hard", [False, True])
def test_free_takes_the_gate_and_nothing_else(cluster: Cluster, hard: bool) -> None:
    cluster.add_nodes(2)
    cluster.add_gang("big", 3)
    cluster.stub.store.create("pods", pod("alone", schedulingGates=[{"name": "other/gate"}, {"name": GATE}]), "team")
    gates = cluster.gates(hard=hard)
    gates.snapshot()
    assert set(gates.free(["team/job/big", "team/pod/alone", "team/pod/never"])) == {"team/job/big", "team/pod/alone", "team/pod/never"}
    pods = cluster.pods()
    assert pods["alone"]["spec"]["schedulingGates"] == [{"name": "other/gate"}]
    assert all("nodeSelector" not in one["spec"] and "nominatedNodeName" not in one["status"] for one in pods.values())
    assert json.loads(pods["big-0"]["metadata"]["annotations"]["quartermaster.dev/released"]) == {"node": "", "pin": "none"}


def test_a_soft_pin_is_taken_back_and_a_hard_one_told_or_replaced(cluster: Cluster) -> None:
    cluster.add_nodes(2)
    for name in ("soft", "hard", "owned"):
        cluster.stub.store.create(
            "pods",
            pod(name, owner=("Job", "owned", "uid-owned") if name == "owned" else None, annotations={"quartermaster.dev/gang": "false"}),
            "team",
        )
    soft = cluster.gates()
    soft.commit([order_for(soft.snapshot(), "team/pod/soft", "n1")])
    assert soft.unpin(["team/pod/soft"]) == ("team/pod/soft",)
    assert "nominatedNodeName" not in cluster.pods()["soft"]["status"]
    hard = cluster.gates(hard=True)
    hard.commit([order_for(hard.snapshot(), f"team/pod/{name}", "n1") for name in ("hard", "owned")])
    assert hard.unpin(["team/pod/hard", "team/pod/owned"]) == ()
    assert any("cannot be changed" in event["message"] for event in cluster.stub.store.all("events"))
    replacing = cluster.gates(hard=True, replaces=True)
    replacing.snapshot()
    assert replacing.unpin(["team/pod/hard", "team/pod/owned"]) == ("team/pod/owned",)
    assert set(cluster.pods()) == {"soft", "hard"}


def test_waits_become_events_once(cluster: Cluster) -> None:
    cluster.add_nodes(1)
    cluster.add_gang("big", 2)
    gates = cluster.gates()
    gates.snapshot()
    wait = Wait("team/job/big", "any", "waiting for 8 GPUs on one rack: rack r2 frees at 14:10; or evict batch-17")
    gates.tell([wait, Wait("team/pod/gone", "any", "why")])
    gates.tell([wait])
    events = cluster.stub.store.all("events")
    assert {(event["involvedObject"]["kind"], event["involvedObject"]["name"]) for event in events} == {("Pod", "big-0"), ("Job", "big")}
    assert {event["message"] for event in events} == {wait.why}
    assert len([1 for method, path in cluster.stub.asked if method == "POST"]) == 2
    gates.tell([Wait("team/job/big", "any", "é" * 2000)])  # cut to what an event may hold
    cluster.stub.fault = lambda method, _path: StatusError(500, "InternalError", "no") if method == "POST" else None
    gates.tell([Wait("team/job/big", "any", "another")])  # only logged
    assert len(cluster.stub.store.all("events")) == 4


def test_no_release_waits_for_a_sentence(cluster: Cluster) -> None:
    """Events may be slow, or refused: a server that is busy serves them last."""
    cluster.add_nodes(1)
    for index in range(12):
        cluster.stub.store.create("pods", pod(f"p{index}"), "team")
    gates = cluster.gates(limit_s=4.0)
    seen = gates.snapshot()
    since = len(cluster.stub.asked)
    told = threading.Event()
    cluster.stub.fault = lambda method, path: (told.wait(1.0), None)[1] if method == "POST" and path.endswith("/events") else None
    answers = gates.commit([order_for(seen, f"team/pod/p{index}", "n0") for index in range(12)])
    told.set()
    assert [one.outcome for one in answers] == ["done"] * 12
    methods = [method for method, _ in cluster.stub.asked[since:] if method in {"PATCH", "POST"}]
    assert methods == sorted(methods)
    assert methods.count("PATCH") == 24
    assert methods.count("POST") < 12  # the rest would have taken too long


def test_a_server_that_is_away_is_told_and_old_news_is_not_believed(cluster: Cluster) -> None:
    cluster.add_nodes(1)
    cluster.stub.store.create("pods", pod("train"), "team")
    gates = cluster.gates(stale_s=0.3, limit_s=0.5)
    order = order_for(gates.snapshot(), "team/pod/train", "n0")
    cluster.stub.end()
    (answer,) = gates.commit([order])
    assert answer.outcome == "refused"
    until(lambda: _raises(gates))
    cluster.stub.begin()
    until(lambda: not _raises(gates))
    (answer,) = gates.commit([order])
    assert answer.outcome == "done"


def _raises(gates: Gates) -> bool:
    try:
        gates.snapshot()
    except SchedulerError:
        return True
    return False


def test_malformed_pods_do_not_stop_the_rest_and_are_released(cluster: Cluster) -> None:
    cluster.add_nodes(2)
    store = cluster.stub.store
    store.create("pods", pod("good"), "team")
    bad = store.create("pods", pod("bad"), "team")
    bad["spec"]["containers"] = [{"name": "main", "resources": {"requests": {"cpu": "a lot"}}}]
    store.put("pods", bad)
    store.create("pods", pod("odd", annotations={"quartermaster.dev/together": "galaxy"}), "team")
    gates = cluster.gates()
    seen = gates.snapshot()
    assert seen.job("team/pod/good") is not None
    assert any("team/bad" in warning for warning in seen.warnings)
    assert any("galaxy" in warning for warning in seen.warnings)
    assert cluster.gated() == {"good"}
    registry = CollectorRegistry()
    registry.register(AdapterMetrics(gates))
    assert registry.get_sample_value("quartermaster_kubernetes_unreadable_released_total") == 2
    assert registry.get_sample_value("quartermaster_kubernetes_lists_total", {"kind": "Pod"}) == 1
    assert registry.get_sample_value("quartermaster_kubernetes_silent_seconds", {"kind": "Pod"}) == 0

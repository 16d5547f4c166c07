"""What a large and careless cluster does to the plugin: names used again, rights refused, other gates, watches that never end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from service.plugins.kubernetes.freeing import free_all
from service.plugins.kubernetes.gangs import job_set_size
from service.plugins.kubernetes.metrics import AdapterMetrics
from service.plugins.kubernetes.nodes import ReadingOptions
from service.plugins.kubernetes.trimming import trimmed
from service.plugins.kubernetes.watching import MOST_GONE, Kept
from tests.plugins.kubernetes.conftest import Cluster, order_for, until
from tests.plugins.kubernetes.manifests_made import GATE, gang, job, node, pod
from tests.plugins.kubernetes.stub_store import StatusError
from tests.plugins.kubernetes.test_following import all_started, check_nothing_wrong, following
from tests.plugins.kubernetes.test_reading import only, read

if TYPE_CHECKING:
    import pytest

    from tests.plugins.kubernetes.stub_store import Manifest

MERGE = "application/merge-patch+json"
OTHER = "kueue.x-k8s.io/admission"


def of_job(name: str, uid: str, index: int, created: str, **more: Any) -> Manifest:
    """A pod of a Job by that uid."""
    made = pod(f"{name}-{index}-{uid}", owner=("Job", name, uid), **more)
    made["metadata"] |= {"uid": f"{uid}-{index}", "creationTimestamp": created}
    return made


# ---------------------------------------------------------------- names that are used again


def test_a_job_made_anew_does_not_count_the_finished_pods_of_the_old_one() -> None:
    old = [of_job("train", "u1", index, "2026-01-01T00:00:00Z", gated=False) for index in range(4)]
    for one in old:
        one["status"]["phase"] = "Succeeded"
    new = [of_job("train", "u2", 0, "2026-01-01T01:00:00Z")]
    seen = only(read([node("n0")], [*old, *new], jobs=[job("train", 4)]))
    assert (seen.id, seen.workers, seen.workers_seen, seen.whole) == ("team/job/train", 4, 1, False)


def test_a_finished_pod_that_is_being_deleted_is_awaited_again() -> None:
    members = gang("train", 2)
    members[0]["status"]["phase"] = "Succeeded"
    members[0]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not only(read([node("n0")], members, jobs=[job("train", 2)])).whole


def test_a_job_made_anew_while_the_old_one_still_runs_is_another_gang() -> None:
    old = [of_job("train", "u1", index, "2026-01-01T00:00:00Z", gated=False, nodeName="n0") for index in range(2)]
    for one in old:
        one["status"]["phase"] = "Running"
    new = [of_job("train", "u2", index, "2026-01-01T01:00:00Z") for index in range(2)]
    jobs = {one.id: one for one in read([node("n0")], [*old, *new], jobs=[job("train", 2)]).jobs}
    assert set(jobs) == {"team/job/train", "team/job/train@u1"}
    assert jobs["team/job/train"].held
    assert jobs["team/job/train"].whole
    assert len(jobs["team/job/train@u1"].running) == 2


def test_a_job_made_anew_is_not_released_because_the_old_one_runs(cluster: Cluster) -> None:
    cluster.add_nodes(2)
    cluster.stub.store.create("jobs", job("train", 2), "team")
    for index in range(2):
        cluster.stub.store.create("pods", of_job("train", "u1", index, "2026-01-01T00:00:00Z", gated=False), "team")
    cluster.scheduler.step()
    for index in range(2):
        cluster.stub.store.create("pods", of_job("train", "u2", index, "2026-01-01T01:00:00Z"), "team")
    gates = cluster.gates()
    gates.snapshot()
    assert cluster.gated() == {"train-0-u2", "train-1-u2"}


def test_pod_groups_of_one_name_in_two_namespaces_are_two_gangs() -> None:
    def group(space: str, count: int) -> Manifest:
        return {"kind": "PodGroup", "metadata": {"name": "g", "namespace": space}, "spec": {"minMember": count}}

    pods = []
    for space, count in (("a", 2), ("b", 3)):
        for index in range(2):
            made = pod(f"p-{index}", labels={"scheduling.x-k8s.io/pod-group": "g"})
            made["metadata"] |= {"namespace": space, "uid": f"{space}{count}{index}"}
            pods.append(made)
    jobs = {one.id: one for one in read([node("n0")], pods, pod_groups=[group("a", 2), group("b", 3)]).jobs}
    assert {name: one.whole for name, one in jobs.items()} == {"a/podgroup/g": True, "b/podgroup/g": False}


def test_a_job_set_that_starts_its_jobs_one_after_another_is_a_gang_for_each_job() -> None:
    replicated: list[dict[str, Any]] = [
        {"name": "driver", "template": {"spec": {}}},
        {"name": "workers", "replicas": 2, "template": {"spec": {"parallelism": 4, "completions": 4}}},
    ]
    job_set: dict[str, Any] = {"metadata": {"name": "s", "namespace": "team"}, "spec": {"replicatedJobs": replicated}}
    assert job_set_size(job_set) == 9
    ordered = job_set | {"spec": job_set["spec"] | {"startupPolicy": {"startupPolicyOrder": "InOrder"}}}
    replicated[1]["dependsOn"] = [{"name": "driver", "status": "Ready"}]
    assert job_set_size(ordered) is job_set_size(job_set) is None
    driver = pod("s-driver-0-0", labels={"jobset.sigs.k8s.io/jobset-name": "s"}, owner=("Job", "s-driver-0", "u"))
    seen = only(read([node("n0")], [driver], job_sets=[ordered], jobs=[job("s-driver-0", 1)]))
    assert (seen.id, seen.whole) == ("team/job/s-driver-0", True)


def test_a_priority_class_that_is_missing_counts_as_none() -> None:
    assert only(read([node("n0")], [pod("p", priorityClassName="gone")], priority_classes=[])).priority == 0


def test_a_node_that_flaps_is_the_same_node_when_it_is_back() -> None:
    up, down = node("n0"), node("n0", taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}])
    down["status"]["conditions"][0]["status"] = "Unknown"
    first, away, again = (read([one], []).nodes[0] for one in (up, down, up))
    assert (away.state, first.state) == ("drained", "ready")
    assert first.version == again.version != away.version


# ---------------------------------------------------------------- gates of others, and people's hands


def test_a_gang_that_something_else_holds_keeps_our_gate_until_that_lets_go(cluster: Cluster) -> None:
    cluster.add_nodes(2)
    cluster.add_gang("big", 2, schedulingGates=[{"name": OTHER}, {"name": GATE}])
    cluster.stub.store.create("pods", pod("alone"), "team")
    with following(cluster, fallback_s=0.2) as follower:
        until(lambda: bool(cluster.places()["alone"]))
        version = follower.in_force.version
        until(lambda: follower.in_force.version > version + 4)  # several rounds, longer than the fallback
        for name in ("big-0", "big-1"):
            assert cluster.pods()[name]["spec"]["schedulingGates"] == [{"name": OTHER}, {"name": GATE}]
            cluster.stub.store.patch("pods", "team", name, MERGE, {"spec": {"schedulingGates": [{"name": GATE}]}})
        until(lambda: all_started(cluster))
    for one in cluster.pods().values():
        assert json.loads(one["metadata"]["annotations"]["quartermaster.dev/released"])["pin"] == "soft"
    check_nothing_wrong(cluster)


def test_our_gate_is_taken_from_it_when_we_stop_and_the_other_stays(cluster: Cluster) -> None:
    cluster.add_nodes(1)
    cluster.stub.store.create("pods", pod("both", schedulingGates=[{"name": GATE}, {"name": OTHER}]), "team")
    with following(cluster) as follower:
        until(lambda: follower.in_force.version > 1)
        assert cluster.gated() == {"both"}
    assert cluster.pods()["both"]["spec"]["schedulingGates"] == [{"name": OTHER}]


def test_the_watchdog_takes_our_gate_and_no_other(cluster: Cluster) -> None:
    for name, names in (("ours", [GATE]), ("both", [OTHER, GATE]), ("theirs", [OTHER])):
        cluster.stub.store.create("pods", pod(name, schedulingGates=[{"name": one} for one in names]), "team")
    free = free_all({"kubeconfig": str(cluster.stub.kubeconfig(cluster.folder))})
    assert set(free()) == {"team/ours", "team/both"}
    left = {name: one["spec"].get("schedulingGates") for name, one in cluster.pods().items()}
    assert not left["ours"]
    assert left["both"] == left["theirs"] == [{"name": OTHER}]


def test_a_gate_that_someone_took_away_by_hand_leaves_the_pod_to_the_scheduler(cluster: Cluster) -> None:
    cluster.add_nodes(1)
    cluster.stub.store.create("pods", pod("train"), "team")
    gates = cluster.gates()
    order = order_for(gates.snapshot(), "team/pod/train", "n0")
    cluster.stub.store.patch("pods", "team", "train", MERGE, {"spec": {"schedulingGates": None}})
    assert gates.commit([order])[0].outcome == "refused"
    until(lambda: not only(gates.snapshot()).held)
    assert only(gates.snapshot()).pinned == ()
    assert gates.free(["team/pod/train"]) == ("team/pod/train",)
    assert "nominatedNodeName" not in cluster.pods()["train"]["status"]


def test_a_nomination_that_the_scheduler_has_cleared_is_not_made_again(cluster: Cluster) -> None:
    cluster.add_nodes(1)
    cluster.stub.store.create("pods", pod("train"), "team")
    gates = cluster.gates()
    assert gates.commit([order_for(gates.snapshot(), "team/pod/train", "n0")])[0].outcome == "done"
    cluster.stub.store.patch("pods", "team", "train", MERGE, {"status": {"nominatedNodeName": None}}, sub="status")
    until(lambda: only(gates.snapshot()).pinned == ())
    asked = len(cluster.stub.asked)
    assert gates.unpin(["team/pod/train"]) == ("team/pod/train",)
    assert not [one for one in cluster.stub.asked[asked:] if one[0] == "PATCH"]
    cluster.scheduler.step()
    assert cluster.places() == {"train": "n0"}


# ---------------------------------------------------------------- rights


def test_a_namespace_where_patches_are_refused_is_left_alone_and_others_go_on(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add_nodes(1)
    for index in range(2):
        made = pod(f"locked-{index}", gpus=8)
        made["metadata"]["namespace"] = "locked"
        cluster.stub.store.create("pods", made, "locked")
    no = StatusError(403, "Forbidden", 'pods "locked" is forbidden: User cannot patch resource "pods" in the namespace "locked"')
    cluster.stub.fault = lambda method, path: no if method == "PATCH" and "/locked/" in path else None
    with following(cluster) as follower:
        gates: Any = follower.scheduler
        until(lambda: gates.rests.count() == 2, limit_s=15)
        assert not any(one.held for one in gates.snapshot().jobs)  # their seats are given to others
        cluster.stub.store.create("pods", pod("other", gpus=8), "team")
        until(lambda: bool(cluster.places()["other"]))
        tries = len([path for method, path in cluster.stub.asked if method == "PATCH" and "/locked/" in path])
        version = follower.in_force.version
        until(lambda: follower.in_force.version > version + 3)
        assert len([path for method, path in cluster.stub.asked if method == "PATCH" and "/locked/" in path]) == tries
        registry = CollectorRegistry()
        registry.register(AdapterMetrics(gates))
        assert registry.get_sample_value("quartermaster_kubernetes_left_alone") == 2.0
        cluster.stub.fault = lambda _method, _path: None
    said = "".join(capsys.readouterr())
    assert "kubernetes_left_alone" in said
    assert not cluster.gated()  # the right was given back before the end


def test_a_server_that_refuses_for_a_moment_after_its_start_leaves_no_gang_half_released(cluster: Cluster) -> None:
    """A real one answers 403 to what it will allow, until it has read its rules."""
    cluster.add_nodes(1)
    cluster.add_gang("big", 2)
    cluster.stub.store.patch("pods", "team", "big-0", MERGE, {"spec": {"schedulingGates": None}})
    left = [2]

    def fault(method: str, _path: str) -> StatusError | None:
        if method != "PATCH" or not left[0]:
            return None
        left[0] -= 1
        return StatusError(403, "Forbidden", "not yet")

    cluster.stub.fault = fault
    gates = cluster.gates()
    until(lambda: bool(gates.snapshot()) and not cluster.gated())
    assert (left, gates.completed, gates.releases_refused, gates.rests.count()) == ([0], 1, 0, 0)


def test_repairs_of_many_gangs_share_one_limit_and_are_forgotten_with_them(cluster: Cluster) -> None:
    now = [0.0]
    cluster.add_nodes(1)
    for index in range(4):
        cluster.add_gang(f"g{index}", 2)
        cluster.stub.store.patch("pods", "team", f"g{index}-0", MERGE, {"spec": {"schedulingGates": None}})

    def sleep(seconds: float) -> None:
        now[0] += seconds

    cluster.stub.fault = lambda method, _path: StatusError(503, "Unavailable", "no") if method == "PATCH" else None
    gates = cluster.gates(monotonic=lambda: now[0], sleep=sleep, limit_s=10.0)
    gates.snapshot()
    assert now[0] <= 6.0
    for index in range(4):
        for place in range(2):
            cluster.stub.store.end("pods", "team", f"g{index}-{place}")
    until(lambda: not gates.snapshot().jobs)
    assert gates.rests.count() == 0


# ---------------------------------------------------------------- size


def test_what_is_gone_is_remembered_within_bounds() -> None:
    kept = Kept()
    for version in range(1, MOST_GONE + 100):
        one = {"metadata": {"name": "a", "namespace": "t", "uid": f"u{version}", "resourceVersion": str(version)}}
        kept.apply("DELETED", one)
    assert len(kept._gone) == MOST_GONE  # noqa: SLF001


def test_a_finished_pod_and_small_volumes_are_cut_down_and_read_the_same() -> None:
    claim = {"name": "c", "persistentVolumeClaim": {"claimName": "c"}}
    volumes = [{"name": "x", "configMap": {"name": "x"}}, claim]
    one = pod("p", owner=("Job", "train", "u"), volumes=volumes, nodeName="n0", gated=False)
    assert trimmed(one)["spec"]["volumes"] == [claim]
    one["status"]["phase"] = "Succeeded"
    assert set(trimmed(one)["spec"]) == {"nodeName"}
    others = gang("train", 2)[1:]
    for half in ([one, *others], [trimmed(one), *others]):
        half[0]["metadata"]["ownerReferences"][0]["uid"] = "uid-train"
        assert only(read([node("n0")], half, jobs=[job("train", 2)])).whole


def test_a_cluster_in_which_nothing_has_changed_is_not_read_again(cluster: Cluster) -> None:
    cluster.add_nodes(1)
    cluster.stub.store.create("pods", pod("train"), "team")
    now = [100.0]
    gates = cluster.gates(clock=lambda: now[0])
    first = gates.snapshot()
    now[0] = 101.0
    second = gates.snapshot()
    assert second.jobs is first.jobs
    assert (first.taken_at, second.taken_at) == (100.0, 101.0)
    cluster.stub.store.patch("pods", "team", "train", MERGE, {"metadata": {"labels": {"a": "b"}}})
    until(lambda: gates.snapshot().jobs is not first.jobs)
    assert gates.options == ReadingOptions()


def test_objects_of_a_kind_that_is_taken_away_are_forgotten(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.plugins.kubernetes.watching.SURE_S", 0.5)
    cluster.add_gang("big", 2)
    gates = cluster.gates()
    watcher = gates.cache.watching.watchers["Job"]
    assert len(watcher.objects() or ()) == 1
    gone = StatusError(404, "NotFound", "the server could not find the requested resource")
    cluster.stub.fault = lambda _method, path: gone if path.endswith("/jobs") else None
    cluster.stub.drop()
    until(lambda: watcher.objects() == [])

"""What is read of gangs, priorities, disruption budgets and times."""

from __future__ import annotations

from typing import Any

import pytest

from service.plugins.kubernetes.gangs import job_set_size, job_size, pod_group_size
from service.plugins.kubernetes.reading import ClusterObjects, ReadingOptions
from tests.plugins.kubernetes.manifests_made import GATE, GROUP, gang, job, node, pod
from tests.plugins.kubernetes.test_reading import only, read


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        ({}, 1),
        ({"parallelism": 4, "completions": 4}, 4),
        ({"parallelism": 4}, None),
        ({"parallelism": 4, "completions": 9}, None),
        ({"parallelism": 4, "completions": 2}, 2),
    ],
)
def test_sizes_of_jobs(spec: dict[str, int], size: int | None) -> None:
    assert job_size({"spec": spec}) == size


def test_sizes_of_job_sets_and_pod_groups() -> None:
    replicated = [{"replicas": 2, "template": {"spec": {"parallelism": 4, "completions": 4}}}, {"template": {"spec": {}}}]
    assert job_set_size({"spec": {"replicatedJobs": replicated}}) == 9
    assert pod_group_size({"spec": {"minMember": 3}}) == 3
    assert pod_group_size({"spec": {"schedulingPolicy": {"gang": {"minCount": 5}}}}) == 5
    assert pod_group_size({"spec": {"schedulingPolicy": {"basic": {}}}}) is None


@pytest.mark.parametrize(
    ("marks", "more", "job_id", "workers"),
    [
        ({"labels": {"scheduling.x-k8s.io/pod-group": "g"}}, {"pod_groups": [GROUP]}, "team/podgroup/g", 3),
        ({"annotations": {"scheduling.k8s.io/group-name": "g"}}, {"pod_groups": [GROUP]}, "team/podgroup/g", 3),
        ({"schedulingGroup": {"podGroupName": "g"}}, {"pod_groups": [GROUP]}, "team/podgroup/g", 3),
        (
            {"labels": {"kueue.x-k8s.io/pod-group-name": "g"}, "annotations": {"kueue.x-k8s.io/pod-group-total-count": "3"}},
            {},
            "team/kueue/g",
            3,
        ),
        (
            {"labels": {"jobset.sigs.k8s.io/jobset-name": "g"}},
            {"job_sets": [{"metadata": {"name": "g", "namespace": "team"}, "spec": {"replicatedJobs": [{"replicas": 3, "template": {}}]}}]},
            "team/jobset/g",
            3,
        ),
        ({"owner": ("Job", "g", "u")}, {"jobs": [job("g", 3)]}, "team/job/g", 3),
    ],
)
def test_gangs_of_every_kind(marks: dict[str, Any], more: dict[str, Any], job_id: str, workers: int) -> None:
    pods = [pod(f"p-{index}", **marks) for index in range(3)]
    whole = only(read([node("n0")], pods, **more))
    assert (whole.id, whole.workers, whole.whole, whole.held) == (job_id, workers, True, True)
    half = only(read([node("n0")], pods[:2], **more))
    assert (half.workers, half.workers_seen, half.whole) == (3, 2, False)
    assert half.identity != whole.identity


def test_a_gang_whose_own_object_is_not_there_is_never_whole_and_one_not_read_is_as_large_as_seen() -> None:
    pods = [pod(f"p-{index}", labels={"scheduling.x-k8s.io/pod-group": "g"}) for index in range(2)]
    assert not only(read([node("n0")], pods, pod_groups=[])).whole
    assert only(read([node("n0")], pods)).workers == 2
    broken = GROUP | {"spec": {"minMember": "three"}}
    seen = read([node("n0")], pods, pod_groups=[broken])
    assert not only(seen).whole
    assert any("minMember" in warning for warning in seen.warnings)


def test_a_reference_to_a_workload_of_an_older_server_leaves_pods_to_their_job() -> None:
    """Kubernetes 1.35 named groups within a Workload, which nobody reads: looked for among pod groups they would never be whole."""
    pods = gang("train", 3, workloadRef={"name": "w", "podGroup": "g"})
    found = only(read([node("n0")], pods, jobs=[job("train", 3)], pod_groups=[]))
    assert (found.id, found.whole) == ("team/job/train", True)


def test_pods_that_take_work_from_a_queue_are_jobs_of_their_own_unless_asked() -> None:
    pods = gang("queue", 3)
    assert {one.id for one in read([node("n0")], pods, jobs=[job("queue", 3, 9)]).jobs} == {f"team/pod/queue-{index}" for index in range(3)}
    together = gang("queue", 3, annotations={"quartermaster.dev/gang": "true"})
    assert only(read([node("n0")], together, jobs=[job("queue", 3, 9)])).workers == 3
    apart = gang("queue", 3, annotations={"quartermaster.dev/gang": "false"})
    assert len(read([node("n0")], apart, jobs=[job("queue", 3)]).jobs) == 3


def test_a_launcher_without_gpus_has_no_seat_and_workers_get_the_largest_size() -> None:
    label: dict[str, Any] = {"labels": {"jobset.sigs.k8s.io/jobset-name": "g"}}
    pods = [pod("driver", gpus=0, cpu="16", **label), pod("w-0", gpus=4, cpu="8", **label), pod("w-1", gpus=2, cpu="12", **label)]
    found = only(read([node("n0")], pods))
    assert (found.workers, found.gpus_per_worker, found.cpu_cores) == (2, 4.0, 12.0)


def test_what_something_else_holds_is_not_planned() -> None:
    both = [{"name": GATE}, {"name": "kueue.x-k8s.io/admission"}]
    assert not only(read([node("n0")], [pod("p", schedulingGates=both)])).whole


def test_a_gang_that_has_started_is_counted_where_it_runs() -> None:
    pods = gang("big", 4)
    for index, one in enumerate(pods[:3]):
        del one["spec"]["schedulingGates"]
        one["spec"]["nodeName"] = f"n{index % 2}"
    found = only(read([node("n0"), node("n1")], pods, jobs=[job("big", 4)]))
    assert [worker.node for worker in found.running] == ["n0", "n1", "n0"]
    assert (found.workers, found.held, found.waits) == (4, True, False)
    pods[0]["status"] = {"phase": "Succeeded"}
    assert only(read([node("n0"), node("n1")], pods[:3], jobs=[job("big", 4)])).workers == 2


def test_worker_nine_comes_before_worker_ten() -> None:
    from service.plugins.kubernetes.reading import read as whole_reading

    objects = ClusterObjects(nodes=[node("n0")], pods=gang("big", 12), jobs=[job("big", 12)])
    reading = whole_reading(objects, ReadingOptions(), 0.0)
    assert [one.name for one in reading.gangs["team/job/big"].members] == [f"big-{index}" for index in range(12)]


# ---------------------------------------------------------------- priorities, budgets, times


def test_priorities_by_number_and_by_class() -> None:
    classes = [{"metadata": {"name": "high"}, "value": 1000}, {"metadata": {"name": "usual"}, "value": 7, "globalDefault": True}]
    pods = [pod("a", priority=5), pod("b", priorityClassName="high"), pod("c")]
    seen = read([node("n0")], pods, priority_classes=classes)
    assert {one.id: one.priority for one in seen.jobs} == {"team/pod/a": 5, "team/pod/b": 1000, "team/pod/c": 7}


def test_who_may_be_evicted() -> None:
    budget = {
        "metadata": {"name": "b", "namespace": "team"},
        "spec": {"selector": {"matchLabels": {"app": "kept"}}},
        "status": {"disruptionsAllowed": 0},
    }

    def evictable(budgets: list[Any], owner: Any = ("Job", "x", "u"), **more: Any) -> bool:
        running = pod("p", gated=False, owner=owner, nodeName="n0", **more)
        return only(read([node("n0")], [running], disruption_budgets=budgets)).evictable

    assert evictable([])
    assert not evictable([], owner=None)
    assert not evictable([], owner=("DaemonSet", "x", "u"))
    assert not evictable([], annotations={"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"})
    assert not evictable([budget], labels={"app": "kept"})
    assert evictable([budget], labels={"app": "other"})
    assert evictable([budget | {"status": {"disruptionsAllowed": 1}}], labels={"app": "kept"})
    assert not evictable([budget | {"spec": {"selector": "all"}}], labels={"app": "other"})  # it cannot be read: nothing is risked


def test_times_of_a_running_pod() -> None:
    running = pod("p", gated=False, nodeName="n0", activeDeadlineSeconds=60)
    running["metadata"]["creationTimestamp"] = "1970-01-01T00:01:00Z"
    running["status"] = {"phase": "Running", "startTime": "1970-01-01T00:02:00Z"}
    found = only(read([node("n0")], [running]))
    assert (found.submitted_at, found.started_at, found.ends_at) == (60.0, 120.0, 180.0)


def test_only_the_namespaces_that_are_served_have_opted_in() -> None:
    seen = read([node("n0")], [pod("p")], ReadingOptions(namespaces=frozenset({"other"})))
    assert not only(seen).opted_in
    assert only(read([node("n0")], [pod("p")], ReadingOptions(namespaces=frozenset({"team"})))).opted_in

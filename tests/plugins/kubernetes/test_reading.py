"""What is read of nodes, pods and what groups them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.plugins.kubernetes.affinity import affinity_holds, tolerated
from service.plugins.kubernetes.fields import ObjectError
from service.plugins.kubernetes.pods import read_pod, requests
from service.plugins.kubernetes.quantities import moment, quantity, seconds
from service.plugins.kubernetes.reading import ClusterObjects, ReadingOptions, snapshot
from service.plugins.kubernetes.trimming import alike, trimmed
from tests.plugins.kubernetes.manifests_made import GROUP, gang, job, node, pod

if TYPE_CHECKING:
    from service.plugins.cluster import SeenJob, Snapshot

GIB = 2**30


def read(nodes: list[Any], pods: list[Any], options: ReadingOptions | None = None, **more: Any) -> Snapshot:
    return snapshot(ClusterObjects(nodes=nodes, pods=pods, **more), options, 1000.0)


def only(seen: Snapshot) -> SeenJob:
    (found,) = seen.jobs
    return found


# ---------------------------------------------------------------- quantities


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", 0.5),
        ("2", 2.0),
        (3, 3.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1Ki", 1024.0),
        ("1.5Gi", 1.5 * GIB),
        ("2Ti", 2 * 2**40),
        ("1k", 1e3),
        ("3M", 3e6),
        ("4G", 4e9),
        ("1E", 1e18),
        ("1Ei", 2.0**60),
        ("12e6", 12e6),
        ("12E6", 12e6),
        ("1e-3", 1e-3),
        ("100n", 1e-7),
        ("5u", 5e-6),
        ("0", 0.0),
        ("128974848", 128974848.0),
    ],
)
def test_quantities(text: object, value: float) -> None:
    assert quantity(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["", "a lot", "1 Gi ", "-1", "1KiB", "0x10", None, True, [], "1e999", "\uff11", "1e", "NaN", "--1", "1mm"])
def test_what_is_no_quantity(text: object) -> None:
    with pytest.raises(ValueError, match="quantity"):
        quantity(text)


@given(st.floats(0, 1e12, allow_nan=False))
def test_seconds_and_moments_are_inverse(value: float) -> None:
    at = round(value % 4e9, 3)
    assert seconds(moment(at)) == pytest.approx(at, abs=1e-5)


def test_times_that_are_none() -> None:
    assert seconds(None) is None
    for wrong in ("yesterday", 5, ""):
        with pytest.raises(ValueError, match="time"):
            seconds(wrong)


# ---------------------------------------------------------------- requests


def container(**asked: str) -> dict[str, Any]:
    always = {"restartPolicy": "Always"} if asked.pop("always", "") else {}
    return {"name": "c", "resources": {"requests": asked}} | always


def test_init_containers_count_by_the_largest_and_sidecars_with_all() -> None:
    spec = {
        "initContainers": [container(cpu="4"), container(cpu="1", always="yes"), container(cpu="3")],
        "containers": [container(cpu="1"), container(cpu="1", memory="1Gi")],
        "overhead": {"cpu": "250m"},
    }
    assert requests(spec) == {"cpu": 4.25, "memory": GIB}  # max(4; 1; 1 + 3; 1 + 1 + 1) and the overhead
    spec["initContainers"] = [container(cpu="1", always="yes")]
    assert requests(spec)["cpu"] == 3.25


def test_limits_stand_for_absent_requests_and_pod_level_requests_go_first() -> None:
    one = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": "2", "cpu": "3"}, "requests": {"cpu": "1"}}}
    assert requests({"containers": [one]}) == {"nvidia.com/gpu": 2.0, "cpu": 1.0}
    assert requests({"containers": [one], "resources": {"requests": {"cpu": "5"}}})["cpu"] == 5.0


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=5), st.lists(st.integers(0, 8), min_size=1, max_size=4))
def test_requests_are_the_most_that_ever_run_together(inits: list[tuple[int, bool]], mains: list[int]) -> None:
    spec = {
        "initContainers": [container(cpu=str(cpu)) | ({"restartPolicy": "Always"} if sidecar else {}) for cpu, sidecar in inits],
        "containers": [container(cpu=str(cpu)) for cpu in mains],
    }
    most, sidecars = 0, 0
    for cpu, sidecar in inits:
        most = max(most, sidecars + cpu)
        sidecars += cpu if sidecar else 0
    assert requests(spec)["cpu"] == max(most, sidecars + sum(mains))


# ---------------------------------------------------------------- nodes


def test_a_node_has_what_other_pods_leave() -> None:
    labels = {
        "nvidia.com/gpu.clique": "cluster.7",
        "topology.kubernetes.io/zone": "hall-a",
        "topology.quartermaster.dev/rack": "r2",
        "nvidia.com/gpu.product": "H100",
    }
    others = [
        pod("daemon", gpus=0, cpu="500m", memory="2Gi", gated=False, nodeName="n0", owner=("DaemonSet", "daemon", "d")),
        pod("ended", gpus=0, cpu="8", gated=False, nodeName="n0") | {"status": {"phase": "Succeeded"}},
        pod("leaving", gpus=2, cpu="1", gated=False, nodeName="n0"),
        pod("coming", gpus=1, cpu="1", gated=False) | {"status": {"phase": "Pending", "nominatedNodeName": "n0"}},
    ]
    others[2]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    seen = read([node("n0", labels=labels)], others)
    (found,) = seen.nodes
    assert (found.gpus, found.cpu_cores, found.memory_gib) == (5, 61.5, 508.0)
    assert (found.gpu_model, found.gpu_memory_gib) == ("H100", 80.0)
    assert found.topology.model_dump() == {"site": "hall-a", "row": None, "rack": "r2", "nvlink_domain": "cluster.7"}


def test_topology_labels_can_be_chosen() -> None:
    options = ReadingOptions(topology_labels={"row": ("my/row", "other/row")})
    seen = read([node("n0", labels={"other/row": "7", "topology.kubernetes.io/zone": "z"})], [], options)
    assert seen.nodes[0].topology.model_dump(exclude_none=True) == {"row": "7"}


def test_states_of_nodes() -> None:
    down = node("down")
    down["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    leaving = node("leaving")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    seen = read([node("up"), node("cordoned", unschedulable=True), down, leaving], [])
    assert [one.state for one in seen.nodes] == ["ready", "cordoned", "drained", "cordoned"]


def test_a_node_version_changes_with_what_a_plan_rests_on_and_not_with_a_heartbeat() -> None:
    def version(change: Any) -> str:
        made = node("n0")
        change(made)
        return read([made], []).nodes[0].version

    before = version(lambda _: None)
    assert version(lambda one: one["status"]["conditions"][0].update(lastHeartbeatTime="2027-01-01T00:00:00Z")) == before
    assert version(lambda one: one["metadata"].update(resourceVersion="7")) == before
    for change in (
        lambda one: one["spec"].update(unschedulable=True),
        lambda one: one["status"]["allocatable"].update({"nvidia.com/gpu": "7"}),
        lambda one: one["metadata"]["labels"].update({"a": "b"}),
        lambda one: one["spec"].update(taints=[{"key": "a", "effect": "NoSchedule"}]),
        lambda one: one["status"]["nodeInfo"].update(bootID="boot-2"),
    ):
        assert version(change) != before


def test_gpus_shared_in_time_count_as_the_scheduler_counts_them() -> None:
    shared = node(
        "n0", gpus=32, labels={"nvidia.com/gpu.product": "A10-SHARED", "nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.memory": "24576"}
    )
    (found,) = read([shared], []).nodes
    assert (found.gpu_model, found.gpus, found.gpu_memory_gib) == ("A10-SHARED", 32, 6.0)


def test_hard_pins_need_a_host_name_of_its_own() -> None:
    twins = [node("n0", labels={"kubernetes.io/hostname": "same"}), node("n1", labels={"kubernetes.io/hostname": "same"}), node("n2")]
    assert [one.state for one in read(twins, []).nodes] == ["ready"] * 3
    seen = read(twins, [], ReadingOptions(hard=True))
    assert [one.state for one in seen.nodes] == ["cordoned", "cordoned", "ready"]
    assert len(seen.warnings) == 2


# ---------------------------------------------------------------- where a pod may go


TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("tolerations", "expected"),
    [
        ([], False),
        ([{"operator": "Exists"}], True),
        ([{"key": "gpu", "operator": "Exists"}], True),
        ([{"key": "gpu", "value": "yes"}], True),
        ([{"key": "gpu", "value": "no"}], False),
        ([{"key": "gpu", "value": "yes", "effect": "NoExecute"}], False),
        ([{"key": "", "operator": "Equal", "value": "yes"}], False),
    ],
)
def test_tolerations(tolerations: list[Any], expected: bool) -> None:
    assert tolerated([TAINT, {"key": "soft", "effect": "PreferNoSchedule"}], tolerations) is expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"key": "a", "operator": "In", "values": ["1", "2"]}, True),
        ({"key": "a", "operator": "NotIn", "values": ["1"]}, False),
        ({"key": "b", "operator": "NotIn", "values": ["1"]}, True),
        ({"key": "a", "operator": "Exists"}, True),
        ({"key": "b", "operator": "DoesNotExist"}, True),
        ({"key": "a", "operator": "Gt", "values": ["0"]}, True),
        ({"key": "a", "operator": "Lt", "values": ["0"]}, False),
        ({"key": "name", "operator": "Gt", "values": ["0"]}, False),
        ({"key": "b", "operator": "Lt", "values": ["0"]}, False),
    ],
)
def test_node_affinity(expression: Any, expected: bool) -> None:
    assert affinity_holds([{"matchExpressions": [expression]}], "n0", {"a": "1", "name": "x"}) is expected


def test_node_affinity_terms_are_alternatives_and_an_empty_one_selects_nothing() -> None:
    other = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n0"]}]}
    assert affinity_holds([{}, other], "n0", {})
    assert not affinity_holds([{}, other], "n1", {})
    assert not affinity_holds([], "n0", {})
    assert affinity_holds(None, "n0", {})
    with pytest.raises(ObjectError, match="unknown operator"):
        affinity_holds([{"matchExpressions": [{"key": "a", "operator": "Near"}]}], "n0", {})


def test_nodes_allowed_by_taints_affinity_and_other_resources() -> None:
    fast = node("fast", labels={"speed": "fast"})
    fast["status"]["allocatable"]["rdma/hca"] = "4"
    nodes = [
        fast,
        node("slow", labels={"speed": "slow"}),
        node("kept", taints=[TAINT]),
        node("cordoned", unschedulable=True, taints=[{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]),
    ]
    assert only(read(nodes, [pod("any")])).nodes_allowed == frozenset({"fast", "slow", "cordoned"})  # its state tells of the cordoned one
    assert only(read(nodes, [pod("all", tolerations=[{"operator": "Exists"}])])).nodes_allowed is None
    terms = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "speed", "operator": "In", "values": ["fast"]}]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    assert only(read(nodes, [pod("fast", affinity=affinity)])).nodes_allowed == frozenset({"fast"})
    asking = pod("network")
    asking["spec"]["containers"][0]["resources"]["requests"]["rdma/hca"] = "1"
    assert only(read(nodes, [asking])).nodes_allowed == frozenset({"fast"})
    assert only(read(nodes, [pod("chosen", nodeSelector={"speed": "slow"})])).node_selector == {"speed": "slow"}


def test_topology_that_is_asked_for() -> None:
    nodes = [node("n0", labels={"my/rack": "r1"})]
    options = ReadingOptions(topology_labels={"rack": ("my/rack",)})

    def asked(**annotations: str) -> tuple[str | None, bool]:
        names = {"ours": "quartermaster.dev/together", "wished": "quartermaster.dev/together-preferred"}
        names |= {"kueue": "kueue.x-k8s.io/podset-required-topology", "kueue_wished": "kueue.x-k8s.io/podset-preferred-topology"}
        found = only(read(nodes, [pod("p", annotations={names[key]: value for key, value in annotations.items()})], options))
        return found.together, found.together_required

    assert asked(ours="rack") == ("rack", True)
    assert asked(wished="row") == ("row", False)
    assert asked(kueue="my/rack") == ("rack", True)
    assert asked(kueue_wished="kubernetes.io/hostname") == ("node", False)
    assert asked() == (None, True)


def test_workers_that_must_not_share_a_node() -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    pods = gang("big", 2, affinity=affinity, labels={"app": "x"})
    assert only(read([node("n0")], pods, jobs=[job("big", 2)])).one_worker_per_node
    pods = gang("big", 2, affinity=affinity, labels={"app": "y"})
    assert not only(read([node("n0")], pods, jobs=[job("big", 2)])).one_worker_per_node
    assert read_pod(pods[0]).unmodelled == ("required pod anti-affinity",)


# ---------------------------------------------------------------- what is broken


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PATHS = st.sampled_from(
    [
        ("metadata",),
        ("metadata", "name"),
        ("metadata", "namespace"),
        ("metadata", "labels"),
        ("metadata", "annotations"),
        ("metadata", "ownerReferences"),
        ("metadata", "creationTimestamp"),
        ("spec",),
        ("spec", "containers"),
        ("spec", "nodeName"),
        ("spec", "schedulingGates"),
        ("spec", "affinity"),
        ("spec", "tolerations"),
        ("spec", "priority"),
        ("spec", "nodeSelector"),
        ("spec", "taints"),
        ("spec", "overhead"),
        ("spec", "volumes"),
        ("spec", "parallelism"),
        ("status",),
        ("status", "phase"),
        ("status", "allocatable"),
        ("status", "conditions"),
        ("status", "disruptionsAllowed"),
    ]
)


@given(st.sampled_from(["nodes", "pods", "jobs", "pod_groups", "job_sets", "priority_classes", "disruption_budgets"]), PATHS, JSON)
def test_one_broken_object_never_stops_the_rest(kind: str, path: tuple[str, ...], value: Any) -> None:
    made: dict[str, Any] = {
        "nodes": node("odd"),
        "pods": pod("odd", owner=("Job", "odd", "u")),
        "jobs": job("odd", 2),
        "pod_groups": json.loads(json.dumps(GROUP)),
        "job_sets": {"metadata": {"name": "s"}, "spec": {"replicatedJobs": []}},
        "priority_classes": {"metadata": {"name": "c"}, "value": 1},
        "disruption_budgets": {"metadata": {"name": "b", "namespace": "team"}, "spec": {"selector": {}}, "status": {}},
    }
    broken = made[kind]
    holder = broken
    for step in path[:-1]:
        holder = holder.setdefault(step, {})
    holder[path[-1]] = value
    objects: dict[str, list[Any]] = {name: [] for name in made} | {"nodes": [node("n0")], "pods": [pod("good")]}
    objects[kind] = [*objects[kind], broken, value]
    if kind == "jobs":
        objects["pods"].append(pod("odd", owner=("Job", "odd", "u")))
    trimmed(broken)
    seen = snapshot(ClusterObjects(**objects), None, 0.0)
    assert seen.job("team/pod/good") is not None
    assert seen.node("n0") is not None


def test_a_node_with_an_unreadable_pod_takes_no_new_ones() -> None:
    bad = pod("bad", gated=False, nodeName="n0")
    bad["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "much"
    seen = read([node("n0"), node("n1")], [bad])
    assert [one.state for one in seen.nodes] == ["cordoned", "ready"]
    assert len(seen.warnings) == 2


def test_a_list_as_kubectl_prints_it() -> None:
    document = {"kind": "List", "items": [node("n0"), pod("p")]}
    seen = snapshot(ClusterObjects.of_list(json.loads(json.dumps(document))), None, 5.0)
    assert (len(seen.nodes), len(seen.jobs), seen.taken_at, seen.scheduler) == (1, 1, 5.0, "kubernetes")
    wrongs: list[object] = [None, {"items": 3}, []]
    for wrong in wrongs:
        with pytest.raises(ObjectError):
            ClusterObjects.of_list(wrong)


def test_trimming_changes_nothing_that_is_read() -> None:
    full = pod("p", annotations={"kubectl.kubernetes.io/last-applied-configuration": "x" * 1000, "quartermaster.dev/together": "rack"})
    full["spec"]["containers"][0] |= {"env": [{"name": "A", "value": "b"}], "command": ["run"]}
    full["metadata"]["managedFields"] = [{"manager": "x"}]
    full["status"] |= {"conditions": [], "containerStatuses": []}
    small = trimmed(full)
    assert len(json.dumps(small)) < len(json.dumps(full)) / 2
    assert read([node("n0")], [small]) == read([node("n0")], [full])
    beat = node("n0")
    beat["status"]["conditions"][0]["lastHeartbeatTime"] = "2027-01-01T00:00:00Z"
    beat["metadata"]["resourceVersion"] = "9"
    assert alike(trimmed(node("n0")), trimmed(beat))
    assert read([trimmed(beat)], []) == read([node("n0")], [])


def test_long_names_stay_unique_ids() -> None:
    names = ["x" * 252 + end for end in "ab"]
    ids = [only(read([node("n0")], [pod(name)])).id for name in names]
    assert len(set(ids)) == 2
    assert all(len(one) <= 253 for one in ids)

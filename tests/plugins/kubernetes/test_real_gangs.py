"""Gangs of every kind on a real API server: Kubernetes' own pod groups, and custom resources that come and go while the plugin runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.plugins.daemons import until
from benchmarks.plugins.kubernetes import TEAM, following, gated, gpu_job, node_of, planned_node, ready, submit
from benchmarks.plugins.kubernetes_cluster import ENDED, RealKubernetes, finish
from service.plugins.kubernetes.cache import JOB_SETS, POD_GROUPS, Cache
from service.plugins.kubernetes.connection import ApiRefusedError
from tests.plugins.kubernetes.conftest import skip_without_programs
from tests.plugins.kubernetes.manifests_made import pod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.plugins.kubernetes_cluster import Manifest
    from service.plugins.kubernetes.watching import Resource

OWN, COSCHEDULING, VOLCANO = POD_GROUPS
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SCHEMA = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
NOTICED_S = 60.0
WORKERS = 3


def names(resource: Resource) -> tuple[str, str, str]:
    """Group, version and plural of a resource, by its path."""
    group, version, plural = resource.path.split("/")[2:]
    return group, version, plural


def define(kubernetes: RealKubernetes, resource: Resource) -> None:
    """The custom resource, as its installation would."""
    group, version, plural = names(resource)
    kind = resource.kind.partition(" ")[0]
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
        "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}}],
    }
    about = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{plural}.{group}"}}
    kubernetes.add(DEFINITIONS, about | {"spec": spec})
    assert until(lambda: is_served(kubernetes, resource), 60.0)


def is_served(kubernetes: RealKubernetes, resource: Resource) -> bool:
    try:
        return kubernetes.found(resource.path) is not None
    except ApiRefusedError:  # 429 while its storage is made
        return False


def undefine(kubernetes: RealKubernetes, *resources: Resource) -> None:
    for resource in resources:
        group, _, plural = names(resource)
        path = f"{DEFINITIONS}/{plural}.{group}"
        if kubernetes.found(path) is not None:
            kubernetes.admin.delete(path, {})
        assert until(lambda path=path: kubernetes.found(path) is None, 60.0)  # type: ignore[misc]
        assert until(lambda resource=resource: kubernetes.found(resource.path) is None, 60.0)  # type: ignore[misc]


def add_group(kubernetes: RealKubernetes, resource: Resource, name: str, spec: Manifest) -> None:
    group, version, plural = names(resource)
    about = {"apiVersion": f"{group}/{version}", "kind": resource.kind.partition(" ")[0], "metadata": {"name": name}}
    kubernetes.add(f"/apis/{group}/{version}/namespaces/{TEAM}/{plural}", about | {"spec": spec})


def add_pods(kubernetes: RealKubernetes, name: str, since: int = 0, count: int = WORKERS, **marks: Any) -> None:
    for at in range(since, count):
        kubernetes.add(f"/api/v1/namespaces/{TEAM}/pods", pod(f"{name}-{at}", gpus=6, **marks))


def run_together(kubernetes: RealKubernetes, count: int = WORKERS) -> bool:
    """Whether so many pods run on the nodes that the plan gave them."""
    found = kubernetes.pods(TEAM)
    return len(found) == count and all(node_of(one) for one in found)


def live(kubernetes: RealKubernetes) -> list[Manifest]:
    """The pods that are on a node and have not ended."""
    return [one for one in kubernetes.pods(TEAM) if node_of(one) and one["status"]["phase"] not in ENDED]


def on_plan(kubernetes: RealKubernetes) -> bool:
    return all(node_of(one) == planned_node(one) for one in kubernetes.pods(TEAM))


SPECS: dict[str, tuple[Resource, Manifest]] = {
    "jobset": (
        JOB_SETS,
        {"replicatedJobs": [{"name": "w", "replicas": WORKERS, "template": {"spec": {"parallelism": 1, "completions": 1}}}]},
    ),
    "coscheduling": (COSCHEDULING, {"minMember": WORKERS}),
    "volcano": (VOLCANO, {"minMember": WORKERS, "queue": "default"}),
}
MARKS: dict[str, dict[str, Any]] = {
    "jobset": {"labels": {"jobset.sigs.k8s.io/jobset-name": "jobset"}},
    "coscheduling": {"labels": {"scheduling.x-k8s.io/pod-group": "coscheduling"}},
    "volcano": {"annotations": {"scheduling.k8s.io/group-name": "volcano"}},
}


@pytest.fixture
def kubernetes(real_kubernetes: RealKubernetes) -> Iterator[RealKubernetes]:
    """Four nodes of eight GPUs, and nothing on them; no custom resources."""
    ready(real_kubernetes, 4)
    yield real_kubernetes
    undefine(real_kubernetes, JOB_SETS, COSCHEDULING, VOLCANO)
    real_kubernetes.clear()


@pytest.mark.parametrize("kind", SPECS)
def test_a_gang_waits_until_it_is_whole_and_starts_whole(kubernetes: RealKubernetes, kind: str) -> None:
    resource, spec = SPECS[kind]
    define(kubernetes, resource)
    add_group(kubernetes, resource, kind, spec)
    with following(kubernetes) as rounds:
        add_pods(kubernetes, "w", 0, 2, **MARKS[kind])
        assert until(lambda: len(rounds) >= 3)
        assert all(map(gated, kubernetes.pods(TEAM)))
        add_pods(kubernetes, "w", 2, **MARKS[kind])
        assert until(lambda: run_together(kubernetes), 60.0)
    assert on_plan(kubernetes)


def test_kinds_come_and_go_while_the_plugin_runs(kubernetes: RealKubernetes) -> None:
    """Each is noticed long before its gangs are given up; one that goes takes nothing else along, and may come back."""
    with following(kubernetes, fallback_s=3600.0) as rounds:
        assert until(lambda: rounds)
        for kind, (resource, spec) in SPECS.items():
            define(kubernetes, resource)
            add_group(kubernetes, resource, kind, spec)
            add_pods(kubernetes, kind, **MARKS[kind])
        for _ in SPECS:  # there is room for one at a time
            assert until(lambda: len(live(kubernetes)) == WORKERS, NOTICED_S)
            assert len({one["metadata"]["name"].rpartition("-")[0] for one in live(kubernetes)}) == 1
            assert all(node_of(one) == planned_node(one) for one in live(kubernetes))
            for one in live(kubernetes):
                finish(kubernetes.admin, one)
        kubernetes.clear_pods()
        undefine(kubernetes, *(resource for resource, _ in SPECS.values()))
        before = len(rounds)
        add_pods(kubernetes, "alone")
        assert until(lambda: run_together(kubernetes), NOTICED_S)
        assert on_plan(kubernetes)
        assert all(one.trouble is None for one in rounds[before:])
        kubernetes.clear_pods()
        define(kubernetes, JOB_SETS)
        add_group(kubernetes, JOB_SETS, "jobset", SPECS["jobset"][1])
        add_pods(kubernetes, "again", **MARKS["jobset"])
        assert until(lambda: run_together(kubernetes), NOTICED_S)
        assert on_plan(kubernetes)


def test_what_is_kept_of_a_kind_goes_with_it(kubernetes: RealKubernetes) -> None:
    define(kubernetes, COSCHEDULING)
    add_group(kubernetes, COSCHEDULING, "g", {"minMember": 2})
    cache = Cache(kubernetes.admin)
    try:
        cache.start()
        cache.wait_listed(30.0)
        assert [one["metadata"]["name"] for one in cache.objects().pod_groups or ()] == ["g"]  # type: ignore[index]
        undefine(kubernetes, COSCHEDULING)
        assert until(lambda: cache.objects().pod_groups == [], NOTICED_S)
        assert sum(one.malformed for one in cache.watching.watchers.values()) == 0
    finally:
        cache.stop()


# ---------------------------------------------------------------- the scheduler's own groups


MORE = {
    "kube-apiserver": ("--runtime-config=scheduling.k8s.io/v1alpha2=true", "--feature-gates=GenericWorkload=true,WorkloadWithJob=true"),
    "kube-controller-manager": ("--feature-gates=GenericWorkload=true,GangScheduling=true,WorkloadWithJob=true",),
    "kube-scheduler": ("--feature-gates=GenericWorkload=true,GangScheduling=true",),
}


class WithGroups(RealKubernetes):
    """A cluster whose API server has PodGroups of its own, and whose scheduler starts them together."""

    def _launch(self, program: str, *flags: str) -> None:
        super()._launch(program, *flags, *MORE.get(program, ()))


@pytest.fixture(scope="module")
def with_groups() -> Iterator[RealKubernetes]:
    skip_without_programs()
    with WithGroups() as real:
        yield real


@pytest.fixture
def grouped(with_groups: RealKubernetes) -> Iterator[RealKubernetes]:
    """Four nodes of eight GPUs, and nothing on them."""
    if with_groups.found(OWN.path) is None:
        pytest.skip(f"Kubernetes {with_groups.version} serves no {OWN.path}")
    ready(with_groups, 4)
    yield with_groups
    with_groups.clear()


def properties(kubernetes: RealKubernetes, schema: str, path: str) -> dict[str, Any]:
    """The fields of a type, as the server itself describes them."""
    found: dict[str, Any] = kubernetes.admin.get(f"/openapi/v3{path}")["components"]["schemas"][schema]["properties"]
    return found


def test_the_fields_that_are_read_are_those_that_the_server_describes(grouped: RealKubernetes) -> None:
    path, prefix = "/apis/scheduling.k8s.io/v1alpha2", "io.k8s.api.scheduling.v1alpha2"
    assert "schedulingPolicy" in properties(grouped, f"{prefix}.PodGroupSpec", path)
    assert set(properties(grouped, f"{prefix}.PodGroupSchedulingPolicy", path)) == {"basic", "gang"}
    assert set(properties(grouped, f"{prefix}.GangSchedulingPolicy", path)) == {"minCount"}
    assert "schedulingGroup" in properties(grouped, "io.k8s.api.core.v1.PodSpec", "/api/v1")
    assert set(properties(grouped, "io.k8s.api.core.v1.PodSchedulingGroup", "/api/v1")) == {"podGroupName"}


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_a_group_of_the_schedulers_own_starts_whole_where_the_plan_says(grouped: RealKubernetes, hard: bool) -> None:
    name = f"own-{hard}".lower()
    add_group(grouped, OWN, name, {"schedulingPolicy": {"gang": {"minCount": WORKERS}}})
    with following(grouped, hard=hard) as rounds:
        add_pods(grouped, "w", 0, 2, schedulingGroup={"podGroupName": name})
        assert until(lambda: len(rounds) >= 3)
        assert all(map(gated, grouped.pods(TEAM)))
        add_pods(grouped, "w", 2, schedulingGroup={"podGroupName": name})
        assert until(lambda: run_together(grouped), 60.0)
    nodes, planned = ([of(one) for one in grouped.pods(TEAM)] for of in (node_of, planned_node))
    assert (nodes if hard else sorted(nodes)) == (planned if hard else sorted(planned))  # softly, two may change places


def test_a_group_that_the_job_controller_makes_starts_whole(grouped: RealKubernetes) -> None:
    with following(grouped) as rounds:
        submit(grouped, [gpu_job("train", WORKERS, 6)])
        assert until(lambda: run_together(grouped), 60.0)
    assert sorted(map(node_of, grouped.pods(TEAM))) == sorted(map(planned_node, grouped.pods(TEAM)))
    assert all(one["spec"]["schedulingGroup"]["podGroupName"].startswith("train-") for one in grouped.pods(TEAM))
    assert [one.job.partition("-")[0] for each in rounds for one in each.committed] == [f"{TEAM}/podgroup/train"]


def test_a_basic_group_is_no_gang(grouped: RealKubernetes) -> None:
    add_group(grouped, OWN, "basic", {"schedulingPolicy": {"basic": {}}})
    with following(grouped):
        add_pods(grouped, "w", 0, 6, schedulingGroup={"podGroupName": "basic"})
        assert until(lambda: sum(bool(node_of(one)) for one in grouped.pods(TEAM)) == 4, 60.0)
        assert sum(map(gated, grouped.pods(TEAM))) == 2

"""The stub is no kinder than a real API server: what that refuses, the stub refuses, by the official client too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.kubernetes.conftest import Cluster
from tests.plugins.kubernetes.manifests_made import GATE, node, pod

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "kubernetes.io/hostname"
MERGE = "application/merge-patch+json"


@pytest.fixture
def patch(cluster: Cluster) -> Callable[..., tuple[int, str]]:
    """Status and message of a JSON patch (a list) or a merge patch of a pod."""
    store = cluster.stub.store

    def ask(name: str, body: Any, sub: str = "") -> tuple[int, str]:
        from tests.plugins.kubernetes.stub_store import StatusError

        try:
            kind = "application/json-patch+json" if isinstance(body, list) else MERGE
            store.patch("pods", "team", name, kind, body, sub=sub)
        except StatusError as error:
            return error.code, error.message
        return 200, ""

    return ask


def test_gates_can_only_go(cluster: Cluster, patch: Any) -> None:
    cluster.stub.store.create("pods", pod("gated"), "team")
    cluster.stub.store.create("pods", pod("free", gated=False), "team")
    gates = {"spec": {"schedulingGates": [{"name": GATE}]}}
    code, message = patch("free", gates)
    assert (code, "only deletion is allowed" in message) == (422, True)
    assert patch("gated", {"spec": {"schedulingGates": [{"name": GATE}, {"name": "more/gate"}]}})[0] == 422
    assert patch("gated", [{"op": "remove", "path": "/spec/schedulingGates/0"}])[0] == 200
    assert patch("gated", gates)[0] == 422


def test_a_selector_is_tightened_while_gated_and_fixed_afterwards(cluster: Cluster, patch: Any) -> None:
    cluster.stub.store.create("pods", pod("p", nodeSelector={"a": "1"}), "team")
    assert patch("p", {"spec": {"nodeSelector": {"a": "2"}}})[0] == 422
    assert patch("p", {"spec": {"nodeSelector": {"a": None}}})[0] == 422
    both = [{"op": "add", "path": "/spec/nodeSelector/b", "value": "1"}, {"op": "remove", "path": "/spec/schedulingGates/0"}]
    assert patch("p", both)[0] == 200
    code, message = patch("p", {"spec": {"nodeSelector": {"c": "1"}}})
    assert (code, "may not change fields" in message) == (422, True)


def test_other_fields_are_fixed(cluster: Cluster, patch: Any) -> None:
    cluster.stub.store.create("pods", pod("p"), "team")
    assert patch("p", {"spec": {"priority": 7}})[0] == 422
    assert patch("p", {"spec": {"nodeName": "n0"}})[0] == 422
    assert patch("p", [{"op": "replace", "path": "/spec/containers/0/resources", "value": {}}])[0] == 422
    assert patch("p", {"metadata": {"labels": {"new": "label"}}})[0] == 200


def test_preconditions_hold(cluster: Cluster, patch: Any) -> None:
    made = cluster.stub.store.create("pods", pod("p"), "team")
    version = made["metadata"]["resourceVersion"]
    assert patch("p", {"metadata": {"labels": {"a": "b"}}})[0] == 200
    assert patch("p", [{"op": "test", "path": "/metadata/resourceVersion", "value": version}])[0] == 422
    assert patch("p", {"metadata": {"resourceVersion": version, "labels": {"a": "c"}}})[0] == 409
    assert patch("p", [{"op": "replace", "path": "/metadata/uid", "value": "other"}])[0] == 409
    assert patch("p", [{"op": "remove", "path": "/spec/nothing"}])[0] == 422


def test_spec_and_status_are_written_apart(cluster: Cluster, patch: Any) -> None:
    cluster.stub.store.create("pods", pod("p"), "team")
    assert patch("p", {"status": {"nominatedNodeName": "n0"}})[0] == 200
    assert "nominatedNodeName" not in cluster.pods()["p"]["status"]
    assert patch("p", {"status": {"nominatedNodeName": "n0"}, "spec": {"schedulingGates": None}}, "status")[0] == 200
    assert cluster.pods()["p"]["status"]["nominatedNodeName"] == "n0"
    assert cluster.gated() == {"p"}
    assert patch("p", {"status": {"nominatedNodeName": "Not A Name"}}, "status")[0] == 422


def test_a_gated_pod_cannot_be_bound_nor_made_on_a_node(cluster: Cluster) -> None:
    from tests.plugins.kubernetes.stub_store import StatusError

    store = cluster.stub.store
    store.create("nodes", node("n0"))
    store.create("pods", pod("p"), "team")
    with pytest.raises(StatusError, match="non-empty"):
        store.bind("team", "p", "n0")
    with pytest.raises(StatusError, match="schedulingGates"):
        store.create("pods", pod("q", nodeName="n0"), "team")
    with pytest.raises(StatusError, match="already exists"):
        store.create("pods", pod("p"), "team")


def test_dry_runs_check_and_change_nothing(cluster: Cluster) -> None:
    store = cluster.stub.store
    before = store.create("pods", pod("p"), "team")
    version = store.version
    remove = [{"op": "remove", "path": "/spec/schedulingGates/0"}]
    assert store.patch("pods", "team", "p", "application/json-patch+json", remove, dry_run=True)["spec"]["schedulingGates"] == []
    assert store.get("pods", "team", "p") == before
    assert store.version == version


def test_the_official_client_reads_and_watches_it(cluster: Cluster) -> None:
    cluster.add_nodes(2)
    cluster.add_gang("big", 2)
    client = pytest.importorskip("kubernetes.client")
    config = pytest.importorskip("kubernetes.config")
    watch = pytest.importorskip("kubernetes.watch")
    found = client.Configuration()
    config.load_kube_config(str(cluster.stub.kubeconfig(cluster.folder)), client_configuration=found)
    with client.ApiClient(found) as api:
        core = client.CoreV1Api(api)
        assert {one.metadata.name for one in core.list_node().items} == {"n0", "n1"}
        pods = core.list_pod_for_all_namespaces(field_selector="status.phase=Pending")
        assert {one.spec.scheduling_gates[0].name for one in pods.items} == {GATE}
        with pytest.raises(client.exceptions.ApiException) as refused:
            core.read_namespaced_pod("none", "team")
        assert refused.value.status == 404
        events = watch.Watch().stream(core.list_node, resource_version="100", timeout_seconds=1)
        assert {(event["type"], event["object"].metadata.name) for event in events} == {("ADDED", "n0"), ("ADDED", "n1")}

"""The stub is no kinder than a real API server. Where there is a real one, each of these is asked of both."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.kubernetes.api import Api
from tests.plugins.kubernetes.conftest import Cluster
from tests.plugins.kubernetes.manifests_made import GATE, node, pod
from tests.plugins.kubernetes.stub import ApiServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["stub", "real"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    if request.param == "real":
        real = request.getfixturevalue("real_kubernetes")
        namespace = f"rules-{uuid.uuid4().hex[:8]}"
        real.add_namespace(namespace)
        asking = Api(real.kubeconfig, namespace)
        yield asking
        asking.ask("DELETE", f"/api/v1/namespaces/{namespace}")
        asking.close()
    else:
        stub = ApiServer()
        asking = Api(stub.kubeconfig(tmp_path), "team")
        yield asking
        asking.close()
        stub.end()


def made(api: Api, name: str, **kind: Any) -> Any:
    code, found = api.create(pod(name, **kind))
    assert code == 201, found
    return found


def test_gates_can_only_go(api: Api) -> None:
    made(api, "gated")
    made(api, "free", gated=False)
    gates = {"spec": {"schedulingGates": [{"name": GATE}]}}
    code, message = api.patch("free", gates)
    assert (code, "only deletion is allowed" in message) == (422, True)
    assert api.patch("gated", {"spec": {"schedulingGates": [{"name": GATE}, {"name": "more/gate"}]}})[0] == 422
    assert api.patch("gated", [{"op": "remove", "path": "/spec/schedulingGates/0"}])[0] == 200
    assert api.patch("gated", gates)[0] == 422


def test_a_selector_is_tightened_while_gated_and_fixed_afterwards(api: Api) -> None:
    made(api, "p", nodeSelector={"a": "1"})
    assert api.patch("p", {"spec": {"nodeSelector": {"a": "2"}}})[0] == 422
    assert api.patch("p", {"spec": {"nodeSelector": {"a": None}}})[0] == 422
    both = [{"op": "add", "path": "/spec/nodeSelector/b", "value": "1"}, {"op": "remove", "path": "/spec/schedulingGates/0"}]
    assert api.patch("p", both)[0] == 200
    code, message = api.patch("p", {"spec": {"nodeSelector": {"c": "1"}}})
    assert (code, "may not change fields" in message) == (422, True)


def test_other_fields_are_fixed(api: Api) -> None:
    made(api, "p")
    assert api.patch("p", {"spec": {"priority": 7}})[0] == 422
    assert api.patch("p", {"spec": {"nodeName": "n0"}})[0] == 422
    assert api.patch("p", [{"op": "replace", "path": "/spec/containers/0/resources", "value": {}}])[0] == 422
    assert api.patch("p", {"metadata": {"labels": {"new": "label"}}})[0] == 200


def test_preconditions_hold(api: Api) -> None:
    version = made(api, "p")["metadata"]["resourceVersion"]
    assert api.patch("p", {"metadata": {"labels": {"a": "b"}}})[0] == 200
    assert api.patch("p", [{"op": "test", "path": "/metadata/resourceVersion", "value": version}])[0] == 422
    assert api.patch("p", {"metadata": {"resourceVersion": version, "labels": {"a": "c"}}})[0] == 409
    assert api.patch("p", [{"op": "replace", "path": "/metadata/uid", "value": "other"}])[0] == 422
    assert api.patch("p", [{"op": "remove", "path": "/spec/nothing"}])[0] == 422


def test_spec_and_status_are_written_apart(api: Api) -> None:
    made(api, "p")
    assert api.patch("p", {"status": {"nominatedNodeName": "n0"}})[0] == 200
    assert "nominatedNodeName" not in api.pod("p")["status"]
    assert api.patch("p", {"status": {"nominatedNodeName": "n0"}, "spec": {"schedulingGates": None}}, "status")[0] == 200
    after = api.pod("p")
    assert after["status"]["nominatedNodeName"] == "n0"
    assert after["spec"]["schedulingGates"] == [{"name": GATE}]
    assert api.patch("p", {"status": {"nominatedNodeName": "Not A Name"}}, "status")[0] == 422


def test_a_gated_pod_cannot_be_bound_nor_made_on_a_node(api: Api) -> None:
    code, found = api.ask("POST", "/api/v1/nodes", node(f"n-{api.namespace}"))
    assert code == 201, found
    made(api, "p")
    code, message = api.bind("p", f"n-{api.namespace}")
    assert (code >= 400, "non-empty" in message) == (True, True), message
    code, found = api.create(pod("q", nodeName=f"n-{api.namespace}"))
    assert (code, "schedulingGates" in found["message"]) == (422, True)
    code, found = api.create(pod("p"))
    assert (code, "already exists" in found["message"]) == (409, True)
    api.ask("DELETE", f"/api/v1/nodes/n-{api.namespace}")


def test_gpus_are_limited_as_they_are_requested(api: Api) -> None:
    asked = pod("p", gpus=2)
    del asked["spec"]["containers"][0]["resources"]["limits"]
    code, found = api.create(asked)
    assert (code, "Limit must be set" in found["message"]) == (422, True)


def test_dry_runs_check_and_change_nothing(api: Api) -> None:
    before = made(api, "p")
    assert api.patch("p", [{"op": "remove", "path": "/spec/schedulingGates/0"}], dryRun="All")[0] == 200
    assert api.patch("p", {"spec": {"nodeName": "n0"}}, dryRun="All")[0] == 422
    assert api.pod("p") == before


def test_a_message_that_is_no_event_is_refused(api: Api) -> None:
    about = {"kind": "Pod", "namespace": api.namespace, "name": "p"}
    event = {"metadata": {"name": "p.1"}, "involvedObject": about, "type": "Normal", "reason": "Planned", "message": "a", "source": {}}
    path = f"/api/v1/namespaces/{api.namespace}/events"
    assert api.ask("POST", path, event)[0] == 201
    elsewhere = event | {"metadata": {"name": "p.2"}, "involvedObject": about | {"namespace": "elsewhere"}}
    assert api.ask("POST", path, elsewhere)[0] in {400, 422}


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

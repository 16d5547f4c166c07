"""The gate controller on a real API server: one that QUARTERMASTER_TEST_KUBECONFIG names and that may be written to, or the tests' own.

It needs no nodes: pods are made with the gate in a namespace of their own, released, and looked at. Nothing else is touched.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.plugins.kubernetes.cache import Cache
from service.plugins.kubernetes.connection import ApiRefusedError, Connection
from service.plugins.kubernetes.gates import Gates
from service.plugins.kubernetes.jobs import RELEASED
from service.plugins.kubernetes.nodes import ReadingOptions
from service.plugins.kubernetes.pods import read_pod
from service.plugins.kubernetes.releases import Release, nominate, pod_path, ungate
from service.plugins.kubernetes.releasing import Releasing
from service.plugins.orders import Wait
from tests.plugins.kubernetes.conftest import until
from tests.plugins.kubernetes.manifests_made import GATE, pod

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = os.environ.get("QUARTERMASTER_TEST_KUBECONFIG")
HOST = "kubernetes.io/hostname"


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[tuple[Connection, str]]:
    kubeconfig = Path(FILE) if FILE else request.getfixturevalue("real_kubernetes").kubeconfig
    connection, namespace = Connection.opened(kubeconfig, timeout_s=20.0), f"quartermaster-test-{uuid.uuid4().hex[:8]}"
    connection.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    yield connection, namespace
    connection.delete(f"/api/v1/namespaces/{namespace}", {"apiVersion": "v1", "kind": "DeleteOptions"})


def make(server: tuple[Connection, str], name: str, **more: Any) -> Any:
    connection, namespace = server
    manifest = pod(name, gpus=0, **more)
    manifest["metadata"]["namespace"] = namespace
    manifest["spec"] |= {"automountServiceAccountToken": False}
    return read_pod(connection.post(f"/api/v1/namespaces/{namespace}/pods", manifest))


def test_pods_are_pinned_and_released_in_one_patch_and_a_second_is_refused(server: tuple[Connection, str]) -> None:
    connection, _ = server
    made = make(server, "hard")
    operations = ungate(Release(made, "n0", "n0"), GATE)
    assert read_pod(connection.patch(pod_path(made), operations, dry_run=True)).gates == ()
    after = read_pod(connection.patch(pod_path(made), operations))
    assert (after.gates, after.node_selector[HOST]) == ((), "n0")
    with pytest.raises(ApiRefusedError):
        connection.patch(pod_path(made), operations)
    with pytest.raises(ApiRefusedError):
        connection.patch(pod_path(made), [{"op": "add", "path": "/spec/nodeSelector", "value": {HOST: "n1"}}])


def test_a_node_is_nominated_while_gated(server: tuple[Connection, str]) -> None:
    connection, _ = server
    made = make(server, "soft")
    after = read_pod(connection.patch(pod_path(made, status=True), nominate(Release(made, "n0"))))
    assert (after.nominated_node, after.gates) == ("n0", (GATE,))
    assert read_pod(connection.patch(pod_path(after), ungate(Release(after, "n0"), GATE))).gates == ()


def test_a_gang_of_which_a_pod_has_changed_stays_held(server: tuple[Connection, str]) -> None:
    connection, _ = server
    pods = [make(server, f"gang-{index}") for index in range(3)]
    connection.patch(pod_path(pods[2]), [{"op": "add", "path": "/metadata/labels", "value": {"changed": "yes"}}])
    releasing = Releasing(connection, GATE, lambda _: None)
    try:
        ended = releasing.together([Release(one, "n0") for one in pods], releasing.now() + 10)
        assert ended.outcome == "refused"
        assert all(read_pod(connection.get(pod_path(one))).gates for one in pods)
        fresh = [read_pod(connection.get(pod_path(one))) for one in pods]
        assert releasing.together([Release(one, "n0") for one in fresh], releasing.now() + 10).outcome == "done"
        assert not any(read_pod(connection.get(pod_path(one))).gates for one in pods)
    finally:
        releasing.close()


def test_the_adapter_sees_tells_and_frees(server: tuple[Connection, str]) -> None:
    connection, namespace = server
    made = make(server, "free")
    cache = Cache(connection)
    gates = Gates(connection, cache, ReadingOptions(namespaces=frozenset({namespace})), mends=True)
    try:
        cache.start()
        cache.wait_listed(30.0)
        name = f"{namespace}/pod/free"
        until(lambda: gates.snapshot().job(name) is not None, limit_s=20)
        gates.tell([Wait(name, "", "waiting for a test")])
        events = connection.get(f"/api/v1/namespaces/{namespace}/events")["items"]
        assert any(event["message"] == "waiting for a test" for event in events)
        assert gates.free([name]) == (name,)
        assert RELEASED in read_pod(connection.get(pod_path(made))).annotations
    finally:
        gates.close()

"""A stub of the API server, and an adapter that follows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.plugins.kubernetes_cluster import RealKubernetes, why_not
from service.plugins.kubernetes.cache import Cache
from service.plugins.kubernetes.connection import Connection
from service.plugins.kubernetes.gates import Gates
from service.plugins.kubernetes.nodes import ReadingOptions
from service.plugins.orders import Order, Seat
from tests.plugins.kubernetes.kube_scheduler import KubeScheduler
from tests.plugins.kubernetes.manifests_made import gang, job, node
from tests.plugins.kubernetes.stub import ApiServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from service.plugins.cluster import Snapshot


@dataclass
class Cluster:
    """A stub with nodes, a scheduler to step, and adapters that are closed at the end."""

    stub: ApiServer
    folder: Path
    scheduler: KubeScheduler
    opened: list[Gates] = field(default_factory=list)

    def gates(self, *, hard: bool = False, mends: bool = True, **options: Any) -> Gates:
        connection = Connection.opened(self.stub.kubeconfig(self.folder), timeout_s=5.0)
        cache = Cache(connection, watch_s=options.pop("watch_s", 2.0), stale_s=options.pop("stale_s", 15.0))
        cache.start()
        cache.wait_listed(10.0)
        made = Gates(connection, cache, ReadingOptions(hard=hard), mends=mends, **options)
        self.opened.append(made)
        return made

    def add_nodes(self, count: int, **kind: Any) -> None:
        for index in range(count):
            self.stub.store.create("nodes", node(f"n{index}", **kind))

    def add_gang(self, name: str, size: int, **kind: Any) -> None:
        self.stub.store.create("jobs", job(name, size), "team")
        for one in gang(name, size, **kind):
            self.stub.store.create("pods", one, "team")

    def pods(self) -> dict[str, dict[str, Any]]:
        return {one["metadata"]["name"]: one for one in self.stub.store.all("pods")}

    def gated(self) -> set[str]:
        return {name for name, one in self.pods().items() if one["spec"].get("schedulingGates")}

    def places(self) -> dict[str, str]:
        return {name: one["spec"].get("nodeName", "") for name, one in self.pods().items()}


@pytest.fixture(scope="session")
def real_kubernetes() -> Iterator[RealKubernetes]:
    """One control plane of a Kubernetes release for all tests of the session that ask for it."""
    skip_without_programs()
    with RealKubernetes() as real:
        yield real


def skip_without_programs() -> None:
    """Where no control plane can be started."""
    reason = why_not()
    if reason is not None:
        pytest.skip(f"no real Kubernetes: {reason}")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    pytest.importorskip("kubernetes", reason="the official client is not installed: pip install 'quartermaster[kubernetes]'")
    stub = ApiServer()
    made = Cluster(stub, tmp_path, KubeScheduler(stub.store))
    yield made
    made.scheduler.stop()
    for one in made.opened:
        one.close()
    stub.end()


def order_for(snapshot: Snapshot, job_id: str, *nodes: str) -> Order:
    """An order as the core would make it from this snapshot."""
    seen = snapshot.job(job_id)
    assert seen is not None, [one.id for one in snapshot.jobs]
    versions = {one.id: one.version for one in snapshot.nodes}
    return Order(job_id, seen.identity, tuple(Seat(name) for name in nodes), {name: versions.get(name, "") for name in nodes}, "It fits.")


def until(done: Callable[[], bool], snapshot: Callable[[], Any] | None = None, limit_s: float = 8.0) -> None:
    """Wait for something that must come true."""
    import time

    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline, "it did not come true in time"
        if snapshot is not None:
            snapshot()
        time.sleep(0.01)

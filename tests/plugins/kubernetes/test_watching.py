"""Objects kept by watches: whatever a server does to a watch, what is kept becomes what is there, and never turns back."""

from __future__ import annotations

import random
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.plugins.kubernetes.cache import NODES, PODS
from service.plugins.kubernetes.connection import Connection
from service.plugins.kubernetes.listing import listed
from service.plugins.kubernetes.watching import ABSENT_S, Kept, Resource, Watcher, pause
from service.plugins.scheduler import SchedulerError
from service.plugins.settings import PluginSettings
from tests.plugins.kubernetes.conftest import Cluster, until
from tests.plugins.kubernetes.direct import quietly
from tests.plugins.kubernetes.manifests_made import node, pod
from tests.plugins.kubernetes.stub_store import StatusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def thing(name: str, uid: str, version: int, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "t", "uid": uid, "resourceVersion": str(version)}} | more


# ---------------------------------------------------------------- what is kept


@given(st.randoms(use_true_random=False), st.integers(1, 25))
def test_events_in_any_order_and_any_number_of_times_leave_the_last_state(rng: random.Random, count: int) -> None:
    history: list[tuple[str, dict[str, Any]]] = []
    living: dict[str, dict[str, Any]] = {}
    for version in range(1, count + 1):
        name = rng.choice("abc")
        if name in living and rng.random() < 0.3:
            gone = living.pop(name)
            history.append(("DELETED", thing(name, gone["metadata"]["uid"], version)))
        else:
            uid = living[name]["metadata"]["uid"] if name in living else f"{name}{version}"
            living[name] = thing(name, uid, version, spec={"of": version})
            history.append(("MODIFIED", living[name]))
    told = history + [rng.choice(history) for _ in range(10)]
    late = [one for one in told if rng.random() < 0.5]
    kept = Kept()
    for kind, one in [*history, *late]:  # in their order, and then some of them again
        kept.apply(kind, one)
    assert kept.objects == {("t", name): one for name, one in living.items()}


def test_an_object_that_is_gone_does_not_come_back_by_a_late_event() -> None:
    kept = Kept()
    assert kept.apply("ADDED", thing("a", "u1", 5))
    assert kept.apply("DELETED", thing("a", "u1", 7))
    assert not kept.apply("MODIFIED", thing("a", "u1", 6))
    assert kept.apply("ADDED", thing("a", "u2", 8))
    assert not kept.apply("DELETED", thing("a", "u1", 7))
    assert set(kept.objects) == {("t", "a")}


def test_a_list_replaces_everything_but_what_is_newer_than_it() -> None:
    kept = Kept()
    kept.apply("ADDED", thing("old", "u1", 5))
    kept.apply("ADDED", thing("ours", "u2", 20))  # what the server answered to a patch of ours, after the list was made
    assert kept.replace([thing("ours", "u2", 3), thing("new", "u3", 9)], "10")
    assert {key[1]: one["metadata"]["resourceVersion"] for key, one in kept.objects.items()} == {"ours": "20", "new": "9"}
    assert not kept.apply("MODIFIED", thing("old", "u1", 6))  # older than the list, which does not have it
    assert kept.replace([thing("only", "u9", 2)], "4")  # a server restored from a backup: versions go backwards
    assert {key[1] for key in kept.objects} == {"only"}


def test_only_what_matters_is_a_change() -> None:
    kept = Kept()
    assert kept.apply("ADDED", thing("a", "u", 1, spec={"x": 1}))
    assert not kept.apply("MODIFIED", thing("a", "u", 2, spec={"x": 1}))
    assert kept.apply("MODIFIED", thing("a", "u", 3, spec={"x": 2}))
    assert not kept.replace([thing("a", "u", 3, spec={"x": 2})], "9")


def test_pauses_grow_and_are_bounded() -> None:
    assert 0.1 <= pause(0) <= 0.2
    assert all(7.5 <= pause(failures) <= 15 for failures in (8, 20, 10**6))


# ---------------------------------------------------------------- on a server


@pytest.fixture
def watched(cluster: Cluster) -> Iterator[Callable[..., Watcher]]:
    made: list[Watcher] = []

    def watch(resource: Resource = PODS, changed: Callable[[], None] = lambda: None, watch_s: float = 1.0) -> Watcher:
        connection = Connection.opened(cluster.stub.kubeconfig(cluster.folder))
        made.append(Watcher(connection, resource, changed, watch_s=watch_s))
        made[-1].start()
        return made[-1]

    yield watch
    for one in made:
        one.stop()
    for one in made:
        one.join(5)


def names(watcher: Watcher) -> set[str]:
    return {one["metadata"]["name"] for one in watcher.objects() or ()}


def test_a_list_in_pages_and_then_a_watch(cluster: Cluster, watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.plugins.kubernetes.watching.PAGE", 3)
    for index in range(8):
        cluster.stub.store.create("pods", pod(f"p{index}"), "team")
    told = threading.Event()
    watcher = watched(changed=told.set)
    assert watcher.wait_listed(5)
    assert len(names(watcher)) == 8
    told.clear()
    cluster.stub.store.create("pods", pod("more"), "team")
    assert told.wait(5)
    until(lambda: "more" in names(watcher))
    cluster.stub.store.end("pods", "team", "p0")
    until(lambda: "p0" not in names(watcher))
    assert watcher.relists == 1


@pytest.mark.parametrize("as_event", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_whatever_the_server_does_the_watch_ends_up_right(cluster: Cluster, watched: Any, as_event: bool, twice: bool) -> None:
    stub, rng = cluster.stub, random.Random(1)
    stub.gone_as_event, stub.twice = as_event, twice
    watcher = watched()
    assert watcher.wait_listed(5)
    for turn in range(25):
        stub.store.create("pods", pod(f"p{turn}"), "team")
        if turn % 3 == 0:
            quietly(partial(stub.store.end, "pods", "team", f"p{rng.randrange(turn + 1)}"))
        if turn % 5 == 0:
            stub.drop()
        if turn % 8 == 0:
            stub.store.compact()
        if turn == 12:
            stub.restart(away_s=0.1, forget=True)
    expected = {one["metadata"]["name"] for one in stub.store.all("pods")}
    until(lambda: names(watcher) == expected)
    assert watcher.relists > 1


def test_a_heartbeat_is_no_change_and_a_drained_node_is(cluster: Cluster, watched: Any) -> None:
    cluster.add_nodes(1)
    told = threading.Event()
    watcher = watched(NODES, told.set)
    assert watcher.wait_listed(5)
    told.clear()
    beat = node("n0")
    beat["status"]["conditions"][0]["lastHeartbeatTime"] = "2027-01-01T00:00:00Z"
    cluster.stub.store.put("nodes", beat)
    cluster.stub.store.create("nodes", node("n1"))  # comes after it: once this one is told, so was the other
    until(lambda: names(watcher) == {"n0", "n1"})
    told.clear()
    cluster.stub.store.put("nodes", beat | {"metadata": beat["metadata"] | {"annotations": {}}})
    cluster.stub.store.patch("nodes", "", "n0", "application/merge-patch+json", {"spec": {"unschedulable": True}})
    assert told.wait(5)


def test_a_server_restored_from_a_backup_is_listed_again(cluster: Cluster, watched: Any) -> None:
    for index in range(5):
        cluster.stub.store.create("pods", pod(f"p{index}"), "team")
    watcher = watched()
    assert watcher.wait_listed(5)
    cluster.stub.end()
    with cluster.stub.store.moved:  # as it was long ago
        cluster.stub.store.version = 50
        cluster.stub.store.history.clear()
        for key in list(cluster.stub.store.objects)[2:]:
            del cluster.stub.store.objects[key]
        for one in cluster.stub.store.objects.values():
            one["metadata"]["resourceVersion"] = "40"
    cluster.stub.begin()
    until(lambda: names(watcher) == {"p0", "p1"})


def test_optional_kinds_may_be_absent_or_forbidden_and_needed_ones_may_not(cluster: Cluster, watched: Any) -> None:
    absent = watched(Resource("JobSet", "/apis/jobset.x-k8s.io/v1alpha2/jobsets", optional=True))
    assert absent.wait_listed(5)
    assert absent.objects() == []
    state = absent.state
    until(lambda: sum("jobsets" in path for _, path in cluster.stub.asked) >= 2)
    assert absent.state == state  # asked for again and still absent: nothing is read anew for that
    cluster.stub.fault = lambda _method, path: StatusError(403, "Forbidden", "no") if "budgets" in path else None
    forbidden = watched(Resource("Budget", "/apis/policy/v1/poddisruptionbudgets", optional=True))
    assert forbidden.wait_listed(5)
    assert forbidden.objects() is None
    needed = watched(Resource("JobSet", "/apis/jobset.x-k8s.io/v1alpha2/jobsets"))
    assert not needed.wait_listed(0.3)


def test_a_kind_that_is_installed_later_is_noticed_before_its_gangs_are_given_up(cluster: Cluster, watched: Any) -> None:
    absent = watched(Resource("JobSet", "/apis/jobset.x-k8s.io/v1alpha2/jobsets", optional=True))
    assert absent.wait_listed(5)
    cluster.stub.store.resources.add("jobsets")
    cluster.stub.store.create("jobsets", {"metadata": {"name": "train"}, "spec": {}}, "team")
    until(lambda: names(absent) == {"train"}, limit_s=3 * ABSENT_S)
    assert PluginSettings().fallback_s >= 3 * ABSENT_S


@pytest.mark.parametrize("code", [403, 404])
def test_a_server_that_refuses_for_a_moment_after_its_start_costs_nothing_that_is_known(cluster: Cluster, watched: Any, code: int) -> None:
    """A real one does until it has read its rules: it answers 403 for what we may read, and 404 for kinds that it has."""
    cluster.add_gang("big", 2)
    asked: list[str] = []

    def refused(_method: str, path: str) -> StatusError:
        asked.append(path)
        return StatusError(code, "Forbidden", "not yet")

    jobs = watched(Resource("Job", "/apis/batch/v1/jobs", optional=True))
    until(lambda: names(jobs) == {"big"})
    cluster.stub.end()
    cluster.stub.fault = refused
    cluster.stub.begin()
    until(lambda: len(asked) >= 2)
    assert names(jobs) == {"big"}
    cluster.stub.fault = lambda _method, _path: None
    cluster.stub.store.end("jobs", "team", "big")
    until(lambda: jobs.objects() == [])


def test_a_kind_that_is_refused_for_good_is_not_believed_any_longer(
    cluster: Cluster, watched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.plugins.kubernetes.watching.SURE_S", 0.5)
    cluster.add_gang("big", 2)
    jobs = watched(Resource("Job", "/apis/batch/v1/jobs", optional=True))
    until(lambda: names(jobs) == {"big"})
    cluster.stub.fault = lambda _method, _path: StatusError(403, "Forbidden", "no")
    cluster.stub.drop()
    until(lambda: jobs.objects() is None)
    cluster.stub.fault = lambda _method, _path: None  # given back: it is asked again soon
    until(lambda: names(jobs) == {"big"})


def test_a_list_of_everything_for_a_file(cluster: Cluster) -> None:
    cluster.add_nodes(2)
    cluster.add_gang("big", 2)
    connection = Connection.opened(cluster.stub.kubeconfig(cluster.folder))
    found = listed(connection)
    assert sorted(one["kind"] for one in found["items"]) == ["Job", "Node", "Node", "Pod", "Pod"]
    cluster.stub.fault = lambda _method, _path: StatusError(403, "Forbidden", "nodes is forbidden")
    with pytest.raises(SchedulerError, match="nodes is forbidden"):
        listed(connection)


def test_no_way_to_a_server_is_told_with_the_cure(cluster: Cluster) -> None:
    with pytest.raises(SchedulerError, match="--kubeconfig"):
        Connection.opened(cluster.folder / "none")
    (cluster.folder / "bad").write_text("clusters: 3")
    with pytest.raises(SchedulerError, match="--kubeconfig"):
        Connection.opened(cluster.folder / "bad")
    with pytest.raises(SchedulerError, match="context"):
        Connection.opened(cluster.stub.kubeconfig(cluster.folder), "another")

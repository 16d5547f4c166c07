"""Seats by pod, and the adapter that carries orders out by answering from them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from service.plugins.cluster import SeenJob, SeenWorker, Snapshot
from service.plugins.inforce import InForce
from service.plugins.kubernetes.extender_running import touching
from service.plugins.kubernetes.extender_scheduler import ExtenderScheduler
from service.plugins.kubernetes.extender_seats import Member, Seating, Told, landed, members_of, seated, seating
from service.plugins.kubernetes.gangs import Gang
from service.plugins.kubernetes.pods import Pod, read_pod
from service.plugins.modes import Mode
from service.plugins.orders import Order, Orders, Seat, Wait

JOB = "team/job/train"


def order(*nodes: str, job: str = JOB, identity: str = "one") -> Order:
    return Order(job, identity, tuple(Seat(node) for node in nodes), {}, "it fits")


def members(count: int, **bound: str) -> list[Member]:
    return [Member("team", f"train-{index}", f"u{index}", index, bound.get(f"u{index}", "")) for index in range(count)]


# ---------------------------------------------------------------- seats


@given(
    nodes=st.lists(st.sampled_from("abc"), min_size=0, max_size=6),
    bound=st.lists(st.sampled_from(["", "", "a", "b", "z"]), max_size=6),
    told=st.lists(st.sampled_from([None, "a", "b", "z"]), max_size=6),
    seed=st.integers(0, 5),
)
def test_no_seat_is_given_twice_and_the_order_of_sight_does_not_matter(
    nodes: list[str], bound: list[str], told: list[str | None], seed: int
) -> None:
    found = [Member("team", f"train-{index}", f"u{index}", index, node) for index, node in enumerate(bound)]
    keys = {one.key: Told(one.namespace, one.name, one.uid, JOB, node) for one, node in zip(found, told, strict=False)}
    before = Seating(1, 0, 1, keys)
    given_seats = seated(order(*nodes), found, before)
    assert Counter(given_seats.values()) <= Counter(nodes)
    assert len(given_seats) <= len(found)
    waiting = [one for one in found if not one.node]
    assert all(given_seats[one.uid] == one.node for one in found if one.node and one.uid in given_seats)
    free = len(nodes) - sum(1 for one in found if one.node and one.uid in given_seats)
    assert sum(one.uid in given_seats for one in waiting) == min(len(waiting), free)  # as many sit as can
    shuffled = random.Random(seed).sample(found, len(found))
    assert seated(order(*nodes), shuffled, before) == given_seats


def test_who_was_told_a_node_keeps_it() -> None:
    first = seating(Orders(1, 0, 9, {JOB: order("a", "b")}), {JOB: members(2)})
    again = seating(Orders(2, 0, 9, {JOB: order("b", "a")}), {JOB: members(2)}, first)
    assert {one.uid: one.node for one in again.told.values()} == {"u0": "a", "u1": "b"}
    assert landed(first, again) == ()


def test_a_pod_made_anew_is_another() -> None:
    first = seating(Orders(1, 0, 9, {JOB: order("a")}), {JOB: members(1)})
    assert first.find("team/train-0", "u0") is not None
    assert first.find("team/train-0", "u9") is None
    assert first.find("team/train-1", "u0") is None


def test_more_pods_than_seats_are_told_so() -> None:
    made = seating(Orders(1, 0, 9, {JOB: order("a")}), {JOB: members(2)})
    assert [one.node for one in made.told.values()] == ["a", None]
    assert "more pods than the plan has seats" in made.told["team/train-1"].why


def test_waits_and_the_way_to_another_process() -> None:
    orders = Orders(3, 5.0, 9.0, {JOB: order("a")}, {"team/pod/x": Wait("team/pod/x", "two", "no room")})
    pods = {JOB: members(1), "team/pod/x": [Member("team", "x", "ux")], "team/pod/y": [Member("team", "y", "uy")]}
    made = seating(orders, pods)
    assert made.told["team/x"].why == "no room"
    assert "team/y" not in made.told
    assert Seating.received(iter(made.messages()).__next__, None) == made
    assert not made.expired(14.0)
    assert made.expired(14.1)


def test_a_plan_that_says_the_same_is_only_renewed() -> None:
    first = seating(Orders(1, 0, 9, {JOB: order("a")}), {JOB: members(1)})
    later = seating(Orders(2, 5, 8, {JOB: order("a")}), {JOB: members(1)})
    other = seating(Orders(3, 6, 8, {JOB: order("b")}), {JOB: members(1)})
    assert len(later.messages(first)) == 1
    assert Seating.received(iter(later.messages(first)).__next__, first) == later
    assert Seating.received(iter(other.messages(later)).__next__, later) == other
    many = Seating(1, 0, 9, {f"team/p{i}": Told("team", f"p{i}", f"u{i}", JOB, "a") for i in range(1_001)})
    assert len(many.messages(first)) == 6
    assert Seating.received(iter(many.messages(first)).__next__, first) == many


def test_landed_are_those_with_a_new_node() -> None:
    before = seating(Orders(1, 0, 9, {JOB: order("a", "b")}), {JOB: members(2)})
    after = seating(Orders(2, 0, 9, {JOB: order("a", "c")}), {JOB: members(2)}, before)
    assert [one.uid for one in landed(before, after)] == ["u1"]
    assert len(landed(None, after)) == 2


# ---------------------------------------------------------------- the adapter


def pod(index: int, *, node: str = "", opted_in: bool = True, **annotations: str) -> Pod:
    labels = {"quartermaster.dev/plan": "true"} if opted_in else {}
    notes = {"batch.kubernetes.io/job-completion-index": str(index), **annotations}
    meta = {"namespace": "team", "name": f"train-{index}", "uid": f"u{index}", "labels": labels, "annotations": notes}
    return read_pod({"metadata": meta, "spec": {"nodeName": node or None, "containers": []}})


class Cluster:
    """What the adapter reads, and what it did."""

    def __init__(self, *pods: Pod) -> None:
        self.pods = list(pods)
        self.identity = "one"
        self.published: list[Seating] = []
        self.touched: list[str] = []
        self.told: list[Wait] = []
        self.time = 0.0
        self.fails = 0
        self.answered = True

    def now(self) -> float:
        return self.time

    def publish(self, seating: Seating) -> bool:
        self.published.append(seating)
        return self.answered

    def gangs(self) -> Mapping[str, Gang]:
        return {JOB: Gang("job", "team", "train", len(self.pods), self.pods)} if self.pods else {}

    def snapshot(self) -> Snapshot:
        sits = [SeenWorker(one.node) for one in self.pods if one.node]
        jobs = (SeenJob(JOB, self.identity, workers=len(self.pods), running=tuple(sits)),) if self.pods else ()
        return Snapshot("kubernetes", 0.0, (), jobs)

    def changed(self, timeout_s: float) -> bool:
        return timeout_s > 1

    def tell(self, waits: Sequence[Wait]) -> None:
        self.told += waits

    def touch(self, told: Told, mark: str) -> None:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("403")
        self.touched.append(f"{told.uid} {told.node} {mark}")

    @property
    def nodes(self) -> dict[str, str | None]:
        return {one.uid: one.node for one in self.published[-1].told.values()}


def adapter(cluster: Cluster, in_force: InForce, mode: Mode = Mode.enforce, **more: Any) -> ExtenderScheduler:
    told = {"clock": cluster.now, "monotonic": cluster.now, **more}
    return ExtenderScheduler(cluster, in_force, mode, cluster.publish, cluster.touch, **told)


def in_force_with(orders: Orders) -> InForce:
    made = InForce()
    made.publish(orders)
    return made


def test_a_pod_that_opted_in_is_held_until_its_seat_is_published() -> None:
    cluster = Cluster(pod(0), pod(1))
    in_force = in_force_with(Orders(4, 0, 9, {JOB: order("a", "b")}))
    scheduler = adapter(cluster, in_force)
    (job,) = scheduler.snapshot().jobs
    assert job.held
    assert job.opted_in
    done = scheduler.commit([order("a", "b"), order("a", job="gone")])
    assert [(one.job, one.outcome) for one in done] == [(JOB, "done"), ("gone", "gone")]
    assert cluster.nodes == {"u0": "a", "u1": "b"}
    assert sorted(cluster.touched) == ["u0 a 4", "u1 b 4"]
    (job,) = scheduler.snapshot().jobs
    assert not job.held


def test_who_did_not_opt_in_is_not_held() -> None:
    (job,) = adapter(Cluster(pod(0, opted_in=False)), InForce()).snapshot().jobs
    assert not job.held
    assert not job.opted_in
    (job,) = adapter(Cluster(pod(0)), InForce(), namespaces=frozenset({"other"})).snapshot().jobs
    assert not job.opted_in


def test_a_seat_stays_until_the_pod_sits() -> None:
    cluster = Cluster(pod(0), pod(1))
    in_force = in_force_with(Orders(1, 0, 9, {JOB: order("a", "b")}))
    scheduler = adapter(cluster, in_force)
    scheduler.snapshot()
    scheduler.commit([order("a", "b")])
    in_force.publish(Orders(2, 5, 9))  # the next plan does not place it again: it is on its way
    cluster.pods[0] = pod(0, node="a")
    scheduler.snapshot()
    scheduler.after_round()
    assert cluster.nodes == {"u0": "a", "u1": "b"}
    assert (cluster.published[-1].version, cluster.published[-1].made_at) == (2, 5)
    assert len(cluster.touched) == 2  # nobody was told anything new
    cluster.pods[1] = pod(1, node="b")
    scheduler.snapshot()
    scheduler.after_round()
    assert cluster.nodes == {}


def test_seats_of_a_job_that_is_another_now_are_forgotten() -> None:
    cluster = Cluster(pod(0))
    scheduler = adapter(cluster, in_force_with(Orders(1, 0, 9, {JOB: order("a")})))
    scheduler.snapshot()
    scheduler.commit([order("a")])
    cluster.identity = "two"
    (job,) = scheduler.snapshot().jobs
    assert job.held
    scheduler.after_round()
    assert cluster.nodes == {}


@pytest.mark.parametrize("how", ["free", "unpin"])
def test_a_job_that_is_given_up_is_free_and_is_touched(how: str) -> None:
    cluster = Cluster(pod(0))
    scheduler = adapter(cluster, in_force_with(Orders(1, 0, 9, {JOB: order("a")}, {})))
    scheduler.snapshot()
    if how == "unpin":
        assert scheduler.unpin([JOB]) == ()  # nothing is pinned yet
        scheduler.commit([order("a")])
        assert scheduler.unpin([JOB, "gone"]) == (JOB,)
    else:
        assert scheduler.free([JOB, "gone"]) == (JOB,)
    assert cluster.published[-1].told["team/train-0"].free
    assert cluster.touched[-1] == "u0 None 1 free"
    (job,) = scheduler.snapshot().jobs
    assert not job.held
    before = len(cluster.touched)
    scheduler.after_round()
    assert len(cluster.touched) == before


def test_waits_are_published_with_their_words() -> None:
    cluster = Cluster(pod(0))
    scheduler = adapter(cluster, in_force_with(Orders(1, 0, 9, {}, {JOB: Wait(JOB, "one", "no room before 14:10")})))
    scheduler.snapshot()
    scheduler.after_round()
    assert cluster.published[-1].told["team/train-0"].why == "no room before 14:10"
    assert cluster.touched == []


def test_to_advise_is_to_publish_the_plan_and_to_touch_nothing() -> None:
    cluster = Cluster(pod(0, opted_in=False))
    scheduler = adapter(cluster, in_force_with(Orders(1, 0, 9, {JOB: order("a")})), Mode.advise)
    scheduler.snapshot()
    scheduler.after_round()
    assert cluster.nodes == {"u0": "a"}
    assert cluster.touched == []


def test_a_touch_that_fails_is_told_and_is_tried_again() -> None:
    cluster = Cluster(pod(0))
    cluster.fails = 2
    scheduler = adapter(cluster, in_force_with(Orders(1, 0, 9, {JOB: order("a")})))
    scheduler.snapshot()
    with structlog.testing.capture_logs() as lines:
        (done,) = scheduler.commit([order("a")])
    assert done.outcome == "done"
    assert lines[0]["error"] == "403"
    for _ in range(3):
        scheduler.after_round()
    assert cluster.touched == ["u0 a 1"]
    scheduler.close()


def test_a_touch_that_always_fails_is_given_up() -> None:
    cluster = Cluster(pod(0))
    cluster.fails = 1_000
    scheduler = adapter(cluster, in_force_with(Orders(1, 0, 9, {JOB: order("a")})))
    scheduler.snapshot()
    scheduler.commit([order("a")])
    for _ in range(20):
        scheduler.after_round()
    assert cluster.fails == 995


def test_no_pod_is_touched_before_its_plan_is_answered_from() -> None:
    cluster = Cluster(pod(0))
    scheduler = adapter(cluster, in_force_with(Orders(1, 0, 9, {JOB: order("a")})))
    scheduler.snapshot()
    cluster.answered = False
    scheduler.commit([order("a")])
    assert cluster.touched == []  # kube-scheduler would ask at once, be refused by the plan before, and not come back
    cluster.answered = True
    scheduler.after_round()
    scheduler.after_round()
    assert cluster.touched == ["u0 a 1"]


def test_pods_are_given_up_and_touched_where_there_never_was_a_plan() -> None:
    cluster = Cluster(pod(0))
    scheduler = adapter(cluster, InForce())
    scheduler.snapshot()
    assert scheduler.free([JOB]) == (JOB,)
    assert cluster.published[-1].told["team/train-0"].free
    assert not cluster.published[-1].expired(cluster.time)
    assert cluster.touched == ["u0 None 0 free"]
    cluster.time = 11  # an attempt that was under way may not evict others; so the pod gets another
    for _ in range(3):
        scheduler.after_round()
    assert cluster.touched == ["u0 None 0 free", "u0 None 0 free again"]


def test_pods_are_touched_when_the_plan_that_holds_them_runs_out() -> None:
    cluster = Cluster(pod(0))
    scheduler = adapter(cluster, in_force_with(Orders(5, 0, 9, {}, {JOB: Wait(JOB, "one", "no room")})))
    scheduler.snapshot()
    scheduler.after_round()
    assert cluster.touched == []
    cluster.time = 9.1
    scheduler.after_round()
    scheduler.after_round()
    assert cluster.touched == ["u0 None 5 free"]


def test_a_pod_that_changed_its_place_in_between_is_not_touched_for_the_old_one() -> None:
    cluster = Cluster(pod(0))
    cluster.answered = False
    in_force = in_force_with(Orders(1, 0, 9, {JOB: order("a")}))
    scheduler = adapter(cluster, in_force)
    scheduler.snapshot()
    scheduler.commit([order("a")])
    cluster.answered = True
    scheduler.free([JOB])
    assert cluster.touched == ["u0 None 1 free"]


def test_the_rest_is_the_other_adapters() -> None:
    cluster = Cluster()
    scheduler = adapter(cluster, InForce())
    assert scheduler.changed(2)
    assert not scheduler.changed(1)
    wait = Wait(JOB, "one", "why")
    scheduler.tell([wait])
    assert cluster.told == [wait]
    scheduler.after_round()
    assert cluster.published == []  # no plan yet
    scheduler.close()


def test_members_are_numbered_by_their_job() -> None:
    found = members_of(Gang("job", "team", "train", 12, [pod(10), pod(9), pod(2, node="a")]))
    assert [(one.index, one.node) for one in found] == [(2, "a"), (9, ""), (10, "")]
    assert [one.index for one in members_of(Gang("kueue", "team", "g", 2, [pod(10), pod(9)]))] == [None, None]


def test_a_touch_is_of_that_pod_only_and_loses_no_annotation_of_others() -> None:
    bare = read_pod({"metadata": {"name": "a", "uid": "u", "resourceVersion": "41"}, "spec": {}})
    assert touching(bare, "3") == [
        {"op": "test", "path": "/metadata/uid", "value": "u"},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "41"},  # one that came meanwhile must not be overwritten
        {"op": "add", "path": "/metadata/annotations", "value": {"quartermaster.dev/planned": "3"}},
    ]
    assert touching(pod(0), "3") == [
        {"op": "test", "path": "/metadata/uid", "value": "u0"},
        {"op": "add", "path": "/metadata/annotations/quartermaster.dev~1planned", "value": "3"},
    ]

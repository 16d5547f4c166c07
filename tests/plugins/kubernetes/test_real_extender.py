"""The extender and a real kube-scheduler: what it asks, what it makes of the answers, and what it does when nobody answers."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from benchmarks.plugins.daemons import until
from benchmarks.plugins.kubernetes import GANG, GPU, SINGLE, TEAM, gpu_job, gpu_node, over_allocated, ready, submit
from benchmarks.plugins.kubernetes_cluster import RealKubernetes, finish
from benchmarks.plugins.kubernetes_extender import measure
from service.plugins.kubernetes import extender_wire as wire
from service.plugins.kubernetes.extender import Answer, Extender
from service.plugins.kubernetes.extender_app import ExtenderApp
from service.plugins.modes import Mode
from service.plugins.planner import Answer as Planned
from tests.plugins.kubernetes.extender_calls import plan, planned
from tests.plugins.kubernetes.real_extender import (
    PODS,
    Recorded,
    all_run,
    answering,
    answers,
    commanded,
    counted,
    events,
    extending,
    filled,
    message,
    of_priority,
    opted_in,
    pods_of,
    running,
    touch,
    wrong,
)
from tests.plugins.kubernetes.test_extender_http import served
from tests.plugins.optimisers import Broken

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parent / "data"
VERBS = ("filter", "prioritize", "preempt")
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
HELD = "example.com/held"  # a gate that is not ours


@pytest.fixture
def kubernetes(real_kubernetes: RealKubernetes) -> Iterator[RealKubernetes]:
    """Four nodes of eight GPUs, nothing on them, and two priorities."""
    ready(real_kubernetes, 4)
    for name, value in (("low", 10), ("high", 1000)):
        if real_kubernetes.found(f"{CLASSES}/{name}") is None:
            named = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value}
            real_kubernetes.add(CLASSES, named)
    yield real_kubernetes
    real_kubernetes.clear()
    real_kubernetes.restart_scheduler([])


# ---------------------------------------------------------------- where pods go


def test_gangs_and_single_jobs_go_where_the_plan_says(kubernetes: RealKubernetes) -> None:
    """Gangs and single jobs that fill the cluster, all at once."""
    with extending(kubernetes) as extended:
        submit(kubernetes, [opted_in(f"gang-{at}", *GANG) for at in range(5)] + [opted_in(f"one-{at}", *SINGLE) for at in range(12)])
        all_run(kubernetes, 22)
        extended.on_plan()
        assert counted(extended.url)["filter", "seat"] >= 22 - extended.left_out()


def test_gangs_wait_whole_and_run_whole(kubernetes: RealKubernetes) -> None:
    """Three gangs of three quarters of the cluster: what ends makes room for the next, whose pods are tried again soon."""
    with extending(kubernetes) as extended:
        submit(kubernetes, [opted_in(f"gang-{at}", 4, 6) for at in range(3)])
        for _ in range(3):
            assert until(lambda: len([pod for pod in pods_of(kubernetes) if pod["status"]["phase"] == "Running"]) == 4, 90)
            live = [pod for pod in pods_of(kubernetes) if pod["status"]["phase"] == "Running"]
            assert len({pod["metadata"]["labels"]["job-name"] for pod in live}) == 1 or extended.left_out()
            assert not over_allocated(kubernetes)
            extended.on_plan()
            for pod in live:
                finish(kubernetes.admin, pod)


def test_a_gang_that_does_not_fit_waits_whole_and_says_why_once(kubernetes: RealKubernetes) -> None:
    """kube-scheduler alone would start four of five. A person reads our sentence once, however many nodes there are."""
    with extending(kubernetes) as extended:
        submit(kubernetes, [opted_in("big", 5, 8)])

        def told() -> bool:
            found = [message(pod) for pod in pods_of(kubernetes, "big")]
            return len(found) == 5 and all("Quartermaster: " in one for one in found)

        assert until(told, 60), [message(pod) for pod in pods_of(kubernetes)]
        for one in [message(pod) for pod in pods_of(kubernetes)]:
            assert one.startswith("0/4 nodes are available: 4 Quartermaster: ")
            assert one.count("Quartermaster") == 1
            assert len(one) < 500
        assert all(one.count("Quartermaster") <= 1 for one in events(kubernetes, "FailedScheduling", "big"))
        assert until(lambda: events(kubernetes, "WaitingForPlan", "big"))
        assert running(kubernetes) == {}
        kubernetes.add_node(gpu_node("gpu5"))
        all_run(kubernetes, 5)
        extended.on_plan()


def test_a_touch_is_what_makes_kube_scheduler_try_again(kubernetes: RealKubernetes) -> None:
    """A pod that was refused is left alone until it changes: a seat by itself does not start it."""
    extender = Recorded()
    with answering(kubernetes, extender):
        submit(kubernetes, [opted_in("one", 1, 8)])
        assert until(lambda: extender.bodies("filter"))
        quiet(extender)
        pod = pods_of(kubernetes, "one")[0]
        before = len(extender.asked)
        extender.plan(pod, "gpu3")
        time.sleep(2.0)
        assert len(extender.asked) == before
        touch(kubernetes, pod, "7")
        all_run(kubernetes, 1)
        assert set(running(kubernetes).values()) == {"gpu3"}


def quiet(extender: Recorded, seconds: float = 4.0) -> None:
    """Nothing more is asked: what kube-scheduler wrote on a pod makes it try that pod once or twice more."""
    asked, since = len(extender.asked), time.monotonic()
    end = since + 60
    while time.monotonic() < since + seconds:
        assert time.monotonic() < end, "kube-scheduler does not stop asking"
        if len(extender.asked) != asked:
            asked, since = len(extender.asked), time.monotonic()
        time.sleep(0.05)


@pytest.mark.parametrize("mode", [Mode.advise, Mode.shadow])
def test_advice_is_taken_though_other_nodes_fit_better_and_a_shadow_changes_nothing(kubernetes: RealKubernetes, mode: Mode) -> None:
    extender = Recorded(mode)
    with answering(kubernetes, extender):
        submit(kubernetes, [of_priority(gpu_job("there", 1, 6, gate=None), "", nodeSelector={"kubernetes.io/hostname": "gpu2"})])
        all_run(kubernetes, 1)
        submit(kubernetes, [opted_in("one", 1, 1, schedulingGates=[{"name": HELD}])])
        assert until(lambda: pods_of(kubernetes, "one"))
        pod = pods_of(kubernetes, "one")[0]
        extender.plan(pod, "gpu2")  # the node with the least room: kube-scheduler takes one of the others
        kubernetes.admin.patch(f"{PODS}/{pod['metadata']['name']}", [{"op": "remove", "path": "/spec/schedulingGates"}])
        all_run(kubernetes, 2)
        assert (running(kubernetes, "one")[pod["metadata"]["uid"]] == "gpu2") is (mode is Mode.advise)
        assert extender.outcomes()["prioritize", "scored"] == (mode is Mode.advise)
        assert {outcome for verb, outcome in extender.outcomes() if verb == "filter"} == {"all"}


def test_pods_without_gpus_are_not_asked_about(kubernetes: RealKubernetes) -> None:
    extender = Recorded()
    job = opted_in("none", 1, 1)
    del job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"][GPU]
    with answering(kubernetes, extender):
        submit(kubernetes, [job])
        all_run(kubernetes, 1)
    assert extender.asked == []


# ---------------------------------------------------------------- nobody is evicted for a pod that waits


def test_a_pod_that_waits_for_its_plan_evicts_nobody(kubernetes: RealKubernetes) -> None:
    """Of high priority, on a cluster full of others: it is planned and starts where one of them ends."""
    low = filled(kubernetes)
    with extending(kubernetes) as extended:
        submit(kubernetes, [opted_in("high", 1, 8, "high")])
        assert until(lambda: counted(extended.url)["preempt", "kept"], 60)
        extended.until_round(lambda one: one.orders is not None and one.orders.waits)
        assert set(running(kubernetes, "low")) == low
        finish(kubernetes.admin, pods_of(kubernetes, "low-2")[0])
        all_run(kubernetes, 1, prefix="high")
        assert set(running(kubernetes, "low")) == low  # the one that ended is still there to be seen
        extended.on_plan("high")
        assert not events(kubernetes, "Preempted", "low-") or extended.left_out()


def test_alone_kube_scheduler_does_evict(kubernetes: RealKubernetes) -> None:
    low = filled(kubernetes)
    kubernetes.restart_scheduler([])
    submit(kubernetes, [opted_in("high", 1, 8, "high")])
    all_run(kubernetes, 1, prefix="high")
    assert len(low & set(running(kubernetes, "low"))) == 3


def test_without_the_preempt_verb_one_node_after_another_is_cleared_for_a_pod_that_waits(kubernetes: RealKubernetes) -> None:
    """Reasons that say that no eviction helps stand at nodes that filter is asked about; it is not asked about full ones."""
    low = filled(kubernetes)
    extender = Recorded()
    with answering(kubernetes, extender, "preemptVerb"):
        submit(kubernetes, [opted_in("high", 1, 8, "high")])
        assert until(lambda: not low & set(running(kubernetes, "low")), 90)
        assert running(kubernetes, "high") == {}


@pytest.mark.parametrize("seat", ["gpu1", None], ids=["planned on a full node", "waits"])
def test_nobody_is_evicted_where_some_nodes_are_full_and_others_are_refused(kubernetes: RealKubernetes, seat: str | None) -> None:
    low = filled(kubernetes)
    kubernetes.add_node(gpu_node("gpu5"))
    extender = Recorded()
    with answering(kubernetes, extender):
        submit(kubernetes, [opted_in("high", 1, 8, "high")])
        assert until(lambda: extender.outcomes()["preempt", "kept"], 60)
        extender.plan(pods_of(kubernetes, "high")[0], seat)
        before = len(extender.bodies("preempt"))
        touch(kubernetes, pods_of(kubernetes, "high")[0], "7")
        assert until(lambda: len(extender.bodies("preempt")) > before, 60)
        quiet(extender)
        assert {outcome for verb, outcome in extender.outcomes() if verb == "preempt"} == {"kept"}
    assert set(running(kubernetes)) == low
    assert message(pods_of(kubernetes, "high")[0]).count("Quartermaster: ") == 1


class Contrary(Extender):
    """Another extender, which refuses the planned node."""

    def filter(self, body: bytes) -> Answer:
        names = json.loads(body)["NodeNames"]
        failed = {name: "not this one" for name in names if name == "gpu3"}
        return Answer(orjson.dumps({"NodeNames": [name for name in names if name not in failed], "FailedNodes": failed}), "all")


@pytest.mark.parametrize("without", [(), ("preemptVerb",)], ids=["as shipped", "without the preempt verb"])
def test_nodes_left_out_without_a_reason_are_no_place_for_evictions(kubernetes: RealKubernetes, without: tuple[str, ...]) -> None:
    """The planned node is refused by somebody else: the nodes that were left out beside it are full of pods of a lower priority."""
    low = filled(kubernetes, 7)
    extender = Recorded()
    with served(ExtenderApp(Contrary(Mode.enforce, time.time))) as port:
        other = {"urlPrefix": f"http://127.0.0.1:{port}", "filterVerb": "filter", "nodeCacheCapable": True, "ignorable": True}
        with answering(kubernetes, extender, *without, more=other):
            submit(kubernetes, [opted_in("high", 1, 1, "high")])
            assert until(lambda: extender.outcomes()["filter", "denied"])
            quiet(extender)
            pod = pods_of(kubernetes, "high")[0]
            extender.plan(pod, "gpu3")
            touch(kubernetes, pod, "7")
            assert until(lambda: extender.outcomes()["filter", "seat"], 60)
            quiet(extender)
    assert set(running(kubernetes)) == low
    told = message(pods_of(kubernetes, "high")[0])
    assert "1 not this one" in told
    assert "Quartermaster" not in told  # the nodes beside are not spoken of


# ---------------------------------------------------------------- when something fails


@pytest.mark.parametrize("answer", [Planned(b"\xff no plan at all"), Planned("{}", 0.0)], ids=["rubbish", "empty plan"])
def test_a_failing_optimiser_costs_no_pod_its_start(kubernetes: RealKubernetes, answer: Any) -> None:
    with extending(kubernetes, Broken(answer), fallback_s=1.0):
        submit(kubernetes, [opted_in(f"gang-{at}", *GANG) for at in range(4)] + [opted_in(f"one-{at}", *SINGLE) for at in range(8)])
        all_run(kubernetes, 16)


def test_a_pod_that_was_given_up_may_evict_when_it_is_tried_again(kubernetes: RealKubernetes) -> None:
    """Not before: no touch makes kube-scheduler try a pod again that found no room on any node. Here it is started anew."""
    low = filled(kubernetes)
    with extending(kubernetes, Broken(Planned("{}", 0.0)), fallback_s=1.0) as extended:
        submit(kubernetes, [opted_in("high", 1, 8, "high")])
        extended.until_round(lambda one: one.freed)
        assert set(running(kubernetes, "low")) == low
        kubernetes.restart_scheduler()
        all_run(kubernetes, 1, prefix="high")
        assert len(low & set(running(kubernetes, "low"))) == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_pods_start_while_the_extender_is_away_and_it_comes_back(kubernetes: RealKubernetes, number: signal.Signals) -> None:
    low = filled(kubernetes, 2)
    with extending(kubernetes, breaks=True) as extended:
        process = extended.process
        assert process is not None
        ended = process.pid
        assert ended is not None
        os.kill(ended, number)
        submit(kubernetes, [opted_in(f"one-{at}", 1, 1, "high") for at in range(8)])
        all_run(kubernetes, 8, prefix="one")
        assert until(lambda: process.pid != ended and answers(extended.url), 60)
        submit(kubernetes, [opted_in("late", *GANG, "high")])
        all_run(kubernetes, 2, prefix="late")
        extended.on_plan("late")
        assert set(running(kubernetes, "low")) == low
        assert not wrong(counted(extended.url))  # of the new one


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_when_the_whole_plugin_is_gone_pods_start(kubernetes: RealKubernetes, number: signal.Signals) -> None:
    """Killed, nobody answers; frozen, its extender answers from the last plan, and lets every node pass when that has run out."""
    low = filled(kubernetes, 2)
    with commanded(kubernetes, ttl_s=3.0, fallback_s=600.0) as (process, url):
        assert until(lambda: counted(url)["plan", "version"], 60)
        submit(kubernetes, [opted_in("big", 5, 5)])
        assert until(lambda: len([one for one in pods_of(kubernetes, "big") if "Quartermaster: " in message(one)]) == 5, 60)
        assert not wrong(counted(url))
        os.kill(process.pid, number)
        if number is signal.SIGSTOP:
            time.sleep(4.0)  # until the plan has run out
        else:
            assert until(lambda: not answers(url))
        submit(kubernetes, [opted_in("one", 1, 1, "high")])
        all_run(kubernetes, 1, prefix="one")
        kubernetes.add_node(gpu_node("gpu5"))  # any change of the cluster makes kube-scheduler try those that were refused
        all_run(kubernetes, 5, prefix="big")
        assert set(running(kubernetes, "low")) == low


# ---------------------------------------------------------------- real bodies


def recorded(kubernetes: RealKubernetes) -> dict[str, bytes]:
    """One body of each verb, as kube-scheduler sends them for a pod of a Job of high priority on a full cluster of four nodes."""
    extender, found = Recorded(Mode.advise), {}
    with answering(kubernetes, extender):
        submit(kubernetes, [of_priority(opted_in(f"low-{at}", 1, 8), "low", automountServiceAccountToken=False) for at in range(4)])
        all_run(kubernetes, 4)
        submit(kubernetes, [of_priority(opted_in("high", 1, 8), "high", automountServiceAccountToken=False)])
        assert until(lambda: extender.bodies("preempt"), 60)
        for verb in VERBS:
            found[verb] = extender.bodies(verb)[0]
    return found


def test_the_bodies_on_file_are_written_as_kube_scheduler_writes_them(kubernetes: RealKubernetes) -> None:
    for verb, body in recorded(kubernetes).items():
        filed = (DATA / f"{verb}.json").read_bytes()
        assert list(json.loads(body)) == list(json.loads(filed))
        if verb != "preempt":
            asked = wire._quickly(body)  # noqa: SLF001
            assert asked is not None
            assert sorted(asked.node_names()) == ["gpu1", "gpu2", "gpu3", "gpu4"]  # it begins at another node each time


@pytest.mark.parametrize("verb", ["filter", "prioritize"])
def test_real_questions_take_the_quick_way(verb: str) -> None:
    body = (DATA / f"{verb}.json").read_bytes()
    asked, read = wire._quickly(body), json.loads(body)  # noqa: SLF001
    assert asked is not None
    in_full = wire._in_full(body)  # noqa: SLF001
    assert (asked.key, asked.uid, asked.pod, asked.node_names()) == (in_full.key, in_full.uid, in_full.pod, in_full.node_names())
    assert asked.node_names() == read["NodeNames"] == ["gpu1", "gpu2", "gpu3", "gpu4"]
    assert asked.key == f"{TEAM}/{read['Pod']['metadata']['name']}"
    extender = Extender(Mode.enforce, lambda: 1_000_000.0)
    extender.seating = plan(planned("gpu3", asked.uid, read["Pod"]["metadata"]["name"]))
    answer = getattr(extender, verb)(body)
    assert (answer.outcome, answer.status) == ("seat" if verb == "filter" else "scored", 200)
    assert b"gpu3" in answer.body


def test_a_real_preempt_question_is_answered_both_ways() -> None:
    body = (DATA / "preempt.json").read_bytes()
    victims = json.loads(body)["NodeNameToMetaVictims"]
    assert len(victims) == 4
    given, kept = Extender(Mode.advise, time.time).preempt(body), Extender(Mode.enforce, time.time).preempt(body)
    assert (given.outcome, json.loads(given.body)) == ("given", {"NodeNameToMetaVictims": victims})
    assert (kept.outcome, kept.body) == ("kept", b"{}")


def test_what_it_costs_kube_scheduler_is_measured(kubernetes: RealKubernetes) -> None:
    found = measure(kubernetes, nodes=20, pods=10)
    assert found["questions"] >= 2 * 11  # filter and prioritize, for one pod that warms up and ten
    assert found["malformed"] == found["over_allocated"] == 0
    assert found["with_ms"] > 0 < found["without_ms"]

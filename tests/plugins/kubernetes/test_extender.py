"""The extender's answers to calls in the form that kube-scheduler sends them, in both kinds of nodes and in each mode."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.plugins.kubernetes import extender_wire as wire
from service.plugins.kubernetes.extender import Answer, Extender
from service.plugins.kubernetes.extender_refusals import Refusals
from service.plugins.kubernetes.extender_seats import Seating
from service.plugins.modes import Mode
from tests.plugins.kubernetes.extender_calls import (
    NODES,
    NOW,
    OTHER_UID,
    Read,
    by_names,
    by_nodes,
    go_json,
    meta_victims,
    plan,
    planned,
    pod,
    whole_victims,
)

Ask = Callable[[dict[str, Any], list[str]], bytes]
KINDS = pytest.mark.parametrize("ask", [by_names, by_nodes], ids=["names", "nodes"])


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def extender(mode: Mode, seating: Seating | None = None, clock: Clock | None = None, **more: Any) -> Extender:
    told = clock or Clock()
    made = Extender(mode, told, patience_s=60, monotonic=told, **more)
    made.seating = seating
    return made


def filtered(one: Extender, ask: Ask, asked: dict[str, Any] | None = None, names: list[str] = NODES) -> Read:
    answer = one.filter(ask(asked or pod(), names))
    assert answer.status == 200
    return Read(answer.body, names, cache_capable=ask is by_names)


# ---------------------------------------------------------------- filter


@KINDS
@pytest.mark.parametrize("mode", [Mode.shadow, Mode.advise])
@pytest.mark.parametrize("seating", [None, plan(planned("gpu-2")), plan(planned(None))], ids=["none", "seat", "wait"])
def test_without_strictness_every_node_passes(ask: Ask, mode: Mode, seating: Seating | None) -> None:
    read = filtered(extender(mode, seating), ask)
    assert read.passed == NODES
    assert not read.failed


@KINDS
def test_strict_passes_the_planned_node_only(ask: Ask) -> None:
    assert filtered(extender(Mode.enforce, plan(planned("gpu-2"))), ask).passed == ["gpu-2"]


@KINDS
def test_strict_denies_a_pod_that_waits_and_says_why(ask: Ask) -> None:
    one = extender(Mode.enforce, plan(planned(None)))
    answer = json.loads(one.filter(ask(pod(), NODES)).body)
    kind, other = ("NodeNames", "Nodes") if ask is by_names else ("Nodes", "NodeNames")
    assert answer[kind] is not None  # null would be read as no answer at all
    assert answer[other] is None
    read = filtered(one, ask)
    assert read.passed == []
    assert set(read.failed) == set(NODES)
    assert all("rack r2 frees at 14:10" in why for why in read.failed.values())
    assert answer["FailedNodes"] == {}  # no eviction helps: kube-scheduler need not look for one


@KINDS
def test_a_whole_node_comes_back_whole(ask: Ask) -> None:
    if ask is by_names:
        return
    answer = json.loads(extender(Mode.enforce, plan(planned("gpu-2"))).filter(ask(pod(), NODES)).body)
    (item,) = answer["Nodes"]["items"]
    assert item["status"] == {"allocatable": {"nvidia.com/gpu": "8"}}


@KINDS
def test_an_opted_in_pod_waits_for_its_first_plan_but_not_for_ever(ask: Ask) -> None:
    for seating in (None, plan(), plan(planned("gpu-1", OTHER_UID))):
        clock = Clock()
        one = extender(Mode.enforce, seating, clock)
        assert filtered(one, ask).passed == []
        clock.now += 59
        if seating is not None:
            one.seating = Seating(8, clock.now, 30, seating.told)
        assert filtered(one, ask).passed == []
        clock.now += 1
        assert filtered(one, ask).passed == NODES


@KINDS
def test_a_pod_that_did_not_opt_in_is_left_alone(ask: Ask) -> None:
    for seating in (None, plan(), plan(planned("gpu-2")), plan(planned(None))):  # planned, because others of its gang opted in
        one = extender(Mode.enforce, seating)
        assert filtered(one, ask, pod(opted_in=False)).passed == NODES
        assert one.preempt(meta_victims(pod(opted_in=False), {"gpu-1": ["v"]})).outcome == "given"


@KINDS
@pytest.mark.parametrize("age_s", [30.1, 1e9, -30.1])
def test_a_late_plan_lets_every_node_pass(ask: Ask, age_s: float) -> None:
    one = extender(Mode.enforce, plan(planned(None), made_at=NOW - age_s))
    assert filtered(one, ask).passed == NODES
    assert json.loads(one.preempt(meta_victims(pod(), {"gpu-1": ["v"]})).body)["NodeNameToMetaVictims"]
    assert json.loads(one.prioritize(ask(pod(), NODES)).body) == []


@KINDS
def test_a_planned_node_that_is_not_offered_is_named(ask: Ask) -> None:
    clock = Clock()
    one = extender(Mode.enforce, plan(planned("gpu-9"), ttl_s=1e6), clock)
    read = filtered(one, ask)
    assert read.passed == []
    assert all("gpu-9" in why for why in read.failed.values())
    assert one.preempt(meta_victims(pod(), {"gpu-1": ["v"]})).body == b"{}"
    clock.now += 60  # the plan insists on what kube-scheduler refuses: the pod must not starve
    assert filtered(one, ask).passed == NODES
    assert one.preempt(meta_victims(pod(), {"gpu-1": ["v"]})).outcome == "given"


@KINDS
def test_a_pod_that_was_given_up_goes_where_kube_scheduler_wants(ask: Ask) -> None:
    one = extender(Mode.enforce, plan(planned(None, free=True)))
    assert filtered(one, ask).passed == NODES
    assert one.preempt(meta_victims(pod(), {"gpu-1": ["v"]})).outcome == "given"


@KINDS
def test_a_name_that_is_part_of_another_is_not_it(ask: Ask) -> None:
    read = filtered(extender(Mode.enforce, plan(planned("gpu-1"))), ask, names=["gpu-10", "xgpu-1"])
    assert read.passed == []


@KINDS
def test_no_nodes_at_all(ask: Ask) -> None:
    for seating in (plan(planned("gpu-1")), plan(planned(None)), plan(planned(None, free=True))):
        assert filtered(extender(Mode.enforce, seating), ask, names=[]).passed == []


def test_reasons_get_shorter_with_many_nodes() -> None:
    names = [f"gpu-{index}" for index in range(5_000)]
    long = plan(planned(None))
    told = long.told["team/train-0"]
    seating = plan(type(told)("team", "train-0", told.uid, told.job, None, "why " * 500))
    for ask in (by_names, by_nodes):
        answer = extender(Mode.enforce, seating).filter(ask(pod(), names)).body
        assert len(answer) < 600_000
        assert set(Read(answer, names, cache_capable=ask is by_names).failed) == set(names)


# ---------------------------------------------------------------- prioritize


@KINDS
def test_the_planned_node_has_the_highest_score(ask: Ask) -> None:
    for mode in (Mode.advise, Mode.enforce):
        answer = extender(mode, plan(planned("gpu-2"))).prioritize(ask(pod(), NODES))
        assert json.loads(answer.body) == [{"Host": "gpu-2", "Score": 10}]


@KINDS
@pytest.mark.parametrize("seating", [None, plan(), plan(planned("gpu-2", OTHER_UID)), plan(planned("gpu-9")), plan(planned(None))])
def test_without_advice_nothing_is_scored(ask: Ask, seating: Seating | None) -> None:
    assert json.loads(extender(Mode.advise, seating).prioritize(ask(pod(), NODES)).body) == []


@KINDS
def test_shadow_scores_nothing(ask: Ask) -> None:
    assert json.loads(extender(Mode.shadow, plan(planned("gpu-2"))).prioritize(ask(pod(), NODES)).body) == []


# ---------------------------------------------------------------- preempt


@pytest.mark.parametrize("ask", [meta_victims, whole_victims], ids=["meta", "whole"])
@pytest.mark.parametrize("mode", list(Mode))
def test_evictions_go_ahead_as_they_came_unless_the_plan_places_the_pod(ask: Any, mode: Mode) -> None:
    victims = {"gpu-1": ["a", "b"], "gpu-2": []}
    expected = {
        "gpu-1": {"Pods": [{"UID": "a"}, {"UID": "b"}], "NumPDBViolations": 1},
        "gpu-2": {"Pods": [], "NumPDBViolations": 1},
    }
    for seating in (plan(planned(None)), plan(planned("gpu-3"))):
        body = extender(mode, seating).preempt(ask(pod(), victims)).body
        assert json.loads(body) == ({} if mode is Mode.enforce else {"NodeNameToMetaVictims": expected})
    body = extender(mode, plan()).preempt(ask(pod(opted_in=False), victims)).body
    assert json.loads(body) == {"NodeNameToMetaVictims": expected}


def test_a_pod_that_waits_for_its_first_plan_evicts_nobody() -> None:
    one = extender(Mode.enforce, None)
    one.filter(by_names(pod(), NODES))
    assert one.preempt(meta_victims(pod(), {"gpu-1": ["a"]})).body == b"{}"


@pytest.mark.parametrize(
    "then",
    ["patience ends", "given up", "plan runs out", "a seat lands", "forgotten", "opted out", "clock is set back"],
)
def test_whatever_happens_between_filter_and_preempt_nobody_is_evicted_for_a_pod_that_was_refused(then: str) -> None:
    wall, monotonic = Clock(), Clock()
    one = Extender(Mode.enforce, wall, patience_s=60, monotonic=monotonic)
    one.seating = plan(planned(None))
    asked, victims = pod(), {"gpu-1": ["a"]}
    if then == "patience ends":
        one.seating = None
        one.filter(by_names(asked, NODES))
        monotonic.now += 59.9
    assert json.loads(one.filter(by_names(asked, NODES)).body)["NodeNames"] == []
    monotonic.now += 1
    if then == "given up":
        one.seating = plan(planned(None, free=True))
    elif then == "plan runs out":
        wall.now += 31
    elif then == "a seat lands":
        one.seating = plan(planned("gpu-3"))
    elif then == "forgotten":
        one.seating = plan()
    elif then == "opted out":
        one.seating, asked = None, pod(opted_in=False)  # preempt comes with the pod as it is by then
    elif then == "clock is set back":
        wall.now -= 3_600
    for _ in range(2):
        assert one.preempt(meta_victims(asked, victims)).body == b"{}"
    if then in {"patience ends", "given up", "plan runs out", "opted out", "clock is set back"}:
        assert json.loads(one.filter(by_names(asked, NODES)).body)["NodeNames"] == NODES  # the next attempt: every node passes
        assert one.preempt(meta_victims(asked, victims)).outcome == "given"  # none has room


def test_an_attempt_that_is_over_does_not_keep_the_next_from_evicting() -> None:
    clock = Clock()
    one = extender(Mode.enforce, plan(planned(None)), clock)
    filtered(one, by_names)
    one.seating = plan(planned(None, free=True))
    clock.now += 10  # where no node has room without an eviction, filter is not asked again
    assert one.preempt(meta_victims(pod(), {"gpu-1": ["a"]})).outcome == "given"


@pytest.mark.parametrize("seating", [None, plan(planned("gpu-9"), ttl_s=1e6)], ids=["no plan", "a full node"])
def test_a_pod_that_filter_is_never_asked_about_waits_no_longer_than_patience(seating: Seating | None) -> None:
    clock = Clock()
    one = extender(Mode.enforce, seating, clock)
    for _ in range(6):
        assert one.preempt(meta_victims(pod(), {"gpu-1": ["a"]})).body == b"{}"
        clock.now += 10
    assert one.preempt(meta_victims(pod(), {"gpu-1": ["a"]})).outcome == "given"


def test_what_is_remembered_of_pods_is_bounded() -> None:
    clock = Clock()
    told = Refusals(clock, 60)
    for number in range(200_500):
        told.bearable(f"u{number}")
        told.answered(f"u{number}", refused=True)
        clock.now += 0.001  # 1,000 a second
    assert len(told) <= 100_000
    clock.now += 60
    assert not told.bearable("u200499")
    told.placed("u200499")
    assert told.bearable("u200499")


def test_a_wall_clock_that_jumps_ends_nobodys_patience() -> None:
    wall, monotonic = Clock(), Clock()
    one = Extender(Mode.enforce, wall, patience_s=60, monotonic=monotonic)
    for jump in (0, 3_600, -7_200):
        wall.now += jump
        assert filtered(one, by_names).passed == []


def test_pods_of_one_name_in_two_namespaces_and_pods_without_uid_are_not_mixed_up() -> None:
    one = extender(Mode.enforce, plan(planned("gpu-2"), planned("gpu-3", "", "nobody")))
    other = pod()
    other["metadata"]["namespace"] = "rivals"
    assert filtered(one, by_names, other).passed == []  # it opted in, and waits for a plan of its own
    assert filtered(one, by_names, pod("nobody", "")).passed == []  # who cannot be told from others has no seat
    without = pod()
    del without["metadata"]["uid"]
    assert filtered(one, by_names, without).passed == []


def test_names_that_come_twice_are_scored_once() -> None:
    answer = extender(Mode.advise, plan(planned("gpu-2"))).prioritize(by_names(pod(), ["gpu-2", *NODES, "gpu-2"]))
    assert json.loads(answer.body) == [{"Host": "gpu-2", "Score": 10}]


@KINDS
def test_names_that_come_twice_are_filtered_as_any(ask: Ask) -> None:
    twice = [*NODES, *NODES]
    assert set(filtered(extender(Mode.enforce, plan(planned("gpu-2"))), ask, names=twice).passed) == {"gpu-2"}
    read = filtered(extender(Mode.enforce, plan(planned(None))), ask, names=twice)
    assert (read.passed, set(read.failed)) == ([], set(NODES))


@pytest.mark.parametrize("items", [None, []])
def test_no_items_at_all(items: list[Any] | None) -> None:
    body = go_json({"Pod": pod(), "Nodes": {"metadata": {}, "items": items}, "NodeNames": None})
    for seating in (plan(planned("gpu-1")), plan(planned(None)), plan(planned(None, free=True))):
        answer = json.loads(extender(Mode.enforce, seating).filter(body).body)
        assert not answer["Nodes"]["items"]
        assert not answer["Error"]


def test_field_names_in_any_case_are_one_field() -> None:
    one = extender(Mode.enforce, plan(planned("gpu-2")))
    body = go_json({"pod": pod(), "nodes": None, "nodenames": NODES})
    assert json.loads(one.filter(body).body)["NodeNames"] == ["gpu-2"]
    mixed = go_json({"POD": pod(), "nodeNameToMetaVictims": {"gpu-1": {"pods": [{"uid": "a"}], "numpdbviolations": 2}}})
    assert json.loads(extender(Mode.advise).preempt(mixed).body) == {
        "NodeNameToMetaVictims": {"gpu-1": {"Pods": [{"UID": "a"}], "NumPDBViolations": 2}}
    }


def test_go_writes_null_for_an_empty_list_and_a_missing_map() -> None:
    one = extender(Mode.advise)
    body = go_json(
        {"Pod": pod(), "NodeNameToVictims": None, "NodeNameToMetaVictims": {"n": {"Pods": None, "NumPDBViolations": 0}, "m": None}}
    )
    empty: dict[str, Any] = {"Pods": [], "NumPDBViolations": 0}
    assert json.loads(one.preempt(body).body) == {"NodeNameToMetaVictims": {"n": empty, "m": empty}}
    nothing = go_json({"Pod": pod(), "NodeNameToVictims": None, "NodeNameToMetaVictims": None})
    assert json.loads(one.preempt(nothing).body) == {"NodeNameToMetaVictims": {}}


# ---------------------------------------------------------------- bind


def bind(one: Extender, node: str = "gpu-2") -> Answer:
    return one.bind(go_json({"PodName": "train-0", "PodNamespace": "team", "PodUID": planned(None).uid, "Node": node}))


def test_it_binds_only_when_it_was_given_the_means() -> None:
    assert "bindVerb" in json.loads(bind(extender(Mode.enforce, plan(planned("gpu-2")))).body)["Error"]


def test_it_binds_on_the_planned_node_only() -> None:
    bound: list[tuple[str, str, str, str]] = []
    one = extender(Mode.enforce, plan(planned("gpu-2")), binder=lambda *told: bound.append(told))
    assert json.loads(bind(one).body) == {"Error": ""}
    assert "planned on gpu-2" in json.loads(bind(one, "gpu-1").body)["Error"]
    assert [told[3] for told in bound] == ["gpu-2"]
    one.seating = plan(planned(None))
    assert "waits" in json.loads(bind(one).body)["Error"]


def test_a_binding_that_fails_is_told() -> None:
    def failing(*_: str) -> None:
        raise RuntimeError("409 Conflict")

    assert "409 Conflict" in json.loads(bind(extender(Mode.advise, binder=failing)).body)["Error"]


# ---------------------------------------------------------------- two ways of reading are one

NAMES = st.lists(st.text(alphabet=st.sampled_from('abgpu-1.",\\é\n <'), min_size=0, max_size=6), max_size=6)


@given(NAMES, st.sampled_from(["gpu-1", "a", '"', ",", "é"]))
def test_reading_without_parsing_agrees_with_reading_in_full(names: list[str], node: str) -> None:
    for body in (by_names(pod(), names), json.dumps({"Pod": pod(), "Nodes": None, "NodeNames": names}).encode()):
        asked = wire.read_question(body)
        assert asked.names is not None
        assert json.loads(asked.names.raw) == names
        assert asked.node_names() == names
        assert asked.has(node) == (node in names)
        assert json.loads(asked.names.failed("no")) == dict.fromkeys(names, "no") or not names


ALPHABET = st.sampled_from([b'"', b",", b"a", b"gpu", b'","', b"[", b"]", b"\\", b" ", b"\n", b":", b"{", b"1", b"\xff", b"null"])


@given(st.lists(ALPHABET, max_size=12))
def test_what_is_taken_for_a_plain_array_is_one(parts: list[bytes]) -> None:
    text = b'["' + b"".join(parts) + b'"]'
    if count := wire.plain_strings(text):
        read = json.loads(text)
        assert isinstance(read, list)
        assert len(read) == count
        assert all(isinstance(one, str) for one in read)
        assert json.dumps(read, separators=(",", ":")).encode() == text


def test_usual_names_are_not_parsed() -> None:
    assert wire.plain_strings(go_json([f"ip-10-0-0-{index}.eu-west-1.compute.internal" for index in range(5_000)])) == 5_000
    assert wire.plain_strings(b'["a"]') == 1
    assert wire.plain_strings(b'["","a"]') == 2
    for other in (
        b"[]",
        b'[""',
        b'["a", "b"]',
        b'["a":",","b"]',
        b'["a"b",","c"]',
        b'["]',
        b'["a""]',
        b'[""","]',
        b'[",""a"]',
        b'["a",""","]',
    ):
        assert not wire.plain_strings(other)

"""A snapshot as a placement problem: right for what is right, and never an exception for what is not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.placement.heuristic import heuristic
from models.placement.schema import Tenant, WorkerPlace
from models.placement.verify import verify
from models.vocabulary import Level, Topology
from service.plugins.cluster import SeenJob, SeenNode, SeenWorker, Snapshot
from service.plugins.orders import Order, Seat
from service.plugins.problem import SPAN, STEP, Asked, problem, ranks, step_of, value_of
from service.plugins.reservations import Reservation
from tests.plugins.pretend import job

NOW = 1_000.0


def node(name: str, gpus: int = 4, **facts: Any) -> SeenNode:
    return replace(SeenNode(name, f"{name}-v1", gpu_model="h100", gpus=gpus, cpu_cores=32.0, memory_gib=256.0), **facts)


def running(name: str, gpus: float, *places: SeenWorker, **facts: Any) -> SeenJob:
    return job(name, gpus, len(places), running=places, held=False, opted_in=False, **facts)


def snapshot(nodes: list[SeenNode], *jobs: SeenJob) -> Snapshot:
    return Snapshot("pretend", NOW, tuple(nodes), jobs)


def planned(asked: Asked, name: str) -> Any:
    assert asked.problem is not None
    return next(one for one in asked.problem.jobs if one.id == name)


def test_only_whole_waiting_jobs_that_opted_in_are_planned() -> None:
    jobs = (
        job("in"),
        job("free", held=False),
        job("out", opted_in=False),
        job("part", 1, 3, workers_seen=2),
        running("runs", 1, SeenWorker("a", (2,))),
    )
    asked = problem(snapshot([node("a")], *jobs), held_only=True)
    assert asked.planned == ("in",)
    assert asked.left_out == {"part": "not planned: 2 of its 3 workers exist so far"}
    assert problem(snapshot([node("a")], *jobs)).planned == ("in", "free")
    assert problem(snapshot([node("a")], *jobs), also=("out",)).planned == ("in", "free", "out")
    kept = planned(asked, "runs").running
    assert kept.workers == (WorkerPlace(node="a", gpus=(2,)),)


def test_wishes_become_features_of_the_schema() -> None:
    nodes = [node("a", topology=Topology(rack="r1"), labels={"zone": "x", "host": "a"}), node("b", labels={"zone": "y", "host": "b"})]
    wish = job(
        "j", 2, 2, gpu_models=("h100", "a100"), node_selector={"zone": "x"}, nodes_allowed=frozenset({"a", "c"}), together="rack",
        together_required=False, one_worker_per_node=True, gpu_memory_gib=10.0, cpu_cores=4.0, memory_gib=8.0, tenant="team",
    )  # fmt: skip
    asked = problem(snapshot(nodes, wish))
    made = planned(asked, "j")
    assert made.model_speeds == {"h100": 1.0, "a100": 1.0}
    assert (made.colocate.level, made.colocate.required) == (Level.rack, False)
    assert (made.spread.level, made.spread.max_workers) == (Level.node, 1)
    assert (made.gpu_memory_gib, made.cpu_cores, made.memory_gib, made.tenant) == (10.0, 4.0, 8.0, "team")
    label = next(name for name in made.node_selector if name != "zone")
    assert asked.problem is not None
    assert [one.labels for one in asked.problem.nodes] == [{"zone": "x", label: "yes"}, {}]  # labels that nobody asks for are left away


def test_lists_of_allowed_nodes_share_labels_and_all_nodes_need_none() -> None:
    nodes = [node("a"), node("b")]
    jobs = [job(f"j{place}", nodes_allowed=frozenset(names)) for place, names in enumerate(["a", "a", "ab", "", "c"])]
    asked = problem(snapshot(nodes, *jobs))
    selectors = [planned(asked, f"j{place}").node_selector for place in range(5)]
    assert selectors[0] == selectors[1]
    assert len(selectors[0]) == 1
    assert selectors[2] == {}
    assert selectors[3] == selectors[4] == {"quartermaster.dev/nowhere": "yes"}


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (job("j", 9), "largest node has 4"),
        (job("j", 4, 3), "needs 12 GPUs and the whole cluster has 8"),
        (job("j", 1.5), "only whole numbers, or a fraction below 1"),
        (job("j", -1.0), "which is no amount"),
        (job("j", math.nan), "which is no amount"),
        (job("j", memory_gib=math.inf), "which is no amount"),
        (job("j", workers=0), "no number of workers"),
        (job("j", 1, 2, together="galaxy"), "share one 'galaxy'"),
        (job("x" * 300), "1 to 253 characters"),
    ],
)
def test_what_cannot_be_planned_is_left_out_with_a_reason(wish: SeenJob, words: str) -> None:
    asked = problem(snapshot([node("a"), node("b")], wish, job("fine")))
    assert asked.planned == ("fine",)
    assert words in asked.left_out[wish.id]


# ---------------------------------------------------------------- what runs


def test_made_up_gpus_stay_from_round_to_round() -> None:
    first = [running("x", 2, SeenWorker("a")), running("y", 1, SeenWorker("a"))]
    before = problem(snapshot([node("a")], *first, job("j")))
    kept = before.occupied.seats["y"]
    after = problem(snapshot([node("a")], first[1], running("z", 1, SeenWorker("a")), job("j")), before=before.occupied.seats)
    assert after.occupied.seats["y"] == kept  # although it would be the lowest now
    assert set(after.occupied.seats["z"][0].gpus).isdisjoint(kept[0].gpus)


def test_told_gpus_come_before_made_up_ones() -> None:
    asked = problem(snapshot([node("a")], running("x", 2, SeenWorker("a")), running("y", 1, SeenWorker("a", (0,))), job("j")))
    assert asked.occupied.seats["y"][0].gpus == (0,)
    assert asked.occupied.seats["x"][0].gpus == (1, 2)


def test_fractions_share_the_fullest_gpu() -> None:
    jobs = [running(f"f{place}", size, SeenWorker("a")) for place, size in enumerate([0.5, 0.25, 0.5, 0.25])]
    asked = problem(snapshot([node("a", 2)], *jobs, job("j", 0.5)))
    assert asked.problem is not None
    found = heuristic(asked.problem)
    assert found is not None
    assert {placement.job for placement in found.placements} >= {"j"}


@pytest.mark.parametrize(
    ("jobs", "has"),
    [
        ((running("x", 4, SeenWorker("a")), running("y", 1, SeenWorker("a"))), {}),
        ((running("x", 1, SeenWorker("a", (0,))), running("y", 4, SeenWorker("a", (0, 1, 2, 3)))), {}),
        ((running("x", 1, SeenWorker("a", (9,))),), {"gpus": 0, "gpu_model": None}),
        ((running("x", 0, SeenWorker("a"), cpu_cores=33.0),), {}),
        ((running("x", 0, SeenWorker("a"), memory_gib=1e6),), {}),
        ((running("x", 0.5, SeenWorker("a"), gpu_memory_gib=50.0),), {"gpu_memory_gib": 40.0}),
        ((running("x", math.nan, SeenWorker("a")),), {}),
    ],
)
def test_an_over_full_node_is_set_aside_and_blocked(jobs: tuple[SeenJob, ...], has: dict[str, Any]) -> None:
    asked = problem(snapshot([node("a", **has), node("b", 4)], *jobs, job("j", 1, 4)))
    assert list(asked.occupied.aside) == ["a"]
    assert any("node 'a' is set aside" in warning for warning in asked.warnings)
    assert asked.problem is not None
    found = heuristic(asked.problem)
    assert found is not None
    assert {worker.node for placement in found.placements for worker in placement.workers} == {"b"}


def test_workers_on_unknown_nodes_and_twins_are_told() -> None:
    twin = running("x", 1, SeenWorker("a"))
    asked = problem(snapshot([node("a"), node("a", 8)], running("y", 1, SeenWorker("gone")), job("x"), twin, job("j")))
    assert asked.planned == ("j",)
    assert "y" not in asked.occupied.seats
    assert [word in " ".join(asked.warnings) for word in ("not known", "two jobs 'x'", "two of that name")] == [True] * 3


@pytest.mark.parametrize("state", ["cordoned", "drained"])
def test_closed_nodes_take_nothing_new_and_keep_who_runs_there(state: Any) -> None:
    asked = problem(snapshot([node("a", state=state), node("b", state=state)], running("x", 1, SeenWorker("a")), job("j")))
    assert asked.problem is not None
    found = heuristic(asked.problem)
    assert found is not None
    assert [placement.job for placement in found.placements] == ["x"]
    assert [one.state for one in asked.problem.nodes] == ["cordoned", "drained"]


def test_running_jobs_may_break_the_rules_they_were_started_under() -> None:
    odd = running(
        "x", 1, SeenWorker("a"), SeenWorker("b"), gpu_models=("v100",), node_selector={"no": "where"}, together="rack", workers_seen=2
    )
    asked = problem(snapshot([node("a"), node("b")], odd, job("j")), tenants=[Tenant(id="default", quota_gpus=1.0)])
    assert asked.problem is not None
    assert heuristic(asked.problem) is not None
    assert asked.problem.tenants[0].quota_gpus == 2.0  # what is held already


def test_reservations_hold_their_seats_until_the_job_is_seen_there() -> None:
    released = job("r", 2, 2, held=False)
    order = Order("r", "r", (Seat("a", (0, 1)), Seat("b", (0, 1))), {})
    reservation = Reservation(released, order, 99.0)
    nodes = [node("a", 2), node("b", 2)]
    asked = problem(snapshot(nodes, released, job("j", 2)), reservations=[reservation])
    assert asked.planned == ("j",)
    assert asked.occupied.seats["r"] == order.seats
    assert planned(asked, "r").running.workers == (WorkerPlace(node="a", gpus=(0, 1)), WorkerPlace(node="b", gpus=(0, 1)))
    half = replace(released, running=(SeenWorker("b"),))
    assert len(problem(snapshot(nodes, half, job("j", 2)), reservations=[reservation]).occupied.seats["r"]) == 2
    lagging = problem(snapshot(nodes, job("j", 2)), reservations=[reservation])  # a snapshot from before the job
    assert len(lagging.occupied.seats["r"]) == 2


def test_nothing_to_plan_is_no_problem() -> None:
    assert problem(snapshot([], job("j"))).problem is None
    assert problem(snapshot([node("a")])).problem is None
    assert problem(snapshot([node("a")], job("big", 99))).problem is None


# ---------------------------------------------------------------- priorities


def test_a_gpu_of_higher_priority_is_worth_more() -> None:
    assert ranks([5, -3, 10**9, 5]) == {-3: 1, 5: 2, 10**9: 3}
    assert step_of(1) == step_of(2) == step_of(6) == STEP
    for count in (7, 8, 100, 5_000):
        assert step_of(count) > 1
        assert math.isclose(step_of(count) ** (count - 1), SPAN)
    young, old = job("y", 4, submitted_at=NOW), job("o", 4, submitted_at=0.0)
    for step in (STEP, 1.003):
        assert value_of(young, 1, step, NOW) < value_of(old, 1, step, NOW) < value_of(young, 2, step, NOW)
    assert value_of(job("f", submitted_at=NOW + 50), 1, STEP, NOW) == 1.0  # a clock that is ahead


def test_the_higher_priority_goes_first() -> None:
    jobs = [job("low", 4, priority=-5), job("high", 4, priority=10**9), job("mid", 4, priority=0)]
    asked = problem(snapshot([node("a")], *jobs))
    assert asked.problem is not None
    found = heuristic(asked.problem)
    assert found is not None
    assert [placement.job for placement in found.placements] == ["high"]


# ---------------------------------------------------------------- whatever a snapshot says


numbers = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 8.0, 1.5, -1.0, math.nan, math.inf, 1e13])
names = st.sampled_from(["a", "b", "c", "", "gone", "x" * 300])
gpus = st.none() | st.lists(st.integers(-1, 9), max_size=4).map(tuple)
nodes_ = st.builds(
    SeenNode,
    id=names,
    version=st.just("1"),
    state=st.sampled_from(["ready", "cordoned", "drained"]),
    gpu_model=st.sampled_from([None, "", "h100"]),
    gpus=st.sampled_from([0, 1, 4, 8, -1, 5_000]),
    gpu_memory_gib=st.none() | numbers,
    cpu_cores=st.sampled_from([64.0, 0.0]) | numbers,
    memory_gib=st.sampled_from([64.0]) | numbers,
    topology=st.sampled_from([Topology(), Topology(rack="r")]),
    labels=st.sampled_from([{}, {"k": "v"}, {"": ""}]),
)
jobs_ = st.builds(
    SeenJob,
    id=st.sampled_from(["j1", "j2", "j3", "j4", "", "y" * 400]),
    identity=st.just("1"),
    tenant=st.sampled_from(["default", "", "t", "z" * 300]),
    workers=st.integers(-1, 4),
    workers_seen=st.none() | st.integers(0, 4),
    gpus_per_worker=numbers,
    gpu_memory_gib=st.just(0.0) | numbers,
    cpu_cores=st.just(0.0) | numbers,
    memory_gib=st.just(0.0) | numbers,
    gpu_models=st.sampled_from([(), ("h100",), ("",)]),
    node_selector=st.sampled_from([{}, {"k": "v"}]),
    nodes_allowed=st.none() | st.frozensets(names, max_size=3),
    together=st.sampled_from([None, "rack", "node", "galaxy"]),
    one_worker_per_node=st.booleans(),
    priority=st.integers(-(10**12), 10**12),
    opted_in=st.booleans(),
    running=st.lists(st.builds(SeenWorker, names, gpus), max_size=3).map(tuple),
    evictable=st.booleans(),
    submitted_at=st.none() | st.sampled_from([0.0, -1e18, 1e18, math.nan]),
)


@given(st.lists(nodes_, max_size=4), st.lists(jobs_, max_size=5), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_snapshot_raises_and_every_problem_can_be_solved(nodes: list[SeenNode], jobs: list[SeenJob], quotas: bool) -> None:
    tenants = [Tenant(id="t", quota_gpus=1.0), Tenant(id="t", quota_gpus=2.0)] if quotas else []
    asked = problem(Snapshot("pretend", NOW, tuple(nodes), tuple(jobs)), tenants=tenants)
    assert not set(asked.planned) & set(asked.left_out)
    for one in asked.jobs.values():
        assert not (one.opted_in and one.waits) or one.id in asked.planned or one.id in asked.left_out
    if asked.problem is not None:
        found = heuristic(asked.problem)
        assert found is not None  # what runs can always stay
        assert verify(asked.problem, found).ok


def test_priorities_of_who_runs_make_the_steps_no_smaller() -> None:
    runs = [running(f"run{place}", 1, SeenWorker("a", (place,)), priority=10 * place) for place in range(16)]
    made = problem(snapshot([node("a", 16), node("b")], *runs, job("high", priority=155), job("low", priority=5))).problem
    assert made is not None
    worth = {one.id: one.value * one.priority for one in made.jobs}
    assert worth["high"] == pytest.approx(10 * worth["low"])
    order = {one.id: one.priority for one in made.jobs}
    assert order["run0"] < order["low"] < order["run1"] < order["run15"] < order["high"]


def test_a_problem_of_what_runs_alone_with_its_rules() -> None:
    seats = (SeenWorker("a", (0,)), SeenWorker("a", (1,)))
    runs = running("runs", 1, *seats, gpu_models=("h100",), nodes_allowed=frozenset({"a"}), together="rack", one_worker_per_node=True)
    seen = snapshot([node("a"), node("b")], runs)
    assert problem(seen).problem is None
    plain = problem(seen, keep_empty=True)
    assert (plain.planned, planned(plain, "runs").model_speeds, planned(plain, "runs").colocate) == ((), {}, None)
    ruled = problem(seen, keep_empty=True, rules_of_running=True)
    mine = planned(ruled, "runs")
    assert (mine.model_speeds, mine.colocate.level, mine.spread.max_workers) == ({"h100": 1.0}, Level.rack, 1)
    assert ruled.problem is not None
    assert [one.id for one in ruled.problem.nodes if mine.node_selector.items() <= one.labels.items()] == ["a"]
    assert problem(snapshot([], runs), keep_empty=True).problem is None

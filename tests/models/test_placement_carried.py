"""A plan of one problem carried over to another: right whatever was edited, and no worse than it must be."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.placement.booking import book_together, book_where_it_fits, seats_of
from models.placement.heuristic import heuristic
from models.placement.ledger import Ledger, Seat
from models.placement.scale import carried
from models.placement.schema import GoalName, Job, JobPlacement, Plan, Problem, Running, Use, WorkerPlace
from models.placement.verify import verify
from tests.models.placement_problems import job, middling_problem, node, problem, tiny_problem

SECONDS = 5.0


def placed(plan: Plan | None) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
    assert plan is not None
    return {placement.job: [(worker.node, worker.gpus) for worker in placement.workers] for placement in plan.placements}


def plan_of(**seats: str) -> Plan:
    """``a="n1:0,1 n2:0"`` is job a with a worker on GPUs 0 and 1 of n1 and another on GPU 0 of n2."""
    placements = []
    for name, text in seats.items():
        split = (one.split(":") for one in text.split())
        workers = tuple(WorkerPlace(node=at, gpus=tuple(int(gpu) for gpu in gpus.split(",") if gpu)) for at, gpus in split)
        placements.append(JobPlacement(job=name, workers=workers))
    return Plan(placements=tuple(placements))


# ---------------------------------------------------------------- anything at all is edited


def lose_nodes(rng: Random, case: Problem) -> dict[str, Any]:
    """Jobs that run on lost nodes wait again."""
    gone = {one.id for one in rng.sample(case.nodes, rng.randint(1, max(1, len(case.nodes) // 4)))}
    lost = [one for one in case.jobs if one.running is not None and any(worker.node in gone for worker in one.running.workers)]
    waits = {one.id: one.model_copy(update={"running": None}) for one in lost}
    return {
        "nodes": tuple(one for one in case.nodes if one.id not in gone),
        "jobs": tuple(waits.get(one.id, one) for one in case.jobs),
    }


def add_nodes(rng: Random, case: Problem) -> dict[str, Any]:
    new = (one.model_copy(update={"id": f"new-{one.id}"}) for one in rng.sample(case.nodes, 1))
    return {"nodes": tuple(rng.sample((*case.nodes, *new), len(case.nodes) + 1))}


def change_nodes(rng: Random, case: Problem) -> dict[str, Any]:
    """Some nodes become smaller or larger, or are cordoned, drained, reserved or relabelled."""

    def changed(one: Any) -> Any:
        if rng.random() < 0.6:
            return one
        update = rng.choice(
            (
                {"gpus": max(0, one.gpus - 1)} if one.gpus > 1 else {},
                {"gpus": one.gpus + 1} if one.gpus else {},
                {"cpu_cores": one.cpu_cores * rng.choice((0.5, 0.75, 2))},
                {"memory_gib": one.memory_gib * rng.choice((0.5, 2))},
                {"gpu_memory_gib": rng.choice((None, 8, 16))} if one.gpus else {},
                {"state": rng.choice(("ready", "cordoned", "drained"))},
                {"reserved_for": rng.choice((None, "red", "blue", *(job.tenant for job in case.jobs)))},
                {"labels": {"disk": rng.choice(("nvme", "sata"))}},
                {"topology": one.topology.model_copy(update={"rack": rng.choice((None, "r1", "r2"))})},
                {"power_kw": rng.choice((0.5, 3.0))},
            )
        )
        return one.model_copy(update=update)

    return {"nodes": tuple(changed(one) for one in case.nodes)}


def change_jobs(rng: Random, case: Problem) -> dict[str, Any]:
    """Some jobs go, some are new, some have other sizes or rules."""
    jobs = []
    for one in case.jobs:
        draw = rng.random()
        if draw < 0.7:
            jobs.append(one)
        elif draw < 0.78 and one.id != case.preempt_for:
            jobs.append(one.model_copy(update={"id": f"new-{one.id}", "running": None}))
        elif one.running is None:
            update: Any = rng.choice(
                (
                    {"gpus_per_worker": rng.choice((0, 0.5, 1, 2))},
                    {"workers": one.workers + 1},
                    {"workers": max(one.workers_min or 1, one.workers - 1)},
                    {"cpu_cores": one.cpu_cores * rng.choice((0.5, 2))},
                    {"spread": None, "colocate": None},
                    {"gpu_memory_gib": rng.choice((0, 8)) if one.gpus_per_worker else 0},
                    {"tenant": rng.choice(case.jobs).tenant},
                    {"priority": one.priority + 1},
                )
            )
            jobs.append(one.model_copy(update=update))
        else:
            jobs.append(one.model_copy(update={"running": one.running.model_copy(update={"evictable": rng.random() < 0.8})}))
    rng.shuffle(jobs)
    return {"jobs": tuple(jobs)}


def start_jobs(rng: Random, case: Problem, plan: Plan) -> dict[str, Any]:
    """Some jobs of the plan run by now, just there; some that ran have stopped and wait."""
    at = placed(plan)
    jobs = []
    for one in case.jobs:
        update: dict[str, Any] = {}
        if one.running is None and one.id in at and one.id != case.preempt_for and rng.random() < 0.3:
            workers = tuple(WorkerPlace(node=name, gpus=gpus) for name, gpus in at[one.id])
            update = {"running": Running(workers=workers, evictable=rng.random() < 0.7)}
        elif one.running is not None and rng.random() < 0.2:
            update = {"running": None}
        jobs.append(one.model_copy(update=update))
    return {"jobs": tuple(jobs)}


def change_limits(rng: Random, case: Problem, plan: Plan) -> dict[str, Any]:
    """Quotas, the power cap and the budgets."""
    del plan
    update: dict[str, Any] = {
        "tenants": tuple(
            one.model_copy(update={"quota_gpus": rng.choice((None, one.quota_gpus, (one.quota_gpus or 4) * rng.choice((0.5, 2))))})
            for one in case.tenants
        ),
        "power_cap_kw": rng.choice((None, case.power_cap_kw, max(1.0, rng.random() * sum(one.power_kw for one in case.nodes)))),
    }
    if case.use is Use.repack:
        update["max_moves"] = rng.choice((None, 0, 1, 5))
    if case.use is not Use.place:
        update["max_evictions"] = rng.choice((None, 0, 1, 5))
    return update


def edited(rng: Random, case: Problem, plan: Plan) -> Problem | None:
    """The problem after a few edits; None when they contradict each other."""
    edits: tuple[Callable[[Problem], dict[str, Any]], ...] = (
        lambda now: lose_nodes(rng, now),
        lambda now: add_nodes(rng, now),
        lambda now: change_nodes(rng, now),
        lambda now: change_jobs(rng, now),
        lambda now: start_jobs(rng, now, plan),
        lambda now: change_limits(rng, now, plan),
    )
    now = case
    for edit in rng.sample(edits, rng.randint(1, 3)):
        now = now.model_copy(update=edit(now))
    try:
        return Problem.model_validate_json(now.model_dump_json())
    except ValidationError:
        return None


@pytest.mark.parametrize("use", Use)
@pytest.mark.parametrize(("make", "count", "most"), [(tiny_problem, 100, 5), (middling_problem, 3, 8)], ids=["tiny", "middling"])
def test_whatever_is_edited_the_carried_plan_is_right(use: Use, make: Callable[[int, Use], Problem], count: int, most: int) -> None:
    seen = nothing = 0
    for seed in range(count):
        case = make(seed, use)
        plan = heuristic(case)
        if plan is None:
            continue
        rng = Random(seed)
        for _ in range(most):
            other = edited(rng, case, plan)
            if other is None:
                continue
            carry = carried(other, plan, SECONDS)
            if carry is None:
                nothing += 1
                continue
            verdict = verify(other, carry)
            assert verdict.ok, (seed, verdict.violations)
            assert Plan.model_validate_json(carry.model_dump_json()) == carry
            seen += 1
    assert seen > count
    assert nothing < 2 * seen


@pytest.mark.parametrize("make", [tiny_problem, middling_problem])
def test_a_chain_of_edits_each_from_the_plan_before(make: Callable[[int, Use], Problem]) -> None:
    for seed in range(3):
        rng = Random(seed)
        case = make(seed, Use.place)
        plan = heuristic(case)
        for _ in range(8):
            other = edited(rng, case, plan) if plan is not None else None
            if plan is None or other is None or not other.jobs:
                continue
            carry = carried(other, plan, SECONDS)
            if carry is not None:
                assert verify(other, carry).ok
                case, plan = other, carry


@pytest.mark.parametrize("use", [Use.place, Use.repack])
def test_of_the_same_problem_everything_stays(use: Use) -> None:
    for seed in range(60):
        case = tiny_problem(seed, use).model_copy(update={"goals": (GoalName.placed_value, GoalName.allocated_gpus)})
        plan = heuristic(case)
        carry = None if plan is None else carried(case, plan, SECONDS)
        if plan is None or carry is None:
            continue
        elastic = {one.id for one in case.jobs if one.workers_min is not None}
        assert {name: seats for name, seats in placed(carry).items() if name not in elastic}.items() >= {
            name: seats for name, seats in placed(plan).items() if name not in elastic
        }.items()
        assert verify(case, carry).objectives["allocated_gpus"] >= verify(case, plan).objectives["allocated_gpus"] - 1e-9


# ---------------------------------------------------------------- what stays, and what does not


def test_who_was_on_a_lost_node_finds_another() -> None:
    case = problem([node("n2", 4), node("n3", 4)], [job("a", 2), job("b", 2), job("c", 4)])
    carry = carried(case, plan_of(a="n1:0,1", b="n2:2,3", c="n3:0,1,2,3"), SECONDS)
    assert placed(carry) == {"a": [("n2", (0, 1))], "b": [("n2", (2, 3))], "c": [("n3", (0, 1, 2, 3))]}


def test_what_fits_no_longer_gives_way_to_what_is_worth_more() -> None:
    case = problem([node("n1", 2)], [job("cheap", 1), job("dear", 1, value=5), job("middle", 1, value=2)])
    carry = carried(case, plan_of(cheap="n1:0", dear="n1:1", middle="n1:0"), SECONDS)
    assert placed(carry) == {"dear": [("n1", (1,))], "middle": [("n1", (0,))]}


def test_a_quota_that_shrank_keeps_the_better_jobs_where_they_are() -> None:
    jobs = [job("a", 1, tenant="t"), job("b", 1, tenant="t", value=3), job("c", 1, tenant="u")]
    case = problem([node("n1", 4)], jobs, tenants=[{"id": "t", "quota_gpus": 1}, {"id": "u"}])
    assert placed(carried(case, plan_of(a="n1:0", b="n1:1", c="n1:2"), SECONDS)) == {"b": [("n1", (1,))], "c": [("n1", (2,))]}


def test_a_power_cap_that_shrank_leaves_nodes_off() -> None:
    nodes = [node(f"n{k}", 2, power_kw=2.0) for k in range(3)]
    case = problem(nodes, [job(f"j{k}", 2) for k in range(3)], power_cap_kw=4.0)
    carry = carried(case, plan_of(j0="n0:0,1", j1="n1:0,1", j2="n2:0,1"), SECONDS)
    assert len(placed(carry)) == 2
    assert verify(case, carry or Plan()).ok


def test_an_elastic_job_goes_on_with_the_workers_that_are_left_and_takes_more() -> None:
    jobs = [job("a", 1, 4, workers_min=2), job("b", 1, 3)]
    small = problem([node("n2", 2), node("n3", 1)], jobs)
    assert len(placed(carried(small, plan_of(a="n1:0 n1:1 n2:0 n2:1"), SECONDS))["a"]) == 3
    larger = problem([node("n2", 2), node("n3", 2)], [jobs[0]])
    assert len(placed(carried(larger, plan_of(a="n1:0 n1:1 n2:0 n2:1"), SECONDS))["a"]) == 4


def test_a_gang_that_lost_a_worker_is_seated_anew_or_left_out() -> None:
    jobs = [job("a", 1, 2), job("b", 1)]
    old = plan_of(a="n1:0 n2:0", b="n2:1")
    assert placed(carried(problem([node("n2", 2)], jobs), old, SECONDS)) == {"b": [("n2", (1,))]}
    assert len(placed(carried(problem([node("n2", 3)], jobs), old, SECONDS))["a"]) == 2


def test_running_jobs_are_where_the_problem_says() -> None:
    case = problem([node("n1", 2)], [job("a", 1, runs="n1:1"), job("b", 1), job("c", 1)])
    assert placed(carried(case, plan_of(a="n1:0", b="n1:1"), SECONDS)) == {"a": [("n1", (1,))], "b": [("n1", (0,))]}


def test_jobs_to_keep_apart_do_not_both_stay() -> None:
    apart = {"jobs": ["b"], "level": "node"}
    case = problem([node("n1", 2), node("n2", 1)], [job("a", 1, anti_affinity=apart), job("b", 1)])
    assert {at for seats in placed(carried(case, plan_of(a="n1:0", b="n1:1"), SECONDS)).values() for at, _ in seats} == {"n1", "n2"}


def test_moves_of_a_repack_are_carried_within_the_budget() -> None:
    nodes = [node("n1", 2), node("n2", 2)]
    jobs = [job("a", 1, runs="n1:0"), job("b", 1, runs="n2:0"), job("big", 2)]
    old = plan_of(a="n2:1", b="n2:0", big="n1:0,1")
    carry = carried(problem(nodes, jobs, use="repack", max_moves=1), old, SECONDS)
    assert carry is not None
    assert (placed(carry), carry.moved) == (placed(old), ("a",))
    carry = carried(problem(nodes, jobs, use="repack", max_moves=0), old, SECONDS)
    assert carry is not None
    assert (sorted(placed(carry)), carry.moved) == (["a", "b"], ())


def test_evictions_are_carried_where_they_are_allowed() -> None:
    jobs = [job("a", 1, runs="n1:0"), job("big", 2, value=9), job("small", 1)]
    nodes = [node("n1", 2), node("n2", 1)]
    old = plan_of(big="n1:0,1", small="n2:0").model_copy(update={"evicted": ("a",)})
    carry = carried(problem(nodes, jobs, use="repack", max_evictions=1), old, SECONDS)
    assert carry is not None
    assert (sorted(placed(carry)), carry.evicted) == (["big", "small"], ("a",))
    carry = carried(problem(nodes, jobs, use="repack"), old, SECONDS)
    assert carry is not None
    assert (sorted(placed(carry)), carry.evicted) == (["a", "small"], ())


def test_a_preemption_evicts_whom_it_evicted_before_and_no_more_than_it_must() -> None:
    jobs = [job("a", 1, runs="n1:0"), job("b", 1, runs="n1:1"), job("c", 1, runs="n2:0"), job("big", 2, priority=5)]
    old = plan_of(c="n2:0", big="n1:0,1").model_copy(update={"evicted": ("a", "b")})
    case = problem([node("n1", 3), node("n2", 1)], jobs, use="preempt", preempt_for="big")
    carry = carried(case, old, SECONDS)
    assert carry is not None
    assert verify(case, carry).ok
    assert carry.evicted in {("a", "b"), ("a",), ("b",)}
    assert carried(case, plan_of(c="n2:0"), SECONDS) is None


@pytest.mark.parametrize("old", [Plan(), plan_of(stranger="n1:0"), plan_of(a="gone:0"), plan_of(a="n1:7"), plan_of(a="n1:0,1")], ids=str)
def test_nothing_to_carry(old: Plan) -> None:
    small = problem([node("n1", 1, state="cordoned")], [job("a", 1)])
    assert carried(small, old, SECONDS) is None


def test_jobs_that_run_against_a_rule() -> None:
    case = problem(
        [node("n1", 2)], [job("a", 1, tenant="t", runs="n1:0"), job("b", 1)], tenants=[{"id": "t", "quota_gpus": 0.5}, {"id": "default"}]
    )
    assert carried(case, plan_of(b="n1:1"), SECONDS) is None


def test_where_fewer_nodes_are_better_nothing_is_filled_up() -> None:
    case = problem([node("n1", 2), node("n2", 2)], [job("a", 2), job("b", 2)], goals=["nodes_powered"])
    assert placed(carried(case, plan_of(a="n1:0,1"), SECONDS)) == {"a": [("n1", (0, 1))]}


# ---------------------------------------------------------------- booking at once


def booked(ledger: Ledger) -> list[object]:
    arrays = (ledger.cpu, ledger.memory, ledger.whole, ledger.workers, ledger.share, ledger.gpu_memory)
    return [*(np.round(array, 9).tolist() for array in arrays), ledger.quota, round(ledger.power_left, 9), ledger.seats]


@pytest.mark.parametrize("make", [tiny_problem, middling_problem])
def test_booking_together_is_booking_one_by_one(make: Callable[[int, Use], Problem]) -> None:
    for seed in range(5 if make is middling_problem else 60):
        case = make(seed, Use.place)
        plan = heuristic(case)
        if plan is None:
            continue
        wanted: dict[int, list[Seat]] = {}
        jobs: dict[str, tuple[int, Job]] = {one.id: (place, one) for place, one in enumerate(case.jobs)}
        together, single = Ledger(case), Ledger(case)
        for placement in plan.placements:
            place, one = jobs[placement.job]
            if one.running is not None:
                together.book_running(place)
                single.book_running(place)
                continue
            seats = seats_of(together, one, placement.workers)
            assert seats is not None
            wanted[place] = seats
        for place in book_together(together, wanted):
            assert together.has_foes(place)
            assert book_where_it_fits(together, place, wanted[place])
        for place in together.seats:
            if place in wanted:
                assert book_where_it_fits(single, place, wanted[place])
        assert booked(together) == booked(single)

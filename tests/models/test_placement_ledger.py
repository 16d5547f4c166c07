"""What is booked and what still fits: the ledger against the verifier, which shares no code with it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from random import Random

import numpy as np
import pytest

from models.placement.ledger import Ledger
from models.placement.preemption import running_unlawfully
from models.placement.schema import Job, JobPlacement, Plan, Problem, Rule, Use, WorkerPlace
from models.placement.seating import seat_job
from models.placement.verify import verify
from tests.models.placement_problems import job, node, problem, tiny_problem

# What ``room`` answers for one more worker on one node; the other rules are about whole gangs or about running jobs.
OF_ROOM = frozenset(
    {
        *(Rule.node_cpu, Rule.node_memory, Rule.node_gpus, Rule.gpu_share, Rule.gpu_memory),
        *(Rule.accepted_model, Rule.node_selector, Rule.drained, Rule.reserved, Rule.anti_affinity, Rule.power_cap),
    }
)


def half_full(case: Problem, rng: Random) -> Ledger:
    """A ledger with what runs, and some of the waiting jobs seated anywhere."""
    ledger = Ledger(case)
    for place, one in enumerate(case.jobs):
        if one.running is not None:
            ledger.book_running(place)
    for place in running_unlawfully(ledger):  # on drained nodes
        ledger.unbook(place)
    for place in range(len(case.jobs)):
        if place not in ledger.seats and rng.random() < 0.5:
            seat_job(ledger, place, allowed=np.array([rng.random() < 0.7 for _ in case.nodes]))
    return ledger


def one_more(ledger: Ledger, one: Job, worker: WorkerPlace) -> set[str]:
    """The rules of ``OF_ROOM`` that the booked plan breaks with one more worker in it."""
    plan = ledger.plan()
    had = next((placement.workers for placement in plan.placements if placement.job == one.id), ())
    others = tuple(placement for placement in plan.placements if placement.job != one.id)
    wider = plan.model_copy(update={"placements": (*others, JobPlacement(job=one.id, workers=(*had, worker)))})
    return {violation.rule for violation in verify(ledger.problem, wider).violations} & OF_ROOM


def gpu_choices(gpus: int, one: Job) -> Iterator[tuple[int, ...]]:
    size = one.gpus_per_worker
    return combinations(range(gpus), int(size) if size >= 1 else int(size > 0))


def state(ledger: Ledger) -> list[object]:
    arrays = (ledger.cpu, ledger.memory, ledger.whole, ledger.workers, ledger.share, ledger.gpu_memory)
    return [*(array.tolist() for array in arrays), dict(ledger.quota), ledger.power_left, dict(ledger.seats)]


@pytest.mark.parametrize("use", Use)
def test_room_is_what_the_verifier_says(use: Use) -> None:
    fitted = refused = 0
    for seed in range(100):
        rng = Random(seed)
        case = tiny_problem(seed, use)
        ledger = half_full(case, rng)
        if {violation.rule for violation in verify(case, ledger.plan()).violations} & OF_ROOM:
            continue  # a power cap below what runs: nothing can be told apart
        for place, one in enumerate(case.jobs):
            if one.running is not None or place in ledger.seats:
                continue
            room = ledger.room(place)
            for at, host in enumerate(case.nodes):
                if room[at]:
                    worker = WorkerPlace(node=host.id, gpus=ledger.pick_gpus(place, at))
                    assert not one_more(ledger, one, worker), (seed, one.id, host.id)
                    fitted += 1
                else:
                    for gpus in gpu_choices(host.gpus, one):
                        # A node without the domain to colocate in counts as no host; the verifier calls that colocation.
                        no_domain = one.colocate is not None and one.colocate.required and host.topology.domain(one.colocate.level) is None
                        assert no_domain or one_more(ledger, one, WorkerPlace(node=host.id, gpus=gpus)), (seed, one.id, host.id)
                    refused += 1
    assert min(fitted, refused) > 80


@pytest.mark.parametrize("use", Use)
def test_room_can_be_filled_to_the_last_worker(use: Use) -> None:
    for seed in range(100):
        case = tiny_problem(seed, use).model_copy(update={"power_cap_kw": None})
        ledger = half_full(case, Random(seed))
        for place, one in enumerate(case.jobs):
            if one.running is not None or place in ledger.seats:
                continue
            for at in range(len(case.nodes)):
                for left in range(min(int(ledger.room(place)[at]), 6), 0, -1):
                    assert ledger.room(place)[at] >= left
                    ledger.book(place, [(at, ledger.pick_gpus(place, at))])
                assert not {violation.rule for violation in verify(case, ledger.plan()).violations} & OF_ROOM
            if place in ledger.seats:
                ledger.unbook(place)


@pytest.mark.parametrize("use", Use)
def test_unbooking_leaves_no_trace(use: Use) -> None:
    for seed in range(100):
        case = tiny_problem(seed, use)
        ledger = half_full(case, Random(seed))
        before = state(ledger)
        taken = {place: ledger.unbook(place) for place in list(ledger.seats)}
        assert state(ledger) == state(Ledger(case))
        for place, seats in taken.items():
            ledger.book(place, seats)
        assert state(ledger) == before


def test_shares_of_any_size_leave_whole_gpus_behind() -> None:
    case = problem([node("a", 1)], [job(f"j{k}", 0.1) for k in range(10)])
    ledger = Ledger(case)
    for place in range(10):
        ledger.book(place, [(0, ledger.pick_gpus(place, 0))])
    assert ledger.room(0)[0] == 0
    for place in range(10):
        ledger.unbook(place)
    assert (ledger.share[0, 0], ledger.whole[0]) == (1.0, 1)


def test_a_little_gpu_memory_of_an_unlimited_gpu() -> None:
    case = problem([node("a", 1)], [job("small", 0.5, gpu_memory_gib=1e-3), job("cpu", 0, cpu_cores=1e-300)])
    ledger = Ledger(case)
    assert ledger.room(0)[0] == 2
    assert ledger.room(1)[0] > 1000


def test_jobs_to_keep_apart_are_seen_from_both_sides() -> None:
    case = problem([node("n1"), node("n2")], [job("a", anti_affinity={"jobs": ["b"], "level": "node"}), job("b"), job("c")])
    ledger = Ledger(case)
    ledger.book(0, [(0, (0,))])
    assert ledger.room(1).tolist() == [0, 2]
    ledger.book(1, [(0, (1,))])
    assert ledger.meets_foe(0)
    assert ledger.meets_foe(1)
    assert not ledger.meets_foe(2)
    ledger.unbook(0)
    assert ledger.room(0).tolist() == [0, 2]


def test_a_plan_is_booked_and_told_again() -> None:
    case = problem(
        [node("n1"), node("n2")], [job("a", 1, 2), job("b", 0.5, runs="n2:0"), job("c", 1, runs="n2:1")], use="repack", max_evictions=1
    )
    ledger = Ledger(case)
    ledger.book_plan(
        Plan(
            placements=(
                JobPlacement(job="a", workers=(WorkerPlace(node="n1", gpus=(0,)), WorkerPlace(node="n2", gpus=(0,)))),
                JobPlacement(job="b", workers=(WorkerPlace(node="n1", gpus=(1,)),)),
            )
        )
    )
    told = ledger.plan()
    assert (told.moved, told.evicted) == (("b",), ("c",))
    assert verify(case, told).ok

"""Moves for the head of the queue: what they cost, and that the budget holds."""

import pytest
from hypothesis import given, settings

from models.placement.online.fgd import Fragmentation, typical
from models.placement.online.rules import FirstFit
from models.placement.online.state import Cluster
from models.placement.schema import Problem
from service.replay.engine import Case, Costs, Simulation
from service.replay.jobs import TraceJob
from service.replay.moving import Mover
from service.replay.planning import Cadence, Planner, placement_solver
from service.replay.policies import POLICIES
from service.replay.queues import DISCIPLINES, Queue
from service.replay.replays import simulation
from tests.service.replay.cases import Replayed, job, nodes, small_jobs

# First fit puts a and b on the first node; b ends, and neither node has 2 GPUs left for the head.
APART = [job("a", 0, 100), job("b", 0, 10), job("c", 1, 100), job("head", 20, 5, 2)]


def moving(cluster: Cluster, jobs: list[TraceJob], every: int, costs: Costs | None = None, discipline: str = "fifo") -> Simulation:
    own = cluster.copy()
    requests = [one.request for one in jobs]
    case = Case(jobs, [one.duration_s for one in jobs], (), costs or Costs())
    found = Simulation(
        case, own, Queue(DISCIPLINES[discipline]), FirstFit(), fragmentation=Fragmentation(own, typical(requests)), mover=Mover(every)
    )
    found.run()
    return found


def test_one_move_makes_room_for_the_head() -> None:
    assert Replayed(nodes(2, 2), APART, "fifo", "first_fit").starts["head"] == 100
    found = moving(nodes(2, 2), APART, every=1, costs=Costs(move_s=7.0))
    assert found.history.start_s[3] == 20
    assert found.history.moved.tolist() == [1, 0, 0, 0]
    assert found.history.end_s.tolist() == [107, 10, 101, 25]


def test_no_move_beyond_the_budget() -> None:
    found = moving(nodes(2, 2), APART, every=5)
    assert found.history.moved.sum() == 0
    assert found.history.start_s[3] == 100


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="every must be 1"):
        Mover(0)


@settings(max_examples=30, deadline=None)
@given(jobs=small_jobs(most=16))
def test_moves_keep_the_budget_and_the_work(jobs: list[TraceJob]) -> None:
    found = moving(nodes(4, 4, 2), jobs, every=3, costs=Costs(move_s=2.0), discipline="patient_smallest")
    history = found.history
    assert history.moved.sum() <= len(jobs) // 3
    for number, one in enumerate(jobs):
        stays = [stay for stay in history.stays if stay.job == number]
        assert len(stays) == 1 + history.moved[number]
        assert sum(stay.useful_to_s - stay.useful_from_s for stay in stays) == pytest.approx(one.duration_s)
        assert history.end_s[number] <= history.start_s[number] + one.duration_s + 2.0 * history.moved[number] + 1e-9


def test_the_policy_that_moves_is_a_line_of_the_table() -> None:
    case = Case([*APART, *(job(f"late{n}", 21 + n, 1) for n in range(20))], [1.0] * 24)
    history = simulation(case, nodes(2, 2), POLICIES["quartermaster_moves"], 0).run()
    assert history.moved.sum() <= 1


# ---------------------------------------------------------------- plans of the solver


def test_a_plan_moves_a_job_to_let_a_larger_one_start() -> None:
    jobs = [job("x", 0, 1000, 1), job("f", 0, 5, 1), job("y", 1, 1000, 1), job("gang", 20, 50, 2)]
    case = Case(jobs, [one.duration_s for one in jobs], (), Costs(move_s=3.0))
    own = nodes(2, 2)
    found = Simulation(
        case,
        own,
        Queue(DISCIPLINES["fifo"]),
        FirstFit(),
        fragmentation=Fragmentation(own, typical([one.request for one in jobs])),
        planner=Planner(Cadence(every_s=1.0), placement_solver(10.0)),
    )
    found.run()
    assert found.history.start_s[3] == 20
    assert found.history.moved.sum() == 1
    assert found.planner is not None
    assert found.planner.told()["started"] == 1


@pytest.mark.parametrize(("longest", "expected"), [(1, list(range(1, 40))), (4, [1, 3, 7, 11, 15, 19, 23, 27, 31, 35, 39])])
def test_plans_that_start_nobody_become_rarer(longest: int, expected: list[float]) -> None:
    jobs = [job("all", 0, 40, 1), *(job(f"w{at}", at, 1, 1) for at in range(1, 40))]
    own, asked_s = nodes(1), []

    def in_vain(_problem: Problem) -> tuple[None, bool]:
        asked_s.append(found.now_s)
        return None, True

    found = Simulation(
        Case(jobs, [one.duration_s for one in jobs]),
        own,
        Queue(DISCIPLINES["fifo"]),
        FirstFit(),
        fragmentation=Fragmentation(own, typical([one.request for one in jobs])),
        planner=Planner(Cadence(every_s=1.0, longest=longest), in_vain),
    )
    found.run()
    assert [at for at in asked_s if at < 40] == expected


@settings(max_examples=8, deadline=None)
@given(jobs=small_jobs(most=10))
def test_plans_keep_reservations_budget_and_work(jobs: list[TraceJob]) -> None:
    found = Replayed(nodes(4, 4, 2), jobs, "patient_smallest", "fgd", planner=Planner(Cadence(3.0, 5, 2), placement_solver(10.0)))
    for _, number, promised_s in found.queue.given:
        assert found.history.start_s[number] <= promised_s
    for number, one in enumerate(jobs):
        stays = [stay for stay in found.history.stays if stay.job == number]
        assert sum(stay.useful_to_s - stay.useful_from_s for stay in stays) == pytest.approx(one.duration_s)
        assert len(stays) == 1 + found.history.moved[number]
    assert found.simulation.planner is not None
    told = found.simulation.planner.told()
    assert told["moved"] == found.history.moved.sum() <= 2 * told["plans"]
    assert told["stopped_by_time"] == 0

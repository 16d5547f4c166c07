"""Following a plan: who takes which place, what strangers cost, moves that make room, and from expected work to places."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.placement.online.moving import Moving, room_by_move
from models.placement.online.planned import Open, Place, Planned, in_the_way
from models.placement.online.planning import ALL, as_problem, expected, largest_part, planned_places, planning_problem, request_of
from models.placement.online.rules import BestFit
from models.placement.online.state import MILLI, Cluster, Kind, NodeSpec, Request, Seat
from models.placement.verify import verify
from optimizer.limits import Limits
from optimizer.solve import solve

if TYPE_CHECKING:
    from models.placement.schema import Plan, Problem

ANY: frozenset[str] = frozenset()


def kind(gpus: int = 1, share: int = MILLI, cpu: int = 1, memory: int = 0) -> Kind:
    """A kind with so many cores."""
    return Kind(gpus, share, cpu * 1_000, memory, ANY)


def ask(name: str, of: Kind) -> Request:
    """A request for one worker of that kind."""
    return Request(name, of.gpus, of.share_milli, of.cpu_milli, of.memory_mib, models=of.models)


def node(name: str, gpus: int = 2, cpu: int = 16) -> NodeSpec:
    """A node of so many GPUs and cores."""
    return NodeSpec(name, gpus=gpus, model="T4", cpu_milli=cpu * 1_000, memory_mib=100_000)


def take(rule: Planned, cluster: Cluster, request: Request) -> Seat | None:
    """Seats the request where the rule says."""
    seats = rule.choose(cluster, request)
    if seats is None:
        return None
    cluster.seat(request, seats)
    return seats[0]


# ---------------------------------------------------------------- places


def test_whoever_is_planned_takes_a_place_in_any_order() -> None:
    half, whole, pair, big = kind(share=500), kind(), kind(gpus=2, cpu=3), kind(share=600, cpu=2)
    places = [(0, Place(half, (0,))), (0, Place(half, (0,))), (0, Place(whole, (1,))), (1, Place(pair, (0, 1))), (2, Place(big, (0,)))]
    for seed in range(20):
        cluster = Cluster((node("a", cpu=3), node("b", cpu=3), node("c", gpus=1, cpu=2)))
        rule = Planned(cluster, places)
        order = np.random.default_rng(seed).permutation(len(places)).tolist()
        taken = [take(rule, cluster, ask(f"r{k}", places[k][1].kind)) for k in order]
        assert sorted((seat.node, seat.gpus) for seat in taken if seat) == sorted((n, place.gpus) for n, place in places)
        assert cluster.used_milli() == 4_600


def test_a_place_is_open_again_when_its_worker_leaves() -> None:
    cluster = Cluster((node("a", gpus=1), node("b", gpus=1)))
    rule = Planned(cluster, [(1, Place(kind(), (0,)))])
    assert take(rule, cluster, ask("x", kind())) == Seat(1, (0,))
    assert take(rule, cluster, ask("y", kind())) == Seat(0, (0,))
    cluster.unseat(ask("x", kind()), (Seat(1, (0,)),))
    assert take(rule, cluster, ask("z", kind())) == Seat(1, (0,))


def test_a_closed_node_has_no_place() -> None:
    cluster = Cluster((node("a", gpus=1), node("b", gpus=1)))
    rule = Planned(cluster, [(1, Place(kind(), (0,)))])
    cluster.open[1] = False
    assert take(rule, cluster, ask("x", kind())) == Seat(0, (0,))


def test_a_stranger_sits_beside_places_where_there_is_room_and_costs_least_where_there_is_none() -> None:
    small, whole = kind(share=300), kind()
    cluster = Cluster((node("a", gpus=1), node("b", gpus=1), node("c", gpus=1)))
    rule = Planned(cluster, [(0, Place(whole, (0,))), (1, Place(small, (0,))), (2, Place(kind(share=900), (0,)))])
    assert take(rule, cluster, ask("x", kind(share=600))) == Seat(1, (0,))  # beside the 300
    assert take(rule, cluster, ask("y", kind(share=400))) == Seat(1, (0,))  # instead of the 300
    assert take(rule, cluster, ask("z", kind(share=200))) == Seat(2, (0,))  # instead of the 900, not the 1000
    assert take(rule, cluster, ask("w", whole)) == Seat(0, (0,))


def test_a_stranger_in_the_way_of_cpu_costs_places_too() -> None:
    cluster = Cluster((node("a", gpus=2, cpu=4), node("b", gpus=2, cpu=4)))
    rule = Planned(cluster, [(0, Place(kind(cpu=4), (0,))), (1, Place(kind(cpu=2), (0,)))])
    assert take(rule, cluster, ask("x", kind(gpus=0, cpu=2))) == Seat(1)
    assert take(rule, cluster, ask("y", kind(gpus=0, cpu=1))) is not None
    assert cluster.free_cpu.tolist() in ([4_000, 1_000], [3_000, 2_000])


def test_declining_refuses_only_who_costs_more_than_it_brings() -> None:
    cluster = Cluster((node("a", gpus=1),))
    places = [(0, Place(kind(), (0,)))]
    assert Planned(cluster, places, decline=True).choose(cluster, ask("x", kind(share=900))) is None
    assert Planned(cluster, places).choose(cluster, ask("x", kind(share=900))) is not None
    assert Planned(cluster, places, decline=True).choose(cluster, ask("x", kind(cpu=2))) is not None  # as many GPUs as it costs


def test_more_places_than_a_node_holds_are_an_error() -> None:
    cluster = Cluster((node("a", gpus=1, cpu=1),))
    with pytest.raises(ValueError, match="names the GPUs"):
        Planned(cluster, [(0, Place(kind(), (1,)))])
    rule = Planned(cluster, [(0, Place(kind(), (0,))), (0, Place(kind(), (0,)))])
    assert rule.at(0).milli() == MILLI  # what does not fit together is given up at once


@pytest.mark.parametrize("seed", range(40))
def test_what_is_given_up_makes_room_and_is_not_far_from_the_least(seed: int) -> None:
    draw = np.random.default_rng(seed)
    places = [
        Place(kind(share=int(draw.choice([200, 300, 500])), cpu=int(draw.integers(0, 4))), (int(draw.integers(2)),)) for _ in range(6)
    ]
    free = [int(draw.integers(500, 1_001)) for _ in range(2)]
    left = Open(list(places), int(draw.integers(1, 12)) * 1_000, 0, free)
    for place in places:
        left.book(place, -1)
    before = Open(list(places), left.cpu, 0, left.gpus.copy())
    gone = in_the_way(left)
    assert left.cpu >= 0
    assert min(left.gpus) >= 0
    least = min(
        sum(places[k].milli for k in some)
        for count in range(7)
        for some in combinations(range(6), count)
        if before.cpu + sum(places[k].kind.cpu_milli for k in some) >= 0
        and all(before.gpus[g] + sum(places[k].milli for k in some if g in places[k].gpus) >= 0 for g in range(2))
    )
    lost = sum(place.milli for place in gone)
    assert least <= lost <= least + 800


# ---------------------------------------------------------------- moves


def test_a_move_makes_room_where_nothing_else_does() -> None:
    cluster = Cluster((node("a", gpus=2), node("b", gpus=2)))
    rule = Planned(cluster, [])
    for n in (0, 1):
        cluster.seat(ask(f"x{n}", kind()), (Seat(n, (0,)),))
    pair = ask("pair", kind(gpus=2))
    assert rule.choose(cluster, pair) is None
    moving = Moving(rule, every=1)
    assert moving.place(cluster, pair) is not None
    assert len(moving.moves) == 1
    assert cluster.used_milli() == 4 * MILLI
    assert verify(*as_problem(cluster)).ok


def test_no_move_without_a_budget_or_without_use() -> None:
    cluster = Cluster((node("a", gpus=2), node("b", gpus=2)))
    rule = Planned(cluster, [])
    for n in (0, 1):
        cluster.seat(ask(f"x{n}", kind()), (Seat(n, (0,)),))
    moving = Moving(rule, every=3)
    pair = ask("pair", kind(gpus=2))
    assert moving.place(cluster, pair) is None
    assert moving.place(cluster, pair) is None
    assert moving.place(cluster, pair) is not None
    assert room_by_move(rule, cluster, ask("more", kind())) is None
    with pytest.raises(ValueError, match="every"):
        Moving(rule, every=0)


@pytest.mark.parametrize("seed", range(12))
def test_moves_keep_the_budget_and_every_worker(seed: int) -> None:
    draw = np.random.default_rng(seed)
    cluster = Cluster([node(f"n{k}", 1 + k % 4, 6 + k) for k in range(8)])
    kinds = [kind(share=300), kind(share=700, cpu=2), kind(), kind(gpus=2, cpu=4), kind(gpus=0, cpu=3)]
    places = [(k, Place(kinds[2], (0,))) for k in range(8)]
    moving, seated = Moving(Planned(cluster, places), every=4), 0
    for k in range(60):
        request = ask(f"r{k}", kinds[int(draw.integers(len(kinds)))])
        seats = moving.place(cluster, request)
        seated += seats is not None
        assert len(moving.moves) <= moving.arrivals // 4
        assert seats is None or (request, seats[0]) in cluster.sitting[seats[0].node]
    assert sum(len(here) for here in cluster.sitting) == seated
    assert verify(*as_problem(cluster)).ok


# ---------------------------------------------------------------- from expected work to places


class Exact:
    """Small problems, solved to the end."""

    def plan(self, problem: Problem) -> Plan:
        result = solve(problem, Limits(time_limit_s=20.0), isolate=False)
        assert result.plan is not None
        return result.plan  # type: ignore[return-value]

    def bound(self, problem: Problem) -> float:
        result = solve(problem, Limits(time_limit_s=20.0), isolate=False)
        assert result.certificate is not None
        return float(result.certificate.goals[0].bound or 0.0)


def test_expected_work_asks_for_all_gpus_and_leaves_out_who_never_fits() -> None:
    cluster = Cluster((node("a", gpus=4), node("b", gpus=4)))
    work = expected(cluster, [ask("x", kind(share=500)), ask("y", kind(gpus=2)), ask("z", kind(gpus=8)), ask("c", kind(gpus=0))])
    assert sum(one.gpu_milli * count for one, count in zip(work.kinds, work.counts, strict=True)) == pytest.approx(8 * MILLI)
    assert kind(gpus=8) not in work.kinds
    assert work.number(0.0) == (0, 0, 0)
    cluster.seat(ask("w", kind(gpus=4)), (Seat(0, (0, 1, 2, 3)),))
    assert expected(cluster, [ask("y", kind(gpus=4))]).counts == (2.0,)  # of the empty cluster
    with pytest.raises(ValueError, match="asks for GPUs"):
        expected(cluster, [ask("c", kind(gpus=0))])


def test_the_part_is_the_first_of_which_not_all_fits() -> None:
    cluster = Cluster([node(f"n{k}", gpus=1, cpu=1) for k in range(20)])
    asked = [ask("x", kind(share=600))] * 20  # one of them on each GPU: 60 % of the GPUs at most
    work, solver = expected(cluster, asked), Exact()
    part = largest_part(cluster.nodes, work, solver)
    for tried, fits in ((part, False), (part - 0.005, True)):
        problem = planning_problem(cluster.nodes, work, tried)
        assert (solver.bound(problem) >= sum(job.gpus_per_worker for job in problem.jobs) * (1 - ALL)) is fits
    assert work.number(part)[0] == 21


def test_a_plan_fills_what_best_fit_leaves() -> None:
    cluster = Cluster([node(f"n{k}", gpus=1, cpu=4) for k in range(6)])
    asked = [ask("s", kind(share=400)), ask("t", kind(share=600))]
    places = planned_places(cluster, asked, Exact(), part=1.0)
    got = {}
    for name, rule in (("best", BestFit()), ("ours", Planned(cluster, places))):
        empty = Cluster(cluster.nodes)
        for k in range(6):
            for request in (asked[0], asked[0]) if k < 3 else (asked[1], asked[1]):
                seats = rule.choose(empty, request)
                if seats is not None:
                    empty.seat(request, seats)
        got[name] = empty.used_milli()
        assert verify(*as_problem(empty)).ok
    assert got["ours"] == 6 * MILLI
    assert got["best"] < got["ours"]


def test_jobs_of_the_planning_problem_are_the_expected_workers() -> None:
    cluster = Cluster((node("a", gpus=4),))
    work = expected(cluster, [ask("x", kind(share=460, cpu=3, memory=5_600)), ask("y", kind(gpus=2))])
    problem = planning_problem(cluster.nodes, work, 1.0)
    assert {request_of(job).kind for job in problem.jobs} == set(work.kinds)
    assert [job.id.partition(".")[0] for job in problem.jobs] == [str(k) for k, n in enumerate(work.number(1.0)) for _ in range(n)]

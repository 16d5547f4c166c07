"""The bound of the relaxation: never crossed by brute force, and tight where counting alone is not."""

from __future__ import annotations

from itertools import product
from random import Random

import numpy as np
import pytest

from models.placement.relaxation import COUNTED
from models.placement.scale import relaxation
from models.placement.schema import GoalName, Problem, Use
from models.placement.slices import maximal_slices, share_sizes
from models.placement.verify import goals
from optimizer.columns import Generated, generate
from optimizer.limits import Limits
from tests.models.placement_problems import job, node, problem, tiny_problem
from tests.oracles.placement import best

CLOSE = 1e-6


def generated(case: Problem, goal: str = GoalName.placed_value) -> Generated:
    source = relaxation(case, goal)
    assert source is not None
    found = generate(source, Limits(time_limit_s=20))
    assert found.complete
    return found


def bound_of(case: Problem, goal: str = GoalName.placed_value) -> float:
    return generated(case, goal).bound


def check(case: Problem) -> bool:
    """Every counted goal of the problem, each under the floors of those before it; whether there was a plan to compare with."""
    found = best(case)
    if found is None:
        return False
    floors: dict[str, float] = {}
    known = None
    for goal, value in zip(goals(case), found.values, strict=True):
        source = relaxation(case, goal.name, floors, known)
        assert (source is not None) == (goal.name in COUNTED)
        if source is not None:
            bounded = generate(source, Limits(time_limit_s=20))
            assert bounded.objective is not None, "a floor that was attained cannot be out of reach"
            assert bounded.complete
            assert bounded.bound >= value - CLOSE * max(1.0, abs(value)), goal
            known = known or source
        floors[goal.name] = value
    return True


# ---------------------------------------------------------------- against brute force


@pytest.mark.parametrize("first", COUNTED)
@pytest.mark.parametrize("use", Use)
def test_no_plan_beats_the_bound(use: Use, first: GoalName) -> None:
    checked = 0
    for seed in range(110):
        case = tiny_problem(seed, use)
        rest = tuple(goal for goal in case.ordered_goals() if goal is not first)
        if len(case.nodes) + len(case.jobs) < 7 or use is not Use.repack:  # the largest repacks take brute force seconds
            checked += check(case.model_copy(update={"goals": (first, *rest)}))
    assert checked > 40


def odd_sizes(seed: int) -> Problem:
    """Three jobs on one or two nodes: whole workers that do not divide the node, shares in all sizes, GPUs partly used."""
    rng = Random(f"odd {seed}")
    nodes = [
        node(f"n{k}", rng.choice((1, 3, 4, 5)), cpu_cores=rng.choice((8, 99)), gpu_memory_gib=rng.choice((None, 10)))
        for k in range(rng.randint(1, 2))
    ]
    jobs = [job("runs", rng.choice((0.15, 0.3, 0.45)), runs="n0:0", gpu_memory_gib=4, cpu_cores=1)]
    for k in range(3):
        whole = rng.random() < 0.4
        size = rng.choice((1, 2, 3)) if whole else rng.choice((0.21, 1 / 3, 0.34, 0.5, 0.51, 0.6, 0.7))
        size = min(size, max(one.gpus for one in nodes))
        memory, cores = rng.choice((0, 0, 4, 6)), rng.choice((0, 1, 3))
        jobs.append(
            job(
                f"j{k}",
                size,
                rng.randint(1, 1 if whole else 2),
                workers_min=1,
                gpu_memory_gib=memory,
                cpu_cores=cores,
                value=rng.choice((1, 2, 3)),
            )
        )
    return problem(nodes, jobs, goals=rng.sample(COUNTED, 2))


def test_no_plan_beats_the_bound_with_odd_sizes() -> None:
    assert all(check(odd_sizes(seed)) for seed in range(40))


# ---------------------------------------------------------------- tight


@pytest.mark.parametrize(
    ("gpus", "share", "most"),
    [(1, 0.6, 1), (3, 0.6, 3), (2, 0.34, 4), (2, 1 / 3, 6), (1, 0.21, 4)],
)
def test_shares_that_do_not_fit_one_gpu_together(gpus: int, share: float, most: int) -> None:
    case = problem([node("n", gpus)], [job(f"j{k}", share) for k in range(9)])
    assert bound_of(case) == pytest.approx(most, abs=CLOSE)
    assert bound_of(case, GoalName.allocated_gpus) == pytest.approx(most * share, abs=CLOSE)


def test_shares_of_a_gpu_that_is_partly_used() -> None:
    jobs = [job("runs", 0.5, runs="n:0"), job("a", 0.3), job("b", 0.3)]
    assert bound_of(problem([node("n", 1)], jobs), GoalName.allocated_gpus) == pytest.approx(0.8, abs=CLOSE)


def test_a_cut_of_two_sizes_is_found_by_price() -> None:
    jobs = [job(f"{size}-{k}", size) for size in (0.7, 0.3) for k in range(4)]
    assert bound_of(problem([node("n", 4)], jobs)) == pytest.approx(8, abs=CLOSE)


@pytest.mark.parametrize(("size", "per_node"), [(5, 1), (3, 2), (8, 1), (2, 4)])
def test_whole_workers_that_do_not_divide_the_node(size: int, per_node: int) -> None:
    nodes = [node(f"n{k}", 8, cpu_cores=99) for k in range(3)]
    assert bound_of(problem(nodes, [job(f"j{k}", size) for k in range(20)])) == pytest.approx(3 * per_node, abs=CLOSE)


def test_threes_and_twos_share_a_node_of_eight() -> None:
    jobs = [job(f"three{k}", 3, value=3) for k in range(3)] + [job(f"two{k}", 2, value=2) for k in range(3)]
    assert bound_of(problem([node("n", 8, cpu_cores=99)], jobs)) == pytest.approx(8, abs=CLOSE)
    assert bound_of(problem([node("n", 8, cpu_cores=99)], jobs[:3])) == pytest.approx(6, abs=CLOSE)


def test_closed_nodes_count_for_what_runs_there_alone() -> None:
    jobs = [job("a", runs="n1:0"), job("b"), job("c")]
    closed = [node("n1", state="cordoned"), node("n2", 1)]
    assert bound_of(problem(closed, jobs)) == pytest.approx(2, abs=CLOSE)
    assert bound_of(problem(closed, jobs, use="repack")) == pytest.approx(2, abs=CLOSE)
    drained = [node("n1", state="drained"), node("n2", 1)]
    assert bound_of(problem(drained, jobs, use="repack")) == pytest.approx(1, abs=CLOSE)
    reserved = [node("n1", reserved_for="other"), node("n2", 1)]
    assert bound_of(problem(reserved, jobs)) == pytest.approx(2, abs=CLOSE)


def test_quotas_and_speeds() -> None:
    nodes = [node("fast", 1), node("slow", 1, gpu_model="a100")]
    jobs = [job("a", model_speeds={"h100": 2, "a100": 1}), job("b", model_speeds={"h100": 2, "a100": 1}), job("c", tenant="red")]
    tenants = [{"id": "default"}, {"id": "red", "quota_gpus": 0.5}]
    assert bound_of(problem(nodes, jobs, tenants=tenants)) == pytest.approx(3, abs=CLOSE)
    assert bound_of(problem(nodes[:1], jobs[2:], tenants=tenants)) == pytest.approx(0.5, abs=CLOSE)


# ---------------------------------------------------------------- slices


def test_maximal_slices_are_all_of_them() -> None:
    rng = Random("slices")
    for _ in range(200):
        capacity = rng.randint(1, 12)
        sizes = np.array(rng.sample(range(1, 14), rng.randint(1, 4)))
        found = maximal_slices(sizes, capacity)
        assert found is not None
        ways = product(*(range(capacity // size + 1) for size in sizes.tolist()))
        left = {way: capacity - sum(count * size for count, size in zip(way, sizes.tolist(), strict=True)) for way in ways}
        smallest = min(size for size in sizes.tolist())
        expected = {way for way, rest in left.items() if 0 <= rest < smallest <= capacity}
        assert {tuple(one) for one in found.tolist()} == expected
        assert len(found) == len(expected)


def test_too_many_slices_are_told() -> None:
    assert maximal_slices(np.arange(1, 30), 1000) is None


def test_shares_are_only_rounded_down() -> None:
    rng = Random("shares")
    for count in (1, 3, 10, 60):
        shares = np.array([round(rng.uniform(0.001, 0.999), rng.randint(1, 4)) or 0.5 for _ in range(count)])
        shares = np.clip(shares, 0.001, 0.999)
        sizes, grid = share_sizes(shares)
        assert (sizes >= 1).all()
        rounded = sizes / grid
        assert (rounded <= np.maximum(shares, 1 / grid) + 1e-9).all()
        assert maximal_slices(np.unique(sizes), grid) is not None
    sizes, grid = share_sizes(np.array([0.6, 0.25]))
    assert (sizes / grid).tolist() == [0.6, 0.25]

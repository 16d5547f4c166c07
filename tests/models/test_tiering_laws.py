"""What holds for every tiering, whatever its numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tiering.heuristic import heuristic, simple_bounds
from models.tiering.schema import Copies, GoalName, Problem
from models.tiering.verify import goals, verify
from tests.models.tiering_problems import exact, random_problem

PRICES = ("usd_per_gib_month", "usd_per_1000_reads", "usd_per_1000_writes", "usd_per_gib_read", "usd_per_gib_written")
few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10**6)


def changed(problem: Problem, **parts: Any) -> Problem:
    return Problem.model_validate(problem.model_dump() | parts)


def first(problem: Problem) -> float | None:
    found = exact(changed(problem, goals=problem.goals[:1]))
    return None if found is None else found[1][0]


@few
@given(seeds, st.sampled_from(["capacity_gib", "read_gbps", "write_gbps"]))
def test_more_of_a_limit_never_worsens(seed: int, limit: str) -> None:
    """The stream's speed is kept, which would else follow the bandwidth."""
    problem = random_problem(seed)
    fixed = [tier.model_dump() | {"stream_gbps": tier.stream_gbps or tier.read_gbps} for tier in problem.tiers]
    more = [tier | {limit: None if tier[limit] is None else 2 * tier[limit]} for tier in fixed]
    before, after = first(changed(problem, tiers=fixed)), first(changed(problem, tiers=more))
    if before is not None:
        assert after is not None
        assert after <= before + 1e-6 * max(1.0, abs(before))


@few
@given(seeds)
def test_more_money_and_moves_never_worsen(seed: int) -> None:
    problem = random_problem(seed)
    before, after = first(problem), first(changed(problem, budget_usd=None, migration={}))
    assert before is None or (after is not None and after <= before + 1e-6 * max(1.0, abs(before)))


@few
@given(seeds, st.randoms(use_true_random=False))
def test_names_and_order_change_nothing(seed: int, draw: Any) -> None:
    problem = random_problem(seed)
    document = problem.model_dump_json()
    for name in [*(tier.id for tier in problem.tiers), *(one.id for one in problem.objects)]:
        document = document.replace(f'"{name}"', f'"new-{name}"')
    renamed = Problem.model_validate_json(document)
    tiers, objects = list(renamed.tiers), list(renamed.objects)
    draw.shuffle(tiers)
    draw.shuffle(objects)
    shuffled = changed(renamed, tiers=[tier.model_dump() for tier in tiers], objects=[one.model_dump() for one in objects])
    before, after = exact(problem), exact(shuffled)
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert after[1] == pytest.approx(before[1], rel=1e-6, abs=1e-6)


@few
@given(seeds, st.sampled_from([0.5, 3.0, 100.0]))
def test_scaling_prices_scales_the_cost(seed: int, factor: float) -> None:
    problem = changed(random_problem(seed), goals=[GoalName.cost])
    tiers = [tier.model_dump() | {price: factor * getattr(tier, price) for price in PRICES} for tier in problem.tiers]
    links = [link.model_dump() | {"usd_per_gib": factor * link.usd_per_gib} for link in problem.site_links]
    money = {
        "compression": problem.compression.model_dump() | {"usd_per_gib": factor * problem.compression.usd_per_gib},
        "migration": problem.migration.model_dump() | {"usd": None if problem.migration.usd is None else factor * problem.migration.usd},
        "budget_usd": None if problem.budget_usd is None else factor * problem.budget_usd,
    }
    before, after = first(problem), first(changed(problem, tiers=tiers, site_links=links, **money))
    assert (before is None) == (after is None)
    if before is not None:
        assert after == pytest.approx(factor * before, rel=1e-6, abs=1e-6)


@few
@given(seeds)
def test_a_right_plan_without_a_copy_is_wrong(seed: int) -> None:
    """Of an object that wants all the copies it has."""
    problem = random_problem(seed)
    found = exact(problem)
    if found is None:
        return
    copies = found[0].copies
    wanted = {one.id: one.replicas for one in problem.objects}
    for place, name in enumerate(copies.object):
        kept = [at for at in range(len(copies.object)) if at != place]
        less = Copies(
            object=tuple(copies.object[at] for at in kept),
            tier=tuple(copies.tier[at] for at in kept),
            compressed=None if copies.compressed is None else tuple(copies.compressed[at] for at in kept),
        )
        verdict = verify(problem, found[0].model_copy(update={"copies": less}))
        if copies.object.count(name) == wanted[name]:
            assert ("replica_count", (name,)) in {(one.rule, one.ids) for one in verdict.violations}


@few
@given(seeds)
def test_bounds_never_cross_a_plan(seed: int) -> None:
    problem = random_problem(seed)
    plan = heuristic(problem)
    if plan is None:
        return
    verdict, bounds = verify(problem, plan), simple_bounds(problem)
    assert verdict.ok
    for goal in goals(problem):
        value = verdict.objectives[goal.name]
        assert bounds[goal.name] <= value + 1e-6 * max(1.0, abs(value))


@few
@given(seeds)
def test_moving_nothing_is_free(seed: int) -> None:
    """A plan of the current copies, where that is right, moves nothing and pays for no move."""
    problem = random_problem(seed)
    now = [(one.id, copy.tier, copy.compressed) for one in problem.objects for copy in one.current]
    copies = Copies(object=tuple(o for o, _, _ in now), tier=tuple(t for _, t, _ in now), compressed=tuple(c for _, _, c in now))
    from models.tiering.schema import Plan

    metrics = verify(problem, Plan(copies=copies)).metrics
    assert (metrics["moved_gib"], metrics["cost_moves"]) == (0, 0)


@pytest.mark.parametrize("seed", range(6))
def test_the_heuristic_keeps_all_limits_of_larger_problems(seed: int) -> None:
    """Full tiers, replicas, readers on two sites, a migration limit: more than brute force could try."""
    draw = np.random.default_rng(seed)
    count, names = 400, ("fast", "mid", "slow", "deep")
    size = draw.lognormal(2, 1, count)
    copies = 1 + seed % 2
    total = float(size.sum()) * copies
    tiers = [
        {
            "id": name,
            "site": "ns"[place % 2],
            "capacity_gib": total * (0.1, 0.4, 0.5, 3)[place],
            "read_gbps": (40, 30, 30, 100)[place],
            "stream_gbps": 40 / 4**place,
            "latency_ms": 0.1 * 4**place,
            "usd_per_gib_month": 0.1 / 2**place,
        }
        for place, name in enumerate(names)
    ]
    table = {
        "size_gib": size.tolist(),
        "read_gbps": draw.lognormal(-4, 1, count).tolist(),
        "reads_per_s": draw.lognormal(0, 1, count).tolist(),
        "replicas": [copies] * count,
        "copies_max": [2] * count,
        "compressed_share": [0.5 if place % 3 else None for place in range(count)],
        "current_tier": [names[place] if place < 4 else "deep" for place in draw.integers(0, 6, count)],
    }
    readers = [
        {"id": f"r{site}", "site": site, "reads": [{"object": f"o{place}", "read_gbps": 0.02} for place in range(0, count, 5)]}
        for site in "ns"
    ]
    links = [{"source": source, "target": target, "gbps": 30, "latency_ms": 9} for source, target in ("ns", "sn")]
    problem = Problem.model_validate(
        {
            "goals": ["access_time", "cost"] if seed % 3 else ["cost", "moved_gib"],
            "tiers": tiers,
            "object_table": table,
            "readers": readers,
            "site_links": links,
            "migration": {"gib": total} if seed > 2 else {},
        }
    )
    plan = heuristic(problem, 0, 2.0)
    assert plan is not None
    assert verify(problem, plan).ok
    assert heuristic(problem, 0, 2.0) == plan

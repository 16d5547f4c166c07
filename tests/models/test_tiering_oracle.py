"""The exact program, the heuristic and the bounds against brute force."""

from __future__ import annotations

import random

import pytest

from models.tiering.heuristic import heuristic, simple_bounds
from models.tiering.schema import Plan, Problem
from models.tiering.verify import goals, verify
from optimizer.limits import Limits
from optimizer.result import Outcome
from optimizer.solve import solve
from tests.models.tiering_problems import exact, random_problem
from tests.oracles.tiering import best

SEEDS = (*range(150), 3065)  # the last: a value of the first goal that no other plan attains to the last digit


@pytest.mark.parametrize("seed", SEEDS)
def test_the_exact_program_finds_what_brute_force_finds(seed: int) -> None:
    problem = random_problem(seed)
    known, found = best(problem), exact(problem)
    assert (known is None) == (found is None)
    if known is None or found is None:
        assert heuristic(problem) is None
        return
    assert found[1] == pytest.approx(known, rel=1e-6, abs=1e-6)
    within(problem, known)


def within(problem: Problem, known: tuple[float, ...]) -> None:
    """The heuristic's plan is no better than the best, and the bounds are no worse."""
    plan = heuristic(problem)
    if plan is not None:
        verdict = verify(problem, plan)
        assert verdict.ok
        first = goals(problem)[0]
        assert verdict.objectives[first.name] >= known[0] - 1e-6 * max(1.0, abs(known[0]))
    bounds = simple_bounds(problem)
    for goal, value in zip(goals(problem), known, strict=True):
        assert bounds.get(goal.name, value) <= value + 1e-6 * max(1.0, abs(value))


@pytest.mark.parametrize("seed", range(0, 150, 10))
def test_solve_proves_what_brute_force_finds(seed: int) -> None:
    problem = random_problem(seed)
    known, result = best(problem), solve(problem, Limits(time_limit_s=20, gap=0.0), isolate=False)
    assert result.failure is None
    if known is None:
        assert result.outcome is Outcome.infeasible
        assert result.conflict is not None
        return
    assert result.outcome is Outcome.optimal
    assert result.certificate is not None
    assert [one.objective for one in result.certificate.goals] == pytest.approx(known, rel=1e-6, abs=1e-6)


def test_the_random_problems_are_of_all_sorts() -> None:
    """Else the test above says little."""
    answers = [best(random_problem(seed)) for seed in range(60)]
    assert 10 < sum(answer is None for answer in answers) < 50
    plans = [heuristic(random_problem(seed)) for seed in range(60)]
    feasible = [plan for plan, answer in zip(plans, answers, strict=True) if answer is not None]
    assert sum(plan is not None for plan in feasible) > 0.8 * len(feasible)


@pytest.mark.parametrize("seed", range(5))
def test_the_heuristic_adds_caches_near_readers(seed: int) -> None:
    """An origin that keeps everything, caches at the readers' sites: not far from the best, and never worse than the origin alone."""
    draw = random.Random(seed)
    sites = ("x", "y", "z")
    tiers = [{"id": "origin", "site": "far", "capacity_gib": None}] + [
        {"id": f"cache-{site}", "site": site, "capacity_gib": 60} for site in sites
    ]
    now = [{"tier": "origin", "stored_days": 0}]
    objects = [
        {"id": f"o{at}", "size_gib": draw.randint(5, 30), "copies_max": 4, "minimum_stay_days": 1, "current": now} for at in range(12)
    ]
    readers = [
        {"id": site, "site": site, "reads": [{"object": f"o{at}", "reads_per_s": draw.randint(1, 50)} for at in draw.sample(range(12), 8)]}
        for site in sites
    ]
    links = [{"source": "far", "target": site, "latency_ms": 100} for site in sites]
    links += [{"source": one, "target": other, "latency_ms": 20} for one in sites for other in sites if one != other]
    document = {"goals": ["access_time"], "tiers": tiers, "objects": objects, "readers": readers, "site_links": links}
    problem = Problem.model_validate(document)
    found, plan = exact(problem), heuristic(problem)
    assert found is not None
    assert plan is not None
    verdict = verify(problem, plan)
    assert verdict.ok
    alone = sum(read["reads_per_s"] for reader in readers for read in reader["reads"]) * 0.1  # type: ignore[index]
    saved, most = alone - verdict.objectives["access_time"], alone - found[1][0]
    assert 0.8 * most <= saved <= most + 1e-6


def test_a_price_beyond_all_quantities_is_a_price() -> None:
    """What has no room on the tier with 0.001 GiB pays a million dollars for each request."""
    problem = Problem.model_validate(
        {
            "tiers": [{"id": "small", "capacity_gib": 1e-3}, {"id": "dear", "capacity_gib": None, "usd_per_1000_reads": 1e8}],
            "objects": [{"id": one, "size_gib": 1e-3, "reads_per_s": rate} for one, rate in (("a", 1.0), ("b", 2.0))],
        }
    )
    result = solve(problem, Limits(time_limit_s=20), isolate=False)
    assert result.failure is None
    assert result.outcome is Outcome.optimal
    assert isinstance(result.plan, Plan)
    assert [price.tier for price in result.plan.prices] == ["small"]
    assert result.plan.prices[0].price > 1e12

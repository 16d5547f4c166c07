"""The gauge by prices against the one large program, its responses against linear programs, and warm starts."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from models.contract import Verdict
from models.conversation import Again, Solve
from models.fairshare.columns.classes import Classes, classes_of
from models.fairshare.heuristic import plan_of as plan_of_division
from models.fairshare.levels import sifting
from models.fairshare.levels.gauge import Gauge, Gauged
from models.fairshare.levels.responses import Table, alike_in_nothing
from models.fairshare.levels.sifting import Sifting, prices_in
from models.fairshare.market import market_of
from models.fairshare.plans.carrying import cut_down
from models.fairshare.plans.division import division_of
from models.fairshare.plans.envy import envious_jobs
from models.fairshare.plans.equal_split import equal_division
from models.fairshare.proofs import rounds as proving
from models.fairshare.scale import carried
from models.fairshare.schema import Plan, Problem
from models.fairshare.verify import verify
from optimizer.conversation import Solvers
from optimizer.limits import Deadline, Limits
from optimizer.result import Outcome, Result
from optimizer.solve import solve
from optimizer.study.executors.hot import HotSolver

Vector = np.ndarray[Any, np.dtype[np.float64]]
LIMITS = Limits(time_limit_s=20, gap=1e-7)
POLICIES = ("max_min_fair", "makespan", "finish_time_fair")


def unlike(seed: int, jobs: int, policy: str = "max_min_fair", *, wide: bool = False, **more: Any) -> Problem:
    """Jobs with speeds of their own on three or four types of GPU, in gangs; ``wide``: over many powers of ten."""
    rng = random.Random(seed)
    places = [f"a{k}" for k in range(rng.randint(1, 4))]
    counts = [rng.choice([4, 5, 8, max(4, jobs // 3)]) for _ in places]
    workloads = []
    for k in range(jobs):
        unit = 10.0 ** rng.uniform(-3, 6) if wide else 1.0
        on = rng.sample(places, rng.randint(1, len(places)))
        speeds = [{"accelerator": a, "steps_per_s": unit * rng.choice([rng.uniform(1.0, 9.0), 2.0, 3.0])} for a in on]
        workloads.append({"id": f"w{k}", "gpus": rng.choice([1, 1, 2, 4]), "speeds": speeds})
    table = [
        {
            "id": f"j{k}",
            "workload": f"w{k}",
            "count": rng.choice([1, 1, 3]),
            "weight": rng.choice([1.0, rng.uniform(0.5, 4.0)]),
            "remaining_steps": rng.uniform(1e2, 1e4),
            "arrival_s": -rng.uniform(0.0, 1e3),
        }
        for k in range(jobs)
    ]
    accelerators = [{"id": a, "count": n, "usd_per_hour": 1.0} for a, n in zip(places, counts, strict=True)]
    return Problem.model_validate({"policy": policy, "accelerators": accelerators, "workloads": workloads, "jobs": table} | more)


def all_classes(given: Problem) -> Classes:
    market = market_of(given)
    return classes_of(market, np.ones(market.jobs.count, dtype=np.bool_))


def gauged(gauge: Gauge | Sifting, speeds: Vector) -> Gauged | None:
    """The answer for these needs."""
    solvers = Solvers(LIMITS, Deadline.after(20.0), None)
    steps = gauge.of_needs(speeds)
    answer: Any = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            found: Gauged | None = end.value
            return found
        assert isinstance(step, Solve | Again)
        answer = solvers.solve(step) if isinstance(step, Solve) else solvers.again(step)


def answer(given: Problem, *, warm: Plan | None = None) -> tuple[Result, Verdict]:
    result = solve(given, LIMITS, isolate=False, warm_start=warm)
    assert result.failure is None, result.failure
    assert isinstance(result.plan, Plan)
    return result, verify(given, result.plan)


# ---------------------------------------------------------------- responses


@pytest.mark.parametrize("seed", range(12))
def test_a_response_is_the_cheapest_way_to_what_is_needed(seed: int) -> None:
    given = unlike(seed, 8)
    classes, rng = all_classes(given), np.random.default_rng(seed)
    table = Table.of(classes)
    worth = rng.uniform(0.1, 1.0, len(table.gpus))
    mean = classes.top * rng.choice([0.0, 0.2, 0.7, 0.95, 1.0], classes.count)
    found, cost = table.response(worth, mean), table.costs(worth)
    time = table.time_price(worth / table.gpus, found.worth)
    for k in range(classes.count):
        there = np.flatnonzero(table.speed[:, k] > 0.0)
        best = linprog(
            cost[there, k], A_ub=[np.ones(len(there)), -table.speed[there, k]], b_ub=[1.0, -mean[k] * (1.0 - 1e-12)], method="highs-ds"
        )
        assert found.cost[k] == pytest.approx(best.fun * classes.size[k], rel=1e-9, abs=1e-12)
        # its slope and the price of time are duals: what they prove is what it costs
        assert (found.worth[k] * mean[k] - time[k]) * classes.size[k] == pytest.approx(found.cost[k], rel=1e-9, abs=1e-12)


# ---------------------------------------------------------------- the gauge


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_it_tells_what_the_one_large_program_tells(seed: int, *, wide: bool) -> None:
    given = unlike(seed, 12 + seed, wide=wide)
    classes, jobs = all_classes(given), market_of(given).jobs
    assert alike_in_nothing(classes)
    rng = np.random.default_rng(seed)
    by_prices = Sifting(classes, prices_in(classes, None))
    for level in (0.0, 0.3, 1.0, 2.5):
        speeds = np.minimum(level * jobs.equal * rng.uniform(0.5, 1.5, jobs.count), classes.top[classes.of])
        one, other = gauged(Gauge(classes, "levels"), speeds), gauged(by_prices, speeds)
        assert one is not None
        assert other is not None
        assert other.shortfall == pytest.approx(one.shortfall, abs=1e-7)
        assert other.bound == pytest.approx(other.shortfall, abs=1e-7)
        assert other.floor <= other.bound
        assert other.refutes(classes, speeds) <= other.shortfall + 1e-12


def test_the_same_needs_are_not_asked_again() -> None:
    given = unlike(3, 20)
    classes = all_classes(given)
    gauge = Sifting(classes, prices_in(classes, None))
    speeds = market_of(given).jobs.equal
    assert gauged(gauge, speeds) is gauged(gauge, speeds.copy())


@pytest.mark.parametrize(
    "more",
    [
        {"robust": {"scenarios": [{"id": "usual"}, {"id": "slow", "factors": [{"factor": 0.5}]}]}},
        {"accelerators": [{"id": f"a{k}", "count": 8, "packed_gpus": 4} for k in range(4)]},
    ],
)
def test_who_is_limited_otherwise_is_left_to_the_one_large_program(more: dict[str, Any]) -> None:
    assert not alike_in_nothing(all_classes(unlike(1, 12, **more)))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(8))
def test_whole_answers_agree(seed: int, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = unlike(100 + seed, 14, policy)
    without = answer(given)
    monkeypatch.setattr(sifting, "FEWEST_CLASSES", 1)
    with_prices = answer(Problem.model_validate(given.model_dump()))
    assert without[0].outcome is Outcome.optimal
    assert with_prices[0].outcome is Outcome.optimal
    first = next(iter(without[1].objectives))
    assert with_prices[1].objectives[first] == pytest.approx(without[1].objectives[first], rel=1e-6)
    assert with_prices[1].objectives["fair_slack"] <= 1e-6


# ---------------------------------------------------------------- one after another


def with_counts(given: Problem, *factors: float) -> Problem:
    accelerators = [one.model_dump() for one in given.accelerators]
    for one, factor in zip(accelerators, factors, strict=False):
        one["count"] = max(4, round(one["count"] * factor))
    return Problem.model_validate({**given.model_dump(), "accelerators": accelerators})


@pytest.mark.parametrize("policy", POLICIES)
def test_a_start_from_another_problem_gives_the_answer_of_no_start(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sifting, "FEWEST_CLASSES", 1)
    base = unlike(7, 40, policy)
    hot = HotSolver(base, LIMITS)
    assert hot.solve(base).outcome is Outcome.optimal
    for factors in ((1.5, 0.6), (0.4, 1.0, 2.0), (3.0,), (1.0, 1.0)):
        changed = with_counts(base, *factors)
        warm, cold = hot.solve(changed), answer(changed)[0]
        assert warm.failure is None, warm.failure
        assert warm.outcome is Outcome.optimal
        assert warm.certificate is not None
        assert cold.certificate is not None
        for one, other in zip(warm.certificate.goals, cold.certificate.goals, strict=True):
            assert one.objective == pytest.approx(other.objective, rel=1e-6, abs=1e-7)
            assert one.bound == pytest.approx(other.bound, rel=1e-6, abs=1e-7)


def test_prices_of_a_plan_are_where_it_begins() -> None:
    given = unlike(5, 30)
    classes = all_classes(given)
    plan = answer(given)[0].plan
    assert isinstance(plan, Plan)
    told = {one.accelerator: one.price for one in plan.prices}
    counts = {one.id: one.count for one in given.accelerators}
    worth = np.array([told[name] * counts[name] for name in classes.market.accelerators.ids])
    assert prices_in(classes, plan) == pytest.approx(worth / worth.sum())
    assert prices_in(classes, Plan()).sum() == pytest.approx(1.0)
    assert (prices_in(classes, None) > 0.0).all()


@pytest.mark.parametrize("policy", [*POLICIES, "throughput", "proportional_fair"])
@pytest.mark.parametrize("seed", range(6))
def test_what_is_cut_down_breaks_no_rule(seed: int, policy: str) -> None:
    given = unlike(seed, 15, policy)
    plan = answer(given)[0].plan
    assert isinstance(plan, Plan)
    fewer = with_counts(given, 0.5, 0.7, 0.3)
    poorer = Problem.model_validate(
        {**fewer.model_dump(), "jobs": [{**job.model_dump(), "budget_usd_per_hour": 0.2} for job in fewer.jobs[3:]]}
    )
    for other in (given, fewer, poorer):
        start = carried(other, plan, 1.0)
        verdict = verify(other, start)
        assert verdict.ok, verdict.violations
        assert [one.accelerator for one in start.prices] == [one.accelerator for one in plan.prices]
    assert division_of(given, cut_down(given, plan)).gangs.sum() == pytest.approx(division_of(given, plan).gangs.sum())


def test_very_many_jobs_at_full_speed_are_one_round_and_need_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    given = unlike(4, 60, "finish_time_fair")
    many = Problem.model_validate({**given.model_dump(), "accelerators": [{"id": one.id, "count": 400} for one in given.accelerators]})
    told = answer(many)[0].plan
    monkeypatch.setattr(proving, "MANY_ROUNDS", 10_000)
    each, verdict = answer(Problem.model_validate(many.model_dump()))
    assert isinstance(told, Plan)
    assert isinstance(each.plan, Plan)
    assert len(each.plan.rounds) > 50
    assert len(told.rounds) == 1
    assert verify(many, told).objectives == pytest.approx(verdict.objectives)
    assert verdict.objectives["fair_slack"] <= 1e-9


# ---------------------------------------------------------------- what a verdict costs


def test_a_verdict_is_told_again_and_belongs_to_who_asks() -> None:
    given = unlike(2, 10)
    plan = plan_of_division(equal_division(given))
    first = verify(given, plan)
    first.objectives.clear()
    first.metrics["jobs"] = -1.0
    again = verify(given, plan)
    assert again.objectives
    assert again.metrics["jobs"] > 0.0
    assert verify(given, plan.model_copy()) == again
    other = unlike(2, 10, "makespan")
    assert list(verify(other, plan).objectives) == ["makespan", "fair_slack"]


@pytest.mark.parametrize("seed", range(8))
def test_envy_is_that_of_all_pairs(seed: int) -> None:
    given = unlike(seed, 90)
    plan = plan_of_division(equal_division(given)) if seed % 2 else answer(given)[0].plan
    assert isinstance(plan, Plan)
    division = division_of(given, plan)
    jobs, market = division.market.jobs, division.market
    bundles = division.gpu_time / jobs.weight[:, None]
    expected = []
    for job in range(jobs.count):
        speeds = market.workloads.usual[jobs.workload[job]]
        parts = bundles * jobs.weight[job] / market.workloads.gpus[jobs.workload[job]]
        best = np.min([theta + parts @ np.maximum(speeds - theta, 0.0) for theta in (0.0, *speeds)], axis=0)
        expected.append(bool((best > division.speed[job] * (1.0 + 1e-6)).any()))
    assert envious_jobs(division).tolist() == expected

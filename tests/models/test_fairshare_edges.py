"""Where searches have gone wrong before: money that buys nothing, jobs that get nothing, units of very unlike size, and too little time."""

from __future__ import annotations

from typing import Any

import pytest

from models.fairshare.schema import Policy, Problem
from models.fairshare.verify import verify
from optimizer.limits import Limits
from optimizer.result import Outcome
from optimizer.solve import solve
from tests.models import test_fairshare_oracle, test_fairshare_robust
from tests.models.fairshare_random import changed, goals_of, plan_of, problem, shares, solved

ONCE_WRONG = [
    (29, "makespan"),  # a job of a lower class pays for its company
    (30, "least_cost"),  # a deadline beyond the largest speed of a class of unlike jobs
    (79, "least_cost"),  # a pair of two jobs of which one needs nearly all
    (189, "proportional_fair"),  # nothing is left for a class but rounding
]


@pytest.mark.parametrize(("seed", "policy"), ONCE_WRONG)
def test_the_oracle_agrees(seed: int, policy: str) -> None:
    test_fairshare_oracle.check(test_fairshare_oracle.drawn(seed, policy))


@pytest.mark.parametrize("seed", [16, 17])
def test_who_settles_does_not_fall_short_ever_after(seed: int) -> None:
    test_fairshare_robust.check(problem(seed, "finish_time_fair", robust="budget", classes=1 + seed % 2))


def penniless(policy: str, **more: Any) -> Problem:
    """Two jobs on GPUs that cost, of which one may spend nothing."""
    return Problem.model_validate(
        {
            "policy": policy,
            "accelerators": [{"id": "a", "count": 2, "usd_per_hour": 1.0}],
            "workloads": [{"id": "w", "speeds": [{"accelerator": "a", "steps_per_s": 4.0, "slow_steps_per_s": 2.0}]}],
            "pairs": [{"accelerator": "a", "first": "w", "second": "w", "first_steps_per_s": 3.0, "second_steps_per_s": 3.0}],
            "jobs": [
                {"id": "poor", "workload": "w", "remaining_steps": 100.0, "budget_usd_per_hour": 0.0},
                {"id": "rich", "workload": "w", "remaining_steps": 100.0},
            ],
        }
        | more
    )


@pytest.mark.parametrize("policy", ["max_min_fair", "makespan", "finish_time_fair", "hierarchical", "throughput", "proportional_fair"])
def test_a_job_that_may_spend_nothing_gets_nothing_and_the_others_all(policy: str) -> None:
    given = penniless(policy)
    goals = goals_of(given)
    assert shares(given) == pytest.approx([0.0, 1.0])
    assert goals.get("fair_slack", 0.0) <= 1e-7
    assert goals.get("geometric_mean", 1.0) == pytest.approx(1.0)  # of those who can pay


@pytest.mark.parametrize("robust", [{"budget": 1.0}, {"scenarios": [{"id": "fast", "factors": [{"factor": 1.2}]}, {"id": "usual"}]}])
def test_a_job_that_may_spend_nothing_under_uncertainty(robust: dict[str, Any]) -> None:
    goals = goals_of(penniless("makespan", robust=robust))
    assert goals == {"makespan": 1e12, "fair_slack": pytest.approx(0.0, abs=1e-7)}


def test_one_scenario_may_make_all_speeds_larger() -> None:
    robust = {"scenarios": [{"id": "better", "factors": [{"factor": 5.0}]}]}
    assert goals_of(penniless("throughput", robust=robust)) == {"throughput": pytest.approx(5.0)}


def test_a_class_that_is_left_nothing_has_a_mean_of_nothing() -> None:
    jobs = [{"id": "high", "workload": "w", "count": 2, "priority": 1}, {"id": "low", "workload": "w"}]
    goals = goals_of(penniless("proportional_fair", jobs=jobs, pairs=[]))
    assert goals == {"geometric_mean[1]": pytest.approx(1.0), "geometric_mean[0]": 0.0}


@pytest.mark.parametrize("policy", [policy.value for policy in Policy if policy is not Policy.least_cost])
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_size_of_a_step_and_of_weights_is_of_no_account(policy: str, unit: float) -> None:
    given = problem(11, policy)
    whole = given.model_dump(mode="json")
    speeds = ("steps_per_s", "slow_steps_per_s", "spread_steps_per_s", "first_steps_per_s", "second_steps_per_s")
    work = ("remaining_steps", "total_steps")

    def scaled(part: dict[str, Any], names: tuple[str, ...], by: float) -> dict[str, Any]:
        return part | {name: part[name] * by for name in names if part.get(name) is not None}

    workloads = [one | {"speeds": [scaled(speed, speeds, unit) for speed in one["speeds"]]} for one in whole["workloads"]]
    jobs = [scaled(scaled(one, work, unit), ("weight",), 1.0 / unit) for one in whole["jobs"]]
    tenants = [scaled(one, ("weight",), 1.0 / unit) for one in whole["tenants"]]
    pairs = [scaled(one, speeds, unit) for one in whole["pairs"]]
    other = changed(given, workloads=workloads, jobs=jobs, pairs=pairs, tenants=tenants)
    if policy == "throughput":
        assert goals_of(other)["throughput"] * unit == pytest.approx(goals_of(given)["throughput"], rel=1e-6)
    else:
        assert shares(other) == pytest.approx(shares(given), rel=3e-3, abs=1e-5)


def test_numbers_of_every_size_make_no_proof_that_a_plan_cannot_carry() -> None:
    given = Problem.model_validate(
        {
            "policy": "makespan",
            "accelerators": [{"id": "a", "count": 2, "usd_per_hour": 1e-6}, {"id": "b", "count": 1, "usd_per_hour": 1e9}],
            "workloads": [
                {"id": "slow", "speeds": [{"accelerator": "a", "steps_per_s": 1e-6}]},
                {"id": "fast", "speeds": [{"accelerator": "a", "steps_per_s": 1e9}, {"accelerator": "b", "steps_per_s": 1e9}]},
            ],
            "jobs": [
                {"id": "s", "workload": "slow", "count": 3, "remaining_steps": 1.0},
                {"id": "f", "workload": "fast", "remaining_steps": 1e11, "budget_usd_per_hour": 0.3},
                {"id": "p", "workload": "fast", "remaining_steps": 1e11, "budget_usd_per_hour": 0.0},
            ],
        }
    )
    result = solved(given)
    assert result.failure is None, result.failure
    assert verify(given, plan_of(result)).ok


@pytest.mark.parametrize("policy", [policy.value for policy in Policy])
@pytest.mark.parametrize("seconds", [0.002, 0.02])
def test_a_search_that_is_stopped_early_leaves_a_right_plan_and_right_bounds(policy: str, seconds: float) -> None:
    for seed in range(3):
        given = problem(seed, policy, classes=3, sizes=(4, 12))
        best, result = goals_of(given), solve(given, Limits(time_limit_s=seconds), isolate=False)
        assert result.failure is None, result.failure
        if result.plan is None:
            assert policy == "least_cost" or result.outcome is Outcome.infeasible
            continue
        assert verify(given, plan_of(result)).ok
        assert result.certificate is not None
        first = result.certificate.goals[0]
        assert (first.bound - best[first.name]) * (1.0 if first.sense == "maximise" else -1.0) >= -1e-6 * max(1.0, abs(first.bound))

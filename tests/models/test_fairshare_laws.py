"""What must hold whatever the numbers are: laws between a problem and a changed one."""

from __future__ import annotations

from typing import Any

import pytest

from models.contract import Sense
from models.fairshare.goals import goals, plain_name
from models.fairshare.schema import Plan, Policy, Problem, Rule
from models.fairshare.verify import verify
from tests.models.fairshare_random import changed, goals_of, plan_of, problem, shares, solved
from tests.oracles.fairshare import Infeasible, Oracle

POLICIES = [policy.value for policy in Policy]
SEEDS = range(3)
each_policy = pytest.mark.parametrize("policy", POLICIES)
each_seed = pytest.mark.parametrize("seed", SEEDS)


def no_worse(given: Problem, before: dict[str, float], after: dict[str, float]) -> None:
    """The first goal has not become worse."""
    first = goals(given)[0]
    if before:
        slack = 1e-6 * max(1.0, abs(before[first.name]))
        assert after
        assert not first.better(before[first.name] + (-slack if first.sense is Sense.maximise else slack), after[first.name])


def parts(given: Problem) -> dict[str, Any]:
    return given.model_dump(mode="json")


@each_seed
@pytest.mark.parametrize("policy", ["makespan", "throughput", "least_cost", "proportional_fair"])
def test_more_gpus_never_worsen(policy: str, seed: int) -> None:
    """Equal split grows with the GPUs, so goals that are told in it are compared in the old one."""
    given = changed(problem(seed + 100, policy), least_share=0.0)
    accelerators = [one | {"count": one["count"] + 1} for one in parts(given)["accelerators"]]
    more = changed(given, accelerators=accelerators)
    before, after = goals_of(given), goals_of(more)
    if policy == "proportional_fair" and after:
        from models.fairshare.market import market_of
        from models.fairshare.plans.measures import geometric_mean

        old, new = market_of(given).jobs, market_of(more).jobs
        after["geometric_mean"] *= geometric_mean(new.equal / old.equal, old.copies * old.weight)
    no_worse(given, before, after)


@each_seed
@each_policy
def test_sharing_and_money_never_hurt(policy: str, seed: int) -> None:
    """Pairs are a choice, and a budget is a limit."""
    given = problem(seed + 200, policy)
    alone = goals_of(changed(given, share_gpus=False))
    together = goals_of(given)
    no_worse(given, alone, together)
    free = changed(given, jobs=[job | {"budget_usd_per_hour": None} for job in parts(given)["jobs"]])
    no_worse(given, together, goals_of(free))


@each_seed
@each_policy
def test_names_and_order_change_nothing(policy: str, seed: int) -> None:
    given = problem(seed + 300, policy, classes=1 + seed % 2)
    whole = parts(given)
    jobs = whole["jobs"] if policy == "hierarchical" else whole["jobs"][::-1]  # among those that arrive together FIFO asks for the order
    turned = changed(
        given, jobs=jobs, workloads=whole["workloads"][::-1], accelerators=whole["accelerators"][::-1], pairs=whole["pairs"][::-1]
    )
    assert goals_of(renamed(turned)) == pytest.approx(goals_of(given), rel=1e-6, abs=1e-6)


def renamed(given: Problem) -> Problem:
    """Every id spelt differently."""

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: walk(one, name) for name, one in value.items()}
        if isinstance(value, list):
            return [walk(one) for one in value]
        return f"x-{value}" if key in {"id", "workload", "accelerator", "tenant", "first", "second"} and value is not None else value

    return Problem.model_validate(walk(parts(given)))


@each_seed
@pytest.mark.parametrize("policy", ["max_min_fair", "hierarchical", "proportional_fair", "throughput"])
def test_a_faster_clock_for_one_workload_changes_no_share(policy: str, seed: int) -> None:
    """Shares are relative to what a workload could do."""
    given, factor = problem(seed + 400, policy), 7.0
    whole = parts(given)
    speeds = [{**one, "steps_per_s": factor * one["steps_per_s"]} for one in whole["workloads"][0]["speeds"]]
    for one in speeds:
        one["spread_steps_per_s"] = None if one["spread_steps_per_s"] is None else factor * one["spread_steps_per_s"]
    name = whole["workloads"][0]["id"]
    pairs = [
        one | {f"{side}_steps_per_s": one[f"{side}_steps_per_s"] * factor for side in ("first", "second") if one[side] == name}
        for one in whole["pairs"]
    ]
    faster = changed(given, workloads=[whole["workloads"][0] | {"speeds": speeds}, *whole["workloads"][1:]], pairs=pairs)
    assert goals_of(faster) == pytest.approx(goals_of(given), rel=1e-6, abs=1e-6)
    if policy != "throughput":
        assert shares(faster) == pytest.approx(shares(given), rel=1e-4, abs=1e-5)


@each_seed
def test_costs_scale(seed: int) -> None:
    given, factor = problem(seed + 500, "least_cost"), 13.0
    whole = parts(given)
    dearer = changed(
        given,
        accelerators=[one | {"usd_per_hour": factor * one["usd_per_hour"]} for one in whole["accelerators"]],
        jobs=[
            job | {"budget_usd_per_hour": None if job["budget_usd_per_hour"] is None else factor * job["budget_usd_per_hour"]}
            for job in whole["jobs"]
        ],
    )
    before = goals_of(given)
    assert goals_of(dearer) == pytest.approx({name: factor * value for name, value in before.items()}, rel=1e-6, abs=1e-6)


@each_seed
@each_policy
def test_a_count_is_so_many_jobs(policy: str, seed: int) -> None:
    given = problem(seed + 600, policy)
    whole = parts(given)
    tenants = [one | {"within": "fair"} for one in whole["tenants"]]  # FIFO serves jobs one by one, and all copies of a job together
    jobs = [job | {"id": f"{job['id']}-{copy}", "count": 1} for job in whole["jobs"] for copy in range(job["count"])]
    together = goals_of(changed(given, tenants=tenants))
    assert goals_of(changed(given, tenants=tenants, jobs=jobs)) == pytest.approx(together, rel=1e-6, abs=1e-6)


@each_seed
@each_policy
def test_a_broken_plan_is_told(policy: str, seed: int) -> None:
    given = problem(seed + 700, policy)
    result = solved(given)
    if result.plan is None:
        return
    plan = plan_of(result)
    assert verify(given, plan).ok
    more = tuple({**share.model_dump(), "gangs": 1.01 * share.gangs + 0.01} for share in plan.shares)
    broken = verify(given, Plan.model_validate({**plan.model_dump(), "shares": more}))
    if any(share.gangs for share in plan.shares) and verify(given, plan).objectives and policy != "least_cost":
        assert {one.rule for one in broken.violations} & {Rule.accelerator_capacity, Rule.job_time, Rule.job_budget, Rule.packed_capacity}
    if plan.rounds:
        raised = [{**plan.rounds[0].model_dump(), "level": level * plan.rounds[0].level} for level in (2.0, 0.5)]
        claims = [verify(given, Plan.model_validate({**plan.model_dump(), "rounds": (one, *plan.rounds[1:])})) for one in raised]
        assert any(not one.ok or max(one.objectives.values()) > 1e-6 for one in claims)
    odd = Plan.model_validate({"shares": [{"jobs": ["nobody"], "accelerator": "a0", "gangs": 1.0}]})
    assert {one.rule for one in verify(given, odd).violations} >= {Rule.runnable}


@pytest.mark.parametrize("seed", range(8))
@each_policy
def test_a_bound_never_crosses_the_optimum(policy: str, seed: int) -> None:
    """What counting alone proves, and what the search proves, hold against the oracle."""
    from models.fairshare.heuristic import heuristic, simple_bounds

    given = problem(seed + 800, policy, classes=1 + seed % 2)
    try:
        best = Oracle(given).answer().goals
    except Infeasible:
        return
    first = goals(given)[0]
    counted = simple_bounds(given)
    certificate = solved(given).certificate
    assert certificate is not None
    for bound in (counted.get(first.name), certificate.bound):
        slack = 1e-6 * max(1.0, abs(best[first.name])) * (1.0 if first.sense is Sense.maximise else -1.0)
        assert bound is None or not first.better(best[first.name] - slack, bound)
    plan = heuristic(given, 0, 1.0)
    if plan is not None:
        verdict = verify(given, plan)
        assert verdict.ok
        assert not first.better(
            verdict.objectives[first.name],
            best[first.name] + 1e-6 * max(1.0, abs(best[first.name])) * (1 if first.sense is Sense.maximise else -1),
        )
    assert all(plain_name(goal.name) != "fair_slack" or best[goal.name] == 0.0 for goal in goals(given))

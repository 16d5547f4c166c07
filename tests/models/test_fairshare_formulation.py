"""The exact program: it agrees with ``verify``, with the oracle, and with what the user asked of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.contract import Sense
from models.fairshare import formulation
from models.fairshare.exact.levels import rising_of
from models.fairshare.exact.mean import chain_of
from models.fairshare.exact.setting import setting_of
from models.fairshare.goals import goals, plain_name
from models.fairshare.market import market_of
from models.fairshare.schema import Accelerator, Job, Plan, Policy, Problem, Rule, Speed, Workload
from models.fairshare.verify import verify
from optimizer.backend import ProgramResult, ProgramStatus
from optimizer.compile import Compiled, compile_model
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from tests.models.fairshare_random import problem
from tests.oracles.fairshare import Infeasible, Oracle

# What tangents leave open, relative: the grid where the goal is expected, and what lies beyond it.
OPEN = {"makespan": 2e-4, "finish_time_ratio": 2e-4, "geometric_mean": 1e-4}
POLICIES = [policy.value for policy in Policy]
FORMS = [
    *((policy, "") for policy in POLICIES),
    *((policy, "budget") for policy in ("max_min_fair", "finish_time_fair", "makespan")),
    *((policy, "scenarios") for policy in ("max_min_fair", "finish_time_fair", "makespan", "throughput", "least_cost")),
]


def ran(given: Problem, goal: str | None = None, floors: dict[str, float] | None = None) -> tuple[Compiled, ProgramResult]:
    compiled = compile_model(formulation.build(given, goal, floors))
    return compiled, HighsBackend().solve(compiled.program, Limits(time_limit_s=10))


def plan_of(given: Problem, compiled: Compiled, result: ProgramResult) -> Plan:
    assert result.values is not None
    return formulation.extract(given, compiled.values_by_ids(result.values))


def started(given: Problem, compiled: Compiled, plan: Plan) -> np.ndarray[Any, np.dtype[np.float64]]:
    told = formulation.start(given, plan)
    return compiled.vector_of(
        {
            family: {bare(ids): number for ids, number in values.items() if bare(ids) in compiled.columns[family]}
            for family, values in told.items()
            if family in compiled.columns
        }
    )


def bare(ids: tuple[Any, ...]) -> Any:
    return ids if len(ids) > 1 else ids[0]


@pytest.mark.parametrize(("policy", "robust"), FORMS)
@pytest.mark.parametrize("seed", range(6))
def test_the_first_goal_is_that_of_the_oracle(policy: str, robust: str, seed: int) -> None:
    given = problem(seed, policy, robust=robust)
    _, result = ran(given)
    try:
        best = next(iter(Oracle(given).answer().goals.items()))
    except Infeasible:
        assert result.status is ProgramStatus.infeasible
        return
    assert result.bound is not None
    goal = goals(given)[0]
    ahead = (result.bound - best[1]) / abs(best[1]) if best[1] else result.bound
    ahead = ahead if goal.sense is Sense.maximise else -ahead
    assert -1e-7 <= ahead <= max(1e-7, OPEN.get(best[0], 0.0))


@pytest.mark.parametrize(("policy", "robust"), FORMS)
@pytest.mark.parametrize("seed", [11, 12])
def test_goals_in_order_agree_with_verify(policy: str, robust: str, seed: int) -> None:
    """Each goal's plan is right, its values are feasible again, worth what ``verify`` says, and those before lose nothing."""
    given = problem(seed, policy, robust=robust, classes=2)
    floors: dict[str, float] = {}
    for goal in goals(given):
        compiled, result = ran(given, goal.name, floors)
        if result.status is ProgramStatus.infeasible:
            assert not floors
            return
        assert compiled.fallbacks == 0
        plan = plan_of(given, compiled, result)
        verdict = verify(given, plan)
        assert verdict.ok, verdict.violations
        values = started(given, compiled, plan)
        assert compiled.program.relative_violation(values) <= 1e-6
        if plain_name(goal.name) != "fair_slack":
            assert compiled.program.objective(values) == pytest.approx(verdict.objectives[goal.name], rel=1e-6, abs=1e-9)
        for name, value in floors.items():
            kept = next(one for one in goals(given) if one.name == name)
            worse = 1e-6 * max(1.0, abs(value)) * (-1.0 if kept.sense is Sense.maximise else 1.0)
            assert plain_name(name) == "fair_slack" or not kept.better(value + worse, verdict.objectives[name])
        floors[goal.name] = verdict.objectives[goal.name]


@pytest.mark.parametrize("policy", POLICIES)
def test_rows_are_named_and_sized(policy: str) -> None:
    given = problem(3, policy)
    compiled = compile_model(formulation.build(given))
    known = {rule.value for rule in Rule} | formulation.LINKING
    assert {block.name for block in compiled.program.row_blocks} <= known
    # Pairs of a workload with itself are counted both ways.
    assert formulation.size(given) >= sum(len(compiled.columns.get(family, ())) for family in ("run", "spread", "pair", "share"))


def test_goals_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="cost is not among the goals of the problem: fair_share, fair_slack"):
        formulation.build(problem(1, "max_min_fair"), "cost")


def test_tangents_lie_below_the_reciprocal_and_touch_it() -> None:
    given = problem(5, "finish_time_fair")
    rising = rising_of(given, setting_of(given), 0)
    for group, low in enumerate(rising.lows.tolist()):
        first = rising.least - low
        for ratio in np.geomspace(rising.least, 100 * rising.usual, 50).tolist():
            pace = max((right - slope * ratio / rising.least) / steep for steep, slope, right in rising.tangents(group))
            assert pace * (ratio - low) / first == pytest.approx(1.0, abs=2e-4)
            assert pace * (ratio - low) / first <= 1.0 + 1e-12
        speeds = rising.needs(1.5 * rising.usual)
        assert rising.value(speeds) == pytest.approx(1.5 * rising.usual)


def test_tangent_planes_lie_above_the_mean_and_touch_it() -> None:
    given = problem(8, "proportional_fair", sizes=(2, 4))
    market = market_of(given)
    chain = chain_of(market, 0)
    rng = np.random.default_rng(1)
    for _ in range(20):
        shares = rng.uniform(0.1, 3.0, market.jobs.count)
        weight = market.jobs.copies * market.jobs.weight
        last = float(shares[chain.jobs[0]])
        for job, planes in zip(chain.jobs[1:], chain.tangents, strict=True):
            last = min(first * last + second * shares[job] for first, second in planes)
        mean = float(np.exp(weight @ np.log(shares) / weight.sum()))
        assert mean * (1 - 1e-12) <= last <= mean * (1 + 1e-4)
        if chain.parts:
            assert chain.means(shares)[-1] == pytest.approx(mean)


def two(policy: str, **job: Any) -> Problem:
    """Two sorts of GPU and two jobs, of which the first has ``job``."""
    return Problem(
        policy=Policy(policy),
        accelerators=(Accelerator(id="fast", count=1, usd_per_hour=3.0), Accelerator(id="slow", count=1, usd_per_hour=1.0)),
        workloads=(Workload(id="w", speeds=(Speed(accelerator="fast", steps_per_s=4.0), Speed(accelerator="slow", steps_per_s=2.0))),),
        jobs=(Job(id="a", workload="w", **job), Job(id="b", workload="w")),
    )


def test_a_budget_limits_a_job_and_nobody_else() -> None:
    """1 USD/h buys a third of the fast GPU (4/3 steps/s) or all of the slow one (2 steps/s)."""
    given = two("throughput", budget_usd_per_hour=1.0)
    compiled, result = ran(given)
    assert result.objective == pytest.approx(0.5 + 1.0)
    assert verify(given, plan_of(given, compiled, result)).metrics["cost_usd_per_hour"] == pytest.approx(4.0)


def test_a_deadline_is_met_as_cheaply_as_can_be() -> None:
    """3 steps/s: x on fast and y on slow with 4x + 2y = 3 and x + y = 1 cost 3/2 + 1/2."""
    given = two("least_cost", deadline_s=1000.0, remaining_steps=3000.0)
    _, result = ran(given)
    assert result.objective == pytest.approx(2.0)


def test_a_makespan_of_two_unlike_jobs() -> None:
    """400 steps on the fast GPU take as long as 200 on the slow one."""
    jobs = [{"id": name, "workload": "w", "remaining_steps": steps} for name, steps in (("a", 400.0), ("b", 200.0))]
    given = Problem.model_validate({**two("throughput").model_dump(), "policy": "makespan", "jobs": jobs})
    _, result = ran(given)
    assert result.objective == pytest.approx(100.0, rel=1e-6)

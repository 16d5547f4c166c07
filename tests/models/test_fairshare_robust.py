"""Speeds that may turn out worse: budgeted uncertainty and scenarios, against all sets that may fall."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from models.contract import Sense
from models.fairshare.goals import goals
from models.fairshare.schema import Accelerator, Factor, Job, Policy, Problem, Robust, Scenario, Speed, Workload
from tests.models.fairshare_random import changed, goals_of, problem, shares, tame
from tests.oracles.fairshare import Infeasible, Oracle

LEVELS = ["max_min_fair", "finish_time_fair", "makespan"]
SCENARIOS = [*LEVELS, "throughput", "least_cost"]
DEFAULT, ALL = 10, 60


def check(given: Problem) -> None:
    try:
        best = Oracle(given).answer()
    except Infeasible:
        assert goals_of(given) == {}
        return
    assert tame(goals_of(given)) == pytest.approx(tame(best.goals), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("policy", LEVELS)
@pytest.mark.parametrize("seed", range(DEFAULT))
def test_a_budget_is_the_worst_of_all_sets(policy: str, seed: int) -> None:
    check(problem(seed, policy, robust="budget", classes=1 + seed % 2))


@pytest.mark.parametrize("policy", SCENARIOS)
@pytest.mark.parametrize("seed", range(DEFAULT))
def test_the_worst_scenario_counts(policy: str, seed: int) -> None:
    check(problem(seed, policy, robust="scenarios", classes=1 + seed % 2))


@pytest.mark.long
@pytest.mark.parametrize("policy", LEVELS)
@pytest.mark.parametrize("seed", range(DEFAULT, ALL))
def test_more_budgets(policy: str, seed: int) -> None:
    check(problem(seed, policy, robust="budget", classes=1 + seed % 2))


@pytest.mark.long
@pytest.mark.parametrize("policy", SCENARIOS)
@pytest.mark.parametrize("seed", range(DEFAULT, ALL))
def test_more_scenarios(policy: str, seed: int) -> None:
    check(problem(seed, policy, robust="scenarios", classes=1 + seed % 2))


@pytest.mark.parametrize("policy", LEVELS)
@pytest.mark.parametrize("seed", range(3))
def test_a_larger_budget_is_never_better_and_none_is_the_plain_problem(policy: str, seed: int) -> None:
    given = problem(seed + 50, policy, robust="budget")
    first = goals(given)[0]
    values = [goals_of(changed(given, robust={"budget": budget}))[first.name] for budget in (0.0, 0.5, 1.0, 2.5, 10.0)]
    for less, more in pairwise(values):
        slack = 1e-6 * max(1.0, abs(less)) * (-1.0 if first.sense is Sense.maximise else 1.0)
        assert not first.better(more + slack, less)
    assert values[0] == pytest.approx(goals_of(changed(given, robust=None))[first.name], rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_budget_for_all_accelerators_makes_all_speeds_slow(seed: int) -> None:
    given = problem(seed + 70, "makespan", robust="budget")
    whole = given.model_dump(mode="json")
    slow = {
        (workload["id"], speed["accelerator"]): (speed["slow_steps_per_s"] or speed["steps_per_s"]) / speed["steps_per_s"]
        for workload in whole["workloads"]
        for speed in workload["speeds"]
    }

    def slower(speed: dict[str, Any], factor: float) -> dict[str, Any]:
        named = ("steps_per_s", "spread_steps_per_s")
        return speed | {name: speed[name] and speed[name] * factor for name in named} | {"slow_steps_per_s": None}

    workloads = [
        one | {"speeds": [slower(speed, slow[one["id"], speed["accelerator"]]) for speed in one["speeds"]]} for one in whole["workloads"]
    ]
    pairs = [
        one | {f"{side}_steps_per_s": one[f"{side}_steps_per_s"] * slow[one[side], one["accelerator"]] for side in ("first", "second")}
        for one in whole["pairs"]
    ]
    plain = goals_of(changed(given, robust=None, workloads=workloads, pairs=pairs))
    assert goals_of(changed(given, robust={"budget": 10.0})) == pytest.approx(plain, rel=1e-6, abs=1e-6)


def hedged(robust: Robust | None) -> Problem:
    """One job and one GPU of each of two sorts, each of which may be half as fast."""
    return Problem(
        policy=Policy.max_min_fair,
        accelerators=(Accelerator(id="one", count=1), Accelerator(id="other", count=1)),
        workloads=(
            Workload(
                id="w",
                speeds=(
                    Speed(accelerator="one", steps_per_s=4.0, slow_steps_per_s=2.0),
                    Speed(accelerator="other", steps_per_s=4.0, slow_steps_per_s=2.0),
                ),
            ),
        ),
        jobs=(Job(id="a", workload="w"),),
        robust=robust,
    )


def test_time_is_hedged_over_two_sorts_of_gpu() -> None:
    """With one that may be slow, half of the time on each is sure to make 3 steps/s, and all on one only 2."""
    assert shares(hedged(Robust(budget=1.0))) == pytest.approx([0.75])
    assert shares(hedged(Robust(budget=2.0))) == pytest.approx([0.5])
    assert shares(hedged(Robust(budget=0.5))) == pytest.approx([0.875])


def test_scenarios_are_hedged_too() -> None:
    worst = tuple(Scenario(id=name, factors=(Factor(accelerator=name, factor=0.5),)) for name in ("one", "other"))
    assert shares(hedged(Robust(scenarios=worst))) == pytest.approx([0.75])
    assert shares(hedged(Robust(scenarios=(Scenario(id="better", factors=(Factor(factor=1.5),)),)))) == pytest.approx([1.5])

"""The baselines of flow and tiering agree with our optimum where they can state the problem, and say so where they cannot."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from benchmarks import as_written, networks
from benchmarks.flow import LEAST_COSTS, MAXIMUM_FLOWS, dimacs
from benchmarks.flow_baselines import BASELINES
from models.flow import examples as flows
from models.flow.schema import Objective, Problem
from models.flow.verify import verify
from models.tiering import examples as tierings
from models.tiering.verify import verify as verify_tiering
from optimizer.limits import Limits
from optimizer.solve import solve

HAVE_CVXPY = importlib.util.find_spec("cvxpy") is not None
NAMES = [name for name in BASELINES if name != "cvxpy_highs" or HAVE_CVXPY]


def value(problem: Problem, plan: Any) -> float:
    assert plan is not None
    verdict = verify(problem, plan)
    assert verdict.ok, verdict.violations[:3]
    return next(iter(verdict.objectives.values()))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "networkx"])
@pytest.mark.parametrize("objective", [one for one in Objective if one is not Objective.max_min_fair])
def test_a_baseline_finds_our_optimum(name: str, objective: Objective) -> None:
    problem = networks.fat_tree(4, 30, objective, 1, load=0.3, uneven=3)
    result = solve(problem, Limits(time_limit_s=20.0), isolate=False)
    assert result.certificate is not None
    assert value(problem, BASELINES[name](problem, 20.0)) == pytest.approx(result.certificate.objective, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_baselines_know_the_published_costs(name: str) -> None:
    problem = dimacs("dimacs_netgen", "netgen_8_08a.min")
    assert value(problem, BASELINES[name](problem, 20.0)) == pytest.approx(LEAST_COSTS["netgen_8_08a"], rel=1e-9)


@pytest.mark.parametrize("name", list(LEAST_COSTS))
def test_we_know_the_published_costs(name: str) -> None:
    problem = dimacs("dimacs_netgen", f"{name}.min")
    result = solve(problem, Limits(time_limit_s=20.0, gap=1e-9), isolate=False)
    assert result.certificate is not None
    assert result.certificate.objective == pytest.approx(LEAST_COSTS[name], rel=1e-9)
    assert result.certificate.gap <= 1e-9


@pytest.mark.parametrize("name", list(MAXIMUM_FLOWS))
def test_we_know_the_published_flows(name: str) -> None:
    problem = dimacs("networkx_flow", f"{name}.txt")
    result = solve(problem, Limits(time_limit_s=20.0, gap=1e-9), isolate=False)
    assert result.certificate is not None
    assert result.certificate.objective == pytest.approx(MAXIMUM_FLOWS[name], rel=1e-9)
    assert result.certificate.gap <= 1e-9


def test_networkx_refuses_what_it_gets_wrong() -> None:
    with pytest.raises(ValueError, match="whole numbers only"):
        BASELINES["networkx"](networks.chain(4), 5.0)
    with pytest.raises(ValueError, match="several demands"):
        BASELINES["networkx"](networks.fat_tree(4, 8, Objective.max_throughput, 0), 5.0)


def test_networkx_knows_the_published_flows() -> None:
    problem = dimacs("networkx_flow", "gw1.txt")
    assert value(problem, BASELINES["networkx"](problem, 20.0)) == pytest.approx(MAXIMUM_FLOWS["gw1"], rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_baseline_cannot_state_it_refuses(name: str) -> None:
    with pytest.raises(ValueError, match="knows no fairness"):
        BASELINES[name](flows.examples()["fair"], 5.0)


@pytest.mark.parametrize("name", [name for name in as_written.BASELINES if name != "cvxpy_highs" or HAVE_CVXPY])
def test_a_program_as_written_finds_our_tiering(name: str) -> None:
    problem = tierings.two_tier()
    result = solve(problem, Limits(time_limit_s=20.0), isolate=False)
    plan = as_written.BASELINES[name](problem, 20.0)
    assert result.verdict is not None
    verdict = verify_tiering(problem, plan)
    assert verdict.ok
    goal = problem.goals[0].value
    assert verdict.objectives[goal] == pytest.approx(result.verdict.objectives[goal], rel=1e-6)

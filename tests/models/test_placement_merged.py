"""A cluster of many half-filled nodes, seen as a few large ones: the bound stays a bound."""

from __future__ import annotations

import pytest

from models.placement.heuristic import book_all_running, waiting
from models.placement.ledger import Ledger
from models.placement.relaxation import Relaxation
from models.placement.scale import packing, relaxation
from models.placement.schema import GoalName, Problem, Use
from optimizer.columns import generate
from optimizer.limits import Limits
from tests.models.placement_problems import middling_problem, tiny_problem
from tests.oracles.placement import best

LIMITS = Limits(time_limit_s=20)


def _bound(problem: Problem, goal: GoalName) -> float:
    ledger = Ledger(problem)
    assert book_all_running(ledger)
    return generate(Relaxation(ledger, waiting(problem), goal), LIMITS).bound


@pytest.fixture
def merging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.placement.relaxation.MOST_SEATS", -1)


@pytest.mark.usefixtures("merging")
@pytest.mark.parametrize("seed", range(60))
def test_the_merged_bound_is_never_crossed_by_the_optimum(seed: int) -> None:
    goal = (GoalName.placed_value, GoalName.allocated_gpus)[seed % 2]
    problem = tiny_problem(seed, Use.place).model_copy(update={"goals": (goal,)})
    optimum = best(problem)
    source = relaxation(problem, goal.value)
    if optimum is None or source is None:
        pytest.skip("the running jobs of this draw break a rule, so there is no plan to bound")
    assert source.coarse
    assert generate(source, LIMITS).bound >= optimum.values[0] - 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_merging_only_weakens(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = middling_problem(seed, Use.place)
    ledger = Ledger(problem)
    if not book_all_running(ledger):
        pytest.skip("the running jobs of this draw break a rule")
    fine = _bound(problem, GoalName.allocated_gpus)
    monkeypatch.setattr("models.placement.relaxation.MOST_SEATS", -1)
    assert _bound(problem, GoalName.allocated_gpus) >= fine - 1e-6 * max(1.0, fine)


@pytest.mark.usefixtures("merging")
def test_merged_nodes_are_not_packed() -> None:
    problem = middling_problem(1, Use.place)
    source = relaxation(problem, "allocated_gpus")
    assert source is not None
    found = generate(source, LIMITS)
    assert found.values is not None
    packed = packing(problem, source, found.values, 1.0)
    assert packed is not None
    rest = generate(packed.source, LIMITS)
    assert rest.values is not None
    assert rest.row_duals is not None
    assert packed.begin(rest.live.program).programs(rest.values, rest.row_duals) == []

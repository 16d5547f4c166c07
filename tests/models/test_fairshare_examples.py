"""The examples are meant as they are: nothing odd in them, and a plan at once."""

from __future__ import annotations

import pytest

from models.fairshare.checks import warnings
from models.fairshare.examples import examples
from models.fairshare.heuristic import heuristic, simple_bounds
from models.fairshare.schema import example
from models.fairshare.verify import goals, verify

NAMES = sorted(examples())


def test_the_usual_example_is_the_first() -> None:
    assert example() == next(iter(examples().values()))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_odd_about_an_example(name: str) -> None:
    assert warnings(examples()[name]) == ()


@pytest.mark.parametrize("name", NAMES)
def test_every_example_has_a_plan_at_once(name: str) -> None:
    problem = examples()[name]
    plan = heuristic(problem)
    assert plan is not None
    verdict = verify(problem, plan)
    assert verdict.ok
    assert verdict.metrics["gpus_busy"] > 0
    bounds = simple_bounds(problem)
    assert not [goal.name for goal in goals(problem) if goal.better(verdict.objectives[goal.name], bounds[goal.name])]

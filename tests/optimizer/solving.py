"""What the tests of ``optimizer.solve`` ask of every result."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from models.contract import Kind
from models.vocabulary import Document
from optimizer.limits import Limits
from optimizer.result import Progress, Result, relative_gap
from optimizer.solve import solve


def limits(seconds: float = 20.0, **fields: Any) -> Limits:
    return Limits(time_limit_s=seconds, **fields)


def objectives(result: Result) -> tuple[float, ...]:
    assert result.certificate is not None
    return tuple(goal.objective for goal in result.certificate.goals)


def timed(*arguments: Any, **named: Any) -> tuple[Result, float]:
    began = time.monotonic()
    result = solve(*arguments, **named)
    return result, time.monotonic() - began


def check_certificate(result: Result, kind: Kind, of: Document) -> None:
    """Goals in order, each with a bound on the right side and the gap of the formula, and all of it recomputed."""
    assert result.certificate is not None
    verdict = kind.verify(of, result.plan)
    assert verdict.ok
    assert result.certificate.verified
    assert result.certificate.largest_violation == 0
    goals = kind.goals(of)
    assert [goal.name for goal in result.certificate.goals] == [goal.name for goal in goals]
    for stated, goal in zip(result.certificate.goals, goals, strict=True):
        assert stated.objective == verdict.objectives[goal.name]
        assert (stated.sense, stated.unit) == (goal.sense.value, goal.unit)
        assert not goal.better(stated.objective, stated.bound)
        if math.isfinite(stated.bound):
            assert stated.gap == pytest.approx(abs(stated.bound - stated.objective) / max(1.0, abs(stated.objective)))
        assert stated.method
    first = result.certificate.goals[0]
    assert (result.certificate.objective, result.certificate.bound, result.certificate.gap) == (first.objective, first.bound, first.gap)


def check_progress(steps: list[Progress], maximise: bool = True) -> None:
    """The incumbent only gets better and the bound only tighter, and time goes one way."""
    sign = 1 if maximise else -1
    incumbents = [sign * step.incumbent for step in steps if step.incumbent is not None]
    bounds = [-sign * step.bound for step in steps if step.bound is not None]
    seconds = [step.seconds for step in steps]
    assert incumbents == sorted(incumbents)
    assert bounds == sorted(bounds)
    assert seconds == sorted(seconds)
    for step in steps:
        if step.incumbent is not None and step.bound is not None:
            assert step.gap == relative_gap(step.incumbent, step.bound)

"""Small tables made by hand, for what only reads rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optimizer.result import GoalCertificate, relative_gap
from optimizer.study.rows import Answered, Change, Row, Scenario


def certificate(objective: float, bound: float, name: str = "value", sense: str = "maximise", unit: str = "") -> GoalCertificate:
    return GoalCertificate(name, sense, unit, objective, bound, relative_gap(objective, bound), "by hand")


def row(*goals: GoalCertificate, key: str = "", stop: str = "deadline", metrics: Mapping[str, float] | None = None) -> Row:
    told = repr([(one.name, one.objective, one.bound) for one in goals])
    return Row(key or told, "feasible", stop, goals, dict(metrics or {}), verified=True, seconds=1.0)


def proved(objective: float, bound: float | None = None, **fields: Any) -> Row:
    """One goal, called value."""
    return row(certificate(objective, objective if bound is None else bound), **fields)


def infeasible(key: str = "none") -> Row:
    return Row(key, "infeasible", "gap", (), {}, verified=False, seconds=1.0)


def no_plan(key: str = "late") -> Row:
    return Row(key, "no_plan", "deadline", (), {}, verified=False, seconds=1.0)


def answered(
    one: Row,
    label: str = "A",
    *,
    replicate: int = 0,
    values: Mapping[str, Any] | None = None,
    changes: tuple[Change, ...] | None = None,
    spend_usd: float = 0.0,
    baseline: bool = False,
) -> Answered:
    """A line of the table; ``changes`` of their own unless given, so that no two are one problem."""
    told = dict(values if values is not None else {"x": label})
    numbers = {name: float(value) if isinstance(value, int | float) else None for name, value in told.items()}
    made = changes if changes is not None else (Change("set", f"/{label}", [replicate, told]),)
    return Answered(Scenario(f"{label}-{replicate}", told, numbers, replicate, 0, made, spend_usd, baseline), one)


INF = math.inf

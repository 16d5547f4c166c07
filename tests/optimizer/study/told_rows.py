"""Rows made up for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimizer.result import GoalCertificate, relative_gap
from optimizer.study.rows import Row

if TYPE_CHECKING:
    from collections.abc import Mapping


def told_row(
    goals: Mapping[str, tuple[float, float]],
    *,
    metrics: Mapping[str, float] | None = None,
    maximise: bool = True,
    outcome: str = "feasible",
    failure: str | None = None,
) -> Row:
    """A row with these goals (objective, bound), in their order."""
    sense = "maximise" if maximise else "minimise"
    told = tuple(
        GoalCertificate(name, sense, "", objective, bound, relative_gap(objective, bound), "told")
        for name, (objective, bound) in goals.items()
    )
    return Row(
        key="",
        outcome=None if failure else outcome,
        stop_reason=None if failure else "deadline",
        goals=told,
        metrics=dict(metrics or {}),
        verified=bool(told),
        seconds=0.0,
        failure=failure,
    )

"""The table of a study as a Polars frame, for notebooks and files: one line for each scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optimizer.result import finite
from service.studies.conclusions import conclusions

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

    from optimizer.study.conclusions.differences import Difference
    from optimizer.study.rows import Row, Scenario
    from optimizer.study.run import Table
    from service.studies.conclusions import Conclusions

PLAIN = (bool, int, float, str)


def frame(table: Table, told: Conclusions | None = None) -> pl.DataFrame:
    """One line for each scenario, in the order of the study; what is not known is null.

    Columns: the scenario, its axes, ``spend_usd``, the outcome; for each goal its value, ``_bound`` and ``_gap``; ``change_low`` and
    ``change_high``, the certain span of the first goal's optimum less the baseline's; the metrics; how it was solved. An axis or a metric
    with the name of another column has ``axis_`` or ``metric_`` in front. ``told`` are the conclusions, where they are known already.
    """
    import polars as pl

    columns = columns_of(table, told)
    return pl.DataFrame({name: pl.Series(name, _alike(values), strict=False) for name, values in columns.items()})


def columns_of(table: Table, told: Conclusions | None = None) -> dict[str, list[Any]]:
    """The same as plain lists by column."""
    told = told or conclusions(table)
    pairs = list(zip(table.scenarios, table.rows, strict=True))
    goals = dict.fromkeys(goal.name for row in table.rows if row is not None for goal in row.goals)
    shown = table.study.metrics or dict.fromkeys(name for row in table.rows if row is not None for name in row.metrics)
    made: dict[str, list[Any]] = {
        "scenario": [scenario.id for scenario, _ in pairs],
        "label": [scenario.label for scenario, _ in pairs],
        "baseline": [scenario.is_baseline for scenario, _ in pairs],
        "replicate": [scenario.replicate for scenario, _ in pairs],
    }
    fixed = {*made, *_SOLVED, "spend_usd", "change_low", "change_high", "finding", "outcome", *goals}
    for axis in dict.fromkeys(name for scenario in table.scenarios for name in scenario.values):
        made[f"axis_{axis}" if axis in fixed else axis] = [scenario.values.get(axis) for scenario, _ in pairs]
    made["spend_usd"] = [scenario.spend_usd for scenario, _ in pairs]
    made["outcome"] = [None if row is None else row.outcome for _, row in pairs]
    for goal in goals:
        made |= _goal_columns(goal, [row for _, row in pairs])
    made |= _changes([scenario for scenario, _ in pairs], told.differences)
    for metric in (name for name in shown if name not in goals):
        made[f"metric_{metric}" if metric in made or metric in fixed else metric] = [
            None if row is None else row.metrics.get(metric) for _, row in pairs
        ]
    return made | {name: [None if row is None else getattr(row, name) for _, row in pairs] for name in _SOLVED}


_SOLVED = ("stop_reason", "verified", "seconds", "strategy", "message", "failure", "attempts", "key")


def _goal_columns(goal: str, rows: Iterable[Row | None]) -> dict[str, list[Any]]:
    found = [None if row is None else row.goal(goal) for row in rows]
    return {
        goal: [None if one is None else one.objective for one in found],
        f"{goal}_bound": [None if one is None else finite(one.bound) for one in found],
        f"{goal}_gap": [None if one is None else finite(one.gap) for one in found],
    }


def _changes(scenarios: Iterable[Scenario], differences: dict[str, Difference]) -> dict[str, list[Any]]:
    found = [differences.get(scenario.id) for scenario in scenarios]
    spans = [None if one is None else one.absolute for one in found]
    return {
        "change_low": [None if span is None else finite(span.low) for span in spans],
        "change_high": [None if span is None else finite(span.high) for span in spans],
        "finding": [None if one is None else one.finding.value for one in found],
    }


def _alike(values: list[Any]) -> list[Any]:
    """A column has one type: numbers that are not all whole are floats, a mixture is text."""
    types = {type(value) for value in values if value is not None}
    if types <= {int, float}:
        return [None if value is None else float(value) for value in values] if float in types else values
    return values if len(types) == 1 and types <= set(PLAIN) else [None if value is None else str(value) for value in values]

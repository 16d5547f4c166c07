"""Two goals or metrics against each other, and which scenarios no other one beats in both."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from models.contract import Sense
from optimizer.study.conclusions.differences import SPEND
from optimizer.study.conclusions.intervals import MAXIMISE, NOTHING_KNOWN, Interval, exactly
from optimizer.study.conclusions.paired import Combination, ahead, combinations, mean_value
from optimizer.study.conclusions.wording import shown_value

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from models.program import Floats
    from optimizer.study.rows import Answered
    from optimizer.study.schema import Axis

Reading = tuple[float | None, Interval | None]


class Rank(StrEnum):
    """What is known of a point: whether another is at least as good in both and better in one."""

    best = "best"  # certain: none is
    best_of_plans = "best_of_plans"  # none of the plans found is
    beaten_of_plans = "beaten_of_plans"  # one of the plans found is
    beaten = "beaten"  # certain


@dataclass(frozen=True, slots=True)
class Point:
    """One combination. ``x`` and ``y`` are means over its replicates, of the plans found; the intervals hold those of the optima."""

    label: str
    x: float
    y: float
    x_optimum: Interval | None
    y_optimum: Interval | None
    rank: Rank


@dataclass(frozen=True, slots=True)
class TradeOff:
    """``certified``: both are goals, or exact (spend_usd). ``left_out`` are labels of those with a replicate without a plan."""

    x: str
    y: str
    x_sense: str
    y_sense: str
    certified: bool
    points: tuple[Point, ...]
    left_out: tuple[str, ...]


def trade_off(
    table: Sequence[Answered], x: str, y: str, *, senses: Mapping[str, Sense] | None = None, drawn: Collection[str] = ()
) -> TradeOff:
    """Every combination by ``x`` and ``y``. ``senses`` says which way a metric is better that is no goal; spend_usd is to be small.

    Raises ValueError for a metric of which that is not said.
    """
    x_sense, y_sense = _sense(table, x, senses or {}), _sense(table, y, senses or {})
    grouped = combinations(table, drawn)
    read = [(one, _read(one, x), _read(one, y)) for one in grouped]
    placed = [(one, mine, theirs) for one, mine, theirs in read if mine[0] is not None and theirs[0] is not None]
    ranks = _ranks(_advantages([mine for _, mine, _ in placed], x_sense), _advantages([theirs for _, _, theirs in placed], y_sense))
    points = tuple(
        Point(one.label, mine[0] or 0.0, theirs[0] or 0.0, mine[1], theirs[1], rank)
        for (one, mine, theirs), rank in zip(placed, ranks, strict=True)
    )
    certified = all(name == SPEND or any(row.row.goal(name) is not None for row in table) for name in (x, y))
    left_out = tuple(one.label for one, mine, theirs in read if mine[0] is None or theirs[0] is None)
    return TradeOff(x, y, x_sense, y_sense, certified, points, left_out)


def of_one_circumstance(table: Sequence[Answered], axes: Sequence[Axis], drawn: Collection[str] = ()) -> tuple[tuple[Answered, ...], str]:
    """The lines of one circumstance, and which: only choices that meet the same can be traded. All lines, and "", without circumstances.

    It is the first of those under which most choices are answered; what has no value on an axis (a baseline) has met none of it.
    """
    free = [axis.name for axis in axes if not axis.is_chosen and axis.name not in drawn]
    groups: dict[tuple[str, ...], list[Answered]] = {}
    for one in table:
        groups.setdefault(tuple(repr(one.scenario.values.get(name)) for name in free), []).append(one)
    if len(groups) < 2 or not any(axis.is_chosen for axis in axes):  # noqa: PLR2004  (one circumstance is part of the problem)
        return tuple(table), ""
    most = max(groups.values(), key=len)
    values = most[0].scenario.values
    return tuple(most), ", ".join(f"{name}={shown_value(values[name])}" for name in free if name in values)


def _sense(table: Sequence[Answered], name: str, senses: Mapping[str, Sense]) -> str:
    goal = next((goal for one in table if (goal := one.row.goal(name)) is not None), None)
    if goal is not None:
        return goal.sense
    if name == SPEND:
        return Sense.minimise.value
    if name not in senses:
        raise ValueError(f"'{name}' is no goal of the table: say whether more or less of it is better")
    return senses[name].value


def _read(one: Combination, name: str) -> Reading:
    if name == SPEND:
        return one.spend_usd, exactly(one.spend_usd)
    return mean_value(one, name)


def _advantages(read: Sequence[Reading], sense: str) -> Floats:
    """Rows: the plans' values, the low ends and the high ends of the optima, all as advantages; shape (3, points)."""
    spans = [NOTHING_KNOWN if span is None else ahead(span, sense) for _, span in read]
    sign = 1.0 if sense == MAXIMISE else -1.0
    plans = [sign * (value or 0.0) for value, _ in read]
    return np.array([plans, [span.low for span in spans], [span.high for span in spans]], dtype=np.float64).reshape(3, len(read))


def _ranks(x: Floats, y: Floats) -> list[Rank]:
    """The rank of every point. A point never beats itself: its own intervals are taken out."""
    ranks = []
    for place in range(x.shape[1]):
        others = np.arange(x.shape[1]) != place
        (x_plan, x_low, x_high), (y_plan, y_low, y_high) = x[:, place], y[:, place]
        surely = (x[1] >= x_high) & (y[1] >= y_high) & ((x[1] > x_high) | (y[1] > y_high)) & others
        maybe = (x[2] >= x_low) & (y[2] >= y_low) & ((x[2] > x_low) | (y[2] > y_low)) & others
        of_plans = (x[0] >= x_plan) & (y[0] >= y_plan) & ((x[0] > x_plan) | (y[0] > y_plan))
        if surely.any():
            ranks.append(Rank.beaten)
        elif not maybe.any():
            ranks.append(Rank.best)
        else:
            ranks.append(Rank.beaten_of_plans if of_plans.any() else Rank.best_of_plans)
    return ranks

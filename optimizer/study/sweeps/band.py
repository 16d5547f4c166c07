"""A certified band around the optimum over one axis, for any kind: from the rows of a grid, and no more than they prove.

At a value that was asked the optimum lies between plan and bound. Between values nothing is known of a goal in general. Where larger values
only allow more (``allows``: more; a relaxation of the problem as the axis rises) a plan stays a plan further on and a bound holds further
back: then the band goes on between the values, as stairs, and what one row proves tightens the others. What rows prove is held against
that on the way: where an optimum is certainly worse further on, it is dropped, and ``message`` says so. A band is never exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from optimizer.study.questions.asking import CAUTION, seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.contract import Goal
    from optimizer.study.questions.asking import Seen
    from optimizer.study.rows import Row


@dataclass(frozen=True, slots=True)
class BandPoint:
    """The optimum at one value lies between ``low`` and ``high`` (infinite: unknown); ``no_plan``: it is proved that there is none."""

    value: float
    low: float
    high: float
    no_plan: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    """The band at the values asked, ascending. ``ordered``: between two of them the optimum lies where ``between`` says."""

    points: tuple[BandPoint, ...]
    maximise: bool
    allows: Literal["more", "less", "unknown"]
    message: str = ""

    @property
    def ordered(self) -> bool:
        """Whether something is known between the values."""
        return self.allows != "unknown"

    def between(self, value: float) -> tuple[float, float]:
        """The interval in which the optimum at any value lies if there is a plan; infinite ends where nothing is known."""
        at = [point.value for point in self.points]
        for point in self.points:
            if point.value == value:
                return point.low, point.high
        place = int(np.searchsorted(at, value))
        if not self.ordered:
            return -math.inf, math.inf
        before = self.points[place - 1] if place > 0 else None
        after = self.points[place] if place < len(at) else None
        tighter, looser = (before, after) if self.allows == "more" else (after, before)
        worst, best = (tighter, looser) if self.maximise else (looser, tighter)
        return -math.inf if worst is None else worst.low, math.inf if best is None else best.high


def band(values: Sequence[float], rows: Sequence[Row], goal: Goal, *, allows: Literal["more", "less", "unknown"] = "unknown") -> Band:
    """The band of the first goal of the rows' problems, from rows at ``values`` (in any order, all different).

    ``allows``: what larger values do, as the caller knows. Raises ValueError when values repeat, and UnknownMetricError.
    """
    order = np.argsort(np.asarray(values, dtype=np.float64), kind="stable").tolist()
    ascending = [float(values[place]) for place in order]
    if len(set(ascending)) != len(ascending) or len(rows) != len(ascending):
        raise ValueError("a band needs one row for each value, and each value once")
    found = [seen(rows[place], goal.name) for place in order]
    maximise = goal.sense.value == "maximise"
    message = ""
    if allows != "unknown":
        stairs = _stairs(found, upwards=(allows == "more") == maximise)
        if stairs is None or _gone(found, more=allows == "more"):
            allows, message = (
                "unknown",
                "larger values do not always allow more: what rows prove contradicts it, so nothing is said between them",
            )
        else:
            return Band(tuple(_point(*one) for one in zip(ascending, found, stairs, strict=True)), maximise, allows)
    plain = [_proved(one) for one in found]
    return Band(tuple(_point(*one) for one in zip(ascending, found, plain, strict=True)), maximise, allows, message)


def _proved(one: Seen) -> tuple[float, float]:
    return (one.low, one.high) if one.proved else (-math.inf, math.inf)


def _point(value: float, one: Seen, interval: tuple[float, float]) -> BandPoint:
    return BandPoint(value, math.nan, math.nan, no_plan=True) if one.no_plan else BandPoint(value, *interval)


def _stairs(found: list[Seen], *, upwards: bool) -> list[tuple[float, float]] | None:
    """The intervals that an optimum which only rises (or falls) has; None where there is no such one."""
    low, high = np.array([_proved(one) for one in found]).reshape(-1, 2).T
    if not upwards:
        low, high = low[::-1], high[::-1]
    low, high = np.maximum.accumulate(low), np.minimum.accumulate(high[::-1])[::-1]
    both = np.isfinite(low) & np.isfinite(high)
    if (low[both] > high[both] + 2 * CAUTION * np.maximum(1.0, np.abs(low[both]))).any():
        return None
    high = np.maximum(low, high)  # apart by rounding
    if not upwards:
        low, high = low[::-1], high[::-1]
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _gone(found: list[Seen], *, more: bool) -> bool:
    """Whether there is a plan at a value, and certainly none at one that allows more."""
    ordered = found if more else found[::-1]
    plans = [one.attained is not None for one in ordered]
    return True in plans and any(one.no_plan for one in ordered[plans.index(True) :])

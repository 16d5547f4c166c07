"""A feasible plan at once where an obvious one exists: zero, the bounds, or the good end of each column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.linear.arrays import arrays_of
from models.linear.schema import GoalName, Plan
from models.linear.verify import verify

if TYPE_CHECKING:
    from models.linear.arrays import Arrays
    from models.linear.schema import Problem
    from models.program import Floats


def heuristic(problem: Problem, seed: int = 0, seconds: float = 1.0) -> Plan | None:
    """The best of a few obvious plans that are feasible; None when none is, which proves nothing. No randomness, no search."""
    del seed, seconds
    arrays = arrays_of(problem)
    best: tuple[float, Plan] | None = None
    for values in _obvious(arrays):
        plan = Plan(values=tuple(values.tolist()))
        worth = (1.0 if arrays.maximise else -1.0) * arrays.objective(values)
        if (best is None or worth > best[0]) and verify(problem, plan).ok:
            best = worth, plan
    return None if best is None else best[1]


def simple_bounds(problem: Problem) -> dict[str, float]:
    """Every column at the end of its range that suits the objective best: a bound where all these ends exist.

    Nothing for a linear program: its duals prove more, and a plan that met this bound within the gap would be handed out without them.
    """
    arrays = arrays_of(problem)
    if not arrays.is_mip:
        return {}
    ends = _good_ends(arrays)
    terms = np.where(arrays.cost == 0.0, 0.0, arrays.cost * np.where(arrays.cost == 0.0, 0.0, ends))
    bound = float(terms.sum()) + arrays.offset
    return {GoalName.objective.value: bound} if np.isfinite(bound) else {}


def _whole_box(arrays: Arrays) -> tuple[Floats, Floats]:
    """The bounds with those of integer columns moved to whole numbers."""
    lower = np.where(arrays.integer, np.ceil(arrays.column_lower), arrays.column_lower)
    return lower, np.where(arrays.integer, np.floor(arrays.column_upper), arrays.column_upper)


def _good_ends(arrays: Arrays) -> Floats:
    lower, upper = _whole_box(arrays)
    return np.where((arrays.cost > 0) == arrays.maximise, upper, lower)


def _obvious(arrays: Arrays) -> list[Floats]:
    """Zero, the lower ends, the upper ends, the good ends, the bad ends; each moved into the bounds where an end is missing."""
    lower, upper = _whole_box(arrays)
    if (lower > upper).any():
        return []
    zero = np.clip(np.zeros(arrays.columns), lower, upper)
    good = _good_ends(arrays)
    bad = np.where(good == lower, upper, lower)
    return [zero, *(np.where(np.isfinite(ends), ends, zero) for ends in (lower, upper, good, bad))]

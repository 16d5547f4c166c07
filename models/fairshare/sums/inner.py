"""What the time of one class is worth when it is dealt out in the best way, and a plane that no other time lies above.

With jobs in the order of their worth, the best first, speeds are possible if and only if no first jobs have more than the fastest time of
as many copies: ``sum_{i <= m} c_i T_i <= F(N_m)``, N_m copies. A sum of worths fills the row from the front. A sum of logarithms follows
the greatest convex minorant of F over the summed weights (S. Fujishige, "Lexicographically optimal base of a polymatroid with respect to
a weight vector", 1980). And ``F(N) <= N s + sum_u Y_u max(s_u - s, 0)`` for every s, which makes the plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.program import Floats, Ints


@dataclass(frozen=True, eq=False)
class Inner:
    """``value`` at ``speeds`` (jobs of the class); any other times Y are worth at most ``constant + sum_u gain_u Y_u``, gain: (units,)."""

    value: float
    speeds: Floats
    constant: float
    gain: Floats


@dataclass(frozen=True, eq=False)
class Front:
    """``work``: the most that the first jobs can do together; ``edge``: the speed at which their time ends; both (jobs,)."""

    order: Ints
    copies: Floats
    work: Floats
    edge: Floats


def front_of(amounts: Floats, pace: Floats, copies: Floats, worth: Floats) -> Front:
    """The row of a class's jobs, the most worth first, beside its time, the fastest first."""
    order = np.argsort(-worth, kind="stable")
    units = np.argsort(-pace, kind="stable")
    time = np.concatenate(([0.0], np.cumsum(amounts[units])))
    work = np.concatenate(([0.0], np.cumsum((amounts * pace)[units])))
    ends = np.cumsum(copies[order])
    place = np.searchsorted(time[1:], ends * (1.0 - 1e-12))
    edge = np.concatenate((pace[units], [0.0]))[place]
    return Front(order.astype(np.int64), copies[order], np.interp(ends, time, work), edge)


def best_sum(amounts: Floats, pace: Floats, copies: Floats, worth: Floats) -> Inner:
    """The largest ``sum_j copies_j worth_j T_j`` from ``amounts`` of time at ``pace`` (units,)."""
    front = front_of(amounts, pace, copies, worth)
    ordered = worth[front.order]
    drop = ordered - np.append(ordered[1:], 0.0)
    speeds = np.empty(len(copies))
    speeds[front.order] = np.diff(front.work, prepend=0.0) / front.copies
    value = float(drop @ front.work)
    constant, gain = _plane(front, drop, pace)
    return Inner(value, speeds, constant, gain)


def best_logarithms(amounts: Floats, pace: Floats, copies: Floats, worth: Floats, unit: float) -> Inner | None:
    """The largest ``sum_j copies_j worth_j ln(T_j / unit)``; None where a job can have nothing."""
    front = front_of(amounts, pace, copies, worth)
    ordered = worth[front.order]
    if front.work[0] <= 0.0:
        return None
    ends, slopes = _minorant(np.cumsum(front.copies * ordered), front.work)
    each = slopes[np.searchsorted(ends, np.arange(len(ordered)))]
    speeds = np.empty(len(copies))
    speeds[front.order] = ordered * each
    value = float((copies * worth) @ np.log(speeds / unit))
    drop = np.zeros(len(ordered))
    drop[ends] = 1.0 / slopes - np.append(1.0 / slopes[1:], 0.0)
    constant, gain = _plane(front, drop, pace)
    return Inner(value, speeds, value + constant - float(drop @ front.work), gain)


def _plane(front: Front, drop: Floats, pace: Floats) -> tuple[float, Floats]:
    """``sum_m drop_m F(N_m)`` from above, as a constant and a gain for each unit of time."""
    used = np.flatnonzero(drop > 0.0)
    edge = front.edge[used]
    constant = float((drop[used] * np.cumsum(front.copies)[used]) @ edge)
    edges, inverse = np.unique(edge, return_inverse=True)
    mass = np.bincount(inverse.reshape(-1), weights=drop[used], minlength=len(edges))
    gain: Floats = np.maximum(pace[:, None] - edges, 0.0) @ mass
    return constant, gain


def _minorant(weight: Floats, work: Floats) -> tuple[Ints, Floats]:
    """The greatest convex minorant of the points (0, 0), (weight, work): last job and slope of each stretch."""
    ends: list[int] = []
    slopes: list[float] = []
    at_weight, at_work = [0.0], [0.0]
    for place, (x, y) in enumerate(zip(weight.tolist(), work.tolist(), strict=True)):
        slope = (y - at_work[-1]) / (x - at_weight[-1])
        while slopes and slope <= slopes[-1]:
            for stack in (ends, slopes, at_weight, at_work):
                stack.pop()
            slope = (y - at_work[-1]) / (x - at_weight[-1])
        ends.append(place)
        slopes.append(slope)
        at_weight.append(x)
        at_work.append(y)
    return np.array(ends, dtype=np.int64), np.array(slopes)

"""Intervals that cover as often as they say, whatever the law of the errors: conformal prediction on the logarithm of time.

A score is how many of its own standard deviations a job that the model did not see was off: ``|log(measured / predicted)| / spread``.
With n scores of jobs exchangeable with the next one, the ``ceil((n + 1) * level)``-th smallest covers the next with probability
``level`` at least (Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005; Lei, G'Sell, Rinaldo, Tibshirani &
Wasserman, "Distribution-free predictive inference for regression", 2018). Jackknife+ and CV+ use every job for fitting and for scores
(Barber, Candes, Ramdas & Tibshirani, "Predictive inference with the jackknife+", 2021): proved at 2 * level - 1, near ``level`` in use.

Runs of one job resemble each other more than runs of two: many runs of few jobs are few scores, not many. Where the next run is of a new
group (a job, a task, a cluster), groups are what is exchangeable, and ``group_quantile`` counts each of them once (Dunn, Wasserman &
Ramdas, "Distribution-free prediction sets for two-layer hierarchical models", 2023; Lee, Barber & Willett, "Distribution-free inference
with hierarchical data", 2023).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Floats

NORMAL_QUANTILES = {0.5: 0.67449, 0.8: 1.28155, 0.9: 1.64485, 0.95: 1.95996, 0.99: 2.57583}  # two-sided
NORMAL_95_ONE_SIDED = 1.64485


def scores(log_ratio: Floats, spread: Floats) -> Floats:
    """How many of its own standard deviations each held-out job was off; both (N,), ``spread`` positive."""
    return np.asarray(np.abs(log_ratio) / spread)


def conformal_quantile(found: Floats, level: float) -> float:
    """The score that the next job stays below with probability ``level``; inf when so few scores cannot tell.

    Raises ValueError when ``level`` is not in (0, 1) or a score is negative or NaN.
    """
    _require(level, found)
    rank = math.ceil((len(found) + 1) * level - 1e-12)
    return float(np.partition(found, rank - 1)[rank - 1]) if rank <= len(found) else math.inf


def quantile_or_normal(found: Floats, level: float) -> float:
    """As ``conformal_quantile``; where the scores are too few, the larger of the normal law's quantile and the largest score.

    That fallback has no guarantee: it is for the first few jobs, and ``enough(len(found), level)`` says when it ends.
    """
    if enough(len(found), level):
        return conformal_quantile(found, level)
    return max(_normal(level), float(np.max(found, initial=0.0)))


def enough(count: int, level: float) -> bool:
    """Whether ``count`` scores (or groups of them) suffice for a finite conformal quantile."""
    return math.ceil((count + 1) * level - 1e-12) <= count


def group_quantile(groups: Sequence[Floats], level: float) -> float:
    """The score that the next run of a *new* group stays below with probability ``level``; inf when so few groups cannot tell.

    ``groups``: the scores of each held-out group, one array each, none empty. The smallest q with ``sum_k F_k(q) / (K + 1) >= level``,
    F_k the share of group k's scores that are at most q: the new group is the (K + 1)-th, and nothing is known of it.

    Raises ValueError as ``conformal_quantile`` does, or for a group without scores.
    """
    _require(level, *groups)
    if any(not len(found) for found in groups):
        raise ValueError("a group has no scores; leave it out")
    if not enough(len(groups), level):
        return math.inf
    every = np.concatenate(list(groups))
    weights = np.concatenate([np.full(len(found), 1.0 / len(found)) for found in groups])
    order = np.argsort(every, kind="stable")
    below = np.cumsum(weights[order])
    place = int(np.searchsorted(below, level * (len(groups) + 1) - 1e-9))
    return float(every[order][min(place, len(every) - 1)])


def group_quantile_or_widest(groups: Sequence[Floats], level: float, least: float) -> float:
    """As ``group_quantile``; where the groups are too few, that of the worst group, and ``least`` at least, which has no guarantee."""
    if enough(len(groups), level):
        return group_quantile(groups, level)
    return max([least, *(float(np.quantile(found, level, method="higher")) for found in groups)])


def stands_out(own: Sequence[Floats], others: Sequence[Floats], level: float) -> bool:
    """Whether the groups of ``own`` have larger scores than ``others``, beyond chance (5%, one-sided; at ``level`` of each group).

    The rank-sum test of Mann & Whitney ("On a test of whether one of two random variables is stochastically larger than the other", 1947)
    with one number a group, normal approximation. False where either side has no group.
    """
    if not own or not others:
        return False
    mine, theirs = (np.array([np.quantile(found, level) for found in side]) for side in (own, others))
    larger = float(np.sum(mine[:, None] > theirs) + 0.5 * np.sum(mine[:, None] == theirs))
    pairs, groups = len(mine) * len(theirs), len(mine) + len(theirs)
    return larger - pairs / 2 > NORMAL_95_ONE_SIDED * math.sqrt(pairs * (groups + 1) / 12)


def jackknife_plus(predicted: Floats, margins: Floats, level: float) -> tuple[float, float]:
    """Interval of one new value from n leave-one-out models (jackknife+); with groups left out, the same is CV+.

    ``predicted`` (n,): what each model that left a job (a group) out says of the new value. ``margins`` (n,) >= 0: how far that same model
    was off on the job it left out, here times the new job's spread over the old one's. Ends are infinite when n cannot tell.

    Raises ValueError for arrays of unlike length or a level outside (0, 1).
    """
    if predicted.shape != margins.shape:
        raise ValueError(f"{predicted.shape} predictions and {margins.shape} margins")
    upper = conformal_quantile_signed(predicted + margins, level)
    lower = -conformal_quantile_signed(margins - predicted, level)
    return lower, upper


def conformal_quantile_signed(values: Floats, level: float) -> float:
    """The ``ceil((n + 1) * level)``-th smallest of values of any sign, inf beyond the last."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"a level lies between 0 and 1, not {level}")
    rank = math.ceil((len(values) + 1) * level - 1e-12)
    return float(np.partition(values, rank - 1)[rank - 1]) if rank <= len(values) else math.inf


def coverage(measured: Floats, low: Floats, high: Floats) -> float:
    """Share of the measured values that lie in their intervals (ends included); NaN where there are none."""
    if not len(measured):
        return math.nan
    return float(np.mean((measured >= low) & (measured <= high)))


def _require(level: float, *groups: Floats) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"a level lies between 0 and 1, not {level}")
    if any(np.any(~(found >= 0)) for found in groups):
        raise ValueError("a score is negative or not a number")


def _normal(level: float) -> float:
    """Two-sided quantile of the normal law, by bisection of the error function."""
    if level in NORMAL_QUANTILES:
        return NORMAL_QUANTILES[level]
    low, high = 0.0, 12.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erf(middle / math.sqrt(2.0)) < level else (low, middle)
    return high

"""Intervals that cover as often as they say, whatever the law of the errors: conformal prediction on the logarithm of time.

A score is how many of its own standard deviations a job that the model did not see was off: ``|log(measured / predicted)| / spread``.
With n scores of jobs exchangeable with the next one, the ``ceil((n + 1) * level)``-th smallest covers the next with probability
``level`` at least (Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005; Lei, G'Sell, Rinaldo, Tibshirani &
Wasserman, "Distribution-free predictive inference for regression", 2018). Jackknife+ and CV+ use every job for fitting and for scores
(Barber, Candes, Ramdas & Tibshirani, "Predictive inference with the jackknife+", 2021): proved at 2 * level - 1, near ``level`` in use.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.program import Floats

NORMAL_QUANTILES = {0.5: 0.67449, 0.8: 1.28155, 0.9: 1.64485, 0.95: 1.95996, 0.99: 2.57583}  # two-sided


def scores(log_ratio: Floats, spread: Floats) -> Floats:
    """How many of its own standard deviations each held-out job was off; both (N,), ``spread`` positive."""
    return np.asarray(np.abs(log_ratio) / spread)


def conformal_quantile(found: Floats, level: float) -> float:
    """The score that the next job stays below with probability ``level``; inf when so few scores cannot tell.

    Raises ValueError when ``level`` is not in (0, 1) or a score is negative or NaN.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"a level lies between 0 and 1, not {level}")
    if np.any(~(found >= 0)):
        raise ValueError("a score is negative or not a number")
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
    """Whether ``count`` scores suffice for a finite conformal quantile."""
    return math.ceil((count + 1) * level - 1e-12) <= count


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


def _normal(level: float) -> float:
    """Two-sided quantile of the normal law, by bisection of the error function."""
    if level in NORMAL_QUANTILES:
        return NORMAL_QUANTILES[level]
    low, high = 0.0, 12.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erf(middle / math.sqrt(2.0)) < level else (low, middle)
    return high

"""How sure a prediction is: noise of the machine, what the model leaves on jobs it has not seen, and whether that means anything."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from models.runtime.evaluation.conformal import quantile_or_normal
from models.vocabulary import Document, Quantity

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from models.program import Floats

IQR_OF_NORMAL = 1.349  # interquartile range of a normal law over its standard deviation
NOISY, MEANINGLESS = 0.08, 0.25  # relative repeat noise from which intervals are flagged, and from which nothing is calibrated
LEAST_NOISE = 0.003
FEWEST_JOBS = 5
FEWEST_FAMILIES = 3  # to leave one out and still have others to learn from
STRETCH = 1.5  # of intervals of unseen work where there are too few families to leave one out
P10_P90 = 0.8  # the level between the tenth and the ninetieth percentile
REPORTED = 0.9


class NoisyError(ValueError):
    """Measurements from which nothing can be calibrated; the message says what to do."""


class Scores(Document):
    """How far off held-out jobs were, in their own standard deviations: one by one, and a whole family at a time.

    ``residual_log_sd`` is what the model leaves on a job beside its coefficients' uncertainty, ``repeat_log_sd`` what the same job does
    when it is measured again. Where families are too few to leave one out, ``unseen`` are the scores of single jobs, to be stretched.
    """

    seen: tuple[Quantity, ...] = ()
    unseen: tuple[Quantity, ...] = ()
    residual_log_sd: Quantity = 0.0
    repeat_log_sd: Quantity = 0.0
    start_up_log_sd: Quantity = Field(default=0.0, description="Of the seconds before the first step, from job to job of one mode.")
    unseen_from: Literal["left-out families", "stretched"] = "left-out families"

    def reach(self, level: float, *, extrapolated: bool) -> float:
        """How many standard deviations an interval of this level reaches to either side."""
        inside = quantile_or_normal(np.array(self.seen), level)
        if not extrapolated:
            return inside
        outside = quantile_or_normal(np.array(self.unseen), level)
        return max(inside, outside * (STRETCH if self.unseen_from == "stretched" else 1.0))


class Interval(Document):
    """Seconds of a step: the median and the ends of the intervals of 80% (p10 to p90) and 90% (low to high)."""

    p10: Quantity
    p50: Quantity
    p90: Quantity
    low: Quantity = Field(description="Lower end of the interval of 90%.")
    high: Quantity = Field(description="Upper end of the interval of 90%.")
    log_sd: Quantity
    extrapolated: bool = False


def interval(median: float, spread: float, scores: Scores, *, extrapolated: bool) -> Interval:
    """The interval around a median whose logarithm has this standard deviation before conformal scores correct it."""
    narrow = math.exp(min(50.0, scores.reach(P10_P90, extrapolated=extrapolated) * spread))
    wide = math.exp(min(50.0, scores.reach(REPORTED, extrapolated=extrapolated) * spread))
    return Interval(
        p10=median / narrow,
        p50=median,
        p90=median * narrow,
        low=median / wide,
        high=median * wide,
        log_sd=spread,
        extrapolated=extrapolated,
    )


def repeat_noise(keys: Sequence[Hashable], seconds: Floats, spreads: Floats) -> float:
    """Relative noise (standard deviation of the log) of a job that is measured again.

    ``keys`` tell which measurements are of the same job, ``spreads`` (N,) are interquartile ranges over medians within each. Repeats in
    other processes count where there are some: layout and neighbours differ between them; spread within one is the least it can be.
    """
    within = float(np.median(spreads)) / IQR_OF_NORMAL if len(spreads) else 0.0
    groups: dict[Hashable, list[float]] = defaultdict(list)
    for key, value in zip(keys, np.log(seconds), strict=True):
        groups[key].append(float(value))
    squares = [(value - float(np.mean(group))) ** 2 for group in groups.values() if len(group) > 1 for value in group]
    free = sum(len(group) - 1 for group in groups.values() if len(group) > 1)
    between = math.sqrt(sum(squares) / free) if free else 0.0
    return max(LEAST_NOISE, within, between)


def refuse_noise(noise: float, jobs: int) -> str | None:
    """A warning for a noisy machine, None for a quiet one.

    Raises NoisyError when repeats of the same job differ so much that no coefficient would mean anything, or when jobs are too few.
    """
    if jobs < FEWEST_JOBS:
        raise NoisyError(f"{jobs} accepted jobs cannot calibrate a device: measure at least {FEWEST_JOBS} (quartermaster runtime measure)")
    if noise > MEANINGLESS:
        raise NoisyError(
            f"repeats of the same job differ by {noise:.0%}: calibration would mean nothing; stop what else runs on the machine, pin the "
            f"jobs to idle cores and measure again"
        )
    if noise > NOISY:
        return f"repeats of the same job differ by {noise:.0%}: no interval is narrower than that; measure on an idle machine"
    return None

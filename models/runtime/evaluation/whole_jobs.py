"""How sure the seconds of a whole job are: start-up, steps beside neighbours, and the end of its process.

    T = start_up + slow-down * steps * step + end

Each part has an error of its own, from job to job; to first order the logarithm of T has the variance

    sum over parts p of (T_p / T)^2 * sd_p^2, and sd_steps^2 = sd_step^2 + sd_slow-down^2.

A slow-down that is fitted to few jobs is itself unsure, and jobs that run at once have errors in common. Neither is in the sum. Both are in
the scores of jobs that were left out when the slow-down was fitted (``widening``; ``models.runtime.evaluation.conformal``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.runtime.evaluation.conformal import quantile_or_normal, scores

if TYPE_CHECKING:
    from models.program import Floats

LEVEL = 0.8  # p10 to p90
NORMAL_80 = 1.2815515655446004


class Parts(NamedTuple):
    """Median seconds of whole jobs, arrays (J,) >= 0 with a positive sum; steps beside their neighbours."""

    start_s: Floats
    steps_s: Floats
    end_s: Floats

    @property
    def total_s(self) -> Floats:
        """Seconds from the start of the process to its end (J,)."""
        return np.asarray(self.start_s + self.steps_s + self.end_s)


class Doubts(NamedTuple):
    """Standard deviations of logarithms >= 0, each (J,) or one for all jobs: of start, step alone, slow-down and end."""

    start: Floats | float
    step: Floats | float
    slow_down: Floats | float = 0.0
    end: Floats | float = 0.0


def log_spread(parts: Parts, doubts: Doubts) -> Floats:
    """Standard deviation (J,) of the logarithm of each job's seconds; 0 where a job takes no time.

    Raises ValueError for a negative or undefined time or doubt.
    """
    for values in (*parts, *doubts):
        if np.any(~(np.asarray(values) >= 0)):
            raise ValueError("seconds and standard deviations of a whole job are numbers of at least 0")
    steps = parts.steps_s * np.hypot(doubts.step, doubts.slow_down)
    spread = np.sqrt((parts.start_s * doubts.start) ** 2 + steps**2 + (parts.end_s * doubts.end) ** 2)
    total = parts.total_s
    return np.divide(spread, total, out=np.zeros_like(total), where=total > 0)


def percentiles(parts: Parts, doubts: Doubts, widening: float = 1.0) -> tuple[Floats, Floats, Floats]:
    """p10, p50 and p90 (J,) in seconds, lognormal; raises as ``log_spread`` does."""
    factor = np.exp(NORMAL_80 * widening * log_spread(parts, doubts))
    return parts.total_s / factor, parts.total_s, parts.total_s * factor


def widening(measured_s: Floats, predicted_s: Floats, spread: Floats) -> float:
    """By how much p10 to p90 must be widened, at least 1, so that it holds the next job: split conformal.

    All (H,): seconds of held-out jobs, what the model without each of them said, and the ``log_spread`` that it told. With fewer than 4
    jobs the largest score counts. Raises ValueError for a time or spread that is not positive.
    """
    for values in (measured_s, predicted_s, spread):
        if np.any(~(values > 0)):
            raise ValueError("times and spreads of held-out jobs must be positive")
    return max(1.0, quantile_or_normal(scores(np.log(measured_s / predicted_s), spread), LEVEL) / NORMAL_80)

"""Which few jobs to measure first: those that together tell most about the factors of a device (D-optimal, greedily).

Measuring a job adds ``slope slope' / variance`` to the precision of the factors. Each next anchor is the candidate that raises the
logarithm of the determinant of the precision most per second of measuring time; greedy choices of such a submodular gain reach at least
1 - 1/e of the best set of the same size (Nemhauser, Wolsey & Fisher, 1978; Krause, Singh & Guestrin, "Near-optimal sensor placements in
Gaussian processes", 2008; that bound holds where all candidates take equally long).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.program import Floats
    from models.runtime.calibration.fit import Jobs, Prior

MEASURED_SD = 0.07  # relative error of one anchor: repeat noise and what the form leaves


def chosen_anchors(candidates: Jobs, prior: Prior, count: int, *, costs: Floats | None = None) -> tuple[int, ...]:
    """Places of at most ``count`` candidates, the most telling first; ``costs`` (N,) are the seconds that measuring each takes.

    Raises ValueError for a negative count or a cost that is not positive.
    """
    if count < 0:
        raise ValueError(f"{count} anchors cannot be chosen")
    price = np.ones(len(candidates)) if costs is None else costs
    if np.any(~(price > 0)) or len(price) != len(candidates):
        raise ValueError("each candidate needs a positive cost")
    slopes = candidates.slopes(prior.mean)
    covariance, taken = prior.covariance.copy(), []
    free = np.ones(len(candidates), dtype=bool)
    for _ in range(min(count, len(candidates))):
        told = np.einsum("nk,kl,nl->n", slopes, covariance, slopes) / MEASURED_SD**2
        best = int(np.argmax(np.where(free, np.log1p(told) / price, -np.inf)))
        taken.append(best)
        free[best] = False
        seen = covariance @ slopes[best]
        covariance -= np.outer(seen, seen) / (MEASURED_SD**2 + slopes[best] @ seen)
    return tuple(taken)

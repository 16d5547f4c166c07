"""How much each part of a sum of normal parts varies, told by what was measured alone: the largest evidence.

Used where a Gaussian process stands for what jobs of one family have in common (Rasmussen & Williams, "Gaussian processes for machine
learning", 2006, section 5.4). Nothing but the measured values decides: no value that is to be predicted is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Floats

STEPS = (1.5, 0.7, 0.3)  # of the logarithm of a variance, coarse to fine
MOST_MOVES = 20  # of one variance in one direction: what no value can tell does not run away


def combined(parts: Sequence[Floats], variances: Floats) -> Floats:
    """The covariance of the sum: each part (S, S') times its variance."""
    return np.asarray(sum(variance * part for variance, part in zip(variances, parts, strict=True)), dtype=np.float64)


def most_probable_variances(parts: Sequence[Floats], values: Floats, ground: Floats, guess: Floats, doubt: float) -> Floats:
    """Variances (P,) of ``parts``, each (S, S), under which ``values`` (S,) of mean 0 are most probable; a coordinate search.

    ``ground`` (S, S), positive definite, is added as it is. Each logarithm is drawn to that of ``guess`` (P,) with a spread of ``doubt``.
    """
    middle = np.log(guess)

    def surprise(logs: Floats) -> float:
        lower = np.linalg.cholesky(combined(parts, np.exp(logs)) + ground)
        spread = np.linalg.solve(lower, values)
        return float(spread @ spread / 2 + np.log(np.diag(lower)).sum() + ((logs - middle) ** 2).sum() / (2 * doubt**2))

    at, best = middle.copy(), surprise(middle)
    for size in STEPS:
        for place in range(len(at)):
            for step in (size, -size):
                for _ in range(MOST_MOVES):
                    trial = at.copy()
                    trial[place] += step
                    value = surprise(trial)
                    if value >= best:
                        break
                    at, best = trial, value
    return np.asarray(np.exp(at))

"""Scores of held-out jobs and families: the same fit again without them, and how far it was off in its own standard deviations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.runtime.calibration.fit import Jobs, Posterior, Prior, fit
from models.runtime.evaluation.conformal import scores
from models.runtime.evaluation.uncertainty import FEWEST_FAMILIES, Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Floats


def log_spread(found: Posterior, table: Jobs, noise: Floats) -> Floats:
    """Standard deviation (N,) of each job's log seconds: coefficients, what the model leaves, and ``noise`` (N,) of job and curves."""
    return np.asarray(np.sqrt(found.spread(table) ** 2 + found.scale**2 + noise**2))


def held_out(table: Jobs, seconds: Floats, prior: Prior, noise: Floats, groups: Sequence[object], scale: float) -> tuple[Floats, Floats]:
    """Log of measured over predicted (N,) with each job's whole group left out of the fit, and the spread (N,) that was told beforehand."""
    ratio, spread = np.zeros(len(table)), np.zeros(len(table))
    codes = np.unique(np.array([str(group) for group in groups]), return_inverse=True)[1]
    for code in range(int(codes.max(initial=-1)) + 1):
        out = codes == code
        found = fit(table.only(~out), seconds[~out], prior, noise=noise[~out], expected_scale=scale)
        ratio[out] = np.log(seconds[out] / found.predict(table.only(out)))
        spread[out] = log_spread(found, table.only(out), noise[out])
    return ratio, spread


def scored(table: Jobs, seconds: Floats, prior: Prior, noise: Floats, groups: tuple[Sequence[str], Sequence[str]], scale: float) -> Scores:
    """Scores with each job left out, and with each family left out; ``groups`` are each job's family, and what its repeats share."""
    families, repeats = groups
    ratio, spread = held_out(table, seconds, prior, noise, repeats, scale)
    seen = scores(ratio, spread)
    few = len(set(families)) < FEWEST_FAMILIES
    unseen = seen if few else scores(*held_out(table, seconds, prior, noise, families, scale))
    return Scores(
        seen=tuple(np.sort(seen).tolist()),
        unseen=tuple(np.sort(unseen).tolist()),
        residual_log_sd=float(np.median(np.abs(ratio)) * 1.4826),
        unseen_from="stretched" if few else "left-out families",
    )

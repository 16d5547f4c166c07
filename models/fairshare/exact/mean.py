"""A weighted geometric mean as a chain of means of two, each an outer linearisation.

``p**a * q**(1 - a)`` is concave and grows in proportion with both, so each of its tangent planes goes through 0 and is named by a ratio
``p / q``; a grid of ratios gives planes that no value lies above. The chain follows A. Ben-Tal, A. Nemirovski, "On polyhedral
approximations of the second-order cone" (2001); the goal is that of J. F. Nash's bargaining, as E. Eisenberg and D. Gale (1959) wrote it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.fairshare.market import Market
    from models.program import Floats

FINE, NEAR = 0.02, 4.0  # step of the logarithm of ratios up to NEAR: the planes are off by at most FINE**2 / 32 there
COARSE, FAR = 0.25, 14.0


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """The jobs of a class in order; ``tangents[k]`` are planes (by the mean so far, by the share of job k + 1) of the mean of the two."""

    jobs: tuple[int, ...]
    parts: tuple[float, ...]
    tangents: tuple[tuple[tuple[float, float], ...], ...]

    def means(self, shares: Floats) -> list[float]:
        """The mean after each job but the first, at ``shares`` (all jobs of the problem)."""
        last, found = float(shares[self.jobs[0]]), []
        for job, part in zip(self.jobs[1:], self.parts, strict=True):
            last = last**part * max(0.0, float(shares[job])) ** (1.0 - part)
            found.append(last)
        return found


def chain_of(market: Market, priority: int) -> Chain:
    """The chain of a class; each copy of a job counts with the job's weight, unless it can pay for nothing."""
    own = market.jobs.priority == priority
    jobs = np.flatnonzero(own & market.affordable if (own & market.affordable).any() else own)
    weight = np.cumsum(market.jobs.copies[jobs] * market.jobs.weight[jobs])
    parts = (weight[:-1] / weight[1:]).tolist()
    return Chain(tuple(jobs.tolist()), tuple(parts), tuple(_planes(part) for part in parts))


def _planes(part: float) -> tuple[tuple[float, float], ...]:
    """Gradients of ``p**part * q**(1 - part)`` at the ratios of the grid."""
    far = np.arange(NEAR, FAR, COARSE)
    grid = np.concatenate((-far[::-1], np.arange(-NEAR + FINE, NEAR, FINE), far))
    first, second = part * np.exp((part - 1.0) * grid), (1.0 - part) * np.exp(part * grid)
    return tuple(zip(first.tolist(), second.tolist(), strict=True))

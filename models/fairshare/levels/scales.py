"""How good a job's speed is, on the scale of its policy: a level, which is better when larger, and the speed that a level needs.

    max_min_fair        level = T / (weight p)                                      need = level weight p
    makespan            level = T / remaining                    = 1 / makespan     need = level remaining
    finish_time_fair    level = D / (elapsed + remaining / T)    = 1 / ratio        need = remaining level / (D - elapsed level)

with p = e * max(1, copies / GPUs) for the speed e of equal split, and D = total / e, the time that the job takes under equal split.
All needs are convex and rise with the level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.schema import Policy
from models.vocabulary import LARGEST_QUANTITY

if TYPE_CHECKING:
    from models.fairshare.market import Jobs
    from models.program import Floats

NEVER = LARGEST_QUANTITY  # a makespan or finish-time ratio of a job that gets nothing


@dataclass(frozen=True, eq=False)
class Levels:
    """``level = scale T / (remaining + elapsed T)``, with ``scale``, ``remaining``, ``elapsed`` of shape (jobs,).

    For max_min_fair (and what hierarchical starts with) ``remaining`` stands for weight times p, for makespan it is the work; both have
    no ``elapsed`` and the scale 1. ``inverse`` says that users are told 1 / level.
    """

    scale: Floats
    remaining: Floats
    elapsed: Floats
    inverse: bool

    def of(self, speed: Floats) -> Floats:
        """The level that each speed attains, shape (jobs,)."""
        found: Floats = self.scale * speed / (self.remaining + self.elapsed * speed)
        return found

    def need(self, level: float) -> Floats:
        """The speed that each job needs for ``level``, inf where no speed is enough; shape (jobs,)."""
        rest = self.scale - self.elapsed * level
        return np.where(rest > 0.0, self.remaining * level / np.where(rest > 0.0, rest, 1.0), np.inf)

    def steepness(self, level: float) -> Floats:
        """By how much the need rises with the level, inf where no speed is enough; shape (jobs,)."""
        rest = self.scale - self.elapsed * level
        return np.where(rest > 0.0, self.remaining * self.scale / np.where(rest > 0.0, rest, 1.0) ** 2, np.inf)

    def told(self, level: float) -> float:
        """A level as the user is told it: the share, seconds, or the ratio."""
        if not self.inverse:
            return level
        return NEVER if level <= 1.0 / NEVER else 1.0 / level

    def meant(self, told: float) -> float:
        """The level that was told."""
        if not self.inverse:
            return told
        return 0.0 if told >= NEVER else 1.0 / max(told, 1.0 / NEVER)


def job_levels(policy: Policy, jobs: Jobs) -> Levels:
    """The scale of levels of a policy whose jobs each have one; for others that of max_min_fair."""
    ones, none = np.ones(jobs.count), np.zeros(jobs.count)
    if policy is Policy.makespan:
        return Levels(ones, jobs.remaining, none, inverse=True)
    if policy is Policy.finish_time_fair:
        return Levels(jobs.total / jobs.equal, jobs.remaining, jobs.elapsed_s, inverse=True)
    return Levels(ones, jobs.weight * jobs.par, none, inverse=False)

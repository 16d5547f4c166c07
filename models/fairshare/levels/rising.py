"""What each job needs to stand at a level: the common form of the policies that raise all jobs together.

A level l grows with what is good for the jobs: the share (max_min_fair), one over the makespan, one over the finish time ratio. A job that
rises needs ``T(l) = amount * l / (span - elapsed * l)``: a number of shares with ``span`` 1 and ``elapsed`` 0; its work over
what is left of ``ratio * span`` seconds with the seconds it has been there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.schema import Policy

if TYPE_CHECKING:
    from models.fairshare.market import Market
    from models.program import Bools, Floats

CAPPED = 1e-11  # relative: this close to its cap a job is at it
MOST_RATIO = 1e12  # a makespan or ratio of as much means: nothing


@dataclass(frozen=True, eq=False)
class Rising:
    """Needs of jobs as functions of a level; every array has the shape (jobs,).

    ``rising`` jobs need what the level says, up to their ``cap``; the others have ``kept``, whatever the level is.
    """

    amount: Floats
    span: Floats
    elapsed: Floats
    rising: Bools
    cap: Floats
    kept: Floats

    def speeds(self, level: float) -> Floats:
        """What every job needs at a level, in steps/s."""
        left = self.span - self.elapsed * level
        asked = np.where(left > 0.0, self.amount * level / np.where(left > 0.0, left, 1.0), np.inf)
        return np.where(self.rising, np.minimum(asked, self.cap), self.kept)

    def of(self, speeds: Floats) -> Floats:
        """The level of each job at these speeds, shape (jobs,); inf for what needs nothing."""
        whole = self.amount + self.elapsed * speeds
        found: Floats = np.where(whole > 0.0, speeds * self.span / np.where(whole > 0.0, whole, 1.0), np.inf)
        return found

    @property
    def highest(self) -> float:
        """The level at which the last of the rising jobs meets its cap."""
        return float(self.of(self.cap)[self.rising].max(initial=0.0))

    def capped(self, level: float) -> Bools:
        """The rising jobs that are at their cap."""
        return self.rising & (self.speeds(level) >= self.cap * (1.0 - CAPPED))

    def keeping(self, jobs: Bools, speeds: Floats) -> Rising:
        """These jobs rise no more and keep their speeds."""
        return replace(self, rising=self.rising & ~jobs, kept=np.where(jobs, speeds, self.kept))


def rising_of(market: Market, policy: Policy, rising: Bools, kept: Floats, cap: Floats) -> Rising:
    """The levels of a policy for the jobs that rise; jobs that need nothing (no work is known) do not."""
    jobs = market.jobs
    ones, none = np.ones(jobs.count), np.zeros(jobs.count)
    if policy is Policy.makespan:
        amount, span, elapsed = np.nan_to_num(jobs.remaining, nan=0.0), ones, none
    elif policy is Policy.finish_time_fair:
        amount = np.nan_to_num(jobs.remaining, nan=0.0)
        whole = np.where(jobs.total > 0.0, jobs.total, 1.0)
        span = np.where(jobs.equal > 0.0, np.nan_to_num(whole, nan=1.0) / np.where(jobs.equal > 0.0, jobs.equal, 1.0), 1.0)
        elapsed = jobs.elapsed_s
    else:
        amount, span, elapsed = jobs.weight * jobs.par, ones, none
    return Rising(amount, span, elapsed, rising & (amount > 0.0), cap, kept)


def told(policy: Policy, level: float) -> float:
    """A level in the unit of the policy's goal."""
    if policy in {Policy.makespan, Policy.finish_time_fair}:
        return min(1.0 / level, MOST_RATIO) if level > 0.0 else MOST_RATIO
    return level

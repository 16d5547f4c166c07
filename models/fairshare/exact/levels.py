"""What each job needs at a level: its speed grows with the level (``fair_share``) or with one over a time or ratio (``makespan``).

All level policies are one: a job needs ``rise`` steps/s for each unit of the pace of its group. The pace is the level itself, or, where the
goal is a makespan or a ratio r of finish times, ``1 / (r - low)`` with ``low`` the ratio that no speed can beat: 0 for a makespan and for
a job that has just arrived. The reciprocal is convex, so tangents from below on a grid state it with an error of at most (step / 2)**2
relative to it, and all that they prove is valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.market import groups_of
from models.fairshare.schema import Policy

if TYPE_CHECKING:
    from models.fairshare.exact.setting import Setting
    from models.fairshare.schema import Problem
    from models.program import Floats, Ints

FINE, COARSE = 0.002, 0.02  # relative steps of tangents: where the goal is expected, and beyond
FINE_EACH = 0.02  # where every job has a pace of its own
BEYOND = 1e4  # times the largest value expected: up to here there are coarse tangents
NOTHING = 1e12  # a makespan or ratio that says that a job gets nothing


@dataclass(frozen=True, eq=False)
class Rising:
    """The jobs of a class (positions) and what they need; ``lows`` (groups,) is empty where the pace is the level itself.

    ``least`` is a value of the goal that no plan goes below, ``usual`` the one of the equal split: the grid lies around them.
    """

    jobs: Ints
    rise: Floats
    group: Ints
    lows: Floats
    least: float
    usual: float

    @property
    def direct(self) -> bool:
        """Whether the pace is the level itself."""
        return not len(self.lows)

    def needs(self, value: float) -> Floats:
        """Steps/s that each job needs for a value of the goal, shape (jobs,)."""
        if self.direct:
            return self.rise * value
        room = value - self.lows[self.group]
        return np.where((room > 0) & (value < NOTHING), self.rise / np.where(room > 0, room, 1.0), 0.0)

    def value(self, speeds: Floats) -> float:
        """The goal's value at ``speeds`` (jobs,): the smallest level, or the largest time or ratio."""
        if self.direct:
            told = speeds[self.rise > 0] / self.rise[self.rise > 0]
            return float(told.min(initial=np.inf)) if len(told) else 0.0
        served = speeds > 0
        return float(np.where(served, self.lows[self.group] + self.rise / np.where(served, speeds, 1.0), NOTHING).max(initial=0.0))

    def tangents(self, group: int) -> list[tuple[float, float, float]]:
        """``pace * a + value * b >= c`` for each tangent, with both columns in multiples of what they are at ``least``."""
        low, first = float(self.lows[group]), self.least - float(self.lows[group])
        fine = FINE if len(self.lows) == 1 else FINE_EACH
        last = max(2.0 * first, 2.0 * (self.usual - low))
        near = np.geomspace(first, last, 2 + int(np.log(last / first) / fine))
        far = np.geomspace(last, BEYOND * last, 2 + int(np.log(BEYOND) / COARSE))[1:]
        return [(g / first, self.least / g, 2.0 + low / g) for g in (*near.tolist(), *far.tolist())]


def rising_of(problem: Problem, setting: Setting, priority: int) -> Rising:
    """What the jobs of a class need under the problem's policy."""
    market = setting.market.jobs
    jobs = np.flatnonzero(market.priority == priority)
    equal = market.equal[jobs]
    nothing = np.zeros(0)
    alike = np.zeros(len(jobs), dtype=np.int64)
    if problem.policy is Policy.hierarchical:
        return Rising(jobs, first_rise(problem, setting, jobs) * market.par[jobs], alike, nothing, 0.0, 1.0)
    if problem.policy is Policy.max_min_fair:
        return Rising(jobs, market.weight[jobs] * market.par[jobs], alike, nothing, 0.0, 1.0)
    fastest = fastest_of(setting)[jobs]
    remaining = market.remaining[jobs]
    if problem.policy is Policy.makespan:
        return Rising(jobs, remaining, alike, np.zeros(1), float((remaining / fastest).max()), float((remaining / equal).max()))
    alone_s = market.total[jobs] / equal
    lows, group = np.unique(market.elapsed_s[jobs] / alone_s, return_inverse=True)
    rise = remaining / alone_s
    low = lows[group]
    return Rising(
        jobs, rise, group.astype(np.int64).reshape(-1), lows, float((low + rise / fastest).max()), float((low + rise / equal).max())
    )


def fastest_of(setting: Setting) -> Floats:
    """Steps/s that a copy of each job makes at most, whatever else runs, shape (jobs,)."""
    found = np.zeros(setting.market.jobs.count)
    for unit in setting.units:
        for job in set(unit.jobs):
            most = max(setting.speed(scenario, unit, job) for scenario in range(len(setting.market.factors)))
            found[job] = max(found[job], most / unit.gangs_of(job))
    return found


def first_rise(problem: Problem, setting: Setting, members: Ints) -> Floats:
    """How fast each of ``members`` rises in the first round of the policy ``hierarchical``, in shares; shape (members,)."""
    jobs, groups = setting.market.jobs, groups_of(problem)
    found = np.zeros(len(members))
    for group in np.unique(groups.of[members]).tolist():
        own = np.flatnonzero(groups.of[members] == group)
        if groups.fifo[group]:
            own = own[np.lexsort((members[own], jobs.arrival_s[members[own]]))[:1]]
        weight = jobs.weight[members[own]]
        found[own] = groups.weight[group] * weight / float((jobs.copies[members[own]] * weight).sum())
    return found

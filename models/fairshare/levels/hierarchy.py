"""Hierarchical water-filling: tenants rise by their weights, jobs by what their tenant gives them, and weights pass on as jobs settle.

The speeds of all jobs are one path, in pieces: while nobody settles each rises at its own rate; where one meets its cap its weight passes
to the others of its tenant and the rates change (D. Narayanan et al., "Heterogeneity-Aware Cluster Scheduling Policies for Deep Learning
Workloads", 2020). The search for a level, from above, is that of ``water_filling``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.levels.rising import CAPPED
from models.fairshare.levels.tenants import rising_rates
from models.fairshare.levels.water_filling import FIRST_STEP, Filled, Settled, priced_thresholds, raised
from models.fairshare.proofs.claims import Seen

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Solved, Step
    from models.fairshare.levels.gauge import Gauged, Gauging
    from models.fairshare.levels.water_filling import Early
    from models.fairshare.schema import Problem
    from models.program import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class _Stretch:
    """One piece of the path: from ``level`` on, ``speeds`` rise by ``steep`` (jobs,); ``met`` (jobs) settled at its begin."""

    level: float
    speeds: Floats
    steep: Floats
    rising: Bools
    met: Ints


@dataclass(slots=True, eq=False)
class Climb:
    """The path of all jobs from where they stand; arrays of shape (jobs,)."""

    problem: Problem
    par: Floats
    rising: Bools
    cap: Floats
    stretches: list[_Stretch] = field(default_factory=list)

    @classmethod
    def begun(cls, problem: Problem, par: Floats, at: _Stretch, cap: Floats) -> Climb:
        """The whole path from a place on it, with these caps."""
        climb = cls(problem, par, at.rising, cap, [at])
        while climb.stretches[-1].rising.any():
            climb.stretches.append(climb._next(climb.stretches[-1]))
        return climb

    def _next(self, last: _Stretch) -> _Stretch:
        """Up to where the next of those that move meets its cap."""
        moving = last.steep > 0.0
        room = np.where(moving, np.maximum(self.cap - last.speeds, 0.0), np.inf)
        wait = np.where(moving, room / np.where(moving, last.steep, 1.0), np.inf)
        step = float(wait.min())
        speeds = last.speeds + last.steep * step
        met = moving & (speeds >= self.cap * (1.0 - CAPPED))
        speeds = np.where(met, np.maximum(last.speeds, self.cap), speeds)
        return stretch(self.problem, self.par, last.level + step, speeds, last.rising & ~met, np.flatnonzero(met))

    @property
    def highest(self) -> float:
        """The level at which the last job meets its cap."""
        return self.stretches[-1].level

    def at(self, level: float) -> int:
        """The piece of the path that a level lies on: the last that begins there or before."""
        return max(0, int(np.searchsorted([one.level for one in self.stretches], level, side="right")) - 1)

    def speeds(self, level: float) -> Floats:
        """What every job has at a level, in steps/s."""
        one = self.stretches[self.at(level)]
        found: Floats = one.speeds + one.steep * max(level - one.level, 0.0)
        return found


def stretch(problem: Problem, par: Floats, level: float, speeds: Floats, rising: Bools, met: Ints) -> _Stretch:
    """The piece of the path that begins where these jobs rise."""
    steep = rising_rates(problem, rising) * par if rising.any() else np.zeros(len(speeds))
    return _Stretch(level, speeds, np.where(rising, steep, 0.0), rising, met)


def climbed(
    gauge: Gauging, problem: Problem, start: _Stretch, cap: Floats, par: Floats, early: Early
) -> Generator[Step, Solved, Filled | None]:
    """Settle all jobs that rise. None when a program found no answer in the first round; later it returns what is settled by then."""
    classes = gauge.classes
    proof_of = np.full(len(par), -1, dtype=np.int64)
    proofs: list[Gauged] = []
    done = Filled(start.speeds)
    here, guess, told = start, 0.0, False
    while here.rising.any():
        climb = Climb.begun(problem, par, here, cap)
        seen = Seen()
        found = yield from raised(gauge, climb, here.level, guess or 1.5, seen)
        if found is None:
            return done if done.first is not None else None
        level, proof = found
        new = done.first is None
        if new:
            least = climb.stretches[1].level
            done.first, done.seen, done.path, done.most = min(level, least), seen, climb, least
        passed = climb.stretches[1 : climb.at(level) + 1]
        for one in passed:
            done.rounds += _by_proof(one.level, one.met, proofs, proof_of)
        last = passed[-1] if passed else here
        speeds, rising = climb.speeds(level), last.rising
        if proof is not None:
            limit = priced_thresholds(classes, proof, speeds, rising)[classes.of]
            paying = rising & (last.steep > 0.0) & (speeds >= limit * (1.0 - CAPPED))
            if not paying.any():
                paying = _most_urgent(rising, last.steep, limit)
            done.rounds.append(Settled(level, np.flatnonzero(paying), proof))
            lower = rising & ~paying & (limit < cap)
            proof_of[lower] = len(proofs)
            proofs.append(proof)
            cap = np.where(lower, np.maximum(limit, speeds), cap)
            rising = rising & ~paying
        here = stretch(problem, par, level, speeds, rising, np.zeros(0, dtype=np.int64))
        done.speeds = speeds
        guess = level * FIRST_STEP
        if new:
            yield from early.bound(done)
        elif not told and rising.any():
            yield from early.first(done)
            told = True
    return done


def _most_urgent(rising: Bools, steep: Floats, limit: Floats) -> Bools:
    """Whom to settle when rounding hides who pays: those whose class pays anything, or all that move."""
    moving = rising & (steep > 0.0)
    paying = moving & np.isfinite(limit)
    return paying if paying.any() else moving


def _by_proof(level: float, jobs: Ints, proofs: list[Gauged], proof_of: Ints) -> list[Settled]:
    """Jobs that met their caps at one level, those of one proof together."""
    return [
        Settled(level, jobs[proof_of[jobs] == number], proofs[number] if number >= 0 else None)
        for number in np.unique(proof_of[jobs]).tolist()
    ]

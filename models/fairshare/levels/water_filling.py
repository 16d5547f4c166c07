"""Water-filling: all jobs rise together until some can rise no further; those keep what they have, and the others rise on.

A level is found from above: the duals of the shortfall at one level bound the level itself, which is where the next solve looks, until
nothing falls short any more (a Newton method; every step's bound is a proof). What the last duals pay for settles: by weak duality a job
cannot pass the least threshold that its class has a price for. That threshold is its **cap** from then on: it rises up to it without
another program (D. Nace, M. Pioro, "Max-min fairness and its applications to routing and load-balancing", 2008).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from models.fairshare.levels.rising import CAPPED
from models.fairshare.proofs.claims import Seen

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Solved, Step
    from models.fairshare.columns.classes import Classes
    from models.fairshare.levels.gauge import Gauged, Gauging
    from models.fairshare.levels.rising import Rising
    from models.program import Bools, Floats, Ints

EXACT = 1e-9  # shortfall that counts as none; relative precision of levels
FINE = 1e-12  # a shortfall that is as small will not hide that of others later
LOOSE = 1e-7  # shortfall that solvers may leave where duals prove that there is none
PAID = 1e-8  # of all that is paid for rising: a smaller price is noise
MOST_STEPS = 80  # of the search for one level
NOTHING = 1e-6  # a level as low, of where a search begins, may be left by the rounding of what others keep
LEFT = 1e-9  # of the GPUs that a class needs: if others leave it no more, and that makes so low a level, it has nothing
NEAR_BOUND = 1e-8  # relative: a level this near to its bound is at it
NEAR = 1e-14  # a proved shortfall as near to 0 as numbers tell
FIRST_STEP = 1.02  # how far above the last level the search for the next begins


@dataclass(frozen=True, eq=False)
class Settled:
    """Jobs (positions) that end at ``level``, and the duals that prove it; None: they run at full speed all the time."""

    level: float
    jobs: Ints
    proof: Gauged | None


@dataclass(slots=True, eq=False)
class Filled:
    """A class of jobs as far as it is settled: their levels in order, everyone's speeds, and of the first level what bounds it.

    ``path`` is how they rose to it, ``most`` the least level at which one of them is as fast as it can be.
    """

    speeds: Floats
    rounds: list[Settled] = field(default_factory=list)
    first: float | None = None
    seen: Seen = field(default_factory=Seen)
    path: Path | None = None
    most: float = np.inf

    def bound(self, classes: Classes, above: Bools, speeds: Floats) -> float:
        """No first level beyond it can be had while the jobs ``above`` have these ``speeds``, both (jobs,)."""
        path = self.path
        if path is None:
            return self.most
        return self.seen.bound(classes, lambda level: np.where(above, speeds, path.speeds(level)), self.most)


class Early(Protocol):
    """Who is told of the first levels before the others are known."""

    def bound(self, done: Filled) -> Generator[Step, Any, None]:
        """Tell of what the first round proved."""
        ...

    def first(self, done: Filled) -> Generator[Step, Any, None]:
        """Tell of what everyone has after the first rounds."""
        ...


class Path(Protocol):
    """The speeds of all jobs as they rise: ``Rising``, or the climb of tenants."""

    @property
    def highest(self) -> float:
        """The level at which the last of the rising jobs meets its cap."""
        ...

    def speeds(self, level: float) -> Floats:
        """What every job needs at a level, in steps/s, shape (jobs,)."""
        ...


def level_bound(classes: Classes, levels: Path, gauged: Gauged, least: float, most: float) -> float:
    """The highest level that these duals do not refute, ``most`` when they refute none; at ``least`` they do not.

    The shortfall that they prove grows with the level, so that a search between two ends finds where it leaves 0, or what rounding makes
    of it.
    """
    noise = max(gauged.proves(classes, levels.speeds(least)), 0.0) + NEAR

    def refuted(level: float) -> float:
        return gauged.proves(classes, levels.speeds(level)) - noise

    low, high, at_low, at_high = least, most, -NEAR, refuted(most)
    if at_high <= FINE:
        return most
    for step in range(200):
        if high - low <= 1e-13 * high:
            break
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        if step % 2 or not low < middle < high:  # what is proved may be flat for long: halving alone is sure to end
            middle = 0.5 * (low + high)
        value = refuted(middle)
        if value > 0.0:
            high, at_high = middle, value
        else:
            low, at_low = middle, value
    return high


def raised(
    gauge: Gauging, levels: Path, least: float, guess: float, seen: Seen
) -> Generator[Step, Solved, tuple[float, Gauged | None] | None]:
    """The highest level, from ``least`` on, and the duals that prove it (None: everyone is at the cap); notes what it has seen.

    None when a program found no answer.
    """
    classes, most = gauge.classes, levels.highest
    guess = min(max(guess, least), most)
    stride = max(guess - least, 0.02 * guess)
    lowest, proof, nothing = np.inf, None, NOTHING * guess if least == 0.0 else -1.0
    for _ in range(MOST_STEPS):
        found = yield from gauge.of_needs(levels.speeds(guess))
        if found is None:
            return None
        enough = found.bound <= EXACT and found.shortfall <= LOOSE
        if enough and guess >= most:
            return most, None
        above = level_bound(classes, levels, found, least, most)
        if above <= nothing and found.proves(classes, levels.speeds(0.0)) >= -LEFT:
            seen.nothing = True
            return 0.0, found
        if above < most:
            seen.note(above, found)
            lowest, proof = (above, found) if above < lowest else (lowest, proof)
        # Duals prove a little less than there is. Levels are settled by what falls short, or those who settle fall short ever after.
        aim = min(above, level_bound(classes, levels, replace(found, bound=max(found.bound, found.shortfall)), least, most))
        if not enough or (found.shortfall > FINE and aim < guess * (1.0 - NEAR)):
            if aim >= guess * (1.0 - 1e-13) or aim <= least:
                return max(min(aim, guess), least), proof if proof is not None else found
            guess = aim
            continue
        least = max(least, guess)
        if lowest <= guess * (1.0 + NEAR_BOUND):
            return guess, proof
        stride *= 2.0
        guess = min(lowest, most, guess + stride) if lowest == np.inf else lowest
    return (least, proof) if proof is not None else None


def priced_thresholds(classes: Classes, found: Gauged, speeds: Floats, rising: Bools) -> Floats:
    """The least threshold that each class pays for, inf where it pays for none; shape (classes,). ``speeds``, ``rising``: (jobs,)."""
    jobs = classes.market.jobs
    at = np.flatnonzero(rising & (classes.of >= 0))
    weight = np.bincount(classes.of[at], weights=(jobs.copies * (speeds + jobs.equal))[at], minlength=classes.count)
    paid = found.slope * weight[found.of]
    least = np.full(classes.count, np.inf)
    significant = paid > PAID * max(float(paid.sum()), 1e-300)
    np.minimum.at(least, found.of[significant], found.at[significant])
    return least


def filled(gauge: Gauging, levels: Rising, start: float, first: float, early: Early) -> Generator[Step, Solved, Filled | None]:
    """Settle all jobs that rise, from the level ``start`` on.

    ``first`` is where the search for the first level begins, and ``early`` hears of it. None when a program found no answer in the first
    round; later it returns what is settled by then, the others at the last level.
    """
    classes = gauge.classes
    proof_of = np.full(len(levels.rising), -1, dtype=np.int64)  # of each job's cap
    proofs: list[Gauged] = []
    done = Filled(levels.speeds(start))
    level, guess, told = start, first, False
    while levels.rising.any():
        seen = Seen()
        found = yield from raised(gauge, levels, level, guess, seen)
        if found is None:
            return done if done.first is not None else None
        level, proof = found
        new = done.first is None
        if new:
            least = float(levels.of(levels.cap)[levels.rising].min())
            done.first, done.seen, done.path, done.most = min(level, least), seen, levels, least
        levels = _settle(classes, levels, level, proof, proofs, proof_of, done)
        done.speeds = levels.speeds(level)
        guess = level * FIRST_STEP if level > 0.0 else first
        if new:
            yield from early.bound(done)
        elif not told and levels.rising.any():  # few levels are known at once; while there are many, tell of the first ones
            yield from early.first(done)
            told = True
    return done


def _settle(
    classes: Classes, levels: Rising, level: float, proof: Gauged | None, proofs: list[Gauged], proof_of: Ints, done: Filled
) -> Rising:
    """Note who is settled at a level; the levels of those that rise on, with their new caps."""
    speeds = levels.speeds(level)
    at_cap = levels.capped(level)
    stopped = at_cap
    if proof is not None:
        limit = priced_thresholds(classes, proof, speeds, levels.rising)[classes.of]
        paying = levels.rising & ~at_cap & (speeds >= limit * (1.0 - CAPPED))
        if not paying.any() and not at_cap.any():  # rounding hides who pays: settle all whose class pays anything
            paying = levels.rising & np.isfinite(limit)
            paying = paying if paying.any() else levels.rising
        lower = levels.rising & ~paying & (limit < levels.cap)
        stopped = at_cap | paying
        done.rounds += _by_cap(levels, at_cap, speeds, proofs, proof_of)
        done.rounds.append(Settled(level, np.flatnonzero(paying), proof))
        proof_of[lower] = len(proofs)
        proofs.append(proof)
        levels = replace(levels, cap=np.where(lower, limit, levels.cap))
    else:
        done.rounds += _by_cap(levels, at_cap, speeds, proofs, proof_of)
    kept = levels.keeping(stopped, speeds)
    late = kept.capped(level)  # whose new cap is what they have
    done.rounds += _by_cap(kept, late, speeds, proofs, proof_of)
    return kept.keeping(late, speeds)


def _by_cap(levels: Rising, jobs: Bools, speeds: Floats, proofs: list[Gauged], proof_of: Ints) -> list[Settled]:
    """Jobs that met their caps on the way, each at the level where it did."""
    at = levels.of(np.minimum(speeds, levels.cap))
    order = np.flatnonzero(jobs)
    order = order[np.lexsort((proof_of[order], at[order]))]
    found: list[Settled] = []
    for job in order.tolist():
        proof = proofs[proof_of[job]] if proof_of[job] >= 0 else None
        if found and found[-1].proof is proof and abs(found[-1].level - at[job]) <= EXACT * at[job]:
            found[-1] = replace(found[-1], jobs=np.append(found[-1].jobs, job))
        else:
            found.append(Settled(float(at[job]), np.array([job]), proof))
    return found

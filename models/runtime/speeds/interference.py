"""How much two jobs that share one device slow each other down: sensitivity of the one plus pressure of the other.

A job's normalised speed y is its speed beside another job over its speed alone. The model is

    logit(y of a beside b) = level + sensitivity(a) + pressure(b) + habit(family a, family b) + noise.

Sensitivity and pressure are a part that jobs of one family share, smooth in the logarithm of their batch, and a part of the job's own; the
habit is what two families do to each other, again smooth in both batches. All parts are normal beforehand, so the fit is a Gaussian
process (Rasmussen & Williams, "Gaussian processes for machine learning", 2006, chapters 2 and 5), and a job that was measured with few
others, or with none, is drawn to its family. The parts' variances are those under which the measured pairs are most probable: nothing is
tuned on other pairs. Intervals are widened by the leave-one-out scores of the measured pairs (split conformal).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.runtime.evaluation.conformal import enough, quantile_or_normal
from models.runtime.scaling.variances import combined, most_probable_variances

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints

EDGE = 0.05  # speeds 0 to 1 are taken to EDGE to 1 - EDGE, so that no interference at all (a speed of 1) has a finite logit
SLOWEST = 0.01  # no prediction says that a job stands still
BATCH_REACH = 2.0  # doublings of the batch within which jobs of one family behave alike
LEVEL_SPREAD = 2.0  # of the level, in logits
SMALLEST = 1e-6
LEVEL = 0.8  # p10 to p90
NORMAL_80 = 1.28155
_FIRST_GUESS = np.array([0.3, 0.2, 0.3, 0.2, 0.3, 0.3, 0.05])  # variances of the parts, the noise last
_DOUBT = 1.5  # spread of the logarithm of each variance around the first guess


class JobType(NamedTuple):
    """A job as far as sharing is concerned: its name, its family, and its batch (or any measure of size > 0; 1 where there is none)."""

    name: str
    family: str
    batch: float = 1.0


class PairSpeed(NamedTuple):
    """Two job types (which may be one) on the same device: what each attains of its speed alone, > 0 and normally at most 1."""

    first: str
    second: str
    first_speed: float
    second_speed: float


class FilledPair(NamedTuple):
    """As ``PairSpeed`` in steps/s; ``predicted``: not measured, and then the 10th percentiles too."""

    first: str
    second: str
    first_steps_per_s: float
    second_steps_per_s: float
    predicted: bool
    first_slow_steps_per_s: float
    second_slow_steps_per_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Sharing:
    """Normalised speeds of jobs beside others, arrays (Q,), each above 0 and at most 1: 10th, 50th and 90th percentile.

    ``extrapolated``: one of the two was in no measured pair; its family, or the mean of all, stands for it.
    """

    p10: Floats
    p50: Floats
    p90: Floats
    extrapolated: Bools


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """Sides of pairs, arrays (S,): the job asked about and the one beside it, as families, centred log batches and positions."""

    job: Ints
    other: Ints
    family: Ints
    other_family: Ints
    size: Floats
    other_size: Floats

    def parts(self, with_: _Sides, *, habits: bool) -> list[Floats]:
        """Covariance (S, S') of each part of the model at unit variance."""
        same = (self.family[:, None] == with_.family).astype(np.float64)
        same_other = (self.other_family[:, None] == with_.other_family).astype(np.float64)
        near = same * _near(self.size, with_.size)
        near_other = same_other * _near(self.other_size, with_.other_size)
        own = (self.job[:, None] == with_.job).astype(np.float64)
        own_other = (self.other[:, None] == with_.other).astype(np.float64)
        plain = [near, own, near_other, own_other]
        return [*plain, same * same_other, near * near_other] if habits else plain


@dataclass(frozen=True, slots=True, eq=False)
class Interference:
    """The fitted model of one device type.

    ``variances`` of the parts and of the ``noise``, in squared logits; ``measured``: which job types were in a measured pair; ``tested``:
    whether there were enough pairs to test the intervals.
    """

    jobs: tuple[JobType, ...]
    habits: bool
    variances: Floats
    noise: float
    widening: float
    tested: bool
    measured: Bools
    _sides: _Sides
    _level: float
    _weights: Floats
    _inverse: Floats

    def predict(self, first: Sequence[str], second: Sequence[str]) -> Sharing:
        """Speeds (Q,) of ``first`` beside ``second``, job types by name. Raises ValueError for a name that is not among ``jobs``."""
        at = {job.name: place for place, job in enumerate(self.jobs)}
        unknown = [name for name in (*first, *second) if name not in at]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not among the job types of the model; give its family and batch when fitting")
        if len(first) != len(second):
            raise ValueError(f"{len(first)} jobs, but {len(second)} beside them")
        jobs, others = np.array([at[name] for name in first], dtype=np.int64), np.array([at[name] for name in second], dtype=np.int64)
        asked = _sides_of(self.jobs, jobs, others)
        cross = combined(asked.parts(self._sides, habits=self.habits), self.variances) + LEVEL_SPREAD**2
        middle = self._level + cross @ self._weights
        own = float(self.variances.sum()) + LEVEL_SPREAD**2 + self.noise  # every part is 1 with itself
        variance = own - np.einsum("qs,st,qt->q", cross, self._inverse, cross)
        margin = NORMAL_80 * self.widening * np.sqrt(np.maximum(variance, SMALLEST))
        unseen = ~(self.measured[jobs] & self.measured[others])
        return Sharing(_speed(middle - margin), _speed(middle), _speed(middle + margin), unseen)


def fit(jobs: Sequence[JobType], pairs: Iterable[PairSpeed], *, habits: bool = True) -> Interference:
    """The model of ``pairs`` measured on one device type; ``habits=False`` leaves the sensitivity and the pressure alone.

    Raises ValueError for a pair that names no job type, a speed that is not positive, a job type listed twice, or no pair at all.
    """
    jobs, known = tuple(jobs), list(pairs)
    at = {job.name: place for place, job in enumerate(jobs)}
    _check(jobs, known, at)
    here = np.array([[at[pair.first], at[pair.second]] for pair in known], dtype=np.int64)
    two = here[:, 0] != here[:, 1]  # a job beside its own copy is one measurement, not two
    jobs_asked, others = np.concatenate([here[:, 0], here[two, 1]]), np.concatenate([here[:, 1], here[two, 0]])
    sides = _sides_of(jobs, jobs_asked, others)
    seconds = np.array([pair.second_speed for pair in known])
    logits = _logit(np.concatenate([[pair.first_speed for pair in known], seconds[two]]))
    level = float(np.median(logits))
    parts = sides.parts(sides, habits=habits)
    noisy, ground = [*parts, np.eye(len(logits))], np.full((len(logits), len(logits)), LEVEL_SPREAD**2)
    guess = np.append(_FIRST_GUESS[: len(parts)], _FIRST_GUESS[-1])
    variances = most_probable_variances(noisy, logits - level, ground + SMALLEST * np.eye(len(logits)), guess, _DOUBT)
    inverse = np.asarray(np.linalg.inv(combined(noisy, variances) + ground + SMALLEST * np.eye(len(logits))), dtype=np.float64)
    weights = inverse @ (logits - level)
    scores = np.abs(weights) / np.sqrt(np.diag(inverse))  # leave-one-out error over its spread, in closed form
    widening = max(1.0, quantile_or_normal(scores, LEVEL) / NORMAL_80)
    measured = np.zeros(len(jobs), dtype=bool)
    measured[here] = True
    tested = enough(len(scores), LEVEL)
    return Interference(jobs, habits, variances[:-1], float(variances[-1]), widening, tested, measured, sides, level, weights, inverse)


def filled_pairs(
    model: Interference,
    alone_steps_per_s: Mapping[str, float],
    known: Iterable[PairSpeed],
    *,
    fits: Callable[[str, str], bool] = lambda _first, _second: True,
) -> list[FilledPair]:
    """Every unordered pair of the jobs in ``alone_steps_per_s``, in steps/s: as measured where it is ``known``, else as predicted.

    ``fits(first, second)`` says whether both fit into the device's memory; pairs that do not are left out, measured or not.
    Raises ValueError for a job that the model does not know or whose speed alone is not positive.
    """
    names = list(alone_steps_per_s)
    for name, speed in alone_steps_per_s.items():
        if not (speed > 0 and np.isfinite(speed)):
            raise ValueError(f"{name!r} alone runs at {speed:g} steps/s; a speed must be positive: leave the job out")
    measured = {frozenset((pair.first, pair.second)): pair for pair in known}
    wanted = [(a, b) for place, a in enumerate(names) for b in names[place:] if fits(a, b)]
    missing = [pair for pair in wanted if frozenset(pair) not in measured]
    firsts, seconds = [a for a, _ in missing], [b for _, b in missing]
    guess = model.predict(firsts + seconds, seconds + firsts)
    place_of = {pair: place for place, pair in enumerate(missing)}
    filled = []
    for a, b in wanted:
        if (a, b) in place_of:
            here, there = place_of[a, b], place_of[a, b] + len(missing)
            speeds = (float(guess.p50[here]), float(guess.p50[there]), float(guess.p10[here]), float(guess.p10[there]))
        else:
            pair = measured[frozenset((a, b))]
            first, second = (pair.first_speed, pair.second_speed) if pair.first == a else (pair.second_speed, pair.first_speed)
            speeds = (first, second, first, second)
        alone = (alone_steps_per_s[a], alone_steps_per_s[b])
        steps = [speed * alone[side % 2] for side, speed in enumerate(speeds)]
        filled.append(FilledPair(a, b, steps[0], steps[1], (a, b) in place_of, steps[2], steps[3]))
    return filled


def _check(jobs: tuple[JobType, ...], pairs: list[PairSpeed], at: Mapping[str, int]) -> None:
    if len(at) != len(jobs):
        raise ValueError("a job type is listed twice")
    for job in jobs:
        if not (job.batch > 0 and np.isfinite(job.batch)):
            raise ValueError(f"the batch of {job.name!r} is {job.batch:g}; it must be positive, 1 where there is none")
    if not pairs:
        raise ValueError("no pair was measured; without one nothing is known of interference")
    for pair in pairs:
        for name, speed in ((pair.first, pair.first_speed), (pair.second, pair.second_speed)):
            if name not in at:
                raise ValueError(f"a pair names {name!r}, which is not among the job types")
            if not (speed > 0 and np.isfinite(speed)):
                raise ValueError(
                    f"{name!r} in the pair {pair.first!r}, {pair.second!r} has speed {speed:g}; leave out pairs that cannot share"
                )


def _sides_of(jobs: tuple[JobType, ...], job: Ints, other: Ints) -> _Sides:
    """The sides of pairs of job types by position. Batches count in doublings from their family's middle."""
    names = {family: place for place, family in enumerate(dict.fromkeys(one.family for one in jobs))}
    family = np.array([names[one.family] for one in jobs])
    doublings = np.log2(np.array([one.batch for one in jobs]))
    middles = np.array([doublings[family == place].mean() for place in range(len(names))])
    size = doublings - middles[family]
    return _Sides(job, other, family[job], family[other], size[job], size[other])


def _near(left: Floats, right: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * ((left[:, None] - right) / BATCH_REACH) ** 2))


def _logit(speed: Floats) -> Floats:
    inside = EDGE + (1.0 - 2.0 * EDGE) * np.clip(speed, 0.0, 1.0)
    return np.asarray(np.log(inside / (1.0 - inside)))


def _speed(logit: Floats) -> Floats:
    inside = 1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0)))
    return np.asarray(np.clip((inside - EDGE) / (1.0 - 2.0 * EDGE), SLOWEST, 1.0))

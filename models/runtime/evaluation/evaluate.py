"""How far off predictions are on measured jobs that the model has not seen: each job left out, and each family left out.

For each fold the whole of rung 3 runs again on the other jobs: factors, held-out scores, intervals. Single operators (rung 2) stay in:
they were measured apart from the jobs and know no family. The baselines are fitted on the same jobs and asked about the same ones.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.runtime.calibration.fit import Jobs, fit
from models.runtime.calibration.ladder import JOB_SCALE, Base, Measured, measured_jobs
from models.runtime.calibration.scores import log_spread, scored
from models.runtime.evaluation.baselines import LogRidge, best_rate, plain_features
from models.runtime.evaluation.conformal import coverage
from models.runtime.evaluation.uncertainty import interval, refuse_noise, repeat_noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Floats
    from models.runtime.records import Record

POLLUX = "no value: on one device Pollux's form is a line in the batch size of one network, which says nothing of a network left out"


@dataclass(frozen=True, slots=True)
class Errors:
    """Absolute relative errors ``|predicted / measured - 1|``: median and 90th percentile."""

    median: float
    p90: float

    @classmethod
    def of(cls, predicted: Floats, measured: Floats) -> Errors:
        """Of parallel arrays; NaN for none."""
        if not len(measured):
            return cls(math.nan, math.nan)
        errors = np.abs(predicted / measured - 1.0)
        return cls(float(np.median(errors)), float(np.quantile(errors, 0.9)))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One job as it was predicted without itself, or without its family; seconds of a step, ends of the interval of 90%."""

    job: str
    family: str
    mode: str
    measured_s: float
    predicted_s: float
    low_s: float
    high_s: float
    naive_s: float
    ridge_s: float

    @property
    def error(self) -> float:
        """Predicted over measured, less 1."""
        return self.predicted_s / self.measured_s - 1.0


@dataclass(frozen=True, slots=True)
class Split:
    """All jobs under one way of leaving out. ``times_better``: the naive form's median error over the model's."""

    jobs: tuple[HeldOut, ...]
    model: Errors
    naive: Errors
    ridge: Errors
    coverage: float
    width: float
    times_better: float
    by_family: dict[str, Errors]
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Both ways of leaving out; ``noise`` is what repeats of one job differ by: no model can be better than that on average.

    ``rungs``: errors when whole jobs teach nothing: the micro-benchmarks alone.
    """

    jobs: int
    operators: int
    noise: float
    noise_floor: float
    warning: str
    rungs: dict[str, Errors]
    leave_one_out: Split
    leave_one_family_out: Split
    pollux: str = POLLUX

    def as_dict(self) -> dict[str, Any]:
        """For a results file."""
        return asdict(self)


def evaluate(base: Base, rows: Sequence[Record]) -> Evaluation:
    """Both evaluations of the accepted rows on a device with its micro-benchmarks; repeats of one job are left out together.

    Raises NoisyError (a ValueError) for jobs that are too few or too noisy.
    """
    measured = measured_jobs(base, rows)
    noise = repeat_noise(measured.keys, measured.seconds, measured.spreads)
    warning = refuse_noise(noise, len(measured)) or ""
    start = fit(Jobs.plain(measured.amounts[:0]), np.zeros(0), base.prior, expected_scale=JOB_SCALE)
    alone = start.predict(Jobs.plain(measured.amounts))
    return Evaluation(
        jobs=len(measured),
        operators=base.operators,
        noise=noise,
        noise_floor=noise * math.sqrt(2.0) * 0.67449,  # median difference of two measurements of one job
        warning=warning,
        rungs={"operators_only": Errors.of(alone, measured.seconds)},
        leave_one_out=_split(base, measured, noise, measured.keys, extrapolated=False),
        leave_one_family_out=_split(base, measured, noise, measured.families, extrapolated=True),
    )


def _split(base: Base, measured: Measured, noise: float, groups: Sequence[str], *, extrapolated: bool) -> Split:
    """Every group left out in turn."""
    found: dict[int, HeldOut] = {}
    for group in dict.fromkeys(groups):
        inside = [place for place, other in enumerate(groups) if other != group]
        outside = [place for place, other in enumerate(groups) if other == group]
        if inside:
            rows = _fold(base, measured.only(inside), measured.only(outside), noise, extrapolated=extrapolated)
            found |= dict(zip(outside, rows, strict=True))
    return _summary(tuple(found[place] for place in sorted(found)), extrapolated=extrapolated)


def _fold(base: Base, known: Measured, asked: Measured, noise: float, *, extrapolated: bool) -> list[HeldOut]:
    """The asked jobs as predicted from the known ones alone."""
    table, target = Jobs.plain(known.amounts), Jobs.plain(asked.amounts)
    doubts, unsure = np.hypot(noise, known.doubts), np.hypot(noise, asked.doubts)
    model = fit(table, known.seconds, base.prior, noise=doubts, expected_scale=JOB_SCALE)
    scores = scored(table, known.seconds, base.prior, doubts, (known.families, known.keys), JOB_SCALE)
    medians, spreads = model.predict(target), log_spread(model, target, unsure)
    rate = best_rate(np.array([work.flops for work in known.works]), known.seconds)
    ridge = LogRidge.fit(plain_features(known.jobs, known.works), known.seconds).predict(plain_features(asked.jobs, asked.works))
    rows = []
    for place, job in enumerate(asked.jobs):
        told = interval(float(medians[place]), float(spreads[place]), scores, extrapolated=extrapolated)
        rows.append(
            HeldOut(
                job=job.id or f"{job.family.value} {job.mode.value}",
                family=job.family.value,
                mode=job.mode.value,
                measured_s=float(asked.seconds[place]),
                predicted_s=told.p50,
                low_s=told.low,
                high_s=told.high,
                naive_s=asked.works[place].flops / rate,
                ridge_s=float(ridge[place]),
            )
        )
    return rows


def _summary(rows: tuple[HeldOut, ...], *, extrapolated: bool) -> Split:
    measured, predicted, low, high, naive, ridge = (
        np.array([getattr(row, name) for row in rows]) for name in ("measured_s", "predicted_s", "low_s", "high_s", "naive_s", "ridge_s")
    )
    families = np.array([row.family for row in rows])
    model, plain = Errors.of(predicted, measured), Errors.of(naive, measured)
    return Split(
        jobs=rows,
        model=model,
        naive=plain,
        ridge=Errors.of(ridge, measured),
        coverage=coverage(measured, low, high),
        width=float(np.median(high / low)) if len(rows) else math.nan,
        times_better=plain.median / model.median if model.median > 0 else math.inf,
        by_family={name: Errors.of(predicted[families == name], measured[families == name]) for name in dict.fromkeys(families.tolist())},
        extrapolated=extrapolated,
    )

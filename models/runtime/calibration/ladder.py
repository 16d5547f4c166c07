"""The ladder: datasheet, single operators, a few whole jobs, finished runs. What each rung learns is what the next one starts from.

1. The datasheet is a ``DeviceSpec``: each coefficient with a value and a spread.
2. Micro-benchmarks fit its coefficients (``fit``) and leave a curve over shapes of what the form cannot say.
3. Whole jobs, anchors first, fit one factor for each class and the context of a step (``terms``).
4. Finished runs refine those factors with ``refined``.
Held-out jobs and held-out families give the scores from which intervals are made (``evaluation.uncertainty``).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from models.runtime.calibration.curves import Curves, Shapes, curves_of, shape_of
from models.runtime.calibration.fit import Jobs, Posterior, Prior, fit
from models.runtime.calibration.scores import log_spread, scored
from models.runtime.calibration.single import with_memory, with_start_up
from models.runtime.calibration.terms import CONTEXTS, job_amounts, job_prior, operator_prior, operator_terms
from models.runtime.device import ClassRange, Combine, DeviceSpec, Finite, Hull, Source
from models.runtime.evaluation.conformal import scores as scores_of
from models.runtime.evaluation.uncertainty import Scores, refuse_noise, repeat_noise
from models.runtime.families.work import work as closed_form
from models.runtime.operators import CLASSES, Work
from models.runtime.prediction.extrapolation import hull_of
from models.runtime.prediction.roofline import operator_seconds
from models.vocabulary import Document, Quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Floats
    from models.runtime.job import JobSpec
    from models.runtime.records import OperatorRecord, Record

OPERATOR_SCALE = 0.3  # relative error that the device's form alone is expected to leave on single operators
JOB_SCALE = 0.06  # and that form, curves and factors leave on whole jobs
MEASURED_CURVES = 3  # operators of a class from which its level counts as measured


class Factors(Document):
    """The factors' logarithms after calibration: median and covariance, by operator class and then by context."""

    names: tuple[str, ...]
    log_median: tuple[Finite, ...]
    covariance: tuple[tuple[Finite, ...], ...]
    scale: Quantity = Field(description="Relative error of a job that the form leaves.")


class Calibration(Document):
    """A device with all that was learnt of it. ``warnings`` say what a reader must know before trusting it."""

    schema_version: Literal[1] = 1
    device: DeviceSpec
    shapes: Shapes = Shapes()
    factors: Factors
    scores: Scores = Scores()
    jobs: int = Field(default=0, ge=0, description="Measured jobs that it was fitted to.")
    operators: int = Field(default=0, ge=0, description="Single operators that it was fitted to.")
    warnings: tuple[str, ...] = ()

    @property
    def curves(self) -> Curves:
        """The curves through the measured shapes."""
        return curves_of(self.shapes)

    @property
    def posterior(self) -> Posterior:
        """The factors as an estimate."""
        return Posterior(np.array(self.factors.log_median), np.array(self.factors.covariance), self.factors.scale, np.zeros(0))


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Jobs with their work and what they took: ``amounts`` (N, FACTORS) seconds at factors of 1, ``doubts`` (N,) of the curves."""

    jobs: tuple[JobSpec, ...]
    works: tuple[Work, ...]
    seconds: Floats
    spreads: Floats
    amounts: Floats
    doubts: Floats

    def __len__(self) -> int:
        """How many."""
        return len(self.jobs)

    @property
    def families(self) -> tuple[str, ...]:
        """The family of each."""
        return tuple(job.family.value for job in self.jobs)

    @property
    def keys(self) -> tuple[str, ...]:
        """What is the same for repeats of one job."""
        return tuple(job.model_copy(update={"id": ""}).model_dump_json() for job in self.jobs)

    def only(self, chosen: Sequence[int]) -> Measured:
        """Those at these places."""
        return Measured(
            tuple(self.jobs[i] for i in chosen),
            tuple(self.works[i] for i in chosen),
            *(values[list(chosen)] for values in (self.seconds, self.spreads, self.amounts, self.doubts)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """The device after its micro-benchmarks, with the curves that they leave: what whole jobs start from."""

    device: DeviceSpec
    shapes: Shapes
    prior: Prior
    operators: int = 0


def work_of(job: JobSpec, work: Work | None = None) -> Work:
    """The counted work of a traced job, or the closed form of a family. Raises ValueError for a traced job without work."""
    return closed_form(job) if work is None else work


def operators_fitted(device: DeviceSpec, rows: Sequence[OperatorRecord], *, date: str = "", version: str = "") -> Base:
    """Rung 2: the device's coefficients and curves from single operators; without any, the device as it is."""
    rows = [row for row in rows if row.accepted and row.timing is not None and row.timing.seconds > 0]
    if not rows:
        return Base(device, Shapes(), _prior(Shapes()))
    operators = tuple(row.operator for row in rows)
    work = Work(operators, 0.0, 0.0, 0.0)
    seconds = np.array([row.timing.seconds for row in rows if row.timing is not None])  # of all calls
    terms = operator_terms(work.arrays, device)
    found = fit(terms.jobs, seconds, operator_prior(device, terms.paths), expected_scale=OPERATOR_SCALE)
    values = dict(zip(terms.paths, found.coefficients.tolist(), strict=True))
    fitted = device.with_values(values, source=Source.measured, date=date, version=version, note="micro-benchmarks")
    fitted = fitted.model_copy(update={"combine": Combine.additive})  # the form that was fitted
    ratios = np.log(seconds / operator_seconds(work.arrays, fitted).total)
    shapes = Shapes(shapes=tuple(shape_of(one, float(ratio)) for one, ratio in zip(operators, ratios, strict=True)))
    return Base(fitted, shapes, _prior(shapes), len(rows))


def base_of(known: Calibration) -> Base:
    """What a calibration's whole jobs started from: to fit them anew, or to leave some out."""
    return Base(known.device, known.shapes, _prior(known.shapes), known.operators)


def _prior(shapes: Shapes) -> Prior:
    counts = Counter(shape.cls for shape in shapes.shapes)
    return job_prior(frozenset(cls for cls in CLASSES if counts[cls] >= MEASURED_CURVES))


def measured_jobs(base: Base, rows: Sequence[Record]) -> Measured:
    """The accepted jobs of the rows, in their order, with their amounts on the base device."""
    kept = [row for row in rows if row.accepted and row.timing is not None and row.timing.seconds > 0]
    jobs = tuple(row.job for row in kept)
    works = tuple(work_of(row.job, row.work) for row in kept)
    seconds = np.array([row.timing.seconds for row in kept if row.timing is not None])
    spreads = np.array([row.timing.spread for row in kept if row.timing is not None])
    amounts, doubts = job_amounts(jobs, works, base.device, curves_of(base.shapes))
    return Measured(jobs, works, seconds, spreads, amounts, doubts)


def jobs_fitted(base: Base, measured: Measured) -> Calibration:
    """Rung 3: factors from whole jobs, with the scores of jobs and families that were held out.

    Raises NoisyError (a ValueError) for jobs that are too few, or so noisy that nothing can be learnt from them.
    """
    repeats = repeat_noise(measured.keys, measured.seconds, measured.spreads)
    warning = refuse_noise(repeats, len(measured))
    table, noise = Jobs.plain(measured.amounts), np.hypot(repeats, measured.doubts)
    found = fit(table, measured.seconds, base.prior, noise=noise, expected_scale=JOB_SCALE)
    scores = scored(table, measured.seconds, base.prior, noise, (measured.families, measured.keys), JOB_SCALE)
    return Calibration(
        device=base.device.model_copy(update={"hull": hull_of(measured.jobs, measured.works)}),
        shapes=base.shapes,
        factors=_told(found),
        scores=scores.model_copy(update={"repeat_log_sd": repeats}),
        jobs=len(measured),
        operators=base.operators,
        warnings=(warning,) if warning else (),
    )


def refined(known: Calibration, rows: Sequence[Record]) -> Calibration:
    """Rung 4: the calibration after further finished runs, which were each predicted before they counted.

    Their scores join those of the held-out jobs; families, modes and sizes that are new to it no longer count as extrapolated.
    """
    base = Base(known.device, known.shapes, known.posterior.prior(), known.operators)
    measured = measured_jobs(base, rows)
    if not len(measured):
        return known
    repeats = max(known.scores.repeat_log_sd, repeat_noise(measured.keys, measured.seconds, measured.spreads))
    warning = refuse_noise(repeats, known.jobs + len(measured))
    table, noise, before = Jobs.plain(measured.amounts), np.hypot(repeats, measured.doubts), known.posterior
    new = scores_of(np.log(measured.seconds / before.predict(table)), log_spread(before, table, noise))
    found = fit(table, measured.seconds, base.prior, noise=noise, expected_scale=max(JOB_SCALE, before.scale))
    scores = known.scores.model_copy(update={"seen": tuple(sorted((*known.scores.seen, *new.tolist()))), "repeat_log_sd": repeats})
    hull = hull_of(measured.jobs, measured.works)
    return known.model_copy(
        update={
            "device": known.device.model_copy(update={"hull": hull if known.device.hull is None else joined(known.device.hull, hull)}),
            "factors": _told(found),
            "scores": scores,
            "jobs": known.jobs + len(measured),
            "warnings": tuple(dict.fromkeys((*known.warnings, *([warning] if warning else [])))),
        }
    )


def calibrate(
    device: DeviceSpec, operators: Sequence[OperatorRecord], jobs: Sequence[Record], *, date: str = "", version: str = ""
) -> Calibration:
    """The whole ladder up to the measured jobs. Raises NoisyError (a ValueError) where that would mean nothing."""
    base = operators_fitted(device, operators, date=date, version=version)
    found = jobs_fitted(base, measured_jobs(base, jobs))
    ready, doubt = with_start_up(with_memory(found.device, jobs, date=date, version=version), jobs, date=date, version=version)
    return found.model_copy(update={"device": ready, "scores": found.scores.model_copy(update={"start_up_log_sd": doubt})})


def _told(found: Posterior) -> Factors:
    return Factors(
        names=(*(cls.value for cls in CLASSES), *(one.value for one in CONTEXTS)),
        log_median=tuple(found.mean.tolist()),
        covariance=tuple(tuple(row) for row in found.covariance.tolist()),
        scale=found.scale,
    )


def joined(old: Hull, new: Hull) -> Hull:
    """What either covers."""
    ranges = {row.cls: row for row in old.ranges}
    for row in new.ranges:
        there = ranges.get(row.cls, row)
        ranges[row.cls] = ClassRange(
            cls=row.cls,
            least_flops=min(row.least_flops, there.least_flops),
            most_flops=max(row.most_flops, there.most_flops),
            least_bytes=min(row.least_bytes, there.least_bytes),
            most_bytes=max(row.most_bytes, there.most_bytes),
        )
    return Hull(
        families=tuple(sorted({*old.families, *new.families})),
        modes=tuple(sorted({*old.modes, *new.modes})),
        precisions=tuple(sorted({*old.precisions, *new.precisions})),
        ranges=tuple(ranges.values()),
    )

"""Predictions of a calibrated device: ``predict`` with curves, factors and context, and with intervals from held-out jobs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.runtime.calibration.fit import Jobs
from models.runtime.calibration.ladder import Calibration, work_of
from models.runtime.calibration.scores import log_spread
from models.runtime.calibration.terms import CONTEXT_STARTS, CONTEXTS, context_amounts, job_amounts
from models.runtime.evaluation.uncertainty import Interval, interval
from models.runtime.evaluation.whole_jobs import Doubts, Parts, percentiles
from models.runtime.operators import CLASSES, Work
from models.runtime.prediction.predict import NORMAL_P90, Prediction, Quantiles, predict

if TYPE_CHECKING:
    from models.program import Floats
    from models.runtime.device import DeviceSpec
    from models.runtime.job import JobSpec


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A prediction with its conformal interval; ``warnings`` are the calibration's own."""

    prediction: Prediction
    step: Interval
    warnings: tuple[str, ...]


def predicted(
    job: JobSpec, known: Calibration, work: Work | None = None, *, slow_down: float = 1.0, slow_down_log_sd: float = 0.0
) -> Calibrated:
    """What ``job`` takes on the calibrated device; ``work`` is that of a traced job.

    ``slow_down_log_sd``: the standard deviation of the slow-down's logarithm from job to job. Raises ValueError as
    ``models.runtime.prediction.predict.predict`` does.
    """
    work = work_of(job, work)
    plain = predict(job, _device_for(job, work, known), _as_measured(work, known), slow_down=slow_down)
    amounts, doubts = job_amounts([job], [work], known.device, known.curves)
    noise = np.hypot(known.scores.repeat_log_sd, doubts)
    spread = float(log_spread(known.posterior, Jobs.plain(amounts), noise)[0])
    step = interval(plain.step_s.p50, spread, known.scores, extrapolated=plain.extrapolated)
    running = job.steps * slow_down * step.p50
    parts = Parts(np.array([plain.total_s.p50 - job.steps * slow_down * plain.step_s.p50]), np.array([running]), np.zeros(1))
    unsure = Doubts(known.scores.start_up_log_sd, math.log(step.p90 / step.p50) / NORMAL_P90 if step.p50 > 0 else 0.0, slow_down_log_sd)
    total = percentiles(parts, unsure)
    told = replace(
        plain,
        step_s=Quantiles(step.p10, step.p50, step.p90),
        total_s=Quantiles(*(float(one[0]) for one in total)),
        parts=_parts(plain.parts, job, work, known),
        log_sd=spread,
    )
    return Calibrated(told, step, known.warnings)


def _parts(parts: dict[str, float], job: JobSpec, work: Work, known: Calibration) -> dict[str, float]:
    """The parts of a step with its overhead told apart."""
    found = {name: part for name, part in parts.items() if name != "step_overhead"}
    return found | {one.value: part for one, part in zip(CONTEXTS, _context_s(job, work, known).tolist(), strict=True) if part > 0}


def _context_s(job: JobSpec, work: Work, known: Calibration) -> Floats:
    """Seconds (contexts,) of a step beside its operators."""
    starts = np.array([CONTEXT_STARTS[one][0] for one in CONTEXTS])
    return np.asarray(context_amounts(job, work, known.device) * starts * known.posterior.coefficients[len(CLASSES) :])


def _as_measured(work: Work, known: Calibration) -> Work:
    """Each operator called as many times more as the curves say that its shape takes longer."""
    mean, _ = known.curves.at(work.operators)
    return replace(work, operators=tuple(one.times(float(factor)) for one, factor in zip(work.operators, np.exp(mean), strict=True)))


def _device_for(job: JobSpec, work: Work, known: Calibration) -> DeviceSpec:
    """The device with the factors of its classes, and this job's context as the overhead of a step."""
    factors = known.posterior.coefficients
    coefficients = known.device.coefficients()
    values = {"step_overhead_s": float(_context_s(job, work, known).sum())}
    for cls, factor in zip(CLASSES, factors.tolist(), strict=False):
        values |= {
            path: coefficients[path].value * factor**power
            for path, power in ((f"efficiency.{cls.value}", -1), (f"traffic.{cls.value}", 1), (f"overhead_s.{cls.value}", 1))
            if path in coefficients
        }
    return known.device.with_values(values)

"""What a prediction is held against: FLOPs over one constant rate, and a regression that knows no device.

Both are fitted on the same jobs as the model and asked about the same left-out job. Pollux's throughput form (Qiao et al., "Pollux:
Co-adaptive cluster scheduling for goodput-optimized deep learning", 2021) is a form per network over numbers of GPUs: on one device it
is a line in the batch size, with nothing to say of a network it has not run, so it takes no part here (``scaling.py`` has it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.runtime.job import Mode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Floats
    from models.runtime.job import JobSpec
    from models.runtime.operators import Work

PENALTIES = 10.0 ** np.arange(-3, 3)


def best_rate(flops: Floats, seconds: Floats) -> float:
    """FLOPs per second C that makes the median of ``|flops / (C * seconds) - 1|`` least: the naive form with its best constant.

    Some job is met exactly by a best constant up to ties, so the rates of the jobs are tried. Arrays (N,), N >= 1, positive.
    """
    rates = flops / seconds
    errors = np.median(np.abs(rates[None, :] / rates[:, None] - 1.0), axis=1)
    return float(rates[int(np.argmin(errors))])


@dataclass(frozen=True, slots=True, eq=False)
class LogRidge:
    """Ridge regression of log seconds on standardised features (Hoerl & Kennard, 1970), its penalty chosen by leave-one-out error."""

    middle: Floats
    width: Floats
    weights: Floats
    offset: float

    @classmethod
    def fit(cls, features: Floats, seconds: Floats) -> LogRidge:
        """From ``features`` (N, F) and ``seconds`` (N,) of N >= 2 jobs."""
        middle, width = features.mean(axis=0), features.std(axis=0)
        width = np.where(width > 0, width, 1.0)
        scaled, logs = (features - middle) / width, np.log(seconds)
        offset = float(logs.mean())
        left, sizes, right = np.linalg.svd(scaled, full_matrices=False)
        inner = left.T @ (logs - offset)
        errors = []
        for penalty in PENALTIES:
            shrunk = sizes**2 / (sizes**2 + penalty)
            hat = (left**2) @ shrunk + 1.0 / len(logs)  # what a job's own time counts in its fitted time
            errors.append(float(np.mean(((logs - offset - left @ (shrunk * inner)) / np.maximum(1e-6, 1.0 - hat)) ** 2)))
        penalty = PENALTIES[int(np.argmin(errors))]
        return cls(middle, width, right.T @ (sizes / (sizes**2 + penalty) * inner), offset)

    def predict(self, features: Floats) -> Floats:
        """Seconds (N,) of jobs with these ``features`` (N, F)."""
        return np.asarray(np.exp(self.offset + (features - self.middle) / self.width @ self.weights))


def plain_features(jobs: Sequence[JobSpec], works: Sequence[Work]) -> Floats:
    """What a regression is usually given (N, 7): logs of FLOPs, bytes, calls, parameters, activations and batch, and whether it trains."""
    return np.array(
        [
            [
                np.log1p(work.flops),
                np.log1p(work.bytes),
                np.log1p(work.calls),
                np.log1p(work.parameters),
                np.log1p(work.activation_bytes),
                np.log(job.batch),
                float(job.mode is Mode.train),
            ]
            for job, work in zip(jobs, works, strict=True)
        ]
    ).reshape(len(jobs), 7)

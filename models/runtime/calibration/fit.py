"""The estimator: positive coefficients of a sum of products, found from measured totals by maximum a posteriori.

A job takes ``seconds[i] = sum_m amounts[i, m] * prod_k coefficient[k] ** exponents[m, k]``: so many FLOPs over a peak and an efficiency,
so many bytes over a bandwidth, so many calls times an overhead: a posynomial, whose logarithm is convex in the logarithms of the
coefficients (Boyd, Kim, Vandenberghe & Hassibi, "A tutorial on geometric programming", 2007). Coefficients are kept by their logarithm,
so they stay positive and their uncertainty is relative. The error is the logarithm of measured over predicted, with Student's t in place
of the normal law, so that one disturbed job does not move the fit (Lange, Little & Taylor, "Robust statistical modeling using the t
distribution", 1989). The posterior is a normal law around the maximum (Laplace).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints

FREEDOM = 4.0  # of Student's t: heavy tails, yet a finite variance
ROUNDS = 80
STILL = 1e-6  # change of a log coefficient at which the search ends
LONGEST_STEP = 1.5  # of a log coefficient in one round: a factor of 4.5
LEAST_SCALE = 0.005  # residuals below half a percent are not believed
SCALE_WEIGHT = 4.0  # how many jobs the scale that is expected beforehand counts for


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """What is believed of the log coefficients beforehand: ``mean`` (K,) and ``covariance`` (K, K), positive definite."""

    mean: Floats
    covariance: Floats

    @classmethod
    def independent(cls, coefficients: Floats, spread: Floats | float) -> Prior:
        """Each coefficient (> 0) known to a factor of ``exp(spread)``, one standard deviation, apart from the others.

        Raises ValueError for a coefficient or a spread that is not positive.
        """
        if not np.all(coefficients > 0) or not np.all(np.asarray(spread) > 0):
            raise ValueError("a prior needs positive coefficients and spreads")
        wide = np.broadcast_to(np.asarray(spread, dtype=np.float64), coefficients.shape)
        return cls(np.log(coefficients), np.diag(wide**2))

    def loosened(self, spread: Floats | float) -> Prior:
        """The same, with a further relative doubt of ``spread`` in every coefficient: what was learnt elsewhere may be off here."""
        wide = np.broadcast_to(np.asarray(spread, dtype=np.float64), self.mean.shape)
        return Prior(self.mean, self.covariance + np.diag(wide**2))


@dataclass(frozen=True, slots=True, eq=False)
class Jobs:
    """Jobs as sums of products: ``amounts`` (N, M) >= 0 of M products, whose ``exponents`` (M, K) say which coefficients they take."""

    amounts: Floats
    exponents: Floats

    def __post_init__(self) -> None:
        if self.amounts.ndim != 2 or self.amounts.shape[1] != len(self.exponents):  # noqa: PLR2004  (a table)
            raise ValueError(f"amounts are {self.amounts.shape}, but there are {len(self.exponents)} products")
        if not np.all(np.isfinite(self.amounts)) or np.any(self.amounts < 0):
            raise ValueError("an amount of work is negative or not finite")
        if np.any(self.amounts.sum(axis=1) <= 0):
            raise ValueError("a job does no work at all; leave it out")

    @classmethod
    def plain(cls, amounts: Floats) -> Jobs:
        """Each product is one coefficient."""
        return cls(amounts, np.eye(amounts.shape[1]))

    def __len__(self) -> int:
        """How many jobs."""
        return len(self.amounts)

    def only(self, chosen: Bools | Ints) -> Jobs:
        """The jobs at these places (an index array or a mask)."""
        return Jobs(self.amounts[chosen], self.exponents)

    def seconds(self, log_coefficients: Floats) -> Floats:
        """Seconds (N,) of each job."""
        return np.asarray(self.amounts @ np.exp(self.exponents @ log_coefficients))

    def slopes(self, log_coefficients: Floats) -> Floats:
        """Derivative (N, K) of each job's log seconds by each log coefficient: the share of its time that it accounts for."""
        parts = self.amounts * np.exp(self.exponents @ log_coefficients)
        return np.asarray((parts / parts.sum(axis=1, keepdims=True)) @ self.exponents)


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """The log coefficients after the jobs: ``mean`` (K,), ``covariance`` (K, K).

    ``scale`` is the relative error of a job that the model itself leaves (one standard deviation, repeat noise not counted); ``weights``
    (N,) tell how far each job was believed: 1 and above for one that fits, near 0 for an outlier.
    """

    mean: Floats
    covariance: Floats
    scale: float
    weights: Floats

    def prior(self) -> Prior:
        """As what is believed before the next rung."""
        return Prior(self.mean, self.covariance)

    @property
    def coefficients(self) -> Floats:
        """Median of each coefficient."""
        return np.asarray(np.exp(self.mean))

    def predict(self, jobs: Jobs) -> Floats:
        """Median seconds (N,) of each job."""
        return jobs.seconds(self.mean)

    def spread(self, jobs: Jobs) -> Floats:
        """Standard deviation (N,) of each job's log prediction that the coefficients' uncertainty causes (first order)."""
        slopes = jobs.slopes(self.mean)
        return np.asarray(np.sqrt(np.maximum(0.0, np.einsum("nk,kl,nl->n", slopes, self.covariance, slopes))))


def fit(jobs: Jobs, seconds: Floats, prior: Prior, *, noise: Floats | float = 0.0, expected_scale: float = 0.05) -> Posterior:
    """The most probable coefficients of jobs that took ``seconds`` (N,) > 0.

    ``noise`` (N,) is the relative repeat noise of each measurement (standard deviation of its log), ``expected_scale`` the relative error
    that the model itself is expected to leave, which few jobs cannot tell. With no job at all the prior is returned.

    Raises ValueError for a time that is not positive and finite, or arrays of unlike length.
    """
    if len(jobs) != len(seconds) or jobs.exponents.shape[1] != len(prior.mean):
        sizes = f"{len(jobs)} jobs of {jobs.exponents.shape[1]} coefficients"
        raise ValueError(f"{sizes}, but {len(seconds)} times and a prior of {len(prior.mean)}")
    if not np.all(np.isfinite(seconds)) or np.any(seconds <= 0):
        raise ValueError("a measured time is not positive and finite; leave the job out")
    if not len(seconds):
        return Posterior(prior.mean, prior.covariance, expected_scale, np.zeros(0))
    logs, precision = np.log(seconds), np.asarray(np.linalg.inv(prior.covariance), dtype=np.float64)
    variance = np.broadcast_to(np.asarray(noise, dtype=np.float64) ** 2, seconds.shape)
    mean, scale = prior.mean.copy(), max(4 * expected_scale, LEAST_SCALE)
    weights = np.ones(len(seconds))
    for _ in range(ROUNDS):
        before, total = mean, scale**2 + variance
        residual = logs - np.log(jobs.seconds(mean))
        weights = (FREEDOM + 1.0) / (FREEDOM + residual**2 / total)
        mean = _step(jobs, logs, mean, prior.mean, precision, weights / total)
        spent = _spent(jobs.slopes(mean), precision, weights / total)
        scale = _scale(logs - np.log(jobs.seconds(mean)), weights, variance, expected_scale, spent)
        if np.max(np.abs(mean - before)) < STILL:
            break
    slopes = jobs.slopes(mean)
    certain = weights / (scale**2 + variance)
    covariance = np.linalg.inv(precision + slopes.T @ (certain[:, None] * slopes))
    return Posterior(mean, (covariance + covariance.T) / 2, scale, weights)


def _step(jobs: Jobs, logs: Floats, mean: Floats, middle: Floats, precision: Floats, certain: Floats) -> Floats:
    """One Gauss-Newton step of the weighted problem, damped until the objective falls (Levenberg 1944, Marquardt 1963)."""

    def objective(log_coefficients: Floats) -> float:
        residual = logs - np.log(jobs.seconds(log_coefficients))
        away = log_coefficients - middle
        return float(certain @ residual**2 + away @ precision @ away)

    slopes = jobs.slopes(mean)
    curvature = precision + slopes.T @ (certain[:, None] * slopes)
    downhill = slopes.T @ (certain * (logs - np.log(jobs.seconds(mean)))) - precision @ (mean - middle)
    now, damping = objective(mean), 0.0
    for _ in range(30):
        step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), downhill)
        trial = mean + step * min(1.0, LONGEST_STEP / max(float(np.max(np.abs(step))), 1e-300))
        if objective(trial) <= now * (1 + 1e-12):
            return np.asarray(trial)
        damping = max(4 * damping, 1e-3)
    return mean


def _spent(slopes: Floats, precision: Floats, certain: Floats) -> float:
    """How many coefficients the jobs, and not the prior, have determined (effective degrees of freedom)."""
    told = slopes.T @ (certain[:, None] * slopes)
    return float(np.trace(np.linalg.solve(precision + told, told)))


def _scale(residual: Floats, weights: Floats, variance: Floats, expected: float, spent: float) -> float:
    """The model's own relative error: what the weighted residuals leave beyond repeat noise, drawn to what was expected."""
    square = residual**2
    excess = float(weights @ (square - np.minimum(variance, square)))
    free = max(0.0, len(residual) - spent)
    return max(LEAST_SCALE, float(np.sqrt((SCALE_WEIGHT * expected**2 + excess) / (SCALE_WEIGHT + free))))

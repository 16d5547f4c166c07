"""The estimator of the scaling laws: the most probable parameters of any smooth law of a step's time, robust against single bad runs.

Parameters are unbounded (logarithms of positive coefficients), the error of a run is the logarithm of predicted over measured time, its
loss is Huber's (Huber, "Robust estimation of a location parameter", 1964), and what is believed beforehand is normal. The minimum is
found by damped Gauss-Newton steps (Levenberg 1944, Marquardt 1963) with differences for slopes; the posterior is a normal law around it
(Laplace). ``models.runtime.calibration.fit`` does the same for sums of products, which these laws are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.program import Floats

Law = Callable[["Floats"], "Floats"]  # parameters (K,) -> log of the times (R,)

ROUNDS = 80
HUBER = 3.0  # standard deviations beyond which a run counts by its distance, no longer by the square
DIFFERENCE = 1e-4  # of a parameter, for slopes
LONGEST_STEP = 2.0  # of a parameter in one round
STILL = 1e-6  # relative fall of the loss at which the search ends


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Parameters ``mean`` (K,) and their ``covariance`` (K, K); ``loss`` is what the search minimised."""

    mean: Floats
    covariance: Floats
    loss: float


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """Independent normal beliefs of the parameters beforehand: ``mean`` (K,) and ``spread`` (K,) > 0."""

    mean: Floats
    spread: Floats

    def __post_init__(self) -> None:
        if self.mean.shape != self.spread.shape or not np.all(self.spread > 0):
            raise ValueError("a belief needs a positive spread for each parameter")


def most_probable(law: Law, seconds: Floats, belief: Belief, noise: float, start: Floats | None = None) -> Estimate:
    """The parameters under which ``law`` explains ``seconds`` (R,) > 0 best, given the belief and a relative ``noise`` > 0 of a run.

    With no run the belief itself is returned. Raises ValueError for a time that is not positive and finite.
    """
    if not np.all(np.isfinite(seconds)) or np.any(seconds <= 0):
        raise ValueError("a measured time is not positive and finite; leave the run out")
    logs = np.log(seconds)
    at = belief.mean.copy() if start is None else start.copy()
    error = (law(at) - logs) / noise
    loss = _loss(error, at, belief)
    damping = 1e-2
    for _ in range(ROUNDS):
        curvature, slope = _quadratic(law, error, at, belief, noise)
        scale = np.diag(np.diag(curvature))
        before = loss
        for _ in range(12):
            trial = at + np.clip(-np.linalg.solve(curvature + damping * scale, slope), -LONGEST_STEP, LONGEST_STEP)
            trial_error = (law(trial) - logs) / noise
            trial_loss = _loss(trial_error, trial, belief)
            if trial_loss < loss:
                at, error, loss, damping = trial, trial_error, trial_loss, max(damping / 3.0, 1e-9)
                break
            damping *= 4.0
        if before - loss <= STILL * loss:
            break
    curvature, _ = _quadratic(law, error, at, belief, noise)
    covariance = np.linalg.inv(curvature)
    return Estimate(at, (covariance + covariance.T) / 2, loss)


def slopes(law: Law, at: Floats) -> Floats:
    """Derivative (R, K) of each log time by each parameter, by differences."""
    here = law(at)
    columns = []
    for place in range(len(at)):
        moved = at.copy()
        moved[place] += DIFFERENCE
        columns.append((law(moved) - here) / DIFFERENCE)
    return np.asarray(np.stack(columns, axis=1))


def _quadratic(law: Law, error: Floats, at: Floats, belief: Belief, noise: float) -> tuple[Floats, Floats]:
    """Half the curvature (K, K) and half the slope (K,) of the loss, with Huber's weights."""
    weight = np.minimum(1.0, HUBER / np.maximum(np.abs(error), 1e-12))
    jacobian = slopes(law, at) / noise
    certain = 1.0 / belief.spread**2
    curvature = jacobian.T @ (weight[:, None] * jacobian) + np.diag(certain)
    return curvature, jacobian.T @ (weight * error) + certain * (at - belief.mean)


def _loss(error: Floats, at: Floats, belief: Belief) -> float:
    """Huber's loss of the runs and the square of the distance from the belief; infinite where the law has no value."""
    size = np.abs(error)
    runs = np.where(size > HUBER, 2.0 * HUBER * size - HUBER**2, size**2).sum()
    loss = float(runs + (((at - belief.mean) / belief.spread) ** 2).sum())
    return loss if np.isfinite(loss) else np.inf

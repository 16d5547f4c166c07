"""Two short laws for what is published of large runs: time to train on N accelerators, and samples/s when each brings its own batch.

- Strong scaling, the work fixed: ``T(N) = work / N + serial + hop * log2(N)`` (Amdahl, "Validity of the single processor approach to
  achieving large scale computing capabilities", 1967, with the latency of a tree of exchanges). Time to a quality target is not work alone:
  a larger global batch may need more samples, which ``serial`` and ``hop`` only take up in part.
- Weak scaling, the batch per GPU fixed: ``samples/s(N) = N * rate / (1 + ring * 2 (N - 1) / N)``: a ring's bandwidth term beside computing.

All coefficients are positive and fitted by ``models.runtime.scaling.estimator`` with the beliefs below: one or two sizes are enough for a
number, not for certainty. How far a law is off beyond the sizes it was fitted to, its own runs cannot show: other cases, whose larger sizes
were measured, do (``scores``, ``Curve.widened``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.runtime.evaluation.conformal import group_quantile_or_widest
from models.runtime.scaling.estimator import Belief, Estimate, Law, most_probable, slopes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Bools, Floats

LEVEL = 0.8  # p10 to p90
NORMAL_80 = 1.28155
UNTESTED = 2.0  # by how much intervals are widened where no other case tells
NOISE = {"strong": 0.06, "weak": 0.03}  # of one size: run to run in MLPerf Training, machine to machine in Lambda's tables
SHARES = (0.03, 0.01)  # of the time at the largest size measured: serial, and each doubling
RING = 0.05  # of computing
_SPREAD = 1.5  # of the logarithms of the shares and of the ring


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """10th, 50th and 90th percentile (R,), in the unit that was fitted; ``extrapolated``: beyond the sizes measured."""

    p10: Floats
    p50: Floats
    p90: Floats
    extrapolated: Bools


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A fitted law over the number of accelerators; ``weak``: samples/s that grow, else a time that falls.

    ``widening``: how much wider p10 to p90 is than the fit itself thinks; it grows by the root of one and the doublings beyond ``most``.
    """

    weak: bool
    estimate: Estimate
    least: float
    most: float
    widening: float = UNTESTED

    def predict(self, accelerators: Floats) -> Predicted:
        """The value on so many accelerators (R,) >= 1; raises ValueError for fewer."""
        _require_sizes(accelerators)
        middle, spread = self._log_values(accelerators)
        margin = NORMAL_80 * self.widening * spread
        outside = (accelerators < self.least) | (accelerators > self.most)
        return Predicted(np.exp(middle - margin), np.exp(middle), np.exp(middle + margin), np.asarray(outside))

    def scores(self, accelerators: Floats, values: Floats) -> Floats:
        """How many of its own standard deviations the law is off on measured values (R,) it was not fitted to; raises as fitting does."""
        _require(accelerators, values)
        middle, spread = self._log_values(accelerators)
        return np.asarray(np.abs(np.log(values) - middle) / spread)

    def widened(self, others: Sequence[Floats]) -> Curve:
        """The curve with intervals as wide as the scores of other cases ask for.

        ``others``: an array of ``scores`` for each group of cases that resemble each other (one task, one benchmark); none is of the
        group of this curve. With fewer than 4 groups the worst of them counts, and ``UNTESTED`` at least.
        """
        quantile = group_quantile_or_widest(others, LEVEL, UNTESTED * NORMAL_80)
        return replace(self, widening=max(1.0, quantile / NORMAL_80))

    def _log_values(self, accelerators: Floats) -> tuple[Floats, Floats]:
        """Median and standard deviation (R,) of the logarithm, before any widening."""
        law = _weak(accelerators) if self.weak else _strong(accelerators)
        slope = slopes(law, self.estimate.mean)
        noise = NOISE["weak" if self.weak else "strong"]
        own = np.sqrt(np.einsum("rk,kl,rl->r", slope, self.estimate.covariance, slope) + noise**2)
        return law(self.estimate.mean), own * np.sqrt(1.0 + np.log2(np.maximum(1.0, accelerators / self.most)))


def time_to_train(accelerators: Floats, minutes: Floats) -> Curve:
    """The strong-scaling law of runs (R,) on so many accelerators; any unit of time will do.

    Raises ValueError for no run, fewer than one accelerator, or a time that is not positive.
    """
    _require(accelerators, minutes)
    most = float(accelerators.max())
    least_time = float(minutes[accelerators == most].min())
    work = least_time * most
    belief = Belief(
        np.log(np.array([work, SHARES[0] * least_time, SHARES[1] * least_time])),
        np.array([2.0, _SPREAD, _SPREAD]),
    )
    return Curve(weak=False, estimate=most_probable(_strong(accelerators), minutes, belief, NOISE["strong"]), **_range(accelerators))


def weak_scaling(accelerators: Floats, per_s: Floats) -> Curve:
    """The weak-scaling law of samples/s (R,) on so many accelerators with the same batch each; raises as ``time_to_train`` does."""
    _require(accelerators, per_s)
    rate = float(np.median(per_s / accelerators))
    belief = Belief(np.log(np.array([rate, RING])), np.array([2.0, _SPREAD]))
    return Curve(weak=True, estimate=most_probable(_weak(accelerators), per_s, belief, NOISE["weak"]), **_range(accelerators))


def in_proportion(accelerators: Floats, values: Floats, asked: Floats, *, weak: bool) -> Floats:
    """The simple form (R,): time as 1/N, samples/s as N, from the largest size measured."""
    _require(accelerators, values)
    most = accelerators.max()
    value = float(np.median(values[accelerators == most]))
    return np.asarray(value * asked / most if weak else value * most / asked)


def _strong(accelerators: Floats) -> Law:
    def log_time(parameters: Floats) -> Floats:
        work, serial, hop = np.exp(parameters)
        return np.asarray(np.log(work / accelerators + serial + hop * np.log2(accelerators)))

    return log_time


def _weak(accelerators: Floats) -> Law:
    def log_rate(parameters: Floats) -> Floats:
        rate, ring = np.exp(parameters)
        return np.asarray(np.log(accelerators * rate) - np.log1p(ring * 2.0 * (accelerators - 1.0) / accelerators))

    return log_rate


def _range(accelerators: Floats) -> dict[str, float]:
    return {"least": float(accelerators.min()), "most": float(accelerators.max())}


def _require(accelerators: Floats, values: Floats) -> None:
    if accelerators.shape != values.shape or not len(values):
        raise ValueError("a law over the number of accelerators needs at least one run, each with its size and its value")
    _require_sizes(accelerators)
    if not np.all(np.isfinite(values)) or np.any(values <= 0):
        raise ValueError("a measured value is not positive and finite; leave the run out")


def _require_sizes(accelerators: Floats) -> None:
    if not np.all(np.isfinite(accelerators)) or np.any(accelerators < 1):
        raise ValueError("a run needs at least one accelerator")

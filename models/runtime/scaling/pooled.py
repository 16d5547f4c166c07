"""Step times of data-parallel training on more GPUs than were measured: one law per job and cluster, fitted together.

Each (job, cluster) has parameters of its own (``models.runtime.scaling.law``). What few GPUs cannot tell, how latency grows beyond them, is
drawn to what the other jobs on the same cluster and the same job on other clusters show: empirical Bayes with a job effect and a cluster
effect (Gelman et al., "Bayesian data analysis", 2013, chapter 5). The computing law is a group's own. Which form of the law holds is asked
of the fitted runs only: fit without the most GPUs, predict those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.runtime.evaluation.conformal import enough, group_quantile, group_quantile_or_widest, stands_out
from models.runtime.scaling.estimator import Belief, Estimate, most_probable, slopes
from models.runtime.scaling.law import COMPUTING, FORMS, PARAMETERS, Form, Runs, Shapes

if TYPE_CHECKING:
    from models.program import Bools, Floats

Key = tuple[str, str]  # job, cluster

NOISE = 0.05  # of one run: what a repeat differs by
POOLING_ROUNDS = 2
LEAST_SPREAD = 0.3  # however well other groups agree, a parameter may differ by a third here
LEVEL = 0.8  # p10 to p90
NORMAL_80 = 1.28155
UNTESTED = 2.0  # by how much intervals are widened at least where too few groups can test them

_SPREAD = np.array([3.0, 3.0, 0.7, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0])  # of the log parameters, before anything else is known


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Seconds of a step, arrays (R,): the 10th, 50th and 90th percentile.

    ``extrapolated``: outside the batches, GPUs or kinds of topology (one node, two, more) that were measured.
    """

    p10_s: Floats
    p50_s: Floats
    p90_s: Floats
    extrapolated: Bools


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """The fitted law of one job on one cluster: the form, its log parameters, and how much wider intervals are than their own model.

    ``widening`` is that of the cluster; ``tested``: enough jobs and clusters have told it.
    """

    form: Form
    estimate: Estimate
    measured: Runs
    widening: float
    tested: bool

    @property
    def coefficients(self) -> dict[str, float]:
        """The parameters by name; seconds where the name says so."""
        return {name: float(np.exp(value)) for name, value in zip(PARAMETERS, self.estimate.mean, strict=True)}

    def predict(self, batch: Floats, gpus: Floats, nodes: Floats) -> Prediction:
        """Seconds of a step with ``batch`` samples per GPU on so many GPUs and nodes (R,).

        Raises ValueError as ``Runs`` does.
        """
        asked = Runs(batch, gpus, nodes, np.ones(len(batch)))
        middle, spread = _log_prediction(self.form, self.estimate, asked)
        away = np.log2(np.maximum(1.0, asked.gpus / self.measured.gpus.max()))  # doublings beyond what was measured
        margin = NORMAL_80 * spread * self.widening * np.sqrt(1.0 + away)
        return Prediction(np.exp(middle - margin), np.exp(middle), np.exp(middle + margin), self._outside(asked))

    def _outside(self, asked: Runs) -> Bools:
        """Which runs lie outside what was measured."""
        known = self.measured
        inside = (asked.batch >= known.batch.min()) & (asked.batch <= known.batch.max()) & (asked.gpus <= known.gpus.max())
        levels = np.unique(np.minimum(known.nodes[known.gpus > 1], 3))
        return np.asarray(~(inside & ((asked.gpus == 1) | np.isin(np.minimum(asked.nodes, 3), levels))))


def fit(groups: Mapping[Key, Runs], form: Form | None = None) -> dict[Key, Scaling]:
    """The law of every (job, cluster), fitted together; without ``form`` the one that ``choose_form`` finds.

    Groups may be one alone; there is then nothing to pool. Raises ValueError for no group or a group without runs.
    """
    form = form or choose_form(groups)[0]
    estimates = _pooled(groups, form)
    smaller, larger = _halves(groups)
    scores: dict[Key, Floats] = {}
    if larger:
        inner = _pooled(smaller, form)
        for key, runs in larger.items():
            middle, spread = _log_prediction(form, inner[key], runs)
            scores[key] = np.abs(np.log(runs.step_s) - middle) / spread
    found = {cluster: _widening(scores, cluster) for cluster in {cluster for _, cluster in groups}}
    return {key: Scaling(form, estimates[key], runs, *found[key[1]]) for key, runs in groups.items()}


def _widening(scores: Mapping[Key, Floats], cluster: str) -> tuple[float, bool]:
    """By how much intervals on a cluster are widened, and whether enough groups have tested that.

    Each (job, cluster) is one group of scores, however many runs it has: what the law leaves is much the same for all runs of a group. A
    cluster whose groups stand out is judged by its own too (conformal by category: Vovk et al., 2005, section 4.5): a noisy cluster is not
    judged by the quiet ones.
    """
    every = list(scores.values())
    own = [found for (_, place), found in scores.items() if place == cluster]
    others = [found for (_, place), found in scores.items() if place != cluster]
    quantile = group_quantile_or_widest(every, LEVEL, UNTESTED * NORMAL_80)
    if enough(len(own), LEVEL) and stands_out(own, others, LEVEL):
        quantile = max(quantile, group_quantile(own, LEVEL))
    return max(1.0, quantile / NORMAL_80), enough(len(every), LEVEL)


def choose_form(groups: Mapping[Key, Runs], forms: tuple[Form, ...] = FORMS) -> tuple[Form, dict[Form, float]]:
    """The form that predicts the runs on the most GPUs best when it is fitted on the others, and each form's mean error there.

    The error is the mean of |predicted / measured - 1|. Where all runs have the same number of GPUs nothing can be asked: the default form.
    """
    smaller, larger = _halves(groups)
    if not larger:
        return Form(), {}
    errors = {}
    for form in forms:
        inner = _pooled(smaller, form)
        off = [np.abs(np.exp(_log_prediction(form, inner[key], runs)[0]) / runs.step_s - 1.0) for key, runs in larger.items()]
        errors[form] = float(np.concatenate(off).mean())
    return min(errors, key=lambda form: errors[form]), errors


def _halves(groups: Mapping[Key, Runs]) -> tuple[dict[Key, Runs], dict[Key, Runs]]:
    """Runs below the most GPUs of all groups, and those at it, of the groups that have some below."""
    _require(groups)
    most = max(float(runs.gpus.max()) for runs in groups.values())
    smaller = {key: runs.only(runs.gpus < most) for key, runs in groups.items() if np.any(runs.gpus < most)}
    larger = {key: groups[key].only(groups[key].gpus == most) for key in smaller if np.any(groups[key].gpus == most)}
    return smaller, larger


def _require(groups: Mapping[Key, Runs]) -> None:
    if not groups:
        raise ValueError("there is nothing to fit: give the runs of one job on one cluster at least")
    for (job, cluster), runs in groups.items():
        if not len(runs):
            raise ValueError(f"{job} on {cluster} has no runs; leave the group out")


def _log_prediction(form: Form, estimate: Estimate, runs: Runs) -> tuple[Floats, Floats]:
    """Median and standard deviation (R,) of the log seconds."""
    shapes = Shapes.of(runs.batch, runs.gpus, runs.nodes, form)
    slope = slopes(shapes.log_seconds, estimate.mean)
    variance = np.einsum("rk,kl,rl->r", slope, estimate.covariance, slope)
    return shapes.log_seconds(estimate.mean), np.sqrt(np.maximum(variance, 0.0) + NOISE**2)


def _pooled(groups: Mapping[Key, Runs], form: Form) -> dict[Key, Estimate]:
    """The estimates of all groups, each drawn to the job's and the cluster's others."""
    _require(groups)
    shapes = {key: Shapes.of(runs.batch, runs.gpus, runs.nodes, form) for key, runs in groups.items()}
    vague = {key: _vague(runs) for key, runs in groups.items()}
    beliefs = dict(vague)
    estimates: dict[Key, Estimate] = {}
    for _ in range(POOLING_ROUNDS + 1):
        starts = {key: one.mean for key, one in estimates.items()}
        estimates = {
            key: most_probable(shapes[key].log_seconds, runs.step_s, beliefs[key], NOISE, starts.get(key)) for key, runs in groups.items()
        }
        away = {key: estimates[key].mean - vague[key].mean for key in groups}
        beliefs = {key: _learnt(key, vague[key], away) for key in groups}
    return estimates


def _vague(runs: Runs) -> Belief:
    """What is believed of a group alone: computing takes about what the runs took, exchanging some per cent of it."""
    typical = float(np.median(runs.step_s))
    sizes = [
        float(runs.step_s.min()),
        0.5 * typical / float(np.median(runs.batch)),
        2.0,
        0.03,
        0.05 * typical,
        0.005 * typical,
        0.1 * typical,
        0.1 * typical,
        0.005 * typical,
        0.6,
    ]
    return Belief(np.log(np.array(sizes)), _SPREAD)


def _learnt(key: Key, vague: Belief, away: Mapping[Key, Floats]) -> Belief:
    """The belief of a group from how far other groups came to lie from theirs: the mean of the job's effect and the cluster's effect."""
    job, cluster = key
    families = (
        [value for (other, place), value in away.items() if place == cluster and other != job],
        [value for (other, place), value in away.items() if other == job and place != cluster],
    )
    found = [np.array(family) for family in families if len(family) > 1]
    if not found:
        return vague
    mean = vague.mean + np.mean([np.median(family, axis=0) for family in found], axis=0)
    spread = np.sqrt(np.mean([family.var(axis=0) for family in found], axis=0))
    spread = np.minimum(np.maximum(spread, LEAST_SPREAD), vague.spread)
    mean[COMPUTING], spread[COMPUTING] = vague.mean[COMPUTING], vague.spread[COMPUTING]
    return Belief(mean, spread)

"""What the scaling law is compared with: Pollux's own form, a logarithmic ridge regression, and no communication at all.

Pollux (Qiao et al., "Pollux: co-adaptive cluster scheduling for goodput-optimized deep learning", OSDI 2021, section 3.2) has seven
parameters: ``T_grad = a_c + b_c m``; ``T_sync = 0`` on one GPU, ``a_l + b_l max(n - 2, 0)`` on one node,
``a_n + b_n max(n - 2, 0)`` on more; ``T = (T_grad^g + T_sync^g)^(1/g)`` with g in [1, 10]. Its latency grows in proportion to the number
of GPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from models.runtime.scaling.estimator import Belief, most_probable

if TYPE_CHECKING:
    from models.program import Floats
    from models.runtime.scaling.law import Runs

Predictor = Callable[["Runs"], "Floats"]  # the runs whose times are asked (their step_s is not looked at) -> seconds (R,)

NOISE = 0.05
MOST_OVERLAP = 10.0
_UNBOUNDED = 30.0  # spread of a log parameter of which nothing is believed: plain robust least squares with positive parameters
RIDGE = 1e-2


def pollux(runs: Runs) -> Predictor:
    """Pollux's form fitted to ``runs`` by the same robust estimator; several starts for the overlap, the best is kept."""
    typical = float(np.median(runs.step_s))
    sizes = np.array([0.5, 0.5 / float(np.median(runs.batch)), 0.1, 0.02, 0.1, 0.02]) * typical
    spread = np.append(np.full(6, _UNBOUNDED), 5.0)
    starts = [Belief(np.append(np.log(sizes), overlap), spread) for overlap in (-2.0, 0.0, 2.0)]
    found = [most_probable(lambda at: pollux_log_seconds(at, runs), runs.step_s, start, NOISE) for start in starts]
    mean = min(found, key=lambda one: one.loss).mean
    return lambda asked: np.asarray(np.exp(pollux_log_seconds(mean, asked)))


def pollux_log_seconds(parameters: Floats, runs: Runs) -> Floats:
    """Log seconds (R,): the logarithms of a_c, b_c, a_l, b_l, a_n, b_n and the logit of (g - 1) / 9."""
    fixed, sample, local, local_more, wide, wide_more = np.exp(parameters[:6])
    power = 1.0 + (MOST_OVERLAP - 1.0) / (1.0 + np.exp(-parameters[6]))
    computing = fixed + sample * runs.batch
    more = np.maximum(runs.gpus - 2.0, 0.0)
    exchange = np.where(runs.gpus == 1, 0.0, np.where(runs.nodes == 1, local + local_more * more, wide + wide_more * more))
    longest = np.maximum(computing, exchange)
    ratio = np.minimum(computing, exchange) / longest
    return np.asarray(np.log(longest) + np.log1p(ratio**power) / power)


def log_ridge(runs: Runs) -> Predictor:
    """Log seconds linear in 1, log batch and its square, log2 GPUs, log2 nodes, several nodes or not, log batch times log2 GPUs."""

    def features(asked: Runs) -> Floats:
        batch, gpus, nodes = np.log(asked.batch), np.log2(asked.gpus), np.log2(asked.nodes)
        return np.stack([np.ones(len(asked)), batch, batch**2, gpus, nodes, (asked.nodes > 1).astype(np.float64), batch * gpus], axis=1)

    table = features(runs)
    centre, scale = table.mean(axis=0), table.std(axis=0)
    centre[0], scale = 0.0, np.where(scale > 0, scale, 1.0)
    design = (table - centre) / scale
    penalty = RIDGE * len(runs) * np.eye(design.shape[1])
    penalty[0, 0] = 0.0
    weights = np.linalg.solve(design.T @ design + penalty, design.T @ np.log(runs.step_s))
    return lambda asked: np.asarray(np.exp((features(asked) - centre) / scale @ weights))


def no_communication(runs: Runs) -> Predictor:
    """The simple form FLOPs / (C N): a step takes as long as the job's samples do on one GPU, whatever the number of GPUs.

    ``a + b m`` from the runs on the fewest GPUs, by least squares of relative errors, both not negative.
    """
    few = runs.only(runs.gpus == runs.gpus.min())
    design = np.stack([1.0 / few.step_s, few.batch / few.step_s], axis=1)
    candidates = [np.linalg.lstsq(design, np.ones(len(few)), rcond=None)[0]]
    for column in range(2):  # a constant alone, a proportion alone: the borders of the positive quadrant
        alone = np.zeros(2)
        alone[column] = design[:, column].sum() / (design[:, column] ** 2).sum()
        candidates.append(alone)
    allowed = [one for one in candidates if np.all(one >= 0)]
    best = min(allowed, key=lambda one: float(((design @ one - 1.0) ** 2).sum()))
    return lambda asked: np.asarray(best[0] + best[1] * asked.batch)

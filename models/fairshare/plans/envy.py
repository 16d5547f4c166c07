"""Who would rather have another's GPUs: exact, in the sense of weighted envy-freeness.

Job j envies job k when the GPU time that one k holds, scaled by the ratio of their weights, would make j faster than it is: alone,
consolidated where it can be, for as much of the time as the GPUs last, the fastest first (H. Varian, "Equity, envy, and efficiency",
1974; for GPU time S. Chaudhary et al., "Gandiva_fair", 2020). The best use of a bundle b is a linear program with one limit on time, so by
its dual it is the least over theta of ``theta + sum_a max(s_a - theta, 0) b_a / gpus``, with theta one of 0 and the speeds s_a. A job that
would be faster with its own GPU time, used alone and not in company, counts as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.fairshare.plans.division import Division
    from models.program import Bools, Floats

GAIN = 1.0 + 1e-6  # envy needs a gain beyond rounding
FIRST = 64  # bundles that are looked at first
EACH = 4  # bundles with most of each accelerator
CELLS = 2_000_000  # numbers in a block of jobs times bundles


def envious_jobs(division: Division) -> Bools:
    """Whether each job envies another, shape (jobs,). What is compared is speed as usual."""
    market, jobs = division.market, division.market.jobs
    bundles = _undominated(division.gpu_time / jobs.weight[:, None])
    speeds = market.workloads.usual[jobs.workload]
    held = division.speed
    gpus = market.workloads.gpus[jobs.workload]
    found = np.zeros(jobs.count, dtype=np.bool_)
    for others in (bundles[:FIRST], bundles):  # most of those that envy anybody envy one of the largest bundles
        left = np.flatnonzero(~found)
        rows = max(1, CELLS // max(len(others), 1))
        for start in range(0, len(left), rows):
            part = left[start : start + rows]
            found[part] = _gains(speeds[part], jobs.weight[part] / gpus[part], held[part] * GAIN, others)
    return found


def _gains(speeds: Floats, scale: Floats, held: Floats, bundles: Floats) -> Bools:
    """Whether some bundle times ``scale`` (jobs,) makes a job of ``speeds`` (jobs, accelerators) faster than ``held`` (jobs,)."""
    better = np.ones((len(speeds), len(bundles)), dtype=np.bool_)
    thetas = np.concatenate((np.zeros((len(speeds), 1)), speeds), axis=1)
    for theta in thetas.T:
        above = np.maximum(speeds - theta[:, None], 0.0) * scale[:, None]
        np.logical_and(better, above @ bundles.T > (held - theta)[:, None], out=better)
    envious: Bools = np.logical_or.reduce(better, axis=1)
    return envious


def _undominated(bundles: Floats) -> Floats:
    """Different bundles; of many, those that no single other one covers in all accelerators are enough: more GPUs never hurt."""
    kept = np.unique(np.round(bundles, 12), axis=0)
    for place in range(kept.shape[1]):  # those with most of one accelerator cover most of those that have that one only
        kept = _uncovered(kept[np.lexsort((-kept.sum(axis=1), -kept[:, place]))], EACH)
    return _uncovered(kept[np.argsort(-kept.sum(axis=1), kind="stable")], FIRST)


def _uncovered(kept: Floats, first: int) -> Floats:
    """The bundles that none of the ``first`` ones covers, and these."""
    for place in range(first):  # the largest bundles cover most of those that are covered at all
        if place >= len(kept):
            break
        covered = (kept <= kept[place]).all(axis=1)
        covered[: place + 1] = False
        kept = kept[~covered]
    return kept

"""How long one step of data-parallel training takes: the law, its parameters and its runs. ``models.runtime.scaling.pooled`` fits it.

With m samples per GPU, n GPUs on N nodes, all parameters positive (kept by their logarithm):

- computing: ``c = (overhead^p + (per_sample * m)^p)^(1/p)``, p = 1 + sharpness: launch-bound below, in proportion to the batch above;
- waiting: all GPUs wait for the slowest, whose mean delay grows like the largest of n normal draws, e(n): ``wait * e(n) * c``;
- exchanging gradients: the ring's bandwidth term ``2 (n - 1) / n * ring`` (Patarasuk & Yuan, "Bandwidth optimal all-reduce algorithms for
  clusters of workstations", 2009) and a latency term ``hop * h(n)``, h = log2(n) for a tree or n - 1 for a ring, with coefficients of
  their own for one node, two nodes (``pair``: both directions of the ring meet on one link) and more (``wide``);
- overlap of computing and exchanging: ``(c^g + s^g)^(1/g)``, g = 1 + overlap (Qiao et al., "Pollux: co-adaptive cluster scheduling for
  goodput-optimized deep learning", 2021): g = 1 is none, a large g hides the shorter one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from models.program import Bools, Floats

PARAMETERS = (
    "overhead_s",
    "per_sample_s",
    "sharpness",
    "wait",
    "local_ring_s",
    "local_hop_s",
    "pair_ring_s",
    "wide_ring_s",
    "wide_hop_s",
    "overlap",
)
COMPUTING = slice(0, 2)  # a job's own, never pooled with other jobs


class Waiting(StrEnum):
    """Law of the wait for the slowest GPU: none, the largest of n normal or of n uniform draws."""

    NONE = "none"
    NORMAL = "normal"
    UNIFORM = "uniform"


class Hops(StrEnum):
    """How the latency of an exchange grows: with log2(n) (tree) or with n - 1 (ring)."""

    TREE = "tree"
    RING = "ring"


class Form(NamedTuple):
    """Which of the law's forms is meant."""

    waiting: Waiting = Waiting.NORMAL
    hops: Hops = Hops.TREE


FORMS = tuple(Form(waiting, hops) for waiting in Waiting for hops in Hops)


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Measured runs of one job on one cluster, as parallel arrays (R,).

    ``batch``: samples per GPU and step; ``gpus`` and ``nodes``: whole numbers >= 1, nodes <= gpus; ``step_s``: seconds of a step, > 0.
    Raises ValueError that names the first run that breaks this.
    """

    batch: Floats
    gpus: Floats
    nodes: Floats
    step_s: Floats

    def __post_init__(self) -> None:
        shapes = {name: np.shape(getattr(self, name)) for name in ("batch", "gpus", "nodes", "step_s")}
        if len(set(shapes.values())) != 1 or len(self.batch.shape) != 1:
            raise ValueError(f"the columns of runs must be arrays of one length, not {shapes}")
        whole = (self.gpus == np.floor(self.gpus)) & (self.nodes == np.floor(self.nodes))
        columns = (self.batch > 0, whole, self.nodes >= 1, self.gpus >= self.nodes, self.step_s > 0)
        wrong = np.flatnonzero(~np.logical_and.reduce([*columns, np.isfinite(self.batch + self.gpus + self.nodes + self.step_s)]))
        if len(wrong):
            at = int(wrong[0])
            found = f"batch {self.batch[at]:g}, gpus {self.gpus[at]:g}, nodes {self.nodes[at]:g}, step {self.step_s[at]:g} s"
            raise ValueError(f"run {at}: {found}; batch and step must be positive, 1 <= nodes <= gpus whole: correct it or leave it out")

    def __len__(self) -> int:
        """How many."""
        return len(self.batch)

    def only(self, chosen: Bools) -> Runs:
        """The runs of a mask (R,)."""
        return Runs(self.batch[chosen], self.gpus[chosen], self.nodes[chosen], self.step_s[chosen])


@lru_cache(maxsize=4096)
def largest_normal(count: int) -> float:
    """Mean of the largest of ``count`` >= 1 standard normal draws: 0, 0.56, 0.85, 1.03, ... (Blom's formula is within 1% of it)."""
    points = np.linspace(-9.0, 9.0, 3601)
    below = np.array([0.5 * (1.0 + math.erf(point / math.sqrt(2.0))) for point in points])
    density = np.exp(-(points**2) / 2.0) / math.sqrt(2.0 * math.pi)
    return float(np.trapezoid(points * count * density * below ** (count - 1), points))


def delays(gpus: Floats, waiting: Waiting) -> Floats:
    """The growth e(n) of the wait (R,); uniform draws are scaled to a standard deviation of 1, as normal ones have."""
    if waiting is Waiting.NONE:
        return np.zeros(len(gpus))
    if waiting is Waiting.UNIFORM:
        return np.asarray(math.sqrt(3.0) * (gpus - 1.0) / (gpus + 1.0))
    sizes, place = np.unique(gpus, return_inverse=True)
    return np.array([largest_normal(int(size)) for size in sizes])[place]


@dataclass(frozen=True, slots=True, eq=False)
class Shapes:
    """What the law needs of the runs whatever the parameters are: arrays (R,)."""

    batch: Floats
    delay: Floats
    ring: Floats
    hops: Floats
    alone: Bools
    local: Bools
    pair: Bools

    @classmethod
    def of(cls, batch: Floats, gpus: Floats, nodes: Floats, form: Form) -> Shapes:
        """The shapes of runs with so many samples per GPU on so many GPUs and nodes."""
        hops = np.log2(gpus) if form.hops is Hops.TREE else gpus - 1.0
        return cls(batch, delays(gpus, form.waiting), 2.0 * (gpus - 1.0) / gpus, hops, gpus == 1, nodes == 1, nodes == 2)  # noqa: PLR2004

    def log_seconds(self, parameters: Floats) -> Floats:
        """Log of the seconds (R,) of a step under ``parameters``, the logarithms of PARAMETERS in their order."""
        overhead, sample, sharp, wait, ring1, hop1, ring2, ring3, hop3, overlap = np.exp(parameters)
        computing = _joined(np.full(len(self.batch), overhead), sample * self.batch, 1.0 + sharp)
        ring = np.where(self.local, ring1, np.where(self.pair, ring2, ring3))
        exchange = np.where(self.alone, 0.0, ring * self.ring + np.where(self.local, hop1, hop3) * self.hops)
        return np.asarray(np.log(_joined(computing, exchange, 1.0 + overlap) + wait * self.delay * computing))


def _joined(first: Floats, second: Floats, power: float) -> Floats:
    """``(first^power + second^power)^(1/power)`` without overflow; ``first`` is positive."""
    longest = np.maximum(first, second)
    ratio = np.minimum(first, second) / longest
    return np.asarray(longest * (1.0 + ratio**power) ** (1.0 / power))

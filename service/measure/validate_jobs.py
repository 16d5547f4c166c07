"""Draws the jobs that are run: neighbours of the calibration grid that are not in it, in a mix fixed by the seed.

Families come in rounds, each round in its own order, so that every batch is mixed. A job is an entry of the grid with other sizes: its
batch times 3/4, 1 or 3/2, the width or image times 3/4, 1 or 5/4, the length likewise, one layer less or more. The seconds of its steps are
drawn evenly on a logarithmic scale, and the steps are as many as the frozen model thinks fill them. No draw depends on a measurement of
the jobs drawn, and none is drawn again because of its result.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.runtime.job import CNN_DEPTHS, Family, JobSpec
from service.measure.grid import named
from service.measure.store import job_key

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_S, MOST_S = 0.25, 4.0  # of a job's steps, without start-up
FEWEST_STEPS = 2
BATCH, SIZE = (0.75, 1.0, 1.5), (0.75, 1.0, 1.25)
GRAIN = {"width": 16, "image_px": 16, "seq": 4}
ATTEMPTS = 1_000
SCALED = {
    Family.mlp: ("width",),
    Family.cnn: ("image_px",),  # channels stay multiples of what convolutions are blocked by
    Family.encoder: ("width", "seq"),
    Family.decoder: ("width", "seq"),
    Family.recommender: ("width",),
    Family.lstm: ("width", "seq"),
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A job without its number of steps, and the seconds that its steps shall fill."""

    job: JobSpec
    seconds: float

    def with_steps(self, step_s: float, name: str) -> JobSpec:
        """The job with as many steps of ``step_s`` as fill its seconds, and its name."""
        steps = max(FEWEST_STEPS, round(self.seconds / step_s))
        return self.job.model_copy(update={"id": name, "steps": steps})


def drawn(
    grid: Sequence[JobSpec], count: int, seed: Sequence[int], *, least_s: float = LEAST_S, most_s: float = MOST_S
) -> tuple[Drawn, ...]:
    """``count`` jobs near those of ``grid``, none of which is in it. Raises ValueError for an empty grid."""
    if not grid:
        raise ValueError("there is no grid to draw jobs from")
    rng = np.random.default_rng(list(seed))
    families: dict[Family, list[JobSpec]] = defaultdict(list)
    for job in grid:
        families[job.family].append(job)
    known = {_key(job) for job in grid}
    made: list[Drawn] = []
    while len(made) < count:
        for place in rng.permutation(len(families))[: count - len(made)]:
            job = _neighbour(families[list(families)[int(place)]], known, rng)
            made.append(Drawn(job, math.exp(rng.uniform(math.log(least_s), math.log(most_s)))))
    return tuple(made)


def _neighbour(family: list[JobSpec], known: set[str], rng: np.random.Generator) -> JobSpec:
    for _ in range(ATTEMPTS):
        job = _changed(family[int(rng.integers(len(family)))], rng)
        if _key(job) not in known:
            return job
    raise ValueError(f"the grid leaves no job of the family {family[0].family.value} that is not in it")


def _changed(job: JobSpec, rng: np.random.Generator) -> JobSpec:
    fields: dict[str, Any] = job.model_dump(mode="json", exclude_unset=True, exclude={"id", "steps"})
    fields["batch"] = max(1, round(job.batch * rng.choice(BATCH)))
    for name in SCALED[job.family]:
        grain = GRAIN[name] * (job.heads if name == "width" and job.heads > 1 else 1)
        if name == "width" and job.heads > 1:
            grain = math.lcm(8, job.heads)
        fields[name] = max(grain, grain * round(getattr(job, name) * rng.choice(SIZE) / grain))
    if job.family is not Family.cnn and job.family is not Family.recommender and job.layers not in CNN_DEPTHS:
        fields["layers"] = max(1, job.layers + int(rng.integers(-1, 2)))
    return named(fields)


def _key(job: JobSpec) -> str:
    return job_key(job.model_copy(update={"steps": 1}).model_dump(mode="json"))

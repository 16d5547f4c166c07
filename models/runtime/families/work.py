"""The work of one job in closed form: ``work(job)`` for every family but ``traced``."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from models.runtime.families.convolution import cnn
from models.runtime.families.dense import lstm, mlp, recommender
from models.runtime.families.transformer import decoder, encoder
from models.runtime.job import Family, JobSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.runtime.operators import Work

CLOSED_FORMS: dict[Family, Callable[[JobSpec], Work]] = {
    Family.mlp: mlp,
    Family.cnn: cnn,
    Family.encoder: encoder,
    Family.decoder: decoder,
    Family.recommender: recommender,
    Family.lstm: lstm,
}
MOST_KEPT = 4096


@lru_cache(maxsize=MOST_KEPT)
def work(job: JobSpec) -> Work:
    """What one micro-batch and one update of the whole network take, before any sharding.

    Raises ValueError for a traced job, whose work is counted by ``models.runtime.trace`` from its module.
    """
    if job.family is Family.traced:
        raise ValueError(f"the job {job.id!r} is traced: count its work from the module with models.runtime.trace and pass that along")
    return CLOSED_FORMS[job.family](job)

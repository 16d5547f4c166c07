"""One real Slurm for all tests of the session that ask for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from benchmarks.plugins.slurm import JOB_SUBMIT
from benchmarks.plugins.slurm_cluster import RealSlurm, why_not


@pytest.fixture(scope="session")
def real_slurm() -> Iterator[RealSlurm]:
    """8 nodes of 8 GPUs; opted-in jobs are held by job_submit.lua, except those of the partition ``plan`` that do not opt in."""
    reason = why_not()
    if reason is not None:
        pytest.skip(f"no real Slurm: {reason}")
    with RealSlurm(job_submit=JOB_SUBMIT, jwt=True) as slurm:
        yield slurm


@pytest.fixture
def slurm(real_slurm: RealSlurm) -> Iterator[RealSlurm]:
    """The cluster, empty and whole."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield real_slurm
    real_slurm.clear()
    structlog.configure(**before)

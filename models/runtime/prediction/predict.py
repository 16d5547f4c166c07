"""How long a job takes on a device: its step, its whole run, where the time goes, how sure that is, and whether it was ever seen.

T = start-up(mode) + warm-up + steps * step * slow-down; README.md has the formulas. Seconds are of each device that the job runs on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.kept import Kept
from models.runtime.families.work import work as closed_form
from models.runtime.operators import CLASSES, PHASES, OperatorArrays, OperatorClass, Phase, Work
from models.runtime.prediction.communication import (
    Ring,
    hierarchical_all_reduce_s,
    overlapped_s,
    rings,
    send_s,
    straggler_factor,
)
from models.runtime.prediction.extrapolation import unseen
from models.runtime.prediction.roofline import OperatorSeconds, log_slopes, operator_seconds, slope_paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Floats, Ints
    from models.runtime.device import DeviceSpec
    from models.runtime.job import JobSpec

UPDATE = PHASES.index(Phase.update)
UNCALIBRATED_LOG_SD = 0.2  # error of the form itself where no job was ever measured
NORMAL_P90 = 1.2815515655446004  # the standard normal law's 90th percentile
SPLIT_BY_SHARDS = frozenset(
    {
        OperatorClass.matmul,
        OperatorClass.attention,
        OperatorClass.transcendental,
        OperatorClass.softmax,
        OperatorClass.embedding,
        OperatorClass.optimiser,
    }
)
"""Classes that tensor-parallel shards divide; the others run whole on each (Shoeybi et al., Megatron-LM, 2019)."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Tenth, fiftieth and ninetieth percentile, in seconds."""

    p10: float
    p50: float
    p90: float

    @classmethod
    def lognormal(cls, median: float, log_sd: float) -> Quantiles:
        """Of a quantity whose logarithm is normal."""
        factor = math.exp(NORMAL_P90 * log_sd)
        return cls(median / factor, median, median * factor)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a job is expected to take.

    ``parts``: seconds of one median step by operator class, and beside them ``step_overhead``, ``shard_reduce``, ``pipeline_bubble``,
    ``pipeline_send``, ``gradient_sync`` (what compute does not hide), ``stragglers`` and ``input_wait``, those that occur; they add up to
    ``step_s.p50``. ``log_sd``: standard deviation of the logarithm of a step. ``extrapolated``: the job lies outside of what the
    device was calibrated on, for the ``reasons``.
    """

    step_s: Quantiles
    total_s: Quantiles
    start_up_s: float
    parts: dict[str, float]
    log_sd: float
    extrapolated: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Belief:
    """How unsure a device's coefficients are, as arrays: ``covariance`` (paths, paths) of their logarithms; errors of a job beside that."""

    paths: tuple[str, ...]
    at: dict[str, int]
    covariance: Floats
    of_step: Ints  # positions among the paths of those that a step hangs on, and where ``log_slopes`` tells of them
    in_slopes: Ints
    seen_log_sd: float
    unseen_log_sd: float


def step_seconds(work: Work, device: DeviceSpec) -> float:
    """Median seconds of one micro-batch and update on one device, nothing else."""
    return float(operator_seconds(work.arrays, device).total.sum()) + device.step_overhead_s.value


def many_step_seconds(works: Sequence[Work], device: DeviceSpec) -> Floats:
    """``step_seconds`` of each, shape (works,), at once."""
    if not works:
        return np.zeros(0)
    arrays = [work.arrays for work in works]
    joined = OperatorArrays(*(np.concatenate([getattr(rows, name) for rows in arrays]) for name in OperatorArrays.__dataclass_fields__))
    owner = np.repeat(np.arange(len(works)), [len(rows.calls) for rows in arrays])
    sums = np.bincount(owner, weights=operator_seconds(joined, device).total, minlength=len(works))
    return np.asarray(sums + device.step_overhead_s.value)


def predict(
    job: JobSpec, device: DeviceSpec, work: Work | None = None, *, slow_down: float = 1.0, slow_down_log_sd: float = 0.0
) -> Prediction:
    """The prediction for ``job`` on devices of this type; ``work`` is that of a traced job, left out for families.

    ``slow_down`` is what jobs that share the device cost, at least 1, and ``slow_down_log_sd`` the standard deviation of its logarithm from
    job to job: it widens the whole run, not the step, which is that of the job alone. Raises ValueError for a slow-down below 1 or a spread
    below 0, a traced job without work, a device that does not describe an operator class or precision, or links that do not join the job's
    devices.
    """
    if not 0.0 <= slow_down_log_sd < math.inf:
        raise ValueError(f"the spread of a slow-down is a number of at least 0, not {slow_down_log_sd}")
    if not slow_down >= 1.0:
        raise ValueError(f"a slow-down is at least 1, not {slow_down}: it multiplies the time of a job alone")
    work = closed_form(job) if work is None else work
    rows = _on_one_device(work.arrays, job)
    seconds = operator_seconds(rows, device)
    parts = _parts(job, device, work, rows, seconds)
    step = math.fsum(parts.values())
    start_up = next((start.seconds.value for start in device.start_up_s if start.mode is job.mode), 0.0)
    before = start_up + device.warm_up_s.value
    running = job.steps * step * slow_down
    reasons = unseen(job, rows, seconds, device)
    step_sd, total_sd = _log_sds(job, device, rows, seconds, (step, slow_down, start_up), waits="input_wait" in parts, new=bool(reasons))
    total_sd = math.hypot(total_sd, slow_down_log_sd * running / (before + running) if running > 0 else 0.0)
    return Prediction(
        step_s=Quantiles.lognormal(step, step_sd),
        total_s=Quantiles.lognormal(before + running, total_sd),
        start_up_s=start_up,
        parts=parts,
        log_sd=step_sd,
        extrapolated=bool(reasons),
        reasons=reasons,
    )


def _on_one_device(rows: OperatorArrays, job: JobSpec) -> OperatorArrays:
    """The calls of one whole step on one of the job's devices: micro-batches multiply, shards and stages divide."""
    spread = job.parallel
    if spread.tp == spread.pp == spread.grad_accum == 1:
        return rows
    split = np.array([cls in SPLIT_BY_SHARDS for cls in CLASSES])[rows.cls]
    divided = np.where(split, spread.tp, 1)
    narrow = np.where(rows.narrow > 0, np.maximum(1.0, rows.narrow / divided), 0.0)
    calls = rows.calls * np.where(rows.phase == UPDATE, 1, spread.grad_accum) / spread.pp
    return replace(rows, flops=rows.flops / divided, bytes=rows.bytes / divided, narrow=narrow, calls=calls)


def _parts(job: JobSpec, device: DeviceSpec, work: Work, rows: OperatorArrays, seconds: OperatorSeconds) -> dict[str, float]:
    """Seconds of one step by what they are spent on."""
    spread, micro_batches = job.parallel, job.parallel.grad_accum
    sums = np.bincount(rows.cls, weights=seconds.total, minlength=len(CLASSES))
    parts = {CLASSES[place].value: float(sums[place]) for place in np.unique(rows.cls)}
    stage = float(seconds.total[rows.phase != UPDATE].sum()) / micro_batches
    if spread.tp > 1:
        messages = work.reduced_bytes / work.boundary_bytes if work.boundary_bytes > 0 else 1.0
        each = hierarchical_all_reduce_s(work.reduced_bytes / messages, rings(spread.tp, 1, device.links)) / spread.pp if messages else 0.0
        stage += messages * each
        parts["shard_reduce"] = micro_batches * messages * each
    if spread.pp > 1:
        directions = 2 if job.training else 1
        send = directions * send_s(work.boundary_bytes / spread.tp, _between_stages(job, device))
        parts["pipeline_send"] = micro_batches * send
        stage += send
        parts["pipeline_bubble"] = (spread.pp - 1) * stage
    if job.training and spread.dp > 1:
        share = work.gradient_bytes / (spread.tp * spread.pp)
        sync = hierarchical_all_reduce_s(share, rings(spread.dp, spread.tp, device.links))
        parts["gradient_sync"] = max(0.0, overlapped_s(stage, sync, device.overlap_gamma.value) - stage)
    parts["step_overhead"] = device.step_overhead_s.value
    if job.training and spread.devices > 1:
        parts["stragglers"] = (straggler_factor(spread.devices, device.straggler_cv.value) - 1.0) * math.fsum(parts.values())
    if device.storage_bytes_per_s is not None and job.input_bytes_per_step > 0:
        input_s = job.input_bytes_per_step / spread.dp / device.storage_bytes_per_s.value
        parts["input_wait"] = max(0.0, input_s - math.fsum(parts.values()))
    return {name: part for name, part in parts.items() if part > 0}


def _between_stages(job: JobSpec, device: DeviceSpec) -> Ring:
    """The slowest link that joins neighbouring stages, which stand one full group of shards and copies apart."""
    found = rings(job.parallel.pp, job.parallel.tp * job.parallel.dp, device.links)
    return max(found, key=lambda ring: 1.0 / ring.bytes_per_s)


def _log_sds(
    job: JobSpec,
    device: DeviceSpec,
    rows: OperatorArrays,
    seconds: OperatorSeconds,
    times: tuple[float, float, float],
    *,
    waits: bool,
    new: bool,
) -> tuple[float, float]:
    """Standard deviations of the logarithms of a step and of the whole run; to first order in the coefficients' logarithms."""
    known = _BELIEFS.of(device)
    step, slow_down, start_up = times
    if step <= 0:
        return 0.0, 0.0
    per_step = np.concatenate([log_slopes(rows, seconds, device), [device.step_overhead_s.value]])
    of_step = np.zeros(len(known.paths))
    if not waits:  # while the input is waited for, no coefficient counts
        of_step[known.of_step] = per_step[known.in_slopes]
    running, before = job.steps * step * slow_down, start_up + device.warm_up_s.value
    of_total = job.steps * slow_down * of_step
    for path, first in ((f"start_up_s.{job.mode.value}", start_up), ("warm_up_s", device.warm_up_s.value)):
        if path in known.at:
            of_total[known.at[path]] += first
    spread = known.unseen_log_sd if new else known.seen_log_sd
    step_sd = math.hypot(_deviation(of_step / step, known.covariance), spread)
    total = running + before
    total_sd = math.hypot(_deviation(of_total / total, known.covariance), spread * running / total) if total > 0 else 0.0
    return step_sd, total_sd


def _belief(device: DeviceSpec) -> _Belief:
    known = device.uncertainty
    if known is None:  # not calibrated: each coefficient as sure as whoever wrote it down said, and the form itself unproven
        spreads = {path: each.log_sd for path, each in device.coefficients().items() if each.log_sd}
        paths, covariance = tuple(spreads), np.diag(np.array(list(spreads.values())) ** 2)
        seen = unseen_too = UNCALIBRATED_LOG_SD
    else:
        paths, covariance = known.paths, np.array(known.covariance, dtype=float).reshape(len(known.paths), len(known.paths))
        seen = math.hypot(known.residual_log_sd, known.repeat_log_sd)
        unseen_too = math.hypot(max(known.residual_log_sd, known.extrapolated_log_sd), known.repeat_log_sd)
    sloped = {path: place for place, path in enumerate((*slope_paths(device), "step_overhead_s"))}
    both = [(place, sloped[path]) for place, path in enumerate(paths) if path in sloped]
    pairs = np.array(both, dtype=np.int64).reshape(len(both), 2)
    return _Belief(paths, {path: place for place, path in enumerate(paths)}, covariance, pairs[:, 0], pairs[:, 1], seen, unseen_too)


_BELIEFS: Kept[DeviceSpec, _Belief] = Kept(_belief, most=64)


def _deviation(slopes: Floats, covariance: Floats) -> float:
    return math.sqrt(max(0.0, float(slopes @ covariance @ slopes)))

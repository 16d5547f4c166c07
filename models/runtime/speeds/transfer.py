"""Speeds of all jobs on a device on which only a few were measured, from their speeds on other devices.

The logarithm of a speed is a job factor plus a device factor, and a second job factor that devices weigh differently:

    log speed(j, new) = base(j) + level + loading * contrast(j) + own(j)

Where the same GPU type is known in its other placement (consolidated or spread over nodes), the base is that one, the contrast is what the
placement does on the other GPU types, and one-GPU jobs, which no placement touches, have neither level nor own part. Otherwise the base is
the mean over the other GPU types in that placement, and the contrast the first principal component of how they differ (one factor of a
probabilistic principal component analysis: Tipping & Bishop, 1999). ``own`` is normal, alike for jobs of one family that are near in batch
and number of GPUs, and for all gangs (links differ between devices as processors do); its variances are those under which the contrast
itself is most probable, so only other devices are asked. Which jobs to measure is asked of other devices only, too: those after which the
sum of all jobs' standard deviations is least (V-optimal design: Pukelsheim, "Optimal design of experiments", 1993).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.runtime.scaling.variances import combined, most_probable_variances

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints

LOADING_SPREAD = 0.5
LEVEL_VARIANCE = {True: 1.0, False: 9.0}  # of the level, in squared log units: with the other placement of the type at hand, without
MEASURING = 0.01  # relative repeat noise of a measured speed
BATCH_REACH, GPU_REACH = 2.0, 1.5  # doublings within which jobs of a family behave alike
NORMAL_80 = 1.28155
LINK_PARTS = 2
_GUESS = 0.03  # variance beforehand of each part in which jobs differ
_LINKS_GUESS = 0.25  # and of the parts that all gangs of a size share: links differ between devices as much as processors do
_DOUBT = 2.0


class JobType(NamedTuple):
    """A job on a number of GPUs: its name, family, batch (> 0) and GPUs (>= 1)."""

    name: str
    family: str
    batch: float = 1.0
    gpus: int = 1


class Device(NamedTuple):
    """A GPU type, its GPUs in one node (consolidated) or over several."""

    gpu: str
    consolidated: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Speeds:
    """Measured steps/s (J, D) of ``jobs`` on ``devices``; NaN where there is no measurement.

    Raises ValueError for a speed that is not positive, a device listed twice, or a table of another shape.
    """

    jobs: tuple[JobType, ...]
    devices: tuple[Device, ...]
    steps_per_s: Floats

    def __post_init__(self) -> None:
        if self.steps_per_s.shape != (len(self.jobs), len(self.devices)):
            raise ValueError(f"{len(self.jobs)} jobs on {len(self.devices)} devices, but a table of {self.steps_per_s.shape}")
        if len(set(self.devices)) != len(self.devices):
            raise ValueError("a device is listed twice")
        wrong = np.argwhere((self.steps_per_s <= 0) | np.isinf(self.steps_per_s))
        if len(wrong):
            job, device = self.jobs[wrong[0][0]], self.devices[wrong[0][1]]
            raise ValueError(f"{job.name!r} on {device.gpu} has a speed that is not positive; put NaN where it cannot run")

    def without(self, device: Device, *, placements: bool) -> Speeds:
        """The table without a device; ``placements``: without the GPU type in any placement."""
        kept = [place for place, one in enumerate(self.devices) if (one.gpu != device.gpu if placements else one != device)]
        return Speeds(self.jobs, tuple(self.devices[place] for place in kept), self.steps_per_s[:, kept])


@dataclass(frozen=True, slots=True, eq=False)
class Transferred:
    """Steps/s on the new device, arrays (P,) for ``jobs`` (positions in the table): 10th, 50th, 90th percentile."""

    jobs: Ints
    p10: Floats
    p50: Floats
    p90: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """What other devices say of a new one before it was measured: ``mean`` (P,) and ``covariance`` (P, P) of the log speeds of ``jobs``."""

    table: Speeds
    device: Device
    jobs: Ints
    mean: Floats
    covariance: Floats

    def to_measure(self, count: int = 2) -> list[int]:
        """The ``count`` jobs (positions in the table) whose speeds say most about all: greedily, then by exchanges.

        Raises ValueError when there are not so many jobs.
        """
        if not 1 <= count <= len(self.jobs):
            raise ValueError(f"{count} of {len(self.jobs)} jobs cannot be measured")
        chosen: list[int] = []
        for _ in range(count):
            chosen.append(self._best_with(chosen))
        for _ in range(10):
            before = list(chosen)
            for place in range(count):
                rest = chosen[:place] + chosen[place + 1 :]
                chosen[place] = self._best_with(rest)
            if chosen == before:
                break
        return [int(self.jobs[place]) for place in chosen]

    def predict(self, measured: Mapping[int, float]) -> Transferred:
        """Speeds of all jobs, given those of some on the new device, in steps/s by position in the table.

        Raises ValueError for a job that no other device has, or a speed that is not positive.
        """
        place_of = {int(job): place for place, job in enumerate(self.jobs)}
        for job, speed in measured.items():
            if job not in place_of:
                raise ValueError(f"job {job} has no speed on the other devices that {self.device.gpu} is compared with")
            if not (speed > 0 and np.isfinite(speed)):
                raise ValueError(f"{self.table.jobs[job].name!r} measured at {speed:g} steps/s; a speed must be positive: leave it out")
        at = [place_of[job] for job in measured]
        mean, covariance = self.mean, self.covariance
        if at:
            known = covariance[np.ix_(at, at)] + MEASURING**2 * np.eye(len(at))
            gain = np.linalg.solve(known, covariance[at]).T
            mean = mean + gain @ (np.log(list(measured.values())) - self.mean[at])
            covariance = covariance - gain @ covariance[at]
        margin = NORMAL_80 * np.sqrt(np.maximum(np.diag(covariance), 0.0) + MEASURING**2)
        return Transferred(self.jobs, np.exp(mean - margin), np.exp(mean), np.exp(mean + margin))

    def _best_with(self, others: list[int]) -> int:
        """The job that, measured beside ``others``, leaves the least sum of standard deviations."""
        left = self.covariance
        if others:
            known = left[np.ix_(others, others)] + MEASURING**2 * np.eye(len(others))
            left = left - left[:, others] @ np.linalg.solve(known, left[others])
        own = np.maximum(np.diag(left), 0.0)
        after = own[:, None] - left**2 / (own + MEASURING**2)  # variance of the row's job when the column's is measured
        total = np.sqrt(np.maximum(after, 0.0)).sum(axis=0)
        total[others] = np.inf
        return int(np.argmin(total))


def prepare(table: Speeds, device: Device) -> Transfer:
    """What the table's devices say of ``device``, which is not among them, for every job they all know.

    Raises ValueError when the device is in the table or no device can stand in for it.
    """
    if device in table.devices:
        raise ValueError(f"{device.gpu} is in the table already; leave its column out to predict it")
    base, contrast, loading, touched = _base_and_contrast(table, device)
    jobs = np.flatnonzero(np.isfinite(base) & np.isfinite(contrast))
    if not len(jobs):
        raise ValueError(f"no job has speeds on the devices that {device.gpu} is compared with")
    base, contrast, touched = base[jobs], contrast[jobs], touched[jobs].astype(np.float64)
    sibling = _sibling(device) in table.devices
    if not sibling:
        contrast = contrast - np.median(contrast)
    both = np.outer(touched, touched)
    parts = [part * both for part in _parts([table.jobs[job] for job in jobs])]
    level = LEVEL_VARIANCE[sibling] * both
    guess = np.full(len(parts), _GUESS)
    guess[-LINK_PARTS:] = _LINKS_GUESS
    variances = guess
    if np.any(contrast):
        variances = most_probable_variances(parts, contrast, level + MEASURING**2 * np.eye(len(jobs)), guess, _DOUBT)
    covariance = combined(parts, variances) + level + LOADING_SPREAD**2 * np.outer(contrast, contrast)
    return Transfer(table, device, jobs, base + loading * contrast, covariance)


def constant_ratio(table: Speeds, device: Device, measured: Mapping[int, float]) -> Transferred:
    """The simple form: all jobs change by the same ratio, the geometric mean of the measured ones. No uncertainty is known (p10 = p90).

    Raises ValueError as ``prepare`` does, or when nothing was measured.
    """
    if not measured:
        raise ValueError("a ratio needs at least one measured job")
    base = _base_and_contrast(table, device)[0]
    jobs = np.flatnonzero(np.isfinite(base))
    ratio = float(np.mean([np.log(speed) - base[job] for job, speed in measured.items()]))
    speeds = np.exp(base[jobs] + ratio)
    return Transferred(jobs, speeds, speeds, speeds)


def _sibling(device: Device) -> Device:
    """The same GPU type in its other placement."""
    return Device(device.gpu, not device.consolidated)


def _base_and_contrast(table: Speeds, device: Device) -> tuple[Floats, Floats, float, Bools]:
    """Base (J,), contrast (J,), the loading that is expected of the contrast, and which jobs a level and an own part touch (J,)."""
    logs = {one: np.log(table.steps_per_s[:, place]) for place, one in enumerate(table.devices)}
    others = [one for one in table.devices if one.gpu != device.gpu and one.consolidated == device.consolidated]
    several = np.array([job.gpus > 1 for job in table.jobs])
    if _sibling(device) in logs:
        changes = [logs[one] - logs[_sibling(one)] for one in others if _sibling(one) in logs]
        contrast = np.mean(changes, axis=0) if changes else np.zeros(len(table.jobs))
        return logs[_sibling(device)], contrast, 1.0, several
    if not others:
        raise ValueError(f"no other GPU type in the placement of {device.gpu}: nothing to transfer from")
    columns = np.stack([logs[one] for one in others], axis=1)
    base = columns.mean(axis=1)
    away = columns - base[:, None]
    whole = np.isfinite(base)
    contrast = np.full(len(base), np.nan)
    contrast[whole] = 0.0
    if len(others) > 1:
        _, _, directions = np.linalg.svd(away[whole] - np.median(away[whole], axis=0), full_matrices=False)
        contrast[whole] = np.sqrt(2.0) * away[whole] @ directions[0]  # between two devices: the logarithm of their ratio
    return base, contrast, 0.0, np.ones(len(base), dtype=bool)


def _parts(jobs: Sequence[JobType]) -> list[Floats]:
    """Covariance (P, P) of each part of ``own`` at unit variance; the last ``LINK_PARTS`` are the same for all gangs of a size."""
    family = np.array([job.family for job in jobs])
    same = (family[:, None] == family).astype(np.float64)
    batch, gpus = np.log2([job.batch for job in jobs]), np.log2([job.gpus for job in jobs])
    near_batch = np.exp(-0.5 * ((batch[:, None] - batch) / BATCH_REACH) ** 2)
    near_gpus = np.exp(-0.5 * ((gpus[:, None] - gpus) / GPU_REACH) ** 2)
    several, doublings = (gpus > 0).astype(np.float64), gpus / 3.0  # of gangs against single GPUs; as gangs grow, 1 at eight GPUs
    links = [np.outer(amount, amount) for amount in (several - several.mean(), doublings - doublings.mean())]
    return [same, same * near_batch, same * near_gpus, same * near_batch * near_gpus, near_gpus, np.eye(len(jobs)), *links]

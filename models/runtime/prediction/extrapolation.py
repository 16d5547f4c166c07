"""Whether a job lies inside what a device was calibrated on, and if not, why not, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.runtime.device import ClassRange, DeviceSpec, Hull
from models.runtime.job import Family
from models.runtime.operators import CLASSES, PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.program import Floats
    from models.runtime.job import JobSpec
    from models.runtime.operators import OperatorArrays, Work
    from models.runtime.prediction.roofline import OperatorSeconds

MARGIN = 2.0  # calls up to this many times beyond the sizes seen still count as seen
MINOR = 0.05  # share of the step that may lie outside unnoticed


def unseen(job: JobSpec, rows: OperatorArrays, seconds: OperatorSeconds, device: DeviceSpec) -> tuple[str, ...]:
    """Every reason why the prediction is an extrapolation; none for a job like those that were measured."""
    hull = device.hull
    if hull is None:
        return (f"{device.name} was never calibrated on measured jobs",)
    reasons = []
    if job.family is not Family.traced and job.family not in hull.families:
        reasons.append(f"no job of the family {job.family.value} was measured on {device.name}")
    if job.mode not in hull.modes:
        reasons.append(f"no job of the mode {job.mode.value} was measured on {device.name}")
    if job.precision not in hull.precisions:
        reasons.append(f"no job in {job.precision.value} was measured on {device.name}")
    if job.parallel.devices > 1:
        reasons.append(f"{device.name} was calibrated on one device at a time, the job runs on {job.parallel.devices}")
    return (*reasons, *_sizes(rows, seconds.total, hull, device.name))


def _sizes(rows: OperatorArrays, seconds: Floats, hull: Hull, name: str) -> list[str]:
    ranges = {row.cls: row for row in hull.ranges}
    shares = {}
    for place in np.unique(rows.cls):
        cls, chosen = CLASSES[place], rows.cls == place
        outside = chosen if cls not in ranges else chosen & ~_inside(rows, ranges[cls])
        shares[cls] = float(seconds[outside].sum()) / max(float(seconds.sum()), 1e-300)
    if sum(shares.values()) <= MINOR:
        return []
    told = sorted((cls for cls, share in shares.items() if share > MINOR / len(CLASSES)), key=lambda cls: -shares[cls])
    what = {cls: "is larger or smaller than any that was" if cls in ranges else "was never" for cls in told}
    return [f"{shares[cls]:.1%} of the step is {cls.value} that {what[cls]} measured on {name}" for cls in told]


def _inside(rows: OperatorArrays, seen: ClassRange) -> NDArray[np.bool_]:
    by_flops = (rows.flops >= seen.least_flops / MARGIN) & (rows.flops <= seen.most_flops * MARGIN)
    by_bytes = (rows.bytes >= seen.least_bytes / MARGIN) & (rows.bytes <= seen.most_bytes * MARGIN)
    return by_flops & by_bytes


def hull_of(jobs: Sequence[JobSpec], works: Sequence[Work]) -> Hull:
    """What these measured jobs cover; ``works`` in the same order. Raises ValueError where there is none, or lengths differ."""
    if not jobs or len(jobs) != len(works):
        raise ValueError(f"{len(jobs)} jobs and {len(works)} works cover nothing: give as many of both, at least one")
    cls = np.concatenate([work.arrays.cls for work in works])
    flops = np.concatenate([work.arrays.flops for work in works])
    sizes = np.concatenate([work.arrays.bytes for work in works])
    ranges = tuple(
        ClassRange(
            cls=CLASSES[place],
            least_flops=float(flops[cls == place].min()),
            most_flops=float(flops[cls == place].max()),
            least_bytes=float(sizes[cls == place].min()),
            most_bytes=float(sizes[cls == place].max()),
        )
        for place in np.unique(cls)
    )
    return Hull(
        families=tuple(sorted({job.family for job in jobs})),
        modes=tuple(sorted({job.mode for job in jobs})),
        precisions=tuple(precision for precision in PRECISIONS if any(job.precision is precision for job in jobs)),
        ranges=ranges,
    )

"""What is read off the measured jobs one number at a time: start-up of each mode, memory beside what is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.runtime.calibration.fit import Jobs, Prior, fit
from models.runtime.device import Source
from models.runtime.prediction.memory import memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.runtime.device import DeviceSpec
    from models.runtime.records import Record

MAD_OF_NORMAL = 1.4826  # standard deviation of a normal law over its median absolute deviation
LEAST_MEMORY_SD = 0.02
BESIDE_GIB = 0.05  # what a process holds beside libraries and arrays, to start from


def with_start_up(device: DeviceSpec, rows: Sequence[Record], *, date: str = "", version: str = "") -> tuple[DeviceSpec, float]:
    """The device with the median start-up of each mode that was measured, and the spread of its logarithm from job to job."""
    values, ratios = {}, []
    for mode in sorted({start.mode for start in device.start_up_s}):
        found = [_start_up_s(row) for row in rows if row.accepted and row.start_up is not None and row.job.mode is mode]
        found = [seconds for seconds in found if seconds > 0]
        if found:
            values[f"start_up_s.{mode.value}"] = float(np.median(found))
            ratios += np.log(np.array(found) / np.median(found)).tolist()
    if not values:
        return device, 0.0
    made = device.with_values(values, source=Source.measured, date=date, version=version, note="measured jobs")
    return made, float(np.median(np.abs(ratios))) * MAD_OF_NORMAL


def _start_up_s(row: Record) -> float:
    start = row.start_up
    if start is None:
        return 0.0
    return start.cpu_s if row.timing is not None and row.timing.device_s is None else start.wall_s


def with_memory(device: DeviceSpec, rows: Sequence[Record], *, date: str = "", version: str = "") -> DeviceSpec:
    """The device with the context, the fragmentation and the error of memory that the measured peaks show; as it is without peaks.

    Peaks above the libraries are a constant (buffers and kernels that are made at first use) and a multiple of what is counted.

    On a GPU the peak is what torch allocated there; on a CPU what the process held, and its libraries are the context.
    """
    plain = device.with_values({"context_gib": 0.0, "fragmentation": 1.0})
    found = [(memory(row.job, plain, row.work).total_gib, *_held(row)) for row in rows if row.accepted and row.memory is not None]
    found = [(need, peak - context, context) for need, peak, context in found if need > 0 and peak > context]
    if not found:
        return device
    counted, held, context = (np.array(values) for values in zip(*found, strict=True))
    start = Prior.independent(np.array([BESIDE_GIB, 1.1]), np.array([1.0, 0.2]))
    known = fit(Jobs.plain(np.column_stack([np.ones(len(counted)), counted])), held, start, expected_scale=device.memory_log_sd)
    beside, fragmentation = float(known.coefficients[0]), max(1.0, float(known.coefficients[1]))
    middle = float(np.median(context))
    ratios = np.log((context + held) / (middle + beside + fragmentation * counted))
    spread = max(LEAST_MEMORY_SD, float(np.median(np.abs(ratios))) * MAD_OF_NORMAL)
    values = {"context_gib": middle + beside, "fragmentation": fragmentation}
    made = device.with_values(values, source=Source.measured, date=date, version=version, note="measured jobs")
    return made.model_copy(update={"memory_log_sd": spread})


def _held(row: Record) -> tuple[float, float]:
    """Peak and context of a measured job in GiB."""
    told = row.memory
    if told is None:
        return 0.0, 0.0
    return (told.peak_gib, told.libraries_gib) if told.device_peak_gib is None else (told.device_peak_gib, 0.0)

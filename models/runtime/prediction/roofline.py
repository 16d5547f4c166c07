"""Seconds of each operator on a device: arithmetic, memory traffic and a fixed time per call, and how they hang on each coefficient.

One call takes  combine(flops * backward * (1 + half / narrow) / (efficiency * peak),  traffic * bytes / bandwidth)  +  overhead.
The time of a byte is a mean over the tiers, by how much of the call's bytes fits into each. With combine = maximum this is the roofline
(Williams, Waterman & Patterson, "Roofline: an insightful visual performance model", 2009); CPUs, which overlap less, are nearer to the sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.kept import Kept
from models.runtime.device import Combine, DeviceSpec
from models.runtime.operators import CLASSES, PHASES, PRECISIONS, ComputeUnit, OperatorArrays, Phase, Precision, unit_of

if TYPE_CHECKING:
    from models.program import Floats, Ints

BACKWARD = PHASES.index(Phase.backward)
TIER_SHARPNESS = 2.0  # how suddenly a tier stops holding a growing working set


@dataclass(frozen=True)
class DeviceArrays:
    """A device's coefficients by class (positions in CLASSES), by precision (in PRECISIONS) and by tier. NaN: not described."""

    flops_per_s: Floats  # (classes, precisions): peak times efficiency
    half_narrow: Floats  # (classes,)
    backward: Floats
    traffic: Floats
    overhead_s: Floats
    capacity_bytes: Floats  # (tiers - 1,)
    seconds_per_byte: Floats  # (tiers,)
    peak_used: Ints  # (classes, precisions): position among the device's peaks, -1 for none
    power: float  # of the p-norm; 1 is a sum, infinity a maximum


@dataclass(frozen=True)
class OperatorSeconds:
    """Seconds of all calls of each operator, shape (operators,): ``compute`` and ``memory`` are what each would take by itself.

    ``busy`` combines the two, ``overhead`` comes on top; ``tiers`` (operators, tiers) splits ``memory``.
    """

    compute: Floats
    memory: Floats
    busy: Floats
    overhead: Floats
    tiers: Floats

    @property
    def total(self) -> Floats:
        """Seconds of each operator."""
        return self.busy + self.overhead


def arrays_of(device: DeviceSpec) -> DeviceArrays:
    """The device's coefficients as arrays, made once while it lives."""
    return _KEPT.of(device)


def _arrays(device: DeviceSpec) -> DeviceArrays:
    peaks = {(peak.unit, peak.precision): place for place, peak in enumerate(device.peaks)}
    rows = {row.cls: row for row in device.classes}
    rates = np.full((len(CLASSES), len(PRECISIONS)), np.nan)
    used = np.full(rates.shape, -1, dtype=np.int64)
    parts = {name: np.full(len(CLASSES), np.nan) for name in ("narrow", "backward", "traffic", "overhead_s")}
    for place, cls in enumerate(CLASSES):
        if cls not in rows:
            continue
        for name, values in parts.items():
            values[place] = getattr(rows[cls], name).value
        for column, precision in enumerate(PRECISIONS):
            peak = peak_used(set(peaks), unit_of(cls), precision)
            if peak is not None:
                used[place, column] = peaks[peak]
                rates[place, column] = rows[cls].efficiency.value * device.peaks[peaks[peak]].flops_per_s.value
    power = {Combine.additive: 1.0, Combine.maximum: np.inf, Combine.norm: device.norm_power}[device.combine]
    return DeviceArrays(
        flops_per_s=rates,
        half_narrow=parts["narrow"],
        backward=parts["backward"],
        traffic=parts["traffic"],
        overhead_s=parts["overhead_s"],
        capacity_bytes=np.array([tier.capacity_bytes for tier in device.tiers[:-1]], dtype=float),
        seconds_per_byte=np.array([1.0 / tier.bytes_per_s.value for tier in device.tiers]),
        peak_used=used,
        power=float(power),
    )


_KEPT: Kept[DeviceSpec, DeviceArrays] = Kept(_arrays, most=64)


def peak_used(known: set[tuple[ComputeUnit, Precision]], unit: ComputeUnit, precision: Precision) -> tuple[ComputeUnit, Precision] | None:
    """Which of the ``known`` peaks counts, None when none may.

    TF32 where there is none is FP32; vector lanes do 2-byte numbers no faster than FP32 unless told so.
    """
    choices = [(unit, precision)]
    if unit is ComputeUnit.vector:
        choices += [(unit, Precision.fp32), (ComputeUnit.matrix, Precision.fp32)]
    elif precision is Precision.tf32:
        choices.append((unit, Precision.fp32))
    return next((choice for choice in choices if choice in known), None)


def operator_seconds(rows: OperatorArrays, device: DeviceSpec) -> OperatorSeconds:
    """Seconds of each operator on ``device``.

    Raises ValueError where the device does not describe a class, or has no peak for a precision that it is asked to compute in.
    """
    known = arrays_of(device)
    rates = known.flops_per_s[rows.cls, rows.precision]
    overhead = known.overhead_s[rows.cls]
    if np.isnan(overhead).any() or np.isnan(rates[rows.flops > 0]).any():
        _refuse(rows, device)
    factor = np.where(rows.phase == BACKWARD, known.backward[rows.cls], 1.0)
    factor *= 1.0 + known.half_narrow[rows.cls] * (rows.narrow > 0) / np.maximum(rows.narrow, 1.0)
    compute = rows.calls * np.divide(rows.flops * factor, rates, out=np.zeros(len(rates)), where=rows.flops > 0)
    moved = rows.calls * rows.bytes * known.traffic[rows.cls]
    tiers = moved[:, None] * tier_shares(rows.bytes, known.capacity_bytes) * known.seconds_per_byte
    memory = tiers.sum(axis=1)
    return OperatorSeconds(compute, memory, _combined(compute, memory, known.power), rows.calls * overhead, tiers)


def tier_shares(working_set_bytes: Floats, capacity_bytes: Floats) -> Floats:
    """Share (n, tiers) of the bytes of a working set (n,) that each tier serves; a tier of twice the set holds 80% of it."""
    held = 1.0 / (1.0 + (working_set_bytes[:, None] / capacity_bytes) ** TIER_SHARPNESS)
    edges = np.concatenate([np.zeros((len(working_set_bytes), 1)), held, np.ones((len(working_set_bytes), 1))], axis=1)
    return np.diff(edges, axis=1)


def _combined(compute: Floats, memory: Floats, power: float) -> Floats:
    if power == 1.0:
        return compute + memory
    longer, shorter = np.maximum(compute, memory), np.minimum(compute, memory)
    if np.isinf(power):
        return longer
    ratio = np.divide(shorter, longer, out=np.zeros_like(longer), where=longer > 0)
    return np.asarray(longer * (1.0 + ratio**power) ** (1.0 / power))


def _weights(seconds: OperatorSeconds, power: float) -> tuple[Floats, Floats]:
    """Derivatives of ``busy`` by the logarithms of ``compute`` and of ``memory``."""
    if power == 1.0:
        return seconds.compute, seconds.memory
    if np.isinf(power):
        by_compute = seconds.compute >= seconds.memory
        return np.where(by_compute, seconds.busy, 0.0), np.where(by_compute, 0.0, seconds.busy)
    ratio = np.divide(seconds.compute, seconds.busy, out=np.zeros_like(seconds.busy), where=seconds.busy > 0)
    by_compute_s = seconds.busy * ratio**power
    return by_compute_s, seconds.busy - by_compute_s


SLOPE_PARTS = ("efficiency", "narrow", "backward", "traffic", "overhead_s")


def slope_paths(device: DeviceSpec) -> tuple[str, ...]:
    """The paths of the coefficients that an operator's seconds hang on, in the order of ``log_slopes``."""
    by_class = [f"{part}.{cls.value}" for part in SLOPE_PARTS for cls in CLASSES]
    peaks = [f"peak.{peak.unit.value}.{peak.precision.value}" for peak in device.peaks]
    return (*by_class, *(f"bandwidth.{tier.name}" for tier in device.tiers), *peaks)


def log_slopes(rows: OperatorArrays, seconds: OperatorSeconds, device: DeviceSpec) -> Floats:
    """Derivative of the summed seconds by the logarithm of each coefficient of ``slope_paths``, in their order."""
    known = arrays_of(device)
    compute, memory = _weights(seconds, known.power)
    narrowed = known.half_narrow[rows.cls] * (rows.narrow > 0) / np.maximum(rows.narrow, 1.0)
    narrow, going_back = compute * narrowed / (1.0 + narrowed), compute * (rows.phase == BACKWARD)
    amounts = np.concatenate([-compute, narrow, going_back, memory, seconds.overhead])
    places = (rows.cls + len(CLASSES) * np.arange(len(SLOPE_PARTS))[:, None]).ravel()
    by_class = np.bincount(places, weights=amounts, minlength=len(CLASSES) * len(SLOPE_PARTS))
    per_second = np.divide(memory, seconds.memory, out=np.zeros_like(memory), where=seconds.memory > 0)
    by_tier = per_second @ seconds.tiers
    used = known.peak_used[rows.cls, rows.precision]
    by_peak = np.bincount(used + 1, weights=compute, minlength=len(device.peaks) + 1)[1:]  # the first bin: no peak, no arithmetic
    return np.concatenate([by_class, -by_tier, -by_peak])


def _refuse(rows: OperatorArrays, device: DeviceSpec) -> None:
    known = arrays_of(device)
    for cls, precision, flops in zip(rows.cls, rows.precision, rows.flops, strict=True):
        if np.isnan(known.overhead_s[cls]):
            raise ValueError(f"{device.name} does not describe the operator class {CLASSES[cls].value}: add it to its classes")
        if flops > 0 and np.isnan(known.flops_per_s[cls, precision]):
            name = PRECISIONS[precision].value
            raise ValueError(f"{device.name} has no peak of its matrix unit for {name}: add one, or choose a precision that it computes in")

"""The description of a device: what it could do at most, what share of that it reaches, and how sure we are of each number.

Every number is a ``Coefficient`` with its source, date and version. Calibration works on ``coefficients()``, a flat table by path
(``efficiency.matmul``, ``bandwidth.dram``, ``overhead_s.copy``, ``start_up_s.train``), and gives them back with ``with_values``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from models.contract import ContradictionError, Warned
from models.runtime.job import Family, Mode
from models.runtime.operators import CLASSES, ComputeUnit, OperatorClass, Precision
from models.vocabulary import Document, PositiveCount, PositiveQuantity, Quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYMMETRIC = 1e-9
LARGEST_RATE = 1e20  # FLOPs per second; a device far beyond any that exists
Size = Annotated[float, Field(ge=0, le=LARGEST_RATE, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Source(StrEnum):
    """Where a number comes from, the surest first."""

    measured = "measured"
    transferred = "transferred"
    datasheet = "datasheet"
    assumed = "assumed"


class Coefficient(Document):
    """One number with where it comes from. ``log_sd``: standard deviation of its logarithm before any job was measured."""

    value: float = Field(ge=0, le=LARGEST_RATE, allow_inf_nan=False)
    source: Source
    date: str = Field(default="", description="ISO date of the measurement or the datasheet.")
    version: str = Field(default="", description="Versions of torch, driver or datasheet.")
    note: str = Field(default="", description="Where to look it up.")
    log_sd: float | None = Field(default=None, ge=0, allow_inf_nan=False)


def assumed(value: float, log_sd: float, note: str = "") -> Coefficient:
    """A starting value that nobody measured on this device."""
    return Coefficient(value=value, source=Source.assumed, note=note, log_sd=log_sd)


class DeviceKind(StrEnum):
    """What a device really is. The last two are virtual: processes that stand in for devices, and must be called that."""

    cpu = "cpu"
    gpu = "gpu"
    serial_replay = "serial_replay"
    device_partition = "partition"  # the bare word is a method of every string


class Combine(StrEnum):
    """How arithmetic and memory traffic of one call share time: one after the other, fully overlapped, or a p-norm between."""

    additive = "additive"
    maximum = "maximum"
    norm = "norm"


class Peak(Document):
    """The most arithmetic per second of one unit at one precision."""

    unit: ComputeUnit
    precision: Precision
    flops_per_s: Coefficient


ASSUMED_EFFICIENCY = {
    OperatorClass.matmul: 0.7,
    OperatorClass.attention: 0.35,
    OperatorClass.convolution: 0.45,
    OperatorClass.pointwise_convolution: 0.5,
    OperatorClass.depthwise_convolution: 0.15,
    OperatorClass.recurrent: 0.4,
}
"""Shares of the peak to start from; classes that are left out, bound by memory, start from 0.25."""


class ClassCoefficients(Document):
    """What one operator class reaches on this device."""

    cls: OperatorClass
    efficiency: Coefficient = Field(description="Share of the peak that large calls reach.")
    narrow: Coefficient = Field(default=assumed(0.0, 0.0), description="Smallest dimension at which half of that is reached; 0: no effect.")
    backward: Coefficient = Field(default=assumed(1.0, 0.2), description="Time of a FLOP going backward, over that going forward.")
    traffic: Coefficient = Field(default=assumed(1.0, 0.3), description="Bytes really moved, over the least that must be.")
    overhead_s: Coefficient = Field(description="Fixed time of a call.")


class Tier(Document):
    """One level of memory; ``capacity_bytes`` None: the last one, that holds everything."""

    name: str = Field(min_length=1)
    capacity_bytes: PositiveQuantity | None = None
    bytes_per_s: Coefficient


class Link(Document):
    """One level of the network: groups of ``devices`` peers that talk with latency ``alpha_s`` and ``bytes_per_s`` each way."""

    level: str = Field(min_length=1)
    devices: PositiveCount = Field(description="How many groups of the level below (devices, for the first) one group of this level joins.")
    alpha_s: Coefficient
    bytes_per_s: Coefficient


class StartUp(Document):
    """Seconds before the first step of a job in this mode: process, imports, context, weights."""

    mode: Mode
    seconds: Coefficient


class Uncertainty(Document):
    """What is unknown after calibration, in logarithms.

    ``covariance[i][k]`` belongs to the coefficients ``paths[i]`` and ``paths[k]``; ``residual_log_sd`` is what the form leaves
    unexplained on jobs it has not seen (leave-group-out), ``repeat_log_sd`` what the same job does when it is run again.
    """

    paths: tuple[str, ...] = ()
    covariance: tuple[tuple[Finite, ...], ...] = ()
    residual_log_sd: Quantity = 0.0
    repeat_log_sd: Quantity = 0.0
    extrapolated_log_sd: Quantity = Field(default=0.0, description="In place of the residual where a job lies outside the hull.")

    @model_validator(mode="after")
    def _square(self) -> Self:
        size = len(self.paths)
        if len(self.covariance) != size or any(len(row) != size for row in self.covariance):
            detail = f"{size} paths need {size} rows of {size} numbers"
            ContradictionError.refuse([Warned("/covariance", "not_square", detail)])
        skew = [(i, k) for i in range(size) for k in range(i) if abs(self.covariance[i][k] - self.covariance[k][i]) > SYMMETRIC]
        if skew or any(self.covariance[i][i] < 0 for i in range(size)):
            detail = "a covariance is symmetric, with no negative number on its diagonal"
            ContradictionError.refuse([Warned("/covariance", "not_symmetric", detail)])
        return self


class ClassRange(Document):
    """The sizes of one class that calibration has seen: FLOPs and bytes of one call."""

    cls: OperatorClass
    least_flops: Size
    most_flops: Size
    least_bytes: Size
    most_bytes: Size


class Hull(Document):
    """What calibration has seen. Outside it a prediction is an extrapolation and says so."""

    families: tuple[Family, ...] = ()
    modes: tuple[Mode, ...] = ()
    precisions: tuple[Precision, ...] = ()
    ranges: tuple[ClassRange, ...] = ()


class DeviceSpec(Document):
    """One type of device. Times are of the whole device as a job gets it: of a CPU, the cores it is pinned to."""

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1, max_length=253)
    kind: DeviceKind
    peaks: tuple[Peak, ...] = Field(min_length=1)
    classes: tuple[ClassCoefficients, ...] = Field(min_length=1)
    tiers: tuple[Tier, ...] = Field(min_length=1, description="Fastest first; the last has no capacity.")
    combine: Combine = Combine.additive
    norm_power: float = Field(default=2.0, ge=1, le=64, description="Power of the p-norm, for combine = norm.")
    memory_gib: PositiveQuantity
    context_gib: Coefficient = assumed(0.0, 0.0)
    fragmentation: Coefficient = Field(default=assumed(1.1, 0.1), description="Memory reserved, over memory in use.")
    memory_log_sd: Quantity = Field(default=0.15, description="Standard deviation of the logarithm of predicted memory.")
    start_up_s: tuple[StartUp, ...] = ()
    warm_up_s: Coefficient = assumed(0.0, 0.0)
    step_overhead_s: Coefficient = Field(default=assumed(0.0, 0.0), description="Fixed time of a step beside its operators.")
    storage_bytes_per_s: Coefficient | None = Field(default=None, description="What input arrives at; none: input is never waited for.")
    links: tuple[Link, ...] = Field(default=(), description="Innermost first.")
    overlap_gamma: Coefficient = Field(default=assumed(1.0, 0.3), description="1: sync after compute; the larger, the more they overlap.")
    straggler_cv: Coefficient = Field(default=assumed(0.0, 0.0), description="Coefficient of variation of one worker's step.")
    uncertainty: Uncertainty | None = None
    hull: Hull | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ContradictionError.refuse(_errors(self))
        return self

    def coefficients(self) -> dict[str, Coefficient]:
        """Every coefficient by its path, in a fixed order."""
        return dict(_paths(self))

    def with_values(
        self, values: Mapping[str, float], *, source: Source = Source.measured, date: str = "", version: str = "", note: str = ""
    ) -> DeviceSpec:
        """A copy in which the coefficients of these paths have new values and this origin. Raises KeyError for an unknown path."""
        known = self.coefficients()
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise KeyError(f"{self.name} has no coefficient {unknown[0]!r}; known are {', '.join(known)}")
        new = {path: Coefficient(value=value, source=source, date=date, version=version, note=note) for path, value in values.items()}
        return _replaced(self, new)


SINGLE = ("context_gib", "fragmentation", "warm_up_s", "step_overhead_s", "storage_bytes_per_s", "overlap_gamma", "straggler_cv")
PER_CLASS = ("efficiency", "narrow", "backward", "traffic", "overhead_s")


def _paths(device: DeviceSpec) -> Iterator[tuple[str, Coefficient]]:
    for peak in device.peaks:
        yield f"peak.{peak.unit.value}.{peak.precision.value}", peak.flops_per_s
    for row in device.classes:
        for part in PER_CLASS:
            yield f"{part}.{row.cls.value}", getattr(row, part)
    for tier in device.tiers:
        yield f"bandwidth.{tier.name}", tier.bytes_per_s
    for start in device.start_up_s:
        yield f"start_up_s.{start.mode.value}", start.seconds
    for link in device.links:
        yield f"alpha_s.{link.level}", link.alpha_s
        yield f"link_bytes_per_s.{link.level}", link.bytes_per_s
    for part in SINGLE:
        if getattr(device, part) is not None:
            yield part, getattr(device, part)


def _replaced(device: DeviceSpec, new: Mapping[str, Coefficient]) -> DeviceSpec:
    def of(path: str, old: Coefficient) -> Coefficient:
        return new.get(path, old)

    changed = {
        "peaks": tuple(
            row.model_copy(update={"flops_per_s": of(f"peak.{row.unit.value}.{row.precision.value}", row.flops_per_s)})
            for row in device.peaks
        ),
        "classes": tuple(
            row.model_copy(update={part: of(f"{part}.{row.cls.value}", getattr(row, part)) for part in PER_CLASS}) for row in device.classes
        ),
        "tiers": tuple(row.model_copy(update={"bytes_per_s": of(f"bandwidth.{row.name}", row.bytes_per_s)}) for row in device.tiers),
        "start_up_s": tuple(
            row.model_copy(update={"seconds": of(f"start_up_s.{row.mode.value}", row.seconds)}) for row in device.start_up_s
        ),
        "links": tuple(
            row.model_copy(
                update={
                    "alpha_s": of(f"alpha_s.{row.level}", row.alpha_s),
                    "bytes_per_s": of(f"link_bytes_per_s.{row.level}", row.bytes_per_s),
                }
            )
            for row in device.links
        ),
    }
    single = {part: of(part, getattr(device, part)) for part in SINGLE if getattr(device, part) is not None}
    copy = device.model_copy(update=changed | single)
    ContradictionError.refuse(_errors(copy))
    return copy


def starting_classes(overhead_s: float, *, narrow: float = 0.0, update_overhead_s: float | None = None) -> tuple[ClassCoefficients, ...]:
    """A row for every class with assumed shares of the peak: where a device starts before anything was measured on it.

    ``overhead_s``: time of one call; ``narrow``: smallest dimension at which a matrix product reaches half of its share;
    ``update_overhead_s``: time of one optimiser call on one tensor, left out: as any call.
    """
    update = overhead_s if update_overhead_s is None else update_overhead_s
    return tuple(
        ClassCoefficients(
            cls=cls,
            efficiency=assumed(ASSUMED_EFFICIENCY.get(cls, 0.25), 0.5),
            narrow=assumed(narrow if cls in ASSUMED_EFFICIENCY else 0.0, 0.5),
            overhead_s=assumed(update if cls is OperatorClass.optimiser else overhead_s, 0.7),
        )
        for cls in CLASSES
    )


def _errors(device: DeviceSpec) -> list[Warned]:
    """What contradicts itself in a device."""
    wrong = []
    for name, keys in (
        ("peaks", [f"{row.unit.value} {row.precision.value}" for row in device.peaks]),
        ("classes", [row.cls.value for row in device.classes]),
        ("tiers", [row.name for row in device.tiers]),
        ("start_up_s", [row.mode.value for row in device.start_up_s]),
        ("links", [row.level for row in device.links]),
    ):
        twice = sorted({key for key in keys if keys.count(key) > 1})
        wrong += [Warned(f"/{name}", "given_twice", f"{key} is given twice: keep one") for key in twice]
    if any(tier.capacity_bytes is None for tier in device.tiers[:-1]) or device.tiers[-1].capacity_bytes is not None:
        wrong.append(Warned("/tiers", "last_tier", "every tier but the last has a capacity, and the last has none"))
    capacities = [tier.capacity_bytes or 0.0 for tier in device.tiers[:-1]]
    if capacities != sorted(capacities):
        wrong.append(Warned("/tiers", "tier_order", "tiers stand from the smallest to the largest"))
    rates = [f"peak.{row.unit.value}.{row.precision.value}" for row in device.peaks]
    rates += [f"efficiency.{row.cls.value}" for row in device.classes] + [f"bandwidth.{row.name}" for row in device.tiers]
    rates += [f"link_bytes_per_s.{row.level}" for row in device.links] + ["storage_bytes_per_s"]
    known = device.coefficients()
    wrong += [Warned("", "zero_rate", f"{path} of {device.name} is 0: nothing would ever end") for path in rates if _zero(known.get(path))]
    strangers = sorted(set(device.uncertainty.paths) - set(known)) if device.uncertainty else []
    wrong += [Warned("/uncertainty/paths", "unknown_path", f"{device.name} has no coefficient {path!r}") for path in strangers]
    if device.overlap_gamma.value < 1:
        wrong.append(Warned("/overlap_gamma", "gamma", "overlap_gamma is at least 1: below, two things would take longer than one by one"))
    if device.fragmentation.value < 1:
        wrong.append(Warned("/fragmentation", "fragmentation", "memory reserved is never below memory in use: fragmentation is at least 1"))
    return wrong


def _zero(coefficient: Coefficient | None) -> bool:
    return coefficient is not None and coefficient.value <= 0

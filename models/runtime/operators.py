"""What one step of a job is made of: operators with their FLOPs, bytes and calls, and the sums a prediction needs.

An ``Operator`` is one distinct shape. FLOPs and bytes are those of ONE call; ``calls`` says how often it runs in one micro-batch.
A fused multiply-add counts 2 FLOPs. Bytes are what the call must read and write at least, each array once.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.program import Floats, Ints


class OperatorClass(StrEnum):
    """Kinds of operator that reach different shares of a device's peak. One efficiency per class is what is calibrated."""

    matmul = "matmul"
    attention = "attention"
    convolution = "convolution"
    pointwise_convolution = "pointwise_convolution"
    depthwise_convolution = "depthwise_convolution"
    elementwise = "elementwise"
    transcendental = "transcendental"
    softmax = "softmax"
    normalisation = "normalisation"
    reduction = "reduction"
    pooling = "pooling"
    embedding = "embedding"
    recurrent = "recurrent"
    optimiser = "optimiser"
    copy = "copy"


CLASSES = tuple(OperatorClass)


class ComputeUnit(StrEnum):
    """The part of a device whose peak bounds a class: matrix units (tensor cores, or a CPU's fused multiply-adds) or vector lanes."""

    matrix = "matrix"
    vector = "vector"


MATRIX_CLASSES = frozenset(
    {
        OperatorClass.matmul,
        OperatorClass.attention,
        OperatorClass.convolution,
        OperatorClass.pointwise_convolution,
        OperatorClass.recurrent,
    }
)


def unit_of(cls: OperatorClass) -> ComputeUnit:
    """Which unit's peak a class is measured against. Grouped and depthwise convolutions rarely reach the matrix units."""
    return ComputeUnit.matrix if cls in MATRIX_CLASSES else ComputeUnit.vector


class Precision(StrEnum):
    """Number formats of the arithmetic. ``tf32`` is stored in 4 bytes like ``fp32`` and multiplied on 10 bits of mantissa."""

    fp32 = "fp32"
    tf32 = "tf32"
    bf16 = "bf16"
    fp16 = "fp16"

    @property
    def bytes(self) -> int:
        """Bytes of one number in memory."""
        return 4 if self in {Precision.fp32, Precision.tf32} else 2


PRECISIONS = tuple(Precision)


class Phase(StrEnum):
    """When an operator runs: forward and backward once per micro-batch, the update once per step."""

    forward = "forward"
    backward = "backward"
    update = "update"


PHASES = tuple(Phase)


@dataclass(frozen=True)
class Operator:
    """One distinct shape of one class.

    ``flops``, ``bytes_read`` and ``bytes_written`` are of one call (none negative), ``calls`` per micro-batch (of an update: per step).
    ``narrow`` is the smallest dimension of a matrix product (of m, n, k; of a convolution: channels per group), 0 where that means
    nothing: narrow products reach less of the peak. ``shape_key`` tells shapes apart and is for people.
    """

    cls: OperatorClass
    precision: Precision
    flops: float
    bytes_read: float
    bytes_written: float
    calls: float
    shape_key: str = ""
    narrow: float = 0.0
    phase: Phase = Phase.forward

    def __post_init__(self) -> None:
        sizes = (self.flops, self.bytes_read, self.bytes_written, self.calls, self.narrow)
        if not all(0.0 <= size < float("inf") for size in sizes):
            raise ValueError(f"operator {self.cls.value} {self.shape_key!r} has a negative or infinite size {sizes}: count it again")

    @property
    def bytes(self) -> float:
        """Bytes read and written by one call."""
        return self.bytes_read + self.bytes_written

    def times(self, factor: float) -> Operator:
        """The same operator called ``factor`` times as often."""
        return replace(self, calls=self.calls * factor)


@dataclass(frozen=True)
class OperatorArrays:
    """Operators as parallel arrays, each of shape (operators,); ``cls``, ``precision`` and ``phase`` are positions in the enums."""

    cls: Ints
    precision: Ints
    phase: Ints
    flops: Floats
    bytes: Floats
    calls: Floats
    narrow: Floats


@dataclass(frozen=True)
class Work:
    """What one device would do for one micro-batch (forward, and backward when training) and one update, before any sharding.

    ``activation_bytes``: kept for the backward pass (training), and the most that is alive beside that within one layer.
    ``parameters``: their number; ``parameter_bytes``: what their values take in memory. ``cache_bytes``: key-value cache.
    ``gradient_bytes``: what data-parallel copies exchange per step (0 in inference).
    ``boundary_bytes``: one activation between two layers, what a pipeline sends per micro-batch and direction.
    ``reduced_bytes``: activations that tensor-parallel shards all-reduce per micro-batch, all layers together.
    """

    operators: tuple[Operator, ...]
    activation_bytes: float
    parameters: float
    parameter_bytes: float
    cache_bytes: float = 0.0
    gradient_bytes: float = 0.0
    boundary_bytes: float = 0.0
    reduced_bytes: float = 0.0
    counted_by: str = "closed form"

    @cached_property
    def arrays(self) -> OperatorArrays:
        """The operators as arrays, made once."""
        import numpy as np  # here: the command line names operators in its options, and need not load numpy for them

        rows = self.operators
        return OperatorArrays(
            cls=np.array([CLASSES.index(row.cls) for row in rows], dtype=np.int64),
            precision=np.array([PRECISIONS.index(row.precision) for row in rows], dtype=np.int64),
            phase=np.array([PHASES.index(row.phase) for row in rows], dtype=np.int64),
            flops=np.array([row.flops for row in rows], dtype=float),
            bytes=np.array([row.bytes for row in rows], dtype=float),
            calls=np.array([row.calls for row in rows], dtype=float),
            narrow=np.array([row.narrow for row in rows], dtype=float),
        )

    @cached_property
    def flops(self) -> float:
        """FLOPs of all calls."""
        return float(self.arrays.flops @ self.arrays.calls)

    @cached_property
    def bytes(self) -> float:
        """Bytes read and written by all calls."""
        return float(self.arrays.bytes @ self.arrays.calls)

    @cached_property
    def calls(self) -> float:
        """Calls of all operators."""
        return float(self.arrays.calls.sum())

    def flops_by_class(self) -> dict[OperatorClass, float]:
        """FLOPs of each class that occurs."""
        return self._by_class([row.flops * row.calls for row in self.operators])

    def bytes_by_class(self) -> dict[OperatorClass, float]:
        """Bytes of each class that occurs."""
        return self._by_class([row.bytes * row.calls for row in self.operators])

    def calls_by_class(self) -> dict[OperatorClass, float]:
        """Calls of each class that occurs."""
        return self._by_class([row.calls for row in self.operators])

    def _by_class(self, amounts: list[float]) -> dict[OperatorClass, float]:
        sums: dict[OperatorClass, float] = defaultdict(float)
        for row, amount in zip(self.operators, amounts, strict=True):
            sums[row.cls] += amount
        return dict(sums)


def merged(operators: Iterable[Operator]) -> tuple[Operator, ...]:
    """Operators of the same shape as one, their calls added; in the order of first use. Those without calls are left out."""
    calls: dict[Operator, float] = defaultdict(float)
    for operator in operators:
        calls[replace(operator, calls=0.0)] += operator.calls
    return tuple(replace(operator, calls=count) for operator, count in calls.items() if count > 0)

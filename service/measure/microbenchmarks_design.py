"""Sizes for micro-benchmarks: points that fill a box evenly in logarithms, so that any first part of them fills it too.

The sequence is Kronecker's with the generalised golden ratio (M. Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018;
L. Kuipers, H. Niederreiter, "Uniform distribution of sequences", 1974). A run that is cut off has a coarser design, not a part of one.
"""

from __future__ import annotations

import math
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START = 0.6  # of the sequence in each dimension: the first of 0.5, 0.55, 0.6 with which no point is the shape of a quick job's operator
BITS = 3  # of a rounded size: 4, 5, 6, 7, 8, 10, 12, 14, 16, ... are the widths that networks have
DIGITS = 2  # of a rounded count


class Range(NamedTuple):
    """Sizes from ``low`` to ``high``, both at least 1. ``width``: rounded as widths of networks are; else to two decimal digits."""

    low: float
    high: float
    width: bool = True

    def at(self, share: float) -> int:
        """The size at this share of the way, in logarithms."""
        found = self.low * (self.high / self.low) ** share
        return rounded_width(found) if self.width else rounded_count(found)


def points(ranges: Sequence[Range]) -> Iterator[tuple[int, ...]]:
    """Sizes without end, each point once while new ones come: one range for each size."""
    steps = _steps(len(ranges))
    return (tuple(one.at((START + place * step) % 1.0) for one, step in zip(ranges, steps, strict=True)) for place in count())


def rounded_width(size: float) -> int:
    """The nearest integer of three significant bits."""
    step = 2.0 ** max(0, math.floor(math.log2(size)) - BITS + 1)
    return int(round(size / step) * step)


def rounded_count(size: float) -> int:
    """The nearest integer of two significant decimal digits."""
    step = 10.0 ** max(0, math.floor(math.log10(size)) - DIGITS + 1)
    return int(round(size / step) * step)


def _steps(dimensions: int) -> list[float]:
    """The sequence's step in each dimension: powers of the root of x**(d + 1) = x + 1."""
    root = 2.0
    for _ in range(64):
        root = (1.0 + root) ** (1.0 / (dimensions + 1))
    return [root ** -(place + 1) % 1.0 for place in range(dimensions)]

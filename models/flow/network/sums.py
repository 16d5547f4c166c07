"""Sums of numbers that belong to the same place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.program import Floats, Ints


def sums(places: Ints, numbers: Floats, length: int) -> Floats:
    """At each place the sum of its numbers: ``places`` and ``numbers`` of shape (items,), the answer of shape (length,)."""
    return np.bincount(places, weights=numbers, minlength=length)[:length].astype(np.float64, copy=False)

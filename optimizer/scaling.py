"""Whole numbers out of decimal ones, exactly: what the integer solvers need."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from models.program import Floats, Ints

LARGEST_DENOMINATOR = 10**6
LARGEST_SCALE = 10**9
LARGEST_NUMBER = 2.0**53  # beyond it, neighbouring floats are more than 1 apart
SAME = 2e-15  # relative: 0.1 + 0.2 and 0.3 are the same number, pi and 3126535 / 995207 are not


def whole_scales(values: Floats, starts: npt.NDArray[np.int64]) -> Ints | None:
    """The smallest multiplier that makes each group of numbers whole, shape (groups,).

    Group g is ``values[starts[g]:starts[g + 1]]``; an empty group has multiplier 1. None when some number is not a fraction
    with a denominator up to a million, or a multiplier would exceed 1e9.
    """
    distinct, which = np.unique(values, return_inverse=True)
    fractions = [Fraction(value).limit_denominator(LARGEST_DENOMINATOR) for value in distinct.tolist()]
    if any(abs(float(fraction) - value) > SAME * abs(value) for fraction, value in zip(fractions, distinct.tolist(), strict=True)):
        return None
    denominators = [fraction.denominator for fraction in fractions]
    scales = np.ones(len(starts) - 1, dtype=np.int64)
    filled = np.flatnonzero(np.diff(starts) > 0)
    if not len(filled):
        return scales
    if math.lcm(*denominators) <= LARGEST_SCALE:  # then no group can overflow either
        scales[filled] = np.lcm.reduceat(np.array(denominators, dtype=np.int64)[which], starts[:-1][filled])
        return scales
    for group in filled.tolist():
        scale = math.lcm(*{denominators[one] for one in which[starts[group] : starts[group + 1]].tolist()})
        if scale > LARGEST_SCALE:
            return None
        scales[group] = scale
    return scales


def whole_scale(values: Floats) -> int | None:
    """The smallest multiplier that makes all the numbers whole; None as for ``whole_scales``."""
    scales = whole_scales(values, np.array([0, len(values)], dtype=np.int64))
    return None if scales is None else int(scales[0])


def whole(values: Floats) -> Ints | None:
    """The numbers rounded to integers, None when one is too large for that to be exact."""
    if len(values) and float(np.abs(values).max()) > LARGEST_NUMBER:
        return None
    return np.round(values).astype(np.int64)

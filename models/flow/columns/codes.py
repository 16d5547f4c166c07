"""Random 64-bit codes of sets, which are told apart by the sums of their members' codes.

Two different sets have the same code with a chance of one in 10^19; were it ever to happen, a search would lack a path, and the
plan's check and the bound, which know nothing of codes, would show it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from models.program import Ints

Codes = npt.NDArray[np.uint64]


def mixed(codes: Codes) -> Codes:
    """Each code scrambled, so that sums of them tell sets apart (the finaliser of SplitMix64: Steele, Lea and Flood, 2014)."""
    with np.errstate(over="ignore"):
        codes = (codes ^ (codes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        codes = (codes ^ (codes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return codes ^ (codes >> np.uint64(31))


def numbered(count: int) -> Codes:
    """A code for each of the numbers from 0 on, always the same, shape (count,)."""
    return mixed((np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))


def run_sums(codes: Codes, starts: Ints) -> Codes:
    """The sum of each run ``codes[starts[k]:starts[k + 1]]``, shape (runs,)."""
    with np.errstate(over="ignore"):
        totals = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(codes, dtype=np.uint64)))
        sums: Codes = totals[starts[1:]] - totals[starts[:-1]]
        return sums

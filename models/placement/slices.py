"""What one GPU can be cut into: the ways to fill it with shares, one column each.

A slice is a multiset of shares that together fit one GPU; only maximal ones matter, since a GPU may stay partly unused. Slices
are the columns of the Gilmore-Gomory model of one-dimensional cutting stock (Operations Research 9, 1961), here of
GPUs instead of paper rolls. With them the relaxation knows that two shares of 0.6 do not fit one GPU.
"""

from __future__ import annotations

import numpy as np

from models.program import Floats, Ints

MOST_SLICES = 20_000
_GRIDS = (10_000, 1_000, 200, 100, 50, 20, 10, 4, 2, 1)  # parts a GPU is cut into, finest first
_ROUNDING = 1e-6


def share_sizes(shares: Floats) -> tuple[Ints, int]:
    """The shares in whole units of ``1 / grid`` GPUs, on the finest grid that keeps the number of slices small, and that grid.

    Shares are rounded down, so every real filling is still a filling: a coarser grid weakens a bound, it never makes it
    wrong. Shape (shares,); different shares may come to the same size.
    """
    for grid in _GRIDS:
        sizes = np.maximum(np.floor(shares * grid + _ROUNDING).astype(np.int64), 1)
        if maximal_slices(np.unique(sizes), grid) is not None:
            return sizes, grid
    raise AssertionError("on a grid of 1 there is one slice")


def maximal_slices(sizes: Ints, capacity: int) -> Ints | None:
    """All maximal ways to fill ``capacity`` with the distinct ``sizes``, shape (slices, sizes): how many of each size.

    None when there are more than MOST_SLICES.
    """
    order = np.argsort(-sizes)
    fitting = [size for size in sizes[order].tolist() if size <= capacity]
    skipped = len(sizes) - len(fitting)
    found: list[list[int]] = []
    if fitting and not _extend(fitting, capacity, [0] * skipped, found, len(sizes)):
        return None
    slices = np.zeros((len(found), len(sizes)), dtype=np.int64)
    if found:
        slices[:, order] = np.array(found, dtype=np.int64)
    return slices


def _extend(sizes: list[int], left: int, counts: list[int], found: list[list[int]], length: int) -> bool:
    """Add every maximal filling that begins with ``counts``, largest sizes first; False when there are too many."""
    size = sizes[len(counts) - length]
    if len(counts) == length - 1:
        found.append([*counts, left // size])  # as many of the smallest as fit: nothing more fits, so maximal
        return len(found) <= MOST_SLICES
    return all(_extend(sizes, left - count * size, [*counts, count], found, length) for count in range(left // size, -1, -1))

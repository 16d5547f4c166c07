"""Which GPUs of a relaxation can be cut into shares, and into which slices.

Shares are counted in whole parts of a GPU (``slices.share_sizes``); a *slot* is a set of GPUs of one stock that can all be
cut in the same ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE
from models.placement.slices import maximal_slices, share_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.placement.demand import Shape, Stock
    from models.program import Ints


@dataclass(frozen=True, slots=True)
class Slot:
    """GPUs of one stock that can be cut the same way: ``count`` of them, each with a free share of ``capacity`` grid parts."""

    stock: int
    capacity: int
    count: int
    whole: bool  # untouched GPUs: cutting one takes it from the whole workers


class Cutting:
    """The slots of all stocks, in their order, and the slices of each.

    ``sizes`` are the distinct sizes of shares in parts of ``1 / grid`` GPUs, ascending; ``size_of`` maps a share to its
    position there.
    """

    def __init__(self, shapes: Sequence[Shape], stocks: Sequence[Stock]) -> None:
        shares = sorted({shape.share for shape in shapes if shape.share})
        sizes, self.grid = share_sizes(np.array(shares)) if shares else (np.zeros(0, dtype=np.int64), 1)
        self.sizes = np.unique(sizes)
        number = {size: place for place, size in enumerate(self.sizes.tolist())}
        self.size_of = {share: number[size] for share, size in zip(shares, sizes.tolist(), strict=True)}
        self.slots = [slot for place, stock in enumerate(stocks) for slot in self._slots_of(place, stock)] if shares else []
        self._slices = {capacity: maximal_slices(self.sizes, capacity) for capacity in sorted({slot.capacity for slot in self.slots})}

    def _slots_of(self, place: int, stock: Stock) -> list[Slot]:
        found = [Slot(place, self.grid, stock.whole * stock.count, whole=True)] if stock.whole else []
        partly = ((self.parts(free), stock.slots.count(free) * stock.count) for free in sorted(set(stock.slots)))
        return found + [Slot(place, parts, count, whole=False) for parts, count in partly if parts >= self.sizes.min()]

    def parts(self, free: float) -> int:
        """How many parts a free share has: no fewer than a plan may use of it within the verifier's tolerance."""
        return int(np.floor((free + 2 * TOLERANCE) * self.grid))

    def slices(self, capacity: int) -> Ints:
        """The maximal slices of a slot of that capacity, shape (slices, sizes)."""
        found = self._slices[capacity]
        assert found is not None  # noqa: S101  (a smaller capacity has no more slices than the grid that share_sizes chose)
        return found

"""Who solves which scenario next: each worker its own stretch of neighbours, and at the end half of another's.

A solver starts from its last answer, so it gains from closeness. The last worker to finish should have no more than one scenario left.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

Item = TypeVar("Item")


class Blocks(Generic[Item]):
    """Work in one order, cut into as many stretches as there are workers. Any thread may call."""

    def __init__(self, work: Sequence[Item], workers: int) -> None:
        """Cut ``work`` into ``workers`` (at least 1) stretches of lengths that differ by one at most."""
        ends = [number * len(work) // workers for number in range(workers + 1)]
        self._blocks = [deque(work[start:end]) for start, end in itertools.pairwise(ends)]
        self._lock = threading.Lock()

    def take(self, worker: int) -> Item | None:
        """The next of the worker's own stretch, or of the far half of the longest other one; None when nothing is left."""
        with self._lock:
            mine = self._blocks[worker]
            if not mine:
                longest = max(self._blocks, key=len)
                mine.extendleft(longest.pop() for _ in range((len(longest) + 1) // 2))
            return mine.popleft() if mine else None

    def give_back(self, worker: int, item: Item) -> None:
        """Put back what the worker took and cannot do."""
        with self._lock:
            self._blocks[worker].appendleft(item)

    @property
    def left(self) -> int:
        """How many wait."""
        with self._lock:
            return sum(map(len, self._blocks))

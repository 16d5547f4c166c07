"""Where moving windows of requests are counted: by a clock that nobody sets, so that a jump of the wall clock locks no one out."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from limits.storage import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Callable


class MonotonicStorage(MemoryStorage):
    """The storage of ``limits`` in memory, its moving windows by ``clock``; windows nobody uses any more are forgotten."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: OrderedDict[str, deque[float]] = OrderedDict()  # times, the oldest first; the window used last is the last

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count ``amount`` requests now, if no more than ``limit`` are in the last ``expiry`` seconds then; whether they were."""
        with self._lock:
            now = self._clock()
            window = self._windows.setdefault(key, deque())
            self._windows.move_to_end(key)
            _forget(window, now - expiry)
            self._forget_unused(now - expiry)
            if len(window) + amount > limit:
                return False
            window.extend([now] * amount)
            return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Time of the oldest request of the last ``expiry`` seconds (now when there is none), and how many there are."""
        del limit
        with self._lock:
            now = self._clock()
            window = self._windows.get(key, deque())
            _forget(window, now - expiry)
            return (window[0], len(window)) if window else (now, 0)

    @property
    def windows(self) -> int:
        """How many are remembered."""
        with self._lock:
            return len(self._windows)

    def _forget_unused(self, since: float) -> None:
        """Windows without a request since then, from the one used longest ago; never the one in use."""
        while len(self._windows) > 1:
            key, window = next(iter(self._windows.items()))
            if window and window[-1] > since:
                return
            del self._windows[key]


def _forget(window: deque[float], since: float) -> None:
    while window and window[0] <= since:
        window.popleft()

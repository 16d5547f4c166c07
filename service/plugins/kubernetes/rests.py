"""Which gangs are left alone for a while, because the server will refuse them again: doubling rests instead of an endless loop."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from service.plugins.kubernetes.watching import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Container

FIRST_S, LONGEST_S = 30.0, 600.0  # after refusals that last


class Rests:
    """The gangs by id. Thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._lock = monotonic, threading.Lock()
        self._resting: dict[str, tuple[int, float, bool]] = {}  # failures, until when, whether they last

    def failed(self, name: str, *, lasting: bool) -> float:
        """It could not be done: seconds to leave it alone. ``lasting``: the same request will be refused again."""
        with self._lock:
            failures = self._resting.get(name, (0, 0.0, False))[0]
            rest_s = min(FIRST_S * 2.0 ** min(failures, 20), LONGEST_S) if lasting else pause(failures)
            self._resting[name] = (failures + 1, self._monotonic() + rest_s, lasting)
        return rest_s

    def done(self, name: str) -> None:
        """It could be done: the next failure is a first one."""
        with self._lock:
            self._resting.pop(name, None)

    def resting(self, name: str) -> bool:
        """Whether it is to be left alone now."""
        with self._lock:
            return self._monotonic() < self._resting.get(name, (0, 0.0, False))[1]

    def refused(self, name: str) -> bool:
        """Whether it is left alone now for a refusal that lasts."""
        with self._lock:
            _, until, lasting = self._resting.get(name, (0, 0.0, False))
            return lasting and self._monotonic() < until

    def keep(self, names: Container[str]) -> None:
        """Forget all others."""
        with self._lock:
            self._resting = {name: rest for name, rest in self._resting.items() if name in names}

    def count(self) -> int:
        """How many are left alone now for refusals that last."""
        now = self._monotonic()
        with self._lock:
            return sum(lasting and now < until for _, until, lasting in self._resting.values())

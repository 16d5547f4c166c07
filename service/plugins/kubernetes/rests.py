"""Which gangs are left alone for a while, because the server will refuse them again: doubling rests instead of an endless loop."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service.plugins.kubernetes.watching import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Container

FIRST_S, LONGEST_S = 30.0, 600.0  # after refusals that last
TRIES = 3


@dataclass(frozen=True, slots=True)
class _Rest:
    """``refusals`` that last, one after another; ``believed``: so many that the next would be refused too."""

    failures: int = 0
    refusals: int = 0
    until: float = 0.0

    @property
    def believed(self) -> bool:
        return self.refusals >= TRIES


class Rests:
    """The gangs by id. Thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._lock = monotonic, threading.Lock()
        self._resting: dict[str, _Rest] = {}

    def failed(self, name: str, *, lasting: bool) -> float:
        """It could not be done: seconds to leave it alone. ``lasting``: the same request will be refused again.

        That is believed the third time: a server that has just started refuses for a moment what it will allow.
        """
        with self._lock:
            before = self._resting.get(name, _Rest())
            rest = _Rest(before.failures + 1, before.refusals + 1 if lasting else 0)
            rest_s = min(FIRST_S * 2.0 ** min(rest.refusals - TRIES, 20), LONGEST_S) if rest.believed else pause(before.failures)
            self._resting[name] = replace(rest, until=self._monotonic() + rest_s)
        return rest_s

    def done(self, name: str) -> None:
        """It could be done: the next failure is a first one."""
        with self._lock:
            self._resting.pop(name, None)

    def resting(self, name: str) -> bool:
        """Whether it is to be left alone now."""
        with self._lock:
            return self._monotonic() < self._resting.get(name, _Rest()).until

    def refused(self, name: str) -> bool:
        """Whether it is left alone now for a refusal that lasts."""
        with self._lock:
            rest = self._resting.get(name, _Rest())
            return rest.believed and self._monotonic() < rest.until

    def keep(self, names: Container[str]) -> None:
        """Forget all others."""
        with self._lock:
            self._resting = {name: rest for name, rest in self._resting.items() if name in names}

    def count(self) -> int:
        """How many are left alone now for refusals that last."""
        now = self._monotonic()
        with self._lock:
            return sum(rest.believed and now < rest.until for rest in self._resting.values())

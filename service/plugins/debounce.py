"""When a round begins: not at every change, and not too late after the first."""

from __future__ import annotations

import math


class Debounce:
    """Waits until nothing has changed for ``quiet_s``, at most ``longest_s`` after the first change, and ``refresh_s`` without any.

    Times are those of one monotonic clock, given by the caller.
    """

    def __init__(self, quiet_s: float, longest_s: float, refresh_s: float = math.inf) -> None:
        self.quiet_s, self.longest_s, self.refresh_s = quiet_s, longest_s, refresh_s
        self._first: float | None = None  # of the changes since the last round
        self._last = -math.inf
        self._again = math.inf
        self._round: float | None = None

    def changed(self, now: float) -> None:
        """Something has changed."""
        self._first = now if self._first is None else self._first
        self._last = now

    def again(self, at: float) -> None:
        """Another round is wanted at that time, whether or not anything changes until then."""
        self._again = min(self._again, at)

    def due_at(self) -> float:
        """When the next round begins, as far as is known now."""
        refresh = self._round + self.refresh_s if self._round is not None else -math.inf  # the first round needs no reason
        changed = min(self._last + self.quiet_s, self._first + self.longest_s) if self._first is not None else math.inf
        return min(refresh, changed, self._again)

    def wait_s(self, now: float) -> float:
        """Seconds until the next round, 0 when it is due."""
        return max(self.due_at() - now, 0.0)

    def began(self, now: float) -> None:
        """A round begins, with all that has changed so far."""
        self._first, self._again, self._round = None, math.inf, now

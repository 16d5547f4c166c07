"""Which pods the extender has refused: since when, so that none is refused for ever, and how lately, so that none of them evicts others."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_WAITING = 100_000  # pods whose first refusal is remembered; beyond it the oldest are forgotten, which only makes them wait anew
ATTEMPT_S = 10.0  # from filter to preempt of one attempt: other extenders are asked and evictions are tried in between


class Refusals:
    """Pods by uid. Times are monotonic: a wall clock that jumps must neither end patience nor free an eviction."""

    def __init__(self, monotonic: Callable[[], float], patience_s: float) -> None:
        self._monotonic, self._patience_s = monotonic, patience_s
        self._first: OrderedDict[str, float] = OrderedDict()
        self._last: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """How many pods are remembered."""
        return len(self._first.keys() | self._last.keys())

    def bearable(self, pod: str) -> bool:
        """Whether a pod that no plan places may be refused still: for so long since this was asked first."""
        now = self._monotonic()
        first = self._first.setdefault(pod, now)
        if len(self._first) > MOST_WAITING:
            self._first.popitem(last=False)
        return now - first < self._patience_s

    def placed(self, pod: str) -> None:
        """The plan has decided about it: if it is ever forgotten, patience begins anew."""
        self._first.pop(pod, None)

    def answered(self, pod: str, *, refused: bool) -> None:
        """Note what filter has answered in this attempt."""
        self._last.pop(pod, None)
        if not refused:
            return
        now = self._monotonic()
        while self._last and now - next(iter(self._last.values())) >= ATTEMPT_S:
            self._last.popitem(last=False)
        self._last[pod] = now

    def in_this_attempt(self, pod: str) -> bool:
        """Whether filter has refused it in the attempt that preempt is asked in.

        kube-scheduler does not number its attempts, and preempt comes with the pod as it is by then. So it is told by time.
        """
        last = self._last.get(pod)
        return last is not None and self._monotonic() - last < ATTEMPT_S

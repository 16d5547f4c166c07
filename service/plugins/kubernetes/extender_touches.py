"""Which pods are still to be touched, so that kube-scheduler tries them again. What fails or may have come too early is done again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from service.plugins.kubernetes.extender_refusals import ATTEMPT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from service.plugins.kubernetes.extender_seats import Seating, Told

AT_ONCE = 8  # requests at a time
MOST_TRIES = 5  # of one touch that fails; kube-scheduler comes back to the pod by itself, after five minutes at the latest
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Owed:
    """A touch of one pod: ``mark`` is what is written, another one each time, because an unchanged pod is not tried again."""

    told: Told
    mark: str
    due: float
    tries: int = 0
    again: bool = False  # once more when the attempt is over that a refusal may have fallen into


class Touches:
    """Owed touches by uid. ``touch`` changes a pod, or raises; ``monotonic`` is the clock of the due times."""

    def __init__(self, touch: Callable[[Told, str], object], monotonic: Callable[[], float]) -> None:
        self._touch, self._monotonic = touch, monotonic
        self._owed: dict[str, Owed] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="touch")

    def close(self) -> None:
        """Wait for the touches under way, and end."""
        self._pool.shutdown()

    def owe(self, seated: Iterable[Told], opened: Iterable[Told], version: int) -> None:
        """Pods that have a seat now, and pods that may go anywhere now. Those may evict others only in their next attempt but one."""
        now = self._monotonic()
        self._owed |= {one.uid: Owed(one, str(version), now) for one in seated}
        self._owed |= {one.uid: Owed(one, f"{version} free", now, again=True) for one in opened}

    def pay(self, seating: Seating) -> None:
        """Touch the pods whose time has come, of which ``seating`` still says the same."""
        now = self._monotonic()
        self._owed = {uid: one for uid, one in self._owed.items() if _same(one.told, seating)}
        due = [one for one in self._owed.values() if one.due <= now]
        for one, done in zip(due, self._pool.map(self._touched, due), strict=True):
            if done and one.again:
                self._owed[one.told.uid] = replace(one, mark=f"{one.mark} again", due=now + ATTEMPT_S, tries=0, again=False)
            elif done or one.tries + 1 >= MOST_TRIES:
                del self._owed[one.told.uid]
            else:
                self._owed[one.told.uid] = replace(one, tries=one.tries + 1)

    def _touched(self, one: Owed) -> bool:
        try:
            self._touch(one.told, one.mark)
        except Exception as error:  # noqa: BLE001  (whatever the client raises: it is tried again)
            log.warning("a pod was not touched; it is tried again", pod=f"{one.told.namespace}/{one.told.name}", error=str(error))
            return False
        return True


def _same(told: Told, seating: Seating) -> bool:
    found = seating.find(f"{told.namespace}/{told.name}", told.uid)
    return found is not None and (found.node, found.free) == (told.node, told.free)


def newly_free(before: Seating | None, after: Seating) -> list[Told]:
    """The pods that were given up, and were not before."""
    earlier = before.told if before is not None else {}
    return [one for key, one in after.told.items() if one.free and not (key in earlier and earlier[key].free)]


def no_longer_held(after: Seating) -> list[Told]:
    """The pods that a plan held which has run out."""
    return [one for one in after.told.values() if not one.free]

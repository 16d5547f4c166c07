"""What the core asks of a scheduler's adapter. Adapters do no planning, the core knows no scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.plugins.cluster import Snapshot
    from service.plugins.orders import Order, Wait


class SchedulerError(RuntimeError):
    """The scheduler could not be asked or told; what to look at is in the message. The round is given up, the next one tries again."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of one order: ``done``, ``refused`` (the scheduler or a re-check said no) or ``gone`` (the job is no more)."""

    job: str
    outcome: Literal["done", "refused", "gone"]
    detail: str = ""


class Scheduler(Protocol):
    """An adapter of one scheduler. Called from one thread; each call ends within its own time limit or raises SchedulerError."""

    name: str

    def snapshot(self) -> Snapshot:
        """The cluster now."""

    def changed(self, timeout_s: float) -> bool:
        """Wait until something may have changed, at most ``timeout_s`` seconds; a scheduler that cannot tell says True after its poll."""

    def commit(self, orders: Sequence[Order]) -> tuple[Committed, ...]:
        """Pin and release each job, a gang whole or not at all; one answer an order, in their sequence.

        The core has re-checked each against a fresh snapshot; what the scheduler itself can make atomic, it does (a version in
        the request, a precondition), so that a change in between is refused rather than overrun.
        """

    def free(self, jobs: Sequence[str]) -> tuple[str, ...]:
        """Release these held jobs without any pin, so that the scheduler places them by itself; the ids that were released."""

    def unpin(self, jobs: Sequence[str]) -> tuple[str, ...]:
        """Take the pin from released jobs that have not started (their node was drained); the ids whose pin is gone."""

    def tell(self, waits: Sequence[Wait]) -> None:
        """Leave each sentence where users look: an event, a job's comment. Failures are logged, never raised."""

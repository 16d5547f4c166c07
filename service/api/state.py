"""What every endpoint needs: the database, the children, the queue's gauge and who waits, each without blocking the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread
import structlog

from optimizer.child import ChildGoneError
from service.api.entropy import Entropy
from service.api.lane import Lane
from service.api.quota import ProblemGauge, QueueGauge
from service.api.watch import Watch
from service.errors import ServiceError, TooLarge, Unavailable, Unprocessable

if TYPE_CHECKING:
    from fastapi import Request
    from sqlalchemy import Connection

    from optimizer.child import ChildEnd
    from service.children import ChildPool
    from service.runs.bulletin import Bulletin
    from service.runs.database import Database
    from service.runs.worker import Worker
    from service.settings import Settings
    from service.telemetry import Telemetry

T = TypeVar("T")

ANSWER_S = 10.0  # what a database may take before it counts as not answering
READERS = 8  # of the database at a time, as many connections as are kept open
READING_WAIT_S = 10.0  # a body may wait so long for a process that reads it
QUESTION_WAIT_S = 30.0  # an explanation, a sensitivity or a program written down may wait so long
DECIDING = ("quartermaster", "highspy", "ortools")  # what an answer depends on besides the request
log = structlog.get_logger(__name__)


class Service:
    """One API process. Everything that takes time is awaited here."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        pool: ChildPool,
        bulletin: Bulletin,
        worker: Worker | None,
        telemetry: Telemetry,
    ) -> None:
        self.settings, self.database, self.pool = settings, database, pool
        self.bulletin, self.worker, self.telemetry = bulletin, worker, telemetry
        self.gauge = QueueGauge(settings)
        self.kept = ProblemGauge(settings)
        self.watch = Watch(bulletin, settings.most_streams)
        self.versions = " ".join(f"{name}-{version(name)}" for name in DECIDING)
        self.entropy = Entropy()
        self._stopping = False
        self._readers = anyio.CapacityLimiter(READERS)
        # Apart: who asks slow questions must not keep others from having their bodies read.
        self.bodies = Lane(settings.slots, READING_WAIT_S, "to read a body")
        self.questions = Lane(settings.slots, QUESTION_WAIT_S, "to answer a question about a run")

    @property
    def stopping(self) -> bool:
        """Whether the process is about to end: nothing more is accepted, and those who wait are answered soon."""
        return self._stopping

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self._stopping = value
        if value:
            self.watch.stop(self.settings.drain_s)

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """What the operation returns; raises what it raises, and Unavailable when the database does not answer."""
        return await self.reading(partial(self.database.read, operation))

    async def reading(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, which reads the database; raises as ``read`` does."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await anyio.to_thread.run_sync(work, limiter=self._readers, abandon_on_cancel=True)
        except TimeoutError:
            raise Unavailable("the database does not answer", code="database_unavailable", retry_after_s=1) from None

    async def write(self, operation: Callable[[Connection], T]) -> T:
        """What the operation returns once it is committed; raises as ``read`` does."""
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self.database.submit(operation)), ANSWER_S)
        except TimeoutError:
            detail = "the database does not answer; what was asked may yet be done: ask again with the same Idempotency-Key"
            raise Unavailable(detail, code="database_unavailable", retry_after_s=1) from None

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What ``work`` returns: for what takes milliseconds and does not hold the interpreter."""
        return await anyio.to_thread.run_sync(work)

    async def in_child(
        self, target: str, payload: dict[str, Any], *, deadline_s: float, threads: int = 1, question: bool = False
    ) -> ChildEnd:
        """How the task ended in a child process; ``question`` is what takes its time, anything else reads a body.

        Raises Unavailable when too many wait for a process, or this one has waited for too long.
        """
        cancel = threading.Event()
        work = partial(
            self.pool.run,
            target,
            payload,
            deadline_s=deadline_s,
            memory_gib=self.settings.memory_gib,
            cancel=cancel,
            cpu_s=deadline_s * (threads + 1),
        )
        try:
            return await (self.questions if question else self.bodies).run(work)
        except ChildGoneError:
            raise Unavailable("the service is stopping", retry_after_s=1) from None
        finally:
            cancel.set()

    async def helped(self, target: str, payload: dict[str, Any], *, deadline_s: float, what: str, question: bool = False) -> dict[str, Any]:
        """What the task answered. ``what`` names the work in messages, ``question`` is as for ``in_child``.

        Raises Unprocessable when it takes too long, TooLarge when it takes too much memory, Unavailable as ``in_child``.
        """
        end = await self.in_child(target, payload, deadline_s=deadline_s, question=question)
        if end.value is not None:
            found: dict[str, Any] = end.value
            return found
        if end.reason in ("deadline", "cancelled"):
            raise Unprocessable(f"{what} takes longer than {deadline_s:g} s; ask it of a smaller problem", code="too_slow")
        if end.reason == "memory":
            raise TooLarge(f"{what} takes more memory than the service may use; ask it of a smaller problem", code="too_much_memory")
        log.error("a child process failed", task=target, reason=end.reason, report=end.message)
        raise ServiceError(f"{what} failed by our own fault; it is logged under this request's id")


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    found: Service = request.app.state.service
    return found

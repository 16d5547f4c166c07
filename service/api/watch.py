"""Lets requests wait for runs: told at once by this process's worker, and by one look at the database for all when others solve."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import structlog

from service.errors import ServiceError, TooMany, Unavailable
from service.runs import queries, store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from typing import Any

    from starlette.types import Receive

    from service.runs.bulletin import Bulletin
    from service.runs.records import Run

    Read = Callable[[Callable[..., Any]], Awaitable[Any]]

LOOK_S = 0.1  # how often the database is asked while anyone waits
AT_ONCE = 500  # runs in one question
RETRY_S = 2.0
log = structlog.get_logger(__name__)


class Watch:
    """Who waits for which run. One task looks for all of them, and only while there are any."""

    def __init__(self, bulletin: Bulletin, most: int) -> None:
        self._bulletin = bulletin
        self._most = most
        self._places: Counter[str] = Counter()  # that are taken, by tenant
        self._waiting: Counter[int] = Counter()  # by the run's position
        self._seen: dict[int, int] = {}  # position: number of its last event
        self._looker: asyncio.Task[None] | None = None
        self._read: Read | None = None
        self._stop_at = math.inf

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._waiting.total()

    def refuse_when_full(self, tenant: str) -> None:
        """Raises Unavailable when every place to wait is taken, TooMany when half of them are by this tenant."""
        if self._places.total() >= self._most:
            detail = "too many requests wait for runs; ask without waiting, or later"
            raise Unavailable(detail, code="too_many_waiting", retry_after_s=RETRY_S)
        if self._places[tenant] >= max(self._most // 2, 1):
            detail = f"{self._places[tenant]:,} requests of this tenant wait for runs; ask without waiting, or later"
            raise TooMany(detail, code="tenant_too_many_waiting", retry_after_s=RETRY_S)

    @contextlib.contextmanager
    def _place(self, tenant: str) -> Iterator[None]:
        self.refuse_when_full(tenant)
        self._places[tenant] += 1
        try:
            yield
        finally:
            self._places[tenant] -= 1
            if not self._places[tenant]:
                del self._places[tenant]

    @contextlib.asynccontextmanager
    async def moves(self, run: Run, seen: int, read: Read, *, place: bool = True) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever the run goes beyond event number ``seen``; clear it before looking, then wait.

        Raises as ``refuse_when_full``, unless it needs no ``place``.
        """
        with self._place(run.tenant) if place else contextlib.nullcontext():
            async with self._moves(run.position, seen, read) as moved:
                yield moved

    @contextlib.asynccontextmanager
    async def _moves(self, position: int, seen: int, read: Read) -> AsyncIterator[asyncio.Event]:
        self._waiting[position] += 1
        self._seen[position] = min(self._seen.get(position, seen), seen)
        self._read = read
        if self._looker is None or self._looker.done():
            self._looker = asyncio.create_task(self._look(), name="watch")
        try:
            async with self._bulletin.listen(position) as moved:
                yield moved
        finally:
            self._waiting[position] -= 1
            if not self._waiting[position]:
                del self._waiting[position]
                self._seen.pop(position, None)

    async def until_ended(self, run: Run, seconds: float, read: Read, receive: Receive | None = None, *, place: bool = True) -> Run:
        """The run when it has ended, or as it is after so many seconds, or when ``receive`` tells that the client has left.

        Raises as ``moves``, and what ``read`` raises.
        """
        if run.is_terminal:
            return run
        until = time.monotonic() + seconds
        async with self.moves(run, run.events, read, place=place) as moved, _leaving(receive, moved) as gone:
            while not run.is_terminal and not gone.is_set():
                try:
                    async with asyncio.timeout(max(min(until, self._stop_at) - time.monotonic(), 0.0)):
                        await moved.wait()
                        moved.clear()
                        run = await read(partial(store.run_of, tenant=run.tenant, run_id=run.id))
                except TimeoutError:
                    break
        return run

    def stop(self, seconds: float) -> None:
        """Nobody waits for a run longer than this from now: the process is about to end. May be called from any thread."""
        self._stop_at = time.monotonic() + seconds
        for position in list(self._waiting):
            self._bulletin.publish(position)

    async def _look(self) -> None:
        while self._waiting:
            await asyncio.sleep(LOOK_S)
            positions = list(self._waiting)
            for start in range(0, len(positions), AT_ONCE):
                asked = {position: self._seen.get(position, 0) for position in positions[start : start + AT_ONCE]}
                await self._tell(asked)

    async def _tell(self, asked: dict[int, int]) -> None:
        assert self._read is not None  # noqa: S101  (set before the task starts)
        try:
            found = await self._read(partial(queries.moved, seen=asked))
        except ServiceError as error:
            log.warning("those who wait cannot be told", reason=error.detail)
            return
        for position, (_, events) in found.items():
            if position in self._seen:
                self._seen[position] = events
            self._bulletin.publish(position)

    async def close(self) -> None:
        """End the look."""
        if self._looker is not None:
            self._looker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looker


@contextlib.asynccontextmanager
async def _leaving(receive: Receive | None, moved: asyncio.Event) -> AsyncIterator[asyncio.Event]:
    """An event that is set, together with ``moved``, when the client closes the connection."""
    gone = asyncio.Event()
    if receive is None:
        yield gone
        return

    async def listen(hear: Receive) -> None:
        while (await hear())["type"] != "http.disconnect":
            pass
        gone.set()
        moved.set()

    listener = asyncio.create_task(listen(receive), name="disconnect")
    try:
        yield gone
    finally:
        listener.cancel()
        with contextlib.suppress(asyncio.CancelledError, ServiceError):
            await listener

"""Lets a few requests at a time use a child process, and the others wait for it, but not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from service.errors import Unavailable

T = TypeVar("T")

MOST_WAITING = 64
RETRY_S = 2.0


class Lane:
    """At most ``places`` pieces of work at a time; ``why`` says in messages what a process is wanted for."""

    def __init__(self, places: int, longest_wait_s: float, why: str) -> None:
        self._places = asyncio.Semaphore(places)
        self._threads = anyio.CapacityLimiter(places)
        self._longest_wait_s = longest_wait_s
        self._why = why
        self._waiting = 0

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, in a thread. Raises what it raises, and Unavailable when too many wait, or this has waited too long."""
        if self._waiting >= MOST_WAITING:
            raise self._busy("too many requests wait")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._longest_wait_s):
                await self._places.acquire()
        except TimeoutError:
            raise self._busy(f"the request has waited for {self._longest_wait_s:g} s") from None
        finally:
            self._waiting -= 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._threads, abandon_on_cancel=True)
        finally:
            self._places.release()

    def _busy(self, what: str) -> Unavailable:
        return Unavailable(f"{what} for a process {self._why}; ask again later", code="busy", retry_after_s=RETRY_S)

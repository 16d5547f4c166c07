"""Tells those who wait that a run has moved: at once within this process, by looking now and then for other processes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Bulletin:
    """Waiting coroutines by the run's position. ``publish`` may be called from any thread, ``listen`` in a loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: defaultdict[int, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(set)

    def publish(self, position: int) -> None:
        """Wake everyone who listens to this run."""
        with self._lock:
            listeners = list(self._listeners.get(position, ()))
        for loop, moved in listeners:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(moved.set)

    @contextlib.asynccontextmanager
    async def listen(self, position: int) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever the run has moved; clear it before looking, then wait."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._listeners[position].add(entry)
        try:
            yield entry[1]
        finally:
            with self._lock:
                self._listeners[position].discard(entry)
                if not self._listeners[position]:
                    del self._listeners[position]

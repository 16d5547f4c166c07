"""Warm child processes, shared by all who need one: a task takes a child, uses it alone, and gives it back.

A child that was killed or has crashed is replaced, and so is one that served many tasks or has grown: what a library
leaks ends with the process.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import psutil

from optimizer.child import Child, ChildEnd, ChildGoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MIB = 2**20
IMPORTS = ("service.tasks",)


class ChildPool:
    """Up to ``idle`` children wait, imports done; more are started when more are wanted at once. Thread-safe."""

    def __init__(self, idle: int, *, tasks: int = 1_000, growth_mib: int = 512, imports: Sequence[str] = IMPORTS) -> None:
        self._idle_wanted = idle
        self._tasks = tasks
        self._growth = growth_mib * MIB
        self._imports = tuple(imports)
        self._lock = threading.Lock()
        self._idle: deque[_Kept] = deque()
        self._busy: set[_Kept] = set()
        self._open = True
        self.killed = 0  # children ended by us or by a crash, for /metrics

    def start(self) -> None:
        """Start the children that are to wait; returns at once, they import meanwhile."""
        self._fill()

    def run(
        self,
        target: str,
        payload: object,
        *,
        deadline_s: float,
        memory_gib: float | None = None,
        cancel: threading.Event | None = None,
        on_message: Callable[[Any], None] | None = None,
        grace_s: float | Callable[[], float] = 1.0,
        cpu_s: float | None = None,
    ) -> ChildEnd:
        """``Child.run`` in a warm child. Raises ChildGoneError when the pool is closed, and what ``Child.run`` raises."""
        with self._taken() as kept:
            return kept.child.run(
                target,
                payload,
                deadline_s=deadline_s,
                memory_gib=memory_gib,
                cancel=cancel,
                on_message=on_message,
                grace_s=grace_s,
                cpu_s=cpu_s,
            )

    def pids(self) -> list[int]:
        """Process ids of all children, idle and busy."""
        with self._lock:
            return [kept.child.pid for kept in (*self._idle, *self._busy)]

    def close(self) -> None:
        """Kill every child. A task that runs ends with ChildGoneError or as a crash."""
        with self._lock:
            self._open = False
            idle, busy = list(self._idle), list(self._busy)
            self._idle.clear()
        for kept in idle:
            kept.child.close()
        for kept in busy:
            kept.child.kill()

    # ------------------------------------------------------------ inside

    @contextlib.contextmanager
    def _taken(self) -> Iterator[_Kept]:
        with self._lock:
            if not self._open:
                raise ChildGoneError("the pool of child processes is closed")
            kept, dead = self._warmest()
            self._busy.add(kept)
        for other in dead:
            other.child.close()
        try:
            yield kept
        finally:
            self._back(kept)

    def _warmest(self) -> tuple[_Kept, list[_Kept]]:
        """The child that waits and was used last, or a new one; and those found dead on the way."""
        dead: list[_Kept] = []
        while self._idle:
            kept = self._idle.popleft()
            if kept.child.running:
                return kept, dead
            dead.append(kept)
            self.killed += 1
        return self._new(), dead

    def _back(self, kept: _Kept) -> None:
        kept.served += 1
        spent = not kept.child.alive or kept.served >= self._tasks or kept.grown() > self._growth
        with self._lock:
            self._busy.discard(kept)
            self.killed += not kept.child.alive
            keep = self._open and not spent and len(self._idle) < self._idle_wanted
            if keep:
                self._idle.appendleft(kept)  # the one used last is the warmest
        if not keep:
            kept.child.close()
            self._fill()

    def _fill(self) -> None:
        with self._lock:
            while self._open and len(self._idle) + len(self._busy) < self._idle_wanted:
                self._idle.append(self._new())

    def _new(self) -> _Kept:
        return _Kept(Child.start(imports=self._imports))


class _Kept:
    """A child with what decides when it is replaced."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.served = 0
        self._first: int | None = None

    def grown(self) -> int:
        """Bytes of resident memory gained since the first task ended."""
        try:
            size: int = psutil.Process(self.child.pid).memory_info().rss
        except psutil.Error:
            return 0
        if self._first is None:
            self._first = size
        return size - self._first

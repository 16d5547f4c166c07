"""Warm child processes, shared by all who need one: a task takes a child, uses it alone, and gives it back.

A child that was killed or has crashed is replaced, and so is one that served many tasks or has grown: what a library
leaks ends with the process. A task with a limit of memory is not given to a child in which earlier tasks have left much of
it. What a native parser does to a hostile file ends with its process too: such a task has a child for itself.

Each child has a folder for its temporary files, which goes when the child goes, however it ends. A folder is locked for as
long as this process lives; those that a killed process left behind are removed by the next one that starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from optimizer.child import Child, ChildEnd, ChildGoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MIB = 2**20
LEFT_SHARE = 1 / 8  # of a task's limit of memory, that others may have left in its child
GIB = 2**30
IMPORTS = ("service.tasks",)
FRESH = frozenset({"service.tasks:read_program"})  # served by a child that has served nothing before, and never serves again
FOLDERS = "quartermaster-child-"


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
        self._least: int | None = None  # bytes that a child holds after a first task, at least
        self.killed = 0  # children ended by us or by a crash, for /metrics

    def start(self) -> None:
        """Start the children that are to wait; returns at once, they import meanwhile. Removes what killed pools left behind."""
        remove_leftovers()
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
        """``Child.run`` in a warm child, or for the tasks of ``FRESH`` in one that has served nothing and is closed afterwards.

        Raises ChildGoneError when the pool is closed, and what ``Child.run`` raises.
        """
        with self._taken(fresh=target in FRESH, limit=None if memory_gib is None else memory_gib * GIB) as kept:
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
            kept.close()
        for kept in busy:
            kept.child.kill()

    # ------------------------------------------------------------ inside

    @contextlib.contextmanager
    def _taken(self, *, fresh: bool, limit: float | None) -> Iterator[_Kept]:
        with self._lock:
            if not self._open:
                raise ChildGoneError("the pool of child processes is closed")
            kept, gone = self._unused() if fresh else self._warmest(limit)
            self._busy.add(kept)
        for other in gone:
            other.close()
        try:
            yield kept
        finally:
            self._back(kept, last=fresh)

    def _warmest(self, limit: float | None) -> tuple[_Kept, list[_Kept]]:
        """The child that waits and was used last, or a new one; and those found dead on the way, or too full for the limit in bytes."""
        gone: list[_Kept] = []
        while self._idle:
            kept = self._idle.popleft()
            alive = kept.child.running and kept.size() > 0  # killed, it holds nothing while its last threads end
            if alive and (limit is None or not self._full(kept, limit)):
                return kept, gone
            gone.append(kept)
            self.killed += not alive
        return self._new(), gone

    def _full(self, kept: _Kept, limit: float) -> bool:
        """Whether earlier tasks left so much in a child that another one would be ended for it."""
        if not kept.served:
            return False
        size = kept.size()
        return size - (self._least or size) > LEFT_SHARE * limit

    def _unused(self) -> tuple[_Kept, list[_Kept]]:
        """A child that waits and has served nothing, or a new one; and the one that makes room, so that the next finds one waiting."""
        for kept in reversed(self._idle):
            if kept.served == 0 and kept.child.running:
                self._idle.remove(kept)
                return kept, []
        gone = [self._idle.pop()] if self._idle else []
        return self._new(), gone

    def _back(self, kept: _Kept, *, last: bool) -> None:
        kept.served += 1
        size = kept.size()
        with self._lock:
            if size and (self._least is None or size < self._least):
                self._least = size
            grown = size - (self._least or size)
            spent = last or not kept.child.alive or kept.served >= self._tasks or grown > self._growth
            self._busy.discard(kept)
            self.killed += not kept.child.alive
            keep = self._open and not spent and len(self._idle) < self._idle_wanted
            if keep:
                self._idle.appendleft(kept)  # the one used last is the warmest
        if not keep:
            kept.close()
            with contextlib.suppress(OSError):  # short of processes or descriptors: whoever needs a child next is told
                self._fill()

    def _fill(self) -> None:
        with self._lock:
            while self._open and len(self._idle) + len(self._busy) < self._idle_wanted:
                self._idle.append(self._new())

    def _new(self) -> _Kept:
        folder = _Folder()
        try:
            return _Kept(Child.start(imports=self._imports, plain=True, variables={"TMPDIR": str(folder.path)}), folder)
        except BaseException:
            folder.close()
            raise


class _Kept:
    """A child with what decides when it is replaced."""

    def __init__(self, child: Child, folder: _Folder) -> None:
        self.child = child
        self._folder = folder
        self.served = 0

    def close(self) -> None:
        """End the child, and with it its files. May be called twice."""
        self.child.close()
        self._folder.close()

    def size(self) -> int:
        """Bytes of resident memory; 0 where it is gone, or was killed and is about to be."""
        try:
            size: int = psutil.Process(self.child.pid).memory_info().rss
        except psutil.Error:
            return 0
        return size


class _Folder:
    """A new folder for temporary files that this process has locked."""

    def __init__(self) -> None:
        self._open = True
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=FOLDERS))
            with contextlib.suppress(FileNotFoundError):
                self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                if self.path.exists():  # else another process took it for a leftover before it was locked
                    return
                os.close(self._lock)

    def close(self) -> None:
        if self._open:
            self._open = False
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)


def remove_leftovers() -> None:
    """Remove the folders of this user's children whose parent is gone."""
    for path in Path(tempfile.gettempdir()).glob(f"{FOLDERS}*"):
        with contextlib.suppress(OSError):  # another removes it too, or it is locked
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)

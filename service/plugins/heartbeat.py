"""The sign of life that a follower leaves after every good round: a small file, replaced whole.

It holds the monotonic clock, which all processes of a machine share and nobody can set, and the id of the boot that it counts from.
The wall clock is only asked where those cannot be compared: after a restart of the machine. Imports nothing but the standard
library, because the watchdog must start fast and stay small.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Stamp:
    """One sign of life. ``ended``: the follower has stopped, and released everything held before."""

    sequence: int
    monotonic: float
    boot: str
    wall: float
    pid: int
    ended: bool = False

    def age_s(self, monotonic: float, boot: str, wall: float) -> float:
        """Seconds since it was left; infinite when the clocks cannot both be right."""
        age = monotonic - self.monotonic if boot == self.boot and boot else wall - self.wall
        return age if age >= 0 else math.inf


class Heart:
    """Leaves the stamps at ``path``, whose folder exists. Not thread-safe."""

    def __init__(
        self, path: Path, *, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time, boot: str | None = None
    ) -> None:
        self.path = path
        self._monotonic, self._wall = monotonic, wall
        self._boot = boot if boot is not None else boot_id()
        before = read(path)
        self._sequence = before.sequence if before is not None else 0
        self._lock: int | None = None

    def begin(self) -> None:
        """Remove what an earlier follower left, before a watchdog is started: it then counts from its own start.

        From here to ``close`` no other process may begin with this stamp: two followers would answer for each other's life, and the
        clean end of one would end the watch over both. Raises OSError, which says so.
        """
        if self._lock is None:
            self._lock = _locked(self.path)
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another follower begin with this stamp; may be called twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def beat(self, *, ended: bool = False) -> None:
        """Leave a stamp. Raises OSError when it cannot be written."""
        self._sequence += 1
        write(self.path, Stamp(self._sequence, self._monotonic(), self._boot, self._wall(), os.getpid(), ended))


def _locked(path: Path) -> int:
    """An open file beside the stamp, locked for this process. A child that is forked does not have the lock. Raises OSError."""
    lock = os.open(path.with_name(f"{path.name}.follower"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        told = "another follower runs with it; stop that one, or give this one a file of its own and other jobs"
        raise BlockingIOError(errno.EWOULDBLOCK, told, str(path)) from None
    return lock


def boot_id() -> str:
    """What distinguishes this boot of the machine from others; empty where the system does not tell."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def write(path: Path, stamp: Stamp) -> None:
    """Replace the file at once: a reader sees the old one or the new one. Raises OSError."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(json.dumps(asdict(stamp)), encoding="ascii")
    new.replace(path)


def read(path: Path) -> Stamp | None:
    """The stamp at ``path``; None when there is none, or none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="ascii"))
        stamp = Stamp(
            int(found["sequence"]),
            float(found["monotonic"]),
            str(found["boot"]),
            float(found["wall"]),
            int(found["pid"]),
            found.get("ended") is True,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return stamp if math.isfinite(stamp.monotonic) and math.isfinite(stamp.wall) else None

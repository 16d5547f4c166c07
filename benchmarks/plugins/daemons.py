"""Daemons of a cluster that is started for a test or a measurement: in a folder of their own, under a time limit, ended with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TIMEOUT = shutil.which("timeout") or "/usr/bin/timeout"
END_S = 5.0


@dataclass(slots=True)
class Daemons:
    """Processes that log into ``folder`` and live ``life_s`` seconds at most: if whoever started them is killed they end by themselves."""

    folder: Path
    life_s: int = 900
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *command: str, environment: Mapping[str, str] | None = None, name: str | None = None) -> subprocess.Popen[bytes]:
        """One more, in a session of its own. Its log is named by number and program, or ``name``."""
        log = self.folder / f"{len(self.processes):02d}-{name or Path(command[0]).name}"
        with log.open("ab") as output:
            daemon = subprocess.Popen(
                [TIMEOUT, "--kill-after=2", str(self.life_s), *command],
                env=None if environment is None else dict(environment),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.processes.append(daemon)
        return daemon

    def end(self, daemon: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM, limit_s: float = END_S) -> None:
        """End one, and wait for it; after ``limit_s`` it is killed."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(daemon.pid, number)
        try:
            daemon.wait(limit_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()
        if daemon in self.processes:
            self.processes.remove(daemon)

    def end_all(self) -> None:
        """End all, the last one started first."""
        for daemon in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(daemon.pid, signal.SIGTERM)
        for daemon in list(self.processes):
            self.end(daemon)

    def logs(self) -> str:
        """The last lines of each."""
        logs = sorted(one for one in self.folder.iterdir() if one.is_file())
        return "\n".join(f"{log.name}: {line}" for log in logs for line in log.read_text(errors="replace").splitlines()[-3:])


class StartError(RuntimeError):
    """A cluster did not come up; the message ends in the last lines of its logs."""


class Cluster(ABC):
    """Something of several daemons, started by ``with`` and stopped at its end."""

    TRIES = 3  # a port may be taken between being found free and being used

    def __enter__(self) -> Self:
        """Start it. Raises StartError."""
        for left in reversed(range(self.TRIES)):
            try:
                self._start()
            except StartError:
                self.stop()
                if not left:
                    raise
            else:
                return self
        raise AssertionError  # the loop returns or raises

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @abstractmethod
    def _start(self) -> None:
        """Start every daemon. Raises StartError."""

    @abstractmethod
    def stop(self) -> None:
        """End every daemon, whichever of them were started, and remove what they left."""


def end_family(process: subprocess.Popen[bytes], mark: str) -> None:
    """End a process and whatever it started: what names ``mark``, a folder of its own, on its command line, and the children of that."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGCONT)
    family = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if mark in " ".join(one.cmdline()) and one.pid != os.getpid():
                family += [one, *one.children(recursive=True)]
    for one in family:
        with contextlib.suppress(psutil.Error):
            one.kill()
    process.kill()
    process.wait()


def until(true: Callable[[], object], seconds: float = 20.0, every_s: float = 0.1) -> bool:
    """Wait for something to become true; whether it did."""
    end = time.monotonic() + seconds
    while not (found := bool(true())) and time.monotonic() < end:
        time.sleep(every_s)
    return found


def free_ports(count: int) -> list[int]:
    """So many ports of loopback that nobody listens on now."""
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]

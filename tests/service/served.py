"""Starts the real program as a process on a free port of loopback, and always ends it."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil

STARTS_S = 60.0  # on a machine that is busy with other tests
ENDS_S = 60.0
URL = re.compile(r"https?://\S+")


class Process:
    """``quartermaster`` with some arguments; ``first_line`` is what it announced."""

    def __init__(self, folder: Path, *arguments: str, **settings: object) -> None:
        given = {name: text for name, text in os.environ.items() if not name.startswith("QUARTERMASTER_")}
        given |= {f"QUARTERMASTER_{name.upper()}": str(value) for name, value in settings.items()}
        given["PYTHONWARNINGS"] = "default"
        command = [sys.executable, "-m", "service.cli", *arguments]
        root = str(Path(__file__).resolve().parents[2])
        given["PYTHONPATH"] = root
        self.process = subprocess.Popen(command, cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.out: list[str] = []
        self.err: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, kept, told), daemon=True)
            for stream, kept, told in ((self.process.stdout, self.out, self._lines), (self.process.stderr, self.err, None))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], kept: list[str], told: queue.Queue[str | None] | None) -> None:
        with stream:
            for line in stream:
                kept.append(line.rstrip("\n"))
                if told is not None:
                    told.put(line)
        if told is not None:
            told.put(None)

    def announced(self) -> str:
        """The first line on standard output; fails with the log when there is none."""
        line = self._lines.get(timeout=STARTS_S)
        assert line is not None, "\n".join(self.err)
        return line

    @property
    def url(self) -> str:
        """The URL that it announced."""
        found = URL.search(self.out[0])
        assert found is not None, self.out
        return found[0].removesuffix("/metrics")

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(ENDS_S)
        for reader in self._readers:
            reader.join(ENDS_S)
        return code

    def children(self) -> list[psutil.Process]:
        """Its child processes, theirs too."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def close(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.ended()


@contextlib.contextmanager
def started(folder: Path, *arguments: str, **settings: object) -> Iterator[Process]:
    """A process that has announced itself; killed at the end when it still runs."""
    made = Process(folder, *arguments, **settings)
    try:
        made.announced()
        yield made
    finally:
        made.close()


def refused(folder: Path, *arguments: str, **settings: object) -> tuple[int, str]:
    """Exit code and standard error of a command that ends by itself."""
    made = Process(folder, *arguments, **settings)
    try:
        code = made.ended()
    finally:
        made.close()
    return code, "\n".join(made.err)

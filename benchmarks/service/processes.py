"""Server and worker processes of the benchmark: started in a folder of their own, killed and started again, always ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

START_S = 60.0
STOP_S = 30.0


class NotStartedError(RuntimeError):
    """A process ended, or said nothing, before it was ready; the message is what it printed."""


@dataclass
class Process:
    """One ``quartermaster`` process that can be killed and started again."""

    command: tuple[str, ...]
    folder: Path
    settings: dict[str, str]
    says: str  # the start of the line that tells that it is ready
    line: str = ""
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start, and wait until it says that it is ready. Raises NotStartedError."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QUARTERMASTER_")}
        environment |= {f"QUARTERMASTER_{name}": value for name, value in self.settings.items()} | {"PYTHONUNBUFFERED": "1"}
        self.starts += 1
        out = self.folder / f"{self.command[0]}-{os.getpid()}-{id(self)}-{self.starts}.log"
        with out.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", *self.command],
                cwd=self.folder,
                env=environment | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        give_up = time.monotonic() + START_S
        while time.monotonic() < give_up:
            text = out.read_text(encoding="utf-8", errors="replace")
            line = next((line for line in text.splitlines() if line.startswith(self.says)), None)
            if line is not None:
                self.line = line
                return self
            if self.process.poll() is not None:
                raise NotStartedError(text)
            time.sleep(0.01)
        raise NotStartedError(f"not ready after {START_S:g} s: {out.read_text(encoding='utf-8', errors='replace')}")

    @property
    def pid(self) -> int:
        """Process id, while it was started."""
        return self._started().pid

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise NotStartedError("it was never started")
        return self.process

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def children(self) -> list[psutil.Process]:
        """The processes it has started."""
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def kill(self) -> None:
        """SIGKILL, and reap."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_S)

    def stop(self) -> int:
        """End in good order; the exit code."""
        process = self._started()
        if self.alive:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return -int(signal.SIGKILL)


@dataclass
class House:
    """The processes of one measurement, all on one database."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    @property
    def database_url(self) -> str:
        """Where the runs are."""
        return self.settings.get("DATABASE_URL", f"sqlite:///{self.folder / 'quartermaster.db'}")

    def serve(self, *options: str, port: int = 0, **settings: str) -> Process:
        """An API process, with workers unless ``--no-workers`` is given."""
        command = ("serve", "--port", str(port), *options)
        return self._started(command, "Quartermaster serves on ", settings)

    def worker(self, **settings: str) -> Process:
        """A worker process."""
        return self._started(("worker",), "Quartermaster works", settings)

    def _started(self, command: tuple[str, ...], says: str, settings: dict[str, str]) -> Process:
        given = {"DATABASE_URL": self.database_url, "LOG_LEVEL": "warning"} | self.settings | settings
        made = Process(command, self.folder, given, says)
        self.processes.append(made)
        return made.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            if process.process is not None:
                process.stop()


def address(server: Process) -> tuple[str, int]:
    """Host and port of a server."""
    host, _, port = server.line.rpartition("//")[2].rpartition(":")
    return host, int(port)

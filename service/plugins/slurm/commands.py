"""Slurm's own commands, each with a time limit, and one ``scontrol`` that lives long and is fed many lines."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from service.plugins.scheduler import SchedulerError
from service.plugins.slurm.changes import Told
from service.plugins.slurm.files import SlurmFiles, SlurmFilesError, parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.plugins.slurm.changes import Change

SHOW_NODES_SINCE = (23, 2)  # from here on `sinfo --json` groups nodes, and scontrol prints JSON
TOPOLOGY_S = 300.0  # it changes with slurm.conf only
NODES_S = 2.0  # how old the nodes of a glance may be: they change less often than jobs
CHUNK = 65_536
USERS_OWN = ("SQUEUE_", "SINFO_", "SLURM_TIME_FORMAT", "SLURM_DEBUG")
NOISE = re.compile(r"^(scontrol: )?(warning|info|verbose|debug\d?|debug flags?)\b")  # what is said besides errors


class Commands:
    """Runs squeue, sinfo and scontrol. Not thread-safe. ``environment`` is added to this process's own."""

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # SLURM_BITSTR_LEN=0: array tasks are listed in full. No time format of the user's is to change what is printed.
        # Nor is a filter, a format or a log level of the user's to decide what is seen.
        own = {name: value for name, value in os.environ.items() if not name.startswith(USERS_OWN)}
        self._environment = {**own, **(environment or {}), "SLURM_BITSTR_LEN": "0", "LC_ALL": "C", "TERM": "dumb"}
        self._timeout_s, self._wall, self._clock = timeout_s, wall, clock
        self._version: tuple[int, int] | None = None
        self._topology: tuple[float, str] | None = None
        self._nodes: tuple[float, bytes] | None = None
        self.scontrol = Scontrol(self._environment, timeout_s, clock)

    def version(self) -> tuple[int, int]:
        """Major and minor version. Raises SchedulerError."""
        if self._version is None:
            printed = self._run("scontrol", "--version").decode(errors="replace")
            found = re.search(r"(\d+)\.(\d+)", printed)
            if found is None:
                raise SchedulerError(f"scontrol --version printed '{printed.strip()[:80]}'; Slurm 22.05 or later is needed")
            self._version = int(found[1]), int(found[2])
        return self._version

    def read(self) -> SlurmFiles:
        """The cluster now. Nodes first: what starts in between is then seen with its job, what ends is still counted as in use.

        Raises SchedulerError.
        """
        newer = self.version() >= SHOW_NODES_SINCE
        nodes = self._run("scontrol", "show", "nodes", "--json") if newer else self._run("sinfo", "--json")
        jobs = self._run("squeue", "--json")
        try:
            about = {"slurm": ".".join(f"{part:02d}" for part in self.version())}
            return SlurmFiles(parsed(jobs, "squeue --json"), parsed(nodes, "sinfo --json"), self._switches(), self._wall(), about)
        except SlurmFilesError as error:
            raise SchedulerError(str(error)) from None

    def glance(self) -> bytes:
        """A few bytes for each job and node that change with what a plan rests on; much cheaper than ``read``."""
        jobs = self._run("squeue", "-h", "-a", "-o", "%i|%T|%r|%D|%C|%b|%f|%x|%n|%P|%V")
        if self._nodes is None or self._clock() - self._nodes[0] > NODES_S:
            self._nodes = self._clock(), self._run("sinfo", "-h", "-a", "-N", "-o", "%N|%T|%G|%f")
        return jobs + self._nodes[1]

    def tell(self, changes: Sequence[Change]) -> tuple[Told, ...]:
        """Have scontrol carry out each change, in their sequence; one answer a change. Raises SchedulerError."""
        return self.scontrol.run([change.line() for change in changes]) if changes else ()

    def close(self) -> None:
        """End the scontrol that lives long."""
        self.scontrol.close()

    def _switches(self) -> str:
        if self._topology is None or self._clock() - self._topology[0] > TOPOLOGY_S:
            try:
                shown = self._run("scontrol", "show", "topology").decode(errors="replace")
            except SchedulerError:
                shown = ""  # none is configured: the nodes then stand nowhere in particular
            self._topology = self._clock(), shown
        return self._topology[1]

    def _run(self, *command: str) -> bytes:
        try:
            done = subprocess.run(  # noqa: S603  (Slurm's own commands, with arguments of ours)
                command, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=self._timeout_s, check=False
            )
        except FileNotFoundError:
            raise SchedulerError(f"there is no {command[0]} on the PATH; install Slurm's client commands (Debian: slurm-client)") from None
        except subprocess.TimeoutExpired:
            raise SchedulerError(f"{' '.join(command)} has not answered within {self._timeout_s:g} s; look at slurmctld") from None
        if done.returncode != 0:
            what = done.stderr.decode(errors="replace").strip()[:300] or f"exit code {done.returncode}"
            raise SchedulerError(f"{' '.join(command)} failed: {what}")
        return done.stdout


class Scontrol:
    """One ``scontrol`` that reads lines from its standard input; another one is started when it has died. Not thread-safe.

    scontrol numbers no errors and answers success with silence. After each line it is therefore given a word that it does not
    know: the complaint about that word marks the end of what it had to say about the line.
    """

    def __init__(self, environment: Mapping[str, str], timeout_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._environment, self._timeout_s, self._clock = dict(environment), timeout_s, clock
        self._process: subprocess.Popen[bytes] | None = None
        self._serial = 0
        self.starts = 0
        self._greeted = 0

    @property
    def pid(self) -> int | None:
        """Of the process that lives, if one does."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def run(self, lines: Sequence[str]) -> tuple[Told, ...]:
        """One answer a line. When scontrol dies or says nothing for the time limit, the rest is unknown; the next call starts anew.

        Raises ValueError for a line that is not one line, SchedulerError when scontrol cannot be started.
        """
        if any("\n" in line or "\r" in line or "\0" in line for line in lines):
            raise ValueError("a line for scontrol must be one line")
        process, began = self._alive(), self.starts
        if began != self._greeted:  # what it says of its configuration when it starts is no answer to a line
            self._greeted = began
            self._serial += 1
            self._exchange(process, f"quartermaster-{self._serial}\n".encode(), f"invalid keyword: quartermaster-{self._serial}\n".encode())
            self._serial += 1
        words = [f"quartermaster-{self._serial + at}" for at in range(len(lines))]
        self._serial += len(lines)
        given = "".join(f"{line}\n{word}\n" for line, word in zip(lines, words, strict=True)).encode()
        said, whole = self._exchange(process, given, f"invalid keyword: {words[-1]}\n".encode())
        if not whole:
            self._kill()
        return _answers(said.decode(errors="replace"), words)

    def close(self) -> None:
        """End it, kindly first."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101  (both are pipes)
        assert process.stderr is not None  # noqa: S101
        with contextlib.suppress(OSError):
            process.stdin.close()  # the end of its input ends it
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stderr.close()

    def _alive(self) -> subprocess.Popen[bytes]:
        if self.pid is None:
            self.close()
            program = shutil.which("scontrol", path=self._environment.get("PATH"))
            if program is None:
                raise SchedulerError("there is no scontrol on the PATH; install Slurm's client commands (Debian: slurm-client)")
            try:
                self._process = subprocess.Popen(  # noqa: S603  (found on the PATH)
                    [program],
                    env=self._environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    cwd=Path("/"),
                    start_new_session=True,  # a signal to our terminal's group is ours to answer
                )
            except OSError as error:
                raise SchedulerError(f"scontrol cannot be started: {error}") from None
            self.starts += 1
        assert self._process is not None  # noqa: S101  (just made)
        return self._process

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
        self.close()

    def _exchange(self, process: subprocess.Popen[bytes], given: bytes, end: bytes) -> tuple[bytes, bool]:
        """Write all and read up to ``end``; what was said, and whether the end came within the time limit since the last word."""
        assert process.stdin is not None  # noqa: S101  (both are pipes)
        assert process.stderr is not None  # noqa: S101
        source, sink = process.stdin.fileno(), process.stderr.fileno()
        os.set_blocking(source, False)
        left, said, latest = memoryview(given), bytearray(), self._clock()
        with selectors.DefaultSelector() as ready:
            ready.register(sink, selectors.EVENT_READ)
            if left:
                ready.register(source, selectors.EVENT_WRITE)
            while not said.endswith(end):
                patience = latest + self._timeout_s - self._clock()
                for key, _ in ready.select(max(patience, 0.0)) if patience > 0 else ():
                    latest = self._clock()
                    if key.fd == sink:
                        heard = os.read(sink, CHUNK)
                        if not heard:
                            return bytes(said), False
                        said += heard
                        continue
                    try:
                        left = left[os.write(source, left[:CHUNK]) :]
                    except (BrokenPipeError, BlockingIOError):
                        ready.unregister(source)
                        continue
                    if not left:
                        ready.unregister(source)
                if patience <= 0:
                    return bytes(said), False
        return bytes(said), True


def _answers(said: str, words: Sequence[str]) -> tuple[Told, ...]:
    """What was said before each word: nothing is success."""
    found, rest = [], said
    for word in words:
        before, mark, after = rest.partition(f"invalid keyword: {word}\n")
        if not mark:
            found.append(Told(None, "scontrol went away before it answered"))
            continue
        rest = after
        detail = "; ".join(
            line.strip().removeprefix("scontrol: error: ") for line in before.splitlines() if line.strip() and not NOISE.match(line)
        )
        found.append(Told(ok=not detail, detail=detail[:500]))
    return tuple(found)

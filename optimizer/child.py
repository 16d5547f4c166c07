"""A Python function in a freshly spawned interpreter: streamed messages, soft cancel, kill, memory limit.

Solvers overrun their time limits, ignore cancellation, grow and crash. In a child of its own each of these costs one
process and no message that was already sent. The child is spawned, never forked (a fork after a multithreaded solve
hangs), and does not import the parent's ``__main__``, so a script needs no ``if __name__ == "__main__"``.

The parent uses no thread: `Child.run` trades bytes, watches the clock and the memory, and calls ``on_message``, all in
the thread that called it. Needs a POSIX system; on Linux the child dies with its parent even inside a C call.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import psutil

from optimizer.child_entry import CANCEL, ERROR, IMPORT, MESSAGE, RUN, VALUE, FrameReader, NotPlainError, encode, write_some

EndReason = Literal["finished", "deadline", "cancelled", "memory", "crash", "error"]

# Run with -P, which keeps the working directory off the path: a stray json.py there must not replace the library's own.
_BOOT = """import sys
ends, sys.path[:], sys.argv[1:] = sys.argv[1:4], sys.argv[4:], []
from optimizer.child_entry import main
main(*map(int, ends))"""
# How often the memory, the pulse and the user's cancel are looked at. In this time a solver touches at most a few
# hundred MiB, so the kill is prompt enough. There is no resource limit behind it: RLIMIT_AS counts address space that
# thread arenas reserve and never touch, RLIMIT_DATA counts thread stacks, and a solver refused memory aborts or gives
# a wrong status, which hides the true reason. The out-of-memory score set in the child guards the machine instead.
_LOOK_S = 0.05
# A killed process goes at once, unless the kernel is still freeing its memory or a disk does not answer.
_REAP_S = 5.0
_STDERR_BYTES = 1 << 16
_STDERR_LINES = 40
_GIB = 1 << 30
# The settings of this product, the database's password among them, are none of a child's business.
_PRIVATE = "QUARTERMASTER_"


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How one run ended.

    ``value`` is what the function returned: always for ``finished``, and for ``deadline`` and ``cancelled`` if it
    returned within the grace; None otherwise. ``message`` says more for ``crash`` (signal or exit code, or what it sent
    that was not plain, then the last lines of output) and ``error`` (the traceback). ``peak_memory_gib`` is the largest
    resident memory seen, by samples.
    """

    reason: EndReason
    value: Any
    message: str
    seconds: float
    peak_memory_gib: float


class ChildGoneError(RuntimeError):
    """`Child.run` was called on a child that was closed, killed or has crashed."""


@dataclass(slots=True)
class _Run:
    """One run: what it may use, and what is known of it so far."""

    on_message: Callable[[Any], None] | None
    cancel: threading.Event | None
    stop_at: float
    grace_s: Callable[[], float]
    memory_bytes: float
    cpu_s: float
    started: float = field(default_factory=time.monotonic)
    peak_bytes: int = 0
    cpu_at_start: float = math.nan
    cpu_spent: float = 0.0
    asked: Literal["deadline", "cancelled"] | None = None
    asked_at: float = math.inf
    answer: Literal["value", "error"] | None = None
    value: Any = None
    traceback: str = ""
    breach: str = ""

    def wants_stop(self, now: float) -> Literal["deadline", "cancelled"] | None:
        """Why the child should be asked to stop, if it should be."""
        if self.cancel is not None and self.cancel.is_set():
            return "cancelled"
        return "deadline" if now >= self.stop_at or self.cpu_spent > self.cpu_s else None

    def kill_at(self) -> float:
        """When a child that was asked to stop is killed; never, for one that was not."""
        return math.inf if self.asked is None else self.asked_at + self.grace_s()

    def take(self, kind: bytes, thing: Any) -> None:  # noqa: ANN401 (whatever the child sent)
        """Note what one frame of the child held. Raises what ``on_message`` raises."""
        if kind == MESSAGE:
            if self.on_message is not None:
                self.on_message(thing)
        elif kind == VALUE:
            self.value, self.answer = thing, "value"
        elif kind == ERROR:
            self.traceback, self.answer = str(thing), "error"


class Child:
    """A child process that runs functions one after another. A context manager; from `start` only.

    One thread at a time may use it. A run that ``finished`` or ended in ``error``, or that stopped within its grace,
    leaves the child ready for the next; a killed or crashed child stays dead (see `alive`).
    """

    def __init__(self, process: subprocess.Popen[bytes], requests: int, replies: int, lifeline: int, output: int, *, plain: bool) -> None:
        self._process = process
        self._requests = requests
        self._replies = replies
        self._output = output
        self._descriptors = (requests, replies, lifeline, output)
        self._open = True
        self._output_open = True
        self._alive = True
        self._reader = FrameReader(replies, plain=plain)
        self._outbox: deque[memoryview] = deque()
        self._stderr = bytearray()
        self._pulse = psutil.Process(process.pid)
        for descriptor in (requests, replies, output):
            os.set_blocking(descriptor, False)

    @classmethod
    def start(cls, imports: Sequence[str] = (), *, plain: bool = False, variables: Mapping[str, str] | None = None) -> Child:
        """Spawn the interpreter and return at once; it imports the modules while the parent does other work.

        From a ``plain`` child only builtin containers, strings, bytes, numbers and None are taken: a frame that names a class
        ends the run as a crash, so that a child gone astray has no way into the parent. ``variables`` are added to the
        parent's environment, of which the child does not get this product's own settings: they hold passwords.

        A module that fails to import is reported by the next `run`. Raises ``OSError`` if no process can be had.
        """
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            child_requests, requests = _pipe(theirs, ours)
            replies, child_replies = _pipe(ours, theirs)
            child_lifeline, lifeline = _pipe(theirs, ours)
            output, child_output = _pipe(ours, theirs)
            ends = (child_requests, child_replies, child_lifeline)
            # An empty entry means the working directory of the parent now, whatever it is later.
            path = [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109 (a path entry is a string)
            # Standard output goes with standard error: a print of a library is a clue after a crash, and nothing else.
            process = subprocess.Popen(  # noqa: S603 (our own interpreter, and no shell)
                [sys.executable, "-P", "-c", _BOOT, *map(str, ends), *path],
                stdin=subprocess.DEVNULL,
                stdout=child_output,
                stderr=child_output,
                env={name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE)} | dict(variables or {}),
                pass_fds=ends,
                # A group of its own: killed with all it started, and out of reach of the terminal's Ctrl-C.
                start_new_session=True,
            )
            child = cls(process, requests, replies, lifeline, output, plain=plain)
            child._outbox.extend(encode(IMPORT, tuple(imports)))
            # At once, for the imports to begin; what did not fit into the pipe goes with the first run.
            write_some(requests, child._outbox)
            ours.pop_all()
        return child

    @property
    def alive(self) -> bool:
        """Whether `run` may be called: neither closed, nor killed, nor seen to crash."""
        return self._alive

    @property
    def running(self) -> bool:
        """Whether it is alive and its process is there: one that waits may have been killed from outside."""
        return self._alive and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the child, which is also its process group."""
        return self._process.pid

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
        """Call ``target`` ("package.module:function") in the child as ``function(payload, send, cancel)``.

        ``send(message)`` may be called from any thread of the child; each message reaches ``on_message`` in order,
        in the thread that called ``run``, also those sent before a crash or a kill. Nobody watches the child while
        ``on_message`` works, so it should be quick; if it raises, the child is killed and the exception goes on.
        ``deadline_s`` after this call, or once the event ``cancel`` is set here, the child's own ``cancel`` is set;
        ``grace_s`` later its process group is killed; a function is asked anew, so that a child that is about to answer may
        have longer. ``memory_gib`` limits the resident memory of the child process, ``cpu_s`` the CPU seconds of this run:
        a child that has used them is stopped as if its deadline had come.

        Raises ``ChildGoneError`` on a dead child, ``ValueError`` for a limit below zero or NaN, and what pickle raises
        for a payload that cannot travel.
        """
        if not self._alive:
            raise ChildGoneError(f"child {self.pid} was closed, killed or has crashed: start another")
        memory_bytes = math.inf if memory_gib is None else memory_gib * _GIB
        cpu_limit = math.inf if cpu_s is None else cpu_s
        grace = grace_s if callable(grace_s) else lambda: grace_s
        if not (deadline_s >= 0 and grace() >= 0 and memory_bytes >= 0 and cpu_limit >= 0):
            raise ValueError(f"limits must be at least 0: {deadline_s=}, grace_s={grace()}, {memory_gib=}, {cpu_s=}")
        run = _Run(on_message, cancel, time.monotonic() + deadline_s, grace, memory_bytes, cpu_limit)
        request = encode(RUN, (target, payload))
        try:
            self._outbox.extend(request)
            del request
            reason = self._supervise(run)
            if reason in ("killed", "memory", "crash"):
                self._reap()
                self._drain(run)
        except BaseException:
            self._reap()
            raise
        return self._end(run, reason)

    def kill(self) -> None:
        """Kill the process from any thread; a run that another thread waits for ends as a crash, and that thread closes it."""
        self._process.kill()

    def close(self) -> None:
        """Kill the child with all it started, reap it and free the pipes. May be called twice."""
        self._reap()
        if self._open:
            self._open = False
            for descriptor in self._descriptors:
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _supervise(self, run: _Run) -> Literal["answered", "killed", "memory", "crash"]:
        """Trade with the child until it answers or must go; the caller does the killing."""
        next_look = 0.0
        while run.answer is None:
            now = time.monotonic()
            kill_at = run.kill_at()
            if now >= kill_at:
                return "killed"
            if now >= next_look:
                if not self._look(run):
                    return "crash"
                if run.peak_bytes > run.memory_bytes:
                    return "memory"
                next_look = now + _LOOK_S
            wanted = run.wants_stop(now)
            if wanted is not None and run.asked is None:
                run.asked, run.asked_at = wanted, now
                kill_at = run.kill_at()
                self._outbox.extend(encode(CANCEL, None))
            wake = min(next_look, kill_at, math.inf if run.asked else run.stop_at)
            if not self._trade(run, max(0.0, wake - now)):
                return "crash"
        self._look(run)
        return "answered"

    def _look(self, run: _Run) -> bool:
        """Sample the memory and the CPU time; False when the process is dead."""
        try:
            with self._pulse.oneshot():
                run.peak_bytes = max(run.peak_bytes, self._pulse.memory_info().rss)
                spent = self._pulse.cpu_times()
                cpu = spent.user + spent.system
                run.cpu_at_start = cpu if math.isnan(run.cpu_at_start) else run.cpu_at_start
                run.cpu_spent = cpu - run.cpu_at_start
                return self._pulse.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def _trade(self, run: _Run, wait_s: float) -> bool:
        """Wait for the pipes and move what can be moved; False when the child has closed its end."""
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        if self._output_open:
            poll.register(self._output, select.POLLIN)
        if self._outbox:
            poll.register(self._requests, select.POLLOUT)
        # Rounded up: a wait of less than a millisecond would spin.
        ready = {descriptor for descriptor, _ in poll.poll(math.ceil(wait_s * 1000))}
        if self._output in ready:
            self._hear()
        if self._requests in ready:
            try:
                write_some(self._requests, self._outbox)
            except BrokenPipeError:
                return False
        return self._replies not in ready or self._receive(run) != "end"

    def _receive(self, run: _Run) -> Literal["more", "empty", "end"]:
        """Read a piece from the child, and take the frame it completes, if any."""
        try:
            frame = self._reader.read()
        except BlockingIOError:
            return "empty"
        except EOFError:
            return "end"
        except NotPlainError as breach:
            run.breach = str(breach)
            return "end"
        # Outside the try: on_message may raise the same errors, and those are the caller's.
        if frame is not None:
            kind = frame.kind
            try:
                thing = frame.thing()
            except NotPlainError as breach:
                run.breach = str(breach)
                return "end"
            run.take(kind, thing)
        return "more"

    def _hear(self) -> None:
        """Take what the child has printed so far, and keep the tail."""
        try:
            piece = os.read(self._output, _STDERR_BYTES)
        except BlockingIOError:
            return
        self._stderr += piece
        del self._stderr[:-_STDERR_BYTES]
        # A closed pipe counts as readable for ever.
        self._output_open = bool(piece)

    def _reap(self) -> None:
        """Kill the process group, if it lives, and wait for it."""
        self._alive = False
        if self._process.returncode is not None:
            return
        # Before the wait: until then the process, dead or not, keeps its number from being given to another.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_S)

    def _drain(self, run: _Run) -> None:
        """Deliver what a dead child had sent, up to what it may not send."""
        # Once: a pipe holds no more than one reading, and a process that left the group might write for ever.
        self._hear()
        while not run.breach and self._receive(run) == "more":
            pass

    def _end(self, run: _Run, reason: Literal["answered", "killed", "memory", "crash"]) -> ChildEnd:
        ended: EndReason
        value, message = run.value, ""
        if reason == "memory":
            ended, value = "memory", None
        elif run.breach:
            ended, value, message = "crash", None, self._post_mortem(f"ended for what it sent, which is not plain: {run.breach}")
        elif run.answer == "error":
            ended, message = "error", run.traceback
        elif run.answer == "value" or reason == "killed":
            ended = run.asked or "finished"
        else:
            ended, message = "crash", self._post_mortem(self._exit())
        return ChildEnd(ended, value, message, time.monotonic() - run.started, run.peak_bytes / _GIB)

    def _post_mortem(self, how: str) -> str:
        """How the process ended, with the last lines it printed."""
        lines = self._stderr.decode(errors="replace").splitlines()[-_STDERR_LINES:]
        return "\n".join([how, *lines])

    def _exit(self) -> str:
        """How the process ended."""
        code = self._process.returncode
        if code is None:
            return "the process could not be reaped"
        if code >= 0:
            return f"exit code {code}"
        # A real-time signal has no name.
        names = {int(known): known.name for known in signal.Signals}
        outside = " from outside, perhaps by the kernel for want of memory" if -code == signal.SIGKILL else ""
        return f"killed by {names.get(-code, f'signal {-code}')}{outside}"


def _pipe(reading: contextlib.ExitStack, writing: contextlib.ExitStack) -> tuple[int, int]:
    """Open a pipe; each end is closed by the stack of the side it belongs to."""
    read_end, write_end = os.pipe()
    reading.callback(os.close, read_end)
    writing.callback(os.close, write_end)
    return read_end, write_end

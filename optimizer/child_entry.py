"""The inside of a child process of `optimizer.child`, and the frames both sides speak.

A frame is a kind (one byte), a table of sizes, a pickle, and beside the pickle the large buffers it refers to: numpy
arrays travel as their raw bytes, uncopied on the way out. Every solve waits for this module, so it imports only light
parts of the standard library.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import importlib
import io
import itertools
import os
import pickle
import signal
import struct
import sys
import threading
import traceback
from collections import deque
from collections.abc import Generator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, NoReturn

# Parent to child.
IMPORT, RUN, CANCEL = b"I", b"R", b"C"
# Child to parent.
MESSAGE, VALUE, ERROR = b"M", b"V", b"E"

_HEADER = struct.Struct("!cQ")
# A smaller buffer is cheaper inside the pickle than as a part of its own.
_OUT_OF_BAND_BYTES = 1 << 16
# Well below the 1024 parts that one writev takes.
_PARTS_PER_WRITE = 64
# What a plain frame may hold: far beyond any answer, and no more than what the parent can hold.
_PLAIN_BYTES = 1 << 31
_PLAIN_PARTS = 1 << 12
# When the machine runs out of memory, the kernel is to pick this process and not the service around it.
_OOM_SCORE = "800"


class NotPlainError(ValueError):
    """A frame that must be plain is not: it names a class, is no pickle, or is too large."""


class Frame(NamedTuple):
    """One unit on a pipe, still pickled: ``parts`` are the pickle and its out-of-band buffers.

    A ``plain`` one may hold containers, strings, bytes, numbers and None, and is refused when it names any class or function.
    """

    kind: bytes
    parts: list[bytearray]
    plain: bool = False

    def thing(self) -> Any:  # noqa: ANN401 (whatever the other side sent)
        """Unpickle, once: the pickle is let go, the buffers live on in the thing.

        Raises ``NotPlainError`` for a frame that should be plain and is not, otherwise whatever the pickle raises,
        ``ModuleNotFoundError`` for example.
        """
        body, *large = self.parts
        self.parts.clear()
        if not self.plain:
            return pickle.loads(body, buffers=large)  # noqa: S301 (a private pipe between our own two processes)
        try:
            return _PlainUnpickler(io.BytesIO(body), buffers=large).load()
        except NotPlainError:
            raise
        except Exception as error:  # noqa: BLE001 (what the unpickler raises for bytes that are no pickle is not told)
            raise NotPlainError(f"it cannot be read ({type(error).__name__}: {error})") from None


class _PlainUnpickler(pickle.Unpickler):
    """Makes builtin things alone: without classes and functions a pickle can do nothing but fill containers."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise NotPlainError(f"it names {module}.{name}")


def encode(kind: bytes, thing: object) -> deque[memoryview]:
    """Turn ``thing`` into the parts of a frame; large buffers are views of the original, not copies.

    Raises ``pickle.PicklingError``, ``TypeError`` or ``AttributeError`` for what cannot be pickled; nothing is written then.
    """
    large: list[memoryview] = []

    def stays_inside(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < _OUT_OF_BAND_BYTES:
            return True
        large.append(view)
        return False

    body = memoryview(pickle.dumps(thing, protocol=5, buffer_callback=stays_inside))
    sizes = [body.nbytes, *(view.nbytes for view in large)]
    head = _HEADER.pack(kind, len(sizes)) + struct.pack(f"!{len(sizes)}Q", *sizes)
    return deque([memoryview(head), body, *large])


def write_some(descriptor: int, parts: deque[memoryview]) -> None:
    """Write once, and drop from ``parts`` what was written. Raises ``BlockingIOError`` or ``BrokenPipeError``."""
    written = os.writev(descriptor, list(itertools.islice(parts, _PARTS_PER_WRITE)))
    while parts and written >= parts[0].nbytes:
        written -= parts.popleft().nbytes
    if written:
        parts[0] = parts[0][written:]


class FrameReader:
    """Puts frames together from a pipe, one system call at a time, so that a caller keeps its clock in view."""

    def __init__(self, descriptor: int, *, plain: bool = False) -> None:
        self._descriptor = descriptor
        self._plain = plain
        self._steps = self._assemble()
        self._room = next(self._steps)

    def read(self) -> Frame | None:
        """Read once; the frame if that completed one.

        Raises ``EOFError`` when the other side is gone, ``BlockingIOError`` when a non-blocking pipe is empty, ``NotPlainError``
        for a frame that should be plain and is too large: nothing can be read after it.
        """
        count = os.readv(self._descriptor, [self._room])
        if count == 0:
            raise EOFError
        self._room = self._room[count:]
        if self._room.nbytes:
            return None
        try:
            self._room = next(self._steps)
        except StopIteration as end:
            self._steps = self._assemble()
            self._room = next(self._steps)
            frame: Frame = end.value
            return frame
        return None

    def _assemble(self) -> Generator[memoryview, None, Frame]:
        """Yield the memory to fill next; return the frame."""
        head = bytearray(_HEADER.size)
        yield memoryview(head)
        kind, count = _HEADER.unpack(head)
        if self._plain and not 1 <= count <= _PLAIN_PARTS:
            raise NotPlainError(f"it has {count} parts")
        table = bytearray(8 * count)
        yield memoryview(table)
        sizes = struct.unpack(f"!{count}Q", table)
        if self._plain and sum(sizes) > _PLAIN_BYTES:
            raise NotPlainError(f"it has {sum(sizes)} bytes")
        parts = [bytearray(size) for size in sizes]
        for part in parts:
            yield memoryview(part)
        return Frame(kind, parts, self._plain)


class _Replies:
    """The pipe back to the parent; any thread may write."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._run_ended = True

    def begin(self) -> None:
        with self._lock:
            self._run_ended = False

    def send(self, message: object) -> None:
        """Stream one message to the parent. Raises ``RuntimeError`` once the run is over."""
        self._write(encode(MESSAGE, message), ends_run=False)

    def end(self, kind: bytes, answer: object) -> None:
        self._write(encode(kind, answer), ends_run=True)

    def _write(self, parts: deque[memoryview], *, ends_run: bool) -> None:
        with self._lock:
            # A thread left over from one run must not talk into the next.
            if self._run_ended:
                raise RuntimeError("send() after the function returned: its run is over")
            self._run_ended = ends_run
            while parts:
                write_some(self._descriptor, parts)


def main(requests: int, replies: int, lifeline: int) -> NoReturn:
    """Serve the parent until it goes away. The arguments are pipe ends; the process must lead its own group."""
    for descriptor in (requests, replies, lifeline):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 (the parameter takes no name)
    # Only the parent decides when to stop; an exception half-way through a frame would garble the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    _die_with_parent(lifeline)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    inbox: SimpleQueue[tuple[Frame, threading.Event]] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests, inbox), daemon=True).start()
    channel = _Replies(replies)
    broken_import = None
    while True:
        frame, cancel = inbox.get()
        if frame.kind == IMPORT:
            broken_import = _warm(frame)
        else:
            _serve(frame, cancel, channel, broken_import)
        # An idle child does not keep the last payload in memory.
        del frame, cancel


def _die_with_parent(lifeline: int) -> None:
    """Have the kernel kill this process group when the parent's end of ``lifeline`` closes, which its death does.

    `_listen` sees the parent's death too, but cannot act while a C call holds the GIL. PR_SET_PDEATHSIG would also
    kill, but follows the *thread* that started us: a child warmed by a pool thread would die with that thread.
    """
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _listen(requests: int, inbox: SimpleQueue[tuple[Frame, threading.Event]]) -> None:
    """Take requests while the main thread works; when the parent is gone, kill this process and all it started."""
    reader = FrameReader(requests)
    cancel = threading.Event()
    try:
        while True:
            frame = reader.read()
            if frame is None:
                continue
            if frame.kind == CANCEL:
                cancel.set()
                continue
            cancel = threading.Event()
            inbox.put((frame, cancel))
            del frame
    except EOFError:
        pass
    except BaseException:  # noqa: BLE001 (a child that can no longer listen must not live on)
        traceback.print_exc()
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _warm(frame: Frame) -> str | None:
    """Import the modules named; the traceback if that fails."""
    try:
        for name in frame.thing():
            importlib.import_module(name)
    except BaseException:  # noqa: BLE001 (reported by the next run)
        return traceback.format_exc()
    return None


def _serve(frame: Frame, cancel: threading.Event, channel: _Replies, broken_import: str | None) -> None:
    """Run one request and answer it."""
    channel.begin()
    if broken_import is not None:
        channel.end(ERROR, broken_import)
        return
    try:
        target, payload = frame.thing()
        module, _, name = target.partition(":")
        function = getattr(importlib.import_module(module), name)
        channel.end(VALUE, function(payload, channel.send, cancel))
    except BaseException:  # noqa: BLE001 (SystemExit too must not pass for an answer)
        channel.end(ERROR, traceback.format_exc())

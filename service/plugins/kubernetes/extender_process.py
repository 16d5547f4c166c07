"""The extender in a process of its own: what plans must never slow down what answers, and neither may take the other with it.

The planning process publishes each plan through a pipe. When it ends, so does the extender, and kube-scheduler, which may ignore
it, goes on alone; when it freezes, the plan runs out and every node passes.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import signal
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog
import uvicorn

from service import logs
from service.plugins.kubernetes.extender import PATIENCE_S, Extender, opted_in
from service.plugins.kubernetes.extender_app import LARGEST_BODY_MIB, ExtenderApp
from service.plugins.kubernetes.extender_protocol import ExtenderProtocol
from service.plugins.kubernetes.extender_seats import Seating
from service.plugins.modes import Mode
from service.settings import Settings

if TYPE_CHECKING:
    import socket
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnContext, SpawnProcess

IDLE_S = 90  # kube-scheduler keeps its connections; Go closes idle ones after 90 s itself
BACKLOG = 512
DRAIN_S = 2
SWITCH_S = 0.0005
LEAST_RESTART_S = 1.0  # between two starts of a child that dies at once
TAKEN_OVER_S = 1.0  # that the planning waits for its plan to be answered from, before it touches pods
LOOK_S = 0.5  # between two looks whether the child's event loop turns
STILL_LOOKS = 20  # in a row that saw it stand still: then it is ended. Counted, not timed: a machine that slept has not looked
STARTING_LOOKS = 240  # the same before it has served at all
MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_THRESHOLD = -1, -3  # of mallopt in glibc
KEPT_BYTES, LARGEST_KEPT_BYTES = 256 * 2**20, 32 * 2**20
GONE = Seating(0, 0.0, 0.0)  # a plan that has run out: every node passes
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ExtenderOptions:
    """How an extender answers. ``namespaces`` are those whose pods may opt in; none: all."""

    mode: Mode = Mode.shadow
    patience_s: float = PATIENCE_S
    namespaces: frozenset[str] = frozenset()
    largest_body_mib: int = LARGEST_BODY_MIB


class _Signs:
    """What the child lets the parent know, in shared memory: neither ever waits for the other."""

    def __init__(self, context: SpawnContext) -> None:
        self.turns: ctypes.c_uint64 = context.RawValue(ctypes.c_uint64, 0)  # of its event loop; 0 until it serves
        self.taken: ctypes.c_uint64 = context.RawValue(ctypes.c_uint64, 0)  # plans that it has taken over


# ---------------------------------------------------------------- in the child


def serve(app: ExtenderApp, listener: socket.socket, stopping: threading.Event | None = None, turns: ctypes.c_uint64 | None = None) -> None:
    """Serve until a signal, or until ``stopping`` is set. ``turns`` grows as long as the event loop turns."""
    keep_memory()
    server = _Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=ExtenderProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=DRAIN_S,
        ),
        stopping,
        turns,
    )
    gc.collect()
    gc.freeze()  # what is there now stays: the collector need not look at it while someone waits for an answer
    server.run([listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, stopping: threading.Event | None, turns: ctypes.c_uint64 | None) -> None:
        super().__init__(config)
        self._asked = stopping or threading.Event()
        self._turns = turns if turns is not None else ctypes.c_uint64()  # a zero of ctypes is false

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop; asked ten times a second."""
        self._turns.value += 1
        return await super().on_tick(counter) or self._asked.is_set()


def keep_memory() -> None:
    """Tell glibc to keep freed memory: bodies of 100 kB would else be mapped and unmapped each time, which costs as much as the answer."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(MALLOC_TRIM_THRESHOLD, KEPT_BYTES)
        library.mallopt(MALLOC_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)


def _child(options: ExtenderOptions, listener: socket.socket, plans: Connection, signs: _Signs) -> None:
    sys.setswitchinterval(SWITCH_S)  # while a plan is taken over, a question waits no longer than this
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    logs.configure(Settings())
    opts_in = partial(opted_in, namespaces=options.namespaces)
    extender = Extender(options.mode, time.time, patience_s=options.patience_s, opts_in=opts_in)
    stopping = threading.Event()
    threading.Thread(target=_listen, args=(extender, plans, stopping, signs), name="plans", daemon=True).start()
    serve(ExtenderApp(extender, largest_body_mib=options.largest_body_mib), listener, stopping, signs.turns)


def _listen(extender: Extender, plans: Connection, stopping: threading.Event, signs: _Signs) -> None:
    """Take over each plan. The end of the pipe is the end of the planning process; after a plan that cannot be read, we begin anew.

    Who is refused now is touched by nobody, so until the last connection is closed every node passes.
    """
    try:
        while True:
            extender.seating = Seating.received(plans.recv_bytes, extender.seating)
            signs.taken.value += 1
    except (EOFError, OSError):
        pass
    except Exception:
        log.exception("a plan could not be taken over")
    finally:
        extender.seating = GONE
        stopping.set()


# ---------------------------------------------------------------- in the parent


class ExtenderProcess:
    """The extender as a child process. ``publish`` never waits: a thread hands the latest plan over, and starts a dead child anew.

    Another ends a child whose event loop stands still for ``STILL_LOOKS`` looks: kube-scheduler would wait for it each time.
    """

    def __init__(self, options: ExtenderOptions, listener: socket.socket, *, look_s: float = LOOK_S) -> None:
        self._options, self._listener, self._look_s = options, listener, look_s
        self._news = threading.Condition()
        self._latest: Seating | None = None
        self._published = self._answered = 0  # plans, counted
        self._closing = threading.Event()
        self._started_at = -LEAST_RESTART_S
        self._process: SpawnProcess | None = None
        self._plans: Connection | None = None
        self._sent: Seating | None = None
        self._sent_count = 0  # to this child
        self._signs = _Signs(multiprocessing.get_context("spawn"))
        self._threads = [threading.Thread(target=one, name="extender", daemon=True) for one in (self._run, self._look)]
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the child and the threads that look after it. Raises OSError."""
        self._spawn()
        for thread in self._threads:
            thread.start()

    def publish(self, seating: Seating) -> None:
        """Put a plan in force; the last one published counts."""
        with self._news:
            self._latest = seating
            self._published += 1
            self._news.notify_all()

    def put(self, seating: Seating) -> bool:
        """Put a plan in force, and wait a moment until it is answered from; whether it is."""
        self.publish(seating)
        with self._news:
            mine = self._published
            return self._news.wait_for(lambda: self._answered >= mine or self._closing.is_set(), TAKEN_OVER_S) and self._answered >= mine

    def close(self) -> None:
        """End the child in good order."""
        self._closing.set()
        with self._news:
            self._news.notify_all()
        if self._threads[0].ident is not None:
            self._threads[0].join(DRAIN_S)  # it may be writing to a child that does not read; then the child's end frees it
        if self._plans is not None:
            self._plans.close()
        if self._process is not None:
            self._process.join(DRAIN_S + 1)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()

    # ------------------------------------------------------------ the threads

    def _run(self) -> None:
        """Hand over what is published, and start a dead child anew."""
        while not self._closing.is_set():
            with self._news:
                self._news.wait_for(lambda: self._answered < self._published or self._closing.is_set(), timeout=LEAST_RESTART_S)
                seating, number = self._latest, self._published
            if self._closing.is_set():
                return
            self._revive()
            if seating is not None and (self._sent is None or self._answered < number):
                self._hand_over(seating, number)

    def _revive(self) -> None:
        if self._process is None or self._process.is_alive() or time.monotonic() - self._started_at < LEAST_RESTART_S:
            return
        log.error("the extender ended and is started anew", exit_code=self._process.exitcode)
        self.restarts += 1
        try:
            self._spawn()
        except OSError as error:  # no memory, no process: it is tried again
            log.exception("the extender could not be started", error=str(error))

    def _hand_over(self, seating: Seating, number: int) -> None:
        """Send a plan, and wait until the child answers from it, or dies."""
        plans, process, signs = self._plans, self._process, self._signs
        if plans is None or process is None:
            return
        try:
            for message in seating.messages(self._sent):
                plans.send_bytes(message)
        except OSError:  # the child died: the next turn starts another, which gets the latest plan
            self._sent = None
            self._closing.wait(LOOK_S / 10)
            return
        self._sent, self._sent_count = seating, self._sent_count + 1
        while signs.taken.value < self._sent_count:
            if self._closing.wait(0.001) or not process.is_alive():
                self._sent = None
                return
        with self._news:
            self._answered = number
            self._news.notify_all()

    def _look(self) -> None:
        """End a child that stands still: it answers nothing, and its end is what ``_run`` looks for."""
        seen, still = (0, 0), 0
        while not self._closing.wait(self._look_s):
            process, turns = self._process, self._signs.turns.value
            now = ((process.pid or 0) if process is not None else 0, turns)
            still = still + 1 if now == seen else 0
            seen = now
            if process is not None and still >= (STILL_LOOKS if turns else STARTING_LOOKS):
                log.error("the extender stands still and is ended", looks=still)
                process.kill()
                still = 0

    def _spawn(self) -> None:
        if self._plans is not None:
            self._plans.close()
        context = multiprocessing.get_context("spawn")
        self._sent, self._sent_count, self._signs = None, 0, _Signs(context)
        self._started_at = time.monotonic()
        theirs, self._plans = context.Pipe(duplex=False)
        with theirs:
            self._process = context.Process(
                target=_child, args=(self._options, self._listener, theirs, self._signs), name="extender", daemon=True
            )
            self._process.start()

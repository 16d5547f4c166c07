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
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

IDLE_S = 90  # kube-scheduler keeps its connections; Go closes idle ones after 90 s itself
BACKLOG = 512
DRAIN_S = 2
SWITCH_S = 0.0005
LEAST_RESTART_S = 1.0  # between two starts of a child that dies at once
MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_THRESHOLD = -1, -3  # of mallopt in glibc
KEPT_BYTES, LARGEST_KEPT_BYTES = 256 * 2**20, 32 * 2**20
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ExtenderOptions:
    """How an extender answers. ``namespaces`` are those whose pods may opt in; none: all."""

    mode: Mode = Mode.shadow
    patience_s: float = PATIENCE_S
    namespaces: frozenset[str] = frozenset()
    largest_body_mib: int = LARGEST_BODY_MIB


# ---------------------------------------------------------------- in the child


def serve(app: ExtenderApp, listener: socket.socket, stopping: threading.Event | None = None) -> None:
    """Serve until a signal, or until ``stopping`` is set."""
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
    )
    gc.collect()
    gc.freeze()  # what is there now stays: the collector need not look at it while someone waits for an answer
    server.run([listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, stopping: threading.Event | None) -> None:
        super().__init__(config)
        self._asked = stopping or threading.Event()

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop; asked ten times a second."""
        return await super().on_tick(counter) or self._asked.is_set()


def keep_memory() -> None:
    """Tell glibc to keep freed memory: bodies of 100 kB would else be mapped and unmapped each time, which costs as much as the answer."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(MALLOC_TRIM_THRESHOLD, KEPT_BYTES)
        library.mallopt(MALLOC_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)


def _child(options: ExtenderOptions, listener: socket.socket, plans: Connection) -> None:
    sys.setswitchinterval(SWITCH_S)  # while a plan is taken over, a question waits no longer than this
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    logs.configure(Settings())
    opts_in = partial(opted_in, namespaces=options.namespaces)
    extender = Extender(options.mode, time.time, patience_s=options.patience_s, opts_in=opts_in)
    stopping = threading.Event()
    threading.Thread(target=_listen, args=(extender, plans, stopping), name="plans", daemon=True).start()
    serve(ExtenderApp(extender, largest_body_mib=options.largest_body_mib), listener, stopping)


def _listen(extender: Extender, plans: Connection, stopping: threading.Event) -> None:
    """Take over each plan; the end of the pipe is the end of the planning process."""
    try:
        while True:
            extender.seating = Seating.received(plans.recv_bytes, extender.seating)
    except (EOFError, OSError):
        stopping.set()


# ---------------------------------------------------------------- in the parent


class ExtenderProcess:
    """The extender as a child process. ``publish`` never waits: a thread hands the latest plan over, and starts a dead child anew."""

    def __init__(self, options: ExtenderOptions, listener: socket.socket, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._options, self._listener, self._clock = options, listener, clock
        self._news = threading.Condition()
        self._latest: Seating | None = None
        self._sent: Seating | None = None
        self._unsent = False
        self._closing = False
        self._started_at = -LEAST_RESTART_S
        self._process: SpawnProcess | None = None
        self._plans: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="extender", daemon=True)
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the child and the thread that looks after it."""
        self._spawn()
        self._thread.start()

    def publish(self, seating: Seating) -> None:
        """Put a plan in force; the last one published counts."""
        with self._news:
            self._latest, self._unsent = seating, True
            self._news.notify()

    def close(self) -> None:
        """End the child in good order."""
        with self._news:
            self._closing = True
            self._news.notify()
        process = self._process
        if self._plans is not None:
            self._plans.close()
        if process is not None:
            process.join(DRAIN_S + 1)
            if process.is_alive():
                process.kill()
                process.join()
        if self._thread.ident is not None:
            self._thread.join(DRAIN_S)

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._unsent or self._closing, timeout=LEAST_RESTART_S)
                if self._closing:
                    return
                seating, self._unsent = (self._latest if self._unsent else None), False
            if self._process is not None and not self._process.is_alive() and self._clock() - self._started_at >= LEAST_RESTART_S:
                log.error("the extender ended and is started anew", exit_code=self._process.exitcode)
                self.restarts += 1
                self._spawn()
                seating = self._latest
            if seating is not None and self._plans is not None:
                self._send(seating, self._plans)

    def _send(self, seating: Seating, plans: Connection) -> None:
        try:
            for message in seating.messages(self._sent):
                plans.send_bytes(message)
            self._sent = seating
        except OSError:  # the child died: the next turn starts another, which gets the latest plan
            self._sent = None

    def _spawn(self) -> None:
        if self._plans is not None:
            self._plans.close()
        context = multiprocessing.get_context("spawn")
        self._sent = None
        theirs, self._plans = context.Pipe(duplex=False)
        self._process = context.Process(target=_child, args=(self._options, self._listener, theirs), name="extender", daemon=True)
        self._process.start()
        self._started_at = self._clock()
        theirs.close()

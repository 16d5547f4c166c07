"""A process that serves: what must be right before it starts, one event loop with the API, and an orderly end.

The first SIGTERM or SIGINT ends the process in good order: no new connections, ``/readyz`` answers 503, open requests end,
runs at work are finished or handed back. A second one ends it at once, which loses nothing: runs are in the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import resource
import signal
import socket
import ssl
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from service import logs
from service.children import ChildPool
from service.errors import ServiceError
from service.keys import count_active
from service.protocol import Protocol
from service.runs.bulletin import Bulletin
from service.runs.worker import Worker
from service.telemetry import Telemetry
from service.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from service.runs.database import Database
    from service.settings import Settings

SIGNALS = (signal.SIGTERM, signal.SIGINT)
BACKLOG = 2_048
IDLE_S = 30  # how long a connection without a request is kept: longer than a client that polls pauses
AFTER_DRAIN_S = 3.0  # for answers that were waiting for a run, once every run has ended or was handed back
FREE_PORT = "choose another with --port or QUARTERMASTER_PORT; 0 takes a free one"
log = structlog.get_logger(__name__)


class NotReadyError(ServiceError):
    """The process must not start like this; the message says what to change."""

    code, title = "not_ready", "Cannot start"


# ---------------------------------------------------------------- before the start


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises NotReadyError: the port is taken, the address is not this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror:
        raise NotReadyError(f"'{host}' is no address; give one of this machine with --host or QUARTERMASTER_HOST") from None
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
        made.settimeout(0)  # the event loop waits for it
    except OSError as error:
        made.close()
        raise NotReadyError(_why_not(host, port, error)) from None
    return made


def _why_not(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is taken by another process; {FREE_PORT}"
        case errno.EACCES:
            return f"port {port} needs rights that this process does not have; {FREE_PORT}"
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine; give one that is with --host or QUARTERMASTER_HOST"
        case _:
            return f"{host}:{port} cannot be listened on ({error.strerror}); {FREE_PORT}"


def check_tls(settings: Settings) -> None:
    """Raises NotReadyError when only one half of TLS is set, or the two files are not a certificate and its key."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        missing = "QUARTERMASTER_TLS_KEY" if key is None else "QUARTERMASTER_TLS_CERTIFICATE"
        raise NotReadyError(f"TLS needs a certificate and its key; set {missing} too, or neither")
    for path, name in ((certificate, "QUARTERMASTER_TLS_CERTIFICATE"), (key, "QUARTERMASTER_TLS_KEY")):
        if not os.access(path, os.R_OK) or path.is_dir():
            raise NotReadyError(f"{name}: {path} is no file that this process can read")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise NotReadyError(f"{certificate} and {key} are not a PEM certificate and its key without a password ({reason})") from None


def _no_password() -> str:
    raise ValueError("the key asks for a password")


def check_keys(settings: Settings, database: Database) -> None:
    """Raises NotReadyError when keys are required and nobody has one: the service could serve no one."""
    if settings.keys_required and not database.read(count_active):
        because = "" if settings.is_loopback else f" on {settings.host}, which other machines can reach,"
        raise NotReadyError(
            f"the service{because} requires API keys, and there is none that is valid; "
            "create one with: quartermaster keys create --tenant TENANT --scope solve"
        )


def allow_descriptors() -> None:
    """As many descriptors as the system lets this process have: each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # a hard limit of "no limit" is more than some kernels take
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# ---------------------------------------------------------------- the parts of a process


@contextlib.contextmanager
def told(settings: Settings) -> Iterator[Telemetry]:
    """Log lines, metrics and traces as the settings say. Raises NoTracingError."""
    logs.configure(settings)
    telemetry = Telemetry(Tracing.of(settings))
    try:
        yield telemetry
    finally:
        telemetry.close()


@contextlib.contextmanager
def children(settings: Settings, *, solving: bool) -> Iterator[ChildPool]:
    """Warm children: one for each slot where runs are solved, and the spare ones."""
    idle = settings.spare_children + (settings.slots if solving else 0)
    pool = ChildPool(idle, tasks=settings.child_tasks, growth_mib=settings.child_growth_mib)
    try:
        pool.start()
        yield pool
    finally:
        pool.close()


@contextlib.contextmanager
def working(database: Database, settings: Settings, bulletin: Bulletin, pool: ChildPool, telemetry: Telemetry) -> Iterator[Worker]:
    """A worker at work; at the end it hands back what it still has."""
    worker = Worker(database, settings, bulletin, pool, telemetry)
    worker.start()
    telemetry.worker_started(settings.slots)
    try:
        yield worker
    finally:
        telemetry.worker_stopped()
        worker.stop()


# ---------------------------------------------------------------- API, with or without a worker


def serve(settings: Settings, database: Database, listener: socket.socket, *, workers: bool, announce: Callable[[str], None]) -> None:
    """Serve until a signal; ``announce`` is given the URL once requests are answered. Raises NoTracingError."""
    from service.app import create_app

    allow_descriptors()
    with contextlib.ExitStack() as stack:
        telemetry = stack.enter_context(told(settings))
        telemetry.watch(database)
        if not settings.is_loopback and settings.tls_certificate is None:
            log.warning("keys and problems cross the network unencrypted; set QUARTERMASTER_TLS_CERTIFICATE, or let a proxy end TLS")
        bulletin = Bulletin()
        pool = stack.enter_context(children(settings, solving=workers))
        worker = stack.enter_context(working(database, settings, bulletin, pool, telemetry)) if workers else None
        app = create_app(settings, database, pool, bulletin, worker, telemetry)

        def stopping() -> None:
            app.state.service.stopping = True

        Server(app, settings, worker, lambda: announce(url_of(settings, listener)), stopping).run([listener])
    log.info("stopped", host=settings.host)


def url_of(settings: Settings, listener: socket.socket) -> str:
    """Where the service is reached."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.tls_certificate is not None else 'http'}://{host}:{listener.getsockname()[1]}"


class Server(uvicorn.Server):
    """Uvicorn, with our own order of stopping."""

    def __init__(
        self,
        app: Any,  # noqa: ANN401  (an ASGI application, which each library types its own way)
        settings: Settings,
        worker: Worker | None,
        announce: Callable[[], None],
        stopping: Callable[[], None],
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=Protocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # who asks is the peer: what a header claims must not choose whose rate is used up
                server_header=False,
                backlog=BACKLOG,
                limit_concurrency=settings.most_connections,  # `Protocol` reads it as the most connections
                timeout_keep_alive=IDLE_S,
                timeout_graceful_shutdown=math.ceil(settings.drain_s + AFTER_DRAIN_S),
                ssl_certfile=settings.tls_certificate,
                ssl_keyfile=settings.tls_key,
            )
        )
        self._stopping = stopping
        self._drain_s = settings.drain_s
        self._worker = worker
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so once connections are answered."""
        await super().startup(sockets)
        if self.started:
            self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that no more is accepted, then end requests and runs side by side: a request may wait for its run."""
        self._stopping()
        drained = asyncio.get_running_loop().run_in_executor(None, self._drain)
        await super().shutdown(sockets)
        await drained

    def _drain(self) -> None:
        if self._worker is not None:
            self._worker.drain(self._drain_s)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A process that was told to stop and did so ends with exit code 0: the signal is not raised again."""
        with signals(self._stop):
            yield

    def _stop(self) -> None:
        self.should_exit = True


@contextlib.contextmanager
def signals(stop: Callable[[], None]) -> Iterator[None]:
    """The first signal calls ``stop``; the second ends the process where it stands."""
    asked = False

    def heard(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)  # children end with their parent, and leases run out
        asked = True
        stop()

    before = {number: signal.signal(number, heard) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def woken() -> Iterator[Callable[[], None]]:
    """A function that waits for the first signal since the ``with`` began.

    The byte that a signal leaves in a socket is there whenever one looks. A lock, an event or a queue can miss it: a signal that comes
    after the interpreter looked for signals, and before the thread sleeps, wakes nobody.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)  # noqa: FBT003  (the standard library's own signature)
        before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield partial(_wait, ours)
        finally:
            signal.set_wakeup_fd(before)


def _wait(woken_by: socket.socket) -> None:
    woken_by.recv(1)


# ---------------------------------------------------------------- a worker alone


def work(settings: Settings, database: Database, metrics: socket.socket | None, *, announce: Callable[[str], None]) -> None:
    """Work until a signal; with ``metrics``, a socket that listens, answer ``/metrics`` there. Raises NoTracingError."""
    from service.operator_app import operator_app

    stopping = threading.Event()
    with contextlib.ExitStack() as stack:
        telemetry = stack.enter_context(told(settings))
        telemetry.watch(database)
        pool = stack.enter_context(children(settings, solving=True))
        worker = stack.enter_context(working(database, settings, Bulletin(), pool, telemetry))
        if metrics is not None:
            app = operator_app(settings, database, telemetry, stopping)
            Server(app, settings, worker, lambda: announce(f"metrics on {url_of(settings, metrics)}/metrics"), stopping.set).run([metrics])
            return
        with signals(lambda: None), woken() as wait:
            announce("no metrics port")
            wait()
            worker.drain(settings.drain_s)

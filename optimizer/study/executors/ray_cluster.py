"""A Ray cluster to work on: one that is there, or one of our own on this machine, which listens to nobody else and ends with us.

Ray keeps one connection a process. What was connected before, by whom ever, is used and left as it was.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from optimizer.study.executors.engine import EngineError
from optimizer.study.executors.pool import cores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from types import ModuleType

CONNECT_S = 5.0
LEAST_STORE_BYTES = 80 << 20  # Ray takes no less than 75 MiB
REPORT_SIZE = 600
STORED = 4  # so many times the base problem must fit into the object store
PRIVATE = "QUARTERMASTER_"  # the settings of this product, the database's password among them, are none of a worker's business
QUIET = {"log_to_driver": False, "configure_logging": False}
# Read by the processes that Ray starts. The second makes them use the loopback address, as on other systems.
VARIABLES = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

_lock = threading.RLock()
_token = secrets.token_hex(32)  # of our own cluster; else it would write one into the user's home
_sessions = 0  # that use the connection we made
_own: _Own | None = None  # the cluster that we started
_address: str | None = None  # that we connected to


class Session:
    """The right to use the connection: the last one to close ends it, if we made it. ``own``: to a cluster that we started."""

    def __init__(self, ray: ModuleType, *, ours: bool) -> None:
        self._ray, self._ours = ray, ours
        self.own = ours and _own is not None

    def close(self) -> None:
        """Give it back. May be called twice."""
        if self._ours:
            self._ours = False
            _leave(self._ray)


def joined(ray: ModuleType, address: str | None, base_bytes: int) -> Session:
    """A connection to the cluster at ``address``; without one, to a cluster of our own. Raises EngineError."""
    global _sessions, _address, _own  # noqa: PLW0603  (Ray keeps one connection a process, so do we)
    with _lock:
        if ray.is_initialized():
            if _sessions and address != _address:
                here = f"the cluster at {_address}" if _address else "a cluster of its own"
                raise EngineError(f"this process works on {here} already, and Ray can only be on one at a time: wait until that has ended")
            _sessions += 1 if _sessions else 0
            return Session(ray, ours=_sessions > 0)
        try:
            _forget_token()
            if address is None:
                _own = _Own(ray, base_bytes)
                _own.wait()
            else:
                _connect(ray, address)
        except BaseException as error:
            _end(ray)
            if isinstance(error, EngineError) or not isinstance(error, Exception):
                raise
            where = "Ray cannot be started here" if address is None else f"no Ray cluster can be used at {address}"
            raise EngineError(f"{where}: {_told(error)}") from error
        _sessions, _address = 1, address
        return Session(ray, ours=True)


def _leave(ray: ModuleType) -> None:
    global _sessions  # noqa: PLW0603
    with _lock:
        _sessions -= 1
        if not _sessions:
            _end(ray)


def _end(ray: ModuleType) -> None:
    global _own  # noqa: PLW0603
    ray.shutdown()
    if _own is not None:
        _own.end()
        _own = None


class _Own:
    """One node on this machine, which ends with this process, even if that is killed.

    Then two idle agents of Ray's own stay for another minute, in which they try to report it, and the folder of its logs stays.
    """

    def __init__(self, ray: ModuleType, base_bytes: int) -> None:
        self._ray = ray
        self._store_bytes = max(LEAST_STORE_BYTES, STORED * base_bytes)
        self._folder = tempfile.mkdtemp(prefix="ray-")  # short, because a socket's path has at most 107 characters
        self._started: queue.Queue[BaseException | None] = queue.Queue()
        self._ended = threading.Event()
        # Linux ends Ray's processes with the thread that started them: not the caller's, others may use the cluster after it.
        self._thread = threading.Thread(target=self._keep, name="ray-cluster", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until it has started. Raises what Ray raises."""
        try:
            error = self._started.get()
        except BaseException:
            self._started.get()  # one cannot end what has not started
            raise
        if error is not None:
            raise error

    def end(self) -> None:
        """After Ray was shut down."""
        self._ended.set()
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _keep(self) -> None:
        try:
            with _variables(VARIABLES | {"RAY_AUTH_TOKEN": _token}), _on_loopback(), _mute(), _left_alone():
                self._ray.init(
                    address="local",
                    num_cpus=cores(),
                    num_gpus=0,
                    object_store_memory=self._store_bytes,
                    include_dashboard=False,
                    logging_level="ERROR",
                    _temp_dir=self._folder,
                    **QUIET,
                )
        except BaseException as error:  # noqa: BLE001  (told to the thread that waits)
            self._started.put(error)
            return
        self._started.put(None)
        self._ended.wait()


def _connect(ray: ModuleType, address: str) -> None:
    """The cluster that is there; nothing of ours is sent to its nodes, where the product must be installed."""
    host, _, port = address.rpartition(":")
    if "://" in address or (address != "auto" and not (host and port.isdecimal() and 0 < int(port) < 1 << 16)):
        raise EngineError(f"a Ray cluster's address is 'auto' or HOST:PORT, as `ray start --head` tells it, not '{address}'")
    loopback = False
    if address != "auto":
        _reached(host, int(port), address)
        loopback = host in {"127.0.0.1", "localhost", "::1"} and not _listens(ray.util.get_node_ip_address(), int(port))
    with _on_loopback() if loopback else contextlib.nullcontext(), _mute(), _left_alone():
        ray.init(address=address, logging_level="ERROR", **QUIET)


def _reached(host: str, port: int, address: str) -> None:
    """Ray would try for minutes."""
    try:
        socket.create_connection((host.strip("[]"), port), CONNECT_S).close()
    except OSError as error:
        raise EngineError(
            f"no Ray cluster answers at {address} ({error.strerror or error}): start one with `ray start --head`, or leave the address out"
        ) from error


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection((host, port), CONNECT_S).close()
        return True
    return False


@contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """These are in the environment for a while, and this product's own settings are not: Ray's processes inherit it."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith(PRIVATE)]:
        del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _instead(module: str, name: str, replacement: object) -> Iterator[None]:
    """A name in a module of Ray's own means something else for a while, where it exists: for what no public setting does."""
    loaded = sys.modules.get(module)
    if not hasattr(loaded, name):
        yield
        return
    before = getattr(loaded, name)
    setattr(loaded, name, replacement)
    try:
        yield
    finally:
        setattr(loaded, name, before)


def _on_loopback() -> AbstractContextManager[None]:
    """Ray takes the machine's outer address, unless it is told that this system knows no clusters."""
    return _instead("ray._private.ray_constants", "ENABLE_RAY_CLUSTER", replacement=False)


def _mute() -> AbstractContextManager[None]:
    """Ray prints to standard output what befalls its nodes, and that is where our tables go."""
    return _instead("ray._private.worker", "listen_error_messages", lambda *_: None)


@contextmanager
def _left_alone() -> Iterator[None]:
    """Ray takes SIGTERM for itself, if it is started in the main thread, and tells on standard error what it does."""
    log = logging.getLogger("ray")
    level, before = log.level, signal.getsignal(signal.SIGTERM)
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _forget_token() -> None:
    """Ray remembers the first token of a process, and each cluster may have its own."""
    loader = getattr(sys.modules.get("ray._raylet"), "AuthenticationTokenLoader", None)
    if loader is not None:
        loader.instance().reset_cache()


def _told(error: BaseException) -> str:
    """What went wrong, with what it came from."""
    cause = "" if error.__cause__ is None else f": {error.__cause__}"
    return " ".join(f"{error}{cause}".split())[:REPORT_SIZE]

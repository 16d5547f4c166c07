"""The database of the service: SQLite (WAL) on one machine, PostgreSQL for several, behind the same two doors.

``write`` puts an operation into the one writer thread of this process. The writer runs all operations that wait in one
transaction and commits once, so that hundreds of small durable writes share the price of one. An operation is a function
of the connection that either raises before it writes anything (``ServiceError``) or succeeds; it must not remember
anything outside the database, because a batch that fails is rolled back and its operations are run again one by one.

``read`` runs a function of a connection on a pool of reading connections, in the caller's thread.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from sqlalchemy import create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError

from service.errors import ServiceError, Unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from service.settings import Settings

T = TypeVar("T")
Operation = Callable[["Connection"], T]

# Another session that holds a row, is frozen in the middle of a transaction, or is cut off, must not stop every write of ours.
POSTGRES_LIMITS = "-c lock_timeout=3s -c statement_timeout=15s -c idle_in_transaction_session_timeout=15s"
POSTGRES_KEEPALIVES = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
MOST_AT_ONCE = 256  # operations in one transaction: a batch stays short enough for the others that wait
MOST_WAITING = 20_000
BUSY_S = 5.0  # for another process that writes to the same file
AGAIN_S = 1.0
log = structlog.get_logger(__name__)


class Database:
    """One database, opened. Close it: that lets the writer finish what waits."""

    def __init__(self, url: str, *, durability: str = "power_loss") -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._durability = durability
        self._reading = self._engine("BEGIN")
        self._writing = self._engine("BEGIN IMMEDIATE")
        self._waiting: deque[tuple[Operation[Any], Future[Any]]] = deque()
        self._wake = threading.Condition()
        self._open = True
        self.on_commit: Callable[[int, float], None] | None = None  # hears how many operations, in how many seconds
        self._writer = threading.Thread(target=self._write_all, name="database-writer", daemon=True)
        self._writer.start()

    @classmethod
    def of(cls, settings: Settings) -> Database:
        """The database that the settings name."""
        return cls(settings.database_url.get_secret_value(), durability=settings.durability)

    @property
    def engine(self) -> Engine:
        """The engine of the writing connection: for migrations."""
        return self._writing

    def _engine(self, begin: str) -> Engine:
        if not self.is_sqlite:
            url = self.url.set(drivername="postgresql+psycopg")
            waits = {"connect_timeout": 3, "options": POSTGRES_LIMITS, **POSTGRES_KEEPALIVES}
            return create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=8, pool_timeout=BUSY_S, connect_args=waits)
        engine = create_engine(self.url, pool_size=8, max_overflow=8, connect_args={"timeout": BUSY_S, "check_same_thread": False})

        @event.listens_for(engine, "connect")
        def _connected(connection: Any, _record: object) -> None:  # noqa: ANN401  (the driver's own connection)
            connection.isolation_level = None  # transactions begin where we say so, below
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._durability == 'power_loss' else 'NORMAL'}")
            connection.execute("PRAGMA foreign_keys = ON")

        @event.listens_for(engine, "begin")
        def _began(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        return engine

    # ------------------------------------------------------------ reading

    def read(self, operation: Operation[T]) -> T:
        """What ``operation`` returns, in a transaction of its own; raises Unavailable when the database does not answer."""
        try:
            with self._reading.begin() as connection:
                return operation(connection)
        except SQLAlchemyError as error:
            raise _failure(error) from error

    # ------------------------------------------------------------ writing

    def submit(self, operation: Operation[T]) -> Future[T]:
        """Have ``operation`` done by the writer; the future is set when it is committed, or with what went wrong.

        Operations are done in the order in which they were given. Raises Unavailable when too many wait.
        """
        future: Future[T] = Future()
        with self._wake:
            if not self._open:
                raise Unavailable("the service is stopping", retry_after_s=AGAIN_S)
            if len(self._waiting) >= MOST_WAITING:
                raise Unavailable("too many writes wait for the database", retry_after_s=AGAIN_S)
            self._waiting.append((operation, future))
            self._wake.notify()
        return future

    def write(self, operation: Operation[T]) -> T:
        """Submit, and wait for the commit."""
        return self.submit(operation).result()

    def close(self) -> None:
        """Finish what waits and close every connection. May be called twice."""
        with self._wake:
            self._open = False
            self._wake.notify()
        self._writer.join()
        self._reading.dispose()
        self._writing.dispose()

    def _write_all(self) -> None:
        while True:
            with self._wake:
                while self._open and not self._waiting:
                    self._wake.wait()
                if not self._waiting:
                    return
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
            self._commit([(operation, future) for operation, future in batch if future.set_running_or_notify_cancel()])

    def _commit(self, batch: list[tuple[Operation[Any], Future[Any]]], *, again: bool = False) -> None:
        """One transaction for all; one for each when that fails."""
        if not batch:
            return
        done: list[tuple[Future[Any], Any, BaseException | None]] = []
        began = time.monotonic()
        try:
            with self._writing.begin() as connection:
                done.extend(_done(connection, operation, future) for operation, future in batch)
        except Exception as error:
            if len(batch) > 1 and not _is_lost(error):
                self._commit_singly(batch)
                return
            if isinstance(error, IntegrityError) and not again:
                self._commit(batch, again=True)  # another process was faster: what it has written is there to be seen now
                return
            if not isinstance(error, SQLAlchemyError):
                log.exception("a write failed", error=str(error))
            done = [(future, None, _failure(error) if isinstance(error, SQLAlchemyError) else error) for _, future in batch]
        for future, value, failed in done:
            if failed is None:
                future.set_result(value)
            else:
                future.set_exception(failed)
        if self.on_commit is not None:
            self.on_commit(len(batch), time.monotonic() - began)

    def _commit_singly(self, batch: list[tuple[Operation[Any], Future[Any]]]) -> None:
        """One transaction for each; when the database itself does not work, those after it are not made to wait for that in turn."""
        for place, single in enumerate(batch):
            self._commit([single])
            error = single[1].exception()
            if isinstance(error, Unavailable) and isinstance(error.__cause__, SQLAlchemyError):
                for _, future in batch[place + 1 :]:
                    future.set_exception(_failure(error.__cause__))
                return


def _done(connection: Connection, operation: Operation[Any], future: Future[Any]) -> tuple[Future[Any], Any, BaseException | None]:
    try:
        return future, operation(connection), None
    except ServiceError as refused:
        return future, None, refused  # raised before anything was written: the others of the batch go on


def _is_lost(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


class NotStoredError(ServiceError):
    """The database works and refuses this very content: asking again would not help."""

    code, title = "not_stored", "Not stored"


def _failure(error: SQLAlchemyError) -> ServiceError:
    """What to say of an error of the database: that it does not work now, or that it refuses the content."""
    made: ServiceError
    if isinstance(error, DBAPIError) and not isinstance(error, OperationalError | InterfaceError) and not error.connection_invalidated:
        log.error("the database refuses what was to be written", error=str(error).splitlines()[0])
        made = NotStoredError("the database refuses this content; it is logged under this request's id")
    else:
        log.warning("the database does not answer", error=str(error).splitlines()[0])
        detail = "the database does not answer; what was asked may not have been done: ask again, with the same Idempotency-Key"
        made = Unavailable(detail, code="database_unavailable", retry_after_s=AGAIN_S)
    made.__cause__ = error
    return made


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """The database of the settings, brought to the newest schema; closed at the end."""
    from service.runs.migrate import migrate

    database = Database.of(settings)
    try:
        migrate(database)
        yield database
    finally:
        database.close()

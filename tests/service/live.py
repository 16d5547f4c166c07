"""A real service for tests: uvicorn in a thread on a free port, a worker, warm children, a database in a folder of the test."""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI

from models.contract import Sense
from models.linear.schema import Columns, Entries, Problem, Rows
from service.app import create_app
from service.children import ChildPool
from service.runs.bulletin import Bulletin
from service.runs.database import Database
from service.runs.migrate import migrate
from service.runs.worker import Worker
from service.settings import Settings
from service.telemetry import Telemetry

PATIENCE_S = 60.0
QUICK: dict[str, Any] = {"slots": 2, "heartbeat_s": 0.1, "poll_s": 0.05, "most_threads": 2}


class Live:
    """A service that runs at ``url``. ``stop`` and ``start`` restart its server on the same port and database."""

    def __init__(self, folder: Path, pool: ChildPool, **settings: Any) -> None:
        self.settings = Settings(**QUICK | settings)
        self.database = Database(f"sqlite:///{folder / 'runs.db'}", durability="crash")
        migrate(self.database)
        self.pool, self.bulletin, self.telemetry = pool, Bulletin(), Telemetry()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._worker: Worker | None = None
        self._app: FastAPI | None = None

    def start(self) -> None:
        """Serve, and solve."""
        self._worker = Worker(self.database, self.settings, self.bulletin, self.pool, self.telemetry)
        self._worker.start()
        self._app = app = create_app(self.settings, self.database, self.pool, self.bulletin, self._worker, self.telemetry)
        config = uvicorn.Config(
            app, host="127.0.0.1", port=self.port, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="live-server")
        self._thread.start()
        give_up = time.monotonic() + PATIENCE_S
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            assert time.monotonic() < give_up, "the server does not start"
            time.sleep(0.01)

    def stop(self) -> None:
        """End it: runs at work go back to the queue."""
        if self._server is None or self._thread is None or self._worker is None or self._app is None:
            return
        self._app.state.service.stopping = True
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        self._worker.stop()
        assert not self._thread.is_alive(), "the server does not stop"
        self._server = None

    def close(self) -> None:
        """End it for good."""
        self.stop()
        self.database.close()
        self.telemetry.close()


@contextlib.contextmanager
def live(folder: Path, pool: ChildPool, **settings: Any) -> Iterator[Live]:
    """A service that answers; ``settings`` are fields of ``Settings``."""
    before = structlog.get_config()
    # The service's log lines are no part of what a command in the same process prints.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=False)
    made = Live(folder, pool, **settings)
    try:
        made.start()
        yield made
    finally:
        made.close()
        structlog.configure(**before)


@contextlib.contextmanager
def warm_pool(idle: int = 2) -> Iterator[ChildPool]:
    """Children that solve."""
    pool = ChildPool(idle)
    try:
        pool.start()
        yield pool
    finally:
        pool.close()


def stubborn(rows: int = 4, columns: int = 30) -> Problem:
    """A market split: a plan is found at once, and no solver proves the best one within a test's time."""
    rng = random.Random(1)
    shares = [[rng.randrange(100) for _ in range(columns)] for _ in range(rows)]
    entries = [(row, column, float(share)) for row, line in enumerate(shares) for column, share in enumerate(line)]
    entries += [(row, columns + 2 * row + side, 1.0 - 2.0 * side) for row in range(rows) for side in (0, 1)]
    halves = tuple(float(sum(line) // 2) for line in shares)
    return Problem(
        sense=Sense.minimise,
        columns=Columns(
            cost=(0.0,) * columns + (1.0,) * (2 * rows),
            upper=(1.0,) * columns + (None,) * (2 * rows),
            integer=(True,) * columns + (False,) * (2 * rows),
        ),
        rows=Rows(lower=halves, upper=halves),
        entries=Entries(
            rows=tuple(row for row, _, _ in entries),
            columns=tuple(column for _, column, _ in entries),
            values=tuple(value for _, _, value in entries),
        ),
    )


def impossible() -> Problem:
    """A program without a plan: one column that must be at least 2 and at most 1."""
    return Problem(
        sense=Sense.minimise,
        columns=Columns(names=("x",), cost=(1.0,), upper=(1.0,)),
        rows=Rows(names=("enough",), lower=(2.0,)),
        entries=Entries(rows=(0,), columns=(0,), values=(1.0,)),
    )

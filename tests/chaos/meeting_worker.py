"""A worker process that takes its time, and begins only when two have come: so that both are at work when one of them is killed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from optimizer.study.executors import pool_worker
from optimizer.study.executors.engine import Asked, Done, Held

PLACE = "STUDY_TEST_MEETING"  # environment variable: a folder where everybody leaves a file
SLOW_S = 0.15
PATIENCE_S = 60.0


def hold(held: Held, send: Callable[[object], None], cancel: threading.Event) -> float:
    """As the real one."""
    seconds = pool_worker.hold(held, send, cancel)
    (Path(os.environ[PLACE]) / f"{os.getpid()}").touch()
    return seconds


def answer(asked: Asked, send: Callable[[object], None], cancel: threading.Event) -> Done:
    """As the real one, later."""
    give_up = time.monotonic() + PATIENCE_S
    while len(os.listdir(os.environ[PLACE])) < 2 and time.monotonic() < give_up:  # noqa: PTH208  (a count)
        time.sleep(0.01)
    time.sleep(SLOW_S)
    return pool_worker.answer(asked, send, cancel)

"""A worker process that goes astray when a scenario asks it to: for the tests of whoever supervises it."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from models.linear.schema import Plan
from optimizer.incumbents import Bounded, Found
from optimizer.study.executors import pool_worker
from optimizer.study.executors.engine import Asked, Done, Held

SLOW = "STUDY_TEST_SLOW_S"  # environment variable: seconds that each scenario takes longer


def hold(held: Held, send: Callable[[object], None], cancel: threading.Event) -> float:
    """As the real one; a base of the kind 'dying' kills the process."""
    if held.kind == "dying":
        os.kill(os.getpid(), signal.SIGKILL)
    return pool_worker.hold(held, send, cancel)


def answer(asked: Asked, send: Callable[[object], None], cancel: threading.Event) -> Done:
    """As the real one, but for the scenarios that ask for something else."""
    time.sleep(float(os.environ.get(SLOW, "0")))
    what, _, value = next((str(change.value) for change in asked.changes), "").partition(" ")
    match what:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "killed_once":  # as long as the file is not there
            mark = Path(value)
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "raises":
            raise ValueError("a fault in the worker")
        case "deaf":
            time.sleep(600)
        case "deaf_with_a_plan":
            send(Bounded(0.0, "counting", "objective", 60.0, "counting"))
            send(Found(0.0, "heuristic", Plan(values=(50.0,)), (50.0,)))
            time.sleep(600)
        case "waits":  # and hears
            cancel.wait(600)
        case "eats":
            eaten = []
            while True:
                eaten.append(b"x" * (1 << 24))
                time.sleep(0.005)
    return pool_worker.answer(asked, send, cancel)

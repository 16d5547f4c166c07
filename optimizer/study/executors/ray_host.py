"""The inside of a Ray actor of ``optimizer.study.executors.ray_pool``: a worker process, which answers and can be listened to meanwhile."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import psutil

from optimizer.study.store import product_version

if TYPE_CHECKING:
    from optimizer.incumbents import Message
    from optimizer.study.executors.engine import Asked, Done, Held, Step

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Hello:
    """Who works here: its process on its node, and the version of the product that is installed there."""

    pid: int
    node: str
    version: str


@dataclass(frozen=True, slots=True)
class News:
    """What a scenario has told since the last time, and the resident memory of its process."""

    serial: int
    messages: tuple[Step | Message, ...]
    memory_gib: float


@dataclass(slots=True)
class _Told:
    """What one scenario has told, and whether it must stop."""

    serial: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    messages: list[Step | Message] = field(default_factory=list)


class Host:
    """Runs the functions of a module such as ``pool_worker``. ``news`` and ``stop`` are called from another thread."""

    def __init__(self, worker: str) -> None:
        self._worker: Any = import_module(worker)
        self._lock = threading.Lock()
        self._told = _Told()
        self._stopped = 0  # the last serial number told to stop: the word may come before its scenario
        self._pulse = psutil.Process()

    def hello(self) -> Hello:
        """Who this is."""
        return Hello(os.getpid(), os.uname().nodename, product_version())

    def hold(self, held: Held) -> float:
        """Take the base problem; the seconds it took to read it."""
        told = _Told()
        seconds: float = self._worker.hold(held, told.messages.append, told.stop)
        return seconds

    def answer(self, serial: int, asked: Asked) -> Done:
        """Answer one scenario; the serial number, from 1 on, is of this try at it."""
        told = _Told(serial)
        with self._lock:
            self._told = told
            if self._stopped == serial:
                told.stop.set()

        def send(message: Step | Message) -> None:
            with self._lock:
                told.messages.append(message)

        done: Done = self._worker.answer(asked, send, told.stop)
        return done

    def news(self) -> News:
        """Of the scenario that runs, or of the last."""
        memory_gib = self._pulse.memory_info().rss / GIB
        with self._lock:
            told = self._told
            messages, told.messages = tuple(told.messages), []
        return News(told.serial, messages, memory_gib)

    def stop(self, serial: int) -> None:
        """Ask the scenario of this number to stop."""
        with self._lock:
            self._stopped = serial
            if self._told.serial == serial:
                self._told.stop.set()

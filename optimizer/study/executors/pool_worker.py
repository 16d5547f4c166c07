"""The inside of a worker process of ``optimizer.study.executors.pool``: one desk, which answers one scenario a call."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from optimizer.incumbents import Found
from optimizer.study.executors.desk import Desk

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimizer.incumbents import Message
    from optimizer.study.executors.engine import Asked, Done, Held

MOST_PLANS = 3  # the last is the best; two more in case it does not stand up to verification
QUIET_S = 5.0  # so long a scenario tells nothing but its steps: most have ended by then
TELL_S = 1.0  # between two tellings

_desks: list[Desk] = []


def hold(held: Held, _send: Callable[[object], None], _cancel: threading.Event) -> float:
    """Take the base problem; the seconds it took to read it."""
    began = time.monotonic()
    _desks[:] = [Desk.of(held)]
    return time.monotonic() - began


def answer(asked: Asked, send: Callable[[object], None], cancel: threading.Event) -> Done:
    """Answer a scenario. Of a long one its plans and bounds are sent too, for the case that this process must be stopped."""
    known = _Known(send)
    ended = threading.Event()
    thread = threading.Thread(target=known.tell, args=(ended,), name="telling", daemon=True)
    thread.start()
    try:
        return _desks[0].answer(asked, cancel=cancel, on_step=send, on_message=known.take)
    finally:
        ended.set()
        thread.join()  # or it might talk into the next run


class _Known:
    """What the solver of one scenario has found and proved, for the case that its process must be stopped."""

    def __init__(self, send: Callable[[object], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._messages: list[Message] = []

    def take(self, message: Message) -> None:
        """Note it; only the last plans count."""
        with self._lock:
            if isinstance(message, Found):
                plans = [one for one in self._messages if isinstance(one, Found)]
                if len(plans) >= MOST_PLANS:
                    self._messages.remove(plans[0])
            self._messages.append(message)

    def tell(self, ended: threading.Event) -> None:
        """After a while, and then again and again, send what came since. A thread of its own: a solver that overruns does not answer."""
        wait_s = QUIET_S
        while not ended.wait(wait_s):
            with self._lock:
                news, self._messages = self._messages, []
            for message in news:
                self._send(message)
            wait_s = TELL_S

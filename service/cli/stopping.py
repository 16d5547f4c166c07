"""How a long command is stopped: the first Ctrl-C asks, the second insists."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.cli.output import complain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextmanager
def soft_stop(cancel: threading.Event, kept: str = "the best plan so far is kept") -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) sets ``cancel``, the second raises KeyboardInterrupt."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()
        complain(f"stopping; {kept} (Ctrl-C again stops at once)")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

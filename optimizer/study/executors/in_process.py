"""Scenarios solved one after another in the process that asks: for tests, notebooks, and studies that are quicker than a process starts.

Nobody watches here: a solver that overruns its time is waited for, and one that crashes takes everything with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from optimizer.study.executors.desk import Desk
from optimizer.study.executors.engine import Step

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from optimizer.study.executors.engine import Asked, Done, Held


class InProcess:
    """The engine without processes."""

    def open(self, held: Held) -> InProcessWorkers:
        """One worker: this process."""
        return InProcessWorkers(held)


class InProcessWorkers:
    """A desk, behind the protocol ``Workers``."""

    def __init__(self, held: Held) -> None:
        self._desk: Desk | None = Desk.of(held)

    def run(
        self,
        work: Sequence[Asked],
        *,
        on_done: Callable[[Done], None],
        on_step: Callable[[Step], None],
        cancel: threading.Event,
    ) -> None:
        """See ``Workers``. Raises RuntimeError once closed."""
        if self._desk is None:
            raise RuntimeError("these workers were closed: open others")
        for asked in work:
            if cancel.is_set():
                return
            on_step(Step(asked.key, "started"))
            done = self._desk.answer(asked, cancel=cancel, on_step=on_step)
            if done.is_answer:
                on_done(done)

    def close(self) -> None:
        """Let go of problem and solver."""
        self._desk = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

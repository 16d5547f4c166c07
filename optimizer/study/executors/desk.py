"""One process's place of work: the base problem, and a solver that stays hot from one scenario to the next.

Every engine ends here. Nothing that a scenario does may end the study: whatever goes wrong becomes a row with its reason.
"""

from __future__ import annotations

import threading
import time
import traceback
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Self, TypeVar

from models.catalogue import kind_of
from models.contract import ContradictionError
from optimizer.incumbents import Bounded, Found
from optimizer.solve import conclude
from optimizer.study.executors.engine import Done, Step
from optimizer.study.executors.hot import HotSolver
from optimizer.study.rows import Row
from optimizer.study.scenarios.changes import applied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.vocabulary import Document
    from optimizer.incumbents import Message
    from optimizer.limits import Limits
    from optimizer.result import Result, StopReason
    from optimizer.study.executors.engine import Asked, Held

FAST = 1  # zlib's level: a plan is written once and rarely read
MOST_MISTAKES = 3  # that a row tells of
REPORT_SIZE = 4_000  # characters of a traceback
FAULT = "a fault of this program, please report it"
TELL_S = 0.25  # at least, between two steps of one scenario


Thing = TypeVar("Thing")


class Desk:
    """Answers scenarios of one base problem, one after another, in this process."""

    def __init__(self, base: Document, limits: Limits, *, plans: bool = True) -> None:
        self._base, self._limits, self._plans = base, limits, plans
        self._solver: HotSolver | None = None

    @classmethod
    def of(cls, held: Held) -> Self:
        """The desk of a worker that holds this."""
        return cls(held.problem(), held.limits, plans=held.plans)

    def answer(
        self,
        asked: Asked,
        *,
        cancel: threading.Event | None = None,
        on_step: Callable[[Step], None] = lambda _step: None,
        on_message: Callable[[Message], None] | None = None,
    ) -> Done:
        """The row of a scenario, with its plan where there is one. Raises what ``on_step`` and ``on_message`` raise, nothing else.

        Its seconds are all that it took here: changing the problem, solving, verifying.
        """
        began = time.monotonic()
        try:
            problem = applied(self._base, asked.changes)
        except Exception as error:  # noqa: BLE001  (a scenario may break its problem in any way: that is its answer)
            return Done(Row.failed(asked.key, f"its changes break the problem: {mistakes(error)}", seconds=time.monotonic() - began))
        listener = _Listener(asked.key, on_step, on_message)
        try:
            result = self._solved(problem, asked.seed, cancel, listener)
        except Exception as error:
            self._solver = None  # whatever happened to it, a fresh one is the only safe one
            if listener.failure is error:
                raise
            return Done(Row.failed(asked.key, report(error), seconds=time.monotonic() - began))
        return done(asked.key, result, time.monotonic() - began, plans=self._plans)

    def _solved(self, problem: Document, seed: int, cancel: threading.Event | None, listener: _Listener) -> Result:
        if self._solver is None:
            self._solver = HotSolver(self._base, self._limits, diagnosing=True)
        limits = replace(self._limits, seed=seed)
        listener.goal = kind_of(problem).goals(problem)[0].name
        return self._solver.solve(problem, limits=limits, cancel=cancel, on_message=listener.heard)


class _Listener:
    """Passes the solver's news on, as steps too, and remembers whether passing them on is what failed."""

    def __init__(self, key: str, on_step: Callable[[Step], None], on_message: Callable[[Message], None] | None) -> None:
        self._on_step, self._on_message = on_step, on_message
        self.goal = ""  # the first, of which the steps tell
        self._step = Step(key, "searching")
        self._next_s = time.monotonic() + TELL_S
        self.failure: Exception | None = None

    def heard(self, message: Message) -> None:
        """A plan or a bound: a step of the first goal, unless the last was just now."""
        if self._on_message is not None:
            self._guarded(self._on_message, message)
        if isinstance(message, Found):
            self._step = replace(self._step, incumbent=message.objectives[0])
        elif isinstance(message, Bounded) and message.goal == self.goal:
            self._step = replace(self._step, bound=message.bound)
        now = time.monotonic()
        if now >= self._next_s:
            self._next_s = now + TELL_S
            self._guarded(self._on_step, self._step)

    def _guarded(self, function: Callable[[Thing], None], thing: Thing) -> None:
        try:
            function(thing)
        except Exception as error:
            self.failure = error
            raise


def done(key: str, result: Result, seconds: float, *, plans: bool = True) -> Done:
    """What a result leaves behind."""
    row = replace(Row.of(key, result), seconds=seconds)
    return Done(row, None if result.plan is None or not plans else zlib.compress(result.plan.model_dump_json().encode(), FAST))


def concluded(
    held: Held, asked: Asked, messages: Sequence[Message], *, stop_reason: StopReason, seconds: float, failure: str | None = None
) -> Done:
    """The answer of a scenario whose process had to be stopped, from the messages it had sent: its best plan, verified anew."""
    try:
        problem = applied(held.problem(), asked.changes)
        limits = replace(held.limits, seed=asked.seed)
        result = conclude(problem, limits, messages, stop_reason=stop_reason, seconds=seconds, failure=failure, explained=False)
    except Exception as error:  # noqa: BLE001  (as for a scenario that is answered in time)
        return Done(Row.failed(asked.key, report(error), seconds=seconds))
    return done(asked.key, result, seconds, plans=held.plans)


def mistakes(error: Exception) -> str:
    """What a broken problem has wrong, in one line: the first mistakes, each with its place."""
    if not isinstance(error, ContradictionError):
        return report(error)
    told = [f"{one.pointer}: {one.detail}" for one in error.mistakes[:MOST_MISTAKES]]
    more = len(error.mistakes) - MOST_MISTAKES
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def report(error: Exception) -> str:
    """A fault of ours, as a row tells it."""
    told = "".join(traceback.format_exception(error))
    return f"{FAULT}: {type(error).__name__}: {error}\n{told[-REPORT_SIZE:]}"

"""Scenarios solved by worker processes on this machine, each supervised: a lost one costs a try of the one scenario it was at.

A thread for each worker hands it one scenario after another and watches its time and memory; the thread that asked takes the answers
from a queue, so that whatever it does with them (writing them to disk) no worker waits for. All of them sleep while workers work.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from optimizer.child import Child, ChildEnd
from optimizer.result import StopReason
from optimizer.study.executors.blocks import Blocks
from optimizer.study.executors.desk import FAULT, concluded
from optimizer.study.executors.engine import Done, EngineError, Step
from optimizer.study.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optimizer.incumbents import Message
    from optimizer.study.executors.engine import Asked, Held

WORKER = "optimizer.study.executors.pool_worker"
ATTEMPTS = 3
OPEN_S = 3_600.0  # for reading the base problem
# A scenario is changed, checked, solved, verified. Its solver keeps the limit by itself; here is who stops one that does not.
ALLOWANCE_S = 3.0
ALLOWANCE_SHARE = 0.25
READINGS = 5.0  # changing and checking a problem takes no longer than reading it so many times
GRACE_S = 2.0
ONE_CORE = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
QUEUED = 8  # answers for each worker that may wait to be taken
REPORT_SIZE = 4_000


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class LocalPool:
    """The engine of so many processes. A scenario is tried ``attempts`` times while its process dies over it."""

    workers: int = field(default_factory=cores)
    attempts: int = ATTEMPTS

    def __post_init__(self) -> None:
        """Raises ValueError for a number below 1."""
        if self.workers < 1 or self.attempts < 1:
            raise ValueError(f"workers and attempts must be at least 1, not {self.workers} and {self.attempts}")

    def open(self, held: Held) -> LocalWorkers:
        """Workers on a base problem; their processes start with the first run that needs them."""
        return LocalWorkers(held, self.workers, self.attempts)


class LocalWorkers:
    """Worker processes, behind the protocol ``Workers``. One run at a time."""

    def __init__(self, held: Held, workers: int, attempts: int) -> None:
        self._posts = [_Post(number, held, attempts) for number in range(workers)]

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes there are now."""
        return tuple(pid for pid in (post.pid for post in self._posts) if pid is not None)

    def run(
        self,
        work: Sequence[Asked],
        *,
        on_done: Callable[[Done], None],
        on_step: Callable[[Step], None],
        cancel: threading.Event,
    ) -> None:
        """See ``Workers``."""
        posts = self._posts[: len(work)]
        blocks, stop = Blocks(work, max(1, len(posts))), _Stop(cancel)
        events: queue.Queue[_Event] = queue.Queue(QUEUED * max(1, len(posts)))
        delivery = _Delivery(events, on_done, on_step)
        try:
            for post in posts:
                post.begin(blocks, events, stop)
                delivery.working += 1
            delivery.until_all_ended()
        except BaseException:
            stop.set()
            delivery.rest()
            raise
        if delivery.faults and blocks.left and not cancel.is_set():
            raise delivery.faults[0]

    def close(self) -> None:
        """End the processes."""
        for post in self._posts:
            post.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Stop(threading.Event):
    """Set, or asked for from outside."""

    def __init__(self, outer: threading.Event) -> None:
        super().__init__()
        self._outer = outer

    def is_set(self) -> bool:
        return super().is_set() or self._outer.is_set()


@dataclass(frozen=True, slots=True)
class _Ended:
    """The last word of a post: it has no more to do, or cannot go on."""

    fault: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Lost:
    """Why a process died."""

    why: str


_Event = Done | Step | _Ended


@dataclass(slots=True)
class _Delivery:
    """Hands on what the posts put into the queue, in the thread that asked."""

    events: queue.Queue[_Event]
    on_done: Callable[[Done], None]
    on_step: Callable[[Step], None]
    working: int = 0
    faults: list[BaseException] = field(default_factory=list)

    def until_all_ended(self) -> None:
        while self.working:
            self._next(self.on_step)

    def rest(self) -> None:
        """What was answered before the end is kept too."""
        while self.working:
            with contextlib.suppress(Exception):  # the first error is the one to tell
                self._next(lambda _step: None)

    def _next(self, on_step: Callable[[Step], None]) -> None:
        event = self.events.get()
        if isinstance(event, _Ended):
            self.working -= 1
            self.faults += [] if event.fault is None else [event.fault]
        elif isinstance(event, Step):
            on_step(event)
        else:
            self.on_done(event)


class _Post:
    """One worker's place: its process, which is replaced when it dies, and the thread that minds it."""

    def __init__(self, number: int, held: Held, attempts: int) -> None:
        self.number = number
        self._held, self._attempts = held, attempts
        self._child: Child | None = None
        self._thread: threading.Thread | None = None
        self._reading_s = 0.0
        self._answered = 0  # by this process

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        child = self._child
        return None if child is None else child.pid

    def begin(self, blocks: Blocks[Asked], events: queue.Queue[_Event], stop: threading.Event) -> None:
        """Serve in a thread of its own, whose last event is _Ended."""
        self._thread = threading.Thread(target=self._serve, args=(blocks, events, stop), name=f"study-{self.number}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the process, and a thread that still minds it."""
        if self._thread is not None:
            if self._child is not None:
                self._child.kill()
            self._thread.join(GRACE_S)
            self._thread = None
        self._leave()

    def _leave(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def _serve(self, blocks: Blocks[Asked], events: queue.Queue[_Event], stop: threading.Event) -> None:
        """Answer scenarios until there is none left, or all must stop."""
        fault: BaseException | None = None
        asked: Asked | None = None
        try:
            while not stop.is_set() and (asked := blocks.take(self.number)) is not None:
                done = self._answer(asked, events, stop)
                asked = None
                if done is not None:
                    events.put(done)
        except BaseException as error:  # noqa: BLE001  (told to the thread that asked)
            fault = error
            if asked is not None:
                blocks.give_back(self.number, asked)
        finally:
            events.put(_Ended(fault))

    def _answer(self, asked: Asked, events: queue.Queue[_Event], stop: threading.Event) -> Done | None:
        """The answer, after as many processes as it takes; None when stopped before."""
        losses = 0
        while (child := self._manned(stop)) is not None:
            events.put(Step(asked.key, "started", self.number))
            heard: list[Message] = []
            end = self._asked(child, asked, stop, heard, events)
            done = self._judged(end, asked, heard, stop)
            if not isinstance(done, _Lost):
                return None if done is None else replace(done, row=replace(done.row, attempts=1 + losses))
            losses += 1
            if losses >= self._attempts:
                why = f"its process died {losses} times over it: {done.why[:REPORT_SIZE]}"
                return Done(Row.failed(asked.key, why, seconds=end.seconds, attempts=losses))
            events.put(Step(asked.key, "lost", self.number))
        return None

    def _asked(self, child: Child, asked: Asked, stop: threading.Event, heard: list[Message], events: queue.Queue[_Event]) -> ChildEnd:
        """One try: the process works, its messages are sorted."""
        limits = self._held.limits

        def on_message(message: Any) -> None:  # noqa: ANN401  (a Step or a Message)
            if not isinstance(message, Step):
                heard.append(message)
                return
            with contextlib.suppress(queue.Full):  # nobody watches the process while this waits
                events.put_nowait(replace(message, worker=self.number))

        return child.run(
            f"{WORKER}:answer",
            asked,
            deadline_s=limits.time_limit_s * (1 + ALLOWANCE_SHARE) + ALLOWANCE_S + READINGS * self._reading_s,
            memory_gib=limits.memory_gib,
            cancel=stop,
            on_message=on_message,
            grace_s=GRACE_S,
        )

    def _judged(self, end: ChildEnd, asked: Asked, heard: list[Message], stop: threading.Event) -> Done | _Lost | None:
        """The answer that a try has given, or why its process was lost; None when it was stopped."""
        if isinstance(end.value, Done):
            self._answered += 1
            return _at_its_time(end.value, stop)
        if end.reason == "error":
            return Done(Row.failed(asked.key, f"{FAULT}: {end.message[-REPORT_SIZE:]}", seconds=end.seconds))
        fresh = self._answered == 0
        self._leave()
        if stop.is_set():
            return None
        if end.reason == "deadline":
            return concluded(self._held, asked, heard, stop_reason=StopReason.deadline, seconds=end.seconds)
        if end.reason == "memory" and fresh:  # in one that had answered others before, those may be to blame
            return concluded(self._held, asked, heard, stop_reason=StopReason.memory, seconds=end.seconds)
        return _Lost(end.message or f"it used more than {self._held.limits.memory_gib} GiB of memory")

    def _manned(self, stop: threading.Event) -> Child | None:
        """A living process that holds the base problem; None when stopped before. Raises EngineError."""
        if self._child is not None and self._child.running:
            return self._child
        lost: list[str] = []
        while not stop.is_set() and len(lost) < self._attempts:
            self._leave()
            try:
                self._child = Child.start(imports=(WORKER,), variables=ONE_CORE)
            except OSError as error:
                raise EngineError(f"no worker process can be started: {error.strerror or error}") from error
            memory_gib = self._held.limits.memory_gib
            end = self._child.run(f"{WORKER}:hold", self._held, deadline_s=OPEN_S, memory_gib=memory_gib, cancel=stop, grace_s=GRACE_S)
            if isinstance(end.value, float):
                self._reading_s, self._answered = end.value, 0
                return self._child
            if end.reason == "memory":
                self._leave()
                raise EngineError(f"a worker needs more than memory_gib={memory_gib:g} to hold the base problem alone: raise it")
            if end.reason == "error":
                self._leave()
                raise EngineError(f"a worker cannot take the base problem: {end.message[-REPORT_SIZE:]}")
            lost.append(end.message)
        if stop.is_set():
            return None
        raise EngineError(f"a worker process died {len(lost)} times before it had read the base problem: {lost[-1][:REPORT_SIZE]}")


def _at_its_time(done: Done, stop: threading.Event) -> Done | None:
    """An answer as it counts: one cut short because all must stop is none, one cut short by us has met its deadline."""
    if done.is_answer:
        return done
    return None if stop.is_set() else replace(done, row=replace(done.row, stop_reason=StopReason.deadline.value))

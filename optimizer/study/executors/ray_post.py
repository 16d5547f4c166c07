"""One worker's place on Ray: its actor, which is replaced when it is lost, and the scenario it is at."""

from __future__ import annotations

import contextlib
import itertools
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from optimizer.study.executors import pool
from optimizer.study.executors.engine import Done, EngineError
from optimizer.study.store import product_version

if TYPE_CHECKING:
    from types import ModuleType

    from optimizer.incumbents import Message
    from optimizer.study.executors.engine import Asked, Held
    from optimizer.study.executors.ray_host import Hello, News

LISTEN = "listen"  # the actor's thread that answers while it solves
NEWS_S = 0.5  # between two questions for what a scenario has found so far
# An actor that says nothing, not even its memory, is deaf or its machine is gone. Of the latter Ray, as it comes, learns from five
# questions in a row that have no answer within 10 s, 3 s apart.
SILENCE_S = 75.0


@dataclass(frozen=True, slots=True)
class Crew:
    """What all actors hold: it is in the object store once."""

    ray: ModuleType
    held: Held
    stored: Any  # a reference to it
    actor: Any  # the class of the actors


@dataclass(frozen=True, slots=True)
class Lost:
    """Why an actor is gone."""

    why: str


@dataclass(slots=True)
class Try:
    """One scenario at one actor."""

    asked: Asked
    serial: int
    soft_s: float  # when it is told to stop, on the clock of ``time.monotonic``
    began_s: float = field(default_factory=time.monotonic)
    told_to_stop_s: float | None = None
    last_news_s: float = 0.0
    heard: list[Message] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began_s

    def overdue(self, now: float) -> bool:
        """Whether it has not stopped though it was told to. A process that says nothing at all may be lost: Ray may still tell so."""
        if self.told_to_stop_s is None:
            return False
        silent = now - self.last_news_s > pool.GRACE_S + 2 * NEWS_S
        return now > self.told_to_stop_s + pool.GRACE_S + (SILENCE_S if silent else 0.0)


class Post:
    """One worker's place: its actor, which is replaced when it is lost, and what that does now."""

    def __init__(self, number: int, crew: Crew) -> None:
        self.number = number
        self.crew = crew
        self.state: Literal["absent", "placing", "reading", "checking", "free", "busy"] = "absent"
        self.hello: Hello | None = None
        self.trying: Try | None = None
        self.reply: Any = None  # a reference to what is waited for
        self.news: Any = None
        self.next_news_s = 0.0
        self.answered = 0  # by this actor
        self.failures: list[str] = []  # of actors that did not come to hold the base problem
        self._actor: Any = None
        self._reading_s = 0.0
        self._serials = itertools.count(1)

    @property
    def key(self) -> str:
        """Of the scenario it is at."""
        return "" if self.trying is None else self.trying.asked.key

    def hire(self) -> None:
        """Ask for a new actor."""
        self._actor = self.crew.actor.options(max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD").remote(pool.WORKER)
        self.reply, self.state, self.answered = self._actor.hello.remote(), "placing", 0

    def leave(self) -> None:
        """Kill the actor, if there is one."""
        if self._actor is not None:
            with contextlib.suppress(Exception):  # it may be dead, or the cluster
                self.crew.ray.kill(self._actor)
        self._actor = self.reply = self.news = self.hello = self.trying = None
        self.state = "absent"

    def check(self) -> None:
        """Make sure that an actor which has waited is still there, before it costs a scenario a try."""
        if self.state == "free":
            self.reply, self.state = self._actor.hello.remote(), "checking"

    def ask(self, asked: Asked) -> None:
        """Begin a scenario."""
        limits, now = self.crew.held.limits, time.monotonic()
        soft_s = now + limits.time_limit_s * (1 + pool.ALLOWANCE_SHARE) + pool.ALLOWANCE_S + pool.READINGS * self._reading_s
        self.trying = Try(asked, next(self._serials), soft_s)
        self.reply, self.state = self._actor.answer.remote(self.trying.serial, asked), "busy"
        self.next_news_s = now + NEWS_S

    def tell_to_stop(self) -> None:
        """Ask the scenario to stop."""
        if self.trying is not None and self.trying.told_to_stop_s is None:
            self.trying.told_to_stop_s = time.monotonic()
            self._actor.stop.options(concurrency_group=LISTEN).remote(self.trying.serial)

    def listen(self, now: float) -> None:
        """Ask for news, every now and then."""
        if self.state in ("reading", "busy") and self.news is None and now >= self.next_news_s:
            self.news = self._actor.news.options(concurrency_group=LISTEN).remote()
            self.next_news_s = now + NEWS_S

    def settled(self) -> Hello | float | Done | Lost | Exception:
        """The reply that has come; an exception that was raised there, or why the actor is gone."""
        reply, self.reply = self.reply, None
        errors = self.crew.ray.exceptions
        try:
            value: Hello | float | Done = self.crew.ray.get(reply)
        except errors.RayTaskError as error:
            return RuntimeError(str(error)[-pool.REPORT_SIZE :])
        except errors.RayError as error:
            return Lost(" ".join(str(error).split())[: pool.REPORT_SIZE])
        return value

    def opened(self) -> None:
        """Take the next step towards holding the base problem. Raises EngineError."""
        value = self.settled()
        if isinstance(value, Lost):
            self.failures += [] if self.state == "checking" else [value.why]
            self.leave()
        elif isinstance(value, Exception):
            self.leave()
            raise EngineError(f"a worker cannot take the base problem: {value}")
        elif isinstance(value, float):
            self._reading_s, self.state = value, "free"
            self.failures.clear()
        elif self.state == "checking":
            self.state = "free"
        elif not isinstance(value, Done):
            self._same_product(value)
            self.hello, self.state = value, "reading"
            self.reply = self._actor.hold.remote(self.crew.stored)
            self.next_news_s = time.monotonic() + NEWS_S

    def heard(self) -> News | None:
        """The news that has come, if it could be told and is of this scenario."""
        reference, self.news = self.news, None
        try:
            news: News = self.crew.ray.get(reference)
        except self.crew.ray.exceptions.RayError:  # whoever waits for the reply is told why
            return None
        if self.trying is None or news.serial != self.trying.serial:
            return replace(news, messages=())
        self.trying.last_news_s = time.monotonic()
        return news

    def _same_product(self, hello: Hello) -> None:
        ours = product_version()
        if hello.version != ours:
            self.leave()
            raise EngineError(
                f"node {hello.node} of the Ray cluster has version {hello.version} of quartermaster, and this is {ours}: install the same"
            )

"""Scenarios solved on Ray: by actors on this machine, or on those of a cluster. One that is lost costs a try of the scenario it was at.

The thread that asked does everything here: it hands each actor one scenario after another, waits for whichever answers first, and
watches time and memory. So a scenario that was lost with its node goes to whoever is free next, and nobody waits for a new node.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from optimizer.result import StopReason
from optimizer.study.executors import pool
from optimizer.study.executors.blocks import Blocks
from optimizer.study.executors.desk import FAULT, concluded
from optimizer.study.executors.engine import Done, EngineError, Step
from optimizer.study.executors.ray_cluster import joined
from optimizer.study.executors.ray_host import Host
from optimizer.study.executors.ray_post import LISTEN, Crew, Lost, Post, Try
from optimizer.study.rows import Row

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from optimizer.study.executors.engine import Asked, Held
    from optimizer.study.executors.ray_cluster import Session

LOOK_S = 0.1  # how often a cancel and the clock are looked at
PLACE_S = 60.0  # for a free place on a cluster, when nobody has one yet

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RayPool:
    """The engine of so many actors, one for each CPU (or ``limits.threads`` of them) of the cluster where ``workers`` is None.

    ``address`` is that of a cluster (``HOST:PORT``, or ``auto`` for the one this machine belongs to), on whose nodes the product must be
    installed; without one a cluster of our own is started on this machine and ended afterwards. A scenario is tried ``attempts`` times
    while its process or node dies over it.
    """

    workers: int | None = None
    address: str | None = None
    attempts: int = pool.ATTEMPTS

    def __post_init__(self) -> None:
        """Raises ValueError for a number below 1."""
        if (self.workers is not None and self.workers < 1) or self.attempts < 1:
            raise ValueError(f"workers and attempts must be at least 1, not {self.workers} and {self.attempts}")

    def open(self, held: Held) -> RayWorkers:
        """Workers on a base problem; the actors start with the first run that needs them. Raises EngineError."""
        ray, threads = _ray(), held.limits.threads
        session = joined(ray, self.address, len(held.base))
        try:
            count = (self.workers or pool.cores()) if session.own else _count(ray, self.workers, threads)
            return RayWorkers(ray, session, held, count, self.attempts)
        except BaseException:
            session.close()
            raise


def _ray() -> ModuleType:
    """Ray, where it is installed. Raises EngineError."""
    try:
        import ray  # half a second, and only an extra
    except ImportError as error:
        raise EngineError(f"Ray is not installed ({error}): pip install 'quartermaster[ray]'") from error
    return ray


def _count(ray: ModuleType, wanted: int | None, threads: int) -> int:
    """How many actors there should be. Raises EngineError where not one has room."""
    per_node = [int(node["Resources"].get("CPU", 0.0)) for node in ray.nodes() if node["Alive"]]
    room = sum(cpus // threads for cpus in per_node)
    if not room:
        raise EngineError(f"no node of the Ray cluster has threads={threads} CPUs, the largest has {max(per_node, default=0)}: lower it")
    if wanted is not None and wanted > room:
        _log.warning("the Ray cluster has room for %d workers, not %d: the others wait for nodes that join", room, wanted)
    return room if wanted is None else wanted


class RayWorkers:
    """Actors, behind the protocol ``Workers``. One run at a time, in the thread that opened them."""

    def __init__(self, ray: ModuleType, session: Session, held: Held, workers: int, attempts: int) -> None:
        self._session: Session | None = session
        self._attempts = attempts
        # On a cluster of our own there are as many as were asked for, whatever else this process has there.
        cpus = 0 if session.own else held.limits.threads
        crew = Crew(ray, held, ray.put(held), ray.remote(num_cpus=cpus, concurrency_groups={LISTEN: 1})(Host))
        self._posts = [Post(number, crew) for number in range(workers)]

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes there are now, each on its own node."""
        return tuple(post.hello.pid for post in self._posts if post.hello is not None)

    def run(
        self,
        work: Sequence[Asked],
        *,
        on_done: Callable[[Done], None],
        on_step: Callable[[Step], None],
        cancel: threading.Event,
    ) -> None:
        """See ``Workers``. Raises RuntimeError once closed."""
        if self._session is None:
            raise RuntimeError("these workers were closed: open others")
        if not work or cancel.is_set():
            return
        shift = _Shift(self._posts[: len(work)], work, self._attempts, on_done, on_step)
        try:
            shift.work(cancel)
        except BaseException:
            shift.rest()
            raise

    def close(self) -> None:
        """End the actors, and the cluster if it is ours."""
        if self._session is not None:
            for post in self._posts:
                post.leave()
            self._session.close()
            self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Shift:
    """One run: who does what, and what has come of it."""

    def __init__(
        self, posts: list[Post], work: Sequence[Asked], attempts: int, on_done: Callable[[Done], None], on_step: Callable[[Step], None]
    ) -> None:
        self._posts, self._attempts, self._on_done, self._on_step = posts, attempts, on_done, on_step
        self._blocks = Blocks(work, len(posts))
        self._losses: dict[str, int] = {}
        self._stopping = False
        self._quiet_since_s = time.monotonic()  # since nobody has had a place
        for post in posts:
            post.failures.clear()
            post.check()

    def work(self, cancel: threading.Event) -> None:
        """Answer all, or stop soon after ``cancel`` is set."""
        while not cancel.is_set():
            for post in self._posts:
                self._occupy(post)
            if not self._blocks.left and not self._busy:
                return
            self._mind_places()
            self._wait()
        self._wind_up()

    def rest(self) -> None:
        """What was answered before the end is kept too; the first error is the one to tell."""
        self._on_step = lambda _step: None
        for _ in range(len(self._posts) + 1):  # each may raise once
            with contextlib.suppress(Exception):
                self._wind_up()
                return

    def _wind_up(self) -> None:
        """Stop what runs. An answer that is whole all the same counts."""
        self._stopping = True
        for post in self._busy:
            post.tell_to_stop()
        end_s = time.monotonic() + pool.GRACE_S
        while self._busy and time.monotonic() < end_s:
            self._wait()
        for post in self._busy:
            post.leave()

    @property
    def _busy(self) -> list[Post]:
        return [post for post in self._posts if post.state == "busy"]

    def _occupy(self, post: Post) -> None:
        """A scenario for one who is free, an actor for a post without one. Raises EngineError when no actor can be had at all."""
        if post.state == "absent" and self._blocks.left and len(post.failures) < self._attempts:
            post.hire()
        if post.state == "free" and (asked := self._blocks.take(post.number)) is not None:
            post.ask(asked)
            self._on_step(Step(asked.key, "started", post.number))
        if all(one.state == "absent" and one.failures for one in self._posts) and self._blocks.left:
            why = post.failures[-1] if post.failures else self._posts[0].failures[-1]
            hint = "; the product must be installed on every node" if "No module named" in why else ""
            raise EngineError(f"a worker died {len(post.failures)} times before it had read the base problem{hint}: {why}")

    def _mind_places(self) -> None:
        """Raises EngineError when the cluster has had no place for anybody for long."""
        now = time.monotonic()
        if any(post.state not in ("absent", "placing") for post in self._posts):
            self._quiet_since_s = now
        elif now - self._quiet_since_s > PLACE_S:
            threads = self._posts[0].crew.held.limits.threads
            raise EngineError(
                f"the Ray cluster has had no place for a worker of {threads} CPU(s) for {PLACE_S:.0f} s: others use it, or its nodes died"
            )

    def _wait(self) -> None:
        """Until somebody tells something, or it is time to look at the clock."""
        now = time.monotonic()
        for post in self._posts:
            post.listen(now)
        owners = {reference: post for post in self._posts for reference in (post.reply, post.news) if reference is not None}
        if owners:
            ray = self._posts[0].crew.ray
            ready, _ = ray.wait(list(owners), num_returns=1, timeout=LOOK_S)
            if ready:  # and whatever else has come meanwhile
                ready, _ = ray.wait(list(owners), num_returns=len(owners), timeout=0)
            for reference in ready:
                post = owners[reference]
                if reference is post.news:
                    self._listen(post)
                elif reference is post.reply:
                    self._reply(post)
        for post in self._busy:
            self._mind(post)

    def _listen(self, post: Post) -> None:
        news, limit_gib = post.heard(), post.crew.held.limits.memory_gib
        if news is None:
            return
        trying = post.trying
        for message in news.messages:
            if isinstance(message, Step):
                self._on_step(replace(message, worker=post.number))
            elif trying is not None:
                trying.heard.append(message)
        if limit_gib is None or news.memory_gib <= limit_gib:
            return
        if post.state == "reading":
            post.leave()
            raise EngineError(f"a worker needs more than memory_gib={limit_gib:g} to hold the base problem alone: raise it")
        if post.answered:  # those before may be to blame
            self._lost(post, f"it used more than {limit_gib:g} GiB of memory")
        elif trying is not None:
            self._cut(post, trying, StopReason.memory)

    def _reply(self, post: Post) -> None:
        trying = post.trying
        if trying is None:
            post.opened()
            return
        value = post.settled()
        if isinstance(value, Lost):
            self._lost(post, value.why)
            return
        post.trying, post.state = None, "free"
        post.answered += 1
        if isinstance(value, Done):
            if value.is_answer or not self._stopping:  # one that was cut short by us has met its deadline
                stop_reason = value.row.stop_reason if value.is_answer else StopReason.deadline.value
                self._deliver(trying, replace(value, row=replace(value.row, stop_reason=stop_reason)))
        else:
            self._deliver(trying, Done(Row.failed(trying.asked.key, f"{FAULT}: {value}", seconds=trying.seconds)))

    def _deliver(self, trying: Try, done: Done) -> None:
        attempts = 1 + self._losses.get(trying.asked.key, 0)
        self._on_done(replace(done, row=replace(done.row, attempts=attempts)))

    def _mind(self, post: Post) -> None:
        """The clock of one who works."""
        trying, now = post.trying, time.monotonic()
        if trying is None or self._stopping:
            return
        if now > trying.soft_s:
            post.tell_to_stop()
        if trying.overdue(now):
            self._cut(post, trying, StopReason.deadline)

    def _cut(self, post: Post, trying: Try, stop_reason: StopReason) -> None:
        """Stop one that does not by itself; the answer is the best it had told."""
        post.leave()
        if not self._stopping:
            self._deliver(trying, concluded(post.crew.held, trying.asked, trying.heard, stop_reason=stop_reason, seconds=trying.seconds))

    def _lost(self, post: Post, why: str) -> None:
        """A scenario whose process is gone: whoever is free takes it next, unless it has had its tries."""
        trying = post.trying
        post.leave()
        if trying is None or self._stopping:
            return
        key = trying.asked.key
        losses = self._losses[key] = self._losses.get(key, 0) + 1
        if losses < self._attempts:
            self._blocks.give_back(post.number, trying.asked)
            self._on_step(Step(key, "lost", post.number))
            return
        why = f"its process died {losses} times over it: {why}"
        self._on_done(Done(Row.failed(key, why, seconds=trying.seconds, attempts=losses)))

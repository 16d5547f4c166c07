"""The pool of warm children: one task one child, and what is dead, old or grown is replaced."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from optimizer.child import ChildGoneError
from service.children import ChildPool

HERE = "tests.service.test_children"
PATIENCE_S = 30.0
hoard: list[bytearray] = []


def who(*_: Any) -> int:
    return os.getpid()


def rest(payload: float, send: Callable[[object], None], cancel: threading.Event) -> int:
    send("resting")
    cancel.wait(payload)
    return os.getpid()


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def keep(payload: int, *_: Any) -> int:
    hoard.append(bytearray(os.urandom(1 << 20) * payload))
    return os.getpid()


def task(function: Callable[..., Any]) -> str:
    return f"{HERE}:{function.__name__}"


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def pool() -> Iterator[ChildPool]:
    made = ChildPool(2, imports=(HERE,))
    made.start()
    yield made
    pids = made.pids()
    made.close()
    assert all(map(gone, pids))


def pid_of(pool: ChildPool) -> int:
    found = pool.run(task(who), None, deadline_s=PATIENCE_S).value
    assert isinstance(found, int)
    return found


def test_one_task_after_another_uses_the_warmest_child(pool: ChildPool) -> None:
    started = pool.pids()
    assert len(started) == 2
    first = pid_of(pool)
    assert first in started
    assert [pid_of(pool) for _ in range(5)] == [first] * 5


def test_tasks_at_once_have_a_child_each_and_the_surplus_goes(pool: ChildPool) -> None:
    with ThreadPoolExecutor(4) as threads:
        ends = list(threads.map(lambda _: pool.run(task(rest), 1.0, deadline_s=PATIENCE_S), range(4)))
    assert len({end.value for end in ends}) == 4
    assert len(pool.pids()) == 2


def test_a_dead_child_is_replaced(pool: ChildPool) -> None:
    before = pool.killed
    assert pool.run(task(die), None, deadline_s=PATIENCE_S).reason == "crash"
    assert pool.killed == before + 1
    assert len(pool.pids()) == 2
    assert pid_of(pool) in pool.pids()


def test_a_child_that_was_killed_while_it_waited_costs_no_task(pool: ChildPool) -> None:
    pid_of(pool)
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)
    give_up = time.monotonic() + PATIENCE_S
    while not all(map(gone, pool.pids())):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert not gone(pid_of(pool))


def test_a_task_that_kills_its_child_is_not_tried_again(pool: ChildPool) -> None:
    pid_of(pool)
    heard: list[Any] = []

    def kill(message: Any) -> None:
        heard.append(message)
        _kill_all(pool)

    end = pool.run(task(rest), PATIENCE_S, deadline_s=PATIENCE_S, on_message=kill)
    assert (end.reason, heard) == ("crash", ["resting"])


def _kill_all(pool: ChildPool) -> None:
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)


def test_a_child_that_has_served_its_tasks_is_replaced() -> None:
    pool = ChildPool(1, tasks=3, imports=(HERE,))
    try:
        pids = [pid_of(pool) for _ in range(7)]
    finally:
        pool.close()
    assert [len({*pids[start : start + 3]}) for start in (0, 3, 6)] == [1, 1, 1]
    assert len(set(pids)) == 3


def test_a_child_that_has_grown_is_replaced() -> None:
    pool = ChildPool(1, growth_mib=64, imports=(HERE,))
    try:
        first = pid_of(pool)
        assert pool.run(task(keep), 100, deadline_s=PATIENCE_S).value == first
        assert pid_of(pool) != first
    finally:
        pool.close()


def test_a_closed_pool_ends_what_runs_and_takes_nothing_more(pool: ChildPool) -> None:
    started = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(lambda: pool.run(task(rest), PATIENCE_S, deadline_s=PATIENCE_S, on_message=lambda _: started.set()))
        assert started.wait(PATIENCE_S)
        began = time.monotonic()
        pool.close()
        assert running.result(PATIENCE_S).reason == "crash"
        assert time.monotonic() - began < PATIENCE_S
    with pytest.raises(ChildGoneError, match="closed"):
        pool.run(task(who), None, deadline_s=1.0)
    pool.close()

"""The pool of warm children: one task one child, and what is dead, old or grown is replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from optimizer.child import ChildGoneError
from service import children
from service.children import FOLDERS, ChildPool

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


def leave_a_file(payload: str, *_: Any) -> str:
    """Leave a file in the folder for temporary files and, if told so, die over it."""
    path = Path(tempfile.mkdtemp()) / "model.mps"
    path.write_text("NAME", encoding="utf-8")
    if payload == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return str(path)


def class_of_its_own(*_: Any) -> object:
    return Path("here")


def alone(*_: Any) -> tuple[int, int]:
    """The process, and how many tasks it has served before."""
    served = len(hoard)
    hoard.append(bytearray())
    return os.getpid(), served


def task(function: Callable[..., Any]) -> str:
    return f"{HERE}:{function.__name__}"


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the children's folders are made; none is left over."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def pool(folders: Path) -> Iterator[ChildPool]:
    made = ChildPool(2, imports=(HERE,))
    made.start()
    yield made
    pids = made.pids()
    made.close()
    assert all(map(gone, pids))
    assert left(folders) == []


def left(folders: Path) -> list[Path]:
    return list(folders.glob(f"{FOLDERS}*"))


def pid_of(pool: ChildPool) -> int:
    end = pool.run(task(who), None, deadline_s=PATIENCE_S)
    assert isinstance(end.value, int), end
    return end.value


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


def test_what_others_left_in_a_child_does_not_count_against_a_task() -> None:
    """A small task with a small limit after a large one: in the same child it would be ended for what the large one left."""
    pool = ChildPool(1, growth_mib=4096, imports=(HERE,))
    try:
        first = pid_of(pool)
        assert pool.run(task(keep), 200, deadline_s=PATIENCE_S).value == first
        assert pool.run(task(who), None, deadline_s=PATIENCE_S, memory_gib=8.0).value == first, "a large limit has room for it"
        assert pid_of(pool) == first, "without a limit the warm child is as good as another"
        small = pool.run(task(who), None, deadline_s=PATIENCE_S, memory_gib=0.2)
        assert small.reason == "finished"
        assert small.value != first
        assert pool.run(task(who), None, deadline_s=PATIENCE_S, memory_gib=0.2).value == small.value, "and this one is kept"
    finally:
        pool.close()
    assert pool.killed == 0


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


# ---------------------------------------------------------------- what a child leaves behind, and what it may say


@pytest.mark.parametrize("how", ["stay", "die"])
def test_the_files_of_a_child_go_with_it(folders: Path, how: str) -> None:
    pool = ChildPool(1, tasks=1, imports=(HERE,))
    try:
        pool.start()
        first = left(folders)
        end = pool.run(task(leave_a_file), how, deadline_s=PATIENCE_S)
        assert end.reason == ("crash" if how == "die" else "finished")
        assert how == "die" or Path(end.value).is_relative_to(first[0])
        now = left(folders)
        assert (len(first), len(now), set(first) & set(now)) == (1, 1, set())
    finally:
        pool.close()
    assert left(folders) == []


def test_a_pool_closed_during_a_task_leaves_no_file(folders: Path) -> None:
    pool = ChildPool(1, imports=(HERE,))
    end = pool.run(task(rest), PATIENCE_S, deadline_s=PATIENCE_S, on_message=lambda _: pool.close())
    assert (end.reason, left(folders)) == ("crash", [])


KILLED = """
import os, signal, tempfile
from service.children import ChildPool
tempfile.tempdir = os.getcwd()
ChildPool(1, imports=()).start()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_files_that_a_killed_process_left_go_with_the_next_start(pool: ChildPool, folders: Path) -> None:
    mine = set(left(folders))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", KILLED], cwd=folders, env=environment, check=False).returncode == -signal.SIGKILL
    assert len(set(left(folders)) - mine) == 1
    (elsewhere := folders / "elsewhere").mkdir()
    (link := folders / f"{FOLDERS}link").symlink_to(elsewhere)
    pool.start()
    assert set(left(folders)) == mine | {link}  # those of living children stay, and a link is not followed
    assert elsewhere.exists()
    link.unlink()


def test_a_child_may_send_plain_values_alone(pool: ChildPool) -> None:
    end = pool.run(task(class_of_its_own), None, deadline_s=PATIENCE_S)
    assert (end.reason, "not plain" in end.message) == ("crash", True)
    assert pid_of(pool) in pool.pids()


# ---------------------------------------------------------------- a child for one task


def test_a_program_file_is_read_by_a_child_that_serves_nothing_else() -> None:
    assert {"service.tasks:read_program"} == children.FRESH


def test_a_fresh_task_has_a_child_that_served_nothing_and_never_serves_again(pool: ChildPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "FRESH", frozenset({task(alone)}))
    warm = pid_of(pool)
    waiting = set(pool.pids()) - {warm}
    pid, served = pool.run(task(alone), None, deadline_s=PATIENCE_S).value
    assert (served, {pid}) == (0, waiting)  # one that waited, and not the warm one
    assert gone(pid)
    assert pid_of(pool) == warm
    others = [pool.run(task(alone), None, deadline_s=PATIENCE_S).value for _ in range(3)]
    assert [count for _, count in others] == [0, 0, 0]
    assert len({pid, warm, *(one for one, _ in others)}) == 5
    assert len(pool.pids()) == 2
    assert pool.killed == 0


def test_where_none_is_unused_one_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "FRESH", frozenset({task(alone)}))
    pool = ChildPool(1, imports=(HERE,))
    try:
        pool.start()
        warm = pid_of(pool)
        pid, served = pool.run(task(alone), None, deadline_s=PATIENCE_S).value
        assert (served, pid != warm, gone(warm), len(pool.pids())) == (0, True, True, 1)
        (waits,) = pool.pids()
        assert pool.run(task(alone), None, deadline_s=PATIENCE_S).value == (waits, 0)
    finally:
        pool.close()

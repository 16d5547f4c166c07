"""The child process: what it promises while all goes well, and while the function inside misbehaves.

The functions that run in the child come first; each takes ``(payload, send, cancel)``. From `here` on: the parent's side.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from optimizer.child import Child, ChildGoneError

Send = Callable[[object], None]

SOON_S = 15.0  # for what should be over at once: generous, for the machine may be busy
OVERRUN_S = 1.0  # how far beyond deadline and grace a run may end


def echo(payload: Any, *_: Any) -> Any:
    return payload


def count(payload: int, send: Send, *_: Any) -> int:
    """Send numbers, and meanwhile print far more than a pipe holds, by every road a library may take."""
    for number in range(payload):
        print("print", number)  # noqa: T201
        os.write(1, b"raw standard output " * 100)
        os.write(2, b"raw standard error " * 100)
        ctypes.CDLL(None).puts(b"from C")
        send(number)
    return payload


def describe(*_: Any) -> tuple[Any, ...]:
    in_main_thread = threading.current_thread() is threading.main_thread()
    main_file = getattr(sys.modules["__main__"], "__file__", None)
    return os.getpid(), os.getpgrp(), in_main_thread, main_file, sys.argv, sys.path, len(list(Path("/proc/self/fd").iterdir()))


def send_from_threads(payload: int, send: Send, *_: Any) -> None:
    def stream(name: int) -> None:
        for number in range(payload):
            send((name, number, np.full(20_000, name)))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(stream, range(3)))


def leave_a_talker(payload: Path, send: Send, *_: Any) -> None:
    """Return while a thread still wants to talk; it notes what became of that in the file."""

    def talk() -> None:
        time.sleep(0.2)
        with pytest.raises(RuntimeError, match="its run is over"):
            send("too late")
        payload.touch()

    threading.Thread(target=talk).start()


def wait_for_cancel(payload: object, send: Send, cancel: threading.Event) -> str:
    send("waiting")
    return f"stopped softly {payload}" if cancel.wait(60) else "nobody asked"


def hold_the_gil(_: None, send: Send, *__: Any) -> None:
    """Start a grandchild, block every signal and never let another thread of this process run again."""
    send(subprocess.Popen(["sleep", "120"]).pid)
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    re.match(r"(a+)+$", "a" * 60 + "b")


def grow(payload: int, send: Send, *_: Any) -> None:
    blocks = []
    for number in range(payload):
        blocks.append(np.ones(8 << 20, dtype=np.uint8))
        send(number)
    time.sleep(60)


def end_by(payload: str, send: Send, *_: Any) -> None:
    """Say a lot, then end in the way named."""
    for number in range(500):
        send((number, "x" * 1000))
    send(np.arange(300_000))
    print("last words", file=sys.stderr)  # noqa: T201
    if payload == "abort":
        os.abort()
    if payload == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.Signals[payload])


def fail(payload: BaseException | None, *_: Any) -> Callable[[], None]:
    if payload:
        raise payload
    return lambda: None


def solve_knapsacks(payload: tuple[int, int, int], send: Send, cancel: threading.Event) -> str:
    """Run HiGHS on a MIP whose presolve and root heed ``cancelSolve`` only after many seconds."""
    import highspy

    columns, rows, per_column = payload
    rng = np.random.default_rng(1)
    # Each column meets the rows at equal distances from a random one.
    meets = (rng.integers(0, rows, (columns, 1)) + np.arange(per_column) * (rows // per_column)) % rows
    starts, entries = np.arange(columns) * per_column, rng.integers(1, 60, columns * per_column).astype(float)
    costs, room = -rng.integers(1, 100, columns).astype(float), np.full(rows, 7.5 * columns * per_column / rows)
    bounds = costs, np.zeros(columns), np.ones(columns), np.full(rows, -math.inf), room
    matrix = starts.astype(np.int32), np.sort(meets).ravel().astype(np.int32), entries
    highs = highspy.Highs()
    highs.setOptionValue("log_to_console", False)
    highs.HandleUserInterrupt = True
    highs.passModel(columns, rows, entries.size, 1, 1, 0.0, *bounds, *matrix, np.ones(columns, dtype=np.int32))
    threading.Thread(target=lambda: cancel.wait() and highs.cancelSolve(), daemon=True).start()
    send("solving")
    highs.run()
    return str(highs.getModelStatus())


def here(function: Callable[..., Any]) -> str:
    return f"{__name__}:{function.__name__}"


def until(condition: Callable[[], bool]) -> bool:
    """Wait for ``condition``; False if it does not come soon."""
    give_up = time.monotonic() + SOON_S
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.01)
    return condition()


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def run_script(folder: Path, script: str, work: str, working_directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a user's script, with the module ``work`` beside it, in a Python of its own."""
    (folder / "work.py").write_text(work)
    (folder / "script.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = sys.executable, str(folder / "script.py")
    return subprocess.run(command, cwd=working_directory, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    def possessions() -> tuple[list[str], int, list[psutil.Process]]:  # zombies included
        descriptors = sorted(path.name for path in Path("/proc/self/fd").iterdir())
        return descriptors, threading.active_count(), psutil.Process().children(recursive=True)

    before = possessions()
    yield
    assert possessions() == before


@pytest.fixture(scope="module")
def shared() -> Iterator[Child]:
    """One child for the tests that leave it in good health, which also shows that it can be used again."""
    with Child.start(imports=(__name__,)) as child:
        yield child


@pytest.fixture
def child() -> Iterator[Child]:
    with Child.start(imports=(__name__,)) as started:
        yield started


def test_messages_arrive_in_order_in_the_calling_thread_and_no_prints(shared: Child, capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[tuple[int, threading.Thread]] = []
    for size in (300, 0, 1):
        heard.clear()
        end = shared.run(here(count), size, deadline_s=60, on_message=lambda number: heard.append((number, threading.current_thread())))
        assert heard == [(number, threading.current_thread()) for number in range(size)]
        assert (end.reason, end.value, end.message) == ("finished", size, "")
        assert 0 < end.seconds < 60
        assert 0 < end.peak_memory_gib < 4
    assert capfd.readouterr() == ("", "")


def test_the_function_has_the_main_thread_of_a_clean_process(shared: Child) -> None:
    with Child.start() as other:
        for child in (shared, other):
            path = [entry or str(Path.cwd()) for entry in sys.path]
            # Descriptors: standard streams, requests, replies, lifeline, the folder being listed; no pipe of another child.
            expected = (child.pid, child.pid, True, None, ["-c"], path, 7)
            assert child.run(here(describe), None, deadline_s=60).value == expected


def test_messages_of_several_threads_do_not_mix(shared: Child) -> None:
    heard: list[Any] = []
    assert shared.run(here(send_from_threads), 30, deadline_s=60, on_message=heard.append).reason == "finished"
    assert all((array == name).all() for name, _, array in heard)
    for name in range(3):
        assert [number for who, number, _ in heard if who == name] == list(range(30))


def test_a_thread_left_over_cannot_talk_into_the_next_run(shared: Child, tmp_path: Path) -> None:
    note, heard = tmp_path / "note", list[Any]()
    assert shared.run(here(leave_a_talker), note, deadline_s=60).reason == "finished"
    assert until(note.exists)
    assert shared.run(here(count), 1, deadline_s=60, on_message=heard.append).value == 1
    assert heard == [0]


def test_200_mb_of_arrays_travel_both_ways(child: Child) -> None:
    arrays = [np.arange(number, number + 5_000_000, dtype=np.int64) for number in range(5)]
    arrays += [np.empty(0, dtype=np.int64), np.ones((300, 400), dtype=np.int64, order="F"), np.arange(200_000)[::2]]
    end = child.run(here(echo), arrays, deadline_s=60)
    assert all(np.array_equal(one, other) for one, other in zip(arrays, end.value, strict=True))
    # About 0.6 s on a quiet machine, and one copy in the child; boxed or joined piece by piece it would be minutes, or more copies.
    assert end.seconds < SOON_S
    assert end.peak_memory_gib < 0.2 + 0.25


def test_several_children_outlive_the_threads_that_started_them_but_not_their_close() -> None:
    with ThreadPoolExecutor(3) as pool:
        children = list(pool.map(lambda _: Child.start(), range(3)))
    time.sleep(0.2)
    for child in children:
        with child:
            assert child.run(here(echo), "here", deadline_s=60).value == "here"
        child.close()
        assert gone(child.pid)
        with pytest.raises(ChildGoneError):
            child.run(here(echo), None, deadline_s=60)


def test_an_early_child_imports_while_the_parent_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = tmp_path / "done"
    (tmp_path / "early.py").write_text(f"open({str(done)!r}, 'w').close()\nimport no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    with Child.start(imports=("early",)) as child:
        assert until(done.exists)
        for _ in range(2):
            end = child.run(here(echo), None, deadline_s=60)
            assert end.reason == "error"
            assert "No module named 'no_such_module'" in end.message


def test_a_script_without_a_main_guard_works_from_any_folder(tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "pickle.py").write_text("raise RuntimeError('not the pickle of the library')\n")
    script = "from optimizer.child import Child\nprint(Child.start().run('work:double', 21, deadline_s=60).value)\n"
    done = run_script(tmp_path, script, "def double(payload, send, cancel):\n    return 2 * payload\n", elsewhere)
    assert (done.stdout, done.stderr) == ("42\n", "")


def test_a_function_that_listens_may_answer_within_the_grace(shared: Child) -> None:
    cancel = threading.Event()
    end = shared.run(here(wait_for_cancel), "early", deadline_s=60, cancel=cancel, grace_s=SOON_S, on_message=lambda _: cancel.set())
    assert (end.reason, end.value) == ("cancelled", "stopped softly early")
    assert end.seconds < SOON_S
    # The cancel of one run does not reach into the next.
    end = shared.run(here(wait_for_cancel), "late", deadline_s=0.3, grace_s=SOON_S)
    assert (end.reason, end.value) == ("deadline", "stopped softly late")
    assert 0.3 <= end.seconds < SOON_S
    assert shared.run(here(echo), "again", deadline_s=60).value == "again"


@pytest.mark.parametrize("why", ["deadline", "cancelled"])
def test_a_function_that_ignores_everything_is_killed_in_time_with_its_children(child: Child, why: str) -> None:
    child.run(here(echo), None, deadline_s=60)
    cancel, heard = threading.Event(), list[int]()
    if why == "cancelled":
        threading.Timer(0.7, cancel.set).start()
    deadline_s = 1 if why == "deadline" else 60
    end = child.run(here(hold_the_gil), None, deadline_s=deadline_s, cancel=cancel, grace_s=0.3, on_message=heard.append)
    assert (end.reason, end.value, child.alive) == (why, None, False)
    assert end.seconds < 1 + 0.3 + OVERRUN_S
    assert gone(child.pid)
    assert until(lambda: gone(heard[0]))
    with pytest.raises(ChildGoneError, match="start another"):
        child.run(here(echo), None, deadline_s=60)


# Through PyDLL the sleep keeps the GIL, so nothing in the child reads the pipe.
@pytest.mark.parametrize(("sleep", "deadline_s", "reason"), [("sleep(60)", 0.5, "deadline"), ("usleep(400_000)", 60, "crash")])
def test_a_large_payload_that_does_not_get_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleep: str, deadline_s: float, reason: str
) -> None:
    (tmp_path / "stuck.py").write_text(f"import ctypes, os\nctypes.PyDLL(None).{sleep}\nos.abort()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with Child.start(imports=("stuck",)) as child:
        end = child.run(here(echo), np.zeros(20_000_000), deadline_s=deadline_s, grace_s=0.1)
    assert end.reason == reason
    assert ("killed by SIGABRT" in end.message) == (reason == "crash")
    assert end.seconds < 0.5 + 0.1 + OVERRUN_S


def test_highs_in_presolve_is_stopped_in_time(child: Child) -> None:
    child.run(here(solve_knapsacks), (5, 2, 2), deadline_s=60)
    started, heard = time.monotonic(), list[str]()
    end = child.run(here(solve_knapsacks), (50_000, 200, 8), deadline_s=1.0, grace_s=0.5, on_message=heard.append)
    assert time.monotonic() - started <= 2.5
    assert end.reason == "deadline"
    assert heard == ["solving"]


def test_too_much_memory_ends_the_child(child: Child) -> None:
    heard: list[int] = []
    end = child.run(here(grow), 400, deadline_s=60, memory_gib=0.5, on_message=heard.append)
    assert (end.reason, end.value, child.alive) == ("memory", None, False)
    assert 0.5 < end.peak_memory_gib < 3.0
    assert heard == list(range(len(heard)))
    assert len(heard) > 30


CRASHES = {"abort": "killed by SIGABRT", "SIGSEGV": "killed by SIGSEGV", "SIGKILL": "killed by SIGKILL from outside", "exit": "exit code 7"}


@pytest.mark.parametrize("way", CRASHES)
def test_a_crash_loses_no_message_and_is_named(child: Child, way: str) -> None:
    heard: list[Any] = []
    end = child.run(here(end_by), way, deadline_s=60, on_message=heard.append)
    assert (end.reason, end.value, child.alive) == ("crash", None, False)
    assert end.message.startswith(CRASHES[way])
    assert "last words" in end.message
    assert ("in end_by" in end.message) == (way in {"abort", "SIGSEGV"})
    assert [number for number, _ in heard[:-1]] == list(range(500))
    assert np.array_equal(heard[-1], np.arange(300_000))


@pytest.mark.parametrize(
    ("target", "payload", "said"),
    [
        (here(fail), ValueError("went wrong"), "ValueError: went wrong"),
        (here(fail), SystemExit(3), "SystemExit: 3"),
        (here(fail), None, "lambda"),
        ("no.such.module:echo", None, "No module named 'no'"),
        (f"{__name__}:missing", None, "missing"),
    ],
)
def test_an_exception_is_an_error_with_its_traceback(shared: Child, target: str, payload: Any, said: str) -> None:
    end = shared.run(target, payload, deadline_s=60)
    assert (end.reason, end.value) == ("error", None)
    assert "Traceback" in end.message
    assert said in end.message


@pytest.mark.parametrize("error", [KeyError(), BrokenPipeError(), BlockingIOError(), EOFError(), KeyboardInterrupt()])
def test_an_exception_in_on_message_kills_the_child_and_goes_on(child: Child, error: BaseException) -> None:
    def refuse(_: object) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        child.run(here(wait_for_cancel), None, deadline_s=60, on_message=refuse)
    assert caught.value is error
    assert gone(child.pid)
    assert not child.alive


def test_what_cannot_travel_or_makes_no_sense_leaves_the_child_alone(shared: Child) -> None:
    with pytest.raises((AttributeError, TypeError), match=r"lambda|local object"):
        shared.run(here(echo), lambda: None, deadline_s=60)
    for limits in ({"deadline_s": math.nan}, {"deadline_s": 1, "memory_gib": -1}, {"deadline_s": 1, "grace_s": -1}):
        with pytest.raises(ValueError, match="at least 0"):
            shared.run(here(echo), None, **limits)
    assert shared.run(here(echo), "well", deadline_s=math.inf).value == "well"


def test_a_child_that_holds_the_gil_dies_with_its_parent_and_takes_its_children_along(tmp_path: Path) -> None:
    script = """
import os, signal, threading
from optimizer.child import Child
def end(pids):
    print(*pids, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=lambda: Child.start().run('work:stick', None, deadline_s=60, on_message=end)).start()
"""
    work = """
import ctypes, os, subprocess
def stick(payload, send, cancel):
    send((os.getpid(), subprocess.Popen(['sleep', '120']).pid))
    ctypes.PyDLL(None).sleep(60)
"""
    done = run_script(tmp_path, script, work, tmp_path)
    assert done.returncode == -signal.SIGKILL
    child_pid, grandchild_pid = map(int, done.stdout.split())
    assert until(lambda: gone(child_pid) and gone(grandchild_pid))

"""SIGKILL of a study's workers and of the study itself, at random moments: nothing lost, nothing repeated, the same table."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from optimizer.study.executors import pool
from optimizer.study.executors.engine import Held, Step
from optimizer.study.executors.pool import LocalPool, LocalWorkers
from optimizer.study.run import StudyProgress, Table, load_table, run_study
from optimizer.study.store import Memory
from service.studies.shelf import Shelf
from tests.optimizer.study.rogue_worker import SLOW
from tests.optimizer.study.small import base, study

ROGUE = "tests.optimizer.study.rogue_worker"
SCENARIOS = 40
PATIENCE_S = 60.0
# The study as a process of its own, which tells its table's counts at the end.
SCRIPT = f"""
import sys
from pathlib import Path
from optimizer.study.executors import pool
from optimizer.study.run import run_study
from service.studies.shelf import Shelf
from tests.optimizer.study.small import base, study
pool.WORKER = "{ROGUE}"
with Shelf.opened(Path(sys.argv[1]), study({SCENARIOS}), base(), resume=True) as shelf:
    table = run_study(study({SCENARIOS}), base(), shelf, pool.LocalPool(2, attempts=50))
print(table.reused, table.solved, table.missing, len(table.complaints))
"""


def compared(table: Table) -> list[Any]:
    """What must be the same whatever happened on the way: everything but how long it took and what was lost."""
    return [None if row is None else replace(row, seconds=0.0, attempts=1) for row in table.rows]


@pytest.fixture(scope="module")
def undisturbed() -> list[Any]:
    return compared(run_study(study(SCENARIOS), base(), Memory(), LocalPool(2)))


def inodes(folder: Path) -> dict[str, tuple[int, int]]:
    """Every answer that is there, and which file it is: one that was solved again is another file."""
    found = {}
    for path in (folder / "rows").glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            told = path.stat()
            found[path.name] = (told.st_ino, told.st_mtime_ns)
    return found


@contextmanager
def study_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def gone(processes: list[psutil.Process]) -> bool:
    """Whether they end by themselves."""
    _, alive = psutil.wait_procs(processes, timeout=10)
    return not alive


def rows_appear(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until there are so many rows, or the process has ended."""
    give_up = time.monotonic() + PATIENCE_S
    while len(inodes(folder)) < count and process.poll() is None:
        assert time.monotonic() < give_up
        time.sleep(0.01)


def kill_after(folder: Path, rows: int, seconds: float) -> int:
    """Run the study until it has so many rows more and some time has passed; kill it, see its workers go; how many rows it has made."""
    before = inodes(folder)
    with study_process(folder) as process:
        rows_appear(folder, len(before) + rows, process)
        time.sleep(seconds)
        workers: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert gone(workers)
    after = inodes(folder)
    assert before.items() <= after.items()
    assert len(list(folder.rglob("*.tmp"))) <= 2
    return len(after) - len(before)


def finish(folder: Path) -> tuple[int, ...]:
    """Run it to its end: reused, solved, missing, complaints."""
    with study_process(folder) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
    return tuple(map(int, out.split()))


def disturbed(folder: Path, kills: int, seed: int, undisturbed: list[Any]) -> None:
    dice = random.Random(seed)
    for _ in range(kills):
        kill_after(folder, dice.choice((0, 0, 1, 2, 4)), dice.uniform(0.0, 0.3))
    known = inodes(folder)
    reused, solved, missing, complaints = finish(folder)
    assert (reused, missing, complaints) == (len(known), 0, 0)
    assert known.items() <= inodes(folder).items()  # nothing that was answered was solved again
    table = load_table(Shelf.read(folder))
    assert compared(table) == undisturbed
    assert reused + solved == len(set(table.keys)) == len(inodes(folder))
    assert not list(folder.rglob("*.tmp"))


def test_a_study_killed_at_random_resumes_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: list[Any]
) -> None:
    monkeypatch.setenv(SLOW, "0.05")
    disturbed(tmp_path / "out", 3, 1, undisturbed)


@pytest.mark.long
def test_a_study_killed_many_times_resumes_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: list[Any]
) -> None:
    monkeypatch.setenv(SLOW, "0.2")
    for seed in range(5):
        disturbed(tmp_path / str(seed), 8, seed, undisturbed)


def test_an_interrupt_keeps_what_is_answered_and_leaves_nobody_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: list[Any]
) -> None:
    monkeypatch.setenv(SLOW, "0.05")
    folder = tmp_path / "out"
    with study_process(folder) as process:
        rows_appear(folder, 3, process)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=PATIENCE_S)[1]
        assert gone(workers)
    known = inodes(folder)
    assert 3 <= len(known) < SCENARIOS
    assert not list(folder.rglob("*.tmp"))
    assert finish(folder)[0] == len(known)
    assert compared(load_table(Shelf.read(folder))) == undisturbed


class Hunted(LocalPool):
    """A pool whose workers are killed at random while they work."""

    def open(self, held: Held) -> LocalWorkers:
        self.hunted.append(LocalPool.open(self, held))
        return self.hunted[-1]

    hunted: list[LocalWorkers] = []  # noqa: RUF012  (one study at a time)


def hunt(kills: int, seed: int, folder: Path) -> tuple[Table, int, list[StudyProgress]]:
    """A study whose workers are killed so often; the table, how many kills there were, and what was told."""
    dice, told, ended, killed = random.Random(seed), list[StudyProgress](), threading.Event(), 0
    Hunted.hunted.clear()

    def hunting() -> None:
        nonlocal killed
        while killed < kills and not ended.wait(dice.uniform(0.1, 0.6)):
            pids = [pid for workers in Hunted.hunted for pid in workers.pids]
            if pids:
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(dice.choice(pids)).kill()
                    killed += 1

    hunter = threading.Thread(target=hunting)
    hunter.start()
    try:
        with Shelf.opened(folder, study(SCENARIOS), base()) as shelf:
            table = run_study(study(SCENARIOS), base(), shelf, Hunted(2, attempts=50), on_progress=told.append)
    finally:
        ended.set()
        hunter.join()
    return table, killed, told


def check_hunted(kills: int, seed: int, folder: Path, undisturbed: list[Any]) -> None:
    before = psutil.Process().children(recursive=True)
    table, killed, told = hunt(kills, seed, folder)
    lost = [one for one in told if isinstance(one.step, Step) and one.step.state == "lost"]
    done = [one.row.key for one in told if one.state == "done" and one.row is not None]
    assert killed > 0
    assert len(lost) <= killed
    assert len(lost) == sum(row.attempts - 1 for row in {row.key: row for row in table.rows if row is not None}.values())
    assert len(done) == len(set(done)) == len(set(table.keys))
    assert compared(table) == undisturbed
    assert compared(load_table(Shelf.read(folder))) == undisturbed
    assert set(psutil.Process().children(recursive=True)) <= set(before)


def test_killed_workers_cost_a_study_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: list[Any]) -> None:
    monkeypatch.setenv(SLOW, "0.05")
    monkeypatch.setattr(pool, "WORKER", ROGUE)
    check_hunted(4, 2, tmp_path, undisturbed)


@pytest.mark.long
def test_many_killed_workers_cost_a_study_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: list[Any]) -> None:
    monkeypatch.setenv(SLOW, "0.2")
    monkeypatch.setattr(pool, "WORKER", ROGUE)
    for seed in range(4):
        check_hunted(15, seed, tmp_path / str(seed), undisturbed)


def test_a_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, told, jumps = time.time, list[float](), itertools.cycle((400 * 86_400.0, -400 * 86_400.0))

    def on_progress(progress: StudyProgress) -> None:
        told.append(progress.seconds)
        jump_s = next(jumps)
        monkeypatch.setattr(time, "time", lambda: real() + jump_s)

    table = run_study(study(3), base(), Memory(), LocalPool(1), on_progress=on_progress)
    assert (table.missing, table.failed) == (0, 0)
    assert told == sorted(told)
    assert 0 <= told[-1] < PATIENCE_S


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_FSIZE"), reason="no limit of file sizes here")
def test_a_disk_that_fills_up_ends_the_study_with_one_error_and_keeps_its_rows(tmp_path: Path, undisturbed: list[Any]) -> None:
    folder = tmp_path / "out"
    filling = "resource.setrlimit(resource.RLIMIT_FSIZE, (100 if one.solved >= 5 else -1, -1))"
    script = "import resource\n" + SCRIPT.replace("attempts=50)", f"attempts=50), on_progress=lambda one: {filling}")
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    last = done.stderr.strip().splitlines()[-1]
    assert (done.returncode, done.stdout) == (1, "")
    assert last.startswith("service.studies.shelf.ShelfError: ")
    assert "cannot be written (File too large); the answers so far are kept" in last
    known = inodes(folder)
    assert len(known) == 5
    assert not list(folder.rglob("*.tmp"))
    assert finish(folder)[0] == 5
    assert known.items() <= inodes(folder).items()
    assert compared(load_table(Shelf.read(folder))) == undisturbed

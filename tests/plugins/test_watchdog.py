"""The watchdog: by injected clocks to the second, and as a real process that outlives the follower's."""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from service.plugins import watchdog
from service.plugins.heartbeat import Heart, Stamp, boot_id, read, write
from service.plugins.watchdog import LOOK_S, Watchdog

LIMIT_S = 5.0
PATIENCE_S = 60.0  # for processes on a busy machine; what is asserted are recorded times


@dataclass
class Clocks:
    """A machine's two clocks, and the times at which everything was released by the first of them."""

    monotonic_s: float = 1_000.0
    wall_s: float = 1_700_000_000.0
    boot: str = "boot-1"
    acts: list[float] = field(default_factory=list)
    failing: bool = False

    def pass_time(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.wall_s += seconds

    def free_all(self) -> Sequence[str]:
        self.acts.append(self.monotonic_s)
        if self.failing:
            raise ConnectionError("away")
        return ["a"]

    def heart(self, path: Path) -> Heart:
        return Heart(path, monotonic=lambda: self.monotonic_s, wall=lambda: self.wall_s, boot=self.boot)

    def dog(self, path: Path, *, stay: bool = False) -> Watchdog:
        now, wall = (lambda: self.monotonic_s), (lambda: self.wall_s)
        return Watchdog(path, LIMIT_S, self.free_all, stay=stay, monotonic=now, wall=wall, boot=self.boot)

    def watch(self, dog: Watchdog, seconds: float, *, meanwhile: Callable[[], None] = lambda: None) -> bool:
        """Look as often as the process does; whether the watch goes on."""
        until = self.monotonic_s + seconds
        while self.monotonic_s < until:
            if not dog.step():
                return False
            self.pass_time(LOOK_S)
            meanwhile()
        return True


def test_it_acts_within_its_limit_and_a_second(tmp_path: Path) -> None:
    clocks, path = Clocks(), tmp_path / "stamp"
    heart, dog = clocks.heart(path), clocks.dog(path)
    assert clocks.watch(dog, 60.0, meanwhile=heart.beat)
    assert clocks.acts == []
    last = clocks.monotonic_s
    clocks.watch(dog, LIMIT_S + 1.0)
    assert clocks.acts
    assert last + LIMIT_S < clocks.acts[0] <= last + LIMIT_S + 1.0


def test_it_goes_on_while_the_stamp_is_stale_and_stops_when_the_follower_is_back(tmp_path: Path) -> None:
    clocks, path = Clocks(failing=True), tmp_path / "stamp"
    heart, dog = clocks.heart(path), clocks.dog(path)
    heart.beat()
    clocks.watch(dog, LIMIT_S + 10.0)
    assert 9 <= len(clocks.acts) <= 11  # about every second, whether it works or not
    assert dog.released == 0
    clocks.failing = False
    clocks.watch(dog, 2.0)
    assert dog.released >= 1
    count = len(clocks.acts)
    heart.beat()
    clocks.watch(dog, LIMIT_S - 1.0)
    assert len(clocks.acts) == count


@pytest.mark.parametrize("step_s", [-86_400.0, -3.0, 3.0, 86_400.0])
def test_steps_of_the_wall_clock_change_nothing(tmp_path: Path, step_s: float) -> None:
    clocks, path = Clocks(), tmp_path / "stamp"
    heart, dog = clocks.heart(path), clocks.dog(path)
    heart.beat()
    clocks.watch(dog, 1.0)
    clocks.wall_s += step_s
    clocks.watch(dog, LIMIT_S - 2.0)
    assert clocks.acts == []
    heart.beat()
    last = clocks.monotonic_s
    clocks.wall_s -= 2 * step_s
    clocks.watch(dog, LIMIT_S + 1.0)
    assert last + LIMIT_S < clocks.acts[0] <= last + LIMIT_S + 1.0


def test_a_follower_that_never_makes_a_plan_is_given_the_limit(tmp_path: Path) -> None:
    clocks = Clocks()
    dog = clocks.dog(tmp_path / "stamp")
    began = clocks.monotonic_s
    clocks.watch(dog, LIMIT_S + 1.0)
    assert began + LIMIT_S < clocks.acts[0] <= began + LIMIT_S + 1.0


@pytest.mark.parametrize("boot", ["boot-1", "boot-0", ""])
def test_an_old_stamp_gives_a_new_watch_the_limit(tmp_path: Path, boot: str) -> None:
    clocks, path = Clocks(), tmp_path / "stamp"
    write(path, Stamp(7, 10.0, boot, clocks.wall_s - 3_600.0, 1))
    dog = clocks.dog(path)
    began = clocks.monotonic_s
    clocks.watch(dog, LIMIT_S + 1.0)
    assert began + LIMIT_S < clocks.acts[0] <= began + LIMIT_S + 1.0


def test_stamps_of_another_boot_count_from_when_they_are_seen(tmp_path: Path) -> None:
    """A follower in a container with another view of the clocks: its times cannot be compared, its changes can."""
    clocks, path = Clocks(), tmp_path / "stamp"
    other = Heart(path, monotonic=lambda: 1.0, wall=lambda: 0.0, boot="boot-2")
    dog = clocks.dog(path)
    clocks.watch(dog, 60.0, meanwhile=other.beat)
    assert clocks.acts == []
    last = clocks.monotonic_s
    clocks.watch(dog, LIMIT_S + 1.0)
    assert last + LIMIT_S - LOOK_S < clocks.acts[0] <= last + LIMIT_S + 1.0


def test_a_clean_end_ends_the_watch_unless_it_is_to_stay(tmp_path: Path) -> None:
    clocks, path = Clocks(), tmp_path / "stamp"
    heart, dog, staying = clocks.heart(path), clocks.dog(path), clocks.dog(path, stay=True)
    heart.beat(ended=True)
    assert not clocks.watch(dog, 10.0)
    assert clocks.acts == []
    assert clocks.watch(staying, LIMIT_S + 2.0)
    assert clocks.acts


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sequence": 1}', '{"sequence":1,"monotonic":NaN,"boot":"b","wall":1,"pid":1}'])
def test_a_stamp_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "stamp").write_text(text)
    assert read(tmp_path / "stamp") is None


def test_sequences_go_on_and_begin_removes(tmp_path: Path) -> None:
    path = tmp_path / "stamp"
    Heart(path).beat()
    Heart(path).beat()
    stamp = read(path)
    assert stamp is not None
    assert (stamp.sequence, stamp.boot, stamp.pid, stamp.ended) == (2, boot_id(), os.getpid(), False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["stamp"]
    Heart(path).begin()
    assert read(path) is None


def test_it_says_what_is_wrong_with_its_arguments(tmp_path: Path) -> None:
    said = io.StringIO()
    arguments = ["--stamp", str(tmp_path / "stamp"), "--limit-s", "1", "--config", "{}", "--free"]
    assert watchdog.main([*arguments, "service.plugins.nothing:here"], said) == 2
    assert "name a function as package.module:function" in said.getvalue()
    free = "tests.plugins.follower_process:freeing"
    for config in ("{", "[]"):
        said = io.StringIO()
        assert watchdog.main([*arguments[:4], "--config", config, "--free", free], said) == 2
        assert "--config: is no JSON" in said.getvalue()
    said = io.StringIO()
    assert watchdog.main(["--stamp", str(tmp_path / "none" / "stamp"), "--limit-s", "1", "--free", free], said) == 2
    assert "make its folder" in said.getvalue()


def test_a_scheduler_that_is_away_is_told_once(tmp_path: Path) -> None:
    clocks, told = Clocks(), list[str]()
    away = ConnectionError("away")
    answers: Iterator[Sequence[str] | Exception] = iter((away, away, ConnectionError("refused"), (), ("a",)))

    def free_all() -> Sequence[str]:
        answer = next(answers, ())
        if isinstance(answer, Exception):
            raise answer
        return answer

    dog = watchdog.Watchdog(tmp_path / "stamp", LIMIT_S, free_all, monotonic=lambda: clocks.monotonic_s, boot="b", say=told.append)
    clocks.watch(dog, LIMIT_S + 8.0)
    assert [line.partition(",")[0] for line in told[1:]] == [
        "releasing failed",
        "releasing failed",
        "the scheduler answers again",
        "released 1 jobs: a",
    ]


def test_it_imports_little() -> None:
    script = "import json, sys, service.plugins.watchdog; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    heavy = {"numpy", "pydantic", "structlog", "prometheus_client", "models", "optimizer", "httpx", "kubernetes", "psutil"}
    assert not heavy & set(json.loads(done.stdout))


def test_two_followers_never_stamp_one_file(tmp_path: Path) -> None:
    """Else the clean end of one would end the watch over the other."""
    heart = Heart(tmp_path / "stamp")
    heart.begin()
    heart.beat()
    heart.begin()  # the same one may begin anew
    heart.beat()
    script = f"from pathlib import Path; from service.plugins.heartbeat import Heart; Heart(Path({str(tmp_path / 'stamp')!r})).begin()"
    second = [sys.executable, "-c", script]
    refused = subprocess.run(second, capture_output=True, text=True, check=False, timeout=60)
    assert "BlockingIOError" in refused.stderr
    assert "another follower runs with it; stop that one" in refused.stderr
    assert read(tmp_path / "stamp") is not None
    heart.close()
    heart.close()
    assert subprocess.run(second, check=False, timeout=60).returncode == 0


def test_a_watchdog_waits_for_one_that_is_about_to_end(tmp_path: Path) -> None:
    """A follower that is started anew at once: the watchdog of the one before has seen its end, and has not ended yet."""
    before = os.open(tmp_path / "stamp.watchdog", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(before, fcntl.LOCK_EX)
    ending = threading.Timer(0.3, os.close, [before])
    ending.start()
    assert watchdog.alone(tmp_path / "stamp")
    ending.join()
    assert not watchdog.alone(tmp_path / "stamp", patience_s=0.0)


# ---------------------------------------------------------------- real processes


@dataclass
class Pair:
    """A follower's process with its watchdog's."""

    follower: subprocess.Popen[str]
    dog: psutil.Process
    stamp: Path
    freed: Path

    def freed_at(self, more_than: int) -> list[float]:
        """The times at which everything was released, once they are more than so many."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            times = [float(line) for line in self.freed.read_text().splitlines()] if self.freed.exists() else []
            if len(times) > more_than:
                return times
            time.sleep(0.05)
        raise AssertionError(self.stamp.with_name("watchdog.log").read_text())

    def last_beat(self) -> float:
        stamp = read(self.stamp)
        assert stamp is not None
        return stamp.monotonic


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    command = [sys.executable, "-m", "tests.plugins.follower_process", str(tmp_path / "stamp"), "1.0", str(tmp_path / "freed")]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert follower.stdout is not None
    dog = psutil.Process(int(follower.stdout.readline()))
    try:
        log = tmp_path / "watchdog.log"
        until = time.monotonic() + PATIENCE_S
        while not (log.exists() and "watches" in log.read_text() and (tmp_path / "stamp").exists()) and time.monotonic() < until:
            time.sleep(0.05)
        yield Pair(follower, dog, tmp_path / "stamp", tmp_path / "freed")
    finally:
        follower.stdout.close()
        follower.kill()
        follower.wait()
        with_dog = dog.is_running()
        if with_dog:
            dog.kill()


def test_it_outlives_the_followers_process_group_and_releases_everything(pair: Pair) -> None:
    os.killpg(pair.follower.pid, signal.SIGKILL)
    pair.follower.wait()
    times = pair.freed_at(2)  # the first call fails, and it goes on after the second, for jobs that are held later
    assert times[0] > pair.last_beat() + 1.0
    assert pair.dog.is_running()
    log = pair.stamp.with_name("watchdog.log").read_text()
    assert "releasing failed, and is tried again: ConnectionError" in log
    assert "released 2 jobs: held-1, held-2" in log


def test_a_frozen_follower_is_a_late_one_and_may_come_back(pair: Pair) -> None:
    os.kill(pair.follower.pid, signal.SIGSTOP)
    times = pair.freed_at(1)
    assert times[0] > pair.last_beat() + 1.0
    os.kill(pair.follower.pid, signal.SIGCONT)
    until = time.monotonic() + PATIENCE_S
    log = pair.stamp.with_name("watchdog.log")
    while "the follower is back" not in log.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    assert "the follower is back" in log.read_text()
    assert pair.dog.is_running()


def test_it_ends_with_a_clean_end_and_two_never_watch_one_stamp(pair: Pair) -> None:
    second = [sys.executable, "-m", "service.plugins.watchdog", "--stamp", str(pair.stamp), "--limit-s", "1"]
    done = subprocess.run(
        [*second, "--free", "tests.plugins.follower_process:freeing", "--config", "{}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0
    assert "another watchdog watches" in done.stderr
    pair.follower.kill()
    pair.follower.wait()
    Heart(pair.stamp).beat(ended=True)
    pair.dog.wait(PATIENCE_S)
    assert "ends; " in pair.stamp.with_name("watchdog.log").read_text()

"""Releases everything held when the follower has not left a sign of life for too long: a process of its own.

It knows no plan and no optimiser. It is started in a session of its own, so that whatever ends the follower and its process group
leaves it alone; it ends when the follower has stopped cleanly (everything held was released then), or by SIGTERM.

    python -m service.plugins.watchdog --stamp FILE --limit-s 30 --free package.module:function --config '{"...": "..."}'

``function(config)`` is called at the start (again later, if it raises). It gives a function without arguments, which releases every
held job that opted in and gives their ids. That may raise anything: it is told, and called again.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.plugins.heartbeat import Stamp, boot_id, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TextIO

LOOK_S = 0.25  # between looks at the stamp, at most: within a limit it acts at most so much late
PATIENCE_S = 2.0  # with a watchdog that is about to end, because the follower before has ended cleanly
AGAIN_S = 1.0  # between releases while the stamp is stale: jobs go on being held meanwhile


class Watchdog:
    """Looks at the stamp and acts. ``free_all`` is not called more often than every ``again_s`` while the stamp is stale."""

    def __init__(  # noqa: PLR0913  (the clocks are the tests')
        self,
        path: Path,
        limit_s: float,
        free_all: Callable[[], Sequence[str]],
        *,
        again_s: float = AGAIN_S,
        stay: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        boot: str | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.path, self.limit_s, self.free_all, self.again_s, self.stay = path, limit_s, free_all, again_s, stay
        self._monotonic, self._wall, self._say = monotonic, wall, say
        self._boot = boot if boot is not None else boot_id()
        self._seen: Stamp | None = None
        self._since = self._began = monotonic()
        self._acted = -float("inf")
        self._stale = False
        self._failure = ""  # of the last release
        self.released = 0

    def age_s(self) -> float:
        """Seconds since the last sign of life, or since the watch began, which a follower is given to make its first plan.

        By the stamp's own monotonic time within one boot; else by when it was first seen here, which no clock step changes.
        """
        now, stamp = self._monotonic(), read(self.path)
        if stamp is not None and stamp != self._seen:
            self._seen = stamp
            comparable = stamp.boot == self._boot and self._boot
            age = stamp.age_s(now, self._boot, self._wall()) if comparable else 0.0
            self._since = max(now - age, self._began)
        return now - self._since

    def ended(self) -> bool:
        """Whether the follower has stopped cleanly."""
        return self._seen is not None and self._seen.ended

    def step(self) -> bool:
        """One look: act when it is time to. False when the watch is over."""
        age = self.age_s()
        if self.ended() and not self.stay:
            return False
        if age <= self.limit_s:
            if self._stale:
                self._say("the follower is back")
            self._stale = False
            return True
        now = self._monotonic()
        if not self._stale:
            self._stale = True
            self._say(f"no good round for {age:.1f} s, over the limit of {self.limit_s:g} s: releasing everything held")
        if now - self._acted >= self.again_s:
            self._acted = now
            self._act()
        return True

    def _act(self) -> None:
        try:
            freed = tuple(self.free_all())
        except Exception as error:  # noqa: BLE001  (whatever is wrong with the scheduler, the next try may work)
            failure = f"{type(error).__name__}: {error}"
            if failure != self._failure:  # else the same line every second, as long as the scheduler is away
                self._say(f"releasing failed, and is tried again: {failure}")
            self._failure = failure
            return
        if self._failure:
            self._say("the scheduler answers again")
        self._failure = ""
        self.released += len(freed)
        if freed:
            self._say(f"released {len(freed)} jobs: {', '.join(freed[:10])}{' ...' if len(freed) > 10 else ''}")  # noqa: PLR2004

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set or the follower has ended cleanly."""
        look_s = min(LOOK_S, self.limit_s / 4)
        while not stop.is_set() and self.step():
            stop.wait(look_s)


def start(path: Path, limit_s: float, free: str, config: Mapping[str, Any], *, log: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a watchdog in a session of its own. It goes on when this process ends, however that happens.

    ``free`` names the function as ``package.module:function``, ``config`` is what it is called with, as JSON on standard input.
    ``log`` is a file to append its lines to; left out, it shares our standard error. One watchdog watches a stamp: another one
    for the same file ends at once. Raises OSError when no process can be had.
    """
    command = [sys.executable, "-m", "service.plugins.watchdog", "--stamp", str(path), "--limit-s", str(limit_s), "--free", free]
    with open(log, "ab") if log is not None else open(os.dup(2), "wb", closefd=True) as output:  # noqa: PTH123
        process = subprocess.Popen(  # noqa: S603  (our own interpreter, and no shell)
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)},  # noqa: PTH109
        )
    assert process.stdin is not None  # noqa: S101  (it was asked for)
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(dict(config)).encode())
        process.stdin.close()
    return process


def maker(name: str) -> Callable[[Mapping[str, Any]], Callable[[], Sequence[str]]]:
    """The function called ``package.module:function``. Raises ValueError, with the cure, when there is none."""
    module, _, function = name.partition(":")
    try:
        made: Callable[[Mapping[str, Any]], Callable[[], Sequence[str]]] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"--free {name}: {error}; name a function as package.module:function") from error
    return made


def _lazily(make: Callable[[Mapping[str, Any]], Callable[[], Sequence[str]]], config: Mapping[str, Any]) -> Callable[[], Sequence[str]]:
    """Made at once, to be quick later; when that fails, because the scheduler is away, when it is needed."""
    made: list[Callable[[], Sequence[str]]] = []
    with suppress(Exception):
        made.append(make(config))

    def free_all() -> Sequence[str]:
        if not made:
            made.append(make(config))
        return made[0]()

    return free_all


def alone(stamp: Path, patience_s: float = PATIENCE_S) -> bool:
    """Whether no other process watches the stamp. One that is about to end is waited for: its follower may have been started anew."""
    lock = os.open(stamp.with_name(f"{stamp.name}.watchdog"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(lock)
                return False
            time.sleep(LOOK_S / 5)
        else:
            return True  # until this process ends


def _config(text: str) -> dict[str, Any]:
    """What the function is called with. Raises ValueError, with the cure."""
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise ValueError(f"--config: is no JSON ({error}); give an object such as {{}}") from None
    if not isinstance(found, dict):
        raise ValueError("--config: is no JSON object; give one such as {}")  # noqa: TRY004  (of what a user wrote)
    return found


def main(arguments: Sequence[str] | None = None, stream: TextIO | None = None) -> int:
    """The process: 0 when the watch is over, 2 for arguments that make no sense."""
    parser = argparse.ArgumentParser(
        prog="quartermaster-watchdog", description="Releases everything held when the follower is late or gone."
    )
    parser.add_argument("--stamp", type=Path, required=True, help="the file that the follower stamps")
    parser.add_argument("--limit-s", type=float, required=True, help="how old the stamp may get")
    parser.add_argument("--free", required=True, help="package.module:function, which makes a function that releases everything held")
    parser.add_argument("--stay", action="store_true", help="go on after a clean stop of the follower: for a service unit of its own")
    parser.add_argument("--config", default="-", help="what it is called with, as JSON; - reads it from standard input")
    asked = parser.parse_args(arguments)
    output = stream if stream is not None else sys.stderr

    def say(text: str) -> None:
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} watchdog {os.getpid()}: {text}", file=output, flush=True)

    if not 0 < asked.limit_s < float("inf"):
        parser.error(f"--limit-s is {asked.limit_s}; give a positive number of seconds")
    try:
        config = _config(sys.stdin.read() if asked.config == "-" else asked.config)
        free_all = _lazily(maker(asked.free), config)
        first = alone(asked.stamp)
    except ValueError as error:
        say(str(error))
        return 2
    except OSError as error:
        say(f"--stamp {asked.stamp}: cannot be watched ({error.strerror}); make its folder, and let us write there")
        return 2
    if not first:
        say(f"another watchdog watches {asked.stamp} already, with the limit it was started with; this one ends")
        return 0
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    dog = Watchdog(asked.stamp, asked.limit_s, free_all, stay=asked.stay, say=say)
    say(f"watches {asked.stamp}, limit {asked.limit_s:g} s")
    dog.run(stop)
    say(f"ends; {dog.released} jobs were released by it")
    return 0


if __name__ == "__main__":
    sys.exit(main())

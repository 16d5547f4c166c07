"""What all followers share: a warm optimiser, a watchdog that is started again, metrics."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, Gauge

from optimizer.child import ChildGoneError
from service.plugins import running, watchdog
from service.plugins.optimisers import LocalOptimiser
from service.plugins.settings import PluginSettings
from tests.plugins.optimisers import Greedy

if TYPE_CHECKING:
    from pathlib import Path


class Pool:
    """Stands in for a pool of child processes."""

    def __init__(self, end: Any) -> None:
        self.end, self.asked = end, 0

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    def run(self, *_: Any, **__: Any) -> Any:
        self.asked += 1
        raise self.end


def test_a_child_is_warmed_and_what_is_wrong_with_it_is_left_to_the_first_round() -> None:
    optimiser = LocalOptimiser()
    try:
        assert running.warm(optimiser, PluginSettings())
    finally:
        optimiser.close()
    pool: Any = Pool(ChildGoneError("no memory"))
    assert not running.warm(LocalOptimiser(pool), PluginSettings())
    assert pool.asked == 1
    other: Any = Greedy()
    assert not running.warm(other, PluginSettings())  # no child of ours


def test_the_watchdog_is_started_again_only_when_it_has_crashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter([1, 0, 0])
    started: list[subprocess.Popen[bytes]] = []

    def start(*_: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({next(codes)})"])
        process.wait(20)
        started.append(process)
        return process

    monkeypatch.setattr(watchdog, "start", start)
    dog = running.Dog(tmp_path / "stamp", 30.0, "a:b", {})
    dog.look()
    rounds: list[Any] = []
    after = dog.beside(rounds.append)
    for _ in range(3):
        after(None)  # type: ignore[arg-type]  # what happened in the round is not asked
    assert (len(started), len(rounds)) == (2, 3)

    def broken(*_: Any) -> Any:
        raise OSError("no processes left")

    monkeypatch.setattr(watchdog, "start", broken)
    with pytest.raises(OSError, match="no processes"):
        running.Dog(tmp_path / "stamp", 30.0, "a:b", {}).look()


def test_metrics_are_served_meanwhile() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    registry = CollectorRegistry()
    Gauge("sign", "Of life.", registry=registry).set(7)
    with running.counted("127.0.0.1", port, registry), urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert b"sign 7.0" in answer.read()

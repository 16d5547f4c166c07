"""All of it in one process, on a Slurm in memory: the stamp, the metrics, and a watchdog that is started again when it crashes."""

from __future__ import annotations

import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from benchmarks.plugins.daemons import free_ports
from service.plugins import watchdog
from service.plugins.follower import Round
from service.plugins.heartbeat import read
from service.plugins.modes import Mode
from service.plugins.settings import PluginSettings
from service.plugins.slurm import running
from service.plugins.slurm.adapter import Ways
from tests.plugins.optimisers import Greedy
from tests.plugins.quiet import quiet
from tests.plugins.slurm.pretended import PretendedSlurm

__all__ = ["quiet"]


class Dog:
    """A watchdog process, as far as anyone asks."""

    def __init__(self, ends: list[int | None]) -> None:
        self.ends = ends

    def poll(self) -> int | None:
        return self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]


def following(state: Path, mode: Mode, port: int | None = None) -> running.Following:
    settings = PluginSettings(mode=mode, quiet_s=0.01, longest_wait_s=0.01, refresh_s=0.02)
    return running.Following(settings, Ways(enforce=mode is Mode.enforce, poll_s=0.01), state, {"x": 1}, metrics_port=port)


def rounds_of(slurm: PretendedSlurm, how: running.Following, count: int = 4) -> list[Round]:
    stop, rounds = threading.Event(), list[Round]()

    def on_round(done: Round) -> None:
        rounds.append(done)
        slurm.schedule()
        if len(rounds) >= count:
            stop.set()

    running.follow(slurm, Greedy(), how, stop, on_round)
    return rounds


@pytest.mark.parametrize(("ends", "starts"), [([None], 1), ([None, -9, None], 2), ([0], 1)], ids=["lives", "crashes", "another watches"])
def test_a_watchdog_that_crashed_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: list[int | None], starts: int
) -> None:
    started: list[tuple[Any, ...]] = []

    def start(*arguments: Any) -> Dog:
        started.append(arguments)
        return Dog(ends)

    monkeypatch.setattr(watchdog, "start", start)
    slurm = PretendedSlurm()
    name = slurm.submit()
    rounds_of(slurm, following(tmp_path / "state", Mode.enforce))
    assert slurm.jobs[name]["job_state"] == "RUNNING"
    assert started == [(tmp_path / "state" / running.STAMP, 30.0, running.FREER, {"x": 1})] * starts
    stamp = read(tmp_path / "state" / running.STAMP)
    assert stamp is not None
    assert stamp.ended, "it stopped in order"


def test_shadow_needs_no_state_and_no_watchdog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "start", None)
    slurm = PretendedSlurm()
    slurm.submit()
    assert all(done.gains is not None for done in rounds_of(slurm, following(tmp_path / "state", Mode.shadow)))
    assert not (tmp_path / "state").exists()
    assert not slurm.told


def test_metrics_are_served(tmp_path: Path) -> None:
    port, pages, slurm, stop = free_ports(1)[0], list[str](), PretendedSlurm(), threading.Event()

    def on_round(_: Round) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            pages.append(page.read().decode())
        stop.set()

    running.follow(slurm, Greedy(), following(tmp_path, Mode.shadow, port), stop, on_round)
    assert "quartermaster_plugin_rounds" in pages[0]


def test_freeing_is_what_the_watchdog_is_told_to_do() -> None:
    assert callable(watchdog.maker(running.FREER))

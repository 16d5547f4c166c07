"""Follows a Slurm cluster: the adapter, the loop of the core, its sign of life, its watchdog and its metrics, in one process."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from service.plugins import watchdog
from service.plugins.follower import Follower
from service.plugins.heartbeat import Heart
from service.plugins.modes import Mode
from service.plugins.slurm.adapter import SlurmScheduler
from service.plugins.telemetry import PluginTelemetry

if TYPE_CHECKING:
    import subprocess
    import threading
    from collections.abc import Callable, Mapping

    from service.plugins.follower import Round
    from service.plugins.planner import Optimiser
    from service.plugins.settings import PluginSettings
    from service.plugins.slurm.adapter import Slurm, Ways

log = structlog.get_logger(__name__)
STAMP = "slurm.stamp"
FREER = "service.plugins.slurm.release:freer"


@dataclass(frozen=True, slots=True)
class Following:
    """How a cluster is followed. ``state`` is the folder of the sign of life; ``freer`` is what the watchdog is configured with.

    ``watchdog`` False leaves the watch to a process that somebody else starts (``quartermaster slurm watchdog``).
    """

    settings: PluginSettings
    ways: Ways
    state: Path
    freer: Mapping[str, Any]
    watchdog: bool = True
    metrics_port: int | None = None


class _Dog:
    """The watchdog, started again when it has crashed; one that ended in order (another one watches already) is left alone."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._process: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Start it where it is not running and should be. Raises OSError at the first start only."""
        first = self._process is None
        if self._process is not None and self._process.poll() in {None, 0}:
            return
        try:
            self._process = watchdog.start(self._following.state / STAMP, self._following.settings.watchdog_s, FREER, self._following.freer)
        except OSError as error:
            if first:
                raise
            log.warning("slurm: the watchdog has ended and could not be started again", error=str(error))


def _both(look: Callable[[], None], on_round: Callable[[Round], None] | None) -> Callable[[Round], None]:
    def both(done: Round) -> None:
        look()
        if on_round is not None:
            on_round(done)

    return both


def state_folder() -> Path:
    """Where a service keeps its state: systemd's STATE_DIRECTORY, XDG_STATE_HOME, or ~/.local/state, each with ``quartermaster``."""
    systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if systemd:
        return Path(systemd)
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "quartermaster"


def config_of(ways: Ways, environment: Mapping[str, str] | None = None, timeout_s: float = 10.0) -> dict[str, Any]:
    """What ``release.freer`` needs to let go of the same jobs."""
    return {
        "partitions": sorted(ways.opt_in.partitions),
        "comment": ways.opt_in.comment,
        "environment": dict(environment or {}),
        "timeout_s": timeout_s,
    }


def follow(
    slurm: Slurm, optimiser: Optimiser, following: Following, stop: threading.Event, on_round: Callable[[Round], None] | None = None
) -> None:
    """Until ``stop`` is set; then everything held is released. Raises OSError where the state folder or the port cannot be had."""
    enforce = following.settings.mode is Mode.enforce
    telemetry = PluginTelemetry()
    with contextlib.ExitStack() as stack:
        scheduler = SlurmScheduler(slurm, following.ways)
        stack.callback(scheduler.close)
        heart = None
        if enforce:
            following.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            heart = Heart(following.state / STAMP)
            heart.begin()
            if following.watchdog:
                dog = _Dog(following)
                dog.look()
                on_round = _both(dog.look, on_round)
        if following.metrics_port is not None:
            from prometheus_client import start_http_server

            server, thread = start_http_server(following.metrics_port, addr="127.0.0.1", registry=telemetry.registry)
            stack.callback(thread.join, 5.0)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
        Follower(scheduler, optimiser, following.settings, telemetry=telemetry, heart=heart, on_round=on_round).run(stop)

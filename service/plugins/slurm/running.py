"""Follows a Slurm cluster: the adapter, the loop of the core, its sign of life, its watchdog and its metrics, in one process."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.plugins.follower import Follower
from service.plugins.modes import Mode
from service.plugins.running import Dog, counted, new_heart, state_folder, warm
from service.plugins.slurm.adapter import SlurmScheduler
from service.plugins.telemetry import PluginTelemetry

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from service.plugins.follower import Round
    from service.plugins.planner import Optimiser
    from service.plugins.settings import PluginSettings
    from service.plugins.slurm.adapter import Slurm, Ways

__all__ = ["FREER", "STAMP", "Following", "config_of", "follow", "state_folder"]
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
            heart = new_heart(following.state / STAMP)
            if following.watchdog:
                dog = Dog(following.state / STAMP, following.settings.watchdog_s, FREER, following.freer)
                dog.look()
                on_round = dog.beside(on_round)
        if following.metrics_port is not None:
            stack.enter_context(counted("127.0.0.1", following.metrics_port, telemetry.registry))
        warm(optimiser, following.settings)
        Follower(scheduler, optimiser, following.settings, telemetry=telemetry, heart=heart, on_round=on_round).run(stop)

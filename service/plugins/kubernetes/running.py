"""Follows a Kubernetes cluster: the adapter, the loop of the core, its sign of life, its watchdog and its metrics, in one process."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.plugins.follower import Follower
from service.plugins.kubernetes.cache import Cache
from service.plugins.kubernetes.gates import Gates
from service.plugins.kubernetes.metrics import AdapterMetrics
from service.plugins.kubernetes.nodes import ReadingOptions
from service.plugins.modes import Mode
from service.plugins.running import Dog, counted, new_heart, state_folder, warm
from service.plugins.telemetry import PluginTelemetry

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from service.plugins.follower import Round
    from service.plugins.kubernetes.connection import Connection
    from service.plugins.planner import Optimiser
    from service.plugins.settings import PluginSettings

__all__ = ["FREER", "STAMP", "Following", "follow", "state_folder"]

STAMP = "kubernetes.stamp"
FREER = "service.plugins.kubernetes.freeing:free_all"


@dataclass(frozen=True, slots=True)
class Following:
    """How a cluster is followed. ``stamp`` is the file of the sign of life; ``watched`` by a process that somebody else starts.

    ``replaces`` as in ``Gates``; ``metrics`` are address and port of /metrics.
    """

    settings: PluginSettings
    stamp: Path
    kubeconfig: Path | None = None
    context: str | None = None
    options: ReadingOptions = field(default_factory=ReadingOptions)
    replaces: bool = False
    watched: bool = False
    metrics: tuple[str, int] | None = None

    def freeing(self) -> dict[str, Any]:
        """What the watchdog needs to release the same pods."""
        return {
            "kubeconfig": str(self.kubeconfig.absolute()) if self.kubeconfig is not None else None,
            "context": self.context,
            "gate": self.options.gate,
            "namespaces": sorted(self.options.namespaces),
        }


def follow(
    connection: Connection,
    optimiser: Optimiser,
    following: Following,
    stop: threading.Event,
    on_round: Callable[[Round], None] | None = None,
) -> None:
    """Until ``stop`` is set; then everything held is released. Raises OSError where the stamp's folder or the port cannot be had."""
    enforce = following.settings.mode is Mode.enforce
    telemetry = PluginTelemetry()
    with contextlib.ExitStack() as stack:
        heart = new_heart(following.stamp)
        if enforce and not following.watched:
            dog = Dog(following.stamp, following.settings.watchdog_s, FREER, following.freeing())
            dog.look()
            on_round = dog.beside(on_round)
        if following.metrics is not None:
            stack.enter_context(counted(*following.metrics, telemetry.registry))
        cache = Cache(connection)
        scheduler = Gates(connection, cache, following.options, mends=enforce, replaces=following.replaces, stopping=stop.is_set)
        stack.callback(scheduler.close)
        telemetry.registry.register(AdapterMetrics(scheduler))
        cache.start()
        warm(optimiser, following.settings)
        Follower(scheduler, optimiser, following.settings, telemetry=telemetry, heart=heart, on_round=on_round).run(stop)

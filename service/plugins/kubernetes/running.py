"""Follows a Kubernetes cluster: the adapter, the loop of the core, its sign of life, its watchdog and its metrics, in one process."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.plugins import watchdog
from service.plugins.follower import Follower
from service.plugins.heartbeat import Heart
from service.plugins.kubernetes.cache import Cache
from service.plugins.kubernetes.gates import Gates
from service.plugins.kubernetes.nodes import ReadingOptions
from service.plugins.modes import Mode
from service.plugins.telemetry import PluginTelemetry

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from service.plugins.follower import Round
    from service.plugins.kubernetes.connection import Connection
    from service.plugins.planner import Optimiser
    from service.plugins.settings import PluginSettings

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


def state_folder() -> Path:
    """Where a service keeps its state: systemd's STATE_DIRECTORY, XDG_STATE_HOME, or ~/.local/state, each with ``quartermaster``."""
    systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if systemd:
        return Path(systemd)
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "quartermaster"


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
        following.stamp.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        heart = Heart(following.stamp)
        heart.begin()
        if enforce and not following.watched:
            watchdog.start(following.stamp, following.settings.watchdog_s, FREER, following.freeing())
        if following.metrics is not None:
            stack.enter_context(_metrics(*following.metrics, telemetry))
        cache = Cache(connection)
        scheduler = Gates(connection, cache, following.options, mends=enforce, replaces=following.replaces)
        stack.callback(scheduler.close)
        cache.start()
        Follower(scheduler, optimiser, following.settings, telemetry=telemetry, heart=heart, on_round=on_round).run(stop)


@contextlib.contextmanager
def _metrics(host: str, port: int, telemetry: PluginTelemetry) -> Any:  # noqa: ANN401  (an iterator, to be entered)
    from prometheus_client import start_http_server

    server, thread = start_http_server(port, addr=host, registry=telemetry.registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5.0)

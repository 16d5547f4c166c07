"""What following a scheduler takes, whichever it is: where state is kept, metrics, the watchdog's process, a warm optimiser."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from optimizer.limits import Limits
from service.plugins import watchdog
from service.plugins.heartbeat import Heart
from service.plugins.optimisers import LocalOptimiser
from service.plugins.planner import NoPlanError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client import CollectorRegistry

    from service.plugins.follower import Round
    from service.plugins.planner import Optimiser
    from service.plugins.settings import PluginSettings

WARM_S = 10.0  # for the first solve of a child process, which imports everything: no cluster waits for its plan

log = structlog.get_logger(__name__)


def state_folder() -> Path:
    """Where a service keeps its state: systemd's STATE_DIRECTORY, XDG_STATE_HOME, or ~/.local/state, each with ``quartermaster``."""
    systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if systemd:
        return Path(systemd)
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "quartermaster"


def new_heart(stamp: Path) -> Heart:
    """The sign of life at ``stamp``: its folder is made, and what an earlier follower left is removed. Raises OSError."""
    stamp.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    heart = Heart(stamp)
    heart.begin()
    return heart


class Dog:
    """The watchdog's process, started again when it has crashed; one that ended in order (another watches already) is left alone."""

    def __init__(self, stamp: Path, limit_s: float, free: str, config: Mapping[str, Any]) -> None:
        self._stamp, self._limit_s, self._free, self._config = stamp, limit_s, free, config
        self._process: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Start it where it is not running and should be. Raises OSError at the first start only."""
        first = self._process is None
        if self._process is not None and self._process.poll() in {None, 0}:
            return
        try:
            self._process = watchdog.start(self._stamp, self._limit_s, self._free, self._config)
        except OSError as error:
            if first:
                raise
            log.warning("watchdog not started", stamp=str(self._stamp), error=str(error))

    def beside(self, on_round: Callable[[Round], None] | None) -> Callable[[Round], None]:
        """Looks after each round too."""

        def both(done: Round) -> None:
            self.look()
            if on_round is not None:
                on_round(done)

        return both


@contextlib.contextmanager
def counted(host: str, port: int, registry: CollectorRegistry) -> Iterator[None]:
    """Serve /metrics meanwhile. Raises OSError where the port cannot be had."""
    from prometheus_client import start_http_server

    server, thread = start_http_server(port, addr=host, registry=registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5.0)


def warm(optimiser: Optimiser, settings: PluginSettings) -> bool:
    """Have a child process of ours solve one job on one node, so that the first round does not wait for imports; whether it did.

    A cold child spends seconds on them, more than the time limit of a solve. Never raises: the first round tells what is wrong.
    """
    if not isinstance(optimiser, LocalOptimiser):
        return False
    from models.placement.schema import Job, Node, Problem

    problem = Problem(nodes=(Node(id="n", gpus=1, gpu_model="any", cpu_cores=1, memory_gib=1),), jobs=(Job(id="j", gpus_per_worker=1),))
    limits = Limits(time_limit_s=max(settings.time_limit_s, WARM_S), threads=settings.threads, memory_gib=settings.memory_gib)
    try:
        optimiser.solve(problem, limits)
    except NoPlanError as error:
        log.warning("optimiser not warmed", reason=error.trouble, detail=str(error))
        return False
    return True

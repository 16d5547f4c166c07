"""Follows a Kubernetes cluster through the extender: watch, plan, and answer kube-scheduler from a process of its own."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from service.plugins.follower import Follower
from service.plugins.inforce import InForce
from service.plugins.kubernetes.cache import Cache
from service.plugins.kubernetes.extender_process import ExtenderOptions, ExtenderProcess
from service.plugins.kubernetes.extender_scheduler import ExtenderScheduler
from service.plugins.kubernetes.jobs import short
from service.plugins.kubernetes.reading import read
from service.plugins.kubernetes.releases import pod_path
from service.plugins.kubernetes.telling import Telling
from service.plugins.running import counted, new_heart, warm
from service.plugins.telemetry import PluginTelemetry

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from service.plugins.cluster import Snapshot
    from service.plugins.follower import Round
    from service.plugins.kubernetes.connection import Connection
    from service.plugins.kubernetes.extender_seats import Told
    from service.plugins.kubernetes.gangs import Gang
    from service.plugins.kubernetes.nodes import ReadingOptions
    from service.plugins.kubernetes.pods import Pod
    from service.plugins.kubernetes.running import Following
    from service.plugins.orders import Wait
    from service.plugins.planner import Optimiser

PLANNED = "quartermaster.dev/planned"  # the annotation that touches a pod: the version of the plan that placed it, or gave it up


class CacheReader:
    """What ``ExtenderScheduler`` reads, from the watched objects; and the one change that is made to a pod."""

    def __init__(self, connection: Connection, cache: Cache, options: ReadingOptions, clock: Callable[[], float] = time.time) -> None:
        self._connection, self._cache, self._options, self._clock = connection, cache, options, clock
        self._telling = Telling(connection, clock)
        self._gangs: dict[str, Gang] = {}
        self._pods: dict[str, Pod] = {}

    def snapshot(self) -> Snapshot:
        """The cluster now. Raises SchedulerError when what is known of it is too old."""
        reading = read(self._cache.objects(), self._options, self._clock())
        self._gangs = {short(name): gang for name, gang in reading.gangs.items()}
        self._pods = {pod.key: pod for gang in self._gangs.values() for pod in gang.members}
        return reading.snapshot

    def gangs(self) -> Mapping[str, Gang]:
        """The pods behind the jobs of the last snapshot."""
        return self._gangs

    def changed(self, timeout_s: float) -> bool:
        """Whether anything changed that matters, waiting at most so long."""
        return self._cache.changed(timeout_s)

    def tell(self, waits: Sequence[Wait]) -> None:
        """Leave each sentence as an event on the job's first pod that waits."""
        for wait in waits:
            gang = self._gangs.get(wait.job)
            pod = next((one for one in gang.members if not one.node), None) if gang is not None else None
            if pod is not None:
                self._telling.tell(pod, "WaitingForPlan", wait.why)

    def touch(self, told: Told, mark: str) -> None:
        """Annotate a pod, so that kube-scheduler tries it again. Raises SchedulerError."""
        pod = self._pods.get(f"{told.namespace}/{told.name}")
        if pod is not None and pod.uid == told.uid and not pod.node:
            self._cache.observe(self._connection.patch(pod_path(pod), touching(pod, mark)))


def touching(pod: Pod, mark: str) -> list[dict[str, object]]:
    """The JSON patch that touches this pod, and no other of its name; where it has no annotations, none that come meanwhile are lost."""
    operations: list[dict[str, object]] = [{"op": "test", "path": "/metadata/uid", "value": pod.uid}]
    if not pod.annotations:
        unchanged: dict[str, object] = {"op": "test", "path": "/metadata/resourceVersion", "value": pod.resource_version}
        return [*operations, unchanged, {"op": "add", "path": "/metadata/annotations", "value": {PLANNED: mark}}]
    return [*operations, {"op": "add", "path": f"/metadata/annotations/{PLANNED.replace('/', '~1')}", "value": mark}]


def follow(
    connection: Connection,
    optimiser: Optimiser,
    following: Following,
    listener: socket.socket,
    stop: threading.Event,
    on_round: Callable[[Round], None] | None = None,
) -> None:
    """Until ``stop`` is set. ``following.metrics`` is where the planning is counted; the extender counts its answers on its own port.

    Raises OSError where the stamp or the port cannot be had.
    """
    settings, options = following.settings, following.options
    with contextlib.ExitStack() as stack:
        heart = new_heart(following.stamp)
        telemetry = PluginTelemetry()
        if following.metrics is not None:
            stack.enter_context(counted(*following.metrics, telemetry.registry))
        extender = ExtenderProcess(ExtenderOptions(settings.mode, settings.fallback_s, options.namespaces), listener)
        stack.callback(extender.close)
        extender.start()
        cache = Cache(connection)
        stack.callback(cache.stop)
        reader, in_force = CacheReader(connection, cache, options), InForce()
        scheduler = ExtenderScheduler(reader, in_force, settings.mode, extender.put, reader.touch, options.namespaces)
        stack.callback(scheduler.close)

        def after(done: Round) -> None:
            scheduler.after_round()
            if on_round is not None:
                on_round(done)

        cache.start()
        warm(optimiser, settings)
        Follower(scheduler, optimiser, settings, in_force=in_force, telemetry=telemetry, heart=heart, on_round=after).run(stop)

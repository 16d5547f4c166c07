"""The objects of a cluster in memory, by the watches of all kinds that are read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from service.plugins.kubernetes.fields import Object, ObjectError
from service.plugins.kubernetes.pods import Pod, read_pod
from service.plugins.kubernetes.reading import ClusterObjects
from service.plugins.kubernetes.watching import WATCH_S, Resource, Watching
from service.plugins.scheduler import SchedulerError

if TYPE_CHECKING:
    from service.plugins.kubernetes.connection import Connection

NODES, PODS = Resource("Node", "/api/v1/nodes"), Resource("Pod", "/api/v1/pods")
JOBS = Resource("Job", "/apis/batch/v1/jobs", optional=True)
JOB_SETS = Resource("JobSet", "/apis/jobset.x-k8s.io/v1alpha2/jobsets", optional=True)
POD_GROUPS = (  # of the scheduler itself, of the coscheduling plugin, of Volcano
    Resource("PodGroup", "/apis/scheduling.k8s.io/v1alpha2/podgroups", optional=True),
    Resource("PodGroup of scheduling.x-k8s.io", "/apis/scheduling.x-k8s.io/v1alpha1/podgroups", optional=True),
    Resource("PodGroup of Volcano", "/apis/scheduling.volcano.sh/v1beta1/podgroups", optional=True),
)
PRIORITY_CLASSES = Resource("PriorityClass", "/apis/scheduling.k8s.io/v1/priorityclasses", optional=True)
BUDGETS = Resource("PodDisruptionBudget", "/apis/policy/v1/poddisruptionbudgets", optional=True)
ALL = (NODES, PODS, JOBS, JOB_SETS, *POD_GROUPS, PRIORITY_CLASSES, BUDGETS)
STALE_S = 15.0  # without a word from the server: what is kept is not the cluster of now


class Cache:
    """The cluster as it was last heard of. Thread-safe."""

    def __init__(self, connection: Connection, *, stale_s: float = STALE_S, watch_s: float = WATCH_S) -> None:
        self.watching = Watching(connection, ALL, watch_s=watch_s)
        self._stale_s = stale_s
        self._read: dict[str, tuple[Object, Pod]] = {}

    def start(self) -> None:
        """Begin to list and watch, in the background."""
        self.watching.start()

    def wait_listed(self, timeout_s: float) -> None:
        """Wait until all is listed. Raises SchedulerError when that takes longer; it goes on trying."""
        self.watching.check_listed(time.monotonic() + timeout_s)

    def stop(self) -> None:
        """End all watches."""
        self.watching.stop()

    def changed(self, timeout_s: float) -> bool:
        """Whether anything changed since the last call, waiting at most so long."""
        return self.watching.changed(timeout_s)

    def objects(self) -> ClusterObjects:
        """All objects. Raises SchedulerError when they are too old to be believed."""
        self.watching.check_listed(time.monotonic())
        found = {kind: watcher.objects() for kind, watcher in self.watching.watchers.items()}
        for kind in (NODES.kind, PODS.kind):
            silent_s = self.watching.watchers[kind].silent_s()
            if silent_s > self._stale_s:
                raise SchedulerError(f"the API server has told nothing of {kind}s for {silent_s:.0f} s: nothing is decided on that")
        groups = [found[one.kind] for one in POD_GROUPS]
        known = [one for some in groups if some is not None for one in some]
        return ClusterObjects(
            nodes=found[NODES.kind] or (),
            pods=found[PODS.kind] or (),
            jobs=found[JOBS.kind],
            job_sets=found[JOB_SETS.kind],
            pod_groups=None if all(some is None for some in groups) else known,
            priority_classes=found[PRIORITY_CLASSES.kind],
            disruption_budgets=found[BUDGETS.kind],
        )

    def state(self) -> object:
        """Another one after each change of an object, however small. Ask for it before ``objects``."""
        return tuple(one.state for one in self.watching.watchers.values())

    def observe(self, manifest: Object) -> None:
        """Take over a pod as the server answered it; one without a name is ignored."""
        try:
            self.watching.watchers[PODS.kind].observe("MODIFIED", manifest)
        except ObjectError:
            return

    def reader(self, manifest: Object) -> Pod:
        """``read_pod``, which reads each version of a pod once. Raises as it does."""
        key = str((manifest.get("metadata") or {}).get("uid", id(manifest)))
        known = self._read.get(key)
        if known is not None and known[0] is manifest:
            return known[1]
        pod = read_pod(manifest)
        self._read[key] = (manifest, pod)
        return pod

    def forget(self, living: int) -> None:
        """Drop what was read of pods that are no more, once they are more than those that live."""
        if len(self._read) > 2 * living + 1000:
            self._read.clear()

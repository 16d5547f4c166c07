"""The API's objects as a ``Snapshot``: pure, from dicts as JSON gives them. One broken object is a warning, never the end.

What a node has for jobs is its allocatable less what other pods on it use: daemonsets, services, pods of other sizes in a
gang, pods that are on their way to it. Pods that ask for GPUs, and pods that carry the gate, are jobs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from service.plugins.cluster import SeenNode, Snapshot
from service.plugins.kubernetes.fields import Object, ObjectError, as_object, named, parts, text, whole
from service.plugins.kubernetes.gangs import Gang, Groups, gather, job_set_size, job_size, pod_group_size, sizes
from service.plugins.kubernetes.jobs import Around, destination, running_job, seated_pods, waiting_job
from service.plugins.kubernetes.nodes import PRODUCT, Node, ReadingOptions, read_node
from service.plugins.kubernetes.pods import HOSTNAME, Pod, bare_pod, read_pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from service.plugins.cluster import SeenJob

__all__ = ["ClusterObjects", "Gang", "Pod", "Reading", "ReadingOptions", "read", "read_pod", "snapshot"]


@dataclass(frozen=True, slots=True)
class ClusterObjects:
    """Objects as the API gives them. None: that kind was not read; empty: there is none."""

    nodes: Sequence[object] = ()
    pods: Sequence[object] = ()
    jobs: Sequence[object] | None = None
    job_sets: Sequence[object] | None = None
    pod_groups: Sequence[object] | None = None
    priority_classes: Sequence[object] | None = None
    disruption_budgets: Sequence[object] | None = None

    @classmethod
    def of_list(cls, document: object) -> ClusterObjects:
        """The objects of a ``List``, as ``kubectl get nodes,pods -o json`` prints one; of other kinds too. Raises ObjectError."""
        by_kind: dict[str, list[object]] = {}
        for item in parts(as_object(document), "items"):
            by_kind.setdefault(text(item, "kind"), []).append(item)
        return cls(
            nodes=by_kind.get("Node", ()),
            pods=by_kind.get("Pod", ()),
            jobs=by_kind.get("Job"),
            job_sets=by_kind.get("JobSet"),
            pod_groups=by_kind.get("PodGroup"),
            priority_classes=by_kind.get("PriorityClass"),
            disruption_budgets=by_kind.get("PodDisruptionBudget"),
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """A snapshot, and the pods behind its jobs by the gangs' ids. ``unreadable`` are held pods that no job is made of."""

    snapshot: Snapshot
    gangs: Mapping[str, Gang]
    nodes: Mapping[str, Node]
    unreadable: tuple[Pod, ...] = ()


def snapshot(objects: ClusterObjects, options: ReadingOptions | None = None, now: float = 0.0) -> Snapshot:
    """The cluster at ``now`` (seconds since the epoch). Never raises for a broken object: it becomes a warning."""
    return read(objects, options or ReadingOptions(), now).snapshot


def read(objects: ClusterObjects, options: ReadingOptions, now: float, reader: Callable[[Object], Pod] = read_pod) -> Reading:
    """As ``snapshot``, with the pods behind each job. ``reader`` may remember what it has read before."""
    warnings: list[str] = []
    nodes = _by_name(objects.nodes, read_node, "node", warnings)
    pods, broken = _pods(objects.pods, nodes, warnings, reader)
    closed = {node for node in map(_node_of, broken) if node in nodes}
    warnings += [f"The node {name} takes no new pods until the pods on it can be read." for name in sorted(closed)]
    unreadable = [pod for pod in map(bare_pod, broken) if pod is not None]
    groups = Groups(
        jobs=sizes(objects.jobs, job_size, "Job", warnings),
        job_sets=sizes(objects.job_sets, job_set_size, "JobSet", warnings),
        pod_groups=sizes(objects.pod_groups, pod_group_size, "PodGroup", warnings),
    )
    gangs = gather(pods, groups)
    around = Around(
        options=options,
        nodes=nodes,
        priorities=_priorities(objects.priority_classes, warnings),
        budgets=_readable(objects.disruption_budgets or (), "PodDisruptionBudget", warnings),
        hosts={node.labels.get(HOSTNAME, ""): node.name for node in nodes.values()},
        warnings=warnings,
    )
    jobs: list[SeenJob] = []
    others = [pod for pod in pods if pod.deleting and not pod.terminal]  # they use their node until they are gone
    for gang in gangs.values():
        job, rest = _job(gang, around)
        others.extend(rest)
        if job is not None:
            jobs.append(job)
        else:
            unreadable.extend(gang.held(options.gate))
    closed |= _without_host_name(nodes, warnings) if options.hard else set()
    used = _used(others, around)
    seen = tuple(_seen(node, options, used.get(node.name, _Use()), closed=node.name in closed) for node in nodes.values())
    held = tuple(pod for pod in unreadable if pod.held_by(options.gate))
    return Reading(Snapshot("kubernetes", now, seen, tuple(jobs), tuple(warnings)), gangs, nodes, held)


def _job(gang: Gang, around: Around) -> tuple[SeenJob | None, Iterable[Pod]]:
    """The job that a gang is, and those of its pods that use a node outside it."""
    try:
        if any(pod.node for pod in seated_pods(gang, around.options)):
            job, rest = running_job(gang, around)
        else:
            job, rest = waiting_job(gang, around), [pod for pod in gang.members if pod.node]
    except (ObjectError, ValueError) as error:
        around.warnings.append(f"The pods of {gang.display} cannot be read: {error}; they are left to the scheduler.")
        return None, gang.members
    ours = job is not None and job.opted_in  # on its way to a node, it is the follower that keeps its seats
    return job, rest if ours else [*rest, *(pod for pod in gang.members if not pod.node and not pod.gates)]


# ---------------------------------------------------------------- nodes and what other pods take from them


@dataclass(slots=True)
class _Use:
    """What pods take from one node."""

    cpu_cores: float = 0.0
    memory_gib: float = 0.0
    gpus: float = 0.0

    def add(self, pod: Pod, options: ReadingOptions) -> None:
        self.cpu_cores += pod.cpu_cores
        self.memory_gib += pod.memory_gib
        self.gpus += pod.gpus(options.gpu_resources)


def _used(pods: Iterable[Pod], around: Around) -> dict[str, _Use]:
    """What pods take, by the node they are on or on their way to."""
    found: dict[str, _Use] = {}
    for pod in pods:
        if node := destination(pod, around.hosts):
            found.setdefault(node, _Use()).add(pod, around.options)
    return found


def _seen(node: Node, options: ReadingOptions, use: _Use, *, closed: bool) -> SeenNode:
    """The node as jobs may use it; ``closed``: it takes no new worker."""
    gpus = max(int(node.gpus(options.gpu_resources) - use.gpus), 0)
    return SeenNode(
        id=node.name,
        version=node.version(options),
        state="cordoned" if closed and node.state == "ready" else node.state,
        gpu_model=(node.labels.get(PRODUCT) or "gpu") if gpus else None,
        gpus=gpus,
        gpu_memory_gib=node.gpu_memory_gib if gpus else None,
        cpu_cores=max(node.cpu_cores - use.cpu_cores, 0.0),
        memory_gib=max(node.memory_gib - use.memory_gib, 0.0),
        topology=node.topology(options),
        labels=dict(node.labels),
    )


def _without_host_name(nodes: Mapping[str, Node], warnings: list[str]) -> set[str]:
    """Nodes that no host name's label tells from all others: a hard pin could not mean them."""
    count = Counter(node.labels.get(HOSTNAME, "") for node in nodes.values())
    found = {node.name for node in nodes.values() if not node.labels.get(HOSTNAME) or count[node.labels[HOSTNAME]] > 1}
    told = f"has no label {HOSTNAME} of its own: no pod is pinned to it; label it, or pin softly"
    warnings += [f"The node {name} {told}." for name in sorted(found)]
    return found


# ---------------------------------------------------------------- one object at a time


def _pods(
    manifests: Sequence[object], nodes: Mapping[str, Node], warnings: list[str], reader: Callable[[Object], Pod]
) -> tuple[list[Pod], list[object]]:
    """The pods that can be read, and what cannot."""
    broken: list[object] = []
    pods = _by_name(manifests, reader, "pod", warnings, broken)
    gone = [pod for pod in pods.values() if pod.node and pod.node not in nodes and not pod.terminal]
    warnings += [f"The pod {pod.key} is on the node {pod.node}, which is not listed; it is left out." for pod in gone]
    left_out = {pod.key for pod in gone}
    return [pod for pod in pods.values() if pod.key not in left_out], broken


def _node_of(manifest: object) -> str:
    try:
        return text(as_object(manifest), "spec", "nodeName")
    except ObjectError:
        return ""


_Read = TypeVar("_Read", Node, Pod)


def _by_name(
    manifests: Sequence[object],
    reader: Callable[[Object], _Read],
    what: str,
    warnings: list[str],
    broken: list[object] | None = None,
) -> dict[str, _Read]:
    """What can be read, by its name; what cannot is a warning, and goes to ``broken``."""
    found: dict[str, _Read] = {}
    for manifest in manifests:
        try:
            one = reader(as_object(manifest))
        except ValueError as error:
            warnings.append(f"The {what} {named(manifest)} cannot be read: {error}; it is left out.")
            if broken is not None:
                broken.append(manifest)
        else:
            found[one.key if isinstance(one, Pod) else one.name] = one
    return found


def _priorities(classes: Sequence[object] | None, warnings: list[str]) -> dict[str, int]:
    """The value of each priority class by its name; the default one also as the empty name."""
    found: dict[str, int] = {}
    for manifest in _readable(classes or (), "PriorityClass", warnings):
        try:
            value = whole(manifest, "value") or 0
            found[text(manifest, "metadata", "name")] = value
        except ObjectError as error:
            warnings.append(f"The PriorityClass {named(manifest)} cannot be read: {error}; it is left out.")
            continue
        if manifest.get("globalDefault") is True:
            found[""] = value
    return found


def _readable(manifests: Sequence[object], what: str, warnings: list[str]) -> tuple[Object, ...]:
    found: list[Object] = []
    for manifest in manifests:
        try:
            found.append(as_object(manifest))
        except ObjectError as error:
            warnings.append(f"A {what} cannot be read: {error}; it is left out.")
    return tuple(found)

"""A gang of pods as a job: one size of worker, the nodes it may use, whether it is held, where it runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2s
from typing import TYPE_CHECKING

from models.vocabulary import Level
from service.plugins.cluster import SeenJob, SeenWorker
from service.plugins.kubernetes.affinity import affinity_holds, selector_holds, tolerated
from service.plugins.kubernetes.fields import Object, ObjectError, named, part, text, whole
from service.plugins.kubernetes.pods import HOSTNAME, SAFE_TO_EVICT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from service.plugins.kubernetes.gangs import Gang
    from service.plugins.kubernetes.nodes import Node, ReadingOptions
    from service.plugins.kubernetes.pods import Pod

TOGETHER = "quartermaster.dev/together"  # annotation: site, row, rack or nvlink_domain
TOGETHER_PREFERRED = "quartermaster.dev/together-preferred"
KUEUE_REQUIRED = "kueue.x-k8s.io/podset-required-topology"  # annotation: the label of a level
KUEUE_PREFERRED = "kueue.x-k8s.io/podset-preferred-topology"
LONGEST_ID = 253
STAYS = frozenset({"DaemonSet", "Node"})  # pods of these controllers would come back to the same node


@dataclass(frozen=True, slots=True)
class Around:
    """What is around the pods: options, nodes by name, priorities by class, disruption budgets; and where warnings go."""

    options: ReadingOptions
    nodes: Mapping[str, Node]
    priorities: Mapping[str, int]
    budgets: Sequence[Object]
    hosts: Mapping[str, str]  # nodes by the value of their host name's label
    warnings: list[str]
    accepted: dict[str, frozenset[str]] = field(default_factory=dict)  # nodes by what pods demand of them, as far as it was asked


@dataclass(frozen=True, slots=True)
class _Size:
    """What one worker asks for."""

    gpus: float
    cpu_cores: float
    memory_gib: float


def waiting_job(gang: Gang, around: Around) -> SeenJob | None:
    """The job of a gang none of whose pods is on a node; None where no pod asks for a GPU or carries the gate.

    A worker has the size of the largest pod that asks for GPUs: pods of other sizes get at least what they need. Pods
    without GPUs in a gang with them (a launcher) have no seat: they are released with the others. A gang of which some
    pods are held and others not has fewer ``workers_seen`` than ``workers``, so that it is not planned.
    """
    gate = around.options.gate
    seated = seated_pods(gang, around.options)
    held = gang.held(gate)
    if not held and not any(pod.gpus(around.options.gpu_resources) for pod in seated):
        return None
    ready = sum(pod.gates == (gate,) for pod in seated)  # what something else holds back is not ready to be planned
    size = _largest(seated, around.options)
    absent = gang.wanted - len(gang.members)
    split = bool(held) and started(gang, around.options)
    return _job(
        gang,
        around,
        seated,
        size,
        workers=len(seated) + min(absent, MOST_ABSENT),
        workers_seen=min(ready, len(seated) - 1) if split else ready if held else len(seated),
        held=bool(held),
    )


MOST_ABSENT = 10**6  # of a gang of unknown size


def running_job(gang: Gang, around: Around) -> tuple[SeenJob | None, list[Pod]]:
    """The job of a gang that has started, and those of its pods that use a node and are no workers of it.

    Its workers are the pods of the size that is commonest on nodes; a gang without GPUs is a job only while some are held.
    """
    options = around.options
    bound = [pod for pod in gang.members if pod.node]  # a launcher among them may have started long before
    count = Counter(_size(pod, options) for pod in bound if pod.gpus(options.gpu_resources) > 0)
    if not count:
        return _only_held(gang, around), bound
    size = max(count, key=lambda one: (count[one], one.gpus, one.cpu_cores, one.memory_gib))
    workers = [pod for pod in gang.members if _size(pod, options) == size]
    held = bool(gang.held(options.gate))
    job = _job(gang, around, workers, size, workers=len(workers), workers_seen=sum(not pod.gates for pod in workers), held=held)
    return job, [pod for pod in bound if _size(pod, options) != size]


def started(gang: Gang, options: ReadingOptions) -> bool:
    """Whether some of its pods are released already: pods with a seat that are not held, or any that this plugin released."""
    seated = {pod.key for pod in seated_pods(gang, options)}
    return any(
        not pod.held_by(options.gate) and (pod.key in seated or RELEASED in pod.annotations) and not (pod.gates and not pod.node)
        for pod in gang.members
    )


def _only_held(gang: Gang, around: Around) -> SeenJob | None:
    """A gang whose bound pods use no GPU: a job only as far as pods of it are still held; it is not planned any more."""
    held = gang.held(around.options.gate)
    if not held:
        return None
    return _job(gang, around, held, _largest(held, around.options), workers=len(gang.members), workers_seen=0, held=True)


def seated_pods(gang: Gang, options: ReadingOptions) -> list[Pod]:
    """The members that get a seat, in the order of their names: those with GPUs; all where none has any."""
    return [pod for pod in gang.members if pod.gpus(options.gpu_resources) > 0] or list(gang.members)


def _job(gang: Gang, around: Around, pods: Sequence[Pod], size: _Size, *, workers: int, workers_seen: int | None, held: bool) -> SeenJob:
    first = pods[0]
    allowed = _allowed(pods, around)
    together, required = _together(first, around.options)
    started = [pod.started_at for pod in pods if pod.node and pod.started_at is not None]
    started_at = min(started, default=None)
    return SeenJob(
        id=short(gang.id),
        identity=_identity(gang, size),
        tenant=gang.namespace,
        workers=workers,
        workers_seen=workers_seen,
        gpus_per_worker=size.gpus,
        cpu_cores=size.cpu_cores,
        memory_gib=size.memory_gib,
        node_selector=own_selector(first) if all(pod.node_selector == first.node_selector for pod in pods) else {},
        nodes_allowed=allowed,
        together=together,
        together_required=required,
        one_worker_per_node=len(pods) > 1 and any(selector_holds(selector, first.labels) for selector in first.apart),
        priority=_priority(first, around),
        opted_in=_opted_in(gang, around.options),
        held=held,
        running=tuple(SeenWorker(pod.node) for pod in pods if pod.node),
        evictable=all(_evictable(pod, around) for pod in pods),
        submitted_at=min((pod.submitted_at for pod in gang.members if pod.submitted_at is not None), default=None),
        started_at=started_at,
        ends_at=None if started_at is None or first.deadline_s is None else started_at + first.deadline_s,
        display=gang.display,
        pinned=tuple(node for pod in pods if (node := pinned_to(pod, around.hosts))),
        time_limit_s=first.deadline_s,
    )


def short(name: str) -> str:
    """The name, its end replaced by a digest where it is longer than an id may be."""
    if len(name) <= LONGEST_ID:
        return name
    digest = blake2s(name.encode(), digest_size=8).hexdigest()
    return f"{name[: LONGEST_ID - len(digest) - 1]}-{digest}"


def own_selector(pod: Pod) -> dict[str, str]:
    """The node selector that its maker gave it: without the pin that a release adds."""
    return {key: value for key, value in pod.node_selector.items() if key != HOSTNAME or RELEASED not in pod.annotations}


def pinned_to(pod: Pod, hosts: Mapping[str, str]) -> str:
    """The node that a release asked for, of a pod that is on none yet; empty where there is none."""
    if pod.node or pod.gates or RELEASED not in pod.annotations:
        return ""
    return destination(pod, hosts)


def destination(pod: Pod, hosts: Mapping[str, str]) -> str:
    """The node that a pod is on, or on its way to: nominated, or selected by its host name; empty where there is none."""
    return pod.node or pod.nominated_node or hosts.get(pod.node_selector.get(HOSTNAME, ""), "")


def _size(pod: Pod, options: ReadingOptions) -> _Size:
    return _Size(pod.gpus(options.gpu_resources), pod.cpu_cores, pod.memory_gib)


def _largest(pods: Iterable[Pod], options: ReadingOptions) -> _Size:
    asked = [_size(pod, options) for pod in pods]
    return _Size(max(one.gpus for one in asked), max(one.cpu_cores for one in asked), max(one.memory_gib for one in asked))


def _identity(gang: Gang, size: _Size) -> str:
    """Another one with each pod that comes, goes or is another of the same name, and with what a pod asks for."""
    asked = [(pod.uid, pod.name, sorted(pod.requests.items()), sorted(own_selector(pod).items()), pod.wishes) for pod in gang.members]
    return blake2s(repr((gang.id, gang.wanted, size, asked)).encode(), digest_size=12).hexdigest()


def _opted_in(gang: Gang, options: ReadingOptions) -> bool:
    """Whether its pods carry the gate, or did (the annotation that a release leaves), in a namespace that is served."""
    if options.namespaces and gang.namespace not in options.namespaces:
        return False
    return any(options.gate in pod.gates or RELEASED in pod.annotations for pod in gang.members)


RELEASED = "quartermaster.dev/released"  # annotation that every release leaves: how, and by which plan


def _priority(pod: Pod, around: Around) -> int:
    if pod.priority is not None:
        return pod.priority
    return around.priorities.get(pod.priority_class, 0)


def _together(pod: Pod, options: ReadingOptions) -> tuple[str | None, bool]:
    """The level of the topology that all workers share, and whether they must. Raises ObjectError."""
    levels = {label: level for level, labels in options.topology_labels.items() for label in labels}
    for name, required in ((TOGETHER, True), (TOGETHER_PREFERRED, False)):
        if asked := pod.annotations.get(name):
            if asked not in set(Level):
                raise ObjectError(f"the annotation {name} names no level: '{asked}'; give site, row, rack, nvlink_domain or node")
            return asked, required
    for name, required in ((KUEUE_REQUIRED, True), (KUEUE_PREFERRED, False)):
        if asked := pod.annotations.get(name):
            level = Level.node.value if asked == HOSTNAME else levels.get(asked)
            return level, required
    return None, True


def _allowed(pods: Sequence[Pod], around: Around) -> frozenset[str] | None:
    """The nodes that every pod may use; None: all. Node selectors count only where they differ from pod to pod."""
    selectors = any(pod.node_selector != pods[0].node_selector for pod in pods)
    sets = {id(one): one for one in (_accepted(pod, around, selector=selectors) for pod in pods)}  # alike pods share one
    found = frozenset.intersection(*sets.values())
    return None if len(found) == len(around.nodes) else found


def _accepted(pod: Pod, around: Around, *, selector: bool) -> frozenset[str]:
    """The nodes that suit a pod: taints, affinity, kinds of GPUs, and resources that are neither cores, memory nor GPUs.

    Pods are many and their demands few: each demand is looked at once.
    """
    resources = around.options.gpu_resources
    needed = pod.extended(resources) | {name: 1.0 for name in resources if pod.requests.get(name, 0.0) > 0}
    labels = own_selector(pod) if selector else {}
    demand = repr((pod.wishes, sorted(needed.items()), sorted(labels.items())))
    if demand not in around.accepted:
        around.accepted[demand] = frozenset(
            name
            for name, node in around.nodes.items()
            if affinity_holds(pod.affinity, name, node.labels)
            and tolerated(node.lasting_taints, pod.tolerations)
            and all(node.allocatable.get(kind, 0.0) >= amount for kind, amount in needed.items())
            and all(node.labels.get(key) == value for key, value in labels.items())
        )
    return around.accepted[demand]


def _evictable(pod: Pod, around: Around) -> bool:
    """Whether a controller makes it anew elsewhere, and no disruption budget forbids it now."""
    if pod.owner is None or pod.owner.kind in STAYS or pod.annotations.get(SAFE_TO_EVICT) == "false":
        return False
    return not any(_forbids(budget, pod, around.warnings) for budget in around.budgets)


def _forbids(budget: Object, pod: Pod, warnings: list[str]) -> bool:
    """Whether a PodDisruptionBudget selects the pod and allows no disruption now; one that cannot be read forbids it."""
    try:
        if (text(budget, "metadata", "namespace") or "default") != pod.namespace or budget.get("spec") is None:
            return False
        selector = part(budget, "spec").get("selector")
        if selector is None or not selector_holds(part(budget, "spec", "selector"), pod.labels):
            return False
        return (whole(budget, "status", "disruptionsAllowed") or 0) <= 0
    except ObjectError as error:
        told = f"The PodDisruptionBudget {named(budget)} cannot be read: {error}; the pods of its namespace are not evicted."
        if told not in warnings:
            warnings.append(told)
        return (part(budget, "metadata").get("namespace") or "default") == pod.namespace

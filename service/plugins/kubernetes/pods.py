"""One pod as the API gives it, read: what it asks for, where it is, what holds it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.plugins.kubernetes.affinity import required_terms
from service.plugins.kubernetes.fields import Object, ObjectError, amounts, as_object, part, parts, text, texts, whole
from service.plugins.kubernetes.quantities import GIB, seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

TERMINAL = frozenset({"Succeeded", "Failed"})
HOSTNAME = "kubernetes.io/hostname"
KNOWN_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage", "pods"})  # storage is left to the scheduler; the last counts pods
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"


@dataclass(frozen=True, slots=True)
class Owner:
    """The controller of a pod."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod. ``requests`` are by resource in its own unit (cores, bytes, pieces), as the scheduler counts them."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner: Owner | None
    node: str  # empty: not bound
    nominated_node: str
    phase: str
    deleting: bool
    gates: tuple[str, ...]
    requests: Mapping[str, float]
    node_selector: Mapping[str, str]
    affinity: tuple[Object, ...] | None  # required terms
    tolerations: tuple[Object, ...]
    priority: int | None
    priority_class: str
    apart: tuple[Object, ...]  # label selectors of pods that must not share its node
    unmodelled: tuple[str, ...]  # demands on its node that no plan knows
    submitted_at: float | None
    started_at: float | None
    deadline_s: float | None
    group: str  # spec.schedulingGroup.podGroupName
    wishes: str  # all that its affinity and tolerations say, to tell pods that are alike
    manifest: Object  # as the API gave it

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def terminal(self) -> bool:
        """Whether it has ended: it uses nothing any more."""
        return self.phase in TERMINAL

    @property
    def cpu_cores(self) -> float:
        """Cores that it asks for."""
        return self.requests.get("cpu", 0.0)

    @property
    def memory_gib(self) -> float:
        """Main memory that it asks for, in GiB."""
        return self.requests.get("memory", 0.0) / GIB

    def held_by(self, gate: str) -> bool:
        """Whether that gate keeps it from being scheduled."""
        return gate in self.gates and not self.node and not self.terminal and not self.deleting

    def gpus(self, resources: tuple[str, ...]) -> float:
        """GPUs that it asks for, of any of the resources' names."""
        return sum(self.requests.get(name, 0.0) for name in resources)

    def extended(self, gpu_resources: tuple[str, ...]) -> dict[str, float]:
        """What it asks for that is neither cores, memory nor GPUs (a MIG slice, a network device), by resource."""
        known = KNOWN_RESOURCES.union(gpu_resources)
        return {name: amount for name, amount in self.requests.items() if name not in known and amount > 0}


def read_pod(manifest: Object) -> Pod:
    """The pod. Raises ObjectError, or ValueError of a time or quantity, telling the place."""
    meta, spec, status = part(manifest, "metadata"), part(manifest, "spec"), part(manifest, "status")
    name = text(meta, "name")
    if not name:
        raise ObjectError("'metadata.name' is absent")
    affinity, tolerations = required_terms(spec), parts(spec, "tolerations")
    return Pod(
        namespace=text(meta, "namespace") or "default",
        name=name,
        uid=text(meta, "uid"),
        resource_version=text(meta, "resourceVersion"),
        labels=texts(meta, "labels"),
        annotations=texts(meta, "annotations"),
        owner=_owner(meta),
        node=text(spec, "nodeName"),
        nominated_node=text(status, "nominatedNodeName"),
        phase=text(status, "phase") or "Pending",
        deleting=meta.get("deletionTimestamp") is not None,
        gates=tuple(text(gate, "name") for gate in parts(spec, "schedulingGates")),
        requests=requests(spec),
        node_selector=texts(spec, "nodeSelector"),
        affinity=affinity,
        tolerations=tolerations,
        priority=whole(spec, "priority"),
        priority_class=text(spec, "priorityClassName"),
        apart=_apart(spec),
        unmodelled=_unmodelled(spec),
        submitted_at=seconds(meta.get("creationTimestamp")),
        started_at=seconds(status.get("startTime")),
        deadline_s=_deadline_s(spec),
        group=text(spec, "schedulingGroup", "podGroupName"),
        wishes=sys.intern(repr((affinity, tolerations))),
        manifest=manifest,
    )


def bare_pod(manifest: object) -> Pod | None:
    """A pod without its demands, as far as a release without a pin needs it; None where not even that can be read."""
    try:
        meta, spec = part(as_object(manifest), "metadata"), part(as_object(manifest), "spec")
        return read_pod(
            {
                "metadata": {name: meta[name] for name in BARE_META if name in meta},
                "spec": {name: spec[name] for name in ("nodeName", "schedulingGates") if name in spec},
                "status": {"phase": text(as_object(manifest), "status", "phase")},
            }
        )
    except ValueError:
        return None


BARE_META = ("namespace", "name", "uid", "resourceVersion", "deletionTimestamp", "annotations")


def requests(spec: Object) -> dict[str, float]:
    """What a pod's spec asks of its node, by resource, as the scheduler counts it.

    Containers run together with the init containers that are restarted for ever (sidecars); another init container runs
    alone with the sidecars before it, so the larger of the two sums counts. Requests for the whole pod go before those of
    its containers; the overhead of its runtime class is added. Source: Kubernetes, ``k8s.io/component-helpers/resource``.
    Raises ObjectError.
    """
    sidecars: dict[str, float] = {}
    starting: dict[str, float] = {}
    for container in parts(spec, "initContainers"):
        asked = _asked(container)
        if text(container, "restartPolicy") == "Always":
            sidecars = _sum(sidecars, asked)
            asked = sidecars
        else:
            asked = _sum(sidecars, asked)
        starting = _larger(starting, asked)
    running = sidecars
    for container in parts(spec, "containers"):
        running = _sum(running, _asked(container))
    return _sum(_larger(running, starting) | amounts(spec, "resources", "requests"), amounts(spec, "overhead"))


def _asked(container: Object) -> dict[str, float]:
    """Requests; a resource with a limit alone asks for its limit."""
    return amounts(container, "resources", "limits") | amounts(container, "resources", "requests")


def _sum(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in {**one, **other}}


def _larger(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}}


def _owner(meta: Object) -> Owner | None:
    for reference in parts(meta, "ownerReferences"):
        if reference.get("controller") is True:
            return Owner(text(reference, "kind"), text(reference, "name"), text(reference, "uid"))
    return None


def _deadline_s(spec: Object) -> float | None:
    found = whole(spec, "activeDeadlineSeconds")
    return None if found is None else float(found)


def _apart(spec: Object) -> tuple[Object, ...]:
    terms = parts(spec, "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    return tuple(part(term, "labelSelector") for term in terms if text(term, "topologyKey") == HOSTNAME)


def _unmodelled(spec: Object) -> tuple[str, ...]:
    """Demands that only the scheduler can check: a plan may break them, so that such a pod must never be pinned hard."""
    found: list[str] = []
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    if parts(spec, "affinity", "podAffinity", required):
        found.append("required pod affinity")
    if parts(spec, "affinity", "podAntiAffinity", required):
        found.append("required pod anti-affinity")
    if any(text(one, "whenUnsatisfiable") != "ScheduleAnyway" for one in parts(spec, "topologySpreadConstraints")):
        found.append("a topology spread constraint")
    if parts(spec, "resourceClaims"):
        found.append("resource claims")
    if any("persistentVolumeClaim" in volume or "ephemeral" in volume for volume in parts(spec, "volumes")):
        found.append("volumes that may stand in one zone only")
    if any(port.get("hostPort") for container in parts(spec, "containers") for port in parts(container, "ports")):
        found.append("host ports")
    return tuple(found)

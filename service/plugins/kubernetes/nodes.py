"""One node as the API gives it, read: its size, its labels, whether it takes pods."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2s
from typing import TYPE_CHECKING

from models.vocabulary import Topology
from service.plugins.kubernetes.affinity import UNSCHEDULABLE
from service.plugins.kubernetes.fields import Object, ObjectError, amounts, part, parts, text, texts
from service.plugins.kubernetes.quantities import GIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.plugins.cluster import NodeState

MIB_PER_GIB = 1024
PRODUCT, MEMORY, REPLICAS = "nvidia.com/gpu.product", "nvidia.com/gpu.memory", "nvidia.com/gpu.replicas"
STATED_BY_FLAG = frozenset({UNSCHEDULABLE, "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"})

TOPOLOGY_LABELS: Mapping[str, tuple[str, ...]] = {
    "site": ("topology.kubernetes.io/zone", "topology.kubernetes.io/region"),
    "row": ("topology.quartermaster.dev/row", "network.topology.nvidia.com/spine", "cloud.google.com/gce-topology-block"),
    "rack": ("topology.quartermaster.dev/rack", "network.topology.nvidia.com/leaf", "cloud.google.com/gce-topology-subblock"),
    "nvlink_domain": ("nvidia.com/gpu.clique", "network.topology.nvidia.com/accelerator"),
}


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How objects are read. ``topology_labels`` are by level; the first of them that a node carries counts."""

    gate: str = "quartermaster.dev/plan"
    gpu_resources: tuple[str, ...] = ("nvidia.com/gpu",)
    topology_labels: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(TOPOLOGY_LABELS))
    namespaces: frozenset[str] = frozenset()  # whose pods may be opted in; empty: all
    hard: bool = False  # pods are pinned by their host name's label: a node without one of its own takes none


@dataclass(frozen=True, slots=True)
class Node:
    """A node. ``allocatable`` is by resource in its own unit."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Object, ...]
    unschedulable: bool
    ready: bool
    allocatable: Mapping[str, float]
    boot: str

    @property
    def state(self) -> NodeState:
        """A cordoned node keeps its pods; one that is not ready runs none."""
        if not self.ready:
            return "drained"
        return "cordoned" if self.unschedulable else "ready"

    @property
    def lasting_taints(self) -> tuple[Object, ...]:
        """The taints that say more than the state does already."""
        return tuple(taint for taint in self.taints if text(taint, "key") not in STATED_BY_FLAG)

    def gpus(self, resources: tuple[str, ...]) -> int:
        """GPUs that pods may ask for, of any of the resources' names."""
        return sum(int(self.allocatable.get(name, 0.0)) for name in resources)

    @property
    def gpu_memory_gib(self) -> float | None:
        """Memory of what counts as one GPU: a part of it where GPUs are shared in time."""
        try:
            replicas = max(int(self.labels.get(REPLICAS, "1")), 1)
            return int(self.labels[MEMORY]) / MIB_PER_GIB / replicas
        except (KeyError, ValueError):
            return None

    def topology(self, options: ReadingOptions) -> Topology:
        """Where it stands, as its labels tell."""
        found = {
            level: next((self.labels[name] for name in names if self.labels.get(name)), None)
            for level, names in options.topology_labels.items()
        }
        return Topology(**found)

    def version(self, options: ReadingOptions) -> str:
        """Another one as soon as the state, the size, a label, a taint or the boot is another; not with each heartbeat."""
        told = (
            self.state,
            sorted(self.labels.items()),
            sorted((text(taint, "key"), text(taint, "value"), text(taint, "effect")) for taint in self.taints),
            sorted((name, self.allocatable.get(name)) for name in ("cpu", "memory", "pods", *options.gpu_resources)),
            self.boot,
        )
        return blake2s(repr(told).encode(), digest_size=8).hexdigest()

    @property
    def cpu_cores(self) -> float:
        """Cores that pods may ask for."""
        return self.allocatable.get("cpu", 0.0)

    @property
    def memory_gib(self) -> float:
        """Main memory that pods may ask for, in GiB."""
        return self.allocatable.get("memory", 0.0) / GIB


def read_node(manifest: Object) -> Node:
    """The node. Raises ObjectError, telling the place."""
    name = text(manifest, "metadata", "name")
    if not name:
        raise ObjectError("'metadata.name' is absent")
    conditions = {text(one, "type"): text(one, "status") for one in parts(manifest, "status", "conditions")}
    status = part(manifest, "status")
    return Node(
        name=name,
        labels=texts(manifest, "metadata", "labels"),
        taints=parts(manifest, "spec", "taints"),
        unschedulable=part(manifest, "spec").get("unschedulable") is True
        or part(manifest, "metadata").get("deletionTimestamp") is not None,
        ready=conditions.get("Ready") == "True",
        allocatable=amounts(manifest, "status", "allocatable") if "allocatable" in status else amounts(manifest, "status", "capacity"),
        boot=text(manifest, "status", "nodeInfo", "bootID"),
    )

"""What a plugin sees of a cluster: its nodes, the jobs that wait and the jobs that run, in no scheduler's own words.

Times are seconds since the epoch by the scheduler's clock. Quantities of a job are per worker, as in ``placement``; a fraction
of a GPU is below 1 and of one GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from models.vocabulary import Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

NodeState = Literal["ready", "cordoned", "drained"]  # as in placement; a node that is down or unknown is drained


@dataclass(frozen=True, slots=True)
class SeenNode:
    """One machine. ``version`` changes with everything that a plan for the node rests on: its state, size, labels, its boot."""

    id: str
    version: str
    state: NodeState = "ready"
    gpu_model: str | None = None
    gpus: int = 0
    gpu_memory_gib: float | None = None  # of each GPU; None: not known, not limited
    cpu_cores: float = 0.0  # that jobs may use
    memory_gib: float = 0.0  # that jobs may use
    topology: Topology = field(default_factory=Topology)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """Where one worker of a running job is. ``gpus`` are indices, or None where the scheduler does not tell them."""

    node: str
    gpus: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class SeenJob:
    """One job: equal workers that start together (a Slurm job, a gang of pods, a pod).

    ``identity`` is another one as soon as the name means another job, or this one asks for something else: what was planned
    for one identity is never carried out for another. ``held``: the scheduler keeps the job back until the plugin releases
    it. ``workers_seen`` is smaller than ``workers`` while pods of a gang have not been created yet; such a gang is not planned.
    """

    id: str
    identity: str
    tenant: str = "default"
    workers: int = 1
    workers_seen: int | None = None  # None: all of them
    gpus_per_worker: float = 0.0
    gpu_memory_gib: float = 0.0
    cpu_cores: float = 0.0
    memory_gib: float = 0.0
    gpu_models: tuple[str, ...] = ()  # accepted; empty: any
    node_selector: Mapping[str, str] = field(default_factory=dict)
    nodes_allowed: frozenset[str] | None = None  # None: any; of a partition, an affinity, a list of excluded nodes
    together: str | None = None  # a level of the topology that all workers must share
    together_required: bool = True  # False: only preferred
    one_worker_per_node: bool = False
    priority: int = 1  # larger is more important
    opted_in: bool = False
    held: bool = False
    running: tuple[SeenWorker, ...] = ()  # empty: the job waits
    evictable: bool = False
    submitted_at: float | None = None
    started_at: float | None = None
    ends_at: float | None = None  # when it ends at the latest: its start plus its time limit; None: no limit is known
    time_limit_s: float | None = None  # of a job that waits: how long it runs at most once it has started; None: not known
    display: str = ""  # the name a person gave it, for sentences; empty: the id
    pinned: tuple[str, ...] = ()  # where the plugin pinned a released job that has not started: a node a worker, or each once

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.display or self.id

    @property
    def waits(self) -> bool:
        """Whether it has not started."""
        return not self.running

    @property
    def whole(self) -> bool:
        """Whether all its workers exist."""
        return self.workers_seen is None or self.workers_seen >= self.workers


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster at one time. ``scheduler`` is slurm or kubernetes. Ids are unique; workers stand on nodes that are listed."""

    scheduler: str
    taken_at: float
    nodes: tuple[SeenNode, ...]
    jobs: tuple[SeenJob, ...]
    warnings: tuple[str, ...] = ()  # what was seen and could not be taken over, a sentence each

    def node(self, name: str) -> SeenNode | None:
        """The node of that name, or None."""
        return next((node for node in self.nodes if node.id == name), None)

    def job(self, name: str) -> SeenJob | None:
        """The job of that id, or None."""
        return next((job for job in self.jobs if job.id == name), None)

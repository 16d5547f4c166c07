"""The placement Problem and Plan: the nodes of a cluster, the jobs that want GPUs, and who goes where.

Quantities of a job are per worker. Shares and amounts are exact to 1e-6; see README.md for the maths.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.contract import ContradictionError
from models.placement.checks import errors
from models.vocabulary import Count, Document, Id, Level, PositiveCount, PositiveQuantity, Quantity, Topology

MOST_GPUS = 1024  # of one node: far beyond any machine, and a slip of the keyboard must not fill the memory


class Rule(StrEnum):
    """The names of the rules a plan obeys: constraint names, violation names, and what explanations may cite."""

    node_cpu = "node_cpu"
    node_memory = "node_memory"
    node_gpus = "node_gpus"
    gpu_share = "gpu_share"
    gpu_memory = "gpu_memory"
    gang = "gang"
    accepted_model = "accepted_model"
    node_selector = "node_selector"
    drained = "drained"
    reserved = "reserved"
    tenant_quota = "tenant_quota"
    colocation = "colocation"
    spread = "spread"
    anti_affinity = "anti_affinity"
    running_stays = "running_stays"
    evictable = "evictable"
    move_budget = "move_budget"
    eviction_budget = "eviction_budget"
    power_cap = "power_cap"
    must_place = "must_place"


class Use(StrEnum):
    """What may happen to running jobs: nothing (place), moves (repack), or evictions for one named job (preempt)."""

    place = "place"
    repack = "repack"
    preempt = "preempt"


class GoalName(StrEnum):
    """What a plan can be good at; the Problem orders them."""

    placed_value = "placed_value"
    allocated_gpus = "allocated_gpus"
    evictions = "evictions"
    eviction_cost = "eviction_cost"
    moves = "moves"
    fragmentation = "fragmentation"
    topology_distance = "topology_distance"
    nodes_powered = "nodes_powered"
    balance = "balance"


class Node(Document):
    """One machine of the cluster."""

    id: Id
    gpu_model: str | None = Field(default=None, min_length=1, description="Model of the node's GPUs; left out on a node without GPUs.")
    gpus: Annotated[int, Field(ge=0, le=MOST_GPUS, strict=True)] = Field(default=0, description="How many GPUs the node has.")
    gpu_memory_gib: Quantity | None = Field(default=None, description="Memory of each GPU in GiB; left out: not limited.")
    cpu_cores: Quantity = Field(description="CPU cores that workers may use.")
    memory_gib: Quantity = Field(description="Main memory in GiB that workers may use.")
    topology: Topology = Field(default=Topology(), description="Where the node stands.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels that node selectors ask for.")
    state: Literal["ready", "cordoned", "drained"] = Field(
        default="ready", description="cordoned: takes no new worker, running ones stay; drained: no worker may be here at all."
    )
    reserved_for: Id | None = Field(default=None, description="Tenant whose new workers alone this node takes; left out: any tenant.")
    power_kw: Quantity = Field(default=0.0, description="Power in kW that the node draws when at least one worker is on it.")


class Colocate(Document):
    """All workers of the job inside one domain of a level of the topology."""

    level: Level
    required: bool = Field(default=True, description="False: only preferred, and counted by the goal topology_distance.")


class Spread(Document):
    """At most ``max_workers`` workers of the job inside any one domain of a level."""

    level: Level = Level.node
    max_workers: PositiveCount


class AntiAffinity(Document):
    """No worker of this job in the same domain of ``level`` as any worker of ``jobs``."""

    jobs: tuple[Id, ...] = Field(min_length=1)
    level: Level = Level.node


class WorkerPlace(Document):
    """One worker: its node and the indices of the GPUs it uses (one index when it has a fraction of a GPU)."""

    node: Id
    gpus: tuple[Count, ...] = ()


class Running(Document):
    """Where a job runs now, and what touching it costs."""

    workers: tuple[WorkerPlace, ...] = Field(min_length=1)
    move_cost: Quantity = Field(default=1.0, description="Cost of stopping and restarting the job, in a unit of the user's choice.")
    evictable: bool = Field(default=True, description="Whether the job may be evicted at all.")


class Job(Document):
    """One job: ``workers`` equal workers that run together or not at all (``workers_min`` makes the number elastic)."""

    id: Id
    tenant: Id = "default"
    workers: PositiveCount = Field(default=1, description="How many workers the job wants.")
    workers_min: PositiveCount | None = Field(default=None, description="Fewest workers it can run with; left out: all or none.")
    gpus_per_worker: Quantity = Field(description="GPUs of each worker: a whole number, or a fraction below 1 of a single GPU.")
    gpu_memory_gib: Quantity = Field(default=0.0, description="Memory in GiB that each worker needs on each of its GPUs.")
    cpu_cores: Quantity = Field(default=0.0, description="CPU cores of each worker.")
    memory_gib: Quantity = Field(default=0.0, description="Main memory in GiB of each worker.")
    model_speeds: dict[str, PositiveQuantity] = Field(
        default_factory=dict, description="Accepted GPU models with the job's relative speed on each; empty: any model, speed 1."
    )
    priority: Count = Field(default=1, description="Weight of the value; a job is evicted only for one of higher priority.")
    value: Quantity = Field(default=1.0, description="Value of the job when all its workers run at speed 1.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels that the job's nodes must carry.")
    colocate: Colocate | None = None
    spread: Spread | None = None
    anti_affinity: AntiAffinity | None = None
    running: Running | None = Field(default=None, description="Left out: the job waits.")


class Tenant(Document):
    """Who owns jobs, and how many GPUs all of them together may hold."""

    id: Id
    quota_gpus: Quantity | None = Field(default=None, description="Most GPUs (fractions counted as such); left out: no quota.")


Logit = Annotated[float, Field(ge=-50, le=50, allow_inf_nan=False)]


class SharingClass(Document):
    """Jobs that bear company on a GPU alike, in logits of the speed that is left."""

    id: Id
    jobs: tuple[Id, ...] = Field(min_length=1, description="The jobs of the class; a job is of one class at most.")
    sensitivity: Logit = Field(default=0.0, description="How well they bear others: a logit, larger is faster.")
    pressure: Logit = Field(default=0.0, description="How little they trouble others: a logit, larger leaves them faster.")


class Interference(Document):
    """What jobs that share a GPU leave of each other's speed; told of a plan, not decided by.

    Of a job a beside a job b the speed y, relative to alone, has logit(0.05 + 0.9 y) = level + sensitivity(a) + pressure(b).
    """

    level: Logit = Field(default=0.0, description="Logit of the usual speed of two jobs beside each other.")
    classes: tuple[SharingClass, ...] = Field(min_length=1)


class Problem(Document):
    """A cluster, its jobs, what may happen to running ones, and what the plan should be good at."""

    schema_version: Literal[1] = 1
    use: Use = Use.place
    nodes: tuple[Node, ...] = Field(min_length=1)
    jobs: tuple[Job, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    preempt_for: Id | None = Field(default=None, description="use = preempt: the job that must be placed.")
    max_moves: Count | None = Field(
        default=None, description="use = repack: most jobs that may run elsewhere than now; left out: any number."
    )
    max_evictions: Count | None = Field(
        default=None, description="Most jobs that may be evicted; left out: none in a repack, any number in a preemption."
    )
    power_cap_kw: PositiveQuantity | None = Field(default=None, description="Most power in kW that the nodes in use may draw together.")
    interference: Interference | None = Field(
        default=None, description="How sharing a GPU slows jobs down; plans are told what it does to them, and are not chosen by it."
    )
    goals: tuple[GoalName, ...] = Field(default=(), description="Goals, the most important first; empty: the usual ones for the use.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ContradictionError.refuse(errors(self))
        return self

    def ordered_goals(self) -> tuple[GoalName, ...]:
        """The goals in order, the usual ones of the use when none are given."""
        return self.goals or _USUAL_GOALS[self.use]


_USUAL_GOALS: dict[Use, tuple[GoalName, ...]] = {
    Use.place: (GoalName.placed_value, GoalName.allocated_gpus),
    Use.repack: (GoalName.placed_value, GoalName.moves),
    Use.preempt: (GoalName.evictions, GoalName.eviction_cost),
}


class JobPlacement(Document):
    """One placed job and its workers."""

    job: Id
    workers: tuple[WorkerPlace, ...] = Field(min_length=1)


class Plan(Document):
    """Who runs where. A job that is not listed does not run."""

    schema_version: Literal[1] = 1
    placements: tuple[JobPlacement, ...] = ()
    moved: tuple[Id, ...] = Field(default=(), description="Running jobs that run elsewhere in this plan.")
    evicted: tuple[Id, ...] = Field(default=(), description="Running jobs that do not run in this plan.")


def example() -> Problem:
    """A small problem of every day: see ``examples.place``."""
    from models.placement.examples import place

    return place()

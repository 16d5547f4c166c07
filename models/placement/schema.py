"""The placement Problem and Plan: the nodes of a cluster, the jobs that want GPUs, and who goes where.

Quantities of a job are per worker. Shares and amounts are exact to 1e-6; see README.md for the maths.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.placement.checks import check_problem
from models.vocabulary import Count, Document, Id, Level, PositiveCount, PositiveQuantity, Quantity, Topology


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
    gpus: Count = Field(default=0, description="How many GPUs the node has.")
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
    priority: Annotated[int, Field(ge=0, strict=True)] = Field(
        default=1, description="Weight of the value; a job is evicted only for one of higher priority."
    )
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
    goals: tuple[GoalName, ...] = Field(default=(), description="Goals, the most important first; empty: the usual ones for the use.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_problem(self)
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
    """A small problem of every day: three racks, two GPU models, two tenants, gangs, fractions and one running job."""
    racks = {"r1": "H100", "r2": "H100", "r3": "L40S"}
    nodes = tuple(
        Node(
            id=f"{rack}-n{number}",
            gpu_model=model,
            gpus=8 if model == "H100" else 4,
            gpu_memory_gib=80.0 if model == "H100" else 48.0,
            cpu_cores=128.0,
            memory_gib=1024.0,
            topology=Topology(site="s1", row="a", rack=rack, nvlink_domain=f"{rack}-n{number}"),
            power_kw=10.0 if model == "H100" else 3.0,
        )
        for rack, model in racks.items()
        for number in (1, 2)
    )
    jobs = (
        Job(id="train-llm", tenant="research", workers=2, gpus_per_worker=8, cpu_cores=64.0, memory_gib=512.0, priority=5, value=16.0,
            model_speeds={"H100": 1.0}, colocate=Colocate(level=Level.rack)),
        Job(id="train-vision", tenant="research", workers=4, workers_min=2, gpus_per_worker=2, cpu_cores=16.0, memory_gib=128.0, priority=3,
            value=8.0, model_speeds={"H100": 1.0, "L40S": 0.4}),
        Job(id="tune", tenant="product", workers=3, gpus_per_worker=4, cpu_cores=32.0, memory_gib=256.0, priority=2, value=12.0,
            model_speeds={"H100": 1.0, "L40S": 0.5}, spread=Spread(level=Level.node, max_workers=1)),
        Job(id="serve-a", tenant="product", gpus_per_worker=0.6, gpu_memory_gib=30.0, cpu_cores=8.0, memory_gib=64.0, priority=4,
            anti_affinity=AntiAffinity(jobs=("serve-b",))),
        Job(id="serve-b", tenant="product", gpus_per_worker=0.6, gpu_memory_gib=30.0, cpu_cores=8.0, memory_gib=64.0, priority=4),
        Job(id="notebook", tenant="research", gpus_per_worker=0.25, gpu_memory_gib=10.0, cpu_cores=4.0, memory_gib=32.0),
        Job(id="batch", tenant="product", workers=2, gpus_per_worker=8, cpu_cores=96.0, memory_gib=512.0, value=10.0,
            running=Running(workers=(WorkerPlace(node="r1-n1", gpus=tuple(range(8))), WorkerPlace(node="r1-n2", gpus=tuple(range(8)))))),
    )  # fmt: skip
    tenants = (Tenant(id="research", quota_gpus=24.0), Tenant(id="product", quota_gpus=32.0))
    return Problem(nodes=nodes, jobs=jobs, tenants=tenants)

"""The Problem and Plan of sharing GPU time: accelerators, workloads, jobs in; mean shares of time out. README.md has the maths.

Speeds are in steps/s of one job (its whole gang), money in USD per hour, times in seconds on one clock, whose present is ``now_s``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.contract import ContradictionError
from models.fairshare.checks import errors
from models.fairshare.proofs.schema import Price, Round
from models.vocabulary import Count, Document, Id, PositiveCount, PositiveQuantity, Quantity

Time = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]
Priority = Annotated[int, Field(ge=-1000, le=1000)]


class Policy(StrEnum):
    """What a division of GPU time is best in."""

    max_min_fair = "max_min_fair"
    finish_time_fair = "finish_time_fair"
    makespan = "makespan"
    throughput = "throughput"
    least_cost = "least_cost"
    proportional_fair = "proportional_fair"
    hierarchical = "hierarchical"


LEVEL_POLICIES = frozenset((Policy.max_min_fair, Policy.finish_time_fair, Policy.makespan))  # each job has a level of its own


class GoalName(StrEnum):
    """Names of goals; where jobs have several priorities, the name is followed by ``[priority]``."""

    fair_share = "fair_share"
    finish_time_ratio = "finish_time_ratio"
    makespan = "makespan"
    fair_slack = "fair_slack"
    throughput = "throughput"
    cost = "cost"
    geometric_mean = "geometric_mean"


class Rule(StrEnum):
    """The names of what a plan obeys."""

    job_time = "job_time"
    accelerator_capacity = "accelerator_capacity"
    packed_capacity = "packed_capacity"
    job_budget = "job_budget"
    deadline = "deadline"
    least_share = "least_share"
    runnable = "runnable"
    fairness_proof = "fairness_proof"


class Accelerator(Document):
    """A type of GPU and how many there are of it."""

    id: Id
    count: Count = Field(description="How many GPUs.")
    usd_per_hour: Quantity = Field(default=0.0, description="USD per hour of one GPU in use.")
    gpus_per_node: PositiveCount = Field(default=8, description="GPUs of one node, for leases.")
    packed_gpus: Count | None = Field(
        default=None, description="GPUs in blocks whole enough for consolidated gangs of several GPUs; null: all."
    )


class Speed(Document):
    """How fast a workload's gang runs on an accelerator. An accelerator that is not listed: it cannot run there."""

    accelerator: Id
    steps_per_s: PositiveQuantity = Field(description="Steps/s of the gang, alone and consolidated.")
    slow_steps_per_s: PositiveQuantity | None = Field(
        default=None, description="Steps/s when it goes badly (the 10th percentile); null: never slower. For the robust budget."
    )
    spread_steps_per_s: PositiveQuantity | None = Field(
        default=None, description="Steps/s of a gang of several GPUs that is not consolidated; null: it is always consolidated."
    )


class Workload(Document):
    """What jobs of one sort have in common: the gang's size and its speed on each accelerator."""

    id: Id
    gpus: PositiveCount = Field(default=1, description="GPUs that a job holds at once: the size of its gang.")
    speeds: tuple[Speed, ...]


class SpeedColumn(Document):
    """Speeds on one accelerator, one item for each workload of the table; null: the workload cannot run there."""

    accelerator: Id
    steps_per_s: tuple[PositiveQuantity | None, ...] = Field(description="Steps/s of the gang, alone and consolidated.")
    slow_steps_per_s: tuple[PositiveQuantity | None, ...] | None = None
    spread_steps_per_s: tuple[PositiveQuantity | None, ...] | None = None


class WorkloadTable(Document):
    """Workloads as columns, for very many: every column has one item for each workload."""

    id: tuple[Id, ...]
    gpus: tuple[PositiveCount, ...] | None = Field(default=None, description="Left out: 1.")
    speeds: tuple[SpeedColumn, ...]


class PairSpeed(Document):
    """Speeds of two jobs whose gangs share the same GPUs. Two jobs of one workload have the same speed in it."""

    accelerator: Id
    first: Id = Field(description="A workload.")
    second: Id = Field(description="A workload, perhaps the same; its gang is as large.")
    first_steps_per_s: PositiveQuantity
    second_steps_per_s: PositiveQuantity


class Tenant(Document):
    """Who shares with others as one, under the policy ``hierarchical``."""

    id: Id
    weight: PositiveQuantity = Field(default=1.0, description="Share among tenants: a number without unit.")
    within: Literal["fair", "fifo"] = Field(
        default="fair", description="Its jobs rise together by their weights, or one after another in the order of arrival."
    )


class Job(Document):
    """A job, or ``count`` identical ones, each of which gets the same."""

    id: Id
    workload: Id
    count: PositiveCount = Field(default=1, description="How many identical ones.")
    weight: PositiveQuantity = Field(default=1.0, description="Share among jobs: a number without unit.")
    tenant: Id | None = None
    priority: Priority = Field(default=0, description="Classes are served one after another, the largest number first.")
    remaining_steps: PositiveQuantity | None = Field(default=None, description="Steps that are still to do.")
    total_steps: PositiveQuantity | None = Field(default=None, description="Steps from start to end; left out: what remains.")
    arrival_s: Time = 0.0
    deadline_s: Time | None = Field(default=None, description="Seconds on the clock of now_s; kept by least_cost.")
    budget_usd_per_hour: Quantity | None = Field(default=None, description="USD per hour that one job may cost on average; null: any.")


class JobTable(Document):
    """Jobs as columns, for very many. Columns left out have the defaults of ``Job``."""

    id: tuple[Id, ...] | None = Field(default=None, description="Left out: j0, j1, j2, ...")
    workload: tuple[Id, ...]
    count: tuple[PositiveCount, ...] | None = Field(default=None, description="Left out: 1.")
    weight: tuple[PositiveQuantity, ...] | None = Field(default=None, description="Left out: 1.")
    tenant: tuple[Id | None, ...] | None = None
    priority: tuple[Priority, ...] | None = Field(default=None, description="Left out: 0.")
    remaining_steps: tuple[PositiveQuantity | None, ...] | None = Field(default=None, description="Steps that are still to do.")
    total_steps: tuple[PositiveQuantity | None, ...] | None = Field(default=None, description="Steps in all; left out: what remains.")
    arrival_s: tuple[Time, ...] | None = None
    deadline_s: tuple[Time | None, ...] | None = None
    budget_usd_per_hour: tuple[Quantity | None, ...] | None = Field(default=None, description="USD per hour; null: any.")


class Factor(Document):
    """In a scenario, speeds of this workload on this accelerator are multiplied; left out: of all workloads, on all accelerators."""

    workload: Id | None = None
    accelerator: Id | None = None
    factor: PositiveQuantity = Field(description="Multiplies speeds, those of pairs too; a number without unit.")


class Scenario(Document):
    """Speeds as they may turn out. Factors that meet are multiplied with each other."""

    id: Id
    factors: tuple[Factor, ...] = ()


class Robust(Document):
    """What speeds the plan is judged by: the worst within a budget, or the worst of listed scenarios. Exactly one of the two.

    With a budget, up to that many of a job's accelerators (a part of one, too) run it as slowly as ``slow_steps_per_s`` says, whichever
    hurts it most (D. Bertsimas, M. Sim, "The Price of Robustness", 2004). Speeds in pairs and of spread gangs fall by the same factor.
    """

    budget: Quantity | None = Field(default=None, description="How many accelerators are slow for a job at once; need not be whole.")
    scenarios: tuple[Scenario, ...] = Field(default=(), description="The worst of these counts, and no other speeds.")


class Problem(Document):
    """Accelerators, and the jobs that share their time."""

    schema_version: Literal[1] = 1
    policy: Policy = Policy.max_min_fair
    now_s: Time = 0.0
    accelerators: tuple[Accelerator, ...]
    workloads: tuple[Workload, ...] = ()
    workload_table: WorkloadTable | None = Field(default=None, description="In place of ``workloads``.")
    pairs: tuple[PairSpeed, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    jobs: tuple[Job, ...] = ()
    job_table: JobTable | None = Field(default=None, description="In place of ``jobs``.")
    share_gpus: bool = Field(default=True, description="Whether two jobs may share GPUs as ``pairs`` says.")
    least_share: Quantity = Field(
        default=0.0, description="For least_cost: jobs without a deadline get at least this multiple of their speed under equal split."
    )
    robust: Robust | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ContradictionError.refuse(errors(self))
        return self

    def ordered_goals(self) -> tuple[str, ...]:
        """The goals' names, the most important first."""
        from models.fairshare.goals import goal_names

        return goal_names(self)


class Share(Document):
    """Mean number of gangs that run on an accelerator: of a job alone, or of two jobs on the same GPUs.

    Of a job with a count it is the number of gangs of all its copies together, and two of its copies may share GPUs: (id, id).
    """

    jobs: tuple[Id, ...] = Field(min_length=1, max_length=2)
    accelerator: Id
    spread: bool = Field(default=False, description="The gangs are not consolidated.")
    gangs: Quantity = Field(description="Mean number of gangs, each of as many GPUs as its workload says.")


class ShareTable(Document):
    """Shares as columns; every column has one item for each share."""

    first: tuple[Id, ...] = Field(description="A job.")
    second: tuple[Id | None, ...] | None = Field(default=None, description="The job beside it; null or left out: none.")
    accelerator: tuple[Id, ...]
    spread: tuple[bool, ...] | None = Field(default=None, description="Left out: all are consolidated.")
    gangs: tuple[Quantity, ...] = Field(description="Mean number of gangs.")


class Plan(Document):
    """Shares of time, the rounds of water-filling with their proofs, and what one more GPU is worth."""

    schema_version: Literal[1] = 1
    shares: tuple[Share, ...] = ()
    share_table: ShareTable | None = Field(default=None, description="In place of ``shares``.")
    rounds: tuple[Round, ...] = ()
    prices: tuple[Price, ...] = Field(default=(), description="Worth of one more GPU to the first goal, where it was proved.")

    @model_validator(mode="after")
    def _once(self) -> Self:
        from models.fairshare.checks import plan_errors

        ContradictionError.refuse(plan_errors(self))
        return self


def example() -> Problem:
    """A small cluster: see ``examples``."""
    from models.fairshare.examples import cluster

    return cluster()

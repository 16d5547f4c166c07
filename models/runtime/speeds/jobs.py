"""Jobs that share devices: a ``JobSpec`` with how many there are of it, what it may ask for, and what was measured of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from models.runtime.job import JobSpec
from models.runtime.operators import Work
from models.vocabulary import Document, Id, PositiveCount, PositiveQuantity, Quantity

Time = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False, description="Seconds on one clock, whose present is now_s.")]
LIKE = frozenset({"measured_steps_per_s", "work"})  # what two jobs of one workload must agree in, beside the network
FOR_SHARING = ("count", "weight", "tenant", "priority", "total_steps", "arrival_s", "deadline_s", "budget_usd_per_hour")


class SharedJob(JobSpec):
    """A job as ``JobSpec`` describes it, and what a share of time depends on; ``steps`` are those still to do, 0: nobody knows."""

    count: PositiveCount = Field(default=1, description="How many identical ones.")
    weight: PositiveQuantity = Field(default=1.0, description="Share among jobs: a number without unit.")
    tenant: str | None = Field(default=None, min_length=1, max_length=253)
    priority: int = Field(default=0, ge=-1000, le=1000, description="Classes are served one after another, the largest number first.")
    total_steps: PositiveQuantity | None = Field(default=None, description="Steps from start to end; left out: those still to do.")
    arrival_s: Time = 0.0
    deadline_s: Time | None = None
    budget_usd_per_hour: Quantity | None = Field(default=None, description="USD per hour that one may cost; left out: any.")
    work: Work | None = Field(default=None, description="Counted work of a traced job.")
    measured_steps_per_s: dict[str, PositiveQuantity] = Field(
        default_factory=dict, description="Steps/s by the name of the device, in place of the prediction."
    )

    @property
    def spec(self) -> JobSpec:
        """The job as the predictor takes it."""
        return JobSpec.model_construct(**{name: getattr(self, name) for name in JobSpec.model_fields})

    @property
    def likeness(self) -> str:
        """What is the same for two jobs that run alike."""
        alike = (set(JobSpec.model_fields) - {"id", "steps"}) | LIKE
        return self.model_dump_json(include=alike)

    def document(self, workload: str) -> dict[str, Any]:
        """The job of a problem, without what is usual."""
        told = self.model_dump(mode="json", include=set(FOR_SHARING), exclude_defaults=True)
        steps = {"remaining_steps": float(self.steps)} if self.steps else {}
        return {"id": self.id, "workload": workload, **told, **steps}


class SharedTenant(Document):
    """Who shares with others as one, under the policy ``hierarchical``."""

    id: Id
    weight: PositiveQuantity = Field(default=1.0, description="Share among tenants: a number without unit.")
    within: Literal["fair", "fifo"] = Field(default="fair", description="Its jobs rise together, or one after another.")


class SharedJobs(Document):
    """Jobs that share devices; ``{"jobs": [JobSpec, ...]}`` is one of these, each job once."""

    now_s: Time = 0.0
    tenants: tuple[SharedTenant, ...] = ()
    jobs: tuple[SharedJob, ...]

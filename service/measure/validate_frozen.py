"""What is written down before anything runs: model, jobs, predictions and schedules, and the SHA-256 that later results must name.

``freeze`` writes one JSON file and its hash beside it. ``thawed`` reads both and refuses a file that is not the one that was hashed; what
is executed is what it returns, so nothing that is executed can differ from what was frozen.
"""

from __future__ import annotations

import hashlib
import os
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from models.contract import ContradictionError, Warned
from models.runtime.job import JobSpec
from models.runtime.records import Machine
from models.vocabulary import Count, Document, PositiveCount, Quantity
from service.measure.validate_times import Model, PilotJob, Seconds

if TYPE_CHECKING:
    from pathlib import Path

    from models.program import Floats, Ints

FROZEN = "frozen.json"
FORECASTS = {"model": "p50", "naive": "naive_s", "log-ridge": "ridge_s"}


class FrozenError(ValueError):
    """A frozen file that is missing, unreadable, or not the one that was hashed."""


class Policy(StrEnum):
    """Who decides where jobs run."""

    optimal = "optimal"
    fifo = "fifo"
    round_robin = "round-robin"
    lpt = "lpt"
    random = "random"


class Place(Document):
    """One device: its name, what kind of model tells of it, what it really is, and the metric of its jobs."""

    name: str
    kind: str
    title: str
    metric: Literal["cpu_s", "wall_s"]


class PlannedJob(Document):
    """One job with what it is predicted to take on each device, in the order of the devices; None: it does not fit there."""

    batch: Count
    job: JobSpec
    on: tuple[Seconds | None, ...]


class Schedule(Document):
    """Where the jobs of a batch run, or in which order they queue for the device that is free first. Jobs are told by their position."""

    devices: tuple[Count, ...] | None = Field(default=None, description="The device of each job.")
    queue: tuple[Count, ...] | None = Field(default=None, description="The order in which jobs go to the first free device.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.devices is None) == (self.queue is None):
            ContradictionError.refuse([Warned("", "one_of_two", "a schedule has devices or a queue, one of them")])
        return self


class PlannedBatch(Document):
    """The schedules of a batch by policy, the bound that is proved for the optimal one, and those of simpler forecasts."""

    batch: Count
    schedules: dict[Policy, Schedule]
    bound_s: Quantity = Field(description="No schedule of the predicted times ends earlier.")
    proved: bool = Field(description="Whether the schedule meets the bound, up to the solver's gap.")
    solve_s: Quantity = 0.0
    by_forecast: dict[str, Schedule] = Field(default_factory=dict, description="The best schedules of simpler forecasts, to be replayed.")


class PlannedRun(Document):
    """One execution: the jobs of a batch under a policy. Runs are made in their order."""

    batch: Count
    policy: Policy
    repeat: Count = Field(default=0, description="1: the same schedule again, for the noise floor.")


class Frozen(Document):
    """The whole file."""

    schema_version: Literal[1] = 1
    date: str
    command: str
    seed: Count
    at_once: bool = Field(description="Devices run at the same time; otherwise one after the other (serial replay).")
    robust_budget: Quantity = 0.0
    machine: Machine
    places: tuple[Place, ...] = Field(min_length=1)
    models: dict[str, Model]
    pilot: tuple[PilotJob, ...] = ()
    jobs: tuple[PlannedJob, ...] = Field(min_length=1)
    batches: tuple[PlannedBatch, ...] = Field(min_length=1)
    runs: tuple[PlannedRun, ...] = Field(min_length=1)
    attempts: PositiveCount = 2
    warnings: tuple[str, ...] = ()

    def of(self, batch: int) -> tuple[PlannedJob, ...]:
        """The jobs of a batch, in their order of arrival."""
        return tuple(job for job in self.jobs if job.batch == batch)

    def times(self, batch: int, what: str = "p50") -> Floats:
        """Predicted seconds (J, D) of a batch's jobs: a percentile, ``naive_s`` or ``ridge_s``; inf where a job does not fit."""
        return np.array([[np.inf if one is None else seconds_of(one, what) for one in job.on] for job in self.of(batch)])

    def plan(self, batch: int) -> PlannedBatch:
        """What was decided for a batch."""
        return next(plan for plan in self.batches if plan.batch == batch)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ContradictionError.refuse(_errors(self))
        return self


def freeze(folder: Path, frozen: Frozen) -> str:
    """Writes the file and its hash, on disk before this returns; returns the hash. Raises FrozenError over an earlier one."""
    path = folder / FROZEN
    if path.exists():
        raise FrozenError(f"{path}: predictions are frozen here already; give another folder, or --resume to go on with these")
    folder.mkdir(parents=True, exist_ok=True)
    data = (frozen.model_dump_json(indent=1, exclude_none=True) + "\n").encode()
    digest = hashlib.sha256(data).hexdigest()
    _written(path, data)
    _written(folder / f"{FROZEN}.sha256", f"{digest}  {FROZEN}\n".encode())
    return digest


def thawed(folder: Path) -> tuple[Frozen, str]:
    """What was frozen, and its hash. Raises FrozenError for what is not there or has changed since."""
    path, beside = folder / FROZEN, folder / f"{FROZEN}.sha256"
    if not path.is_file() or not beside.is_file():
        raise FrozenError(f"{folder}: there is no {FROZEN} with its .sha256 in it; nothing was frozen here")
    data = path.read_bytes()
    digest, noted = hashlib.sha256(data).hexdigest(), beside.read_text(encoding="utf-8").split()[0]
    if digest != noted:
        raise FrozenError(f"{path}: has changed since it was frozen (SHA-256 {digest[:12]}..., noted {noted[:12]}...): nothing is executed")
    try:
        return Frozen.model_validate_json(data), digest
    except ValidationError as error:
        raise FrozenError(f"{path}: {error.errors()[0]['msg']}") from None


def assignment(schedule: Schedule, times: Floats) -> Ints:
    """The device of each job (J,): as decided, or as the queue would go with these times."""
    from models.runtime.schedules.rules import listed

    return listed(times, schedule.queue) if schedule.queue is not None else np.array(schedule.devices)


def seconds_of(seconds: Seconds, what: str) -> float:
    """A percentile of a prediction, or what a simpler form says; inf where that says nothing."""
    value = getattr(seconds, what)
    return np.inf if value is None else float(value)


def _written(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _errors(frozen: Frozen) -> list[Warned]:
    wrong = []
    devices = len(frozen.places)
    wrong += [
        Warned("/jobs", "devices", f"{job.job.id} has {len(job.on)} predictions for {devices} devices")
        for job in frozen.jobs
        if len(job.on) != devices
    ]
    for plan in frozen.batches:
        count = len(frozen.of(plan.batch))
        for name, schedule in (*plan.schedules.items(), *plan.by_forecast.items()):
            told = schedule.devices if schedule.devices is not None else schedule.queue or ()
            least = set(range(count)) if schedule.queue is not None else set()
            if len(told) != count or (least and set(told) != least) or (not least and max(told, default=0) >= devices):
                wrong.append(
                    Warned(f"/batches/{plan.batch}", "schedule", f"the schedule {name} does not place the {count} jobs of its batch")
                )
    missing = [
        run
        for run in frozen.runs
        if run.batch not in {plan.batch for plan in frozen.batches} or run.policy not in frozen.plan(run.batch).schedules
    ]
    wrong += [Warned("/runs", "run", f"batch {run.batch} has no schedule {run.policy.value}") for run in missing]
    return wrong

"""What the answers about studies hold, for the OpenAPI document and the clients made from it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from service.api.schemas import FindingShown, Moment, Outcome, Shown, StopReason, Version
from service.runs.states import State

StudyState = Literal["queued", "running", "cancelling", "finished", "cancelled"]


class RunCounts(Shown):
    """How many runs of a study are in each state; ``working`` are those that a worker has."""

    queued: int
    working: int
    succeeded: int
    failed: int
    cancelled: int


class GateShown(Shown):
    """One condition of a gate on one scenario."""

    gate: str
    scenario: str
    replicate: int
    metric: str
    condition: str
    proved: bool = Field(description="False for what only the plans found show.")
    text: str
    standing: Literal["passed", "failed", "undecided"]
    spare: list[float | None] | None = Field(description="The certain span of what is left before the condition breaks.")


class ConclusionsShown(Shown):
    """What the answers of a study prove together."""

    goal: str | None = Field(description="The first goal, in which scenarios are compared; null where no scenario has a plan.")
    recommendation: str = Field(description="One paragraph, computed from the numbers.")
    best: str | None = Field(description="The scenario that is recommended, by its label; null where none is.")
    certain: bool = Field(description="Whether it is proved that no other is better.")
    next_steps: list[str]
    gates: list[GateShown]
    standing: Literal["passed", "failed", "undecided"] | None = Field(description="Of all gates together; null for a study without gates.")
    paired: list[dict[str, Any]] = Field(description="Statistics over the replicates, for each combination.")
    answered: int = Field(description="Scenarios with a verified plan, or the proof that there is none.")
    failed: int = Field(description="Scenarios with a reason in place of an answer.")


class StudyShown(Shown):
    """A study. Each of its runs is looked at by its own id, which the table tells."""

    schema_version: Version
    id: str
    name: str
    title: str
    kind: str
    state: StudyState
    problem_id: str = Field(description="The base problem.")
    scenarios: int
    runs: int = Field(description="Different questions, each a run; scenarios that ask the same share one. All asks together are one more.")
    counts: RunCounts
    progress: float = Field(ge=0, le=1, description="Share of the runs that have ended.")
    priority: int
    created_at: Moment
    warnings: list[FindingShown] = Field(description="Of a small base problem; of a large one, `:validate` tells them.")
    conclusions: ConclusionsShown | None = Field(description="Once every run has ended; null before, and in lists.")
    asks: list[dict[str, Any]] | None = Field(
        description="The asks that are answered so far, each with its answer, a sentence and, where there is none, the reason as "
        "failure; all once every run has ended. `open` is true of one that a cancel or the deadline cut short: the same study sent again "
        "goes on with it. Null for a study without asks, and in lists."
    )
    links: dict[str, str]


class StudyPage(Shown):
    """Some studies, the newest first."""

    schema_version: Version
    studies: list[StudyShown]
    next: str | None = Field(description="The cursor of the next page; null on the last.")


class StudyValidity(Shown):
    """Whether a study could run as it stands, and how many scenarios it has."""

    schema_version: Version
    valid: bool
    scenarios: int | None
    runs: int | None = Field(description="Different questions, each of which would be a run; all asks together would be one more.")
    errors: list[FindingShown]
    warnings: list[FindingShown]


class GoalOfRow(Shown):
    """What is proved of one goal. An unknown bound or gap is null."""

    name: str
    sense: Literal["maximise", "minimise"]
    unit: str
    objective: float
    bound: float | None
    gap: float | None
    method: str


class RowShown(Shown):
    """The answer of one question, or the reason why there is none (``failure``)."""

    key: str = Field(description="The address of the answer by its content.")
    outcome: Outcome | None
    stop_reason: StopReason | None
    goals: list[GoalOfRow]
    metrics: dict[str, float]
    verified: bool
    seconds: float
    strategy: str
    message: str
    refuted: list[str] = Field(description="The rules that conflict, where it is proved that no plan exists.")
    failure: str | None
    attempts: int
    versions: dict[str, str]


class DifferenceShown(Shown):
    """B against A in one goal or metric: the certain span of their optima's difference, and what the plans found have."""

    a: str
    b: str
    name: str
    sense: str
    unit: str
    finding: str
    certain: bool
    absolute: list[float | None] | None = Field(description="Optimum of B less that of A: low and high end; null for no end.")
    relative: list[float | None] | None
    plans: dict[str, float | None] | None
    would_decide: list[str] = Field(description="What would decide what is left open.")
    tolerance: float
    sentence: str
    text: str


class LineShown(Shown):
    """One scenario: its values, its run, and its row once the run has ended."""

    scenario: str
    label: str
    baseline: bool
    replicate: int
    values: dict[str, Any]
    spend_usd: float | None
    run: str
    state: State
    row: RowShown | None
    difference: DifferenceShown | None = Field(description="From the baseline of the same replicate, in the first goal.")


class StudyTableShown(Shown):
    """The table of a study, as far as it is known."""

    schema_version: Version
    study: str
    goal: str | None
    missing: int = Field(description="Scenarios that are not answered yet.")
    rows: list[LineShown]
    asks: list[dict[str, Any]] = Field(description="The asks that are answered so far, as the study shows them.")


class StudyDifference(Shown):
    """The certified difference of two scenarios."""

    schema_version: Version
    study: str
    difference: DifferenceShown


class StudyCharts(Shown):
    """Pictures of a study as Vega-Lite specifications."""

    schema_version: Version
    study: str
    charts: dict[str, dict[str, Any]] = Field(description="By name: tornado, trade_off, heat_map, along_<axis>; those that the study has.")

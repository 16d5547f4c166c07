"""What responses hold, for the OpenAPI document and the clients made from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.runs.states import State

Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", description="RFC 3339, UTC.")]
Outcome = Literal["optimal", "feasible", "infeasible", "unbounded", "no_plan"]
StopReason = Literal["gap", "deadline", "cancelled", "memory", "crash"]
Version = Annotated[Literal[1], Field(description="Version of this document's form.")]


class Shown(BaseModel):
    """A response."""

    model_config = ConfigDict(extra="forbid")


class FindingShown(Shown):
    """One mistake or warning: the JSON pointer of its place, a stable code, and what to do."""

    pointer: str
    code: str
    detail: str


class ProblemDocument(Shown):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str = Field(description="Stable; programs may compare it.")
    detail: str
    errors: list[FindingShown]
    request_id: str | None = Field(default=None, description="As in X-Request-Id; absent when the head of the request was refused unread.")
    retry_after_s: float | None = Field(default=None, description="When to ask again.")


class KindListed(Shown):
    """One kind of decision."""

    kind: str
    summary: str
    links: dict[str, str]


class Kinds(Shown):
    """The kinds of decision."""

    schema_version: Version
    kinds: list[KindListed]


class Schemas(Shown):
    """JSON Schemas."""

    problem: dict[str, Any]
    plan: dict[str, Any]


class Example(Shown):
    """A small problem to start from."""

    problem: dict[str, Any]


class KindShown(Shown):
    """All there is to know of a kind."""

    model_config = ConfigDict(populate_by_name=True)

    schema_version: Version
    kind: str
    summary: str
    schemas: Schemas = Field(alias="schema", description="JSON Schemas of problem and plan.")
    example: Example = Field(description="The usual one.")
    examples: dict[str, Example] = Field(description="All of them by name; empty for a kind that has only the usual one.")
    page: str = Field(description="The kind's page: the decision, its rules and goals, in Markdown.")


class Validity(Shown):
    """Whether a problem could be solved as it stands."""

    schema_version: Version
    kind: str
    valid: bool
    problem_id: str | None = Field(description="The id that the problem has or would have; null for one that is not valid.")
    errors: list[FindingShown]
    warnings: list[FindingShown]


class ProblemKept(Shown):
    """A kept problem without its content."""

    schema_version: Version
    id: str
    kind: str
    bytes: int = Field(description="Size of its canonical JSON.")
    parent: str | None
    warnings: list[FindingShown]
    links: dict[str, str]


class ProblemShown(Shown):
    """A kept problem."""

    schema_version: Version
    id: str
    kind: str
    parent: str | None
    warnings: list[FindingShown]
    problem: dict[str, Any]


class LimitsShown(Shown):
    """What the solve may use."""

    time_limit_s: float
    gap: float
    seed: int
    threads: int
    memory_gib: float | None


class RunShown(Shown):
    """A run. A number that is not known is null."""

    schema_version: Version
    id: str
    kind: str
    state: State
    outcome: Outcome | None
    stop_reason: StopReason | None
    objective: float | None
    bound: float | None
    gap: float | None
    seconds: float | None
    verified: bool
    cached: bool
    priority: int
    limits: LimitsShown
    problem_id: str
    warm_start_run: str | None
    attempt: int
    message: str
    failure: str | None = Field(description="What went wrong by our own fault, in one sentence; null when nothing did.")
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    links: dict[str, str]
    warnings: list[FindingShown] | None = Field(default=None, description="Of the problem; only in the answer to POST.")


class RunPage(Shown):
    """Some runs, the newest first."""

    schema_version: Version
    runs: list[RunShown]
    next: str | None = Field(description="The cursor of the next page; null on the last.")


class EventShown(BaseModel):
    """One entry of a run's history; further fields by its type."""

    model_config = ConfigDict(extra="allow")

    number: int
    type: Literal["state", "incumbent", "bound", "message"]
    at: Moment


class EventPage(Shown):
    """The events after the number that was asked for."""

    schema_version: Version
    events: list[EventShown]
    last: int = Field(description="Number of the last event given, to ask for those after it.")
    done: bool = Field(description="Whether the run has ended and nothing follows.")


class GoalProved(Shown):
    """What is proved of one goal."""

    name: str
    sense: Literal["maximise", "minimise"]
    unit: str
    objective: float | None
    bound: float | None
    gap: float | None
    method: str


class CertificateShown(Shown):
    """The proof that comes with a plan."""

    schema_version: Version
    run: str
    goals: list[GoalProved]
    objective: float | None
    bound: float | None
    gap: float | None
    largest_violation: float | None
    verified: bool
    strategy: str
    seed: int
    versions: dict[str, str]


class ReasonShown(Shown):
    """One sentence of explanation."""

    subject: str
    code: str
    rule: str
    ids: list[str]
    text: str
    status: Literal["proved", "heuristic"]


class Explanations(Shown):
    """Why the plan is as it is."""

    schema_version: Version
    run: str
    explanations: list[ReasonShown]


class RuleCited(Shown):
    """A rule on some ids."""

    rule: str
    ids: list[str]


class ConflictShown(Shown):
    """Why no plan exists: the smallest set of rules that cannot hold together, and the cheapest repair."""

    schema_version: Version
    run: str
    status: str
    rules: list[RuleCited]
    repairs: list[str]


class Interval(Shown):
    """From where to where; null for no end."""

    low: float | None
    high: float | None


class WorthShown(Shown):
    """One limit: by how much the goal changes for each unit by which it is raised."""

    rule: str
    ids: list[str]
    unit: str
    limit: float | None
    worth: float | None
    range: Interval | None = Field(description="The limits between which this worth holds; null where it is not known.")
    status: str = Field(description="How far it is proved; `meaning` says it in words.")
    text: str


class Sensitivity(Shown):
    """What one more unit of each limit is worth, in the unit of the first goal."""

    schema_version: Version
    run: str
    goal: str
    sense: Literal["maximise", "minimise"]
    unit: str
    rows: list[WorthShown]
    meaning: dict[str, str]
    left_out: int = Field(description="Limits that are not told: they are worth no more than those that are.")
    message: str = Field(description="What could not be told, and why; empty when there is nothing to say.")


class MetricsShown(Shown):
    """A plan's key figures, recomputed from the plan alone, and where the time of the solve went."""

    schema_version: Version
    run: str
    metrics: dict[str, float | None] = Field(description="By name; empty where there is no plan.")
    seconds_by_phase: dict[str, float]


class StepShown(Shown):
    """How far the first goal was at one moment. A number that was not known yet is null."""

    seconds: float = Field(description="Since the solve began.")
    phase: str
    incumbent: float | None
    bound: float | None
    gap: float | None


class TraceShown(Shown):
    """How plan and bound came together."""

    schema_version: Version
    run: str
    trace: list[StepShown]


class ViewListed(Shown):
    """One view of a plan."""

    name: str
    links: dict[str, str]


class ViewsShown(Shown):
    """The views that a plan of the run's kind has."""

    schema_version: Version
    run: str
    views: list[ViewListed]


class ViewShown(Shown):
    """A plan as other people want to see it."""

    schema_version: Version
    run: str
    view: str
    content: Any = Field(description="As the kind's page says.")


class Health(Shown):
    """Whether the service can do its work."""

    schema_version: Version
    status: Literal["ok", "unavailable"]
    checks: dict[str, Literal["ok", "failed"]]

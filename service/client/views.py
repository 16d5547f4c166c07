"""What a service tells, as frozen types. A number that is not known is None; fields of newer services are kept out of the way."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.runs.states import TERMINAL, State

Outcome = Literal["optimal", "feasible", "infeasible", "unbounded", "no_plan"]
StopReason = Literal["gap", "deadline", "cancelled", "memory", "crash"]


class View(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class FindingView(View):
    """One mistake or warning: the JSON pointer of its place, a stable code, and what to do."""

    pointer: str
    code: str
    detail: str


class LimitsView(View):
    """What a solve may use: wall seconds, relative gap, seed, CPU threads, GiB (None: no limit)."""

    time_limit_s: float
    gap: float
    seed: int
    threads: int
    memory_gib: float | None


class RunView(View):
    """A run as it stands. ``seconds`` are those of the solve; ``warnings`` are given by the answer to a submission alone."""

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
    limits: LimitsView
    problem_id: str
    warm_start_run: str | None
    attempt: int
    message: str
    failure: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    warnings: tuple[FindingView, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing about it will change."""
        return self.state in TERMINAL

    @property
    def has_plan(self) -> bool:
        """Whether it ended with a verified plan."""
        return self.ended and self.outcome in ("optimal", "feasible")


class EventView(View):
    """One entry of a run's history, by ``type``: state (``state``), incumbent and bound (figures), message (``text``).

    ``seconds`` are those since the solve began.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    number: int
    type: str
    at: datetime
    state: State | None = None
    outcome: Outcome | None = None
    stop_reason: StopReason | None = None
    objective: float | None = None
    bound: float | None = None
    gap: float | None = None
    phase: str | None = None
    seconds: float | None = None
    text: str | None = None

    @property
    def is_last(self) -> bool:
        """Whether the run has ended with it."""
        return self.state in TERMINAL


class GoalView(View):
    """What is proved of one goal."""

    name: str
    sense: Literal["maximise", "minimise"]
    unit: str
    objective: float | None
    bound: float | None
    gap: float | None
    method: str


class CertificateView(View):
    """The proof that comes with a plan; ``objective``, ``bound`` and ``gap`` are those of the first goal."""

    goals: tuple[GoalView, ...]
    objective: float | None
    bound: float | None
    gap: float | None
    largest_violation: float | None
    verified: bool
    strategy: str
    seed: int
    versions: dict[str, str]


class ReasonView(View):
    """One sentence of explanation about ``subject`` ("" for the whole plan)."""

    subject: str
    code: str
    rule: str
    ids: tuple[str, ...]
    text: str
    status: Literal["proved", "heuristic"]


class RuleView(View):
    """A rule on some ids."""

    rule: str
    ids: tuple[str, ...]


class ConflictView(View):
    """Why no plan exists: the smallest set of rules that cannot hold together, and the cheapest repair in sentences."""

    status: str
    rules: tuple[RuleView, ...]
    repairs: tuple[str, ...]


class MetricsView(View):
    """The plan's key figures by name (none where there is no plan), and the seconds of each phase of the solve."""

    metrics: dict[str, float | None]
    seconds_by_phase: dict[str, float]


class StepView(View):
    """How far the first goal was at one moment; ``seconds`` since the solve began."""

    seconds: float
    phase: str
    incumbent: float | None
    bound: float | None
    gap: float | None


class ProblemView(View):
    """A kept problem without its content; ``bytes`` is the size of its canonical JSON."""

    id: str
    kind: str
    bytes: int
    parent: str | None
    warnings: tuple[FindingView, ...]


class FullProblemView(View):
    """A kept problem."""

    id: str
    kind: str
    parent: str | None
    warnings: tuple[FindingView, ...]
    problem: dict[str, Any]


class ValidityView(View):
    """Whether a problem could be solved as it stands; ``problem_id`` is the id it has or would have."""

    kind: str
    valid: bool
    problem_id: str | None
    errors: tuple[FindingView, ...]
    warnings: tuple[FindingView, ...]


class ListedKindView(View):
    """One kind of decision, in a line."""

    kind: str
    summary: str


class SchemasView(View):
    """JSON Schemas."""

    problem: dict[str, Any]
    plan: dict[str, Any]


class ExampleView(View):
    """A small problem to start from."""

    problem: dict[str, Any]


class KindView(View):
    """All there is to know of a kind; ``schemas`` stand under ``schema`` in the API, ``page`` is Markdown.

    ``example`` is the usual one, ``examples`` are all of them by name: none where there is only the usual one.
    """

    kind: str
    summary: str
    schemas: SchemasView = Field(alias="schema")
    example: ExampleView
    examples: dict[str, ExampleView] = {}
    page: str


class RunPageView(View):
    """Some runs, and the cursor of the next page."""

    runs: tuple[RunView, ...]
    next: str | None


class GateView(View):
    """One condition of a gate on one scenario."""

    gate: str
    scenario: str
    replicate: int
    metric: str
    condition: str
    proved: bool
    text: str
    standing: Literal["passed", "failed", "undecided"]


class StudyConclusionsView(View):
    """What the answers of a study prove together; ``best`` is the recommended scenario by its label, None where none is."""

    goal: str | None
    recommendation: str
    best: str | None
    certain: bool
    next_steps: tuple[str, ...]
    gates: tuple[GateView, ...]
    standing: Literal["passed", "failed", "undecided"] | None
    answered: int
    failed: int


class StudyView(View):
    """A study as it stands; ``conclusions`` are there once every run has ended, and not in lists.

    ``asks`` are those that are answered so far, each as JSON with its answer, a sentence or a failure; None without asks, and in lists.
    """

    id: str
    name: str
    title: str
    kind: str
    state: Literal["queued", "running", "cancelling", "finished", "cancelled"]
    problem_id: str
    scenarios: int
    runs: int
    counts: dict[str, int]
    progress: float
    priority: int
    created_at: datetime
    warnings: tuple[FindingView, ...]
    conclusions: StudyConclusionsView | None
    asks: tuple[dict[str, Any], ...] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing about it will change."""
        return self.state in ("finished", "cancelled")


class StudyPageView(View):
    """Some studies, and the cursor of the next page."""

    studies: tuple[StudyView, ...]
    next: str | None


class StudyRowView(View):
    """The answer of one question, or the reason why there is none (``failure``)."""

    key: str
    outcome: Outcome | None
    stop_reason: StopReason | None
    goals: tuple[GoalView, ...]
    metrics: dict[str, float]
    verified: bool
    seconds: float
    strategy: str
    message: str
    refuted: tuple[str, ...]
    failure: str | None
    attempts: int
    versions: dict[str, str]


class StudyLineView(View):
    """One scenario: ``run`` is the id of its run, ``row`` its answer once that has ended."""

    scenario: str
    label: str
    baseline: bool
    replicate: int
    values: dict[str, Any]
    spend_usd: float | None
    run: str
    state: State
    row: StudyRowView | None
    difference: dict[str, Any] | None


class StudyTableView(View):
    """The table of a study; ``missing`` scenarios are not answered yet."""

    study: str
    goal: str | None
    missing: int
    rows: tuple[StudyLineView, ...]
    asks: tuple[dict[str, Any], ...] = ()


class KindsView(View):
    """The kinds of decision."""

    kinds: tuple[ListedKindView, ...]


class TraceView(View):
    """How plan and bound came together."""

    trace: tuple[StepView, ...]


class PlanView(View):
    """A plan as other people want to see it; the form of ``content`` is that of the view."""

    view: str
    content: Any


class ExplanationsView(View):
    """Why a plan is as it is."""

    explanations: tuple[ReasonView, ...]

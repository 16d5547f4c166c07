"""What goes into the store and comes out of it, as plain frozen records."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.runs.states import LEASED, TERMINAL, CancelMode, State, Task

if TYPE_CHECKING:
    from sqlalchemy import RowMapping

PACK_ABOVE = 64 * 1024  # bytes: a smaller body is not worth the time of compressing it
LEVEL = 1  # of compression: JSON shrinks tenfold already here


def packed(body: bytes) -> tuple[bytes, bool]:
    """The body as it is stored, and whether it was compressed."""
    return (zlib.compress(body, LEVEL), True) if len(body) > PACK_ABOVE else (body, False)


def unpacked(body: bytes, was_packed: bool) -> bytes:  # noqa: FBT001  (as `packed` returned it)
    """The body as it was given."""
    return zlib.decompress(body) if was_packed else bytes(body)


@dataclass(frozen=True, slots=True)
class StoredProblem:
    """A problem as accepted: valid, canonical, immutable; ``warnings`` are {pointer, code, detail}.

    ``derived``: the body is not the problem but what changes its ``parent`` into it (``service.runs.derived``), and so is its id.
    ``stored``: the body as ``packed`` makes it, where that was done beforehand, because the writer should not be made to wait for it.
    """

    id: str
    kind: str
    body: bytes
    warnings: tuple[dict[str, str], ...] = ()
    parent: str | None = None
    stored: tuple[bytes, bool] | None = None
    derived: bool = False


@dataclass(frozen=True, slots=True)
class NewRun:
    """A request to solve, checked. ``limits`` as in ``optimizer.limits.Limits``; ``fingerprint`` is that of the request's body."""

    id: str
    tenant: str
    problem: StoredProblem
    limits: dict[str, Any]
    priority: int = 0
    warm_start_run: str | None = None
    cache_key: str | None = None  # None: neither answered from the cache nor kept for it
    use_cache: bool = True
    idempotency_key: str | None = None
    fingerprint: str = ""
    request_id: str | None = None
    trace_id: str | None = None
    task: Task = Task.solve


@dataclass(frozen=True, slots=True)
class Run:
    """One run as it stands."""

    position: int
    id: str
    tenant: str
    kind: str
    problem_id: str
    state: State
    priority: int
    limits: dict[str, Any]
    warm_start_run: str | None
    cached: bool
    answered_by: int | None
    attempt: int
    losses: int
    worker: str | None
    beat: int
    cancel_mode: CancelMode | None
    events: int
    outcome: str | None
    stop_reason: str | None
    objective: float | None
    bound: float | None
    gap: float | None
    seconds: float | None
    spent_s: float
    verified: bool
    message: str
    failure: str | None
    request_id: str | None
    trace_id: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    task: Task

    @classmethod
    def of(cls, row: RowMapping) -> Run:
        """The run of a row of ``tables.runs``."""
        fields = {name: row[name] for name in cls.__slots__}
        fields["state"], fields["task"] = State(row["state"]), Task(row["task"])
        fields["limits"] = json.loads(row["limits"])
        fields["cancel_mode"] = CancelMode(row["cancel_mode"]) if row["cancel_mode"] is not None else None
        return cls(**fields)

    @property
    def is_terminal(self) -> bool:
        """Whether nothing about it will change."""
        return self.state in TERMINAL

    @property
    def is_leased(self) -> bool:
        """Whether a worker has it."""
        return self.state in LEASED


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that is stored: its run, and whether the same idempotency key had brought it before."""

    run: Run
    replayed: bool


@dataclass(frozen=True, slots=True)
class Question:
    """One of the different questions of a study, or its asks. ``changes`` as ``service.runs.derived`` has them; None: the base as it is."""

    key: str
    run_id: str
    limits: dict[str, Any]
    changes: bytes | None
    problem_id: str
    cache_key: str | None
    task: Task = Task.solve


@dataclass(frozen=True, slots=True)
class NewStudy:
    """A request for a study, checked. ``scenarios`` is a JSON list, each with the number of its question among ``questions``."""

    id: str
    tenant: str
    base: StoredProblem
    name: str
    title: str
    document: bytes
    scenarios: bytes
    count: int
    questions: tuple[Question, ...]
    priority: int = 0
    warnings: tuple[dict[str, str], ...] = ()
    idempotency_key: str | None = None
    fingerprint: str = ""
    request_id: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A study as it is kept, without its large parts; ``counts`` are its runs by state."""

    position: int
    id: str
    tenant: str
    kind: str
    problem_id: str
    name: str
    title: str
    count: int
    priority: int
    warnings: tuple[dict[str, str], ...]
    cancel_mode: CancelMode | None
    created_at: float
    counts: dict[State, int]

    @property
    def runs(self) -> int:
        """How many different questions it has; its asks together are one more."""
        return sum(self.counts.values())

    @property
    def ended(self) -> bool:
        """Whether nothing about it will change."""
        return all(state in TERMINAL for state in self.counts)


@dataclass(frozen=True, slots=True)
class AcceptedStudy:
    """A study that is stored: its runs in the order of its questions, and whether the same idempotency key had brought it before."""

    study: StoredStudy
    runs: tuple[Run, ...]
    replayed: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a run: void as soon as another attempt begins."""

    position: int
    attempt: int
    worker: str


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The best plan so far, as JSON, with its goals' values; ``objective`` is that of the first goal."""

    plan: bytes
    objectives: tuple[float, ...]
    seconds: float
    phase: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A run to work on, and the right to."""

    lease: Lease
    run: Run
    conclude_only: bool  # lost too often, or cancelled while it waited: only what is known already may be concluded


@dataclass(frozen=True, slots=True)
class Material:
    """What the work on a run begins with: the problem as JSON, what is to be changed in it, and the plan to start from, if any."""

    problem: bytes
    incumbent: Incumbent | None = None
    warm_start: bytes | None = None
    changes: bytes | None = None


@dataclass(frozen=True, slots=True)
class Asks:
    """What the asks of a study have come to: the run that answers them, and the answers so far as JSON, in the order of the asks."""

    run_id: str
    answers: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class AsksMaterial:
    """What the work on the asks of a study begins with.

    ``answers`` are those of its scenarios (``service.runs.studies.answers_of``), ``rows`` what was solved for the asks before, JSON by
    key, ``done`` the asks that are answered already, JSON by their number.
    """

    study_id: str
    document: bytes
    problem: bytes
    answers: list[dict[str, Any]]
    rows: dict[str, bytes]
    done: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a run's history; ``number`` counts from 1 without a gap."""

    number: int
    type: str
    at: float
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Note:
    """Something a worker has heard of its run, to be written as an event: a state, a bound, a better plan, a message.

    ``asked``: a key of the table ``asked`` with its body.
    """

    type: str
    data: dict[str, Any]
    at: float  # seconds since 1970
    state: State | None = None
    incumbent: Incumbent | None = None
    asked: tuple[str, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """How a run ended. ``parts`` are JSON bodies by name: plan, certificate, explanations, conflict, metrics, trace, log, asks.

    Asks that are answered have no ``outcome``: it is that of a problem.
    """

    state: State
    outcome: str | None
    stop_reason: str
    objective: float | None = None
    bound: float | None = None
    gap: float | None = None
    seconds: float | None = None
    verified: bool = False
    message: str = ""
    failure: str | None = None
    parts: dict[str, bytes] = field(default_factory=dict)

"""Everything that can be asked of a service, as steps that either client carries out."""

from __future__ import annotations

import gzip
import json
import uuid
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from service.client.errors import BadAnswer, error_of, seen
from service.client.exchange import (
    LATER,
    LONGEST_PAUSE_S,
    NEVER_ANSWERED_S,
    NO_CONTENT,
    OK,
    Ask,
    Chunk,
    Emit,
    Link,
    Open,
    Retry,
    Sleep,
    Steps,
    exchanged,
    monotonic,
    object_in,
    squeezed,
    text_in,
    unreachable,
    viewed,
)
from service.client.stream import EventReader, NotEventsError
from service.client.views import (
    CertificateView,
    ConflictView,
    EventView,
    ExplanationsView,
    FullProblemView,
    KindsView,
    KindView,
    ListedKindView,
    MetricsView,
    PlanView,
    ProblemView,
    ReasonView,
    RunPageView,
    RunView,
    StepView,
    TraceView,
    ValidityView,
)
from service.runs.states import CancelMode, State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from service.client.errors import ClientError

GZIP = b"\x1f\x8b"
WAIT_S = 20  # of one request that waits for a run: below what proxies usually allow
READING_S = 60.0  # the service may take so long over a large body, or a question that needs a solve
POLL_S = 0.5  # between looks at a run, where the service does not let requests wait
MERGE_PATCH = "application/merge-patch+json"


class HasJson(Protocol):
    """A problem of ``models``."""

    def model_dump_json(self) -> str:
        """As JSON."""
        ...


@dataclass(frozen=True, slots=True)
class ProgramFile:
    """A linear or mixed-integer program as an MPS or LP file, for kind ``program``. ``data`` may be gzip data."""

    data: bytes
    format: str

    @classmethod
    def read(cls, path: str | Path) -> ProgramFile:
        """The file ``x.mps`` or ``x.lp``, or either with ``.gz`` behind it. Raises OSError, ValueError."""
        found = Path(path)
        form = found.name.lower().removesuffix(".gz").rpartition(".")[2]
        if form not in ("mps", "lp"):
            raise ValueError(f"{found}: cannot tell whether it is MPS or LP; name it .mps or .lp, or make a ProgramFile of its bytes")
        return cls(found.read_bytes(), form)

    @property
    def packed(self) -> bytes:
        """The gzip data: the same each time, so that the file may be sent again."""
        return self.data if self.data.startswith(GZIP) else gzip.compress(self.data, 6, mtime=0)

    @property
    def as_object(self) -> dict[str, str]:
        """As JSON has it. Raises ValueError for data that are no text."""
        try:
            data = gzip.decompress(self.data) if self.data.startswith(GZIP) else self.data
        except (OSError, EOFError, zlib.error):
            raise ValueError("the program's file begins like gzip data and is none, or ends too soon") from None
        return {"format": self.format, "text": data.decode()}


Problem: TypeAlias = "Mapping[str, Any] | HasJson"


class Asked(TypedDict, total=False):
    """What may go with a problem to solve.

    ``limits``: time_limit_s, gap, seed, threads, memory_gib; what is left out is chosen by the service. ``cache=False``
    solves also what was answered before. ``idempotency_key`` is made up when it is left out.
    """

    problem_id: str
    limits: Mapping[str, float | None]
    priority: int
    warm_start_run: str
    cache: bool
    idempotency_key: str


# ---------------------------------------------------------------- runs


def submitted(
    link: Link, kind: str | None, problem: Problem | ProgramFile | None, asked: Asked, wait_s: float | None = None
) -> Steps[RunView]:
    """The run of a problem, stored durably; as it is when it has ended, or after ``wait_s``."""
    ask = with_wait(_submission(kind, problem, asked), wait_s)
    return viewed(link, RunView, (yield from exchanged(link, ask)))


def _submission(kind: str | None, problem: Problem | ProgramFile | None, asked: Asked) -> Ask:
    """The request, which may be sent again: its key makes a second one find the first one's run."""
    fields: dict[str, Any] = {**({"kind": kind} if kind is not None else {}), **asked}
    key = {"Idempotency-Key": fields.pop("idempotency_key", None) or f"client-{uuid.uuid4().hex}"}
    if "limits" in fields:
        fields["limits"] = dict(fields["limits"])
    if isinstance(problem, ProgramFile):
        form = {"request": json.dumps(fields), "format": problem.format}
        return Ask("POST", "/v1/runs", headers=key, form=form, file=("program.gz", problem.packed), wait_s=READING_S)
    content, headers = squeezed(_with_problem(fields, problem))
    return Ask("POST", "/v1/runs", headers=headers | key, content=content, wait_s=READING_S)


def _with_problem(fields: dict[str, Any], problem: Problem | None) -> bytes:
    head = json.dumps(fields, allow_nan=False)
    if problem is None:
        return head.encode()
    return f'{head[:-1]}{", " if fields else ""}"problem": {_json(problem)}}}'.encode()


def _json(problem: Problem) -> str:
    """JSON text; raises ValueError for NaN and infinity, which JSON cannot say."""
    dump = getattr(problem, "model_dump_json", None)
    return str(dump()) if dump is not None else json.dumps(problem, allow_nan=False)


def _written(problem: Problem | ProgramFile) -> Problem:
    return problem.as_object if isinstance(problem, ProgramFile) else problem


def with_wait(ask: Ask, wait_s: float | None) -> Ask:
    """The request with a preference to wait so long, at most ``WAIT_S``."""
    seconds = min(int(wait_s), WAIT_S) if wait_s is not None else 0
    if seconds < 1:
        return ask
    return replace(ask, headers={**ask.headers, "Prefer": f"wait={seconds}"}, wait_s=ask.wait_s + seconds)


def solved(link: Link, kind: str | None, problem: Problem | ProgramFile | None, asked: Asked, timeout_s: float | None) -> Steps[RunView]:
    """The run of a problem when it has ended, or as it is after ``timeout_s``."""
    until = None if timeout_s is None else monotonic() + timeout_s
    run = yield from submitted(link, kind, problem, asked, WAIT_S if timeout_s is None else timeout_s)
    if run.ended:
        return run
    ended = yield from waited(link, run.id, None if until is None else until - monotonic())
    return ended.model_copy(update={"warnings": run.warnings})


def waited(link: Link, run_id: str, timeout_s: float | None) -> Steps[RunView]:
    """The run when it has ended, or as it is after ``timeout_s``."""
    until = None if timeout_s is None else monotonic() + timeout_s
    while True:
        left = None if until is None else max(until - monotonic(), 0.0)
        ask = with_wait(Ask("GET", _run(run_id)), WAIT_S if left is None else left)
        response = yield from exchanged(link, ask, None if left is None else max(left, NEVER_ANSWERED_S))
        run = viewed(link, RunView, response)
        if run.ended or left == 0.0:
            return run
        if "preference-applied" not in response.headers:
            yield Sleep(POLL_S if left is None else min(left, POLL_S))


def shown(link: Link, run_id: str) -> Steps[RunView]:
    """The run as it stands."""
    return viewed(link, RunView, (yield from exchanged(link, Ask("GET", _run(run_id)))))


def listed(link: Link, state: State | str | None, kind: str | None, page: int) -> Steps[None]:
    """Emits the runs, the newest first, asking for a page at a time."""
    params = {"limit": str(page)}
    if state is not None:
        params["state"] = State(state).value
    if kind is not None:
        params["kind"] = kind
    while True:
        found = viewed(link, RunPageView, (yield from exchanged(link, Ask("GET", "/v1/runs", params))))
        for run in found.runs:
            yield Emit(run)
        if found.next is None:
            return
        params = params | {"cursor": found.next}


def cancelled(link: Link, run_id: str, mode: CancelMode | str) -> Steps[RunView]:
    """The run after it was asked to end; one that has ended stays as it is."""
    ask = Ask("POST", f"{_run(run_id)}:cancel", {"mode": CancelMode(mode).value})
    return viewed(link, RunView, (yield from exchanged(link, ask)))


def followed(link: Link, run_id: str, after: int) -> Steps[None]:
    """Emits the run's events after a number, each once, to the end of the run, through any number of connections."""
    last = after
    retry = Retry(link)
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(last)} if last else {})
        failure: ClientError
        try:
            response: httpx.Response = yield Open(Ask("GET", f"{_run(run_id)}/events", headers=headers))
            link.answered = True
            if response.status_code == NO_CONTENT:
                return
            if response.status_code != OK:
                failure = error_of(response, link.url)
                if not isinstance(failure, LATER):
                    raise failure
            else:
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise BadAnswer(f"{link.url} answers with {seen(response)} in place of events; is a proxy before it?")
                last, done = yield from _told(link, last, retry)
                if done:
                    return
                failure = unreachable(link, httpx.ReadError("the stream of events ended early"))
        except httpx.DecodingError:
            raise BadAnswer(f"{link.url} answers with data that are not compressed as it says; is a proxy before it?") from None
        except httpx.TransportError as error:
            failure = unreachable(link, error)
        yield Sleep(retry.pause_s(failure))


def _told(link: Link, last: int, retry: Retry) -> Steps[tuple[int, bool]]:
    """Emits the events of one connection; the number of the last one, and whether the run has ended with it."""
    reader = EventReader()
    opened = monotonic()
    try:
        while (chunk := (yield Chunk())) is not None:
            if monotonic() - opened > LONGEST_PAUSE_S:
                retry.heard()
            for told in reader.feed(chunk):
                event = EventView.model_validate_json(told.data)
                if event.number <= last:
                    continue
                last = event.number
                retry.heard()
                yield Emit(event)
                if event.is_last:
                    return last, True
    except httpx.TransportError:
        return last, False
    except (ValidationError, NotEventsError):
        raise BadAnswer(f"{link.url} sends events that this client does not understand; is that a service of this version?") from None
    return last, False


def _run(run_id: str) -> str:
    return f"/v1/runs/{quote(run_id, safe='')}"


# ---------------------------------------------------------------- answers


def plan(link: Link, run_id: str) -> Steps[dict[str, Any]]:
    """The plan in the form of its kind."""
    return object_in(link, (yield from exchanged(link, Ask("GET", f"{_run(run_id)}/plan"))))


def certificate(link: Link, run_id: str) -> Steps[CertificateView]:
    """The proof that comes with the plan."""
    return viewed(link, CertificateView, (yield from exchanged(link, Ask("GET", f"{_run(run_id)}/certificate"))))


def explanations(link: Link, run_id: str, subject: str | None) -> Steps[tuple[ReasonView, ...]]:
    """Why the plan is as it is."""
    params = {"subject": subject} if subject is not None else {}
    response = yield from exchanged(link, Ask("GET", f"{_run(run_id)}/explanations", params, wait_s=WAIT_S))
    return viewed(link, ExplanationsView, response).explanations


def conflict(link: Link, run_id: str) -> Steps[ConflictView]:
    """Why there is no plan."""
    return viewed(link, ConflictView, (yield from exchanged(link, Ask("GET", f"{_run(run_id)}/conflict"))))


def sensitivity(link: Link, run_id: str) -> Steps[dict[str, Any]]:
    """What one more of each limit is worth."""
    return object_in(link, (yield from exchanged(link, Ask("GET", f"{_run(run_id)}/sensitivity", wait_s=READING_S))))


def metrics(link: Link, run_id: str) -> Steps[MetricsView]:
    """The plan in figures, and where the time went."""
    return viewed(link, MetricsView, (yield from exchanged(link, Ask("GET", f"{_run(run_id)}/metrics"))))


def trace(link: Link, run_id: str) -> Steps[tuple[StepView, ...]]:
    """How plan and bound came together."""
    return viewed(link, TraceView, (yield from exchanged(link, Ask("GET", f"{_run(run_id)}/trace")))).trace


def view(link: Link, run_id: str, name: str) -> Steps[Any]:
    """The plan as other people want to see it."""
    ask = Ask("GET", f"{_run(run_id)}/views/{quote(name, safe='')}", wait_s=READING_S)
    return viewed(link, PlanView, (yield from exchanged(link, ask))).content


def model_mps(link: Link, run_id: str) -> Steps[str]:
    """The exact program as an MPS file."""
    return text_in(link, (yield from exchanged(link, Ask("GET", f"{_run(run_id)}/model.mps", wait_s=READING_S))))


def log(link: Link, run_id: str) -> Steps[str]:
    """The run's history, a line for each event."""
    return text_in(link, (yield from exchanged(link, Ask("GET", f"{_run(run_id)}/log"))))


# ---------------------------------------------------------------- problems and kinds


def validated(link: Link, kind: str, problem: Problem | ProgramFile) -> Steps[ValidityView]:
    """Errors and warnings; nothing is kept."""
    content, headers = squeezed(_json(_written(problem)).encode())
    ask = Ask("POST", f"/v1/kinds/{quote(kind, safe='')}:validate", headers=headers, content=content, wait_s=READING_S)
    return viewed(link, ValidityView, (yield from exchanged(link, ask)))


def kept(link: Link, kind: str, problem: Problem | ProgramFile) -> Steps[ProblemView]:
    """The problem's id, which follows from its content."""
    content, headers = squeezed(_with_problem({"kind": kind}, _written(problem)))
    ask = Ask("POST", "/v1/problems", headers=headers, content=content, wait_s=READING_S)
    return viewed(link, ProblemView, (yield from exchanged(link, ask)))


def problem(link: Link, problem_id: str) -> Steps[FullProblemView]:
    """A kept problem."""
    return viewed(link, FullProblemView, (yield from exchanged(link, Ask("GET", f"/v1/problems/{quote(problem_id, safe='')}"))))


def patched(link: Link, problem_id: str, patch: Mapping[str, Any]) -> Steps[ProblemView]:
    """A changed copy of a kept problem."""
    content, headers = squeezed(json.dumps(patch, allow_nan=False).encode(), MERGE_PATCH)
    path = f"/v1/problems/{quote(problem_id, safe='')}:patch"
    ask = Ask("POST", path, headers=headers, content=content, wait_s=READING_S)
    return viewed(link, ProblemView, (yield from exchanged(link, ask)))


def kinds(link: Link) -> Steps[tuple[ListedKindView, ...]]:
    """The kinds of decision."""
    return viewed(link, KindsView, (yield from exchanged(link, Ask("GET", "/v1/kinds")))).kinds


def kind(link: Link, name: str) -> Steps[KindView]:
    """All there is to know of a kind."""
    return viewed(link, KindView, (yield from exchanged(link, Ask("GET", f"/v1/kinds/{quote(name, safe='')}"))))

"""The client that blocks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import httpx

from service.client import operations, studies
from service.client.exchange import (
    OK,
    PATIENCE_S,
    TIMEOUT_S,
    Chunk,
    Emit,
    Link,
    Open,
    Send,
    Sleep,
    Step,
    Steps,
    resumed,
    settings_of,
)
from service.client.operations import Asked, Problem, ProgramFile
from service.client.studies import Study
from service.runs.states import CancelMode, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from service.client.views import (
        CertificateView,
        ConflictView,
        EventView,
        FullProblemView,
        KindView,
        ListedKindView,
        MetricsView,
        ProblemView,
        ReasonView,
        RunView,
        StepView,
        StudyView,
        ValidityView,
    )

T = TypeVar("T")
sleep = time.sleep  # replaced by tests


class Client:
    """A Quartermaster service, asked over HTTP. Thread-safe; close it, or use it in a ``with`` statement.

    ``api_key`` is a key of ``quartermaster keys create``; ``timeout_s`` is what one answer may take beyond the time that was
    asked for; ``patience_s`` is how long a request is tried again while the service cannot be reached or takes no more.
    ``transport`` replaces the network. Certificates of an own authority are trusted by the environment's SSL_CERT_FILE.

    Every method raises ClientError (``service.client.errors``). Requests are sent again only where that is safe: a submission
    carries an Idempotency-Key, so that a second copy finds the first one's run. Raises ValueError for an address or a key that
    is none.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._link = Link(base_url, patience_s)
        self._timeout_s = timeout_s
        self._http = httpx.Client(**settings_of(self._link, api_key), transport=transport)

    @property
    def base_url(self) -> str:
        """The service's address."""
        return self._link.url

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------ runs

    def solve(
        self,
        kind: str | None = None,
        problem: Problem | ProgramFile | None = None,
        *,
        wait: bool = True,
        timeout_s: float | None = None,
        **asked: Unpack[Asked],
    ) -> RunView:
        """Solve a problem, or the kept one that ``problem_id`` names; the run when it has ended, or as it is after ``timeout_s``."""
        if not wait:
            return self.submit(kind, problem, **asked)
        return self._do(operations.solved(self._link, kind, problem, asked, timeout_s))

    def submit(self, kind: str | None = None, problem: Problem | ProgramFile | None = None, **asked: Unpack[Asked]) -> RunView:
        """Have a problem solved, without waiting for it: the run, which is stored durably."""
        return self._do(operations.submitted(self._link, kind, problem, asked))

    def run(self, run_id: str) -> RunView:
        """A run as it stands."""
        return self._do(operations.shown(self._link, run_id))

    def wait(self, run_id: str, timeout_s: float | None = None) -> RunView:
        """A run when it has ended, or as it is after ``timeout_s`` (see ``RunView.ended``). A restart of the service is waited out."""
        return self._do(operations.waited(self._link, run_id, timeout_s))

    def runs(self, *, state: State | str | None = None, kind: str | None = None, page: int = 50) -> Iterator[RunView]:
        """The runs, the newest first; a page of them is asked for at a time."""
        return self._each(operations.listed(self._link, state, kind, page))

    def events(self, run_id: str, after: int = 0) -> Iterator[EventView]:
        """A run's events after a number, each once, as they happen, to its end; a lost connection is resumed."""
        return self._each(operations.followed(self._link, run_id, after))

    def cancel(self, run_id: str, mode: CancelMode | str = CancelMode.keep_best) -> RunView:
        """End a run: its best plan so far is kept (``keep_best``) or not (``discard``)."""
        return self._do(operations.cancelled(self._link, run_id, mode))

    # ------------------------------------------------------------ answers

    def plan(self, run_id: str) -> dict[str, Any]:
        """The plan of a run, in the form of its kind."""
        return self._do(operations.plan(self._link, run_id))

    def certificate(self, run_id: str) -> CertificateView:
        """The proof that comes with a run's plan."""
        return self._do(operations.certificate(self._link, run_id))

    def explanations(self, run_id: str, subject: str | None = None) -> tuple[ReasonView, ...]:
        """Why a run's plan is as it is; with ``subject``, about this id of the problem alone."""
        return self._do(operations.explanations(self._link, run_id, subject))

    def conflict(self, run_id: str) -> ConflictView:
        """Why there is no plan, and the smallest repair: of a run whose problem is proved infeasible."""
        return self._do(operations.conflict(self._link, run_id))

    def sensitivity(self, run_id: str) -> dict[str, Any]:
        """What one more of each limit is worth."""
        return self._do(operations.sensitivity(self._link, run_id))

    def metrics(self, run_id: str) -> MetricsView:
        """A run's plan in figures, and the seconds of each phase of the solve."""
        return self._do(operations.metrics(self._link, run_id))

    def trace(self, run_id: str) -> tuple[StepView, ...]:
        """Value, bound and gap of a run's first goal at each moment when one of them got better."""
        return self._do(operations.trace(self._link, run_id))

    def view(self, run_id: str, name: str) -> Any:  # noqa: ANN401  (each view has a form of its own)
        """The plan as other people want to see it, such as ``paths`` or ``loads`` of a flow; each kind has its own views."""
        return self._do(operations.view(self._link, run_id, name))

    def model_mps(self, run_id: str) -> str:
        """The exact program of a run's problem as an MPS file."""
        return self._do(operations.model_mps(self._link, run_id))

    def log(self, run_id: str) -> str:
        """A run's history, a line for each event."""
        return self._do(operations.log(self._link, run_id))

    # ------------------------------------------------------------ studies

    def study(self, document: studies.Document, *, priority: int | None = None, idempotency_key: str | None = None) -> Study:
        """Have a study solved, its document as ``optimizer.study.schema.Study`` or plain: what to look at it by."""
        sent = self._do(studies.sent(self._link, document, priority, idempotency_key))
        return self.study_named(sent.id)

    def study_named(self, study_id: str) -> Study:
        """What to look at a study by; nothing is asked yet."""
        return Study(self._link, study_id, self._do)

    def studies(self, *, page: int = 50) -> Iterator[StudyView]:
        """The studies, the newest first; a page of them is asked for at a time."""
        return self._each(studies.listed(self._link, page))

    # ------------------------------------------------------------ problems and kinds

    def validate(self, kind: str, problem: Problem | ProgramFile) -> ValidityView:
        """What is wrong and what is odd in a problem; nothing is kept."""
        return self._do(operations.validated(self._link, kind, problem))

    def add_problem(self, kind: str, problem: Problem | ProgramFile) -> ProblemView:
        """Keep a problem, to be solved any number of times by its id."""
        return self._do(operations.kept(self._link, kind, problem))

    def problem(self, problem_id: str) -> FullProblemView:
        """A kept problem."""
        return self._do(operations.problem(self._link, problem_id))

    def patch_problem(self, problem_id: str, patch: Mapping[str, Any]) -> ProblemView:
        """Keep a changed copy of a problem: ``patch`` is a JSON merge patch (RFC 7396), in which None removes a field."""
        return self._do(operations.patched(self._link, problem_id, patch))

    def kinds(self) -> tuple[ListedKindView, ...]:
        """The kinds of decision."""
        return self._do(operations.kinds(self._link))

    def kind(self, name: str) -> KindView:
        """The schemas, the examples and the page of a kind."""
        return self._do(operations.kind(self._link, name))

    # ------------------------------------------------------------ steps

    def _do(self, steps: Steps[T]) -> T:
        performer = _Performer(self._http, self._timeout_s)
        try:
            step = next(steps)
            while True:
                step = resumed(steps, *performer.perform(step))
        except StopIteration as end:
            found: T = end.value
            return found
        finally:
            performer.close()

    def _each(self, steps: Steps[None]) -> Iterator[Any]:
        performer = _Performer(self._http, self._timeout_s)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Emit):
                    yield step.value
                step = resumed(steps, *performer.perform(step))
        except StopIteration:
            return
        finally:
            performer.close()


class _Performer:
    """Carries the steps of one operation out."""

    def __init__(self, http: httpx.Client, timeout_s: float) -> None:
        self._http, self._timeout_s = http, timeout_s
        self._opened: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def close(self) -> None:
        """Close the opened response, if there is one."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def perform(self, step: Step) -> tuple[object, httpx.HTTPError | None]:
        """What the step brought, or how it failed."""
        if not isinstance(step, Chunk | Emit):
            self.close()
        try:
            match step:
                case Send(ask):
                    return self._http.request(**ask.arguments(self._timeout_s)), None
                case Open(ask):
                    return self._open(self._http.build_request(**ask.arguments(self._timeout_s))), None
                case Chunk():
                    return next(self._chunks, None), None
                case Sleep(seconds):
                    sleep(seconds)
        except httpx.HTTPError as error:
            return None, error
        return None, None

    def _open(self, request: httpx.Request) -> httpx.Response:
        self._opened = self._http.send(request, stream=True)
        self._chunks = self._opened.iter_bytes()
        if self._opened.status_code != OK:
            self._opened.read()
        return self._opened

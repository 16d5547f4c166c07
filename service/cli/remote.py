"""The command line's way to a service: ``--server``. What it prints, writes and exits with is what a solve here would."""

from __future__ import annotations

import json
import math
import os
import re
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from models.contract import Reason
from optimizer.result import Certificate, Conflict, GoalCertificate, Outcome, Progress, Result, StopReason
from service.cli.errors import BadInputError, Exit
from service.cli.output import complain
from service.documents.problems import problem_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from models.contract import Kind
    from models.vocabulary import Document
    from service.client import Client, ClientError, ReasonView, RunView

T = TypeVar("T")

KEY_VARIABLE = "QUARTERMASTER_API_KEY"
RUN_ID = re.compile(r"run_[0-9a-f]{24}")
SHOWN_ERRORS = 10
LOOK_S = 0.05  # how often Ctrl-C is looked for
LEAVING_S = 5.0  # a cancellation is answered within 2 s
PATIENCE_S = 10.0

Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        envvar="QUARTERMASTER_SERVER",
        help=f"Ask the service at this address, with the API key in {KEY_VARIABLE}, if it wants one.",
        show_default=False,
    ),
]


@contextmanager
def service_at(url: str | None, *, limits_are_options: bool = True) -> Iterator[Remote | None]:
    """The service, or None without an address; what it refuses or fails at is told as the command line tells it.

    ``limits_are_options``: a refused limit is told as the option that it came from. Raises BadInputError, typer.Exit.
    """
    if url is None:
        yield None
        return
    from service.client import Client, ClientError

    try:
        client = Client(url, _key())
    except ValueError as error:
        place = KEY_VARIABLE if "key is not" in str(error) else "--server"
        raise BadInputError(f"{place}: {error}") from None
    with client:
        try:
            yield Remote(client)
        except ClientError as error:
            raise _told(error, client.base_url, limits_are_options=limits_are_options) from None


def _key() -> str | None:
    return os.environ.get(KEY_VARIABLE) or None


@contextmanager
def required_service(url: str | None) -> Iterator[Remote]:
    """As ``service_at``, for commands that are about a service alone."""
    if url is None:
        raise BadInputError("which service? Name it with --server URL or QUARTERMASTER_SERVER")
    with service_at(url) as service:
        assert service is not None  # noqa: S101  (there is an address)
        yield service


def _told(error: ClientError, url: str, *, limits_are_options: bool) -> BadInputError | typer.Exit:
    """What to say of a failure, or how to exit once it is said."""
    from service.client import BadAnswer, Invalid, ServiceFault, TooMany, Unauthorized, Unavailable, Unreachable

    match error:
        case Unreachable() | BadAnswer():
            return BadInputError(f"--server: {error.detail}")
        case Unauthorized():
            return BadInputError(f"{url}: {error.detail.partition(';')[0]}; set {KEY_VARIABLE} to a key of `quartermaster keys create`")
        case Unavailable() | TooMany():
            complain(f"{url}: {error.detail}")
            return typer.Exit(Exit.no_plan)
        case ServiceFault():
            known = f" (request {error.request_id})" if error.request_id is not None else ""
            complain(f"{url}: {error.detail}{known}")
            return typer.Exit(Exit.our_fault)
        case Invalid() if error.errors:
            lines = [
                f"{_place(found.pointer, limits_are_options=limits_are_options)}{found.detail}" for found in error.errors[:SHOWN_ERRORS]
            ]
            more = [f"and {len(error.errors) - SHOWN_ERRORS} more"] if len(error.errors) > SHOWN_ERRORS else []
            return BadInputError("\n  ".join([f"{url} refuses this:", *lines, *more]) if len(lines) > 1 else f"{url}: {lines[0]}")
        case _:
            return BadInputError(f"{url}: {error.detail}")


def _place(pointer: str, *, limits_are_options: bool) -> str:
    """A pointer into the request as the user knows the place: where limits are options, an option's name."""
    name = pointer.removeprefix("/limits/")
    if limits_are_options and name != pointer:
        return f"--{name.removesuffix('_s').replace('_', '-')}: "
    return f"{pointer}: " if pointer else ""


class Remote:
    """A service that does what ``optimizer.solve`` does here."""

    def __init__(self, client: Client) -> None:
        self.client = client

    # ------------------------------------------------------------ solving

    def solve(
        self,
        kind: Kind,
        problem: Document,
        asked: Mapping[str, Any],
        on_progress: Callable[[Progress], None] | None,
        cancel: threading.Event,
    ) -> Result:
        """Solve there, told what happens as it happens. ``asked`` are fields of a request: limits, warm_start_run.

        ``cancel`` ends the run and keeps its best plan; KeyboardInterrupt discards it. Raises ClientError.
        """
        from service.client import ClientError

        run: RunView | None = None
        done = threading.Event()
        try:
            run = self.client.submit(kind.name, problem, **asked)
            complain(f"{run.id} on {self.client.base_url}")
            threading.Thread(target=self._cancel_when, args=(run.id, cancel, done), name="canceller", daemon=True).start()
            self._follow(run, on_progress)
            return self.result(kind, problem, self.client.wait(run.id))
        except KeyboardInterrupt:
            if run is not None:
                self._end(run.id, "discard", 0.0)
            raise
        except ClientError:
            if run is not None:
                complain(f"{run.id} may go on without us; see it with: quartermaster runs show {run.id}")
            raise
        finally:
            done.set()

    def _follow(self, run: RunView, on_progress: Callable[[Progress], None] | None) -> None:
        """Tell of the run step by step, to its end."""
        nothing = last = Progress(0.0, "")
        for event in self.client.events(run.id):
            if event.type in {"incumbent", "bound"}:
                last = Progress(event.seconds or 0.0, event.phase or "", event.objective, event.bound, event.gap)
            elif event.state == "queued":
                last = nothing  # its worker was lost: the clock begins anew
            if on_progress is not None:
                on_progress(replace(last, phase=event.state.value) if event.state is not None else last)

    def _cancel_when(self, run_id: str, cancel: threading.Event, done: threading.Event) -> None:
        while not cancel.wait(LOOK_S):
            if done.is_set():
                return
        if not done.is_set():
            self._end(run_id, "keep_best", PATIENCE_S)

    def _end(self, run_id: str, mode: str, patience_s: float) -> None:
        """Cancel a run, over a connection of its own: those of the caller are in use, or were interrupted."""
        from service.client import Client, ClientError

        try:
            with Client(self.client.base_url, _key(), timeout_s=LEAVING_S, patience_s=patience_s) as client:
                client.cancel(run_id, mode)
        except ClientError as error:
            complain(f"{run_id} could not be cancelled, and may go on: {error.detail}")

    # ------------------------------------------------------------ answers

    def result(self, kind: Kind, problem: Document, run: RunView) -> Result:
        """The answer of a run that has ended, as a solve here would return it; its plan is verified here once more."""
        known: dict[str, Any] = {"plan": None, "certificate": None, "verdict": None}
        outcome, failure = Outcome(run.outcome or "no_plan"), run.failure
        if run.has_plan:
            plan = self.plan(kind, run.id)
            verdict = kind.verify(problem, plan)
            if verdict.ok:
                known = {"plan": plan, "verdict": verdict, "certificate": self._certificate(run.id)}
                known["reasons"] = _reasons(self.client.explanations(run.id))
            else:
                outcome = Outcome.no_plan
                failure = f"the plan of {run.id} breaks {verdict.violation_count} rules, such as: {verdict.violations[0].message}"
        elif outcome is Outcome.infeasible:
            known["conflict"] = self._conflict(run.id)
        return Result(
            kind=kind.name,
            outcome=outcome,
            stop_reason=StopReason(run.stop_reason or ("cancelled" if run.state == "cancelled" else "crash")),
            seconds=run.seconds or 0.0,
            seconds_by_phase=self._seconds_by_phase(run.id),
            trace=self._trace(run.id),
            message=run.message,
            failure=failure,
            **known,
        )

    def plan(self, kind: Kind, run_id: str) -> Document:
        """The plan of a run. Raises BadInputError for one that this version does not understand."""
        try:
            return kind.plan.model_validate_json(json.dumps(self.client.plan(run_id)))
        except ValueError:
            raise BadInputError(
                f"{self.client.base_url}: {run_id} has a plan that is none of a {kind.name} as this version knows it; "
                "use the version that the service has"
            ) from None

    def reasons(self, run_id: str, subject: str | None) -> tuple[Reason, ...]:
        """Why the plan of a run is as it is. Raises KeyError for a subject that the problem does not have."""
        from service.client import NotFound

        try:
            return _reasons(self.client.explanations(run_id, subject))
        except NotFound as error:
            if error.code == "unknown_subject":
                raise KeyError(subject) from None
            raise

    def check_is_of(self, kind: Kind, problem: Document, run_id: str) -> None:
        """Raises BadInputError when the run solved another problem."""
        run = self.client.run(run_id)
        if run.kind != kind.name or run.problem_id != problem_id(kind.name, problem.model_dump_json().encode()):
            raise BadInputError(f"{run_id}: is a run of another problem ({run.kind}, {run.problem_id}); give the problem that it solved")

    def _certificate(self, run_id: str) -> Certificate:
        told = self.client.certificate(run_id)
        goals = tuple(
            GoalCertificate(
                name=goal.name,
                sense=goal.sense,
                unit=goal.unit,
                objective=_known(goal.objective, math.nan),
                bound=_known(goal.bound, math.inf),
                gap=_known(goal.gap, math.inf),
                method=goal.method,
            )
            for goal in told.goals
        )
        return Certificate(goals, _known(told.largest_violation, math.inf), told.verified, told.strategy, told.seed, told.versions)

    def _conflict(self, run_id: str) -> Conflict | None:
        told = _if_there(self.client.conflict, run_id)
        return Conflict(tuple((entry.rule, entry.ids) for entry in told.rules), told.repairs, told.status) if told is not None else None

    def _seconds_by_phase(self, run_id: str) -> dict[str, float]:
        told = _if_there(self.client.metrics, run_id)
        return told.seconds_by_phase if told is not None else {}

    def _trace(self, run_id: str) -> tuple[Progress, ...]:
        """The convergence of the solve that found the answer, also where the run itself got it from the cache."""
        told = _if_there(self.client.trace, run_id) or ()
        return tuple(Progress(step.seconds, step.phase, step.incumbent, step.bound, step.gap) for step in told)


def _if_there(ask: Callable[[str], T], run_id: str) -> T | None:
    """A part of a run's answer; None where the run has none."""
    from service.client import NotFound

    try:
        return ask(run_id)
    except NotFound:
        return None


def _known(value: float | None, unknown: float) -> float:
    return value if value is not None else unknown


def _reasons(told: Iterable[ReasonView]) -> tuple[Reason, ...]:
    return tuple(Reason(entry.subject, entry.code, entry.rule, entry.ids, entry.text, entry.status) for entry in told)


def is_run(name: str) -> bool:
    """Whether this is the id of a run rather than a file."""
    return RUN_ID.fullmatch(name) is not None


def no_service(run_id: str) -> BadInputError:
    """What to say of a run's id without a service."""
    return BadInputError(f"{run_id}: is a run of a service; name the service with --server URL or QUARTERMASTER_SERVER")

"""The one way through: heuristic, search, verify, explain.

The heuristic runs here, at once; the search in a spawned child (``isolate=False``: here), where a deadline can be enforced
whatever a solver does. The best plan reported is verified again here, from Problem and Plan alone, before anyone sees it: a
plan that breaks a rule, or beats a proven bound, is a failed run with a bug report in it and never an answer.
"""

from __future__ import annotations

import contextlib
import math
import platform
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from models.catalogue import kind_of
from models.contract import Reason, Sense, Verdict
from models.garbage import collection_paused
from optimizer.child import Child, ChildEnd
from optimizer.incumbents import Bounded, Found, Message, Refuted, Rejected, Searched, Spent, Unlimited, lexicographically_better, surpasses
from optimizer.limits import Deadline, Limits
from optimizer.result import Certificate, Conflict, GoalCertificate, Outcome, Progress, Result, StopReason, relative_gap
from optimizer.task import Task

if TYPE_CHECKING:
    from models.contract import Goal, Kind
    from models.vocabulary import Document

HEURISTIC_SHARE = 0.1  # of the time limit
HEURISTIC_S = 0.5  # at least, but at most half the limit: .github/decisions/0004
ANSWER_SHARE = 5.0
RESERVE_S = 0.1  # of the search's time: for its last message to arrive
RESERVE_SHARE = 0.02
GRACE_S = 0.5
EXPLAIN_S = 0.2  # for explaining even when the time limit has passed
OVERTIME_S = 0.5  # by which explaining a large plan may pass the limit
UNEXPLAINED = "the plan is not explained yet, to keep the time limit: ask for its explanation"
COUNTING = "counting, without a search"
# Numpy's matrix library else starts a thread for each core when it is loaded, which takes longer than any product of matrices here.
ONE_CORE = {"OPENBLAS_NUM_THREADS": "1"}
CROSSING = 1e-6  # relative: a plan that beats its bound by more contradicts it
OUTPUT_SIZE = 2_000
_LIBRARIES = ("quartermaster", "highspy", "ortools", "pyomo", "numpy", "pydantic")


def solve(
    problem: Document,
    limits: Limits | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    *,
    warm_start: Document | None = None,
    isolate: bool = True,
    on_message: Callable[[Message], None] | None = None,
) -> Result:
    """Solve ``problem`` of any kind within ``limits`` and return the best verified plan with its certificate.

    ``on_progress`` hears each new incumbent and bound of the first goal. ``cancel`` may be set from any thread; the best plan is
    kept. ``warm_start`` is a plan of the same kind to start from; one that breaks a rule is left aside and the
    result's message says so. ``isolate=False`` searches in this process: for tests and for callers that supervise themselves;
    those hear of each better plan and bound through ``on_message``, and ``conclude`` makes an answer of what they heard.

    Never raises for what a search runs into: that is a Result with ``failure``. Raises UnknownKindError for a problem of no kind.
    """
    run = _Run(kind_of(problem), problem, limits or Limits(), on_progress, cancel or threading.Event(), on_message)
    with run.child(isolate=isolate) as child:
        with collection_paused():
            run.begin(warm_start)
        run.search(child)
    run.take(Searched(run.seconds()))
    with collection_paused():
        return run.result()


def conclude(
    problem: Document,
    limits: Limits,
    messages: Sequence[Message],
    *,
    stop_reason: StopReason,
    seconds: float,
    failure: str | None = None,
    explained: bool = True,
) -> Result:
    """The answer of a solve whose process is gone, from the messages it had sent: verified and explained anew.

    ``seconds`` is what it has taken so far; explaining is kept short, or left out. ``failure`` is a report of the crash, if it was one.
    """
    run = _Run(kind_of(problem), problem, replace(limits, time_limit_s=seconds + EXPLAIN_S), None, threading.Event())
    run.started -= seconds
    run.deadline = Deadline(time.monotonic() + EXPLAIN_S if explained else -math.inf)
    for message in messages:
        run.take(message)
    run.stopped = stop_reason
    run.faults += [failure] if failure else []
    with collection_paused():
        return run.result()


def explain(problem: Document, plan: Document, subject: str | None = None, seconds: float = math.inf) -> tuple[Reason, ...]:
    """Why ``plan`` is as it is, for the whole or for one of the user's ids; KeyError for an id it cannot speak about.

    After about ``seconds`` what is left to explain is only counted.
    """
    return tuple(kind_of(problem).part("explain").explain(problem, plan, subject, seconds))


class _NoChild:
    """Stands in for the child when the search runs in this process."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


@dataclass(slots=True)
class _Run:
    """One solve: what came in, and what has been found so far."""

    kind: Kind
    problem: Document
    limits: Limits
    on_progress: Callable[[Progress], None] | None
    cancel: threading.Event
    on_message: Callable[[Message], None] | None = None
    goals: tuple[Goal, ...] = field(init=False)
    deadline: Deadline = field(init=False)
    started: float = field(default_factory=time.monotonic)
    plans: list[Found] = field(default_factory=list)
    bounds: dict[str, Bounded] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    trace: list[Progress] = field(default_factory=list)
    refuted: Refuted | None = None
    unlimited: Unlimited | None = None
    message: str = ""
    faults: list[str] = field(default_factory=list)  # ours, with which the solve could go on
    listener_failed: bool = False
    end: ChildEnd | None = None
    strategy: str = "heuristic"
    verify_s: float = 0.0
    stopped: StopReason | None = None  # known from elsewhere

    def __post_init__(self) -> None:
        """Read the goals and start the clock."""
        self.goals = self.kind.goals(self.problem)
        self.deadline = Deadline(self.started + self.limits.time_limit_s)

    def seconds(self) -> float:
        """Seconds since the solve began."""
        return time.monotonic() - self.started

    def child(self, *, isolate: bool) -> Child | _NoChild:
        """A child that imports the search meanwhile; a kind that converses may do without its exact program."""
        converses = self.kind.has("scale") and hasattr(self.kind.part("scale"), "converse")
        needed = [f"{self.kind.package}.{part}" for part in ("scale", "verify")] if converses else ["optimizer.compile"]
        return Child.start(imports=("optimizer.strategy", *needed), variables=ONE_CORE) if isolate else _NoChild()

    # ------------------------------------------------------------ the steps

    def begin(self, warm_start: Document | None) -> None:
        """Bounds by counting, the warm start, and the heuristic's plan."""
        began = time.monotonic()
        heuristic = self.kind.part("heuristic")
        for name, bound in heuristic.simple_bounds(self.problem).items():
            self.take(Bounded(self.seconds(), "counting", name, bound, COUNTING))
        if isinstance(warm_start, self.kind.plan):
            self._offer(warm_start, "warm start")
        elif warm_start is not None:
            self.message = f"the warm start was left aside: it is no plan of the kind {self.kind.name}"
        limit = self.limits.time_limit_s
        seconds = min(max(HEURISTIC_SHARE * limit, HEURISTIC_S), limit / 2)
        try:
            plan = heuristic.heuristic(self.problem, self.limits.seed, seconds)
        except Exception as error:  # noqa: BLE001  (the search may do without: report, do not give up)
            plan = None
            self.faults.append(f"the heuristic failed: {type(error).__name__}: {error}")
        if plan is not None:
            self._offer(plan, "heuristic")
        self.spent["heuristic"] = time.monotonic() - began

    def _offer(self, plan: Document, phase: str) -> None:
        began = time.monotonic()
        verdict = self.kind.verify(self.problem, plan)
        self.verify_s = max(self.verify_s, time.monotonic() - began)
        if verdict.ok:
            objectives = tuple(verdict.objectives[goal.name] for goal in self.goals)
            if not self.plans or lexicographically_better(self.goals, objectives, self.plans[-1].objectives):
                self.take(Found(self.seconds(), phase, plan, objectives))
        elif phase == "warm start":
            self.message = f"the warm start was left aside: {verdict.violations[0].message}"
        else:
            self.faults.append(f"the {phase}'s plan breaks {verdict.violation_count} rule(s): {verdict.violations[0].message}")

    def search(self, child: Child | None) -> None:
        """Let the strategy that fits the size work for the rest of the time."""
        # The answer is read, verified and explained after the search, which takes a few times what the heuristic's plan took.
        left = self.deadline.remaining_s() - min(ANSWER_SHARE * self.verify_s, self.limits.time_limit_s / 10)
        seconds = left - RESERVE_S - RESERVE_SHARE * left
        if self.cancel.is_set() or seconds <= 0 or self._closed():
            return
        starts = getattr(self.kind.part("scale"), "starts_from", None) if self.kind.has("scale") else None
        start = self.plans[-1].plan if self.plans and (starts is None or starts(self.problem)) else None
        task = Task(self.kind.name, self.problem, replace(self.limits, time_limit_s=seconds), start)
        if child is None:
            self._search_here(task)
            return
        with self._preparing():
            self.end = child.run(
                "optimizer.strategy:search",
                task,
                deadline_s=max(left, 1e-3),
                memory_gib=self.limits.memory_gib,
                cancel=self.cancel,
                on_message=self.take,
                grace_s=GRACE_S,
            )

    @contextlib.contextmanager
    def _preparing(self) -> Iterator[None]:
        """Meanwhile the other core works out here what the check of the answer will need, where the kind says what that is."""
        prepare = getattr(self.kind.part("verify"), "prepare", None)
        if prepare is None:
            yield
            return
        thread = threading.Thread(target=prepare, args=(self.problem,), name="preparing", daemon=True)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def _search_here(self, task: Task) -> None:
        from optimizer.strategy import search

        began = time.monotonic()
        try:
            search(task, self.take, self.cancel)
        except Exception:
            if self.listener_failed:
                raise
            self.end = ChildEnd("error", None, traceback.format_exc(), time.monotonic() - began, 0.0)

    def take(self, message: Message) -> None:
        """Note one message of the search and pass it on as progress of the first goal."""
        if isinstance(message, Spent):
            self.spent[message.phase] = self.spent.get(message.phase, 0.0) + message.seconds
        elif isinstance(message, Refuted | Unlimited | Searched):
            self.refuted = message if isinstance(message, Refuted) else self.refuted
            self.unlimited = message if isinstance(message, Unlimited) else self.unlimited
            self._tell(message)
        elif isinstance(message, Rejected):
            self.faults.append(f"a plan of phase '{message.phase}' was refused: {message.complaint}")
        elif isinstance(message, Found):
            if self.plans and not surpasses(self.goals, message.objectives, self.plans[-1].objectives, says_more=message.says_more):
                return
            self.plans.append(message)
            del self.plans[:-3]  # the last is the best; two more in case the last does not stand up to verification
            if message.phase not in ("heuristic", "warm start", "start"):
                self.strategy = message.phase
            self._tell(message)
            self._progress(message.phase)
        else:
            known = self.bounds.get(message.goal)
            goal = next(goal for goal in self.goals if goal.name == message.goal)
            if known is None or (message.bound < known.bound if goal.sense is Sense.maximise else message.bound > known.bound):
                self.bounds[message.goal] = message
                self._tell(message)
                if goal == self.goals[0]:
                    self._progress(message.phase)

    def _tell(self, message: Message) -> None:
        if self.on_message is not None:
            try:
                self.on_message(message)
            except BaseException:
                self.listener_failed = True
                raise

    def _progress(self, phase: str) -> None:
        incumbent = self.plans[-1].objectives[0] if self.plans else None
        bounded = self.bounds.get(self.goals[0].name)
        bound = bounded.bound if bounded is not None else None
        gap = relative_gap(incumbent, bound) if incumbent is not None and bound is not None else None
        progress = Progress(self.seconds(), phase, incumbent, bound, gap)
        self.trace.append(progress)
        if self.on_progress is not None:
            try:
                self.on_progress(progress)
            except BaseException:
                self.listener_failed = True
                raise

    def _closed(self) -> bool:
        return bool(self.plans) and all(certificate.gap <= self.limits.gap for certificate in self._goals(self.plans[-1].objectives))

    # ------------------------------------------------------------ the answer

    def result(self) -> Result:
        """Verify the best plan again and put the answer together."""
        began = time.monotonic()
        failure = ""
        chosen: tuple[Found, Verdict] | None = None
        while self.plans and chosen is None:
            found = self.plans[-1]
            verdict = self.kind.verify(self.problem, found.plan)
            problem = self._wrong(found, verdict)
            if problem:
                failure = f"{failure}{problem}\n"
                self.plans.pop()
            else:
                chosen = (found, verdict)
        self.spent["verify"] = self.spent.get("verify", 0.0) + time.monotonic() - began
        if failure or chosen is None:
            return self._without_plan(failure)
        if self.unlimited is not None:  # from a plan that was just verified: there is no best one to hand out
            self.message = f"{self.message} {self.unlimited.direction}".strip()
            return self._made(Outcome.unbounded, StopReason.gap, failure=self._crash_report())
        return self._with_plan(*chosen)

    def _wrong(self, found: Found, verdict: Verdict) -> str:
        """A bug report when the search's plan does not stand up, else nothing."""
        if not verdict.ok:
            broken = "; ".join(violation.message for violation in verdict.violations[:5])
            return f"the plan of phase '{found.phase}' breaks {verdict.violation_count} rule(s): {broken}"
        if self.refuted is not None:
            return f"the search called the problem infeasible, and the plan of phase '{found.phase}' breaks no rule"
        if self.unlimited is not None and math.isfinite(getattr(self.bounds.get(self.unlimited.goal), "bound", math.nan)):
            return f"the search called the goal {self.unlimited.goal} unlimited, and it has a bound"
        for goal, told in zip(self.goals, found.objectives, strict=True):
            if abs(told - verdict.objectives[goal.name]) > CROSSING * max(1.0, abs(told)):
                return f"the plan of phase '{found.phase}' was told to have {goal.name} {told:g}, it has {verdict.objectives[goal.name]:g}"
            objective, bounded = verdict.objectives[goal.name], self.bounds.get(goal.name)
            if bounded is None:
                continue
            beyond = objective - bounded.bound if goal.sense is Sense.maximise else bounded.bound - objective
            if beyond > CROSSING * max(1.0, abs(objective)):
                said = f"{goal.name} {objective:g}, beyond its bound {bounded.bound:g} ({bounded.method})"
                return f"the plan of phase '{found.phase}' has {said}"
        return ""

    def _goals(self, objectives: tuple[float, ...]) -> tuple[GoalCertificate, ...]:
        made = []
        for goal, objective in zip(self.goals, objectives, strict=True):
            bounded = self.bounds.get(goal.name)
            bound, method = (bounded.bound, bounded.method) if bounded is not None else (_nothing_proved(goal), "nothing proved")
            # Within rounding of each other the objective itself is the bound.
            bound = max(bound, objective) if goal.sense is Sense.maximise else min(bound, objective)
            made.append(GoalCertificate(goal.name, goal.sense.value, goal.unit, objective, bound, relative_gap(objective, bound), method))
        return tuple(made)

    def _with_plan(self, found: Found, verdict: Verdict) -> Result:
        began = time.monotonic()
        reasons: tuple[Reason, ...] = ()
        failure = None
        left = self.deadline.at_s - time.monotonic()
        try:
            if left + OVERTIME_S >= ANSWER_SHARE * self.verify_s:
                reasons = explain(self.problem, found.plan, seconds=max(left, EXPLAIN_S))
            else:
                self.message = f"{self.message} {UNEXPLAINED}".strip()
        except Exception as error:  # noqa: BLE001  (a plan with its proof is worth more than its explanation: report, do not lose it)
            failure = f"explaining the plan failed: {type(error).__name__}: {error}"
        self.spent["explain"] = time.monotonic() - began
        goals = self._goals(tuple(verdict.objectives[goal.name] for goal in self.goals))
        closed = all(goal.gap <= self.limits.gap for goal in goals)
        certificate = Certificate(
            goals=goals,
            largest_violation=verdict.largest_violation,
            verified=True,
            strategy=self.strategy,
            seed=self.limits.seed,
            versions=dict(_versions()),
        )
        return self._made(
            Outcome.optimal if closed else Outcome.feasible,
            StopReason.gap if closed else self._stopped(),
            plan=found.plan,
            certificate=certificate,
            verdict=verdict,
            reasons=reasons,
            failure=failure or self._crash_report(),
        )

    def _without_plan(self, failure: str) -> Result:
        if failure:
            return self._made(Outcome.no_plan, StopReason.crash, failure=f"{failure}{self._crash_report() or ''}".rstrip())
        if self.refuted is not None:
            return self._made(Outcome.infeasible, StopReason.gap, conflict=self.refuted.conflict, failure=self._crash_report())
        return self._made(Outcome.no_plan, self._stopped(), failure=self._crash_report())

    def _made(self, outcome: Outcome, stop_reason: StopReason, **parts: Any) -> Result:  # noqa: ANN401
        return Result(
            kind=self.kind.name,
            outcome=outcome,
            stop_reason=stop_reason,
            plan=parts.get("plan"),
            certificate=parts.get("certificate"),
            verdict=parts.get("verdict"),
            seconds=self.seconds(),
            seconds_by_phase=dict(self.spent),
            reasons=parts.get("reasons", ()),
            conflict=parts.get("conflict"),
            trace=tuple(self.trace),
            message=self.message,
            failure=parts.get("failure"),
        )

    def _stopped(self) -> StopReason:
        if self.stopped is not None:
            return self.stopped
        if self.cancel.is_set():
            return StopReason.cancelled
        if self.end is not None and self.end.reason in ("memory", "crash"):
            return StopReason(self.end.reason)
        if self.end is not None and self.end.reason == "error":
            return StopReason.crash
        return StopReason.deadline

    def _crash_report(self) -> str | None:
        reports = list(self.faults)
        if self.end is not None and self.end.reason in ("crash", "error"):
            reports.append(self.end.message[-OUTPUT_SIZE:])
        return "\n".join(reports) or None


def _nothing_proved(goal: Goal) -> float:
    return math.inf if goal.sense is Sense.maximise else -math.inf


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


__all__ = ["Conflict", "Limits", "conclude", "explain", "solve"]

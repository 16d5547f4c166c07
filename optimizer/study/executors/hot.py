"""Many problems that are much alike, one after another in one process, each started from what is known of the last.

What is kept from one to the next: the best plans (as a start, where they are right), the programs with their bases (``optimizer.kept``),
and what a kind's conversations remember. None of it is ever taken on trust: plans are verified, bounds are recomputed, and what a hot
start does not settle is asked from scratch. The same problem may so have another plan, equally good within the gap, after another one.
"""

from __future__ import annotations

import threading
import time
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from models.catalogue import kind_of
from models.garbage import collection_paused
from optimizer.incumbents import Bounded, Found, Message, Refuted, Searched, Spent, Unlimited, lexicographically_better
from optimizer.kept import KeptPrograms
from optimizer.limits import Deadline, Limits
from optimizer.result import Result, StopReason, relative_gap
from optimizer.solve import COUNTING, HEURISTIC_S, HEURISTIC_SHARE, OUTPUT_SIZE, RESERVE_S, RESERVE_SHARE, UNEXPLAINED, conclude
from optimizer.strategy import search
from optimizer.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.contract import Kind
    from models.vocabulary import Document

ANSWER_SHARE = 2.0  # of what the check of one plan takes, kept back from the search for the answer
WARM = "warm start"


class HotSolver:
    """Solves problems of one kind, one at a time, in this process and for one thread: whoever calls it supervises the process.

    ``base`` is the problem that the others are variants of. ``limits`` hold for each solve; ``diagnosing`` asks for the reasons of a
    proof that there is no plan, which may take as long as the solve. Raises UnknownKindError for a base of no kind.
    """

    def __init__(self, base: Document, limits: Limits, *, diagnosing: bool = False) -> None:
        self.base, self.limits = base, limits
        self.kept = KeptPrograms()
        self._kind = kind_of(base)
        self._diagnosing = diagnosing
        self._of_base: Document | None = None
        self._last: Document | None = None
        self._quick = False  # whether what is kept has led to an answer: then the heuristic is asked last

    def solve(
        self,
        problem: Document,
        *,
        start: Document | None = None,
        cancel: threading.Event | None = None,
        limits: Limits | None = None,
        on_message: Callable[[Message], None] | None = None,
    ) -> Result:
        """The answer that ``optimizer.solve.solve`` gives, without an explanation: ask ``optimizer.solve.explain`` for that.

        ``start`` is a plan to start from, beside those that are kept; ``limits`` replace those of all solves. The plan of the first
        problem solved, and of the last, are kept. ``on_message`` hears of each better plan and bound when it is found. Never raises for
        what a search runs into: that is a Result with ``failure``. Raises ValueError for a problem of another kind than the base, and
        what ``on_message`` raises.
        """
        kind = kind_of(problem)
        if kind != self._kind:
            raise ValueError(f"a problem of the kind {kind.name}, and the base is of the kind {self._kind.name}")
        limits = self.limits if limits is None else limits
        one = _Scenario(self._kind, problem, limits, cancel or threading.Event(), on_message)
        self.kept.begin()
        failure = None
        try:
            plans = [plan for plan in (start, self._of_base, self._last) if isinstance(plan, self._kind.plan)]
            before = self.kept.hot, self.kept.integer
            # A linear program starts from its basis: a plan would only be verified for nothing.
            one.begin([] if self._quick and not self.kept.memory and start is None else plans, greedily=not self._quick)
            one.search(self.kept, diagnosing=self._diagnosing)
            if self._quick and one.empty and not one.cancelled:  # what is kept has led nowhere
                self.kept.forget()
                one.begin(plans, greedily=True)
                one.search(self.kept, diagnosing=self._diagnosing)
            one.searched()
            self._quick = bool(self.kept.memory) or (self.kept.hot > before[0] and self.kept.integer == before[1])
        except Exception:
            if one.listener_failed:
                raise
            failure = traceback.format_exc()[-OUTPUT_SIZE:]
        result = one.concluded(failure)
        if result.failure is not None:
            self.kept.forget()
            self._quick = False
        if result.plan is not None:
            self._last = result.plan
            self._of_base = self._of_base or result.plan
        return result


class _Scenario:
    """One problem: what was heard of it so far, as messages that ``conclude`` makes an answer of."""

    def __init__(
        self, kind: Kind, problem: Document, limits: Limits, cancel: threading.Event, on_message: Callable[[Message], None] | None
    ) -> None:
        self._kind, self._problem, self._limits, self._cancel = kind, problem, limits, cancel
        self._on_message = on_message
        self.listener_failed = False
        self._goals = kind.goals(problem)
        self._began = time.monotonic()
        self._deadline = Deadline.after(limits.time_limit_s)
        self._messages: list[Message] = []
        self._best: Found | None = None
        self._bounds: dict[str, float] = {}
        self._verify_s = 0.0

    @property
    def empty(self) -> bool:
        """Whether there is neither a plan nor a proof that there is none."""
        return not any(isinstance(message, Found | Refuted | Unlimited) for message in self._messages)

    @property
    def cancelled(self) -> bool:
        """Whether the caller asked to stop."""
        return self._cancel.is_set()

    @collection_paused()
    def begin(self, plans: list[Document], *, greedily: bool) -> None:
        """Bounds by counting; the best of the plans that is right here, and the heuristic's where none is and ``greedily`` is set."""
        began = time.monotonic()
        heuristic = self._kind.part("heuristic")
        for name, bound in heuristic.simple_bounds(self._problem).items():
            self._bounds[name] = bound
            self._note(Bounded(self._seconds(), "counting", name, bound, COUNTING))
        seconds = min(max(HEURISTIC_SHARE * self._limits.time_limit_s, HEURISTIC_S), self._limits.time_limit_s / 2)
        self._start_from(plans, seconds)
        if self._best is None and greedily:
            self._offer(heuristic.heuristic(self._problem, self._limits.seed, seconds), "heuristic")
        if self._best is not None:
            self._note(self._best)
        self._note(Spent("heuristic", time.monotonic() - began))

    def _note(self, message: Message) -> None:
        self._messages.append(message)
        if self._on_message is not None:
            try:
                self._on_message(message)
            except BaseException:
                self.listener_failed = True
                raise

    def _start_from(self, plans: list[Document], seconds: float) -> None:
        """Offer the plans as they are; where the kind can make them plans of this problem, which takes longer, the first that it can."""
        carried = getattr(self._kind.part("scale"), "carried", None) if self._kind.has("scale") else None
        for place, plan in enumerate(plans):
            if any(plan is one for one in plans[:place]):
                continue
            self._offer(plan if carried is None else carried(self._problem, plan, seconds), WARM)
            if carried is not None and self._best is not None:
                return

    def _offer(self, plan: Document | None, phase: str) -> None:
        if plan is None:
            return
        began = time.monotonic()
        verdict = self._kind.verify(self._problem, plan)
        self._verify_s = max(self._verify_s, time.monotonic() - began)
        if not verdict.ok:
            return
        objectives = tuple(verdict.objectives[goal.name] for goal in self._goals)
        if self._best is None or lexicographically_better(self._goals, objectives, self._best.objectives):
            self._best = Found(self._seconds(), phase, plan, objectives)

    def search(self, kept: KeptPrograms, *, diagnosing: bool) -> None:
        """The search of ``optimizer.strategy``, unless counting has closed the gap already."""
        left = self._deadline.remaining_s() - ANSWER_SHARE * self._verify_s
        seconds = left - min(RESERVE_S, RESERVE_SHARE * self._limits.time_limit_s)
        if self._cancel.is_set() or seconds <= 0 or self._closed():
            return
        starts: Any = getattr(self._kind.part("scale"), "starts_from", None) if self._kind.has("scale") else None
        known = self._best is not None and (starts is None or starts(self._problem))
        plan = self._best.plan if self._best is not None and known else None
        task = Task(self._kind.name, self._problem, replace(self._limits, time_limit_s=seconds), plan)
        search(task, self._note, self._cancel, kept, diagnosing=diagnosing)

    def searched(self) -> None:
        """Tell that only checking is left."""
        self._note(Searched(self._seconds()))

    def _closed(self) -> bool:
        if self._best is None:
            return False
        worst = zip(self._goals, self._best.objectives, strict=True)
        return all(goal.name in self._bounds and relative_gap(value, self._bounds[goal.name]) <= self._limits.gap for goal, value in worst)

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def concluded(self, failure: str | None) -> Result:
        """Verify the best plan again and put the answer together."""
        stopped = StopReason.cancelled if self._cancel.is_set() else StopReason.deadline
        result = conclude(
            self._problem,
            self._limits,
            self._messages,
            stop_reason=StopReason.crash if failure is not None else stopped,
            seconds=self._seconds(),
            failure=failure,
            explained=False,
        )
        return replace(result, message=result.message.replace(UNEXPLAINED, "").strip())

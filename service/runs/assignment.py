"""One claimed run, from the claim to its answer: solved in a child, heard, written down, concluded whatever happens."""

from __future__ import annotations

import re
import threading
import time
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import structlog

from optimizer.child import ChildGoneError
from service.errors import LeaseLost, NotFound, ServiceError, Unavailable
from service.runs import store
from service.runs.database import NotStoredError
from service.runs.records import Answer, Incumbent, Material, Note
from service.runs.states import CancelMode, State

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from optimizer.child import ChildEnd
    from service.children import ChildPool
    from service.runs.bulletin import Bulletin
    from service.runs.database import Database
    from service.runs.records import Claim, Run
    from service.settings import Settings
    from service.telemetry import Telemetry

# What a child that was asked to stop still gets. One whose search is over is about to answer; one whose search is not
# is stuck in a solver, and what it has found is concluded by another child.
STUCK_S = 0.3
ANSWERING_S = 0.9
CANCELLED_S = 0.4
AT_ONCE_S = 0.02
CONCLUDE_S = 10.0  # far beyond the promise, for the largest plans: an answer that is late is better than none
CPU_SHARE = 1.5  # of a thread beside those asked for: the interpreter, numpy
CPU_S = 2.0
MOST_SPENT = 0.75  # of the time limit, by attempts before: the rest is for this one
LEAST_S = 1.0  # of it, for each attempt
LONGEST_SENTENCE = 300
PATH = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+[\w.+-]*")
MORE_CHILDREN = 2  # after a crash: from outside it may come again, and one of a solver's own making comes every time
AGAIN_SHARE = 0.1  # of the time limit: with less left a lost search is not begun again
SHORTEST_S = 0.01
AGAIN_S = 0.5  # between attempts to write the answer down
TASKS = "service.tasks"  # the module of what runs in children
SUCCESSES = frozenset({"optimal", "feasible", "infeasible", "unbounded"})
log = structlog.get_logger(__name__)

Ending = Literal["no", "cancelled", "discarded", "handed_back", "lost"]


class Assignment:
    """The work on one claim. ``run`` does it in the calling thread; the other methods may be called from any."""

    def __init__(
        self,
        claim: Claim,
        database: Database,
        settings: Settings,
        bulletin: Bulletin,
        pool: ChildPool,
        telemetry: Telemetry,
        scribe: Callable[[], None],
    ) -> None:
        self.claim, self.lease = claim, claim.lease
        self._database, self._settings, self._bulletin, self._pool, self._telemetry = database, settings, bulletin, pool, telemetry
        self._scribe = scribe
        # A run that was lost near the end of its time does not get all of it again; some, for it has to begin again.
        limit: float = claim.run.limits["time_limit_s"]
        self._began: float = time.monotonic() - max(min(claim.run.spent_s, MOST_SPENT * limit, limit - LEAST_S), 0.0)
        self._material = Material(b"")
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._ending: Ending = "no"
        self._searched = False
        self._notes: list[Note] = []
        self._best: dict[str, Any] | None = None
        self._bounds: dict[str, dict[str, Any]] = {}
        self._refuted: dict[str, Any] | None = None
        self._unbounded: dict[str, Any] | None = None

    # ------------------------------------------------------------ from any thread

    def cancel(self, mode: CancelMode) -> None:
        """End the search; its best plan is kept or not."""
        self._end("discarded" if mode is CancelMode.discard else "cancelled")

    def hand_back(self) -> None:
        """End the search: the run returns to the queue with what it has found."""
        self._end("handed_back")

    def lost(self) -> None:
        """The run was given to another worker: end the search and write nothing more."""
        self._end("lost")

    def _end(self, ending: Ending) -> None:
        with self._lock:
            # A stronger word replaces a weaker one: who asked to keep the plan may still decide to discard it.
            order: tuple[Ending, ...] = ("no", "cancelled", "discarded", "handed_back", "lost")
            if order.index(ending) > order.index(self._ending):
                self._ending = ending
        self._stop.set()

    def flush(self) -> None:
        """Write down what was heard since the last time; called by the worker's scribe."""
        notes = self._taken()
        if notes and self._ending != "lost":
            spent = self._seconds()
            try:
                future = self._database.submit(lambda connection: store.progress(connection, self.lease, notes, spent))
            except ServiceError:
                self._put_back(notes)
                raise
            future.add_done_callback(partial(self._flushed, notes))

    def _flushed(self, notes: list[Note], future: Future[Run]) -> None:
        error = future.exception()
        if isinstance(error, LeaseLost):
            self.lost()
        elif error is not None:
            self._put_back(notes)
        self._bulletin.publish(self.lease.position)

    def _put_back(self, notes: list[Note]) -> None:
        """What could not be written is written with what comes next."""
        with self._lock:
            self._notes = [*notes, *self._notes]

    def _taken(self) -> list[Note]:
        with self._lock:
            notes, self._notes = self._notes, []
        return notes

    # ------------------------------------------------------------ in the slot's thread

    def run(self) -> None:
        """Solve and write the answer. Raises LeaseLost when the run was given away, Unavailable when the worker stopped meanwhile."""
        try:
            self._read()
            answer = self._concluded("crash", self._lost_too_often()) if self.claim.conclude_only else self._solved()
        except (NotFound, ValueError, zlib.error) as error:
            log.exception("what belongs to the run cannot be read")
            answer = self._broken(f"its problem or its plan cannot be read from the database ({type(error).__name__})")
        if answer is None:
            return
        run = self._write_down(answer)
        self._telemetry.run_ended(run.kind, run.outcome or "", run.stop_reason or "", self._seconds(), self._limit(), run.gap)

    def _read(self) -> None:
        run = self.claim.run
        self._material = self._database.read(lambda connection: store.material(connection, run))
        known = self._material.incumbent
        if known is not None:
            self._best = {"type": "incumbent", "phase": known.phase, "seconds": 0.0, "objectives": list(known.objectives)}
            self._best |= {"plan": known.plan, "says_more": False}

    def _broken(self, failure: str) -> Answer:
        return Answer(State.failed, "no_plan", "crash", seconds=self._seconds(), failure=failure)

    def _lost_too_often(self) -> str | None:
        run = self.claim.run
        return None if run.cancel_mode is not None else f"{store.LOST}; the run was started {run.losses} times and lost each time"

    def _solved(self) -> Answer | None:
        """Solve in a child; in another when it is lost while there is time, from the best plan so far."""
        known = self._material.incumbent
        end = self._in_child(known.plan if known is not None else self._material.warm_start)
        for _ in range(MORE_CHILDREN):
            if end is None or end.reason != "crash" or self._ending != "no" or self._left() < AGAIN_SHARE * self._limit():
                break
            self._telemetry.child_killed("crash")
            log.warning("a child was lost; the run is started again in another", report=end.message)
            with self._lock:
                self._notes.append(
                    Note("message", {"text": f"the solving process was lost and started again: {sentence(end.message)}"}, time.time())
                )
            self._searched = False
            end = self._in_child(self._best["plan"] if self._best is not None else self._material.warm_start)
        return self._judged(end)

    def _limit(self) -> float:
        return float(self.claim.run.limits["time_limit_s"])

    def _left(self) -> float:
        return self._limit() - self._seconds()

    def _in_child(self, warm_start: bytes | None) -> ChildEnd | None:
        """How the child ended; None when there is none to be had."""
        limits = self.claim.run.limits
        left = max(self._left(), 0.0)
        target, payload = self._task(warm_start)
        try:
            return self._pool.run(
                target,
                payload | {"limits": limits | {"time_limit_s": max(left, SHORTEST_S)}},
                deadline_s=left,
                memory_gib=self._memory(),
                cancel=self._stop,
                on_message=self._heard,
                grace_s=self._grace,
                cpu_s=(limits["threads"] + CPU_SHARE) * left + CPU_S,
            )
        except ChildGoneError:
            self.hand_back()
            return None

    def _task(self, warm_start: bytes | None) -> tuple[str, dict[str, Any]]:
        """What a child is to do, and with what, limits aside."""
        payload: dict[str, Any] = {"kind": self.claim.run.kind, "problem": self._material.problem, "changes": self._material.changes}
        return f"{TASKS}:solve", payload | {"warm_start": warm_start}

    def _judged(self, end: ChildEnd | None) -> Answer | None:
        """The answer, or None when the run is no longer this worker's."""
        match self._ending:
            case "lost":
                raise LeaseLost(f"the lease of run {self.claim.run.id} is void")
            case "handed_back":
                self._hand_back()
                return None
            case "discarded":
                return self._discarded()
        assert end is not None  # noqa: S101  (only without a child, and that is handed back)
        if end.value is not None:
            return self._answer(end.value)
        stopped = {"deadline": "deadline", "cancelled": "cancelled", "memory": "memory"}.get(end.reason, "crash")
        self._telemetry.child_killed(stopped)
        log.warning(
            "a child did not answer and was ended", because=end.reason, report=end.message, peak_memory_gib=round(end.peak_memory_gib, 3)
        )
        return self._concluded(stopped, f"the solving process was lost: {sentence(end.message)}" if stopped == "crash" else None)

    def _discarded(self) -> Answer:
        told = "cancelled, and what was found is discarded"
        return Answer(State.cancelled, "no_plan", "cancelled", seconds=self._seconds(), message=told)

    def _memory(self) -> float | None:
        """The least of what is asked for and what is allowed, in GiB; None: no limit."""
        asked: float | None = self.claim.run.limits.get("memory_gib")
        return min((limit for limit in (asked, self._settings.memory_gib) if limit is not None), default=None)

    def _grace(self) -> float:
        if self._ending in ("discarded", "handed_back", "lost"):
            return AT_ONCE_S
        if self._searched:
            return ANSWERING_S
        return CANCELLED_S if self._ending == "cancelled" else STUCK_S

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    # ------------------------------------------------------------ what the child says

    def _heard(self, told: dict[str, Any]) -> None:
        note: Note | None = None
        now = time.time()
        figures = {name: told.get(name) for name in ("objective", "bound", "gap")}
        match told["type"]:
            case "read":
                note = Note("state", {"state": State.solving}, now, state=State.solving)
            case "searched":
                self._searched = True
                note = Note("state", {"state": State.verifying}, now, state=State.verifying)
            case "incumbent":
                self._best = told
                found = Incumbent(told["plan"], tuple(told["objectives"]), told["seconds"], told["phase"])
                note = Note("incumbent", figures | {"phase": told["phase"], "seconds": told["seconds"]}, now, incumbent=found)
            case "bound":
                self._bounds[told["goal"]] = told
                if told["first"]:
                    note = Note("bound", figures | {"phase": told["phase"], "seconds": told["seconds"]}, now)
            case "refuted":
                self._refuted = told
            case "unbounded":
                self._unbounded = told
        if note is not None:
            with self._lock:
                # Of two better plans, or two bounds, in one breath only the last is worth writing.
                if self._notes and self._notes[-1].type == note.type != "state":
                    self._notes.pop()
                self._notes.append(note)
            self._scribe()

    # ------------------------------------------------------------ answers

    def _answer(self, value: dict[str, Any]) -> Answer:
        figures = {
            name: value["figures"][name]
            for name in ("outcome", "stop_reason", "objective", "bound", "gap", "verified", "message", "failure")
        }
        asked = self._ending != "no" or self.claim.run.cancel_mode is not None
        if figures["stop_reason"] == "cancelled" and not asked:
            figures["stop_reason"] = "deadline"  # a child is told to stop in the same way when its time is up
        cancelled = figures["stop_reason"] == "cancelled"
        state = State.cancelled if cancelled else State.succeeded if figures["outcome"] in SUCCESSES else State.failed
        if figures["failure"] is not None:
            log.error("a part of a solve failed", report=figures["failure"])
            if "the plan of phase" in figures["failure"] and figures["outcome"] == "no_plan":
                self._telemetry.verify_failed()
            figures["failure"] = sentence(figures["failure"])
        return Answer(state, seconds=self._seconds(), parts=value["parts"], **figures)

    def _concluded(self, stop_reason: str, failure: str | None) -> Answer | None:
        """The answer from what the child had said before it ended: verified and explained by another child."""
        mode = self.claim.run.cancel_mode
        if mode is CancelMode.discard:
            return self._discarded()
        if mode is not None and failure is None:
            stop_reason = "cancelled"
        if self._best is None:
            return self._without_plan(stop_reason, failure)
        proofs = [told for told in (self._refuted, self._unbounded) if told is not None]
        payload: dict[str, Any] = {"kind": self.claim.run.kind, "problem": self._material.problem, "changes": self._material.changes}
        payload["limits"] = self.claim.run.limits
        payload |= {"messages": [*self._bounds.values(), self._best, *proofs], "stop_reason": stop_reason, "failure": failure}
        ended = ""
        for explained in (True, False):  # what cannot be explained, or not in time, is verified all the same
            payload |= {"seconds": self._seconds(), "explained": explained}
            try:
                end = self._pool.run(f"{TASKS}:conclude", payload, deadline_s=CONCLUDE_S, memory_gib=self._memory())
            except ChildGoneError:
                self._hand_back()
                return None
            if self._ending == "discarded":
                return self._discarded()
            if end.value is not None:
                return self._answer(end.value)
            self._telemetry.child_killed("crash")
            ended = end.reason
            log.error("the best plan could not be concluded", because=ended, report=end.message)
        return self._without_plan(stop_reason, f"{failure or ''} the best plan could not be concluded ({ended})".strip())

    def _without_plan(self, stop_reason: str, failure: str | None) -> Answer:
        refuted = self._refuted is not None and self._best is None
        first = next((told for told in self._bounds.values() if told["first"]), None)
        parts = {}
        if refuted and self._refuted is not None and self._refuted["conflict"] is not None:
            from service import answers

            parts["conflict"] = answers.body(self._refuted["conflict"])
        state = State.succeeded if refuted else State.cancelled if stop_reason == "cancelled" else State.failed
        return Answer(
            state,
            "infeasible" if refuted else "no_plan",
            "gap" if refuted else stop_reason,
            bound=first["bound"] if first is not None else None,
            seconds=self._seconds(),
            failure=failure,
            parts=parts,
        )

    # ------------------------------------------------------------ the database

    def _write_down(self, answer: Answer) -> Run:
        """Write until it is written: an answer is not lost because the database rests. One that it refuses ends as a failure."""
        notes = self._taken()
        while True:
            try:
                run = self._database.write(partial(store.finish, lease=self.lease, answer=answer, notes=notes))
            except Unavailable as error:
                if self._ending in ("handed_back", "lost"):
                    raise
                log.warning("the answer waits for the database", reason=error.detail)
                time.sleep(AGAIN_S)
            except NotStoredError:
                if not (answer.parts or notes):
                    raise
                answer, notes = self._broken("the database refused the answer"), []
            else:
                self._bulletin.publish(self.lease.position)
                return run

    def _hand_back(self) -> None:
        notes = self._taken()

        def operation(connection: Any) -> None:  # noqa: ANN401  (SQLAlchemy's connection)
            store.progress(connection, self.lease, notes)
            store.hand_back(connection, self.lease, "its worker stopped")

        try:
            self._database.write(operation)
            self._telemetry.lease_handed_back()
        except ServiceError as error:
            log.warning("a run could not be handed back; its lease will run out", reason=error.detail)


def sentence(report: str) -> str:
    """A crash report in one sentence for whoever asked: what it was, without traceback and without paths; the log has the whole."""
    lines = [line.strip() for line in report.splitlines() if line.strip()]
    line = (lines[-1] if "Traceback (most recent call last)" in report else lines[0]) if lines else "no report"
    return PATH.sub("...", line)[:LONGEST_SENTENCE]

"""The solvers' side of a kind's conversation: answers its steps within the time, and verifies every plan it offers.

See ``models.conversation``. One that meets its deadline or is cancelled is closed where it stands: what was offered and proved
by then is kept.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from models.conversation import Again, Endless, Generate, Impossible, Offered, Proved, Solve, Solved
from optimizer.backend import ProgramProgress, ProgramResult, ProgramStatus, UnsupportedProgram
from optimizer.columns import generate
from optimizer.highs import HighsBackend, Options
from optimizer.incumbents import Unlimited
from optimizer.limits import Deadline
from optimizer.live import LiveProgram
from optimizer.networkflow import NetworkFlowBackend

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    from models.contract import Kind
    from models.conversation import Conversation
    from optimizer.incumbents import Incumbents
    from optimizer.kept import KeptPrograms
    from optimizer.limits import Limits

LEAST_S = 1e-3
Value = TypeVar("Value")


class Solvers:
    """Answers the steps that ask for a solve, within a deadline.

    ``timed`` is told what the time goes to; ``offer`` takes the plans that a step makes of incumbents, with their phase. ``kept`` holds
    programs of earlier problems, to start from.
    """

    def __init__(
        self,
        limits: Limits,
        deadline: Deadline,
        cancel: threading.Event | None,
        timed: Callable[[str], AbstractContextManager[object]] = lambda _phase: nullcontext(),
        offer: Callable[[Any, str], object] | None = None,
        kept: KeptPrograms | None = None,
    ) -> None:
        self._limits, self._deadline, self._cancel = limits, deadline, cancel
        self._timed, self._offer, self._session = timed, offer, kept
        self._kept: dict[str, LiveProgram] = {}

    def limited(self, share: float, gap: float | None = None) -> Limits:
        """The limits of one solve that may take ``share`` of the time left."""
        seconds = max(share * self._deadline.remaining_s(), LEAST_S)
        return replace(self._limits, time_limit_s=seconds, gap=self._limits.gap if gap is None else gap)

    def solve(self, step: Solve) -> Solved:
        """Solve a program anew, and keep it where the step names it."""
        limits = self.limited(step.share, step.gap)
        if step.method == "network":
            return self._as_network(step, limits)
        options = Options(method=step.method, crossover=step.crossover, presolve_rule_off=step.presolve_rule_off)
        if step.keep is not None:
            with self._timed("hand_over"):
                self._kept[step.keep] = LiveProgram(step.program, limits, options)
            with self._timed("solve"):
                live = self._kept[step.keep]
                return _told(live.solve(limits, start=step.start, on_progress=self._ear(step), cancel=self._cancel))
        with self._timed("solve"):
            solver = HighsBackend(options) if self._session is None else self._session.solver(options)
            return _told(solver.solve(step.program, limits, start=step.start, on_progress=self._ear(step), cancel=self._cancel))

    def _ear(self, step: Solve) -> Callable[[ProgramProgress], None] | None:
        heard, offer = step.heard, self._offer
        if heard is None or offer is None:
            return None

        def on_progress(progress: ProgramProgress) -> None:
            if progress.values is not None:
                plan = heard(progress.values)
                if plan is not None:
                    offer(plan, step.phase)

        return on_progress

    def _as_network(self, step: Solve, limits: Limits) -> Solved:
        with self._timed("solve"):
            try:
                return _told(NetworkFlowBackend().solve(step.program, limits, cancel=self._cancel))
            except UnsupportedProgram:
                return Solved(ProgramStatus.error.value)

    def again(self, step: Again) -> Solved:
        """Edit a program that was kept, and solve it from where it stands."""
        live = self._kept[step.name]
        with self._timed("hand_over"):
            _edit(live, step)
        with self._timed("solve"):
            return _told(live.solve(self.limited(step.share), cancel=self._cancel))


def _edit(live: LiveProgram, step: Again) -> None:
    if step.new_columns is not None:
        new = step.new_columns
        live.add_columns(new.cost, new.lower, new.upper, new.starts, new.indices, new.values)
    if step.new_rows is not None:
        rows = step.new_rows
        live.add_rows(rows.lower, rows.upper, rows.starts, rows.indices, rows.values)
    if step.row_edits is not None:
        live.change_row_bounds(step.row_edits.rows, step.row_edits.lower, step.row_edits.upper)
    edits = step.column_edits
    if edits is not None and (edits.lower is not None or edits.upper is not None):
        lower = live.program.column_lower[edits.columns] if edits.lower is None else edits.lower
        upper = live.program.column_upper[edits.columns] if edits.upper is None else edits.upper
        live.change_column_bounds(edits.columns, lower, upper)
    if edits is not None and edits.cost is not None:
        live.change_cost(edits.columns, edits.cost)


def answered(steps: Generator[Any, Any, Value], limits: Limits, cancel: threading.Event | None = None) -> Value:
    """What a conversation returns that asks for solves only, such as the what-if curve of a kind.

    Raises TypeError for a step that is no solve.
    """
    solvers = Solvers(limits, Deadline.after(limits.time_limit_s), cancel)
    answer: Any = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        match step:
            case Solve():
                answer = solvers.solve(step)
            case Again():
                answer = solvers.again(step)
            case _:
                raise TypeError(f"a conversation about no plan asked for {type(step).__name__}; it may ask for Solve and Again")


class Talk:
    """One conversation about one problem. ``refute`` is called when the kind has proved that no plan exists.

    With ``kept``, a kind whose ``scale.REMEMBERS`` is true gets ``memory``, a dict in which its conversations about one problem after
    another leave what the next may start from.
    """

    def __init__(
        self,
        kind: Kind,
        incumbents: Incumbents,
        limits: Limits,
        deadline: Deadline,
        cancel: threading.Event,
        refute: Callable[[], None],
        kept: KeptPrograms | None = None,
    ) -> None:
        self._kind, self._incumbents, self._limits = kind, incumbents, limits
        self._deadline, self._cancel, self._refute, self._kept = deadline, cancel, refute, kept
        self._goals = {goal.name: goal for goal in incumbents.goals}
        self._solvers = Solvers(limits, deadline, cancel, incumbents.timed, incumbents.offer, kept)

    def run(self) -> None:
        """Answer until the kind has no more to ask or time is up."""
        incumbents = self._incumbents
        asked = (incumbents.problem, incumbents.plan, self._limits.seed, self._deadline.remaining_s(), self._limits.gap)
        scale = self._kind.part("scale")
        more = {"memory": self._kept.memory} if self._kept is not None and getattr(scale, "REMEMBERS", False) else {}
        steps: Conversation = scale.converse(*asked, **more)
        answer: Any = None
        try:
            while not (self._deadline.passed or self._cancel.is_set()):
                try:
                    with incumbents.timed("search"):
                        step = steps.send(answer)
                except StopIteration:
                    return
                if isinstance(step, Impossible):
                    self._refute()
                    return
                if isinstance(step, Endless):
                    incumbents.send(Unlimited(step.goal, step.direction))
                    return
                answer = self._answer(step)
        finally:
            steps.close()

    def _answer(self, step: Solve | Again | Generate | Offered | Proved) -> Any:  # noqa: ANN401  (each step has its own answer)
        incumbents = self._incumbents
        match step:
            case Offered():
                with incumbents.timed("verify"):
                    return incumbents.offer(step.plan, step.phase, says_more=step.says_more)
            case Proved():
                incumbents.bound(self._goals[step.goal], step.bound, step.method, step.method)
                return incumbents.closed(self._limits.gap)
            case Solve():
                return self._solvers.solve(step)
            case Again():
                return self._solvers.again(step)
            case Generate():
                return self._generated(step)

    def _generated(self, step: Generate) -> Solved:
        incumbents = self._incumbents
        goal = None if step.goal is None else self._goals[step.goal]

        def on_bound(bound: float) -> None:
            if goal is not None:
                incumbents.bound(goal, bound, step.method_text, step.method_text)

        with incumbents.timed("solve"):
            found = generate(
                step.source,
                self._solvers.limited(step.share),
                tolerance=step.tolerance,
                on_bound=on_bound,
                on_spent=incumbents.send,
                cancel=self._cancel,
            )
        status = ProgramStatus.optimal if found.complete else ProgramStatus.no_solution if found.values is None else ProgramStatus.feasible
        return Solved(status.value, found.values, found.objective, found.bound, found.row_duals)


def _told(result: ProgramResult) -> Solved:
    return Solved(result.status.value, result.values, result.objective, result.bound, result.row_duals, result.reduced_costs)

"""The problems of many scenarios solved as batches of linear programs: those of the same shape together, by ``optimizer.batch``.

Each goal in turn is one program of every problem, with the goals before held at what they attained, as ``optimizer.strategy.Direct``
does for one problem alone. Plans are verified, bounds are those of recomputed duals. What is no linear program, or leads to no right
plan, is solved by ``optimizer.solve``, one problem at a time.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from models.catalogue import kind_of
from models.garbage import collection_paused
from optimizer.backend import ProgramStatus
from optimizer.batch import BatchAnswer, Engines, solve_batch
from optimizer.incumbents import Bounded, Found, Message, lexicographically_better
from optimizer.limits import Deadline, Limits
from optimizer.result import StopReason
from optimizer.solve import COUNTING, conclude, solve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.contract import Goal, Kind
    from models.program import LinearProgram
    from models.vocabulary import Document
    from optimizer.batch.solving import Device
    from optimizer.compile import Compiled
    from optimizer.result import Result

PHASE = "batch"
METHODS = {
    "first order": "dual bound of a batched first-order solve, recomputed",
    "highs": "dual bound of the exact program, recomputed from the duals by HiGHS",
}
SMALLEST_GAP = 1e-9  # a first-order method cannot be asked for none at all
BATCH_SHARE = 0.8  # of the time for all; the rest is for problems that a batch cannot answer


def solve_together(
    problems: Sequence[Document],
    limits: Limits,
    *,
    device: Device | None = None,
    cancel: threading.Event | None = None,
) -> list[Result]:
    """Solve problems of any kinds and return an answer for each, in their order, as ``optimizer.solve.solve`` gives it, unexplained.

    All together may take ``limits.time_limit_s`` for each problem; the gap of the limits is what each program is solved to. A goal
    without an objective of its own (the slack of fairness) is not sought: what a plan has of it is verified, and no bound beyond counting
    is claimed. ``device`` None: a GPU where there is one.

    Raises UnknownKindError for a problem of no kind, TorchMissingError without torch, ValueError for a device that is not there.
    """
    cancel = cancel or threading.Event()
    deadline = Deadline.after(limits.time_limit_s * len(problems))
    engines = Engines(device=device, threads=limits.threads)
    scenarios = [_Scenario(kind_of(problem), problem) for problem in problems]
    batched = Deadline.after(BATCH_SHARE * deadline.remaining_s())
    began = time.monotonic()
    with collection_paused():
        common = _Common()
        active = [one for one in scenarios if one.next(common)]
        while active and not (batched.passed or cancel.is_set()):
            programs = [one.program for one in active]
            answers = solve_batch(programs, tolerance=max(limits.gap, SMALLEST_GAP), seconds=batched.remaining_s(), engines=engines)
            active = [one for one, answer in zip(active, answers, strict=True) if one.take(answer) and one.next(common)]
    each = (time.monotonic() - began) / max(1, len(problems))
    return [_result(one, limits, each, deadline, cancel) for one in scenarios]


class _Common:
    """What problems have in common: names of rows and columns, and which goals have no objective."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], LinearProgram] = {}
        self.without_objective: set[tuple[str, str]] = set()

    def named(self, program: LinearProgram) -> LinearProgram:
        """The program with the names of one before it, where they are equal: of many large programs these are most of the memory."""
        blocks = program.row_blocks, program.column_blocks
        key = tuple((block.name, block.start, len(block.ids)) for family in blocks for block in family)
        known = self._known.setdefault(key, program)
        if known is program or not _same_ids(known, program):
            return program
        return replace(program, row_blocks=known.row_blocks, column_blocks=known.column_blocks)


def _same_ids(one: LinearProgram, other: LinearProgram) -> bool:
    pairs = zip((*one.row_blocks, *one.column_blocks), (*other.row_blocks, *other.column_blocks), strict=True)
    return all(tuple(mine.ids) == tuple(theirs.ids) for mine, theirs in pairs)


@dataclass(eq=False)
class _Scenario:
    """One problem on its way through the goals, and what is known of it as messages that ``conclude`` makes an answer of."""

    kind: Kind
    problem: Any  # each kind has its own Problem type
    goals: tuple[Goal, ...] = field(init=False)
    messages: list[Message] = field(default_factory=list)
    complaint: str = ""
    closed: bool = True  # whether every program was solved to the gap
    left_out: list[str] = field(default_factory=list)  # goals that were not sought
    _names: tuple[Any, ...] = ()
    _at: int = -1
    _floors: dict[Any, float] = field(default_factory=dict)
    _best: Found | None = None
    _program: LinearProgram | None = None

    def __post_init__(self) -> None:
        """Read the goals, and what counting proves of them."""
        self.goals = self.kind.goals(self.problem)
        self._names = tuple(self.problem.ordered_goals())
        for name, bound in self.kind.part("heuristic").simple_bounds(self.problem).items():
            self.messages.append(Bounded(0.0, "counting", name, bound, COUNTING))

    @property
    def program(self) -> LinearProgram:
        """The program of the goal that is sought."""
        if self._program is None:
            raise RuntimeError("there is no program: ask for the next first")
        return self._program

    @property
    def answered(self) -> bool:
        """Whether there is a right plan, and nothing was refused."""
        return self._best is not None and not self.complaint

    def next(self, common: _Common) -> bool:
        """Build the program of the next goal that has an objective; False where there is none, or none for a batch."""
        while (at := self._at + 1) < len(self.goals):
            if at and self._best is not None:
                self._floors[self._names[at - 1]] = self._best.objectives[at - 1]
            self._at = at
            kind_of_goal = self.kind.name, self.goals[at].name
            program = None if kind_of_goal in common.without_objective else common.named(self._compiled(at).program)
            if program is not None and program.is_mip:
                self.complaint = "its exact program has integer columns"
                return False
            if program is not None and (program.cost.any() or not at):
                self._program = program
                return True
            common.without_objective.add(kind_of_goal)
            self.left_out.append(self.goals[at].name)
        return False

    def _compiled(self, at: int) -> Compiled:
        from optimizer.compile import compile_model

        return compile_model(self.kind.part("formulation").build(self.problem, self._names[at], self._floors))

    def take(self, answer: BatchAnswer) -> bool:
        """Note the plan and the bound of an answer; False where the problem is not for a batch after all."""
        program, goal = self.program, self.goals[self._at]
        self._program = None
        self.closed &= answer.status is ProgramStatus.optimal
        if answer.status not in (ProgramStatus.optimal, ProgramStatus.feasible) or answer.values is None:
            self.complaint = f"its program is {answer.status.value} ({answer.detail})"
            return False
        values = {block.name: dict(zip(block.ids, answer.values[block.rows].tolist(), strict=True)) for block in program.column_blocks}
        plan = self.kind.part("formulation").extract(self.problem, values)
        verdict = self.kind.verify(self.problem, plan)
        if not verdict.ok:
            self.complaint = f"the plan of its program breaks a rule: {verdict.violations[0].message}"
            return False
        objectives = tuple(verdict.objectives[one.name] for one in self.goals)
        if self._best is None or lexicographically_better(self.goals, objectives, self._best.objectives):
            self._best = Found(0.0, PHASE, plan, objectives)
            self.messages.append(self._best)
        if answer.bound is not None:
            self.messages.append(Bounded(0.0, PHASE, goal.name, answer.bound, METHODS[answer.by]))
        return True


def _result(one: _Scenario, limits: Limits, seconds: float, deadline: Deadline, cancel: threading.Event) -> Result:
    """The answer of a batch, or of a plain solve where the batch has none; ``seconds`` is what the batch took for each problem."""
    if one.answered:
        stopped = StopReason.cancelled if cancel.is_set() else StopReason.gap if one.closed else StopReason.deadline
        result = conclude(one.problem, limits, one.messages, stop_reason=stopped, seconds=seconds, explained=False)
        told = f"not sought, as a batch has no objective for it: {', '.join(one.left_out)}" if one.left_out else ""
    else:
        left = replace(limits, time_limit_s=max(min(limits.time_limit_s, deadline.remaining_s()), 1e-3))
        result = solve(one.problem, left, cancel=cancel)
        told = f"not for a batch: {one.complaint}" if one.complaint else ""
    return replace(result, message=f"{result.message} {told}".strip())

"""The search itself: a small problem as one exact program, goal after goal; a large one by its relaxation.

Runs in a child process (``optimizer.solve`` starts it) and knows kinds only through their hooks. Everything it finds it
reports at once through the incumbents, so that a kill at any moment loses nothing that was reported.
"""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from models.catalogue import kind as kind_named
from models.garbage import collection_paused
from optimizer.backend import ProgramProgress, ProgramResult, ProgramStatus
from optimizer.columns import Generated, generate
from optimizer.conversation import Talk
from optimizer.diving import dive
from optimizer.highs import HighsBackend
from optimizer.incumbents import Incumbents, Message, Refuted, Unlimited
from optimizer.limits import Deadline, Limits
from optimizer.neighbourhoods import improve
from optimizer.recession import improving_recession
from optimizer.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from models.contract import Goal, Kind
    from models.program import Floats, LinearProgram
    from optimizer.backend import Backend
    from optimizer.compile import Compiled
    from optimizer.diagnose import Repair
    from optimizer.kept import KeptPrograms
    from optimizer.recession import Recession
    from optimizer.result import Conflict

DIRECT_COLUMNS = 20_000  # up to about this many the exact program is built and solved at once
RESCUE_COLUMNS = 400_000  # up to about this many it is tried where no plan was found
RESCUE_SHARE = 0.5  # of what is left of the time, for the heuristic where there are more
RELAXATION_SHARE = 0.5  # of the time: the bound comes first, but a plan must follow
PACK_ABOVE = 0.005  # relative gap of the guided plan up to which neighbourhoods gain more per second than packing anew
PARTS_BELOW = 0.03  # relative gap of a plan that came with the problem, up to which parts of it are packed anew and not all
PARTS_UNTIL = 2e-5  # relative gap of the first goal below which parts stop, though a later goal may be open
MOST_PARTS = 8
FILL_S = 0.3  # for seating what is left over, at the very end
EXCHANGE_SHARE = 0.3  # of what is left, for one round
EXCHANGE_GAP = 1e-3
METHOD_TREE = "branch and bound of the exact program, by {}"
METHOD_DUALS = "dual bound of the exact program, recomputed from the duals by {}"
MOST_STEPS = 5  # columns of a direction of recession that are told


def search(
    task: Task,
    send: Callable[[Message], None],
    cancel: threading.Event,
    kept: KeptPrograms | None = None,
    *,
    diagnosing: bool = True,
) -> None:
    """Search within the task's limits and report through ``send``; the entry point of the child process.

    ``kept`` holds programs of problems that were solved before in this process. ``diagnosing=False`` saves the reasons of a proof that
    there is no plan.
    """
    kind = kind_named(task.kind)
    incumbents = Incumbents(kind, task.problem, send)
    if task.plan is not None:
        incumbents.adopt(task.plan)
    deadline = Deadline.after(task.limits.time_limit_s)
    at_scale = kind.has("scale") and kind.part("scale").applies(task.problem)
    if at_scale and hasattr(kind.part("scale"), "converse"):
        exact = Direct(kind, incumbents, task.limits, deadline, cancel, diagnosing=diagnosing)
        Talk(kind, incumbents, task.limits, deadline, cancel, exact.refute, kept).run()
        return
    if not at_scale or kind.part("formulation").size(task.problem) <= DIRECT_COLUMNS:
        Direct(kind, incumbents, task.limits, deadline, cancel, diagnosing=diagnosing, kept=kept).run()
    else:
        AtScale(kind, incumbents, task.limits, deadline, cancel, carried=kept is not None).run()


class Direct:
    """The exact program, one goal after another, each held at what it attained while the next is sought.

    ``diagnosing=False`` saves the search for a conflict when there is no plan: for parts of a larger problem.
    """

    def __init__(
        self,
        kind: Kind,
        incumbents: Incumbents,
        limits: Limits,
        deadline: Deadline,
        cancel: threading.Event,
        *,
        diagnosing: bool = True,
        kept: KeptPrograms | None = None,
    ) -> None:
        self._kind = kind
        self._diagnosing = diagnosing
        self._incumbents = incumbents
        self._limits = limits
        self._deadline = deadline
        self._cancel = cancel
        self._backend: Backend = HighsBackend() if kept is None else kept.solver()

    @cached_property
    def _formulation(self) -> ModuleType:
        """Loaded with its modelling language when it is first needed: a kind that converses may do without."""
        return self._kind.part("formulation")

    def run(self) -> None:
        """Solve for every goal in order; stops early when time is up or no plan exists."""
        incumbents = self._incumbents
        floors: dict[Any, float] = {}
        names = dict(zip((goal.name for goal in incumbents.goals), incumbents.problem.ordered_goals(), strict=True))
        for number, goal in enumerate(incumbents.goals):
            if self._deadline.passed or self._cancel.is_set():
                return
            result = self._solve(goal, names[goal.name], floors)
            if result.status is ProgramStatus.infeasible and incumbents.objectives is None:
                self.refute()
                return
            if incumbents.objectives is None or result.status is ProgramStatus.unbounded:
                return
            floors[names[goal.name]] = incumbents.objectives[number]

    def refute(self) -> None:
        """Tell that no plan exists, at once, lest the proof be lost with the search for its reasons; then the reasons."""
        self._incumbents.send(Refuted(None))
        if self._diagnosing and self._formulation.size(self._incumbents.problem) <= RESCUE_COLUMNS:
            self._incumbents.send(Refuted(self._conflict(self._incumbents.problem.ordered_goals()[0])))

    def _conflict(self, goal: Any) -> Conflict | None:  # noqa: ANN401  (each kind has its own goal names)
        """Why no plan exists, in the kind's own words; None when time ran out before a conflict was found."""
        if self._deadline.passed:
            return None
        from optimizer.compile import compile_model
        from optimizer.diagnose import diagnose

        words = self._kind.part("explain")
        program = compile_model(self._formulation.build(self._incumbents.problem, goal, {}, hasten=False)).program
        rules = frozenset(self._kind.rules)
        return diagnose(
            program,
            HighsBackend(),
            self._left(),
            units=words.rule_units(),
            keep=frozenset(block.name for block in program.row_blocks if block.name not in rules),
            firm=words.FIRM_RULES,
            cut=words.CUT_COLUMNS,
            wording=self._worded,
            cancel=self._cancel,
        )

    def _worded(self, repair: Repair) -> str:
        words = self._kind.part("explain")
        own = getattr(words, "repair_in", None)
        if own is None:
            return str(words.repair_text(repair.name, repair.ids, repair.amount))
        return str(own(self._incumbents.problem, repair.name, repair.ids, repair.amount, too_few=repair.too_few))

    def _solve(self, goal: Goal, name: Any, floors: dict[Any, float]) -> ProgramResult:  # noqa: ANN401
        from optimizer.compile import compile_model

        incumbents = self._incumbents
        with incumbents.timed("build"):
            model = self._formulation.build(incumbents.problem, name, floors)
        with incumbents.timed("hand_over"):
            compiled = compile_model(model)
            start = self._start(compiled)

        method = (METHOD_TREE if compiled.program.is_mip else METHOD_DUALS).format(self._backend.name)

        def heard(progress: ProgramProgress) -> None:
            if progress.values is not None:
                self._offer(compiled, progress.values, goal)
            if progress.bound is not None:
                incumbents.bound(goal, self._integral(progress.bound), method, goal.name)

        with incumbents.timed("solve"):
            result = self._backend.solve(compiled.program, self._left(), start=start, on_progress=heard, cancel=self._cancel)
        if result.values is not None:
            self._offer(compiled, result.values, goal, result)
        if result.bound is not None:
            incumbents.bound(goal, self._integral(result.bound), method, goal.name)
        if result.status is ProgramStatus.unbounded:
            self._tell_unlimited(compiled, goal)
        return result

    def _tell_unlimited(self, compiled: Compiled, goal: Goal) -> None:
        """A plan, and a direction from it without end; nothing is claimed where one of them is missing."""
        incumbents, program = self._incumbents, compiled.program
        with incumbents.timed("solve"):
            if incumbents.plan is None:
                found = self._backend.solve(replace(program, cost=np.zeros(program.columns)), self._left(), cancel=self._cancel)
                if found.values is not None:
                    self._offer(compiled, found.values, goal)
            direction = improving_recession(program, self._backend, self._left(), cancel=self._cancel)
        if incumbents.plan is not None and direction is not None:
            incumbents.send(Unlimited(goal.name, _told(program, goal, direction)))

    def _left(self) -> Limits:
        return replace(self._limits, time_limit_s=max(self._deadline.remaining_s(), 1e-3))

    @staticmethod
    def _integral(bound: float) -> float:
        """A bound within rounding of a whole number, as that number."""
        return float(round(bound)) if abs(bound - round(bound)) <= 1e-9 * max(1.0, abs(bound)) else bound

    def _start(self, compiled: Compiled) -> Floats | None:
        if self._incumbents.plan is None:
            return None
        values = self._formulation.start(self._incumbents.problem, self._incumbents.plan)
        known = {
            name: {_bare(ids): number for ids, number in family.items() if _bare(ids) in compiled.columns[name]}
            for name, family in values.items()
            if name in compiled.columns
        }
        return compiled.vector_of(known)

    def _offer(self, compiled: Compiled, values: Floats, goal: Goal, result: ProgramResult | None = None) -> None:
        """Offer the plan of ``values``; with the prices of a linear program that ``result`` has solved to its optimum."""
        incumbents = self._incumbents
        plan = self._formulation.extract(incumbents.problem, compiled.values_by_ids(values))
        priced = getattr(self._formulation, "priced", None)
        if priced is None or result is None or result.status is not ProgramStatus.optimal or result.row_duals is None:
            incumbents.offer(plan, goal.name)
        else:
            told = priced(incumbents.problem, plan, result.row_duals, result.reduced_costs)
            incumbents.offer(told, goal.name, says_more=told != plan)


def _told(program: LinearProgram, goal: Goal, direction: Recession) -> str:
    """``the goal objective gains 2 for each step of: x +1, y +0.5``, in the columns that move most."""
    order = np.argsort(-np.abs(direction.steps), kind="stable")
    moving = [column for column in order.tolist() if direction.steps[column] != 0.0]
    steps = ", ".join(f"{program.column_name(column)} {direction.steps[column]:+.6g}" for column in moving[:MOST_STEPS])
    more = f" and {len(moving) - MOST_STEPS:,} more columns" if len(moving) > MOST_STEPS else ""
    word = "grows" if program.maximise else "falls"
    return f"the goal {goal.name} {word} by {direction.gain:.6g} with each step of {steps}{more}, and no limit ever stops these steps"


def _bare(ids: Any) -> Any:  # noqa: ANN401  (Pyomo's indices: a scalar's None, a single id, or a tuple)
    """Pyomo's form of an id tuple."""
    return ids if len(ids) > 1 else ids[0] if ids else None


class AtScale:
    """The relaxation by groups for the bound, the plans it leads to, then neighbourhoods until time is up."""

    def __init__(
        self, kind: Kind, incumbents: Incumbents, limits: Limits, deadline: Deadline, cancel: threading.Event, *, carried: bool = False
    ) -> None:
        """``carried``: the plan that there is may be one of a problem much like this."""
        self._kind, self._carried = kind, carried
        self._scale = kind.part("scale")
        self._incumbents = incumbents
        self._limits = limits
        self._deadline = deadline
        self._cancel = cancel

    def run(self) -> None:
        """Bound the first goal, make plans from the relaxation, bound the other goals, then improve."""
        incumbents, problem = self._incumbents, self._incumbents.problem
        goals = incumbents.goals
        source, generated = self._relaxed(goals[0], {}, None)
        if self._carried and hasattr(self._scale, "part") and incumbents.gap(goals[0]) <= PARTS_BELOW:
            self._by_parts(goals[0], source)
        if not self._done() and (not self._carried or incumbents.gap(goals[0]) > self._limits.gap):
            self._packed(source, generated, PACK_ABOVE)
        if incumbents.plan is None and not self._done():
            self._rescue()
        self._exchange()
        if source is not None and not self._done():
            # Before the long search: a better first goal later only loosens what is proved of the others now.
            self._bound_later(source)
        if not self._done():
            with incumbents.timed("neighbourhoods"):
                rng = random.Random(self._limits.seed)
                improve(self._kind, incumbents, rng, self._limits, self._deadline, self._cancel)
        if incumbents.plan is not None and not incumbents.closed(self._limits.gap):
            incumbents.offer(self._scale.filled(problem, incumbents.plan, FILL_S), "filling")

    def _packed(self, source: Any, generated: Generated | None, above: float) -> None:  # noqa: ANN401
        """Plans from the relaxation: one that follows it, and where that leaves a gap above ``above``, one packed anew."""
        incumbents = self._incumbents
        if source is None or generated is None or generated.values is None:
            return
        with incumbents.timed("solve"):
            plan = self._scale.guided(incumbents.problem, source, generated.values, self._deadline.remaining_s())
            if plan is not None:
                incumbents.offer(plan, "guided")
        if not self._done() and incumbents.gap(incumbents.goals[0]) > above:
            self._pack(source, generated)

    def _by_parts(self, goal: Goal, source: Any) -> None:  # noqa: ANN401
        """Large parts of a plan that is good already, each packed anew from a relaxation of its own, until every goal's gap is closed.

        What is proved of the later goals rests on what the first has attained: while they are open it is made better than asked for.
        """
        incumbents = self._incumbents
        rng = random.Random(self._limits.seed)
        for _ in range(MOST_PARTS):
            if source is not None and incumbents.gap(goal) <= self._limits.gap:
                self._bound_later(source)
            if self._done() or incumbents.plan is None or incumbents.gap(goal) <= min(PARTS_UNTIL, self._limits.gap):
                return
            with incumbents.timed("build"):
                part = self._scale.part(incumbents.problem, incumbents.plan, rng)
            if part is None:
                continue
            inner = Incumbents(self._kind, part.problem, lambda _: None)
            inner.adopt(part.plan)
            within = AtScale(self._kind, inner, self._limits, self._deadline, self._cancel)
            with incumbents.timed("parts"):
                within._packed(*within._relaxed(inner.goals[0], {}, None), 0.0)
                if inner.plan is not None:
                    incumbents.offer(part.merge(inner.plan), "parts")

    def _rescue(self) -> None:
        """There is nothing to improve yet: the exact program finds a plan or proves that there is none, or the heuristic has more time."""
        problem = self._incumbents.problem
        if self._kind.part("formulation").size(problem) <= RESCUE_COLUMNS:
            Direct(self._kind, self._incumbents, self._limits, self._deadline, self._cancel).run()
            return
        with self._incumbents.timed("solve"):
            plan = self._kind.part("heuristic").heuristic(problem, self._limits.seed, RESCUE_SHARE * self._deadline.remaining_s())
        if plan is not None:
            self._incumbents.offer(plan, "heuristic")

    def _done(self) -> bool:
        return self._incumbents.closed(self._limits.gap) or self._deadline.passed or self._cancel.is_set()

    def _relaxed(self, goal: Goal, floors: dict[str, float], known: Any) -> tuple[Any, Generated | None]:  # noqa: ANN401
        incumbents = self._incumbents
        with incumbents.timed("build"), collection_paused():
            source = self._scale.relaxation(incumbents.problem, goal.name, floors, known)
        if source is None:
            return None, None
        limits = replace(self._limits, time_limit_s=max(RELAXATION_SHARE * self._deadline.remaining_s(), 1e-3))
        with incumbents.timed("solve"):
            generated = generate(
                source,
                limits,
                on_bound=lambda bound: incumbents.bound(goal, bound, self._scale.METHOD, "relaxation"),
                on_spent=incumbents.send,
                cancel=self._cancel,
            )
        return source, generated

    def _bound_later(self, known: Any) -> None:  # noqa: ANN401
        incumbents = self._incumbents
        if incumbents.objectives is None:
            return
        floors: dict[str, float] = {}
        for goal, value in zip(incumbents.goals, incumbents.objectives, strict=True):
            if floors and not self._deadline.passed:
                self._relaxed(goal, dict(floors), known)
            floors[goal.name] = value

    def _exchange(self) -> None:
        """Rounds of the kind's own small program around the incumbent, while they gain; nothing where the kind has none."""
        incumbents = self._incumbents
        while incumbents.plan is not None and not self._done():
            with incumbents.timed("solve"):
                around = self._scale.exchange(incumbents.problem, incumbents.plan)
            if around is None:
                return
            with incumbents.timed("build"):
                program = around.program()
            if program is None:
                return
            limits = replace(self._limits, time_limit_s=max(EXCHANGE_SHARE * self._deadline.remaining_s(), 1e-3), gap=EXCHANGE_GAP)
            with incumbents.timed("solve"):
                result = HighsBackend().solve(program, limits, start=np.zeros(program.columns), cancel=self._cancel)
                gained = result.values is not None and incumbents.offer(around.plan(result.values), "exchange")
            if not gained:
                return

    def _pack(self, source: Any, generated: Generated) -> None:  # noqa: ANN401
        incumbents = self._incumbents
        assert generated.values is not None  # noqa: S101  (the caller looked)
        seconds = self._deadline.remaining_s()
        packed = self._scale.packing(incumbents.problem, source, generated.values, 0.2 * seconds)
        if packed is None:
            return
        limits = replace(self._limits, time_limit_s=max(0.35 * seconds, 1e-3))
        with incumbents.timed("solve"):
            rest = generate(packed.source, limits, cancel=self._cancel)
            if rest.values is not None:
                limits = replace(limits, time_limit_s=max(0.7 * self._deadline.remaining_s(), 1e-3))
                dive(packed.begin(rest.live.program), rest.live, limits, cancel=self._cancel)
            incumbents.offer(packed.plan(0.5 * self._deadline.remaining_s()), "packing")

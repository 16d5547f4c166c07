"""The search for the best transfers: column generation over paths in time and, for several targets, trees.

Three stages: least missing (only while no plan is known), most value (only where transfers have one), least cost. Each ends when no way
is left that gains anything, or the bound of ``master`` meets the plan. The cheapest trees of transfers with very many targets are
not found exactly; then the exact program's relaxation, in which copies may be coded, is the bound.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.conversation import Impossible, Offered, Proved, Solve
from models.flow.schema import GoalName
from models.flow.transfers.exact import build, size
from models.flow.transfers.expansion import expansion_of
from models.flow.transfers.first import alone, parts_of, plan_of, shipped
from models.flow.transfers.master import Master
from models.flow.transfers.trees import is_exact, is_quick

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from models.conversation import Conversation, Solved, Step
    from models.flow.schema import Plan, Problem
    from models.flow.transfers.expansion import Legs
    from models.flow.transfers.master import Stage
    from models.program import Floats

METHOD = "prices of links and storage over time, with the cheapest tree of each transfer at these prices"
METHOD_CODED = "linear relaxation over time in which copies may be coded, recomputed from the duals"
PHASE = "ways over time"
PULL = 0.8  # how far prices are drawn to those of the best bound: they swing less, and fewer rounds do (P. Wentges, 1997)
CORNER_WAYS = 300  # up to so many the program is solved to a corner in every round; prices of an inner point mislead less
CLOSE = 0.5  # of the gap that the user wants: where a stage ends
CLOSE_VALUE = 1e-7  # relative; the value is a floor for the cost, so it is sought exactly
USED = 0.9  # of the time: then what the program has is made into a plan
CODED_COLUMNS = 400_000  # up to about this many the relaxation is built


class _Best(NamedTuple):
    """The best bound of a stage, in the master's units, the row duals that prove it, and whether the driver calls every goal closed."""

    bound: float
    duals: Floats
    closed: bool


class _Ended(NamedTuple):
    """How a stage ended."""

    answer: Solved
    best: _Best


def converse(problem: Problem, plan: Plan | None, seed: int, seconds: float, gap: float) -> Conversation:
    """Search as above. Deterministic: ``seed`` is not used."""
    del seed
    yield from _Search(problem, seconds, gap).run(plan)


class _Search:
    """The master and what was attained."""

    def __init__(self, problem: Problem, seconds: float, gap: float) -> None:
        self._problem, self._gap = problem, gap
        self._expansion = expansion_of(problem)
        self._until = time.monotonic() + USED * seconds
        self._first = alone(self._expansion)
        self._master = Master(self._expansion, self._first)
        self._value = 0.0
        self._open: list[int] = []
        # How prices are drawn, and whether any cheap way will do: ways that take long to find wait until others gain nothing.
        both = ((PULL, True), (0.0, True))
        slow = not all(is_quick(self._expansion, one) for one in range(self._expansion.count))
        self._manners = (*both, (PULL, False), (0.0, False)) if slow else both

    def run(self, plan: Plan | None) -> Conversation:
        """All stages."""
        expansion, master = self._expansion, self._master
        first = self._first
        self._open = [one.transfer for one in first if one.legs]
        if any(expansion.required[one.transfer] and not one.legs for one in first):
            yield Impossible()
            return
        master.add((one.transfer, one.legs) for one in first if one.legs)
        parts = parts_of(expansion, plan) if plan is not None else shipped(expansion, expansion.usd, self._until)[0]
        master.add((part.transfer, part.legs) for part in parts)
        self._value = master.value(parts) if plan is not None else 0.0
        if plan is None and expansion.required.any():
            stage = master.missing_stage()
            ended = yield from self._stage(stage, 0.0)
            if master.impossible(ended.best.bound, master.prices(ended.best.duals)):
                yield Impossible()
                return
            if ended.answer.values is None or not (yield from self._offer(ended.answer)):
                yield from self._coded()
                return
        if not expansion.required.all():
            ended = yield from self._stage(master.value_stage(GoalName.transfer_value.value), CLOSE_VALUE)
            if ended.best.closed:
                return
            yield from self._offer(ended.answer)
        ended = yield from self._stage(master.cost_stage(GoalName.transfer_cost.value, self._value), CLOSE * self._gap)
        yield from self._offer(ended.answer)
        if not ended.best.closed and not all(is_exact(expansion, one) for one in self._open):
            yield from self._coded()

    def _stage(self, stage: Stage, close: float) -> Generator[Step, Any, _Ended]:
        """Add ways until none gains, the bound is close enough, or time is up; ends at a corner of the program, which uses few ways."""
        master, best = self._master, _Best(-np.inf, self._master.no_duals(), closed=False)
        rounds = 0
        while True:
            inner = len(master.known) > CORNER_WAYS
            answer: Solved = yield Solve(master.program(stage), method="ipm" if inner else "choose", crossover=not inner)
            if inner and answer.status != "optimal":
                answer = yield Solve(master.program(stage))
            if answer.status != "optimal" or answer.row_duals is None or answer.objective is None:
                break
            rounds += 1
            best, gaining = yield from self._priced(stage, answer.row_duals, best)
            if best.closed or answer.objective - best.bound <= close * max(1e-9, abs(answer.objective)) or time.monotonic() > self._until:
                break
            if stage.goal is None and (answer.objective <= 0.0 or master.impossible(best.bound, master.prices(best.duals))):
                break
            if not master.add(gaining):
                break
            if rounds & (rounds - 1) == 0 and stage.goal is not None:
                yield from self._offer(answer)
        if inner and not best.closed:
            corner: Solved = yield Solve(master.program(stage), method="ipm")
            answer = corner if corner.values is not None else answer
        return _Ended(answer, best)

    def _priced(self, stage: Stage, row_duals: Floats, best: _Best) -> Generator[Step, Any, tuple[_Best, list[tuple[int, Legs]]]]:
        """The best bound after this round, and the ways that gain at the row duals."""
        master, now = self._master, self._master.prices(row_duals)
        gaining: list[tuple[int, Legs]] = []
        for pull, quick in self._manners:
            if not quick and (gaining or time.monotonic() > self._until):
                break
            duals = pull * best.duals + (1.0 - pull) * row_duals
            prices = master.prices(duals)
            found = master.priced(stage, prices, self._open, quick=quick)
            bound, closed = master.bound(stage, prices, found), best.closed
            if bound > best.bound:
                if stage.goal is not None:
                    closed = yield Proved(stage.goal, bound * stage.unit, METHOD)
                best = _Best(bound, duals, closed)
            gaining += master.gaining(stage, now, found)
        return best, gaining

    def _offer(self, answer: Solved) -> Generator[Step, Any, bool]:
        """Offer the plan that an answer holds; True when it has one."""
        if answer.values is None:
            return False
        parts = self._master.parts(answer.values, self._value)
        if parts is None:
            return False
        yield Offered(plan_of(self._expansion, parts), PHASE)
        self._value = max(self._value, self._master.value(parts))
        return True

    def _coded(self) -> Conversation:
        """Bounds of the relaxation, or the proof that it has no plan either."""
        if size(self._problem) > CODED_COLUMNS:
            return
        floors: dict[str, float] = {}
        for goal in self._problem.ordered_goals():
            answer: Solved = yield Solve(build(self._problem, goal, floors), method="ipm", crossover=False)
            if answer.status == "infeasible":
                yield Impossible()
                return
            if answer.bound is not None and (yield Proved(goal, answer.bound, METHOD_CODED)):
                return
            floors[goal] = self._value

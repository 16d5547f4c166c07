"""The search where the exact program can be solved as it is: its relaxation for bound and prices, then branch and bound."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from models.conversation import Impossible, Offered, Proved, Solve
from models.tiering.blocks import program
from models.tiering.formulation_cells import cells_of
from models.tiering.formulation_plan import plan_of, values_of
from models.tiering.schema import Rule, TierPrice
from models.tiering.verify import goals, verify

if TYPE_CHECKING:
    from models.conversation import Conversation
    from models.program import Floats, LinearProgram
    from models.tiering.formulation_cells import Cells
    from models.tiering.schema import GoalName, Plan, Problem

RELAXATION = "relaxation of the exact program, bound recomputed from its duals"
TREE = "branch and bound of the exact program"
PHASE = "exact program"
RELAXATION_SHARE = 0.4  # of the time left
LEAST_PRICE = 1e-12
TIER_RULES = (Rule.tier_capacity, Rule.read_bandwidth, Rule.write_bandwidth)


def converse(problem: Problem, plan: Plan | None) -> Conversation:
    """Every goal held at what it attained while the next is sought; the plans carry the prices of the first goal's relaxation."""
    cells = cells_of(problem)
    floors: dict[GoalName, float] = {}
    prices: tuple[TierPrice, ...] = ()
    best = plan
    for number, goal in enumerate(problem.goals):
        exact = program(problem, goal, floors, cells)
        relaxed = yield Solve(exact.relaxed(), share=RELAXATION_SHARE)
        if relaxed.status == "infeasible" and best is None:
            yield Impossible()
            return
        if relaxed.bound is not None:
            yield Proved(goal.value, relaxed.bound, RELAXATION)
        if number == 0 and relaxed.row_duals is not None:
            prices = _prices(exact, relaxed.row_duals)
            if best is not None:
                best = best.model_copy(update={"prices": prices})
                yield Offered(best, PHASE, says_more=True)
        start = None if best is None else np.concatenate(values_of(problem, cells, best))
        solved = yield Solve(exact, start=start, heard=partial(_plan, problem, cells, prices), phase=PHASE)
        if solved.status == "infeasible" and best is None:
            yield Impossible()
            return
        if solved.values is not None:
            found = _plan(problem, cells, prices, solved.values)
            yield Offered(found, PHASE)
            if best is None or not _better(problem, best, found):  # what was heard on the way may be as good: the answer tells nothing
                best = found
        if solved.bound is not None:
            yield Proved(goal.value, solved.bound, TREE)
        if best is None:
            return
        floors[goal] = verify(problem, best).objectives[goal.value]


def _plan(problem: Problem, cells: Cells, prices: tuple[TierPrice, ...], values: Floats) -> Plan:
    width = len(cells.object)
    return plan_of(problem, cells, values[:width], values[width : width + len(cells.read)], prices)


def _better(problem: Problem, first: Plan, second: Plan) -> bool:
    """Whether the first plan beats the second, or the second is wrong."""
    one, other = verify(problem, first), verify(problem, second)
    if not other.ok:
        return True
    for goal in goals(problem):
        values = one.objectives[goal.name], other.objectives[goal.name]
        if goal.better(*values) or goal.better(*reversed(values)):
            return goal.better(*values)
    return False


def _prices(exact: LinearProgram, row_duals: Floats) -> tuple[TierPrice, ...]:
    """What one more unit of each tier's limits is worth to the relaxation, where it is worth anything."""
    found = []
    for block in exact.row_blocks:
        if block.name in TIER_RULES:
            for ids, dual in zip(block.ids, row_duals[block.rows].tolist(), strict=True):
                if dual < -LEAST_PRICE:
                    found.append(TierPrice(rule=Rule(block.name), tier=str(ids[0]), price=-dual))  # type: ignore[arg-type]
    return tuple(found)

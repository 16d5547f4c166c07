"""The search of problems with failures, as a conversation: reservations that survive, least loss in the worst scenarios, or a sweep.

Reservations: the program starts with what holds while nothing fails. Each round adds the scenario rows that its values break; where
all paths are allowed and no row is broken, the paths that its duals miss. Rounds prove bounds: rows left out only make the program's
optimum better, and what paths left out could add is counted in ``ReservationProgram.missed``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.conversation import Again, Endless, Impossible, Offered, Proved, Solve
from models.flow.failures.cvar import Tail
from models.flow.failures.protected import Protected
from models.flow.schema import FailureMode

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from models.conversation import Conversation, Solved, Step
    from models.flow.failures.program import ReservationProgram, Stage
    from models.flow.schema import Plan, Problem
    from models.program import Floats

METHOD = "scenario rows and path columns"
PHASE = "scenario rows"
KEPT = "reservations"
MOST_ROUNDS = 1000
CLOSE = 1e-7  # relative to the bound: what is left to gain is not worth a round


def converse(problem: Problem, plan: Plan | None, seed: int, seconds: float, gap: float) -> Conversation:
    """The search for a problem with failures; see ``models.conversation``."""
    if problem.failures is not None and problem.failures.mode is FailureMode.sweep:
        from models.flow.failures.sweep import sweep

        yield from sweep(problem, plan, seed, seconds, gap)
        return
    protect = problem.failures is not None and problem.failures.mode is FailureMode.protect
    yield from _reserve(Protected(problem) if protect else Tail(problem))


def _reserve(program: ReservationProgram) -> Conversation:
    answer: Solved = yield Solve(program.program(), keep=KEPT)
    stages = program.stages()
    for place, stage in enumerate(stages):
        values = yield from _staged(program, stage, answer)
        if values is None:
            return
        plan = program.plan(values)
        if plan is not None:
            yield Offered(plan, PHASE, says_more=True)
        if stage.goal is not None and program.endless(stage, values[stage.column]):
            yield Endless(stage.goal, "what demands are granted over links without a limit")
            return
        if place + 1 < len(stages):
            answer = yield Again(KEPT, column_edits=program.between(stage, values, stages[place + 1]))


def _staged(program: ReservationProgram, stage: Stage, answer: Solved) -> Generator[Step, Any, Floats | None]:
    """Rounds of one stage until no row is broken and no path is missed; the values, None when the search ends here."""
    for number in range(1, MOST_ROUNDS + 1):
        values, duals = answer.values, answer.row_duals
        if answer.status not in {"optimal", "feasible"} or values is None or duals is None or answer.bound is None:
            return None
        if number & (number - 1) == 0 and (plan := program.plan(values)) is not None:
            yield Offered(plan, PHASE)
        # Rows first, then columns: after rows alone the basis is still dual feasible, after columns alone primal feasible.
        rows = program.new_rows(program.violated(values))
        columns = None
        if rows is None or not program.open_choice:
            missed, excess = program.missed(duals) if stage.proves else ([], 0.0)
            bound = answer.bound - excess
            if np.isfinite(bound):
                refuted = yield from _told(program, stage, bound)
                if refuted:
                    return None
            if rows is None and excess > CLOSE * max(1.0, abs(bound)):
                columns = program.new_columns(missed)
        if rows is None and columns is None:
            return values
        answer = yield Again(KEPT, new_columns=columns, new_rows=rows)
    return None


def _told(program: ReservationProgram, stage: Stage, bound: float) -> Generator[Step, Any, bool]:
    """Tell a bound; whether it proves that no plan exists."""
    if stage.goal is not None:
        if program.endless(stage, stage.sign * bound):
            return False
        yield Proved(stage.goal, stage.sign * bound * stage.unit, METHOD)
        return False
    if program.impossible(stage, stage.sign * bound):
        yield Impossible()
        return True
    return False

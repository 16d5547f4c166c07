"""Column generation: a program with more columns than anyone wants to write down, solved through a small master.

The master starts with a few columns; each round solves it, asks the source for the columns that its duals price best, and
adds them. The bound needs no convergence: the dual bound of the restricted master plus the ``excess`` that the missing
columns could add is valid in every round (Farley, Operations Research 38, 1990, in the Lagrangian form).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optimizer.backend import ProgramStatus
from optimizer.bounds import dual_bound, usable_duals
from optimizer.incumbents import Spent
from optimizer.limits import Deadline, Limits
from optimizer.live import LiveProgram

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from models.contract import ColumnSource
    from models.program import Floats

MOST_ROUNDS = 500


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """Where column generation ended: the live master, its last values and row duals, and the best bound of all rounds.

    ``values`` and ``row_duals`` are None when not even the first master was solved in time; ``complete`` says that the
    bound meets the master's optimum, so that no column is missing.
    """

    live: LiveProgram
    values: Floats | None
    row_duals: Floats | None
    objective: float | None
    bound: float
    rounds: int
    complete: bool


def generate(
    source: ColumnSource,
    limits: Limits,
    *,
    tolerance: float = 1e-7,
    on_bound: Callable[[float], None] | None = None,
    on_spent: Callable[[Spent], None] | None = None,
    cancel: threading.Event | None = None,
) -> Generated:
    """Solve the source's program within ``limits``; stops once the bound is within ``tolerance`` (relative) of the master.

    ``on_bound`` hears each better bound, ``on_spent`` what building the master and handing it over took.

    Raises SolverError when HiGHS refuses a call.
    """
    deadline = Deadline.after(limits.time_limit_s)
    began = time.monotonic()
    program = source.master()
    built = time.monotonic()
    live = LiveProgram(program, limits)
    if on_spent is not None:
        on_spent(Spent("build", built - began))
        on_spent(Spent("hand_over", time.monotonic() - built))
    worst = math.inf if program.maximise else -math.inf
    best = Generated(live, None, None, None, worst, 0, complete=False)
    for rounds in range(1, MOST_ROUNDS + 1):
        if deadline.passed or (cancel is not None and cancel.is_set()):
            break
        result = live.solve(replace(limits, time_limit_s=max(deadline.remaining_s(), 1e-3)), cancel=cancel)
        if result.row_duals is None:
            break
        # Bound and excess at the same duals: those of a solve cut short may have signs that no bound can use.
        duals = usable_duals(live.program, result.row_duals)
        priced = source.price(duals)
        excess = priced.excess if program.maximise else -priced.excess
        bound = dual_bound(live.program, duals) + excess
        bound = min(best.bound, bound) if program.maximise else max(best.bound, bound)
        if on_bound is not None and bound != best.bound:
            on_bound(bound)
        if result.status is not ProgramStatus.optimal or result.objective is None:
            return replace(best, bound=bound, rounds=rounds)
        complete = abs(bound - result.objective) <= tolerance * max(1.0, abs(bound))
        best = Generated(live, result.values, result.row_duals, result.objective, bound, rounds, complete=complete)
        if complete or not len(priced.cost):
            break
        live.add_columns(priced.cost, priced.lower, priced.upper, priced.starts, priced.indices, priced.values)
    return best

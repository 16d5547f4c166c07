"""Diving: a relaxation becomes a plan by fixing parts of it, round by round, and solving the rest again.

The kind says which small programs to ask and which answers to fix (``models.contract.Dive``); the driver keeps the
relaxation live, so that each round starts from the basis of the one before.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from optimizer.highs import HighsBackend
from optimizer.limits import Deadline, Limits

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from models.contract import Dive
    from models.program import Floats, LinearProgram
    from optimizer.live import LiveProgram

PART_SECONDS = 0.3  # for one small program: a good part now is worth more than the best one later
PART_GAP = 1e-4


def dive(source: Dive, live: LiveProgram, limits: Limits, *, cancel: threading.Event | None = None) -> int:
    """Run ``source`` on the relaxation ``live`` (which it changes) until nothing is left, or time is up; the number of rounds.

    What is fixed when time runs out stays fixed in ``source``. Raises SolverError when HiGHS refuses a call.
    """
    deadline = Deadline.after(limits.time_limit_s)
    rounds = 0
    with ThreadPoolExecutor(max_workers=limits.threads) as pool:
        while not deadline.passed and not (cancel is not None and cancel.is_set()):
            result = live.solve(replace(limits, time_limit_s=max(deadline.remaining_s(), 1e-3), threads=1), cancel=cancel)
            if result.values is None or result.row_duals is None:
                break
            programs = source.programs(result.values, result.row_duals)
            answers = _answers(pool, programs, limits, deadline, cancel)
            edits = source.take(answers) if programs else None
            rounds += 1
            if edits is None:
                break
            live.change_row_bounds(edits.rows, edits.lower, edits.upper)
    return rounds


def _answers(
    pool: ThreadPoolExecutor, programs: Sequence[LinearProgram], limits: Limits, deadline: Deadline, cancel: threading.Event | None
) -> list[Floats | None]:
    part = replace(limits, time_limit_s=min(PART_SECONDS, max(deadline.remaining_s(), 1e-3)), gap=PART_GAP, threads=1)
    backend = HighsBackend()
    return list(pool.map(lambda program: backend.solve(program, part, cancel=cancel).values, programs))

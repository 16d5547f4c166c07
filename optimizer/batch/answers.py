"""What is claimed of a point: values that are feasible, a bound recomputed from duals, and the gap between the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from optimizer.backend import ProgramResult, ProgramStatus, accepted, measured_gap, with_duals
from optimizer.batch.shrinking import feasible_near, payable_near
from optimizer.result import StopReason

if TYPE_CHECKING:
    from models.program import Floats, LinearProgram

By = Literal["first order", "highs"]


@dataclass(frozen=True, slots=True, eq=False)
class BatchAnswer:
    """What became of one program of a batch.

    ``values`` (columns,) and ``objective`` are there exactly when the status is optimal or feasible; ``optimal`` says that the gap is
    within the tolerance. ``primal_infeasibility`` is the largest break of a row or bound, relative to the larger of 1 and that side, at
    most 1e-6. ``bound`` is recomputed in numpy from ``row_duals`` (rows,), signed as ``ProgramResult.row_duals``: no feasible values beat
    it, whoever made the duals. ``gap`` is relative to the larger of 1 and the objective, None without both numbers. ``iterations`` are
    those of the first-order method; ``by`` says whose answer it is, and ``detail`` why HiGHS was asked.
    """

    status: ProgramStatus
    by: By
    values: Floats | None = None
    row_duals: Floats | None = None
    objective: float | None = None
    bound: float | None = None
    gap: float | None = None
    primal_infeasibility: float | None = None
    iterations: int = 0
    detail: str = ""


def judged(program: LinearProgram, values: Floats, row_duals: Floats, tolerance: float) -> ProgramResult:
    """A point of a first-order method, made feasible and held against the bound that its duals prove.

    ``row_duals`` (rows,) are signed as ``ProgramResult.row_duals``. The status is ``optimal`` where the gap is within the tolerance,
    ``feasible`` where it is not, and ``no_solution`` where the values cannot be made feasible.
    """
    unjudged = ProgramResult(ProgramStatus.no_solution, StopReason.deadline)
    found = accepted(program, feasible_near(program, values)) if np.isfinite(values).all() else None
    duals = np.where(np.isfinite(row_duals), row_duals, 0.0)
    result = with_duals(unjudged, program, found, duals, tolerance)
    if result.status is ProgramStatus.optimal:
        return result
    other = with_duals(unjudged, program, found, payable_near(program, duals), tolerance)
    return other if _tighter(program, other.bound, result.bound) else result


def answer_of(program: LinearProgram, result: ProgramResult, by: By, *, iterations: int = 0, detail: str = "") -> BatchAnswer:
    """The answer that a judged result makes."""
    return BatchAnswer(
        status=result.status,
        by=by,
        values=result.values,
        row_duals=result.row_duals,
        objective=result.objective,
        bound=result.bound,
        gap=measured_gap(result.objective, result.bound),
        primal_infeasibility=None if result.values is None else program.relative_violation(result.values),
        iterations=iterations,
        detail=detail,
    )


def _tighter(program: LinearProgram, one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is not None
    return one < other if program.maximise else one > other

"""Why a program has no best values: a direction along which every feasible point can go on for ever and the goal only gains.

A direction d is one of recession when ``A d`` and ``d`` never run against a side that is there. From any feasible point x, all of
``x + t d`` is then feasible, so ``c'd`` improving means no limit. With integer columns and rational data the same holds once one
feasible point is known: some multiple of d is whole (Meyer, Mathematical Programming 7, 1974).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from optimizer.backend import ProgramStatus

if TYPE_CHECKING:
    import threading

    from models.program import Floats, LinearProgram
    from optimizer.backend import Backend
    from optimizer.limits import Limits

CLOSE = 1e-9  # relative to the sizes of a row's terms: how nearly a row must not run against its side
GAIN = 1e-7  # relative to the largest cost: less gain than this per unit of the largest step is noise


@dataclass(frozen=True, slots=True, eq=False)
class Recession:
    """A direction that passed the check: ``steps``, shape (columns,), the largest of size 1, and what the objective gains by one of it."""

    steps: Floats
    gain: float


def improving_recession(
    program: LinearProgram, backend: Backend, limits: Limits, *, cancel: threading.Event | None = None
) -> Recession | None:
    """A direction along which the objective improves for ever, checked in numpy; None when none was found within the limits.

    Integer columns count as continuous. Raises what ``backend.solve`` raises.
    """
    found = backend.solve(_cone(program), limits, cancel=cancel)
    if found.status not in (ProgramStatus.optimal, ProgramStatus.feasible) or found.values is None:
        return None
    return checked(program, found.values)


def checked(program: LinearProgram, steps: Floats) -> Recession | None:
    """The direction scaled to a largest step of 1, or None when it runs against a side or gains nothing."""
    size = float(np.abs(steps).max(initial=0.0))
    if not np.isfinite(size) or size == 0.0:
        return None
    steps = np.where(np.abs(steps) <= CLOSE * size, 0.0, steps) / size
    column_low, column_high = _cone_sides(program.column_lower, program.column_upper)
    steps = np.clip(steps, column_low, column_high)
    row_low, row_high = _cone_sides(program.row_lower, program.row_upper)
    terms = replace(program, coefficients=np.abs(program.coefficients)).activity(np.abs(steps))
    moved = program.activity(steps)
    against = np.maximum(row_low - moved, moved - row_high)
    gain = float(program.cost @ steps) * (1.0 if program.maximise else -1.0)
    worthwhile = gain > GAIN * max(float(np.abs(program.cost).max(initial=0.0)), 1e-300)
    return Recession(steps, gain) if worthwhile and (against <= CLOSE * terms).all() else None


def _cone(program: LinearProgram) -> LinearProgram:
    """The directions of recession with steps of at most 1, as a program of the same rows, columns and cost."""
    column_low, column_high = _cone_sides(program.column_lower, program.column_upper)
    row_low, row_high = _cone_sides(program.row_lower, program.row_upper)
    return replace(
        program.relaxed(),
        offset=0.0,
        column_lower=np.maximum(column_low, -1.0),
        column_upper=np.minimum(column_high, 1.0),
        row_lower=row_low,
        row_upper=row_high,
    )


def _cone_sides(lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """How far a direction may move at most: not below 0 where there is a lower side, not above where there is an upper one."""
    return np.where(np.isfinite(lower), 0.0, -np.inf), np.where(np.isfinite(upper), 0.0, np.inf)

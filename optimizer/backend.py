"""What every solver backend promises, and the checks that none of them may skip.

A backend takes a ``LinearProgram`` and returns a ``ProgramResult``. Values leave it only after ``accepted`` has found
them feasible in numpy, and "optimal" only when the bound really meets the objective: a solver's status word is not
enough for either.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import numpy as np

from models.program import Floats, LinearProgram
from optimizer.bounds import dual_bound
from optimizer.limits import Limits
from optimizer.result import StopReason, finite, relative_gap

FEASIBILITY_TOLERANCE = 1e-6  # relative to max(1, |side|), see LinearProgram.relative_violation
BOUND_TOLERANCE = 1e-6  # relative to max(1, |objective|): what the arithmetic of an LP can promise


class SolverError(RuntimeError):
    """A call to a solver library failed; the message names the call."""


class UnsupportedProgram(ValueError):  # noqa: N818 - says what is wrong: the program, not the solver
    """This backend cannot take this program; the message says which part of it, by name."""


class ProgramStatus(StrEnum):
    """What is known about the program and its values."""

    optimal = "optimal"
    feasible = "feasible"
    infeasible = "infeasible"
    unbounded = "unbounded"
    infeasible_or_unbounded = "infeasible_or_unbounded"
    no_solution = "no_solution"
    error = "error"


@dataclass(frozen=True, slots=True, eq=False)
class ProgramProgress:
    """One step of a running solve: ``incumbent`` and ``bound`` in the objective's units, ``gap`` relative.

    ``values``, shape (columns,), is present when a new incumbent passed the feasibility check.
    """

    seconds: float
    incumbent: float | None
    bound: float | None
    gap: float | None
    values: Floats | None


@dataclass(frozen=True, slots=True, eq=False)
class ProgramResult:
    """What a backend found.

    ``values`` (columns,) and ``objective`` are present exactly when the status is optimal or feasible.
    ``bound``: no feasible values can beat it (for an LP recomputed by ``optimizer.bounds.dual_bound`` from ``row_duals``;
    for a MIP the solver's). ``row_duals`` (rows,) are the change of the objective per unit of the row's side, in the
    objective's own sense; ``reduced_costs`` (columns,) are ``cost - A' row_duals``; both None for a MIP.
    ``largest_violation`` is absolute. ``detail`` is the solver's word for what happened.
    """

    status: ProgramStatus
    stop_reason: StopReason
    values: Floats | None = None
    objective: float | None = None
    bound: float | None = None
    row_duals: Floats | None = None
    reduced_costs: Floats | None = None
    largest_violation: float | None = None
    seconds: float = 0.0
    iterations: int = 0
    nodes: int = 0
    detail: str = ""


OnProgress = Callable[[ProgramProgress], None]


class Backend(Protocol):
    """A solver behind one signature."""

    @property
    def name(self) -> str:
        """What certificates call it."""
        ...

    def solve(
        self,
        program: LinearProgram,
        limits: Limits,
        *,
        start: Floats | None = None,
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> ProgramResult:
        """Solve within the limits.

        ``start``, shape (columns,), are values to start from; NaN where unknown. A start that is feasible is never lost:
        a solve stopped before it found anything returns it. ``on_progress`` may be called from another thread; what it
        raises ends the solve and is raised here. ``cancel`` may be set from any thread.

        Raises UnsupportedProgram before solving when the backend cannot take the program, SolverError when the
        library refuses a call, ValueError when ``start`` has the wrong shape.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """Values that passed the feasibility check."""

    values: Floats
    objective: float
    violation: float


def accepted(program: LinearProgram, values: Floats | None) -> Accepted | None:
    """The values, snapped onto integers and bounds where that keeps them feasible; None when they are not feasible."""
    if values is None or values.shape != (program.columns,) or not np.isfinite(values).all():
        return None
    snapped = np.where(program.integer, np.round(values), values)
    snapped = np.clip(snapped, program.column_lower, program.column_upper)
    for candidate in (snapped, values):
        if program.relative_violation(candidate) <= FEASIBILITY_TOLERANCE:
            kept = np.array(candidate, dtype=np.float64)
            kept.flags.writeable = False
            return Accepted(kept, program.objective(kept), program.largest_violation(kept))
    return None


def better(program: LinearProgram, one: Accepted | None, other: Accepted | None) -> Accepted | None:
    """The one with the better objective; the first on a tie."""
    if one is None or other is None:
        return one or other
    worse = one.objective < other.objective if program.maximise else one.objective > other.objective
    return other if worse else one


def checked_start(program: LinearProgram, start: Floats | None) -> Accepted | None:
    """The start if it is complete and feasible; raises ValueError for a wrong shape."""
    if start is None:
        return None
    if start.shape != (program.columns,):
        raise ValueError(f"start has shape {start.shape}, expected ({program.columns},)")
    return accepted(program, np.asarray(start, dtype=np.float64))


def measured_gap(objective: float | None, bound: float | None) -> float | None:
    """``optimizer.result.relative_gap``, None when either number is missing or infinite."""
    if objective is None or bound is None:
        return None
    return finite(relative_gap(objective, bound))


@dataclass(frozen=True, slots=True)
class Proof:
    """What a bound says about an objective: the bound to report, and whether it closes the gap."""

    bound: float | None
    closed: bool
    contradicted: bool


def proof(program: LinearProgram, found: Accepted, bound: float | None, *, gap: float, slack: float = 0.0) -> Proof:
    """Hold a bound against a feasible objective.

    ``slack`` is how far a bound may overshoot for reasons of arithmetic, beyond ``BOUND_TOLERANCE``. A bound that
    overshoots by more contradicts values we checked ourselves, so the bound is the one that is dropped.
    """
    bound = finite(bound)
    if bound is None:
        return Proof(None, closed=False, contradicted=False)
    objective = found.objective
    noise = BOUND_TOLERANCE * max(1.0, abs(objective))
    short_by = bound - objective if program.maximise else objective - bound
    if short_by < -(noise + slack):
        return Proof(None, closed=False, contradicted=True)
    if short_by < 0:
        return Proof(objective, closed=True, contradicted=False)
    return Proof(bound, closed=short_by <= max(gap * abs(objective), noise), contradicted=False)


def with_values(
    result: ProgramResult, program: LinearProgram, best: Accepted | None, bound: float | None, gap: float, slack: float = 0.0
) -> ProgramResult:
    """Put checked values and a bound into a result, and say what the two together prove.

    ``result`` brings the status and stop reason for when they prove nothing. ``slack`` as for ``proof``.
    """
    if best is None:
        return replace(result, bound=finite(bound))
    held = proof(program, best, bound, gap=gap, slack=slack)
    return replace(
        result,
        status=ProgramStatus.optimal if held.closed else ProgramStatus.feasible,
        stop_reason=StopReason.gap if held.closed else result.stop_reason,
        values=best.values,
        objective=best.objective,
        bound=held.bound,
        largest_violation=best.violation,
        detail=f"{result.detail}, but its bound contradicts checked values" if held.contradicted else result.detail,
    )


def with_duals(
    result: ProgramResult, program: LinearProgram, best: Accepted | None, duals: Floats, gap: float, *, tolerance: float = 1e-9
) -> ProgramResult:
    """Put values, duals and the bound that these prove into the result of an LP; ``tolerance`` as for ``dual_bound``."""
    reduced = program.cost - program.pulled_back(duals)
    bound = dual_bound(program, duals, tolerance=tolerance)
    # Values may break a side by a little, and the duals say what that little is worth.
    slack = 0.0 if best is None else best.violation * float(np.abs(duals).sum() + np.abs(reduced).sum())
    return replace(with_values(result, program, best, bound, gap, slack), row_duals=duals, reduced_costs=reduced)


def crash(detail: str) -> ProgramResult:
    """The result of a solver that failed, said something unknown, or contradicted itself."""
    return ProgramResult(ProgramStatus.error, StopReason.crash, detail=detail)


def columnless(program: LinearProgram) -> ProgramResult:
    """The answer for a program without columns, which no solver needs to see."""
    found = accepted(program, np.zeros(0))
    if found is None:
        return ProgramResult(ProgramStatus.infeasible, StopReason.gap, detail="a row without columns excludes 0")
    nothing = np.zeros(0)
    return ProgramResult(
        status=ProgramStatus.optimal,
        stop_reason=StopReason.gap,
        values=found.values,
        objective=found.objective,
        bound=found.objective,
        row_duals=np.zeros(program.rows),
        reduced_costs=nothing,
        largest_violation=found.violation,
        detail="no columns",
    )

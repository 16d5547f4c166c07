"""What a solve answers: an outcome, a plan with its certificate, and why.

``Outcome`` says what is known of the problem, ``StopReason`` why the search ended: a deadline with a plan is a success.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.contract import Reason, Verdict
    from models.vocabulary import Document

ROUNDING = 1e-12  # a relative gap up to this is the rounding of sums, not a gap


class Outcome(StrEnum):
    """What is known at the end."""

    optimal = "optimal"
    feasible = "feasible"
    infeasible = "infeasible"
    unbounded = "unbounded"
    no_plan = "no_plan"


class StopReason(StrEnum):
    """Why the search ended."""

    gap = "gap"
    deadline = "deadline"
    cancelled = "cancelled"
    memory = "memory"
    crash = "crash"


def relative_gap(objective: float, bound: float) -> float:
    """``|bound - objective| / max(1, |objective|)``, 0 when they differ by rounding alone; infinity while either is missing."""
    if not (math.isfinite(objective) and math.isfinite(bound)):
        return math.inf
    gap = abs(bound - objective) / max(1.0, abs(objective))
    return gap if gap > ROUNDING else 0.0


def finite(value: float | None) -> float | None:
    """The value, or None in place of infinity and NaN, which JSON has no word for."""
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class GoalCertificate:
    """What is proved of one goal: no plan at least as good on the earlier goals has a value beyond ``bound``.

    ``method`` names the proof in words, for example ``dual bound of the pattern relaxation, recomputed``.
    """

    name: str
    sense: str
    unit: str
    objective: float
    bound: float
    gap: float
    method: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """The proof that comes with a plan. ``objective``, ``bound`` and ``gap`` are those of the first goal."""

    goals: tuple[GoalCertificate, ...]
    largest_violation: float
    verified: bool
    strategy: str
    seed: int
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def objective(self) -> float:
        """Value of the first goal."""
        return self.goals[0].objective

    @property
    def bound(self) -> float:
        """Bound of the first goal."""
        return self.goals[0].bound

    @property
    def gap(self) -> float:
        """Relative gap of the first goal."""
        return self.goals[0].gap


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a solve: the phase, and the first goal's incumbent, bound and gap so far (None: not known yet)."""

    seconds: float
    phase: str
    incumbent: float | None = None
    bound: float | None = None
    gap: float | None = None


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why no plan exists: the smallest set of named rules that cannot hold together, and the cheapest repair.

    ``rules`` are (rule, ids) pairs; ``repairs`` are sentences in the user's units; ``status`` is proved or heuristic.
    """

    rules: tuple[tuple[str, tuple[str, ...]], ...]
    repairs: tuple[str, ...]
    status: str


@dataclass(frozen=True, slots=True)
class Result:
    """The answer. ``plan`` is None unless a verified plan exists; ``seconds_by_phase`` splits the time.

    ``trace`` is the convergence of the first goal; ``failure`` is a bug report when the run failed by our own fault.
    """

    kind: str
    outcome: Outcome
    stop_reason: StopReason
    plan: Document | None
    certificate: Certificate | None
    verdict: Verdict | None
    seconds: float
    seconds_by_phase: dict[str, float] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()
    conflict: Conflict | None = None
    trace: tuple[Progress, ...] = ()
    message: str = ""
    failure: str | None = None

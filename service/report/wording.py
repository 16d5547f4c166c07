"""Numbers and proofs in plain words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from service.wording import words

if TYPE_CHECKING:
    from optimizer.result import GoalCertificate, Result

EXACT = 1e-9  # a relative gap below this is no gap
STOPPED = {  # why the search ended, as a note below its seconds
    "gap": "as good as asked for",
    "deadline": "the time limit",
    "cancelled": "cancelled",
    "memory": "the memory limit",
    "crash": "the solver crashed",
}


def number(value: float, digits: int | None = None) -> str:
    """``5,990``, ``5,990.4`` or ``37.45``: below a hundred two decimals matter; ``unknown`` when it is not finite."""
    if not math.isfinite(value):
        return "unknown"
    if digits is None:
        digits = 2 if abs(value) < 100 else 1  # noqa: PLR2004
    rounded = round(round(value, 6), digits)  # sums of shares carry rounding far beyond the sixth digit
    return f"{rounded:,.0f}" if rounded == int(rounded) else f"{rounded:,.{digits}f}".rstrip("0")


def percent(share: float, digits: int = 1) -> str:
    """``96.4%`` for 0.964; never ``100%`` for what is a little less, nor ``0%`` for what is a little more."""
    if not math.isfinite(share):
        return "unknown"
    smallest = 10.0 ** -(digits + 2)
    if 0 < share < smallest:
        return f"under {smallest:.{digits}%}"
    shown = f"{share:.{digits}%}"
    return f"{1 - smallest:.{digits}%}" if share < 1 and float(shown[:-1]) >= 100 else shown  # noqa: PLR2004  (per cent)


def seconds(value: float) -> str:
    """``0.42 s``, ``41 s`` or ``2 min 5 s``."""
    if value < 10:  # noqa: PLR2004  (two figures matter below ten seconds)
        return f"{value:.2f} s"
    if value < 120:  # noqa: PLR2004  (two minutes: up to there seconds are easier to compare)
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def count(amount: int, noun: str) -> str:
    """``1 job``, ``2 jobs``."""
    return f"{amount:,} {noun if amount == 1 else noun + 's'}"


def headline(result: Result) -> str:
    """The outcome in one sentence."""
    stopped = {
        "gap": "as good as was asked for",
        "deadline": "because the time was up",
        "cancelled": "because it was cancelled",
        "memory": "because the memory limit was reached",
        "crash": "because the solver crashed",
    }[result.stop_reason.value]
    exact = result.certificate is not None and all(goal.gap < EXACT for goal in result.certificate.goals)
    outcome = {
        "optimal": "This plan keeps every rule and is proved optimal" + ("." if exact else ", within the gap that was asked for."),
        "feasible": "This plan keeps every rule.",
        "infeasible": "No plan can keep every rule. This is proved.",
        "unbounded": "The goal can grow without limit, so there is no best plan.",
        "no_plan": "No plan was found within the limits. One may still exist.",
    }[result.outcome.value]
    because = "" if result.outcome.value in ("optimal", "infeasible", "unbounded") else f" {stopped}"
    return f"{outcome} The search ended after {seconds(result.seconds)}{because}."


def plain_sentence(goal: GoalCertificate, metrics: dict[str, float]) -> str:
    """What the bound of any goal proves."""
    at_most = goal.sense == "maximise"
    if goal.gap < EXACT:
        has = f"{number(goal.objective, 2)} {goal.unit} of {words(goal.name)}"
        return f"This plan has {has}, and no plan can have {'more' if at_most else 'less'}."
    limit = f"No plan can reach {'more' if at_most else 'less'} than {number(goal.bound, 2)} {goal.unit} of {words(goal.name)}"
    capacity = metrics.get(f"capacity_{goal.unit.lower()}")
    share = f" ({percent(goal.bound / capacity)} of all {goal.unit})" if capacity else ""
    return f"{limit}{share}; this one has {number(goal.objective, 2)}."


def gap_words(goal: GoalCertificate) -> str:
    """How far from the best a goal's value can be."""
    if not math.isfinite(goal.gap):
        return "No bound is proved for this goal."
    if goal.gap < EXACT:
        return "Proved: no plan does better."
    if goal.gap >= 1:
        return "The bound is too weak to say how far from the best this is."
    return f"At most {percent(goal.gap, 2)} away from the best possible."

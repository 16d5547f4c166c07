"""What would decide a comparison that the rows leave open: whose plan or bound has to move, and how far.

To prove that X is better than Y, the plan of X must beat the bound of Y. So either the bound of Y comes down to the plan of X, or a plan
of X comes up to the bound of Y, or both move and pass each other in between. A bound never passes its own plan, nor a plan its own bound:
where that would be needed, the effort is left out, because it cannot help. All words here are for goals to maximise; to minimise, the
numbers are turned round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from optimizer.result import StopReason, relative_gap
from optimizer.study.conclusions.intervals import MAXIMISE, Known, State, widening
from optimizer.study.conclusions.wording import joined, percent, value_text

if TYPE_CHECKING:
    from collections.abc import Sequence

PAD = 1.05  # of a widening: an end that has moved past another by this is past it with its own widening too
MORE_TIME = "a longer time limit"
_HOW = {
    StopReason.gap.value: "a smaller gap limit",
    StopReason.memory.value: "more memory",
    StopReason.cancelled.value: "a run to its end",
    StopReason.crash.value: "another attempt",
}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared: its name in sentences, and what is known of it."""

    label: str
    known: Known

    @property
    def how(self) -> str:
        """What lets its solve get further, by why it ended."""
        return _HOW.get(self.known.stop_reason or "", MORE_TIME)


@dataclass(frozen=True, slots=True)
class Move:
    """``what`` of ``scenario`` has to get from ``now`` to ``to``: past it counts too. ``gap_to`` is the gap that a bound then leaves.

    ``answer``: any plan at all; ``earlier goal``: the goal before is to be closed first. ``text`` says it without a verb of its own.
    Numbers are None where there are none.
    """

    scenario: str
    what: Literal["bound", "plan", "answer", "earlier goal"]
    now: float | None
    to: float | None
    gap_now: float | None
    gap_to: float | None
    how: str
    text: str


@dataclass(frozen=True, slots=True)
class Effort:
    """Moves that together would prove the second scenario ``better`` or ``worse`` than the first; ``any``: that must come first."""

    proves: Literal["better", "worse", "any"]
    moves: tuple[Move, ...]

    @property
    def text(self) -> str:
        """What has to move, to be the subject of a sentence: ``closing A's gap from 1.1% to 0.3% or less (its bound down to 1,234)``."""
        return " together with ".join(move.text for move in self.moves)


def how_text(given: Sequence[Effort]) -> str:
    """What lets the solves get that far: ``a longer time limit for A or B``."""
    labels: dict[str, list[str]] = {}
    for effort in given:
        for move in effort.moves:
            named = labels.setdefault(move.how, [])
            if move.scenario not in named:
                named.append(move.scenario)
    last = "and" if all(len(effort.moves) > 1 for effort in given) else "or"
    return joined([f"{how} for {joined(named, last)}" for how, named in labels.items()], last)


def efforts(first: Side, second: Side) -> tuple[Effort, ...]:
    """What would prove the second better, or worse, than the first; nothing where no effort can."""
    unanswered = [side for side in (first, second) if side.known.state is State.unknown]
    if unanswered:
        return (Effort("any", tuple(_answer(side) for side in unanswered)),)
    if first.known.interval is None or second.known.interval is None:
        return ()
    return (*_above(second, first, "better"), *_above(first, second, "worse"))


@dataclass(frozen=True, slots=True)
class _Ends:
    """A side as if its goal were to be maximised: stated plan and bound, and the widened ends."""

    plan: float
    bound: float
    low: float
    high: float


def _turned(known: Known) -> _Ends:
    interval, objective, bound = known.interval, known.objective, known.bound
    if interval is None or objective is None or bound is None:
        raise ValueError(f"nothing is known of {known.goal}")
    if known.sense == MAXIMISE:
        ends = _Ends(objective, bound, interval.low, interval.high)
    else:
        ends = _Ends(-objective, -bound, -interval.high, -interval.low)
    return replace(
        ends,
        plan=ends.plan if known.plan_proves else -math.inf,
        low=ends.low if known.plan_proves else -math.inf,
        bound=ends.bound if known.bound_proves else math.inf,
        high=ends.high if known.bound_proves else math.inf,
    )


def _above(upper: Side, lower: Side, proves: Literal["better", "worse"]) -> tuple[Effort, ...]:
    """What would prove the optimum of ``upper`` above that of ``lower``."""
    x, y = _turned(upper.known), _turned(lower.known)
    down, up = x.low - PAD * widening(x.low), y.high + PAD * widening(y.high)
    alone = []
    if math.isfinite(x.low) and down >= y.plan and lower.known.bound_proves:
        alone.append(Effort(proves, (_bound(lower, down),)))
    if math.isfinite(x.plan) and math.isfinite(y.high) and up <= x.bound:
        alone.append(Effort(proves, (_plan(upper, up),)))
    if alone:
        return tuple(alone)
    blocked = [side for side, proving in ((upper, upper.known.plan_proves), (lower, lower.known.bound_proves)) if not proving]
    if blocked:
        return (Effort(proves, tuple(_earlier(side) for side in blocked)),) if x.bound > y.plan else ()
    least = y.plan + 2 * PAD * widening(y.plan)  # for the plan, and for the bound below it
    if least > x.bound:
        return ()
    return (Effort(proves, (_plan(upper, least), _passed(lower))),)


def _stated(side: Side, turned: float) -> float:
    return turned if side.known.sense == MAXIMISE else -turned


def _bound(side: Side, turned: float) -> Move:
    known, to = side.known, _stated(side, turned)
    maximise = known.sense == MAXIMISE
    now = known.gap if known.plan_proves else math.inf
    after = relative_gap(known.objective, to) if known.plan_proves and known.objective is not None and math.isfinite(to) else None
    where = f"{'down' if maximise else 'up'} to {value_text(to, known.unit, towards=-1 if maximise else 1)}"
    if after is None:
        text = f"moving the bound of {side.label} {where}"
    elif math.isfinite(now):
        text = f"closing {side.label}'s gap from {percent(now)} to {percent(after, towards=-1)} or less (its bound {where})"
    else:
        text = f"a first bound for {side.label} that leaves a gap of {percent(after, towards=-1)} or less ({where})"
    return Move(side.label, "bound", known.bound, to, now, after, side.how, text)


def _plan(side: Side, turned: float) -> Move:
    known, to = side.known, _stated(side, turned)
    maximise = known.sense == MAXIMISE
    told = value_text(to, known.unit, towards=1 if maximise else -1)
    now = "" if known.objective is None else f" (now {value_text(known.objective, known.unit)})"
    text = f"a plan for {side.label} of {told} or {'more' if maximise else 'less'}{now}"
    return Move(side.label, "plan", known.objective, to, known.gap, None, side.how, text)


def _passed(side: Side) -> Move:
    known = side.known
    word = "below" if known.sense == MAXIMISE else "above"
    return Move(side.label, "bound", known.bound, None, known.gap, None, side.how, f"a bound of {side.label} {word} it")


def _earlier(side: Side) -> Move:
    known = side.known
    text = f"closing the gap of {known.open_goal} of {side.label}, which comes before {known.goal}"
    return Move(side.label, "earlier goal", None, None, None, None, side.how, text)


def _answer(side: Side) -> Move:
    return Move(side.label, "answer", None, None, None, None, side.how, f"an answer for {side.label} ({side.known.why})")

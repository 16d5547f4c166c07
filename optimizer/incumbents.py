"""The best plan so far, the bounds so far, and the news of both: what a search writes and its caller reads.

A search runs in a child process or in the caller's own; either way it reports through one ``send`` function, in the
kinds of message below. Plans are compared goal by goal, the most important first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.contract import Sense

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from models.contract import Goal, Kind, Verdict
    from optimizer.result import Conflict


@dataclass(frozen=True, slots=True)
class Found:
    """A plan better than all before it, with its goals' values as the search's own verification computed them.

    One that ``says_more`` (it has prices, say) may also be just as good as the one before it, and takes its place.
    """

    seconds: float
    phase: str
    plan: Any
    objectives: tuple[float, ...]
    says_more: bool = False


@dataclass(frozen=True, slots=True)
class Bounded:
    """A bound on one goal, and the method that proves it; ``complete``: nothing better than the plan exists."""

    seconds: float
    phase: str
    goal: str
    bound: float
    method: str


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds that one kind of work took."""

    phase: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Refuted:
    """No plan exists; with the conflict where one was found."""

    conflict: Conflict | None


@dataclass(frozen=True, slots=True)
class Unlimited:
    """The goal improves without limit from a plan already found; ``direction`` says along which columns, and what was checked."""

    goal: str
    direction: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A plan of the search's own making broke a rule: a bug of the kind or the engine, told once for each phase."""

    phase: str
    complaint: str


@dataclass(frozen=True, slots=True)
class Searched:
    """The search is over: what is left is to verify and explain its best plan."""

    seconds: float


Message = Found | Bounded | Spent | Refuted | Unlimited | Rejected | Searched


def lexicographically_better(goals: Sequence[Goal], first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether ``first`` beats ``second`` on the first goal on which they differ."""
    for goal, one, other in zip(goals, first, second, strict=True):
        if goal.better(one, other):
            return True
        if goal.better(other, one):
            return False
    return False


def surpasses(goals: Sequence[Goal], new: Sequence[float], known: Sequence[float], *, says_more: bool) -> bool:
    """Whether a new plan takes the place of the one known: it is better, or it ``says_more`` and is no worse."""
    if says_more:
        return not lexicographically_better(goals, known, new)
    return lexicographically_better(goals, new, known)


@dataclass(slots=True)
class Incumbents:
    """The record of one search. ``offer`` verifies every plan before it counts."""

    kind: Kind
    problem: Any
    send: Callable[[Message], None]
    goals: tuple[Goal, ...] = field(init=False)
    plan: Any = None
    objectives: tuple[float, ...] | None = None
    bounds: dict[str, float] = field(default_factory=dict)
    rejected: int = 0
    complaint: str = ""
    _complained: set[str] = field(default_factory=set)
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Read the goals off the problem."""
        self.goals = self.kind.goals(self.problem)

    def seconds(self) -> float:
        """Seconds since the search began."""
        return time.monotonic() - self._started

    def offer(self, plan: Any, phase: str, *, says_more: bool = False) -> bool:  # noqa: ANN401  (each kind has its own Plan type)
        """Take ``plan`` if it is right and better than the incumbent, or ``says_more`` and is no worse; True when it was taken."""
        verdict: Verdict = self.kind.verify(self.problem, plan)
        if not verdict.ok:
            self.rejected += 1
            self.complaint = f"{phase}: {verdict.violations[0].message}"
            if phase not in self._complained:
                self._complained.add(phase)
                self.send(Rejected(phase, verdict.violations[0].message))
            return False
        objectives = tuple(verdict.objectives[goal.name] for goal in self.goals)
        if self.objectives is not None and not surpasses(self.goals, objectives, self.objectives, says_more=says_more):
            return False
        self.plan, self.objectives = plan, objectives
        self.send(Found(self.seconds(), phase, plan, objectives, says_more))
        return True

    def adopt(self, plan: Any) -> None:  # noqa: ANN401
        """Begin with a plan that the caller has: it is verified, but not sent back, which takes seconds for a very large one."""
        verdict: Verdict = self.kind.verify(self.problem, plan)
        if verdict.ok:
            self.plan, self.objectives = plan, tuple(verdict.objectives[goal.name] for goal in self.goals)

    def bound(self, goal: Goal, value: float, method: str, phase: str) -> None:
        """Note a bound if it is tighter than the one known."""
        known = self.bounds.get(goal.name)
        if known is None or (value < known if goal.sense is Sense.maximise else value > known):
            self.bounds[goal.name] = value
            self.send(Bounded(self.seconds(), phase, goal.name, value, method))

    def gap(self, goal: Goal) -> float:
        """The relative gap of one goal; infinity while its bound or the plan is missing."""
        from optimizer.result import relative_gap

        if self.objectives is None or goal.name not in self.bounds:
            return float("inf")
        return relative_gap(self.objectives[self.goals.index(goal)], self.bounds[goal.name])

    def closed(self, gap: float) -> bool:
        """Whether every goal's gap is at most ``gap``."""
        return all(self.gap(goal) <= gap for goal in self.goals)

    def timed(self, phase: str) -> Timer:
        """A context that reports the seconds spent inside it."""
        return Timer(self.send, phase)


@dataclass(slots=True)
class Timer:
    """Reports how long its ``with`` block took, also when the block raises."""

    send: Callable[[Message], None]
    phase: str
    _at: float = 0.0

    def __enter__(self) -> None:
        self._at = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.send(Spent(self.phase, time.monotonic() - self._at))


def spent(messages: Sequence[Message]) -> Iterator[tuple[str, float]]:
    """The phases and seconds among ``messages``."""
    return ((message.phase, message.seconds) for message in messages if isinstance(message, Spent))

"""The inverse question: the least value of one axis at which a goal or metric reaches a target, and what proves that it is the least.

``monotone``: the target, once reached, stays reached further on, as more capacity never worsens an optimum. Then the value is found by
doubling steps, and by cutting what is left into equal parts, as many at once as there are workers. Each row proves one of three things:

* reached: the plan attains the target (for a goal's other side: its bound does);
* impossible: the bound of the first goal, or a proof that there is no plan, excludes it;
* undecided: neither, within the limits.

The answer is proved least when the value before it is proved impossible. What rows prove is held against ``monotone`` on the way: where
an optimum is certainly worse further on, the flag is dropped, and the values are asked one after another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from optimizer.study.questions.asking import CAUTION, SLACK, seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from optimizer.study.questions.asking import Asker, Seen

MOST_SCANNED = 1_000  # values that are asked one after another where the axis is not monotone
MOST_STEPS = 1_000_000_000  # values of an axis: more, and the tolerance is too fine
SHOWN = 5  # undecided values that the sentence names


class Standing(StrEnum):
    """What is known of the target at one value."""

    reached = "reached"
    impossible = "impossible"
    missed = "missed"  # the plan has it not, and nothing is proved of other plans
    undecided = "undecided"


@dataclass(frozen=True, slots=True)
class Ladder:
    """The values of an axis, ascending: ``count`` from ``least`` to ``most`` at equal steps, or those given."""

    least: float
    most: float
    count: int
    given: tuple[float, ...] = ()

    @classmethod
    def whole(cls, least: float, most: float) -> Ladder:
        """All whole numbers from ``least`` to ``most``. Raises ValueError when there are none."""
        low, high = math.ceil(least - SLACK), math.floor(most + SLACK)
        if low > high:
            raise ValueError(f"no whole number lies between {least:g} and {most:g}")
        return cls(float(low), float(high), high - low + 1)

    @classmethod
    def ranged(cls, least: float, most: float, tolerance: float) -> Ladder:
        """Numbers from ``least`` to ``most`` that are at most ``tolerance`` apart. Raises ValueError for an empty range."""
        if not (least < most and tolerance > 0.0 and math.isfinite(most - least)):
            raise ValueError(f"a range needs least ({least:g}) below most ({most:g}), and a tolerance above 0, not {tolerance:g}")
        steps = (most - least) / tolerance - SLACK
        if steps > MOST_STEPS:
            raise ValueError(f"the tolerance {tolerance:g} cuts the range into more than {MOST_STEPS:,} steps: give a coarser one")
        return cls(least, most, max(math.ceil(steps), 1) + 1)

    @classmethod
    def listed(cls, values: Iterable[float]) -> Ladder:
        """The given values. Raises ValueError when there are none."""
        given = tuple(sorted(set(values)))
        if not given:
            raise ValueError("an axis needs at least one value")
        return cls(given[0], given[-1], len(given), given)

    def value(self, step: int) -> float:
        """The value of a step, the least being step 0."""
        if self.given:
            return self.given[step]
        return self.most if step == self.count - 1 else self.least + step * (self.most - self.least) / (self.count - 1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """``metric`` (of a goal or a metric) must be at least, or at most, ``target``; ``seek`` the least or the most value of the axis for it.

    ``unit`` is that of the axis.
    """

    axis: str
    metric: str
    target: float
    at_least: bool = True
    seek: Literal["least", "most"] = "least"
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """One value that was asked, what its row says and what that means for the target."""

    value: float
    standing: Standing
    seen: Seen


@dataclass(frozen=True, slots=True)
class TargetAnswer:
    """The answer. ``value`` is the best value at which the target is certainly reached, None where there is none.

    ``proved``: every value on the far side of it is proved impossible (or there is none). ``impossible`` is the last value before it that
    is proved impossible, None for none. ``monotone``: whether that was assumed to the end. ``sentence`` says all of it. ``asked`` ascends.
    """

    wanted: Wanted
    value: float | None
    proved: bool
    impossible: float | None
    monotone: bool
    asked: tuple[Probe, ...]
    sentence: str


def reach(asker: Asker, wanted: Wanted, ladder: Ladder, *, monotone: bool = True, workers: int = 2) -> TargetAnswer:
    """Find the least (or most) value of ``wanted.axis`` on the ladder at which the target is reached.

    ``monotone``: larger values never take it away again (``seek`` least), or smaller ones (most). ``workers`` values are asked at once.
    Raises UnknownMetricError for a metric that rows do not have.
    """
    search = _Search(asker, wanted, ladder, max(1, workers))
    if monotone:
        search.bracket()
    if not monotone or search.contradicted:
        search.scan()
    return search.answer(monotone=monotone and not search.contradicted)


@dataclass(slots=True)
class _Search:
    """Steps count from the end of the ladder at which the target is hardest to reach."""

    asker: Asker
    wanted: Wanted
    ladder: Ladder
    workers: int
    known: dict[int, Probe] = field(default_factory=dict)
    contradicted: bool = False
    scanned: int = 0  # steps from 0 that were all asked

    def value(self, step: int) -> float:
        """The value of a step."""
        return self.ladder.value(step if self.wanted.seek == "least" else self.ladder.count - 1 - step)

    def take(self, steps: Sequence[int]) -> None:
        """Ask what is not known yet."""
        fresh = sorted({step for step in steps if step not in self.known and 0 <= step < self.ladder.count})
        if not fresh:
            return
        rows = self.asker.ask_all([{self.wanted.axis: self.value(step)} for step in fresh])
        for step, row in zip(fresh, rows, strict=True):
            found = seen(row, self.wanted.metric)
            self.known[step] = Probe(self.value(step), self._standing(found), found)
        self.contradicted = self.contradicted or self._contradiction()

    def _standing(self, found: Seen) -> Standing:
        target, at_least = self.wanted.target, self.wanted.at_least
        if found.reaches(target, at_least=at_least):
            return Standing.reached
        if found.excludes(target, at_least=at_least):
            return Standing.impossible
        return Standing.missed if found.known and not found.proved else Standing.undecided

    def _contradiction(self) -> bool:
        """Whether an optimum is certainly worse than one before it, or a plan is gone that there was."""
        best, had_plan = -math.inf, False
        sign = 1.0 if self.wanted.at_least else -1.0
        for step in sorted(self.known):
            found = self.known[step].seen
            if found.no_plan and had_plan:
                return True
            had_plan = had_plan or found.attained is not None
            if not found.known:
                continue
            low, high = (found.low, found.high) if sign > 0 else (-found.high, -found.low)
            if found.proved and high < best - 2 * CAUTION * max(1.0, abs(best)):
                return True
            best = max(best, low) if found.proved else best
        if any(one.seen.proved for one in self.known.values()):
            return False
        standings = [self.known[step].standing for step in sorted(self.known)]  # of a metric: what its plans have
        return Standing.reached in standings and Standing.missed in standings[standings.index(Standing.reached) :]

    def _ends(self) -> tuple[int, int]:
        """The last step that is proved impossible (-1: none), and the first that is reached (count: none)."""
        impossible = max((step for step, one in self.known.items() if one.standing is Standing.impossible), default=-1)
        reached = min((step for step, one in self.known.items() if one.standing is Standing.reached), default=self.ladder.count)
        return impossible, reached

    # ------------------------------------------------------------ searching

    def bracket(self) -> None:
        """Doubling steps until the target is reached; then parts of what is between; then, where rows were undecided, of what is below."""
        last = self.ladder.count - 1
        self.take([0, *([1] if self.workers > 1 else [])])
        step = 1
        while not self.contradicted and self._ends()[1] > last and last not in self.known:
            ahead = [min(step * 2**power, last) for power in range(self.workers)]
            self.take(ahead)
            step = max(ahead) * 2
        while not self.contradicted:
            impossible, reached = self._ends()
            open_steps = [step for step, one in self.known.items() if impossible < step < reached and one.standing is not Standing.reached]
            below = max(open_steps, default=impossible)
            parts = _parts(below, min(reached, last + 1), self.workers) if reached <= last else []
            parts = parts or _parts(impossible, min(open_steps, default=reached), self.workers)
            if not self._provable() and reached <= last:
                parts = _parts(below, reached, self.workers)
            if not parts:
                return
            self.take(parts)

    def _provable(self) -> bool:
        return any(one.seen.proved or one.seen.no_plan for one in self.known.values())

    def scan(self) -> None:
        """One value after another until one is reached."""
        for start in range(0, min(self.ladder.count, MOST_SCANNED), self.workers):
            steps = list(range(start, min(start + self.workers, self.ladder.count)))
            self.take(steps)
            self.scanned = steps[-1] + 1
            if any(self.known[step].standing is Standing.reached for step in steps):
                return

    # ------------------------------------------------------------ answering

    def answer(self, *, monotone: bool) -> TargetAnswer:
        """What is known now."""
        impossible, reached = self._ends()
        if not monotone:
            # Without order only what was asked is known.
            impossible = -1
            while impossible + 1 in self.known and self.known[impossible + 1].standing is Standing.impossible:
                impossible += 1
        none = reached == self.ladder.count
        proved = impossible >= reached - 1
        return TargetAnswer(
            wanted=self.wanted,
            value=None if none else self.value(reached),
            proved=proved,
            impossible=None if impossible < 0 else self.value(impossible),
            monotone=monotone,
            asked=tuple(sorted(self.known.values(), key=lambda one: one.value)),
            sentence=_Words(self, impossible, reached, monotone).sentence(),
        )


def _parts(below: int, above: int, workers: int) -> list[int]:
    """Steps strictly between the two that cut what lies there into equal parts."""
    width = above - below
    return sorted({below + round(width * part / (workers + 1)) for part in range(1, workers + 1)} - {below, above}) if width > 1 else []


@dataclass(slots=True)
class _Words:
    """The answer in a sentence."""

    search: _Search
    impossible: int
    reached: int
    monotone: bool

    def sentence(self) -> str:
        """All that is known."""
        parts = [self._main()]
        if self.monotone and any(step not in self.search.known for step in range(self.impossible)):
            word = "smaller" if self.search.wanted.seek == "least" else "larger"
            parts.append(f"{word} values were taken to be no better, which no row contradicts")
        if self.search.contradicted:
            parts.append(f"the values of {self.search.wanted.axis} are not in order: the target is certainly harder to reach further on")
            parts.append(f"{self.search.scanned:,} were asked one after another")
        failed = [one for one in self.search.known.values() if one.seen.why]
        if failed:
            parts.append(f"nothing is known at {self._list(failed)}: {failed[0].seen.why.splitlines()[0]}")
        return "; ".join(parts)

    def _main(self) -> str:
        search, wanted, count = self.search, self.search.wanted, self.search.ladder.count
        goal = f"{wanted.metric} {'at least' if wanted.at_least else 'at most'} {wanted.target:.10g}"
        if self.reached == count:
            return self._never(goal)
        value, word = self._value(self.reached), "least" if wanted.seek == "least" else "most"
        if self.reached == 0:
            return f"{value}: {goal} is reached at the {word} value already"
        before = search.known.get(self.reached - 1)
        if self.impossible >= self.reached - 1:
            return f"{value} (proved {word}: at {self._value(self.impossible)} {self._reason(search.known[self.impossible])})"
        if not self._has_bound():
            how = "tried" if before is not None else "found"
            attained = None if before is None else before.seen.attained
            missed = "nearer is open" if attained is None else f"at {self._value(self.reached - 1)} the plan has {attained:.10g}"
            return f"{value} (the {word} that was {how}, not proved: {missed}, and no bound of {wanted.metric} holds for all plans)"
        start = self._value(self.impossible + 1)
        between = sorted(step for step in search.known if self.impossible < step < self.reached)
        told = self._list([search.known[step] for step in between]) if between else "what is between"
        proof = f", proved impossible at {self._value(self.impossible)}" if self.impossible >= 0 else ""
        return f"between {start} and {value}: reached at {value}{proof}, undecided within the limits at {told}"

    def _never(self, goal: str) -> str:
        search, last = self.search, self.search.ladder.count - 1
        end = self._value(last)
        if self.impossible == last:
            return f"{goal} is never reached up to {end}: there {self._reason(search.known[last])}"
        beyond = f"beyond {self._value(self.impossible)}, where it is proved impossible, " if self.impossible >= 0 else ""
        if all(one.standing is Standing.missed for step, one in search.known.items() if step > self.impossible):
            return f"{goal} was not reached by any plan up to {end}; {beyond}nothing is proved"
        return f"{goal} was not reached up to {end}; {beyond}it is undecided within the limits"

    def _reason(self, asked: Probe) -> str:
        wanted = self.search.wanted
        if asked.seen.no_plan:
            return "there is no plan at all"
        bound = asked.seen.high if wanted.at_least else asked.seen.low
        return f"no plan can reach it, {wanted.metric} is bounded by {bound:.10g} of {wanted.target:.10g}"

    def _has_bound(self) -> bool:
        return any(one.seen.proved for one in self.search.known.values())

    def _value(self, step: int) -> str:
        return f"{self.search.value(step):.10g} {self.search.wanted.unit}".rstrip()

    def _list(self, asked: Sequence[Probe]) -> str:
        told = sorted({one.value for one in asked if one.standing is not Standing.reached or one.seen.why})
        more = f" and {len(told) - SHOWN:,} more" if len(told) > SHOWN else ""
        return ", ".join(f"{value:.10g}" for value in told[:SHOWN]) + more

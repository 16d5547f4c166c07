"""The trade-off of two goals: points that are attained, what is proved impossible beyond them, and how much is left open.

**Method.** Epsilon-constraint (Haimes, Lasdon and Wismer, On a Bicriterion Formulation of the Problems of Integrated System
Identification and System Optimization, 1971): the first goal is optimised with a limit on the second. Both ends are lexicographic: the
best of one goal, and the best of the other among those, so that they are efficient. The next limit cuts the largest rectangle that is
still open (Hamacher, Pedersen and Ruzika, Finding Representative Systems for Discrete Bicriterion Optimization Problems, 2007), and the
second goal is then made as good as the first allows, so that each point is efficient within the gap of its solves.

**Proof.** Turn both goals so that more is better. A solve with limit e proves: no plan with a second goal of e or more has a first goal
above its bound. These are the steps of the outer staircase; attained points are those of the inner one. What lies between the two is open;
``coverage`` is 1 less the share of the largest open rectangle in the box of both ends. A program in which no plan meets a limit proves that
nothing lies there.

**Where it works.** ``GoalPair``: two goals of one problem whose exact program is small enough, linear or with whole numbers. Its program
with the first goal gets one row for the second, of which only the side moves. Refused for goals whose program is no such row (a fairness
level that settles job by job). ``AxisPair`` (``pareto_axis``): any kind with a field that limits the second quantity (a budget, a quota).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Protocol

SAME = 1e-9  # relative: points nearer to each other than this are one
LOOSE = 1e-6  # relative: by this a limit is loosened where it is a row, so that what it proves holds for plans at the limit too
ABOVE = 4 * LOOSE  # relative: a limit just above a point, which that point does not meet however it is loosened
ENOUGH = 1e-3  # of the box: a largest open rectangle below this is not cut any further
PROVED = 1e-4  # relative gap up to which an end counts as exact: the gap that solves are asked for


@dataclass(frozen=True, slots=True)
class Step:
    """What one solve proved, both goals turned so that more is better: with a second goal of ``limit`` or more, none exceeds ``bound``.

    ``first`` and ``second`` are the values of its verified plan, None where none was found; ``bound`` is -inf where it is proved that there
    is none. ``second_bound``: no plan with that first goal has more of the second; at the end of the second goal, no plan at all.
    """

    limit: float
    bound: float
    first: float | None = None
    second: float | None = None
    second_bound: float = math.inf
    why: str = ""

    @property
    def refuted(self) -> bool:
        """Whether no plan meets the limit."""
        return self.bound == -math.inf


class Pair(Protocol):
    """Two goals that can be traded, both turned so that more is better."""

    @property
    def whole(self) -> bool:
        """Whether the second goal takes whole numbers only."""
        ...

    def ends(self) -> tuple[Step, Step]:
        """The end of the first goal (limit -inf), and that of the second (limit: its best value)."""
        ...

    def step(self, limit: float) -> Step:
        """The best first goal with a second of ``limit`` or more, and the best second with that."""
        ...


@dataclass(frozen=True, slots=True)
class Point:
    """An attained point that no other attained one dominates; ``bound``: no plan with as good a second goal has a better first one."""

    first: float
    second: float
    bound: float
    gap: float


@dataclass(frozen=True, slots=True)
class Hole:
    """An open rectangle between the staircases: nothing is attained in it and nothing is proved, in the goals' own units."""

    first: tuple[float, float]
    second: tuple[float, float]
    share: float


@dataclass(frozen=True, slots=True)
class Front:
    """The trade-off, from the end of the first goal to that of the second.

    ``outer`` are the corners of what is proved: no plan whose second goal is as good as a corner's is better in the first. ``coverage`` is
    1 less the share of ``hole``, the largest that is open. ``exact_ends``: both ends are proved within the gap. ``complete``: nothing is
    open, so that every efficient point is here. ``lines``: neighbours are joined by attained lines (linear programs), not by stairs.
    """

    points: tuple[Point, ...]
    outer: tuple[tuple[float, float], ...] = ()
    coverage: float = 0.0
    hole: Hole | None = None
    exact_ends: bool = False
    complete: bool = False
    lines: bool = False
    solves: int = 0
    message: str = ""


@dataclass(slots=True)
class Signs:
    """How to turn two goals so that more is better, and back."""

    first: float
    second: float


def traced(pair: Pair, signs: Signs, points: int) -> Front:
    """The front of a pair, of about ``points`` points; fewer where there are fewer, or where the rest is covered.

    ``points`` counts steps: each is one limit, with its two solves. Needs at least 2, the ends.
    """
    if points < 2:  # noqa: PLR2004
        raise ValueError(f"a front has at least its 2 ends, not {points} points")
    search = _Search(pair)
    search.begin()
    while len(search.steps) < points and search.cut():
        pass
    return search.front(signs)


@dataclass(slots=True)
class _Search:
    """All steps so far, in goals of which more is better."""

    pair: Pair
    steps: list[Step] = field(default_factory=list)

    def begin(self) -> None:
        """Both ends."""
        self.steps = list(self.pair.ends())

    def attained(self) -> list[tuple[float, float]]:
        """The points that no other dominates, the best first goal first."""
        found = sorted(
            ((step.first, step.second) for step in self.steps if step.first is not None and step.second is not None),
            key=lambda point: (-point[0], -point[1]),
        )
        kept: list[tuple[float, float]] = []
        for point in found:
            if not kept or point[1] > kept[-1][1] + SAME * max(1.0, abs(kept[-1][1])):
                kept.append(point)
        return kept

    def proved(self) -> list[tuple[float, float]]:
        """Limit and bound of the outer staircase, limits ascending and bounds falling: from this limit on, no more than this bound."""
        kept: list[tuple[float, float]] = []
        for limit, bound in sorted((self._from(step.limit), step.bound) for step in self.steps):
            if not kept or bound < kept[-1][1]:
                kept.append((limit, bound))
        last = self.steps[1].second_bound
        return kept if math.isinf(last) else [*kept, (last, -math.inf)]

    def _from(self, limit: float) -> float:
        """The value above which a limit proves something: of whole values, the one before it."""
        return limit - 1.0 if self.pair.whole and math.isfinite(limit) else limit

    def holes(self) -> list[tuple[float, float, float, float]]:
        """Open rectangles (low and high of the first, low and high of the second), the largest first, within the box of the ends."""
        points = self.attained()
        if len(points) < 2:  # noqa: PLR2004
            return []
        box = points[-1][0], points[0][0], points[0][1], points[-1][1]
        proved = self.proved()
        tops = sorted({min(max(limit, box[2]), box[3]) for limit, _ in proved} | {box[3]})
        found = []
        for (_, second), (after, _) in itertools.pairwise(points):
            for top in tops:
                if top <= second:
                    continue
                ceiling = min((bound for limit, bound in proved if limit < top), default=math.inf)
                found.append((after, min(ceiling, box[1]), second, top))
        open_ones = [hole for hole in found if hole[1] > hole[0] and hole[3] > hole[2]]
        return sorted(open_ones, key=lambda hole: -self.share(hole))

    def share(self, hole: tuple[float, float, float, float]) -> float:
        """A rectangle's share of the box of the ends."""
        points = self.attained()
        area = (points[0][0] - points[-1][0]) * (points[-1][1] - points[0][1])
        return (hole[1] - hole[0]) * (hole[3] - hole[2]) / area if area > 0.0 else 0.0

    def cut(self) -> bool:
        """Solve in the middle of the largest rectangle in which there is something to ask; False where none is worth it."""
        asked = {step.limit for step in self.steps}
        for hole in self.holes():
            if self.share(hole) <= (0.0 if self.pair.whole else ENOUGH):
                return False
            limit = self._middle(hole[2], hole[3])
            near = SAME * max(1.0, abs(limit))
            if limit <= hole[3] + near and all(abs(limit - one) > near for one in asked):
                self.steps.append(self.pair.step(limit))
                return True
        return False

    def _middle(self, bottom: float, top: float) -> float:
        """The limit that cuts a rectangle: its middle, or just above its bottom where a limit in it led to a point beyond it already.

        Then there may be no point in it at all, and one solve proves that, where halves would take many.
        """
        if self.pair.whole:
            return float(math.ceil(0.5 * (bottom + top) - SAME))
        jumped = any(step.second is not None and step.limit <= top < step.second for step in self.steps if bottom < step.limit <= top)
        above = bottom + ABOVE * max(1.0, abs(bottom))
        return above if jumped and above < top else 0.5 * (bottom + top)

    def front(self, signs: Signs) -> Front:
        """What is known, in the goals' own units."""
        points, proved, holes = self.attained(), self.proved(), self.holes()
        made = []
        for first, second in points:
            hair = LOOSE * max(1.0, abs(second))
            bound = max(first, min((step.bound for step in self.steps if step.limit <= second + hair), default=math.inf))
            gap = (bound - first) / max(1.0, abs(first))
            made.append(Point(signs.first * first, signs.second * second, signs.first * bound, gap))
        hole = None
        if holes:
            low, high, bottom, top = holes[0]
            told = [sorted((sign * one, sign * other)) for sign, one, other in ((signs.first, low, high), (signs.second, bottom, top))]
            hole = Hole((told[0][0], told[0][1]), (told[1][0], told[1][1]), self.share(holes[0]))
        ends = self.steps[:2]
        exact = all(_closed(step.first, step.bound) and _closed(step.second, step.second_bound) for step in ends)
        why = [step.why for step in self.steps if step.why]
        if not points and not why:
            why = ["no plan exists" if ends[0].refuted else "no plan was found"]
        return Front(
            points=tuple(made),
            outer=tuple((signs.first * bound, signs.second * limit) for limit, bound in proved if math.isfinite(bound + limit)),
            coverage=1.0 - (hole.share if hole else 0.0) if points else 0.0,
            hole=hole,
            exact_ends=exact,
            complete=bool(points) and hole is None and exact,
            solves=len(self.steps),
            message=why[0] if why else "",
        )


def _closed(value: float | None, bound: float) -> bool:
    return value is not None and bound - value <= PROVED * max(1.0, abs(value))

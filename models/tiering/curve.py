"""What-if: one tier's capacity at many values, each with a bound and a plan, from small linear programs one after another.

In a box of prices only some objects can change their minds (``Priced.closeness``); for all others cost and use of the limits stay as they
are. So a program over those objects, with the box's sides as prices at which room is bought and sold, has the best bound in the box
as its optimum. The next capacity's box is drawn where the prices of the last two point to, and again where bound and plan are far apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from models.conversation import Solve
from models.tiering.duals import NoPlanError, duals, sifted
from models.tiering.nearby import drawn
from models.tiering.options import options_of, plain
from models.tiering.repair import balanced
from models.tiering.rounding import applied, polished, whole
from models.tiering.scale import LOOSE, LOOSE_FROM, plan_of
from models.tiering.schema import Rule
from models.tiering.sifting import prices_of
from models.tiering.store import store_of

if TYPE_CHECKING:
    from models.conversation import Solved
    from models.program import Floats
    from models.tiering.nearby import Drawn, Survey
    from models.tiering.options import Options
    from models.tiering.schema import Plan, Problem
    from models.tiering.sifting import Scaled, State

START_SHARE = 0.05  # by which a new capacity moves the prices, about
MEND_S = 0.5
MOST_BOUGHT = 3e-3  # of a limit: shares that exceed one by more are far from a plan
FILLS = 20
ROUNDS = 8
REDRAWN = 6  # times that a box is drawn around the last prices before they are sought anew


@dataclass(frozen=True, slots=True, eq=False)
class CurvePoint:
    """One capacity: no plan has a first goal below ``bound``; a plan with ``value`` keeps all limits (None: none was found in time).

    ``price`` is what one more GiB is worth to the goal over the period; ``stored_gib`` what the plan has on the tier. ``bound`` is inf
    where it was proved that there is no plan.
    """

    capacity_gib: float
    bound: float
    price: float
    value: float | None = None
    stored_gib: float | None = None
    state: State | None = None

    @property
    def gap(self) -> float:
        """Relative, inf without a plan."""
        return math.inf if self.value is None else max(0.0, self.value - self.bound) / max(abs(self.value), 1e-12)


Curve = Generator[Any, Any, list[CurvePoint]]


def converse_curve(
    problem: Problem, tier: str, capacities: Sequence[float], *, gap: float = 1e-3, seed: int = 0, seconds: float = 60.0
) -> Curve:
    """The first goal at every capacity of one tier, in the order given; a conversation, whose ``Solve`` the caller answers.

    Points that time does not suffice for are left out at the end of the ascending order.

    Raises KeyError for an unknown tier, ValueError for a negative capacity or a problem whose options are not known in closed form.
    """
    if not quick(problem):
        raise ValueError("a capacity curve is known for problems without readers and caches only")
    if any(not capacity >= 0 for capacity in capacities):
        raise ValueError("a capacity must be at least 0")
    deadline = time.monotonic() + seconds
    options, row = _with_row(problem, tier, min(capacities, default=0.0))
    exact = options if options.count > LOOSE_FROM else None
    loose = options.loosened(LOOSE, seed) if exact is not None else options
    found: dict[float, CurvePoint] = {}
    path: list[tuple[float, Floats]] = []
    near = _Near()
    for capacity in sorted(set(capacities)):
        if time.monotonic() > deadline:
            break
        point, prices = yield from _point(loose, row, capacity, _ahead(path, capacity), near, gap, seed, deadline)
        if exact is not None and point.state is not None:
            point = replace(point, value=exact.goal(point.state.sets, point.state.server))
        found[capacity] = point
        path = [] if prices is None else [*path[-1:], (capacity, prices)]
    tight = dict(zip(found, _shared(list(found.values())), strict=True))
    return [tight[capacity] for capacity in capacities if capacity in tight]


def _ahead(path: list[tuple[float, Floats]], capacity: float) -> Floats | None:
    """The prices at a capacity if they go on as between the last two; None where none are known."""
    if not path:
        return None
    (before, old), (last, new) = path[0], path[-1]
    if last == before:
        return new
    ahead: Floats = np.maximum(new + (new - old) * ((capacity - last) / (last - before)), 0.0)
    return ahead


def _shared(points: list[CurvePoint]) -> list[CurvePoint]:
    """What points in ascending order say of each other: a bound at a price holds along a line, a plan for less room fits into more."""
    known = [point for point in points if math.isfinite(point.bound)]
    made: list[CurvePoint] = []
    for point in points:
        if math.isfinite(point.bound):
            lines = [one.bound - one.price * (point.capacity_gib - one.capacity_gib) for one in known]
            best = int(np.argmax(lines))
            point = replace(point, bound=lines[best], price=known[best].price)  # noqa: PLW2901
            if made and made[-1].value is not None and (point.value is None or made[-1].value < point.value):
                better = made[-1]
                point = replace(point, value=better.value, stored_gib=better.stored_gib, state=better.state)  # noqa: PLW2901
        made.append(point)
    return made


def plan_at(problem: Problem, point: CurvePoint, tier: str) -> tuple[Problem, Plan] | None:
    """The problem with the point's capacity, and the point's plan for it; None where it has none."""
    if point.state is None:
        return None
    changed = varied(problem, tier, point.capacity_gib)
    return changed, plan_of(changed, options_of(changed, changed.goals[0]), point.state)


def quick(problem: Problem) -> bool:
    """Whether ``converse_curve`` can answer for this problem."""
    return plain(store_of(problem))


def varied(problem: Problem, tier: str, capacity: float) -> Problem:
    """The problem with another capacity of one tier, GiB. Raises KeyError for an unknown tier."""
    if all(one.id != tier for one in problem.tiers):
        raise KeyError(tier)
    tiers = tuple(one.model_copy(update={"capacity_gib": capacity}) if one.id == tier else one for one in problem.tiers)
    return problem.model_copy(update={"tiers": tiers})


def _with_row(problem: Problem, tier: str, least: float) -> tuple[Options, int | None]:
    """The options, and the row of the tier's capacity; None where even the least capacity holds everything."""
    options = options_of(varied(problem, tier, least), problem.goals[0])
    named = (number for number, row in enumerate(options.rows) if (row.rule, row.ids) == (Rule.tier_capacity, (tier,)))
    return options, next(named, None)


@dataclass(slots=True, eq=False)
class _Near:
    """What the capacities so far leave to the next one: the last survey of all objects, and how wide the last box was."""

    survey: Survey | None = None
    share: float = 0.0


def _point(
    options: Options, row: int | None, capacity: float, guess: Floats | None, near: _Near, gap: float, seed: int, deadline: float
) -> Generator[Any, Any, tuple[CurvePoint, Floats | None]]:
    """The point at one capacity, and its prices; ``guess``: prices to begin with, None: none are known."""
    here = options if row is None else options.with_limit(row, capacity)
    prices = guess
    for _ in range(REDRAWN):
        if prices is None or row is None:
            break
        box, near.survey = drawn(here, near.survey, prices, near.share)
        near.share = box.share
        scaled = box.program(here)
        answer = yield Solve(scaled.program)
        if answer.row_duals is None:
            break
        prices = prices_of(scaled, answer.row_duals)
        point = _read(here, row, capacity, box, scaled, answer, deadline)
        if point is not None and point.gap <= gap:
            return point, prices
    try:
        if prices is None:
            at = yield from duals(here, None, gap / 10, seed, deadline)
        else:
            at = yield from sifted(here, prices, None, gap / 10, deadline, share=START_SHARE, rounds=ROUNDS, seed=seed)
    except NoPlanError:
        return CurvePoint(capacity, math.inf, math.inf), None
    state = yield from balanced(here, at, deadline)
    return _made(here, row, capacity, at.bound, at.prices, state), at.prices


def _read(options: Options, row: int, capacity: float, box: Drawn, scaled: Scaled, answer: Solved, deadline: float) -> CurvePoint | None:
    """The point that an answer gives; None where no plan comes out of it, or would only at length."""
    if answer.values is None or answer.row_duals is None or answer.bound is None:
        return None
    if (answer.values[box.found.count :][: len(options.rows)] > MOST_BOUGHT).any():
        return None
    prices = prices_of(scaled, answer.row_duals)
    until = min(deadline, time.monotonic() + MEND_S)
    rounded = whole(options, box.totals, box.found, answer.values)
    times = polished(options, box.totals, prices, box.found, rounded, until, FILLS)
    if times is None:
        return None
    value, stored = box.goal + float(box.found.cost @ times), float(box.totals[row] + box.found.taken[:, row] @ times)
    state = applied(box.state, box.found, times)
    return CurvePoint(capacity, answer.bound * scaled.money, float(prices[row]), value, stored, state)


def _made(options: Options, row: int | None, capacity: float, bound: float, prices: Floats, state: State | None) -> CurvePoint:
    price = 0.0 if row is None else float(prices[row])
    if state is None:
        return CurvePoint(capacity, bound, price)
    stored = None if row is None else float(options.totals(state.sets, state.server)[row])
    return CurvePoint(capacity, bound, price, options.goal(state.sets, state.server), stored, state)

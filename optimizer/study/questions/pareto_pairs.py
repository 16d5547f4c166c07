"""What can be traded: two goals of one problem through its exact program, or a goal and what an axis limits.

See ``optimizer.study.questions.pareto`` for the method and its proof.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.contract import Sense
from optimizer.backend import ProgramStatus
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from optimizer.live import LiveProgram
from optimizer.result import Outcome
from optimizer.study.questions.asking import seen
from optimizer.study.questions.pareto import LOOSE, SAME, Front, Point, Signs, Step, traced
from optimizer.study.sweeps.moving import between
from optimizer.study.sweeps.parametric import Sweeper
from optimizer.study.sweeps.programs import exact, goal_of, plan_of

if TYPE_CHECKING:
    import threading

    from models.program import Floats, LinearProgram
    from models.vocabulary import Document
    from optimizer.backend import ProgramResult
    from optimizer.compile import Compiled
    from optimizer.study.questions.asking import Asker
    from optimizer.study.rows import Row
    from optimizer.study.sweeps.parametric import Sample, Sweep

LARGEST_PAIR = 20_000  # columns of an exact program that is solved at once, as in ``optimizer.strategy``
FLOOR = "goal_floor"  # the row by which every kind holds one goal while it seeks another
LEAST_SHARE = 1e-3  # of a range of limits: how near the tightest limit that has a plan is sought
LOST = 1e-9  # relative: what a goal that is held may lose to rounding, as in ``contract.Goal.better``


BROKEN = "the plan of the exact program breaks a rule of the problem"


class NotTradedError(ValueError):
    """Two goals cannot be traded through one program; the message says why, and what to do."""


def goal_front(
    problem: Document, first: str, second: str, limits: Limits | None = None, *, points: int = 9, cancel: threading.Event | None = None
) -> Front:
    """The trade-off of two goals of the problem, all its other goals left aside. ``limits`` hold for each solve.

    A linear program's front is found exactly, by a sweep, and has as many points as it has corners, whatever ``points`` says. Raises
    NotTradedError, TooLargeProgramError, and KeyError for a goal that the problem does not have.
    """
    pair = GoalPair(problem, first, second, limits or Limits(), cancel)
    if not pair.linear:
        return traced(pair, pair.signs, points)
    return pair.swept()


def axis_front(asker: Asker, axis: str, loosest: float, tightest: float, first: str, second: str, *, points: int = 9) -> Front:
    """The trade-off of a goal and a quantity that the axis limits: values below ``loosest`` limit it more where ``tightest`` is below.

    An axis that falls from loosest to tightest is a limit "at most" (a budget), one that rises is "at least". It must change nothing else:
    that is what the proof rests on. ``first`` is proved only where it is the first goal of the problem. Raises UnknownMetricError.
    """
    pair = AxisPair(asker, axis, loosest, tightest, first, second)
    pair.ends()  # the rows tell the goal's sense
    return traced(pair, Signs(pair.sign, pair.direction), points)


class GoalPair:
    """Two goals of one problem, each with a row that limits the other."""

    def __init__(self, problem: Document, first: str, second: str, limits: Limits, cancel: threading.Event | None = None) -> None:
        if first == second:
            raise NotTradedError(f"{first} cannot be traded for itself: name two goals")
        self._problem, self._limits, self._cancel = problem, limits, cancel
        self._goals = goal_of(problem, first), goal_of(problem, second)
        self.signs = Signs(*(1.0 if goal.sense is Sense.maximise else -1.0 for goal in self._goals))
        self._compiled = self._programs(first, second)
        one, other = (compiled.program for compiled in self._compiled)
        _check_alike(one, other)
        self._with_limit = _limited(one, other), _limited(other, one)
        self._live = tuple(LiveProgram(program, limits) for program in self._with_limit)
        self._offsets = other.offset, one.offset
        self._seen: list[tuple[float, float, Floats]] = []
        self.linear = not one.is_mip
        self.whole = _is_whole(other)
        self.solves = 0

    def _programs(self, first: str, second: str) -> tuple[Compiled, Compiled]:
        names = (first, second), (second, first)
        one, other = (exact(self._problem, goal, {held: 0.0}, hasten=True, most=LARGEST_PAIR) for goal, held in names)
        return one, other

    # ------------------------------------------------------------ steps

    def ends(self) -> tuple[Step, Step]:
        """Lexicographic both ways."""
        best = self.step(-math.inf)
        result, why = self._solve(1, -math.inf)
        bound = self._bound(1, result)
        found = self._offered(result)
        if found is None:
            none = bound == -math.inf
            return best, Step(math.inf, bound if none else math.inf, second_bound=bound, why=why or ("" if none else BROKEN))
        end = self.step(found[1], LOST)
        return best, replace(end, second_bound=max(bound, end.second if end.second is not None else -math.inf))

    def step(self, limit: float, loose: float = LOOSE) -> Step:
        """The best first goal with the second at the limit, loosened by a hair, then the best second with that first."""
        result, why = self._solve(0, limit - loose * max(1.0, abs(limit)) if math.isfinite(limit) else limit)
        bound = self._bound(0, result)
        found = self._offered(result)
        if found is None:
            return Step(limit, bound, why=why or ("" if bound == -math.inf else BROKEN))
        then, why_then = self._solve(1, found[0] - LOST * max(1.0, abs(found[0])))
        second_bound = self._bound(1, then)
        better = self._offered(then)
        same = better is not None and better[0] >= found[0] - LOOSE * max(1.0, abs(found[0])) and better[1] > found[1]
        best = better if better is not None and same else found
        return Step(limit, max(bound, best[0]), best[0], best[1], max(second_bound, best[1]), why or why_then)

    def _solve(self, which: int, limit: float) -> tuple[ProgramResult, str]:
        """Goal ``which`` with the other one, turned so that more is better, at ``limit`` or more."""
        live, program = self._live[which], self._with_limit[which]
        sign = (self.signs.second, self.signs.first)[which]
        row = program.rows - 1
        side = sign * limit - self._offsets[which]
        live.change_row_bounds([row], [side if sign > 0 else -np.inf], [np.inf if sign > 0 else side])
        self.solves += 1
        result = live.solve(self._limits, start=self._start(which, limit), cancel=self._cancel)
        if result.status is ProgramStatus.infeasible_or_unbounded:
            result = HighsBackend().solve(live.program, self._limits, cancel=self._cancel)
        if result.status in (ProgramStatus.optimal, ProgramStatus.feasible, ProgramStatus.infeasible):
            return result, ""
        return result, f"{self._goals[which].name}: {result.status.value} within the limits of one solve"

    def _start(self, which: int, limit: float) -> Floats | None:
        if self.linear:
            return None
        fit = [one for one in self._seen if one[1 - which] >= limit]
        return max(fit, key=lambda one: one[which])[2] if fit else None

    def _bound(self, which: int, result: ProgramResult) -> float:
        if result.status is ProgramStatus.infeasible:
            return -math.inf
        return math.inf if result.bound is None else (self.signs.first, self.signs.second)[which] * result.bound

    def _offered(self, result: ProgramResult) -> tuple[float, float] | None:
        """Both goals of the plan, as its check tells them; None where there is none or it does not stand."""
        if result.values is None:
            return None
        _, verdict = plan_of(self._problem, self._compiled[0], result.values)
        if not verdict.ok:
            return None
        one, other = (verdict.objectives[goal.name] for goal in self._goals)
        self._seen.append((self.signs.first * one, self.signs.second * other, result.values))
        return self.signs.first * one, self.signs.second * other

    # ------------------------------------------------------------ linear programs

    def swept(self) -> Front:
        """The front of a linear program: the optimal first goal as a function of the limit on the second."""
        best, last = self.ends()
        if best.first is None or last.first is None or best.second is None or last.second is None:
            return Front((), solves=self.solves, message=best.why or last.why or "no plan exists")
        signs = self.signs
        exact_ends = all(_near(value, bound) for step in (best, last) for value, bound in _sides(step))
        low, high = best.second, last.second
        if high - low <= SAME * max(1.0, abs(low)):
            return Front(
                (_point(signs, best.first, low, best.bound),), (), 1.0, None, exact_ends, exact_ends, lines=True, solves=self.solves
            )
        sweeper = Sweeper(between(self._at(low), self._at(high), low, high), self._limits, cancel=self._cancel)
        found = sweeper.run()
        inner = {piece.start for piece in found.pieces[1:]}
        points = [self._corner(found, sample) for sample in sweeper.samples if _limit_of(found, sample) in inner]
        kept = [point for point in points if point is not None]
        whole = len(kept) == len(points) == len(inner) and bool(found.pieces)
        ends = _point(signs, best.first, low, best.bound), _point(signs, last.first, high, last.bound)
        made = (ends[0], *kept, ends[1])
        return Front(
            points=made,
            outer=tuple((point.bound, point.second) for point in made),
            coverage=1.0 if found.exact and whole else 0.0,
            exact_ends=exact_ends,
            complete=found.exact and exact_ends and whole,
            lines=True,
            solves=self.solves + sweeper.solves,
            message=found.message or ("" if whole else "the check of a corner's plan does not tell what the program does"),
        )

    def _corner(self, found: Sweep, sample: Sample) -> Point | None:
        """A corner of the front, as the check of its plan tells it."""
        at = _limit_of(found, sample)
        told, (_, verdict) = found.value(at), plan_of(self._problem, self._compiled[0], sample.values)
        if told is None or not verdict.ok:
            return None
        one, other = (verdict.objectives[goal.name] for goal in self._goals)
        size = 2 * LOOSE * max(1.0, abs(told))
        if abs(told - one) > size or self.signs.second * other < at - 2 * LOOSE * max(1.0, abs(at)):
            return None
        return _point(self.signs, self.signs.first * one, self.signs.second * other, self.signs.first * told + found.error)

    def _at(self, limit: float) -> LinearProgram:
        """The first goal's program with the second at the limit."""
        program = self._with_limit[0]
        side = self.signs.second * limit - self._offsets[0]
        lower, upper = program.row_lower.copy(), program.row_upper.copy()
        lower[-1], upper[-1] = (side, np.inf) if self.signs.second > 0 else (-np.inf, side)
        return replace(program, row_lower=lower, row_upper=upper)


def _point(signs: Signs, first: float, second: float, bound: float) -> Point:
    bound = max(first, bound)
    return Point(signs.first * first + 0.0, signs.second * second + 0.0, signs.first * bound + 0.0, (bound - first) / max(1.0, abs(first)))


def _limit_of(found: Sweep, sample: Sample) -> float:
    """The limit of a sample."""
    return found.most if sample.w == 1.0 else found.least + sample.w * (found.most - found.least)


def _sides(step: Step) -> tuple[tuple[float | None, float], tuple[float | None, float]]:
    return (step.first, step.bound), (step.second, step.second_bound)


def _near(value: float | None, bound: float) -> bool:
    return value is not None and bound - value <= 2 * LOOSE * max(1.0, abs(value))


def _check_alike(one: LinearProgram, other: LinearProgram) -> None:
    """Both programs have the same columns and rules, and hold the other goal by one row. Raises NotTradedError."""
    cure = "limit one of them by an axis (a budget, a quota), and trade that"
    for program in (one, other):
        held = [block for block in program.row_blocks if block.name == FLOOR]
        if [len(block.ids) for block in held] != [1]:
            raise NotTradedError(f"these goals are not held by one row each, so that they cannot be traded through one program: {cure}")
    same_columns = [(block.name, tuple(block.ids)) for block in one.column_blocks] == [
        (block.name, tuple(block.ids)) for block in other.column_blocks
    ]
    rules = [[(block.name, len(block.ids)) for block in program.row_blocks if block.name != FLOOR] for program in (one, other)]
    if not same_columns or rules[0] != rules[1]:
        raise NotTradedError(f"the programs of these goals have different columns or rules: {cure}")


def _limited(program: LinearProgram, other: LinearProgram) -> LinearProgram:
    """The program without its own floor, and with a last row for the goal of ``other``, which has no side yet."""
    lower, upper = program.row_lower.copy(), program.row_upper.copy()
    held = program.row_block(FLOOR).rows
    lower[held], upper[held] = -np.inf, np.inf
    freed = replace(program, row_lower=lower, row_upper=upper)
    at = np.flatnonzero(other.cost)
    return freed.with_rows(np.array([-np.inf]), np.array([np.inf]), np.array([0, len(at)]), at, other.cost[at])


def _is_whole(program: LinearProgram) -> bool:
    """Whether the objective takes whole numbers only."""
    priced = program.cost != 0.0
    numbers = np.append(program.cost[priced], program.offset)
    return bool(program.integer[priced].all() and (numbers == np.round(numbers)).all())


# ---------------------------------------------------------------- a goal and what an axis limits


class AxisPair:
    """A goal, and a quantity that one axis limits; ``direction`` and ``sign`` turn both so that more is better."""

    whole = False

    def __init__(self, asker: Asker, axis: str, loosest: float, tightest: float, first: str, second: str) -> None:
        if loosest == tightest:
            raise NotTradedError(f"axis '{axis}' has one value, {loosest:g}: give the loosest and the tightest limit")
        self._asker, self._axis, self._loosest, self._tightest = asker, axis, loosest, tightest
        self._first, self._second = first, second
        self.direction = 1.0 if tightest > loosest else -1.0
        self.sign = 1.0
        self._ends: tuple[Step, Step] | None = None

    def ends(self) -> tuple[Step, Step]:
        """The loosest limit, and the tightest that has a plan."""
        if self._ends is None:
            rows = self._asker.ask_all([{self._axis: self._loosest}, {self._axis: self._tightest}])
            senses = [goal.sense for row in rows for goal in row.goals if goal.name == self._first]
            self.sign = -1.0 if "minimise" in senses else 1.0
            best, last = (self._read(limit, row) for limit, row in zip((self._loosest, self._tightest), rows, strict=True))
            self._ends = best, self._tightest_with_plan(best, last) if best.first is not None else last
        return self._ends

    def _tightest_with_plan(self, found: Step, last: Step) -> Step:
        """The last step, or, where no plan meets it, one near the tightest limit that a plan meets."""
        has, has_none = self._loosest, self._tightest
        while last.refuted and abs(has_none - has) > LEAST_SHARE * abs(self._tightest - self._loosest):
            middle = 0.5 * (has + has_none)
            tried = self.step(self.direction * middle)
            if tried.refuted:
                has_none = middle
            elif tried.first is not None:
                has, found = middle, tried
            else:
                break
        return found if last.refuted else last

    def step(self, limit: float) -> Step:
        """One row."""
        value = self.direction * limit
        return self._read(value, self._asker.ask({self._axis: value}))

    def _read(self, value: float, row: Row) -> Step:
        limit = self.direction * value
        if row.outcome == Outcome.infeasible.value and row.failure is None:
            return Step(limit, -math.inf)
        one, other = seen(row, self._first), seen(row, self._second)
        if one.attained is None or other.attained is None:
            return Step(limit, math.inf, why=one.why or other.why or "no plan was found")
        bound = (one.high if self.sign > 0 else -one.low) if one.proved else math.inf
        return Step(limit, bound, self.sign * one.attained, self.direction * other.attained)

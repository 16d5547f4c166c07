"""Fronts against all plans of small problems: attained points, proved corners, what is open, and both ends."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import kind
from models.contract import Goal, Sense, Verdict
from models.program import Block
from optimizer.compile import compile_model
from optimizer.limits import Limits
from optimizer.solve import solve
from optimizer.study.questions import pareto_pairs
from optimizer.study.questions.pareto import Signs, Step, traced
from optimizer.study.questions.pareto_pairs import NotTradedError, axis_front, goal_front
from tests.optimizer.study.moving_programs import FINITE, dense, optimum
from tests.optimizer.study.told_rows import told_row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.program import LinearProgram
    from optimizer.study.questions.pareto import Front
    from optimizer.study.rows import Row

LIMITS = Limits(time_limit_s=30.0, gap=1e-9)
Points = list[tuple[float, float]]


def best(points: Points) -> Points:
    """Those that no other dominates, the best first value first."""
    kept = {one for one in points if not any(other != one and other[0] >= one[0] and other[1] >= one[1] for other in points)}
    return sorted(kept, reverse=True)


@dataclass
class Listed:
    """A pair whose plans are all listed; solves may miss the best plan by ``short`` and bound it loosely by ``loose``."""

    plans: Points
    whole: bool = True
    short: int = 0
    loose: float = 0.0
    limits: list[float] = field(default_factory=list)

    def ends(self) -> tuple[Step, Step]:
        """Lexicographic."""
        most = max(second for _, second in self.plans)
        last = self.step(most)
        return self.step(-math.inf), Step(last.limit, last.bound, last.first, last.second, most + self.loose)

    def step(self, limit: float) -> Step:
        """By looking at all plans."""
        assert limit not in self.limits
        self.limits.append(limit)
        fit = sorted((plan for plan in self.plans if plan[1] >= limit), reverse=True)
        if not fit:
            return Step(limit, -math.inf)
        first, second = fit[min(self.short, len(fit) - 1)]
        second = max(one[1] for one in fit if one[0] == first)
        over = max(one[1] for one in self.plans if one[0] >= first)
        return Step(limit, fit[0][0] + self.loose, first, second, over + self.loose)


plan_lists = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=25).map(
    lambda given: [(float(x), float(y)) for x, y in given]
)


@given(plan_lists)
@settings(max_examples=200, deadline=None)
def test_exact_solves_find_every_efficient_point(plans: Points) -> None:
    found = traced(Listed(plans), Signs(1.0, 1.0), 200)
    assert [(point.first, point.second) for point in found.points] == best(plans)
    assert found.complete
    assert found.exact_ends
    assert found.coverage == 1.0
    assert all(point.gap == 0.0 for point in found.points)


@given(
    plan_lists,
    st.integers(0, 2),
    st.floats(0.0, 3.0),
    st.booleans(),
    st.integers(2, 12),
    st.sampled_from([(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0)]),
)
@settings(max_examples=300, deadline=None)
def test_what_a_front_claims_is_true(plans: Points, short: int, loose: float, whole: bool, points: int, signs: tuple[float, float]) -> None:
    found = traced(Listed(plans, whole, short, loose), Signs(*signs), points)
    told = [(signs[0] * point.first, signs[1] * point.second) for point in found.points]
    truth = best(plans)
    assert set(told) <= set(plans)
    assert told == sorted(told, reverse=True)
    assert all(one[1] < other[1] for one, other in itertools.pairwise(told))
    for point, (first, second) in zip(found.points, told, strict=True):
        assert max(plan[0] for plan in plans if plan[1] >= second) <= signs[0] * point.bound + 1e-9
        assert signs[0] * point.bound >= first
    for bound, limit in found.outer:
        beyond = [plan[0] for plan in plans if plan[1] > signs[1] * limit + 1e-9]
        assert max(beyond, default=-math.inf) <= signs[0] * bound + 1e-9
    if found.complete:
        assert told == truth
    if len(told) > 1:
        area = (told[0][0] - told[-1][0]) * (told[-1][1] - told[0][1])
        for first, second in truth:  # whatever was not found in the box lies in open rectangles, none of which is larger than the largest
            if (first, second) not in told and told[0][0] >= first and told[-1][1] >= second >= told[0][1]:
                assert found.hole is not None
                rectangles = [
                    (first - after) * (second - below)
                    for (_, below), (after, _) in itertools.pairwise(told)
                    if below < second and after < first
                ]
                assert max(rectangles) <= (1.0 - found.coverage) * area + 1e-6


def test_a_large_front_is_covered_with_few_points() -> None:
    plans = [(float(100 - k), math.sqrt(k)) for k in range(101)]
    found = traced(Listed(plans, whole=False), Signs(1.0, 1.0), 17)
    assert found.coverage > 0.95
    assert found.solves == 17
    worse = traced(Listed(plans, whole=False), Signs(1.0, 1.0), 5)
    assert worse.coverage < found.coverage
    with pytest.raises(ValueError, match="at least its 2 ends"):
        traced(Listed(plans), Signs(1.0, 1.0), 1)


# ---------------------------------------------------------------- goals of a problem


def example(name: str, which: str) -> Any:
    return kind(name).part("examples").examples()[which]


def corners(front: Front) -> list[tuple[float, float]]:
    return [(round(point.first, 6), round(point.second, 6)) for point in front.points]


def test_tiering_trades_time_for_money() -> None:
    problem = example("tiering", "two_tier")
    found = goal_front(problem, "access_time", "cost", LIMITS, points=20)
    turned = problem.model_validate(problem.model_dump() | {"goals": ("cost", "access_time")})
    ends = [solve(one, LIMITS, isolate=False).certificate for one in (problem, turned)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert found.exact_ends
    assert corners(found)[0] == pytest.approx([goal.objective for goal in ends[0].goals], abs=1e-6)
    assert corners(found)[-1] == pytest.approx([goal.objective for goal in reversed(ends[1].goals)], abs=1e-6)
    assert found.coverage > 0.999
    assert len(found.points) == 4
    other = goal_front(problem, "cost", "access_time", LIMITS, points=20)
    assert corners(other) == [(second, first) for first, second in reversed(corners(found))]


def test_placement_trades_moves_for_gpus() -> None:
    found = goal_front(example("placement", "repack"), "allocated_gpus", "moves", LIMITS)
    assert corners(found) == [(9.0, 1.0), (5.0, 0.0)]
    assert found.complete


def test_a_linear_front_is_exact() -> None:
    found = goal_front(example("flow", "classes"), "throughput[1]", "throughput[0]", LIMITS)
    assert found.lines
    assert found.complete
    assert corners(found) == [(230.0, 145.0), (110.0, 185.0)]
    money = goal_front(example("flow", "transfers"), "transfer_value", "transfer_cost", LIMITS)
    assert corners(money)[0] == pytest.approx((10.0, 2112.0))
    assert corners(money)[-1] == pytest.approx((0.0, 1512.0))
    assert money.complete


def test_goals_that_do_not_conflict_have_one_point() -> None:
    found = goal_front(example("placement", "preempt"), "evictions", "eviction_cost", LIMITS)
    assert corners(found) == [(3.0, 3.0)]
    assert found.complete


def test_what_cannot_be_traded_is_refused_with_a_cure() -> None:
    with pytest.raises(NotTradedError, match="limit one of them by an axis"):
        goal_front(example("fairshare", "cluster"), "fair_share", "fair_slack", LIMITS)
    with pytest.raises(NotTradedError, match="for itself"):
        goal_front(example("tiering", "two_tier"), "cost", "cost", LIMITS)
    with pytest.raises(KeyError, match="there is no goal 'coast'; there are: access_time, cost"):
        goal_front(example("tiering", "two_tier"), "access_time", "coast", LIMITS)


# ---------------------------------------------------------------- random programs with whole numbers


def random_pair(seed: int, monkeypatch: pytest.MonkeyPatch, *, integer: bool = True) -> tuple[Points, LinearProgram]:
    """Puts a random program of seven yes-or-no decisions in the place of a kind's.

    Returns both goals of all its plans, and the program of the first, whose last row is the second.
    """
    rng = np.random.default_rng(seed)
    costs = rng.integers(0, 9, (2, 7)).astype(float) / (1.0 if seed % 2 else 4.0)
    weights, room = rng.integers(1, 9, 7).astype(float), float(rng.integers(8, 30))
    senses = [Sense.maximise, Sense.minimise if seed % 3 == 0 else Sense.maximise]
    goals = [Goal(name, sense, "") for name, sense in zip(("one", "other"), senses, strict=True)]
    least = 2.0 if seed % 3 == 0 else 0.0  # or nothing at all would be the cheapest plan

    def exact(_problem: Any, goal: str, floors: Mapping[str, float], **_: Any) -> Any:
        which = ("one", "other").index(goal)
        matrix = np.vstack((weights, np.ones(7), costs[1 - which]))
        program = dense(
            costs[which],
            matrix,
            np.array([-np.inf, least, -np.inf]),
            np.array([room, np.inf, np.inf]),
            upper=np.ones(7),
            maximise=senses[which] is Sense.maximise,
        )
        blocks = (Block("room", 0, (("a",), ("b",))), Block("goal_floor", 2, ((next(iter(floors)),),)))
        return compile_model(
            replace(program, integer=np.full(7, integer), row_blocks=blocks, column_blocks=(Block("take", 0, [(k,) for k in range(7)]),))
        )

    def plan_of(_problem: Any, _compiled: Any, values: Any) -> tuple[Any, Verdict]:
        return None, Verdict(dict(zip(("one", "other"), (costs @ (np.round(values) if integer else values)).tolist(), strict=True)))

    monkeypatch.setattr(pareto_pairs, "exact", exact)
    monkeypatch.setattr(pareto_pairs, "plan_of", plan_of)
    monkeypatch.setattr(pareto_pairs, "goal_of", lambda _problem, name: next(goal for goal in goals if goal.name == name))
    plans = np.array(list(itertools.product((0.0, 1.0), repeat=7)))
    fit = plans[(plans @ weights <= room) & (plans.sum(axis=1) >= least)]
    listed = [(one, -other if seed % 3 == 0 else other) for one, other in (fit @ costs.T).tolist()]
    return listed, exact(None, "one", {"other": 0.0}).program


@pytest.mark.parametrize("seed", range(24))
def test_a_front_of_whole_numbers_is_what_all_plans_say(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plans, _ = random_pair(seed, monkeypatch)
    sign = -1.0 if seed % 3 == 0 else 1.0
    problem: Any = None
    truth = best(plans)
    found = goal_front(problem, "one", "other", LIMITS, points=60)
    told = [(point.first, sign * point.second) for point in found.points]
    assert found.exact_ends
    assert np.array(told) == pytest.approx(np.array(truth))
    if seed % 2:
        assert found.complete
    assert all(point.gap <= 1e-5 for point in found.points)
    few = goal_front(problem, "one", "other", LIMITS, points=3)
    some = {(round(point.first, 6), round(sign * point.second, 6)) for point in few.points}
    assert some <= {(round(first, 6), round(second, 6)) for first, second in truth}


@pytest.mark.parametrize("seed", range(12))
def test_a_front_of_lines_is_what_a_dense_grid_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, program = random_pair(seed, monkeypatch, integer=False)
    problem: Any = None
    sign = -1.0 if seed % 3 == 0 else 1.0
    found = goal_front(problem, "one", "other", LIMITS)
    assert found.lines
    assert found.complete
    seconds = np.array([point.second for point in found.points])
    firsts = np.array([point.first for point in found.points])
    assert (sign * np.diff(seconds) > 0).all()
    for limit in np.linspace(seconds[0], seconds[-1], 15).tolist():
        sides = {"row_lower": program.row_lower.copy(), "row_upper": program.row_upper.copy()}
        sides["row_lower" if sign > 0 else "row_upper"][-1] = limit
        status, truth = optimum(replace(program, row_lower=sides["row_lower"], row_upper=sides["row_upper"]))
        assert status == FINITE
        assert np.interp(sign * limit, sign * seconds, firsts) == pytest.approx(truth, abs=1e-4)


# ---------------------------------------------------------------- a goal and what an axis limits


@dataclass
class Budgets:
    """Plans of (value, cost), solved with a budget; rows bound the value loosely."""

    plans: Points
    loose: float = 0.0

    def ask(self, values: Mapping[str, Any]) -> Row:
        """One row."""
        return self.ask_all([values])[0]

    def ask_all(self, asked: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Several."""
        return [self._row(one["budget"]) for one in asked]

    def _row(self, budget: float) -> Row:
        fit = [plan for plan in self.plans if plan[1] <= budget]
        if not fit:
            return told_row({}, outcome="infeasible")
        value, cost = max(fit, key=lambda plan: (plan[0], -plan[1]))
        return told_row({"value": (value, value + self.loose)}, metrics={"cost_usd": cost})


def test_a_budget_is_an_axis() -> None:
    plans = [(0.0, 10.0), (5.0, 20.0), (6.0, 40.0), (20.0, 55.0), (21.0, 90.0)]
    found = axis_front(Budgets(plans), "budget", 100.0, 5.0, "value", "cost_usd", points=25)
    assert corners(found) == [(21.0, 90.0), (20.0, 55.0), (6.0, 40.0), (5.0, 20.0), (0.0, 10.0)]
    assert found.coverage > 0.95
    assert all(point.gap == 0.0 for point in found.points)
    loose = axis_front(Budgets(plans, 0.5), "budget", 100.0, 5.0, "value", "cost_usd", points=25)
    assert corners(loose) == corners(found)
    assert max(point.gap for point in loose.points) == pytest.approx(0.5)
    with pytest.raises(NotTradedError, match="has one value"):
        axis_front(Budgets(plans), "budget", 5.0, 5.0, "value", "cost_usd")


def test_no_plan_at_all_is_said() -> None:
    found = axis_front(Budgets([(1.0, 1000.0)]), "budget", 100.0, 5.0, "value", "cost_usd")
    assert found.points == ()
    assert found.coverage == 0.0
    assert not found.complete

"""Interval arithmetic that never rounds inwards, and what a row proves of each goal."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.study.conclusions.intervals import WIDENING, Interval, State, known, mean, same_question
from optimizer.study.rows import Change, Row
from tests.optimizer.study.tables import INF, answered, certificate, infeasible, no_plan, proved, row

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def intervals(draw: st.DrawFn) -> tuple[Interval, Fraction]:
    """An interval, and a number in it."""
    low, high = sorted((draw(NUMBERS), draw(NUMBERS)))
    inside = Fraction(low) + (Fraction(high) - Fraction(low)) * draw(st.fractions(0, 1, max_denominator=64))
    return Interval(low if draw(st.booleans()) else -INF, high if draw(st.booleans()) else INF), inside


@given(intervals(), intervals())
def test_differences_and_shares_hold_those_of_every_pair(first: tuple[Interval, Fraction], second: tuple[Interval, Fraction]) -> None:
    (x, inside_x), (y, inside_y) = first, second
    difference = x - y
    assert difference.low <= inside_x - inside_y <= difference.high
    share = x.change_from(y)
    assert (share is None) == (y.low <= 0 <= y.high)
    if share is not None:
        assert share.low <= (inside_x - inside_y) / abs(inside_y) <= share.high


@given(st.lists(intervals(), min_size=1, max_size=6))
def test_the_mean_holds_that_of_every_choice(given_: list[tuple[Interval, Fraction]]) -> None:
    found = mean([interval for interval, _ in given_])
    assert found.low <= sum(inside for _, inside in given_) / len(given_) <= found.high


@given(intervals(), st.floats(1e-6, 1e6))
def test_division(given_: tuple[Interval, Fraction], divisor: float) -> None:
    interval, inside = given_
    assert (interval / divisor).low <= inside / Fraction(divisor) <= (interval / divisor).high


def test_shares_are_as_narrow_as_they_can_be() -> None:
    share = Interval(110.0, 120.0).change_from(Interval(100.0, 110.0))
    assert share is not None
    assert (share.low, share.high) == pytest.approx((0.0, 0.2), abs=1e-12)
    below = Interval(-120.0, -110.0).change_from(Interval(-110.0, -100.0))
    assert below is not None
    assert (below.low, below.high) == pytest.approx((-0.2, 0.0), abs=1e-12)


def test_what_is_no_interval() -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        Interval(2.0, 1.0)
    with pytest.raises(ValueError, match="holds nothing"):
        Interval(math.nan, 1.0)
    with pytest.raises(ValueError, match="positive number"):
        _ = Interval(1.0, 2.0) / 0.0
    with pytest.raises(ValueError, match="no intervals"):
        mean([])


def test_a_meeting() -> None:
    assert Interval(0.0, 2.0).meet(Interval(1.0, 3.0)) == Interval(1.0, 2.0)
    assert Interval(0.0, 1.0).meet(Interval(2.0, 3.0)) is None


@pytest.mark.parametrize("sense", ["maximise", "minimise"])
def test_one_goal(sense: str) -> None:
    ends = (100.0, 103.0) if sense == "maximise" else (103.0, 100.0)
    found = known(row(certificate(*ends, sense=sense)), "value")
    assert found.state is State.bounded
    assert found.interval is not None
    assert found.interval.low == pytest.approx(100.0 - 100 * WIDENING, abs=1e-9)
    assert found.interval.high == pytest.approx(103.0 + 103 * WIDENING, abs=1e-9)
    assert found.why == ""
    assert found.gap == pytest.approx(3 / ends[0])


def test_no_bound_leaves_one_end_open() -> None:
    found = known(row(certificate(5.0, INF)), "value")
    assert found.interval is not None
    assert (found.interval.low < 5.0, found.interval.high) == (True, INF)
    assert "no bound" in found.why
    cheap = known(row(certificate(5.0, -INF, sense="minimise")), "value")
    assert cheap.interval is not None
    assert (cheap.interval.low, cheap.interval.high > 5.0) == (-INF, True)


def test_a_later_goal_says_less_while_an_earlier_one_is_open() -> None:
    goals = certificate(9.0, 10.0, "first"), certificate(5.0, 5.0, "second"), certificate(3.0, 3.0, "third", "minimise")
    second, third = known(row(*goals), "second"), known(row(*goals), "third")
    assert second.interval is not None
    assert second.interval.low == -INF
    assert second.interval.high == pytest.approx(5.0, abs=1e-4)
    assert second.open_goal == "first"
    assert "first, which comes before, has a gap" in second.why
    assert third.interval == Interval(-INF, INF)
    assert not third.bound_proves
    closed = (certificate(10.0, 10.0, "first"), *goals[1:])
    for name, value in (("second", 5.0), ("third", 3.0)):
        found = known(row(*closed), name)
        assert found.interval is not None
        assert found.interval.finite
        assert value in found.interval


def test_a_gap_of_rounding_closes_an_earlier_goal() -> None:
    goals = certificate(1e6, 1e6 + 0.5, "first"), certificate(5.0, 5.0, "second")
    assert known(row(*goals), "second").plan_proves


@pytest.mark.parametrize(
    ("one", "state", "why"),
    [
        (infeasible(), State.infeasible, "no plan exists"),
        (no_plan(), State.unknown, "no plan was found"),
        (Row.failed("k", "the file is gone"), State.unknown, "the file is gone"),
        (replace(proved(1.0), verified=False), State.unknown, "not verified"),
        (row(certificate(1.0, 1.0, "other")), State.unknown, "no goal called 'value'"),
        (row(certificate(5.0, 4.0)), State.unknown, "contradict"),
        (row(certificate(math.nan, 4.0)), State.unknown, "contradict"),
        (Row("k", "unbounded", "gap", (), {}, verified=False, seconds=1.0), State.unbounded, "without limit"),
    ],
)
def test_rows_that_bound_nothing(one: Row, state: State, why: str) -> None:
    found = known(one, "value")
    assert (found.state, found.interval) == (state, None)
    assert why in found.why


def test_rows_of_one_problem() -> None:
    change = (Change("set", "/x", 1),)
    one, other = answered(proved(1.0, key="a"), changes=change), answered(proved(2.0, key="b"), changes=change)
    assert same_question(one, other)
    assert not same_question(one, other, same_base=False)
    assert not same_question(one, answered(proved(2.0, key="b"), changes=(Change("set", "/x", True),)))
    assert same_question(one, answered(proved(1.0, key="a"), changes=()), same_base=False)

"""Numbers in sentences: short, and never further in than the truth."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.study.conclusions.intervals import Interval
from optimizer.study.conclusions.wording import between, by_span, capital, figure, joined, percent, value_text
from tests.optimizer.study.tables import INF


@pytest.mark.parametrize(
    ("value", "digits", "towards", "told"),
    [
        (0.0, 3, 0, "0"),
        (1234567.891, 6, 0, "1,234,570"),
        (1234567.891, 6, 1, "1,234,570"),
        (1234561.0, 3, -1, "1,230,000"),
        (12345.0, 3, 0, "12,345"),  # whole and short enough
        (-0.0012345, 3, -1, "-0.00124"),
        (-0.0012345, 3, 1, "-0.00123"),
        (0.1 + 0.2, 3, 1, "0.3"),  # what lies next to a number is not rounded away from it
        (99999.7, 3, 0, "100,000"),
        (1e20, 6, 0, "1e+20"),
        (1.5e-9, 3, 0, "1.5e-9"),
        (INF, 3, 0, "infinity"),
    ],
)
def test_figures(value: float, digits: int, towards: int, told: str) -> None:
    assert figure(value, digits, towards=towards) == told


def test_words() -> None:
    assert value_text(1234.5, "USD") == "1,234.5 USD"
    assert percent(0.031, signed=True) == "+3.1%"
    assert joined(["a"]) == "a"
    assert joined(["a", "b", "c"], "or") == "a, b or c"
    assert joined([]) == ""
    assert capital("a b") == "A b"


@pytest.mark.parametrize(
    ("low", "high", "unit", "told"),
    [
        (0.0314, 0.0359, None, "3.14% to 3.59%"),
        (0.099995, 0.100005, None, "10%"),
        (12.0, 14.0, "USD", "12 to 14 USD"),
        (0.03, INF, None, "at least 3%"),
        (-INF, 2.0, "USD", "at most 2 USD"),
        (-INF, INF, None, "an unknown amount"),
    ],
)
def test_spans(low: float, high: float, unit: str | None, told: str) -> None:
    assert by_span(Interval(low, high), unit) == told


def test_between() -> None:
    assert between(Interval(-0.004, 0.009)) == "lies between -0.4% and +0.9%"
    assert between(Interval(-1e-9, 0.9)) == "lies between -0.1% and +90%"  # digits as of the larger end
    assert between(Interval(-INF, 0.9)) == "is at most +90%"
    assert between(Interval(0.1, INF), "GPUs") == "is at least +0.1 GPUs"
    assert between(Interval(-INF, INF)) == "is not known at all"
    assert between(Interval(0.0, 0.0)) == "is 0%"


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9))
def test_what_is_told_holds_the_interval(low: float, width: float) -> None:
    interval = Interval(low, low + width)
    told = [Fraction(number.replace(",", "")) for number in re.findall(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", between(interval, ""))]
    hair = Fraction(2, 10**9) * max(abs(Fraction(end)) for end in (interval.low, interval.high))
    if len(told) == 2:
        assert told[0] <= interval.low + hair
        assert told[1] >= interval.high - hair
    else:  # both ends are this number to three digits
        assert abs(told[0] - Fraction(low)) <= abs(told[0]) * Fraction(1, 199) + Fraction(1, 10**300)

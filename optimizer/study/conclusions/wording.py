"""Numbers in sentences: few digits, rounded so that what the sentence claims stays true."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, localcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimizer.study.conclusions.intervals import Interval

DIGITS = 3  # of a difference
VALUE_DIGITS = 6  # of a value that somebody may want to compare with another
MANY_FIGURES = 1e6  # above it six figures would round off units
_SMALLEST, _LARGEST = -6, 15  # powers of ten outside of which a number is told with an exponent
_ROUNDINGS = {-1: ROUND_FLOOR, 1: ROUND_CEILING}
_HAIR = Decimal("1e-9")  # relative: far less than an end was moved outwards for rounding


def figure(value: float, digits: int = DIGITS, *, towards: int = 0, power: int = 0, signed: bool = False) -> str:
    """``value`` times ten to the ``power`` with so many significant digits: rounded down (-1), to nearest (0) or up (1).

    Whole numbers keep all their digits up to VALUE_DIGITS of them, and where that many are asked for all that a double has.
    """
    if not math.isfinite(value):
        return "infinity" if value > 0 else "minus infinity" if value < 0 else "unknown"
    return _text(_rounded(value, digits, towards, power), signed=signed)


def _rounded(value: float, digits: int, towards: int, power: int, least_exponent: int | None = None) -> Decimal:
    with localcontext(prec=60):
        exact = Decimal(value).scaleb(power)
        exponent = exact.adjusted() - digits + 1
        if exact == exact.to_integral_value() and exact.adjusted() < (_LARGEST if digits >= VALUE_DIGITS else VALUE_DIGITS):
            exponent = 0
        if least_exponent is not None:
            exponent = max(exponent, least_exponent)
        unit = Decimal(1).scaleb(exponent)
        nearest = exact.quantize(unit, ROUND_HALF_EVEN)
        # 3.59 is no double: what lies next to it is not rounded away from it.
        if towards == 0 or abs(nearest - exact) <= abs(exact) * _HAIR:
            return nearest
        return exact.quantize(unit, _ROUNDINGS[towards])


def _text(number: Decimal, *, signed: bool) -> str:
    if number.is_zero():
        return "0"
    sign = "+" if signed else ""
    if _SMALLEST <= number.adjusted() < _LARGEST:
        text = format(number, f"{sign},f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return format(number.normalize(), f"{sign}e")


def value_text(value: float, unit: str = "", *, towards: int = 0) -> str:
    """A goal's value: ``1,234.5 USD``."""
    return _with_unit(figure(value, VALUE_DIGITS, towards=towards), unit)


def percent(share: float, digits: int = DIGITS, *, towards: int = 0, signed: bool = False) -> str:
    """0.031 as ``3.10%``."""
    return f"{figure(share, digits, towards=towards, power=2, signed=signed)}%"


def by_span(span: Interval, unit: str | None = None) -> str:
    """``3.1% to 3.6%`` of a relative span (no unit), or ``12 to 14 USD``: what is told holds every number of the span."""
    low, high = _ends(span, unit, signed=False)
    if span.finite:
        return low if low == high else f"{low.removesuffix(f' {unit}') if unit else low} to {high}"
    return f"at least {low}" if math.isfinite(span.low) else f"at most {high}" if math.isfinite(span.high) else "an unknown amount"


def between(span: Interval, unit: str | None = None) -> str:
    """``lies between -0.4% and +0.9%``, or what infinite ends leave of it."""
    low, high = _ends(span, unit, signed=True)
    if span.finite:
        return f"is {low}" if low == high else f"lies between {low} and {high}"
    return f"is at least {low}" if math.isfinite(span.low) else f"is at most {high}" if math.isfinite(span.high) else "is not known at all"


def by_ends(span: Interval, unit: str | None = None) -> str:
    """``+1% to +2%`` of a relative span (no unit), or ``-1 to +2 GPUs``: what is told holds every number of it."""
    return between(span, unit).removeprefix("lies between ").removeprefix("is ").replace(" and ", " to ", 1)


def _ends(span: Interval, unit: str | None, *, signed: bool) -> tuple[str, str]:
    """Both ends told: to nearest where that is one number for both, else outwards. Around 0 the digits of the larger end do for both."""
    power, suffix = (2, "%") if unit is None else (0, f" {unit}" if unit else "")
    least = None
    if span.finite and span.low < 0 < span.high:
        least = Decimal(max(-span.low, span.high)).adjusted() + power - DIGITS + 1

    def told(value: float, towards: int) -> str:
        if not math.isfinite(value):
            return ""
        return _text(_rounded(value, DIGITS, towards, power, least), signed=signed) + suffix

    nearest = told(span.low, 0), told(span.high, 0)
    return nearest if nearest[0] == nearest[1] else (told(span.low, -1), told(span.high, 1))


def shown_value(value: object) -> str:
    """The value of an axis in a name: long fractions rounded, whole numbers not."""
    return f"{value:.6g}" if isinstance(value, float) and abs(value) < MANY_FIGURES else str(value)


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit}" if unit else text


def joined(words: Sequence[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""


def capital(sentence: str) -> str:
    """The sentence with a capital at its beginning."""
    return f"{sentence[:1].upper()}{sentence[1:]}"

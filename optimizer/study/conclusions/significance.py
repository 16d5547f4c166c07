"""Tests of paired differences, in plain arithmetic: Student's t, the sign test, Wilcoxon's signed ranks, and Holm's correction.

Sources: Student, The probable error of a mean (1908); Wilcoxon, Individual comparisons by ranking methods (1945), with the ranks of ties
averaged and zeros left out; Holm, A simple sequentially rejective multiple test procedure (1979). The distribution of t is the incomplete
beta function, by Lentz's continued fraction (Press et al., Numerical Recipes, section 6.4).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

EXACT_RANKS = 200  # differences up to which the distribution of the ranks is counted out; the normal one is good to 4 digits there
_TINY = 1e-300
_MOST_TERMS = 100_000


def student_quantile(probability: float, degrees: float) -> float:
    """The t with ``P(T <= t) = probability`` for so many degrees of freedom.

    Raises ValueError unless 0 < probability < 1 and degrees > 0.
    """
    if not (0 < probability < 1 and degrees > 0):
        raise ValueError(f"no t has probability {probability} at {degrees} degrees of freedom")
    if probability == 0.5:  # noqa: PLR2004  (the middle)
        return 0.0
    tail = min(probability, 1 - probability)
    low, high = 0.0, 1.0
    while student_tail(high, degrees) > tail:
        low, high = high, 2 * high
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return middle if probability > tail else -middle
        low, high = (middle, high) if student_tail(middle, degrees) > tail else (low, middle)


def student_tail(t: float, degrees: float) -> float:
    """``P(T > t)`` for ``t >= 0``."""
    return 0.5 * _incomplete_beta(degrees / (degrees + t * t), t * t / (degrees + t * t), degrees / 2, 0.5)


def _incomplete_beta(x: float, rest: float, a: float, b: float) -> float:
    """``I_x(a, b)`` with ``rest`` = 1 - x, given apart because it may be tiny."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1.0 - front * _fraction(rest, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function, from its start to where it no longer changes."""
    c, d = 1.0, 1.0 / _not_zero(1.0 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _MOST_TERMS):
        step = 1.0
        for term in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1.0 / _not_zero(1.0 + term * d)
            c = _not_zero(1.0 + term / c)
            step = c * d
            value *= step
        if abs(step - 1.0) < 1e-16:  # noqa: PLR2004  (rounding)
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def sign_test(wins: int, losses: int) -> float:
    """The two-sided probability of a split at least as uneven if either side were as likely; 1 for no differences at all."""
    count, fewer = wins + losses, min(wins, losses)
    if count == 0:
        return 1.0
    term = total = 1
    for k in range(fewer):
        term = term * (count - k) // (k + 1)
        total += term
    return min(1.0, 2 * total / (1 << count))  # whole numbers of any size divide into the nearest double


def sign_test_with_open(wins: int, losses: int, undecided: int) -> float:
    """The largest that the sign test can give, however the undecided turn out."""
    fewer = min(min(wins, losses) + undecided, max(wins, losses))
    more = max(wins, losses)
    left = undecided - (fewer - min(wins, losses))
    return 1.0 if left > 0 or fewer == more else sign_test(more, fewer)


def signed_rank_test(differences: Sequence[float]) -> float:
    """The two-sided probability of signed ranks at least as uneven, if each difference were as likely to be turned round.

    Zeros are left out and ties share the mean of their ranks. Counted out exactly up to EXACT_RANKS differences, normal beyond.
    """
    given = np.array([one for one in differences if one != 0.0], dtype=np.float64)
    if not len(given):
        return 1.0
    doubled = _doubled_ranks(np.abs(given))
    above = int(doubled[given > 0].sum())
    total = int(doubled.sum())
    least = min(above, total - above)
    if len(given) > EXACT_RANKS:
        spread = math.sqrt(float((doubled.astype(np.float64) ** 2).sum())) / 2
        return min(1.0, math.erfc((total / 2 - least - 1) / spread / math.sqrt(2)) if total / 2 - least > 1 else 1.0)
    shares = np.zeros(total + 1)
    shares[0] = 1.0
    for rank in doubled.tolist():
        turned = shares.copy()
        turned[rank:] += shares[: total + 1 - rank]
        shares = turned / 2
    return min(1.0, 2 * float(shares[: least + 1].sum()))


def _doubled_ranks(sizes: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Twice the rank of each, so that the mean of tied ranks is whole."""
    _, place, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((2 * last - counts + 1)[place], dtype=np.int64)


def holm(probabilities: Sequence[float]) -> tuple[float, ...]:
    """The probabilities adjusted for being so many: those below a level may all be called significant at it."""
    order = sorted(range(len(probabilities)), key=lambda place: probabilities[place])
    adjusted = [1.0] * len(probabilities)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(probabilities) - rank) * probabilities[place]))
        adjusted[place] = largest
    return tuple(adjusted)

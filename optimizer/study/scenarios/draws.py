"""Random numbers of a study: the same in every scenario of a replicate, and none depends on how many others there are.

Each uniform number is a hash of what it is for (the study's seed, the axis, the replicate, the place or the sample), so an axis, a value, a
replicate or a place more changes no other draw: common random numbers (Law, Simulation Modeling and Analysis, 2015, section 11.2). Values
are drawn by inversion, which keeps them monotone in the uniform number. Latin hypercube: McKay, Beckman and Conover, A Comparison of Three
Methods for Selecting Values of Input Variables, Technometrics 1979.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.program import Floats
    from optimizer.study.schema import Draw

DIGITS = 12  # of a drawn value: the last bits of log and exp differ between machines, and a value is part of a content key
LEAST_PROBABILITY = 1e-6  # between the ends of a cut distribution: below it what is drawn is rounding error
MOST_MEAN = 1e6  # of a Poisson distribution
UNCUT = ("uniform", "triangular", "bernoulli")  # their ends are parameters, or they have none
LEAST_SHARE, MOST_SHARE = 1e-300, 1.0 - 2.0**-53  # the ends of a distribution that is cut far out would be 0 and 1
SURE = 9.0  # exp(-exp(9)) is no double
LARGEST_SEED = 2**31  # of a solver, exclusive

_NORMAL = NormalDist()


def uniform(*what: str | int) -> float:
    """A number between 0 and 1, both excluded, that depends on nothing but ``what`` it is for: 53 bits of its SHA-256."""
    return (_bits(*what) + 0.5) / 2**53


def _bits(*what: str | int) -> int:
    text = "\x1f".join(f"{one}" for one in what)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11


def solver_seed(seed: int, replicate: int) -> int:
    """The solver's seed of a replicate: that of the study for the first one."""
    return seed if replicate == 0 else _bits(seed, "solver", replicate) % LARGEST_SEED


def strata(seed: int, axis: str, replicate: int, samples: int) -> Floats:
    """Shape (samples,): one number in each of so many equal parts of (0, 1), in random order."""
    order = np.argsort([_bits(seed, axis, "order", replicate, number) for number in range(samples)], kind="stable")
    within = np.array([uniform(seed, axis, "within", replicate, number) for number in range(samples)])
    parts = np.empty(samples)
    parts[order] = np.arange(samples)
    # One ulp below 1 at most: the last part's upper end must not round to 1, where quantiles are infinite.
    return np.asarray(np.minimum((parts + within) / samples, np.nextafter(1.0, 0.0)))


def ranked(keys: Sequence[str], seed: int, axis: str, replicate: int) -> list[int]:
    """Positions of ``keys`` in random order; the order of any two depends on these two alone, so the first n are among the first n + 1."""
    return sorted(range(len(keys)), key=lambda position: (_bits(seed, axis, "place", replicate, keys[position]), position))


def below(keys: Sequence[str], probability: float, seed: int, axis: str, replicate: int) -> list[int]:
    """Positions of ``keys`` whose own number lies below ``probability``: who is drawn at 1% is drawn at 2% too."""
    return [position for position, key in enumerate(keys) if uniform(seed, axis, "place", replicate, key) < probability]


# ---------------------------------------------------------------- distributions


def quantile(draw: Draw, u: float) -> float:
    """The value below which the share ``u``, between 0 and 1, of the distribution lies, rounded to ``DIGITS`` digits.

    With an end that is no parameter the distribution is that of the values between the ends: what is outside is not drawn (and not moved
    to the end, where it would pile up).
    """
    start, end = _between(draw)
    share = u if (start, end) == (0.0, 1.0) else start + u * (end - start)
    value = _rounded(_inverse(draw, min(max(share, LEAST_SHARE), MOST_SHARE)))
    least = -math.inf if draw.least is None else draw.least
    return min(max(value, least), math.inf if draw.most is None else draw.most)  # against rounding


def probability_inside(draw: Draw) -> float:
    """Of the uncut distribution, how much lies between the ends."""
    start, end = _between(draw)
    return end - start


def _between(draw: Draw) -> tuple[float, float]:
    """The distribution function just below the lower end, and at the upper end."""
    if draw.distribution in UNCUT:
        return 0.0, 1.0
    least = draw.least
    if draw.distribution == "poisson" and least is not None:
        least = math.ceil(least) - 1  # the end itself may be drawn
    return 0.0 if least is None else _cumulative(draw, least), 1.0 if draw.most is None else _cumulative(draw, draw.most)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _inverse(draw: Draw, u: float) -> float:
    return _INVERSE[draw.distribution](draw, u)


def _uniform(draw: Draw, u: float) -> float:
    least, most = _given(draw.least), _given(draw.most)
    return least + u * (most - least)


def _triangular(draw: Draw, u: float) -> float:
    least, mode, most = _given(draw.least), _given(draw.mode), _given(draw.most)
    width = most - least
    if u * width < mode - least:
        return least + math.sqrt(u * width * (mode - least))
    return most - math.sqrt((1.0 - u) * width * (most - mode))


def _lognormal(draw: Draw, u: float) -> float:
    middle, spread = _of_logarithm(draw)
    return math.exp(middle + spread * _NORMAL.inv_cdf(u))


def _counted(draw: Draw, u: float) -> float:
    first, table = _poisson(_given(draw.mean))
    return float(first + min(int(np.searchsorted(table, u)), len(table) - 1))


_INVERSE: dict[str, Callable[[Draw, float], float]] = {
    "uniform": _uniform,
    "triangular": _triangular,
    "bernoulli": lambda draw, u: float(u > 1.0 - _given(draw.mean)),
    "normal": lambda draw, u: _given(draw.mean) + _given(draw.deviation) * _NORMAL.inv_cdf(u),
    "lognormal": _lognormal,
    "exponential": lambda draw, u: -_given(draw.mean) * math.log1p(-u),
    "weibull": lambda draw, u: _given(draw.scale) * math.pow(-math.log1p(-u), 1.0 / _given(draw.shape)),
    "poisson": _counted,
}


def _cumulative(draw: Draw, value: float) -> float:
    """The probability of at most ``value``."""
    match draw.distribution:
        case "normal":
            deviation = _given(draw.deviation)
            return _NORMAL.cdf((value - _given(draw.mean)) / deviation) if deviation > 0 else float(value >= _given(draw.mean))
        case "lognormal":
            middle, spread = _of_logarithm(draw)
            if value <= 0:
                return 0.0
            return _NORMAL.cdf((math.log(value) - middle) / spread) if spread > 0 else float(math.log(value) >= middle)
        case "exponential":
            return -math.expm1(-max(value, 0.0) / _given(draw.mean))
        case "weibull":
            times = math.log(value / _given(draw.scale)) * _given(draw.shape) if value > 0 else -math.inf
            return -math.expm1(-math.exp(min(times, SURE)))
        case "poisson":
            first, table = _poisson(_given(draw.mean))
            position = math.floor(value) - first
            return 0.0 if position < 0 else float(table[min(position, len(table) - 1)])
    raise ValueError(f"{draw.distribution} is not cut")


def _given(value: float | None) -> float:
    """A parameter that the schema has made sure of."""
    if value is None:
        raise ValueError("a distribution lacks a parameter")
    return value


def _of_logarithm(draw: Draw) -> tuple[float, float]:
    """Mean and deviation of the logarithm, from those of the value itself."""
    mean, deviation = _given(draw.mean), _given(draw.deviation)
    variance = math.log1p((deviation / mean) ** 2)
    return math.log(mean) - variance / 2, math.sqrt(variance)


@lru_cache(maxsize=64)
def _poisson(mean: float) -> tuple[int, Floats]:
    """The first number worth telling, and the distribution function from it on."""
    spread = 40.0 * math.sqrt(mean) + 60.0  # beyond it lies less than any double tells from 0
    first = max(0, math.floor(mean - spread))
    numbers = np.arange(first + 1, math.ceil(mean + spread) + 1)
    if mean == 0.0:
        return 0, np.ones(1)
    start = first * math.log(mean) - mean - math.lgamma(first + 1)
    logarithms = np.concatenate(([start], start + np.cumsum(math.log(mean) - np.log(numbers))))
    table = np.cumsum(np.exp(logarithms))
    return first, table / table[-1]

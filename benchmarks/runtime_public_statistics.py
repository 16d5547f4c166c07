"""Errors of predictions and how sure they are: bootstrap over groups, because the rows of one job are not independent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from models.program import Floats

DRAWS = 1000
SEED = 0


def relative_errors(predicted: Floats, measured: Floats) -> Floats:
    """``|predicted / measured - 1|`` (R,)."""
    return np.asarray(np.abs(predicted / measured - 1.0))


def interval(groups: Sequence[Floats], statistic: Callable[[Floats], float], draws: int = DRAWS) -> list[float]:
    """95% interval of ``statistic`` over all errors when the groups are drawn again with replacement (Efron, 1979)."""
    rng = np.random.default_rng(SEED)
    drawn = [statistic(np.concatenate([groups[place] for place in rng.integers(len(groups), size=len(groups))])) for _ in range(draws)]
    return [rounded(float(value)) for value in np.quantile(drawn, [0.025, 0.975])]


def described(groups: Mapping[Any, Floats], statistic: Callable[[Floats], float] = np.mean) -> dict[str, Any]:
    """The statistic over all errors with its interval, the median and the 90th percentile, and how many rows and groups there are."""
    every = np.concatenate(list(groups.values()))
    return {
        "error": rounded(float(statistic(every))),
        "interval_95": interval(list(groups.values()), statistic),
        "median": rounded(float(np.median(every))),
        "p90": rounded(float(np.quantile(every, 0.9))),
        "rows": len(every),
        "groups": len(groups),
    }


def rounded(value: float) -> float:
    """Four decimals: more is noise."""
    return round(value, 4)

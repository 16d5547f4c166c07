"""What the seeds tell of the policies: the mean of every measure, and the mean of its paired differences from the first policy.

Intervals are Student's, at 95%: of the mean over all seeds that could be drawn. Differences are taken seed by seed, between replays
of the same case, so that what the seeds have in common falls out. One seed, or a case in which nothing is drawn, has no interval.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from optimizer.study.conclusions.paired import student_interval
from service.replay.measures import MEASURES, Measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONFIDENCE = 0.95
Finding = Literal["better", "worse", "open", "same", "first", "unknown"]


@dataclass(frozen=True, slots=True)
class Compared:
    """One measure of one policy on one trace over the seeds. ``low`` and ``high`` bound the mean, ``difference_*`` that of the difference.

    ``finding``: against the first policy; open where the interval of the difference holds 0, or there is none.
    """

    trace: str
    policy: str
    measure: str
    unit: str
    seeds: int
    mean: float | None
    low: float | None
    high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    relative_percent: float | None
    finding: Finding

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


class Measured(Protocol):
    """One trace, one policy, one seed, and the numbers that came out."""

    @property
    def trace(self) -> str:
        """Its name."""

    @property
    def policy(self) -> str:
        """Its name."""

    @property
    def seed(self) -> int:
        """Of the case."""

    @property
    def measures(self) -> Mapping[str, float | None]:
        """By name; None for what could not be measured."""


def compared(replays: Sequence[Measured], measures: Sequence[Measure] = MEASURES) -> tuple[Compared, ...]:
    """Every measure of every policy of every trace, in the order of the replays; the first policy is the one compared with."""
    found = []
    for trace in dict.fromkeys(one.trace for one in replays):
        own = [one for one in replays if one.trace == trace]
        policies = list(dict.fromkeys(one.policy for one in own))
        by_seed = {policy: {one.seed: one for one in own if one.policy == policy} for policy in policies}
        for policy in policies:
            found += [
                _compared(trace, policy, measure, by_seed[policies[0]], by_seed[policy], policy == policies[0]) for measure in measures
            ]
    return tuple(found)


def pair(
    replays: Sequence[Measured], trace: str, measure: str, first: str, policy: str, measures: Sequence[Measure] = MEASURES
) -> Compared:
    """One measure of a policy against any other, ``first``."""
    by_seed = {name: {one.seed: one for one in replays if one.trace == trace and one.policy == name} for name in (first, policy)}
    found = next(one for one in measures if one.name == measure)
    return _compared(trace, policy, found, by_seed[first], by_seed[policy], first == policy)


def _compared(
    trace: str,
    policy: str,
    measure: Measure,
    base: dict[int, Measured],
    own: dict[int, Measured],
    is_first: bool,  # noqa: FBT001
) -> Compared:
    values = [value for one in own.values() if (value := one.measures[measure.name]) is not None]
    pairs = [
        (first, second)
        for seed, one in own.items()
        if seed in base and (first := base[seed].measures[measure.name]) is not None and (second := one.measures[measure.name]) is not None
    ]
    differences = [second - first for first, second in pairs]
    low, high = _interval(values)
    difference_low, difference_high = _interval(differences)
    mean_first = statistics.fmean(first for first, _ in pairs) if pairs else 0.0
    difference = statistics.fmean(differences) if differences else None
    return Compared(
        trace=trace,
        policy=policy,
        measure=measure.name,
        unit=measure.unit,
        seeds=len(values),
        mean=statistics.fmean(values) if values else None,
        low=low,
        high=high,
        difference=None if is_first else difference,
        difference_low=None if is_first else difference_low,
        difference_high=None if is_first else difference_high,
        relative_percent=100 * difference / mean_first if difference is not None and mean_first > 0 and not is_first else None,
        finding="first" if is_first else _finding(measure, differences, difference_low, difference_high),
    )


def _interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    if len(values) < 2:  # noqa: PLR2004  (one value has no spread)
        return None, None
    span = student_interval(values, CONFIDENCE)
    return span.low, span.high


def _finding(measure: Measure, differences: Sequence[float], low: float | None, high: float | None) -> Finding:
    if not differences:
        return "unknown"
    if not any(differences):
        return "same"
    if low is None or high is None or low <= 0 <= high:
        return "open"
    return "better" if (high < 0) == (measure.better == "less") else "worse"

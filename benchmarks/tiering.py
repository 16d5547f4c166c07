"""The benchmark of tiering: seeded objects by the hundred thousand and the million, what-if, and a published replica placement."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import hashcode
from benchmarks.as_written import BASELINES
from benchmarks.objects import objects
from benchmarks.suite import Instance, Suite, Target

if TYPE_CHECKING:
    from models.tiering.schema import Problem
    from optimizer.result import Result

SEED = 0
CAPACITIES = 50
VARIED = "hdd"
OPTIMUM = 516_557.93
AHEAD = Target("ahead_of_baselines", "at least", 0.0)


def capacity_curve(problem: Problem, _result: Result) -> dict[str, Any]:
    """What the period costs at 50 capacities of one tier: seconds for the first alone, and for all beyond it."""
    from models.tiering.curve import converse_curve
    from optimizer.conversation import answered
    from optimizer.limits import Limits

    held = next(tier.capacity_gib for tier in problem.tiers if tier.id == VARIED) or 0.0
    wanted = [held * factor for factor in np.linspace(0.6, 1.6, CAPACITIES).tolist()]
    limits = Limits(time_limit_s=60.0)
    began = time.perf_counter()
    answered(converse_curve(problem, VARIED, wanted[:1]), limits)
    first = time.perf_counter() - began
    began = time.perf_counter()
    points = answered(converse_curve(problem, VARIED, wanted), limits)
    spent = time.perf_counter() - began
    gaps = [(point.value - point.bound) / abs(point.value) for point in points if point.value is not None]
    return {
        "curve_points": len(gaps),
        "curve_first_s": round(first, 3),
        "curve_beyond_first_s": round(spent - first, 3),
        "curve_worst_gap": max(gaps, default=None),
    }


def zoo() -> Problem:
    """Videos on caches of Hash Code 2017, with the answer's score as saved access time."""
    return hashcode.read(hashcode.DATA / hashcode.ME_AT_THE_ZOO).problem


def zoo_score(_problem: Problem, result: Result) -> dict[str, Any]:
    """The score of the contest, and the one that the bound proves."""
    streaming = hashcode.read(hashcode.DATA / hashcode.ME_AT_THE_ZOO)
    if result.certificate is None:
        return {}
    first = result.certificate.goals[0]
    return {"score": streaming.score(first.objective), "score_bound": streaming.score(first.bound)}


SUITE = Suite(
    kind="tiering",
    instances=(
        Instance(
            name="objects-1000x5",
            summary="1,000 objects on 5 tiers: small enough for the exact program as one would write it",
            read=partial(objects, 1_000, 5, SEED),
            time_limit_s=20.0,
            targets=(Target("gap", "at most", 1e-4), Target("ahead_of_baselines", "at least", -0.1)),
            baselines=tuple(BASELINES),
        ),
        Instance(
            name="objects-100000x5",
            summary="100,000 objects on 5 tiers; capacities, bandwidths and moves bind",
            read=partial(objects, 100_000, 5, SEED),
            time_limit_s=5.0,
            targets=(
                Target("gap", "at most", 0.005),
                Target("solve_wall_s", "at most", 5.0),
                Target("curve_beyond_first_s", "at most", 5.0),
                Target("curve_points", "at least", float(CAPACITIES)),
                AHEAD,
            ),
            baselines=("pyomo_highs",),
            then=capacity_curve,
        ),
        Instance(
            name="objects-1000000x8",
            summary="1,000,000 objects on 8 tiers",
            read=partial(objects, 1_000_000, 8, SEED),
            time_limit_s=60.0,
            targets=(Target("gap", "at most", 0.01), Target("solve_wall_s", "at most", 60.0), Target("peak_memory_gb", "at most", 6.0)),
        ),
        Instance(
            name="me-at-the-zoo",
            summary="Hash Code 2017, 100 videos, 10 caches and 10 endpoints: replicas on caches, proved",
            read=zoo,
            time_limit_s=20.0,
            targets=(
                Target("score", "at least", OPTIMUM - 0.01),
                Target("score_bound", "at most", OPTIMUM + 0.01),
                Target("solve_wall_s", "at most", 20.0),
            ),
            baselines=tuple(BASELINES),
            needs=hashcode.DATA,
            then=zoo_score,
            gap=1e-9,
        ),
    ),
    baselines=dict(BASELINES),
)

"""The largest sum of speeds in the worst of several scenarios: one program, straight from the columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.conversation import Solve
from models.fairshare.columns.rows import prices_of, rank_of, shared
from models.fairshare.sums.cost import KEPT
from models.fairshare.sums.speeds import Best
from models.program_builder import ProductIds

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Solved, Step
    from models.fairshare.columns.classes import Classes
    from models.program import Floats


def largest_worst(classes: Classes, worth: Floats, attained: list[float], name: str) -> Generator[Step, Solved, Best | None]:
    """As ``sum_speeds.largest``, of speeds, where each class of jobs is of jobs alike and scenarios multiply their speeds."""
    market, now = classes.market, len(attained)
    scenarios, sums = len(market.factors), now + 1
    builder, layout = shared(classes, maximise=True)
    lower = np.append(np.array(attained) * (1.0 - KEPT), 0.0)
    cost = np.append(np.zeros(now), 1.0)
    total = builder.add_columns("sum", ProductIds(range(sums)), lower=lower, cost=cost, upper=_most(classes, worth)).start
    rank, place = rank_of(classes)[classes.entry_class], market.ways.accelerator[classes.entry_way]
    shown = np.flatnonzero(rank <= now)
    value = np.array([worth[members[0]] for members in classes.members])
    factor = market.factors[:, classes.workload[classes.entry_class], place][:, shown]
    gain = factor * (classes.entry_part * classes.entry_speed * value[classes.entry_class])[shown]
    own = np.arange(scenarios * sums)
    builder.add_rows(
        "worst",
        ProductIds(range(scenarios * sums)),
        lower=0.0,
        row_index=np.concatenate(((np.arange(scenarios)[:, None] * sums + rank[shown]).ravel(), own)),
        column_index=np.concatenate((np.tile(classes.entry_column[shown], scenarios), total + own % sums)),
        coefficient=np.concatenate((gain.ravel(), -np.ones(len(own)))),
    )
    found = yield Solve(builder.build(), keep=name)
    if found.status != "optimal" or found.values is None or found.row_duals is None or found.bound is None:
        return None
    prices = prices_of(classes, layout, found.row_duals)
    speeds = classes.top[classes.of]  # all classes are of jobs alike, which share what the columns give
    return Best(float(found.values[total + now]), found.bound, found.values[: classes.columns], speeds, prices)


def _most(classes: Classes, worth: Floats) -> float:
    """More than any sum can be."""
    jobs = classes.market.jobs
    return 2.0 * max(1.0, float(classes.market.factors.max())) * float((jobs.copies * worth * classes.top[classes.of]).sum())

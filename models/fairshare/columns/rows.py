"""The shared program: the rows that bind whatever the policy, over the columns of ``Classes``.

What needs more (levels, costs, logarithms) adds its own columns and rows. Prices are read off the duals of the rows made here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.program_builder import ProductIds, ProgramBuilder

if TYPE_CHECKING:
    import numpy.typing as npt

    from models.fairshare.columns.classes import Classes
    from models.program import Bools, Floats, Ints

NEVER = (
    2.0  # an upper bound of columns, times the copies: so large that it never binds, so small that bounds recomputed from duals are tight
)

FAR = 1e4  # no more even where speeds may fall to nearly nothing


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the rows of the shared program lie, and the sides of those that a shortfall may widen."""

    capacity: slice
    packed: slice
    packed_at: Ints
    time: slice
    budget: slice
    budget_at: Ints
    links: slice


@dataclass(frozen=True, eq=False)
class Prices:
    """Duals of the shared rows, all >= 0: a GPU of each accelerator, one that is packed, a copy's time and budget by class."""

    gpu: Floats
    packed: Floats
    time: Floats
    budget: Floats


def shared(
    classes: Classes, *, cost: Floats | float = 0.0, maximise: bool = False, short: bool = False, idle: Bools | None = None
) -> tuple[ProgramBuilder, Layout]:
    """A program with the columns of ``classes`` and the rows that hold always; the first columns are those of ``classes``.

    ``short``: one more column, the shortfall, by which GPUs and budgets (of a robust problem time, too) grow in proportion. It costs as
    much as there are GPUs, so that prices are about 1: solvers take what is much less for nothing. Classes that are ``idle`` (classes,)
    run nothing, and nobody beside them.
    """
    builder = ProgramBuilder(maximise=maximise)
    builder.add_columns("run", ProductIds(range(classes.columns)), cost=cost, upper=upper_bounds(classes, idle))
    if short:
        builder.add_columns("shortfall", [()], cost=short_cost(classes), lower=-1.0)
    market, ways = classes.market, classes.market.ways
    gangs = np.flatnonzero(~classes.side)
    way = classes.way[gangs]
    every, places = ProductIds(range(market.accelerators.count)), ways.accelerator[way]
    count, packed = market.accelerators.count_gpus, market.accelerators.packed_gpus
    growing = _Growing(classes.columns, short=short)
    capacity = builder.add_rows("accelerator_capacity", every, upper=count, **growing.entries(places, gangs, ways.gpus[way], count))
    limited = np.flatnonzero(market.accelerators.limits_packing)
    whole = ways.packed[way] & market.accelerators.limits_packing[places]
    packed_rows = builder.add_rows(
        "packed_capacity",
        ProductIds(limited.tolist()),
        upper=packed[limited],
        **growing.entries(np.searchsorted(limited, places[whole]), gangs[whole], ways.gpus[way[whole]], packed[limited]),
    )
    time_growing = _Growing(classes.columns, short=short and classes.robust)
    time = builder.add_rows(
        "job_time",
        ProductIds(range(classes.count)),
        upper=classes.size,
        **time_growing.entries(classes.entry_class, classes.entry_column, classes.entry_part, classes.size),
    )
    budget_at = np.flatnonzero(np.isfinite(classes.budget))
    paid = np.flatnonzero(np.isfinite(classes.budget)[classes.entry_class])
    limit = classes.size[budget_at] * classes.budget[budget_at]
    usd = (classes.entry_part * classes.entry_usd)[paid]
    budget = builder.add_rows(
        "job_budget",
        ProductIds(budget_at.tolist()),
        upper=limit,
        **growing.entries(np.searchsorted(budget_at, classes.entry_class[paid]), classes.entry_column[paid], usd, limit),
    )
    links = classes.links
    joined = builder.add_rows(
        "side_of_pair",
        ProductIds(range(links.count)),
        lower=np.where(np.arange(links.count) < links.equal, 0.0, -np.inf),
        upper=0.0,
        row_index=links.row,
        column_index=links.column,
        coefficient=links.coefficient,
    )
    return builder, Layout(capacity, packed_rows, limited, time, budget, budget_at, joined)


def short_cost(classes: Classes) -> float:
    """What a shortfall of 1 costs: one for each GPU."""
    return max(1.0, float(classes.market.accelerators.count_gpus.sum()))


@dataclass(frozen=True, slots=True)
class _Growing:
    """Entries of rows whose upper side grows with the shortfall, which is the column at ``column``."""

    column: int
    short: bool

    def entries(self, row: Ints, column: Ints, coefficient: Floats, limit: Floats) -> dict[str, npt.ArrayLike]:
        """The arguments of ``add_rows``."""
        if not self.short:
            return {"row_index": row, "column_index": column, "coefficient": coefficient}
        return {
            "row_index": np.concatenate((row, np.arange(len(limit)))),
            "column_index": np.concatenate((column, np.full(len(limit), self.column))),
            "coefficient": np.concatenate((coefficient, -limit)),
        }


def upper_bounds(classes: Classes, idle: Bools | None = None) -> Floats:
    """An upper bound of each column that never binds; 0 for what a budget of nothing cannot pay, and for the ``idle``."""
    never = NEVER * _longest(classes) if classes.robust else NEVER
    upper = np.full(classes.columns, np.inf)
    np.minimum.at(upper, classes.entry_column, never * classes.size[classes.entry_class])
    upper = np.where(np.isinf(upper), never * classes.market.copies, upper)
    if idle is not None:
        upper[classes.entry_column[idle[classes.entry_class]]] = 0.0
    return np.where(classes.payable, upper, 0.0)


def _longest(classes: Classes) -> float:
    """How much more than all its time a job may need for its largest usual speed, where time grows with the shortfall.

    What can be had at all takes no more than all time, so no bound above that makes a difference to it; the smaller it is the less
    rounding makes of it.
    """
    market = classes.market
    factors = market.factors[:, classes.workload]
    worst = float(factors.min()) * (1.0 if market.budget is None else float(market.workloads.slow_factor[classes.workload].min()))
    return min(FAR, max(1.0, float(factors.max())) / max(worst, 1.0 / FAR))


def prices_of(classes: Classes, layout: Layout, row_duals: Floats, scale: float = 1.0) -> Prices:
    """Prices from the row duals of a program with these rows, whichever way it is optimised, times ``scale``."""
    price = np.abs(row_duals) * scale
    packed, budget = np.zeros(classes.market.accelerators.count), np.zeros(classes.count)
    packed[layout.packed_at] = price[layout.packed]
    budget[layout.budget_at] = price[layout.budget]
    return Prices(price[layout.capacity], packed, price[layout.time], budget)


def rank_of(classes: Classes) -> Ints:
    """The rank of each class's priority, the most important 0; a class is of one priority."""
    jobs = classes.market.jobs
    rank = {priority: place for place, priority in enumerate(jobs.classes)}
    return np.array([rank[int(jobs.priority[members[0]])] for members in classes.members], dtype=np.int64)

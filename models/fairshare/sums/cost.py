"""The cheapest GPUs with which every job has the speed it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE
from models.conversation import Again, NewRows, Solve
from models.fairshare.columns.robust import judged
from models.fairshare.columns.rows import prices_of, rank_of, shared, upper_bounds
from models.fairshare.columns.thresholds import broken, entries_above, needed
from models.fairshare.sums.speeds import Best
from models.program_builder import ProductIds

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Solved, Step
    from models.fairshare.columns.classes import Classes
    from models.program import Floats

BROKEN = 1e-9  # of what a class needs
MOST_PASSES = 200
KEPT = 1e-10  # relative: by how much what a more important class attained may give way to rounding


def cheapest(classes: Classes, needs: Floats, attained: list[float], name: str) -> Generator[Step, Solved, Best | None]:
    """The least cost of the first priority that has none in ``attained``, when every job has ``needs`` (jobs,), in steps/s.

    ``refuted`` when no division gives that; None when a program found no answer.
    """
    top = np.where(classes.mixed, classes.top, np.inf)[classes.of]  # rows of a mixed class ask for no thresholds from its top on
    if (needs > top * (1.0 + TOLERANCE)).any():
        return Best(refuted=True)
    needs = np.minimum(needs, top)
    rank = rank_of(classes)
    usd = classes.entry_part * classes.entry_usd
    cost = _by_column(classes, np.where(rank[classes.entry_class] == len(attained), usd, 0.0))
    builder, layout = shared(classes, cost=cost)
    sure = judged(builder, classes, upper_bounds(classes))
    of, _, row, column, coefficient = sure.need_rows()
    builder.add_rows(
        "need",
        ProductIds(range(len(of))),
        lower=needed(classes, needs, of, np.zeros(len(of))) / classes.unit[of],
        row_index=row,
        column_index=column,
        coefficient=coefficient / classes.unit[of][row],
    )
    if attained:
        mine = np.flatnonzero(rank[classes.entry_class] < len(attained))
        builder.add_rows(
            "attained",
            ProductIds(range(len(attained))),
            upper=np.array(attained) * (1.0 + KEPT) + KEPT,
            row_index=rank[classes.entry_class[mine]],
            column_index=classes.entry_column[mine],
            coefficient=usd[mine],
        )
    program = builder.build()
    step: Solve | Again = Solve(program, keep=name)
    for _ in range(MOST_PASSES):
        found = yield step
        if found.status == "infeasible":
            return Best(refuted=True)
        if found.status != "optimal" or found.values is None or found.row_duals is None or found.bound is None:
            return None
        values = found.values[: classes.columns]
        at = broken(classes, classes.amounts(values), needs, BROKEN)
        if not len(at[0]):
            prices = prices_of(classes, layout, found.row_duals)
            value = float(cost @ values)
            return Best(value=value, bound=max(found.bound, 0.0), values=values, speeds=needs, prices=prices)
        sides = needed(classes, needs, *at) / classes.unit[at[0]]
        step = Again(name, new_rows=NewRows(sides, np.full(len(sides), np.inf), *entries_above(classes, *at)))
    return None


def _by_column(classes: Classes, entries: Floats) -> Floats:
    return np.bincount(classes.entry_column, weights=entries, minlength=classes.columns)[: classes.columns].astype(np.float64)

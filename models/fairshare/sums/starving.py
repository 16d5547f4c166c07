"""Who can have nothing of what more important jobs leave: a logarithm has no value for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.conversation import Solve
from models.fairshare.columns.robust import judged
from models.fairshare.columns.rows import shared, upper_bounds
from models.fairshare.columns.thresholds import needed
from models.program_builder import ProductIds

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Solved, Step
    from models.fairshare.columns.classes import Classes
    from models.program import Bools, Floats, Ints

ENOUGH = 1e-3  # of what each class could have with all its time: more is not asked for, so that all others can have something, too
NOTHING = 1e-6  # of its time: less is what solvers leave of nothing


def starving(classes: Classes, rank: Ints, now: int, fixed: Floats, name: str) -> Generator[Step, Solved, Bools | None]:
    """The classes of rank ``now`` that can run for no time at all while more important jobs keep ``fixed`` speeds (jobs,).

    Shape (classes,); None when a program found no answer. As a mean of divisions is a division, all that can have something each can have
    it together; but one program serves only some of them, so it is asked again about the others.
    """
    hopeless = (rank == now) & (classes.top <= 0.0)
    open_ = (rank == now) & ~hopeless
    while now and open_.any():
        found = yield _most_served(classes, rank < now, open_, fixed, name)
        if found.status not in {"optimal", "feasible"} or found.values is None:
            return None
        times = np.bincount(classes.entry_class, weights=classes.amounts(found.values[: classes.columns]), minlength=classes.count)
        served = open_ & (times > NOTHING * classes.size)
        if not served.any():
            break
        open_ &= ~served
    starved: Bools = hopeless | open_ if now else hopeless
    return starved


def _most_served(classes: Classes, older: Bools, wanted: Bools, fixed: Floats, name: str) -> Solve:
    """As much time as possible for the classes that are ``wanted``, up to ENOUGH for each."""
    builder, _ = shared(classes, maximise=True)
    of, _, row, column, coefficient = judged(builder, classes, upper_bounds(classes)).need_rows()
    sides = np.where(older, needed(classes, fixed, np.arange(classes.count), np.zeros(classes.count)), 0.0)
    builder.add_rows(
        "need",
        ProductIds(range(len(of))),
        lower=sides[of] / classes.unit[of],
        row_index=row,
        column_index=column,
        coefficient=coefficient / classes.unit[of][row],
    )
    time_at = builder.add_columns("time", ProductIds(range(classes.count)), cost=1.0, upper=np.where(wanted, ENOUGH, 0.0)).start
    every = np.arange(classes.count)
    builder.add_rows(
        "timed",
        ProductIds(range(classes.count)),
        lower=0.0,
        row_index=np.concatenate((classes.entry_class, every)),
        column_index=np.concatenate((classes.entry_column, time_at + every)),
        coefficient=np.concatenate((classes.entry_part / classes.size[classes.entry_class], -np.ones(classes.count))),
    )
    return Solve(builder.build(), keep=name)

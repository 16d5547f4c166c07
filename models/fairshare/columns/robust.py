"""Speeds as a robust plan counts them: the rows that say what a class is sure to have.

A budget: of the accelerators that run a job up to Gamma are slow at once, whichever hurts most; by duality its sure speed is what it has
less ``Gamma * fall + sum_a more_a`` with ``fall + more_a >= what it would lose on a`` (D. Bertsimas, M. Sim, "The Price of Robustness",
2004). Scenarios: one need row each. Without either there is one row, of the usual speeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.program_builder import ProductIds

if TYPE_CHECKING:
    from models.fairshare.columns.classes import Classes
    from models.program import Floats, Ints
    from models.program_builder import ProgramBuilder


@dataclass(frozen=True, eq=False)
class Judged:
    """What the need rows are made of. ``fall``: the columns of a budget (first those of ``fall``, then ``more``), None without one."""

    classes: Classes
    fall: slice | None = None
    more: slice | None = None
    loss: slice | None = None  # rows

    def need_rows(self) -> tuple[Ints, Ints, Ints, Ints, Floats]:
        """Need rows at threshold 0: class and scenario of each, then row, column and speed of each of their entries."""
        classes, market = self.classes, self.classes.market
        scenarios, entries = len(market.factors), len(classes.entry_class)
        of = np.tile(np.arange(classes.count), scenarios)
        scenario = np.repeat(np.arange(scenarios), classes.count)
        place = market.ways.accelerator[classes.entry_way]
        factor = market.factors[:, classes.workload[classes.entry_class], place]
        row = (np.arange(scenarios)[:, None] * classes.count + classes.entry_class).ravel()
        column = np.tile(classes.entry_column, scenarios)
        speed = (factor * classes.entry_speed * classes.entry_part).reshape(scenarios * entries)
        if self.fall is None or self.more is None or market.budget is None:
            return of, scenario, row, column, speed
        accelerators = market.accelerators.count
        every = np.arange(classes.count)
        return (
            of,
            scenario,
            np.concatenate((row, every, np.repeat(every, accelerators))),
            np.concatenate((column, np.arange(self.fall.start, self.fall.stop), np.arange(self.more.start, self.more.stop))),
            np.concatenate((speed, np.full(classes.count, -market.budget), np.full(classes.count * accelerators, -1.0))),
        )


def judged(builder: ProgramBuilder, classes: Classes, upper: Floats) -> Judged:
    """Add to a program what a robust budget takes; ``upper`` are the bounds of the columns of ``classes``."""
    market = classes.market
    if not market.budget:  # with a budget of 0 nothing is slow
        return Judged(classes)
    accelerators = market.accelerators.count
    place = market.ways.accelerator[classes.entry_way]
    lost = 1.0 - market.workloads.slow_factor[classes.workload[classes.entry_class], place]
    every = np.arange(classes.count * accelerators)
    coefficient = lost * classes.entry_speed * classes.entry_part
    # No more is lost than all columns at their bounds could lose: so these have bounds, too, that never bind.
    most = np.bincount(
        classes.entry_class * accelerators + place, weights=coefficient * upper[classes.entry_column], minlength=len(every)
    ).astype(np.float64)
    fall = builder.add_columns("fall", ProductIds(range(classes.count)), upper=most.reshape(classes.count, -1).max(axis=1, initial=0.0))
    more = builder.add_columns("more", ProductIds(range(classes.count), range(accelerators)), upper=most)
    loss = builder.add_rows(
        "loss",
        ProductIds(range(classes.count), range(accelerators)),
        lower=0.0,
        row_index=np.concatenate((classes.entry_class * accelerators + place, every, every)),
        column_index=np.concatenate((classes.entry_column, fall.start + every // accelerators, more.start + every)),
        coefficient=np.concatenate((-coefficient, np.ones(2 * len(every)))),
    )
    return Judged(classes, fall, more, loss)

"""Column generation over paths: a master program solved again and again, with the cheapest paths at its prices as new columns.

Ford and Fulkerson, "A suggested computation for maximal multi-commodity network flows", Management Science 5, 1958. The bound of each
round holds for the whole problem at once, whatever the master lacks: see ``models.flow.columns.master``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.conversation import Solve
from models.flow.columns.master import MOST, Master, Prices
from models.flow.columns.mending import mended

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Solved, Step
    from models.flow.columns.pricing import PathTable, Priced, Pricer
    from models.program import Floats

NO_DEPENDENT_EQUATIONS = 1024  # a presolve rule of HiGHS that takes for ever on flow programs
HAIR = 1e-9  # of prices, relative to the largest: what is cheaper by less is not worth a column
SLACK = 1e-9  # of levels: what is over by less is rounding
INNER_COLUMNS = 6_000  # more are solved by an interior point, then brought to a vertex
CENTRAL_COLUMNS = 2_000  # of a regular fabric: more are solved by an interior point, without looking for a vertex
MOST_ROUNDS = 400


@dataclass(frozen=True, eq=False)
class Optimised:
    """Where a stage ended: flow on the store's paths, what it comes to, what nothing can go below, and the prices that prove it.

    ``flow`` is None when the master has no answer; ``impossible`` says that this was proved for the whole stage.
    """

    flow: Floats | None
    value: float
    bound: float
    prices: Prices | None
    impossible: bool = False

    @property
    def first_prices(self) -> Floats | None:
        """Prices of channels, all layers together, shape (channels,)."""
        if self.prices is None:
            return None
        total: Floats = self.prices.link.sum(axis=0)
        return total

    def closed(self, tolerance: float) -> bool:
        """Whether value and bound meet, relative to the value."""
        return self.value - self.bound <= tolerance * max(1e-9, abs(self.value))


def optimise(
    master: Master, pricer: Pricer, tolerance: float, enough: float = -np.inf, *, regular: bool = False
) -> Generator[Step, Solved, Optimised]:
    """Solve a stage to within ``tolerance`` (relative); stops as soon as its value is at most ``enough`` or its bound above it.

    Programs of a ``regular`` fabric are solved by an interior point once they are large: its prices lie in the middle of many equal ones,
    where the simplex method goes from corner to corner. Every round watches the channels that are over their level, and adds the paths
    that are worth it.
    """
    best = Optimised(None, np.inf, -np.inf, None)
    for _ in range(MOST_ROUNDS):
        program = master.program()
        solved = yield Solve(
            program,
            method="ipm" if program.columns > (CENTRAL_COLUMNS if regular else INNER_COLUMNS) else "choose",
            crossover=not (regular and program.columns > CENTRAL_COLUMNS),
            presolve_rule_off=NO_DEPENDENT_EQUATIONS,
        )
        if solved.values is None or solved.row_duals is None:
            return replace(best, impossible=best.prices is None and solved.status == "infeasible")
        flow, stretch = master.flow(solved.values)
        prices = master.prices(solved.row_duals)
        # More paths cannot better a program that attains the bound already: it lacks rows only.
        lacking = not replace(best, value=master.value(flow, stretch)).closed(tolerance)
        priced = pricer.cheapest(master.arc_prices(prices)) if lacking else None
        if priced is not None:
            here = master.bound(prices, priced.distance)
            if here > best.bound or best.prices is None:
                best = replace(best, bound=max(best.bound, here), prices=prices)
        over = np.setdiff1d(master.overloaded(flow, stretch, SLACK), master.watched)
        kept = flow if not len(over) else mended(master, flow, stretch, SLACK)
        if kept is not None:
            best = replace(best, flow=kept, value=master.value(kept, stretch))
            if best.closed(tolerance) or best.value <= enough:
                break
        if best.bound > enough > -np.inf:
            break
        more = master.watch(over)
        fresh = 0 if priced is None else len(master.store.add(worthwhile(master, prices, priced)))
        if not more and not fresh:
            break
    return best


def worthwhile(master: Master, prices: Prices, priced: Priced) -> PathTable:
    """The cheapest paths of commodities for which they are cheaper than all that are known."""
    stage = master.stage
    arc_prices = master.arc_prices(prices)
    known = master.store.cheapest(master.path_prices(arc_prices), master.commodities.count)
    hair = HAIR * max(1e-12, float(np.abs(arc_prices).max(initial=0.0)))
    cheaper = (stage.size > 0) & (priced.distance < known - hair)
    reduced = master.reduced(prices, priced.distance)
    return priced.paths(np.flatnonzero(cheaper & ((stage.form != MOST) | (reduced < -hair))))

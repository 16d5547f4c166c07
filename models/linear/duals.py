"""Whether prices prove a linear program's plan best: signs, reduced costs and strong duality, in plain numpy.

With row duals ``y`` and reduced costs ``d = c - A'y``, every feasible x has ``c'x = y'(Ax) + d'x``. Where each price pushes
against a side that is there, putting these sides in gives the dual objective, which no feasible x can beat. So a plan whose
objective equals it is best. The signs are those of the change of the objective: minimising, a positive price pushes against
a lower side, a negative one against an upper side; maximising, the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE

if TYPE_CHECKING:
    from models.linear.arrays import Arrays
    from models.program import Floats

ROUNDING = 2.0**-50  # of the sum of the sizes of a sum's terms: what adding them may lose


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """What prices amount to. ``row_excess``, (rows,), and ``column_excess``, (columns,), push against a side that is not there.

    ``mismatch``, (columns,), is by how much the reduced costs differ from ``c - A'y`` beyond the tolerance. ``dual_objective`` is
    the bound; ``complementarity`` the most that one row's or column's distance from the side its price names is worth.
    """

    row_excess: Floats
    column_excess: Floats
    mismatch: Floats
    dual_objective: float
    complementarity: float


def reduced_costs(arrays: Arrays, row_duals: Floats) -> Floats:
    """``c - A'y`` for row duals ``y`` of shape (rows,); shape (columns,)."""
    return arrays.cost - arrays.column_sums(arrays.entry_value * row_duals[arrays.entry_row])


def cleaned(arrays: Arrays, row_duals: Floats) -> Floats:
    """The row duals without those that push against a side that is not there: solvers leave such noise behind."""
    side, _ = _sides(arrays, row_duals, arrays.row_lower, arrays.row_upper)
    return np.where(np.isfinite(side), row_duals, 0.0) + 0.0


def weighed(arrays: Arrays, values: Floats, activity: Floats, row_duals: Floats, given: Floats) -> Prices:
    """What row duals and reduced costs ``given``, shape (columns,), say about ``values`` with the row sums ``activity``."""
    size = np.abs(arrays.cost) + arrays.column_sums(np.abs(arrays.entry_value * row_duals[arrays.entry_row]))
    tolerance = TOLERANCE * np.maximum(1.0, np.abs(arrays.cost)) + ROUNDING * size
    row_side, row_excess = _sides(arrays, row_duals, arrays.row_lower, arrays.row_upper)
    column_side, column_excess = _sides(arrays, given, arrays.column_lower, arrays.column_upper)
    rows, columns = np.isfinite(row_side), np.isfinite(column_side)
    dual = float(row_duals[rows] @ row_side[rows]) + float(given[columns] @ column_side[columns]) + arrays.offset
    worth = np.concatenate((np.abs(row_duals * (activity - row_side))[rows], np.abs(given * (values - column_side))[columns]))
    mismatch = np.abs(given - reduced_costs(arrays, row_duals))
    return Prices(
        row_excess=np.where(row_excess > TOLERANCE, row_excess, 0.0),
        column_excess=np.where(column_excess > tolerance, column_excess, 0.0),
        mismatch=np.where(mismatch > tolerance, mismatch, 0.0),
        dual_objective=dual,
        complementarity=float(worth.max(initial=0.0)),
    )


def _sides(arrays: Arrays, prices: Floats, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """The side that each price pushes against, infinite where there is none (0 for the price 0), and the size of prices without one."""
    pushes_up = prices < 0 if arrays.maximise else prices > 0
    side = np.where(prices == 0.0, 0.0, np.where(pushes_up, lower, upper))
    return side, np.where(np.isfinite(side), 0.0, np.abs(prices))

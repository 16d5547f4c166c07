"""The units in which a program of routes is handed to a solver, so that its numbers are near 1 whatever the user's are.

Solvers hold rows and prices to absolute tolerances. Capacities of 1e9 give prices of utilisation of 1e-9, which those tolerances take for
0. So flows, the stretch and costs are each counted in a unit of their own. Units are powers of two: nothing is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.conversation import Solved
    from models.program import Floats, LinearProgram

COMFORTABLE = 2.0**10  # numbers whose middle lies between this and its inverse are left as they are


@dataclass(frozen=True, eq=False)
class Units:
    """One of the program's column j stands for ``column[j]``, of its row i for ``row[i]``, of its objective for ``objective``.

    Shapes: ``column`` (columns,), ``row`` (rows,).
    """

    column: Floats
    row: Floats
    objective: float

    def into(self, program: LinearProgram) -> LinearProgram:
        """The program in these units."""
        rows = np.repeat(np.arange(program.rows), np.diff(program.starts))
        return replace(
            program,
            cost=program.cost * self.column / self.objective,
            column_lower=program.column_lower / self.column,
            column_upper=program.column_upper / self.column,
            row_lower=program.row_lower / self.row,
            row_upper=program.row_upper / self.row,
            coefficients=program.coefficients * self.column[program.indices] / self.row[rows],
        )

    def answer(self, solved: Solved) -> Solved:
        """A solver's answer to the program in these units, as the user counts."""
        values, duals, reduced = solved.values, solved.row_duals, solved.reduced_costs
        return replace(
            solved,
            values=None if values is None else self.values(values),
            row_duals=None if duals is None else self.duals(duals),
            reduced_costs=None if reduced is None else reduced * self.objective / self.column,
            objective=None if solved.objective is None else solved.objective * self.objective,
            bound=None if solved.bound is None else solved.bound * self.objective,
        )

    def values(self, values: Floats) -> Floats:
        """Values of the columns as the user counts, from those of the program in these units."""
        return values * self.column

    def duals(self, duals: Floats) -> Floats:
        """Duals of the rows as the user counts, from those of the program in these units."""
        return duals * self.objective / self.row


def middle(numbers: Floats) -> float:
    """A power of two in the middle of the numbers above 0 on a scale of ratios; 1 where that is a comfortable number already."""
    counted = numbers[(numbers > 0) & np.isfinite(numbers)]
    if not len(counted):
        return 1.0
    found = float(np.exp2(np.round(np.log2(counted).mean())))
    return found if not 1 / COMFORTABLE <= found <= COMFORTABLE else 1.0

"""Whether a plan of a raw program is right, and how good: recomputed in plain numpy from Problem and Plan alone.

A side may be exceeded by TOLERANCE times ``max(1, |side|)``, and a row by what adding up its own terms in doubles may lose. A value of
an integer column may be TOLERANCE away from a whole number. Prices of a linear program, where the plan has them, must prove
it best: see ``duals``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from models.contract import MAX_VIOLATIONS, TOLERANCE, Goal, Verdict, Violation
from models.linear.arrays import arrays_of, column_names, row_names
from models.linear.duals import ROUNDING, weighed
from models.linear.schema import GoalName, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.linear.arrays import Arrays
    from models.linear.schema import Plan, Problem
    from models.program import Floats

__all__ = ["goals", "verify"]


def goals(problem: Problem) -> tuple[Goal, ...]:
    """The one goal: the objective, in the unit of the costs, which only the user knows."""
    return (Goal(GoalName.objective.value, problem.sense, ""),)


def verify(problem: Problem, plan: Plan) -> Verdict:
    """Every broken row, bound and price, and the objective; never raises an error, whatever the plan says."""
    arrays = arrays_of(problem)
    values = np.array(plan.values, dtype=np.float64)
    if len(values) != arrays.columns:
        text = f"the plan has {len(values):,} values, and the program has {arrays.columns:,} columns"
        wrong = Violation(Rule.bound, (), float(abs(len(values) - arrays.columns)), "columns", text)
        return Verdict({GoalName.objective.value: math.nan}, (wrong,), 1)
    verdict = _Verdicts(problem, arrays, values)
    verdict.rows()
    verdict.bounds()
    verdict.whole()
    if plan.row_duals is not None or plan.reduced_costs is not None:
        verdict.prices(plan)
    return Verdict({GoalName.objective.value: verdict.objective}, tuple(verdict.violations), verdict.count, verdict.metrics)


class _Verdicts:
    """Collects what is broken, the first MAX_VIOLATIONS in words."""

    def __init__(self, problem: Problem, arrays: Arrays, values: Floats) -> None:
        self._problem, self._arrays, self._values = problem, arrays, values
        terms = arrays.entry_value * values[arrays.entry_column]
        self._activity = arrays.row_sums(terms)
        self._noise = ROUNDING * arrays.row_sums(np.abs(terms))
        self.objective = arrays.objective(values)
        self.violations: list[Violation] = []
        self.count = 0
        self.metrics: dict[str, float] = {"columns": arrays.columns, "rows": arrays.rows, "nonzero_values": int(np.count_nonzero(values))}

    def _break(self, rule: Rule, amounts: Floats, names: Sequence[str], say: Sequence[str]) -> None:
        """Note the items of which ``amounts`` are positive, in words ``say[0] name say[1] amount say[2]``."""
        broken = np.flatnonzero(amounts > 0.0)
        self.count += len(broken)
        for place in broken[: MAX_VIOLATIONS - len(self.violations)].tolist():
            amount = float(amounts[place])
            self.violations.append(Violation(rule, (names[place],), amount, "", f"{say[0]} '{names[place]}' {say[1]} {amount:g}{say[2]}"))

    def rows(self) -> None:
        """Each row's sum lies between its sides."""
        arrays, names = self._arrays, row_names(self._problem)
        for amounts, limit in self._beyond(self._activity, arrays.row_lower, arrays.row_upper, self._noise):
            self._break(Rule.row, amounts, names, ("the sum of row", f"is {limit} by", ""))
        near = TOLERANCE * 10
        self.metrics["binding_rows"] = int(
            sum(
                np.count_nonzero(
                    np.abs(self._activity - side)[np.isfinite(side)] <= near * np.maximum(1.0, np.abs(side[np.isfinite(side)]))
                )
                for side in (arrays.row_lower, np.where(arrays.row_upper == arrays.row_lower, np.inf, arrays.row_upper))
            )
        )

    def bounds(self) -> None:
        """Each column's value lies between its bounds."""
        arrays = self._arrays
        nothing = np.zeros(arrays.columns)
        for amounts, limit in self._beyond(self._values, arrays.column_lower, arrays.column_upper, nothing):
            self._break(Rule.bound, amounts, column_names(self._problem), ("column", f"is {limit} by", ""))

    @staticmethod
    def _beyond(values: Floats, lower: Floats, upper: Floats, noise: Floats) -> Iterator[tuple[Floats, str]]:
        for side, excess, limit in ((lower, lower - values, "below its lower limit"), (upper, values - upper, "above its upper limit")):
            tolerance = TOLERANCE * np.maximum(1.0, np.where(np.isinf(side), 1.0, np.abs(side))) + noise
            yield np.where(excess > tolerance, excess, 0.0), limit

    def whole(self) -> None:
        """Integer columns have whole values."""
        off = np.where(self._arrays.integer, np.abs(self._values - np.round(self._values)), 0.0)
        amounts = np.where(off > TOLERANCE, off, 0.0)
        self._break(Rule.integrality, amounts, column_names(self._problem), ("column", "must be a whole number and is off by", ""))

    def prices(self, plan: Plan) -> None:
        """The prices of a linear program prove its plan best."""
        arrays = self._arrays
        duals, reduced = np.array(plan.row_duals or (), dtype=np.float64), np.array(plan.reduced_costs or (), dtype=np.float64)
        if arrays.is_mip or len(duals) != arrays.rows or len(reduced) != arrays.columns:
            why = "the program has integer columns" if arrays.is_mip else "there must be one for each row and one for each column"
            self.count += 1
            self.violations.append(Violation(Rule.strong_duality, (), 1.0, "", f"the prices prove nothing: {why}"))
            return
        found = weighed(arrays, self._values, self._activity, duals, reduced)
        rows, columns = row_names(self._problem), column_names(self._problem)
        self._break(
            Rule.dual_sign, found.row_excess, rows, ("the dual of row", "has the size", " and the sign of a side that the row has not")
        )
        said = ("the reduced cost of column", "has the size", " and the sign of a bound that the column has not")
        self._break(Rule.dual_sign, found.column_excess, columns, said)
        said = ("the reduced cost of column", "differs from the cost less the priced entries by", "")
        self._break(Rule.reduced_cost, found.mismatch, columns, said)
        gap = abs(self.objective - found.dual_objective)
        if gap > TOLERANCE * max(1.0, abs(self.objective)):
            text = f"the prices prove {found.dual_objective:g}, and the plan has {self.objective:g}"
            self.count += 1
            self.violations.append(Violation(Rule.strong_duality, (), gap, "", text))
        self.metrics |= {"dual_objective": found.dual_objective, "complementarity": found.complementarity}

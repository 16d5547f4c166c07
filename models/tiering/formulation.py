"""The exact mixed-integer program of a tiering, in Pyomo. README.md has the formulas, under the same names.

``build`` makes the model for one goal, ``extract`` turns its values into a plan, ``start`` a plan into values, ``size`` says how large the
model would be. What there is to decide, and what it takes, comes as arrays from ``formulation_cells``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyomo.environ as pyo
from pyomo.core.expr.numeric_expr import LinearExpression

from models.garbage import collection_paused
from models.tiering.formulation_cells import Cells, cells_of
from models.tiering.formulation_plan import extract, start
from models.tiering.formulation_rules import floor, grouped, write_rules
from models.tiering.store import store_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from models.program import Floats, Ints
    from models.tiering.formulation_rules import Entries
    from models.tiering.schema import GoalName, Problem

__all__ = ["HASTENING", "LINKING", "build", "extract", "size", "start"]

LINKING = frozenset({"one_form", "domain_held", "served_by_copy", "goal_floor"})
HASTENING: frozenset[str] = frozenset()


def build(
    problem: Problem, goal: GoalName | None = None, floors: Mapping[GoalName, float] | None = None, *, hasten: bool = True
) -> pyo.ConcreteModel:
    """The exact model with one goal (the first by default) as its objective.

    ``floors`` holds, for goals that come before it, the values attained: each becomes a row ``goal_floor[goal]``. With ``hasten=False``
    what rules forbid has columns, and rows forbid it, so that a conflict can cite them.

    Raises ValueError for a goal that is not among the problem's goals, or is its own floor.
    """
    ordered = problem.ordered_goals()
    goal = ordered[0] if goal is None else goal
    floors = floors or {}
    for name in (goal, *floors):
        if name not in ordered:
            raise ValueError(f"{name} is not among the goals of the problem: {', '.join(ordered)}")
    if goal in floors:
        raise ValueError(f"{goal} cannot be both the goal and a floor")
    with collection_paused():
        cells = cells_of(problem, open_all=not hasten)
        model = _Model(cells)
        write_rules(model, problem, cells)
        for name, value in floors.items():
            model.row("goal_floor", (name.value,), **floor(cells, name, value))
        place, serve, constant = cells.goal(goal)
        model.pyomo.goal = pyo.Objective(expr=model.expression(place, serve, constant=constant), sense=pyo.minimize)
    return model.pyomo


def size(problem: Problem) -> int:
    """At most how many columns ``build`` would make, without making them."""
    store = store_of(problem)
    of = store.objects
    forms = of.count + int(np.count_nonzero(~np.isnan(of.share)))
    apart = store.reads.object[of.copies_max[store.reads.object] > 1]
    servings = len(apart) + int(np.count_nonzero(~np.isnan(of.share[apart])))
    return store.tiers.count * (forms + servings)


class _Model:
    """A Pyomo model as the ``Rows`` that rules are written to."""

    def __init__(self, cells: Cells) -> None:
        self.pyomo = pyo.ConcreteModel()
        ids = cells.cell_ids(), cells.serving_ids(), _spread_ids(cells)
        self.pyomo.place = pyo.Var(ids[0], domain=pyo.Binary)
        self.pyomo.serve = pyo.Var(ids[1], domain=pyo.Reals, bounds=(0.0, 1.0))
        self.pyomo.spread = pyo.Var(ids[2], domain=pyo.Reals, bounds=(0.0, 1.0))
        self._columns = tuple(list(family.values()) for family in (self.pyomo.place, self.pyomo.serve, self.pyomo.spread))
        self._rows: dict[str, Any] = {}

    def expression(self, *families: Any, constant: float = 0.0) -> LinearExpression:
        """The sum of coefficients, given for all columns of place, serve and spread or as pairs of positions and coefficients."""
        coefficients: list[float] = []
        columns: list[Any] = []
        for column, given in zip(self._columns, families, strict=False):
            if given is None:
                continue
            at, values = given if isinstance(given, tuple) else (np.flatnonzero(given), given[np.flatnonzero(given)])
            coefficients += np.asarray(values, dtype=np.float64).tolist()
            columns += [column[place] for place in at.tolist()]
        return LinearExpression(constant=constant, linear_coefs=coefficients, linear_vars=columns)

    def row(
        self,
        name: str,
        ids: Sequence[str],
        *,
        place: Any = None,
        serve: Any = None,
        spread: Any = None,
        lower: float | None = None,
        upper: float | None = None,
    ) -> None:
        """State ``lower <= terms <= upper``; each family of terms as for ``expression``."""
        terms = self.expression(place, serve, spread)
        bounded = (terms, upper) if lower == upper else (lower, terms, upper)
        if name not in self._rows:
            self._rows[name] = pyo.Constraint(pyo.Any) if ids else pyo.Constraint(expr=bounded)
            self.pyomo.add_component(name, self._rows[name])
        if ids:
            self._rows[name].add(tuple(ids) if len(ids) > 1 else ids[0], bounded)

    def block(
        self,
        name: str,
        ids: Sequence[Sequence[str]],
        *,
        place: Entries | None = None,
        serve: Entries | None = None,
        lower: Floats | None = None,
        upper: Floats | None = None,
    ) -> None:
        """State many rows of one name at once."""
        families = [{} if given is None else _by_row(given) for given in (place, serve)]
        nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
        for row, one in enumerate(ids):
            sides = (None if side is None else float(side[row]) for side in (lower, upper))
            terms = [family.get(row, nothing) for family in families]
            self.row(name, one, place=terms[0], serve=terms[1], **dict(zip(("lower", "upper"), sides, strict=True)))


def _by_row(entries: Entries) -> dict[int, tuple[Ints, Floats]]:
    """Positions and coefficients of each row that has any."""
    rows, at, value = entries
    return {row: (at[mine], np.full(len(mine), value)) for row, mine in grouped(rows)}


def _spread_ids(cells: Cells) -> Iterable[tuple[str, str]]:
    store, (objects, domains) = cells.store, cells.spreads
    return [(store.objects.ids[o], store.tiers.domain_names[d]) for o, d in zip(objects.tolist(), domains.tolist(), strict=True)]

"""The exact mixed-integer program of a placement problem, in Pyomo. README.md has the formulas, under the same names.

``build`` makes the model for one goal, ``extract`` turns its values into a plan, ``start`` a plan into values, ``size`` says
how large the model would be. What is decided is in ``formulation_setting``, the rows in ``formulation_rules`` and
``formulation_goals``, the way back in ``formulation_plan``: this is the only module that knows Pyomo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyomo.environ as pyo
from pyomo.core.expr.numeric_expr import LinearExpression

from models.contract import Sense
from models.garbage import collection_paused
from models.placement.classes import Hosts, job_classes
from models.placement.formulation_goals import SENSES, goal_columns, goal_terms
from models.placement.formulation_plan import extract, start
from models.placement.formulation_rules import rule_columns, write_rules
from models.placement.formulation_setting import Setting
from models.placement.fragmentation import task_classes
from models.placement.schema import GoalName, Use

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.placement.formulation_terms import Columns, Handle, Ids, Terms
    from models.placement.schema import Problem

__all__ = ["HASTENING", "LINKING", "build", "extract", "size", "start"]

# Rows that follow from the others and only make the search faster. `build(..., hasten=False)` leaves them out, for whoever
# relaxes rows to explain a conflict: a rule is not relaxed while a copy of it still holds.
HASTENING = frozenset({"gpu_opened", "gpu_order", "open_for", "room_left"})
# Rows that say what a column means. All others are rules of a plan, by their names in `Rule`.
LINKING = frozenset(
    {
        *("gang_most", "colocation_domains", "domain_used", "gpu_whole_or_shared", "node_powered"),
        *("domains_spanned", "node_peak", "goal_floor"),
        *("gpu_large_enough", "gpu_usable", "gpu_usable_large"),
        *("fits_cpu", "fits_memory", "fits_gpus", "usable", "usable_fits"),
    }
)

_SLACK = 1e-9  # relative: what the sum of a goal's terms may lose to rounding, as in contract.Goal.better


class _Model:
    """A Pyomo model as the ``Rows`` that rules and goals write to."""

    def __init__(self, *, hasten: bool) -> None:
        self.pyomo = pyo.ConcreteModel()
        self.columns: dict[str, Mapping[Ids, Handle]] = _Families()
        self._hasten = hasten
        self._rows: dict[str, Any] = {}

    def declare(self, columns: Columns) -> None:
        """Make the variables."""
        for name, family in columns.items():
            if not family:
                continue
            indices = [_index(ids) for ids in family]
            variable = pyo.Var(indices) if indices != [None] else pyo.Var()
            self.pyomo.add_component(name, variable)
            self.columns[name] = dict(zip(family, variable.values(), strict=True))
            for column, handle in zip(family.values(), variable.values(), strict=True):
                handle.domain = pyo.Integers if column.integer else pyo.Reals
                handle.setlb(0.0)
                handle.setub(column.upper)

    def row(self, name: str, ids: Ids, terms: Terms, *, lower: float | None = None, upper: float | None = None) -> None:
        """State ``lower <= terms <= upper``."""
        if name in HASTENING and not self._hasten:
            return
        name = str(name)  # a Rule prints as its value, but Pyomo would call the component by its repr
        bounded = (lower, _expression(terms), upper) if lower != upper else (_expression(terms), upper)
        if not ids:
            self.pyomo.add_component(name, pyo.Constraint(expr=bounded))
            return
        if name not in self._rows:
            self._rows[name] = pyo.Constraint(pyo.Any)
            self.pyomo.add_component(name, self._rows[name])
        self._rows[name].add(_index(ids), bounded)


class _Families(dict[str, "Mapping[Ids, Handle]"]):
    """A name without variables is an empty family."""

    def __missing__(self, name: str) -> Mapping[Ids, Handle]:
        return {}


def _index(ids: Ids) -> Any:
    """Pyomo's form of an id tuple: nothing for a scalar, the id itself for one."""
    return ids if len(ids) > 1 else ids[0] if ids else None


def _expression(terms: Terms) -> LinearExpression:
    coefficients, columns = terms.merged()
    return LinearExpression(constant=terms.constant, linear_coefs=coefficients, linear_vars=columns)


def build(
    problem: Problem, goal: GoalName | None = None, floors: Mapping[GoalName, float] | None = None, *, hasten: bool = True
) -> pyo.ConcreteModel:
    """The exact model with one goal (the first by default) as its objective.

    ``floors`` holds, for goals that come before it, the values attained: each becomes a row ``goal_floor[goal]`` that
    keeps the goal at least as good. ``hasten=False`` leaves out the rows in ``HASTENING``.

    Raises ValueError for a goal that is not among the problem's goals (the model's columns depend on those), or is its own floor.
    """
    ordered = problem.ordered_goals()
    goal = ordered[0] if goal is None else goal
    floors = floors or {}
    for name in (goal, *floors):
        if name not in ordered:
            raise ValueError(f"{name} is not among the goals of the problem: {', '.join(ordered)}")
    if goal in floors:
        raise ValueError(f"{goal} cannot be both the goal and a floor")
    goals = {goal, *floors}
    with collection_paused():
        setting = Setting(problem, cut=hasten)
        model = _Model(hasten=hasten)
        model.declare(rule_columns(setting, goals))
        model.declare(goal_columns(setting, goals))
        write_rules(model, setting, goals)
        for name, value in floors.items():
            terms = goal_terms(model, setting, name)
            slack = _SLACK * max(1.0, abs(value))
            if SENSES[name] is Sense.maximise:
                model.row("goal_floor", (name.value,), terms, lower=value - slack)
            else:
                model.row("goal_floor", (name.value,), terms, upper=value + slack)
        sense = pyo.maximize if SENSES[goal] is Sense.maximise else pyo.minimize
        model.pyomo.add_component("goal", pyo.Objective(expr=_expression(goal_terms(model, setting, goal)), sense=sense))
    return model.pyomo


def size(problem: Problem) -> int:
    """About how many columns ``build`` would make, without making them: for choosing how to solve.

    Counts every GPU of a node for a fraction that may use it, so it may be several times too large, hardly too small.
    """
    hosts = Hosts(problem)
    running = [job for job in problem.jobs if job.running is not None]
    if problem.use is Use.preempt:
        waiting = [job for job in problem.jobs if job.id == problem.preempt_for]
    else:
        waiting = [problem.jobs[one.first] for one in job_classes(problem)]
    placed = [*waiting, *running] if problem.use is Use.repack else waiting
    columns = len(placed)
    shared = False
    for job in placed:
        fraction = 0 < job.gpus_per_worker < 1
        shared = shared or fraction
        columns += hosts.gpus_of(job) if fraction else len(hosts.of(job))
    if problem.use is not Use.place:
        columns += len(running) * (2 if problem.use is Use.repack else 1)
    gpus = sum(node.gpus for node in problem.nodes)
    columns += gpus if shared else 0
    if GoalName.fragmentation in problem.ordered_goals():
        tasks = task_classes(problem)
        columns += 2 * len(problem.nodes) * len(tasks) + 2 * gpus * len({one.gpus_per_worker for one in tasks if one.gpus_per_worker < 1})
    return columns

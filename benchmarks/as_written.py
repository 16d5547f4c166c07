"""The exact program of a kind, solved as one would today: Pyomo through its own HiGHS interface, or as matrices through cvxpy.

The rows and columns are those of the kind's formulation, so that only the way to the solver differs: no classes, no prices, no start.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from models.catalogue import kind_of
from optimizer.compile import compile_model

if TYPE_CHECKING:
    from models.vocabulary import Document
    from optimizer.compile import Compiled

MOST_COLUMNS = 2_000_000  # writing more down takes longer than the limits of these benchmarks


class TooLargeError(ValueError):
    """The exact program would have more than MOST_COLUMNS columns; the message says how many."""


def _formulation(problem: Document) -> Any:  # noqa: ANN401  (a kind's module)
    formulation = kind_of(problem).part("formulation")
    columns = formulation.size(problem)
    if columns > MOST_COLUMNS:
        raise TooLargeError(f"the exact program has up to {columns:,} columns; this baseline writes down {MOST_COLUMNS:,}")
    return formulation


def pyomo_highs(problem: Document, seconds: float) -> Any:  # noqa: ANN401  (each kind has its own Plan)
    """The formulation as Pyomo hands it to HiGHS itself; None when that finds no plan."""
    from pyomo.contrib.appsi.solvers.highs import Highs

    formulation = _formulation(problem)
    model = formulation.build(problem)
    solver = Highs()
    solver.config.time_limit = seconds
    solver.config.load_solution = False
    result = solver.solve(model)
    if result.best_feasible_objective is None:
        return None
    result.solution_loader.load_vars()
    compiled = compile_model(model)
    values = np.zeros(compiled.program.columns)
    for name, family in compiled.columns.items():
        variable = getattr(model, name)
        for index, column in family.items():
            values[column] = variable[index].value or 0.0
    return _plan(problem, formulation, compiled, values)


def cvxpy_highs(problem: Document, seconds: float) -> Any:  # noqa: ANN401
    """The formulation's matrices in cvxpy, solved by HiGHS; None when that finds no plan."""
    from scipy import sparse

    try:
        cp: Any = importlib.import_module("cvxpy")
    except ModuleNotFoundError:
        raise ValueError("cvxpy is not installed: pip install -c constraints.txt -e '.[bench]'") from None
    formulation = _formulation(problem)
    compiled = compile_model(formulation.build(problem))
    program = compiled.program
    whole = np.flatnonzero(program.integer)
    x = cp.Variable(program.columns, integer=(whole,) if len(whole) else False)
    matrix = sparse.csr_matrix((program.coefficients, program.indices, program.starts), (program.rows, program.columns))
    sum_ = matrix @ x
    rules = []
    for values, lower, upper in ((sum_, program.row_lower, program.row_upper), (x, program.column_lower, program.column_upper)):
        below, above = np.flatnonzero(np.isfinite(lower)), np.flatnonzero(np.isfinite(upper))
        rules += [values[below] >= lower[below]] if len(below) else []
        rules += [values[above] <= upper[above]] if len(above) else []
    goal = program.cost @ x + program.offset
    found = cp.Problem(cp.Maximize(goal) if program.maximise else cp.Minimize(goal), rules)
    found.solve(solver=cp.HIGHS, time_limit=seconds)
    return None if x.value is None else _plan(problem, formulation, compiled, np.asarray(x.value))


def _plan(problem: Document, formulation: Any, compiled: Compiled, values: np.ndarray[Any, np.dtype[np.float64]]) -> Any:  # noqa: ANN401
    rounded = np.where(compiled.program.integer, np.round(values), values)
    return formulation.extract(problem, compiled.values_by_ids(rounded))


BASELINES = {"pyomo_highs": pyomo_highs, "cvxpy_highs": cvxpy_highs}

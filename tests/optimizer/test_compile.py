import gc
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler

from models.garbage import collection_paused
from models.program import LinearProgram
from optimizer.compile import NotLinear, compile_model
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from tests.optimizer.oracle import dense

INF = np.inf


def shop() -> pyo.ConcreteModel:
    """Every kind of expression the lean walk knows."""
    model = pyo.ConcreteModel()
    model.jobs = pyo.Set(initialize=["a", "b", "c"])
    model.price = pyo.Param(model.jobs, initialize={"a": 2, "b": 3, "c": 4}, mutable=True)
    model.run = pyo.Var(model.jobs, within=pyo.NonNegativeReals, bounds=(None, 7))
    model.use = pyo.Var([1, 2], ["x"], within=pyo.Binary)
    model.free = pyo.Var()
    model.work = pyo.Expression(expr=model.run["a"] + 2 * model.run["b"] + 1)
    model.need = pyo.Constraint(model.jobs, rule=need)
    model.between = pyo.Constraint(expr=pyo.inequality(1, model.work, 4))
    model.equal = pyo.Constraint(expr=-(model.run["a"] - 2 * (model.free + model.price["b"])) / 2 == model.use[1, "x"])
    model.total = pyo.Constraint(expr=sum(model.price[job] * model.run[job] for job in model.jobs) >= model.price["a"])
    model.goal = pyo.Objective(expr=sum(model.run.values()) - model.free + 5 - 2, sense=pyo.maximize)
    return model


def need(model: pyo.ConcreteModel, job: str) -> object:
    if job == "c":
        return pyo.Constraint.Skip
    return 3 * (model.price[job] * model.run[job] + model.work) / 2 <= model.run["c"] - model.use[2, "x"] + 4


def test_every_expression_is_walked_without_help() -> None:
    compiled = compile_model(shop())
    program = compiled.program
    assert compiled.fallbacks == 0
    assert [(block.name, list(block.ids)) for block in program.row_blocks] == [
        ("need", [("a",), ("b",)]),
        ("between", [()]),
        ("equal", [()]),
        ("total", [()]),
    ]
    assert [(block.name, len(block.ids)) for block in program.column_blocks] == [("run", 3), ("use", 2), ("free", 1)]
    assert compiled.columns["use"] == {(1, "x"): 3, (2, "x"): 4}
    expected = [
        [4.5, 3.0, -1.0, 0.0, 1.0, 0.0],
        [1.5, 7.5, -1.0, 0.0, 1.0, 0.0],
        [1.0, 2.0, 0.0, 0.0, 0.0, 0.0],
        [-0.5, 0.0, 0.0, -1.0, 0.0, 1.0],
        [2.0, 3.0, 4.0, 0.0, 0.0, 0.0],
    ]
    np.testing.assert_allclose(dense(program), expected)
    np.testing.assert_allclose(program.row_lower, [-INF, -INF, 0.0, -3.0, 2.0])
    np.testing.assert_allclose(program.row_upper, [2.5, 2.5, 3.0, -3.0, INF])
    np.testing.assert_allclose(program.cost, [1.0, 1.0, 1.0, 0.0, 0.0, -1.0])
    assert (program.maximise, program.offset) == (True, 3.0)
    np.testing.assert_array_equal(program.column_lower, [0, 0, 0, 0, 0, -INF])
    np.testing.assert_array_equal(program.column_upper, [7, 7, 7, 1, 1, INF])
    assert program.integer.tolist() == [False, False, False, True, True, False]


def test_values_go_both_ways() -> None:
    compiled = compile_model(shop())
    vector = np.arange(6.0)
    assert compiled.values_of("run", vector) == {"a": 0.0, "b": 1.0, "c": 2.0}
    assert compiled.values_of("free", vector) == {None: 5.0}
    back = compiled.vector_of({"run": {"b": 1.0}, "use": {(2, "x"): 4.0}})
    np.testing.assert_array_equal(back, [np.nan, 1.0, np.nan, np.nan, 4.0, np.nan])
    with pytest.raises(KeyError):
        compiled.values_of("nothing", vector)


def test_a_changed_parameter_compiles_anew() -> None:
    model = shop()
    model.price["c"] = 40
    assert dense(compile_model(model).program)[4].tolist() == [2.0, 3.0, 40.0, 0.0, 0.0, 0.0]


def test_fixed_variables_are_columns_with_one_value() -> None:
    model = shop()
    model.use[1, "x"].fix(1)
    model.run["a"].fix(2.5)
    program = compile_model(model).program
    assert (program.column_lower[3], program.column_upper[3]) == (1.0, 1.0)
    assert (program.column_lower[0], program.column_upper[0]) == (2.5, 2.5)
    np.testing.assert_array_equal(dense(program), dense(compile_model(shop()).program))


def test_a_fixed_factor_needs_pyomos_help_and_gets_it() -> None:
    model = shop()
    model.use[1, "x"].fix(1)
    model.tied = pyo.Constraint(expr=model.use[1, "x"] * model.run["a"] + model.run["b"] <= 3)
    compiled = compile_model(model)
    assert compiled.fallbacks == 1
    assert dense(compiled.program)[5].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_trivial_constraints_stay_as_rows() -> None:
    model = pyo.ConcreteModel()
    model.x = pyo.Var(bounds=(0, 1))
    model.zero = pyo.Param(initialize=0, mutable=True)
    model.holds = pyo.Constraint(expr=model.zero * model.x + 2 <= 3)
    model.goal = pyo.Objective(expr=model.x)
    assert HighsBackend().solve(compile_model(model).program, Limits()).status == "optimal"
    model.fails = pyo.Constraint(expr=model.zero * model.x + 5 <= 3)
    program = compile_model(model).program
    assert program.starts.tolist() == [0, 0, 0]
    assert program.row_upper.tolist() == [1.0, -2.0]
    assert HighsBackend().solve(program, Limits()).status == "infeasible"


def test_inactive_parts_and_blocks() -> None:
    model = shop()
    model.part = pyo.Block()
    model.part.y = pyo.Var([1, 2])
    model.part.cap = pyo.Constraint([1, 2], rule=lambda block, i: block.y[i] <= model.run["a"])
    model.need["a"].deactivate()
    model.total.deactivate()
    names = [(block.name, list(block.ids)) for block in compile_model(model).program.row_blocks]
    assert names == [("need", [("b",)]), ("between", [()]), ("equal", [()]), ("part.cap", [(1,), (2,)])]
    model.part.deactivate()
    assert "part.cap" not in [block.name for block in compile_model(model).program.row_blocks]


def test_what_is_not_linear_is_named() -> None:
    model = shop()
    model.curved = pyo.Constraint(["k"], rule=lambda m, _: m.run["a"] * m.run["b"] <= 3)
    with pytest.raises(NotLinear, match=r"curved\[k\]"):
        compile_model(model)
    model.del_component("curved")
    model.bent = pyo.Constraint(expr=pyo.exp(model.free) <= 3)
    with pytest.raises(NotLinear, match="bent"):
        compile_model(model)


def test_models_that_cannot_be() -> None:
    model, other = shop(), shop()
    model.foreign = pyo.Constraint(expr=model.free + other.free <= 1)
    with pytest.raises(ValueError, match="foreign uses a variable that is not in the model"):
        compile_model(model)
    model.del_component("foreign")
    model.second = pyo.Objective(expr=model.free)
    with pytest.raises(ValueError, match="goal, second"):
        compile_model(model)
    model.second.deactivate()
    model.run["a"].setlb(9)
    with pytest.raises(ValueError, match=r"run\[a\]: no number lies between"):
        compile_model(model)
    model.run["a"].setlb(0)
    model.sets = pyo.SOSConstraint(var=model.run, sos=1)
    with pytest.raises(NotLinear, match="sets"):
        compile_model(model)


def test_a_model_without_objective_costs_nothing() -> None:
    model = pyo.ConcreteModel()
    model.x = pyo.Var([1, 2])
    program = compile_model(model).program
    assert program.cost.tolist() == [0.0, 0.0]
    assert program.rows == 0


def test_collection_is_paused_and_comes_back_after_an_error() -> None:
    assert gc.isenabled()
    with collection_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    model = shop()
    model.curved = pyo.Constraint(expr=model.free**2 <= 3)
    with pytest.raises(NotLinear):
        compile_model(model)
    assert gc.isenabled()


def random_model(rng: np.random.Generator) -> pyo.ConcreteModel:
    model = pyo.ConcreteModel()
    size = int(rng.integers(2, 8))
    model.x = pyo.Var(range(size), within=pyo.NonNegativeReals)
    model.k = pyo.Var(range(2), within=pyo.Integers, bounds=(-4, 9))
    model.p = pyo.Param(range(size), initialize=lambda _, i: float(i) - 1.5, mutable=True)
    if rng.random() < 0.5:
        model.k[0].fix(int(rng.integers(-4, 9)))

    def some(depth: int = 2) -> Any:
        i, j, number = int(rng.integers(size)), int(rng.integers(2)), float(rng.integers(-5, 6))
        leaf = [model.x[i] * number, number * model.k[j] + model.x[i], model.p[i] * model.x[i], model.k[j], number + model.x[i]]
        if depth == 0 or rng.random() < 0.2:
            return leaf[int(rng.integers(len(leaf)))]
        parts = [some(depth - 1) for _ in range(int(rng.integers(1, 4)))]
        whole = sum(parts) if rng.random() < 0.7 else pyo.quicksum(parts)
        shapes = [whole, -whole, whole / 4, 3 * whole, whole * model.p[i], whole - some(depth - 1)]
        return shapes[int(rng.integers(len(shapes)))]

    model.c = pyo.Constraint(range(4), rule=lambda *_: some() <= some())
    model.d = pyo.Constraint(range(2), rule=lambda *_: pyo.inequality(-3, some() + model.x[0] * 100, 8))
    model.e = pyo.Constraint(expr=some() + 50 * model.x[1] == some())
    model.goal = pyo.Objective(expr=some(), sense=pyo.maximize if rng.random() < 0.5 else pyo.minimize)
    return model


def sides(program: LinearProgram, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
    """How far each finite side is from being met, sorted: the same whatever way the rows are written. Pyomo drops empty rows."""
    activity, filled = program.activity(values), np.diff(program.starts) > 0
    slack = np.concatenate(((activity - program.row_lower)[filled], (program.row_upper - activity)[filled]))
    return sorted(slack[np.isfinite(slack)].tolist())


@pytest.mark.parametrize("seed", range(60))
def test_against_pyomos_own_compiler(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(rng)
    compiled = compile_model(model)
    assert compiled.fallbacks == 0
    form = LinearStandardFormCompiler().write(model, mixed_form=True, set_sense=None)
    vector = rng.normal(size=compiled.program.columns)
    for name in compiled.columns:
        for index, column in compiled.columns[name].items():
            variable = getattr(model, name)[index]
            if variable.fixed:
                vector[column] = variable.value
            else:
                variable.set_value(vector[column], skip_validation=True)
    theirs = np.array([variable.value for variable in form.columns])
    activity = form.A @ theirs
    slack: list[float] = []
    for row, (_, kind) in enumerate(form.rows):
        gap = activity[row] - form.rhs[row]
        slack += {-1: [gap], 0: [gap, -gap], 1: [-gap]}[kind]  # Pyomo's bound type: a lower side, both, an upper side
    np.testing.assert_allclose(sides(compiled.program, vector), sorted(slack), atol=1e-9)
    objective = float((form.c @ theirs)[0] + form.c_offset[0])
    assert compiled.program.objective(vector) == pytest.approx(objective)
    assert compiled.program.objective(vector) == pytest.approx(pyo.value(model.goal))

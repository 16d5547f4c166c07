"""Turns what a formulation builds into a ``LinearProgram``, once: a Pyomo model, or a program that is one already.

Pyomo is the language formulations are written in; it does not solve. Its own writers take ten times as long, and the one to arrays
needs scipy, so linear expressions are walked here. What this walk does not know goes to Pyomo's general
(slower) analysis, and what is not linear there either is an error that names the constraint.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyomo.common.numeric_types import native_numeric_types
from pyomo.core.expr.numeric_expr import (
    DivisionExpression,
    LinearExpression,
    MonomialTermExpression,
    NegationExpression,
    ProductExpression,
    SumExpression,
)
from pyomo.environ import Block as PyomoBlock
from pyomo.environ import ConcreteModel, Constraint, Objective, SOSConstraint, Var, maximize, value
from pyomo.repn import generate_standard_repn

from models.garbage import collection_paused
from models.program import Block, Floats, Ids, LinearProgram


class NotLinear(ValueError):  # noqa: N818 - says what is wrong with the model
    """A constraint or the objective is not linear; the message names it."""


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """A program and where the model's variables lie in it.

    ``columns[name][index]`` is the column of variable ``name`` at ``index`` (None for a scalar variable), in the order of the
    program's columns. ``fallbacks`` counts the expressions the lean walk left to Pyomo: 0 for a formulation written as plain sums.
    """

    program: LinearProgram
    columns: Mapping[str, Mapping[Hashable, int]]
    fallbacks: int

    def values_of(self, name: str, vector: Floats) -> dict[Hashable, float]:
        """The values of variable ``name`` by index, from one vector of shape (columns,); KeyError for an unknown name."""
        found = self.columns[name]
        return dict(zip(found, vector[list(found.values())].tolist(), strict=True))

    def values_by_ids(self, vector: Floats) -> dict[str, dict[Ids, float]]:
        """All values as ``formulation.extract`` takes them, by variable and id tuple, from one vector of shape (columns,)."""
        return {block.name: dict(zip(block.ids, vector[block.rows].tolist(), strict=True)) for block in self.program.column_blocks}

    def vector_of(self, values: Mapping[str, Mapping[Hashable, float]]) -> Floats:
        """One vector of shape (columns,) from values by variable and index; NaN where none is given.

        Raises KeyError for a variable or index the model does not have.
        """
        vector = np.full(self.program.columns, np.nan)
        for name, by_index in values.items():
            found = self.columns[name]
            for index, number in by_index.items():
                vector[found[index]] = number
        return vector


def compile_model(model: ConcreteModel | LinearProgram) -> Compiled:
    """Compile a Pyomo model with one active objective, or none; a ``LinearProgram`` goes through as it is, its columns known by its blocks.

    Rows are blocked by constraint name and columns by variable name, in the model's order, with the Pyomo indices as id tuples.
    A fixed variable is a column whose bounds are its value. A constraint without variables is a row without entries,
    impossible when it does not hold.

    Raises NotLinear, naming the expression; ValueError for several objectives, a variable of another model, bounds that
    exclude each other, or a ``LinearProgram`` with columns outside all blocks, whose values nobody could ask for.
    """
    with collection_paused():
        if isinstance(model, LinearProgram):
            return _passed_through(model)
        for special in model.component_data_objects(SOSConstraint, active=True):
            raise NotLinear(f"{special.name} is a special ordered set, which is not linear")
        columns = _Columns(model)
        walk = _Walk(columns.position)
        cost, offset, maximise = _objective(model, walk, len(columns.lower))
        rows = _Rows(model, walk)
        program = LinearProgram(
            maximise=maximise,
            cost=cost,
            column_lower=np.array(columns.lower, dtype=np.float64),
            column_upper=np.array(columns.upper, dtype=np.float64),
            integer=np.array(columns.integer, dtype=np.bool_),
            row_lower=np.array(rows.lower, dtype=np.float64),
            row_upper=np.array(rows.upper, dtype=np.float64),
            starts=np.array(rows.starts, dtype=np.int64),
            indices=np.array(rows.indices, dtype=np.int64),
            coefficients=np.array(rows.coefficients, dtype=np.float64),
            offset=offset,
            row_blocks=tuple(rows.blocks),
            column_blocks=tuple(columns.blocks),
        )
    return Compiled(program, columns.by_name, walk.fallbacks)


def _passed_through(program: LinearProgram) -> Compiled:
    named = sum(len(block.ids) for block in program.column_blocks)
    if named != program.columns:
        raise ValueError(f"{program.columns - named} columns of the program belong to no block")
    return Compiled(program, _BlockColumns(program), 0)


class _BlockColumns(Mapping[str, Mapping[Hashable, int]]):
    """The columns by block and index, each block written out when it is asked for: a solve without a start never asks."""

    def __init__(self, program: LinearProgram) -> None:
        self._blocks = {block.name: block for block in program.column_blocks}
        self._found: dict[str, Mapping[Hashable, int]] = {}

    def __getitem__(self, name: str) -> Mapping[Hashable, int]:
        if name not in self._found:
            block = self._blocks[name]
            self._found[name] = {_index(ids): column for column, ids in enumerate(block.ids, block.start)}
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)


def _index(ids: Ids) -> Hashable:
    """An id tuple as Pyomo's index."""
    return ids if len(ids) > 1 else ids[0] if ids else None


def _ids(index: Hashable) -> Ids:
    if index is None:
        return ()
    return index if isinstance(index, tuple) else (index,)


class _Columns:
    """Every variable of the model as a column."""

    def __init__(self, model: ConcreteModel) -> None:
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.integer: list[bool] = []
        self.blocks: list[Block] = []
        self.by_name: dict[str, dict[Hashable, int]] = {}
        self.position: dict[int, int] = {}  # by id(): Pyomo's variables are compared by building expressions
        for variable in model.component_objects(Var, descend_into=PyomoBlock):
            start = len(self.lower)
            where: dict[Hashable, int] = {}
            for index, data in variable.items():
                where[index] = self.position[id(data)] = len(self.lower)
                self._add(data)
            if where:
                self.by_name[variable.name] = where
                self.blocks.append(Block(variable.name, start, tuple(_ids(index) for index in where)))

    def _add(self, data: Any) -> None:
        low, high = (data.value, data.value) if data.fixed else data.bounds
        self.lower.append(-np.inf if low is None else low)
        self.upper.append(np.inf if high is None else high)
        self.integer.append(data.is_integer())


class _Rows:
    """Every active constraint of the model as a row, in CSR lists."""

    def __init__(self, model: ConcreteModel, walk: _Walk) -> None:
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.starts: list[int] = [0]
        self.indices: list[int] = []
        self.coefficients: list[float] = []
        self.blocks: list[Block] = []
        for constraint in model.component_objects(Constraint, active=True, descend_into=PyomoBlock):
            start = len(self.lower)
            ids: list[Ids] = []
            for index, data in constraint.items():
                if data.active:
                    self._add(data, walk)
                    ids.append(_ids(index))
            if ids:
                self.blocks.append(Block(constraint.name, start, tuple(ids)))

    def _add(self, data: Any, walk: _Walk) -> None:
        low, body, high = data.to_bounded_expression(True)
        terms, constant = walk.terms(body, data)
        self.lower.append(-np.inf if low is None else low - constant)
        self.upper.append(np.inf if high is None else high - constant)
        for column, coefficient in terms.items():
            if coefficient != 0.0:
                self.indices.append(column)
                self.coefficients.append(coefficient)
        self.starts.append(len(self.indices))


def _objective(model: ConcreteModel, walk: _Walk, columns: int) -> tuple[Floats, float, bool]:
    cost = np.zeros(columns)
    active = list(model.component_data_objects(Objective, active=True, descend_into=PyomoBlock))
    if not active:
        return cost, 0.0, False
    if len(active) > 1:
        raise ValueError(f"a program has one objective, this model has {len(active)}: {', '.join(one.name for one in active)}")
    terms, offset = walk.terms(active[0].expr, active[0])
    for column, coefficient in terms.items():
        cost[column] = coefficient
    return cost, offset, active[0].sense == maximize


class _Unknown(Exception):  # noqa: N818 - never leaves this module
    """The lean walk does not know this expression."""


class _Walk:
    """Reads linear expressions: ``terms`` gives coefficient by column, and the constant."""

    def __init__(self, position: dict[int, int]) -> None:
        self._position = position
        self.fallbacks = 0

    def terms(self, expression: Any, owner: Any) -> tuple[dict[int, float], float]:
        """Raises NotLinear or ValueError, naming ``owner``."""
        try:
            return self._lean(expression)
        except _Unknown:
            self.fallbacks += 1
        except KeyError:
            raise ValueError(f"{owner.name} uses a variable that is not in the model") from None
        found = generate_standard_repn(expression, compute_values=True, quadratic=False)
        if not found.is_linear():
            raise NotLinear(f"{owner.name} is not linear")
        terms: dict[int, float] = {}
        for coefficient, variable in zip(found.linear_coefs, found.linear_vars, strict=True):
            column = self._position.get(id(variable))
            if column is None:
                raise ValueError(f"{owner.name} uses a variable that is not in the model")
            terms[column] = terms.get(column, 0.0) + float(coefficient)
        return terms, float(found.constant)

    def _lean(self, expression: Any) -> tuple[dict[int, float], float]:
        position = self._position
        terms: dict[int, float] = {}
        constant = 0.0
        stack: list[tuple[float, Any]] = [(1.0, expression)]
        while stack:
            factor, node = stack.pop()
            kind = node.__class__
            if kind is MonomialTermExpression:
                coefficient, variable = node.args
                number = coefficient if coefficient.__class__ in native_numeric_types else value(coefficient)
                column = position[id(variable)]
                terms[column] = terms.get(column, 0.0) + factor * number
            elif kind is LinearExpression or kind is SumExpression:
                stack.extend((factor, part) for part in reversed(node.args))
            elif kind in native_numeric_types:
                constant += factor * node
            elif not node.is_potentially_variable():
                constant += factor * value(node)
            elif node.is_variable_type():
                column = position[id(node)]
                terms[column] = terms.get(column, 0.0) + factor
            else:
                stack.append(_unwrapped(factor, node, kind))
        return terms, constant


def _unwrapped(factor: float, node: Any, kind: type) -> tuple[float, Any]:
    """One step into an expression that scales or names another."""
    if kind is NegationExpression:
        return -factor, node.args[0]
    if kind is ProductExpression:
        left, right = node.args
        if _is_number(left):
            return factor * value(left), right
        if _is_number(right):
            return factor * value(right), left
    if kind is DivisionExpression and _is_number(node.args[1]):
        return factor / value(node.args[1]), node.args[0]
    if node.is_named_expression_type():
        return factor, node.args[0]
    raise _Unknown


def _is_number(node: Any) -> bool:
    return node.__class__ in native_numeric_types or not node.is_potentially_variable()

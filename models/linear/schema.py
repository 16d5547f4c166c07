"""The Problem and Plan of a raw program: arrays of columns, rows and entries in, arrays of values and prices out.

Columns and rows are known by their position, counted from 0, and by their name. README.md has the maths.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.contract import ContradictionError, Sense
from models.linear.checks import errors
from models.vocabulary import Count, Document

LONGEST_NAME = 255  # what solvers and the MPS format take

Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Names = tuple[Name, ...]
Number = Annotated[float, Field(allow_inf_nan=False)]
Numbers = tuple[Number, ...]
Limits = tuple[Number | None, ...]


class Rule(StrEnum):
    """The names of what a plan obeys: its rows and bounds, and, of the prices of a linear program, what makes them a proof."""

    row = "row"
    bound = "bound"
    integrality = "integrality"
    dual_sign = "dual_sign"
    reduced_cost = "reduced_cost"
    strong_duality = "strong_duality"


class GoalName(StrEnum):
    """The one goal of a program."""

    objective = "objective"


class Columns(Document):
    """What is decided: one number for each column. All arrays have one item for each column."""

    names: Names | None = Field(default=None, description="A name for each column, all different; left out: x0, x1, x2, ...")
    cost: Numbers = Field(min_length=1, description="What one unit of each column adds to the objective.")
    lower: Limits | None = Field(default=None, description="Smallest value of each column, null: none; left out: 0 for all.")
    upper: Limits | None = Field(default=None, description="Largest value of each column, null: none; left out: none for all.")
    integer: tuple[bool, ...] | None = Field(default=None, description="Whether each column takes whole numbers only; left out: none does.")


class Rows(Document):
    """What must hold: each row's sum lies between its two sides. All arrays have one item for each row."""

    names: Names | None = Field(default=None, description="A name for each row, all different; left out: r0, r1, r2, ...")
    lower: Limits | None = Field(default=None, description="Smallest sum of each row, null: none; left out: none for all.")
    upper: Limits | None = Field(default=None, description="Largest sum of each row, null: none; left out: none for all.")

    @property
    def count(self) -> int:
        """How many rows, by the first array that is given."""
        return next((len(given) for given in (self.names, self.lower, self.upper) if given is not None), 0)


class Entries(Document):
    """The non-zero coefficients, in any order: item k puts ``values[k]`` times column ``columns[k]`` into row ``rows[k]``."""

    rows: tuple[Count, ...] = Field(default=(), description="Row of each entry, counted from 0.")
    columns: tuple[Count, ...] = Field(default=(), description="Column of each entry, counted from 0.")
    values: Numbers = Field(default=(), description="Coefficient of each entry: units of the row for each unit of the column.")


class Problem(Document):
    """Minimise or maximise ``cost x + offset`` with every row between its sides and every column between its bounds."""

    schema_version: Literal[1] = 1
    sense: Sense = Sense.minimise
    offset: Number = Field(default=0.0, description="A constant added to the objective, in the objective's unit.")
    columns: Columns
    rows: Rows = Rows()
    entries: Entries = Entries()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ContradictionError.refuse(errors(self))
        return self

    def ordered_goals(self) -> tuple[GoalName, ...]:
        """The one goal."""
        return (GoalName.objective,)


class Plan(Document):
    """A value for each column, in the order of the problem's columns; of a linear program also the prices that prove it best."""

    schema_version: Literal[1] = 1
    values: Numbers = Field(description="Value of each column.")
    row_duals: Numbers | None = Field(
        default=None, description="Change of the objective for each unit by which a row's active side is raised; null with integer columns."
    )
    reduced_costs: Numbers | None = Field(
        default=None, description="Change of the objective for each unit by which a column is raised; null with integer columns."
    )


def example() -> Problem:
    """A small linear program: see ``examples.lp``."""
    from models.linear.examples import lp

    return lp()

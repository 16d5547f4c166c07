"""The vocabulary in which the rules and goals of the formulation are written: columns, sums of columns, rows.

Only ``formulation.py`` knows Pyomo; it hands the others a ``Rows`` to write to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

Ids = tuple[str, ...]
Values = dict[str, dict[Ids, float]]
Handle = Any  # a column: a Pyomo variable, which has no type


@dataclass(frozen=True, slots=True)
class Column:
    """A variable from 0 to ``upper``."""

    upper: float
    integer: bool = True


Columns = dict[str, dict[Ids, Column]]


class Terms:
    """A linear expression in the making: ``sum of coefficient * column, plus constant``."""

    __slots__ = ("coefficients", "columns", "constant")

    def __init__(self, constant: float = 0.0) -> None:
        self.coefficients: list[float] = []
        self.columns: list[Handle] = []
        self.constant = constant

    def add(self, coefficient: float, column: Handle) -> Terms:
        """Add one column; a coefficient of 0 is left out."""
        if coefficient:
            self.coefficients.append(coefficient)
            self.columns.append(column)
        return self

    def plus(self, other: Terms, factor: float = 1.0) -> Terms:
        """Add ``factor`` times another expression."""
        if factor:
            self.coefficients.extend(factor * coefficient for coefficient in other.coefficients)
            self.columns.extend(other.columns)
            self.constant += factor * other.constant
        return self

    def merged(self) -> tuple[list[float], list[Handle]]:
        """Coefficients and columns, each column once."""
        if len({id(column) for column in self.columns}) == len(self.columns):
            return self.coefficients, self.columns
        sums: dict[int, float] = {}
        first: dict[int, Handle] = {}
        for coefficient, column in zip(self.coefficients, self.columns, strict=True):
            sums[id(column)] = sums.get(id(column), 0.0) + coefficient
            first[id(column)] = column
        kept = [key for key, coefficient in sums.items() if coefficient]
        return [sums[key] for key in kept], [first[key] for key in kept]


class Rows(Protocol):
    """What the rules and goals write to."""

    @property
    def columns(self) -> Mapping[str, Mapping[Ids, Handle]]:
        """Every declared column by name and ids; a name without columns is an empty mapping."""
        ...

    def row(self, name: str, ids: Ids, terms: Terms, *, lower: float | None = None, upper: float | None = None) -> None:
        """State ``lower <= terms <= upper`` under a name; the same name and ids at most once."""
        ...

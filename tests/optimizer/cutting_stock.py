"""One-dimensional cutting stock, for the tests of the drivers: rolls of one length, widths in demand, as few rolls as possible."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np

from models.contract import NewColumns
from models.program import Floats, LinearProgram
from models.program_builder import ProductIds, ProgramBuilder

Pattern = tuple[int, ...]


@dataclass(frozen=True)
class Stock:
    """``widths`` and ``demand``, shape (widths,), to be cut from rolls of ``length``."""

    length: int
    widths: tuple[int, ...]
    demand: tuple[int, ...]

    def patterns(self) -> list[Pattern]:
        """Every way to cut one roll."""
        counts = [range(self.length // width + 1) for width in self.widths]
        return [cut for cut in product(*counts) if sum(map(int.__mul__, cut, self.widths)) <= self.length]

    def program(self, patterns: list[Pattern], *, integer: bool = False, most: float = np.inf) -> LinearProgram:
        """Rolls cut by each of the patterns."""
        builder = ProgramBuilder()
        ids = [(pattern,) for pattern in patterns]
        builder.add_columns("cut", ids, cost=1.0, upper=most, integer=integer)
        entries = np.array(patterns, dtype=np.float64).T
        row, column = np.nonzero(entries)
        builder.add_rows(
            "demand",
            ProductIds(self.widths),
            lower=np.array(self.demand, dtype=np.float64),
            row_index=row,
            column_index=column,
            coefficient=entries[row, column],
        )
        return builder.build()

    def best_pattern(self, gains: Floats) -> tuple[float, Pattern]:
        """The most valuable way to cut one roll, by dynamic programming over its length."""
        best, last = np.zeros(self.length + 1), np.full(self.length + 1, -1)
        for used in range(1, self.length + 1):
            best[used] = best[used - 1]
            for place, width in enumerate(self.widths):
                if width <= used and best[used - width] + gains[place] > best[used] + 1e-12:
                    best[used], last[used] = best[used - width] + gains[place], place
        pattern, left = [0] * len(self.widths), self.length
        while left > 0:
            if last[left] < 0:
                left -= 1
            else:
                pattern[last[left]] += 1
                left -= self.widths[last[left]]
        return float(best[-1]), tuple(pattern)


@dataclass
class Cutting:
    """The column source: starts with one width a roll, adds the pattern that a knapsack finds. ``most``: rolls there can be."""

    stock: Stock
    most: int
    patterns: list[Pattern] = field(default_factory=list)
    priced: int = 0

    def master(self) -> LinearProgram:
        count = len(self.stock.widths)
        self.patterns = [
            tuple(self.stock.length // width if place == at else 0 for place in range(count)) for at, width in enumerate(self.stock.widths)
        ]
        return self.stock.program(self.patterns)

    def price(self, row_duals: Floats) -> NewColumns:
        self.priced += 1
        value, pattern = self.stock.best_pattern(row_duals)
        rows = np.flatnonzero(pattern)
        gain = max(0.0, value - 1.0)
        new = gain > 1e-9 and pattern not in self.patterns
        if new:
            self.patterns.append(pattern)
        return NewColumns(
            cost=np.ones(int(new)),
            lower=np.zeros(int(new)),
            upper=np.full(int(new), np.inf),
            starts=np.array([0, len(rows)] if new else [0]),
            indices=rows if new else rows[:0],
            values=np.array(pattern, dtype=np.float64)[rows] if new else np.zeros(0),
            # No optimal plan cuts more rolls than `most`, and no roll gains more than the best pattern.
            excess=gain * self.most,
        )


def random_stock(rng: np.random.Generator) -> Stock:
    """A few widths, small enough to enumerate every pattern."""
    widths = tuple(sorted(rng.choice(np.arange(11, 60), size=int(rng.integers(3, 6)), replace=False).tolist()))
    return Stock(100, widths, tuple(rng.integers(5, 60, size=len(widths)).tolist()))

"""Linear programs that move along a line, random ones and known ones, and their optima by another solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linprog

from models.catalogue import kind
from models.program import LinearProgram, row_starts

if TYPE_CHECKING:
    from models.program import Floats

FINITE, INFEASIBLE, UNBOUNDED = 0, 2, 3  # scipy's


def dense(
    cost: Floats,
    matrix: Floats,
    row_lower: Floats,
    row_upper: Floats,
    *,
    upper: Floats | None = None,
    lower: Floats | None = None,
    maximise: bool = False,
    offset: float = 0.0,
) -> LinearProgram:
    """A program from a dense matrix; columns are 0 or more."""
    rows, at = np.nonzero(matrix)
    count = len(cost)
    return LinearProgram(
        maximise=maximise,
        cost=cost,
        column_lower=np.zeros(count) if lower is None else lower,
        column_upper=np.full(count, np.inf) if upper is None else upper,
        integer=np.zeros(count, dtype=np.bool_),
        row_lower=row_lower,
        row_upper=row_upper,
        starts=row_starts(rows, len(matrix)),
        indices=at,
        coefficients=matrix[rows, at],
        offset=offset,
    )


def optimum(program: LinearProgram) -> tuple[int, float]:
    """Scipy's status and the optimal value."""
    sign = -1.0 if program.maximise else 1.0
    matrix = np.zeros((program.rows, program.columns))
    matrix[program.entry_rows, program.indices] = program.coefficients
    above, below = np.isfinite(program.row_upper), np.isfinite(program.row_lower)
    sides = np.concatenate((program.row_upper[above], -program.row_lower[below]))
    found = linprog(
        sign * program.cost,
        np.vstack((matrix[above], -matrix[below])),
        sides,
        bounds=np.column_stack((program.column_lower, program.column_upper)),
        method="highs",
    )
    return int(found.status), np.nan if found.status else sign * found.fun + program.offset


@dataclass
class RandomMoving:
    """A random program of small whole numbers, half of them degenerate, as a function of one number from 0 to 3."""

    seed: int
    costs: bool

    def __post_init__(self) -> None:
        """Draw everything."""
        rng = np.random.default_rng(self.seed)
        rows, columns = int(rng.integers(2, 7)), int(rng.integers(2, 9))
        self.matrix = rng.integers(-3, 5, (rows, columns)) * (rng.random((rows, columns)) < 0.8).astype(float)
        self.cost = rng.integers(-5, 6, columns).astype(float)
        self.maximise = bool(rng.random() < 0.5)
        self.upper_side = rng.integers(0, 15, rows).astype(float)
        self.lower_side = np.where(rng.random(rows) < 0.3, self.upper_side - rng.integers(0, 6, rows), -np.inf)
        self.upper = np.where(rng.random(columns) < (0.45 if self.costs else 0.7), rng.integers(1, 9, columns).astype(float), np.inf)
        self.side_step = rng.integers(-5, 6, rows).astype(float)
        self.lower_step = np.minimum(self.side_step, rng.integers(-3, 4, rows)) if rng.random() < 0.3 else self.side_step
        self.upper_step = rng.integers(0, 3, columns) * (rng.random(columns) < 0.4)
        self.cost_step = rng.integers(-5, 6, columns).astype(float)
        self.offset_step = float(rng.integers(-3, 4))

    def at(self, value: float) -> LinearProgram:
        """The program at one value."""
        if self.costs:
            cost = self.cost + value * self.cost_step
            sides, upper = (self.lower_side, self.upper_side), self.upper
        else:
            cost = self.cost
            sides = self.lower_side + value * self.lower_step, self.upper_side + value * self.side_step
            upper = self.upper + value * self.upper_step
        return dense(cost, self.matrix, *sides, upper=upper, maximise=self.maximise, offset=self.offset_step * value)


def wyndor(doors: float = 3.0, windows: float = 5.0, plant_2: float = 12.0) -> LinearProgram:
    """Wyndor Glass (Hillier and Lieberman, Introduction to Operations Research)."""
    matrix = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 2.0]])
    return dense(np.array([doors, windows]), matrix, np.full(3, -np.inf), np.array([4.0, plant_2, 18.0]), maximise=True)


def wan_at(capacity_gbps: float) -> Any:
    """The example of a wide area network with another capacity of its first link."""
    flow = kind("flow")
    told = flow.part("examples").examples()["wan"].model_dump(mode="json")
    told["links"][0]["capacity_gbps"] = capacity_gbps
    return flow.problem.model_validate(told)

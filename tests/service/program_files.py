"""Small MPS and LP files, whole and broken, and random programs written as both."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from models.linear.schema import Problem
from models.program import LinearProgram
from service.importers.program import read
from tests.optimizer.oracle import dense

MPS = """NAME t
ROWS
 N  cost
 L  cap
 G  need
 E  eq
COLUMNS
    x  cost 1 cap 1
    x  need 1
    y  cost 2 cap 1
    y  eq 1
RHS
    rhs cap 10 need 1
    rhs eq 2
BOUNDS
 UP bnd x 4
ENDATA
"""
LP = """\\ a comment
Maximize
 obj: x + 2 y - 3.5 z + 2
Subject To
 c1: x + y >= 2
 c2: - x + y <= 5
 2 x + 3y - z = 4
Bounds
 x <= 4
 -2 <= y <= 8
 z free
Generals
 y
Binary
 b
End
"""
MOST = {"most_rows": 100, "most_columns": 100, "most_entries": 1000}


def readings(text: str, form: str, **most: int) -> dict[str, Any]:
    return read(text.encode(), form, **(MOST | most))


def problem(text: str, form: str) -> Problem:
    found = readings(text, form)
    assert "errors" not in found, found
    return Problem.model_validate_json(found["body"])


def mistake(text: str, form: str, **most: int) -> tuple[str, str]:
    """The code and the words of the only mistake."""
    found = readings(text, form, **most)
    assert list(found) == ["errors"], json.dumps(found, default=str)
    assert all(list(one) == ["pointer", "code", "detail"] for one in found["errors"])
    return found["errors"][0]["code"], found["errors"][0]["detail"]


def as_lp(program: LinearProgram) -> str:
    """The program in LP format; rows with two sides as two rows, and rows or columns without use left out of nothing."""
    matrix = dense(program)
    lines = ["Maximize" if program.maximise else "Minimize", f" obj: {_sum(program.cost)} {program.offset:+.17g}", "Subject To"]
    for row in range(program.rows):
        low, high = program.row_lower[row], program.row_upper[row]
        if low == high:
            lines.append(f" e{row}: {_sum(matrix[row])} = {low:.17g}")
            continue
        if np.isfinite(low):
            lines.append(f" l{row}: {_sum(matrix[row])} >= {low:.17g}")
        if np.isfinite(high):
            lines.append(f" u{row}: {_sum(matrix[row])} <= {high:.17g}")
    lines.append("Bounds")
    for column in range(program.columns):
        low, high = program.column_lower[column], program.column_upper[column]
        lines.append(f" {_end(low)} <= v{column} <= {_end(high)}")
    lines += ["Generals", *(f" v{column}" for column in np.flatnonzero(program.integer)), "End", ""]
    return "\n".join(lines)


def _end(value: float) -> str:
    return f"{value:.17g}" if np.isfinite(value) else "+inf" if value > 0 else "-inf"


def _sum(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    return " ".join(f"{value:+.17g} v{column}" for column, value in enumerate(values))

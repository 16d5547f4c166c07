"""What is wrong with a raw program: lists that do not fit together, numbers no solver handles, and what is odd.

Every finding has a JSON pointer to its place, a stable code, and one sentence that names the cure. All checks are single
passes over arrays, because a program may hold millions of entries and is checked each time it is made.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from models.contract import Warned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Sized

    from models.linear.arrays import Arrays
    from models.linear.schema import Problem
    from models.program import Bools, Floats

MAX_ERRORS = 10  # enough to correct a file in one go; a broken generator makes the same mistake 10,000 times
MAX_WARNINGS = 100
LARGEST = 1e15  # HiGHS refuses larger coefficients, and beyond it doubles are more than 0.1 apart
SMALLEST = 1e-9  # HiGHS takes coefficients up to this for 0, which would solve another program than the one given
SPREAD = 1e10  # ratio of the largest to the smallest coefficient beyond which tolerances blur the small ones


def errors(problem: Problem) -> tuple[Warned, ...]:
    """The first MAX_ERRORS mistakes; where lists differ in length, only that."""
    from models.linear.arrays import arrays_of

    found = tuple(_lengths(problem))
    if not found:
        arrays = arrays_of(problem)
        found = tuple(islice(chain(_names(problem), _magnitudes(problem, arrays), _crossed(arrays), _entries(arrays)), MAX_ERRORS))
    return found


def warnings(problem: Problem) -> tuple[Warned, ...]:
    """The first MAX_WARNINGS things in a valid program that are legal but probably not meant."""
    from models.linear.arrays import arrays_of

    arrays = arrays_of(problem)
    return tuple(islice(chain(_aimless(arrays), _hopeless_rows(problem, arrays), _spread(arrays)), MAX_WARNINGS))


# ---------------------------------------------------------------- errors


def _lengths(problem: Problem) -> Iterator[Warned]:
    columns, rows, entries = problem.columns, problem.rows, problem.entries
    lists: dict[str, tuple[int, str, dict[str, Sized | None]]] = {
        "columns": (
            len(columns.cost),
            "one for each cost",
            {name: getattr(columns, name) for name in ("names", "lower", "upper", "integer")},
        ),
        "rows": (rows.count, "one for each row", {name: getattr(rows, name) for name in ("names", "lower", "upper")}),
        "entries": (len(entries.values), "one for each value", {name: getattr(entries, name) for name in ("rows", "columns")}),
    }
    for part, (count, which, arrays) in lists.items():
        for name, given in arrays.items():
            if given is not None and len(given) != count:
                detail = f"has {len(given):,} items, expected {count:,}, {which}; make the lists of {part} equally long"
                yield Warned(f"/{part}/{name}", "wrong_length", detail)


def _names(problem: Problem) -> Iterator[Warned]:
    for part, names in (("columns", problem.columns.names), ("rows", problem.rows.names)):
        if names is None or len(set(names)) == len(names):
            continue
        seen: dict[str, int] = {}
        for place, name in enumerate(names):
            first = seen.setdefault(name, place)
            if first != place:
                detail = f"the name '{name}' is already that of item {first}; give each of the {part} its own name"
                yield Warned(f"/{part}/names/{place}", "duplicate_name", detail)


def _magnitudes(problem: Problem, arrays: Arrays) -> Iterator[Warned]:
    if abs(problem.offset) > LARGEST:
        yield Warned("/offset", "too_large", f"{problem.offset:g} is beyond {LARGEST:g}; measure the objective in a larger unit")
    sides = "write null where there is no such limit, or use a larger unit"
    scaled = "measure the row or the column in a larger unit"
    checked: tuple[tuple[str, Floats, str], ...] = (
        ("/columns/cost", arrays.cost, "measure the objective in a larger unit"),
        ("/columns/lower", arrays.column_lower, sides),
        ("/columns/upper", arrays.column_upper, sides),
        ("/rows/lower", arrays.row_lower, sides),
        ("/rows/upper", arrays.row_upper, sides),
        ("/entries/values", arrays.entry_value, scaled),
    )
    for pointer, numbers, cure in checked:
        for place in _first((np.abs(numbers) > LARGEST) & np.isfinite(numbers)):
            yield Warned(f"{pointer}/{place}", "too_large", f"{numbers[place]:g} is beyond {LARGEST:g}, the largest that is exact; {cure}")
    for place in _first((np.abs(arrays.entry_value) <= SMALLEST) & (arrays.entry_value != 0.0)):
        detail = f"{arrays.entry_value[place]:g} is so small that solvers take it for 0; leave it out, or measure in a smaller unit"
        yield Warned(f"/entries/values/{place}", "too_small", detail)


def _crossed(arrays: Arrays) -> Iterator[Warned]:
    for part, lower, upper in (("columns", arrays.column_lower, arrays.column_upper), ("rows", arrays.row_lower, arrays.row_upper)):
        for place in _first(lower > upper):
            detail = f"{lower[place]:g} is more than the upper limit {upper[place]:g}; exchange or correct them"
            yield Warned(
                f"/{part}/lower/{place}" if part == "rows" or np.isfinite(lower[place]) else f"/{part}/upper/{place}", "crossed", detail
            )


def _entries(arrays: Arrays) -> Iterator[Warned]:
    for name, part, at, count in (
        ("rows", "row", arrays.entry_row, arrays.rows),
        ("columns", "column", arrays.entry_column, arrays.columns),
    ):
        for place in _first(at >= count):
            there = f"the last one is {count - 1:,}" if count else "there is none"
            detail = f"there is no {part} {at[place]:,}; {there}, counted from 0"
            yield Warned(f"/entries/{name}/{place}", "unknown_index", detail)
    keys = arrays.entry_row * max(1, arrays.columns) + arrays.entry_column
    if (np.diff(keys) > 0).all():
        return
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(np.diff(keys[order]) == 0)
    for place, first in sorted(zip(order[again + 1].tolist(), order[again].tolist(), strict=True))[:MAX_ERRORS]:
        detail = f"row {arrays.entry_row[place]} and column {arrays.entry_column[place]} have an entry already, item {first}; add them up"
        yield Warned(f"/entries/values/{place}", "duplicate_entry", detail)


def _first(mask: Bools) -> Sequence[int]:
    found: list[int] = np.flatnonzero(mask)[:MAX_ERRORS].tolist()
    return found


# ---------------------------------------------------------------- warnings


def _aimless(arrays: Arrays) -> Iterator[Warned]:
    if not arrays.cost.any():
        yield Warned(
            "/columns/cost", "no_objective", "all costs are 0, so that every feasible plan is as good; give costs if one is better"
        )


def _hopeless_rows(problem: Problem, arrays: Arrays) -> Iterator[Warned]:
    """Rows and columns whose own numbers leave no value, whatever the rest says."""
    from models.linear.arrays import column_names, row_names

    entries = np.bincount(arrays.entry_row, minlength=arrays.rows)
    for place in np.flatnonzero((entries == 0) & ((arrays.row_lower > 0) | (arrays.row_upper < 0)))[:MAX_WARNINGS].tolist():
        detail = f"row '{row_names(problem)[place]}' has no entries and excludes 0: nothing is feasible; give it entries or other sides"
        yield Warned(f"/rows/{'lower' if arrays.row_lower[place] > 0 else 'upper'}/{place}", "empty_row", detail)
    nothing = arrays.integer & (np.ceil(arrays.column_lower) > np.floor(arrays.column_upper))
    for place in np.flatnonzero(nothing)[:MAX_WARNINGS].tolist():
        detail = f"no whole number lies between the bounds of column '{column_names(problem)[place]}': nothing is feasible; widen them"
        yield Warned(f"/columns/integer/{place}", "no_whole_number", detail)


def _spread(arrays: Arrays) -> Iterator[Warned]:
    sizes = np.abs(arrays.entry_value[arrays.entry_value != 0.0])
    if len(sizes) and sizes.max() > SPREAD * sizes.min():
        detail = f"coefficients range from {sizes.min():g} to {sizes.max():g}: tolerances blur the small ones; choose closer units"
        yield Warned("/entries/values", "wide_range", detail)

"""A program as it is read from a file, piece by piece: what the readers of MPS and LP files fill, within limits.

The readers are strict: where readers of these formats disagree, or quietly repair, the file is refused with the line and the cure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

LONGEST_NAME = 255
INFINITE = 1e20  # from here on a number in a file means "no limit", by old custom


class FileMistakeError(ValueError):
    """The file cannot be taken as it is: a stable code, and where, what and the cure in words."""

    def __init__(self, code: str, detail: str, line: int | None = None) -> None:
        """``line`` counts from 1."""
        self.code = code
        self.detail = f"line {line:,}: {detail}" if line is not None else detail
        super().__init__(self.detail)


@dataclass(frozen=True, slots=True)
class Most:
    """How large a program may be."""

    rows: int
    columns: int
    entries: int

    def check(self, what: str, count: int) -> None:
        """Raises FileMistakeError when there are too many ``what`` (rows, columns, entries)."""
        most = getattr(self, what)
        if count > most:
            raise FileMistakeError("too_large", f"there are more than {most:,} {what}, the most that are taken; send a smaller program")


@dataclass(slots=True)
class Draft:
    """The program so far, in the order of the file. ``warnings`` are what was decided where the file does not say."""

    most: Most
    maximise: bool = False
    offset: float = 0.0
    column_at: dict[str, int] = field(default_factory=dict)
    cost: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    row_names: list[str | None] = field(default_factory=list)
    row_at: dict[str, int] = field(default_factory=dict)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)
    entry_row: list[int] = field(default_factory=list)
    entry_column: list[int] = field(default_factory=list)
    entry_value: list[float] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def add_column(self, name: str, line: int) -> int:
        """A new column with the bounds 0 and none; its position."""
        at = len(self.cost)
        if self.column_at.setdefault(_fitting(name, line), at) != at:
            raise FileMistakeError("duplicate_name", f"the column '{name}' is named before; keep all its lines together", line)
        self.most.check("columns", at + 1)
        self.cost.append(0.0)
        self.lower.append(0.0)
        self.upper.append(math.inf)
        self.integer.append(False)
        return at

    def add_row(self, name: str | None, lower: float, upper: float, line: int) -> int:
        """A new row, nameless when ``name`` is None; its position."""
        at = len(self.row_names)
        if name is not None and self.row_at.setdefault(_fitting(name, line), at) != at:
            raise FileMistakeError("duplicate_name", f"the row '{name}' is named before; give each row its own name", line)
        self.most.check("rows", at + 1)
        self.row_names.append(name)
        self.row_lower.append(lower)
        self.row_upper.append(upper)
        return at

    def add_entry(self, row: int, column: int, value: float) -> None:
        """A coefficient; a zero is dropped."""
        if value != 0.0:
            self.most.check("entries", len(self.entry_value) + 1)
            self.entry_row.append(row)
            self.entry_column.append(column)
            self.entry_value.append(value)

    def all_row_names(self) -> list[str]:
        """The rows' names; the nameless get ``r`` and their position, with underscores where that is taken."""
        names = []
        for at, name in enumerate(self.row_names):
            made = name or f"r{at}"
            while name is None and made in self.row_at:
                made += "_"
            names.append(made)
        return names


def number(text: str, line: int, *, endless: bool = False) -> float:
    """A number in the file; ``endless`` takes infinities too, and 1e20 and beyond for them. Raises FileMistakeError."""
    try:
        value = float(text)
    except ValueError:
        try:
            value = float(text.lower().replace("d", "e", 1))  # as Fortran writes exponents
        except ValueError:
            value = math.nan
    if math.isnan(value) or "_" in text or not text.isascii():
        raise FileMistakeError("not_a_number", f"'{text[:40]}' is not a number; write one, such as 1.5 or 2e3", line)
    if endless:
        return math.copysign(math.inf, value) if abs(value) >= INFINITE else value
    if math.isinf(value):
        raise FileMistakeError("not_a_number", f"'{text[:40]}' is infinite, which means nothing here; write a finite number", line)
    return value


def _fitting(name: str, line: int) -> str:
    if len(name) > LONGEST_NAME:
        raise FileMistakeError("name_too_long", f"the name '{name[:40]}...' has more than {LONGEST_NAME} characters; shorten it", line)
    return name

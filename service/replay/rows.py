"""Lines of CSV files, with complaints that name file, line and column."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

from service.importers.failures import ImportFileError, text_of
from service.replay.jobs import ReplayError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGEST_COUNT = 10**15
LARGEST_S = 1e12


@dataclass(frozen=True, slots=True)
class Row:
    """One line: its place, and its values by column. A column that the file does not have is empty."""

    path: Path
    line: int
    values: dict[str, str]

    def error(self, column: str, what: str) -> ReplayError:
        """The complaint about one value."""
        return ReplayError(f"{self.path}: line {self.line}, column '{column}': {what}")

    def text(self, column: str) -> str:
        """The value without blanks around it."""
        return self.values.get(column, "").strip()

    def name(self, column: str) -> str:
        """A value that is not empty."""
        value = self.text(column)
        if not value:
            raise self.error(column, "is empty; give it a name")
        return value

    def count(self, column: str, usual: int | None = None) -> int:
        """A whole number of 0 or more; ``usual`` where the value is empty and there is one."""
        text = self.text(column)
        if not text and usual is not None:
            return usual
        if not (text.isascii() and text.isdigit()) or int(text) > LARGEST_COUNT:
            raise self.error(column, f"must be a whole number of 0 or more, not '{text[:40]}'; correct it")
        return int(text)

    def number(self, column: str, usual: float | None = None) -> float:
        """A number from 0 on; ``usual`` where the value is empty and there is one."""
        text = self.text(column)
        if not text and usual is not None:
            return usual
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not 0 <= found <= LARGEST_S:
            raise self.error(column, f"must be a number from 0 to {LARGEST_S:g}, not '{text[:40]}'; correct it")
        return found


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """The lines of a CSV file, packed by gzip or not. Raises ReplayError where it cannot be read or lacks one of ``columns``."""
    try:
        text = text_of(path)
    except ImportFileError as error:
        raise ReplayError(str(error)) from None
    reader = csv.DictReader(StringIO(text, newline=""))
    try:
        fields = list(reader.fieldnames or ())
        missing = [column for column in columns if column not in fields]
        if missing:
            have = ", ".join(fields[:12])[:200] or "nothing"
            raise ReplayError(f"{path}: line 1: there is no column '{missing[0]}'; the file needs {', '.join(columns)} and has {have}")
        for values in reader:
            if None in values or None in values.values():
                raise ReplayError(f"{path}: line {reader.line_num}: has not as many fields as line 1 ({len(fields)}); correct the line")
            yield Row(path, reader.line_num, values)
    except csv.Error as error:
        raise ReplayError(f"{path}: is not a CSV file ({error}); give one with a line for each entry") from None

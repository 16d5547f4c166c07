"""Reads MPS files, strictly: free format, and fixed format without spaces in names.

Taken: NAME, OBJSENSE, ROWS (N, L, G, E), COLUMNS with integer markers, RHS, RANGES, BOUNDS (LO, UP, FX, FR, MI, PL, BV, LI,
UI), ENDATA. The first N row is the objective (its right-hand side counts negatively); further N rows are left out, with a warning.
Refused, because readers disagree on the meaning: a negative UP bound without a lower one, two sets of right-hand
sides or bounds, a side or an entry given twice, a column in two places.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from service.importers.program_draft import Draft, FileMistakeError, Most, number

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTIONS = ("NAME", "OBJSENSE", "ROWS", "COLUMNS", "RHS", "RANGES", "BOUNDS", "ENDATA")
REFUSED = {
    "quadratic terms": ("QUADOBJ", "QMATRIX", "QSECTION", "QCMATRIX"),
    "special ordered sets": ("SOS", "SOS1", "SOS2", "SETS"),
    "cones": ("CSECTION",),
    "indicator constraints": ("INDICATORS",),
    "general constraints": ("GENCONS", "PWLOBJ", "PWLNAM", "PWLCON"),
    "several objectives": ("OBJECT", "OBJNAME", "MULTIOBJ", "OBJECTIVES"),
    "lazy constraints and cuts": ("LAZYCONS", "USERCUTS"),
}
SENSES = {"MIN": False, "MINIMIZE": False, "MINIMISE": False, "MAX": True, "MAXIMIZE": True, "MAXIMISE": True}
VALUELESS = ("FR", "MI", "PL", "BV")
VALUED = ("LO", "UP", "FX", "LI", "UI")
SEMI = ("SC", "SI")


def read_mps(text: str, most: Most) -> Draft:
    """The program of an MPS file; raises FileMistakeError."""
    return _Reader(most).read(text)


class _Reader:
    """One file on its way into a Draft."""

    def __init__(self, most: Most) -> None:
        self._draft = Draft(most)
        self._sides: list[str] = []  # the type of each row: L, G or E
        self._free_rows: dict[str, int] = {}  # N rows; the first is the objective
        self._rhs: dict[int, float] = {}
        self._ranges: dict[int, float] = {}
        self._seen: dict[str, str] = {}  # the set's name in each of RHS, RANGES, BOUNDS
        self._bounded: dict[int, set[str]] = {}  # sides given by BOUNDS, by column
        self._marked: set[int] = set()
        self._whole = False
        self._column: tuple[str, int] | None = None
        self._rows_of_column: set[str] = set()

    def read(self, text: str) -> Draft:
        """All sections in the order of the file."""
        section, done = "", set[str]()
        sections = {"ROWS": self._row, "COLUMNS": self._entries, "RHS": self._right, "RANGES": self._range, "BOUNDS": self._bound}
        for line, words, starts in _lines(text):
            header = self._header(line, words) if starts else None
            if header is not None:
                if header in done and header != "NAME":
                    raise FileMistakeError("section_twice", f"the section {header} is there already; keep one of them", line)
                section = header
                done.add(header)
                if header == "ENDATA":
                    return self._finished(done)
            elif section == "OBJSENSE":
                self._sense(line, words)
            elif section in sections:
                sections[section](line, words)
            else:
                raise FileMistakeError(
                    "no_section", f"'{words[0][:40]}' stands outside all sections; an MPS file starts with NAME or ROWS", line
                )
        raise FileMistakeError("cut_off", "the file ends without ENDATA, so a part of it may be missing; send all of it")

    def _header(self, line: int, words: list[str]) -> str | None:
        """The section that a line starting in the first column begins, None for data."""
        word = words[0].upper()
        for what, names in REFUSED.items():
            if word in names:
                raise FileMistakeError(
                    "unsupported", f"the section {word} has {what}; only linear and mixed-integer programs are taken", line
                )
        if word == "OBJSENSE" and len(words) == 2:  # noqa: PLR2004
            self._sense(line, words[1:])
            return word
        return word if word in SECTIONS and (len(words) == 1 or word == "NAME") else None

    def _sense(self, line: int, words: list[str]) -> None:
        if len(words) != 1 or words[0].upper() not in SENSES:
            raise FileMistakeError("unknown_sense", f"the sense of the objective is MIN or MAX, not '{' '.join(words)[:40]}'", line)
        self._draft.maximise = SENSES[words[0].upper()]

    # ------------------------------------------------------------ rows and columns

    def _row(self, line: int, words: list[str]) -> None:
        if len(words) != 2:  # noqa: PLR2004
            raise FileMistakeError("wrong_fields", "a row is a type and a name without spaces: write for example ' L  cap'", line)
        side, name = words[0].upper(), words[1]
        if side not in ("N", "L", "G", "E"):
            raise FileMistakeError("unknown_row_type", f"a row is of type N, L, G or E, not '{side[:40]}'", line)
        if name in self._free_rows or (side == "N" and name in self._draft.row_at):
            raise FileMistakeError("duplicate_name", f"the row '{name[:40]}' is named before; give each row its own name", line)
        if side == "N":
            if self._free_rows:
                detail = f"the row '{name[:40]}' of type N is left out: the objective is the first such row"
                self._draft.warnings.append(("free_row", detail))
            self._draft.most.check("rows", len(self._free_rows) + 1)
            self._free_rows[name] = len(self._free_rows)
        else:
            self._draft.add_row(name, -math.inf, math.inf, line)
            self._sides.append(side)

    def _entries(self, line: int, words: list[str]) -> None:
        if len(words) >= 3 and words[1].strip("'\"").upper() == "MARKER":  # noqa: PLR2004
            word = words[2].strip("'\"").upper()
            if word not in ("INTORG", "INTEND") or (word == "INTORG") == self._whole:
                raise FileMistakeError("wrong_marker", "the markers INTORG and INTEND come in pairs around integer columns", line)
            self._whole = word == "INTORG"
            return
        if len(words) not in (3, 5):
            detail = "a line of COLUMNS is a column and one or two pairs of a row and a number, all without spaces inside"
            raise FileMistakeError("wrong_fields", detail, line)
        if self._column is None or self._column[0] != words[0]:
            self._column = words[0], self._draft.add_column(words[0], line)
            self._rows_of_column = set()
            self._draft.integer[-1] = self._whole
            if self._whole:
                self._marked.add(self._column[1])
        for name, text in zip(words[1::2], words[2::2], strict=True):
            if name in self._rows_of_column:
                raise FileMistakeError("duplicate_entry", f"column '{words[0]}' names the row '{name}' twice; add the two up", line)
            self._rows_of_column.add(name)
            value = number(text, line)
            if name in self._draft.row_at:
                self._draft.add_entry(self._draft.row_at[name], self._column[1], value)
            elif self._free_row(name, line) == 0:
                self._draft.cost[self._column[1]] = value

    def _free_row(self, name: str, line: int) -> int:
        if name not in self._free_rows:
            raise FileMistakeError("unknown_row", f"there is no row '{name[:40]}' in ROWS; add it there, or correct the name", line)
        return self._free_rows[name]

    # ------------------------------------------------------------ right-hand sides, ranges, bounds

    def _pairs(self, section: str, line: int, words: list[str]) -> Iterator[tuple[str, str]]:
        """Pairs of a row and a number, with or without the set's name before them."""
        if len(words) not in (2, 3, 4, 5):
            raise FileMistakeError("wrong_fields", f"a line of {section} is a set's name and one or two pairs of a row and a number", line)
        if len(words) % 2:
            self._one_set(section, words[0], line)
            words = words[1:]
        yield from zip(words[::2], words[1::2], strict=True)

    def _one_set(self, section: str, name: str, line: int) -> None:
        if self._seen.setdefault(section, name) != name:
            detail = f"'{name[:40]}' is a second set of {section} beside '{self._seen[section][:40]}'; keep the one that is meant"
            raise FileMistakeError("several_sets", detail, line)

    def _right(self, line: int, words: list[str]) -> None:
        for name, text in self._pairs("RHS", line, words):
            value = number(text, line, endless=name in self._draft.row_at)
            row = self._draft.row_at.get(name)
            if row is None:
                if self._free_row(name, line) == 0:
                    self._draft.offset = -value + 0.0
            else:
                self._once(self._rhs, row, value, f"the row '{name}' has a right-hand side", line)

    def _range(self, line: int, words: list[str]) -> None:
        for name, text in self._pairs("RANGES", line, words):
            row = self._draft.row_at.get(name)
            value = number(text, line)
            if row is None:
                self._free_row(name, line)
                raise FileMistakeError("range_of_objective", f"the row '{name}' of type N takes no range; leave it out", line)
            self._once(self._ranges, row, value, f"the row '{name}' has a range", line)

    @staticmethod
    def _once(known: dict[int, float], row: int, value: float, what: str, line: int) -> None:
        if row in known:
            raise FileMistakeError("side_twice", f"{what} already; keep one of them", line)
        known[row] = value

    def _bound(self, line: int, words: list[str]) -> None:
        kind = words[0].upper()
        if kind in SEMI:
            detail = f"a bound {kind} makes a column semi-continuous; only linear and mixed-integer programs are taken"
            raise FileMistakeError("unsupported", detail, line)
        if kind not in VALUED and kind not in VALUELESS:
            raise FileMistakeError("unknown_bound", f"a bound is of type {', '.join(VALUED + VALUELESS)}, not '{words[0][:40]}'", line)
        rest = words[1:]
        if kind in VALUED:
            if len(rest) not in (2, 3):
                raise FileMistakeError("wrong_fields", f"a bound {kind} is a set's name, a column and a number", line)
            *rest, text = rest
            value = number(text, line, endless=True)
        elif len(rest) not in (1, 2):
            raise FileMistakeError("wrong_fields", f"a bound {kind} is a set's name and a column, without a number", line)
        else:
            value = math.nan
        if len(rest) == 2:  # noqa: PLR2004
            self._one_set("BOUNDS", rest[0], line)
        column = self._draft.column_at.get(rest[-1])
        if column is None:
            raise FileMistakeError("unknown_column", f"there is no column '{rest[-1][:40]}' in COLUMNS; correct the name", line)
        self._set(kind, column, value, line)

    def _set(self, kind: str, column: int, value: float, line: int) -> None:
        draft = self._draft
        sides = {"LO": "l", "LI": "l", "MI": "l", "UP": "u", "UI": "u", "PL": "u"}.get(kind, "lu")
        given = self._bounded.setdefault(column, set())
        if given & set(sides):
            raise FileMistakeError("side_twice", "the column has this bound already; keep one of them", line)
        given |= set(sides)
        if kind in ("LI", "UI", "BV"):
            draft.integer[column] = True
        if "l" in sides:
            draft.lower[column] = {"MI": -math.inf, "FR": -math.inf, "BV": 0.0}.get(kind, value)
        if "u" in sides:
            draft.upper[column] = {"PL": math.inf, "FR": math.inf, "BV": 1.0}.get(kind, value)

    # ------------------------------------------------------------ at the end

    def _finished(self, done: set[str]) -> Draft:
        if not {"ROWS", "COLUMNS"} <= done or not self._draft.cost:
            raise FileMistakeError("empty", "there are no columns: a program needs the sections ROWS and COLUMNS, with a column at least")
        if not self._free_rows:
            self._draft.warnings.append(("no_objective", "there is no row of type N: the objective is 0, and any feasible plan is as good"))
        self._close_rows()
        self._close_columns()
        return self._draft

    def _close_rows(self) -> None:
        draft = self._draft
        for row, side in enumerate(self._sides):
            right, span = self._rhs.get(row, 0.0), self._ranges.get(row)
            low, high = right if side in "GE" else -math.inf, right if side in "LE" else math.inf
            if span is not None and side == "E":
                low, high = min(right, right + span), max(right, right + span)
            elif span is not None:
                low, high = (right - abs(span), right) if side == "L" else (right, right + abs(span))
            if low == math.inf or high == -math.inf:
                raise FileMistakeError(
                    "infinite_side", f"no number reaches the side of the row '{draft.row_names[row]}'; correct its right-hand side"
                )
            draft.row_lower[row], draft.row_upper[row] = low, high

    def _close_columns(self) -> None:
        draft = self._draft
        names = list(draft.column_at)
        for column, given in self._bounded.items():
            if "l" not in given and draft.upper[column] < 0:
                detail = (
                    f"column '{names[column]}' has a negative UP bound and no lower one, which some readers take for 0 and some for none"
                )
                raise FileMistakeError("negative_upper", f"{detail}; add an LO or MI bound before it")
        open_ends = [column for column in sorted(self._marked) if column not in self._bounded]
        for column in open_ends:
            draft.upper[column] = 1.0
        if open_ends:
            detail = (
                f"{len(open_ends):,} integer columns between markers without bounds, such as '{names[open_ends[0]]}', are taken as 0 or 1"
            )
            draft.warnings.append(("marked_binary", f"{detail}, by the custom of the format; add bounds where that is not meant"))


def _lines(text: str) -> Iterator[tuple[int, list[str], bool]]:
    """Number, words, and whether it starts in the first column, of each line that is not blank and no comment."""
    for line, content in enumerate(text.splitlines(), 1):
        if content[:1] != "*" and (words := content.split()):
            yield line, words, not content[0].isspace()

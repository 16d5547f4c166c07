"""Reads a linear or mixed-integer program from an MPS or LP file, for whoever does not trust the file.

Two readers read it: our own, strict, which knows the line of a mistake and the limits, and HiGHS's. HiGHS 1.12 silently drops entries
that are given twice, entries in unknown rows, constants in constraints and what follows a number in its word; so the
program is taken only where both readers found exactly the same one.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.contract import Sense
from models.garbage import collection_paused
from models.linear.checks import errors
from models.linear.schema import Columns, Entries, Problem, Rows
from optimizer.backend import SolverError
from optimizer.highs import Engine
from service.importers.lp_format import plain, read_lp
from service.importers.mps import read_mps
from service.importers.program_draft import Draft, FileMistakeError, Most

if TYPE_CHECKING:
    from collections.abc import Callable

READERS = {"mps": read_mps, "lp": read_lp}


def read(data: bytes, format: str, most_rows: int, most_columns: int, most_entries: int) -> dict[str, Any]:  # noqa: A002 - as in requests
    """The program in a file: {"body": JSON of a ``program`` problem, "warnings": [...], "size": {...}}, or {"errors": [...]}.

    ``size`` counts rows, columns, integers and entries. ``format`` is "mps" or "lp"; ``data`` is the text, not compressed. Findings
    are {"pointer", "code", "detail"}; the pointer is "", and the detail begins with the line where one is to blame. To be
    called in a child process: HiGHS may crash on what it is given.
    """
    try:
        with collection_paused():
            text = _text(data)
            draft = _reader(format)(text, Most(most_rows, most_columns, most_entries))
            problem = _problem(draft)
            wrong = errors(problem)
            if wrong:
                return {"errors": [_finding(one.code, _in_names(one.pointer, draft) + one.detail) for one in wrong]}
            _compare(draft, text, format)
            size = {
                "rows": len(draft.row_names),
                "columns": len(draft.cost),
                "integers": sum(draft.integer),
                "entries": len(draft.entry_row),
            }
            return {"body": problem.model_dump_json().encode(), "warnings": [_finding(*one) for one in draft.warnings], "size": size}
    except FileMistakeError as mistake:
        return {"errors": [_finding(mistake.code, mistake.detail)]}


def _reader(form: str) -> Callable[[str, Most], Draft]:
    if form not in READERS:
        raise FileMistakeError("unknown_format", f"a program is read from the formats {', '.join(READERS)}, not '{form[:40]}'")
    return READERS[form]


def _finding(code: str, detail: str) -> dict[str, str]:
    return {"pointer": "", "code": code, "detail": detail}


def _text(data: bytes) -> str:
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise FileMistakeError("not_text", "this is not text in UTF-8; save the file as text, not compressed", line) from None
    for odd in ("\0", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"):
        if odd in text:  # they end lines for one reader and not for the other
            line = text.count("\n", 0, text.index(odd)) + 1
            raise FileMistakeError("not_text", f"the control character {ord(odd):#x} has no place in a program; take it out", line)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _problem(draft: Draft) -> Problem:
    """The draft as a Problem that is not checked yet: its findings are told in the file's names."""
    return Problem.model_construct(
        sense=Sense.maximise if draft.maximise else Sense.minimise,
        offset=draft.offset,
        columns=Columns(
            names=tuple(draft.column_at),
            cost=tuple(draft.cost),
            lower=tuple(map(_side, draft.lower)),
            upper=tuple(map(_side, draft.upper)),
            integer=tuple(draft.integer) if any(draft.integer) else None,
        ),
        rows=Rows(names=tuple(draft.all_row_names()), lower=tuple(map(_side, draft.row_lower)), upper=tuple(map(_side, draft.row_upper))),
        entries=Entries(rows=tuple(draft.entry_row), columns=tuple(draft.entry_column), values=tuple(draft.entry_value)),
    )


def _side(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _in_names(pointer: str, draft: Draft) -> str:
    """``column 'x', lower: `` for ``/columns/lower/0``."""
    part, _, rest = pointer.strip("/").partition("/")
    what, _, place = rest.partition("/")
    if not place.isdigit():
        return f"{part}: " if part else ""
    if part == "entries":
        row, column = draft.entry_row[int(place)], draft.entry_column[int(place)]
        return f"row '{draft.all_row_names()[row]}', column '{list(draft.column_at)[column]}': "
    name = list(draft.column_at)[int(place)] if part == "columns" else draft.all_row_names()[int(place)]
    return f"{part.removesuffix('s')} '{name}', {what}: "


# ---------------------------------------------------------------- what HiGHS reads


def _compare(draft: Draft, text: str, form: str) -> None:
    """Raises FileMistakeError unless HiGHS reads the very same program."""
    engine = Engine()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"program.{form}"
        path.write_text(plain(text) if form == "lp" else text, encoding="utf-8")
        try:
            engine.call("readModel", str(path), warning_is_fine=True)
        except SolverError:
            raise FileMistakeError(
                "unreadable", "HiGHS cannot read the file, though each line looks right; write it in the plainest form of the format"
            ) from None
    lp = engine.get("getLp")
    if engine.get("getHessianNumNz"):
        raise FileMistakeError("unsupported", "the file has quadratic terms; only linear and mixed-integer programs are taken")
    names = list(lp.col_names_)
    if lp.num_col_ != len(draft.cost) or lp.num_row_ != len(draft.row_names) or sorted(names) != sorted(draft.column_at):
        found = f"{lp.num_row_:,} rows and {lp.num_col_:,} columns"
        raise _disagreement(f"HiGHS finds {found}, we find {len(draft.row_names):,} and {len(draft.cost):,}, or other names")
    # HiGHS may order the columns of an LP file in another way.
    order = np.array([draft.column_at[name] for name in names], dtype=np.int64)
    if (lp.sense_.name == "kMaximize") != draft.maximise or lp.offset_ != draft.offset:
        raise _disagreement("they differ in the sense or the constant of the objective")
    rows = draft.all_row_names()
    for told, name in zip(lp.row_names_, draft.row_names, strict=True):
        if name is not None and told != name:
            raise _disagreement(f"the row '{name}' is called '{told}' by HiGHS")
    whole = [kind.name == "kInteger" for kind in lp.integrality_] or [False] * lp.num_col_
    pairs: tuple[tuple[str, str, Any, Any], ...] = (
        ("column", "cost", np.array(draft.cost)[order], lp.col_cost_),
        ("column", "lower bound", np.array(draft.lower)[order], lp.col_lower_),
        ("column", "upper bound", np.array(draft.upper)[order], lp.col_upper_),
        ("column", "integrality", np.array(draft.integer)[order], whole),
        ("row", "lower side", np.array(draft.row_lower), lp.row_lower_),
        ("row", "upper side", np.array(draft.row_upper), lp.row_upper_),
    )
    for part, what, ours, theirs in pairs:
        different = np.flatnonzero(ours != np.array(list(theirs), dtype=ours.dtype))
        if len(different):
            name = names[int(different[0])] if part == "column" else rows[int(different[0])]
            raise _disagreement(f"they differ in the {what} of the {part} '{name}'")
    _compare_entries(draft, lp.a_matrix_, order)


def _compare_entries(draft: Draft, matrix: Any, order: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:  # noqa: ANN401  (HiGHS's own)
    starts, rows, values = (np.array(getattr(matrix, part)) for part in ("start_", "index_", "value_"))
    columns = order[np.repeat(np.arange(len(starts) - 1), np.diff(starts))]
    kept = values != 0.0
    rows, columns, values = rows[kept], columns[kept], values[kept]
    theirs = np.lexsort((rows, columns))
    ours = np.lexsort((np.array(draft.entry_row, dtype=np.int64), np.array(draft.entry_column, dtype=np.int64)))
    if len(values) != len(draft.entry_value):
        raise _disagreement(f"HiGHS finds {len(values):,} entries, we find {len(draft.entry_value):,}")
    same = (
        (rows[theirs] == np.array(draft.entry_row, dtype=np.int64)[ours])
        & (columns[theirs] == np.array(draft.entry_column, dtype=np.int64)[ours])
        & (values[theirs] == np.array(draft.entry_value)[ours])
    )
    if not same.all():
        at = int(ours[int(np.flatnonzero(~same)[0])])
        row, column = draft.all_row_names()[draft.entry_row[at]], list(draft.column_at)[draft.entry_column[at]]
        raise _disagreement(f"they differ at the entry of column '{column}' in row '{row}'")


def _disagreement(where: str) -> FileMistakeError:
    cure = "write the file in the plainest form of the format, or send the program as JSON"
    return FileMistakeError("ambiguous", f"two readers of this format find different programs in the file: {where}; {cure}")

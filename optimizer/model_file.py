"""Programs as MPS files, for other solvers and for bug reports.

Names are those of the blocks, ``node_cpu[n1]``, made safe and unique; a file read back has its blocks again, with
the ids as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from models.program import Block, Floats, Ids, Ints, LinearProgram, row_starts
from optimizer.backend import SolverError
from optimizer.highs import Engine

LONGEST_NAME = 200  # HiGHS refuses names of more than 255 characters
_UNSAFE = re.compile(r"[^A-Za-z0-9_.~-]")
_RESERVED = ("Obj",)  # what HiGHS calls the objective row


def write_mps(program: LinearProgram, path: Path) -> None:
    """Write the program to ``path`` in free MPS format.

    What the format or HiGHS's writer loses never matters to the optimum: a row without any finite side, the integrality of
    a column without cost and entries, the digits of a number after the 15th. Raises ValueError when ``path`` does not
    end in .mps, SolverError when HiGHS cannot write there.
    """
    if path.suffix != ".mps":  # LP files too are chosen by their ending, but HiGHS cannot read back the ranged rows it writes to them
        raise ValueError(f"{path.name}: the name of a model file ends in .mps")
    engine = Engine()
    engine.load(program)
    for position, name in enumerate(names("c", program.column_blocks, program.columns)):
        engine.call("passColName", position, name)
    for position, name in enumerate(names("r", program.row_blocks, program.rows)):
        engine.call("passRowName", position, name)
    # HiGHS warns when it has to change a name: then ours were not safe.
    engine.call("writeModel", str(path), warning_is_fine=program.rows == 0)  # it also warns of a program without rows


def read_mps(path: Path) -> LinearProgram:
    """Read a linear or mixed-integer program from an MPS or LP file.

    Raises SolverError when HiGHS cannot read it or it has what a LinearProgram has not (quadratic terms,
    semi-continuous columns), FileNotFoundError when there is no file.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    engine = Engine()
    engine.call("readModel", str(path), warning_is_fine=True)
    lp = engine.get("getLp")
    kinds = {kind.name for kind in lp.integrality_}
    if not kinds <= {"kContinuous", "kInteger"} or engine.get("getHessianNumNz"):
        raise SolverError(f"{path.name} holds quadratic terms or semi-continuous columns")
    integer = np.array([kind.name == "kInteger" for kind in lp.integrality_] or [False] * lp.num_col_, dtype=np.bool_)
    row, column, value = _entries(lp.a_matrix_, lp.num_col_)
    return LinearProgram(
        maximise=lp.sense_.name == "kMaximize",
        cost=np.array(lp.col_cost_, dtype=np.float64),
        column_lower=np.array(lp.col_lower_, dtype=np.float64),
        column_upper=np.array(lp.col_upper_, dtype=np.float64),
        integer=integer,
        row_lower=np.array(lp.row_lower_, dtype=np.float64),
        row_upper=np.array(lp.row_upper_, dtype=np.float64),
        starts=row_starts(row, lp.num_row_),
        indices=column,
        coefficients=value,
        offset=float(lp.offset_),
        row_blocks=_blocks(list(lp.row_names_)),
        column_blocks=_blocks(list(lp.col_names_)),
    )


def names(letter: str, blocks: tuple[Block, ...], count: int) -> list[str]:
    """One name per row or column: from its block, or ``letter`` and its position; safe in an MPS file, unique."""
    wanted = [f"{letter}_{position}" for position in range(count)]
    for block in blocks:
        for position, ids in enumerate(block.ids, start=block.start):
            wanted[position] = _safe(block.name, ids)
    used: set[str] = set(_RESERVED)
    unique = []
    for name in wanted:
        chosen, again = name, 1
        while chosen in used:
            again += 1
            chosen = f"{name[:-1]}~{again}]" if name.endswith("]") else f"{name}~{again}"
        used.add(chosen)
        unique.append(chosen)
    return unique


def _safe(name: str, ids: Ids) -> str:
    word = _UNSAFE.sub("_", name)
    parts = [_UNSAFE.sub("_", str(one)) for one in ids]
    return (f"{word}[{','.join(parts)}]" if parts else word)[:LONGEST_NAME]


def _blocks(labels: list[str]) -> tuple[Block, ...]:
    """Blocks out of runs of names that share the word before the bracket; none unless every word names one run."""
    found = list(_runs(labels))
    words = [block.name for block in found]
    return tuple(found) if len(set(words)) == len(words) else ()


def _runs(labels: list[str]) -> Iterator[Block]:
    position = 0
    for word, run in groupby(labels, key=lambda label: label.split("[")[0]):
        ids: list[Ids] = [tuple(label[len(word) :].strip("[]").split(",")) if "[" in label else () for label in run]
        yield Block(word, position, tuple(ids))
        position += len(ids)


def _entries(matrix: object, columns: int) -> tuple[Ints, Ints, Floats]:
    """Row, column and value of every coefficient, by rows, from a column-wise HighsSparseMatrix."""
    start, index, value = (np.array(getattr(matrix, part)) for part in ("start_", "index_", "value_"))
    row: Ints = index.astype(np.int64)
    lengths: Ints = np.diff(start.astype(np.int64)).astype(np.int64)
    column = np.repeat(np.arange(columns, dtype=np.int64), lengths)
    order = np.argsort(row, kind="stable")
    return row[order], column[order], value.astype(np.float64)[order]

"""Reads single-commodity flow in DIMACS format: ``p min`` (minimum-cost flow) and ``p max`` (maximum flow).

    c a comment            p min NODES ARCS       n ID SUPPLY        a FROM TO LOW CAP COST
                           p max NODES ARCS       n ID s | n ID t    a FROM TO CAP

A capacity of -1 means no limit. Numbers need not be whole. A million arcs are read at once with numpy; lines are looked at one by
one only to say which of them is wrong. Source of the format: DIMACS, "The First DIMACS International Algorithm Implementation
Challenge: Problem Definitions and Specifications", 1991.
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.flow.schema import Objective
from models.vocabulary import LARGEST_QUANTITY
from service.importers.failures import ImportFileError, contents
from service.importers.network_files import ALL_PATHS, LinkColumns, NodeColumns, Place, flow_problem

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from models.flow.schema import Paths, Problem

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

SPACE, NEWLINE = 32, 10
COLUMNS = {"min": ("FROM", "TO", "LOW", "CAP", "COST"), "max": ("FROM", "TO", "CAP")}
MOST_NODES = 50_000_000
HEAD_FIELDS = 4  # p min NODES ARCS
NODE_FIELDS = 3  # n ID SUPPLY
UNLIMITED = -1.0
_INDENTED = re.compile(rb"(?m)^[ \t]+")


@dataclass(frozen=True)
class _Lines:
    """A file by lines: the first byte of each, and where it starts; shapes (lines,)."""

    path: Path
    data: bytes
    starts: Ints
    first: NDArray[np.uint8]

    def text(self, line: int) -> str:
        """The line as text, counted from 0."""
        end = self.starts[line + 1] if line + 1 < len(self.starts) else len(self.data)
        return self.data[self.starts[line] : end].decode("latin-1").strip()

    def place(self, line: int) -> Place:
        """The line, counted from 0, as people count."""
        return Place(self.path, line + 1)


@dataclass(frozen=True)
class _Head:
    """The line ``p``: what is asked, and the sizes it announces."""

    form: str
    nodes: int
    arcs: int


def import_dimacs(path: Path, *, objective: Objective | None = None, paths: Paths = ALL_PATHS) -> Problem:
    """The file as a flow problem with node supplies; nodes are called ``1``, ``2``, ... and links ``l0``, ``l1``, ... in the file's order.

    The objective left out is ``min_cost`` for ``p min`` and ``max_throughput`` for ``p max``, where the source's supply is more than
    could ever flow. Raises ImportFileError.
    """
    lines = _lines(path)
    head = _head(lines)
    chosen = objective or (Objective.min_cost if head.form == "min" else Objective.max_throughput)
    if head.form == "max" and chosen is not Objective.max_throughput:
        raise ImportFileError(f"{path}: a maximum flow file has no costs and no sizes; leave --objective out or give max_throughput")
    arcs, at = _arcs(lines, head)
    columns = dict(zip(COLUMNS[head.form], arcs.T, strict=True))
    tail, tip, capacity = _checked(lines, head, columns, at)
    names = [str(number) for number in range(1, head.nodes + 1)]
    named = np.array(names, dtype=object)
    lower, cost = columns.get("LOW"), columns.get("COST")
    links = LinkColumns(
        source=named[tail].tolist(),
        target=named[tip].tolist(),
        capacity_gbps=[None if one == math.inf else one for one in capacity.tolist()],
        cost=cost.tolist() if cost is not None and cost.any() else None,
        lower_gbps=lower.tolist() if lower is not None and lower.any() else None,
    )
    supply = _supplies(lines, head) if head.form == "min" else _source_and_sink(lines, head, tail, tip, capacity)
    return flow_problem([path], NodeColumns(names, supply.tolist()), links, None, objective=chosen, paths=paths)


def _lines(path: Path) -> _Lines:
    data = contents(path)
    if not data.strip():
        raise ImportFileError(f"{path}: is empty; give a file in DIMACS format, with a line 'p min NODES ARCS'")
    if data[:1] in b" \t" or b"\n " in data or b"\n\t" in data:
        data = _INDENTED.sub(b"", data)
    codes = np.frombuffer(data, dtype=np.uint8)
    starts = np.concatenate(([0], np.flatnonzero(codes == NEWLINE) + 1))
    starts = starts[starts < len(codes)]
    return _Lines(path, data, starts, codes[starts])


def _head(lines: _Lines) -> _Head:
    at = np.flatnonzero(lines.first == ord("p"))
    if len(at) != 1:
        line = int(at[1]) if len(at) else 0
        what = "is the second line 'p'; keep one" if len(at) else "there is no line 'p min NODES ARCS'; add it before the nodes and arcs"
        raise lines.place(line).error("p", what)
    place, fields = lines.place(int(at[0])), lines.text(int(at[0])).split()
    if len(fields) != HEAD_FIELDS or fields[1] not in COLUMNS:
        raise place.error("p", f"must be 'p min NODES ARCS' or 'p max NODES ARCS', not '{' '.join(fields)[:60]}'; correct it")
    sizes = []
    for text, column in zip(fields[2:], ("NODES", "ARCS"), strict=True):
        if not (text.isascii() and text.isdigit()) or int(text) > MOST_NODES:
            raise place.error(column, f"must be a whole number of 0 to {MOST_NODES:,}, not '{text[:40]}'; correct it")
        sizes.append(int(text))
    return _Head(fields[1], *sizes)


def _arcs(lines: _Lines, head: _Head) -> tuple[Floats, Ints]:
    """The numbers of the arcs, shape (arcs, columns), and the line of each."""
    unknown = np.flatnonzero(~np.isin(lines.first, np.frombuffer(b"acnp\n\r", dtype=np.uint8)))
    if len(unknown):
        raise lines.place(int(unknown[0])).error(
            "first letter", f"must be c, p, n or a, not '{lines.text(int(unknown[0]))[:20]}'; correct it"
        )
    at = np.flatnonzero(lines.first == ord("a"))
    if len(at) != head.arcs:
        line = int(np.flatnonzero(lines.first == ord("p"))[0])
        raise lines.place(line).error(
            "ARCS", f"announces {head.arcs:,} arcs and the file has {len(at):,}; correct the number or fetch the whole file"
        )
    codes = np.frombuffer(lines.data, dtype=np.uint8)
    lengths = np.diff(np.append(lines.starts, len(codes)))
    numbers = np.where(np.repeat(lines.first == ord("a"), lengths), codes, np.uint8(SPACE))
    numbers[lines.starts] = SPACE
    _refuse_wrong_lengths(lines, head, numbers, at)
    return _numbers(lines, numbers.tobytes(), at, head), at


def _refuse_wrong_lengths(lines: _Lines, head: _Head, numbers: NDArray[np.uint8], at: Ints) -> None:
    """Raises ImportFileError unless each arc has as many numbers as its form; ``numbers`` is the file with all else blank."""
    space = numbers <= SPACE
    begins = np.flatnonzero(~space & np.concatenate(([True], space[:-1])))
    line_of = np.searchsorted(lines.starts, begins, side="right") - 1
    wrong = at[np.bincount(line_of, minlength=len(lines.starts))[at] != len(COLUMNS[head.form])]
    if len(wrong):
        form = " ".join(COLUMNS[head.form])
        raise lines.place(int(wrong[0])).error("a", f"must be 'a {form}', not '{lines.text(int(wrong[0]))[:60]}'; correct the line")


def _numbers(lines: _Lines, text: bytes, at: Ints, head: _Head) -> Floats:
    width = len(COLUMNS[head.form])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # told of what is no number: it is looked for below
        try:
            found = np.fromstring(text, dtype=np.float64, sep=" ") if len(at) else np.zeros(0)
        except ValueError:
            found = np.zeros(0)
    if len(found) == width * len(at):
        return found.reshape(len(at), width)
    for line in at.tolist():
        for column, value in zip(COLUMNS[head.form], lines.text(line).split()[1:], strict=True):
            lines.place(line).number(value, column, least=-LARGEST_QUANTITY)
    raise ImportFileError(f"{lines.path}: the arcs hold something that is no plain number; write numbers like 12, -3 or 0.5")


def _checked(lines: _Lines, head: _Head, columns: dict[str, Floats], at: Ints) -> tuple[Ints, Ints, Floats]:
    """Tails and heads by position, and capacities with inf for no limit. Raises ImportFileError for the first arc that is wrong."""

    def refuse(wrong: NDArray[np.bool_], column: str, what: str) -> None:
        if wrong.any():
            arc = int(np.argmax(wrong))
            raise lines.place(int(at[arc])).error(column, what.format(*(f"{columns[name][arc]:g}" for name in (column, "FROM"))))

    for column in ("FROM", "TO"):
        ends = columns[column]
        refuse(
            ~((ends >= 1) & (ends <= head.nodes) & (ends == np.floor(ends))),
            column,
            f"there is no node '{{0}}'; nodes are numbered 1 to {head.nodes}",
        )
    refuse(columns["FROM"] == columns["TO"], "TO", "the arc begins and ends at node {0}; leave it out, no flow needs it")
    capacity = columns["CAP"]
    refuse(~((capacity >= 0) | (capacity == UNLIMITED)), "CAP", "must be 0 or more, or -1 for no limit, not {0}; correct it")
    refuse(capacity > LARGEST_QUANTITY, "CAP", f"must be at most {LARGEST_QUANTITY:g}, not {{0}}; write -1 for no limit")
    capacity = np.where(capacity == UNLIMITED, np.inf, capacity)
    if head.form == "min":
        refuse(
            ~(np.abs(columns["COST"]) <= LARGEST_QUANTITY),
            "COST",
            f"must be finite and at most {LARGEST_QUANTITY:g}, not {{0}}; correct it",
        )
        lower = columns["LOW"]
        refuse(~((lower >= 0) & (lower <= LARGEST_QUANTITY)), "LOW", "must be 0 or more and finite, not {0}; correct it")
        refuse(lower > capacity, "LOW", "is {0}, more than the capacity of the arc; raise CAP or lower LOW")
    return columns["FROM"].astype(np.int64) - 1, columns["TO"].astype(np.int64) - 1, capacity


def _node_lines(lines: _Lines, head: _Head) -> dict[int, tuple[int, str]]:
    """Line and second field of each node that has a line, by position."""
    found: dict[int, tuple[int, str]] = {}
    for line in np.flatnonzero(lines.first == ord("n")).tolist():
        fields, place = lines.text(line).split(), lines.place(line)
        if len(fields) != NODE_FIELDS:
            raise place.error(
                "n", f"must be 'n ID {'SUPPLY' if head.form == 'min' else 's|t'}', not '{' '.join(fields)[:60]}'; correct the line"
            )
        if not (fields[1].isascii() and fields[1].isdigit() and 1 <= int(fields[1]) <= head.nodes):
            raise place.error("ID", f"there is no node '{fields[1][:40]}'; nodes are numbered 1 to {head.nodes}")
        node = int(fields[1]) - 1
        if node in found:
            raise place.error("ID", f"the node '{fields[1]}' has a line already (line {found[node][0] + 1}); keep one of them")
        found[node] = (line, fields[2])
    return found


def _supplies(lines: _Lines, head: _Head) -> Floats:
    supply = np.zeros(head.nodes)
    for node, (line, text) in _node_lines(lines, head).items():
        supply[node] = lines.place(line).number(text, "SUPPLY", least=-LARGEST_QUANTITY)
    return supply


def _source_and_sink(lines: _Lines, head: _Head, tail: Ints, tip: Ints, capacity: Floats) -> Floats:
    """Supply at the source and need at the sink: as much as all flow there could be."""
    ends: dict[str, int] = {}
    for node, (line, role) in _node_lines(lines, head).items():
        if role not in ("s", "t") or role in ends:
            raise lines.place(line).error("s|t", f"'{role[:20]}': the file must name one source 's' and one sink 't'; correct the line")
        ends[role] = node
    if len(ends) != 2:  # noqa: PLR2004  (a source and a sink)
        raise ImportFileError(
            f"{lines.path}: names no {'sink' if 's' in ends else 'source'}; add a line 'n ID {'t' if 's' in ends else 's'}'"
        )
    if _reaches(ends["s"], ends["t"], tail, tip, np.isinf(capacity)):
        raise ImportFileError(
            f"{lines.path}: arcs without a limit lead from the source to the sink, so the flow has no maximum; give one a capacity"
        )
    finite = capacity[np.isfinite(capacity)].sum()
    most = min(capacity[tail == ends["s"]].sum(), capacity[tip == ends["t"]].sum(), finite, LARGEST_QUANTITY)
    if most <= 0.0:
        raise ImportFileError(
            f"{lines.path}: no arc with a capacity leaves the source or enters the sink, so the largest flow is 0; give them capacities"
        )
    supply = np.zeros(head.nodes)
    supply[ends["s"]], supply[ends["t"]] = most, -most
    return supply


def _reaches(source: int, target: int, tail: Ints, tip: Ints, usable: NDArray[np.bool_]) -> bool:
    """Whether a path over the usable arcs leads from ``source`` to ``target``."""
    following: dict[int, list[int]] = {}
    for start, end in zip(tail[usable].tolist(), tip[usable].tolist(), strict=True):
        following.setdefault(start, []).append(end)
    seen, stack = {source}, [source]
    while stack:
        for node in following.get(stack.pop(), ()):
            if node not in seen:
                seen.add(node)
                stack.append(node)
    return target in seen

"""Reads a network as two CSV files: links (source, target, capacity) and demands (source, target, demand), in Gbit/s.

Links are directed, one line for each way. Further columns are read where they are there: of links id, latency_ms, cost and lower_gbps; of
demands id, priority, value, weight and latency_limit_ms. Other columns are not read. A capacity of ``unlimited`` is no limit. Nodes are
those that links name, in the order in which they come.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from models.flow.schema import Objective
from service.importers.failures import ImportFileError, text_of
from service.importers.network_files import ALL_PATHS, DemandColumns, Imported, LinkColumns, NodeColumns, Place, flow_problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from models.flow.schema import Paths

UNLIMITED = "unlimited"
LINK_COLUMNS = ("source", "target", "capacity")
DEMAND_COLUMNS = ("source", "target", "demand")
NEEDED = ("source", "target", "capacity_gbps", "size_gbps")
SYNONYMS = {"capacity_gbps": "capacity", "size_gbps": "demand", "demand_gbps": "demand"}
OPTIONAL_LINK = frozenset({"latency_ms", "cost", "lower_gbps"})
OPTIONAL_DEMAND = frozenset({"value", "weight", "latency_limit_ms"})
PRIORITIES = range(-1000, 1001)


def import_links_demands(
    links_csv: Path, demands_csv: Path, *, objective: Objective = Objective.max_throughput, paths: Paths = ALL_PATHS
) -> Imported:
    """The two files (each may be packed by gzip) as a flow problem; demands of 0 are left out and counted.

    Raises ImportFileError.
    """
    links = _links(links_csv)
    names = tuple(dict.fromkeys(name for pair in zip(links.source, links.target, strict=True) for name in pair))
    demands, empty = read_demands(demands_csv, frozenset(names), f"the links of {links_csv}")
    problem = flow_problem([links_csv, demands_csv], NodeColumns(names), links, demands, objective=objective, paths=paths)
    return Imported(problem, empty)


def _links(path: Path) -> LinkColumns:
    found: dict[str, list[Any]] = {name: [] for name in ("id", "source", "target", "capacity_gbps", *OPTIONAL_LINK)}
    present: Collection[str] = ()
    for place, row in _rows(path, LINK_COLUMNS):
        present = row
        source, target = (_name(place, row, column) for column in ("source", "target"))
        if source == target:
            raise place.error("target", f"the link begins and ends at '{source}'; leave it out, no traffic needs it")
        text = row["capacity"].strip()
        cure = f"write '{UNLIMITED}' for no limit"
        found["capacity_gbps"].append(None if text == UNLIMITED else place.number(text, "capacity", cure=cure))
        found["source"].append(source)
        found["target"].append(target)
        if "id" in row:
            found["id"].append(_name(place, row, "id"))
        for column in OPTIONAL_LINK & row.keys():
            found[column].append(place.number(row[column], column))
    if not found["source"]:
        raise ImportFileError(f"{path}: lists no link; give one line for each way of a link")
    columns: dict[str, Any] = {name: column for name, column in found.items() if name in present or name in NEEDED}
    return LinkColumns(**columns)


def read_demands(path: Path, nodes: Collection[str], listed_in: str) -> tuple[DemandColumns, int]:
    """The demands, each between two of ``nodes``, and how many ask for nothing. Raises ImportFileError."""
    found: dict[str, list[Any]] = {name: [] for name in ("id", "source", "target", "size_gbps", "priority", *OPTIONAL_DEMAND)}
    present: Collection[str] = ()
    empty = 0
    for place, row in _rows(path, DEMAND_COLUMNS):
        present = row
        source, target = (_name(place, row, column) for column in ("source", "target"))
        for column, name in (("source", source), ("target", target)):
            if name not in nodes:
                raise place.error(column, f"there is no node '{name}' in {listed_in}; correct the name")
        size = place.number(row["demand"], "demand")
        if size == 0:
            empty += 1
            continue
        if source == target:
            raise place.error("target", f"the demand begins and ends at '{source}'; leave it out, it needs no link")
        found["source"].append(source)
        found["target"].append(target)
        found["size_gbps"].append(size)
        if "id" in row:
            found["id"].append(_name(place, row, "id"))
        if "priority" in row:
            found["priority"].append(_priority(place, row["priority"]))
        for column in OPTIONAL_DEMAND & row.keys():
            found[column].append(_positive(place, row[column], column))
    if not found["source"]:
        raise ImportFileError(f"{path}: lists no demand larger than 0; give at least one")
    columns: dict[str, Any] = {name: column for name, column in found.items() if name in present or name in NEEDED}
    return DemandColumns(**columns), empty


def _name(place: Place, row: dict[str, str], column: str) -> str:
    name = row[column].strip()
    if not name:
        raise place.error(column, "is empty; give it a name")
    return name


def _priority(place: Place, text: str) -> int:
    try:
        found = int(text)
    except ValueError:
        found = PRIORITIES.stop
    if found not in PRIORITIES:
        raise place.error(
            "priority", f"must be a whole number from {PRIORITIES.start} to {PRIORITIES.stop - 1}, not '{text[:40]}'; correct it"
        )
    return found


def _positive(place: Place, text: str, column: str) -> float | None:
    """A number above 0; nothing for a latency limit that is left out."""
    if column == "latency_limit_ms" and not text.strip():
        return None
    found = place.number(text, column)
    if found == 0:
        raise place.error(column, "must be more than 0; correct it")
    return found


def _rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[Place, dict[str, str]]]:
    """The lines of a CSV file by column, under the names used here. Raises ImportFileError."""
    reader = csv.reader(io.StringIO(text_of(path), newline=""))
    try:
        head = [SYNONYMS.get(name.strip(), name.strip()) for name in next(reader, [])]
        missing = [column for column in needed if head.count(column) != 1]
        if missing:
            have = ", ".join(head[:12]) or "nothing"
            what = "is there twice" if missing[0] in head else "is not there"
            raise ImportFileError(
                f"{path}: line 1: the column '{missing[0]}' {what}; the file needs {', '.join(needed)} and has {have[:200]}"
            )
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(head):
                raise ImportFileError(
                    f"{path}: line {reader.line_num}: has {len(fields)} fields and line 1 has {len(head)}; correct the line"
                )
            yield Place(path, reader.line_num), dict(zip(head, fields, strict=True))
    except csv.Error as error:
        raise ImportFileError(f"{path}: line {reader.line_num}: is no CSV ({error}); correct the line") from None

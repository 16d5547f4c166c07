"""Reads the topologies and demands of REPETITA.

Source of the format: Gay, Schaus, Vissicchio, "REPETITA: Repeatable Experiments for Performance Evaluation of Traffic-Engineering
Algorithms", 2017.

A graph lists nodes by position and then directed edges; a link that carries both ways is two edges. Bandwidths are in kbit/s and
delays in microseconds, as the authors' page on the format says. The IGP weight of an edge becomes its cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.flow.schema import Objective
from service.importers.failures import ImportFileError, text_of
from service.importers.network_files import ALL_PATHS, DemandColumns, Imported, LinkColumns, NodeColumns, Place, flow_problem

if TYPE_CHECKING:
    from pathlib import Path

    from models.flow.schema import Paths

KBPS_PER_GBPS = 1e6
US_PER_MS = 1e3
NODE_COLUMNS = ("label", "x", "y")
EDGE_COLUMNS = ("label", "src", "dest", "weight", "bw", "delay")
DEMAND_COLUMNS = ("label", "src", "dest", "bw")


def import_repetita(
    graph: Path, demands: Path, *, objective: Objective = Objective.min_max_utilisation, paths: Paths = ALL_PATHS
) -> Imported:
    """The graph and its demands as a flow problem in Gbit/s; demands of 0 are left out and counted. Raises ImportFileError."""
    reader = _Reader(graph)
    names = [row[0] for _, row in reader.section("NODES", NODE_COLUMNS)]
    reader.distinct(names, "node")
    links = _edges(reader, names)
    asked, empty = _demands(_Reader(demands), names)
    problem = flow_problem([graph, demands], NodeColumns(names), links, asked, objective=objective, paths=paths)
    return Imported(problem, empty)


def _edges(reader: _Reader, names: list[str]) -> LinkColumns:
    ids, ends, capacity, latency, cost = [], [], [], [], []
    for place, row in reader.section("EDGES", EDGE_COLUMNS):
        ends.append(_ends(place, row[1], row[2], names, "edge"))
        ids.append(row[0])
        cost.append(place.number(row[3], "weight"))
        capacity.append(place.number(row[4], "bw") / KBPS_PER_GBPS)
        latency.append(place.number(row[5], "delay") / US_PER_MS)
    reader.distinct(ids, "edge")
    if not ids:
        raise ImportFileError(f"{reader.path}: lists no edge; give a graph of REPETITA")
    return LinkColumns(
        id=ids, source=[one for one, _ in ends], target=[one for _, one in ends], capacity_gbps=capacity, latency_ms=latency, cost=cost
    )


def _demands(reader: _Reader, names: list[str]) -> tuple[DemandColumns, int]:
    ids, ends, sizes, empty = [], [], [], 0
    for place, row in reader.section("DEMANDS", DEMAND_COLUMNS):
        size = place.number(row[3], "bw") / KBPS_PER_GBPS
        if size == 0:
            empty += 1
            continue
        ends.append(_ends(place, row[1], row[2], names, "demand"))
        ids.append(row[0])
        sizes.append(size)
    reader.distinct(ids, "demand")
    if not ids:
        raise ImportFileError(f"{reader.path}: lists no demand larger than 0; give the demands of the graph")
    return DemandColumns(id=ids, source=[one for one, _ in ends], target=[one for _, one in ends], size_gbps=sizes), empty


def _ends(place: Place, source: str, target: str, names: list[str], what: str) -> tuple[str, str]:
    """The names of two nodes given by position."""
    found = []
    for column, text in (("src", source), ("dest", target)):
        if not (text.isascii() and text.isdigit() and int(text) < len(names)):
            raise place.error(column, f"there is no node number '{text[:40]}'; nodes are numbered 0 to {len(names) - 1}")
        found.append(names[int(text)])
    if found[0] == found[1]:
        raise place.error("dest", f"the {what} begins and ends at node {target}; leave it out")
    return found[0], found[1]


class _Reader:
    """A file of sections, read from the top: ``NODES 11``, a line of column names, and as many lines as announced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = text_of(path).splitlines()
        self._at = 0

    def section(self, title: str, columns: tuple[str, ...]) -> list[tuple[Place, list[str]]]:
        """The lines of the next section. Raises ImportFileError."""
        head = self._next(f"'{title} N'")
        if len(head) != 2 or head[0] != title or not (head[1].isascii() and head[1].isdigit()):  # noqa: PLR2004  (a word and a number)
            raise self._error(f"must be '{title} N', not '{' '.join(head)[:60]}'; give the file as REPETITA has it")
        memo = self._next(f"the column names '{' '.join(columns)}'")
        if tuple(memo) != columns:
            raise self._error(f"must be '{' '.join(columns)}', not '{' '.join(memo)[:60]}'; give the file as REPETITA has it")
        rows = []
        for number in range(int(head[1])):
            fields = self._next(f"line {number + 1:,} of the {int(head[1]):,} that {title} announces")
            if len(fields) != len(columns):
                raise self._error(f"must be '{' '.join(columns)}', not '{' '.join(fields)[:60]}'; correct the line")
            rows.append((Place(self.path, self._at), fields))
        return rows

    def distinct(self, names: list[str], what: str) -> None:
        """Raises ImportFileError when a name is there twice."""
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise ImportFileError(f"{self.path}: the {what} '{name}' is named twice; rename one of them")
            seen.add(name)

    def _next(self, wanted: str) -> list[str]:
        """The fields of the next line that is not empty."""
        while self._at < len(self._lines):
            self._at += 1
            fields = self._lines[self._at - 1].split()
            if fields:
                return fields
        raise ImportFileError(f"{self.path}: line {self._at + 1}: the file ends before {wanted}; fetch the whole file")

    def _error(self, what: str) -> ImportFileError:
        return ImportFileError(f"{self.path}: line {self._at}: {what}")

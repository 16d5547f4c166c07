"""Reads a topology in GraphML, as the Internet Topology Zoo has them (Knight et al., "The Internet Topology Zoo", 2011).

An edge carries what its data says: ``capacity_gbps`` or ``capacity`` in Gbit/s, or ``LinkSpeedRaw`` in bit/s as in the zoo; ``latency_ms``
and ``cost`` where they are there. Edges of an undirected graph carry both ways, each with all of the capacity. Parallel edges stay
apart. GraphML knows no demands: they come from a CSV file, or are the same between all pairs of nodes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from models.flow.schema import Direction, Objective
from service.importers.failures import ImportFileError, contents
from service.importers.links_demands import read_demands
from service.importers.network_files import ALL_PATHS, DemandColumns, Imported, LinkColumns, NodeColumns, Place, flow_problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.flow.schema import Paths

CAPACITIES = {
    "capacity_gbps": 1.0,
    "capacity": 1.0,
    "LinkSpeedRaw": 1e9,
}  # units of the key in one Gbit/s, in the order they are looked for


@dataclass
class _Edge:
    """An edge as it stands in the file."""

    place: Place
    source: str
    target: str
    directed: bool
    data: dict[str, str] = field(default_factory=dict)


@dataclass
class _Graph:
    """Nodes and edges in the order of the file."""

    labels: dict[str, str] = field(default_factory=dict)
    edges: list[_Edge] = field(default_factory=list)


def import_graphml(
    path: Path,
    *,
    demands_csv: Path | None = None,
    demand_gbps: float | None = None,
    capacity_gbps: float | None = None,
    label_names: bool = False,
    objective: Objective = Objective.max_concurrent,
    paths: Paths = ALL_PATHS,
) -> Imported:
    """The topology with its demands as a flow problem. Nodes have the ids of the file, or their labels with ``label_names``.

    ``capacity_gbps`` is that of edges that say none; ``demand_gbps`` that of every ordered pair of nodes when there is no
    ``demands_csv``. Raises ImportFileError.
    """
    graph = _read(path)
    names = _names(path, graph, label_names=label_names)
    links = _links(graph, names, capacity_gbps)
    files = [path] if demands_csv is None else [path, demands_csv]
    empty = 0
    if demands_csv is not None:
        demands, empty = read_demands(demands_csv, frozenset(names.values()), str(path))
    elif demand_gbps is not None:
        demands = _uniform(list(names.values()), demand_gbps)
    else:
        raise ImportFileError(f"{path}: GraphML knows no demands; give --demands FILE.csv, or --demand-gbps X for all pairs of nodes")
    problem = flow_problem(files, NodeColumns(list(names.values())), links, demands, objective=objective, paths=paths)
    return Imported(problem, empty)


def _names(path: Path, graph: _Graph, *, label_names: bool) -> dict[str, str]:
    """The name of each node by its id in the file."""
    if not graph.labels:
        raise ImportFileError(f"{path}: has no node; give a GraphML file with nodes and edges")
    if not label_names:
        return {name: name for name in graph.labels}
    seen: dict[str, str] = {}
    for name, label in graph.labels.items():
        if not label or label in seen:
            what = f"the label '{label}' of node '{name}' is also that of node '{seen[label]}'" if label else f"node '{name}' has no label"
            raise ImportFileError(f"{path}: {what}; leave out --labels to name nodes by their ids")
        seen[label] = name
    return dict(graph.labels)


def _links(graph: _Graph, names: dict[str, str], capacity_gbps: float | None) -> LinkColumns:
    directions = {edge.directed for edge in graph.edges}
    if len(directions) > 1:
        odd = next(edge for edge in graph.edges if edge.directed != graph.edges[0].directed)
        raise odd.place.error("directed", "the edge is directed and others are not; write every edge the same way")
    ids, ends, capacity = [], [], []
    for number, edge in enumerate(graph.edges):
        for column, name in (("source", edge.source), ("target", edge.target)):
            if name not in names:
                raise edge.place.error(column, f"there is no node '{name}' in the file; correct the name")
        if edge.source == edge.target:
            raise edge.place.error("target", f"the edge begins and ends at '{edge.source}'; leave it out, no traffic needs it")
        ids.append(edge.data.get("id") or f"e{number}")
        ends.append((names[edge.source], names[edge.target]))
        capacity.append(_capacity(edge, capacity_gbps))
    if len(set(ids)) < len(ids):  # the zoo names some edges twice
        ids = [f"e{place}" for place in range(len(ids))]
    extra: dict[str, Any] = {}
    for column in ("latency_ms", "cost"):
        if any(column in edge.data for edge in graph.edges):
            extra[column] = [edge.place.number(edge.data.get(column, "0"), column) for edge in graph.edges]
    return LinkColumns(
        id=ids,
        source=[one for one, _ in ends],
        target=[one for _, one in ends],
        capacity_gbps=capacity,
        direction=Direction.directed if True in directions else Direction.each,
        **extra,
    )


def _capacity(edge: _Edge, default: float | None) -> float:
    """Gbit/s of an edge."""
    for key, units in CAPACITIES.items():
        if key in edge.data:
            return edge.place.number(str(_scaled(edge.data[key], units)), key)
    if default is None:
        raise edge.place.error("capacity", "the edge says none; give --capacity-gbps for edges without")
    return default


def _scaled(text: str, units: float) -> float | str:
    """The number in Gbit/s; the text itself where it is none."""
    try:
        return float(text) / units
    except ValueError:
        return text


def _uniform(names: Sequence[str], gbps: float) -> DemandColumns:
    """The same from each node to every other."""
    pairs = list(itertools.permutations(names, 2))
    return DemandColumns(source=[one for one, _ in pairs], target=[one for _, one in pairs], size_gbps=[gbps] * len(pairs))


# ---------------------------------------------------------------- XML


def _read(path: Path) -> _Graph:
    reader = _Reader(path)
    try:
        reader.parser.Parse(contents(path), True)  # noqa: FBT003  (expat's own order: data, and whether it is the last)
    except expat.ExpatError as error:
        raise ImportFileError(f"{path}: line {error.lineno}: is no XML ({expat.ErrorString(error.code)}); give a GraphML file") from None
    return reader.graph


class _Reader:
    """What expat calls while it reads; the line of each element is known then and never again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.graph = _Graph()
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse
        self._keys: dict[str, str] = {}
        self._directed = False
        self._node: str | None = None
        self._edge: _Edge | None = None
        self._key: str | None = None
        self._written = ""

    def _refuse(self, *_: object) -> None:
        raise self._place().error("DOCTYPE", "the file declares types of its own, which are not read; remove the declaration")

    def _place(self) -> Place:
        return Place(self.path, self.parser.CurrentLineNumber)

    def _begin(self, name: str, given: dict[str, str]) -> None:
        match name.rpartition(" ")[2]:
            case "key":
                self._keys[given.get("id", "")] = given.get("attr.name", given.get("id", ""))
            case "graph":
                self._directed = given.get("edgedefault") == "directed"
            case "node":
                self._node = self._given(given, "id", "node")
                if self._node in self.graph.labels:
                    raise self._place().error("id", f"the node '{self._node}' is there twice; keep one of them")
                self.graph.labels[self._node] = ""
            case "edge":
                directed = {"true": True, "false": False}.get(given.get("directed", ""), self._directed)
                ends = (self._given(given, "source", "edge"), self._given(given, "target", "edge"))
                self._edge = _Edge(self._place(), *ends, directed)
                self._edge.data |= {"id": given["id"]} if given.get("id") else {}
            case "data":
                self._key, self._written = self._keys.get(given.get("key", ""), ""), ""
            case "hyperedge":
                raise self._place().error("hyperedge", "a link joins two nodes; write the hyperedge as a node with edges")
            case _:
                pass

    def _given(self, given: dict[str, str], column: str, what: str) -> str:
        if not given.get(column):
            raise self._place().error(column, f"the {what} has none; add it")
        return given[column]

    def _text(self, text: str) -> None:
        if self._key is not None:
            self._written += text

    def _end(self, name: str) -> None:
        match name.rpartition(" ")[2]:
            case "data" if self._key is not None:
                if self._edge is not None:
                    self._edge.data.setdefault(self._key, self._written.strip())
                elif self._node is not None and self._key == "label":
                    self.graph.labels[self._node] = self._written.strip()
                self._key = None
            case "node":
                self._node = None
            case "edge":
                self.graph.edges.append(self._edge) if self._edge is not None else None
                self._edge = None
            case _:
                pass

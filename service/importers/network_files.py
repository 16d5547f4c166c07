"""What the readers of network files share: a network as columns, and the flow problem made of it.

Columns become a table where there are many rows: a network of a million links is read and written in seconds, one object for each
link would take minutes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from models.flow.schema import (
    Demand,
    DemandTable,
    Direction,
    Link,
    LinkTable,
    Node,
    NodeTable,
    Objective,
    PathChoice,
    Paths,
    Problem,
)
from models.vocabulary import LARGEST_QUANTITY
from service.importers.failures import ImportFileError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TABLE_FROM = 2_000  # rows from which on a table is written in place of one object for each row
ALL_PATHS = Paths()
_CHOICE = re.compile(r"(edge-disjoint|shortest):([1-9]\d{0,5})")
_CHOICES = {"edge-disjoint": PathChoice.edge_disjoint, "shortest": PathChoice.shortest}


@dataclass(frozen=True, slots=True)
class NodeColumns:
    """Node ids, and the Gbit/s that enter at each (None: nothing anywhere)."""

    id: Sequence[str]
    supply_gbps: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class LinkColumns:
    """One item for each link in every column; None for a column that has the schema's defaults."""

    source: Sequence[str]
    target: Sequence[str]
    capacity_gbps: Sequence[float | None]
    id: Sequence[str] | None = None
    latency_ms: Sequence[float] | None = None
    cost: Sequence[float] | None = None
    lower_gbps: Sequence[float] | None = None
    direction: Direction = Direction.directed


@dataclass(frozen=True, slots=True)
class DemandColumns:
    """One item for each demand in every column; None for a column that has the schema's defaults."""

    source: Sequence[str]
    target: Sequence[str]
    size_gbps: Sequence[float]
    id: Sequence[str] | None = None
    priority: Sequence[int] | None = None
    value: Sequence[float] | None = None
    weight: Sequence[float] | None = None
    latency_limit_ms: Sequence[float | None] | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """A problem and how many demands were left out because they ask for nothing."""

    problem: Problem
    empty_demands: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, to complain about."""

    path: Path
    line: int

    def error(self, column: str, what: str) -> ImportFileError:
        """``FILE: line 3, column 'capacity': what``."""
        return ImportFileError(f"{self.path}: line {self.line}, column '{column}': {what}")

    def number(self, text: str, column: str, *, least: float = 0.0, cure: str = "correct it") -> float:
        """A finite number of at least ``least``, as large as the service takes. Raises ImportFileError."""
        try:
            found = float(text)
        except ValueError:
            raise self.error(column, f"must be a number, not '{text[:40]}'; {cure}") from None
        if not least <= found <= LARGEST_QUANTITY:
            bound = f"of {least:g} or more" if least > -math.inf else "that is finite"
            raise self.error(column, f"must be a number {bound}, at most {LARGEST_QUANTITY:g}, not '{text.strip()[:40]}'; {cure}")
        return found


def path_choice(text: str) -> Paths:
    """``all``, ``edge-disjoint:K`` or ``shortest:K``; raises ValueError for anything else."""
    if text == "all":
        return ALL_PATHS
    found = _CHOICE.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text}' is no choice of paths; give all, edge-disjoint:K or shortest:K, with K a whole number such as 4")
    return Paths(choice=_CHOICES[found[1]], k=int(found[2]))


def flow_problem(
    files: Sequence[Path],
    nodes: NodeColumns,
    links: LinkColumns,
    demands: DemandColumns | None,
    *,
    objective: Objective,
    paths: Paths = ALL_PATHS,
) -> Problem:
    """The flow problem of these columns. Raises ImportFileError where they contradict each other."""
    fields: dict[str, Any] = {"objective": objective, "paths": paths}
    try:
        fields |= _nodes(nodes) | _links(links) | (_demands(demands) if demands is not None else {})
        return Problem(**fields)
    except ValidationError as error:
        raise _contradiction(files, error) from None


def with_paths(path: Path, problem: Problem, paths: Paths) -> Problem:
    """The problem of a file with another choice of paths. Raises ImportFileError where it does not go with the problem."""
    if paths == problem.paths:
        return problem
    try:
        return Problem(**{name: getattr(problem, name) for name in problem.model_fields_set} | {"paths": paths})
    except ValidationError as error:
        raise _contradiction([path], error) from None


def _contradiction(files: Sequence[Path], error: ValidationError) -> ImportFileError:
    told = error.errors(include_url=False)[0]
    what = str(told.get("ctx", {}).get("error", told["msg"])).splitlines()[0]
    names = " and ".join(str(path) for path in files)
    return ImportFileError(f"{names} {'do' if len(files) > 1 else 'does'} not make a problem: {what}")


def _nodes(nodes: NodeColumns) -> dict[str, Any]:
    supply = tuple(nodes.supply_gbps) if nodes.supply_gbps is not None else None
    if len(nodes.id) >= TABLE_FROM:
        return {"node_table": NodeTable(id=tuple(nodes.id), supply_gbps=supply)}
    return {
        "nodes": tuple(Node(id=name, supply_gbps=amount) for name, amount in zip(nodes.id, supply or (0.0,) * len(nodes.id), strict=True))
    }


def _links(links: LinkColumns) -> dict[str, Any]:
    columns = _columns(links, "source", "target", "capacity_gbps", "id", "latency_ms", "cost", "lower_gbps")
    if len(links.source) >= TABLE_FROM:
        return {"link_table": LinkTable(**columns, direction=links.direction)}
    columns.setdefault("id", tuple(f"l{place}" for place in range(len(links.source))))
    return {"links": tuple(Link(**row, direction=links.direction) for row in _rows(columns))}


def _demands(demands: DemandColumns) -> dict[str, Any]:
    columns = _columns(demands, "source", "target", "size_gbps", "id", "priority", "value", "weight", "latency_limit_ms")
    if len(demands.source) >= TABLE_FROM:
        return {"demand_table": DemandTable(**columns)}
    columns.setdefault("id", tuple(f"d{place}" for place in range(len(demands.source))))
    return {"demands": tuple(Demand(**row) for row in _rows(columns))}


def _columns(holder: object, *names: str) -> dict[str, Any]:
    return {name: tuple(column) for name in names if (column := getattr(holder, name)) is not None}


def _rows(columns: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

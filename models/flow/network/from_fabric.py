"""A fabric of ``models.fabrics`` as a flow problem, and the network of a flow problem as a fabric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.fabrics import Fabric, NodeKind
from models.flow.network.arrays import network_of
from models.flow.schema import Demand, DemandTable, Direction, Link, LinkTable, Node, NodeTable, Objective, Paths, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Ints

TABLE_FROM = 2_000  # links, nodes or demands from which on a table takes the place of one object for each
Wish = tuple[str, str, float]


def problem_of(
    fabric: Fabric, demands: Sequence[Wish], objective: Objective = Objective.max_concurrent, *, paths: Paths | None = None
) -> Problem:
    """The fabric's links, each way with its own capacity, and ``demands`` of (source, target, Gbit/s) between its nodes.

    A link that carries one way only becomes a directed one; one with different capacities becomes two, the second called ``<id>#back``.
    Raises ValueError for demands between unknown nodes, of a node with itself, or of no size.
    """
    return Problem(**_nodes(fabric), **_links(fabric), **_demands(demands), objective=objective, paths=paths or Paths())


def _nodes(fabric: Fabric) -> dict[str, Any]:
    if fabric.nodes >= TABLE_FROM:
        return {"node_table": NodeTable(id=fabric.node_ids)}
    return {"nodes": tuple(Node(id=name) for name in fabric.node_ids)}


def _links(fabric: Fabric) -> dict[str, Any]:
    forth, back = fabric.capacity_gbps, fabric.back_gbps
    if (forth == back).all():
        return _told(fabric, np.arange(fabric.links), np.zeros(fabric.links, dtype=np.bool_), Direction.each)
    ahead = np.flatnonzero((forth > 0) | (back == 0))
    behind = np.flatnonzero(back > 0)
    return _told(fabric, np.concatenate((ahead, behind)), np.repeat([False, True], [len(ahead), len(behind)]), Direction.directed)


def _told(fabric: Fabric, link: Ints, back: np.ndarray[tuple[int], np.dtype[np.bool_]], direction: Direction) -> dict[str, Any]:
    """Columns or objects for the ways of the links."""
    ends = (
        np.where(back, fabric.link_target[link], fabric.link_source[link]),
        np.where(back, fabric.link_source[link], fabric.link_target[link]),
    )
    columns: dict[str, Any] = {
        "id": tuple(fabric.link_ids[one] + ("#back" if way else "") for one, way in zip(link.tolist(), back.tolist(), strict=True)),
        "source": tuple(fabric.node_ids[node] for node in ends[0].tolist()),
        "target": tuple(fabric.node_ids[node] for node in ends[1].tolist()),
        "capacity_gbps": tuple(
            gbps if np.isfinite(gbps) else None for gbps in np.where(back, fabric.back_gbps[link], fabric.capacity_gbps[link]).tolist()
        ),
        "latency_ms": tuple(fabric.latency_ms[link].tolist()),
    }
    if len(link) >= TABLE_FROM:
        return {"link_table": LinkTable(**columns, direction=direction)}
    rows = zip(*columns.values(), strict=True)
    return {"links": tuple(Link(**dict(zip(columns, row, strict=True)), direction=direction) for row in rows)}


def _demands(demands: Sequence[Wish]) -> dict[str, Any]:
    if len(demands) >= TABLE_FROM:
        source, target, size = zip(*demands, strict=True)
        return {"demand_table": DemandTable(source=source, target=target, size_gbps=size)}
    return {
        "demands": tuple(
            Demand(id=f"d{place}", source=source, target=target, size_gbps=size) for place, (source, target, size) in enumerate(demands)
        )
    }


def fabric_of(problem: Problem) -> Fabric:
    """The network of a problem for ``models.collectives``: every node may be a GPU there, and there are no domains.

    Raises ValueError when links share their capacity between both ways: a fabric has a capacity for each.
    """
    network = network_of(problem)
    shared = np.flatnonzero((network.backward_arc >= 0) & (np.bincount(network.channel_link, minlength=network.links) < 2))  # noqa: PLR2004  (ways)
    if len(shared):
        name = network.link_ids[shared[0]]
        raise ValueError(f"link '{name}' shares its capacity between both ways; make it directed, or each way with its own")
    return Fabric(
        node_ids=network.node_ids,
        node_kind=(NodeKind.gpu,) * network.nodes,
        link_ids=network.link_ids,
        link_source=network.link_tail,
        link_target=network.link_head,
        capacity_gbps=network.link_capacity,
        back_gbps=np.where(network.backward_arc >= 0, network.link_capacity, 0.0),
        latency_ms=network.link_latency,
    )

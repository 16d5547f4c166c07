"""When nodes fail and come back: given, or drawn from exponential times. The same for every policy of a replay."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.replay.jobs import ReplayError
from service.replay.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from service.replay.rows import Row

COLUMNS = ("node", "down_s", "up_s")


@dataclass(frozen=True, slots=True)
class Outage:
    """Node number ``node`` is away from ``down_s`` until ``up_s`` (infinity: for good)."""

    node: int
    down_s: float
    up_s: float


def drawn(nodes: int, mean_up_s: float, mean_down_s: float, draw: np.random.Generator) -> Iterator[Outage]:
    """Outages without end, in the order of their beginning: each node fails after an exponential time up, and again."""
    heap = [(float(first), node) for node, first in enumerate(draw.exponential(mean_up_s, nodes))]
    heapq.heapify(heap)
    while heap:
        down_s, node = heap[0]
        up_s = down_s + float(draw.exponential(mean_down_s))
        yield Outage(node, down_s, up_s)
        heapq.heapreplace(heap, (up_s + float(draw.exponential(mean_up_s)), node))


def given(path: Path, index: Mapping[str, int]) -> tuple[Outage, ...]:
    """Outages from a CSV file with the columns node, down_s, up_s (empty: for good), by their beginning.

    Raises ReplayError for an unknown node, a time that is none, and two outages of one node at a time.
    """
    return checked(str(path), (_outage(row, index) for row in read_rows(path, COLUMNS)))


def checked(place: str, outages: Iterable[Outage]) -> tuple[Outage, ...]:
    """The outages by their beginning. Raises ReplayError where two of one node overlap."""
    found = sorted(outages, key=lambda one: (one.down_s, one.node))
    until: dict[int, float] = {}
    for one in found:
        if one.down_s < until.get(one.node, -math.inf):
            raise ReplayError(f"{place}: two outages of one node overlap at {one.down_s:g} s; make them one")
        until[one.node] = one.up_s
    return tuple(found)


def _outage(row: Row, index: Mapping[str, int]) -> Outage:
    node = row.name("node")
    if node not in index:
        raise row.error("node", f"there is no node '{node}' in the cluster; use the ids of the node file")
    down_s, up_s = row.number("down_s"), row.number("up_s", usual=math.inf)
    if not up_s > down_s:
        raise row.error("up_s", "must be later than down_s; correct it")
    return Outage(index[node], down_s, up_s)

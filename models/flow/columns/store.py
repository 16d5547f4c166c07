"""The paths that a master program knows, and what flows on them: kept as arrays, each path of a commodity once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.flow.columns.codes import mixed, numbered, run_sums
from models.flow.columns.pricing import joined

if TYPE_CHECKING:
    from models.flow.columns.codes import Codes
    from models.flow.columns.pricing import PathTable
    from models.flow.network.fabric import Fabric
    from models.program import Floats, Ints


NARROW = 2**16


class PathStore:
    """Paths in the order in which they came."""

    def __init__(self) -> None:
        self.table = joined([])
        self._known: Codes = np.zeros(0, dtype=np.uint64)  # sorted
        nothing = np.zeros(0, dtype=np.int64)
        self._entries: tuple[Ints, Ints, Floats] = (nothing, nothing, np.zeros(0))
        self._entered = 0  # paths that are in the entries

    @property
    def count(self) -> int:
        """How many paths."""
        return self.table.count

    def add(self, found: PathTable) -> Ints:
        """Take those that are new; their positions here."""
        codes, first = np.unique(_codes(found), return_index=True)
        place = np.searchsorted(self._known, codes)
        unknown = np.ones(len(codes), dtype=np.bool_)
        inside = place < len(self._known)
        unknown[inside] = self._known[place[inside]] != codes[inside]
        before, fresh = self.count, np.sort(first[unknown])
        if len(fresh):
            self._known = np.sort(np.concatenate((self._known, codes[unknown])))
            new = found if len(fresh) == found.count else found.chosen(fresh)
            self.table = joined([self.table, new]) if before else new
        return np.arange(before, self.count)

    def cheapest(self, totals: Floats, commodities: int) -> Floats:
        """The least of ``totals`` (paths,) over each commodity's paths, inf where it has none."""
        least = np.full(commodities, np.inf)
        np.minimum.at(least, self.table.commodity, totals)
        return least

    def entries(self, fabric: Fabric) -> tuple[Ints, Ints, Floats]:
        """Path, channel and how often the path uses it: sorted by path, no pair twice."""
        if self._entered < self.count:
            table, first = self.table, self._entered
            begin = int(table.starts[first])
            fresh = table.entry_path[begin:], fabric.channel[table.arcs[begin:]], np.ones(len(table.arcs) - begin)
            if not (table.simple and fabric.channels == fabric.arcs):
                fresh = _each_once(*fresh[:2], fabric)
            path, channel, often = (np.concatenate(pair) for pair in zip(self._entries, fresh, strict=True)) if first else fresh
            self._entries, self._entered = (path, channel, often), self.count
        return self._entries

    def loads(self, fabric: Fabric, flow: Floats) -> Floats:
        """Gbit/s on each channel when ``flow`` (paths, or the first of them) is sent."""
        path, channel, times = self.entries(fabric)
        flow = self.filled(flow)
        return np.bincount(channel, weights=times * flow[path], minlength=fabric.channels).astype(np.float64)

    def filled(self, flow: Floats) -> Floats:
        """``flow`` with 0 for the paths that came after it was found."""
        return np.concatenate((flow, np.zeros(self.count - len(flow)))) if len(flow) < self.count else flow


def _each_once(path: Ints, channel: Ints, fabric: Fabric) -> tuple[Ints, Ints, Floats]:
    """Pairs of path and channel, sorted by path, each once, and how often it was there."""
    # Stable sorts of narrow whole numbers take no comparisons.
    order = np.argsort(channel.astype(np.uint16) if fabric.channels <= NARROW else channel, kind="stable")
    if not ((channel[order[1:]] == channel[order[:-1]]) & (path[order[1:]] == path[order[:-1]])).any():
        return path, channel, np.ones(len(path))
    keys, times = np.unique(path * fabric.channels + channel, return_counts=True)
    return keys // fabric.channels, keys % fabric.channels, times.astype(np.float64)


def _codes(table: PathTable) -> Codes:
    """What tells a path of a commodity from all others: its arcs in any order, and the commodity; shape (paths,)."""
    arcs = numbered(int(table.arcs.max(initial=-1)) + 1)
    own = numbered(int(table.commodity.max(initial=-1)) + 1)
    return mixed(run_sums(arcs[table.arcs], table.starts) ^ mixed(own)[table.commodity])

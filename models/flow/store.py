"""The paths that a master program knows, and what flows on them: kept as arrays, each path of a commodity once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.flow.pricing import joined

if TYPE_CHECKING:
    from models.flow.fabric import Fabric
    from models.flow.pricing import PathTable
    from models.program import Floats, Ints


class PathStore:
    """Paths in the order in which they came."""

    def __init__(self) -> None:
        self.table = joined([])
        self._known: set[tuple[int, bytes]] = set()
        nothing = np.zeros(0, dtype=np.int64)
        self._entries: tuple[Ints, Ints, Floats] = (nothing, nothing, np.zeros(0))
        self._entered = 0  # paths that are in the entries

    @property
    def count(self) -> int:
        """How many paths."""
        return self.table.count

    def add(self, found: PathTable) -> Ints:
        """Take those that are new; their positions here."""
        starts, arcs = found.starts.tolist(), found.arcs.astype(np.int32)
        fresh = []
        for row, commodity in enumerate(found.commodity.tolist()):
            key = (commodity, arcs[starts[row] : starts[row + 1]].tobytes())
            if key not in self._known:
                self._known.add(key)
                fresh.append(row)
        before = self.count
        if fresh:
            new = found if len(fresh) == found.count else found.chosen(np.array(fresh, dtype=np.int64))
            self.table = joined([self.table, new])
        return np.arange(before, self.count)

    def cheapest(self, totals: Floats, commodities: int) -> Floats:
        """The least of ``totals`` (paths,) over each commodity's paths, inf where it has none."""
        least = np.full(commodities, np.inf)
        np.minimum.at(least, self.table.commodity, totals)
        return least

    def entries(self, fabric: Fabric) -> tuple[Ints, Ints, Floats]:
        """Path, channel and how often the path uses it: sorted by path, each pair once."""
        if self._entered < self.count:
            table, first = self.table, self._entered
            begin = int(table.starts[first])
            key = table.entry_path[begin:] * fabric.channels + fabric.channel[table.arcs[begin:]]
            keys, times = np.unique(key, return_counts=True)
            fresh = keys // max(fabric.channels, 1), keys % max(fabric.channels, 1), times.astype(np.float64)
            path, channel, often = (np.concatenate(pair) for pair in zip(self._entries, fresh, strict=True))
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

"""What the exact program of a routing decides, worked out once: streams of traffic taken together, and lists of paths.

Demands that may use every path are taken together by class and source, as flows on arcs: one stream for each. Those with a latency limit
or a choice of paths have a list of them, in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.flow.network.arrays import network_of, traffic_of
from models.flow.paths.shortest import distances_from
from models.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.flow.network.arrays import Network, Traffic
    from models.flow.schema import Problem
    from models.program import Ints

DEAD_ENDS = 4  # steps of a listing, for each path that it may find
MOST_PATHS = 50_000  # of all limited demands together: a program with more is not built

Path = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Demands of one class and source: their places, shape (members,)."""

    priority: int
    source: int
    demands: Ints


@dataclass(frozen=True, eq=False)
class Setting:
    """``streams`` of the demands that may use all paths, and ``paths`` of the others by demand; None where they are too many to list."""

    network: Network
    traffic: Traffic
    streams: tuple[Stream, ...]
    paths: dict[int, tuple[Path, ...]] | None

    @property
    def supplied(self) -> bool:
        """Whether the problem has node supplies in place of demands."""
        return self.traffic.count == 0

    @cached_property
    def strays(self) -> tuple[Stream, ...]:
        """Streams over all paths of the demands that have a list: what a diagnosis lets leave their paths."""
        return tuple(_streams(self.traffic, np.array(sorted(self.paths or ()), dtype=np.int64)))

    def arc_ids(self, arc: int) -> tuple[str, str]:
        """``("ams-fra", "back")``."""
        return self.network.link_ids[self.network.arc_link[arc]], "back" if self.network.arc_back[arc] else "forth"

    def channel_ids(self, channel: int) -> tuple[str, ...]:
        """``("ams-fra",)``, or with ``"back"`` for a capacity of the way back alone."""
        name = self.network.link_ids[self.network.channel_link[channel]]
        return (name, "back") if self.network.channel_back[channel] else (name,)

    def arcs_of(self, stream: Stream) -> Ints:
        """The arcs that a stream may use: no path comes back to its source, so the arcs that enter it are left out."""
        return np.flatnonzero(self.network.arc_head != stream.source)

    def stream_ids(self, stream: Stream) -> tuple[str, str]:
        """``("0", "ams")``."""
        return str(stream.priority), self.network.node_ids[stream.source]

    @property
    def columns(self) -> int:
        """About how many columns the program has; far too many where paths are not listed."""
        if self.supplied:
            return self.network.arcs
        if self.paths is None:
            return 10**12
        return len(self.streams) * self.network.arcs + sum(map(len, self.paths.values())) + self.traffic.count


def setting_of(problem: Problem) -> Setting:
    """The setting of a problem, kept as long as it lives."""
    return _settings.of(problem)


def _setting(problem: Problem) -> Setting:
    network, traffic = network_of(problem), traffic_of(problem)
    everywhere = np.arange(traffic.count)
    if problem.paths.choice != "all":
        from models.flow.paths.admissible import admissible

        allowed = admissible(problem)
        if allowed is not None:
            listed = {
                demand: tuple(
                    tuple(allowed.arcs[allowed.path_starts[one] : allowed.path_starts[one + 1]].tolist())
                    for one in range(int(allowed.starts[demand]), int(allowed.starts[demand + 1]))
                )
                for demand in range(traffic.count)
            }
            return Setting(network, traffic, (), listed)
    limited = np.isfinite(traffic.latency_limit)
    streams = tuple(_streams(traffic, everywhere[~limited]))
    return Setting(network, traffic, streams, _limited_paths(network, traffic, everywhere[limited]))


_settings: Kept[Problem, Setting] = Kept(_setting)


def _streams(traffic: Traffic, demands: Ints) -> Iterator[Stream]:
    """The demands by class and source."""
    keys = sorted({(-int(traffic.priority[one]), int(traffic.source[one])) for one in demands.tolist()})
    for negative, source in keys:
        own = demands[(traffic.priority[demands] == -negative) & (traffic.source[demands] == source)]
        yield Stream(-negative, source, own)


def _limited_paths(network: Network, traffic: Traffic, demands: Ints) -> dict[int, tuple[Path, ...]] | None:
    found: dict[int, tuple[Path, ...]] = {}
    left = MOST_PATHS
    for demand in demands.tolist():
        ends = int(traffic.source[demand]), int(traffic.target[demand])
        paths = simple_paths(network, *ends, float(traffic.latency_limit[demand]), left)
        if paths is None:
            return None
        found[demand] = paths
        left -= len(paths)
    return found


def simple_paths(network: Network, source: int, target: int, limit: float, most: int) -> tuple[Path, ...] | None:
    """All paths without loops from ``source`` to ``target`` of a latency up to ``limit``; None when they are more than ``most``."""
    rest = distances_from(network, network.arc_latency, target, backwards=True).tolist()
    starts, arcs = network.out_arcs
    slack = 1e-9 * max(1.0, limit) if np.isfinite(limit) else 0.0
    found: list[Path] = []
    waiting: list[tuple[int, float, Path, frozenset[int]]] = [(source, 0.0, (), frozenset((source,)))]
    looked = 0
    while waiting:
        node, taken, path, seen = waiting.pop()
        looked += 1
        if looked > DEAD_ENDS * max(1000, most):
            return None  # dead ends without number
        if node == target:
            found.append(path)
            if len(found) > most:
                return None
            continue
        for arc in arcs[starts[node] : starts[node + 1]][::-1].tolist():
            head, length = int(network.arc_head[arc]), taken + float(network.arc_latency[arc])
            if head not in seen and length + rest[head] <= limit + slack and np.isfinite(rest[head]):
                waiting.append((head, length, (*path, arc), seen | {head}))
    return tuple(found)

"""Water filling: all rates rise together until what some of them share is full or a demand has its size.

D. Bertsekas, R. Gallager, "Data Networks", 1992, section 6.5.2. What is shared are the links of the demands' paths where each has one, or
the links around each node, which all traffic from it or to it must cross: rates that are fair for those alone and can all be routed are
fair. Full ones are the proof: with price 1 on their channels, what all open demands pay at the level's rate is exactly what is left of the
capacity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.flow.fairness.levels import Level
from models.flow.network.arrays import traffic_of

if TYPE_CHECKING:
    from models.flow.routing.field import Field
    from models.program import Bools, Floats, Ints

SAME = 1e-12  # rates closer than this, relative, are one level


@dataclass(frozen=True, eq=False)
class Shared:
    """What demands share: entry k says that ``demand[k]`` takes ``times[k]`` of its rate from ``resource[k]``; entries by demand.

    ``capacity`` (resources,), inf where there is no limit. Resource r stands for ``channels[channel_starts[r]:channel_starts[r + 1]]``.
    """

    demand: Ints
    resource: Ints
    times: Floats
    capacity: Floats
    channel_starts: Ints
    channels: Ints

    @property
    def count(self) -> int:
        """How many resources."""
        return len(self.capacity)

    def sum(self, rates: Floats, entries: Ints | Bools | slice) -> Floats:
        """What ``rates`` (demands,) take from each resource, by some of the entries."""
        weights = self.times[entries] * rates[self.demand[entries]]
        return np.bincount(self.resource[entries], weights=weights, minlength=self.count).astype(np.float64)

    def priced(self, full: Ints, channels: int) -> Floats:
        """Price 1 on each channel of the resources ``full``, shape (channels,)."""
        prices = np.zeros(channels)
        for one in full.tolist():
            prices[self.channels[self.channel_starts[one] : self.channel_starts[one + 1]]] += 1.0
        return prices


def single_path_links(field: Field) -> Shared:
    """The channels of each demand's only path."""
    path, channel, times = field.store.entries(field.fabric)
    demand = field.store.table.commodity[path]
    order = np.argsort(demand, kind="stable")
    every = np.arange(field.fabric.channels)
    return Shared(demand[order], channel[order], times[order], field.fabric.capacity, np.arange(len(every) + 1), every)


def links_around(field: Field) -> Shared:
    """For each node the channels out of it, then for each node those into it."""
    fabric, commodities = field.fabric, field.commodities
    reached = np.flatnonzero(field.reached)
    ends = np.stack((commodities.source[reached], fabric.nodes + commodities.target[reached]), axis=1)
    node = np.concatenate((fabric.tail, fabric.nodes + fabric.head))
    pairs = np.unique(np.stack((node, np.tile(fabric.channel, 2)), axis=1), axis=0)
    capacity = np.zeros(2 * fabric.nodes)
    np.add.at(capacity, pairs[:, 0], fabric.capacity[pairs[:, 1]])
    starts = np.searchsorted(pairs[:, 0], np.arange(2 * fabric.nodes + 1))
    return Shared(np.repeat(reached, 2), ends.ravel(), np.ones(2 * len(reached)), capacity, starts, pairs[:, 1])


def filled(field: Field, shared: Shared, rank: int, own: Bools, rates: Floats) -> list[Level]:
    """The levels of one class, whose demands are ``own``; ``rates`` (demands,) of classes before it are kept, its own are set."""
    filling = _Filling(field, shared, rank, own, rates)
    while filling.raised():
        pass
    return filling.levels


class _Filling:
    def __init__(self, field: Field, shared: Shared, rank: int, own: Bools, rates: Floats) -> None:
        traffic = traffic_of(field.problem)
        self._field, self._shared, self._rank, self._rates = field, shared, rank, rates
        self._size, self._weight = traffic.size, traffic.weight
        self._open = own.copy()
        self._begins = np.searchsorted(shared.demand, np.arange(traffic.count + 1))
        self._left = np.maximum(0.0, shared.capacity - shared.sum(rates, slice(None)))
        active = own[shared.demand]
        self._pull = shared.sum(self._weight, active)
        self._users = np.bincount(shared.resource[active], minlength=shared.count)
        self._cap = traffic.size / traffic.weight
        self._by_cap = np.flatnonzero(own)[np.argsort(self._cap[own], kind="stable")]
        self._by_resource = np.argsort(shared.resource, kind="stable")
        self._resource_begins = np.searchsorted(shared.resource[self._by_resource], np.arange(shared.count + 1))
        self._at, self._last = 0, 0.0
        self.levels: list[Level] = []

    def raised(self) -> bool:
        """Raise all open demands to where the next ones stop; False when none is open."""
        by_cap, cap = self._by_cap, self._cap
        while self._at < len(by_cap) and not self._open[by_cap[self._at]]:
            self._at += 1
        if self._at == len(by_cap):
            return False
        share = np.full(self._shared.count, np.inf)
        used = self._users > 0
        share[used] = self._left[used] / self._pull[used]
        rate = max(self._last, min(float(share.min(initial=np.inf)), float(cap[by_cap[self._at]])))
        full = np.flatnonzero(share <= rate * (1 + SAME))
        stop = self._at + int(np.searchsorted(cap[by_cap[self._at :]], rate * (1 + SAME), side="right"))
        sized = by_cap[self._at : stop]
        sized = sized[self._open[sized]]
        if len(sized):
            self.levels.append(Level(self._rank, rate, sized, None))
            self._settle(sized, self._size[sized])
        begins = self._resource_begins
        users = np.concatenate([self._by_resource[:0], *(self._by_resource[begins[one] : begins[one + 1]] for one in full.tolist())])
        stuck = np.unique(self._shared.demand[users])
        stuck = stuck[self._open[stuck]]
        if len(stuck):
            paid = np.bincount(self._shared.demand[users], minlength=len(self._open))[stuck] * self._weight[stuck]
            prices = self._shared.priced(full, self._field.fabric.channels)
            self.levels.append(Level(self._rank, rate, stuck, prices, shares=paid / float(paid.sum())))
            self._settle(stuck, rate * self._weight[stuck])
        self._last = rate
        return True

    def _settle(self, demands: Ints, rates: Floats) -> None:
        self._rates[demands] = rates
        self._open[demands] = False
        lengths = np.diff(self._begins)[demands]
        ends = np.cumsum(lengths)
        gone = np.repeat(self._begins[demands] - (ends - lengths), lengths) + np.arange(int(ends[-1]))
        self._left = np.maximum(0.0, self._left - self._shared.sum(self._rates, gone))
        self._pull = self._pull - self._shared.sum(self._weight, gone)
        self._users = self._users - np.bincount(self._shared.resource[gone], minlength=self._shared.count)

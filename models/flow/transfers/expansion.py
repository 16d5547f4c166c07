"""The network of a transfer problem over time: one copy of every node for each moment between two steps.

A leg over an arc in step t leads from its tail at moment t to its head at moment t + 1; what waits at a node through step t leads from its
moment t to t + 1. Latency is taken as one step for each leg: it is neglected within a step.

Sources: L. R. Ford, D. R. Fulkerson, "Constructing maximal dynamic flows from static flows", Operations Research 6 (1958);
B. Hoppe, E. Tardos, "The quickest transshipment problem", Mathematics of Operations Research 25 (2000).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.flow.network.arrays import network_of
from models.kept import Kept
from models.named import Named

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.flow.network.arrays import Network
    from models.flow.schema import Link, Problem, Shipment
    from models.program import Bools, Floats, Ints

Legs = tuple[tuple[int, int], ...]  # (arc, step) in the order of steps


@dataclass(frozen=True, eq=False)
class Expansion(Named):
    """Transfers by position, and what each arc, channel and node can do in each step.

    Shapes: ``usd`` (steps, arcs), USD for one Gbit; ``channel_gbit`` (channels,) and ``storage`` (nodes,), Gbit in a step, inf without
    limit; ``source``, ``release``, ``deadline``, ``size``, ``value`` (transfers,), a value of 0 where all must be delivered.
    """

    network: Network
    steps: int
    step_s: float
    usd: Floats
    channel_gbit: Floats
    storage: Floats
    ids: tuple[str, ...]
    source: Ints
    targets: tuple[Ints, ...]
    release: Ints
    deadline: Ints
    size: Floats
    value: Floats

    @cached_property
    def required(self) -> Bools:
        """Which transfers must be delivered in full, shape (transfers,)."""
        return np.asarray(self.value == 0.0)

    @cached_property
    def own(self) -> Bools:
        """Where a transfer waits without counting: at its source and targets, shape (transfers, nodes)."""
        found: Bools = np.zeros((self.count, self.network.nodes), dtype=np.bool_)
        found[np.arange(self.count), self.source] = True
        for place, nodes in enumerate(self.targets):
            found[place, nodes] = True
        return found

    @cached_property
    def open_steps(self) -> Bools:
        """Which steps lie in any transfer's window, shape (steps,)."""
        moments = np.arange(self.steps)
        inside: Bools = (self.release[:, None] <= moments) & (moments < self.deadline[:, None])
        return np.asarray(inside.any(axis=0))

    @cached_property
    def limited_channels(self) -> Ints:
        """Channels that all transfers together could overfill. A volume goes over an arc once in a step, so twice over a channel."""
        return np.flatnonzero(self.channel_gbit < 2.0 * float(self.size.sum()))

    @cached_property
    def limited_nodes(self) -> Ints:
        """Nodes where more could wait than there is room for, and where anything may wait at all."""
        return np.flatnonzero((self.storage < float(self.size.sum())) & (self.storage > 0.0))

    @cached_property
    def blocked(self) -> Floats:
        """What closes arcs without capacity: inf for these, else 0; shape (arcs,)."""
        return np.where(self.channel_gbit[self.network.arc_channel] > 0.0, 0.0, np.inf)

    @cached_property
    def no_room(self) -> Floats:
        """What closes nodes without storage: inf for these, else 0; shape (nodes,)."""
        return np.where(self.storage > 0.0, 0.0, np.inf)

    @cached_property
    def arcs_out(self) -> Ints:
        """The arcs that leave each node, filled up with -1; shape (nodes, largest number of them)."""
        starts, arcs = self.network.out_arcs
        degree = np.diff(starts)
        padded = np.full((self.network.nodes, max(1, int(degree.max(initial=0)))), -1, dtype=np.int64)
        place = np.arange(len(arcs)) - np.repeat(starts[:-1], degree)
        padded[np.repeat(np.arange(self.network.nodes), degree), place] = arcs
        return padded

    @cached_property
    def arc_at(self) -> dict[tuple[str, bool], int]:
        """The arc of each link id and direction."""
        network = self.network
        return {(network.link_ids[network.arc_link[arc]], bool(network.arc_back[arc])): arc for arc in range(network.arcs)}

    def cost(self, legs: Legs) -> float:
        """USD for one Gbit that goes over ``legs``."""
        return sum(float(self.usd[step, arc]) for arc, step in legs)

    def waits(self, transfer: int, legs: Legs) -> list[tuple[int, int]]:
        """(node, step) wherever a volume on ``legs`` waits and counts: for each leg from the last time that it came there."""
        network, own = self.network, self.own[transfer]
        came: dict[int, list[int]] = {}
        for arc, step in legs:
            came.setdefault(int(network.arc_head[arc]), []).append(step + 1)
        found: set[tuple[int, int]] = set()
        for arc, step in legs:
            node = int(network.arc_tail[arc])
            if not own[node]:
                last = max((moment for moment in came.get(node, ()) if moment <= step), default=step)
                found.update((node, waited) for waited in range(last, step))
        return sorted(found)

    def needed(self, transfer: int, legs: Iterable[tuple[int, int]]) -> Legs:
        """The legs without those that no target needs; every leg leaves from where the volume came last before it."""
        network = self.network
        came: dict[int, list[tuple[int, int]]] = {}
        for arc, step in legs:
            came.setdefault(int(network.arc_head[arc]), []).append((arc, step))
        for arrivals in came.values():
            arrivals.sort(key=lambda leg: leg[1])
        waiting = [came[int(node)][0] for node in self.targets[transfer]]
        kept: set[tuple[int, int]] = set()
        while waiting:
            leg = waiting.pop()
            if leg in kept:
                continue
            kept.add(leg)
            node = int(network.arc_tail[leg[0]])
            if node != self.source[transfer]:
                before = [arrival for arrival in came[node] if arrival[1] < leg[1]]
                waiting.append(before[0] if self.own[transfer, node] else before[-1])
        return tuple(sorted(kept, key=lambda leg: (leg[1], leg[0])))

    def legs_of(self, shipment: Shipment) -> Legs:
        """The legs of a shipment; KeyError for a link, or a direction of it, that is not there."""
        return tuple(sorted(((self.arc_at[leg.link, leg.back], leg.step) for leg in shipment.legs), key=lambda leg: (leg[1], leg[0])))


def expansion_of(problem: Problem) -> Expansion:
    """The expansion of a problem with transfers, kept as long as the problem lives."""
    return _kept.of(problem)


def _expansion(problem: Problem) -> Expansion:
    horizon = problem.horizon
    if horizon is None:
        raise ValueError("a problem without a horizon has no steps")
    network, transfers = network_of(problem), problem.transfers
    storage = (
        np.zeros(network.nodes)
        if problem.node_table is not None
        else np.array([np.inf if node.storage_gbit is None else node.storage_gbit for node in problem.nodes], dtype=np.float64)
    )
    deadline = [horizon.steps if one.deadline is None else one.deadline for one in transfers]
    return Expansion(
        network=network,
        steps=horizon.steps,
        step_s=horizon.step_s,
        usd=_usd(problem.links, horizon.steps, network.links)[:, network.arc_link],
        channel_gbit=network.channel_capacity * horizon.step_s,
        storage=storage,
        ids=tuple(one.id for one in transfers),
        source=np.array([network.node_at[one.source] for one in transfers], dtype=np.int64),
        targets=tuple(np.array([network.node_at[name] for name in one.targets], dtype=np.int64) for one in transfers),
        release=np.array([one.release for one in transfers], dtype=np.int64),
        deadline=np.array(deadline, dtype=np.int64),
        size=np.array([one.size_gbit for one in transfers], dtype=np.float64),
        value=np.array([one.value or 0.0 for one in transfers], dtype=np.float64),
    )


def _usd(links: Sequence[Link], steps: int, count: int) -> Floats:
    """The price of each link in each step, shape (steps, links); links of a table have none."""
    prices = np.zeros((steps, count))
    for place, link in enumerate(links):
        if link.usd_per_gbit:
            prices[:, place] = link.usd_per_gbit
    return prices


_kept: Kept[Problem, Expansion] = Kept(_expansion)

"""Cuts that tell why traffic does not get through: full links that every path of a demand has to cross.

A set of nodes that holds a demand's source and not its target is a cut. When every link out of it is full, no plan carries more across it
(L. R. Ford, D. R. Fulkerson, "Maximal flow through a network", 1956); so more for one demand is less for another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE
from models.flow.network.arrays import is_supplied, network_of, traffic_of
from models.flow.paths.shortest import distances_from

if TYPE_CHECKING:
    from models.flow.network.arrays import Network
    from models.flow.network.tally import Tally
    from models.flow.schema import Problem
    from models.program import Bools, Floats, Ints

MOSTLY = 0.99  # of a capacity so small that the tolerance exceeds it: an empty link is not full


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """``inside`` (nodes,) holds the source; ``channels`` lead out of it, with ``capacity`` Gbit/s together, and all of them are full."""

    inside: Bools
    channels: Ints
    capacity: float


def full_channels(network: Network, tally: Tally) -> Bools:
    """Which channels carry all that they can, shape (channels,)."""
    load, capacity = tally.channel_load(network), network.channel_capacity
    limited = np.isfinite(capacity)
    most = np.where(limited, capacity, 0.0)
    return limited & (load >= most - 10 * TOLERANCE * np.maximum(1.0, most)) & (load >= MOSTLY * most)


def cut_of(network: Network, full: Bools, source: int, target: int) -> Cut | None:
    """The cut of full channels nearest to the source; None when a path without full links leads to the target."""
    inside = walked(network, ~full[network.arc_channel], source)
    if inside[target]:
        return None
    # Of the links that lead out, those from which no path goes on to the target do not matter.
    onwards = walked(network, np.ones(network.arcs, dtype=np.bool_), target, backwards=True)
    out = inside[network.arc_tail] & ~inside[network.arc_head] & onwards[network.arc_head]
    channels = np.unique(network.arc_channel[out])
    return Cut(inside, channels, float(network.channel_capacity[channels].sum()))


def walked(network: Network, open_arcs: Bools, start: int, *, backwards: bool = False) -> Bools:
    """The nodes that a walk over open arcs from ``start`` reaches (or that reach it), shape (nodes,)."""
    tails, heads = network.arc_tail[open_arcs], network.arc_head[open_arcs]
    if backwards:
        tails, heads = heads, tails
    reached = np.zeros(network.nodes, dtype=np.bool_)
    reached[start] = True
    while True:
        new = heads[reached[tails] & ~reached[heads]]
        if not len(new):
            return reached
        reached[new] = True


def across(problem: Problem, cut: Cut) -> tuple[Bools, float]:
    """Which demands have their source inside a cut and their target outside, shape (demands,), and what they ask for together."""
    traffic = traffic_of(problem)
    crossing = cut.inside[traffic.source] & ~cut.inside[traffic.target]
    return crossing, float(traffic.size[crossing].sum())


def blocked_within(network: Network, full: Bools, source: int, target: int, limit: float) -> Ints | None:
    """The full channels on paths of a latency up to ``limit``; None when one of these paths has no full channel."""
    most = limit + TOLERANCE * max(1.0, limit)
    closed = full[network.arc_channel]
    if distances_from(network, np.where(closed, np.inf, network.arc_latency), source)[target] <= most:
        return None
    there = distances_from(network, network.arc_latency, source)[network.arc_tail]
    onwards = distances_from(network, network.arc_latency, target, backwards=True)[network.arc_head]
    return np.unique(network.arc_channel[closed & (there + network.arc_latency + onwards <= most)])


def listed_blocked(problem: Problem, demand: int, full: Bools) -> Ints | None:
    """The full channels on the paths that a demand may choose from; None when one of these has no full channel."""
    from models.flow.paths.admissible import admissible

    network, allowed = network_of(problem), admissible(problem)
    if allowed is None:
        return None
    found: list[int] = []
    for one in range(int(allowed.starts[demand]), int(allowed.starts[demand + 1])):
        channels = network.arc_channel[allowed.arcs[allowed.path_starts[one] : allowed.path_starts[one + 1]]]
        blocked = channels[full[channels]]
        if not len(blocked):
            return None
        found += blocked.tolist()
    return np.unique(np.array(found, dtype=np.int64))


def price_bound(problem: Problem, prices: Floats) -> tuple[float, float] | None:
    """What the prices of channels, shape (channels,), prove about the first goal by weak duality; None where they prove nothing.

    The bound, and what one more Gbit/s of capacity moves it by at most, for each unit of its price.

    As in Dantzig and Wolfe's decomposition: capacities are sold at these prices, and every demand takes its cheapest path.
    """
    from models.flow.fairness.verify import distances
    from models.flow.goals import goal_class, goal_names, plain_name

    network, traffic = network_of(problem), traffic_of(problem)
    capacity = network.channel_capacity
    name = goal_names(problem)[0]
    plain, own = plain_name(name), traffic.priority == goal_class(problem, name)
    reserving = problem.failures is not None and problem.failures.mode != "sweep"
    if is_supplied(problem) or (np.isinf(capacity) & (prices > 0)).any() or reserving:
        return None
    paid = float(prices @ np.where(np.isfinite(capacity), capacity, 0.0))
    on_arc = prices[network.arc_channel] + (network.arc_cost if plain == "cost" else 0.0)
    distance = distances(problem, on_arc)
    reached = np.isfinite(distance)
    amounts = traffic.weight if plain == "fair_rate" else traffic.size
    weighed = float((amounts * np.where(reached, distance, 0.0))[own].sum())
    if plain == "throughput":
        worth = np.where(reached, np.maximum(0.0, traffic.value - distance), 0.0)
        return paid + float((traffic.size * worth)[own].sum()), 1.0
    if plain == "cost" and reached[own].all():
        return weighed - paid, 1.0
    if plain in {"concurrent", "fair_rate"} and weighed > 0 and reached[own].all():
        return paid / weighed, 1.0 / weighed
    if plain == "max_utilisation" and paid > 0:
        return weighed / paid, weighed / paid**2
    return None

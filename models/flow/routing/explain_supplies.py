"""What proves a flow of supplies best: a cut that is full, or potentials of nodes that no arc contradicts.

From the supplies that are left, a walk over links with room, and back over links that carry something, ends at a cut of full links: no
flow ships more (L. R. Ford, D. R. Fulkerson, "Maximal flow through a network", 1956).

With prices on full channels only, a flow is cheapest when no circle of arcs gains, where each arc costs its own cost and its channel's
price and an arc that carries more than it must can also be taken back (R. K. Ahuja, T. L. Magnanti, J. B. Orlin, "Network Flows", 1993,
section 9.3). Bellman and Ford's method finds potentials that show there is none.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.flow.network.arrays import Network
    from models.program import Bools, Floats, Ints

ROUNDING = 1e-7  # relative to the largest cost: what potentials may be off by
CARRIES = 1e-6  # relative to the largest flow: less is what a solver leaves behind


def bottleneck(network: Network, arc_flow: Floats, full: Bools, net: Floats) -> tuple[Bools, Ints] | None:
    """The nodes before the cut, shape (nodes,), and the full channels out of it.

    None where all is shipped, or all needs are met, or no cut proves the flow largest. ``net``, shape (nodes,): Gbit/s that leave each
    node less those that enter it.
    """
    near = CARRIES * np.maximum(1.0, np.abs(network.supply))
    inside = (network.supply > 0) & (net < network.supply - near)
    needing = (network.supply < 0) & (net > network.supply + near)
    least = np.where(network.arc_back, 0.0, network.link_lower[network.arc_link])
    ahead, back = ~full[network.arc_channel], arc_flow > least + CARRIES * max(1.0, float(arc_flow.max(initial=0.0)))
    tail = np.concatenate((network.arc_tail[ahead], network.arc_head[back]))
    head = np.concatenate((network.arc_head[ahead], network.arc_tail[back]))
    grown = inside.copy()
    while grown.any():
        reached = head[inside[tail] & ~inside[head]]
        grown = np.zeros(network.nodes, dtype=np.bool_)
        grown[reached] = True
        inside |= grown
    if not inside.any() or not needing.any() or (inside & needing).any():
        return None
    return inside, np.unique(network.arc_channel[inside[network.arc_tail] & ~inside[network.arc_head]])


def proved_cheapest(network: Network, arc_flow: Floats, full: Bools, prices: Floats, deadline: float) -> bool:
    """Whether ``prices``, shape (channels,), prove that no flow of the same supplies costs less than ``arc_flow``, shape (arcs,)."""
    if (prices[~full] > 0).any() or not network.arcs:
        return False
    cost = network.arc_cost + prices[network.arc_channel]
    least = np.where(network.arc_back, 0.0, network.link_lower[network.arc_link])
    back = arc_flow > least + CARRIES * max(1.0, float(arc_flow.max(initial=0.0)))
    tail = np.concatenate((network.arc_tail, network.arc_head[back]))
    head = np.concatenate((network.arc_head, network.arc_tail[back]))
    length = np.concatenate((cost, -cost[back])) + ROUNDING * max(1.0, float(np.abs(cost).max(initial=0.0)))
    order = np.argsort(head, kind="stable")
    tail, length = tail[order], length[order]
    heads, first = np.unique(head[order], return_index=True)
    potential = np.zeros(network.nodes)
    for _ in range(network.nodes + 1):
        reached = np.minimum(potential[heads], np.minimum.reduceat(potential[tail] + length, first))
        if (reached >= potential[heads]).all():
            return True
        potential[heads] = reached
        if time.monotonic() > deadline:
            return False
    return False

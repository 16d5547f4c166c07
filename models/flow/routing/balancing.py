"""Paths to start from that go around the busiest links, found without a program.

A few steps of the method of Frank and Wolfe (M. Frank, P. Wolfe, "An algorithm for quadratic programming", 1956; Fratta, Gerla and
Kleinrock, "The flow deviation method", 1973): price each channel by a high power of its utilisation, route everything anew, and move
as much of the flow there as lowers the largest utilisation most. It proves nothing; the programs after it need fewer rounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.flow.columns.pricing import Pricer
    from models.flow.columns.store import PathStore
    from models.flow.network.fabric import Commodities, Fabric
    from models.program import Floats

STEPS = 3
POWER = 6.0
BUSY = 0.8  # share of the largest utilisation from which on a channel is worth going around
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
HOP = 1e-4  # price of a hop, to that of the busiest channel


def balanced(fabric: Fabric, commodities: Commodities, pricer: Pricer, store: PathStore, load: Floats, steps: int = STEPS) -> Floats:
    """Utilisation of each channel after a few steps from ``load`` (channels,); adds the paths of those that used busy channels."""
    limited = np.isfinite(fabric.capacity)
    which = np.unique(store.table.commodity)
    for _ in range(steps if limited.any() else 0):
        used = _utilisation(fabric, load)
        largest = float(used.max(initial=0.0))
        if largest <= 0.0:
            break
        price = np.where(limited, (used / largest) ** POWER / np.where(limited, fabric.capacity, 1.0), 0.0)
        price = price / float(price.max()) + HOP
        found = pricer.cheapest(np.tile(price[fabric.channel], (commodities.ranks, 1))).paths(which)
        busy = (used > BUSY * largest)[fabric.channel]
        touched = np.zeros(commodities.count, dtype=np.bool_)
        touched[store.table.commodity[store.table.entry_path[busy[store.table.arcs]]]] = True
        weights = np.repeat(commodities.size[found.commodity], np.diff(found.starts))
        fresh = np.bincount(fabric.channel[found.arcs], weights=weights, minlength=fabric.channels)
        store.add(found.chosen(np.flatnonzero(touched[found.commodity])))
        mixes = [(1 - share) * load + share * fresh for share in SHARES]
        load = min(mixes, key=lambda mix: float(_utilisation(fabric, mix).max()))
    return _utilisation(fabric, load)


def _utilisation(fabric: Fabric, load: Floats) -> Floats:
    limited = np.isfinite(fabric.capacity)
    return np.where(limited, load / np.where(limited, fabric.capacity, 1.0), 0.0)

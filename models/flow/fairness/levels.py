"""Levels of fairness as a search finds them, and as a plan tells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.flow.network.arrays import network_of
from models.flow.routing.plans import link_prices
from models.flow.schema import FairLevel, LinkPrice

if TYPE_CHECKING:
    from models.flow.network.arrays import Traffic
    from models.flow.network.fabric import Fabric
    from models.flow.schema import Problem
    from models.program import Floats, Ints


@dataclass(frozen=True, eq=False)
class Level:
    """Demands (positions) whose rate ends at ``rate`` for each unit of weight.

    ``prices`` (channels of the fabric,) prove it, with one of ``shares`` for each demand; None where the demands have all of
    their size, or, ``cut_off``, no path.
    """

    rank: int
    rate: float
    demands: Ints
    prices: Floats | None
    shares: Floats | None = None
    cut_off: bool = False


def levels_of(problem: Problem, fabric: Fabric, levels: list[Level], traffic: Traffic) -> tuple[FairLevel, ...]:
    """The levels in the user's ids, with the prices of links."""
    return tuple(
        FairLevel(
            priority=traffic.classes[level.rank],
            rate=level.rate,
            demands=tuple(traffic.ids[demand] for demand in level.demands.tolist()),
            prices=_prices(problem, fabric, level),
            shares=() if level.shares is None else tuple(level.shares.tolist()),
        )
        for level in levels
    )


def _prices(problem: Problem, fabric: Fabric, level: Level) -> tuple[LinkPrice, ...]:
    if level.prices is not None:
        # A link without capacity must be no way around: its price costs the proof nothing.
        scaled = level.prices / float(level.prices.max())
        return link_prices(problem, fabric, scaled, closed=float(scaled.sum()) + 1.0)
    if not level.cut_off:
        return ()
    closed = link_prices(problem, fabric, np.zeros(fabric.channels), closed=1.0)
    if closed:
        return closed
    network = network_of(problem)
    limited = np.flatnonzero(np.isfinite(network.channel_capacity))  # any price will do: what has no path pays an infinite one
    return tuple(LinkPrice(link=network.link_ids[network.channel_link[one]], price=1.0) for one in limited[:1].tolist())

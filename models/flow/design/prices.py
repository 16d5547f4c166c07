"""What one more Gbit/s on a link is worth to a design whose modules stay as they are, with a proof in the prices themselves.

With prices ``y`` on channels, every routing costs at least ``sum over demands size * (cheapest path at cost + y) - sum y * capacity``
(weak duality). Where this comes to what the plan's routing costs, the prices are optimal: no change of one capacity saves more than
its price for each Gbit/s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.flow.design.works import works_of
from models.flow.network.tally import tally_of
from models.flow.schema import LinkPrice

if TYPE_CHECKING:
    from models.flow.design.works import Works
    from models.flow.schema import Plan, Problem
    from models.program import Floats

WORTHLESS = 1e-7  # relative to the dearest: noise of the solver
PROVED = 1e-6  # relative: how close bound and cost must be


def priced(problem: Problem, plan: Plan, prices: Floats) -> Plan:
    """The plan with prices, (channels,) or those with a capacity only, where these prove that its routing is cheapest; else as it was."""
    works = works_of(problem)
    full = np.zeros(len(works.network.channel_link))
    full[np.isfinite(works.network.channel_capacity)] = np.maximum(prices, 0.0)
    full[full <= WORTHLESS * full.max(initial=0.0)] = 0.0
    network = works.network
    told = tuple(
        LinkPrice(
            link=network.link_ids[network.channel_link[channel]], back=bool(network.channel_back[channel]), price=float(full[channel])
        )
        for channel in np.flatnonzero(full).tolist()
    )
    with_prices = plan.model_copy(update={"prices": told})
    return with_prices if told and proved(problem, with_prices) else plan.model_copy(update={"prices": ()})


def proved(problem: Problem, plan: Plan) -> bool:
    """Whether a plan's prices prove that no routing on what it builds costs less than its own."""
    works = works_of(problem)
    network = works.network
    if works.charged_larger.any():
        return False  # two ways of a link share one charge, which prices of channels alone do not tell apart
    at = {
        (int(link), bool(back)): channel
        for channel, (link, back) in enumerate(zip(network.channel_link, network.channel_back, strict=True))
    }
    price = np.zeros(len(network.channel_link))
    for one in plan.prices:
        channel = at.get((network.link_at.get(one.link, -1), one.back))
        if channel is None:
            return False
        price[channel] = one.price
    capacity = works.link_capacity(works.counts(plan.upgrades))[network.channel_link]
    distance = distances(works, network.arc_cost + price[network.arc_channel])
    cheapest = float(works.traffic.size @ distance[works.traffic.source, works.traffic.target]) if works.traffic.count else 0.0
    paid = price > 0
    bound = cheapest - float(price[paid] @ capacity[paid])
    cost = works.routing_cost(tally_of(problem, plan).arc_flow)
    return cost - bound <= PROVED * max(1.0, abs(cost))


def distances(works: Works, arc_length: Floats) -> Floats:
    """Shortest ways between all nodes for lengths of 0 or more, (nodes, nodes) (Floyd 1962, Warshall 1962)."""
    network = works.network
    distance = np.full((network.nodes, network.nodes), np.inf)
    np.fill_diagonal(distance, 0.0)
    np.minimum.at(distance, (network.arc_tail, network.arc_head), arc_length)
    for node in range(network.nodes):
        np.minimum(distance, distance[:, node, None] + distance[None, node, :], out=distance)
    return distance

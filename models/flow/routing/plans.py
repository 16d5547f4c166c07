"""From flows on paths to a plan: the share of each demand, routes in the user's ids, prices of links."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.flow.columns.patterns import matched
from models.flow.network.arrays import network_of, traffic_of
from models.flow.paths.route_columns import with_routes
from models.flow.schema import Bundle, LinkPrice, Plan

if TYPE_CHECKING:
    from models.flow.columns.pricing import PathTable
    from models.flow.network.fabric import Commodities, Fabric
    from models.flow.schema import FairLevel, Problem
    from models.program import Floats, Ints

NOTHING = 1e-12  # of a commodity: a flow below it is rounding


def plan_of(
    problem: Problem,
    fabric: Fabric,
    commodities: Commodities,
    table: PathTable,
    flow: Floats,
    prices: Floats | None = None,
    levels: tuple[FairLevel, ...] = (),
    *,
    evenly: bool = False,
) -> Plan:
    """The plan that sends ``flow`` (paths,) over the paths of ``table``.

    Demands of one commodity are filled one after another, or ``evenly``: each with the same share of its size. ``prices`` (channels,)
    are those of the fabric's channels.
    """
    path, demand, gbps = _split(problem, commodities, table, flow, evenly=evenly)
    ids = traffic_of(problem).ids
    sent = table.chosen(path)
    used = {fabric.hops[arc] for arc in np.unique(sent.arcs).tolist()}
    bundles = tuple(Bundle(id=name, links=links) for name, links in fabric.bundles.items() if name in used)
    told = () if prices is None else link_prices(problem, fabric, prices)
    hops = list(map(fabric.hops.__getitem__, sent.arcs.tolist()))
    plan = Plan(bundles=bundles, levels=levels, prices=told)
    return with_routes(plan, [ids[one] for one in demand.tolist()], gbps.tolist(), np.diff(sent.starts), hops)


def _split(problem: Problem, commodities: Commodities, table: PathTable, flow: Floats, *, evenly: bool) -> tuple[Ints, Ints, Floats]:
    """Path, demand and Gbit/s of each route, by demand."""
    sizes = traffic_of(problem).size
    used = np.flatnonzero(flow > NOTHING * commodities.size[table.commodity])
    owner = table.commodity[used]
    demands = np.bincount(commodities.member, minlength=commodities.count)
    alone = demands[owner] == 1
    parts = [(used[alone], commodities.first[owner[alone]], flow[used[alone]])]
    order = np.argsort(owner[~alone], kind="stable")
    paths = used[~alone][order]
    crowds, first = np.unique(table.commodity[paths], return_index=True)
    ends = np.append(first, len(paths)).tolist()
    by_commodity = np.argsort(commodities.member, kind="stable")
    begins = np.concatenate(([0], np.cumsum(demands)))
    for number, crowd in enumerate(crowds.tolist()):
        own = paths[ends[number] : ends[number + 1]]
        members = by_commodity[begins[crowd] : begins[crowd + 1]]
        wanted = sizes[members]
        given = float(flow[own].sum())
        if evenly:
            wanted = wanted * (given / float(wanted.sum()))
        amount, member, place = matched(wanted.tolist(), flow[own].tolist())
        parts.append((own[place], members[member], amount))
    path, demand, gbps = (np.concatenate(one) for one in zip(*parts, strict=True))
    kept = np.flatnonzero(gbps > NOTHING * sizes[demand])
    kept = kept[np.lexsort((path[kept], demand[kept]))]
    return path[kept], demand[kept], gbps[kept]


def link_prices(problem: Problem, fabric: Fabric, prices: Floats, closed: float = 0.0) -> tuple[LinkPrice, ...]:
    """Prices of the fabric's channels as prices of links; those without capacity get the price ``closed``."""
    network = network_of(problem)
    by_channel = np.where(network.channel_capacity > 0, 0.0, closed)
    by_channel[fabric.members] = np.repeat(prices, np.diff(fabric.member_starts))
    largest = float(by_channel.max(initial=0.0))
    return tuple(
        LinkPrice(
            link=network.link_ids[network.channel_link[channel]], back=bool(network.channel_back[channel]), price=float(by_channel[channel])
        )
        for channel in np.flatnonzero(by_channel > NOTHING * largest).tolist()
    )

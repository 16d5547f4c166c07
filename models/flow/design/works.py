"""A design as arrays: the modules that can be added, the traffic to be carried, the failures to be survived; and a first plan.

Traffic is aggregated: a **commodity** is all that leaves one node, its root. Where every link is shared, a demand may as well be
routed from its target to its source, so that a small vertex cover of the demand graph gives the roots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.flow.failures.scenarios import families_from, named_scenarios
from models.flow.network.arrays import network_of, traffic_of
from models.flow.schema import Charge, Upgrade
from models.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.flow.network.arrays import Network, Traffic
    from models.flow.schema import Plan, Problem
    from models.program import Bools, Floats, Ints

MOST_COVER_STEPS = 2_000  # of the search for the cheapest modules that hold a load; beyond it the best found is taken


@dataclass(frozen=True, eq=False)
class Commodities:
    """Demands by root. ``wanted[k, v]``, (commodities, nodes), is what must reach node v; ``demands[k]`` are positions in the traffic.

    ``flipped``, (demands,), marks those that are routed from their target to their source.
    """

    root: Ints
    wanted: Floats
    demands: tuple[tuple[int, ...], ...]
    flipped: Bools

    @property
    def count(self) -> int:
        """How many."""
        return len(self.root)

    @cached_property
    def total(self) -> Floats:
        """Gbit/s that leave each root, shape (commodities,)."""
        total: Floats = self.wanted.sum(axis=1)
        return total

    def sink(self, traffic: Traffic, demand: int) -> int:
        """Where a demand ends, seen from its root."""
        return int(traffic.source[demand] if self.flipped[demand] else traffic.target[demand])


@dataclass(frozen=True, eq=False)
class Failure:
    """Links that fail together: ``dead``, shape (links,)."""

    id: str
    dead: Bools


@dataclass(frozen=True, eq=False)
class Works:
    """What may be built. Module arrays have shape (modules,), ``setup`` (links,).

    ``offered`` is how many may be added at most, inf without a limit; ``most`` is finite: of a module that alone carries all there is,
    more copies than that are of no use. ``limited`` marks where the limit is the smaller of the two. ``useful`` leaves out the modules
    that others replace at no higher cost.
    """

    network: Network
    traffic: Traffic
    commodities: Commodities
    failures: tuple[Failure, ...]
    module_link: Ints
    module_ids: tuple[tuple[str, str], ...]
    module_capacity: Floats
    module_cost: Floats
    offered: Floats
    most: Floats
    limited: Bools
    useful: Bools
    setup: Floats
    one_each: bool
    larger: bool
    installed_cost: float

    @property
    def modules(self) -> int:
        """How many modules, over all links."""
        return len(self.module_link)

    @cached_property
    def of_link(self) -> tuple[Ints, ...]:
        """The modules of each link."""
        order = np.argsort(self.module_link, kind="stable")
        ends = np.cumsum(np.bincount(self.module_link, minlength=self.network.links))
        return tuple(np.split(order, ends[:-1])) if self.network.links else ()

    @cached_property
    def module_at(self) -> dict[tuple[str, str], int]:
        """Position of each module, by link and module."""
        return {ids: place for place, ids in enumerate(self.module_ids)}

    @cached_property
    def charged_larger(self) -> Bools:
        """Links whose routing is charged by the larger of both ways, shape (links,)."""
        separate = np.bincount(self.network.channel_link, minlength=self.network.links) == 2  # noqa: PLR2004 - there and back
        charged: Bools = separate & self.larger & (self.network.link_cost != 0)
        return charged

    def link_capacity(self, counts: Floats) -> Floats:
        """Gbit/s of every link (each way of it) with ``counts`` modules added, shape (links,)."""
        added = np.bincount(self.module_link, weights=self.module_capacity * counts, minlength=self.network.links)
        return self.network.link_capacity + added

    def building_cost(self, counts: Floats) -> float:
        """Cost of modules and setup."""
        touched = np.unique(self.module_link[counts > 0])
        return float(self.module_cost @ counts) + float(self.setup[touched].sum())

    def routing_cost(self, arc_flow: Floats) -> float:
        """Cost of flows, shape (arcs,), as the design charges them."""
        network, charged = self.network, self.charged_larger
        ways = np.zeros((network.links, 2))
        ways[network.arc_link, network.arc_back.astype(np.int64)] = arc_flow
        load = np.where(charged, ways.max(axis=1, initial=0.0), ways.sum(axis=1))
        return float(network.link_cost @ load)

    def counts(self, upgrades: Iterable[Upgrade]) -> Floats:
        """How many of each module, shape (modules,); KeyError for one that is not offered."""
        counts = np.zeros(self.modules)
        for one in upgrades:
            counts[self.module_at[one.link, one.module]] += one.count
        return counts

    def upgrades(self, counts: Floats) -> tuple[Upgrade, ...]:
        """Counts as a plan tells them."""
        return tuple(
            Upgrade(link=self.module_ids[place][0], module=self.module_ids[place][1], count=round(counts[place]))
            for place in np.flatnonzero(np.round(counts) > 0).tolist()
        )

    def cheapest(self, link: int, gbps: float) -> tuple[float, dict[int, int]] | None:
        """The cheapest modules that bring a link to ``gbps`` (cost with setup, counts); None when none do."""
        missing = gbps - float(self.network.link_capacity[link])
        if missing <= 1e-9 * max(1.0, gbps):
            return 0.0, {}
        places = [place for place in self.of_link[link].tolist() if self.useful[place]]
        capacity, cost = ({place: float(array[place]) for place in places} for array in (self.module_capacity, self.module_cost))
        if self.one_each:
            fit = [place for place in places if capacity[place] >= missing * (1 - 1e-9)]
            counts = {min(fit, key=lambda place: cost[place]): 1} if fit else None
        else:
            counts = _cover(missing, [(capacity[place], cost[place], float(self.most[place]), place) for place in places])
        if counts is None:
            return None
        return float(self.setup[link]) + sum(cost[place] * count for place, count in counts.items()), counts


def works_of(problem: Problem) -> Works:
    """The arrays of a design, kept as long as the problem lives."""
    return _works.of(problem)


def failures_of(problem: Problem) -> tuple[Failure, ...]:
    """Every scenario that the design must survive, listed ones first; those that fail the same links are one."""
    design, network = problem.design, network_of(problem)
    if design is None or design.survive is None:
        return ()
    found = []
    for links, name in named_scenarios(families_from(problem, design.survive)).items():
        dead = np.zeros(network.links, dtype=np.bool_)
        dead[list(links)] = True
        found.append(Failure(name, dead))
    return tuple(found)


def first_plan(problem: Problem, seconds: float) -> Plan | None:
    """See ``models.flow.design.first``."""
    from models.flow.design import first as design_first

    return design_first.first_plan(problem, seconds)


def simple_bounds(problem: Problem) -> dict[str, float]:
    """See ``models.flow.design.first``."""
    from models.flow.design import first as design_first

    return design_first.simple_bounds(problem)


def _works_of(problem: Problem) -> Works:
    network, traffic, design = network_of(problem), traffic_of(problem), problem.design
    offered = [(place, module) for place, link in enumerate(problem.links) for module in link.modules]
    capacity = np.array([module.capacity_gbps for _, module in offered], dtype=np.float64)
    one_each = design is not None and design.modules_per_link == "one"
    # Both ways of a shared link carry at most everything together; each way of another link at most everything.
    enough = np.ceil(traffic.size.sum() / capacity * (1 - 1e-12)) if offered else np.zeros(0)
    most = np.array([math.inf if module.most is None else module.most for _, module in offered])
    works = Works(
        network=network,
        traffic=traffic,
        commodities=_commodities(network, traffic),
        failures=failures_of(problem),
        module_link=np.array([place for place, _ in offered], dtype=np.int64),
        module_ids=tuple((network.link_ids[place], module.id) for place, module in offered),
        module_capacity=capacity,
        module_cost=np.array([module.cost for _, module in offered], dtype=np.float64),
        offered=most,
        most=np.minimum(np.minimum(most, enough), 1.0 if one_each else math.inf),
        limited=most < enough,
        useful=np.ones(len(offered), dtype=np.bool_),
        setup=np.array([link.setup_cost for link in problem.links], dtype=np.float64) if problem.links else np.zeros(network.links),
        one_each=one_each,
        larger=design is not None and design.charge is Charge.larger,
        installed_cost=0.0 if design is None else design.installed_cost,
    )
    return replace(works, useful=_useful(works))


def _commodities(network: Network, traffic: Traffic) -> Commodities:
    flipped = np.zeros(traffic.count, dtype=np.bool_)
    if len(network.channel_link) == network.links and network.arcs == 2 * network.links:  # every link is shared
        cover = _vertex_cover(network.nodes, traffic)
        flipped = ~np.isin(traffic.source, cover)
    start = np.where(flipped, traffic.target, traffic.source)
    end = np.where(flipped, traffic.source, traffic.target)
    root = np.unique(start)
    wanted = np.zeros((len(root), network.nodes))
    at = np.searchsorted(root, start)
    np.add.at(wanted, (at, end), traffic.size)
    return Commodities(root, wanted, tuple(tuple(np.flatnonzero(at == k).tolist()) for k in range(len(root))), flipped)


def _vertex_cover(nodes: int, traffic: Traffic) -> Ints:
    """Nodes that touch every demand: the busiest one again and again, then without those that are not needed."""
    adjacent = np.zeros((nodes, nodes), dtype=np.bool_)
    adjacent[traffic.source, traffic.target] = True
    adjacent |= adjacent.T
    left, cover = adjacent.copy(), list[int]()
    while left.any():
        cover.append(int(left.sum(axis=1).argmax()))
        left[cover[-1], :] = left[:, cover[-1]] = False
    inside = np.zeros(nodes, dtype=np.bool_)
    inside[cover] = True
    for node in reversed(cover):
        if inside[adjacent[node]].all():
            inside[node] = False
    return np.flatnonzero(inside)


def _useful(works: Works) -> Bools:
    """Modules that no others of the link replace with at least their capacity at no higher cost.

    Only modules without a limit of their own may be replaced, and replace, in a mix; of two that are alike the first stays.
    """
    useful = (works.most > 0) & np.isfinite(works.network.link_capacity[works.module_link])
    for places in works.of_link:
        # Larger modules first: what replaces a module is smaller than it, or as cheap and larger.
        for place in sorted(places.tolist(), key=lambda one: (-works.module_capacity[one], -works.module_cost[one])):
            others = [one for one in places.tolist() if one != place and useful[one] and (works.one_each or not works.limited[one])]
            useful[place] &= not _replaced(works, place, others)
    return useful


def _replaced(works: Works, place: int, others: Sequence[int]) -> bool:
    capacity, cost = float(works.module_capacity[place]), float(works.module_cost[place])
    if works.one_each:
        return any(works.module_capacity[one] >= capacity and works.module_cost[one] <= cost for one in others)
    options = [(float(works.module_capacity[one]), float(works.module_cost[one]), math.inf, one) for one in others]
    counts = _cover(capacity, options)
    return counts is not None and sum(works.module_cost[one] * count for one, count in counts.items()) <= cost


def _cover(missing: float, options: Sequence[tuple[float, float, float, int]]) -> dict[int, int] | None:
    """The cheapest counts of (capacity, cost, most, name) that come to ``missing``: depth first, best value first, with a limit."""
    order = sorted(options, key=lambda one: (one[1] / one[0], -one[0]))
    best_cost, best, steps = math.inf, None, 0
    chosen: dict[int, int] = {}

    def search(level: int, left: float, cost: float) -> None:
        nonlocal best_cost, best, steps
        steps += 1
        if left <= 1e-9 * missing:
            if cost < best_cost:
                best_cost, best = cost, dict(chosen)
            return
        if level == len(order) or steps > MOST_COVER_STEPS:
            return
        capacity, price, most, name = order[level]
        if cost + left / capacity * price >= best_cost * (1 - 1e-12):
            return  # no later option is better value
        for count in range(int(min(most, math.ceil(left / capacity * (1 - 1e-12)))), -1, -1):
            if steps > MOST_COVER_STEPS:
                break
            if count:
                chosen[name] = count
            search(level + 1, left - count * capacity, cost + count * price)
            chosen.pop(name, None)

    search(0, missing, 0.0)
    return best


_works: Kept[Problem, Works] = Kept(_works_of)

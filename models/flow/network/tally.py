"""What a plan sends where: its routes and flows as arrays, reckoned once for each plan.

A hop of a route is a link or a bundle of links over which traffic is spread evenly. Tails and heads of a hop are sets of nodes; each
hop must start at the nodes where the one before ended, the first at the demand's source, the last at its target. With equally many
links at each tail, and at each head, equal shares at the tails become equal shares at the heads, so that the spread stays even all the way.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from models.contract import MAX_VIOLATIONS, Violation
from models.flow.network.arrays import network_of, traffic_of
from models.flow.network.sums import sums
from models.flow.paths.route_columns import columns_of
from models.flow.schema import Rule
from models.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.flow.network.arrays import Network, Traffic
    from models.flow.schema import Plan, Problem
    from models.program import Floats, Ints


@dataclass(frozen=True, eq=False)
class Tally:
    """A plan in numbers. Routes that are broken (see ``faults``) carry nothing here.

    Shapes: ``route_*`` (routes,), in the plan's order; ``starts`` (routes + 1,) delimits the arcs of each route in ``arcs`` and
    ``shares`` (entries,), where ``shares`` is the part of the route's traffic on that arc. ``route_demand`` is -1 for a broken route;
    ``route_latency`` takes the slowest link of a bundle. ``arc_flow`` (arcs,) has all traffic,
    ``carried`` (demands,) what reaches its target. ``faults`` are the first broken routes and flows, ``fault_count`` all of them.
    """

    route_demand: Ints
    route_gbps: Floats
    route_latency: Floats
    starts: Ints
    arcs: Ints
    shares: Floats
    arc_flow: Floats
    carried: Floats
    faults: tuple[Violation, ...]
    fault_count: int

    @property
    def routes(self) -> int:
        """How many routes."""
        return len(self.route_gbps)

    @property
    def entry_route(self) -> Ints:
        """The route of each entry, shape (entries,)."""
        return np.repeat(np.arange(self.routes, dtype=np.int64), np.diff(self.starts))

    @property
    def entry_flow(self) -> Floats:
        """Gbit/s of each entry, shape (entries,)."""
        return self.shares * np.repeat(self.route_gbps, np.diff(self.starts))

    def channel_load(self, network: Network) -> Floats:
        """Gbit/s on each channel, shape (channels,)."""
        return sums(network.arc_channel, self.arc_flow, len(network.channel_link))

    def load_of(self, network: Network, demands: Sequence[bool] | np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Floats:
        """Gbit/s on each channel of the traffic of some demands, ``demands`` of shape (demands,); shape (channels,)."""
        counted = np.append(np.asarray(demands, dtype=np.bool_), False)[self.route_demand]
        weights = self.entry_flow * counted[self.entry_route]
        return sums(network.arc_channel[self.arcs], weights, len(network.channel_link))

    def route_sum(self, arc_values: Floats) -> Floats:
        """The sum of ``arc_values`` (arcs,) along each route, by share; shape (routes,)."""
        return sums(self.entry_route, self.shares * arc_values[self.arcs], self.routes)


def tally_of(problem: Problem, plan: Plan) -> Tally:
    """The tally of a plan; the last ones are kept as long as plan and problem live."""
    kept = _kept.of(plan)
    if kept.problem is not problem:
        kept.problem, kept.tally = problem, _tally(problem, plan)
    assert kept.tally is not None  # noqa: S101 - set with the problem
    return kept.tally


@dataclass
class _Slot:
    problem: Problem | None = None
    tally: Tally | None = None


_kept: Kept[Plan, _Slot] = Kept(lambda _plan: _Slot())


def _tally(problem: Problem, plan: Plan) -> Tally:
    network, traffic = network_of(problem), traffic_of(problem)
    reader = _Reader(network, traffic, plan)
    flows = _flows(network, plan, reader)
    gbps, demand = reader.gbps, reader.demand
    arc_flow = flows + sums(reader.arcs, reader.shares * np.repeat(gbps, np.diff(reader.starts)), network.arcs)
    sound = demand >= 0
    carried = sums(demand[sound], gbps[sound], traffic.count)
    return Tally(
        demand, gbps, reader.latency, reader.starts, reader.arcs, reader.shares, arc_flow, carried, tuple(reader.faults), reader.fault_count
    )


def _flows(network: Network, plan: Plan, reader: _Reader) -> Floats:
    """The flows of node supplies on each arc, shape (arcs,)."""
    table = plan.flow_table
    if table is not None:
        if plan.flows:
            reader.fault((), "the plan has both flows and a flow_table")
        names: Sequence[str] = table.link
        back = table.back_gbps if table.back_gbps is not None else (0.0,) * len(names)
        if not len(names) == len(table.gbps) == len(back):
            reader.fault((), "the columns of the flow_table are not equally long")
            return np.zeros(network.arcs)
        forth: Sequence[float] = table.gbps
    else:
        names = [one.link for one in plan.flows]
        forth, back = [one.gbps for one in plan.flows], tuple(one.back_gbps for one in plan.flows)
    links = positions(network.link_at, names)
    for place in np.flatnonzero(links < 0)[:MAX_VIOLATIONS].tolist():
        reader.fault((), f"the plan has a flow on '{names[place]}', which is no link")
    if len(links) and np.bincount(links[links >= 0], minlength=1).max() > 1:
        again = np.flatnonzero(np.bincount(links[links >= 0]) > 1)[:MAX_VIOLATIONS]
        for place in again.tolist():
            reader.fault((network.link_ids[place],), f"the plan has two flows on link '{network.link_ids[place]}'")
    known = links >= 0
    links, ahead, behind = links[known], np.array(forth, dtype=np.float64)[known], np.array(back, dtype=np.float64)[known]
    backward = network.backward_arc[links]
    for place in links[(backward < 0) & (behind > 0)][:MAX_VIOLATIONS].tolist():
        reader.fault((network.link_ids[place],), f"the plan has a flow back on link '{network.link_ids[place]}', which is directed")
    both = backward >= 0
    flow = sums(network.forward_arc[links], ahead, network.arcs)
    return flow + sums(backward[both], behind[both], network.arcs)


def positions(at: dict[str, int], names: Sequence[str]) -> Ints:
    """The position of each name, -1 for one that is not known, shape (names,)."""
    return np.fromiter(map(at.get, names, repeat(-1)), np.int64, len(names))


@dataclass(frozen=True, slots=True)
class _Hop:
    """A hop taken from certain nodes: its arcs, how slow it is, and the set of nodes where it ends (as a number)."""

    arcs: tuple[int, ...]
    latency: float
    ends: int


@dataclass(eq=False)
class _Sets:
    """Sets of nodes by number; the number of a single node is the node's own."""

    nodes: int
    known: dict[frozenset[int], int] = field(default_factory=dict)
    members: dict[int, frozenset[int]] = field(default_factory=dict)

    def number(self, nodes: frozenset[int]) -> int:
        """The number of a set."""
        if len(nodes) == 1:
            return next(iter(nodes))
        found = self.known.setdefault(nodes, self.nodes + len(self.known))
        self.members[found] = nodes
        return found

    def nodes_of(self, number: int) -> frozenset[int]:
        """The set of a number."""
        return self.members.get(number) or frozenset((number,))


class _Reader:
    """Reads routes: by whole columns where all hops are links, hop by hop with a memory where bundles occur."""

    def __init__(self, network: Network, traffic: Traffic, plan: Plan) -> None:
        self._network, self._traffic, self._plan = network, traffic, plan
        self.faults: list[Violation] = []
        self.fault_count = 0
        self._routes = routes = columns_of(plan)
        self.gbps: Floats = routes.gbps
        if routes.fault:
            self.fault((), routes.fault)
        self.demand: Ints = positions(traffic.at, routes.demand)
        for place in np.flatnonzero(self.demand < 0).tolist():
            self.fault((), f"route {place} is of '{routes.demand[place]}', which is no demand")
        self.latency: Floats = np.zeros(routes.count)
        self._bundles = self._known_bundles()
        counts, hops = routes.counts, positions(network.link_at, routes.hops)
        self.starts: Ints
        self.arcs: Ints
        self.shares: Floats
        self._read(counts, hops)

    def fault(self, ids: tuple[str, ...], text: str) -> None:
        """Note a broken route or flow."""
        self.fault_count += 1
        if len(self.faults) < MAX_VIOLATIONS:
            self.faults.append(Violation(Rule.flow_conservation, ids, 1.0, "", text))

    def _known_bundles(self) -> dict[str, tuple[int, ...]]:
        """The links of each bundle; a bundle that is none is left out, with a fault."""
        at = self._network.link_at
        found: dict[str, tuple[int, ...]] = {}
        for bundle in self._plan.bundles:
            links = tuple(at.get(name, -1) for name in bundle.links)
            if bundle.id in at or bundle.id in found:
                self.fault((), f"the bundle '{bundle.id}' has the id of another bundle or of a link")
            elif min(links) < 0:
                self.fault((), f"the bundle '{bundle.id}' names '{bundle.links[links.index(-1)]}', which is no link")
            elif len(set(links)) < len(links):
                self.fault((), f"the bundle '{bundle.id}' names a link twice")
            else:
                found[bundle.id] = links
        return found

    def _read(self, counts: Ints, hops: Ints) -> None:
        """Find the arcs of all routes."""
        ends = np.cumsum(counts)
        firsts = ends - counts
        odd = np.bincount(np.repeat(np.arange(len(counts)), counts)[hops < 0], minlength=len(counts)) > 0
        plain = ~odd & (self.demand >= 0) & (counts > 0)
        for place in np.flatnonzero((self.demand >= 0) & (counts == 0)).tolist():
            self._broken(place, "has no hops")
        arcs = np.full(len(hops), -1, dtype=np.int64)
        self._walk(np.flatnonzero(plain), firsts, counts, hops, arcs)
        slow = {place: self._spread(place) for place in np.flatnonzero(odd & (self.demand >= 0)).tolist()}
        sound = plain & (self.demand >= 0)
        if not any(slow.values()):
            kept = np.repeat(sound, counts)
            self.starts = np.concatenate(([0], np.cumsum(np.where(sound, counts, 0))))
            self.arcs, self.shares = arcs[kept], np.ones(int(kept.sum()))
        else:
            self._join(sound, slow, firsts, ends, arcs)
        latency = sums(np.repeat(np.arange(len(counts)), counts), np.where(arcs >= 0, self._network.arc_latency[arcs], 0.0), len(counts))
        self.latency = np.where(sound, latency, self.latency)

    def _walk(self, places: Ints, firsts: Ints, counts: Ints, hops: Ints, arcs: Ints) -> None:
        """Follow routes of links, all of them one hop at a time."""
        network = self._network
        node = self._traffic.source[self.demand[places]]
        number = 0
        while len(places):
            at = firsts[places] + number
            link = hops[at]
            forth, back = network.link_tail[link] == node, (network.link_head[link] == node) & (network.backward_arc[link] >= 0)
            arcs[at] = np.where(forth, network.forward_arc[link], np.where(back, network.backward_arc[link], -1))
            for bad in np.flatnonzero(~(forth | back)).tolist():
                self._broken(int(places[bad]), f"hop {number}, '{network.link_ids[link[bad]]}', does not start where the route is")
            node = np.where(forth, network.link_head[link], network.link_tail[link])
            going = (forth | back) & (counts[places] > number + 1)
            astray = (forth | back) & ~going & (node != self._traffic.target[self.demand[places]])
            for bad in np.flatnonzero(astray).tolist():
                self._broken(int(places[bad]), f"ends at '{network.node_ids[node[bad]]}', not at the demand's target")
            places, node = places[going], node[going]
            number += 1

    def _broken(self, place: int, how: str) -> None:
        name = self._routes.demand[place]
        self.demand[place] = -1
        self.fault((name,), f"route {place}, of demand '{name}', {how}")

    # ------------------------------------------------------------ bundles

    def _spread(self, place: int) -> tuple[Ints, Floats] | None:
        """Arcs and shares of a route with bundles; None, with a fault, when it is broken."""
        network, demand = self._network, self.demand[place]
        if not hasattr(self, "_sets"):
            self._sets, self._taken = _Sets(network.nodes), dict[tuple[str, int], _Hop | str]()
        here, latency = int(self._traffic.source[demand]), 0.0
        arcs: list[int] = []
        shares: list[float] = []
        for name in self._routes.hops_of(place):
            hop = self._taken.get((name, here))
            if hop is None:
                hop = self._taken[name, here] = self._take(name, here)
            if isinstance(hop, str):
                self._broken(place, hop)
                return None
            arcs += hop.arcs
            shares += [1.0 / len(hop.arcs)] * len(hop.arcs)
            latency += hop.latency
            here = hop.ends
        if here != self._traffic.target[demand]:
            self._broken(place, "does not end at the demand's target")
            return None
        self.latency[place] = latency
        return np.array(arcs, dtype=np.int64), np.array(shares)

    def _take(self, name: str, here: int) -> _Hop | str:
        """The hop ``name`` from the nodes ``here``, or what is wrong with it."""
        network = self._network
        link = network.link_at.get(name)
        links = (link,) if link is not None else self._bundles.get(name)
        if links is None:
            return f"has the hop '{name}', which is no link and no bundle"
        from_nodes = self._sets.nodes_of(here)
        arcs: list[int] = []
        for one in links:
            tail, head, back = int(network.link_tail[one]), int(network.link_head[one]), int(network.backward_arc[one])
            if tail in from_nodes and not (back >= 0 and head in from_nodes):
                arcs.append(int(network.forward_arc[one]))
            elif back >= 0 and head in from_nodes and tail not in from_nodes:
                arcs.append(back)
            else:
                return f"cannot go over '{name}': its link '{network.link_ids[one]}' does not lead on from where the route is"
        tails, heads = Counter(network.arc_tail[arcs].tolist()), Counter(network.arc_head[arcs].tolist())
        if len(set(tails.values())) > 1 or len(set(heads.values())) > 1:
            return f"cannot spread evenly over '{name}': not all of its tails, or of its heads, have equally many of its links"
        if tails.keys() != from_nodes:
            return f"cannot go over '{name}': it does not start at all nodes where the route is"
        return _Hop(tuple(arcs), float(network.arc_latency[arcs].max()), self._sets.number(frozenset(heads)))

    def _join(self, sound: np.ndarray[tuple[int], np.dtype[np.bool_]], slow: dict[int, tuple[Ints, Floats] | None],
              firsts: Ints, ends: Ints, arcs: Ints) -> None:  # fmt: skip
        """Routes of links and of bundles, in the plan's order."""
        parts: list[tuple[Ints, Floats]] = []
        nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
        for place, is_plain in enumerate(sound.tolist()):
            if is_plain:
                own = arcs[firsts[place] : ends[place]]
                parts.append((own, np.ones(len(own))))
            else:
                parts.append(slow.get(place) or nothing)
        self.starts = np.concatenate(([0], np.cumsum([len(own) for own, _ in parts])))
        self.arcs = np.concatenate([own for own, _ in parts])
        self.shares = np.concatenate([shares for _, shares in parts])

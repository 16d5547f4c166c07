"""The exact program of a design, as arrays: modules and flows, for the network as it is and after every failure.

Columns: ``add[link, module]`` (whole), ``open[link]``, ``charge[link]``, ``send[root, link, way]``, and for failures
``resend[scenario, root, link, way]``. A root's flow is that of all demands that leave it (see ``models.flow.design.works``). It is the
flow formulation of capacitated network design (Magnanti and Mirchandani, "Modeling and Solving the Two-Facility Capacitated Network
Loading Problem", 1995), with the demands of a source taken together; ``models.flow.design.search`` adds cut-set inequalities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from models.flow.design.routes import arc_flows, plans_after, settled
from models.flow.design.works import works_of
from models.flow.network.tally import tally_of
from models.flow.schema import Plan, Rule
from models.program_builder import ProgramBuilder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.flow.design.works import Works
    from models.flow.schema import Problem
    from models.program import Bools, Floats, Ids, Ints, LinearProgram

ADD, OPEN, CHARGE, SEND, RESEND, OVERFLOW = "add", "open", "charge", "send", "resend", "overflow"
SETUP_PAID, CHARGED_LOAD = "setup_paid", "charged_load"
LINKING = frozenset({SETUP_PAID, CHARGED_LOAD})  # rows that are no rules
WAYS = ("forward", "back")


def build(problem: Problem, goal: str | None = None, floors: Mapping[str, float] | None = None, *, hasten: bool = True) -> LinearProgram:
    """The whole program, with the flows of every failure; with ``hasten=False`` limits of modules are rows, which a conflict can name."""
    del goal, floors  # there is one goal
    return program(works_of(problem), failures=True, hasten=hasten)


def size(problem: Problem) -> int:
    """How many columns."""
    works = works_of(problem)
    flows = works.commodities.count * works.network.arcs
    return works.modules + 2 * works.network.links + flows * (1 + len(works.failures))


def program(works: Works, *, failures: bool, hasten: bool = True) -> LinearProgram:
    """The program with the flows of every failure, or with those of the network as it is alone (a relaxation)."""
    return _Draft(works, hasten=hasten).build(failures=failures)


def overflow_program(works: Works, price: Floats) -> LinearProgram:
    """How much every channel lacks at least, at ``price`` (channels,) for one Gbit/s; the sides of ``link_capacity`` are for the caller."""
    return _Draft(works, hasten=True).overflow(price)


def extract(problem: Problem, values: Mapping[str, Mapping[tuple[Any, ...], float]]) -> Plan:
    """The plan of column values, by block in the order of columns: counts made whole, flows taken apart into routes."""
    works = works_of(problem)
    shape = (works.commodities.count, works.network.arcs)
    taken = {name: np.fromiter(block.values(), np.float64, len(block)) for name, block in values.items()}
    sent = taken.get(SEND, np.zeros(0)).reshape(shape)
    again = taken.get(RESEND, np.zeros(0)).reshape(-1, *shape)
    return settled(works, np.round(taken.get(ADD, np.zeros(0))), sent, dict(enumerate(again)))


def start(problem: Problem, plan: Plan) -> dict[str, dict[tuple[Any, ...], float]]:
    """The values of a plan by block and ids."""
    works = works_of(problem)
    whole = program(works, failures=True)
    values = start_values(problem, plan, failures=True)
    return {
        block.name: dict(zip((tuple(one) for one in block.ids), values[block.rows].tolist(), strict=True)) for block in whole.column_blocks
    }


def start_values(problem: Problem, plan: Plan, *, failures: bool) -> Floats:
    """The values of a plan in the order of ``program``'s columns."""
    works = works_of(problem)
    counts, flow = works.counts(plan.upgrades), arc_flows(works, tally_of(problem, plan))
    touched = np.bincount(works.module_link, weights=counts, minlength=works.network.links) > 0
    ways = _ways(works, flow.sum(axis=0))
    parts = [counts, touched[setup_links(works)].astype(np.float64), ways.max(axis=1, initial=0.0)[works.charged_larger], flow.ravel()]
    if failures:
        parts.extend(arc_flows(works, tally_of(problem, one)).ravel() for one in plans_after(works, plan))
    return np.concatenate(parts)


def _ways(works: Works, arc_flow: Floats) -> Floats:
    ways = np.zeros((works.network.links, 2))
    ways[works.network.arc_link, works.network.arc_back.astype(np.int64)] = arc_flow
    return ways


def setup_links(works: Works) -> Ints:
    """Links with a setup cost that is not part of a module's price."""
    if works.one_each:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero((works.setup > 0) & (np.bincount(works.module_link, minlength=works.network.links) > 0))


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Rows on their way into a builder: ids and sides by row, and entries."""

    ids: list[Ids]
    lower: Floats
    upper: Floats
    row: Ints
    column: Ints
    value: Floats

    def kept(self, mask: Bools) -> _Rows:
        """Only the rows of ``mask``."""
        place = np.cumsum(mask) - 1
        inside = mask[self.row]
        ids = [ids for ids, keep in zip(self.ids, mask, strict=True) if keep]
        return _Rows(ids, self.lower[mask], self.upper[mask], place[self.row[inside]], self.column[inside], self.value[inside])


class _Draft:
    """The blocks of one program on their way into a builder."""

    def __init__(self, works: Works, *, hasten: bool) -> None:
        self._works, self._hasten = works, hasten
        self._builder = ProgramBuilder(offset=works.installed_cost)
        self._add = slice(0, works.modules)

    def build(self, *, failures: bool) -> LinearProgram:
        works, network = self._works, self._works.network
        self._modules()
        charged = np.flatnonzero(works.charged_larger)
        charge = self._builder.add_columns(CHARGE, [(network.link_ids[link],) for link in charged], cost=network.link_cost[charged])
        whole = np.zeros(network.links, dtype=np.bool_)
        arc_cost = np.where(works.charged_larger, 0.0, network.link_cost)[network.arc_link]
        first = self._flow_columns(SEND, (None,), whole, arc_cost)
        conserved = self._conservation(first)
        served = conserved.lower > 0
        self._put(Rule.flow_conservation.value, conserved.kept(~served))
        self._put(Rule.demand_served.value, self._named(conserved.kept(served)))
        self._put(Rule.link_capacity.value, self._room(first, whole))
        self._put(CHARGED_LOAD, self._charged(first, charged, charge.start))
        if failures and works.failures:
            firsts = self._flow_columns(RESEND, tuple(one.id for one in works.failures), self._dead(), np.zeros(network.arcs))
            self._put(Rule.protection.value, self._protection(firsts))
        return self._builder.build()

    def overflow(self, price: Floats) -> LinearProgram:
        """Flows of all roots, and on each channel what does not fit; capacities are 0 for now."""
        network, count = self._works.network, self._works.commodities.count
        whole = np.zeros(network.links, dtype=np.bool_)
        first = self._flow_columns(SEND, (None,), whole, np.zeros(network.arcs))
        lacking = self._builder.add_columns(OVERFLOW, [(network.link_ids[link],) for link in network.channel_link], cost=price)
        self._put(Rule.flow_conservation.value, self._conservation(first))
        channels = np.arange(len(network.channel_link))
        arc = np.tile(np.arange(network.arcs), count)
        rows = _Rows(
            [(network.link_ids[link],) for link in network.channel_link],
            *_sides(-np.inf, 0.0, len(channels)),
            np.concatenate((network.arc_channel[arc], channels)),
            np.concatenate((first + np.arange(len(arc)), lacking.start + channels)),
            np.concatenate((np.ones(len(arc)), -np.ones(len(channels)))),
        )
        self._put(Rule.link_capacity.value, rows)
        return self._builder.build()

    def _put(self, name: str, rows: _Rows) -> None:
        self._builder.add_rows(
            name, rows.ids, lower=rows.lower, upper=rows.upper, row_index=rows.row, column_index=rows.column, coefficient=rows.value
        )

    def _dead(self) -> Bools:
        return np.array([one.dead for one in self._works.failures])

    def _modules(self) -> None:
        """``add`` and ``open``: with one module at most on a link, its price holds the setup cost."""
        works, links = self._works, self._works.network.links
        folded = works.setup[works.module_link] if works.one_each and works.modules else 0.0
        if self._hasten:
            most = np.where(works.useful, works.most, 0.0)
        else:  # limits are rows here
            most = np.where(works.offered < 1, 0.0, np.inf) if works.one_each else np.where(works.limited, np.inf, works.most)
        self._builder.add_columns(ADD, works.module_ids, cost=works.module_cost + folded, upper=most, integer=True)
        open_links = setup_links(works)
        opened = self._builder.add_columns(
            OPEN, [(works.network.link_ids[link],) for link in open_links], cost=works.setup[open_links], upper=1.0, integer=True
        )
        column = np.full(links, -1, dtype=np.int64)
        column[open_links] = np.arange(opened.start, opened.stop)
        paying = np.flatnonzero(column[works.module_link] >= 0) if links else np.zeros(0, dtype=np.int64)
        rows = np.arange(len(paying))
        ids: list[Ids] = [works.module_ids[place] for place in paying]
        columns = np.concatenate((paying, column[works.module_link[paying]]))
        values = np.concatenate((np.ones(len(paying)), -works.most[paying]))
        self._put(SETUP_PAID, _Rows(ids, *_sides(-np.inf, 0.0, len(ids)), np.concatenate((rows, rows)), columns, values))
        self._put(Rule.module_limit.value, self._limits())

    def _limits(self) -> _Rows:
        """At most one module on a link, or at most so many of one."""
        works = self._works
        if works.one_each:
            links, row = np.unique(works.module_link, return_inverse=True)
            ids: list[Ids] = [(works.network.link_ids[link],) for link in links]
            return _Rows(ids, *_sides(-np.inf, 1.0, len(ids)), row, np.arange(works.modules), np.ones(works.modules))
        bound = np.flatnonzero(works.limited) if not self._hasten else np.zeros(0, dtype=np.int64)
        ids = [works.module_ids[place] for place in bound]
        return _Rows(ids, np.full(len(ids), -np.inf), works.most[bound], np.arange(len(ids)), bound, np.ones(len(ids)))

    def _flow_columns(self, name: str, scenarios: tuple[str | None, ...], dead: Bools, arc_cost: Floats) -> int:
        """Flows of every root on every arc, for one scenario after another; returns the first column."""
        network, roots = self._works.network, self._works.commodities.root
        arcs = [(network.link_ids[link], WAYS[int(back)]) for link, back in zip(network.arc_link, network.arc_back, strict=True)]
        names = [network.node_ids[root] for root in roots]
        heads: list[Ids] = [() if scenario is None else (scenario,) for scenario in scenarios]
        home = network.arc_head[None, :] == roots[:, None]  # nothing that leaves a root need come back to it
        gone = dead.reshape(len(scenarios), 1, network.links)[:, :, network.arc_link]
        columns = self._builder.add_columns(
            name,
            [(*head, root, *arc) for head in heads for root in names for arc in arcs],
            cost=np.tile(arc_cost, len(scenarios) * len(roots)),
            upper=np.where(home[None] | gone, 0.0, np.inf).ravel(),
        )
        first: int = columns.start
        return first

    def _conservation(self, first: int) -> _Rows:
        """What reaches a node and stays there, for every root and every node but the root itself."""
        network, commodities = self._works.network, self._works.commodities
        copy, arc = np.divmod(np.arange(commodities.count * network.arcs), network.arcs or 1)
        row = np.concatenate((copy * network.nodes + network.arc_head[arc], copy * network.nodes + network.arc_tail[arc]))
        column = first + np.arange(len(copy))
        ids: list[Ids] = [(network.node_ids[root], node) for root in commodities.root for node in network.node_ids]
        wanted = commodities.wanted.ravel()
        rows = _Rows(ids, wanted, wanted, row, np.concatenate((column, column)), np.concatenate((np.ones(len(copy)), -np.ones(len(copy)))))
        return rows.kept((np.arange(network.nodes)[None, :] != commodities.root[:, None]).ravel())

    def _named(self, rows: _Rows) -> _Rows:
        """Rows of (root, node) by the demands that want this."""
        works = self._works
        by_ends: dict[Ids, list[str]] = {}
        for commodity, root in enumerate(works.commodities.root):
            for demand in works.commodities.demands[commodity]:
                ends = (works.network.node_ids[root], works.network.node_ids[works.commodities.sink(works.traffic, demand)])
                by_ends.setdefault(ends, []).append(works.traffic.ids[demand])
        return replace(rows, ids=[tuple(by_ends[one]) for one in rows.ids])

    def _room(self, first: int, dead: Bools) -> _Rows:
        """On each channel of a link that is alive, flows fit into its capacity and what is added."""
        works, network = self._works, self._works.network
        arc = np.tile(np.arange(network.arcs), works.commodities.count)
        pairs = [(channel, place) for channel, link in enumerate(network.channel_link) for place in works.of_link[link]]
        channel, place = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        rows = _Rows(
            [(network.link_ids[link],) for link in network.channel_link],
            *_sides(-np.inf, network.channel_capacity, len(network.channel_link)),
            np.concatenate((network.arc_channel[arc], channel)),
            np.concatenate((first + np.arange(len(arc)), place)),
            np.concatenate((np.ones(len(arc)), -works.module_capacity[place])),
        )
        return rows.kept(np.isfinite(network.channel_capacity) & ~dead[network.channel_link])

    def _charged(self, first: int, charged: Ints, charge: int) -> _Rows:
        """The charged load of a link is at least that of each way."""
        works, network = self._works, self._works.network
        at = np.full(network.links, -1, dtype=np.int64)
        at[charged] = np.arange(len(charged))
        arcs = np.flatnonzero(at[network.arc_link] >= 0)
        copies = np.arange(works.commodities.count)[:, None] * network.arcs + first
        row = np.tile(np.arange(len(arcs)), works.commodities.count)
        return _Rows(
            [(network.link_ids[network.arc_link[arc]], WAYS[int(network.arc_back[arc])]) for arc in arcs],
            *_sides(-np.inf, 0.0, len(arcs)),
            np.concatenate((row, np.arange(len(arcs)))),
            np.concatenate(((copies + arcs).ravel(), charge + at[network.arc_link[arcs]])),
            np.concatenate((np.ones(len(row)), -np.ones(len(arcs)))),
        )

    def _protection(self, first: int) -> _Rows:
        """In every failure all demands reach their targets, and fit into what is left."""
        works = self._works
        gathered: list[_Rows] = []
        for place, failure in enumerate(works.failures):
            at = first + place * works.commodities.count * works.network.arcs
            conserved, room = self._conservation(at), self._room(at, failure.dead)
            parts = (conserved.kept(conserved.lower <= 0), self._named(conserved.kept(conserved.lower > 0)), room)
            gathered += [replace(rows, ids=[(ids[0], failure.id, *ids[1:]) for ids in rows.ids]) for rows in parts]
        return _joined(gathered)


def _sides(lower: float, upper: float | Floats, count: int) -> tuple[Floats, Floats]:
    return np.full(count, lower), np.broadcast_to(np.asarray(upper, dtype=np.float64), (count,))


def _joined(parts: Sequence[_Rows]) -> _Rows:
    offsets = np.cumsum([0, *(len(one.ids) for one in parts)])
    return _Rows(
        [ids for one in parts for ids in one.ids],
        np.concatenate([one.lower for one in parts]),
        np.concatenate([one.upper for one in parts]),
        np.concatenate([one.row + offset for one, offset in zip(parts, offsets, strict=False)]),
        np.concatenate([one.column for one in parts]),
        np.concatenate([one.value for one in parts]),
    )

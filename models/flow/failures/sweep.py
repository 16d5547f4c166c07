"""The sweep: after each failure everything is routed anew so that the busiest link is least busy, in one program that stays warm.

One linear program over paths is kept. A scenario closes the paths that it hits and frees the demands that it cuts off; the simplex
method goes on from the basis of the scenario before, and paths that are missing are priced in. Paths found for one scenario serve all
that follow.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from models.contract import NewColumns, RowEdits
from models.conversation import Again, ColumnEdits, NewRows, Offered, Solve
from models.flow.columns.pricing import PathTable, joined
from models.flow.failures.aftermath import down_of, nodes_cut_off, ways_of
from models.flow.failures.scenarios import scenarios_of
from models.flow.network.arrays import traffic_of
from models.flow.schema import Aftermath, LinkPrice
from models.program import row_starts
from models.program_builder import ProductIds, ProgramBuilder

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Conversation, Solved, Step
    from models.flow.failures.aftermath import Ways
    from models.flow.schema import Plan, Problem
    from models.program import Bools, Floats, Ints, LinearProgram

PHASE = "sweep"
KEPT = "sweep"
MOST_ROUNDS = 200
CLOSE = 1e-7  # relative: bound and utilisation of a scenario agree
FULL = 1e-6  # relative: what a link may carry beyond its capacity without being overloaded
SPECK = 1e-9  # a price this much smaller than the largest is left out


def sweep(problem: Problem, plan: Plan | None, seed: int, seconds: float, gap: float) -> Conversation:
    """The routing while nothing fails, found as if nothing could; then what every scenario does to the network."""
    from models.flow import scale

    began = time.monotonic()
    intact = problem.model_copy(update={"failures": None})
    best = plan
    search = scale.converse(intact, plan, seed, seconds, gap)
    answer: Any = None
    while True:
        try:
            step = search.send(answer)
        except StopIteration:
            break
        answer = yield step
        if isinstance(step, Offered) and answer:
            best = step.plan
    if best is not None:
        yield from aftermaths(problem, best, max(0.0, seconds - (time.monotonic() - began)))


def aftermaths(problem: Problem, plan: Plan, seconds: float = math.inf) -> Conversation:
    """Offers ``plan`` with what each scenario does; see ``models.conversation``.

    Each look at a plan looks at all aftermaths. So offers are few: after 1, 2, 4, 8 scenarios, because the next may take all the time that
    is left, and after half of the time, half of the rest, and so on.
    """
    began = time.monotonic()
    swept: list[Aftermath] = []
    scenarios, share = scenarios_of(problem), 0.5
    master = _Master(problem)
    for scenario in range(scenarios.count):
        found = yield from _after(problem, master, scenarios.ids[scenario], scenarios.of(scenario))
        if found is None:
            break
        swept.append(found)
        late = time.monotonic() - began > (1.0 - share) * seconds
        if late or len(swept) & (len(swept) - 1) == 0:
            share /= 2.0 if late else 1.0
            yield Offered(plan.model_copy(update={"aftermaths": tuple(swept)}), PHASE, says_more=True)
    if swept:
        yield Offered(plan.model_copy(update={"aftermaths": tuple(swept)}), PHASE, says_more=True)


def _after(problem: Problem, master: _Master, name: str, links: tuple[int, ...]) -> Generator[Step, Any, Aftermath | None]:
    """One scenario, solved until its bound meets its routing; None when the solver does not answer."""
    network, ways = master.ways.network, master.ways
    down = down_of(network, links)
    cut = np.isinf(ways.distances(np.zeros(ways.fabric.channels), down))
    answer: Solved = yield master.scenario(down, cut)
    bound, best = 0.0, np.zeros(ways.fabric.channels)
    busiest, load = 0.0, np.zeros(ways.fabric.channels)
    for _ in range(MOST_ROUNDS):
        if answer.status != "optimal" or answer.values is None or answer.row_duals is None:
            return None
        busiest, load = master.loaded(answer.values)
        again = master.limited(load, float(answer.values[0]), busiest)
        if again is None:
            price = master.prices(answer.row_duals)
            here, distance = ways.least_utilisation(price, down)
            if here > bound:
                bound, best = here, price
            if busiest - bound <= CLOSE * max(busiest, 1e-9):
                break
            again = master.more(price, distance, answer.row_duals)
        if again is None:
            break
        answer = yield again
    demands = ways.demands_cut_off(np.where(cut, np.inf, 0.0))
    return Aftermath(
        scenario=name,
        links=tuple(network.link_ids[link] for link in links),
        max_utilisation=busiest,
        bound=bound,
        overloaded=_overloaded(ways, load),
        cut_off=tuple(network.node_ids[node] for node in nodes_cut_off(problem, demands)),
        demands_cut_off=tuple(traffic_of(problem).ids[one] for one in np.flatnonzero(demands).tolist()),
        prices=_told(ways, best),
    )


def _told(ways: Ways, price: Floats) -> tuple[LinkPrice, ...]:
    network = ways.network
    channels = [(at, int(ways.fabric.members[at])) for at in np.flatnonzero(price).tolist()]
    return tuple(
        LinkPrice(link=network.link_ids[network.channel_link[one]], back=bool(network.channel_back[one]), price=float(price[at]))
        for at, one in channels
    )


def _overloaded(ways: Ways, load: Floats) -> tuple[str, ...]:
    busy = np.where(ways.limited, load / ways.fabric.capacity, 0.0)
    order = [at for at in np.argsort(-busy, kind="stable").tolist() if busy[at] > 1.0 + FULL]
    network = ways.network
    return tuple(dict.fromkeys(network.link_ids[network.channel_link[ways.fabric.members[at]]] for at in order))


class _Master:
    """The kept program: column 0 is the utilisation of the busiest link, the others are paths.

    Rows are commodities, then channels, each from when it was first as busy as the busiest: most never are, and a program without their
    rows takes far fewer steps.
    """

    def __init__(self, problem: Problem) -> None:
        self.ways = ways_of(problem)
        commodities, fabric = self.ways.commodities, self.ways.fabric
        self._rates = 2.0 ** np.round(np.log2(float(np.median(commodities.size)))) if commodities.count else 1.0
        self._size, self._capacity = commodities.size / self._rates, fabric.capacity / self._rates
        self._limited = np.flatnonzero(self.ways.limited)
        self._rowed = np.zeros(0, dtype=np.int64)  # channels, in the order of their rows
        self._row = np.full(len(self._capacity), -1, dtype=np.int64)
        listed = self.ways.listed
        self._table = listed if listed is not None else joined([])
        self._known = {(int(one), self._arcs(self._table, row)) for row, one in enumerate(self._table.commodity.tolist())}
        self._hit, self._cut = np.zeros(self._table.count, dtype=np.bool_), np.zeros(commodities.count, dtype=np.bool_)
        self._down = np.zeros(self.ways.network.links, dtype=np.bool_)
        self._started = False

    @staticmethod
    def _arcs(table: PathTable, row: int) -> tuple[int, ...]:
        return tuple(table.arcs[table.starts[row] : table.starts[row + 1]].tolist())

    def scenario(self, down: Bools, cut: Bools) -> Solve | Again:
        """Close the paths that ``down`` hits and free the commodities ``cut`` off; every other one has an open path."""
        self._down, hit = down, self._hits(self._table, down)
        served = np.bincount(self._table.commodity[~hit], minlength=len(cut)) > 0
        fresh = self._fresh(np.ones(len(self._capacity)), np.flatnonzero(~cut & ~served))
        hit = np.append(hit, np.zeros(fresh.count, dtype=np.bool_))
        if not self._started:
            self._started, self._hit, self._cut = True, hit, cut
            return Solve(self._program(), keep=KEPT)
        before = np.append(self._hit, np.zeros(fresh.count, dtype=np.bool_))
        paths, rows = np.flatnonzero(hit != before), np.flatnonzero(cut != self._cut)
        self._hit, self._cut = hit, cut
        sides = np.where(cut[rows], 0.0, self._size[rows])
        return Again(
            KEPT,
            new_columns=self._columns(fresh) if fresh.count else None,
            row_edits=RowEdits(rows, sides, np.full(len(rows), np.inf)) if len(rows) else None,
            column_edits=ColumnEdits(1 + paths, np.zeros(len(paths)), np.where(hit[paths], 0.0, np.inf)) if len(paths) else None,
        )

    def more(self, price: Floats, distance: Floats, duals: Floats) -> Again | None:
        """Paths cheaper than what their commodity pays now; None when there is none that is new."""
        paid = np.maximum(duals[: len(self._size)], 0.0)
        hair = 1e-10 * max(1e-12, float(paid.max(initial=0.0)))
        fresh = self._fresh(price, np.flatnonzero(~self._cut & (distance < paid - hair)))
        if not fresh.count:
            return None
        self._hit = np.append(self._hit, np.zeros(fresh.count, dtype=np.bool_))
        return Again(KEPT, new_columns=self._columns(fresh))

    def prices(self, duals: Floats) -> Floats:
        """The price of each channel that is up, specks left out; shape (channels,)."""
        found = np.zeros(len(self._capacity))
        found[self._rowed] = np.maximum(-duals[len(self._size) :], 0.0)
        found[self._down[self.ways.network.channel_link[self.ways.fabric.members]]] = 0.0
        return np.where(found > SPECK * found.max(initial=0.0), found, 0.0)

    def loaded(self, values: Floats) -> tuple[float, Floats]:
        """The utilisation of the busiest link, and the load of each channel in Gbit/s, both added up anew."""
        flow = np.where(self._hit, 0.0, np.maximum(values[1:], 0.0)) * self._rates
        table = self._table
        load = np.bincount(self.ways.fabric.channel[table.arcs], weights=flow[table.entry_path], minlength=len(self._capacity)).astype(
            np.float64
        )
        busy = load[self._limited] / self.ways.fabric.capacity[self._limited]
        return float(busy.max(initial=0.0)), load

    def _hits(self, table: PathTable, down: Bools) -> Bools:
        return table.totals(down[self.ways.arc_link].astype(np.float64)) > 0

    def _fresh(self, price: Floats, which: Ints) -> PathTable:
        """The cheapest paths of some commodities, those that are not known yet; they are from now on."""
        if not len(which):
            return joined([])
        table = self.ways.cheapest(price, self._down).paths(which)
        new = [row for row, one in enumerate(table.commodity.tolist()) if (one, self._arcs(table, row)) not in self._known]
        fresh = table.chosen(np.array(new, dtype=np.int64))
        self._known.update((one, self._arcs(fresh, row)) for row, one in enumerate(fresh.commodity.tolist()))
        self._table = joined([self._table, fresh])
        return fresh

    def _program(self) -> LinearProgram:
        builder = ProgramBuilder()
        builder.add_columns("utilisation", [()], cost=1.0)
        table = self._table
        builder.add_columns("carry", ProductIds(range(table.count)), upper=np.where(self._hit, 0.0, np.inf))
        builder.add_rows(
            "demand_served",
            ProductIds(range(len(self._size))),
            lower=np.where(self._cut, 0.0, self._size),
            row_index=table.commodity,
            column_index=1 + np.arange(table.count),
        )
        return builder.build()

    def limited(self, load: Floats, utilisation: float, busiest: float) -> Again | None:
        """Rows for channels that are busier than the program knows of; None when there is none."""
        busy = np.where(self.ways.limited, load / self.ways.fabric.capacity, 0.0)
        beyond = max(utilisation * (1.0 + CLOSE), 0.5 * busiest)
        fresh = np.flatnonzero((busy > beyond) & (self._row < 0))
        if not len(fresh):
            return None
        first = len(self._size) + len(self._rowed)
        self._row[fresh] = first + np.arange(len(fresh))
        self._rowed = np.concatenate((self._rowed, fresh))
        row, path, value = self._entries(self._table)
        own = row >= first
        rows = np.concatenate((row[own] - first, np.arange(len(fresh))))
        columns = np.concatenate((1 + path[own], np.zeros(len(fresh), dtype=np.int64)))
        values = np.concatenate((value[own], -self._capacity[fresh]))
        order = np.lexsort((columns, rows))
        sides = np.full(len(fresh), -np.inf), np.zeros(len(fresh))
        return Again(KEPT, new_rows=NewRows(*sides, row_starts(rows, len(fresh)), columns[order], values[order]))

    def _entries(self, table: PathTable) -> tuple[Ints, Ints, Floats]:
        """Rows of channels, paths and coefficients."""
        row = self._row[self.ways.fabric.channel[table.arcs]]
        width = len(self._size) + len(self._rowed) + 1
        key, counts = np.unique(table.entry_path[row >= 0] * width + row[row >= 0], return_counts=True)
        return key % width, key // width, counts.astype(np.float64)

    def _columns(self, fresh: PathTable) -> NewColumns:
        row, path, value = self._entries(fresh)
        rows = np.concatenate((row, fresh.commodity))
        paths = np.concatenate((path, np.arange(fresh.count)))
        values = np.concatenate((value, np.ones(fresh.count)))
        order = np.lexsort((rows, paths))
        starts = np.concatenate(([0], np.cumsum(np.bincount(paths, minlength=fresh.count)))).astype(np.int64)
        nothing = np.zeros(fresh.count)
        return NewColumns(nothing, nothing, np.full(fresh.count, np.inf), starts, rows[order], values[order], 0.0)

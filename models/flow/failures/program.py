"""A linear program of reservations on paths that grows: rows for scenarios as they are violated, columns for paths as they are missed.

What ``protected`` and ``cvar`` have in common. Columns come in this order: those of the ``head`` (goals, and what demands are granted or
lose), then one for each path. Rows: capacities, goals, then one for each pair of a demand and a set of failed links, as found. All
rates are divided by a power of two near the median demand, so that the tolerances of a solver mean the same for every unit.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.contract import NewColumns
from models.conversation import ColumnEdits, NewRows
from models.flow.failures.pricing import SetPricer, most_between
from models.flow.failures.routes import RouteSet, kept_routes, no_routes
from models.flow.failures.scenarios import scenario_count
from models.flow.network.arrays import network_of, traffic_of
from models.flow.paths.admissible import admissible
from models.flow.schema import PathChoice, Route, Rule
from models.program_builder import ProductIds, ProgramBuilder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.flow.failures.pricing import Cheapest
    from models.flow.schema import Plan, Problem
    from models.program import Floats, Ints, LinearProgram

    Links = tuple[int, ...]

STARTING_PATHS = 4  # of each demand
MOST_STARTING = 8_000  # of all: each takes a search
SMALLEST_DUAL = 1e-11
MOST_SHRINKS = 8  # tries to make a demand's duals small enough
STRETCH = 5e-7  # relative: an overload beyond it is scaled away, one below is rounding


@dataclass(frozen=True, slots=True)
class Stage:
    """One goal in its turn: a ``column`` of the program is made small, or large where ``sign`` is -1.

    ``goal`` is None for a stage that serves the others; ``unit`` turns the program's value into the goal's; a stage that proves nothing
    (``proves``) is over when its values are right, whatever paths could still be added.
    """

    goal: str | None
    column: int
    sign: float
    unit: float
    proves: bool = True


class ReservationProgram(ABC):
    """The program as it stands: its paths, and the scenario rows it has."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.network, self.traffic = problem, network_of(problem), traffic_of(problem)
        sizes = self.traffic.size
        self.unit = 2.0 ** round(math.log2(float(np.median(sizes)))) if len(sizes) else 1.0
        self.size = sizes / self.unit
        self.capacity = self.network.channel_capacity / self.unit
        self.ranks = np.searchsorted(-np.array(self.traffic.classes), -self.traffic.priority)
        self.open_choice = problem.paths.choice is PathChoice.all
        self._pricer = SetPricer(self.network)
        self.routes = self._starting() if self.open_choice else self._listed()
        self._known = {(int(one), self.routes.arcs_of(route)) for route, one in enumerate(self.routes.demand.tolist())}
        self.pairs: list[tuple[int, Links]] = []
        self._pair_known: set[tuple[int, Links]] = set()
        self.head_columns = self.static_rows = 0
        self._head_upper = np.zeros(0)
        self.capacity_first = 0
        self.limited = np.isfinite(self.capacity) & (self.capacity > 0)
        most = self._cut()
        self.most_granted = self._most_granted(most)
        # A reservation is needed only where it makes some scenario whole: so the sum is at most one size for each.
        self.most_reserved = np.minimum(most, (1.0 + scenario_count(problem)) * self.most_granted)

    # ------------------------------------------------------------ what differs

    @abstractmethod
    def head(self, builder: ProgramBuilder) -> None:
        """Add the columns that are no paths."""

    @abstractmethod
    def goal_rows(self, builder: ProgramBuilder) -> None:
        """Add the rows that are neither capacities nor scenarios; entries of paths come from ``arc_terms``."""

    def capacity_rows(self, builder: ProgramBuilder) -> None:
        """Add one row for each channel with a limit: what all paths reserve there."""
        limited = np.flatnonzero(self.limited)
        names = [(self.network.link_ids[self.network.channel_link[one]], bool(self.network.channel_back[one])) for one in limited.tolist()]
        nothing = np.zeros(0, dtype=np.int64)
        rows = builder.add_rows(Rule.link_capacity.value, names, upper=self.capacity[limited], row_index=nothing, column_index=nothing)
        self.capacity_first = rows.start

    def loads(self, first: int) -> tuple[int, Ints, Ints, Floats]:
        """Terms of rows that add up the load of each channel with a limit."""
        arcs = np.flatnonzero(self.limited[self.network.arc_channel])
        place = np.cumsum(self.limited) - 1
        return first, place[self.network.arc_channel[arcs]], arcs, np.ones(len(arcs))

    @abstractmethod
    def arc_terms(self, rank: int) -> Iterator[tuple[int, Ints, Ints, Floats]]:
        """Of paths of class ``rank`` in static rows: first row, rows after it, arcs, coefficients. A path adds up those of its arcs."""

    @abstractmethod
    def scenario_row(self, demand: int, links: Links) -> tuple[list[int], list[float], float, float]:
        """Head columns, their coefficients, the coefficient of every path left, and the lower side."""

    @abstractmethod
    def stages(self) -> Sequence[Stage]:
        """The goals in their order."""

    def forgone(self, demand: int) -> float:
        """What the bound loses at most for each unit by which a dual of the demand's scenario rows is made smaller."""
        return float(self.most_granted[demand])

    def kept(self, done: Stage) -> tuple[Ints, Floats, Floats]:
        """Columns and bounds that hold what a stage reached, besides the stage's own column."""
        del done
        return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0)

    def impossible(self, stage: Stage, bound: float) -> bool:
        """Whether a bound on what a stage without a goal reaches proves that no plan exists."""
        del stage, bound
        return False

    def endless(self, stage: Stage, value: float) -> bool:
        """Whether the goal of a stage reaches what only a goal without limit can reach."""
        del stage, value
        return False

    @abstractmethod
    def violated(self, values: Floats) -> list[tuple[int, Links]]:
        """Pairs whose rows are missing and broken."""

    @abstractmethod
    def plan(self, values: Floats) -> Plan | None:
        """The plan of the values, None where it is none yet."""

    def _cut(self) -> Floats:
        """What can leave a demand's source and enter its target at most, shape (demands,)."""
        return most_between(self.network, self.traffic.source, self.traffic.target) / self.unit

    def _most_granted(self, most: Floats) -> Floats:
        """What one path reserves at most where it is of use, shape (demands,)."""
        del most
        return self.size

    # ------------------------------------------------------------ paths

    def _listed(self) -> RouteSet:
        found = admissible(self.problem)
        if found is None:
            return no_routes(self.network)
        counts = np.diff(found.starts)
        every = RouteSet(self.network, np.repeat(np.arange(len(counts)), counts), found.path_starts, found.arcs)
        closed = self.network.channel_capacity[self.network.arc_channel[every.arcs]] <= 0
        return kept_routes(every, np.bincount(every.entry_route, weights=closed, minlength=every.count) == 0)

    def _starting(self) -> RouteSet:
        traffic, demands, paths = self.traffic, list[int](), list[tuple[int, ...]]()
        known: dict[tuple[int, int, float], list[tuple[int, ...]]] = {}
        many = max(1, min(STARTING_PATHS, MOST_STARTING // max(traffic.count, 1)))
        for demand, (source, target, limit) in enumerate(
            zip(traffic.source.tolist(), traffic.target.tolist(), traffic.latency_limit.tolist(), strict=True)
        ):
            if (source, target, limit) not in known:
                known[source, target, limit] = self._pricer.starting((source, target), limit, many)
            found = known[source, target, limit]
            demands += [demand] * len(found)
            paths += found
        return no_routes(self.network).joined(demands, paths)

    # ------------------------------------------------------------ the program

    def program(self) -> LinearProgram:
        """The first program: capacities, goals, and what holds while nothing fails."""
        builder = ProgramBuilder()
        self.head(builder)
        routes = self.routes
        alone = builder.build()
        self.head_columns, self._head_upper = alone.columns, alone.column_upper
        upper = 2.0 * self.most_granted[routes.demand]
        builder.add_columns("reserve", ProductIds(range(routes.count)), upper=upper)
        self.goal_rows(builder)
        program = builder.build()
        self.static_rows = program.rows
        row, column, value = self._static_entries(routes)
        first = self.stages()[0]
        cost = np.zeros(program.columns)
        cost[first.column] = first.sign
        whole = _with_entries(replace(program, cost=cost), row, column + self.head_columns, value)
        intact = self.new_rows([(demand, ()) for demand in range(self.traffic.count)])
        return whole if intact is None else whole.with_rows(intact.lower, intact.upper, intact.starts, intact.indices, intact.values)

    def between(self, done: Stage, values: Floats, following: Stage) -> ColumnEdits:
        """How columns change from one stage to the next: what the values reach is kept."""
        reached = float(values[done.column])
        columns, lower, upper = self.kept(done)
        own = (reached, np.inf) if done.sign < 0 else (0.0, reached)
        return ColumnEdits(
            np.concatenate((columns, [done.column, following.column])).astype(np.int64),
            np.concatenate((lower, [max(own[0], 0.0), 0.0])),
            np.concatenate((upper, [max(own[1], 0.0), self._head_upper[following.column]])),
            np.concatenate((np.zeros(len(columns) + 1), [following.sign])),
        )

    def _static_entries(self, routes: RouteSet) -> tuple[Ints, Ints, Floats]:
        """Static rows, paths and coefficients; a path that uses a row's arcs twice has both added up."""
        parts: list[tuple[Ints, Ints, Floats]] = []
        ranks = self.ranks[routes.demand]
        for rank in np.unique(ranks).tolist():
            ours = ranks[routes.entry_route] == rank
            route, arc = routes.entry_route[ours], routes.arcs[ours]
            for first, rows, arcs, values in self.arc_terms(rank):
                at = np.full(self.network.arcs, -1)
                at[arcs] = np.arange(len(arcs))
                used = at[arc] >= 0
                parts.append((first + rows[at[arc[used]]], route[used], values[at[arc[used]]]))
        rows, columns, values = (np.concatenate([part[place] for part in parts] or [np.zeros(0)]) for place in range(3))
        key = rows.astype(np.int64) * max(routes.count, 1) + columns.astype(np.int64)
        unique, place = np.unique(key, return_inverse=True)
        sums = np.bincount(place, weights=values, minlength=len(unique)).astype(np.float64)
        return unique // max(routes.count, 1), unique % max(routes.count, 1), sums

    def new_rows(self, pairs: Sequence[tuple[int, Links]]) -> NewRows | None:
        """Rows for the pairs that the program does not have yet."""
        starts, columns, values, lower = [0], list[int](), list[float](), list[float]()
        order = np.argsort(self.routes.demand, kind="stable")
        ends = np.cumsum(np.bincount(self.routes.demand, minlength=self.traffic.count))
        for demand, links in pairs:
            if (demand, links) in self._pair_known:
                continue
            self._pair_known.add((demand, links))
            self.pairs.append((demand, links))
            head, coefficients, of_path, side = self.scenario_row(demand, links)
            own = order[ends[demand - 1] if demand else 0 : ends[demand]]
            left = [route for route in own.tolist() if not set(self.routes.links_of(route).tolist()) & set(links)]
            columns += [*head, *(self.head_columns + route for route in left)]
            values += [*coefficients, *([of_path] * len(left))]
            starts.append(len(columns))
            lower.append(side)
        if not lower:
            return None
        sides = np.array(lower)
        return NewRows(sides, np.full(len(sides), np.inf), np.array(starts), np.array(columns, dtype=np.int64), np.array(values))

    # ------------------------------------------------------------ pricing

    def missed(self, row_duals: Floats) -> tuple[list[tuple[int, Links]], float]:
        """Paths (demand, arcs) missing at these duals, and how much all that are missing could lower the optimum together.

        Of a demand for which a path is missing, either the path's gain counts, times all that can be reserved; or its duals are made
        smaller until no path has a gain, and what that takes from the bound counts. Both are right, and the smaller one is taken.
        """
        found: list[tuple[int, Links]] = []
        if not self.open_choice:
            return found, 0.0
        arc_price = [self._arc_price(rank, row_duals) for rank in range(len(self.traffic.classes))]
        excess = 0.0
        earned: dict[int, list[tuple[Links, float]]] = {}
        for (demand, links), dual in zip(self.pairs, row_duals[self.static_rows :].tolist(), strict=True):
            if dual > SMALLEST_DUAL:
                earned.setdefault(demand, []).append((links, dual * self.scenario_row(demand, links)[2]))
            elif dual > 0.0:
                excess += dual * self.forgone(demand)
        for demand, sets in earned.items():
            worth = sum(dual for _, dual in sets)
            best = self._cheapest(demand, arc_price[self.ranks[demand]], sets, worth)
            if worth <= best.price:
                continue
            share, paths = self._shrunk(demand, arc_price[self.ranks[demand]], sets, best)
            whole = worth / self.scenario_row(demand, ())[2] * self.forgone(demand)
            excess += min((worth - best.price) * float(self.most_reserved[demand]), (1.0 - share) * whole)
            found += [(demand, arcs) for arcs in paths if (demand, arcs) not in self._known]
        return found, excess

    def _cheapest(self, demand: int, arc_price: Floats, sets: Sequence[tuple[Links, float]], below: float) -> Cheapest:
        ends = int(self.traffic.source[demand]), int(self.traffic.target[demand])
        prices = _with_single_links(self.network.arc_link, arc_price, sets)
        several = [(links, dual) for links, dual in sets if len(links) > 1]
        return self._pricer.cheapest(ends, prices, several, below=below, limit=float(self.traffic.latency_limit[demand]))

    def _shrunk(self, demand: int, arc_price: Floats, sets: Sequence[tuple[Links, float]], best: Cheapest) -> tuple[float, list[Links]]:
        """The share of a demand's duals at which no path has a gain (Newton's method for ratios), and the paths met on the way."""
        worth, paths = sum(dual for _, dual in sets), list[tuple[int, ...]]()
        while best.arcs is not None and len(paths) < MOST_SHRINKS:
            paths.append(best.arcs)
            links = set(self.network.arc_link[list(best.arcs)].tolist())
            kept = worth - sum(dual for hit, dual in sets if links.intersection(hit))
            if kept <= 0.0:
                break
            share = float(arc_price[list(best.arcs)].sum()) / kept
            best = self._cheapest(demand, arc_price, [(hit, share * dual) for hit, dual in sets], share * worth)
            if best.arcs is None and best.price >= share * worth:
                return min(share, 1.0), paths
        return 0.0, paths

    def _arc_price(self, rank: int, duals: Floats) -> Floats:
        price = np.zeros(self.network.arcs)
        for first, rows, arcs, values in self.arc_terms(rank):
            price[arcs] -= duals[first + rows] * values
        return np.maximum(price, 0.0)

    def new_columns(self, found: Sequence[tuple[int, Links]]) -> NewColumns | None:
        """Columns for paths, which are among ``routes`` from now on; to be added before any ``new_rows`` asked for later."""
        if not found:
            return None
        self._known.update(found)
        demands, paths = [demand for demand, _ in found], [arcs for _, arcs in found]
        first = self.routes.count
        self.routes = self.routes.joined(demands, paths)
        fresh = np.zeros(self.routes.count, dtype=np.bool_)
        fresh[first:] = True
        new = kept_routes(self.routes, fresh)
        row, column, value = self._static_entries(new)
        rows, columns, values = [row], [column], [value]
        of_demand: dict[int, list[int]] = {}
        for place, demand in enumerate(demands):
            of_demand.setdefault(demand, []).append(place)
        for number, (demand, links) in enumerate(self.pairs):
            for place in of_demand.get(demand, ()):
                if not set(new.links_of(place).tolist()) & set(links):
                    rows.append(np.array([self.static_rows + number]))
                    columns.append(np.array([place]))
                    values.append(np.array([self.scenario_row(demand, links)[2]]))
        row, column, value = np.concatenate(rows), np.concatenate(columns), np.concatenate(values)
        order = np.lexsort((row, column))
        starts = np.concatenate(([0], np.cumsum(np.bincount(column, minlength=len(demands)))))
        upper = 2.0 * self.most_granted[new.demand]
        nothing = np.zeros(len(demands))
        return NewColumns(nothing, nothing, upper, starts.astype(np.int64), row[order], value[order], 0.0)

    # ------------------------------------------------------------ plans

    def taken(self, values: Floats) -> Floats:
        """What each path reserves in the program's unit, shape (routes,); paths that are not among the values yet reserve nothing."""
        known = np.maximum(values[self.head_columns :], 0.0)
        return np.concatenate((known, np.zeros(self.routes.count - len(known))))

    def reserved(self, values: Floats) -> Floats:
        """What each path reserves, in Gbit/s, without specks; shape (routes,)."""
        taken = self.taken(values) * self.unit
        return np.where(taken > 1e-9 * self.traffic.size[self.routes.demand], taken, 0.0)

    def within_capacity(self, taken: Floats) -> Floats:
        """The reservations, all scaled down together as far as the fullest channel needs."""
        network, routes = self.network, self.routes
        load = np.bincount(network.arc_channel[routes.arcs], weights=taken[routes.entry_route], minlength=len(network.channel_link))
        ratio = float((load / np.where(network.channel_capacity > 0, network.channel_capacity, np.inf)).max(initial=0.0))
        return taken / ratio if ratio > 1.0 + STRETCH else taken

    def routes_of(self, taken: Floats) -> tuple[Route, ...]:
        """The routes of a plan, by demand."""
        names, routes = self.network.link_ids, self.routes
        used = np.flatnonzero(taken)
        return tuple(
            Route(
                demand=self.traffic.ids[int(routes.demand[route])],
                gbps=float(taken[route]),
                hops=tuple(names[link] for link in routes.links_of(route).tolist()),
            )
            for route in used[np.argsort(routes.demand[used], kind="stable")].tolist()
        )


def _with_single_links(arc_link: Ints, prices: Floats, sets: Sequence[tuple[Sequence[int], float]]) -> list[float]:
    """Arc prices with those of the sets of one link added."""
    single = {links[0]: dual for links, dual in sets if len(links) == 1}
    more = np.zeros(int(arc_link.max(initial=-1)) + 1)
    more[list(single)] = list(single.values())
    added: list[float] = (prices + more[arc_link]).tolist()
    return added


def _with_entries(program: LinearProgram, row: Ints, column: Ints, value: Floats) -> LinearProgram:
    rows = np.concatenate((program.entry_rows, row))
    columns = np.concatenate((program.indices, column))
    values = np.concatenate((program.coefficients, value))
    order = np.lexsort((columns, rows))
    starts = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=program.rows))))
    return replace(program, starts=starts.astype(np.int64), indices=columns[order], coefficients=values[order])

"""The exact program of reservations that survive failures, or that lose least: every path and every scenario written down.

It is for small problems and for diagnoses; ``models.flow.failures.search`` finds the same optimum with the few rows and paths that
matter. Both rest on the same page and on nothing else in common but the list of scenarios.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.contract import Sense
from models.flow.failures.scenarios import scenario_count, scenarios_of
from models.flow.goals import goal_class, goal_names, plain_name, sense_of
from models.flow.network.arrays import network_of, traffic_of
from models.flow.network.tally import tally_of
from models.flow.paths.admissible import admissible
from models.flow.routing.formulation_setting import MOST_PATHS, simple_paths
from models.flow.schema import FailureMode, Granted, Objective, Plan, Route, Rule
from models.kept import Kept
from models.program_builder import ProgramBuilder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.flow.schema import Problem
    from models.program import Floats, LinearProgram

MOST_ROWS = 200_000  # demands times scenarios: a program with more is not built
SLACK = 1e-9  # relative: what the sum of a goal's terms may lose to rounding
_IN_FULL = frozenset({Objective.min_cost, Objective.min_max_utilisation})

Terms = list[tuple[int, float]]  # columns and coefficients


def build(problem: Problem, goal: str | None = None, floors: Mapping[str, float] | None = None, *, hasten: bool = True) -> LinearProgram:
    """The program with one goal (the first by default); ``floors`` keep what earlier goals attained.

    Raises ValueError where paths or scenarios are too many to write down.
    """
    if (rows := traffic_of(problem).count * (1 + scenario_count(problem))) > MOST_ROWS:
        raise ValueError(f"the exact program would have {rows:,} rows of scenarios, more than {MOST_ROWS:,}")
    draft = _Draft(problem, hasten=hasten)
    draft.rules()
    for name, value in (floors or {}).items():
        slack = SLACK * max(1.0, abs(value))
        sides = (value - slack, np.inf) if sense_of(name) is Sense.maximise else (-np.inf, value + slack)
        draft.row("goal_floor", (name,), draft.terms_of(name), *sides)
    return draft.program(goal_names(problem)[0] if goal is None else goal)


def extract(problem: Problem, values: Mapping[str, Mapping[tuple[Any, ...], float]]) -> Plan:
    """The plan of column values."""
    names = network_of(problem).link_ids
    paths = _paths_of(problem)
    arc_link = network_of(problem).arc_link
    routes = []
    for (demand, number), gbps in values.get("reserve", {}).items():
        if gbps > 0.0:
            arcs = paths[traffic_of(problem).at[demand]][int(number)]
            routes.append(Route(demand=demand, gbps=gbps, hops=tuple(names[arc_link[arc]] for arc in arcs)))
    granted = tuple(Granted(demand=ids[0], gbps=gbps) for ids, gbps in values.get("grant", {}).items() if gbps > 0.0)
    return Plan(routes=tuple(routes), granted=granted)


def start(problem: Problem, plan: Plan) -> Mapping[str, Mapping[tuple[Any, ...], float]]:
    """The values of a plan by column; routes over bundles have none."""
    from models.flow.verify import verify

    traffic, tally, paths = traffic_of(problem), tally_of(problem, plan), _paths_of(problem)
    place = {(demand, path): number for demand, some in enumerate(paths) for number, path in enumerate(some)}
    reserve: dict[tuple[Any, ...], float] = {}
    for route in range(tally.routes):
        demand = int(tally.route_demand[route])
        number = place.get((demand, tuple(tally.arcs[tally.starts[route] : tally.starts[route + 1]].tolist())))
        if demand >= 0 and number is not None:
            ids = traffic.ids[demand], str(number)
            reserve[ids] = reserve.get(ids, 0.0) + float(tally.route_gbps[route])
    told: dict[str, dict[tuple[Any, ...], float]] = {"reserve": reserve, "grant": {(one.demand,): one.gbps for one in plan.granted}}
    for name, value in verify(problem, plan).objectives.items():
        family = {"concurrent": "concurrent", "max_utilisation": "utilisation"}.get(plain_name(name))
        if family is not None:
            told.setdefault(family, {})[(str(goal_class(problem, name)),)] = value
    return told


def size(problem: Problem) -> int:
    """About how many columns; far too many where paths cannot be listed."""
    try:
        return sum(map(len, _paths_of(problem))) + traffic_of(problem).count + 2
    except ValueError:
        return 10**12


def _listed(problem: Problem) -> tuple[tuple[tuple[int, ...], ...], ...]:
    network, traffic = network_of(problem), traffic_of(problem)
    allowed = admissible(problem)
    if allowed is not None:
        return tuple(tuple(allowed.of(demand)) for demand in range(traffic.count))
    found, left = list[tuple[tuple[int, ...], ...]](), MOST_PATHS
    for source, target, limit in zip(traffic.source.tolist(), traffic.target.tolist(), traffic.latency_limit.tolist(), strict=True):
        paths = simple_paths(network, source, target, limit, left)
        if paths is None:
            raise ValueError("the exact program of failures lists all paths, and these are too many")
        found.append(paths)
        left -= len(paths)
    return tuple(found)


_listings: Kept[Problem, tuple[tuple[tuple[int, ...], ...], ...]] = Kept(_listed)


def _paths_of(problem: Problem) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """The paths of each demand, as arcs, kept as long as the problem lives."""
    return _listings.of(problem)


class _Draft:
    """The program under construction."""

    def __init__(self, problem: Problem, *, hasten: bool) -> None:
        self._problem, self._hasten = problem, hasten
        self._network, self._traffic = network_of(problem), traffic_of(problem)
        self._paths, self._scenarios = _paths_of(problem), scenarios_of(problem)
        self._cvar = problem.failures is not None and problem.failures.mode is FailureMode.cvar
        self._stretched = problem.objective is Objective.min_max_utilisation and not self._cvar
        self._count = 0
        self._families: list[tuple[str, Sequence[tuple[str, ...]], Floats]] = []
        self._rows: dict[str, list[tuple[tuple[str, ...], Terms, float, float]]] = {}
        ids = self._traffic.ids
        self._every = [(demand, path) for demand, some in enumerate(self._paths) for path in some]
        own = [(ids[demand], str(number)) for demand, some in enumerate(self._paths) for number in range(len(some))]
        self._reserve = self._family("reserve", own)
        classes = [(str(priority),) for priority in self._traffic.classes]
        if self._cvar:
            self._at_risk = self._family("at_risk", [("all",)])
            self._beyond = self._family("beyond", [(name,) for name in (*self._scenarios.ids, "nothing fails")])
        else:
            capped = self._hasten and problem.objective is not Objective.max_concurrent
            self._grant = self._family("grant", [(name,) for name in ids], self._traffic.size if capped else None)
            self._reach = self._family("utilisation" if self._stretched else "concurrent", classes)

    def _family(self, name: str, ids: Sequence[tuple[str, ...]], upper: Floats | None = None) -> int:
        first = self._count
        self._families.append((name, ids, np.full(len(ids), np.inf) if upper is None else upper))
        self._count += len(ids)
        return first

    def row(self, name: str, ids: tuple[str, ...], terms: Terms, lower: float, upper: float) -> None:
        """One named row."""
        self._rows.setdefault(name, []).append((ids, terms, lower, upper))

    def rules(self) -> None:
        """Every row but those of goals."""
        self._capacities()
        scenarios = [*((self._scenarios.ids[one], set(self._scenarios.of(one))) for one in range(self._scenarios.count))]
        for number, (name, down) in enumerate([*scenarios, ("nothing fails", set[int]())]):
            for demand, size in enumerate(self._traffic.size.tolist()):
                left = [self._reserve + at for at, (one, path) in enumerate(self._every) if one == demand and not down & self._links(path)]
                ids = self._traffic.ids[demand], name
                if self._cvar:
                    terms = [(column, 1.0 / size) for column in left] + [(self._at_risk, 1.0), (self._beyond + number, 1.0)]
                    self.row(Rule.protection.value, ids, terms, 1.0, np.inf)
                else:
                    self.row(Rule.protection.value, ids, [(column, 1.0) for column in left] + [(self._grant + demand, -1.0)], 0.0, np.inf)
        if not self._cvar:
            self._grants()

    def _links(self, path: tuple[int, ...]) -> set[int]:
        return set(self._network.arc_link[list(path)].tolist())

    def _capacities(self) -> None:
        network = self._network
        load: list[list[tuple[int, int]]] = [[] for _ in network.channel_link]
        for at, (demand, path) in enumerate(self._every):
            for arc in path:
                load[network.arc_channel[arc]].append((demand, self._reserve + at))
        for channel, terms in enumerate(load):
            capacity = float(network.channel_capacity[channel])
            if not np.isfinite(capacity) or not terms:
                continue
            name = network.link_ids[network.channel_link[channel]]
            ids = (name, "back") if network.channel_back[channel] else (name,)
            if not self._stretched or capacity == 0.0:
                self.row(Rule.link_capacity.value, ids, _summed([(column, 1.0) for _, column in terms]), -np.inf, capacity)
                continue
            for place, priority in enumerate(self._traffic.classes):
                own = _summed([(column, 1.0) for demand, column in terms if self._traffic.priority[demand] >= priority])
                self.row("link_utilisation", (str(priority), *ids), [*own, (self._reach + place, -capacity)], -np.inf, 0.0)

    def _grants(self) -> None:
        objective = self._problem.objective
        for demand, (name, size) in enumerate(zip(self._traffic.ids, self._traffic.size.tolist(), strict=True)):
            granted = (self._grant + demand, 1.0)
            if objective in _IN_FULL:
                self.row(Rule.demand_served.value, (name,), [granted], size, np.inf)
            if objective is not Objective.max_concurrent and not self._hasten:
                self.row(Rule.demand_size.value, (name,), [granted], -np.inf, size)
            if objective is Objective.max_concurrent:
                place = self._traffic.classes.index(int(self._traffic.priority[demand]))
                self.row("share_of_demand", (name,), [granted, (self._reach + place, -size)], 0.0, np.inf)

    def terms_of(self, goal: str) -> Terms:
        """The goal as a sum."""
        if self._cvar:
            assert self._problem.failures is not None  # noqa: S101 - the mode is one of theirs
            tail = 1.0 - self._problem.failures.beta
            chance = [*self._scenarios.probability.tolist(), self._scenarios.intact]
            return [(self._at_risk, 1.0), *((self._beyond + at, share / tail) for at, share in enumerate(chance))]
        own = self._traffic.priority == goal_class(self._problem, goal)
        match plain_name(goal):
            case "throughput":
                return [(self._grant + one, float(self._traffic.value[one])) for one in np.flatnonzero(own).tolist()]
            case "cost":
                cost = self._network.arc_cost
                return [(self._reserve + at, float(cost[list(path)].sum())) for at, (one, path) in enumerate(self._every) if own[one]]
            case _:
                return [(self._reach + self._traffic.classes.index(goal_class(self._problem, goal)), 1.0)]

    def program(self, goal: str) -> LinearProgram:
        """All of it as arrays."""
        builder = ProgramBuilder(maximise=sense_of(goal) is Sense.maximise)
        cost = np.zeros(self._count)
        for column, value in self.terms_of(goal):
            cost[column] += value
        first = 0
        for name, ids, upper in self._families:
            builder.add_columns(name, ids, cost=cost[first : first + len(ids)], upper=upper)
            first += len(ids)
        for name, rows in self._rows.items():
            entries = [(number, column, value) for number, (_, terms, _, _) in enumerate(rows) for column, value in terms]
            builder.add_rows(
                name,
                [ids for ids, _, _, _ in rows],
                lower=[lower for _, _, lower, _ in rows],
                upper=[upper for _, _, _, upper in rows],
                row_index=np.array([one[0] for one in entries], dtype=np.int64),
                column_index=np.array([one[1] for one in entries], dtype=np.int64),
                coefficient=np.array([one[2] for one in entries]),
            )
        return builder.build()


def _summed(terms: Terms) -> Terms:
    """The terms with those of one column added up."""
    found: dict[int, float] = {}
    for column, value in terms:
        found[column] = found.get(column, 0.0) + value
    return list(found.items())

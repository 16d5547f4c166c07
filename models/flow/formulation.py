"""The exact linear program of a routing, in Pyomo. README.md has the formulas, under the same names.

Traffic that may use every path flows on arcs, taken together by class and source; traffic with a latency limit or a choice of paths has
all of these listed (see ``routing.formulation_setting``). Designs, transfers and protected traffic have programs of their own. Fairness
needs one program after another, each with the rates of the levels before: that is ``scale.converse``. Here ``fair_rate`` is the first of
them, and ``fair_slack`` a program without objective.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyomo.environ as pyo
from pyomo.core.expr.numeric_expr import LinearExpression

from models.contract import Sense
from models.flow.design import exact as formulation_design
from models.flow.failures import exact as formulation_failures
from models.flow.goals import goal_class, plain_name, sense_of
from models.flow.routing.formulation_plan import extract_routes, start_routes
from models.flow.routing.formulation_setting import setting_of
from models.flow.schema import FailureMode, Objective, Rule, Use
from models.flow.transfers import exact as formulation_transfers
from models.garbage import collection_paused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.flow.routing.formulation_setting import Setting, Stream
    from models.flow.schema import Plan, Problem
    from models.program import LinearProgram

__all__ = ["HASTENING", "LINKING", "build", "extract", "size", "start"]

HASTENING: frozenset[str] = frozenset()
# Rows that say what a column means. All others are rules of a plan, by their names in `Rule`.
LINKING = (
    frozenset({"node_balance", "routes_together", "share_of_demand", "share_of_weight", "link_utilisation", "goal_floor"})
    | formulation_design.LINKING
    | formulation_transfers.LINKING
)

_SLACK = 1e-9  # relative: what the sum of a goal's terms may lose to rounding, as in contract.Goal.better

Terms = list[tuple[float, Any]]


def build(
    problem: Problem, goal: str | None = None, floors: Mapping[str, float] | None = None, *, hasten: bool = True
) -> pyo.ConcreteModel | LinearProgram:
    """The exact program with one goal (the first by default) as its objective.

    ``floors`` holds, for goals that come before it, the values attained: each becomes a row ``goal_floor[goal]``. With ``hasten=False``
    demands may leave the paths they have, against a row ``latency_limit`` or ``path_choice``: so a conflict can name it.

    Raises ValueError for a goal that is not among the problem's, or where latency limits leave too many paths to list them all.
    """
    other = _other_use(problem)
    if other is not None:
        return other.build(problem, goal, floors, hasten=hasten)
    names = problem.ordered_goals()
    goal = names[0] if goal is None else goal
    floors = floors or {}
    for name in (goal, *floors):
        if name not in names:
            raise ValueError(f"{name} is not among the goals of the problem: {', '.join(names)}")
    setting = setting_of(problem)
    if setting.paths is None:
        raise ValueError("the latency limits leave too many paths for the exact program to list them all")
    with collection_paused():
        model = _Model(problem, setting, {plain_name(name) for name in (goal, *floors)}, stray=not hasten)
        model.write()
        for name, value in floors.items():
            model.floor(name, value)
        sense = pyo.maximize if sense_of(goal) is Sense.maximise else pyo.minimize
        model.pyomo.goal = pyo.Objective(expr=_expression(model.goal_terms(goal)), sense=sense)
    return model.pyomo


def extract(problem: Problem, values: Mapping[str, Mapping[tuple[Any, ...], float]]) -> Plan:
    """The plan of column values: flows taken apart into routes."""
    other = _other_use(problem)
    return extract_routes(problem, values) if other is None else other.extract(problem, values)


def start(problem: Problem, plan: Plan) -> Mapping[str, Mapping[tuple[Any, ...], float]]:
    """The values of a plan by column."""
    other = _other_use(problem)
    return start_routes(problem, plan) if other is None else other.start(problem, plan)


def size(problem: Problem) -> int:
    """About how many columns the program has."""
    other = _other_use(problem)
    return setting_of(problem).columns if other is None else other.size(problem)


def _other_use(problem: Problem) -> Any:
    """The module with the program of another use, or of traffic that is protected; a sweep routes as if nothing failed."""
    if problem.use is Use.design:
        return formulation_design
    if problem.use is Use.transfer:
        return formulation_transfers
    reserving = problem.failures is not None and problem.failures.mode is not FailureMode.sweep
    return formulation_failures if reserving else None


def _expression(terms: Terms) -> LinearExpression:
    return LinearExpression(constant=0.0, linear_coefs=[one[0] for one in terms], linear_vars=[one[1] for one in terms])


def _index(ids: tuple[str, ...]) -> Any:
    """Pyomo's form of an id tuple."""
    return ids if len(ids) > 1 else ids[0]


class _Model:
    """The program under construction: columns by family, and rows that name their rule."""

    def __init__(self, problem: Problem, setting: Setting, goals: set[str], *, stray: bool) -> None:
        self.pyomo = pyo.ConcreteModel()
        self._problem, self._setting, self._goals, self._stray = problem, setting, goals, stray
        self._rows: dict[str, Any] = {}
        network = setting.network
        # What runs on each arc, as (class, column); classes do not matter to supplies.
        self._on_arc: list[list[tuple[int, Any]]] = [[] for _ in range(network.arcs)]
        self._served: list[Any] = []

    def write(self) -> None:
        """All columns and all rows but the goal."""
        self._stretch()
        if self._setting.supplied:
            self._supplies()
        else:
            self._demands()
        self._capacities()

    def floor(self, name: str, value: float) -> None:
        """A goal stays at least as good as ``value``."""
        slack = _SLACK * max(1.0, abs(value))
        low, high = (value - slack, None) if sense_of(name) is Sense.maximise else (None, value + slack)
        self._row("goal_floor", (name,), self.goal_terms(name), low, high)

    # ------------------------------------------------------------ columns and rows

    def _family(self, name: str, indices: list[Any], uppers: list[float] | None = None) -> list[Any]:
        """Columns of 0 or more; those whose upper bound is inf have none."""
        family = pyo.Var(indices, domain=pyo.Reals, bounds=(0.0, None))
        self.pyomo.add_component(name, family)
        found = list(family.values())
        for column, upper in zip(found, uppers or (), strict=False):
            if np.isfinite(upper):
                column.setub(upper)
        return found

    def _row(self, name: str, ids: tuple[str, ...], terms: Terms, lower: float | None = None, upper: float | None = None) -> None:
        name = str(name)
        if name not in self._rows:
            self._rows[name] = pyo.Constraint(pyo.Any)
            self.pyomo.add_component(name, self._rows[name])
        body = _expression(terms)
        self._rows[name].add(_index(ids), (body, upper) if lower == upper else (lower, body, upper))

    def _stretch(self) -> None:
        """One column for each class of a goal that is a share, a rate or a utilisation."""
        classes = self._setting.traffic.classes or (0,)
        families = {"concurrent": "concurrent", "fair_rate": "rate", "fair_slack": "rate", "max_utilisation": "utilisation"}
        self._stretched: dict[str, dict[int, Any]] = {}
        for goal in sorted(self._goals & families.keys()):
            if families[goal] not in self._stretched:
                columns = self._family(families[goal], [str(one) for one in classes])
                self._stretched[families[goal]] = dict(zip(classes, columns, strict=True))

    # ------------------------------------------------------------ supplies

    def _supplies(self) -> None:
        setting, network = self._setting, self._setting.network
        columns = self._family("flow", [setting.arc_ids(arc) for arc in range(network.arcs)])
        for arc, column in enumerate(columns):
            self._on_arc[arc].append((0, column))
        terms: list[Terms] = [[] for _ in range(network.nodes)]
        for arc, (tail, head) in enumerate(zip(network.arc_tail.tolist(), network.arc_head.tolist(), strict=True)):
            terms[tail].append((1.0, columns[arc]))
            terms[head].append((-1.0, columns[arc]))
        for node, supply in enumerate(network.supply.tolist()):
            self._supply(node, supply, terms[node])
        for link in np.flatnonzero(network.link_lower > 0).tolist():
            column = columns[int(network.forward_arc[link])]
            self._row(Rule.link_lower, (network.link_ids[link],), [(1.0, column)], float(network.link_lower[link]))

    def _supply(self, node: int, supply: float, terms: Terms) -> None:
        """What leaves a node less what enters it is its supply, or the part of it that the goal is about."""
        ids = (self._setting.network.node_ids[node],)
        if supply == 0.0:
            self._row("node_balance", ids, terms, 0.0, 0.0)
        elif self._problem.objective is Objective.max_throughput:
            self._row(Rule.node_supply, ids, terms, min(0.0, supply), max(0.0, supply))
        elif self._problem.objective is Objective.max_concurrent:
            self._row(Rule.node_supply, ids, [*terms, (-supply, self._stretched["concurrent"][0])], 0.0, 0.0)
        else:
            self._row(Rule.node_supply, ids, terms, supply, supply)

    # ------------------------------------------------------------ demands

    def _demands(self) -> None:
        setting, traffic = self._setting, self._setting.traffic
        self._served = self._family("serve", list(traffic.ids))
        balance: dict[int, Any] = dict(enumerate(self._served))
        self._streams("send", setting.streams, balance)
        listed = setting.paths or {}
        astray: dict[int, Any] = {}
        if self._stray and setting.strays:
            names = sorted(listed)
            astray = dict(zip(names, self._family("leave_paths", [traffic.ids[one] for one in names]), strict=True))
            self._streams("stray", setting.strays, astray)
        self._listed(listed, astray)
        for demand, column in enumerate(self._served):
            self._entitled(demand, column)

    def _streams(self, family: str, streams: tuple[Stream, ...], arriving: dict[int, Any]) -> None:
        """Flows on arcs: what enters a node leaves it, less what arrives for demands that end there."""
        setting, network, traffic = self._setting, self._setting.network, self._setting.traffic
        indices = [(*setting.stream_ids(one), *setting.arc_ids(arc)) for one in streams for arc in setting.arcs_of(one).tolist()]
        columns = iter(self._family(family, indices) if indices else ())
        for stream in streams:
            terms: list[Terms] = [[] for _ in range(network.nodes)]
            for arc, column in zip(setting.arcs_of(stream).tolist(), columns, strict=False):
                self._on_arc[arc].append((stream.priority, column))
                terms[network.arc_head[arc]].append((1.0, column))
                terms[network.arc_tail[arc]].append((-1.0, column))
            for demand in stream.demands.tolist():
                terms[traffic.target[demand]].append((-1.0, arriving[demand]))
            kind = () if family == "send" else (family,)
            for node, one in enumerate(terms):
                if node != stream.source and one:
                    self._row("node_balance", (*setting.stream_ids(stream), network.node_ids[node], *kind), one, 0.0, 0.0)

    def _listed(self, listed: Mapping[int, tuple[tuple[int, ...], ...]], astray: dict[int, Any]) -> None:
        """Demands with paths of their own get what these carry; in a diagnosis also what leaves them, which their rule forbids."""
        traffic = self._setting.traffic
        indices = [(traffic.ids[demand], str(number)) for demand, paths in listed.items() for number in range(len(paths))]
        columns = iter(self._family("route", indices) if indices else ())
        rule = Rule.latency_limit if self._problem.paths.choice == "all" else Rule.path_choice
        for demand, paths in listed.items():
            terms: Terms = [(1.0, self._served[demand])]
            for path, column in zip(paths, columns, strict=False):
                terms.append((-1.0, column))
                for arc in path:
                    self._on_arc[arc].append((int(traffic.priority[demand]), column))
            if demand in astray:
                terms.append((-1.0, astray[demand]))
                self._row(rule, (traffic.ids[demand],), [(1.0, astray[demand])], upper=0.0)
            self._row("routes_together", (traffic.ids[demand],), terms, 0.0, 0.0)

    def _entitled(self, demand: int, column: Any) -> None:
        """What a demand must and may get."""
        traffic, objective = self._setting.traffic, self._problem.objective
        ids, size, priority = (traffic.ids[demand],), float(traffic.size[demand]), int(traffic.priority[demand])
        if objective in {Objective.min_cost, Objective.min_max_utilisation}:
            self._row(Rule.demand_served, ids, [(1.0, column)], lower=size)
        if objective is not Objective.max_concurrent:
            self._row(Rule.demand_size, ids, [(1.0, column)], upper=size)
        if "concurrent" in self._stretched:
            self._row("share_of_demand", ids, [(1.0, column), (-size, self._stretched["concurrent"][priority])], lower=0.0)
        if "rate" in self._stretched:
            weight = float(traffic.weight[demand])
            self._row("share_of_weight", ids, [(1.0, column), (-weight, self._stretched["rate"][priority])], lower=0.0)

    # ------------------------------------------------------------ capacities and goals

    def _capacities(self) -> None:
        """No channel carries more than its capacity; where utilisation is the goal, more than its share of it."""
        setting, network = self._setting, self._setting.network
        on_channel: list[list[tuple[int, Any]]] = [[] for _ in network.channel_link]
        for arc, channel in enumerate(network.arc_channel.tolist()):
            on_channel[channel] += self._on_arc[arc]
        stretched = self._problem.objective is Objective.min_max_utilisation
        for channel, capacity in enumerate(network.channel_capacity.tolist()):
            ids, load = setting.channel_ids(channel), _merged([(1.0, column) for _, column in on_channel[channel]])
            if not np.isfinite(capacity) or not load:
                continue
            if not stretched or capacity == 0.0:
                self._row(Rule.link_capacity, ids, load, upper=capacity)
                continue
            for priority, column in self._stretched.get("utilisation", {}).items():
                counted = _merged([(1.0, one) for own, one in on_channel[channel] if own >= priority])
                self._row("link_utilisation", (str(priority), *ids), [*counted, (-capacity, column)], upper=0.0)

    def goal_terms(self, name: str) -> Terms:
        """A goal as a sum of columns."""
        network, traffic = self._setting.network, self._setting.traffic
        priority, plain = goal_class(self._problem, name), plain_name(name)
        if plain == "cost":
            costs = network.arc_cost.tolist()
            return _merged([(costs[arc], column) for arc, own in enumerate(self._on_arc) for cls, column in own if cls == priority])
        if plain == "throughput" and self._setting.supplied:
            leaving = np.flatnonzero(network.supply > 0).tolist()
            sign = dict.fromkeys(leaving, 1.0)
            return _merged(
                [
                    (sign.get(int(network.arc_tail[arc]), 0.0) - sign.get(int(network.arc_head[arc]), 0.0), column)
                    for arc, own in enumerate(self._on_arc)
                    for _, column in own
                ]
            )
        if plain == "throughput":
            own = np.flatnonzero(traffic.priority == priority).tolist()
            return [(float(traffic.value[one]), self._served[one]) for one in own]
        if plain == "fair_slack":
            return []
        family = {"concurrent": "concurrent", "max_utilisation": "utilisation", "fair_rate": "rate"}[plain]
        return [(1.0, self._stretched[family][priority])]


def _merged(terms: Terms) -> Terms:
    """The terms with each column once."""
    found: dict[int, tuple[float, Any]] = {}
    for factor, column in terms:
        before = found.get(id(column))
        found[id(column)] = (factor if before is None else factor + before[0], column)
    return list(found.values())

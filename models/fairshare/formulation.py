"""The exact linear program of sharing GPU time, in Pyomo. README.md has the formulas, under the same names.

Every policy is a goal over what jobs attain, told in shares (column ``share``). Fairness needs one program after another,
each with what the rounds before settled: that is ``scale.converse``. Here ``fair_share`` (or ``makespan``, ``finish_time_ratio``) is the
first of them, and ``fair_slack`` a program without objective. A makespan is the reciprocal of a level and a geometric mean is no line
either: tangents stand in for both (``exact.levels``, ``exact.mean``). What such a program proves holds for the true goal, from
which it differs by less than 1e-6 for a makespan of at most twice that of equal split, and by less than 2e-4 for longer ones, for ratios of
jobs that have waited and for the geometric mean; the conversation closes that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyomo.environ as pyo
from pyomo.core.expr.numeric_expr import LinearExpression

from models.contract import Sense
from models.fairshare.exact.levels import rising_of
from models.fairshare.exact.mean import chain_of
from models.fairshare.exact.plan import extract, start
from models.fairshare.exact.setting import FAMILIES, setting_of
from models.fairshare.goals import goal_class, plain_name, sense_of
from models.fairshare.market import market_of
from models.fairshare.schema import Policy, Rule
from models.garbage import collection_paused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.fairshare.exact.setting import Setting, Unit
    from models.fairshare.schema import Problem

__all__ = ["HASTENING", "LINKING", "build", "extract", "size", "start"]

HASTENING: frozenset[str] = frozenset()
# Rows that say what a column means. All others are rules of a plan, by their names in `Rule`.
LINKING = frozenset({"job_speed", "slow_speeds", "fair_level", "pace_tangent", "mean_tangent", "worst_scenario", "goal_floor"})

_SLACK = 1e-9  # relative: what the sum of a goal's terms may lose to rounding, as in contract.Goal.better
_LEVELS = frozenset({"fair_share", "makespan", "finish_time_ratio"})

Terms = list[tuple[float, Any]]


def build(
    problem: Problem, goal: str | None = None, floors: Mapping[str, float] | None = None, *, hasten: bool = True
) -> pyo.ConcreteModel:
    """The exact program with one goal (the first by default) as its objective.

    ``floors`` holds, for goals that come before it, the values attained: jobs keep what these need, or a row ``goal_floor[goal]`` does.
    Raises ValueError for a goal that is not among the problem's.
    """
    del hasten  # every limit is a row already
    names = problem.ordered_goals()
    goal = names[0] if goal is None else goal
    floors = floors or {}
    for name in (goal, *floors):
        if name not in names:
            raise ValueError(f"{name} is not among the goals of the problem: {', '.join(names)}")
    with collection_paused():
        model = _Model(problem, setting_of(problem))
        model.write()
        for name, value in floors.items():
            model.floor(name, value)
        sense = pyo.maximize if sense_of(goal) is Sense.maximise else pyo.minimize
        model.pyomo.goal = pyo.Objective(expr=_expression(model.goal_terms(goal)), sense=sense)
    return model.pyomo


def size(problem: Problem) -> int:
    """About how many columns the program has."""
    market = market_of(problem)
    ways, jobs = market.ways, market.jobs
    own = np.bincount(jobs.workload, minlength=market.workloads.count)
    beside = np.where(ways.second < 0, 1, own[ways.second])
    return jobs.count + int(own[ways.first] @ beside)


def _expression(terms: Terms) -> LinearExpression:
    return LinearExpression(constant=0.0, linear_coefs=[one[0] for one in terms], linear_vars=[one[1] for one in terms])


class _Model:
    """The program under construction: columns by family, and rows that name their rule."""

    def __init__(self, problem: Problem, setting: Setting) -> None:
        self.pyomo = pyo.ConcreteModel()
        self._problem, self._setting, self._market = problem, setting, setting.market
        self._rows: dict[str, Any] = {}
        self._families: dict[str, Any] = {}

    def write(self) -> None:
        """The columns and the rules of every policy, and what jobs attain."""
        units = self._setting.units
        by_family = {family: self._family(family, [self._setting.ids(one) for one in units if one.family == family]) for family in FAMILIES}
        columns = {family: iter(found) for family, found in by_family.items()}
        self._gangs = [next(columns[unit.family]) for unit in units]
        self._share = self._family("share", [(name,) for name in self._market.jobs.ids])
        self._capacities()
        for job in range(self._market.jobs.count):
            self._time_and_money(job)
            self._attained(job)
        if self._problem.policy is Policy.least_cost:
            self._entitlements()

    # ------------------------------------------------------------ columns and rows

    def _family(self, name: str, ids: list[tuple[str, ...]]) -> list[Any]:
        """Columns of 0 or more."""
        if not ids:
            return []
        family = pyo.Var([_index(one) for one in ids], domain=pyo.Reals, bounds=(0.0, None))
        self.pyomo.add_component(name, family)
        return list(family.values())

    def _column(self, name: str, ids: tuple[str, ...]) -> Any:
        """One more column of a family that grows as classes are asked for."""
        if name not in self._families:
            self._families[name] = pyo.Var(pyo.Any, dense=False, domain=pyo.Reals, bounds=(0.0, None))
            self.pyomo.add_component(name, self._families[name])
        return self._families[name].add(_index(ids))

    def _row(self, name: str, ids: tuple[str, ...], terms: Terms, lower: float | None = None, upper: float | None = None) -> None:
        name = str(name)
        if name not in self._rows:
            self._rows[name] = pyo.Constraint(pyo.Any)
            self.pyomo.add_component(name, self._rows[name])
        body = _expression(terms)
        self._rows[name].add(_index(ids), (body, upper) if lower == upper else (lower, body, upper))

    # ------------------------------------------------------------ rules

    def _capacities(self) -> None:
        """GPUs of each accelerator, and of whole blocks where these are fewer."""
        accelerators = self._market.accelerators
        on: list[list[tuple[Unit, Any]]] = [[] for _ in accelerators.ids]
        for unit, column in zip(self._setting.units, self._gangs, strict=True):
            on[unit.accelerator].append((unit, column))
        for place, (name, own) in enumerate(zip(accelerators.ids, on, strict=True)):
            if own:
                terms = [(float(unit.gpus), column) for unit, column in own]
                self._row(Rule.accelerator_capacity, (name,), terms, upper=float(accelerators.count_gpus[place]))
            packed = [(float(unit.gpus), column) for unit, column in own if unit.packed]
            if packed and accelerators.limits_packing[place]:
                self._row(Rule.packed_capacity, (name,), packed, upper=float(accelerators.packed_gpus[place]))

    def _time_and_money(self, job: int) -> None:
        """The copies of a job run no longer than all the time, and cost no more than their budget."""
        jobs, price = self._market.jobs, self._market.accelerators.usd_per_hour
        own = [(self._setting.units[place], self._gangs[place]) for place in self._setting.of_job[job]]
        copies = float(jobs.copies[job])
        self._row(Rule.job_time, (jobs.ids[job],), [(float(unit.gangs_of(job)), column) for unit, column in own], upper=copies)
        if jobs.budget[job] < float("inf"):
            # Whoever shares GPUs pays half of them.
            costs = [(float(price[unit.accelerator]) * unit.gpus * unit.gangs_of(job) / len(unit.jobs), column) for unit, column in own]
            self._row(Rule.job_budget, (jobs.ids[job],), costs, upper=copies * float(jobs.budget[job]))

    def _attained(self, job: int) -> None:
        """A job attains no more than what runs brings it, in each scenario, or when the speeds within the budget fall that hurt most."""
        market, setting = self._market, self._setting
        name, units = market.jobs.ids[job], setting.units
        unit_speed = float(market.jobs.par[job] * market.jobs.copies[job])
        lost = self._protected(job, unit_speed) if market.budget is not None else []
        for scenario in range(len(market.factors)):
            terms = [(setting.speed(scenario, units[place], job) / unit_speed, self._gangs[place]) for place in setting.of_job[job]]
            ids = (name, market.scenario_ids[scenario]) if market.scenario_ids else (name,)
            self._row("job_speed", ids, [*terms, *lost, (-1.0, self._share[job])], lower=0.0)

    def _protected(self, job: int, unit_speed: float) -> Terms:
        """What a job loses at worst, by duality of the choice of what falls (Bertsimas & Sim, 2004), in shares."""
        setting, name = self._setting, self._market.jobs.ids[job]
        falls = setting.falls(job)
        if not falls or not self._market.budget:
            return []
        price = self._column("fall_price", (name,))
        terms: Terms = [(-float(self._market.budget), price)]
        for place, own in falls.items():
            ids = (name, self._market.accelerators.ids[place])
            more = self._column("fall_more", ids)
            terms.append((-1.0, more))
            losses = [(-fall / unit_speed, self._gangs[unit]) for fall, unit in own]
            self._row("slow_speeds", ids, [(1.0, price), (1.0, more), *losses], lower=0.0)
        return terms

    def _entitlements(self) -> None:
        """What each job must attain for its deadline, or of its equal split, in steps/s of one copy."""
        jobs, least = self._market.jobs, self._problem.least_share
        for job, name in enumerate(jobs.ids):
            speed: Terms = [(float(jobs.par[job]), self._share[job])]
            if jobs.due_speed[job] > 0:
                self._row(Rule.deadline, (name,), speed, lower=float(jobs.due_speed[job]))
            elif least > 0:
                self._row(Rule.least_share, (name,), speed, lower=least * float(jobs.equal[job]))

    # ------------------------------------------------------------ goals

    def floor(self, name: str, value: float) -> None:
        """A goal stays at least as good as ``value``."""
        slack = _SLACK * max(1.0, abs(value))
        if plain_name(name) in _LEVELS:
            rising = rising_of(self._problem, self._setting, goal_class(self._problem, name))
            kept = value - slack if rising.direct else value + slack
            for job, need in zip(rising.jobs.tolist(), rising.needs(kept).tolist(), strict=True):
                ids = (name, self._market.jobs.ids[job])
                self._row("goal_floor", ids, [(1.0, self._share[job])], lower=need / float(self._market.jobs.par[job]))
        elif plain_name(name) != "fair_slack":
            low, high = (value - slack, None) if sense_of(name) is Sense.maximise else (None, value + slack)
            self._row("goal_floor", (name,), self.goal_terms(name), low, high)

    def goal_terms(self, name: str) -> Terms:
        """A goal as a sum of columns, which are made with their rows."""
        priority, plain = goal_class(self._problem, name), plain_name(name)
        if plain == "fair_slack":
            return []
        if plain in _LEVELS:
            return self._level(priority)
        if plain == "geometric_mean":
            return self._mean(priority)
        jobs = self._market.jobs
        own = [job for job in range(jobs.count) if jobs.priority[job] == priority]
        return self._throughput(priority, own) if plain == "throughput" else self._cost(set(own))

    def _throughput(self, priority: int, members: list[int]) -> Terms:
        """Jobs at full speed, of a class together; where there are scenarios, in the worst of them for the class."""
        jobs, setting = self._market.jobs, self._setting
        worth = {job: float(jobs.weight[job] / jobs.best[job]) for job in members}
        if not self._market.scenario_ids:
            return [(float(jobs.copies[job] * jobs.par[job]) * worth[job], self._share[job]) for job in members]
        goal = self._column("worst", (str(priority),))
        for scenario, name in enumerate(self._market.scenario_ids):
            sums: Terms = []
            for unit, column in zip(setting.units, self._gangs, strict=True):
                brings = sum(worth[job] * setting.speed(scenario, unit, job) for job in set(unit.jobs) & worth.keys())
                if brings:
                    sums.append((brings, column))
            self._row("worst_scenario", (str(priority), name), [*sums, (-1.0, goal)], lower=0.0)
        return [(1.0, goal)]

    def _cost(self, members: set[int]) -> Terms:
        """USD/h of the GPUs that jobs of a class hold; half of them where a job of another class is beside."""
        price = self._market.accelerators.usd_per_hour
        terms = []
        for unit, column in zip(self._setting.units, self._gangs, strict=True):
            part = sum(job in members for job in unit.jobs) / len(unit.jobs)
            if part:
                terms.append((part * float(price[unit.accelerator]) * unit.gpus, column))
        return terms

    def _level(self, priority: int) -> Terms:
        """All jobs of a class rise together, as the level does, or the pace that a makespan or ratio asks for."""
        rising = rising_of(self._problem, self._setting, priority)
        key = str(priority)
        if rising.direct:
            goal = self._column("level", (key,))
            paces, factors, terms = [goal], [1.0], [(1.0, goal)]
        else:
            goal = self._column("ratio", (key,))
            paces = [self._column("pace", (key, str(group))) for group in range(len(rising.lows))]
            factors = [1.0 / (rising.least - low) for low in rising.lows.tolist()]
            terms = [(rising.least, goal)]
            for group, pace in enumerate(paces):
                for number, (steep, slope, right) in enumerate(rising.tangents(group)):
                    self._row("pace_tangent", (key, str(group), str(number)), [(steep, pace), (slope, goal)], lower=right)
        for job, rise, group in zip(rising.jobs.tolist(), rising.rise.tolist(), rising.group.tolist(), strict=True):
            if rise > 0:
                need = -rise * factors[group] / float(self._market.jobs.par[job])
                self._row("fair_level", (self._market.jobs.ids[job],), [(1.0, self._share[job]), (need, paces[group])], lower=0.0)
        return terms

    def _mean(self, priority: int) -> Terms:
        """The weighted geometric mean as a chain of means of two, each with its tangents."""
        chain = chain_of(self._market, priority)
        last = self._share[chain.jobs[0]]
        for job, tangents in zip(chain.jobs[1:], chain.tangents, strict=True):
            name = self._market.jobs.ids[job]
            product = self._column("product", (name,))
            for number, (first, second) in enumerate(tangents):
                self._row("mean_tangent", (name, str(number)), [(1.0, product), (-first, last), (-second, self._share[job])], upper=0.0)
            last = product
        return [(1.0, last)]


def _index(ids: tuple[str, ...]) -> Any:
    """Pyomo's form of an id tuple."""
    return ids if len(ids) > 1 else ids[0]

"""The exact program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyomo.environ as pyo

from tests.optimizer.toy_kind.schema import GoalName, Packed, Plan, Problem

Values = Mapping[str, Mapping[tuple[Any, ...], float]]


def build(problem: Problem, goal: GoalName | None = None, floors: Mapping[GoalName, float] | None = None, *, hasten: bool = True) -> Any:
    del hasten  # nothing here hastens
    model = pyo.ConcreteModel()
    things = {thing.id: thing for thing in problem.things}
    pairs = [(thing.id, bag.id) for thing in problem.things for bag in problem.bags]
    model.pack = pyo.Var(pairs, domain=pyo.Binary)
    in_bag: dict[str, list[str]] = {bag.id: [] for bag in problem.bags}
    places: dict[str, list[Any]] = {thing.id: [] for thing in problem.things}
    for thing, bag in pairs:
        in_bag[bag].append(thing)
        places[thing].append(model.pack[thing, bag])
    model.bag_capacity = pyo.Constraint(pyo.Any)
    for one in problem.bags:
        if in_bag[one.id]:
            used = sum(things[name].weight_g * model.pack[name, one.id] for name in in_bag[one.id])
            model.bag_capacity.add(one.id, used <= one.capacity_g)
    model.packed_once = pyo.Constraint(pyo.Any)
    model.must_pack = pyo.Constraint(pyo.Any)
    for name, columns in places.items():
        model.packed_once.add(name, sum(columns) <= 1)
        if things[name].must_pack:
            model.must_pack.add(name, sum(columns) >= 1)
    sums = {
        GoalName.worth: sum(things[name].worth_usd * column for (name, _), column in model.pack.items()),
        GoalName.weight: sum(things[name].weight_g * column for (name, _), column in model.pack.items()),
    }
    model.goal_floor = pyo.Constraint(pyo.Any)
    for name, value in (floors or {}).items():
        model.goal_floor.add(name.value, sums[name] >= value - 1e-6 if name is GoalName.worth else sums[name] <= value + 1e-6)
    chosen = problem.goals[0] if goal is None else goal
    model.goal = pyo.Objective(expr=sums[chosen], sense=pyo.maximize if chosen is GoalName.worth else pyo.minimize)
    return model


def extract(problem: Problem, values: Values) -> Plan:
    del problem
    return Plan(packed=tuple(Packed(thing=thing, bag=bag) for (thing, bag), value in values["pack"].items() if value > 0.5))


def start(problem: Problem, plan: Plan) -> Values:
    packed = {(one.thing, one.bag) for one in plan.packed}
    return {"pack": {(thing.id, bag.id): float((thing.id, bag.id) in packed) for thing in problem.things for bag in problem.bags}}


def size(problem: Problem) -> int:
    return 10**9 if problem.wide else len(problem.bags) * len(problem.things)

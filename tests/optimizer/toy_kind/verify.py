"""What a plan is worth, and what it breaks, from problem and plan alone."""

from __future__ import annotations

from collections import Counter

from models.contract import Goal, Sense, Verdict, Violation
from tests.optimizer.toy_kind.schema import GoalName, Plan, Problem, Rule

_GOALS = {GoalName.worth: Goal("worth", Sense.maximise, "USD"), GoalName.weight: Goal("weight", Sense.minimise, "g")}


def goals(problem: Problem) -> tuple[Goal, ...]:
    return tuple(_GOALS[name] for name in problem.goals)


def verify(problem: Problem, plan: Plan) -> Verdict:
    things, bags = {thing.id: thing for thing in problem.things}, {bag.id: bag for bag in problem.bags}
    times = Counter(packed.thing for packed in plan.packed)
    broken = [
        Violation(Rule.packed_once, (name,), count - 1, "times", f"{name} is packed {count} times")
        for name, count in times.items()
        if count > 1
    ]
    broken += [
        Violation(Rule.packed_once, (one.thing, one.bag), 1, "things", f"{one.thing} or {one.bag} does not exist")
        for one in plan.packed
        if one.thing not in things or one.bag not in bags
    ]
    load: Counter[str] = Counter()
    for one in plan.packed:
        load[one.bag] += things[one.thing].weight_g if one.thing in things else 0
    broken += [
        Violation(
            Rule.bag_capacity, (bag.id,), load[bag.id] - bag.capacity_g, "g", f"{bag.id} holds {load[bag.id]} g of {bag.capacity_g} g"
        )
        for bag in problem.bags
        if load[bag.id] > bag.capacity_g
    ]
    broken += [
        Violation(Rule.must_pack, (thing.id,), 1, "things", f"{thing.id} must be packed")
        for thing in problem.things
        if thing.must_pack and thing.id not in times
    ]
    known = [things[one.thing] for one in plan.packed if one.thing in things]
    values = {"worth": sum(thing.worth_usd for thing in known), "weight": float(sum(thing.weight_g for thing in known))}
    return Verdict({goal.name: values[goal.name] for goal in goals(problem)}, tuple(broken), len(broken), {"packed": len(known)})

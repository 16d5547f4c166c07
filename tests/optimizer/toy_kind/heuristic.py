"""First come, first served."""

from __future__ import annotations

from tests.optimizer.toy_kind.schema import Packed, Plan, Problem


def heuristic(problem: Problem, seed: int = 0, seconds: float = 1.0) -> Plan | None:
    """None when what must be packed finds no room in this order, which proves nothing."""
    del seed, seconds
    left = {bag.id: bag.capacity_g for bag in problem.bags}
    packed = []
    for thing in sorted(problem.things, key=lambda thing: not thing.must_pack):
        bag = next((name for name, room in left.items() if room >= thing.weight_g), None)
        if bag is not None:
            left[bag] -= thing.weight_g
            packed.append(Packed(thing=thing.id, bag=bag))
        elif thing.must_pack:
            return None
    return Plan(packed=tuple(packed))


def simple_bounds(problem: Problem) -> dict[str, float]:
    """Nothing is worth more than everything, nor lighter than what must be packed."""
    values = {
        "worth": sum(thing.worth_usd for thing in problem.things),
        "weight": float(sum(thing.weight_g for thing in problem.things if thing.must_pack)),
    }
    return {goal: values[goal] for goal in problem.goals}

"""Contents of a bag as columns, priced by a knapsack; and two bags at a time as a neighbourhood."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from models.contract import Neighbourhood, NewColumns
from models.program import Floats, LinearProgram
from models.program_builder import ProductIds, ProgramBuilder
from tests.optimizer.toy_kind.schema import Bag, Packed, Plan, Problem

METHOD = "dual bound of the relaxation by contents of a bag"

Contents = tuple[int, ...]


class Relaxation:
    """Rows: each thing at most once, each bag one set of contents at most. Columns: contents of a bag."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.columns: list[tuple[int, Contents]] = []

    def master(self) -> LinearProgram:
        things, bags = len(self.problem.things), len(self.problem.bags)
        builder = ProgramBuilder(maximise=True)
        builder.add_columns("nothing", ProductIds(), upper=0.0)
        none = np.zeros(0, dtype=np.int64)
        for name, count in (("packed_once", things), ("bag", bags)):
            builder.add_rows(name, ProductIds(range(count)), upper=1.0, row_index=none, column_index=none)
        return builder.build()

    def price(self, row_duals: Floats) -> NewColumns:
        things, found, excess = self.problem.things, [], 0.0
        gains = np.array([thing.worth_usd for thing in things]) - row_duals[: len(things)]
        for place, bag in enumerate(self.problem.bags):
            value, contents = knapsack(gains, [thing.weight_g for thing in things], bag)
            reduced = value - row_duals[len(things) + place]
            excess += max(0.0, reduced)
            if reduced > 1e-9:
                found.append((place, contents))
        self.columns += found
        rows = [[*contents, len(things) + place] for place, contents in found]
        return NewColumns(
            cost=np.array([sum(things[one].worth_usd for one in contents) for _, contents in found]),
            lower=np.zeros(len(found)),
            upper=np.full(len(found), np.inf),
            starts=np.cumsum([0, *map(len, rows)]),
            indices=np.array([row for one in rows for row in one], dtype=np.int64),
            values=np.ones(sum(map(len, rows))),
            excess=excess,
        )


def knapsack(gains: Floats, weights: list[int], bag: Bag) -> tuple[float, Contents]:
    """The best contents of one bag, by dynamic programming over its capacity."""
    best = np.zeros(bag.capacity_g + 1)
    taken = np.zeros((len(weights), bag.capacity_g + 1), dtype=np.bool_)
    for place, weight in enumerate(weights):
        if gains[place] > 0 and weight <= bag.capacity_g:
            with_it = best[: bag.capacity_g + 1 - weight] + gains[place]
            taken[place, weight:] = with_it > best[weight:]
            best[weight:] = np.maximum(best[weight:], with_it)
    left, contents = bag.capacity_g, []
    for place in reversed(range(len(weights))):
        if taken[place, left]:
            contents.append(place)
            left -= weights[place]
    return float(best[-1]), tuple(contents)


def applies(problem: Problem) -> bool:
    return problem.wide


def relaxation(problem: Problem, goal: str, floors: Mapping[str, float] | None = None, known: Any = None) -> Relaxation | None:
    del floors, known
    return Relaxation(problem) if goal == "worth" else None


def guided(problem: Problem, source: Relaxation, values: Floats, seconds: float) -> Plan | None:
    """The contents that the relaxation likes best, as long as they do not quarrel."""
    del seconds
    packed: dict[int, int] = {}
    filled: set[int] = set()
    for column in sorted(range(len(values) - 1), key=lambda column: -values[1 + column]):  # the last priced may not be in it
        bag, contents = source.columns[column]
        if bag not in filled and not any(one in packed for one in contents):
            filled.add(bag)
            packed.update(dict.fromkeys(contents, bag))
    return Plan(packed=tuple(Packed(thing=problem.things[one].id, bag=problem.bags[bag].id) for one, bag in packed.items()))


def packing(*_: Any) -> None:
    """No dive here: tests/optimizer/test_diving.py has one."""


def filled(_problem: Problem, plan: Plan, _seconds: float) -> Plan:
    """Nothing is added."""
    return plan


def exchange(*_: Any) -> None:
    """No exchanges either."""


def neighbourhoods(problem: Problem, plan: Plan) -> Callable[[random.Random, float], Neighbourhood | None]:
    """``size`` 1.0 is two bags with what is in them and all that is in none."""
    bag_of = {one.thing: one.bag for one in plan.packed}

    def draw(rng: random.Random, size: float) -> Neighbourhood | None:
        chosen = rng.sample(problem.bags, min(len(problem.bags), max(1, round(2 * size))))
        names = {bag.id for bag in chosen}
        things = tuple(thing for thing in problem.things if bag_of.get(thing.id) in names or thing.id not in bag_of)
        outside = tuple(one for one in plan.packed if one.bag not in names)
        inside = tuple(one for one in plan.packed if one.bag in names)
        part = problem.model_copy(update={"bags": tuple(chosen), "things": things})
        return Neighbourhood(part, Plan(packed=inside), lambda found: Plan(packed=(*outside, *found.packed)))

    return draw

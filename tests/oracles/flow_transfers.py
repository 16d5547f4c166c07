"""Transfers over time by brute force: a linear program over every way there is; with makers of small problems for tests."""

from __future__ import annotations

import random
from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linprog

from models.flow.schema import Direction, Horizon, Link, Node, Problem, Transfer, Use

if TYPE_CHECKING:
    from collections.abc import Iterator

Step = tuple[str, bool, int]


def brute(problem: Problem) -> tuple[float, ...] | None:
    """The goals by a linear program over every way there is: all unions of one path in time for each target."""
    assert problem.horizon is not None
    ends = {(one.id, False): (one.source, one.target) for one in problem.links}
    ends |= {(one.id, True): (one.target, one.source) for one in problem.links if one.direction != "directed"}
    columns: list[tuple[int, float, Counter[tuple[str, ...]]]] = []
    for number, one in enumerate(problem.transfers):
        last = problem.horizon.steps if one.deadline is None else one.deadline
        choices = [list(paths(ends, one.source, target, one.release, last)) for target in one.targets]
        unions = {frozenset(leg for path in chosen for leg in path) for chosen in product(*choices)}
        columns += [(number, cost_of(problem, legs), loads(problem, ends, one, legs)) for legs in unions]
    return best(problem, columns)


def paths(ends: dict[tuple[str, bool], tuple[str, str]], node: str, target: str, moment: int, last: int) -> Iterator[tuple[Step, ...]]:
    if node == target:
        yield ()
        return
    for step in range(moment, last):
        for (name, back), (tail, head) in ends.items():
            if tail == node:
                for rest in paths(ends, head, target, step + 1, last):
                    yield ((name, back, step), *rest)


def cost_of(problem: Problem, legs: frozenset[Step]) -> float:
    prices = {one.id: one.usd_per_gbit for one in problem.links}
    return sum((prices[name] * 99)[step] if len(prices[name]) == 1 else prices[name][step] for name, _, step in legs if prices[name])


def loads(
    problem: Problem, ends: dict[tuple[str, bool], tuple[str, str]], one: Transfer, legs: frozenset[Step]
) -> Counter[tuple[str, ...]]:
    each = {link.id: link.direction == "each" for link in problem.links}
    found: Counter[tuple[str, ...]] = Counter()
    kept = set()
    for name, back, step in legs:
        found["link", name, str(back and each[name]), str(step)] += 1
        node = ends[name, back][0]
        if node not in (one.source, *one.targets):
            came = max(when + 1 for other, way, when in legs if ends[other, way][1] == node and when < step)
            kept |= {("node", node, str(waited)) for waited in range(came, step)}
    found.update(kept)
    return found


def best(problem: Problem, columns: list[tuple[int, float, Counter[tuple[str, ...]]]]) -> tuple[float, ...] | None:
    assert problem.horizon is not None
    room: dict[tuple[str, ...], float] = {}
    step_s = problem.horizon.step_s
    for _, _, used in columns:
        for key in used:
            if key[0] == "link":
                capacity = next(one.capacity_gbps for one in problem.links if one.id == key[1])
                room[key] = np.inf if capacity is None else capacity * step_s
            else:
                storage = next(one.storage_gbit for one in problem.nodes if one.id == key[1])
                room[key] = np.inf if storage is None else storage
    keys = [key for key in room if np.isfinite(room[key])]
    above: list[list[float]] = [[used[key] for _, _, used in columns] for key in keys]
    sides = [room[key] for key in keys]
    equal: list[list[float]] = []
    exactly: list[float] = []
    worth = np.zeros(len(columns))
    for number, one in enumerate(problem.transfers):
        mine = [float(owner == number) for owner, _, _ in columns]
        if one.value is None:
            equal.append(mine)
            exactly.append(one.size_gbit)
        else:
            above.append(mine)
            sides.append(one.size_gbit)
            worth += np.array(mine) * one.value / one.size_gbit
    if not columns:
        valued = all(one.value is not None for one in problem.transfers)
        return (0.0, 0.0) if valued else None
    cost = np.array([price for _, price, _ in columns])
    options = {"A_eq": equal or None, "b_eq": exactly or None, "method": "highs"}
    values: list[float] = []
    if worth.any() or any(one.value is not None for one in problem.transfers):
        found = linprog(-worth, A_ub=above or None, b_ub=sides or None, **options)
        if found.status == 2:
            return None
        values.append(-found.fun)
        above, sides = [*above, list(-worth)], [*sides, found.fun + 1e-9 * max(1.0, abs(found.fun))]
    found = linprog(cost, A_ub=above or None, b_ub=sides or None, **options)
    if found.status == 2:
        return None
    assert found.status == 0
    return (*values, found.fun)


def drawn(seed: int) -> Problem:
    """A tiny random problem."""
    luck = random.Random(seed)
    names = "abcd"[: luck.randint(3, 4)]
    steps = luck.randint(2, 4)
    links = []
    for number in range(luck.randint(3, 5)):
        source, target = luck.sample(names, 2)
        usd = luck.choice([(), (luck.choice([0.0, 1.0, 2.5]),), tuple(luck.choice([0.0, 1.0, 3.0]) for _ in range(steps))])
        direction = luck.choice([Direction.directed, Direction.directed, Direction.shared, Direction.each])
        capacity = luck.choice([0.0, 1.0, 1.5, 2.0, None])
        links.append(Link(id=f"l{number}", source=source, target=target, capacity_gbps=capacity, usd_per_gbit=usd, direction=direction))
    moved = []
    for number in range(luck.randint(1, 3)):
        ends = luck.sample(names, luck.randint(2, 3))
        release = luck.randint(0, steps - 1)
        moved.append(
            Transfer(
                id=f"x{number}",
                source=ends[0],
                targets=tuple(ends[1:]),
                size_gbit=luck.choice([1.0, 2.0, 3.5]),
                release=release,
                deadline=luck.choice([None, luck.randint(release + 1, steps)]),
                value=luck.choice([None, 1.0, 4.0]),
            )
        )
    return made({name: luck.choice([0.0, 1.0, None]) for name in names}, tuple(links), tuple(moved), steps)


# ---------------------------------------------------------------- small problems


def made(nodes: dict[str, float | None], links: tuple[Link, ...], moved: tuple[Transfer, ...], steps: int, step_s: float = 1.0) -> Problem:
    return Problem(
        use=Use.transfer,
        horizon=Horizon(steps=steps, step_s=step_s),
        nodes=tuple(Node(id=name, storage_gbit=storage) for name, storage in nodes.items()),
        links=links,
        transfers=moved,
    )


def link(name: str, capacity: float | None = 1.0, usd: tuple[float, ...] = (), direction: Direction = Direction.directed) -> Link:
    source, target = name.split("-")
    return Link(id=name, source=source, target=target, capacity_gbps=capacity, usd_per_gbit=usd, direction=direction)


def changed(problem: Problem, **fields: Any) -> Problem:
    return Problem.model_validate(problem.model_dump() | fields)


# ---------------------------------------------------------------- programs


def relaxed(program: Any) -> tuple[float, Any] | None:
    """The optimum of a program by scipy, and its values."""
    from scipy.sparse import csr_matrix, vstack

    if not program.columns:
        return (program.offset, np.zeros(0)) if (program.row_lower <= 0).all() else None
    matrix = csr_matrix((program.coefficients, program.indices, program.starts), shape=(program.rows, program.columns))
    low, high = np.isfinite(program.row_lower), np.isfinite(program.row_upper)
    found = linprog(
        -program.cost if program.maximise else program.cost,
        A_ub=vstack((matrix[high], -matrix[low])),
        b_ub=np.concatenate((program.row_upper[high], -program.row_lower[low])),
        bounds=list(zip(program.column_lower, program.column_upper, strict=True)),
        method="highs",
    )
    if found.status == 2:
        return None
    assert found.status == 0
    return program.objective(found.x), found.x

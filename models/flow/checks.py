"""What is wrong with a flow Problem: mistakes that no field can see alone, and what is legal but suspicious.

Every finding has a JSON pointer to its place, in the list or in the table that the user gave, a stable code, and one sentence that
names the cure. All checks are single passes, because a problem may have millions of links and is checked each time it is made.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from models.contract import Warned
from models.repeated import repeated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.flow.schema import Problem, Transfer
    from models.program import Bools

MAX_ERRORS = 10  # enough to correct a file in one go; a broken generator makes the same mistake 10,000 times
MAX_WARNINGS = 100
LARGEST_TOTAL = 1e12  # Gbit/s together: beyond it sums of doubles are not exact to 1e-6
LARGEST_WORTH = 1e15  # of a goal: the largest number that solvers take

_TABLES = {"nodes": "node_table", "links": "link_table", "demands": "demand_table"}


def errors(problem: Problem) -> tuple[Warned, ...]:
    """The first MAX_ERRORS mistakes; where lists do not fit together or ids are unknown, only those."""
    from models.flow.checks_uses import use_errors

    for stage in (_shapes, _ids, _ends):
        found = tuple(islice(stage(problem), MAX_ERRORS))
        if found:
            return found
    found = tuple(islice(chain(_links(problem), _demands(problem), use_errors(problem)), MAX_ERRORS))
    if found or problem.failures is None:
        return found
    from models.flow.failures.scenarios import mistakes

    return tuple(islice(mistakes(problem), MAX_ERRORS))


def warnings(problem: Problem) -> tuple[Warned, ...]:
    """The first MAX_WARNINGS things in a valid problem that are legal but probably not meant."""
    from models.flow.checks_odd import odd
    from models.flow.design.checks import starved

    return tuple(islice(chain(starved(problem), odd(problem)), MAX_WARNINGS))


def pointer(problem: Problem, part: str, place: int, column: str) -> str:
    """``/links/3/source``, or ``/link_table/source/3`` where the part is given as a table."""
    if getattr(problem, _TABLES[part]) is not None:
        return f"/{_TABLES[part]}/{column}/{place}"
    return f"/{part}/{place}/{column}"


def column(problem: Problem, part: str, name: str) -> Sequence[str]:
    """One column of nodes, links or demands, whichever way they are given; ids that are left out are made up."""
    table = getattr(problem, _TABLES[part])
    if table is None:
        return [getattr(one, name) for one in getattr(problem, part)]
    given = getattr(table, name)
    if given is None:  # only ids may be missing here
        return [f"{part[0]}{place}" for place in range(len(table.source))]
    return given  # type: ignore[no-any-return]


def places(mask: Bools) -> list[int]:
    """The first MAX_ERRORS places where ``mask`` holds."""
    found: list[int] = np.flatnonzero(mask)[:MAX_ERRORS].tolist()
    return found


# ---------------------------------------------------------------- tables and names


def _shapes(problem: Problem) -> Iterator[Warned]:
    for part, table_name in _TABLES.items():
        table = getattr(problem, table_name)
        if table is None:
            continue
        if getattr(problem, part):
            yield Warned(f"/{table_name}", "given_twice", f"both {part} and {table_name} are given; keep one of the two")
        leader = "id" if part == "nodes" else "source"
        count = len(getattr(table, leader))
        for name in type(table).model_fields:
            values = getattr(table, name)
            if isinstance(values, tuple) and len(values) != count:
                detail = f"has {len(values):,} items, expected {count:,}, one for each {leader}; make the columns equally long"
                yield Warned(f"/{table_name}/{name}", "wrong_length", detail)


def _ids(problem: Problem) -> Iterator[Warned]:
    for part in _TABLES:
        yield from repeated(column(problem, part, "id"), part, lambda place, part=part: pointer(problem, part, place, "id"))  # type: ignore[misc]
    yield from repeated([one.id for one in problem.transfers], "transfers", lambda place: f"/transfers/{place}/id")
    for at, failures in _failures(problem):
        names = [one.id for one in failures]
        yield from repeated(names, "scenarios", lambda place, at=at: f"{at}/scenarios/{place}/id")  # type: ignore[misc]
    for number, link in enumerate(problem.links):
        if len(link.modules) > 1:
            names = [one.id for one in link.modules]
            yield from repeated(names, "modules of a link", lambda place, number=number: f"/links/{number}/modules/{place}/id")  # type: ignore[misc]


def _failures(problem: Problem) -> Iterator[tuple[str, Sequence[Any]]]:
    if problem.failures is not None:
        yield "/failures", problem.failures.scenarios
    if problem.design is not None and problem.design.survive is not None:
        yield "/design/survive", problem.design.survive.scenarios


def _ends(problem: Problem) -> Iterator[Warned]:
    """Links, demands and transfers end at nodes that exist, and at two different ones."""
    known = set(column(problem, "nodes", "id"))
    for part in ("links", "demands"):
        ends = {name: column(problem, part, name) for name in ("source", "target")}
        for name, nodes in ends.items():
            if known.issuperset(nodes):
                continue
            for place, node in enumerate(nodes):
                if node not in known:
                    detail = f"there is no node '{node}'; add it to the nodes or correct the name"
                    yield Warned(pointer(problem, part, place, name), "unknown_node", detail)
        for place, (source, target) in enumerate(zip(ends["source"], ends["target"], strict=True)):
            if source == target:
                yield _loop(problem, part, place, source)
    for place, transfer in enumerate(problem.transfers):
        yield from _transfer_ends(place, transfer, known)


def _loop(problem: Problem, part: str, place: int, node: str) -> Warned:
    name = column(problem, part, "id")[place]
    if part == "links":
        detail = f"link '{name}' starts and ends at '{node}'; leave it out: it leads nowhere"
        return Warned(pointer(problem, part, place, "target"), "self_loop", detail)
    detail = f"demand '{name}' goes from '{node}' to itself; leave it out: it uses no link"
    return Warned(pointer(problem, part, place, "target"), "same_source_and_target", detail)


def _transfer_ends(place: int, transfer: Transfer, known: set[str]) -> Iterator[Warned]:
    for number, (name, where) in enumerate([(transfer.source, "source"), *((one, "targets") for one in transfer.targets)]):
        at = f"/transfers/{place}/{where}" + (f"/{number - 1}" if number else "")
        if name not in known:
            yield Warned(at, "unknown_node", f"there is no node '{name}'; add it to the nodes or correct the name")
        elif number and name == transfer.source:
            detail = f"transfer '{transfer.id}' goes from '{name}' to itself; leave this target out"
            yield Warned(at, "same_source_and_target", detail)
        elif number and name in transfer.targets[: number - 1]:
            yield Warned(at, "duplicate_target", f"transfer '{transfer.id}' names the target '{name}' twice; name it once")


# ---------------------------------------------------------------- numbers


def _links(problem: Problem) -> Iterator[Warned]:
    from models.flow.network.arrays import network_of

    network = network_of(problem)
    lower, capacity = network.link_lower, network.link_capacity
    for place in places(lower > capacity):
        detail = (
            f"link '{network.link_ids[place]}' must carry at least {lower[place]:.12g} Gbit/s "
            f"and has a capacity of {capacity[place]:.12g}; lower the one or raise the other"
        )
        yield Warned(pointer(problem, "links", place, "lower_gbps"), "lower_above_capacity", detail)
    both = network.backward_arc >= 0
    for place in places((lower > 0) & both):
        detail = (
            f"link '{network.link_ids[place]}' carries both ways, and a lower bound is for directed links only; "
            "make it two directed links or leave lower_gbps out"
        )
        yield Warned(pointer(problem, "links", place, "lower_gbps"), "lower_needs_directed", detail)


def _demands(problem: Problem) -> Iterator[Warned]:
    from models.flow.network.arrays import network_of, traffic_of

    network, traffic = network_of(problem), traffic_of(problem)
    for place in places(np.abs(traffic.priority) > 1000):  # noqa: PLR2004 - as in the field of a single demand
        detail = (
            f"the priority {traffic.priority[place]} of demand '{traffic.ids[place]}' is not between -1000 and 1000; use smaller numbers"
        )
        yield Warned(pointer(problem, "demands", place, "priority"), "priority_range", detail)
    part = "demands" if problem.demand_table is None else "demand_table"
    supplied = "nodes" if problem.node_table is None else "node_table"
    dearest = float(np.abs(network.link_cost).max(initial=0.0))
    for at, total in ((part, float(traffic.size.sum())), (supplied, float(np.abs(network.supply).sum()))):
        if total > LARGEST_TOTAL:
            detail = f"{total:g} Gbit/s in all is more than sums keep exact to 1e-6 ({LARGEST_TOTAL:g}); use a larger unit for every rate"
            yield Warned(f"/{at}", "too_large", detail)
        elif total * dearest * max(1, network.nodes - 1) > LARGEST_WORTH * 1e3 and problem.objective == "min_cost":
            detail = f"{total:g} Gbit/s at up to {dearest:g} each is a cost beyond what sums keep exact; use larger units of rate or cost"
            yield Warned(f"/{at}", "too_large", detail)
    worth = float((traffic.size * traffic.value).sum())
    if worth > LARGEST_WORTH:
        yield Warned(f"/{part}", "too_large", f"size times value is {worth:g} in all, more than {LARGEST_WORTH:g}; use smaller values")

"""The routes of a plan by columns, whichever way the plan has them: listed one by one, or in a ``route_table``.

Tens of thousands of routes take longer to make, to send and to read one by one than to find.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from models.flow.schema import Plan, Route, RouteTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Floats, Ints

MOST_LISTED = 5_000  # routes up to which a plan of ours lists them one by one


@dataclass(frozen=True, eq=False)
class RouteColumns:
    """Routes in the plan's order: route k is of ``demand[k]`` and goes over ``hops[starts[k]:starts[k + 1]]``.

    ``demand`` and ``hops`` are the plan's names; ``gbps`` (routes,) is in Gbit/s. ``fault`` says why the plan's routes cannot be read as
    they are given; nothing more is known then of a table whose columns do not fit together.
    """

    demand: Sequence[str]
    gbps: Floats
    counts: Ints
    hops: Sequence[str]
    fault: str = ""

    @property
    def count(self) -> int:
        """How many routes."""
        return len(self.demand)

    @cached_property
    def starts(self) -> Ints:
        """Where the hops of each route begin, and where the last ones end, shape (routes + 1,)."""
        return np.concatenate(([0], np.cumsum(self.counts))).astype(np.int64)

    def hops_of(self, place: int) -> tuple[str, ...]:
        """The hops of one route."""
        return tuple(self.hops[self.starts[place] : self.starts[place + 1]])


def columns_of(plan: Plan) -> RouteColumns:
    """The routes of a plan."""
    table = plan.route_table
    if table is None:
        routes = plan.routes
        return RouteColumns(
            [route.demand for route in routes],
            np.array([route.gbps for route in routes], dtype=np.float64),
            np.fromiter((len(route.hops) for route in routes), np.int64, len(routes)),
            list(chain.from_iterable(route.hops for route in routes)),
        )
    fault = "the plan has both routes and a route_table" if plan.routes else ""
    counts = np.array(table.hop_count, dtype=np.int64)
    if not len(table.demand) == len(table.gbps) == len(counts):
        return RouteColumns((), np.zeros(0), counts[:0], (), "the columns of the route_table are not equally long")
    if int(counts.sum()) != len(table.hops):
        told = f"the hop_count of the route_table adds up to {int(counts.sum()):,}, and it has {len(table.hops):,} hops"
        return RouteColumns((), np.zeros(0), counts[:0], (), told)
    return RouteColumns(table.demand, np.array(table.gbps, dtype=np.float64), counts, table.hops, fault)


def listed_routes(plan: Plan) -> tuple[Route, ...]:
    """The routes of a plan one by one; none of a table whose columns do not fit together."""
    if plan.route_table is None:
        return plan.routes
    columns = columns_of(plan)
    rows = zip(columns.demand, columns.gbps.tolist(), strict=True)
    return tuple(Route(demand=demand, gbps=gbps, hops=columns.hops_of(place)) for place, (demand, gbps) in enumerate(rows))


def with_routes(plan: Plan, demand: Sequence[str], gbps: Sequence[float], counts: Ints, hops: Sequence[str]) -> Plan:
    """The plan with these routes, of ``counts`` (routes,) hops each: in a table where they are very many."""
    if len(demand) > MOST_LISTED:
        table = RouteTable(demand=tuple(demand), gbps=tuple(gbps), hop_count=tuple(counts.tolist()), hops=tuple(hops))
        return plan.model_copy(update={"route_table": table})
    ends = np.cumsum(counts).tolist()
    rows = zip(demand, gbps, counts.tolist(), ends, strict=True)
    routes = tuple(Route(demand=name, gbps=amount, hops=tuple(hops[end - count : end])) for name, amount, count, end in rows)
    return plan.model_copy(update={"routes": routes})

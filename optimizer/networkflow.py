"""Min-cost flow (OR-Tools): programs that are a network in disguise, 50 times faster than as an LP.

Each row is a node, each column an arc: +1 in the row it leaves, -1 in the row it enters. A column with one entry
comes from or goes to the outside. The optimum is proved with node prices computed here, from shortest paths in the
residual network, so nothing rests on the solver's word. ortools is imported where it is used.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np

from models.program import Bools, Floats, Ints, LinearProgram
from optimizer.backend import (
    OnProgress,
    ProgramProgress,
    ProgramResult,
    ProgramStatus,
    UnsupportedProgram,
    accepted,
    checked_start,
    columnless,
    crash,
    measured_gap,
    with_duals,
    with_values,
)
from optimizer.limits import Deadline, Limits
from optimizer.result import StopReason
from optimizer.scaling import whole, whole_scale

LARGEST_COST = 2**62  # OR-Tools multiplies costs by the number of nodes, in 64-bit integers


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A program as a network; node ``rows`` is the outside. Flows are ``x - column_lower``."""

    tail: Ints
    head: Ints
    capacity: Ints
    endless: Bools
    cost: Ints
    cost_scale: int
    supply: Ints


def as_network(program: LinearProgram) -> Network:
    """Read the network out of a program; raises UnsupportedProgram, naming the first thing that is not one."""
    unequal = np.flatnonzero(program.row_lower != program.row_upper)
    if len(unequal):
        raise UnsupportedProgram(f"{program.row_name(int(unequal[0]))} is not an equality; a node's balance is")
    kept = program.coefficients != 0.0
    sign, row, column = program.coefficients[kept], program.entry_rows[kept], program.indices[kept]
    if not (np.abs(sign) == 1.0).all():
        raise UnsupportedProgram("a coefficient is neither +1 nor -1; losses and gains are not a pure network")
    leaves = np.bincount(column[sign > 0], minlength=program.columns)
    enters = np.bincount(column[sign < 0], minlength=program.columns)
    crowded = np.flatnonzero((leaves > 1) | (enters > 1))
    if len(crowded):
        raise UnsupportedProgram(f"{program.column_name(int(crowded[0]))} leaves or enters more than one node")
    tail = np.full(program.columns, program.rows, dtype=np.int64)
    head = np.full(program.columns, program.rows, dtype=np.int64)
    tail[column[sign > 0]], head[column[sign < 0]] = row[sign > 0], row[sign < 0]
    return _priced(program, tail, head)


def _priced(program: LinearProgram, tail: Ints, head: Ints) -> Network:
    """Add supplies, capacities and costs in whole numbers."""
    if np.isinf(program.column_lower).any():
        first = int(np.argmax(np.isinf(program.column_lower)))
        raise UnsupportedProgram(f"{program.column_name(first)} has no lower bound; an arc's flow has")
    endless = np.isinf(program.column_upper)
    supply = program.row_lower - program.activity(program.column_lower)
    room = np.where(endless, 0.0, program.column_upper - np.where(endless, 0.0, program.column_lower))
    cost_scale = whole_scale(program.cost)
    if not (_is_whole(program.column_lower) and _is_whole(room) and _is_whole(supply)):
        raise UnsupportedProgram("a bound or a node's balance is not a whole number")
    cost = None if cost_scale is None else whole((-1.0 if program.maximise else 1.0) * program.cost * cost_scale)
    capacity, supplies = whole(room), whole(np.append(supply, -supply.sum()))
    if cost_scale is None or cost is None or capacity is None or supplies is None:
        raise UnsupportedProgram("the costs or bounds cannot be made whole numbers that are exact")
    # No arc needs more than everything there is to send, unless flow can circulate at a profit for ever.
    enough = float(np.abs(supply).sum()) + float(room.sum()) + 1.0
    if enough > 2.0**53 or float(np.abs(cost).max(initial=0)) * (program.rows + 2) > LARGEST_COST:
        raise UnsupportedProgram("the flows or costs are too large for 64-bit integers")
    return Network(tail, head, np.where(endless, int(enough), capacity), endless, cost, cost_scale, supplies)


def _is_whole(values: Floats) -> bool:
    return bool((values == np.round(values)).all())


class NetworkFlowBackend:
    """Solves pure min-cost flows with OR-Tools; see ``optimizer.backend.Backend``.

    Integer columns are fine: the vertices of a network with whole bounds are whole. The search itself cannot be interrupted: the
    deadline and ``cancel`` are heard before it and after it (10^6 arcs take about 6 s).
    """

    @property
    def name(self) -> str:
        """What certificates call it, with the version."""
        return f"min-cost flow {version('ortools')}"

    def solve(
        self,
        program: LinearProgram,
        limits: Limits,
        *,
        start: Floats | None = None,
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> ProgramResult:
        """Solve; see ``optimizer.backend.Backend.solve``. ``start`` serves only when cancelled before it began.

        Raises UnsupportedProgram for a program that is not a pure network in whole numbers, or that is unbounded.
        """
        begun, deadline = time.monotonic(), Deadline.after(limits.time_limit_s)
        best = checked_start(program, start)
        if program.columns == 0:
            return columnless(program)
        network = as_network(program)
        if cancel is not None and cancel.is_set():
            result = ProgramResult(ProgramStatus.no_solution, StopReason.cancelled, detail="cancelled before it began")
            return with_values(result, program, best, None, limits.gap)
        flow, word = _flow(network)
        if flow is None and best is not None:
            return with_values(crash("OR-Tools calls a network infeasible that is not"), program, best, None, limits.gap)
        if flow is None:
            return ProgramResult(ProgramStatus.infeasible, StopReason.gap, seconds=time.monotonic() - begun, detail=word)
        result = _proved(program, network, flow, limits, deadline)
        if on_progress is not None and result.values is not None:
            gap = measured_gap(result.objective, result.bound)
            on_progress(ProgramProgress(time.monotonic() - begun, result.objective, result.bound, gap, result.values))
        return replace(result, seconds=time.monotonic() - begun)


def _flow(network: Network) -> tuple[Ints | None, str]:
    """The flow on each arc and the solver's word; no flow when the balances cannot be met."""
    from ortools.graph.python import min_cost_flow

    solver = min_cost_flow.SimpleMinCostFlow()
    tail, head = network.tail.astype(np.int32), network.head.astype(np.int32)
    arcs = solver.add_arcs_with_capacity_and_unit_cost(tail, head, network.capacity, network.cost)
    solver.set_nodes_supplies(np.arange(len(network.supply), dtype=np.int32), network.supply)
    word = str(solver.solve().name)
    if word == "OPTIMAL":
        return np.asarray(solver.flows(arcs), dtype=np.int64), word
    if word == "INFEASIBLE":
        return None, word
    raise UnsupportedProgram(f"OR-Tools answered {word} to this network")


def _proved(program: LinearProgram, network: Network, flow: Ints, limits: Limits, deadline: Deadline) -> ProgramResult:
    if (flow[network.endless] >= network.capacity[network.endless]).any():
        first = int(np.flatnonzero(network.endless & (flow >= network.capacity))[0])
        raise UnsupportedProgram(f"{program.column_name(first)} carries more than there is to send: the program looks unbounded")
    found = accepted(program, program.column_lower + flow)
    result = ProgramResult(ProgramStatus.no_solution, StopReason.gap, detail="OPTIMAL")
    prices = _node_prices(network, flow, deadline)
    if prices is None:
        result = replace(result, stop_reason=StopReason.deadline, detail="optimal by OR-Tools, no time left to prove it")
        return with_values(result, program, found, None, limits.gap)
    duals = (-1.0 if program.maximise else 1.0) * (prices[: program.rows] - prices[program.rows]) / network.cost_scale
    return with_duals(result, program, found, duals, limits.gap)


def _node_prices(network: Network, flow: Ints, deadline: Deadline) -> Floats | None:
    """Prices under which no arc of the residual network has a negative reduced cost; None when time runs out.

    Bellman-Ford from everywhere at once, all arcs in one step; an optimal flow leaves no negative cycle, so it ends.
    """
    open_forward, open_back = flow < network.capacity, flow > 0
    tail = np.concatenate((network.tail[open_forward], network.head[open_back]))
    head = np.concatenate((network.head[open_forward], network.tail[open_back]))
    cost = np.concatenate((network.cost[open_forward], -network.cost[open_back]))
    order = np.argsort(head, kind="stable")
    tail, head, cost = tail[order], head[order], cost[order]
    first = np.flatnonzero(np.diff(head, prepend=-1))
    distance = np.zeros(len(network.supply), dtype=np.int64)
    for _ in range(len(distance) + 1):
        if not len(head):
            break
        shorter = np.minimum(distance[head[first]], np.minimum.reduceat(distance[tail] + cost, first))
        if np.array_equal(shorter, distance[head[first]]):
            break
        distance[head[first]] = shorter
        if deadline.passed:
            return None
    return -distance.astype(np.float64)

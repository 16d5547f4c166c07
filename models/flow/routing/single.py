"""The search for flows of node supplies: one commodity, one program; a pure network in whole numbers where it can be one.

Min-cost flow, maximum flow and relatives (Ahuja, Magnanti and Orlin, "Network Flows", 1993). Amounts with few decimals become whole by
a power of ten, which the method then names; the bound is reckoned from the node prices on the numbers as they were given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.conversation import Endless, Impossible, Offered, Proved, Solve
from models.flow.columns.generation import NO_DEPENDENT_EQUATIONS
from models.flow.columns.units import Units, middle
from models.flow.goals import goal_names
from models.flow.network.arrays import network_of
from models.flow.schema import FlowTable, LinkPrice, Objective, Plan
from models.program import LinearProgram, row_starts

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Conversation, Solved, Step
    from models.flow.network.arrays import Network
    from models.flow.schema import Problem
    from models.program import Floats, Ints

PHASE = "single commodity"
METHOD_NETWORK = "min-cost flow in whole numbers: node prices"
METHOD_SCALED = "min-cost flow with amounts times {:,.0f}, which makes them whole: node prices"
METHOD_PROGRAM = "linear program of the flow: dual bound from node and link prices"
MOST_DIGITS = 9
LARGEST_WHOLE = 2.0**52
ROUNDING = 1e-9
MOST_PRICES = 20_000  # with more full links than this their prices are not told


@dataclass(frozen=True, eq=False)
class Supplied:
    """The program of a problem. Columns: the arcs, what supply nodes send and need nodes take where that is free, the stretch.

    The first ``free`` columns are rates. After the nodes' balances come the rows of the channels ``rowed``. ``pure`` says that there are
    only rates and balances.
    """

    program: LinearProgram
    free: int
    rowed: Ints
    pure: bool


def converse(problem: Problem) -> Conversation:
    """Flows of the supplies for the one goal of the problem."""
    network = network_of(problem)
    (goal,) = goal_names(problem)
    made = supplied_program(network, problem.objective)
    solved, method = yield from _solved(made)
    if solved.status == "infeasible":
        yield Impossible()
        return
    if solved.status in ("unbounded", "infeasible_or_unbounded"):
        yield from _endless(problem, network, made, goal)
        return
    if solved.values is None:
        return
    if solved.bound is not None:
        yield Proved(goal, solved.bound, method)
    yield Offered(plan_of_flow(problem, network, solved, _prices(network, made, solved)), PHASE, says_more=True)


def _solved(made: Supplied) -> Generator[Step, Solved, tuple[Solved, str]]:
    program = made.program
    scale = _whole_scale(program) if made.pure else None
    if scale is not None:
        solved = yield Solve(_times(program, scale), method="network")
        if solved.status == "infeasible":
            return solved, METHOD_NETWORK
        if solved.values is not None and solved.row_duals is not None and solved.status == "optimal":
            values = solved.values / scale
            bound, reduced = _box_bound(program, solved.row_duals)
            solved = replace(solved, values=values, objective=program.objective(values), bound=bound, reduced_costs=reduced)
            return solved, METHOD_NETWORK if scale == 1.0 else METHOD_SCALED.format(scale)
    units = _units(made)
    solved = yield Solve(units.into(program), presolve_rule_off=NO_DEPENDENT_EQUATIONS)
    return units.answer(solved), METHOD_PROGRAM


def _units(made: Supplied) -> Units:
    """Units in which typical rates and costs of the program are numbers near 1."""
    program = made.program
    rates = np.concatenate((program.column_upper[: made.free], np.abs(program.row_lower), program.row_upper))
    rate = middle(rates)
    column, row = np.full(program.columns, rate), np.full(program.rows, rate)
    if made.free < program.columns:
        column[-1] = stretch = rate / middle(np.abs(program.coefficients[program.indices == program.columns - 1]))
        return Units(column, row, stretch)
    return Units(column, row, rate * middle(np.abs(program.cost)))


def _endless(problem: Problem, network: Network, made: Supplied, goal: str) -> Conversation:
    """Any flow there is, and that it can be improved for ever; that there is none where there is none."""
    still = replace(made, program=replace(made.program, cost=np.zeros(made.program.columns)))
    units = _units(still)
    solved = units.answer((yield Solve(units.into(still.program), presolve_rule_off=NO_DEPENDENT_EQUATIONS)))
    if solved.status == "infeasible":
        yield Impossible()
    elif solved.values is not None:
        yield Offered(plan_of_flow(problem, network, solved, ()), PHASE)
        if problem.objective is Objective.min_cost:
            yield Endless(goal, "more flow round a cycle of links without limit whose costs come to less than 0")
        else:
            yield Endless(goal, "more flow over links without limit")


def supplied_program(network: Network, objective: Objective) -> Supplied:
    """The linear program of a problem with node supplies; rows are the nodes' balances, then channels that need a row."""
    arcs, nodes = network.arcs, network.nodes
    supply = network.supply
    free = np.flatnonzero(supply) if objective is Objective.max_throughput else np.zeros(0, dtype=np.int64)
    stretched = objective in (Objective.max_concurrent, Objective.min_max_utilisation)
    loose = objective is Objective.min_max_utilisation
    rowed = _rowed_channels(network, stretched=loose)
    row_of = np.full(len(network.channel_link), -1, dtype=np.int64)
    row_of[rowed] = nodes + np.arange(len(rowed))
    every = np.arange(arcs)
    held = np.flatnonzero(row_of[network.arc_channel] >= 0)
    entries = [
        (network.arc_tail, every, np.ones(arcs)),
        (network.arc_head, every, -np.ones(arcs)),
        (row_of[network.arc_channel[held]], held, np.ones(len(held))),
        (free, arcs + np.arange(len(free)), -np.sign(supply[free])),
    ]
    last = arcs + len(free)
    if objective is Objective.max_concurrent:
        sides = np.flatnonzero(supply)
        entries.append((sides, np.full(len(sides), last), -supply[sides]))
    if loose:
        entries.append((row_of[rowed], np.full(len(rowed), last), -network.channel_capacity[rowed]))
    row, column, value = (np.concatenate(one) for one in zip(*entries, strict=True))
    order = np.lexsort((column, row))
    capacity = network.channel_capacity[network.arc_channel]
    upper = np.where((row_of[network.arc_channel] >= 0) & (capacity > 0), np.inf, capacity) if loose else capacity
    columns = last + stretched
    cost = np.zeros(columns)
    if objective is Objective.min_cost:
        cost[:arcs] = network.arc_cost
    elif objective is Objective.max_throughput:
        cost[arcs:last] = supply[free] > 0
    else:
        cost[last] = 1.0
    balance = supply if objective in (Objective.min_cost, Objective.min_max_utilisation) else np.zeros(nodes)
    lower = np.where(network.arc_back, 0.0, network.link_lower[network.arc_link])
    program = LinearProgram(
        maximise=objective in (Objective.max_throughput, Objective.max_concurrent),
        cost=cost,
        column_lower=np.concatenate((lower, np.zeros(columns - arcs))),
        column_upper=np.concatenate((upper, np.abs(supply[free]), np.full(int(stretched), np.inf))),
        integer=np.zeros(columns, dtype=np.bool_),
        row_lower=np.concatenate((balance, np.full(len(rowed), -np.inf))),
        row_upper=np.concatenate((balance, np.zeros(len(rowed)) if loose else network.channel_capacity[rowed])),
        starts=row_starts(row, nodes + len(rowed)),
        indices=column[order],
        coefficients=value[order],
    )
    return Supplied(program, last, rowed, pure=not stretched and not len(rowed))


def _rowed_channels(network: Network, *, stretched: bool) -> Ints:
    """Channels that need a row: all that have a limit where utilisation counts, else shared ones on which flow both ways would pay."""
    capacity = network.channel_capacity
    if stretched:
        return np.flatnonzero(np.isfinite(capacity) & (capacity > 0))
    ways = np.bincount(network.arc_channel, minlength=len(capacity))
    # Where links cost nothing below 0, flows of one commodity both ways cancel at no loss, so each way may have its own bound.
    return np.flatnonzero((ways > 1) & (network.link_cost[network.channel_link] < 0) & np.isfinite(capacity))


def _whole_scale(program: LinearProgram) -> float | None:
    """The smallest power of ten that makes all amounts whole, None where none does."""
    amounts = np.concatenate((program.row_lower, program.column_lower, program.column_upper))
    amounts = np.abs(amounts[np.isfinite(amounts)])
    for digits in range(MOST_DIGITS + 1):
        scaled = amounts * 10.0**digits
        if float(scaled.sum()) > LARGEST_WHOLE:
            return None
        if (np.abs(scaled - np.round(scaled)) <= 1e-12 * np.maximum(1.0, scaled)).all():
            return 10.0**digits
    return None


def _times(program: LinearProgram, scale: float) -> LinearProgram:
    """The program in amounts ``scale`` times as large, rounded to whole ones."""
    sides = ("row_lower", "row_upper", "column_lower", "column_upper")
    return replace(program, **{side: np.round(getattr(program, side) * scale) for side in sides})


def _box_bound(program: LinearProgram, duals: Floats) -> tuple[float | None, Floats]:
    """The bound that node prices prove on the program as given, and the reduced costs; None where they prove none.

    All rows are balances. A reduced cost within rounding of 0 on a column without limit counts as 0.
    """
    reduced: Floats = program.cost - program.pulled_back(duals)
    helps = reduced > 0 if program.maximise else reduced < 0
    side = np.where(helps, program.column_upper, program.column_lower)
    noise = ROUNDING * np.maximum(1.0, np.abs(program.cost) + float(np.abs(duals).max(initial=0.0)) * 1e-3)
    if (helps & np.isinf(side) & (np.abs(reduced) > noise)).any():
        return None, reduced
    terms = np.where(np.isinf(side), 0.0, reduced * np.where(np.isinf(side), 0.0, side))
    return float(duals @ program.row_lower + terms.sum()) + program.offset, reduced


def _prices(network: Network, made: Supplied, solved: Solved) -> tuple[LinkPrice, ...]:
    """What one more Gbit/s on each full channel is worth: from its row, or from the reduced costs of its arcs."""
    if solved.row_duals is None or solved.reduced_costs is None:
        return ()
    sign = 1.0 if made.program.maximise else -1.0
    worth = np.zeros(len(network.channel_link))
    by_arc = np.where(np.isfinite(made.program.column_upper[: network.arcs]), sign * solved.reduced_costs[: network.arcs], 0.0)
    np.maximum.at(worth, network.arc_channel, by_arc)
    worth[made.rowed] = np.maximum(worth[made.rowed], sign * solved.row_duals[network.nodes :])
    told = np.flatnonzero(worth > ROUNDING * max(1e-3, float(worth.max(initial=0.0))))
    if len(told) > MOST_PRICES:
        return ()
    return tuple(
        LinkPrice(link=network.link_ids[network.channel_link[one]], back=bool(network.channel_back[one]), price=float(worth[one]))
        for one in told.tolist()
    )


def plan_of_flow(problem: Problem, network: Network, solved: Solved, prices: tuple[LinkPrice, ...]) -> Plan:
    """The plan of an answer; what flows both ways over a link at no gain is taken back."""
    assert solved.values is not None  # noqa: S101 - asked only then
    del problem
    flow = np.maximum(0.0, solved.values[: network.arcs])
    forth = flow[network.forward_arc]
    backward = network.backward_arc
    back = np.where(backward >= 0, flow[backward], 0.0) if network.arcs else forth
    both = np.where(network.link_cost >= 0, np.minimum(forth, back), 0.0)
    forth, back = forth - both, back - both
    used = np.flatnonzero((forth > 0) | (back > 0))
    ids = network.link_ids
    return Plan(
        flow_table=FlowTable(
            link=tuple(ids[link] for link in used.tolist()),
            gbps=tuple(forth[used].tolist()),
            back_gbps=tuple(back[used].tolist()) if (backward >= 0).any() else None,
        ),
        prices=prices,
    )

"""What no plan can beat, whatever the capacities: everything is carried, and every demand takes its cheapest path.

Tighter counts, of what can leave and enter a node, are left to the search: its prices prove more, and a plan that met such a count
would be handed out without them. Where a bound of this module is met, no capacity binds and all prices are 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.flow.goals import goal_class, goal_names, plain_name
from models.flow.network.arrays import is_supplied, network_of, traffic_of
from models.flow.paths.shortest import shortest

if TYPE_CHECKING:
    from models.flow.network.arrays import Network
    from models.flow.schema import Problem
    from models.program import Bools

MOST_WORK = 20_000_000  # sources times arcs up to which cheapest paths are looked for


def simple_bounds(problem: Problem) -> dict[str, float]:
    """A bound for each goal that has one of this sort."""
    if problem.use == "design":
        from models.flow.design.works import simple_bounds as design_bounds

        return design_bounds(problem)
    if problem.use == "transfer":
        from models.flow.transfers.first import simple_bounds as transfer_bounds

        return transfer_bounds(problem)
    if problem.failures is not None and problem.failures.mode == "sweep":
        return {}  # a plan that met them would be handed out before anything was swept
    network = network_of(problem)
    if is_supplied(problem):
        shipped = min(float(network.supply.clip(0.0).sum()), float((-network.supply).clip(0.0).sum()))
        return {name: shipped for name in goal_names(problem) if name == "throughput"}
    found = {name: _bound(problem, network, name) for name in goal_names(problem)}
    return {name: bound for name, bound in found.items() if bound is not None}


def _bound(problem: Problem, network: Network, name: str) -> float | None:
    traffic = traffic_of(problem)
    own = traffic.priority == goal_class(problem, name)
    match plain_name(name):
        case "fair_slack" | "loss_cvar":
            return 0.0
        case "cost":
            return _cheapest(problem, network, own)
        case "throughput":
            return float((traffic.value * traffic.size)[own].sum())
        case "fair_rate":
            return float((traffic.size / traffic.weight)[own].min())
    return None


def _cheapest(problem: Problem, network: Network, own: Bools) -> float:
    """Every demand on its cheapest path, whatever the capacities and limits."""
    traffic = traffic_of(problem)
    if len(np.unique(traffic.source[own])) * network.arcs > MOST_WORK:
        return 0.0
    distance = shortest(network, network.arc_cost, traffic.source[own], traffic.target[own])
    reached = np.isfinite(distance)
    return float((distance[reached] * traffic.size[own][reached]).sum())

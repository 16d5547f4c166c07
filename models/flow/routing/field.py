"""What a search for routes works on: the network or its quotient, commodities, and the paths and full channels met so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.flow.columns.generation import optimise
from models.flow.columns.master import Master, Stage
from models.flow.columns.pricing import GraphPricer, ListPricer, PathTable
from models.flow.columns.store import PathStore
from models.flow.goals import goal_names
from models.flow.network.arrays import network_of
from models.flow.network.fabric import commodities_of, plain_fabric
from models.flow.network.quotient import folded
from models.flow.paths.admissible import admissible
from models.flow.routing.balancing import BUSY, STEPS, balanced
from models.flow.routing.plans import plan_of
from models.flow.schema import Objective

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Solved, Step
    from models.flow.columns.generation import Optimised
    from models.flow.columns.pricing import Pricer
    from models.flow.network.fabric import Commodities, Fabric
    from models.flow.schema import FairLevel, Plan, Problem
    from models.program import Bools, Floats, Ints

METHOD = "column generation over paths: dual bound over all paths, from the prices of links"
METHOD_FOLDED = "column generation over paths of the network folded by its symmetries: dual bound over all paths, from the prices of links"
METHOD_LISTED = "linear program over the paths allowed: dual bound from the prices of links"
SEED = 20_240_229
SPREAD = 15  # random cheapest paths that are sought for each commodity of a regular fabric
JITTER = 1e-3  # of a price: less than what tells paths of different price apart
MANY_EQUAL = 0.25  # share of commodities with another path just as cheap, from which on a fabric is regular
SERVED_IN_PART = (Objective.max_throughput, Objective.max_min_fair)  # what is not carried at all needs no way round
TIGHTEST = 1e-7  # relative; later classes rest on what earlier ones attain, so the user's gap is no reason to stop before


@dataclass(eq=False)
class Field:
    """What a search works on."""

    problem: Problem
    fabric: Fabric
    commodities: Commodities
    pricer: Pricer
    store: PathStore
    reached: Bools
    method: str
    watched: Ints
    goals: tuple[str, ...]
    regular: bool

    def master(self, stage: Stage) -> Master:
        """The master program of a stage, with the channels watched so far."""
        master = Master(self.fabric, self.commodities, stage, self.store)
        master.watch(self.watched)
        return master

    def solve(self, stage: Stage, enough: float = -np.inf) -> Generator[Step, Solved, Optimised]:
        """Solve a stage, and remember its channels."""
        master = self.master(stage)
        found = yield from optimise(master, self.pricer, TIGHTEST, enough, regular=self.regular)
        self.watched = master.watched
        return found

    def plan(self, flow: Floats, prices: Floats | None = None, levels: tuple[FairLevel, ...] = (), *, evenly: bool = False) -> Plan:
        """The plan that sends ``flow`` over the paths of the store; ``prices`` (channels,)."""
        return plan_of(
            self.problem, self.fabric, self.commodities, self.store.table, self.store.filled(flow), prices, levels, evenly=evenly
        )

    def within_capacity(self, flow: Floats) -> Floats:
        """The flow without what the solver's tolerance put above a capacity."""
        over = self.store.loads(self.fabric, flow) / self.fabric.capacity
        path, channel, _ = self.store.entries(self.fabric)
        worst = np.ones(self.store.count)
        np.maximum.at(worst, path, over[channel])
        return self.store.filled(flow) / worst

    def all_of(self, form: int) -> Stage:
        """A stage in which every commodity is carried in the same form, within capacity; with no goal yet."""
        commodities = self.commodities
        return Stage(
            form=np.full(commodities.count, form),
            size=np.where(self.reached, commodities.size, 0.0),
            layer_counts=np.ones((1, commodities.ranks), dtype=np.bool_),
            layer_level=np.ones(1),
            unit_arc=np.zeros(self.fabric.arcs),
            unit_gain=np.zeros(commodities.count),
            rank=-1,
        )


def field_of(problem: Problem, *, apart: bool = False) -> Field:
    """Fabric, commodities and first paths of a problem; ``apart``: each demand is a commodity."""
    network = network_of(problem)
    fabric = folded(problem)
    method = METHOD if fabric is None else METHOD_FOLDED
    if fabric is None:
        fabric = plain_fabric(network)
    commodities = commodities_of(problem, fabric, apart=apart)
    paths = admissible(problem)
    pricer: Pricer
    if paths is None:
        pricer = GraphPricer(fabric, commodities)
    else:
        pricer, method = (
            ListPricer(commodities, _allowed(paths.starts, paths.path_starts, paths.arcs, fabric, network.arcs, commodities)),
            METHOD_LISTED,
        )
    first = np.ones((commodities.ranks, fabric.arcs))
    if problem.objective is Objective.min_cost:
        first = np.tile(fabric.cost + 1e-9 * max(1e-3, float(fabric.cost.max(initial=0.0))), (commodities.ranks, 1))
    priced = pricer.cheapest(first)
    reached = np.isfinite(priced.distance)
    store = PathStore()
    store.add(priced.paths(np.flatnonzero(reached)))
    first_load = store.loads(fabric, commodities.size[store.table.commodity])
    regular = paths is None and _spread(store, pricer, first, reached)
    if regular:
        watched = np.flatnonzero(np.isfinite(fabric.capacity))
    else:
        steps = 0 if problem.objective in SERVED_IN_PART else STEPS
        used = balanced(fabric, commodities, pricer, store, first_load, steps)
        busy = BUSY * float(used.max(initial=0.0))
        watched = np.flatnonzero(used > (1.0 if problem.objective in SERVED_IN_PART else busy))
    return Field(problem, fabric, commodities, pricer, store, reached, method, watched, goal_names(problem), regular)


def _spread(store: PathStore, pricer: Pricer, prices: Floats, reached: Bools) -> bool:
    """Whether most commodities have many cheapest paths, as in regular fabrics: then a fixed set of those is taken from the start.

    Which of many equal paths a price finds is chance: one at a time they would only move the same traffic from link to link. Equal paths
    are told apart by small random numbers on the arcs, which keep the cheapest ones cheapest.
    """
    rng = np.random.default_rng(SEED)
    which = np.flatnonzero(reached)
    alone = store.count
    for turn in range(SPREAD):
        jittered = prices * (1.0 + JITTER * rng.random(prices.shape[1]))
        found = store.add(pricer.cheapest(jittered).paths(which))
        if turn == 0 and len(found) < MANY_EQUAL * alone:
            return False
    return True


def _allowed(starts: Ints, path_starts: Ints, arcs: Ints, fabric: Fabric, all_arcs: int, commodities: Commodities) -> PathTable:
    """The paths of each commodity's first demand, without those over arcs that have no capacity."""
    counts = np.diff(starts)[commodities.first]
    rows = np.repeat(starts[commodities.first], counts) + _ranges(counts)
    owner = np.repeat(np.arange(commodities.count), counts)
    table = PathTable(owner, path_starts, arcs)
    table = PathTable(np.zeros(len(path_starts) - 1, dtype=np.int64), path_starts, arcs).chosen(rows)
    place = np.full(all_arcs, -1, dtype=np.int64)
    place[fabric.network_arc] = np.arange(fabric.arcs)
    own = place[table.arcs]
    closed = np.bincount(table.entry_path, weights=own < 0, minlength=table.count) > 0
    return PathTable(owner, table.starts, own).chosen(np.flatnonzero(~closed))


def _ranges(counts: Ints) -> Ints:
    ends = np.cumsum(counts)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts, counts)

"""The searches for routes without failures: one goal after another by column generation, on the network or its quotient.

Each priority class is a stage of its own (lexicographic goals); paths and watched channels are kept from stage to stage.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.conversation import Endless, Impossible, Offered, Proved
from models.flow.columns.master import EXACT, MOST, TIED
from models.flow.routing.field import field_of
from models.flow.schema import Objective, Plan

if TYPE_CHECKING:
    from models.conversation import Conversation
    from models.flow.columns.master import Stage
    from models.flow.routing.field import Field
    from models.flow.schema import Problem
    from models.program import Floats

PHASE = "column generation"
FITS = 1.0 + 1e-9  # largest utilisation that still counts as carried
SURELY_TOO_MUCH = 1.0 + 1e-7  # a bound on the utilisation above this is no rounding


def converse(problem: Problem) -> Conversation:
    """Routes of the demands, for every objective."""
    if problem.objective is Objective.max_min_fair:
        from models.flow.fairness.max_min import converse as fairly

        yield from fairly(problem)
        return
    field = field_of(problem)
    if not field.commodities.count:
        yield Offered(Plan(), PHASE)
        return
    searches = {
        Objective.max_throughput: _throughput,
        Objective.max_concurrent: _concurrent,
        Objective.min_max_utilisation: _utilisation,
        Objective.min_cost: _cost,
    }
    yield from searches[problem.objective](field)


def _up_to(field: Field, stage: Stage, rank: int) -> Floats:
    """The sizes of a stage's commodities, 0 for those of classes after ``rank``."""
    return np.where(field.commodities.rank <= rank, stage.size, 0.0)


def _throughput(field: Field) -> Conversation:
    floors: tuple[float, ...] = ()
    for rank, goal in enumerate(field.goals):
        whole = field.all_of(MOST)
        stage = replace(whole, size=_up_to(field, whole, rank), unit_gain=field.commodities.value, rank=rank, floors=floors)
        found = yield from field.solve(stage)
        yield Proved(goal, -found.bound, field.method)
        if found.flow is None:
            return
        yield Offered(field.plan(field.within_capacity(found.flow), found.first_prices), PHASE, says_more=rank == 0)
        floors = (*floors, found.value)


def _utilisation(field: Field) -> Conversation:
    if not field.reached.all():
        yield Impossible()
        return
    levels: list[float] = []
    ranks = np.arange(field.commodities.ranks)
    for rank, goal in enumerate(field.goals):
        stage = replace(
            field.all_of(EXACT),
            layer_counts=ranks[None, :] <= np.arange(rank + 1)[:, None],
            layer_level=np.array([*levels, np.nan]),
        )
        found = yield from field.solve(stage)
        yield Proved(goal, found.bound, field.method)
        if found.flow is None:
            return
        yield Offered(field.plan(found.flow, found.first_prices), PHASE, says_more=rank == 0)
        levels.append(found.value)


def _cost(field: Field) -> Conversation:
    if not field.reached.all():
        yield Impossible()
        return
    everything = field.all_of(EXACT)
    if len(field.watched):  # paths over which everything fits, so that no later program lacks them
        fit = yield from field.solve(replace(everything, layer_level=np.full(1, np.nan)), enough=FITS)
        if fit.bound > SURELY_TOO_MUCH:
            yield Impossible()
            return
    floors: tuple[float, ...] = ()
    for rank, goal in enumerate(field.goals):
        found = yield from field.solve(replace(everything, unit_arc=field.fabric.cost, rank=rank, floors=floors))
        yield Proved(goal, found.bound, field.method)
        if found.flow is None:
            return
        yield Offered(field.plan(found.flow, found.first_prices), PHASE, says_more=rank == 0)
        floors = (*floors, found.value)


def _concurrent(field: Field) -> Conversation:
    """The first class as the least stretch of capacity (the inverse of its share), each later one as the share of what is left."""
    commodities = field.commodities
    shares: list[float] = []
    cut_off = np.bincount(commodities.rank[~field.reached], minlength=commodities.ranks) > 0
    for rank, goal in enumerate(field.goals):
        whole = field.all_of(EXACT)
        if cut_off[rank]:
            yield Proved(goal, 0.0, f"{field.method}; a demand has no path")
            shares.append(0.0)
            continue
        granted = whole.size * np.array([*shares, *[0.0] * (commodities.ranks - rank)])[commodities.rank]
        if not any(shares):
            sizes = np.where(commodities.rank == rank, whole.size, 0.0)
            found = yield from field.solve(replace(whole, size=sizes, layer_level=np.full(1, np.nan)))
            endless = found.flow is not None and found.value <= 0.0
            share = 1.0 if endless else 1.0 / found.value
            bound = 1.0 / found.bound if found.bound > 0.0 else np.inf
            flow = None if found.flow is None else found.flow * share
        else:
            own = commodities.rank == rank
            form = np.where(own, TIED, EXACT)
            most = _largest_share(field, np.where(own, whole.size, 0.0))
            found = yield from field.solve(replace(whole, form=form, size=np.where(own, whole.size, granted), most=most))
            share, bound, flow = -found.value, -found.bound, found.flow
            endless = share >= most / 2
        if endless and flow is not None:
            yield Offered(field.plan(flow, evenly=True), PHASE)
            yield Endless(goal, "every demand of the class has a path whose links have no limit")
            return
        yield Proved(goal, bound, field.method)
        if flow is None:
            return
        shares.append(share)
        yield Offered(field.plan(field.within_capacity(flow), found.first_prices, evenly=True), PHASE, says_more=rank == 0)


def _largest_share(field: Field, size: Floats) -> float:
    """More than twice any share can be, unless no limit holds: what all channels together can carry, for the least of the sizes."""
    capacity = field.fabric.capacity
    return 4.0 * max(1.0, float(capacity[np.isfinite(capacity)].sum())) / float(size[size > 0].min())

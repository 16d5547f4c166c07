"""Max-min fair routes: the smallest rate for its weight as large as can be, then the next, and so on, each level with its proof.

Exact water filling. A level's program raises all demands that are not settled yet together; the prices of links that prove its rate settle
every demand that pays any: by weak duality none of them can rise (Nace and Pioro, "Max-min fairness and its applications to routing and
load-balancing in communication networks: a tutorial", 2008). A demand that has all of its size settles by that. Where every demand
has a single path the levels need no program: see ``models.flow.fairness.filling``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.conversation import Offered, Proved
from models.flow.columns.master import EXACT, TIED, Prices
from models.flow.fairness.filling import filled, links_around, single_path_links
from models.flow.fairness.levels import Level, levels_of
from models.flow.network.arrays import traffic_of
from models.flow.routing.field import field_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Conversation, Solved, Step
    from models.flow.columns.generation import Optimised
    from models.flow.routing.field import Field
    from models.flow.schema import Problem
    from models.program import Bools, Floats

PHASE = "water filling"
METHOD_ALONE = "water filling where every demand has one path: full links prove every level"
METHOD_AROUND = "water filling over the links around each node, with routes for all rates: full nodes prove every level"
METHOD_SLACK = "no level can be more than settled"
SETTLED = 1e-8  # how far a demand that counts as settled could still rise, relative to max(1, rate)
ROUTED = 1.0 + 1e-7  # largest utilisation at which rates count as routed
FULL = 1e-9  # of a size: what is closer is all of it


def converse(problem: Problem) -> Conversation:
    """Fair routes of the demands, class by class, and the proof of every level."""
    field = field_of(problem, apart=True)
    if not field.commodities.count:
        return
    rates = np.zeros(field.commodities.count)  # Gbit/s
    levels: list[Level] = []
    alone = field.pricer.single
    flow = np.zeros(field.store.count)
    for rank in range(field.commodities.ranks):
        own = (field.commodities.rank == rank) & field.reached
        unreached = np.flatnonzero((field.commodities.rank == rank) & ~field.reached)
        if len(unreached):
            levels.append(Level(rank, 0.0, unreached, None, cut_off=True))
            yield Proved(field.goals[2 * rank], 0.0, f"{PHASE}: a demand has no path")
        answer = _along_paths(field, rank, own, rates) if alone else (yield from _around_nodes(field, rank, own, rates))
        if answer is None:
            answer = yield from _settled(field, rank, own, rates)
        if answer is None:
            return
        levels += answer.levels
        flow = answer.flow
        if own.any() and not len(unreached):
            yield Proved(field.goals[2 * rank], answer.bound, answer.method)
        yield Proved(field.goals[2 * rank + 1], 0.0, METHOD_SLACK)
    told = levels_of(problem, field.fabric, levels, traffic_of(problem))
    prices = next((level.prices for level in levels if level.prices is not None), None)
    yield Offered(field.plan(flow, prices, told), PHASE, says_more=True)


@dataclass(frozen=True, eq=False)
class Fair:
    """One class settled: its levels, flow on the paths of all classes so far, and the bound on its smallest rate."""

    levels: list[Level]
    flow: Floats
    bound: float
    method: str


def _along_paths(field: Field, rank: int, own: Bools, rates: Floats) -> Fair:
    """Water filling where every demand has one path."""
    levels = filled(field, single_path_links(field), rank, own, rates)
    return Fair(levels, rates[field.store.table.commodity], levels[0].rate if levels else 0.0, METHOD_ALONE)


def _around_nodes(field: Field, rank: int, own: Bools, rates: Floats) -> Generator[Step, Solved, Fair | None]:
    """Water filling as if only the links around nodes mattered; None when the rates cannot be routed (``rates`` stay as they were)."""
    guess = rates.copy()
    levels = filled(field, links_around(field), rank, own, guess)
    whole = replace(field.all_of(EXACT), size=np.where(field.reached, guess, 0.0))
    found = yield from field.solve(replace(whole, layer_level=np.full(1, np.nan)), enough=ROUTED)
    if found.flow is None or found.value > ROUTED:
        return None
    rates[:] = guess
    return Fair(levels, found.flow, levels[0].rate if levels else 0.0, METHOD_AROUND)


def _settled(field: Field, rank: int, own: Bools, rates: Floats) -> Generator[Step, Solved, Fair | None]:
    """Settle one class level by level; notes ``rates``. None when a program found no answer."""
    traffic = traffic_of(field.problem)
    cap = traffic.size / traffic.weight
    open_, levels = own.copy(), list[Level]()
    flow, bound, last = np.zeros(field.store.count), np.inf, 0.0
    while open_.any():
        found = yield from _raised(field, rank, open_, rates, 2.0 * float(cap[open_].max()))
        if found.flow is None or found.prices is None:
            return None
        flow, rate = found.flow, max(last, -found.value)
        bound = min(bound, -found.bound, float(cap[open_].min())) if not levels else bound
        sized = open_ & (cap <= rate * (1 + FULL))
        if sized.any():  # all that have their size at this rate have it in a fair plan: the rest may rise further
            levels += [Level(rank, float(one), np.flatnonzero(sized & (cap == one)), None) for one in np.unique(cap[sized])]
            rates[sized] = traffic.size[sized]
            open_ &= ~sized
            continue
        done, shares = _proved(field, found.prices, open_, rates, rate)
        levels.append(Level(rank, rate, np.flatnonzero(done), found.prices.link[0], shares=shares[done]))
        rates[done] = rate * traffic.weight[done]
        open_ &= ~done
        last = rate
    final = yield from field.solve(
        replace(field.all_of(EXACT), size=np.where(field.reached, rates, 0.0), layer_level=np.full(1, np.nan)), ROUTED
    )
    flow = flow if final.flow is None else final.flow
    return Fair(levels, flow, bound, f"{PHASE}: {field.method}")


def _raised(field: Field, rank: int, open_: Bools, rates: Floats, most: float) -> Generator[Step, Solved, Optimised]:
    """The largest common rate for each unit of weight of the demands still open, with the others' rates kept."""
    whole = field.all_of(EXACT)
    weight = traffic_of(field.problem).weight
    kept = np.where(field.commodities.rank <= rank, rates, 0.0)
    stage = replace(whole, form=np.where(open_, TIED, EXACT), size=np.where(open_, weight, kept), most=most)
    return (yield from field.solve(stage))


def _proved(field: Field, prices: Prices, open_: Bools, rates: Floats, rate: float) -> tuple[Bools, Floats]:
    """The open demands that these prices settle, and each one's weight in the proof (sum 1 over the settled)."""
    fabric, weight = field.fabric, traffic_of(field.problem).weight
    arc_prices = np.broadcast_to(prices.link[0][fabric.channel], (field.commodities.ranks, fabric.arcs))
    distance = field.pricer.cheapest(arc_prices).distance
    paid = np.where(field.reached, distance, 0.0)
    room = float(prices.link[0] @ np.where(np.isfinite(fabric.capacity), fabric.capacity, 0.0))
    room -= float((rates * paid)[~open_].sum()) + rate * float((weight * paid)[open_].sum())
    pays = np.where(open_, weight * paid, 0.0)
    done = pays * SETTLED * max(1.0, rate) >= max(room, 0.0)
    done &= pays > 1e-9 * float(pays.max(initial=0.0))
    if not done.any():  # rounding spoils the proof: settle the one that pays most; the plan's check tells what that leaves open
        done[int(np.argmax(np.where(open_, pays, -1.0)))] = True
    total = float(pays[done].sum())
    return done, pays / total if total > 0 else np.where(done, 1.0 / done.sum(), 0.0)

"""The proof that an allocation is max-min fair, recomputed from the plan alone.

An allocation is max-min fair when no demand can get more unless another, which has no more than it for its weight, gets less (D.
Bertsekas, R. Gallager, "Data Networks", 1992, section 6.5.2). Each level of a plan proves that for its demands by weak duality. Let
``y >= 0`` be its prices, ``dist(d)`` the cheapest price of a path that demand d may use, ``t`` the level's rate, and r the rates of
the plan. Every routing of rates x has ``sum_d x_d dist(d) <= sum_c y_c capacity_c``. So where the demands of more important classes and
of earlier levels keep what they have, and all others of the class keep what they have or at least ``t`` for each unit of weight, no
demand e of the level has more than

    t + (sum_c y_c capacity_c - sum_{d earlier} r_d dist(d) - sum_{d not earlier} min(t weight_d, r_d) dist(d)) / (weight_e dist(e))

for each unit of weight, and none more than its size allows. The slack is the largest such rise, relative to ``max(1, t)``. A demand
that no level proves may rise to what its size and the links at its ends allow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Violation
from models.flow.network.arrays import network_of, traffic_of
from models.flow.network.sums import sums
from models.flow.paths.shortest import shortest
from models.flow.schema import Rule

if TYPE_CHECKING:
    from models.broken import Broken
    from models.flow.network.arrays import Network, Traffic
    from models.flow.schema import FairLevel, LinkPrice, Plan, Problem
    from models.program import Bools, Floats, Ints

NOTHING = 1e-12  # a rise is divided by a distance: relative to the largest price, below this it is no distance


def fair_goals(problem: Problem, plan: Plan, got: Floats, broken: Broken) -> dict[str, float]:
    """``fair_rate`` and ``fair_slack`` of each class; ``got`` (demands,) is what each demand gets. Notes proofs that are none."""
    traffic = traffic_of(problem)
    rates = got / traffic.weight
    rise = unproved_rise(problem, rates)
    earlier = np.zeros(traffic.count, dtype=np.bool_)
    values: dict[str, float] = {}
    for priority in traffic.classes:
        own = traffic.priority == priority
        levels = [(number, level) for number, level in enumerate(plan.levels) if level.priority == priority]
        _prove(problem, levels, rates, rise, earlier, broken)
        suffix = f"[{priority}]" if len(traffic.classes) > 1 else ""
        values[f"fair_rate{suffix}"] = float(rates[own].min())
        values[f"fair_slack{suffix}"] = float((rise[own] / np.maximum(1.0, rates[own])).max())
        earlier |= own
    for number, level in enumerate(plan.levels):
        if level.priority not in traffic.classes:
            broken.add(_fault(number, (), f"is about priority {level.priority}, which no demand has"))
    return values


def unproved_rise(problem: Problem, rates: Floats) -> Floats:
    """By how much each rate could rise as far as size and the links at both ends tell, shape (demands,)."""
    from models.flow.checks_odd import end_capacity

    network, traffic = network_of(problem), traffic_of(problem)
    leaving, entering = end_capacity(network)
    most = np.minimum(traffic.size, np.minimum(leaving[traffic.source], entering[traffic.target]))
    return np.maximum(0.0, most / traffic.weight - rates)


def _prove(problem: Problem, levels: list[tuple[int, FairLevel]], rates: Floats, rise: Floats, before: Bools, broken: Broken) -> None:
    """Lower ``rise`` to what the levels of one class prove; ``before`` (demands,) are the demands of more important classes."""
    network, traffic = network_of(problem), traffic_of(problem)
    earlier, last = before.copy(), 0.0
    for number, level in levels:
        fault = _malformed(level, traffic, rates, earlier, last)
        prices = channel_prices(network, level.prices)
        if fault is None and prices is None:
            fault = "prices a link that does not exist, or the way back of a link that has none of its own"
        if fault is not None or prices is None:
            broken.add(_fault(number, level.demands[:3], fault or ""))
            return
        members = np.array([traffic.at[name] for name in level.demands], dtype=np.int64)
        if prices.any():
            active = (traffic.priority == level.priority) & ~earlier
            proved = _proved_rise(problem, prices, (earlier, active), rates, level.rate, members)
            # The proof speaks of what the level's rate could become; the plan's own may be a little above or below it.
            rise[members] = np.minimum(rise[members], np.maximum(0.0, level.rate + proved - rates[members]))
        earlier[members] = True
        last = level.rate


def _malformed(level: FairLevel, traffic: Traffic, rates: Floats, earlier: Bools, last: float) -> str | None:
    """What is wrong with a level, apart from its prices."""
    for name in level.demands:
        fault = _misplaced(level, traffic, rates, earlier, name)
        if fault is not None:
            return fault
    if len(set(level.demands)) < len(level.demands):
        return "names a demand twice"
    if level.shares and (len(level.shares) != len(level.demands) or abs(sum(level.shares) - 1.0) > TOLERANCE):
        return "has shares that are not one for each demand and 1 together"
    if level.rate < last - TOLERANCE * max(1.0, last):
        return f"has the rate {level.rate:.12g}, lower than the level before it"
    return None


def _misplaced(level: FairLevel, traffic: Traffic, rates: Floats, earlier: Bools, name: str) -> str | None:
    """Why a demand is not one of this level."""
    place = traffic.at.get(name)
    if place is None:
        return f"names '{name}', which is no demand"
    if traffic.priority[place] != level.priority or earlier[place]:
        return f"names demand '{name}', which belongs to another level or class"
    if abs(rates[place] - level.rate) > TOLERANCE * max(1.0, level.rate):
        return f"says {level.rate:.12g} Gbit/s for each unit of weight, and demand '{name}' gets {rates[place]:.12g}"
    return None


def _fault(number: int, ids: tuple[str, ...], text: str) -> Violation:
    return Violation(Rule.fairness_proof, ids, 1.0, "", f"level {number} {text}")


def channel_prices(network: Network, given: tuple[LinkPrice, ...]) -> Floats | None:
    """The price of each channel, shape (channels,); None when one is of no channel."""
    prices = np.zeros(len(network.channel_link))
    for one in given:
        link = network.link_at.get(one.link)
        if link is None:
            return None
        arc = int(network.backward_arc[link] if one.back else network.forward_arc[link])
        if arc < 0:
            return None
        prices[network.arc_channel[arc]] += one.price
    return prices


def _proved_rise(problem: Problem, prices: Floats, parts: tuple[Bools, Bools], rates: Floats, rate: float, members: Ints) -> Floats:
    """By how much the rate of each member of a level could be above ``rate``, at most; shape (members,)."""
    network, traffic = network_of(problem), traffic_of(problem)
    earlier, active = parts
    capacity = network.channel_capacity
    if (np.isinf(capacity) & (prices > 0)).any():
        return np.full(len(members), np.inf)
    room = float(prices @ np.where(np.isfinite(capacity), capacity, 0.0))
    distance = distances(problem, prices[network.arc_channel])
    reached = np.isfinite(distance)
    weighed = np.where(reached, distance, 0.0) * traffic.weight
    room -= float((rates * weighed)[earlier].sum()) + float((np.minimum(rate, rates) * weighed)[active].sum())
    own = weighed[members]
    least = NOTHING * float(prices.max(initial=0.0))
    with np.errstate(divide="ignore"):
        proved = np.where(own > least, max(0.0, room) / np.where(own > least, own, 1.0), np.inf)
    return np.where(reached[members], proved, 0.0)  # what no path reaches gets nothing in any plan


def distances(problem: Problem, arc_prices: Floats) -> Floats:
    """A lower bound on the price of every path that each demand may use, inf where there is none; shape (demands,).

    Exact for a choice of paths and without latency limits; with limits that the cheapest path breaks, ``paths.cheapest_within`` is asked.
    """
    network, traffic = network_of(problem), traffic_of(problem)
    if problem.paths.choice != "all":
        from models.flow.paths.admissible import admissible

        allowed = admissible(problem)
        if allowed is not None:
            return _cheapest_listed(arc_prices, allowed.starts, allowed.path_starts, allowed.arcs)
    found = shortest(network, arc_prices, traffic.source, traffic.target)
    limited = np.flatnonzero(np.isfinite(traffic.latency_limit))
    if len(limited):
        from models.flow.paths.admissible import cheapest_within

        found[limited] = np.maximum(
            found[limited],
            cheapest_within(network, arc_prices, traffic.source[limited], traffic.target[limited], traffic.latency_limit[limited]),
        )
    return found


def _cheapest_listed(arc_prices: Floats, starts: Ints, path_starts: Ints, arcs: Ints) -> Floats:
    """The price of the cheapest path of each demand, inf where it has none."""
    paths = len(path_starts) - 1
    price = sums(np.repeat(np.arange(paths), np.diff(path_starts)), arc_prices[arcs], paths)
    found = np.full(len(starts) - 1, np.inf)
    np.minimum.at(found, np.repeat(np.arange(len(starts) - 1), np.diff(starts)), price)
    return found

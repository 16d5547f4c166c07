"""What a plan promises about failures, checked against every scenario: exactly, and without any solver.

``protect``: the worst scenario of each demand is looked up or searched for (``models.flow.failures.protection``). ``cvar``: the loss of
every scenario is reckoned and sorted. ``sweep``: who is cut off is found anew, and each bound is recomputed from its prices; that a routing
as good as ``max_utilisation`` exists is the one thing taken on trust, for an aftermath does not hold its routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Violation
from models.flow.failures.scenarios import families, scenarios_of
from models.flow.network.arrays import network_of, traffic_of
from models.flow.schema import FailureMode, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.flow.failures.aftermath import Ways
    from models.flow.network.tally import Tally
    from models.flow.schema import Aftermath, Plan, Problem
    from models.program import Bools

FULL = 1e-6  # relative: what a link may carry beyond its capacity without being overloaded


def broken(problem: Problem, plan: Plan, tally: Tally) -> Iterator[Violation]:
    """Everything about failures that is not as the plan says."""
    failures = problem.failures
    mode = failures.mode if failures is not None else None
    if mode is not FailureMode.protect and plan.granted:
        yield _wrong((), float(len(plan.granted)), "the plan has granted rates, which only protected traffic has")
    if mode is not FailureMode.sweep and plan.aftermaths:
        yield _wrong((), float(len(plan.aftermaths)), "the plan has aftermaths, which only a sweep has")
    if mode is FailureMode.protect:
        yield from _unprotected(problem, plan, tally)
    elif mode is FailureMode.sweep:
        yield from _misswept(problem, plan)


def objectives(problem: Problem, plan: Plan, tally: Tally) -> dict[str, float]:
    """The mean loss of the worst scenarios, a share between 0 and 1; other modes have the goals of their objective."""
    del plan
    return {"loss_cvar": _tail(problem, tally)[0]} if problem.failures and problem.failures.mode is FailureMode.cvar else {}


def metrics(problem: Problem, plan: Plan, tally: Tally) -> dict[str, float]:
    """Plain facts about failures."""
    failures = problem.failures
    if failures is None:
        return {}
    if failures.mode is FailureMode.cvar:
        mean, at_risk = _tail(problem, tally)
        return {"loss_cvar": mean, "loss_at_risk": at_risk, "scenarios": scenarios_of(problem).count}
    if failures.mode is FailureMode.protect:
        return {"granted": float(sum(one.gbps for one in plan.granted)), "reserved": float(tally.route_gbps[tally.route_demand >= 0].sum())}
    worst = [one.max_utilisation for one in plan.aftermaths]
    return {
        "scenarios": scenarios_of(problem).count,
        "scenarios_swept": len(plan.aftermaths),
        "scenarios_overloading": sum(bool(one.overloaded) for one in plan.aftermaths),
        "scenarios_cutting_off": sum(bool(one.demands_cut_off) for one in plan.aftermaths),
        **({"max_utilisation_after_failure": max(worst)} if worst else {}),
    }


def _wrong(ids: tuple[str, ...], amount: float, message: str, unit: str = "") -> Violation:
    return Violation(Rule.protection.value, ids, amount, unit, message)


# ---------------------------------------------------------------- protect


def _unprotected(problem: Problem, plan: Plan, tally: Tally) -> Iterator[Violation]:
    from models.flow.failures.protection import worst_losses
    from models.flow.failures.routes import reserved

    traffic = traffic_of(problem)
    granted, seen = np.zeros(traffic.count), set[int]()
    for one in plan.granted:
        at = traffic.at.get(one.demand)
        if at is None:
            yield _wrong((), one.gbps, f"the plan grants {one.gbps:.12g} Gbit/s to '{one.demand}', which is no demand", "Gbit/s")
        elif at in seen:
            yield _wrong((one.demand,), one.gbps, f"the plan grants demand '{one.demand}' two rates", "Gbit/s")
        else:
            seen.add(at)
            granted[at] = one.gbps
    routes, taken = reserved(network_of(problem), tally)
    whole = np.bincount(routes.demand, weights=taken, minlength=traffic.count)
    room = TOLERANCE * np.maximum(1.0, granted)
    for demand in np.flatnonzero(granted > whole + room).tolist():
        name, short = traffic.ids[demand], float(granted[demand] - whole[demand])
        text = f"demand '{name}' is granted {granted[demand]:.12g} Gbit/s, and its routes reserve {whole[demand]:.12g}"
        yield _wrong((name,), short, text, "Gbit/s")
    for family in families(problem):
        for loss in worst_losses(routes, taken, family, traffic.count):
            left = whole[loss.demand] - loss.lost
            if granted[loss.demand] > left + room[loss.demand]:
                name, events = traffic.ids[loss.demand], tuple(family.ids[event] for event in loss.events)
                text = (
                    f"demand '{name}' is granted {granted[loss.demand]:.12g} Gbit/s, and {left:.12g} are left "
                    f"after failure of {family.sort} {' and '.join(repr(one) for one in events)}"
                )
                yield _wrong((name, *events), float(granted[loss.demand] - left), text, "Gbit/s")


# ---------------------------------------------------------------- cvar


def _tail(problem: Problem, tally: Tally) -> tuple[float, float]:
    from models.flow.failures.losses import largest_losses, tail_mean
    from models.flow.failures.routes import reserved

    assert problem.failures is not None  # noqa: S101 - the mode is one of theirs
    scenarios = scenarios_of(problem)
    routes, taken = reserved(network_of(problem), tally)
    losses, _ = largest_losses(routes, taken, traffic_of(problem).size, scenarios)
    return tail_mean(losses, np.append(scenarios.probability, scenarios.intact), problem.failures.beta)


# ---------------------------------------------------------------- sweep


def _misswept(problem: Problem, plan: Plan) -> Iterator[Violation]:
    from models.flow.failures.aftermath import down_of, ways_of

    if not plan.aftermaths:
        return  # a routing that was not swept yet
    network, scenarios = network_of(problem), scenarios_of(problem)
    known = {scenarios.of(one): scenarios.ids[one] for one in range(scenarios.count)}
    seen: set[tuple[int, ...]] = set()
    ways = ways_of(problem)
    for aftermath in plan.aftermaths:
        links = tuple(sorted(network.link_at.get(name, -1) for name in aftermath.links))
        if links not in known or links in seen:
            how = "given twice" if links in seen else "about links that fail together in no scenario"
            yield _wrong((), 1.0, f"the aftermath of '{aftermath.scenario}' is {how}")
            continue
        seen.add(links)
        if aftermath.scenario != known[links]:
            text = f"the aftermath of '{aftermath.scenario}' has the links that fail in scenario '{known[links]}'"
            yield _wrong(tuple(aftermath.links), 1.0, text)
        yield from _misjudged(problem, aftermath, ways, down_of(network, links))


def _misjudged(problem: Problem, aftermath: Aftermath, ways: Ways, down: Bools) -> Iterator[Violation]:
    """One aftermath against what can be reckoned: who is cut off, what its prices prove, and whether it fits together."""
    from models.flow.failures.aftermath import nodes_cut_off

    network, name = ways.network, aftermath.scenario
    ids = tuple(aftermath.links)
    price = ways.channel_prices(aftermath.prices)
    if price is None:
        yield _wrong(ids, 1.0, f"the aftermath of '{name}' prices a link that is none, or has no capacity")
        return
    proved, distance = ways.least_utilisation(price, down)
    cut = ways.demands_cut_off(distance)
    expected = {
        "demands": ({traffic_of(problem).ids[one] for one in np.flatnonzero(cut).tolist()}, set(aftermath.demands_cut_off)),
        "nodes": ({network.node_ids[node] for node in nodes_cut_off(problem, cut)}, set(aftermath.cut_off)),
    }
    for what, (right, told) in expected.items():
        if right != told:
            one = min(right ^ told)
            how = "is cut off, and the plan does not say so" if one in right else "is not cut off, and the plan says so"
            yield _wrong(ids, float(len(right ^ told)), f"after '{name}', of the {what} '{one}' {how}")
    room = TOLERANCE * max(1.0, aftermath.max_utilisation)
    bound = aftermath.bound or 0.0
    if bound > proved + room:
        yield _wrong(ids, bound - proved, f"after '{name}' the bound is {bound:.12g}, and its prices prove {proved:.12g}")
    least = max(bound, proved)
    if least > aftermath.max_utilisation + room:
        text = f"after '{name}' the busiest link is said to be at {aftermath.max_utilisation:.12g}, and {least:.12g} is proved"
        yield _wrong(ids, least - aftermath.max_utilisation, text)
    known = [network.link_at.get(one, -1) for one in aftermath.overloaded]
    if min(known, default=0) < 0 or any(down[one] for one in known) or len(set(known)) < len(known):
        yield _wrong(ids, 1.0, f"the overloaded links after '{name}' are not all different links that are up")
    full = aftermath.max_utilisation > 1.0 + FULL
    if full != bool(aftermath.overloaded):
        text = f"after '{name}' the busiest link is at {aftermath.max_utilisation:.12g}, and {len(known)} are said to be overloaded"
        yield _wrong(ids, abs(aftermath.max_utilisation - 1.0), text)

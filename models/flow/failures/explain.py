"""What failures have to do with a plan: which one holds a demand down, what is lost how often, what is overloaded or cut off after which.

All of it is counted over every scenario, so it is proved; but that no other routing would do better after a failure is proved only
where the bound of an aftermath meets it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Reason
from models.flow.failures.losses import demand_losses, largest_losses, tail_mean
from models.flow.failures.protection import worst_losses
from models.flow.failures.routes import reserved
from models.flow.failures.scenarios import families, scenarios_of
from models.flow.network.arrays import network_of, traffic_of
from models.flow.network.tally import tally_of
from models.flow.routing.verify import served
from models.flow.schema import FailureMode, GoalName, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from models.flow.failures.protection import Loss
    from models.flow.network.tally import Tally
    from models.flow.schema import Aftermath, Plan, Problem
    from models.program import Floats

MOST_REASONS = 50  # of each sort, the worst first
MOST_NAMES = 8
PROTECTION = Rule.protection.value


def failure_reasons(problem: Problem, plan: Plan, subject: str | None = None) -> Iterator[Reason]:
    """What failures have to do with a right plan; or with one link, demand or node, nothing where they have not."""
    return reasons(problem, plan, tally_of(problem, plan), subject)


def reasons(problem: Problem, plan: Plan, tally: Tally, subject: str | None = None) -> Iterator[Reason]:
    """The same, with the plan's tally at hand."""
    mode = problem.failures.mode if problem.failures is not None else None
    if mode is FailureMode.protect:
        yield from _protected(problem, plan, tally, subject)
    elif mode is FailureMode.cvar:
        yield from _risky(problem, tally, subject)
    elif mode is FailureMode.sweep and subject is None:
        yield from _swept(problem, plan)
    elif mode is FailureMode.sweep and subject is not None:
        yield from _swept_for(problem, plan, subject)


def _names(ids: Iterable[str]) -> str:
    every = tuple(ids)
    told = ", ".join(f"'{one}'" for one in every[:MOST_NAMES])
    return told if len(every) <= MOST_NAMES else f"{told} and {len(every) - MOST_NAMES:,} more"


# ---------------------------------------------------------------- protect


def _protected(problem: Problem, plan: Plan, tally: Tally, subject: str | None) -> Iterator[Reason]:
    traffic, granted = traffic_of(problem), served(problem, plan, tally)
    routes, taken = reserved(network_of(problem), tally)
    whole = np.bincount(routes.demand, weights=taken, minlength=traffic.count)
    worst: dict[int, Loss] = {}
    for family in families(problem):
        for loss in worst_losses(routes, taken, family, traffic.count):
            if loss.demand not in worst or loss.lost > worst[loss.demand].lost:
                worst[loss.demand] = loss
    asked: list[int] = []
    if subject is None:
        text = (
            f"Failures leave every demand what it is granted: {granted.sum():.9g} of {traffic.size.sum():.9g} Gbit/s, "
            f"for which routes reserve {taken.sum():.9g}. At once may fail: {_what_may_fail(problem)}."
        )
        yield Reason("", "summary", PROTECTION, (), text, "proved")
        short = traffic.size - granted
        order = np.argsort(-short, kind="stable").tolist()
        asked = [one for one in order if short[one] > 10 * TOLERANCE * max(1.0, traffic.size[one])][:MOST_REASONS]
    elif subject in traffic.at:
        asked = [traffic.at[subject]]
    for demand in asked:
        yield _held_down(problem, demand, worst.get(demand), (float(whole[demand]), float(granted[demand])), subject or "")
    if subject is not None and subject in network_of(problem).link_at:
        hit = routes.hit_by([network_of(problem).link_at[subject]])
        lost = np.bincount(routes.demand[hit], weights=taken[hit], minlength=traffic.count)
        bare = [traffic.ids[one] for one in np.flatnonzero((lost > 0) & (whole - lost <= granted + 10 * TOLERANCE)).tolist()]
        text = f"Failure of link '{subject}' takes {lost.sum():.9g} Gbit/s of reservations, of {np.count_nonzero(lost):,} demands"
        text += f"; it leaves no more than is granted to {_names(bare)}." if bare else "."
        yield Reason(subject, "binding", PROTECTION, (subject, *bare[:MOST_NAMES]), text, "proved")


def _what_may_fail(problem: Problem) -> str:
    parts = []
    for family in families(problem):
        plural = "" if family.count == 1 else "s"
        count = f"one of {family.count:,}" if family.most == 1 else f"up to {family.most} of {family.count:,}"
        parts.append(f"{count} {'listed scenario' if family.sort == 'scenario' else family.sort}{plural}")
    return ", or ".join(parts) or "nothing"


def _held_down(problem: Problem, demand: int, loss: Loss | None, rates: tuple[float, float], subject: str) -> Reason:
    """Why a demand is granted no more: ``rates`` are what its routes reserve and what it is granted."""
    traffic, (whole, granted) = traffic_of(problem), rates
    name = traffic.ids[demand]
    text = f"Demand '{name}' is granted {granted:.9g} of {traffic.size[demand]:.9g} Gbit/s; its routes reserve {whole:.9g}"
    if loss is None:
        return Reason(subject, "why_not", PROTECTION, (name,), text + (", and no failure hits them." if whole > 0 else "."), "proved")
    events = tuple(loss.family.ids[event] for event in loss.events)
    text += f", and the worst failure, of {loss.family.sort} {' and '.join(repr(one) for one in events)}, leaves {whole - loss.lost:.9g}."
    return Reason(subject, "why_not", PROTECTION, (name, *events), text, "proved")


# ---------------------------------------------------------------- cvar


def _risky(problem: Problem, tally: Tally, subject: str | None) -> Iterator[Reason]:
    assert problem.failures is not None  # noqa: S101 - the mode is one of theirs
    network, traffic, scenarios = network_of(problem), traffic_of(problem), scenarios_of(problem)
    routes, taken = reserved(network, tally)
    chance = np.append(scenarios.probability, scenarios.intact)
    largest, worst = largest_losses(routes, taken, traffic.size, scenarios)
    goal = GoalName.loss_cvar.value
    if subject is None:
        mean, at_risk = tail_mean(largest, chance, problem.failures.beta)
        text = (
            f"With probability {problem.failures.beta:.9g} no demand loses more than {100 * at_risk:.6g}% of its size; "
            f"in the rest of all cases the demand that loses most loses {100 * mean:.6g}% in the mean."
        )
        yield Reason("", "summary", goal, (), text, "proved")
    elif subject in traffic.at:
        own = traffic.at[subject]
        worst = np.full(len(chance), own)
        largest = np.concatenate([losses[:, own] for losses in demand_losses(routes, taken, traffic.size, scenarios)])
        text = f"Demand '{subject}' loses {100 * float(chance @ largest):.6g}% of its size in the mean of all cases."
        yield Reason(subject, "summary", goal, (subject,), text, "proved")
    elif subject in network.link_at:
        hit = np.zeros(len(chance), dtype=np.bool_)
        hit[np.repeat(np.arange(scenarios.count), np.diff(scenarios.starts))[scenarios.links == network.link_at[subject]]] = True
        largest = np.where(hit, largest, 0.0)
    else:
        return
    for scenario in _heaviest(chance * largest):
        nothing = scenario == scenarios.count
        name = "" if nothing else scenarios.ids[scenario]
        demand, event = traffic.ids[worst[scenario]], "While nothing fails" if nothing else f"After '{name}'"
        text = f"{event} (probability {chance[scenario]:.6g}) demand '{demand}' loses {100 * largest[scenario]:.6g}%."
        yield Reason(subject or "", "binding", goal, (demand,) if nothing else (name, demand), text, "proved")


def _heaviest(weights: Floats) -> list[int]:
    """The places with the largest weights above 0."""
    return [one for one in np.argsort(-weights, kind="stable")[:MOST_REASONS].tolist() if weights[one] > 0.0]


# ---------------------------------------------------------------- sweep


def _swept(problem: Problem, plan: Plan) -> Iterator[Reason]:
    count = scenarios_of(problem).count
    over = sorted((one for one in plan.aftermaths if one.overloaded), key=lambda one: -one.max_utilisation)
    cut = sorted((one for one in plan.aftermaths if one.demands_cut_off), key=lambda one: -len(one.demands_cut_off))
    text = f"{len(plan.aftermaths):,} of {_counted(count, 'scenario')} swept: {len(over):,} overload links, {len(cut):,} cut demands off."
    calm = max((one.max_utilisation for one in plan.aftermaths if not one.overloaded), default=None)
    if len(plan.aftermaths) < count:
        text += " The time given ended before the others."
    if calm is not None:
        text += f" After all that overload none the busiest link is at {100 * calm:.6g}% at most."
    yield Reason("", "summary", PROTECTION, (), text, "proved" if all(_certain(one) for one in plan.aftermaths) else "heuristic")
    for one in over[:MOST_REASONS]:
        yield _overloading(one, "")
    for one in cut[:MOST_REASONS]:
        yield _cutting(one, "")


def _swept_for(problem: Problem, plan: Plan, subject: str) -> Iterator[Reason]:
    if subject in network_of(problem).link_at:
        for one in [each for each in plan.aftermaths if subject in each.links][:MOST_REASONS]:
            yield _overloading(one, subject)
            if one.demands_cut_off:
                yield _cutting(one, subject)
        after = [one for one in plan.aftermaths if subject in one.overloaded]
        if after:
            text = f"Link '{subject}' is overloaded after {_counted(len(after), 'scenario')}: {_names(one.scenario for one in after)}."
            yield Reason(subject, "binding", PROTECTION, (subject, *_links_of(after)), text, "heuristic")
    for what, lost in (
        ("Demand", [one for one in plan.aftermaths if subject in one.demands_cut_off]),
        ("Node", [one for one in plan.aftermaths if subject in one.cut_off]),
    ):
        if lost:
            text = f"{what} '{subject}' is cut off after {_counted(len(lost), 'scenario')}: {_names(one.scenario for one in lost)}."
            yield Reason(subject, "why_not", PROTECTION, (subject, *_links_of(lost)), text, "proved")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _links_of(aftermaths: Iterable[Aftermath]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(link for one in aftermaths for link in one.links))[:MOST_NAMES]


def _certain(one: Aftermath) -> bool:
    """Whether its prices prove that no routing has a less busy busiest link (``verify`` has added them up)."""
    return one.bound is not None and one.bound >= one.max_utilisation - 10 * TOLERANCE * max(1.0, one.max_utilisation)


def _overloading(one: Aftermath, subject: str) -> Reason:
    text = f"After failure of {_names(one.links)} the busiest link is at {100 * one.max_utilisation:.6g}%"
    text += f"; overloaded: {_names(one.overloaded)}." if one.overloaded else "."
    if one.overloaded and _certain(one):
        text += " No routing avoids that."
    ids = (*one.links, *one.overloaded[:MOST_NAMES])
    return Reason(subject, "binding", PROTECTION, ids, text, "proved" if _certain(one) else "heuristic")


def _cutting(one: Aftermath, subject: str) -> Reason:
    text = f"Failure of {_names(one.links)} cuts off {_counted(len(one.demands_cut_off), 'demand')}: {_names(one.demands_cut_off)}"
    text += f"; nodes: {_names(one.cut_off)}." if one.cut_off else "."
    return Reason(subject, "why_not", PROTECTION, (*one.links, *one.demands_cut_off[:MOST_NAMES]), text, "proved")

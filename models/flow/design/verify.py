"""Whether a design is right, and what it costs: recomputed from Problem and Plan alone. README.md has the rules.

For every failure the routes are read and added up on their own: nothing is taken from the search that found them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from models.broken import Broken
from models.contract import TOLERANCE, Verdict, Violation
from models.flow.design.routes import plans_after
from models.flow.design.works import works_of
from models.flow.network.tally import tally_of
from models.flow.schema import Rule

if TYPE_CHECKING:
    from models.flow.design.works import Works
    from models.flow.network.tally import Tally
    from models.flow.schema import Plan, Problem
    from models.program import Bools, Floats

UNIT = "Gbit/s"


def verify_design(problem: Problem, plan: Plan) -> Verdict:
    """Every broken rule, and the design's cost; never raises an error, whatever the plan says."""
    works, tally, broken = works_of(problem), tally_of(problem, plan), Broken()
    counts = _counts(works, plan, broken)
    capacity = works.link_capacity(counts)
    broken.extend(tally.faults, tally.fault_count)
    _served(works, tally, broken, "")
    _fits(works, tally, capacity, broken)
    utilisation = _utilisation(works, tally, capacity)
    for violation in _unknown_scenarios(works, plan):
        broken.add(violation)
    for failure, after in zip(works.failures, plans_after(works, plan), strict=True):
        changed = tally_of(problem, after)
        broken.extend(changed.faults, changed.fault_count)
        _served(works, changed, broken, failure.id)
        _survives(works, changed, np.where(failure.dead, 0.0, capacity), failure.id, broken)
        utilisation = max(utilisation, _utilisation(works, changed, capacity))
    building, routing = works.building_cost(counts), works.routing_cost(tally.arc_flow)
    metrics = {
        "max_utilisation": utilisation,
        "throughput": float(np.minimum(tally.carried, works.traffic.size).sum()),
        "concurrent": float((tally.carried / works.traffic.size).min(initial=np.inf)) if works.traffic.count else 0.0,
        "cost": routing,
        "building_cost": building,
        "added_modules": float(counts.sum()),
        "upgraded_links": float(len(np.unique(works.module_link[counts > 0]))),
        "scenarios": float(len(works.failures)),
        "demands": float(works.traffic.count),
        "links": float(works.network.links),
        "routes": float(tally.routes),
    }
    return Verdict({"design_cost": building + routing + works.installed_cost}, broken.told, broken.count, metrics)


def _counts(works: Works, plan: Plan, broken: Broken) -> Floats:
    """How many of each module the plan adds, shape (modules,); what is not offered adds nothing."""
    counts = np.zeros(works.modules)
    for (link, module), items in Counter((one.link, one.module) for one in plan.upgrades).items():
        if (link, module) not in works.module_at:
            text = f"the plan adds module '{module}' to link '{link}', which does not offer it"
            broken.add(Violation(Rule.module_limit, (link, module), 1.0, "modules", text))
        elif items > 1:
            text = f"the plan names module '{module}' of link '{link}' {items} times; one item holds the whole count"
            broken.add(Violation(Rule.module_limit, (link, module), items - 1.0, "modules", text))
    for one in plan.upgrades:
        place = works.module_at.get((one.link, one.module))
        if place is not None:
            counts[place] += one.count
    excess = counts - works.offered
    for place in np.flatnonzero(excess > 0).tolist():
        link, module = works.module_ids[place]
        text = f"link '{link}' gets {counts[place]:.0f} of module '{module}', and at most {works.offered[place]:.0f} may be added"
        broken.add(Violation(Rule.module_limit, (link, module), float(excess[place]), "modules", text))
    if works.one_each:
        of_link = np.bincount(works.module_link, weights=counts, minlength=works.network.links)
        for place in np.flatnonzero(of_link > 1).tolist():
            text = f"link '{works.network.link_ids[place]}' gets {of_link[place]:.0f} modules, and a link takes one at most"
            broken.add(Violation(Rule.module_limit, (works.network.link_ids[place],), float(of_link[place]) - 1.0, "modules", text))
    return counts


def _served(works: Works, tally: Tally, broken: Broken, scenario: str) -> None:
    """Every demand is carried, and no more than it: else something would be paid for nothing."""
    traffic = works.traffic
    rule = Rule.protection if scenario else Rule.demand_served
    during = f" while '{scenario}' lasts" if scenario else ""

    def short(place: int) -> tuple[tuple[str, ...], str]:
        ids = (traffic.ids[place], scenario) if scenario else (traffic.ids[place],)
        return ids, f"demand '{traffic.ids[place]}' gets {tally.carried[place]:.12g} of its {traffic.size[place]:.12g} Gbit/s{during}"

    broken.where(rule, traffic.size - tally.carried, traffic.size, UNIT, short)
    broken.where(
        rule if scenario else Rule.demand_size,
        tally.carried - traffic.size,
        traffic.size,
        UNIT,
        lambda place: (short(place)[0], f"{short(place)[1]}: more than it has"),
    )


def _fits(works: Works, tally: Tally, capacity: Floats, broken: Broken) -> None:
    load, room = tally.channel_load(works.network), capacity[works.network.channel_link]

    def say(channel: int) -> tuple[tuple[str, ...], str]:
        link = works.network.link_ids[works.network.channel_link[channel]]
        return (link,), f"link '{link}' carries {load[channel]:.12g} Gbit/s and has {room[channel]:.12g} with what is added"

    broken.where(Rule.link_capacity, load - room, room, UNIT, say)


def _survives(works: Works, tally: Tally, capacity: Floats, scenario: str, broken: Broken) -> None:
    load, room = tally.channel_load(works.network), capacity[works.network.channel_link]

    def say(channel: int) -> tuple[tuple[str, ...], str]:
        link = works.network.link_ids[works.network.channel_link[channel]]
        return (link, scenario), f"while '{scenario}' lasts, link '{link}' carries {load[channel]:.12g} Gbit/s of {room[channel]:.12g}"

    broken.where(Rule.protection, load - room, room, UNIT, say)


def _unknown_scenarios(works: Works, plan: Plan) -> list[Violation]:
    known = {failure.id for failure in works.failures}
    named = Counter(one.scenario for one in plan.scenario_routes)
    return [
        Violation(
            Rule.protection, (name,), 1.0, "", f"the plan has routes for '{name}', {'twice' if name in known else 'which is no scenario'}"
        )
        for name, count in named.items()
        if name not in known or count > 1
    ]


def _utilisation(works: Works, tally: Tally, capacity: Floats) -> float:
    """Of the busiest channel; a channel without capacity counts by what its load exceeds the tolerance."""
    load, room = tally.channel_load(works.network), capacity[works.network.channel_link]
    used: Bools = load > TOLERANCE
    return float((load[used] / np.maximum(room[used], TOLERANCE)).max(initial=0.0))

"""Why a design builds what it builds: the tightest cut, the cut for which each link is needed, and what more capacity is worth.

A cut is a count, so that all that is said about it is proved: what must cross it, and what its links hold with and without a module.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Reason
from models.flow.design.cutsets import candidate_sides, cuts_of
from models.flow.design.prices import proved
from models.flow.design.verify import verify_design
from models.flow.design.works import works_of
from models.flow.network.tally import tally_of
from models.flow.paths.route_columns import listed_routes
from models.flow.schema import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.contract import Verdict
    from models.flow.design.cutsets import Cuts
    from models.flow.design.works import Failure
    from models.flow.schema import Plan, Problem
    from models.program import Floats

MOST_NAMES = 8  # of nodes in a sentence
MOST_FAILURES = 100  # that are searched for the cut that needs a module


@dataclass(frozen=True, slots=True, eq=False)
class _Looked:
    """Cuts, and the failures under which they are looked at; ``crossing`` (cuts, links), ``alive`` (links, failures), both 0 or 1."""

    cuts: Cuts
    crossing: Floats
    failures: tuple[Failure | None, ...]
    alive: Floats

    def held(self, capacity: Floats) -> Floats:
        """What the links of each cut hold, (cuts, failures); those without a limit are in none of them."""
        held: Floats = self.crossing @ (np.where(np.isinf(capacity), 0.0, capacity)[:, None] * self.alive)
        return held


def explain_design(problem: Problem, plan: Plan, verdict: Verdict, subject: str | None, seconds: float = math.inf) -> tuple[Reason, ...]:
    """The reasons for a plan that obeys every rule, or those about one link, demand or node.

    After about ``seconds`` the links that are left are only counted.
    """
    told = _Told(problem, plan, verdict, time.monotonic() + seconds)
    if subject is None:
        return (told.summary(), *told.tightest(), *told.about_links(), *told.worth(None))
    works = works_of(problem)
    if subject in works.network.link_at:
        return (*told.about_link(works.network.link_at[subject]), *told.worth(subject))
    if subject in works.traffic.at:
        return (told.about_demand(works.traffic.at[subject]),)
    return tuple(told.about_node(works.network.node_at[subject]))


def reasons(problem: Problem, plan: Plan) -> Iterator[Reason]:
    """All reasons for a plan that obeys every rule."""
    yield from explain_design(problem, plan, verify_design(problem, plan), None)


class _Told:
    """One plan, with what is built and the cuts that matter."""

    def __init__(self, problem: Problem, plan: Plan, verdict: Verdict, until: float) -> None:
        self.until = until
        self.problem, self.plan, self.verdict, self.works = problem, plan, verdict, works_of(problem)
        self.counts = self.works.counts(plan.upgrades)
        self.capacity = self.works.link_capacity(self.counts)
        self.tally = tally_of(problem, plan)

    def summary(self) -> Reason:
        """What the cost is made of."""
        metrics, cost = self.verdict.metrics, self.verdict.objectives["design_cost"]
        modules, links = int(metrics["added_modules"]), int(metrics["upgraded_links"])
        parts = [f"{metrics['building_cost']:.9g} for {modules:,} {_plural(modules, 'module')} on {links:,} {_plural(links, 'link')}"]
        if metrics["cost"]:
            parts.append(f"{metrics['cost']:.9g} for routing")
        if self.works.installed_cost:
            parts.append(f"{self.works.installed_cost:.9g} for what is there already")
        text = f"The design costs {cost:.9g}: {', '.join(parts)}. It carries {metrics['throughput']:.9g} Gbit/s"
        failures = len(self.works.failures)
        text += f", also after each of {failures:,} {_plural(failures, 'failure')}." if failures else "."
        return Reason("", "summary", "design_cost", (), text, "proved")

    def built(self) -> list[int]:
        """Links that get modules, the dearest first."""
        cost = np.bincount(self.works.module_link, weights=self.works.module_cost * self.counts, minlength=self.works.network.links)
        touched = np.unique(self.works.module_link[self.counts > 0])
        order: list[int] = touched[np.argsort(-cost[touched], kind="stable")].tolist()
        return order

    def tightest(self) -> Iterator[Reason]:
        """The cut with the least room, now or after a failure."""
        best: tuple[float, str] | None = None
        for looked in self._looked:
            if len(looked.cuts.demand):
                held = looked.held(self.capacity)
                share = (held - looked.cuts.demand[:, None]) / np.maximum(looked.cuts.demand, TOLERANCE)[:, None]
                failure, place = (int(one) for one in np.unravel_index(np.argmin(share.T), share.T.shape))
                if best is None or share[place, failure] < best[0]:
                    best = (float(share[place, failure]), self._cut_text(looked, place, failure, float(held[place, failure])))
        if best is not None:
            yield Reason("", "binding", Rule.link_capacity, (), f"The tightest cut found: {best[1]}.", "proved")

    def about_links(self) -> Iterator[Reason]:
        """Every link that gets modules, as long as there is time."""
        built = self.built()
        for done, link in enumerate(built):
            if time.monotonic() > self.until:
                left = len(built) - done
                text = f"{left:,} more {_plural(left, 'link')} {'gets' if left == 1 else 'get'} modules; ask for one by its id."
                yield Reason("", "summary", Rule.link_capacity, (), text, "proved")
                return
            yield from self.about_link(link)

    def about_link(self, link: int) -> Iterator[Reason]:
        """What is added to a link, and the cut that needs it."""
        works, name = self.works, self.works.network.link_ids[link]
        places = [place for place in works.of_link[link].tolist() if self.counts[place] > 0]
        load = self.tally.channel_load(works.network)[works.network.channel_link == link].max(initial=0.0)
        held = f"It carries {load:.9g} Gbit/s of {self.capacity[link]:.9g}"
        if not places:
            text = f"Nothing is added to link '{name}'. {held}."
            yield Reason(name, "binding", Rule.link_capacity, (name,), text, "proved")
            return
        added = ", ".join(f"{self.counts[place]:.0f} of module '{works.module_ids[place][1]}'" for place in places)
        smallest = min(places, key=lambda place: float(works.module_capacity[place]))
        less = self.capacity.copy()
        less[link] -= works.module_capacity[smallest]
        broken = self._broken(less)
        module = works.module_ids[smallest][1]
        why = f" Without one of module '{module}', {broken}: too little." if broken else " No cut that was looked at needs it."
        yield Reason(name, "binding", Rule.link_capacity, (name,), f"Link '{name}' gets {added}. {held}.{why}", "proved")

    def about_demand(self, demand: int) -> Reason:
        """Where a demand goes."""
        name = self.works.traffic.ids[demand]
        routes = [route for route in listed_routes(self.plan) if route.demand == name and route.gbps > 0]
        told = "; ".join(f"{route.gbps:.9g} over {', '.join(route.hops)}" for route in routes[:MOST_NAMES])
        count = len(routes)
        text = f"Demand '{name}' is carried in full on {count} {_plural(count, 'route')}: {told}{'; ...' if count > MOST_NAMES else ''}."
        return Reason(name, "summary", Rule.demand_served, (name,), text, "proved")

    def about_node(self, node: int) -> Iterator[Reason]:
        """What must cross the links around a node."""
        name = self.works.network.node_ids[node]
        cuts = cuts_of(self.works, np.arange(self.works.network.nodes)[None, :] == node)
        looked = _Looked(cuts, cuts.crossing.astype(np.float64), (None,), np.ones((self.works.network.links, 1)))
        held = looked.held(self.capacity)[:, 0]
        for place in range(len(cuts.demand)):
            text = f"{self._cut_text(looked, place, 0, float(held[place]))}."
            yield Reason(name, "binding", Rule.link_capacity, (name,), text[0].upper() + text[1:], "proved")

    def worth(self, link: str | None) -> Iterator[Reason]:
        """What one more Gbit/s saves on routing, where the plan's prices prove it."""
        if not self.plan.prices or not proved(self.problem, self.plan):
            return
        for one in sorted(self.plan.prices, key=lambda price: -price.price):
            if link in {None, one.link}:
                way = " on its way back" if one.back else ""
                text = f"With these modules, one more Gbit/s on link '{one.link}'{way} saves at most {one.price:.6g} of routing cost."
                yield Reason(one.link, "binding", Rule.link_capacity, (one.link,), text, "proved")

    # ------------------------------------------------------------ cuts

    @cached_property
    def _looked(self) -> list[_Looked]:
        """The cuts that are looked at, now and after the first failures; none when time is up."""
        network = self.works.network
        load = np.zeros(network.links)
        np.add.at(load, network.arc_link, self.tally.arc_flow)
        masks = list(candidate_sides(self.works, np.minimum(self.capacity, 1e12) - load, np.random.default_rng(0)))
        failures = (None, *self.works.failures[:MOST_FAILURES])
        # A cut through a link without a limit says nothing, but for failures of that link: these are looked at by themselves.
        odd = [one for one in failures if one is not None and np.isinf(network.link_capacity[one.dead]).any()]
        plain = tuple(one for one in failures if one not in odd)
        found: list[_Looked] = []
        for some in (plain, *((one,) for one in odd)):
            alive = np.stack([np.ones(network.links) if one is None else (~one.dead).astype(np.float64) for one in some], axis=1)
            for sides in masks:
                if time.monotonic() > self.until:
                    return found
                cuts = cuts_of(self.works, sides, None if some[0] is None else some[0].dead)
                found.append(_Looked(cuts, cuts.crossing.astype(np.float64), some, alive))
        return found

    def _broken(self, capacity: Floats) -> str:
        """A cut that ``capacity`` (links,) does not hold, in words; empty when none is found. One that needs no failure comes first."""
        told = ""
        for looked in self._looked:
            demand, held = looked.cuts.demand, looked.held(capacity)
            lacking = demand[:, None] - held
            broken = np.flatnonzero(lacking.max(axis=0, initial=0.0) > TOLERANCE * max(1.0, float(demand.max(initial=0.0))))
            if len(broken) and (not told or looked.failures[broken[0]] is None):
                failure = int(broken[0])
                place = int(np.argmax(lacking[:, failure]))
                told = self._cut_text(looked, place, failure, float(held[place, failure]))
                if looked.failures[failure] is None:
                    break
        return told

    def _cut_text(self, looked: _Looked, place: int, failure: int, held: float) -> str:
        cuts, during = looked.cuts, looked.failures[failure]
        names = [self.works.network.node_ids[node] for node in np.flatnonzero(cuts.inside[place])]
        others = [self.works.network.node_ids[node] for node in np.flatnonzero(~cuts.inside[place])]
        few = names if len(names) <= len(others) else others
        shown = ", ".join(few[:MOST_NAMES]) + (f" and {len(few) - MOST_NAMES} more" if len(few) > MOST_NAMES else "")
        when = "" if during is None else f" while '{during.id}' lasts"
        return f"{cuts.demand[place]:.9g} Gbit/s must cross between {{{shown}}} and the rest{when}, and the links there hold {held:.9g}"


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"
